//! Nodes that get labels and taints: at once where nobody notices, else one after another and empty.

use std::collections::BTreeMap;

use trueup_kubernetes::node::{self, CUTS_GPUS, CordonMark, NodeChange, NodeView, Out};
use trueup_slurm::hostlist;

use super::super::super::Verdict;
use super::built::Joins;
use super::{Work, upgrade};
use crate::model::resource::{KubernetesNodeStep, KubernetesPool};
use crate::plan::{Disruption, FieldChange, SkipReason};

/// How far a node is. Later ones are further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// It is in service.
    InService,
    /// It is out, and pods may still be on it.
    Emptying,
    /// It is out, and what changes needs no empty node.
    Changing,
    /// It was changed, and is out.
    Changed,
}

/// A node on its way.
struct Member<'a> {
    name: &'a str,
    stage: Stage,
    change: Option<NodeChange>,
    /// Whether its machine is stopped on the way, or may not be a node any more.
    joins: bool,
}

/// A pool as it is.
#[derive(Default)]
struct Standing<'a> {
    /// Nodes to change that need not be empty.
    quiet: Vec<(&'a str, NodeChange)>,
    /// Nodes in our hands, and those that have to come into them.
    rolled: Vec<Member<'a>>,
    /// How many are out of use, and not by us.
    away: usize,
    /// Nodes that are not in the cluster.
    missing: Vec<&'a str>,
    /// Nodes whose machines are to join, where trueup made them.
    joins: Vec<&'a str>,
    /// Nodes that do not offer what is expected: which resource, and how much of it they have.
    other: BTreeMap<(&'a str, i128), Vec<&'a str>>,
}

impl Work<'_, '_> {
    /// Every pool.
    pub(super) fn pools(&self, verdict: &mut Verdict) {
        let (mut all, mut joins) = (Vec::new(), Joins::default());
        for (index, pool) in self.to.pools.iter().enumerate() {
            let mark = CordonMark::of_pool(self.name(), &pool.name);
            let standing = self.standing(pool, &mark, verdict);
            tell(pool, &standing, verdict);
            joins.nodes.extend(standing.joins.iter().map(|node| (index, *node)));
            for (node, change) in &standing.quiet {
                self.set(verdict, pool, node, change, false, &mark);
            }
            all.push((pool, mark, standing));
        }
        self.joins(verdict, &joins);
        // All that is quiet is done before what may wait for pods for hours.
        for (pool, mark, standing) in all {
            self.roll(verdict, pool, &mark, standing);
        }
    }

    fn standing<'p>(
        &self,
        pool: &'p KubernetesPool,
        mark: &CordonMark,
        verdict: &mut Verdict,
    ) -> Standing<'p> {
        let mut standing = Standing::default();
        let upgraded = upgrade::upgrades(&verdict.drafts);
        let mut wait = |why: String| verdict.skip(SkipReason::BusyWaits(why), Vec::new());
        for name in pool.nodes.iter().map(String::as_str) {
            let (Some(live), Some(view)) = (self.seen.nodes.get(name), self.view(name)) else {
                if self.is_unwell(name) {
                    standing.away += 1;
                    continue;
                }
                if self.to.built.is_some() {
                    standing.joins.push(name);
                    continue;
                }
                standing.missing.push(name);
                standing.away += 1;
                continue;
            };
            // It counts as what it is, and nothing is begun or ended on it.
            if self.is_unwell(name) {
                standing.away += usize::from(view.out.is_some() || !view.ready);
                continue;
            }
            let change = node::change(live, &pool.wish);
            let stops = self.stops(name) && !self.is_ahead(name, upgraded);
            let moves = stops || change.as_ref().is_some_and(|it| it.moves_work);
            match (&view.out, change) {
                (Some(Out::Ours(have)), change) if have.token == mark.token => {
                    let joins = stops || self.may_be_lost(name);
                    let stage = match change {
                        _ if moves => Stage::Emptying,
                        Some(_) => Stage::Changing,
                        None => Stage::Changed,
                    };
                    standing.rolled.push(Member { name, stage, change, joins });
                }
                (Some(out), change) => {
                    standing.away += 1;
                    if change.is_some() || stops {
                        wait(format!("{name}: {}", words(out)));
                    }
                }
                // Nothing runs on a machine that was made anew.
                (None, _) if !view.ready && self.lost(name) && !stops => {
                    standing.away += 1;
                    standing.joins.push(name);
                }
                (None, change) => {
                    standing.away += usize::from(!view.ready);
                    match change {
                        Some(change) if !moves => standing.quiet.push((name, change)),
                        _ if moves && !view.ready => {
                            wait(format!("{name}: its kubelet does not answer"));
                        }
                        change if moves => {
                            let (stage, joins) = (Stage::InService, stops);
                            standing.rolled.push(Member { name, stage, change, joins });
                        }
                        _ if view.ready => standing.offers(pool, name, view),
                        _ => {}
                    }
                }
            }
        }
        standing
    }

    /// A node at a glance.
    fn view(&self, name: &str) -> Option<&NodeView> {
        let all = &self.seen.view.nodes;
        all.binary_search_by(|it| it.name.as_str().cmp(name)).ok().and_then(|at| all.get(at))
    }

    /// Takes nodes out, as many at once as may be, changes them, and gives them back.
    fn roll(
        &self,
        verdict: &mut Verdict,
        pool: &KubernetesPool,
        mark: &CordonMark,
        standing: Standing<'_>,
    ) {
        let most = usize::try_from(self.to.max_unavailable).unwrap_or(usize::MAX);
        let room = most.saturating_sub(standing.away);
        let mut members = standing.rolled;
        // What is out already comes first: it costs nothing more. The others keep the order of the pool.
        members.sort_by_key(|it| std::cmp::Reverse(it.stage));
        if room == 0 && members.iter().any(|it| it.stage == Stage::InService) {
            let why = format!(
                "{} of pool {} are out of use already, and maxUnavailable is {most}",
                standing.away, pool.name
            );
            verdict.skip(SkipReason::BusyWaits(why), Vec::new());
            members.retain(|it| it.stage != Stage::InService);
        }
        for wave in members.chunks(room.max(1)) {
            self.wave(verdict, pool, mark, wave);
        }
    }

    fn wave(
        &self,
        verdict: &mut Verdict,
        pool: &KubernetesPool,
        mark: &CordonMark,
        wave: &[Member<'_>],
    ) {
        for it in wave.iter().filter(|it| it.stage == Stage::InService) {
            let beside = pool.nodes.iter().filter(|other| *other != it.name).cloned().collect();
            let at_most = Some(self.to.max_unavailable);
            let step = KubernetesNodeStep::Cordon { pool: beside, at_most };
            self.node(verdict, it.name, step, mark, self.because(it.name));
        }
        for it in wave.iter().filter(|it| it.stage <= Stage::Emptying) {
            let (timeout_s, evicts) = (self.to.drain_timeout_s, self.to.evicts);
            let step = KubernetesNodeStep::Drain { timeout_s, evicts };
            self.node(verdict, it.name, step, mark, self.because(it.name));
        }
        let joins: Vec<&str> = wave.iter().filter(|it| it.joins).map(|it| it.name).collect();
        self.rejoin(verdict, &joins, mark);
        for it in wave {
            if let Some(change) = &it.change {
                self.set(verdict, pool, it.name, change, it.stage <= Stage::Emptying, mark);
            }
        }
        // The counts of a node follow its cut, so they are waited for where it is cut by a label.
        let offers = match pool.wish.labels.contains_key(CUTS_GPUS) {
            true => pool.offers.clone(),
            false => BTreeMap::new(),
        };
        for it in wave {
            let step = KubernetesNodeStep::Check { offers: offers.clone() };
            self.node(verdict, it.name, step, mark, self.because(it.name));
        }
        for it in wave {
            let reason = self.because(it.name);
            self.node(verdict, it.name, KubernetesNodeStep::Uncordon, mark, reason);
        }
    }

    fn set(
        &self,
        verdict: &mut Verdict,
        pool: &KubernetesPool,
        node: &str,
        change: &NodeChange,
        empty: bool,
        mark: &CordonMark,
    ) {
        let fields = change.fields.iter().map(|field| FieldChange {
            path: format!("/nodes/{node}/{}", field.what.replace('~', "~0").replace('/', "~1")),
            from: field.from.clone().map(Into::into),
            to: field.to.clone().map(Into::into),
            disruption: Disruption::None,
        });
        let mut changes: Vec<FieldChange> = fields.collect();
        if changes.is_empty() {
            // It bears all of it, and only the note that says whose that is has to change.
            changes.push(FieldChange {
                path: format!("/nodes/{node}"),
                from: Some("as asked for".into()),
                to: Some("as asked for, and noted as ours".into()),
                disruption: Disruption::None,
            });
        }
        let step = KubernetesNodeStep::Set { wish: pool.wish.clone(), empty };
        self.node_with(verdict, node, step, mark, self.case.reason, changes);
    }
}

