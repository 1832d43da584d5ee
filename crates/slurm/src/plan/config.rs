//! What differs between the live `slurm.conf` and the next one, what it takes to bring it into force,
//! and what would be lost on the way.
//!
//! What a change needs was tried, release by release, and the rest is the manual's word
//! (slurm.conf(5): "A restart of slurmctld is required for changes to this parameter"). On 22.05 a
//! reconfigure with another set of nodes ends the controller, and loses its latest state.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::drift::same;
use crate::conf::{Conf, Fields};
use crate::hostlist;
use crate::observe::{Flag, Observed};
use crate::release::Shape;

/// How the controller is brought to read its files anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Nothing that a controller reads has changed.
    Nothing,
    /// `scontrol reconfigure`.
    Reconfigure,
    /// The controller is stopped and started; jobs go on without it.
    Restart,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `slurmctldport`, `node n1`, `partition batch`.
    pub subject: String,
    /// The field of it, in lower case; empty where the whole subject comes or goes.
    pub field: String,
    /// The live value; none where there is none.
    pub from: Option<String>,
    /// The next value; none where it goes.
    pub to: Option<String>,
}

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

/// What is to be done with the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigPlan {
    /// What differs, in a fixed order.
    pub changes: Vec<Change>,
    /// What the controller needs.
    pub controller: Action,
    /// Why it needs a restart, where it does.
    pub because: Vec<String>,
    /// Nodes whose daemon has to be started anew, because it reads such things at its start only.
    pub daemons: BTreeSet<String>,
    /// What would be lost.
    pub losses: Vec<Loss>,
}

/// Needs a restart of 22.05's controller (slurm.conf(5) of 22.05).
const RESTART_22_05: &[&str] = &[
    "accountingstorageenforce",
    "accountingstoragehost",
    "accountingstorageport",
    "accountingstoragetype",
    "authinfo",
    "authtype",
    "clustername",
    "credtype",
    "grestypes",
    "jobcontainertype",
    "maxjobcount",
    "maxnodecount",
    "plugindir",
    "powerplugin",
    "proctracktype",
    "schedulertype",
    "selecttype",
    "selecttypeparameters",
    "slurmctldparameters",
    "slurmctldport",
    "slurmdport",
    "slurmuser",
    "statesavelocation",
    "switchtype",
];
/// Needs one in 24.11 too, whose reconfigure is a start of a new controller: what that cannot share
/// with the old one (slurm.conf(5) of 24.11: "Changes to TCP listening settings", `AuthType`).
const RESTART_24_11: &[&str] =
    &["authtype", "clustername", "slurmctldport", "slurmuser", "statesavelocation"];
/// Read by a node's daemon at its start.
const DAEMON: &[&str] = &[
    "authtype",
    "grestypes",
    "jobacctgathertype",
    "plugindir",
    "proctracktype",
    "selecttype",
    "slurmdport",
    "slurmdspooldir",
    "switchtype",
    "taskplugin",
];
/// Fields of a node, likewise.
const DAEMON_FIELDS: &[&str] = &[
    "cpus",
    "sockets",
    "corespersocket",
    "threadspercore",
    "gres",
    "port",
    "nodehostname",
    "nodeaddr",
];

/// Fields of a node that 22.05's controller takes at its start only. Its answer to a reconfigure is
/// "The node configuration changes that were made require restart of the slurmctld daemon to take
/// effect", and half of them are in effect then.
const HARDWARE: &[&str] =
    &["boards", "cpus", "sockets", "socketsperboard", "corespersocket", "threadspercore", "gres"];

