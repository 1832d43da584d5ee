//! What is observed, as plain data; ids that look alike have types of their own.

use nvml_wrapper_sys::bindings as sys;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};

macro_rules! number {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);
    )*};
}

number! {
    /// The place of a GPU instance profile in NVML's enumeration; only profile information is
    /// asked by it.
    ProfileIndex
    /// The id of a GPU instance profile, by which instances are made and listed. Another board
    /// gives it to another shape.
    ProfileId
    /// The id of a GPU instance. No identity: equal boards number equal placements differently.
    GpuInstanceId
    /// The id of a compute instance profile.
    ComputeProfileId
    /// The id of a compute instance within its GPU instance.
    ComputeInstanceId
}

/// What NVML knows at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The driver's version.
    pub driver: String,
    /// Every GPU, in the order of its index.
    pub gpus: Vec<Gpu>,
}

/// A GPU, or why it cannot be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "gpu", rename_all = "snake_case")]
pub enum Gpu {
    /// It answers.
    Present(Box<GpuRecord>),
    /// It does not, and the others still do.
    Failed(FailedGpu),
}

/// A GPU that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedGpu {
    /// Its index at this moment.
    pub index: u32,
    /// Which it is, if it answered this client before.
    pub identity: Option<Identity>,
    /// NVML's code, if it gave one; [`Code::GpuIsLost`] is a GPU off the bus.
    pub code: Option<Code>,
    /// What went wrong, in words.
    pub error: String,
}

/// By what a GPU is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// `GPU-…`.
    pub uuid: String,
    /// The serial number; boards for consumers have none.
    pub serial: Option<String>,
    /// The PCI address with a domain of four digits, in lower case, as sysfs has it.
    pub pci: String,
}

/// A GPU that answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuRecord {
    /// Its index at this moment; another one after a reboot.
    pub index: u32,
    /// By what it is known.
    #[serde(flatten)]
    pub identity: Identity,
    /// The number in `/dev/nvidiaN`.
    pub minor: Option<u32>,
    /// The PCI device and vendor, `0x20b010de`.
    pub pci_device: u32,
    /// The product name.
    pub name: String,
    /// The architecture.
    pub architecture: Architecture,
    /// The vBIOS.
    pub vbios: Option<String>,
    /// Memory.
    pub memory: Option<Memory>,
    /// The MIG mode; `None` where the board cannot do MIG.
    pub mig: Option<MigMode>,
    /// How the GPU is shared with virtual machines.
    pub virtualization: Option<Virtualization>,
    /// Persistence mode.
    pub persistence: Option<bool>,
    /// Whether a display is driven.
    pub display_active: Option<bool>,
    /// How it may be cut; empty where the driver tells only with MIG on.
    pub profiles: Vec<Profile>,
    /// How it is cut, by start.
    pub instances: Vec<GpuInstance>,
    /// Processes of the whole GPU and of its instances.
    pub processes: Vec<Process>,
    /// Sensors and counters.
    pub health: Health,
    /// What could not be read for another reason than that it is not supported.
    pub unread: Vec<Unread>,
}

/// The generation of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "names of products")]
pub enum Architecture {
    Kepler,
    Maxwell,
    Pascal,
    Volta,
    Turing,
    Ampere,
    Ada,
    Hopper,
    Blackwell,
    /// One that this program does not know, or that the driver does not tell (`None`).
    Unknown(Option<u32>),
}

impl Architecture {
    /// From NVML's number.
    pub(crate) fn of(number: u32) -> Self {
        match number {
            2 => Self::Kepler,
            3 => Self::Maxwell,
            4 => Self::Pascal,
            5 => Self::Volta,
            6 => Self::Turing,
            7 => Self::Ampere,
            8 => Self::Ada,
            9 => Self::Hopper,
            10 => Self::Blackwell,
            other => Self::Unknown(Some(other)),
        }
    }
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "said by their names")]
pub struct Memory {
    pub total: u64,
    pub reserved: u64,
    pub used: u64,
    pub free: u64,
}

/// The MIG mode: where the two differ, a reset is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigMode {
    /// What is.
    pub current: bool,
    /// What will be after a reset or a reboot.
    pub pending: bool,
}

/// How a GPU is shared with virtual machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Virtualization {
    /// It is not.
    None,
    /// This is a guest that the whole GPU was passed through to.
    Passthrough,
    /// This is a guest with a vGPU.
    VgpuGuest,
    /// This is a host of vGPUs.
    VgpuHost,
    /// This is a host of vSGAs.
    VsgaHost,
    /// A mode that this program does not know.
    Unknown(u32),
}

