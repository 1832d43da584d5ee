//! Access to one namespace for one person, for a while: an account that is made for it, bound to one of the
//! cluster's own roles, and a token that ends.
//!
//! The account is in a namespace of its own, in which nobody else has rights: who may change what runs in a
//! namespace may make tokens for the accounts in it, and would have those of others. With the account every
//! token of it ends, whatever the token says. The token is in no object, error or log.

mod hand;
mod kubeconfig;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::Selector;
use crate::key::{Kind, ObjectKey};
use crate::namespace::Role;

pub use hand::{GrantError, Grants};
pub use kubeconfig::Kubeconfig;

/// The namespace of the accounts.
pub const HOME: &str = "trueup-access";
/// The label of all that is made for access, its value the cluster's name; and the annotation that says
/// what it is.
pub const MARK: &str = "trueup.io/access";
/// The value of [`MARK`] at the namespace of the accounts.
const HOME_MARK: &str = "home";
/// The shortest time that a token can be for, seconds: servers refuse less.
pub const SECONDS_MIN: u64 = 600;
/// The group of roles and their bindings.
const RBAC: &str = "rbac.authorization.k8s.io";

/// Access for somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What tells it from all others of the cluster.
    pub number: u64,
    /// Whom it is for.
    pub user: String,
    /// Where.
    pub namespace: String,
    /// What they may do there.
    pub role: Role,
    /// Until when.
    pub until: Timestamp,
}

/// Something of ours that gives somebody access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// It.
    pub key: ObjectKey,
    /// That very one.
    pub uid: String,
}

/// Access that a cluster has, as far as it is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What its objects are called.
    pub name: String,
    /// Its number; `None`: the name has none.
    pub number: Option<u64>,
    /// What its binding lets do, and where; `None`: it has none, or one that nobody can read.
    pub lets: Option<(String, Role)>,
    /// Its objects: the account first, with which all tokens end.
    pub parts: Vec<Part>,
}

/// A token. It is shown by nothing here.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Accounts.
pub fn accounts() -> Kind {
    Kind::new("", "v1", "ServiceAccount")
}

/// Bindings.
pub fn bindings() -> Kind {
    Kind::new(RBAC, "v1", "RoleBinding")
}

/// What of a kind is ours in this cluster.
pub fn selector(cluster: &str) -> Selector {
    Selector { namespace: None, labels: Some(format!("{MARK}={cluster}")), fields: None }
}

fn prefix(cluster: &str) -> String {
    format!("trueup-{cluster}-")
}

impl Grant {
    /// What its objects are called.
    pub fn name(&self, cluster: &str) -> String {
        format!("{}{}", prefix(cluster), self.number)
    }

    fn metadata(&self, cluster: &str, namespace: &str) -> Value {
        let note = json!({"user": self.user, "role": self.role, "until": self.until}).to_string();
        json!({
            "name": self.name(cluster), "namespace": namespace,
            "labels": {MARK: cluster}, "annotations": {MARK: note},
        })
    }

    fn account(&self, cluster: &str, home: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": self.metadata(cluster, home),
            // Nothing but the one token that is asked for, and no pod with it.
            "automountServiceAccountToken": false,
        })
    }

    fn binding(&self, cluster: &str, home: &str) -> Value {
        json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding",
            "metadata": self.metadata(cluster, &self.namespace),
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": self.role.as_str()},
            "subjects": [{
                "kind": "ServiceAccount", "name": self.name(cluster), "namespace": home,
            }],
        })
    }
}

/// The namespace of the accounts.
fn home(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {MARK: HOME_MARK}},
    })
}

/// What of these objects gives somebody access, and is ours.
pub fn found<'a>(cluster: &str, objects: impl IntoIterator<Item = &'a Value>) -> Vec<Found> {
    let mut all: BTreeMap<String, Found> = BTreeMap::new();
    for object in objects {
        let label = object.pointer("/metadata/labels").and_then(|labels| labels.get(MARK));
        if label.and_then(Value::as_str) != Some(cluster) {
            continue;
        }
        let Some(key) = ObjectKey::of(object) else { continue };
        let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        let found = all.entry(key.name.clone()).or_insert_with(|| Found {
            number: key.name.strip_prefix(&prefix(cluster)).and_then(|number| number.parse().ok()),
            name: key.name.clone(),
            lets: None,
            parts: Vec::new(),
        });
        if key.kind == "RoleBinding" {
            found.lets = lets(&key, object);
        }
        found.parts.push(Part { key, uid: uid.to_owned() });
    }
    let mut all: Vec<Found> = all.into_values().collect();
    for found in &mut all {
        found.parts.sort_by_key(|part| (part.key.kind != "ServiceAccount", part.key.clone()));
    }
    all.sort_by_key(|found| found.number);
    all
}

fn lets(key: &ObjectKey, binding: &Value) -> Option<(String, Role)> {
    let role = binding.pointer("/roleRef/name").and_then(Value::as_str)?;
    let role = [Role::View, Role::Edit, Role::Admin].into_iter().find(|it| it.as_str() == role)?;
    Some((key.namespace.clone()?, role))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant {
            number: 812,
            user: "ann".into(),
            namespace: "research".into(),
            role: Role::Edit,
            until: Timestamp::from_second(1_800_000_000).unwrap(),
        }
    }

    #[test]
    fn what_is_made_is_found_and_nothing_of_others() {
        let (mut account, mut binding) =
            (grant().account("cloud", HOME), grant().binding("cloud", HOME));
        account["metadata"]["uid"] = json!("a");
        binding["metadata"]["uid"] = json!("b");
        // Of another cluster, of nobody, and one whose name says nothing.
        let mut other = grant().account("lab", HOME);
        other["metadata"]["name"] = json!("trueup-cloud-7");
        let bare = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "trueup-cloud-8", "namespace": HOME}});
        let mut odd = grant().account("cloud", HOME);
        odd["metadata"]["name"] = json!("ann");
        let all = found("cloud", [&binding, &account, &other, &bare, &odd]);
        let shown: Vec<_> =
            all.iter().map(|it| (it.name.as_str(), it.number, it.parts.len())).collect();
        assert_eq!(shown, [("ann", None, 1), ("trueup-cloud-812", Some(812), 2)]);
        assert_eq!(all[1].lets, Some(("research".to_owned(), Role::Edit)));
        assert_eq!(all[1].parts[0].key.kind, "ServiceAccount", "with it all tokens end");
        assert_eq!(all[1].parts[0].uid, "a");
        // The cluster `cloud-8` is another one than `cloud`.
        assert_eq!(grant().name("cloud"), "trueup-cloud-812");
        assert_eq!(found("cloud", [&grant().account("cloud-8", HOME)]), []);
    }

    #[test]
    fn accounts_are_where_nobody_who_may_edit_can_make_tokens_for_them() {
        assert_eq!(grant().account("cloud", HOME)["metadata"]["namespace"], HOME);
        let binding = grant().binding("cloud", HOME);
        assert_eq!(binding["metadata"]["namespace"], "research");
        assert_eq!(binding["subjects"][0]["namespace"], HOME);
        assert!(!format!("{:?}", Token::new("hunter2")).contains("hunter2"));
    }
}
