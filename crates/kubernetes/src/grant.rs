//! Access to one namespace for one person, for a while: an account that is made for it, bound to one of the
//! cluster's own roles, and a token that ends.
//!
//! The account is in a namespace of its own, in which nobody else has rights: who may change what runs in a
//! namespace may make tokens for the accounts in it, and would have those of others. With the account every
//! token of it ends, whatever the token says. The token is in no object, error or log.
//!
//! All of it says which log gave it. Hosts that call one cluster the same leave each other's alone for as long
//! as it counts.

mod hand;
mod kubeconfig;

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
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
/// The label that says which log gave it.
pub const LOG: &str = "trueup.io/access-log";
/// For how long after its end what another log gave is left to that log: clocks differ.
const LEFT_TO_OTHERS: SignedDuration = SignedDuration::from_hours(1);
/// The value of [`MARK`] at the namespace of the accounts.
const HOME_MARK: &str = "home";
/// The shortest time that a token can be for, seconds: servers refuse less.
pub const SECONDS_MIN: u64 = 600;
/// The group of roles and their bindings.
const RBAC: &str = "rbac.authorization.k8s.io";

/// Who gives access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Giver {
    /// What the cluster is called there.
    pub cluster: String,
    /// What tells the log in which that is from all others, in letters and digits.
    pub log: String,
}

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

impl Giver {
    /// What of a kind was given under that name of the cluster, by whatever log.
    pub fn selector(&self) -> Selector {
        let labels = Some(format!("{MARK}={}", self.cluster));
        Selector { namespace: None, labels, fields: None }
    }

    /// How the names begin of what it gives.
    fn prefix(&self) -> String {
        format!("trueup-{}-{}-", self.cluster, self.log)
    }
}

impl Grant {
    /// What its objects are called.
    pub fn name(&self, giver: &Giver) -> String {
        format!("{}{}", giver.prefix(), self.number)
    }

    fn metadata(&self, giver: &Giver, namespace: &str) -> Value {
        let note = json!({"user": self.user, "role": self.role, "until": self.until}).to_string();
        json!({
            "name": self.name(giver), "namespace": namespace,
            "labels": {MARK: giver.cluster, LOG: giver.log}, "annotations": {MARK: note},
        })
    }