impl Virtualization {
    /// From NVML's number.
    pub(crate) fn of(number: u32) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Passthrough,
            2 => Self::VgpuGuest,
            3 => Self::VgpuHost,
            4 => Self::VsgaHost,
            other => Self::Unknown(other),
        }
    }
}

/// Where something lies: placement units of a GPU, or compute slices of a GPU instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// The first.
    pub start: u32,
    /// How many.
    pub size: u32,
}

/// Shared engines of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engines {
    /// Copy engines.
    pub copy: u32,
    /// Video decoders.
    pub decoders: u32,
    /// Video encoders.
    pub encoders: u32,
    /// JPEG decoders.
    pub jpeg: u32,
    /// Optical flow accelerators.
    pub ofa: u32,
}

/// A GPU instance profile of a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its place in NVML's enumeration.
    pub index: ProfileIndex,
    /// Its id.
    pub id: ProfileId,
    /// As the driver prints it, `1g.10gb`; `None` with drivers that do not tell.
    pub name: Option<String>,
    /// Compute slices.
    pub slices: u32,
    /// Most instances at a time.
    pub max: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Shared engines taken.
    pub engines: Engines,
    /// Where an instance may lie on an empty board.
    pub placements: Vec<Placement>,
}

/// A GPU instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuInstance {
    /// Its id at present.
    pub id: GpuInstanceId,
    /// Its profile.
    pub profile: ProfileId,
    /// Where it lies. With the GPU and the profile this is its identity.
    pub placement: Placement,
    /// Its compute instances, by start.
    pub compute: Vec<ComputeInstance>,
    /// How it may be cut itself: NVML tells only of instances that are there.
    pub compute_profiles: Vec<ComputeProfile>,
    /// Percent of its multiprocessors in use since the observation before, where GPM is supported.
    pub utilization: Option<f64>,
}

/// A compute instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeInstance {
    /// Its id at present.
    pub id: ComputeInstanceId,
    /// Its profile.
    pub profile: ComputeProfileId,
    /// Where it lies in its GPU instance.
    pub placement: Placement,
    /// `MIG-…`, by which programs choose it; another one each time it is made.
    pub uuid: String,
}

/// A compute instance profile of a GPU instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeProfile {
    /// Its id.
    pub id: ComputeProfileId,
    /// As the driver prints it, `1c.3g.20gb`; `None` with drivers that do not tell.
    pub name: Option<String>,
    /// Compute slices.
    pub slices: u32,
    /// Most instances at a time.
    pub max: u32,
    /// Where an instance may lie; empty with drivers that do not tell.
    pub placements: Vec<Placement>,
}

/// Which GPU instance of a GPU: its identity within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// The profile.
    pub profile: ProfileId,
    /// The first placement unit.
    pub start: u32,
}

/// Which compute instance of a GPU instance: its identity within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ComputeSlot {
    /// The profile.
    pub profile: ComputeProfileId,
    /// The first compute slice.
    pub start: u32,
}

/// What became of a change of the MIG mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeChange {
    /// It is in force.
    Active,
    /// It waits for a reset or a reboot.
    NeedsReset,
    /// It waits, because somebody uses the GPU.
    InUse,
    /// It waits, for a reason that is not foreseen.
    Waits(Code),
}

/// What a process does on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessKind {
    /// It computes.
    Compute,
    /// It draws.
    Graphics,
    /// It computes by way of MPS.
    Mps,
}

/// A process that uses a GPU or an instance of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The process id, in the namespace of the driver.
    pub pid: u32,
    /// What it does.
    pub kind: ProcessKind,
    /// Its memory in bytes, where the driver tells.
    pub memory: Option<u64>,
    /// The GPU instance it is in.
    pub gpu_instance: Option<GpuInstanceId>,
    /// The compute instance it is in.
    pub compute_instance: Option<ComputeInstanceId>,
}

/// Counts of memory errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EccCounts {
    /// Corrected by themselves.
    pub corrected: u64,
    /// Not corrected: data were lost.
    pub uncorrected: u64,
}

/// Remapped rows (Ampere and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemappedRows {
    /// For corrected errors.
    pub corrected: u32,
    /// For uncorrected errors.
    pub uncorrected: u32,
    /// Whether some wait for a reset.
    pub pending: bool,
    /// Whether a remapping failed: the board should be replaced.
    pub failed: bool,
}

