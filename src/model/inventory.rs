//! The GPUs of a machine as they are at one moment, whether a layout asks for them or not.
//!
//! Plain data that crosses the control socket; nothing is decided by it and nothing of it is stored.

use serde::{Deserialize, Serialize};
use trueup_mig::Placed;
use trueup_nvml::Health;

use super::resource::GpuState;

/// Every GPU that the driver tells of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuInventory {
    /// The driver's version.
    pub driver: String,
    /// The GPUs, in the driver's order.
    pub gpus: Vec<FoundGpu>,
}

/// A GPU, or why it cannot be told of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum FoundGpu {
    /// It answers.
    Present(Box<GpuCard>),
    /// It does not, and the others still do.
    Failed(FailedGpu),
}

/// A GPU that does not answer, or not in a way that makes sense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedGpu {
    /// Its place in the driver's order.
    pub index: u32,
    /// Its UUID, where it is known.
    pub uuid: Option<String>,
    /// Its PCI address, where it is known.
    pub pci: Option<String>,
    /// What is wrong.
    pub why: String,
}

/// A GPU that answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuCard {
    /// Its place in the driver's order, which is another one after a reboot. Only mig-parted's
    /// configurations count by it.
    pub index: u32,
    /// The PCI device and vendor, `0x20b010de`.
    pub pci_device: u32,
    /// The vBIOS.
    pub vbios: Option<String>,
    /// Memory, MiB: all of it, and what of it is used.
    pub memory_mib: Option<(u64, u64)>,
    /// What it is and how it is cut; without the names of partitions, which the log knows.
    pub state: GpuState,
    /// What programs choose its instances by.
    pub devices: Vec<GpuDevice>,
    /// Sensors and counters.
    pub health: Health,
    /// What could not be read.
    pub unread: Vec<String>,
}

/// What programs choose an instance by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuDevice {
    /// The instance.
    pub instance: Placed,
    /// `MIG-…` of each of its compute instances, by start; other ones after it was made anew.
    pub uuids: Vec<String>,
    /// Percent of its multiprocessors in use, where the GPU tells.
    pub utilization: Option<f64>,
}
