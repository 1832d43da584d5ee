//! What a controller does that its file does not say: changed by hand at run time, made at run time,
//! or written down and never read. A node that a drain keeps out is no drift, nor is a state.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{Change, change};
use super::fields::{features, minutes, weight};
use crate::conf::{Conf, Fields};
use crate::hostlist;
use crate::observe::{Node, Observed, Partition};
use crate::resources::counts;

/// Fields of a partition that a file says, and what holds where it does not (slurm.conf(5)).
pub(super) const PARTITION_FIELDS: &[(&str, &str)] = &[
    ("allowaccounts", "ALL"),
    ("allowgroups", "ALL"),
    ("allowqos", "ALL"),
    ("default", "NO"),
    ("defaulttime", "NONE"),
    ("maxtime", "UNLIMITED"),
    ("prioritytier", "1"),
    ("state", "UP"),
];

/// What differs between the file and the controller that should have read it: [`Change::from`] is what
/// runs, [`Change::to`] what the file says. Empty where all is as it is written.
#[must_use]
pub fn drift(file: &Conf, observed: &Observed) -> Vec<Change> {
    let mut found = Vec::new();
    presence("node", file.nodes.keys(), observed.nodes.keys(), &mut found);
    for (name, seen) in &observed.nodes {
        if let Some(said) = file.nodes.get(name) {
            node(name, said, seen, &mut found);
        }
    }
    presence("partition", file.partitions.keys(), observed.partitions.keys(), &mut found);
    for (name, seen) in &observed.partitions {
        if let Some(said) = file.partitions.get(name) {
            partition(name, said, seen, file, &mut found);
        }
    }
    found
}

fn presence<'a>(
    what: &str,
    said: impl Iterator<Item = &'a String>,
    seen: impl Iterator<Item = &'a String>,
    found: &mut Vec<Change>,
) {
    let said: BTreeSet<&String> = said.collect();
    let seen: BTreeSet<&String> = seen.collect();
    for name in said.difference(&seen) {
        found.push(change(format!("{what} {name}"), "", None, Some((*name).clone())));
    }
    for name in seen.difference(&said) {
        found.push(change(format!("{what} {name}"), "", Some((*name).clone()), None));
    }
}

fn node(name: &str, said: &Fields, seen: &Node, found: &mut Vec<Change>) {
    let mut differs = |field: &str, runs: String, file: String| {
        if runs != file {
            found.push(change(format!("node {name}"), field, Some(runs), Some(file)));
        }
    };
    let list = |of: &BTreeSet<String>| of.iter().cloned().collect::<Vec<_>>().join(",");
    differs("feature", list(&seen.features), list(&features(said)));
    // A resource that the controller could not read is left out of a node without another word.
    let file = said.get("gres").map(String::as_str).unwrap_or_default();
    differs("gres", list(&resources(&seen.gres)), list(&resources(file)));
    differs("weight", seen.weight.to_string(), weight(said).to_string());
}

/// `gpu:a100:2(S:0)` without the place that a daemon adds to it.
fn resources(list: &str) -> BTreeSet<String> {
    let counts = counts(list);
    counts.into_iter().map(|(name, count)| format!("{name}:{count}")).collect()
}

fn partition(name: &str, said: &Fields, seen: &Partition, file: &Conf, found: &mut Vec<Change>) {
    for (field, default) in PARTITION_FIELDS {
        let Some(runs) = seen.fields.get(*field) else { continue };
        let said = said.get(*field).map_or(*default, String::as_str);
        if !same(field, runs, said) {
            let (runs, said) = (Some(runs.clone()), Some(said.to_owned()));
            found.push(change(format!("partition {name}"), field, runs, said));
        }
    }
    if let (Some(wanted), Some(runs)) = (members(said, file), running(seen))
        && runs != wanted
    {
        let (runs, wanted) = (Some(listed(&runs)), Some(listed(&wanted)));
        found.push(change(format!("partition {name}"), "nodes", runs, wanted));
    }
}

