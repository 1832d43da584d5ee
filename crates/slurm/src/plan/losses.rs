//! What a change of the files takes away: what stands in no file because hands made it at run time, and
//! jobs that would end with their node or their queue.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::drift::{PARTITION_FIELDS, listed, members, running, same};
use super::fields::{features, weight};
use crate::conf::{Conf, Fields};
use crate::hostlist;
use crate::observe::{Flag, Observed, Partition};
use crate::release::Shape;

/// What a change takes away that no file can give back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "detail")]
pub enum Loss {
    /// A partition that was made at run time disappears.
    Partition {
        /// Its name.
        name: String,
    },
    /// A partition's field that was changed at run time goes back to the file's.
    PartitionField {
        /// The partition.
        name: String,
        /// The field, in lower case.
        field: String,
        /// As it is.
        now: String,
        /// As the next file says.
        then: String,
    },
    /// A node's field that was changed at run time goes back to the file's.
    NodeField {
        /// The node.
        name: String,
        /// The field, in lower case.
        field: String,
        /// As it is.
        now: String,
        /// As the next file says.
        then: String,
    },
    /// A node that was made at run time disappears.
    Node {
        /// Its name.
        name: String,
    },
    /// Jobs of a partition that goes are cancelled (slurm.conf(5), `PartitionName`).
    PartitionJobs {
        /// The partition.
        name: String,
        /// How many jobs.
        jobs: usize,
    },
    /// Jobs on a node that goes are ended.
    NodeJobs {
        /// The node.
        name: String,
        /// How many jobs.
        jobs: usize,
    },
    /// All jobs: another `SelectType` cannot read their state (slurm.conf(5), `SelectType`).
    AllJobs {
        /// How many jobs.
        jobs: usize,
    },
    /// A reservation names a node that goes.
    Reservation {
        /// Its name.
        name: String,
        /// The node.
        node: String,
    },
}

/// What is there and stands in no file, and what jobs lose.
pub(super) fn losses(live: &Conf, next: &Conf, observed: &Observed, shape: Shape) -> Vec<Loss> {
    let mut losses = Vec::new();
    let busy = busy(observed);
    if live.parameter("SelectType") != next.parameter("SelectType") {
        let jobs = observed.jobs.iter().filter(|job| !is_over(job)).count();
        if jobs > 0 {
            losses.push(Loss::AllJobs { jobs });
        }
    }
    for (name, seen) in &observed.partitions {
        match (live.partitions.get(name), next.partitions.get(name)) {
            (None, None) => losses.push(Loss::Partition { name: name.clone() }),
            (Some(file), Some(then)) => {
                partition_fields(name, &seen.fields, (file, then), &mut losses);
                partition_nodes(name, seen, (file, live), (then, next), &mut losses);
            }
            (None, Some(_)) => {}
            (Some(_), None) => {}
        }
        if !next.partitions.contains_key(name) {
            let of = |list: &str| list.split(',').any(|one| one == name);
            let jobs =
                observed.jobs.iter().filter(|job| !is_over(job) && of(&job.partition)).count();
            if jobs > 0 {
                losses.push(Loss::PartitionJobs { name: name.clone(), jobs });
            }
        }
    }
    for (name, node) in &observed.nodes {
        let Some(then) = next.nodes.get(name) else {
            let was_made = !live.nodes.contains_key(name);
            // 22.05 keeps dynamic nodes over both, 24.11 forgot them when it was tried.
            if was_made && (shape == Shape::V24_11 || !node.flags.contains(&Flag::Dynamic)) {
                losses.push(Loss::Node { name: name.clone() });
            }
            let stays = was_made && node.flags.contains(&Flag::Dynamic) && shape == Shape::V22_05;
            if let Some(jobs) = busy.get(name.as_str()).filter(|_| !stays) {
                losses.push(Loss::NodeJobs { name: name.clone(), jobs: *jobs });
            }
            continue;
        };
        node_fields(name, node, live, then, &mut losses);
    }
    reservations(next, observed, &mut losses);
    losses.sort();
    losses
}

fn is_over(job: &crate::observe::Job) -> bool {
    matches!(job.state, crate::observe::JobState::Ended(_))
}

