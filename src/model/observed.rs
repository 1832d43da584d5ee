//! What was seen on the machine, in canonical form.
//!
//! Absence of knowledge is never absence of the thing: a kind that could not be observed stands in
//! `unobservable`, and nothing is planned for it.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::resource::Accelerator;
use super::{GpuCondition, Kind, Name, Resource, ResourceId};

/// The machine as it was seen in one pass.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Facts about the host itself.
    pub host: HostFacts,
    /// Every resource found, ours or not.
    pub resources: BTreeMap<ResourceId, Observation>,
    /// Kinds that could not be observed at all, and why.
    pub unobservable: BTreeMap<Kind, String>,
    /// Single resources that could not be read, and why.
    pub unreadable: BTreeMap<ResourceId, String>,
    /// Content-addressed files of ours that no longer are what their resource asks for.
    pub stale: Vec<Stale>,
    /// How every GPU is, by its UUID; `None`: nobody looked at GPUs.
    #[serde(default)]
    pub gpus: Option<BTreeMap<String, GpuCondition>>,
    /// What the driver says of GPUs that do not answer and cannot tell which they are: each may be any
    /// that is missing in `gpus`, so that none of those is known to be gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameless_gpus: Vec<String>,
    /// What backups have in guests that nothing needs any more: the guests, by backup.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leftovers: BTreeMap<ResourceId, Vec<String>>,
}

/// Facts about the host that a plan depends on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostFacts {
    /// What executes guests best here; `None`: not known yet.
    pub accelerator: Option<Accelerator>,
    /// Networks of the host's own interfaces, without those of libvirt's bridges.
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpNet>,
    /// Its memory, KiB; `None`: not known.
    pub memory_kib: Option<u64>,
    /// Its processors; `None`: not known.
    pub cpus: Option<u32>,
}

/// One resource as it was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Whose it is.
    pub ownership: Ownership,
    /// Its persistent configuration.
    pub config: Resource,
    /// What is running, where that can differ from the configuration (domains and networks).
    pub live: Option<Resource>,
    /// Whether it runs (domains), is started (networks, pools) or simply exists (files).
    pub active: bool,
    /// UUID of the libvirt object, kept when it is adopted or changed.
    #[schemars(with = "Option<String>")]
    pub uuid: Option<uuid::Uuid>,
    /// Interfaces whose link to their network is broken, by MAC (domains only).
    pub unplugged: Vec<String>,
}

/// Whose a resource is, as marked on the object itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum Ownership {
    /// Marked as ours, for this environment.
    Ours {
        /// The environment that owns it.
        environment: Name,
    },
    /// Marked by trueup for another environment.
    Other {
        /// The environment that owns it.
        environment: Name,
    },
    /// Cannot carry a mark (a plain file): the log knows.
    Unmarked,
    /// Can carry a mark and has none.
    Foreign,
}

/// A content-addressed file that its resource no longer asks for.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Stale {
    /// The image or seed it was made for.
    pub resource: ResourceId,
    /// Absolute path.
    pub path: String,
}

impl Observed {
    /// Why nothing may be planned for `id`, if so.
    pub fn why_unobservable(&self, id: &ResourceId) -> Option<&str> {
        let whole = self.unobservable.get(&id.kind);
        whole.or_else(|| self.unreadable.get(id)).map(String::as_str)
    }

    /// Adds what another provider saw.
    pub fn merge(&mut self, other: Self) {
        if other.host.accelerator.is_some() {
            self.host.accelerator = other.host.accelerator;
        }
        self.host.memory_kib = other.host.memory_kib.or(self.host.memory_kib);
        self.host.cpus = other.host.cpus.or(self.host.cpus);
        self.host.addresses.extend(other.host.addresses);
        self.resources.extend(other.resources);
        self.unobservable.extend(other.unobservable);
        self.unreadable.extend(other.unreadable);
        self.stale.extend(other.stale);
        self.leftovers.extend(other.leftovers);
        self.gpus = other.gpus.or(self.gpus.take());
        self.nameless_gpus.extend(other.nameless_gpus);
    }
}