/// The nodes that a partition has as it runs; none where the controller's list cannot be read.
pub(super) fn running(seen: &Partition) -> Option<BTreeSet<String>> {
    Some(hostlist::expand(&seen.nodes).ok()?.into_iter().collect())
}

pub(super) fn listed(nodes: &BTreeSet<String>) -> String {
    hostlist::compress(nodes.iter().map(String::as_str))
}

/// The nodes that a file gives to a partition; none where it names them by a `NodeSet`, which the
/// controller alone resolves.
pub(super) fn members(partition: &Fields, file: &Conf) -> Option<BTreeSet<String>> {
    let list = partition.get("nodes").map(String::as_str).unwrap_or_default();
    if list.eq_ignore_ascii_case("all") {
        return Some(file.nodes.keys().cloned().collect());
    }
    let names: BTreeSet<String> = hostlist::expand(list).ok()?.into_iter().collect();
    names.iter().all(|name| file.nodes.contains_key(name)).then_some(names)
}

/// Whether two spellings of a partition's field mean the same.
pub(super) fn same(field: &str, a: &str, b: &str) -> bool {
    match field {
        "maxtime" | "defaulttime" => minutes(a) == minutes(b),
        "allowaccounts" | "allowgroups" | "allowqos" => words(a) == words(b),
        _ => a.eq_ignore_ascii_case(b),
    }
}

fn words(list: &str) -> BTreeMap<String, ()> {
    list.split(',').map(|word| (word.to_ascii_lowercase(), ())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::{LIVE, conf, observed};
    use super::*;

    fn shown(file: &str, change: impl FnOnce(&mut Observed)) -> Vec<String> {
        let mut seen = observed();
        change(&mut seen);
        let word = |of: &Option<String>| of.clone().unwrap_or_else(|| "-".to_owned());
        drift(&conf(file), &seen)
            .iter()
            .map(|one| {
                format!("{} {}: {} > {}", one.subject, one.field, word(&one.from), word(&one.to))
            })
            .collect()
    }

    #[test]
    fn what_was_read_is_no_drift_and_neither_is_a_drain() {
        let none = shown(LIVE, |seen| {
            let n1 = seen.nodes.get_mut("n1").unwrap();
            n1.flags.insert(crate::observe::Flag::Drain);
            n1.state = crate::observe::NodeState::Down;
        });
        assert_eq!(none, [""; 0]);
    }

    #[test]
    fn what_hands_did_at_run_time_is_drift() {
        let found = shown(LIVE, |seen| {
            seen.nodes.get_mut("n2").unwrap().weight = 9;
            let gpu = seen.partitions.get_mut("gpu").unwrap();
            gpu.fields.insert("state".into(), "DRAIN".into());
            gpu.fields.insert("maxtime".into(), "02:00:00".into());
            gpu.nodes = "n[1-2]".into();
            let debug = gpu.clone();
            seen.partitions.insert("debug".into(), debug);
        });
        assert_eq!(
            found,
            [
                "node n2 weight: 9 > 1",
                "partition debug : debug > -",
                "partition gpu maxtime: 02:00:00 > 1440",
                "partition gpu state: DRAIN > UP",
                "partition gpu nodes: n[1-2] > n1",
            ]
        );
    }

    #[test]
    fn what_is_written_and_was_never_read_is_drift() {
        let file = LIVE.replace("n[1-3] CPUs", "n[1-4] Gres=gpu:2 CPUs");
        assert_eq!(
            shown(&file, |seen| {
                for node in seen.nodes.values_mut() {
                    node.gres = "gpu:2(S:0)".into();
                }
                seen.nodes.get_mut("n3").unwrap().gres = "(null)".into();
            }),
            ["node n4 : - > n4", "node n3 gres:  > gpu:2"]
        );
    }
}
