//! The canonical form of how a GPU is cut.
//!
//! A wish names partitions, an observation says what stands on the GPU, and the log remembers which
//! instance is which partition. Ids and UUIDs that the driver gives are facts of an observation and
//! never part of a wish: they change whenever an instance is made again.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use trueup_mig::{Board, ComputeWish, Holder, Instance, Layout, Placed, ProfileId, Selector, Wish};

use super::{GpuGuest, GpuHandover, GpuKernel, GpuShare, Vgpu};
use crate::model::{Digest, digest_of};

/// How one GPU is cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuLayout {
    /// Which GPU.
    pub gpu: GpuMatch,
    /// Whether it is cut at all.
    pub mode: GpuMode,
    /// Its partitions, by name; one entry an instance. In an observation: what stands there, an
    /// instance without a name by its label (`3g@4`).
    pub partitions: Vec<Partition>,
    /// Its vGPUs, by name; only with [`GpuMode::Vgpu`]. In an observation: those of ours that stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vgpus: Vec<Vgpu>,
    /// Whether the GPU was set to take vGPUs of different sizes; `false` in an observation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mixed_sizes: bool,
    /// Whether the GPU may be reset to change its mode; `None` in an observation.
    pub allow_reset: Option<bool>,
    /// What happens while something that would have to go is in use; `None` in an observation.
    pub on_busy: Option<OnBusy>,
    /// Services that may be stopped for a change and are started after it.
    pub clients: Vec<GpuClient>,
    /// Whether instances that trueup did not make are taken over; `None` in an observation.
    pub takeover: Option<bool>,
    /// How it is given to guests; only with [`GpuMode::Passthrough`], and `None` in an observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GpuGuest>,
    /// What is remembered of a change; `None` in a wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Box<GpuMemory>>,
    /// What NVML found; `None` but in an observation, and where the host's driver does not have the
    /// GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<GpuState>>,
    /// What the kernel's files say, of a GPU that is given to guests or comes back from them; `None`
    /// but in an observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Box<GpuKernel>>,
}

/// What tells one GPU from all others. Never its index, which changes with every boot.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum GpuMatch {
    /// Its UUID, `GPU-…`.
    Uuid(String),
    /// Its PCI address, `0000:07:00.0`, with a domain of four digits.
    PciAddress(String),
    /// Its serial number.
    Serial(String),
    /// Its product: any GPU of that kind which no other layout has.
    Product(String),
}

impl fmt::Display for GpuMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => f.write_str(uuid),
            Self::PciAddress(address) => write!(f, "PCI address {address}"),
            Self::Serial(serial) => write!(f, "serial {serial}"),
            Self::Product(product) => write!(f, "product {product}"),
        }
    }
}

/// What a GPU is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GpuMode {
    /// One GPU, uncut.
    Whole,
    /// Cut into instances (NVIDIA MIG).
    Mig,
    /// Given to a guest as a whole (VFIO).
    Passthrough,
    /// Shared among guests (NVIDIA vGPU).
    Vgpu,
}

/// What happens while something that would have to go is in use.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum OnBusy {
    /// The change is refused, and somebody is asked to see to it.
    #[default]
    Refuse,
    /// The change waits until it can be made.
    Wait,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Partition {
    /// What other resources call it: unique on its GPU.
    pub name: String,
    /// The profile, by the driver's name or by its shape.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub select: Selector,
    /// First memory slice; `None`: the planner chooses.
    pub start: Option<u32>,
    /// Its compute instances; `None`: one that takes all of it.
    #[schemars(with = "Option<Vec<serde_json::Map<String, serde_json::Value>>>")]
    pub compute: Option<Vec<ComputeWish>>,
}

impl Partition {
    /// As a wish for one instance.
    #[must_use]
    pub fn wish(&self) -> Wish {
        Wish {
            select: self.select.clone(),
            count: 1,
            start: self.start,
            compute: self.compute.clone(),
            name: Some(self.name.clone()),
        }
    }

