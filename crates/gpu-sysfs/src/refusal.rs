//! Why a transition is refused, with what to do about it.
//!
//! All reasons are collected, so that nobody has to remove them one by one.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address::PciAddress;
use crate::condition::list;
use crate::holders::Holder;

/// A transition is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{gpu}: {}", joined(reasons))]
pub struct Refused {
    /// The GPU.
    pub gpu: PciAddress,
    /// Every reason found; at least one.
    pub reasons: Vec<Refusal>,
}

fn joined(reasons: &[Refusal]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such function.
    #[error("there is no such pci function; there are the gpus {}", list(found))]
    NotFound {
        /// The GPUs there are.
        found: Vec<PciAddress>,
    },
    /// The function is no GPU of NVIDIA.
    #[error("class {class:#08x} of vendor {vendor:#06x} is no gpu of nvidia")]
    NotAGpu {
        /// The vendor.
        vendor: u32,
        /// The class.
        class: u32,
    },
    /// It is a virtual function.
    #[error("it is a virtual function of {physical}: name that gpu")]
    Virtual {
        /// The function it belongs to.
        physical: PciAddress,
    },
    /// Something about it could not be read.
    #[error("{path} could not be read ({why}): nothing is done to what cannot be observed")]
    Unread {
        /// The file.
        path: String,
        /// What the system said.
        why: String,
    },
    /// There are no IOMMU groups.
    #[error(
        "there is no iommu: turn on VT-d or AMD-Vi in the firmware, and put intel_iommu=on \
         on the kernel command line for Intel"
    )]
    NoIommu,
    /// The function is in no IOMMU group.
    #[error("{function} is in no iommu group: use a slot behind an iommu")]
    NoGroup {
        /// The function.
        function: PciAddress,
    },
    /// Another endpoint of the group is used by the host.
    #[error(
        "{member}, in the same iommu group {group}, belongs to driver `{driver}`: pass it on too, \
         unbind it, or move the gpu to another slot"
    )]
    GroupShared {
        /// The group.
        group: u32,
        /// The other function.
        member: PciAddress,
        /// Its driver.
        driver: String,
    },
    /// The firmware's console is on it.
    #[error("the firmware's console is on it (boot_vga): allow headless, or choose another gpu")]
    BootVga,
    /// Monitors are connected.
    #[error("monitors are connected to {}: unplug them, or allow headless", outputs.join(", "))]
    Display {
        /// The outputs.
        outputs: Vec<String>,
    },
    /// Virtual functions are on.
    #[error("{enabled} virtual functions are on: turn them off first")]
    VirtualFunctions {
        /// How many.
        enabled: u32,
    },
    /// There are vGPUs on it.
    #[error("there are vgpus on it: {}", which.join(", "))]
    Vgpus {
        /// Their UUIDs or functions.
        which: Vec<String>,
    },
    /// It is cut into GPU instances.
    #[error("it has gpu instances {}: remove them first", list(ids))]
    Instances {
        /// Their ids.
        ids: Vec<u32>,
    },
    /// MIG is on.
    #[error("mig mode is on: turn it off first")]
    MigOn,
    /// Persistence mode is on.
    #[error("persistence mode is on, which keeps the driver on it: turn it off first")]
    Persistence,
    /// Nouveau has it.
    #[error("nouveau has it, and does not let go safely: blacklist nouveau and restart the host")]
    Nouveau,
    /// Another driver has it.
    #[error("{function} belongs to driver `{driver}`, which is not ours to take it from")]
    OtherDriver {
        /// The function.
        function: PciAddress,
        /// The driver.
        driver: String,
    },
    /// Somebody else fixed its driver.
    #[error("{function} has driver_override `{to}`, set by somebody else: clear it first")]
    OtherOverride {
        /// The function.
        function: PciAddress,
        /// What it is set to.
        to: String,
    },
    /// The driver that is to have it is not loaded.
    #[error("driver `{driver}` is not loaded: load it, else the gpu would be left without one")]
    DriverMissing {
        /// The driver.
        driver: String,
    },
    /// The kernel command line gives every board of this model to vfio-pci.
    #[error(
        "vfio-pci.ids={model} on the kernel command line takes every board of this model: \
         remove it and restart the host; one board is chosen by its address"
    )]
    IdsClaim {
        /// Vendor and model.
        model: String,
    },
    /// Somebody holds it.
    #[error("it is held by {}: stop them first", list(holders))]
    Held {
        /// Who.
        holders: Vec<Holder>,
    },
    /// Not every process could be looked into.
    #[error(
        "processes {pids:?} could not be looked into: run as root in the host's process namespace"
    )]
    Unscanned {
        /// Their ids.
        pids: Vec<u32>,
    },
    /// Its driver is not one for vGPU hosts.
    #[error(
        "no vgpu can be made on it: neither mediated devices nor the vendor's vfio driver is there; \
         install the vgpu host driver"
    )]
    NoVgpuHost,
    /// Virtual functions are on, and none of them takes vGPUs.
    #[error(
        "{enabled} virtual functions are on and none takes a vgpu: turning them on was broken off, or \
         the driver is none for vgpu hosts; run `/usr/lib/nvidia/sriov-manage -d {gpu}`, after which \
         they are turned on again, or install the vgpu host driver"
    )]
    HalfUp {
        /// The GPU.
        gpu: PciAddress,
        /// How many are on.
        enabled: u32,
    },
    /// Two wishes, or two claims, have one UUID.
    #[error("{id} is asked for twice")]
    Twice {
        /// The UUID.
        id: Uuid,
    },
    /// The type is unknown.
    #[error("there is no vgpu type `{}`; there are {}", kind.escape_debug(), found.join(", "))]
    UnknownType {
        /// What was asked for.
        kind: String,
        /// The names there are.
        found: Vec<String>,
    },
    /// The type is for GPU instances, and none is named.
    #[error(
        "type {kind} is for a gpu that is cut (mig) and shared at once, which is not supported: use a \
         type that shares the gpu in time"
    )]
    NeedsInstance {
        /// The type.
        kind: String,
    },
    /// There is no room for it now.
    #[error("no room for {id} of type {kind}: nothing free takes that type now")]
    NoRoom {
        /// The vGPU.
        id: Uuid,
        /// Its type.
        kind: String,
    },
    /// vGPUs of different sizes on a GPU that is not set for it.
    #[error(
        "vgpus of different sizes ({}) need heterogeneous mode, which can be turned on only while \
         there is no vgpu and after the virtual functions are on; there are {standing} vgpus now",
        kinds.join(", ")
    )]
    Mixed {
        /// The types.
        kinds: Vec<String>,
        /// How many vGPUs there are now.
        standing: usize,
    },
    /// A mediated device with the wished UUID is there, and is not ours.
    #[error("mediated device {id} is there and was not made by us: adopt or remove it")]
    Unclaimed {
        /// Its UUID.
        id: Uuid,
    },
    /// The place within the GPU cannot be chosen with mediated devices.
    #[error("{id}: a mediated device takes neither a gpu instance nor a placement")]
    NoChoice {
        /// The vGPU.
        id: Uuid,
    },
}
