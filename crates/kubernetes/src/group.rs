//! Nodes in few words: those that are alike together, with what pods may have of them and asked for. A thousand
//! nodes are a few lines, and a pod that comes or goes changes none of the lists. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::node::{Amount, Amounts, NodeView};
use crate::overview::{Share, share};

/// Most groups; where nodes are of more sizes than that, those of one state are one group.
const GROUPS_MAX: usize = 32;
/// Longest list of names, bytes; the rest is counted. Names that have no numbers are not put together.
const NAMES_MAX: usize = 500;
/// As near as memory has to be for nodes to be alike: machines of one kind differ by some of it.
const GIB: i128 = 1 << 30;

/// Writes the first of some names as one text of at most so many bytes, and says how many more there are.
pub type Named = fn(&[&str], usize) -> (String, u64);

/// Nodes that are alike: in one state, and of the same processors, the same devices and, to a gibibyte, the
/// same memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroup {
    /// Their state.
    pub state: NodeUse,
    /// Their names: `g[1-16],c1`.
    pub nodes: String,
    /// How many more there are than are named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unnamed: u64,
    /// How many there are.
    pub count: u64,
    /// How many pods are on them.
    pub pods: u64,
    /// What all of them have together: `cpu` in thousandths, `memory` in bytes, devices by resource.
    pub resources: BTreeMap<String, Share>,
}

impl NodeGroup {
    /// Takes out what changes with pods that come and go.
    pub fn unload(&mut self) {
        self.pods = 0;
        self.resources.values_mut().for_each(|share| share.allocated = 0);
    }
}

/// Of what use a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeUse {
    /// It works, and takes pods.
    Ready,
    /// It works, and is out of service.
    Out,
    /// Its kubelet does not say that it works.
    NotReady,
}

impl NodeUse {
    fn of(node: &NodeView) -> Self {
        match (node.ready, &node.out) {
            (false, _) => Self::NotReady,
            (true, Some(_)) => Self::Out,
            (true, None) => Self::Ready,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Out => "out of service",
            Self::NotReady => "not ready",
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// By what nodes are told apart beside their state.
type Size<'a> = BTreeMap<&'a str, i128>;

/// All nodes, group by group.
pub(crate) fn groups(nodes: &[NodeView], named: Named) -> Vec<NodeGroup> {
    let groups = by(nodes, size, named);
    if groups.len() > GROUPS_MAX { by(nodes, |_| Size::new(), named) } else { groups }
}

fn size(node: &NodeView) -> Size<'_> {
    let told = told(&node.allocatable).map(|(name, amount)| match name {
        "memory" => (name, (amount.whole() + GIB / 2).div_euclid(GIB)),
        _ => (name, amount.milli()),
    });
    told.filter(|(_, amount)| *amount != 0).collect()
}

/// Processors, memory and devices, which alone have a `/` in their names.
fn told(amounts: &Amounts) -> impl Iterator<Item = (&str, Amount)> {
    let all = amounts.iter().map(|(name, amount)| (name.as_str(), *amount));
    all.filter(|(name, _)| matches!(*name, "cpu" | "memory") || name.contains('/'))
}

fn by<'a>(
    nodes: &'a [NodeView],
    size: impl Fn(&'a NodeView) -> Size<'a>,
    named: Named,
) -> Vec<NodeGroup> {
    let mut alike: BTreeMap<(NodeUse, Size<'a>), Vec<&NodeView>> = BTreeMap::new();
    for node in nodes {
        alike.entry((NodeUse::of(node), size(node))).or_default().push(node);
    }
    alike.into_iter().map(|((state, _), members)| one(state, &members, named)).collect()
}

fn one(state: NodeUse, members: &[&NodeView], named: Named) -> NodeGroup {
    let mut sums: BTreeMap<&str, (Amount, Amount)> = BTreeMap::new();
    for node in members {
        for (name, amount) in told(&node.allocatable) {
            let (total, allocated) = sums.entry(name).or_default();
            *total = *total + amount;
            *allocated = *allocated + node.allocated.get(name).copied().unwrap_or_default();
        }
    }
    let shares = sums.into_iter().map(|(name, sums)| (name.to_owned(), share(name, sums)));
    let names: Vec<&str> = members.iter().map(|node| node.name.as_str()).collect();
    let (nodes, unnamed) = named(&names, NAMES_MAX);
    NodeGroup {
        state,
        nodes,
        unnamed,
        count: members.len() as u64,
        pods: members.iter().map(|node| node.pods).sum(),
        resources: shares.filter(|(_, share)| *share != Share::default()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::node::overview;

    /// Names one after the other, as many as there is room for.
    fn named(names: &[&str], bytes: usize) -> (String, u64) {
        let mut first = names.len();
        while names[..first].join(",").len() > bytes {
            first -= 1;
        }
        (names[..first].join(","), (names.len() - first) as u64)
    }

    fn node(name: &str, memory: &str, gpus: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "allocatable": {"cpu": "7500m", "memory": memory, "nvidia.com/gpu": gpus,
                    "ephemeral-storage": format!("{name}0"), "pods": "110"}}})
    }

    #[test]
    fn nodes_that_are_nearly_the_same_are_one_group_and_a_pod_changes_no_list() {
        let mut nodes = [
            node("1", "64000Mi", "2"),
            node("2", "64001Mi", "2"),
            node("3", "64000Mi", "0"),
            node("4", "64000Mi", "2"),
            node("5", "64000Mi", "2"),
        ];
        nodes[3]["spec"]["unschedulable"] = json!(true);
        nodes[4]["status"]["conditions"][0]["status"] = json!("Unknown");
        let none: [&Value; 0] = [];
        let calm = groups(&overview(&nodes, none).nodes, named);
        let words = |it: &NodeGroup| (it.state.as_str(), it.nodes.clone(), it.count);
        let told: Vec<_> = calm.iter().map(words).collect();
        assert_eq!(
            told,
            [
                ("ready", "3".to_owned(), 1),
                ("ready", "1,2".to_owned(), 2),
                ("out of service", "4".to_owned(), 1),
                ("not ready", "5".to_owned(), 1)
            ]
        );
        let names: Vec<_> = calm[1].resources.keys().collect();
        assert_eq!(names, ["cpu", "memory", "nvidia.com/gpu"]);
        assert_eq!(calm[1].resources["cpu"], Share { total: 15_000, allocated: 0 });
        assert_eq!(calm[1].resources["memory"].total, 128_001 << 20);
        assert!(!calm[0].resources.contains_key("nvidia.com/gpu"), "it has none");

        let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "2", "containers": [
            {"resources": {"requests": {"cpu": "1", "nvidia.com/gpu": "1"}}}]}});
        let mut then = groups(&overview(&nodes, [&pod]).nodes, named);
        assert_eq!(then[1].resources["nvidia.com/gpu"], Share { total: 4, allocated: 1 });
        assert_eq!(then[1].pods, 1);
        then[1].unload();
        assert_eq!(then, calm);
    }

    #[test]
    fn nodes_that_are_all_different_are_told_by_their_state_alone() {
        let nodes: Vec<Value> =
            (0..1000).map(|n| node(&n.to_string(), &format!("{n}Gi"), "1")).collect();
        let none: [&Value; 0] = [];
        let groups = groups(&overview(&nodes, none).nodes, named);
        let [one] = &groups[..] else { panic!("{groups:?}") };
        assert!(one.count == 1000 && one.unnamed > 500, "{one:?}");
        assert_eq!(one.resources["nvidia.com/gpu"].total, 1000);
        assert!(serde_json::to_string(&groups).unwrap().len() < 1000);
    }
}
