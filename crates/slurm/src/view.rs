//! What people want to know of a cluster at a glance: what it has and what of it is in use, what
//! waits and for how long, who uses it, and which nodes are out and by whom. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::group::{NodeGroup, groups, is_zero, shares};
use crate::observe::{Job, JobState, Node, Observed};
use crate::release::Release;

/// A cluster at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Of the controller.
    pub release: Release,
    /// Releases of the nodes' daemons, and how many nodes have each.
    pub daemons: BTreeMap<String, usize>,
    /// Nodes.
    pub nodes: NodeCounts,
    /// `cpu`, `memoryMib`, and each generic resource by type (`gpu:3g.40gb`).
    pub resources: BTreeMap<String, Share>,
    /// Queues by partition.
    pub partitions: BTreeMap<String, Queue>,
    /// Jobs by account; the empty name where jobs have none.
    pub accounts: BTreeMap<String, Load>,
    /// Nodes that take no jobs, and why.
    pub out: Vec<Out>,
    /// All nodes, those that are alike together; none in what was written before there were any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<NodeGroup>,
}

/// How many nodes there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// All of them.
    pub total: usize,
    /// Usable, and not taken out.
    pub up: usize,
    /// With jobs on them.
    pub busy: usize,
    /// Taken out by a drain.
    pub drained: usize,
    /// Not answering, or put down.
    pub down: usize,
}

/// What there is of a resource, on every node that is not down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// On usable nodes, drained ones included.
    pub total: u64,
    /// Given out.
    pub allocated: u64,
}

/// A partition's jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// `UP`, `DOWN`, `DRAIN` or `INACTIVE`.
    pub state: String,
    /// Jobs with nodes.
    pub running: u64,
    /// Jobs that wait; each task of an array counts.
    pub pending: u64,
    /// How long the oldest of them waits, seconds.
    pub longest_wait: i64,
}

/// An account's jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Jobs with nodes.
    pub running: u64,
    /// Jobs that wait.
    pub pending: u64,
    /// Processors in use.
    pub cpus: u64,
    /// GPUs in use, and parts of them, as far as Slurm counts them (`AccountingStorageTRES`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gpus: u64,
}

/// A node that takes no jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Out {
    /// The node.
    pub node: String,
    /// Why, in the words that were given; empty where none were.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// Since when, seconds since 1970.
    pub since: i64,
    /// Whether its daemon answers.
    pub answers: bool,
}

/// A cluster at a glance; `now` in seconds since 1970 by the controller's clock.
#[must_use]
pub fn overview(observed: &Observed, now: i64) -> Overview {
    let mut view = Overview {
        release: observed.release,
        daemons: BTreeMap::new(),
        nodes: NodeCounts::default(),
        resources: BTreeMap::new(),
        partitions: BTreeMap::new(),
        accounts: BTreeMap::new(),
        out: Vec::new(),
        groups: groups(&observed.nodes),
    };
    for (name, node) in &observed.nodes {
        one_node(name, node, &mut view);
    }
    for (name, partition) in &observed.partitions {
        let queue = Queue { state: partition.state.clone(), ..Queue::default() };
        view.partitions.insert(name.clone(), queue);
    }
    for job in &observed.jobs {
        one_job(job, now, &mut view);
    }
    view
}

fn one_node(name: &str, node: &Node, view: &mut Overview) {
    view.nodes.total += 1;
    view.nodes.busy += usize::from(node.is_busy());
    view.nodes.drained += usize::from(node.is_drained());
    view.nodes.up += usize::from(node.is_up() && !node.is_drained());
    view.nodes.down += usize::from(!node.is_up());
    if let Some(release) = node.release {
        *view.daemons.entry(release.to_string()).or_insert(0) += 1;
    }
    if node.is_drained() || !node.is_up() {
        let reason = node.reason.as_ref();
        view.out.push(Out {
            node: name.to_owned(),
            reason: reason.map(|one| one.text.clone()).unwrap_or_default(),
            by: reason.map(|one| one.by.clone()).unwrap_or_default(),
            since: reason.map_or(0, |one| one.at),
            answers: node.is_up(),
        });
    }
    if !node.is_up() {
        return;
    }
    for (name, share) in shares(node) {
        let all = view.resources.entry(name).or_default();
        all.total += share.total;
        all.allocated += share.allocated;
    }
}

fn one_job(job: &Job, now: i64, view: &mut Overview) {
    let waits = job.state == JobState::Pending;
    if matches!(job.state, JobState::Ended(_)) {
        return;
    }
    let count = if waits { tasks(&job.tasks) } else { 1 };
    let load = view.accounts.entry(job.account.clone()).or_default();
    if waits {
        load.pending += count;
    } else {
        load.running += 1;
        load.cpus += u64::from(job.cpus);
        load.gpus += gpus(&job.tres);
    }
    // A job that waits may name several partitions, and waits in each of them.
    for name in job.partition.split(',').filter(|name| !name.is_empty()) {
        let queue = view.partitions.entry(name.to_owned()).or_default();
        if waits {
            queue.pending += count;
            queue.longest_wait = queue.longest_wait.max(now.saturating_sub(job.submitted));
        } else {
            queue.running += 1;
        }
    }
}

