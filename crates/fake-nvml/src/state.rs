//! What the simulated machine is at this moment: plain data, written as JSON; no behaviour.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::edit::Edit;

/// The whole machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The driver's version.
    pub driver: String,
    /// `false`: the library is there and the kernel module is not.
    #[serde(default = "yes")]
    pub driver_loaded: bool,
    /// Raised by a reload or a reboot: every handle and initialisation from before is void.
    #[serde(default)]
    pub epoch: u64,
    /// The last number given to an instance, a MIG device or an event; none is given twice.
    #[serde(default)]
    pub last_serial: u64,
    /// How many profile indices this driver knows; beyond them `INVALID_ARGUMENT`.
    #[serde(default = "indices")]
    pub profile_indices: u32,
    /// The boards in use, by key.
    pub boards: BTreeMap<String, Board>,
    /// The GPUs, in the order of their index.
    pub gpus: Vec<Gpu>,
    /// Faults to come, by function.
    #[serde(default)]
    pub faults: BTreeMap<String, Vec<Fault>>,
    /// The newest events, oldest first.
    #[serde(default)]
    pub events: Vec<Event>,
    /// Whether calls that change nothing are logged as well.
    #[serde(default)]
    pub log_reads: bool,
}

fn yes() -> bool {
    true
}

fn indices() -> u32 {
    18
}

/// MIG mode: what is and what will be after a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mode {
    /// What is.
    pub current: bool,
    /// What was asked for last.
    pub pending: bool,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// The key of its board.
    pub board: String,
    /// `GPU-…`.
    pub uuid: String,
    /// The serial number; boards for consumers have none.
    #[serde(default)]
    pub serial: Option<String>,
    /// PCI address with a domain of four digits, `0000:07:00.0`.
    pub pci: String,
    /// The number in `/dev/nvidiaN`.
    pub minor: u32,
    /// The vBIOS.
    pub vbios: String,
    /// `None`: the board cannot do MIG in its present display mode.
    pub mig: Option<Mode>,
    /// Whether it fell off the bus.
    #[serde(default)]
    pub lost: bool,
    /// Whether GPU instance ids run from the other end, as seen on one of two equal boards.
    #[serde(default)]
    pub mirrored: bool,
    /// Whether a mode change resets the GPU by itself where that needs a reset.
    #[serde(default)]
    pub resets_itself: bool,
    /// How often the destruction of a GPU instance is refused after one of its compute instances
    /// was destroyed.
    #[serde(default)]
    pub destroy_refusals: u32,
    /// NVML's virtualization mode: 0 none, 1 passthrough, 2 vGPU guest, 3 vGPU host.
    #[serde(default)]
    pub virtualization: u32,
    /// Clients of the whole GPU that NVML lists nowhere.
    #[serde(default)]
    pub hidden_holders: u32,
    /// Persistence mode.
    #[serde(default)]
    pub persistence: bool,
    /// Whether a display is driven.
    #[serde(default)]
    pub display_active: bool,
    /// GPU instances, in the order they were made.
    #[serde(default)]
    pub instances: Vec<GpuInstance>,
    /// Processes.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// What the sensors say.
    #[serde(default)]
    pub health: Health,
}

/// A GPU instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuInstance {
    /// The number its handle has; never used again.
    pub serial: u64,
    /// The instance id, which another board may give to another placement.
    pub id: u32,
    /// The profile id.
    pub profile: u32,
    /// First placement unit.
    pub start: u32,
    /// Compute instances, in the order they were made.
    #[serde(default)]
    pub compute: Vec<ComputeInstance>,
    /// How often its destruction is still refused.
    #[serde(default)]
    pub refusals: u32,
}

/// A compute instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeInstance {
    /// The number its handle and its MIG device have; never used again.
    pub serial: u64,
    /// The id within the GPU instance.
    pub id: u32,
    /// The profile id.
    pub profile: u32,
    /// First compute slice.
    pub start: u32,
    /// Compute slices taken.
    pub size: u32,
    /// `MIG-…`, another one each time.
    pub uuid: String,
    /// Clients that NVML lists nowhere, such as a monitor's leaked handle.
    #[serde(default)]
    pub hidden_holders: u32,
}

/// What a process does on the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessKind {
    /// It computes.
    #[default]
    Compute,
    /// It draws.
    Graphics,
    /// It computes by way of MPS.
    Mps,
}

/// A process that uses a GPU, or one of its instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// What it does.
    #[serde(default)]
    pub kind: ProcessKind,
    /// Memory in bytes; `None` where the driver cannot say.
    #[serde(default)]
    pub memory: Option<u64>,
    /// The start of the GPU instance it is in; `None` for the whole GPU.
    #[serde(default)]
    pub start: Option<u32>,
    /// The id of the compute instance it is in.
    #[serde(default)]
    pub compute: u32,
}

/// Sensors and counters; what is `None` is not supported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// What has to be done, as NVML's number: 0 nothing, 1 a reset, 2 a reboot.
    pub recovery: Option<u32>,
    /// ECC mode: current and pending.
    pub ecc_mode: Option<(bool, bool)>,
    /// Errors since the driver was loaded: corrected and uncorrected.
    pub ecc_volatile: Option<(u64, u64)>,
    /// Errors of a lifetime: corrected and uncorrected.
    pub ecc_aggregate: Option<(u64, u64)>,
    /// Retired pages, addresses: for single-bit and for double-bit errors.
    pub retired_pages: Option<(Vec<u64>, Vec<u64>)>,
    /// Whether pages are waiting to be retired.
    pub retirement_pending: Option<bool>,
    /// Remapped rows: corrected, uncorrected, pending, failed.
    pub remapped_rows: Option<(u32, u32, bool, bool)>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Milliwatts.
    pub power: Option<u32>,
    /// Milliwatts.
    pub power_limit: Option<u32>,
    /// MHz: graphics, multiprocessors, memory, video.
    pub clocks: Option<[u32; 4]>,
    /// Why clocks are held down, as bits.
    pub clock_reasons: Option<u64>,
    /// Percent: GPU and memory.
    pub utilization: Option<(u32, u32)>,
    /// Percent of multiprocessors in use by GPM, by the start of the instance.
    pub gpm: Option<BTreeMap<u32, f64>>,
    /// NVLinks, in the order of their number.
    pub nvlinks: Vec<NvLink>,
}

/// One NVLink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvLink {
    /// Whether it is up.
    pub active: bool,
    /// Errors: replay, recovery, CRC of flits, CRC of data.
    #[serde(default)]
    pub errors: [u64; 4],
}

/// What a function does wrong, and when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The call it strikes, from 1, counted from when the fault was set.
    pub nth: u64,
    /// The code returned in place of the call; `None`: only the edits are made.
    #[serde(default)]
    pub code: Option<u32>,
    /// Whether every later call is struck too.
    #[serde(default)]
    pub sticky: bool,
    /// Whether the call takes effect before it fails.
    #[serde(default)]
    pub after: bool,
    /// What changes on the machine right before the call.
    #[serde(default)]
    pub edit: Vec<Edit>,
    /// Calls so far.
    #[serde(default)]
    pub calls: u64,
}

/// An event of NVML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Its number; an event set gives those after its registration.
    pub serial: u64,
    /// The index of the GPU.
    pub gpu: usize,
    /// One bit, as in NVML: 8 is a critical Xid.
    pub kind: u64,
    /// The Xid, for that kind.
    pub data: u64,
    /// The start of the GPU instance concerned.
    #[serde(default)]
    pub start: Option<u32>,
}
