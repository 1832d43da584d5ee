//! Nodes that change one after another: where each of them is on its way, and what is left of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trueup_slurm::plan::roll::{self, Progress, Roll, Step, Token};
use trueup_slurm::wish;

use super::{Work, common};
use crate::model::resource::NodeStep;
use crate::plan::{Reason, SkipReason};

use super::super::Verdict;

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// It is in use.
    InUse,
    /// It is out, and jobs may still run on it.
    Emptying,
    /// It is empty and changes now, or its daemon has to be started anew.
    Changing,
    /// It was changed, and is out of use.
    Changed,
}

/// Nodes that go together.
pub(super) struct Wave {
    nodes: Vec<(String, Stage)>,
    pool: Arc<[String]>,
    token: Token,
    at_most: u32,
}

impl Wave {
    /// Whether a node is in it.
    pub(super) fn has(&self, node: &str) -> bool {
        self.nodes.iter().any(|(name, _)| name == node)
    }

    /// Whether one of its nodes gets other files.
    pub(super) fn changes(&self, outdated: &BTreeSet<String>) -> bool {
        self.nodes.iter().any(|(node, stage)| *stage < Stage::Changed && outdated.contains(node))
    }
}

impl Work<'_, '_> {
    /// The waves in which a pool changes; what keeps a node from it is left alone and told.
    pub(super) fn waves(&self, pool: &wish::Pool, verdict: &mut Verdict) -> Vec<Wave> {
        // One whose machine is not well counts as what it is, and nothing is begun or ended on it.
        let of_pool: Vec<String> = pool.names().map(str::to_owned).collect();
        let nodes: Vec<String> =
            of_pool.iter().filter(|node| !self.is_unwell(node)).cloned().collect();
        let token = Token::new(&self.to.wish.name, &pool.name, &self.digest.short());
        let roll = Roll {
            nodes: &nodes,
            outdated: &self.outdated,
            failed: &BTreeMap::new(),
            token: &token,
            max_unavailable: usize::try_from(self.to.max_unavailable).unwrap_or(usize::MAX),
            restart: true,
            drain_timeout: i64::try_from(self.to.drain_timeout_s).unwrap_or(i64::MAX),
            now: self.seen.now,
        };
        let planned = roll::plan(&roll, self.observed);
        if planned.progress == Progress::Done {
            return Vec::new();
        }
        let mut stages: BTreeMap<&str, Stage> = BTreeMap::new();
        let mut alone: BTreeMap<&str, &str> = BTreeMap::new();
        for step in &planned.steps {
            match step {
                Step::Drain { node } => stages.insert(node, Stage::InUse),
                Step::Wait { node, .. } => stages.insert(node, Stage::Emptying),
                Step::Act { node } => stages.insert(node, Stage::Changing),
                Step::Check { node } | Step::Resume { node } => stages.insert(node, Stage::Changed),
                Step::LeaveAlone { node, why } => {
                    alone.insert(node, why);
                    None
                }
            };
        }
        let ours = stages.values().filter(|stage| **stage > Stage::InUse).count();
        let others = self.out_of(&of_pool).saturating_sub(ours);
        let room = roll.max_unavailable.saturating_sub(others);
        if room == 0 && nodes.len() < of_pool.len() {
            stages.retain(|_, stage| *stage > Stage::InUse);
        }
        for (node, why) in &alone {
            if self.outdated.contains(*node) {
                verdict.skip(SkipReason::BusyWaits(format!("{node}: {why}")), Vec::new());
            }
        }
        let free = nodes.iter().filter(|node| {
            self.outdated.contains(*node)
                && !alone.contains_key(node.as_str())
                && !stages.contains_key(node.as_str())
        });
        let mut left: Vec<(String, Stage)> =
            free.map(|node| (node.clone(), Stage::InUse)).collect();
        if room == 0 && !left.is_empty() {
            let why = format!(
                "{others} of pool {} are out of use already, and maxUnavailable is {}",
                pool.name, self.to.max_unavailable
            );
            verdict.skip(SkipReason::BusyWaits(why), Vec::new());
            left.clear();
        }
        let mut all: Vec<(String, Stage)> =
            stages.into_iter().map(|(node, stage)| (node.to_owned(), stage)).collect();
        // What is out already comes first: it costs nothing more.
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.extend(left);
        let shared: Arc<[String]> = of_pool.into();
        let wave = |nodes: &[(String, Stage)]| Wave {
            nodes: nodes.to_vec(),
            pool: Arc::clone(&shared),
            token: token.clone(),
            at_most: self.to.max_unavailable,
        };
        all.chunks(room.max(1)).map(wave).collect()
    }

    /// How many of these take no jobs now.
    fn out_of(&self, nodes: &[String]) -> usize {
        let out = |name: &&String| {
            self.observed.nodes.get(*name).is_none_or(|node| node.is_drained() || !node.is_up())
        };
        nodes.iter().filter(out).count()
    }

    /// The steps of a wave; `files` adds the exchange of files for those of its nodes that need one.
    pub(super) fn wave(
        &self,
        verdict: &mut Verdict,
        wave: &Wave,
        files: impl FnOnce(&mut Verdict, Vec<String>) -> Result<(), String>,
    ) -> Result<(), String> {
        let at = |most: Stage| wave.nodes.iter().filter(move |(_, stage)| *stage <= most);
        for (node, _) in at(Stage::InUse) {
            let pool = Arc::clone(&wave.pool);
            let step = NodeStep::Drain { pool, at_most: Some(wave.at_most) };
            self.node(verdict, node, step, &wave.token, self.because(node));
        }
        for (node, _) in at(Stage::Changing) {
            // Whoever was empty when it was looked at may have a job that was being started.
            let step = NodeStep::Wait { timeout_s: self.to.drain_timeout_s };
            self.node(verdict, node, step, &wave.token, self.because(node));
        }
        let outdated = at(Stage::Changing).map(|(node, _)| node);
        let outdated: Vec<String> =
            outdated.filter(|node| self.by_files.contains(*node)).cloned().collect();
        if !outdated.is_empty() {
            files(verdict, outdated)?;
        }
        let changed = at(Stage::Changing).map(|(node, _)| node.clone()).collect();
        self.start_anew(verdict, &changed, &wave.token);
        for (node, _) in &wave.nodes {
            self.node(verdict, node, NodeStep::Check, &wave.token, self.because(node));
        }
        for (node, _) in &wave.nodes {
            self.node(verdict, node, NodeStep::Resume, &wave.token, self.because(node));
        }
        Ok(())
    }

    /// Why a node is taken out and given back. Where its machine alone is to change, the cluster is as it was made:
    /// to tell of a drift would be to say that somebody changed it.
    pub(super) fn because(&self, node: &str) -> Reason {
        let machine_alone = self.outdated.contains(node) && !self.by_files.contains(node);
        match self.case.reason {
            Reason::Drifted if machine_alone => Reason::Needed,
            reason => reason,
        }
    }

    /// The same of several at once.
    pub(super) fn because_of<'n>(&self, nodes: impl Iterator<Item = &'n String>) -> Reason {
        common(nodes.map(|node| self.because(node)), self.case.reason)
    }
}
