//! What the fake cluster holds: objects with versions, kinds that come and go with their definitions,
//! a log of changes that can be compacted. It is stricter than the real one where that tells more.

mod account;
mod admit;
mod definition;
mod going;
mod moment;
mod seed;
mod typed;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) use typed::mistyped;

/// A kind that is served.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Served {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
}

impl Served {
    pub(crate) fn spot(&self, namespace: &str, name: &str) -> Spot {
        Spot::new(&self.group, &self.plural, namespace, name)
    }

    /// As objects have it in `apiVersion`.
    pub(crate) fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }
}

/// The kinds that every server has.
const OWN: &[(&str, &str, &str, &str, bool)] = &[
    ("", "v1", "Namespace", "namespaces", false),
    ("", "v1", "Node", "nodes", false),
    ("", "v1", "ConfigMap", "configmaps", true),
    ("", "v1", "Secret", "secrets", true),
    ("", "v1", "Service", "services", true),
    ("", "v1", "ServiceAccount", "serviceaccounts", true),
    ("", "v1", "Pod", "pods", true),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("", "v1", "PersistentVolume", "persistentvolumes", false),
    ("", "v1", "ResourceQuota", "resourcequotas", true),
    ("", "v1", "LimitRange", "limitranges", true),
    ("", "v1", "Event", "events", true),
    ("apps", "v1", "Deployment", "deployments", true),
    ("apps", "v1", "StatefulSet", "statefulsets", true),
    ("apps", "v1", "DaemonSet", "daemonsets", true),
    ("apps", "v1", "ReplicaSet", "replicasets", true),
    ("batch", "v1", "Job", "jobs", true),
    ("batch", "v1", "CronJob", "cronjobs", true),
    ("networking.k8s.io", "v1", "Ingress", "ingresses", true),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", true),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", true),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", true),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", false),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses", false),
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

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The group of its kind; empty for the core.
    pub group: String,
    /// The kind, in many, as in paths: `configmaps`.
    pub plural: String,
    /// Empty for what lives in none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Spot {
    /// Of its parts.
    pub fn new(group: &str, plural: &str, namespace: &str, name: &str) -> Self {
        Self {
            group: group.to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

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

/// What the cluster holds.
pub struct World {
    pub(crate) kinds: Vec<Served>,
    pub(crate) objects: BTreeMap<Spot, Value>,
    pub(crate) changes: Vec<Change>,
    /// Versions up to this one cannot be watched from any more.
    pub(crate) compacted: u64,
    pub(crate) version: u64,
    pub(crate) tell: watch::Sender<u64>,
    /// How long each thing takes that others do: a definition is established, and again until its kind
    /// is served, a pod ends, a workload runs.
    pub(crate) slow: Duration,
    /// Whether somebody ends pods that were told to go.
    pub(crate) kubelets: bool,
    /// Whether somebody runs workloads.
    pub(crate) controllers: bool,
    /// What no controller sees to.
    pub(crate) stalled: BTreeSet<Spot>,
    /// Tokens of accounts.
    given: Vec<account::Given>,
    next_uid: u64,
}

impl World {
    /// Empty, as a server of release 1.`minor` has it.
    pub(crate) fn new(minor: u32) -> Self {
        let own =
            |(group, version, kind, plural, namespaced): &(&str, &str, &str, &str, bool)| Served {
                group: (*group).to_owned(),
                version: (*version).to_owned(),
                kind: (*kind).to_owned(),
                plural: (*plural).to_owned(),
                namespaced: *namespaced,
            };
        let mut world = Self {
            kinds: OWN.iter().map(own).filter(|kind| has(minor, kind)).collect(),
            objects: BTreeMap::new(),
            changes: Vec::new(),
            compacted: 0,
            version: 100,
            tell: watch::channel(100).0,
            slow: Duration::from_millis(30),
            kubelets: true,
            controllers: false,
            stalled: BTreeSet::new(),
            given: Vec::new(),
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

    pub(crate) fn find(&self, spot: &Spot) -> Result<&Value, Refusal> {
        let lost = || {
            Refusal::new(404, "NotFound", format!("{} \"{}\" not found", spot.plural, spot.name))
        };
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

    /// Writes an object as the server does; what does not change keeps its version.
    pub(crate) fn write(
        &mut self,
        of: &Served,
        before: Option<Value>,
        mut object: Value,
    ) -> Result<Value, Refusal> {
        self.admit(of, before.as_ref(), &object)?;
        object["apiVersion"] = json!(of.api_version());
        object["kind"] = json!(of.kind);
        if of.kind == "Secret" {
            encode(&mut object);
        }
        match &before {
            None => {
                object["metadata"]["uid"] =
                    json!(format!("00000000-0000-0000-0000-{:012}", self.next_uid));
                object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
                object["metadata"]["generation"] = json!(1);
                self.next_uid += 1;
                begun(of, &mut object);
            }
            Some(old) => {
                let spec = |value: &Value| {
                    let mut value = value.clone();
                    for field in ["apiVersion", "metadata", "status"] {
                        value.as_object_mut().unwrap().remove(field);
                    }
                    value
                };
                for field in [
                    "uid",
                    "creationTimestamp",
                    "deletionTimestamp",
                    "deletionGracePeriodSeconds",
                    "generation",
                ] {
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
        let spot = of.spot(&meta("namespace"), &meta("name"));
        let going = object.pointer("/metadata/deletionTimestamp").is_some();
        let held = object
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|f| !f.is_empty());
        if going && !held && !moment::lingers(&object) {
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
}

/// Whether release 1.`minor` serves a kind.
fn has(minor: u32, kind: &Served) -> bool {
    match (kind.group.as_str(), kind.version.as_str()) {
        ("policy", "v1beta1") => minor < 25,
        ("policy", _) => minor >= 21,
        _ => true,
    }
}

/// The texts of a Secret, encoded. Who wrote them goes on owning `stringData`, so that a key which is no
/// longer there stays in `data`: the real one does the same.
fn encode(secret: &mut Value) {
    let Some(Value::Object(texts)) = secret.as_object_mut().unwrap().remove("stringData") else {
        return;
    };
    for (key, text) in texts {
        let text = text.as_str().unwrap_or_default();
        secret["data"][key] = json!(base64::engine::general_purpose::STANDARD.encode(text));
    }
}

fn is_ready(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// What the server itself adds to a new object.
fn begun(of: &Served, object: &mut Value) {
    match of.kind.as_str() {
        "Namespace" => object["status"] = json!({"phase": "Active"}),
        "Pod" if object.pointer("/status/phase").is_none() => {
            object["status"]["phase"] = json!("Pending");
        }
        // Whoever watches over nodes takes it away again once the kubelet says that it is ready.
        "Node" if !is_ready(object) => {
            let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
            match object.pointer_mut("/spec/taints").and_then(Value::as_array_mut) {
                Some(taints) => taints.push(taint),
                None => object["spec"]["taints"] = json!([taint]),
            }
        }
        _ => {}
    }
}
