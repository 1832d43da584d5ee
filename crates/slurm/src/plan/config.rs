//! What differs between the live `slurm.conf` and the next one, what it takes to bring it into force,
//! and what would be lost on the way.
//!
//! What a change needs was tried, release by release, and the rest is the manual's word
//! (slurm.conf(5): "A restart of slurmctld is required for changes to this parameter"). On 22.05 a
//! reconfigure with another set of nodes ends the controller, and loses its latest state.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use super::losses::Loss;
use super::losses::losses;
use crate::conf::{Conf, Fields};
use crate::hostlist;
use crate::observe::Observed;
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
    let mut plan = differences(live, next, shape);
    if !plan.changes.is_empty() {
        plan.losses = losses(live, next, observed, shape);
    }
    plan
}

/// The same without what would be lost: for one of several exchanges on the way to the same end, whose
/// losses are those of the first.
#[must_use]
pub fn differences(live: &Conf, next: &Conf, shape: Shape) -> ConfigPlan {
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
    if !plan.changes.is_empty() {
        plan.controller = plan.controller.max(Action::Reconfigure);
    }
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
        // Most of a thousand nodes do not change.
        if std::sync::Arc::ptr_eq(old, new) || old == new {
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

#[cfg(test)]
pub(super) mod tests;
