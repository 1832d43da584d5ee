//! A pool changed node by node: taken out under our own reason, waited for, changed, looked at and
//! given back. What is next follows from what is seen alone, so that a crash anywhere leaves nothing
//! to remember: a node's own reason says that it is in our hands.
//!
//! A node that somebody else took out is never touched, and counts as not available.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::hostlist;
use crate::observe::{Node, NodeState, Observed};

/// Begins each reason of ours.
const MARK: &str = "trueup:";

/// Our reason on a drained node: `trueup:lab/gpu/7f3a`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(String);

impl Token {
    /// The token of a plan on a pool of a cluster.
    #[must_use]
    pub fn new(cluster: &str, pool: &str, plan: &str) -> Self {
        Self(format!("{MARK}{cluster}/{pool}/{plan}"))
    }

    /// The token of somebody who takes a node out through us: `trueup:lab/@alice/812 fan is loud`.
    /// `number` tells one drain from another.
    #[must_use]
    pub fn of_person(cluster: &str, who: &str, number: u64, words: &str) -> Self {
        let plain = |text: &str| text.replace(['/', '"', '\n', '\r'], " ");
        Self(format!("{MARK}{cluster}/@{}/{number} {}", plain(who), plain(words)))
    }

    /// The number of the drain that put this reason there, where somebody took the node out through us.
    #[must_use]
    pub fn number_of_person(cluster: &str, reason: &str) -> Option<u64> {
        let rest = reason.strip_prefix(MARK)?.strip_prefix(cluster)?.strip_prefix("/@")?;
        let (_, plan) = rest.split_once('/')?;
        plan.split(' ').next()?.parse().ok()
    }

    /// As it is given to `scontrol update … Reason=`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a reason is ours on this cluster, of whichever plan: one that was replaced by another leaves
    /// its nodes to that, in which they may be of another pool, or go no more. A person's token is of that
    /// person's drains alone.
    #[must_use]
    pub fn owns(&self, reason: &str) -> bool {
        let parts = |text: &str| -> Option<(String, String, bool)> {
            let (cluster, rest) = text.strip_prefix(MARK)?.split_once('/')?;
            let (whose, plan) = rest.split_once('/')?;
            Some((cluster.to_owned(), whose.to_owned(), !plan.is_empty()))
        };
        let (Some(own), Some(other)) = (parts(&self.0), parts(reason)) else { return false };
        let of_person = |whose: &str| whose.starts_with('@');
        let same = own.1 == other.1 || !of_person(&own.1) && !of_person(&other.1);
        own.0 == other.0 && same && !other.1.is_empty() && other.2
    }
}

/// A pool to change.
#[derive(Debug, Clone)]
pub struct Roll<'a> {
    /// Its nodes, in the order in which they are changed.
    pub nodes: &'a [String],
    /// Those that are not yet as they should be.
    pub outdated: &'a BTreeSet<String>,
    /// Those whose change failed, and why.
    pub failed: &'a BTreeMap<String, String>,
    /// Our reason.
    pub token: &'a Token,
    /// How many may be out at once, those that others took out included; at least 1.
    pub max_unavailable: usize,
    /// Whether a node is changed only once its daemon was started after the drain: then a crash between
    /// the files and the daemon is seen. A node's clock that is behind the controller's makes it be
    /// started again and again, so who acts has to count.
    pub restart: bool,
    /// How long jobs may take to end after a drain, seconds.
    pub drain_timeout: i64,
    /// Now, seconds since 1970 by the controller's clock.
    pub now: i64,
}

/// What is to be done with one node now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "step", content = "detail")]
pub enum Step {
    /// Take it out, under our reason.
    Drain {
        /// The node.
        node: String,
    },
    /// Jobs still run on it.
    Wait {
        /// The node.
        node: String,
        /// Their numbers.
        jobs: Vec<u32>,
        /// When the patience ends, seconds since 1970.
        until: i64,
    },
    /// Nothing runs on it: change it, as far as it is not changed yet.
    Act {
        /// The node.
        node: String,
    },
    /// It was changed and has not come back yet.
    Check {
        /// The node.
        node: String,
    },
    /// It was changed and is well: give it back.
    Resume {
        /// The node.
        node: String,
    },
    /// It stays as it is, for a reason that is not ours to remove.
    LeaveAlone {
        /// The node.
        node: String,
        /// Why.
        why: String,
    },
}

/// How far a pool is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "progress", content = "detail")]
pub enum Progress {
    /// Every node is as it should be and in no hand of ours.
    Done,
    /// There is something to do or to wait for.
    Going,
    /// Only nodes that others took out are left.
    Blocked {
        /// Which.
        nodes: Vec<String>,
    },
    /// A node failed: no other is begun.
    Stopped {
        /// The node.
        node: String,
        /// Why.
        why: String,
    },
}

/// What is next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollPlan {
    /// Steps, in the order of the nodes.
    pub steps: Vec<Step>,
    /// How far it is.
    pub progress: Progress,
}

/// In whose hands a node is.
enum Hand<'a> {
    Free,
    Ours { since: i64 },
    Theirs(&'a str),
}