    /// What stands on a GPU, in the form of a wish; an instance without a name goes by its label.
    #[must_use]
    pub fn found(state: &GpuState) -> Vec<Self> {
        let one = |instance: &Instance| {
            let placed = instance.placed;
            let profile = state.board.as_ref().and_then(|board| board.profile(placed.profile));
            let profile = profile
                .map_or_else(|| format!("#{}", placed.profile), |profile| profile.name.clone());
            Self {
                name: instance.name.clone().unwrap_or_else(|| state.label(placed)),
                select: Selector::Profile(profile),
                start: Some(placed.start),
                compute: None,
            }
        };
        let mut all: Vec<Self> = state.instances.iter().map(one).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// A service that uses partitions and may be stopped while they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuClient {
    /// The systemd unit.
    pub unit: String,
    /// Names of the partitions it uses, sorted; empty: any of them. The name of several alike stands
    /// for all of them, also for those that the commit no longer asks for.
    pub uses: Vec<String>,
}

impl GpuClient {
    /// Whether it uses the partition of that name.
    #[must_use]
    pub fn uses(&self, partition: &str) -> bool {
        let numbered = |group: &str| {
            let number = partition.strip_prefix(group).and_then(|rest| rest.strip_prefix('-'));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        self.uses.is_empty() || self.uses.iter().any(|name| name == partition || numbered(name))
    }
}

/// What the log remembers of a GPU: written with the intent of every step on it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GpuMemory {
    /// What the change leads to, with the names of the instances.
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub layout: Layout,
    /// UUID of the GPU that the layout has: one that names only a product keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// What stood before the change: what is put back if it cannot be made. `None`: no change is
    /// under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<serde_json::Map<String, serde_json::Value>>>")]
    pub before: Option<Layout>,
    /// UUIDs of the MIG devices there were before the change, by the name of the partition: whoever
    /// names one by its UUID has to be told which it is now.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, Vec<String>>,
    /// Whether the GPU was cut before a change that switches that. `None`: none that is under way does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switched: Option<GpuSwitch>,
    /// Units stopped for the change, to be started after it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<String>,
    /// What the driver's names in the commit stood for when it was cut, by those names. A newer driver
    /// may call the same profiles otherwise, and others so.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub called: BTreeMap<String, GpuProfile>,
    /// Where a GPU that guests have is found, and what it goes back to. `None`: the host has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handover: Option<GpuHandover>,
    /// The vGPUs of ours on a GPU that guests share. `None`: nobody shares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<GpuShare>,
}

/// A change of whether a GPU is cut, and what is needed to take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuSwitch {
    /// Whether it was cut before.
    pub from: bool,
    /// Whether the GPU may be reset for it.
    pub reset: bool,
}

/// What a driver's name of a profile stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GpuProfile {
    /// The driver's number of it.
    #[schemars(with = "u32")]
    pub profile: ProfileId,
    /// Slices and suffix: the same with every driver.
    pub shape: String,
}

impl GpuMemory {
    /// The name of what stands at this place; while a change is under way, also of what it leaves
    /// behind.
    #[must_use]
    pub fn name(&self, placed: Placed) -> Option<&str> {
        let before = || self.before.as_ref()?.part(placed);
        self.layout.part(placed).or_else(before)?.name.as_deref()
    }

    /// Whether what stands at this place is ours. While a change is under way, that is what has a
    /// name: one that takes a layout away remembers also what of others stands beside it.
    #[must_use]
    pub fn knows(&self, placed: Placed) -> bool {
        match &self.before {
            None => self.layout.part(placed).is_some(),
            Some(_) => self.name(placed).is_some(),
        }
    }

    /// Whether a change is under way.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.before.is_some() || !self.stopped.is_empty()
    }

    /// Forgets what was only needed on the way.
    pub fn close(&mut self) {
        self.before = None;
        self.devices.clear();
        self.switched = None;
        self.stopped.clear();
    }
}

