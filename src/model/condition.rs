//! How a GPU is: what an observation says of its health, and what the log keeps of it.
//!
//! Readings that change with every look (temperature, clocks, utilisation) are not in here: only
//! what is wrong with a GPU is worth an event.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ResourceId;
use super::xid::XidClass;

/// What a GPU is, apart from how it is cut: it changes with a driver, a firmware or another board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuIdentity {
    /// Its PCI address, with a domain of four digits.
    pub pci: String,
    /// Its serial number, where it has one.
    pub serial: Option<String>,
    /// The product.
    pub product: String,
    /// Its architecture, as one word.
    pub architecture: String,
    /// The driver's version.
    pub driver: String,
    /// The version of its vBIOS, where the driver tells.
    pub vbios: Option<String>,
}

/// What is wrong with a GPU.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum GpuProblemKind {
    /// Memory errors that were not corrected, since the driver was loaded.
    UncorrectedMemory,
    /// Pages of memory wait to be retired with a reset.
    RetirementPending,
    /// Rows of memory wait to be remapped with a reset.
    RemapPending,
    /// A row of memory could not be remapped: the board should be replaced.
    RemapFailed,
    /// The driver says that the GPU needs a reset, or the machine a reboot.
    Recovery,
    /// It has been slowed down by heat for a while.
    ThermalSlowdown,
    /// It has been slowed down by the power supply for a while.
    PowerBrake,
    /// The driver reported a critical error that is not over by itself.
    Xid(u64),
}

/// Something that is wrong with a GPU, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuProblem {
    /// What.
    pub kind: GpuProblemKind,
    /// What was seen, and what to do.
    pub detail: String,
}

impl fmt::Display for GpuProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// A critical error that the driver reported by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuReport {
    /// The program's run that took it in; empty in logs of older versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// Its number in that run, from 1. With the run it is what tells reports apart: clocks are set
    /// back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seq: u64,
    /// When it came, by the clock of that moment.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// NVIDIA's number of it.
    pub xid: u64,
    /// What it means.
    pub meaning: String,
    /// What it asks for.
    pub class: XidClass,
    /// How often it came since it was last told of: one that keeps coming is told of now and then.
    pub count: u64,
    /// The instance concerned, as people call it (`3g@4`), where the driver tells.
    pub instance: Option<String>,
    /// The partition that is, if it is one.
    pub partition: Option<String>,
}

impl GpuReport {
    /// Whether `told` is this report, or a later one of the same run.
    #[must_use]
    pub fn is_told_by(&self, told: &Self) -> bool {
        told.run == self.run && told.seq >= self.seq
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A GPU as one look saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuCondition {
    /// Its PCI address.
    pub pci: String,
    /// What it is; `None` while it does not answer.
    pub identity: Option<GpuIdentity>,
    /// Why it does not answer; `None`: it does.
    pub lost: Option<String>,
    /// What is wrong with it, by kind.
    pub problems: Vec<GpuProblem>,
    /// What may be wrong and has not lasted yet: no new problem, and no end of an old one.
    pub suspected: Vec<GpuProblemKind>,
    /// Whether it is known to have nothing left of critical errors from before this look: the driver
    /// says so, or was loaded anew.
    pub cleared: bool,
    /// Critical errors reported lately, oldest first, told of or not.
    pub reports: Vec<GpuReport>,
    /// The run of the machine (`boot_id`): after a reboot, no critical error from before it stands.
    pub boot: Option<String>,
    /// The layout that is about it.
    pub layout: Option<ResourceId>,
}