/// Compares the live file with the next one.
#[must_use]
pub fn plan(live: &Conf, next: &Conf, observed: &Observed, shape: Shape) -> ConfigPlan {
    let mut plan = ConfigPlan {
        changes: Vec::new(),
        controller: Action::Nothing,
        because: Vec::new(),
        daemons: BTreeSet::new(),
        losses: Vec::new(),
    };
    parameters(live, next, shape, &mut plan);
    nodes(live, next, shape, &mut plan);
    partitions(live, next, &mut plan);
    if live.others != next.others {
        let of = |conf: &Conf| (!conf.others.is_empty()).then(|| conf.others.join("; "));
        plan.changes.push(change("lines", "", of(live), of(next)));
    }
    if plan.changes.is_empty() {
        return plan;
    }
    plan.controller = plan.controller.max(Action::Reconfigure);
    plan.losses = losses(live, next, observed, shape);
    plan
}

pub(super) fn change(
    subject: impl Into<String>,
    field: &str,
    from: Option<String>,
    to: Option<String>,
) -> Change {
    Change { subject: subject.into(), field: field.to_owned(), from, to }
}

fn restart(plan: &mut ConfigPlan, because: String) {
    plan.controller = Action::Restart;
    plan.because.push(because);
}

/// Fields that differ, with both values.
fn diff<'a>(
    from: &'a Fields,
    to: &'a Fields,
) -> impl Iterator<Item = (&'a str, Option<&'a String>, Option<&'a String>)> {
    let keys: BTreeSet<&str> = from.keys().chain(to.keys()).map(String::as_str).collect();
    keys.into_iter().filter_map(move |key| {
        let (old, new) = (from.get(key), to.get(key));
        (old != new).then_some((key, old, new))
    })
}

fn parameters(live: &Conf, next: &Conf, shape: Shape, plan: &mut ConfigPlan) {
    let of_release = match shape {
        Shape::V22_05 => RESTART_22_05,
        Shape::V24_11 => RESTART_24_11,
    };
    for (key, from, to) in diff(&live.parameters, &next.parameters) {
        plan.changes.push(change(key, "", from.cloned(), to.cloned()));
        if of_release.contains(&key) {
            restart(plan, format!("{key} changes, which {shape} reads at its start only"));
        }
        if DAEMON.contains(&key) {
            plan.daemons.extend(next.nodes.keys().cloned());
        }
    }
    if live.controllers != next.controllers {
        let of = |conf: &Conf| Some(conf.controllers.join(","));
        plan.changes.push(change("slurmctldhost", "", of(live), of(next)));
        restart(plan, "the controllers change".to_owned());
    }
}

fn nodes(live: &Conf, next: &Conf, shape: Shape, plan: &mut ConfigPlan) {
    let coming: Vec<&str> = missing(&next.nodes, &live.nodes);
    let going: Vec<&str> = missing(&live.nodes, &next.nodes);
    for (names, comes) in [(&coming, true), (&going, false)] {
        if names.is_empty() {
            continue;
        }
        let list = hostlist::compress(names.iter().copied());
        let there = Some(list.clone());
        let (from, to) = if comes { (None, there) } else { (there, None) };
        plan.changes.push(change("nodes", "", from, to));
        if shape == Shape::V22_05 {
            let verb = if comes { "come" } else { "go" };
            restart(
                plan,
                format!("nodes {list} {verb}: 22.05 ends itself when that is reconfigured"),
            );
        }
    }
    plan.daemons.extend(coming.into_iter().map(str::to_owned));
    let mut hardware: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, new) in &next.nodes {
        let Some(old) = live.nodes.get(name) else { continue };
        if std::sync::Arc::ptr_eq(old, new) {
            continue;
        }
        for (field, from, to) in diff(old, new) {
            // `State` is where a node begins; later the controller's own memory counts.
            if field == "state" {
                continue;
            }
            plan.changes.push(change(format!("node {name}"), field, from.cloned(), to.cloned()));
            if DAEMON_FIELDS.contains(&field) {
                plan.daemons.insert(name.clone());
            }
            if let Some(field) = HARDWARE.iter().find(|one| **one == field) {
                hardware.entry(field).or_default().push(name);
            }
        }
    }
    if shape == Shape::V22_05 {
        for (field, names) in hardware {
            let list = hostlist::compress(names);
            restart(plan, format!("{field} of {list} changes, which 22.05 takes at a start only"));
        }
    }
}

