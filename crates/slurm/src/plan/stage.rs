//! A wish on its way: nodes whose hardware changes keep what they have until each of them is out of
//! use. A controller that reads fewer processors or devices for a node ends the jobs that have them, so
//! the file changes node by node, and what needs no empty node changes at once.
//!
//! What was before is read from the live files ([`crate::adopt()`]), so a crash leaves nothing to
//! remember here.

use std::collections::{BTreeMap, BTreeSet};

use crate::wish::{Cluster, Host, Pool};

/// Put behind the name of a pool for those of its nodes that are still as before. Names of pools stand
/// in no file of Slurm's.
const BEFORE: &str = ".before";

/// The nodes of both wishes that have to be empty before they become what is wished.
#[must_use]
pub fn outdated(before: &Cluster, wish: &Cluster) -> BTreeSet<String> {
    let old = by_node(before);
    let mut names = BTreeSet::new();
    for pool in &wish.pools {
        for node in &pool.nodes {
            let Some((pool_before, before)) = old.get(node.name.as_str()) else { continue };
            let moved = (&before.address, before.port) != (&node.address, node.port);
            if moved || !same_hardware(pool_before, pool) {
                names.insert(node.name.clone());
            }
        }
    }
    names
}

/// The wish with what nodes in `waiting` had before: a subset of [`outdated`], all of it at first and
/// none of it at last.
#[must_use]
pub fn stage(before: &Cluster, wish: &Cluster, waiting: &BTreeSet<String>) -> Cluster {
    let old = by_node(before);
    let mut staged = wish.clone();
    for pool in &wish.pools {
        // Nodes of one pool may come from several.
        let mut groups: BTreeMap<&str, Pool> = BTreeMap::new();
        for node in pool.nodes.iter().filter(|node| waiting.contains(&node.name)) {
            let Some((was, kept)) = old.get(node.name.as_str()) else { continue };
            let group = groups.entry(was.name.as_str()).or_insert_with(|| Pool {
                name: format!("{}.{}{BEFORE}", pool.name, was.name),
                nodes: Vec::new(),
                // Who may ask for it and when it is given out is no matter of its hardware.
                features: pool.features.clone(),
                weight: pool.weight,
                ..Pool::clone(was)
            });
            group.nodes.push(Host::clone(kept));
        }
        for group in groups.into_values() {
            let of_group: BTreeSet<&str> =
                group.nodes.iter().map(|node| node.name.as_str()).collect();
            for own in staged.pools.iter_mut().filter(|own| own.name == pool.name) {
                own.nodes.retain(|node| !of_group.contains(node.name.as_str()));
            }
            for queue in staged.partitions.iter_mut().filter(|q| q.pools.contains(&pool.name)) {
                queue.pools.push(group.name.clone());
            }
            staged.pools.push(group);
        }
    }
    staged.pools.retain(|pool| !pool.nodes.is_empty());
    let left: BTreeSet<String> = staged.pools.iter().map(|pool| pool.name.clone()).collect();
    for queue in &mut staged.partitions {
        queue.pools.retain(|name| left.contains(name));
    }
    staged
}

/// Each node with its pool.
fn by_node(cluster: &Cluster) -> BTreeMap<&str, (&Pool, &Host)> {
    let mut all = BTreeMap::new();
    for pool in &cluster.pools {
        all.extend(pool.nodes.iter().map(|node| (node.name.as_str(), (pool, node))));
    }
    all
}

fn same_hardware(a: &Pool, b: &Pool) -> bool {
    let resources = |pool: &Pool| {
        let mut all = pool.gres.clone();
        all.sort_by(|a, b| (&a.name, &a.kind).cmp(&(&b.name, &b.kind)));
        all
    };
    let alike = (a.cpus, a.topology, a.memory_mib) == (b.cpus, b.topology, b.memory_mib);
    alike && resources(a) == resources(b) && folded(&a.parameters) == folded(&b.parameters)
}

/// Names of parameters are the same in any case.
fn folded(parameters: &BTreeMap<String, String>) -> BTreeMap<String, &String> {
    parameters.iter().map(|(key, value)| (key.to_ascii_lowercase(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Shape;
    use crate::{render, sample};

    fn nodes(cluster: &Cluster) -> Vec<String> {
        let files = render(cluster, Shape::V22_05).unwrap();
        let of = |line: &&str| line.starts_with("NodeName") || line.starts_with("PartitionName");
        files
            .slurm
            .lines()
            .filter(of)
            .map(|line| line[..line.find(" State").unwrap()].to_owned())
            .collect()
    }

    #[test]
    fn nodes_change_one_after_another_and_soft_fields_at_once() {
        let before = sample::cluster();
        let mut wish = sample::cluster();
        wish.pools[0].memory_mib = 3000;
        wish.pools[0].weight = 5;
        let mut waiting = outdated(&before, &wish);
        assert_eq!(waiting.iter().collect::<Vec<_>>(), ["n1", "n2", "n3"]);
        let at_first = nodes(&stage(&before, &wish, &waiting));
        assert_eq!(at_first[1], "NodeName=n[1-3] CPUs=4 RealMemory=4000 Weight=5", "{at_first:?}");
        assert!(at_first[2].starts_with("PartitionName=batch Nodes=n[1-3] "), "{at_first:?}");
        waiting.remove("n2");
        let amid = nodes(&stage(&before, &wish, &waiting));
        assert_eq!(amid[0], "NodeName=n2 CPUs=4 RealMemory=3000 Weight=5");
        assert_eq!(amid[2], "NodeName=n[1,3] CPUs=4 RealMemory=4000 Weight=5");
        assert_eq!(nodes(&stage(&before, &wish, &BTreeSet::new())), nodes(&wish));
    }

    #[test]
    fn what_needs_no_empty_node_waits_for_none() {
        let before = sample::cluster();
        let mut wish = sample::cluster();
        wish.pools[0].features.insert("fast".into());
        wish.pools[0].nodes.pop();
        assert_eq!(outdated(&before, &wish), BTreeSet::new());
        wish.pools[1].gres[0].count = 1;
        wish.pools[1].gres[0].devices.pop();
        assert_eq!(outdated(&before, &wish).len(), 2, "g1 and g2");
    }
}
