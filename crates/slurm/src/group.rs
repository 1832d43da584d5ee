//! Nodes in few words: those that are alike together, as a list of Slurm's, with what they have and what of it
//! is given out. A thousand nodes are a few lines, and which of them has the next job changes none of the lists.
//! Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hostlist;
use crate::observe::Node;
use crate::resources::counts;
use crate::view::Share;

/// Most groups; where nodes are of more sizes than that, those of one state are one group.
const GROUPS_MAX: usize = 32;
/// Longest list of names, bytes; the rest is counted. Names that have no numbers are not put together.
const NAMES_MAX: usize = 500;

/// Nodes that are alike: in one state, and of the same processors, the same generic resources and, to a
/// gibibyte, the same memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroup {
    /// Their state.
    pub state: NodeUse,
    /// Their names, as a list of Slurm's.
    pub nodes: String,
    /// How many more there are than are named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unnamed: u64,
    /// How many there are.
    pub count: u64,
    /// How many of them have jobs.
    pub busy: u64,
    /// What all of them have together: `cpu`, `memoryMib`, and each generic resource by type.
    pub resources: BTreeMap<String, Share>,
}

impl NodeGroup {
    /// Takes out what changes with jobs that come and go.
    pub fn unload(&mut self) {
        self.busy = 0;
        self.resources.values_mut().for_each(|share| share.allocated = 0);
    }
}

/// Of what use a node is. It does not change with jobs that come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeUse {
    /// It takes jobs.
    Up,
    /// It was taken out by a drain, and answers.
    Drained,
    /// It does not answer, or was put down.
    Down,
}

impl NodeUse {
    fn of(node: &Node) -> Self {
        match (node.is_up(), node.is_drained()) {
            (false, _) => Self::Down,
            (true, true) => Self::Drained,
            (true, false) => Self::Up,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Drained => "drained",
            Self::Down => "down",
        }
    }
}

/// Whether a field need not be written.
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// By what nodes are told apart beside their state.
type Size = (u32, u64, BTreeMap<String, u64>);

/// All nodes, group by group.
pub(crate) fn groups(nodes: &BTreeMap<String, Node>) -> Vec<NodeGroup> {
    let size = |node: &Node| (node.cpus, node.memory_mib.div_ceil(1024), counts(&node.gres));
    let groups = by(nodes, size);
    if groups.len() > GROUPS_MAX { by(nodes, |_| Size::default()) } else { groups }
}

fn by(nodes: &BTreeMap<String, Node>, size: impl Fn(&Node) -> Size) -> Vec<NodeGroup> {
    let mut alike: BTreeMap<(NodeUse, Size), Vec<(&str, &Node)>> = BTreeMap::new();
    for (name, node) in nodes {
        alike.entry((NodeUse::of(node), size(node))).or_default().push((name, node));
    }
    alike.into_iter().map(|((state, _), members)| one(state, &members)).collect()
}

fn one(state: NodeUse, members: &[(&str, &Node)]) -> NodeGroup {
    let mut resources: BTreeMap<String, Share> = BTreeMap::new();
    let mut busy = 0;
    for (_, node) in members {
        busy += u64::from(node.is_busy());
        for (name, share) in shares(node) {
            let all = resources.entry(name).or_default();
            all.total += share.total;
            all.allocated += share.allocated;
        }
    }
    resources.retain(|_, share| *share != Share::default());
    let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    let (nodes, unnamed) = hostlist::compress_within(&names, NAMES_MAX);
    NodeGroup { state, nodes, unnamed, count: members.len() as u64, busy, resources }
}

/// What a node has, and what of it is given out.
pub(crate) fn shares(node: &Node) -> BTreeMap<String, Share> {
    let of = |total: u64, allocated: u64| Share { total, allocated };
    let mut shares = BTreeMap::from([
        ("cpu".to_owned(), of(node.cpus.into(), node.cpus_allocated.into())),
        ("memoryMib".to_owned(), of(node.memory_mib, node.memory_allocated_mib)),
    ]);
    for (name, count) in counts(&node.gres) {
        shares.entry(name).or_default().total += count;
    }
    for (name, count) in counts(&node.gres_used) {
        shares.entry(name).or_default().allocated += count;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::nodes;

    /// A node of a fixture: idle, drained, with 4 processors and 4,000 MiB.
    fn node(memory_mib: u64) -> Node {
        let (_, nodes) = nodes(include_bytes!("../fixtures/22.05/nodes.json")).unwrap();
        Node { memory_mib, ..nodes["n2"].clone() }
    }

    #[test]
    fn a_thousand_nodes_are_a_few_words_and_a_job_changes_no_list() {
        let up = || Node { flags: Default::default(), ..node(4000) };
        let mut all: BTreeMap<_, _> = (1..=1000).map(|n| (format!("n{n}"), up())).collect();
        all.insert("n17".into(), node(4000));
        let calm = groups(&all);
        assert_eq!(calm.len(), 2);
        assert_eq!((calm[0].nodes.as_str(), calm[0].count), ("n[1-16,18-1000]", 999));
        assert_eq!((calm[1].state, calm[1].nodes.as_str()), (NodeUse::Drained, "n17"));
        assert_eq!(calm[0].resources["cpu"], Share { total: 3996, allocated: 0 });
        assert!(serde_json::to_string(&calm).unwrap().len() < 500);

        let busy = all.get_mut("n20").unwrap();
        (busy.cpus_allocated, busy.memory_allocated_mib) = (3, 1000);
        let mut then = groups(&all);
        assert_eq!((then[0].busy, then[0].resources["cpu"].allocated), (1, 3));
        then[0].unload();
        assert_eq!(then, calm);
    }

    #[test]
    fn nodes_that_are_all_different_are_told_by_their_state_alone() {
        let name = |n: u64| format!("{n}-{}", ["a", "b", "c"][usize::try_from(n % 3).unwrap()]);
        let all = (0..1000).map(|n| (name(n), node(n * 1024 + 1))).collect();
        let groups = groups(&all);
        let [one] = &groups[..] else { panic!("{groups:?}") };
        let named = hostlist::expand(&one.nodes).unwrap().len() as u64;
        assert!(named > 30 && named + one.unnamed == 1000 && one.count == 1000, "{one:?}");
        assert!(serde_json::to_string(&groups).unwrap().len() < 1000);
        // A little less memory, as kernels leave it, is the same size.
        let near = BTreeMap::from([("n1".into(), node(4000)), ("n2".into(), node(3990))]);
        assert_eq!(super::groups(&near).len(), 1);
        assert_eq!(super::groups(&near)[0].resources["memoryMib"].total, 7990);
    }
}
