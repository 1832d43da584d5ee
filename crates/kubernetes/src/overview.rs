//! A cluster in a few numbers and names: what is worth keeping of each look at it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::cert::Certificate;
use crate::grant::Found;
use crate::group::{Named, NodeGroup, groups};
use crate::node::{Amount, ClusterView, NodeView, Out};

/// Most entries of one list; a cluster in which everything is wrong must not fill a log.
const LIST_MAX: usize = 100;
/// Most pods that are named of those that wait; the rest is counted.
const WAITING_MAX: usize = 10;

/// A cluster at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// The release of its API server.
    pub release: String,
    /// How many nodes there are.
    pub nodes: NodeCounts,
    /// Releases of kubelets, and on how many nodes.
    pub kubelets: BTreeMap<String, u64>,
    /// What there is and what of it is given out, on nodes that work and are in service: `cpu` in
    /// thousandths, all else in whole units (memory in bytes).
    pub resources: BTreeMap<String, Share>,
    /// All nodes, those that are alike together; none in what was written before there were any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<NodeGroup>,
    /// Nodes that are out of service.
    pub out: Vec<OutNode>,
    /// What nodes complain of.
    pub problems: Vec<NodeProblem>,
    /// How many pods wait for a node.
    pub waiting: u64,
    /// Those of them that wait for the longest time.
    pub waiting_for: Vec<WaitingPod>,
    /// Nodes that are asked for and not there.
    pub missing: Vec<String>,
    /// Nodes that are there and in no pool.
    pub unexpected: Vec<String>,
    /// Releases that must not stand side by side, in words.
    pub skew: Vec<String>,
    /// Certificates, and when they end.
    pub certificates: Vec<Certificate>,
    /// What could not be read, in words.
    pub unread: Vec<String>,
    /// The numbers of what gives people access for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<u64>,
}

/// How many nodes there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCounts {
    /// Of all.
    pub total: u64,
    /// Whose kubelet says that it works.
    pub ready: u64,
    /// That are out of service.
    pub out: u64,
}

/// What there is of something, and what of it is given out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// All that pods may have.
    pub total: u64,
    /// What pods asked for.
    pub allocated: u64,
}

/// A node that is out of service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OutNode {
    /// It.
    pub node: String,
    /// Who took it out: our token, or the name under which it was written; `None`: not known.
    pub by: Option<String>,
    /// Whether that was us.
    pub ours: bool,
    /// Why, where that is said.
    pub reason: String,
    /// Since when, as the server spells it, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// What a node complains of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeProblem {
    /// It.
    pub node: String,
    /// Which condition.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in its words.
    pub message: String,
    /// Since when, as the server spells it.
    pub since: String,
}

/// A pod that waits for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingPod {
    /// `namespace/name`.
    pub pod: String,
    /// Why.
    pub why: String,
    /// Since when there is this pod, as the server spells it; empty where that was not kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub since: String,
}

/// What else is known of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct AboutCluster<'a> {
    /// The release of its API server.
    pub release: &'a str,
    /// The nodes that are asked for.
    pub expected: &'a BTreeSet<&'a str>,
    /// Certificates.
    pub certificates: &'a [Certificate],
    /// What gives people access for a while.
    pub access: &'a [Found],
    /// How many names are written as one text.
    pub named: Named,
}

impl Overview {
    /// Of what was seen.
    pub fn of(view: &ClusterView, about: AboutCluster<'_>) -> Self {
        let mut kubelets = BTreeMap::new();
        let mut counts = NodeCounts::default();
        let (mut outs, mut problems, mut unexpected) = (Vec::new(), Vec::new(), Vec::new());
        for node in &view.nodes {
            counts.total += 1;
            counts.ready += u64::from(node.ready);
            *kubelets.entry(node.kubelet.clone()).or_default() += 1;
            if let Some(out) = &node.out {
                counts.out += 1;
                outs.push(out_node(node, out));
            }
            problems.extend(node.problems.iter().map(|one| NodeProblem {
                node: node.name.clone(),
                kind: one.kind.clone(),
                status: one.status.clone(),
                message: if one.message.is_empty() { &one.reason } else { &one.message }.clone(),
                since: one.since.clone(),
            }));
            if !about.expected.contains(node.name.as_str()) {
                unexpected.push(node.name.clone());
            }
        }
        // Where there are too many to be told, ours are: whoever gives them back has to know.
        outs.sort_by_key(|out| !out.ours);
        let there: BTreeSet<&str> = view.nodes.iter().map(|node| node.name.as_str()).collect();
        let missing = about.expected.difference(&there).map(|name| (*name).to_owned()).collect();
        let mut waiting: Vec<_> = view.waiting.iter().collect();
        waiting.sort_by_key(|pod| (&pod.since, &pod.pod));
        Self {
            release: about.release.to_owned(),
            nodes: counts,
            kubelets,
            resources: resources(view),
            groups: groups(&view.nodes, about.named),
            out: cut(outs),
            problems: cut(problems),
            waiting: view.waiting.len() as u64,
            waiting_for: waiting.into_iter().take(WAITING_MAX).cloned().collect(),
            missing: cut(missing),
            unexpected: cut(unexpected),
            skew: cut(view.skew(about.release)),
            certificates: about.certificates.to_vec(),
            unread: cut(view.unread.clone()),
            access: about.access.iter().filter_map(|found| found.number).collect(),
        }
    }

