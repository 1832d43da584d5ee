//! Events about how GPUs are; each only at an edge. The subject of the envelope is the layout of the
//! GPU, where there is one, and the actor is the machine.

use serde::{Deserialize, Serialize};

use crate::model::{GpuIdentity, GpuProblem, GpuReport};

/// `gpu.found`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuFound {
    /// Its UUID.
    pub gpu: String,
    /// What it is now.
    pub identity: GpuIdentity,
}

/// `gpu.gone`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuGone {
    /// Its UUID.
    pub gpu: String,
    /// Why nothing is known of it any more.
    pub why: String,
}

/// `gpu.lost`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuLost {
    /// Its UUID.
    pub gpu: String,
    /// Its PCI address.
    pub pci: String,
    /// What the driver says.
    pub why: String,
}

/// `gpu.returned`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuReturned {
    /// Its UUID.
    pub gpu: String,
}

/// `gpu.xid`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuXid {
    /// The UUID of the GPU.
    pub gpu: String,
    /// Its PCI address.
    pub pci: String,
    /// What was reported.
    pub report: GpuReport,
}

/// `gpu.degraded`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuDegraded {
    /// The UUID of the GPU.
    pub gpu: String,
    /// Its PCI address.
    pub pci: String,
    /// All that is wrong with it now, by kind.
    pub problems: Vec<GpuProblem>,
    /// The run of the machine in which it was seen.
    pub boot: Option<String>,
}

/// `gpu.recovered`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuRecovered {
    /// The UUID of the GPU.
    pub gpu: String,
}