    fn account(&self, giver: &Giver, home: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": self.metadata(giver, home),
            // Nothing but the one token that is asked for, and no pod with it.
            "automountServiceAccountToken": false,
        })
    }

    fn binding(&self, giver: &Giver, home: &str) -> Value {
        json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding",
            "metadata": self.metadata(giver, &self.namespace),
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": self.role.as_str()},
            "subjects": [{
                "kind": "ServiceAccount", "name": self.name(giver), "namespace": home,
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

/// What of these objects gives somebody access, and is for this log to see to: its own, what says of no log,
/// and what another one left behind.
pub fn found<'a>(
    giver: &Giver,
    now: Timestamp,
    objects: impl IntoIterator<Item = &'a Value>,
) -> Vec<Found> {
    let mut all: BTreeMap<(Option<u64>, String), Found> = BTreeMap::new();
    for object in objects {
        let label = |name: &str| {
            let labels = object.pointer("/metadata/labels");
            labels.and_then(|labels| labels.get(name)).and_then(Value::as_str)
        };
        if label(MARK) != Some(giver.cluster.as_str()) {
            continue;
        }
        let log = label(LOG);
        let is_own = log == Some(giver.log.as_str());
        if log.is_some() && !is_own && !is_left_behind(object, now) {
            continue;
        }
        let Some(key) = ObjectKey::of(object) else { continue };
        let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        // Whoever only has its name is not it.
        let own = key.name.strip_prefix(&giver.prefix()).filter(|_| is_own);
        let number = own.and_then(|number| number.parse().ok());
        let found = all.entry((number, key.name.clone())).or_insert_with(|| Found {
            number,
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
    all
}

/// Whether what another log gave is over for so long that nobody seems to see to it.
fn is_left_behind(object: &Value, now: Timestamp) -> bool {
    let note = object.pointer("/metadata/annotations").and_then(|all| all.get(MARK));
    let note = note.and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
    let until = note.as_ref().and_then(|note: &Value| note.get("until")?.as_str());
    let until = until.and_then(|text| text.parse::<Timestamp>().ok());
    until.is_some_and(|until| now.duration_since(until) > LEFT_TO_OTHERS)
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

    fn giver(cluster: &str, log: &str) -> Giver {
        Giver { cluster: cluster.into(), log: log.into() }
    }

    fn here() -> Giver {
        giver("cloud", "0a1b")
    }

    fn now() -> Timestamp {
        grant().until - SignedDuration::from_hours(2)
    }

    #[test]
    fn what_is_made_is_found_and_nothing_of_others() {
        let (mut account, mut binding) =
            (grant().account(&here(), HOME), grant().binding(&here(), HOME));
        account["metadata"]["uid"] = json!("a");
        binding["metadata"]["uid"] = json!("b");
        // Of another cluster, of nobody, and one whose name says nothing.
        let mut other = grant().account(&giver("lab", "0a1b"), HOME);
        other["metadata"]["name"] = json!("trueup-cloud-0a1b-7");
        let bare = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "trueup-cloud-0a1b-8", "namespace": HOME}});
        let mut odd = grant().account(&here(), HOME);
        odd["metadata"]["name"] = json!("ann");
        let all = found(&here(), now(), [&binding, &account, &other, &bare, &odd]);
        let shown: Vec<_> =
            all.iter().map(|it| (it.name.as_str(), it.number, it.parts.len())).collect();
        assert_eq!(shown, [("ann", None, 1), ("trueup-cloud-0a1b-812", Some(812), 2)]);
        assert_eq!(all[1].lets, Some(("research".to_owned(), Role::Edit)));
        assert_eq!(all[1].parts[0].key.kind, "ServiceAccount", "with it all tokens end");
        assert_eq!(all[1].parts[0].uid, "a");
        // The cluster `cloud-8` is another one than `cloud`.
        assert_eq!(grant().name(&here()), "trueup-cloud-0a1b-812");
        let eight = grant().account(&giver("cloud-8", "0a1b"), HOME);
        assert_eq!(found(&here(), now(), [&eight]), []);
    }

    #[test]
    fn what_another_log_gave_is_left_to_it_until_it_is_long_over() {
        let there = giver("cloud", "ffff");
        let theirs = [grant().account(&there, HOME), grant().binding(&there, HOME)];
        assert_ne!(grant().name(&there), grant().name(&here()), "under a name of its own");
        let seen = |giver: &Giver, at: Timestamp| {
            let found = found(giver, at, &theirs);
            found.iter().map(|it| (it.number, it.parts.len())).collect::<Vec<_>>()
        };
        assert_eq!(seen(&there, now()), [(Some(812), 2)]);
        assert_eq!(seen(&here(), now()), []);
        assert_eq!(seen(&here(), grant().until), [], "clocks differ");
        // Whoever gave it is gone: it is nobody's here, whatever its number.
        assert_eq!(seen(&here(), grant().until + SignedDuration::from_hours(2)), [(None, 2)]);
    }

    #[test]
    fn what_says_of_no_log_or_only_has_the_name_is_nothing_that_was_given() {
        let mut forged = grant().account(&here(), HOME);
        forged["metadata"]["labels"] = json!({MARK: "cloud"});
        let binding = grant().binding(&here(), HOME);
        let all = found(&here(), now(), [&forged, &binding]);
        let shown: Vec<_> = all.iter().map(|it| (it.number, it.parts.len())).collect();
        assert_eq!(shown, [(None, 1), (Some(812), 1)]);
    }

    #[test]
    fn accounts_are_where_nobody_who_may_edit_can_make_tokens_for_them() {
        assert_eq!(grant().account(&here(), HOME)["metadata"]["namespace"], HOME);
        let binding = grant().binding(&here(), HOME);
        assert_eq!(binding["metadata"]["namespace"], "research");
        assert_eq!(binding["subjects"][0]["namespace"], HOME);
        assert!(!format!("{:?}", Token::new("hunter2")).contains("hunter2"));
    }
}
