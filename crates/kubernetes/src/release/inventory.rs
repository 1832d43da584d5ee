//! What a release has made, kept in a ConfigMap of its namespace. Pure.
//!
//! It is written before the first object of a change is (what was there and what will be), and cut down
//! once the change is done, so that a crash anywhere leaves nothing that nobody knows of.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::key::{Kind, ObjectKey};

/// The annotation of every object of a release: `namespace/name` of it.
pub const OWNER: &str = "trueup.io/release";
/// The annotation of an inventory: who keeps the release. Two hosts that both did would undo each other's
/// work.
pub const HOLDER: &str = "trueup.io/holder";
/// The label of every object of a release, for watches: a label holds no `/`.
pub const LABEL: &str = "trueup.io/release";
/// An annotation that keeps an object that its release no longer asks for: `trueup.io/prune: "false"`.
pub const KEEP: &str = "trueup.io/prune";
/// An annotation that lets an object be destroyed and made anew where a field cannot be changed:
/// `trueup.io/replace: "true"`.
pub const REPLACE: &str = "trueup.io/replace";
/// Longest name of a release: names of objects have at most 253 characters, label values 63.
pub const NAME_MAX: usize = 50;
/// The version of the inventory's form.
const VERSION: u32 = 1;

/// Names a release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReleaseName {
    namespace: String,
    name: String,
}

/// A name that no release can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a release or its namespace: at most {NAME_MAX} of a-z, 0-9 and -, beginning and ending with a letter or digit"
)]
pub struct BadName(String);

impl ReleaseName {
    /// A name within a namespace.
    ///
    /// # Errors
    /// [`BadName`] where one of the two is none (RFC 1123 labels).
    pub fn new(namespace: &str, name: &str) -> Result<Self, BadName> {
        for (text, max) in [(namespace, 63), (name, NAME_MAX)] {
            let edge = |c: Option<char>| c.is_some_and(|c| c != '-');
            let fits = text.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'));
            if !fits || text.len() > max || !edge(text.chars().next()) || !edge(text.chars().last())
            {
                return Err(BadName(text.to_owned()));
            }
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// The namespace, in which the inventory is.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name within its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of the ConfigMap with the inventory.
    pub fn inventory(&self) -> String {
        format!("trueup-{}", self.name)
    }

    /// The value of [`LABEL`]. Two releases of one name in two namespaces share it, so it only narrows
    /// a watch; [`OWNER`] decides.
    pub fn label(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a release has made, or may have made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Its objects, with the version of the API by which they can be reached.
    pub members: BTreeMap<ObjectKey, String>,
    /// The digest of the wish that it follows.
    pub digest: String,
    /// Whether everything of that wish was done.
    pub complete: bool,
    /// Who keeps it; `None`: nobody said so.
    pub holder: Option<String>,
}

/// An inventory that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the inventory ConfigMap {release} cannot be read ({fault}): nothing is removed by it; restore it, or delete it to begin anew without it"
)]
pub struct BadInventory {
    /// `namespace/name` of the ConfigMap.
    pub release: String,
    /// Why.
    pub fault: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    version: u32,
    digest: String,
    complete: bool,
    members: Vec<Member>,
}

#[derive(Serialize, Deserialize)]
struct Member {
    #[serde(flatten)]
    key: ObjectKey,
    version: String,
}

impl Inventory {
    /// Reads it from its ConfigMap.
    ///
    /// # Errors
    /// [`BadInventory`]: an inventory that cannot be read is no empty one.
    pub fn read(release: &ReleaseName, map: &Value) -> Result<Self, BadInventory> {
        let bad = |fault: String| BadInventory {
            release: format!("{}/{}", release.namespace, release.inventory()),
            fault,
        };
        let text = map.pointer("/data/inventory").and_then(Value::as_str);
        let text = text.ok_or_else(|| bad("it has no key `inventory`".to_owned()))?;
        let stored: Stored = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        if stored.version != VERSION {
            return Err(bad(format!("its form is version {}, known is {VERSION}", stored.version)));
        }
        let members = stored.members.into_iter().map(|m| (m.key, m.version)).collect();
        let holder = annotation(map, HOLDER).map(str::to_owned);
        Ok(Self { members, digest: stored.digest, complete: stored.complete, holder })
    }

    /// The ConfigMap that says it.
    pub fn manifest(&self, release: &ReleaseName) -> Value {
        let members = self
            .members
            .iter()
            .map(|(key, version)| Member { key: key.clone(), version: version.clone() });
        let stored = Stored {
            version: VERSION,
            digest: self.digest.clone(),
            complete: self.complete,
            members: members.collect(),
        };
        let mut map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": release.inventory(),
                "namespace": release.namespace,
                "labels": {"app.kubernetes.io/managed-by": "trueup"},
                "annotations": {OWNER: release.to_string()},
            },
            "data": {"inventory": json!(stored).to_string()},
        });
        if let Some(holder) = &self.holder {
            map["metadata"]["annotations"][HOLDER] = json!(holder);
        }
        map
    }

    /// The kind by which a member can be reached.
    pub fn kind(&self, key: &ObjectKey) -> Option<Kind> {
        let version = self.members.get(key)?;
        Some(Kind::new(&key.group, version, &key.kind))
    }
}

/// The release that an object says it belongs to.
pub fn owner(object: &Value) -> Option<&str> {
    annotation(object, OWNER)
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let release = ReleaseName::new("shop", "web").unwrap();
        let key = ObjectKey::new("apps", "Deployment", Some("shop"), "front");
        let inventory = Inventory {
            members: BTreeMap::from([(key.clone(), "v1".to_owned())]),
            digest: "abc".to_owned(),
            complete: false,
            holder: Some("lab".to_owned()),
        };
        let map = inventory.manifest(&release);
        assert_eq!(Inventory::read(&release, &map), Ok(inventory.clone()));
        assert_eq!(inventory.kind(&key), Some(Kind::new("apps", "v1", "Deployment")));
        assert_eq!(owner(&map), Some("shop/web"));
    }

    #[test]
    fn a_broken_one_is_no_empty_one() {
        let release = ReleaseName::new("shop", "web").unwrap();
        for text in ["", "{", r#"{"version":9,"digest":"","complete":true,"members":[]}"#] {
            let error = Inventory::read(&release, &json!({"data": {"inventory": text}}));
            assert!(error.unwrap_err().to_string().contains("shop/trueup-web cannot be read"));
        }
    }

    #[test]
    fn names_are_labels() {
        assert!(ReleaseName::new("shop", "web-1").is_ok());
        for bad in ["", "-a", "a-", "A", "a/b", "a.b", &"x".repeat(51)] {
            assert!(ReleaseName::new("shop", bad).is_err(), "{bad}");
        }
    }
}
