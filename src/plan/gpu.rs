//! What a step on a GPU carries: which instance, on which GPU, and what is remembered of the change.

use serde::{Deserialize, Serialize};
use trueup_mig::picture::Picture;
use trueup_mig::{ComputePart, Placed};

use super::Action;
use crate::model::ResourceId;
use crate::model::resource::{GpuMemory, OnBusy};

/// What all steps of one change of a GPU share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuChange {
    /// UUID of the GPU; its PCI address where NVML never told one.
    pub gpu: String,
    /// What happens when it turns out to be in use.
    pub on_busy: OnBusy,
    /// What the log remembers from the moment the step starts.
    pub memory: GpuMemory,
}

/// The instance, or the compute instance within it, that a step makes or destroys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuPart {
    /// What people call it: `3g@4`, `1c@0 in 3g@4`.
    pub label: String,
    /// The partition it is, or was.
    pub name: Option<String>,
    /// The GPU instance.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub instance: Placed,
    /// Its memory slices.
    pub size: u32,
    /// The compute instance; `None` where the step is about the GPU instance.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub compute: Option<ComputePart>,
}

/// Who a GPU is brought nearer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GpuSide {
    /// Guests.
    Guests,
    /// The host.
    Host,
}

/// A GPU before and after, as slices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GpuPicture {
    /// Which layout.
    pub resource: ResourceId,
    /// Its slices.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub picture: Picture,
}

impl Action {
    /// What it does to the cut of a GPU; `None` where it changes none.
    pub fn mig_step(&self) -> Option<trueup_mig::Step> {
        use trueup_mig::Step;
        match self {
            Self::GpuDestroyInstance { part, .. } => {
                Some(Step::DestroyInstance { instance: part.instance })
            }
            Self::GpuCreateInstance { part, .. } => {
                Some(Step::CreateInstance { instance: part.instance })
            }
            Self::GpuDestroyCompute { part, .. } => part.compute.map(|it| Step::DestroyCompute {
                instance: part.instance,
                profile: it.profile,
                start: it.start,
            }),
            Self::GpuCreateCompute { part, .. } => part.compute.map(|it| Step::CreateCompute {
                instance: part.instance,
                profile: it.profile,
                start: it.start,
            }),
            _ => None,
        }
    }

    /// The step at the kernel's files that it is, and who it is for.
    pub fn handover(&self) -> Option<(GpuSide, &trueup_gpu_sysfs::Step)> {
        match self {
            Self::GpuHandover { to, step, .. } => Some((*to, step)),
            _ => None,
        }
    }

    /// The change of a GPU that it is part of.
    pub fn gpu_change(&self) -> Option<&GpuChange> {
        match self {
            Self::GpuStopClients { change }
            | Self::GpuMigMode { change, .. }
            | Self::GpuDestroyCompute { change, .. }
            | Self::GpuDestroyInstance { change, .. }
            | Self::GpuCreateInstance { change, .. }
            | Self::GpuCreateCompute { change, .. }
            | Self::GpuHandover { change, .. }
            | Self::GpuSettle { change, .. } => Some(change),
            _ => None,
        }
    }
}
