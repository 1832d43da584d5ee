//! A cluster at a glance: its nodes, what they have and what of it is given out. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cordon::{Out, out, out_since};
use super::quantity::Amount;
use super::skew::{self, Version};
use crate::overview::WaitingPod;

/// Amounts by resource: `cpu`, `memory`, `pods`, `nvidia.com/gpu`, `nvidia.com/mig-1g.10gb`.
pub type Amounts = BTreeMap<String, Amount>;

/// A taint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// A condition of a node that is not as it should be, or `Ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCondition {
    /// Which: `Ready`, `DiskPressure`, …
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word of whoever says so.
    pub reason: String,
    /// A sentence of theirs.
    pub message: String,
    /// Since when, as the server spells it.
    pub since: String,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its roles, by label (`node-role.kubernetes.io/…`).
    pub roles: Vec<String>,
    /// Whether its kubelet says that it works, and was heard of late.
    pub ready: bool,
    /// Conditions that are not as they should be.
    pub problems: Vec<NodeCondition>,
    /// Whether it is out of service, and by whom.
    pub out: Option<Out>,
    /// Since when it is, as the server spells it, where it says so.
    #[serde(default)]
    pub out_since: Option<String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// The release of its kubelet.
    pub kubelet: String,
    /// The release of its container runtime.
    pub runtime: String,
    /// The release of its kernel.
    pub kernel: String,
    /// Its operating system.
    pub system: String,
    /// What it has.
    pub capacity: Amounts,
    /// What pods may have of it.
    pub allocatable: Amounts,
    /// What its pods asked for.
    pub allocated: Amounts,
    /// How many pods are on it that have not ended.
    pub pods: u64,
}

impl NodeView {
    /// GPUs and parts of them: resource, what pods may have, what they asked for.
    pub fn gpus(&self) -> impl Iterator<Item = (&str, Amount, Amount)> {
        self.allocatable.iter().filter(|(name, _)| name.starts_with("nvidia.com/")).map(
            |(name, all)| {
                let given = self.allocated.get(name).copied().unwrap_or_default();
                (name.as_str(), *all, given)
            },
        )
    }
}

/// A cluster at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// Its nodes, by name.
    pub nodes: Vec<NodeView>,
    /// Pods that wait for a node, by name.
    pub waiting: Vec<WaitingPod>,
    /// What could not be read, in words: amounts of a spelling that nobody knows.
    pub unread: Vec<String>,
}

impl ClusterView {
    /// What pods may have, and what they asked for, over nodes that work and are in service.
    pub fn totals(&self) -> BTreeMap<String, (Amount, Amount)> {
        let mut all: BTreeMap<String, (Amount, Amount)> = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| node.ready && node.out.is_none()) {
            for (name, amount) in &node.allocatable {
                let entry = all.entry(name.clone()).or_default();
                entry.0 = entry.0 + *amount;
                entry.1 = entry.1 + node.allocated.get(name).copied().unwrap_or_default();
            }
        }
        all
    }

    /// What must not stand side by side, in words, where the API server is of `release`. What is of a
    /// release that nobody can read is left out.
    pub fn skew(&self, release: &str) -> Vec<String> {
        let Ok(server) = release.parse::<Version>() else { return Vec::new() };
        let servers = [("the cluster".to_owned(), server)];
        skew::check(&servers, &self.kubelets())
    }

    /// The releases of its kubelets, by node. What is of a release that nobody can read is left out.
    pub fn kubelets(&self) -> Vec<(String, Version)> {
        let read = |node: &NodeView| Some((node.name.clone(), node.kubelet.parse().ok()?));
        self.nodes.iter().filter_map(read).collect()
    }
}

/// Makes the view of nodes and all their pods.
pub fn overview<'a>(
    nodes: impl IntoIterator<Item = &'a Value>,
    pods: impl IntoIterator<Item = &'a Value>,
) -> ClusterView {
    let mut view = ClusterView::default();
    let mut given: BTreeMap<&str, (Amounts, u64)> = BTreeMap::new();
    for pod in pods {
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default();
        if matches!(text("/status/phase"), "Succeeded" | "Failed") {
            continue;
        }
        let asked = requests(pod, &mut view.unread);
        match text("/spec/nodeName") {
            "" => {
                let name = format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"));
                let since = text("/metadata/creationTimestamp").to_owned();
                view.waiting.push(WaitingPod { pod: name, why: waits_for(pod), since });
            }
            node => {
                let (amounts, count) = given.entry(node).or_default();
                add(amounts, &asked);
                *count += 1;
            }
        }
    }
    for node in nodes {
        let mut one = seen(node, &mut view.unread);
        if let Some((amounts, count)) = given.remove(one.name.as_str()) {
            (one.allocated, one.pods) = (amounts, count);
        }
        view.nodes.push(one);
    }
    view.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    view.waiting.sort_by(|a, b| a.pod.cmp(&b.pod));
    view.unread.sort();
    view.unread.dedup();
    view
}

fn waits_for(pod: &Value) -> String {
    let all = pod.pointer("/status/conditions").and_then(Value::as_array);
    let unplaced = all.into_iter().flatten().find(|one| one["type"] == "PodScheduled");
    let words = unplaced.and_then(|one| one.get("message")).and_then(Value::as_str);
    words.unwrap_or("not looked at by a scheduler yet").to_owned()
}

