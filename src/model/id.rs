//! Identifiers: kinds, resource ids, commits, runs, and the ids derived from names.
//!
//! Derived ids (UUID, MAC) depend on nothing but names, so that every host and every plan arrives at
//! the same ones.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Name, NameError};

/// The primitive kinds: what a plan's steps act on. Composite kinds expand into these.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A libvirt storage pool of type `dir`.
    StoragePool,
    /// A libvirt network.
    Network,
    /// A golden image: a read-only, content-addressed file in a pool.
    Image,
    /// A volume in a pool that belongs to one or more domains.
    Disk,
    /// cloud-init NoCloud media of one domain.
    Seed,
    /// How a GPU is cut.
    GpuLayout,
    /// A libvirt domain.
    VirtualMachine,
    /// A series of snapshots in a repository.
    Backup,
    /// A cluster.
    Cluster,
    /// Objects of a Kubernetes cluster that belong together.
    Release,
}

impl Kind {
    /// Every kind, in the order a machine is built up.
    pub const ALL: [Self; 10] = [
        Self::StoragePool,
        Self::Network,
        Self::Image,
        Self::Disk,
        Self::Seed,
        Self::GpuLayout,
        Self::VirtualMachine,
        Self::Backup,
        Self::Cluster,
        Self::Release,
    ];

    /// The short form used in subjects and on the command line: `vm` in `vm/web`.
    pub fn short(self) -> &'static str {
        match self {
            Self::StoragePool => "pool",
            Self::Network => "network",
            Self::Image => "image",
            Self::Disk => "disk",
            Self::Seed => "seed",
            Self::GpuLayout => "gpu",
            Self::VirtualMachine => "vm",
            Self::Backup => "backup",
            Self::Cluster => "cluster",
            Self::Release => "release",
        }
    }
}

/// `kind/name`: what an event, a step or a status is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ResourceId {
    /// The primitive kind.
    pub kind: Kind,
    /// The name, unique within its kind.
    pub name: Name,
}

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No `/`, or an unknown kind before it.
    #[error("`{text}` is not a resource: write kind/name, with a kind of {kinds}")]
    Resource {
        /// What was given.
        text: String,
        /// The kinds there are.
        kinds: String,
    },
    /// The part behind the `/` is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Not a commit id.
    #[error("`{text}` is not a commit: 40 or 64 hexadecimal digits are needed")]
    Commit {
        /// What was given.
        text: String,
    },
}

impl ResourceId {
    /// The id of `name` within `kind`.
    pub fn new(kind: Kind, name: Name) -> Self {
        Self { kind, name }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.short(), self.name)
    }
}

impl fmt::Debug for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ResourceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for ResourceId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let found = text
            .split_once('/')
            .and_then(|(kind, name)| Some((Kind::ALL.iter().find(|k| k.short() == kind)?, name)));
        match found {
            Some((&kind, name)) => Ok(Self::new(kind, Name::new(name)?)),
            None => Err(IdError::Resource {
                text: text.to_owned(),
                kinds: Kind::ALL.map(Kind::short).join(", "),
            }),
        }
    }
}

impl TryFrom<String> for ResourceId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<ResourceId> for String {
    fn from(id: ResourceId) -> Self {
        id.to_string()
    }
}

/// A Git commit id: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

impl CommitId {
    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 10 digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..10]
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CommitId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if matches!(text.len(), 40 | 64) && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Commit { text: text.to_owned() })
        }
    }
}

impl TryFrom<String> for CommitId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<CommitId> for String {
    fn from(id: CommitId) -> Self {
        id.0
    }
}

/// One pass of the loop that did something; groups its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Namespace of derived UUIDs (version 5, RFC 9562): itself the UUID of `trueup` in the URL namespace.
fn namespace() -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, b"https://trueup.dev/resource")
}

/// The UUID of a libvirt object: the same for the same environment and resource, for ever.
pub fn uuid_for(environment: &Name, resource: &ResourceId) -> Uuid {
    Uuid::new_v5(&namespace(), format!("{environment}/{resource}").as_bytes())
}

/// The UUID of a part of a resource: the same for the same environment, resource and part, for ever.
pub fn uuid_for_part(environment: &Name, resource: &ResourceId, part: &str) -> Uuid {
    Uuid::new_v5(&uuid_for(environment, resource), part.as_bytes())
}

/// The MAC address of the `index`-th interface of a VM, in QEMU's `52:54:00` range.
pub fn mac_for(environment: &Name, resource: &ResourceId, index: usize) -> String {
    let hash = Sha256::digest(format!("{environment}/{resource}/nic/{index}"));
    format!("52:54:00:{:02x}:{:02x}:{:02x}", hash[0], hash[1], hash[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_ids_round_trip() {
        let id: ResourceId = "vm/web".parse().unwrap();
        assert_eq!(id.kind, Kind::VirtualMachine);
        assert_eq!(id.to_string(), "vm/web");
        assert!("web".parse::<ResourceId>().is_err());
        assert!("car/web".parse::<ResourceId>().is_err());
        assert!("vm/Web".parse::<ResourceId>().is_err());
    }

    #[test]
    fn derived_ids_are_stable() {
        let env = Name::new("lab").unwrap();
        let vm: ResourceId = "vm/web".parse().unwrap();
        assert_eq!(uuid_for(&env, &vm), uuid_for(&env, &vm));
        assert_eq!(mac_for(&env, &vm, 0), mac_for(&env, &vm, 0));
        assert_ne!(mac_for(&env, &vm, 0), mac_for(&env, &vm, 1));
        assert!(mac_for(&env, &vm, 0).starts_with("52:54:00:"));
    }
}
