//! What goes: deletions, and evictions as budgets allow them.

use serde_json::{Value, json};

use super::workload::matches;
use super::{Refusal, Served, Spot, World};

/// How many seconds a pod has to go, where it does not say.
const GRACE: u64 = 30;

impl World {
    /// Deletes, or begins to.
    pub(crate) fn delete(
        &mut self,
        of: &Served,
        spot: &Spot,
        uid: Option<&str>,
    ) -> Result<Value, Refusal> {
        let mut object = self.find(spot)?.clone();
        if uid.is_some_and(|uid| object["metadata"]["uid"] != uid) {
            let words = format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {}",
                uid.unwrap(),
                object["metadata"]["uid"]
            );
            return Err(Refusal::new(409, "Conflict", words));
        }
        if of.kind == "Namespace" {
            let inside: Vec<Spot> =
                self.objects.keys().filter(|s| s.namespace == spot.name).cloned().collect();
            for inner in inside {
                let kind = self
                    .kinds
                    .iter()
                    .find(|k| k.group == inner.group && k.plural == inner.plural)
                    .cloned()
                    .unwrap();
                drop(self.delete(&kind, &inner, None));
            }
        }
        if of.kind == "CustomResourceDefinition" {
            return self.delete_definition(of, spot, object);
        }
        let before = object.clone();
        if object.pointer("/metadata/deletionTimestamp").is_some() {
            return Ok(object);
        }
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:01Z");
        let grace = object.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
        let grace = grace.unwrap_or(GRACE);
        let lingers = of.kind == "Pod" && grace > 0 && object.pointer("/spec/nodeName").is_some();
        if lingers {
            object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        }
        let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        let held = lingers || finalizers.is_some_and(|all| !all.is_empty());
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if held {
            self.objects.insert(spot.clone(), object.clone());
            self.record("MODIFIED", (&of.group, &of.plural), object.clone(), Some(before));
        } else {
            self.objects.remove(spot);
            self.record("DELETED", (&of.group, &of.plural), object.clone(), Some(before));
            self.after_delete(&object);
        }
        Ok(object)
    }

    /// Asks a pod to go, as budgets allow: by their status, which a controller writes.
    pub(crate) fn evict(&mut self, spot: &Spot, uid: Option<&str>) -> Result<Value, Refusal> {
        let pod = self.find(spot)?.clone();
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default();
        // One that does not run is nobody's loss.
        if matches!(text("/status/phase"), "Pending" | "Succeeded" | "Failed")
            || !text("/metadata/deletionTimestamp").is_empty()
        {
            let of = self.served("", "v1", "pods").unwrap();
            return self.delete(&of, spot, uid);
        }
        let budgets: Vec<(Spot, Value)> = self
            .objects
            .iter()
            .filter(|(s, b)| {
                s.plural == "poddisruptionbudgets"
                    && s.namespace == spot.namespace
                    && matches(b, &pod)
            })
            .map(|(s, b)| (s.clone(), b.clone()))
            .collect();
        if budgets.len() > 1 {
            let words = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Refusal::new(500, "InternalError", words));
        }
        if let Some((place, old)) = budgets.into_iter().next() {
            let number = |path: &str| old.pointer(path).and_then(Value::as_i64).unwrap_or(0);
            let blocked = number("/status/observedGeneration") < number("/metadata/generation")
                || number("/status/disruptionsAllowed") <= 0;
            if blocked {
                let words = "Cannot evict pod as it would violate the pod's disruption budget.";
                let details = json!({"causes": [{"reason": "DisruptionBudget", "message": "The disruption budget needs more healthy pods"}]});
                return Err(Refusal(429, "TooManyRequests", words.to_owned(), details));
            }
            let of = self.kinds.iter().find(|k| k.plural == place.plural).cloned().unwrap();
            let mut budget = old.clone();
            budget["status"]["disruptionsAllowed"] =
                json!(number("/status/disruptionsAllowed") - 1);
            self.write(&of, Some(old), budget)?;
        }
        let of = self.served("", "v1", "pods").unwrap();
        self.delete(&of, spot, uid)
    }
}
