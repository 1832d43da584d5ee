//! What the fake cluster holds: objects with versions, kinds that come and go with their definitions,
//! a log of changes that can be compacted. It is stricter than the real one where that tells more.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::ssa;

/// A kind that is served.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Served {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
}

const OWN: &[(&str, &str, &str, &str, bool)] = &[
    ("", "v1", "Namespace", "namespaces", false),
    ("", "v1", "Node", "nodes", false),
    ("", "v1", "ConfigMap", "configmaps", true),
    ("", "v1", "Secret", "secrets", true),
    ("", "v1", "Service", "services", true),
    ("", "v1", "ServiceAccount", "serviceaccounts", true),
    ("", "v1", "Pod", "pods", true),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("apps", "v1", "Deployment", "deployments", true),
    ("apps", "v1", "StatefulSet", "statefulsets", true),
    ("batch", "v1", "Job", "jobs", true),
    ("policy", "v1beta1", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", false),
];

/// A refusal: the HTTP status, the reason, words, and details.
#[derive(Debug, Clone)]
pub(crate) struct Refusal(
    pub(crate) u16,
    pub(crate) &'static str,
    pub(crate) String,
    pub(crate) Value,
);

impl Refusal {
    pub(crate) fn new(code: u16, reason: &'static str, words: impl Into<String>) -> Self {
        Self(code, reason, words.into(), json!({}))
    }

    pub(crate) fn status(&self) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": self.0, "reason": self.1, "message": self.2, "details": self.3})
    }
}

/// Where an object is: plural of group, namespace, name.
pub(crate) type Spot = (String, String, String, String);

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) what: &'static str,
    pub(crate) group: String,
    pub(crate) plural: String,
    pub(crate) object: Value,
    /// As it was, for watches that it leaves.
    pub(crate) before: Option<Value>,
}

