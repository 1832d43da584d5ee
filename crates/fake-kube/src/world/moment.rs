//! What other parts of a cluster do, each a moment after what it answers to: definitions are established
//! and then served, kubelets end pods, and, where that is asked for, controllers run workloads.

use serde_json::Value;

use super::{Spot, World};

impl World {
    /// One moment. What it changes may be something to do in the next one.
    pub(crate) fn moment(&mut self) {
        let definitions = self.spots("apiextensions.k8s.io", "customresourcedefinitions");
        for spot in &definitions {
            let established = self.objects[spot].pointer("/status/conditions").is_some();
            match established {
                true => self.serve(spot),
                false => self.establish(spot),
            }
        }
        if self.kubelets {
            self.end_pods();
        }
        if self.controllers {
            self.run_workloads();
        }
    }

    /// Where the objects of a kind are.
    pub(crate) fn spots(&self, group: &str, plural: &str) -> Vec<Spot> {
        let first = Spot::new(group, plural, "", "");
        let all = self.objects.range(first..).map(|(spot, _)| spot);
        all.take_while(|s| s.group == group && s.plural == plural).cloned().collect()
    }

    /// Pods whose time is over.
    fn end_pods(&mut self) {
        for spot in self.spots("", "pods") {
            let mut pod = self.objects[&spot].clone();
            let finalizers = pod.pointer("/metadata/finalizers").and_then(Value::as_array);
            let held = finalizers.is_some_and(|all| !all.is_empty());
            if lingers(&pod) && !held {
                let before = pod.clone();
                self.version += 1;
                pod["metadata"]["resourceVersion"] = self.version.to_string().into();
                self.objects.remove(&spot);
                self.record("DELETED", ("", "pods"), pod, Some(before));
            }
        }
    }
}

/// Whether a pod was told to go, and has time for it.
pub(super) fn lingers(object: &Value) -> bool {
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_u64);
    grace.is_some_and(|seconds| seconds > 0)
}
