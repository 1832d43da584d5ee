//! What names an object of a cluster, and which kinds live in namespaces. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an object is known by for as long as it lives. The version of its API is not part of it: a
/// manifest that moves from `v1beta1` to `v1` means the same object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The API group; empty for the core one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The kind, as manifests spell it.
    pub kind: String,
    /// The namespace; `None` for what belongs to the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// A key of its parts.
    pub fn new(group: &str, kind: &str, namespace: Option<&str>, name: &str) -> Self {
        Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    /// The key of an object as it stands; `None` where it has no kind or no name.
    pub fn of(object: &Value) -> Option<Self> {
        let kind = Kind::of(object)?;
        let meta = object.get("metadata")?;
        Some(Self {
            group: kind.group,
            kind: kind.kind,
            namespace: meta.get("namespace").and_then(Value::as_str).map(str::to_owned),
            name: meta.get("name")?.as_str()?.to_owned(),
        })
    }

    /// Whether its values must never be shown.
    pub fn is_secret(&self) -> bool {
        self.group.is_empty() && self.kind == "Secret"
    }

    /// Whether it is the definition of other kinds.
    pub fn is_definition(&self) -> bool {
        self.group == "apiextensions.k8s.io" && self.kind == "CustomResourceDefinition"
    }

    /// Whether it is a namespace.
    pub fn is_namespace(&self) -> bool {
        self.group.is_empty() && self.kind == "Namespace"
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A kind in one version of its API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kind {
    /// The API group; empty for the core one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The version, as `v1`.
    pub version: String,
    /// The kind.
    pub kind: String,
}

impl Kind {
    /// A kind of its parts.
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        Self { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
    }

    /// The kind of an object, by its `apiVersion` and `kind`.
    pub fn of(object: &Value) -> Option<Self> {
        let api = object.get("apiVersion")?.as_str()?;
        let kind = object.get("kind")?.as_str()?;
        let (group, version) = api.rsplit_once('/').unwrap_or(("", api));
        Some(Self::new(group, version, kind))
    }

    /// As `apiVersion` spells it.
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.kind, self.api_version())
    }
}

/// Kinds of Kubernetes itself that belong to the whole cluster (`kubectl api-resources
/// --namespaced=false`); all others of its groups live in namespaces.
const CLUSTER_WIDE: &[(&str, &str)] = &[
    ("", "ComponentStatus"),
    ("", "Namespace"),
    ("", "Node"),
    ("", "PersistentVolume"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("networking.k8s.io", "IngressClass"),
    ("node.k8s.io", "RuntimeClass"),
    ("policy", "PodSecurityPolicy"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("resource.k8s.io", "DeviceClass"),
    ("resource.k8s.io", "ResourceSlice"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "VolumeAttachment"),
];

/// Groups of Kubernetes itself, beside those that end in `.k8s.io` and are in [`CLUSTER_WIDE`].
const OWN_GROUPS: &[&str] = &[
    "",
    "apps",
    "autoscaling",
    "batch",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
];

/// Which kinds live in namespaces: Kubernetes' own are known, others are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(BTreeMap<(String, String), bool>);

impl Scopes {
    /// Notes what the server, or a definition, says of a kind.
    pub fn learn(&mut self, group: &str, kind: &str, namespaced: bool) {
        self.0.insert((group.to_owned(), kind.to_owned()), namespaced);
    }

    /// Notes what a definition says of the kind that it defines.
    pub fn learn_from(&mut self, definition: &Value) {
        let of = |path: &str| definition.pointer(path).and_then(Value::as_str);
        let parts = (of("/spec/group"), of("/spec/names/kind"), of("/spec/scope"));
        if let (Some(group), Some(kind), Some(scope)) = parts {
            self.learn(group, kind, scope == "Namespaced");
        }
    }

    /// Whether a kind lives in namespaces; `None` where nobody has said it yet.
    pub fn namespaced(&self, group: &str, kind: &str) -> Option<bool> {
        if let Some(known) = self.0.get(&(group.to_owned(), kind.to_owned())) {
            return Some(*known);
        }
        if CLUSTER_WIDE.contains(&(group, kind)) {
            return Some(false);
        }
        OWN_GROUPS.contains(&group).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_has_one_key_in_every_version() {
        let of = |version: &str| {
            ObjectKey::of(&json!({
                "apiVersion": version, "kind": "Ingress",
                "metadata": {"name": "web", "namespace": "shop"}
            }))
        };
        assert_eq!(of("networking.k8s.io/v1"), of("networking.k8s.io/v1beta1"));
        assert_eq!(of("networking.k8s.io/v1").unwrap().to_string(), "Ingress shop/web");
        assert_eq!(ObjectKey::of(&json!({"kind": "Pod", "metadata": {"name": "x"}})), None);
    }

    #[test]
    fn scopes_are_known_or_learned() {
        let mut scopes = Scopes::default();
        assert_eq!(scopes.namespaced("", "Namespace"), Some(false));
        assert_eq!(scopes.namespaced("apps", "Deployment"), Some(true));
        assert_eq!(scopes.namespaced("example.org", "Widget"), None);
        scopes.learn_from(&json!({
            "spec": {"group": "example.org", "names": {"kind": "Widget"}, "scope": "Cluster"}
        }));
        assert_eq!(scopes.namespaced("example.org", "Widget"), Some(false));
    }
}