/// A GPU as it was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuState {
    /// Its UUID.
    pub uuid: String,
    /// Its PCI address.
    pub pci: String,
    /// Its serial number, where it has one.
    pub serial: Option<String>,
    /// The product.
    pub product: String,
    /// Its architecture, as one word.
    pub architecture: String,
    /// The driver's version.
    pub driver: String,
    /// Whether it is cut now, and whether it will be after a reset; `None`: it cannot be cut.
    pub mig: Option<GpuMigState>,
    /// Whether its mode changes without a reset (Hopper and later, outside of a guest).
    pub hot: bool,
    /// What it can be cut into; `None`: the driver does not tell (yet).
    #[schemars(with = "Option<Vec<serde_json::Map<String, serde_json::Value>>>")]
    pub board: Option<Board>,
    /// What stands on it, with names and holders. Empty where it is not cut.
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub instances: Vec<Instance>,
    /// UUIDs of the MIG devices there are, by the name of the partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, Vec<String>>,
    /// Who uses the GPU as a whole.
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub holders: Vec<Holder>,
    /// Units that run, of those that the layout declares as clients or that were stopped for a
    /// change.
    pub running: Vec<String>,
    /// Programs on this machine that cut GPUs too, with the file that shows it.
    pub co_owners: Vec<String>,
}

/// Whether a GPU is cut, now and after a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GpuMigState {
    /// Now.
    pub current: bool,
    /// After a reset.
    pub pending: bool,
}

impl GpuState {
    /// Digest of what may not change by itself: the GPU, its mode, and what stands where. Ids and
    /// UUIDs of instances are not in it, which the driver gives anew after a reboot.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        let mut placed: Vec<_> = self
            .instances
            .iter()
            .map(|instance| {
                let mut compute: Vec<_> =
                    instance.compute.iter().map(|it| (it.profile, it.start)).collect();
                compute.sort_unstable();
                (instance.placed, instance.name.clone(), compute)
            })
            .collect();
        placed.sort();
        digest_of(&(&self.uuid, self.mig, placed))
    }

    /// What people call an instance: its place and its name.
    #[must_use]
    pub fn label(&self, placed: Placed) -> String {
        match &self.board {
            Some(board) => board.label(placed),
            None => format!("#{}@{}", placed.profile, placed.start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trueup_mig::{ComputeInstance, ComputeInstanceId, ComputeProfileId, InstanceId, ProfileId};

    fn state(id: u32) -> GpuState {
        let compute = ComputeInstance {
            id: ComputeInstanceId(0),
            profile: ComputeProfileId(2),
            start: 0,
            slices: 3,
            holders: Vec::new(),
        };
        let instance = Instance {
            id: InstanceId(id),
            placed: Placed { profile: ProfileId(9), start: 4 },
            name: Some("train".into()),
            compute: vec![compute],
            holders: Vec::new(),
        };
        GpuState {
            uuid: "GPU-1".into(),
            pci: "0000:07:00.0".into(),
            serial: None,
            product: "A".into(),
            architecture: "ampere".into(),
            driver: "580".into(),
            mig: Some(GpuMigState { current: true, pending: true }),
            hot: false,
            board: None,
            instances: vec![instance],
            devices: BTreeMap::new(),
            holders: Vec::new(),
            running: Vec::new(),
            co_owners: Vec::new(),
        }
    }

    #[test]
    fn what_the_driver_gives_anew_is_no_difference() {
        assert_eq!(state(1).fingerprint(), state(2).fingerprint());
        let mut moved = state(1);
        moved.instances[0].placed.start = 0;
        assert_ne!(state(1).fingerprint(), moved.fingerprint());
        let mut pending = state(1);
        pending.mig = Some(GpuMigState { current: true, pending: false });
        assert_ne!(state(1).fingerprint(), pending.fingerprint());
    }
}