impl<'p> Standing<'p> {
    /// Compares what a node offers with what is expected of it.
    fn offers(&mut self, pool: &'p KubernetesPool, name: &'p str, view: &NodeView) {
        for (resource, count) in &pool.offers {
            let have = view.allocatable.get(resource).map_or(0, |amount| amount.whole());
            if have != i128::from(*count) {
                self.other.entry((resource.as_str(), have)).or_default().push(name);
            }
        }
    }
}

/// Who took a node out, and why.
fn words(out: &Out) -> String {
    match out {
        Out::Ours(mark) => format!("taken out through trueup ({}): {}", mark.token, mark.reason),
        Out::Others(Some(by)) => format!("somebody took it out ({by})"),
        Out::Others(None) => "somebody took it out".to_owned(),
    }
}

/// What of a pool is for a person to mend.
fn tell(pool: &KubernetesPool, standing: &Standing<'_>, verdict: &mut Verdict) {
    let listed = |names: &[&str]| hostlist::compress(names.iter().copied());
    if !standing.missing.is_empty() {
        let names = listed(&standing.missing);
        let why = format!(
            "{names} of pool {} is not in the cluster: let it join, or take it out of the document",
            pool.name
        );
        let change = FieldChange {
            path: format!("/nodes/{names}"),
            from: None,
            to: Some(format!("in pool {}", pool.name).into()),
            disruption: Disruption::None,
        };
        verdict.skip(SkipReason::Unlike(why), vec![change]);
    }
    for ((resource, have), nodes) in &standing.other {
        let expected = pool.offers.get(*resource).copied().unwrap_or_default();
        let why = format!(
            "{} offers {have} of {resource}, and {expected} are expected: look at the device plugin \
             there, and at how its GPUs are cut",
            listed(nodes)
        );
        verdict.skip(SkipReason::Unlike(why), Vec::new());
    }
}
