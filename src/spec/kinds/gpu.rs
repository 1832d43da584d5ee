//! `GpuLayout`: how one GPU is cut, or shared.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::resource::OnBusy;

/// How one GPU is cut: whole, into instances (NVIDIA MIG), or into vGPUs for virtual machines, with
/// names that other resources refer to. What has a place already keeps it wherever it can; what is in use is never destroyed.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GpuLayoutSpec {
    /// Which GPU: exactly one of these. An index is refused, because it changes with every boot.
    #[serde(rename = "match")]
    pub which: GpuMatchSpec,
    /// What the GPU is used as.
    pub mode: GpuModeSpec,
    /// What it is cut into; only with mode `mig` or `vgpu`. Empty: cut, with nothing on it yet.
    #[serde(default)]
    pub partitions: Vec<PartitionSpec>,
    /// More about mode `passthrough`.
    pub passthrough: Option<PassthroughSpec>,
    /// More about mode `vgpu`.
    pub vgpu: Option<VgpuSpec>,
    /// Whether the GPU may be reset where its mode cannot be changed without (before Hopper).
    #[serde(default)]
    pub allow_reset: bool,
    /// What happens while a process uses something that would have to go. Nothing is ever killed:
    /// `refuse` reports it and asks for somebody, `wait` tries again until it is free.
    #[serde(default)]
    pub on_busy: OnBusy,
    /// Services that may be stopped while partitions they use change, and are started afterwards.
    #[serde(default)]
    pub clients: Vec<GpuClientSpec>,
    /// Change instances that trueup did not make. Otherwise a GPU that somebody else cut is left
    /// alone.
    #[serde(default)]
    pub takeover: bool,
}

/// What tells the GPU from all others: exactly one of these.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GpuMatchSpec {
    /// Its UUID, as `nvidia-smi -L` shows it.
    #[schemars(regex(pattern = r"^GPU-[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"))]
    pub uuid: Option<String>,
    /// Its PCI address: `0000:07:00.0`.
    #[schemars(regex(pattern = r"^[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]$"))]
    pub pci_address: Option<String>,
    /// Its serial number, which boards for data centres have.
    #[schemars(regex(pattern = r"^[0-9A-Za-z-]{4,40}$"))]
    pub serial: Option<String>,
    /// Its product, as `nvidia-smi -L` shows it: any GPU of that kind which no other layout has. A
    /// layout keeps the one that it has; the first is chosen so that the least is destroyed.
    #[schemars(length(min = 1, max = 100))]
    pub product: Option<String>,
}

/// How a GPU is given to a virtual machine as a whole.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PassthroughSpec {
    /// PCI functions of other boards in its IOMMU group that go to `vfio-pci` with it. What belongs
    /// to its own board, as its audio, always does.
    pub with: Vec<String>,
    /// The host may lose its console and monitors.
    pub headless: bool,
}

/// How a GPU is shared among virtual machines.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VgpuSpec {
    /// The GPU was set to take vGPUs of different sizes (`nvidia-smi vgpu -shm 1`), which can be done
    /// only while it has none.
    pub mixed_sizes: bool,
}

/// What a GPU is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GpuModeSpec {
    /// One GPU, uncut.
    Whole,
    /// Cut into instances, each with memory and processors of its own.
    Mig,
    /// Shared among virtual machines (NVIDIA vGPU).
    Vgpu,
    /// Given to a virtual machine as a whole.
    Passthrough,
}

/// A partition, or several alike.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PartitionSpec {
    /// What other resources call it: 1 to 63 of a-z, 0-9 and `-`. With a `count`, `infer` becomes
    /// `infer-0`, `infer-1` and so on.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// Slices and suffix, which mean the same on boards of one family: `3g`, `1g+me`, `1g.2m`. This
    /// or `profile`.
    pub shape: Option<String>,
    /// The name the driver gives the profile on this very board: `1g.10gb`. This or `shape`.
    pub profile: Option<String>,
    /// With mode `vgpu`, and only there: the type of the vGPU, by its name (`NVIDIA A40-8Q`, or
    /// `A40-8Q`) or as the kernel's files number it (`nvidia-556`).
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 100))]
    pub kind: Option<String>,
    /// First memory slice; chosen so that the least is destroyed when not given.
    #[schemars(range(max = 63))]
    pub start: Option<u32>,
    /// How many of them.
    #[schemars(range(min = 1, max = 64))]
    pub count: Option<u32>,
    /// Its compute instances; one that takes all of it when not given.
    pub compute: Option<Vec<ComputeSpec>>,
}

/// Compute instances within a partition.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComputeSpec {
    /// Compute slices: `1c`.
    #[schemars(regex(pattern = r"^[1-9][0-9]?c$"))]
    pub shape: String,
    /// How many of them.
    #[schemars(range(min = 1, max = 64))]
    pub count: Option<u32>,
    /// First compute slice; the driver chooses when not given.
    #[schemars(range(max = 63))]
    pub start: Option<u32>,
}

/// A service that uses partitions.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GpuClientSpec {
    /// The systemd unit: `inference.service`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9:_.@\\-]{1,200}\.(service|scope|slice|target)$"))]
    pub unit: String,
    /// Names of the partitions it uses; all when not given.
    #[serde(default)]
    pub uses: Vec<String>,
}