/// An NVLink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvLink {
    /// Its number.
    pub link: u32,
    /// Whether it is up.
    pub active: bool,
    /// Replays.
    pub replay_errors: Option<u64>,
    /// Recoveries.
    pub recovery_errors: Option<u64>,
    /// CRC errors of flits.
    pub crc_errors: Option<u64>,
}

/// What the driver says has to be done so that a GPU works again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Recovery {
    /// Nothing.
    None,
    /// A reset of the GPU.
    Reset,
    /// A reboot of the machine.
    Reboot,
    /// An end of the work between GPUs, and then a reset of all of them.
    DrainPeers,
    /// An end of the work on it, and then a reset.
    DrainAndReset,
    /// Something that this program does not know.
    Unknown(u32),
}

impl Recovery {
    /// From NVML's number.
    pub(crate) fn of(number: u32) -> Self {
        match number {
            sys::nvmlDeviceGpuRecoveryAction_s_NVML_GPU_RECOVERY_ACTION_NONE => Self::None,
            sys::nvmlDeviceGpuRecoveryAction_s_NVML_GPU_RECOVERY_ACTION_GPU_RESET => Self::Reset,
            sys::nvmlDeviceGpuRecoveryAction_s_NVML_GPU_RECOVERY_ACTION_NODE_REBOOT => Self::Reboot,
            sys::nvmlDeviceGpuRecoveryAction_s_NVML_GPU_RECOVERY_ACTION_DRAIN_P2P => {
                Self::DrainPeers
            }
            sys::nvmlDeviceGpuRecoveryAction_s_NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET => {
                Self::DrainAndReset
            }
            other => Self::Unknown(other),
        }
    }
}

/// Why the clocks of a GPU are held down, as far as something is wrong then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slowdown {
    /// It is too hot, as the hardware or the driver sees it.
    pub thermal: bool,
    /// The machine's power supply asks for it (an external signal of the board).
    pub power_brake: bool,
}

/// Sensors and counters; what is not supported is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What the driver says has to be done; older drivers do not say.
    pub recovery: Option<Recovery>,
    /// ECC: current and pending.
    pub ecc: Option<(bool, bool)>,
    /// Memory errors since the driver was loaded.
    pub ecc_volatile: Option<EccCounts>,
    /// Memory errors of a lifetime.
    pub ecc_aggregate: Option<EccCounts>,
    /// Pages retired for corrected and for uncorrected errors (before Ampere).
    pub retired_pages: Option<(u32, u32)>,
    /// Whether pages wait to be retired.
    pub retirement_pending: Option<bool>,
    /// Remapped rows.
    pub remapped_rows: Option<RemappedRows>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Milliwatts.
    pub power: Option<u32>,
    /// Milliwatts.
    pub power_limit: Option<u32>,
    /// MHz: of the multiprocessors.
    pub sm_clock: Option<u32>,
    /// MHz: of the memory.
    pub memory_clock: Option<u32>,
    /// Why clocks are held down, as NVML's bits.
    pub clock_reasons: Option<u64>,
    /// Percent of the time with work; not with MIG on.
    pub utilization: Option<u32>,
    /// Percent of the time with memory traffic; not with MIG on.
    pub memory_utilization: Option<u32>,
    /// NVLinks.
    pub nvlinks: Vec<NvLink>,
}

impl Health {
    /// What of the reasons to hold clocks down is a trouble: not power caps and settings, which are
    /// somebody's wish.
    pub fn slowdown(&self) -> Slowdown {
        let reasons = self.clock_reasons.unwrap_or(0);
        let any = |bits: &[u32]| bits.iter().any(|bit| reasons & u64::from(*bit) != 0);
        Slowdown {
            thermal: any(&[
                sys::nvmlClocksEventReasonSwThermalSlowdown,
                sys::nvmlClocksThrottleReasonHwThermalSlowdown,
            ]),
            power_brake: any(&[sys::nvmlClocksThrottleReasonHwPowerBrakeSlowdown]),
        }
    }
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// NVML's code, if it gave one.
    pub code: Option<Code>,
    /// What went wrong, with the function.
    pub error: String,
}

impl From<&Error> for Unread {
    fn from(error: &Error) -> Self {
        Self { code: error.code(), error: error.to_string() }
    }
}

/// Brings a PCI address into the form of sysfs: a domain of four digits, lower case.
///
/// `None` if it is none.
pub fn pci_address(text: &str) -> Option<String> {
    let (domain, rest) = text.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let number = |digits: &str| u32::from_str_radix(digits, 16).ok();
    let (domain, bus) = (number(domain)?, number(bus)?);
    let (device, function) = (number(device)?, number(function)?);
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}