/// How many jobs hold each node.
fn busy(observed: &Observed) -> BTreeMap<String, usize> {
    let mut busy = BTreeMap::new();
    for job in observed.jobs.iter().filter(|job| job.holds_nodes()) {
        // A list that cannot be read names nodes that cannot be known: none of them is taken for free
        // because `Node::is_busy` counts too.
        for name in hostlist::expand(&job.nodes).unwrap_or_default() {
            *busy.entry(name).or_insert(0) += 1;
        }
    }
    busy
}

/// `scontrol update PartitionName=` of these is what people do at run time.
fn partition_fields(
    name: &str,
    seen: &Fields,
    (file, then): (&Fields, &Fields),
    losses: &mut Vec<Loss>,
) {
    for (field, default) in PARTITION_FIELDS {
        let Some(now) = seen.get(*field) else { continue };
        let of = |fields: &Fields| fields.get(*field).map_or(*default, String::as_str).to_owned();
        let (file, then) = (of(file), of(then));
        if !same(field, now, &file) && !same(field, now, &then) {
            let (name, field) = (name.to_owned(), (*field).to_owned());
            losses.push(Loss::PartitionField { name, field, now: now.clone(), then });
        }
    }
}

/// Its nodes are changed in the same way. What either file gives it by a `NodeSet` is not known here, and nothing
/// is told of it.
fn partition_nodes(
    name: &str,
    seen: &Partition,
    (file, live): (&Fields, &Conf),
    (then, next): (&Fields, &Conf),
    losses: &mut Vec<Loss>,
) {
    let (Some(now), Some(file)) = (running(seen), members(file, live)) else { return };
    let Some(then) = members(then, next) else { return };
    if now != file && now != then {
        let (now, then) = (listed(&now), listed(&then));
        let (name, field) = (name.to_owned(), "nodes".to_owned());
        losses.push(Loss::PartitionField { name, field, now, then });
    }
}

/// `scontrol update NodeName=` of these is lost; a drain and its reason are not.
fn node_fields(
    name: &str,
    node: &crate::observe::Node,
    live: &Conf,
    then: &Fields,
    losses: &mut Vec<Loss>,
) {
    let Some(file) = live.nodes.get(name) else { return };
    if node.weight != weight(file) && node.weight != weight(then) {
        losses.push(Loss::NodeField {
            name: name.to_owned(),
            field: "weight".to_owned(),
            now: node.weight.to_string(),
            then: weight(then).to_string(),
        });
    }
    if node.features != features(file) && node.features != features(then) {
        let list = |of: &BTreeSet<String>| of.iter().cloned().collect::<Vec<_>>().join(",");
        losses.push(Loss::NodeField {
            name: name.to_owned(),
            field: "feature".to_owned(),
            now: list(&node.features),
            then: list(&features(then)),
        });
    }
}

/// Reservations outlive both, but not the nodes that they name.
fn reservations(next: &Conf, observed: &Observed, losses: &mut Vec<Loss>) {
    for (name, reservation) in &observed.reservations {
        for node in hostlist::expand(&reservation.nodes).unwrap_or_default() {
            if !next.nodes.contains_key(&node) {
                losses.push(Loss::Reservation { name: name.clone(), node });
            }
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition { name } => {
                write!(to, "partition {name} was made at run time and disappears")
            }
            Self::PartitionField { name, field, now, then } => {
                write!(
                    to,
                    "partition {name}: {field} was set to {now} at run time and becomes {then}"
                )
            }
            Self::NodeField { name, field, now, then } => {
                write!(to, "node {name}: {field} was set to {now} at run time and becomes {then}")
            }
            Self::Node { name } => write!(to, "node {name} was made at run time and disappears"),
            Self::PartitionJobs { name, jobs } => {
                write!(to, "{jobs} job(s) of partition {name} are cancelled")
            }
            Self::NodeJobs { name, jobs } => write!(to, "{jobs} job(s) on node {name} are ended"),
            Self::AllJobs { jobs } => {
                write!(to, "all {jobs} job(s): another SelectType cannot read their state")
            }
            Self::Reservation { name, node } => {
                write!(to, "reservation {name} names node {node}, which goes")
            }
        }
    }
}
