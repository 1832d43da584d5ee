//! Kinds that come and go with their definitions.

use serde_json::{Value, json};

use super::{Refusal, Served, Spot, World};
use crate::ssa;

impl World {
    /// Its objects go first; one that is held holds it too.
    pub(super) fn delete_definition(
        &mut self,
        of: &Served,
        spot: &Spot,
        mut object: Value,
    ) -> Result<Value, Refusal> {
        let group =
            object.pointer("/spec/group").and_then(Value::as_str).unwrap_or_default().to_owned();
        let plural = object
            .pointer("/spec/names/plural")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let before = object.clone();
        self.version += 1;
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:01Z");
        object["metadata"]["finalizers"] = json!(["customresourcecleanup.apiextensions.k8s.io"]);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(spot.clone(), object.clone());
        self.record("MODIFIED", (&of.group, &of.plural), object.clone(), Some(before));
        let all: Vec<Spot> = self
            .objects
            .keys()
            .filter(|s| s.group == group && s.plural == plural)
            .cloned()
            .collect();
        let kind = self.kinds.iter().find(|k| k.group == group && k.plural == plural).cloned();
        if let Some(kind) = kind {
            for one in all {
                drop(self.delete(&kind, &one, None));
            }
        }
        self.finish_definitions();
        Ok(object)
    }

    pub(super) fn after_delete(&mut self, _gone: &Value) {
        self.finish_definitions();
    }

    /// Definitions that are going and have no objects left are gone.
    fn finish_definitions(&mut self) {
        let going: Vec<(Spot, Value)> = self
            .objects
            .iter()
            .filter(|(spot, object)| {
                spot.plural == "customresourcedefinitions"
                    && object.pointer("/metadata/deletionTimestamp").is_some()
            })
            .map(|(spot, object)| (spot.clone(), object.clone()))
            .collect();
        for (spot, object) in going {
            let text =
                |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
            if self.objects.keys().any(|s| s.group == group && s.plural == plural) {
                continue;
            }
            self.kinds.retain(|kind| kind.group != group || kind.plural != plural);
            self.objects.remove(&spot);
            self.version += 1;
            self.record(
                "DELETED",
                ("apiextensions.k8s.io", "customresourcedefinitions"),
                object.clone(),
                Some(object.clone()),
            );
        }
    }

    /// Says that a definition is established.
    pub(super) fn establish(&mut self, spot: &Spot) {
        let Some(of) = self.served("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        else {
            return;
        };
        let Some(old) = self.objects.get(spot).cloned() else { return };
        if old.pointer("/status/conditions").is_some() {
            return;
        }
        let mut object = old.clone();
        object["status"] = json!({"conditions": [
            {"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"}]});
        ssa::update(&old, &mut object, "kube-apiserver", "status");
        drop(self.write(&of, Some(old), object));
    }

    /// Serves what a definition defines.
    pub(super) fn serve(&mut self, spot: &Spot) {
        let Some(object) = self.objects.get(spot).cloned() else { return };
        let text = |path: &str| {
            object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        for version in
            object.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten()
        {
            let served = Served {
                group: text("/spec/group"),
                version: version["name"].as_str().unwrap_or_default().to_owned(),
                kind: text("/spec/names/kind"),
                plural: text("/spec/names/plural"),
                namespaced: text("/spec/scope") == "Namespaced",
            };
            if version["served"] == true && !self.kinds.contains(&served) {
                self.kinds.push(served);
            }
        }
    }
}