fn seen(node: &Value, unread: &mut Vec<String>) -> NodeView {
    let text =
        |path: &str| node.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let roles = labels.into_iter().flatten();
    let roles = roles.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"));
    let mut problems = Vec::new();
    let mut ready = false;
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    for one in conditions.into_iter().flatten() {
        let of =
            |field: &str| one.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, status) = (of("type"), of("status"));
        let good = if kind == "Ready" { "True" } else { "False" };
        ready |= kind == "Ready" && status == "True";
        if status != good {
            let (reason, message) = (of("reason"), of("message"));
            let since = of("lastTransitionTime");
            problems.push(NodeCondition { kind, status, reason, message, since });
        }
    }
    let taints = node.pointer("/spec/taints").cloned().unwrap_or_default();
    let name = text("/metadata/name");
    NodeView {
        roles: roles.map(str::to_owned).collect(),
        ready,
        problems,
        out: out(node),
        out_since: out_since(node),
        taints: serde_json::from_value(taints).unwrap_or_default(),
        kubelet: text("/status/nodeInfo/kubeletVersion"),
        runtime: text("/status/nodeInfo/containerRuntimeVersion"),
        kernel: text("/status/nodeInfo/kernelVersion"),
        system: text("/status/nodeInfo/osImage"),
        capacity: amounts(node.pointer("/status/capacity"), &name, unread),
        allocatable: amounts(node.pointer("/status/allocatable"), &name, unread),
        allocated: Amounts::new(),
        pods: 0,
        name,
    }
}

fn amounts(all: Option<&Value>, whose: &str, unread: &mut Vec<String>) -> Amounts {
    let mut read = Amounts::new();
    for (name, value) in all.and_then(Value::as_object).into_iter().flatten() {
        // The server gives texts; manifests may have numbers.
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match text.parse() {
            Ok(amount) => {
                read.insert(name.clone(), amount);
            }
            Err(error) => unread.push(format!("{whose}: {name}: {error}")),
        }
    }
    read
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = to.entry(name.clone()).or_default();
        *entry = *entry + *amount;
    }
}

fn most(of: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = of.entry(name.clone()).or_default();
        *entry = (*entry).max(*amount);
    }
}

/// What a pod asks for: its containers together, or its hungriest step before them if that is more;
/// containers that start first and stay (`restartPolicy: Always`) count for both.
fn requests(pod: &Value, unread: &mut Vec<String>) -> Amounts {
    let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let list = |path: &str| pod.pointer(path).and_then(Value::as_array).into_iter().flatten();
    let mut together = Amounts::new();
    for container in list("/spec/containers") {
        add(&mut together, &amounts(container.pointer("/resources/requests"), name, unread));
    }
    let (mut staying, mut before) = (Amounts::new(), Amounts::new());
    for container in list("/spec/initContainers") {
        let asked = amounts(container.pointer("/resources/requests"), name, unread);
        let mut now = staying.clone();
        add(&mut now, &asked);
        most(&mut before, &now);
        if container["restartPolicy"] == "Always" {
            staying = now;
        }
    }
    add(&mut together, &staying);
    most(&mut together, &before);
    add(&mut together, &amounts(pod.pointer("/spec/overhead"), name, unread));
    together
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ready: &str) -> Value {
        json!({"metadata": {"name": name, "labels": {"node-role.kubernetes.io/gpu": ""}},
            "spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]},
            "status": {"nodeInfo": {"kubeletVersion": "v1.33.1"},
                "conditions": [{"type": "DiskPressure", "status": "False"},
                    {"type": "Ready", "status": ready, "reason": "KubeletNotReady", "message": "no network"}],
                "capacity": {"cpu": "8"},
                "allocatable": {"cpu": "7500m", "nvidia.com/mig-1g.10gb": "7", "odd": "seven"}}})
    }

    #[test]
    fn what_is_there_and_what_is_given_out() {
        let pod = |name: &str, node: &str, phase: &str| {
            json!({"metadata": {"name": name, "namespace": "shop"},
                "spec": {"nodeName": node, "overhead": {"cpu": "10m"},
                    "containers": [{"resources": {"requests": {"cpu": "100m", "nvidia.com/mig-1g.10gb": "2"}}},
                        {"resources": {"requests": {"cpu": "100m"}}}],
                    "initContainers": [{"restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                        {"resources": {"requests": {"cpu": "1"}}}]},
                "status": {"phase": phase, "conditions": [{"type": "PodScheduled", "message": "no room"}]}})
        };
        let pods = [pod("a", "n1", "Running"), pod("b", "n1", "Failed"), pod("c", "", "Pending")];
        let view = overview(&[node("n2", "False"), node("n1", "True")], &pods);
        let n1 = &view.nodes[0];
        assert_eq!((n1.name.as_str(), n1.ready, n1.pods), ("n1", true, 1));
        // The step before them needs 1 and 50m beside it, which is more than 250m.
        assert_eq!(n1.allocated["cpu"].milli(), 1_060);
        let gpus: Vec<_> = n1.gpus().collect();
        assert_eq!(gpus, [("nvidia.com/mig-1g.10gb", Amount::units(7), Amount::units(2))]);
        assert_eq!(view.nodes[1].problems[0].message, "no network");
        let waits = &view.waiting[0];
        assert_eq!((&*waits.pod, &*waits.why, view.waiting.len()), ("shop/c", "no room", 1));
        assert_eq!(view.totals()["cpu"].0.milli(), 7_500, "only what works is counted");
        assert!(view.unread[0].contains("n1: odd: `seven` is no amount"), "{:?}", view.unread);
        assert_eq!(n1.taints[0].key, "gpu");
        assert_eq!(n1.roles, ["gpu"]);
    }
}
