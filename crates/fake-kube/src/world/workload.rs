//! Controllers that are content at once: whatever is wished of a workload is so a moment later. They make
//! no pods; those that a test puts onto nodes run.

use serde_json::{Value, json};

use super::{Served, Spot, World};
use crate::ssa;

/// Under which name they write.
const MANAGER: &str = "kube-controller-manager";

/// The kinds that they see to.
const KINDS: &[(&str, &str)] = &[
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("batch", "jobs"),
    ("", "pods"),
    ("", "persistentvolumeclaims"),
    ("policy", "poddisruptionbudgets"),
];

impl World {
    pub(super) fn run_workloads(&mut self) {
        for (group, plural) in KINDS {
            for spot in self.spots(group, plural) {
                let old = &self.objects[&spot];
                let going = old.pointer("/metadata/deletionTimestamp").is_some();
                if going || self.stalled.contains(&spot) {
                    continue;
                }
                if let Some(status) = self.status(&spot, old) {
                    self.say(&spot, status);
                }
            }
        }
    }

    /// Writes a status, where it is another one.
    fn say(&mut self, spot: &Spot, status: Value) {
        let is = |k: &&Served| k.group == spot.group && k.plural == spot.plural;
        let of = self.kinds.iter().find(is).cloned().unwrap();
        let old = self.objects[spot].clone();
        if old.get("status") == Some(&status) {
            return;
        }
        let mut object = old.clone();
        object["status"] = status;
        ssa::update(&old, &mut object, MANAGER, "status");
        self.write(&of, Some(old), object).unwrap_or_else(|refusal| panic!("{}", refusal.2));
    }

    /// The status that an object would have, all being well.
    fn status(&self, spot: &Spot, object: &Value) -> Option<Value> {
        let generation = &object["metadata"]["generation"];
        let number =
            |path: &str, or: u64| object.pointer(path).and_then(Value::as_u64).unwrap_or(or);
        let replicas = number("/spec/replicas", 1);
        Some(match spot.plural.as_str() {
            "deployments" => json!({"observedGeneration": generation, "replicas": replicas,
                "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
                "conditions": [{"type": "Available", "status": "True"},
                    {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}),
            "statefulsets" => json!({"observedGeneration": generation, "replicas": replicas,
                "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas}),
            "daemonsets" => {
                let nodes = self.spots("", "nodes").len();
                json!({"observedGeneration": generation, "desiredNumberScheduled": nodes,
                    "currentNumberScheduled": nodes, "updatedNumberScheduled": nodes,
                    "numberReady": nodes, "numberAvailable": nodes, "numberMisscheduled": 0})
            }
            "jobs" => json!({"succeeded": number("/spec/completions", 1),
                "conditions": [{"type": "Complete", "status": "True"}]}),
            "persistentvolumeclaims" => json!({"phase": "Bound"}),
            "pods" => {
                let placed = object.pointer("/spec/nodeName").is_some();
                let waits = object.pointer("/status/phase") == Some(&json!("Pending"));
                if !placed || !waits {
                    return None;
                }
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
            }
            "poddisruptionbudgets" => self.budget(object, &spot.namespace),
            _ => return None,
        })
    }

    /// How many pods may go, of those that a budget is for.
    fn budget(&self, budget: &Value, namespace: &str) -> Value {
        let (mut all, mut healthy) = (0, 0);
        for spot in self.spots("", "pods").iter().filter(|spot| spot.namespace == namespace) {
            let pod = &self.objects[spot];
            if !matches(budget, pod) || pod.pointer("/metadata/deletionTimestamp").is_some() {
                continue;
            }
            let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
            let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
            all += 1;
            healthy += i64::from(conditions.is_some_and(|all| all.iter().any(ready)));
        }
        let number = |path: &str| budget.pointer(path).and_then(Value::as_i64);
        let may_go = |count: i64| (all - count).max(0);
        let wanted = number("/spec/minAvailable")
            .unwrap_or_else(|| may_go(number("/spec/maxUnavailable").unwrap_or(1)));
        json!({"observedGeneration": budget["metadata"]["generation"], "expectedPods": all,
            "currentHealthy": healthy, "desiredHealthy": wanted,
            "disruptionsAllowed": (healthy - wanted).max(0)})
    }
}

/// Whether a budget is for a pod, by labels.
pub(super) fn matches(budget: &Value, pod: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    let wanted = budget.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let is = |(key, value): (&String, &Value)| labels.get(key) == Some(value);
    wanted.is_some_and(|all| !all.is_empty() && all.iter().all(is))
}
