//! The canonical form of a GPU that guests share (NVIDIA vGPU).
//!
//! A virtual function bears no mark: that a vGPU is ours is known from a claim alone, which is
//! remembered before the first step that makes it. Never part of a wish: addresses are facts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trueup_gpu_sysfs::{Claim, Host, PciAddress, Place, VgpuKind};
use uuid::Uuid;

use super::{GpuKernel, HostDevice};

/// One vGPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vgpu {
    /// What other resources call it: unique on its GPU.
    pub name: String,
    /// Its type: a name (`NVIDIA A40-8Q`, also without the maker), or a number as the files have it
    /// (`nvidia-558`). In an observation: the name, where it is known.
    #[serde(rename = "type")]
    pub kind: String,
}

/// What is remembered of a GPU that guests share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuShare {
    /// Where it sits.
    #[schemars(with = "String")]
    pub pci: PciAddress,
    /// The vGPUs that are ours, or are about to be, by name.
    pub claims: Vec<VgpuClaim>,
    /// Types by number, where the driver lists only those that there is room for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub kinds: Vec<VgpuKind>,
    /// Whether its virtual functions were turned on for it, to be turned off after it.
    pub functions: bool,
    /// Whether more is to be done, which is planned once this much is.
    pub open: bool,
}

/// A vGPU of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VgpuClaim {
    /// What other resources call it.
    pub name: String,
    /// Where it is.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub claim: Claim,
}

impl VgpuClaim {
    /// What a guest gets.
    #[must_use]
    pub fn device(&self) -> HostDevice {
        match &self.claim.place {
            Place::Mediated { .. } => HostDevice::Mdev(self.claim.id.to_string()),
            Place::Function { function, .. } => HostDevice::Pci(function.to_string()),
        }
    }
}

impl GpuShare {
    /// The names of types by number.
    #[must_use]
    pub fn names(&self) -> BTreeMap<u32, String> {
        self.kinds.iter().map(|it| (it.id, it.name.clone())).collect()
    }

    /// The name that a claim's id stands for.
    #[must_use]
    pub fn name(&self, id: Uuid) -> Option<&str> {
        self.claims.iter().find(|it| it.claim.id == id).map(|it| it.name.as_str())
    }

    /// The type of a claim, by its name where that is remembered.
    #[must_use]
    pub fn kind(&self, claim: &VgpuClaim) -> String {
        let number = claim.claim.number();
        let named = self.kinds.iter().find(|it| Some(it.id) == number);
        let named = named.map(|it| it.name.clone());
        let numbered = || number.map(|number| format!("nvidia-{number}"));
        named.or_else(numbered).unwrap_or_default()
    }

    /// The vGPUs of ours that stand.
    pub fn standing<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = &'a VgpuClaim> {
        self.claims.iter().filter(|it| it.claim.stands(host))
    }

    /// What stands, in the form of a wish.
    #[must_use]
    pub fn found(&self, kernel: &GpuKernel) -> Vec<Vgpu> {
        let kinds = trueup_gpu_sysfs::plan::kinds(&kernel.host, kernel.pci, &self.names());
        let kind = |claim: &Claim| {
            let number = claim.number();
            let known = number.and_then(|number| kinds.get(&number).cloned());
            known.or_else(|| number.map(|number| number.to_string())).unwrap_or_default()
        };
        let one = |it: &VgpuClaim| Vgpu { name: it.name.clone(), kind: kind(&it.claim) };
        self.standing(&kernel.host).map(one).collect()
    }
}
