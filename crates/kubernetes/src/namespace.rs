//! Namespaces with what is around them, as the manifests of one release. Pure.
//!
//! A namespace that is no longer wished stays, with all that is in it: only what was put around it goes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::release::{BadName, KEEP, Manifest, ManifestError, ReleaseName, Wish};

/// Where the inventory of that release is.
const HOME: &str = "kube-system";
/// Begins its name.
const RELEASE: &str = "cluster-";
/// The name of what is put around a namespace.
const AROUND: &str = "trueup";

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What all in it may ask for together: `requests.cpu`, `requests.nvidia.com/gpu`, `pods`.
    pub quota: BTreeMap<String, String>,
    /// What one container gets that says nothing, and may say.
    pub limits: ContainerLimits,
    /// Who may do what in it.
    pub access: BTreeMap<Role, BTreeSet<Subject>>,
    /// Who reaches its pods.
    pub network: NetworkRule,
}

/// What one container gets that says nothing, and may say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerLimits {
    /// Its limits, where it has none.
    pub default: BTreeMap<String, String>,
    /// What it asks for, where it does not say.
    pub default_request: BTreeMap<String, String>,
    /// The most that it may say.
    pub max: BTreeMap<String, String>,
    /// The least.
    pub min: BTreeMap<String, String>,
}

/// What somebody may do; each is the cluster's own role of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Look, but not at Secrets.
    View,
    /// Change what runs.
    Edit,
    /// That, and give others rights in the namespace.
    Admin,
}

impl Role {
    /// As the cluster calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Edit => "edit",
            Self::Admin => "admin",
        }
    }
}

/// Who.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// All of a group, as whoever authenticates them says.
    Group(String),
    /// One.
    User(String),
}

/// Who reaches the pods of a namespace. A network that knows no policies reaches all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NetworkRule {
    /// Everybody.
    #[default]
    Open,
    /// Pods of the same namespace.
    SameNamespace,
    /// Nobody, and they reach nobody.
    DenyAll,
}

/// The name of the release of a cluster's namespaces.
///
/// # Errors
/// [`BadName`] where the cluster's name is too long for one.
pub fn release(cluster: &str) -> Result<ReleaseName, BadName> {
    ReleaseName::new(HOME, &format!("{RELEASE}{cluster}"))
}

/// The release of a cluster's namespaces. `adopt`: those that are there already become ours.
///
/// # Errors
/// [`ManifestError`] where a name is none.
pub fn wish(
    release: ReleaseName,
    namespaces: &[Namespace],
    adopt: bool,
) -> Result<Wish, ManifestError> {
    let objects = namespaces.iter().flat_map(objects);
    let manifests: Result<Vec<_>, _> =
        objects.map(|object| Manifest::made("namespaces", object)).collect();
    Ok(Wish { adopt, ..Wish::new(release, manifests?) })
}

/// The objects of one namespace.
fn objects(of: &Namespace) -> Vec<Value> {
    let mut meta = json!({"name": of.name, "annotations": {KEEP: "false"}});
    if !of.labels.is_empty() {
        meta["labels"] = json!(of.labels);
    }
    let mut all = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})];
    let inside = |kind: &str, api: &str, name: &str, field: &str, value: Value| {
        json!({
            "apiVersion": api, "kind": kind,
            "metadata": {"name": name, "namespace": of.name}, field: value,
        })
    };
    if !of.quota.is_empty() {
        all.push(inside("ResourceQuota", "v1", AROUND, "spec", json!({"hard": of.quota})));
    }
    if of.limits != ContainerLimits::default() {
        let limit = limit(&of.limits);
        all.push(inside("LimitRange", "v1", AROUND, "spec", json!({"limits": [limit]})));
    }
    if let Some(spec) = policy(of.network) {
        all.push(inside("NetworkPolicy", "networking.k8s.io/v1", AROUND, "spec", spec));
    }
    for (role, subjects) in of.access.iter().filter(|(_, subjects)| !subjects.is_empty()) {
        let subjects: Vec<Value> = subjects.iter().map(subject).collect();
        let name = format!("{AROUND}-{}", role.as_str());
        let api = "rbac.authorization.k8s.io/v1";
        let mut binding = inside("RoleBinding", api, &name, "subjects", Value::from(subjects));
        binding["roleRef"] = json!({
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role.as_str(),
        });
        all.push(binding);
    }
    all
}

fn limit(limits: &ContainerLimits) -> Value {
    let mut limit = Map::from_iter([("type".to_owned(), json!("Container"))]);
    let parts = [
        ("default", &limits.default),
        ("defaultRequest", &limits.default_request),
        ("max", &limits.max),
        ("min", &limits.min),
    ];
    let parts = parts.into_iter().filter(|(_, amounts)| !amounts.is_empty());
    limit.extend(parts.map(|(name, amounts)| (name.to_owned(), json!(amounts))));
    Value::Object(limit)
}

fn policy(rule: NetworkRule) -> Option<Value> {
    match rule {
        NetworkRule::Open => None,
        NetworkRule::SameNamespace => Some(json!({
            "podSelector": {}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {}}]}],
        })),
        NetworkRule::DenyAll => {
            Some(json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}))
        }
    }
}

fn subject(of: &Subject) -> Value {
    let (kind, name) = match of {
        Subject::Group(name) => ("Group", name),
        Subject::User(name) => ("User", name),
    };
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_only_what_was_asked_for_around_it() {
        let release = release("cloud").unwrap();
        assert_eq!(release.to_string(), "kube-system/cluster-cloud");
        let bare = Namespace { name: "shop".into(), ..Namespace::default() };
        let made = wish(release.clone(), std::slice::from_ref(&bare), false).unwrap();
        let keys: Vec<String> = made.manifests.iter().map(|m| m.key.to_string()).collect();
        assert_eq!(keys, ["Namespace shop"]);
        assert_eq!(made.manifests[0].object["metadata"]["annotations"][KEEP], "false");

        let group = Subject::Group("vision".into());
        let whole = Namespace {
            quota: BTreeMap::from([("pods".into(), "10".into())]),
            limits: ContainerLimits {
                max: BTreeMap::from([("cpu".into(), "4".into())]),
                ..ContainerLimits::default()
            },
            access: BTreeMap::from([(Role::Edit, BTreeSet::from([group]))]),
            network: NetworkRule::SameNamespace,
            ..bare
        };
        let made = wish(release, &[whole], true).unwrap();
        let keys: Vec<String> = made.manifests.iter().map(|m| m.key.to_string()).collect();
        assert_eq!(
            keys,
            [
                "Namespace shop",
                "ResourceQuota shop/trueup",
                "LimitRange shop/trueup",
                "NetworkPolicy shop/trueup",
                "RoleBinding shop/trueup-edit"
            ]
        );
        assert_eq!(
            made.manifests[2].object["spec"]["limits"],
            json!([{"type": "Container", "max": {"cpu": "4"}}])
        );
        let binding = &made.manifests[4].object;
        assert_eq!(binding["roleRef"]["name"], "edit");
        assert_eq!(binding["subjects"][0]["kind"], "Group");
        assert!(made.adopt);
    }
}