    /// Whether it may have a node of this name in no pool: only where there are too many to be told is that
    /// not known.
    pub fn may_have_other(&self, node: &str) -> bool {
        self.unexpected.len() >= LIST_MAX || self.unexpected.iter().any(|name| name == node)
    }
}

fn cut<T>(mut list: Vec<T>) -> Vec<T> {
    list.truncate(LIST_MAX);
    list
}

fn out_node(node: &NodeView, out: &Out) -> OutNode {
    let (by, ours, reason) = match out {
        Out::Ours(mark) => (Some(mark.token.clone()), true, mark.reason.clone()),
        Out::Others(by) => (by.clone(), false, String::new()),
    };
    OutNode { node: node.name.clone(), by, ours, reason, since: node.out_since.clone() }
}

fn resources(view: &ClusterView) -> BTreeMap<String, Share> {
    let totals = view.totals().into_iter().map(|(name, sums)| {
        let share = share(&name, sums);
        (name, share)
    });
    totals.filter(|(_, share)| *share != Share::default()).collect()
}

/// What there is of a resource and what of it is given out: `cpu` in thousandths, all else in whole units.
pub(crate) fn share(name: &str, (total, allocated): (Amount, Amount)) -> Share {
    let of = |amount: Amount| {
        let number = if name == "cpu" { amount.milli() } else { amount.whole() };
        u64::try_from(number).unwrap_or(if number < 0 { 0 } else { u64::MAX })
    };
    Share { total: of(total), allocated: of(allocated) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::node::{CORDON, overview};

    fn node(name: &str, kubelet: &str, ready: &str) -> Value {
        json!({"metadata": {"name": name},
            "status": {"nodeInfo": {"kubeletVersion": kubelet},
                "conditions": [{"type": "Ready", "status": ready, "message": "no network"}],
                "allocatable": {"cpu": "7500m", "memory": "1Gi", "nvidia.com/gpu": "2", "hugepages-1Gi": "0"}}})
    }

    #[test]
    fn a_look_is_a_few_numbers_and_all_that_is_wrong() {
        let mut ours = node("n1", "v1.33.1", "True");
        let since = "2026-01-02T03:04:07Z";
        ours["spec"] = json!({"unschedulable": true, "taints": [{"effect": "NoSchedule",
            "key": "node.kubernetes.io/unschedulable", "timeAdded": since}]});
        let mark = r#"{"token": "trueup:cloud/gpu", "reason": "r"}"#;
        ours["metadata"]["annotations"] = json!({CORDON: mark});
        let nodes = [ours, node("n2", "v1.33.1", "True"), node("n3", "v1.29.0", "False")];
        let pod = |name: &str, since: &str| {
            json!({"metadata": {"name": name, "namespace": "shop", "creationTimestamp": since},
                "spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}})
        };
        let pods = [pod("a", "2026-01-02T03:04:06Z"), pod("b", "2026-01-02T03:04:05Z")];
        let view = overview(&nodes, &pods);
        let expected = BTreeSet::from(["n1", "n2", "n9"]);
        let about = AboutCluster {
            release: "v1.33.1",
            expected: &expected,
            certificates: &[],
            access: &[],
            named: |names, _| (names.join(" "), 0),
        };
        let seen = Overview::of(&view, about);
        assert_eq!(seen.nodes, NodeCounts { total: 3, ready: 2, out: 1 });
        assert_eq!(seen.resources["cpu"], Share { total: 7_500, allocated: 0 });
        assert_eq!(seen.resources["memory"].total, 1 << 30);
        assert_eq!(seen.resources.len(), 3, "what there is none of is not told");
        assert_eq!(seen.missing, ["n9"]);
        assert_eq!(seen.unexpected, ["n3"]);
        assert_eq!(seen.out[0].by.as_deref(), Some("trueup:cloud/gpu"));
        assert_eq!(seen.out[0].since.as_deref(), Some(since));
        assert!(seen.may_have_other("n3") && !seen.may_have_other("n1"));
        let none = BTreeSet::new();
        let about = AboutCluster { expected: &none, ..about };
        assert_eq!(Overview::of(&view, about).unexpected, ["n1", "n2", "n3"], "there is no pool");
        assert!(seen.problems[0].node == "n3" && seen.problems[0].message == "no network");
        assert!(seen.skew[0].contains("n3"), "{:?}", seen.skew);
        let waits: Vec<_> = seen.waiting_for.iter().map(|it| (&*it.pod, &*it.since)).collect();
        let whole = [("shop/b", "2026-01-02T03:04:05Z"), ("shop/a", "2026-01-02T03:04:06Z")];
        assert_eq!(
            (seen.waiting, waits),
            (2, whole.to_vec()),
            "the first is the one that waits longest"
        );
        let groups: Vec<_> = seen.groups.iter().map(|it| (it.state.as_str(), &*it.nodes)).collect();
        assert_eq!(groups, [("ready", "n2"), ("out of service", "n1"), ("not ready", "n3")]);
    }
}