/// How many GPUs are in `cpu=4,gres/gpu=2,gres/gpu:a100=2`: the types are part of the whole, and alone where
/// the whole is not counted.
fn gpus(tres: &str) -> u64 {
    let all = tres.split(',').filter_map(|one| {
        let (name, count) = one.split_once('=')?;
        Some((name.strip_prefix("gres/gpu")?, count.parse::<u64>().ok()?))
    });
    let (mut whole, mut by_type) = (None, 0);
    for (kind, count) in all {
        match kind.chars().next() {
            None => whole = Some(count),
            Some(':') => by_type += count,
            // `gres/gpumem` and `gres/gpuutil` are no GPUs.
            Some(_) => {}
        }
    }
    whole.unwrap_or(by_type)
}

/// How many tasks `1-9,12%4` are; one where it is no array, or where Slurm cut the text.
fn tasks(list: &str) -> u64 {
    let list = list.split('%').next().unwrap_or_default();
    let one = |part: &str| {
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to, step) =
            (from.parse::<u64>().ok()?, to.parse::<u64>().ok()?, step.parse().ok()?);
        to.checked_sub(from)?.checked_div(step).map(|more| more + 1)
    };
    list.split(',').filter_map(one).sum::<u64>().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{jobs, nodes, partitions};

    type Fixture = (&'static [u8], &'static [u8], &'static str);

    const OLD: Fixture = (
        include_bytes!("../fixtures/22.05/nodes.json"),
        include_bytes!("../fixtures/22.05/jobs.json"),
        include_str!("../fixtures/22.05/partitions.txt"),
    );
    const NEW: Fixture = (
        include_bytes!("../fixtures/24.11/nodes.json"),
        include_bytes!("../fixtures/24.11/jobs.json"),
        include_str!("../fixtures/24.11/partitions.txt"),
    );

    fn observed((of_nodes, of_jobs, of_partitions): Fixture) -> Observed {
        let (release, nodes) = nodes(of_nodes).unwrap();
        let partitions = partitions(of_partitions).unwrap();
        let jobs = jobs(of_jobs).unwrap();
        Observed { release, nodes, partitions, reservations: BTreeMap::new(), jobs }
    }

    #[test]
    fn both_releases_give_the_same_overview() {
        for fixture in [OLD, NEW] {
            let seen = observed(fixture);
            let release = seen.release;
            let submitted = seen.jobs[1].submitted;
            let view = overview(&seen, submitted + 90);
            let counts = NodeCounts { total: 3, up: 1, busy: 2, drained: 2, down: 0 };
            assert_eq!(view.nodes, counts, "{release}");
            assert_eq!(view.resources["cpu"], Share { total: 12, allocated: 5 });
            assert_eq!(view.resources["gpu:a100"].total, 2);
            let batch = &view.partitions["batch"];
            assert_eq!((batch.running, batch.pending, batch.longest_wait), (2, 9, 90), "{release}");
            let reasons: Vec<&str> = view.out.iter().map(|out| out.reason.as_str()).collect();
            assert_eq!(reasons, ["disk broken, ask bob", "trueup:lab/pool-b/7"]);
            assert_eq!(view.daemons.values().sum::<usize>(), 3);
            let groups =
                view.groups.iter().map(|it| (it.state.as_str(), it.nodes.as_str(), it.busy));
            let groups: Vec<_> = groups.collect();
            assert_eq!(groups, [("up", "n3", 1), ("drained", "n2", 0), ("drained", "n1", 1)]);
            let gpus = view.groups[2].resources["gpu:a100"];
            assert_eq!(gpus, Share { total: 2, allocated: 1 }, "{release}");
        }
    }

    #[test]
    fn gpus_of_an_account_are_counted_once() {
        for (tres, count) in [
            ("cpu=4,mem=4000M,node=1,billing=4", 0),
            ("cpu=4,gres/gpu=3,gres/gpu:a100=2,gres/gpu:t4=1", 3),
            ("gres/gpu:3g.40gb=1,gres/gpu:a100=2,cpu=1", 3),
            ("gres/gpumem=4000M,gres/gpu=1", 1),
            ("gres/gpumem=4000", 0),
            ("", 0),
        ] {
            assert_eq!(gpus(tres), count, "{tres}");
        }
        let mut seen = observed(NEW);
        for job in &mut seen.jobs {
            job.tres.push_str(",gres/gpu=2");
        }
        let view = overview(&seen, 0);
        let gpus: u64 = view.accounts.values().map(|load| load.gpus).sum();
        assert_eq!(gpus, 4, "two run, and what waits has none");
    }

    #[test]
    fn waiting_tasks_are_counted() {
        for (list, count) in [("", 1), ("1-9", 9), ("0-99%4", 100), ("1,3,5-6", 4), ("0-10:5", 3)] {
            assert_eq!(tasks(list), count, "{list}");
        }
    }
}