/// What is next for a pool.
#[must_use]
pub fn plan(roll: &Roll<'_>, observed: &Observed) -> RollPlan {
    let jobs = holders(observed);
    let mut steps = Vec::new();
    let mut stopped: Option<(String, String)> = None;
    let mut waiting_for_others = Vec::new();
    let out = roll.nodes.iter().filter(|name| is_out(observed.nodes.get(*name))).count();
    let mut left = roll.max_unavailable.max(1).saturating_sub(out);
    let mut to_begin = Vec::new();
    for name in roll.nodes {
        let node = name.clone();
        let outdated = roll.outdated.contains(name);
        if let Some(why) = roll.failed.get(name) {
            stopped.get_or_insert((node.clone(), why.clone()));
            steps.push(Step::LeaveAlone { node, why: format!("its change failed: {why}") });
            continue;
        }
        let Some(seen) = observed.nodes.get(name) else {
            if outdated {
                waiting_for_others.push(node.clone());
                let why = "the controller does not know it".to_owned();
                steps.push(Step::LeaveAlone { node, why });
            }
            continue;
        };
        match hand(seen, roll.token) {
            Hand::Theirs(why) => {
                if outdated {
                    waiting_for_others.push(node.clone());
                }
                steps.push(Step::LeaveAlone { node, why: format!("somebody took it out: {why}") });
            }
            Hand::Ours { since } => {
                let jobs = jobs.get(name.as_str()).cloned().unwrap_or_default();
                let (step, failure) = ours(roll, name, seen, outdated, since, jobs);
                if let Some(why) = failure {
                    stopped.get_or_insert((node, why));
                }
                steps.push(step);
            }
            Hand::Free if outdated => to_begin.push((steps.len(), node)),
            Hand::Free => {}
        }
    }
    // Only once all failures are known: the first one keeps every other node from being begun. A node
    // that is out already costs nothing more when it is begun.
    let mut added = 0;
    for (at, node) in to_begin {
        // For some seconds after a start of the controller no node has answered it yet: those are out
        // for the count, and not because they are away.
        let already_out =
            observed.nodes.get(&node).is_some_and(|seen| seen.state == NodeState::Down);
        if stopped.is_some() || !(already_out || left > 0) {
            continue;
        }
        left -= usize::from(!already_out);
        steps.insert(at + added, Step::Drain { node });
        added += 1;
    }
    let progress = progress(roll, &steps, stopped, waiting_for_others);
    RollPlan { steps, progress }
}

fn progress(
    roll: &Roll<'_>,
    steps: &[Step],
    stopped: Option<(String, String)>,
    others: Vec<String>,
) -> Progress {
    if let Some((node, why)) = stopped {
        return Progress::Stopped { node, why };
    }
    let ours = steps.iter().any(|step| !matches!(step, Step::LeaveAlone { .. }));
    let of_pool = roll.nodes.iter().filter(|name| roll.outdated.contains(*name)).count();
    match (ours, of_pool) {
        (false, 0) => Progress::Done,
        (false, left) if left == others.len() => Progress::Blocked { nodes: others },
        _ => Progress::Going,
    }
}

/// What is next for a node in our hands, and why the pool stops, where it does.
fn ours(
    roll: &Roll<'_>,
    name: &str,
    seen: &Node,
    outdated: bool,
    since: i64,
    jobs: Vec<u32>,
) -> (Step, Option<String>) {
    let node = name.to_owned();
    let old_daemon = roll.restart && seen.daemon_started < since;
    if !(outdated || old_daemon) {
        let step = if seen.is_up() { Step::Resume { node } } else { Step::Check { node } };
        return (step, None);
    }
    if jobs.is_empty() && !seen.is_busy() {
        return (Step::Act { node }, None);
    }
    let until = since.saturating_add(roll.drain_timeout);
    let late = roll.now > until;
    let why = late.then(|| {
        format!("{} job(s) still run {} s after the drain", jobs.len().max(1), roll.now - since)
    });
    (Step::Wait { node, jobs, until }, why)
}

/// Which jobs hold each node.
fn holders(observed: &Observed) -> BTreeMap<String, Vec<u32>> {
    let mut holders: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for job in observed.jobs.iter().filter(|job| job.holds_nodes()) {
        // A list that cannot be read hides nothing: a node with a job is also seen to be busy.
        for name in hostlist::expand(&job.nodes).unwrap_or_default() {
            holders.entry(name).or_default().push(job.id);
        }
    }
    holders
}

fn hand<'a>(node: &'a Node, token: &Token) -> Hand<'a> {
    let drained = node.is_drained();
    match &node.reason {
        Some(reason) if drained && token.owns(&reason.text) => Hand::Ours { since: reason.at },
        Some(reason) if drained => Hand::Theirs(&reason.text),
        None if drained => Hand::Theirs("no reason is given"),
        // The controller's own word for a daemon that went away (slurmctld/ping_nodes.c).
        Some(reason) if node.state == NodeState::Down && reason.text != "Not responding" => {
            Hand::Theirs(&reason.text)
        }
        _ => Hand::Free,
    }
}

/// Whether a node takes no jobs now.
fn is_out(node: Option<&Node>) -> bool {
    node.is_none_or(|node| node.is_drained() || !node.is_up())
}

/// The arguments of `scontrol` for a step; none for steps that change nothing.
#[must_use]
pub fn scontrol(step: &Step, token: &Token) -> Option<Vec<String>> {
    let update = |node: &str, state: &str| {
        vec!["update".to_owned(), format!("NodeName={node}"), format!("State={state}")]
    };
    match step {
        Step::Drain { node } => {
            let mut arguments = update(node, "DRAIN");
            arguments.push(format!("Reason={}", token.as_str()));
            Some(arguments)
        }
        Step::Resume { node } => Some(update(node, "RESUME")),
        Step::Wait { .. } | Step::Act { .. } | Step::Check { .. } | Step::LeaveAlone { .. } => None,
    }
}

#[cfg(test)]
mod tests;