pub(crate) struct World {
    pub(crate) kinds: Vec<Served>,
    pub(crate) objects: BTreeMap<Spot, Value>,
    pub(crate) changes: Vec<Change>,
    /// Versions up to this one cannot be watched from any more.
    pub(crate) compacted: u64,
    pub(crate) version: u64,
    pub(crate) tell: watch::Sender<u64>,
    /// How long a definition takes to be established, and again until its kind is served.
    pub(crate) slow: Duration,
    next_uid: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        let own =
            |(group, version, kind, plural, namespaced): &(&str, &str, &str, &str, bool)| Served {
                group: (*group).to_owned(),
                version: (*version).to_owned(),
                kind: (*kind).to_owned(),
                plural: (*plural).to_owned(),
                namespaced: *namespaced,
            };
        let mut world = Self {
            kinds: OWN.iter().map(own).collect(),
            objects: BTreeMap::new(),
            changes: Vec::new(),
            compacted: 0,
            version: 100,
            tell: watch::channel(100).0,
            slow: Duration::from_millis(30),
            next_uid: 1,
        };
        let namespaces = world.served("", "v1", "namespaces").unwrap();
        let home =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        world.write(&namespaces, None, home).unwrap();
        world
    }

    pub(crate) fn served(&self, group: &str, version: &str, plural: &str) -> Option<Served> {
        let is = |k: &&Served| k.group == group && k.version == version && k.plural == plural;
        self.kinds.iter().find(is).cloned()
    }

    pub(crate) fn spot(of: &Served, namespace: &str, name: &str) -> Spot {
        (of.group.clone(), of.plural.clone(), namespace.to_owned(), name.to_owned())
    }

    pub(crate) fn get(&self, spot: &Spot) -> Result<&Value, Refusal> {
        let lost = || Refusal::new(404, "NotFound", format!("{} \"{}\" not found", spot.1, spot.3));
        self.objects.get(spot).ok_or_else(lost)
    }

    pub(crate) fn record(
        &mut self,
        what: &'static str,
        of: (&str, &str),
        object: Value,
        before: Option<Value>,
    ) {
        let (group, plural) = (of.0.to_owned(), of.1.to_owned());
        let version = self.version;
        self.changes.push(Change { version, what, group, plural, object, before });
        self.tell.send_replace(version);
    }

    /// Whether it may be written at all.
    pub(crate) fn admit(
        &self,
        of: &Served,
        before: Option<&Value>,
        object: &Value,
    ) -> Result<(), Refusal> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        if of.namespaced && before.is_none() {
            let home = text("/metadata/namespace");
            let spot = ("".to_owned(), "namespaces".to_owned(), String::new(), home.to_owned());
            let namespace = self.get(&spot)?;
            if namespace.pointer("/metadata/deletionTimestamp").is_some() {
                let words = format!("namespace {home} is being terminated");
                return Err(Refusal::new(403, "Forbidden", words));
            }
        }
        let invalid = |field: &str, words: &str| {
            let shown =
                format!("{} \"{}\" is invalid: {field}: {words}", of.kind, text("/metadata/name"));
            let details = json!({"causes": [{"field": field, "message": words, "reason": "FieldValueInvalid"}]});
            Refusal(422, "Invalid", shown, details)
        };
        match of.kind.as_str() {
            "ConfigMap" | "Secret" => {
                let data = object.get("data").and_then(Value::as_object).into_iter().flatten();
                if let Some((key, _)) = data.into_iter().find(|(_, value)| !value.is_string()) {
                    // The real one cannot decode it, and says 400.
                    return Err(Refusal::new(
                        400,
                        "BadRequest",
                        format!("cannot unmarshal data.{key} into a string"),
                    ));
                }
            }
            "Deployment" | "StatefulSet" => {
                if object.pointer("/spec/selector/matchLabels").is_none() {
                    return Err(invalid("spec.selector", "Required value"));
                }
                if object.pointer("/spec/template/spec/containers").is_none() {
                    return Err(invalid("spec.template.spec.containers", "Required value"));
                }
                if before.is_some_and(|old| {
                    old.pointer("/spec/selector") != object.pointer("/spec/selector")
                }) {
                    let shown = format!(
                        "Invalid value: {}: field is immutable",
                        object["spec"]["selector"]
                    );
                    return Err(invalid("spec.selector", &shown));
                }
            }
            "Job"
                if before.is_some_and(|old| {
                    old.pointer("/spec/template") != object.pointer("/spec/template")
                }) =>
            {
                return Err(invalid("spec.template", "field is immutable"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes an object as the server does; what does not change keeps its version.
    pub(crate) fn write(
        &mut self,
        of: &Served,
        before: Option<Value>,
        mut object: Value,
    ) -> Result<Value, Refusal> {
        self.admit(of, before.as_ref(), &object)?;
        object["apiVersion"] = json!(match of.group.as_str() {
            "" => of.version.clone(),
            group => format!("{group}/{}", of.version),
        });
        object["kind"] = json!(of.kind);
        match &before {
            None => {
                object["metadata"]["uid"] =
                    json!(format!("00000000-0000-0000-0000-{:012}", self.next_uid));
                object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
                object["metadata"]["generation"] = json!(1);
                self.next_uid += 1;
                if of.kind == "Namespace" {
                    object["status"] = json!({"phase": "Active"});
                }
            }
            Some(old) => {
                let spec = |value: &Value| {
                    let mut value = value.clone();
                    for field in ["apiVersion", "metadata", "status"] {
                        value.as_object_mut().unwrap().remove(field);
                    }
                    value
                };
                for field in ["uid", "creationTimestamp", "deletionTimestamp", "generation"] {
                    match old["metadata"].get(field) {
                        Some(value) => object["metadata"][field] = value.clone(),
                        None => drop(object["metadata"].as_object_mut().unwrap().remove(field)),
                    }
                }
                object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
                if object == *old {
                    return Ok(object);
                }
                if spec(&object) != spec(old) {
                    let next = old["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
                    object["metadata"]["generation"] = json!(next);
                }
            }
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let spot = Self::spot(of, &meta("namespace"), &meta("name"));
        let going = object.pointer("/metadata/deletionTimestamp").is_some();
        let held = object
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|f| !f.is_empty());
        if going && !held {
            self.objects.remove(&spot);
            self.record("DELETED", (&of.group, &of.plural), object.clone(), before);
            self.after_delete(&object);
            return Ok(object);
        }
        self.objects.insert(spot, object.clone());
        let what = if before.is_none() { "ADDED" } else { "MODIFIED" };
        self.record(what, (&of.group, &of.plural), object.clone(), before);
        Ok(object)
    }

    /// Deletes, or begins to.
    pub(crate) fn delete(
        &mut self,
        of: &Served,
        spot: &Spot,
        uid: Option<&str>,
    ) -> Result<Value, Refusal> {
        let mut object = self.get(spot)?.clone();
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
                self.objects.keys().filter(|s| s.2 == spot.3).cloned().collect();
            for inner in inside {
                let kind = self
                    .kinds
                    .iter()
                    .find(|k| k.group == inner.0 && k.plural == inner.1)
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
        let held = object
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|f| !f.is_empty());
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

    /// Its objects go first; one that is held holds it too.
    fn delete_definition(
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
        let all: Vec<Spot> =
            self.objects.keys().filter(|s| s.0 == group && s.1 == plural).cloned().collect();
        let kind = self.kinds.iter().find(|k| k.group == group && k.plural == plural).cloned();
        if let Some(kind) = kind {
            for one in all {
                drop(self.delete(&kind, &one, None));
            }
        }
        self.finish_definitions();
        Ok(object)
    }

    fn after_delete(&mut self, _gone: &Value) {
        self.finish_definitions();
    }

    /// Definitions that are going and have no objects left are gone.
    fn finish_definitions(&mut self) {
        let going: Vec<(Spot, Value)> = self
            .objects
            .iter()
            .filter(|(spot, object)| {
                spot.1 == "customresourcedefinitions"
                    && object.pointer("/metadata/deletionTimestamp").is_some()
            })
            .map(|(spot, object)| (spot.clone(), object.clone()))
            .collect();
        for (spot, object) in going {
            let text =
                |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
            if self.objects.keys().any(|s| s.0 == group && s.1 == plural) {
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
    pub(crate) fn establish(&mut self, spot: &Spot) {
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
    pub(crate) fn serve(&mut self, spot: &Spot) {
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

    /// Asks a pod to go, as budgets allow: by their status, which a controller writes.
    pub(crate) fn evict(&mut self, spot: &Spot, uid: Option<&str>) -> Result<Value, Refusal> {
        let pod = self.get(spot)?.clone();
        let labels = &pod["metadata"]["labels"];
        let matches = |budget: &Value| {
            let wanted = budget.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
            wanted.is_some_and(|all| {
                !all.is_empty() && all.iter().all(|(k, v)| labels.get(k) == Some(v))
            })
        };
        let budgets: Vec<(Spot, Value)> = self
            .objects
            .iter()
            .filter(|(s, b)| s.1 == "poddisruptionbudgets" && s.2 == spot.2 && matches(b))
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
            let of = self.kinds.iter().find(|k| k.plural == place.1).cloned().unwrap();
            let mut budget = old.clone();
            budget["status"]["disruptionsAllowed"] =
                json!(number("/status/disruptionsAllowed") - 1);
            self.write(&of, Some(old), budget)?;
        }
        let of = self.served("", "v1", "pods").unwrap();
        self.delete(&of, spot, uid)
    }
}