fn missing<'a, A, B>(of: &'a BTreeMap<String, A>, from: &BTreeMap<String, B>) -> Vec<&'a str> {
    of.keys().filter(|name| !from.contains_key(*name)).map(String::as_str).collect()
}

fn partitions(live: &Conf, next: &Conf, plan: &mut ConfigPlan) {
    for name in missing(&next.partitions, &live.partitions) {
        let nodes = next.partitions[name].get("nodes").cloned().unwrap_or_default();
        plan.changes.push(change(format!("partition {name}"), "", None, Some(nodes)));
    }
    for name in missing(&live.partitions, &next.partitions) {
        let nodes = live.partitions[name].get("nodes").cloned().unwrap_or_default();
        plan.changes.push(change(format!("partition {name}"), "", Some(nodes), None));
    }
    for (name, new) in &next.partitions {
        let Some(old) = live.partitions.get(name) else { continue };
        for (field, from, to) in diff(old, new) {
            let change = change(format!("partition {name}"), field, from.cloned(), to.cloned());
            plan.changes.push(change);
        }
    }
}

/// What is there and stands in no file, and what jobs lose.
fn losses(live: &Conf, next: &Conf, observed: &Observed, shape: Shape) -> Vec<Loss> {
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
            (_, Some(then)) => partition_fields(name, &seen.fields, live, then, &mut losses),
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
fn partition_fields(name: &str, seen: &Fields, live: &Conf, then: &Fields, losses: &mut Vec<Loss>) {
    let Some(file) = live.partitions.get(name) else { return };
    for (field, default) in [
        ("state", "UP"),
        ("maxtime", "UNLIMITED"),
        ("prioritytier", "1"),
        ("allowaccounts", "ALL"),
        ("allowqos", "ALL"),
    ] {
        let Some(now) = seen.get(field) else { continue };
        let of = |fields: &Fields| fields.get(field).map_or(default, String::as_str).to_owned();
        let (file, then) = (of(file), of(then));
        if !same(field, now, &file) && !same(field, now, &then) {
            let (name, field) = (name.to_owned(), field.to_owned());
            losses.push(Loss::PartitionField { name, field, now: now.clone(), then });
        }
    }
}

/// Minutes of a time of Slurm's (`90`, `1:30:00`, `1-00:00:00`); none for no limit. A text that is no
/// time is kept as a value of its own.
pub(crate) fn minutes(text: &str) -> Result<Option<u64>, String> {
    if ["UNLIMITED", "INFINITE", "-1"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Ok(None);
    }
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(days), rest),
        None => (None, text),
    };
    let number = |word: &str| word.parse::<u64>().map_err(|_| text.to_owned());
    let parts = rest.split(':').map(number).collect::<Result<Vec<_>, _>>()?;
    let seconds = match (days.is_some(), parts.as_slice()) {
        (true, [h]) => h * 3600,
        (true, [h, m]) => h * 3600 + m * 60,
        (false, [m]) => m * 60,
        (false, [m, s]) => m * 60 + s,
        (_, [h, m, s]) => h * 3600 + m * 60 + s,
        _ => return Err(text.to_owned()),
    };
    let days = days.map_or(Ok(0), number)?;
    // Slurm rounds up to whole minutes.
    Ok(Some(days.saturating_mul(1440) + seconds.div_ceil(60)))
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

pub(super) fn weight(fields: &Fields) -> u32 {
    // slurm.conf(5): "The default value is 1".
    fields.get("weight").and_then(|text| text.parse().ok()).unwrap_or(1)
}

pub(super) fn features(fields: &Fields) -> BTreeSet<String> {
    let list = fields.get("feature").or_else(|| fields.get("features"));
    let words = list.map(String::as_str).unwrap_or_default().split(',');
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
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

#[cfg(test)]
pub(super) mod tests;
