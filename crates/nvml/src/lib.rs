//! The NVML client of trueup: what GPUs there are, how they are cut, how they are; and the few
//! operations that change how they are cut.
//!
//! It decides nothing, keeps no belief from one look to the next but handles, and knows nothing of
//! trueup's kinds. Every call blocks. In reading order:
//!
//! - [`Client`] (`client`): opening, and the operations. `observe`, `health`: looking.
//! - `record`: what is seen, as plain data.
//! - [`Watcher`] (`watch`): what NVML reports by itself.
//! - `raw`: the calls into the library that the safe wrapper lacks or has with a defect.
//! - `error`: what can go wrong, with NVML's codes.
//!
//! Rules of this crate:
//!
//! - `unsafe` stands only where C is called, and states what makes it sound.
//! - Symbols are fields of the wrapper's table, never its methods of the same name, which panic
//!   with an older driver (`tests/it/rules.rs` holds both).
//! - A missing library or driver is [`Error::Unobservable`], never an empty list.
//! - An instance is named by profile and start; ids are looked up anew for every operation.

mod client;
mod error;
mod health;
mod observe;
mod raw;
mod record;
mod watch;

pub use client::{Client, LIBRARY, Made};
pub use error::{Code, Error};
pub use observe::PROFILE_INDICES_MAX;
pub use record::{
    Architecture, ComputeInstance, ComputeInstanceId, ComputeProfile, ComputeProfileId,
    ComputeSlot, EccCounts, Engines, FailedGpu, Gpu, GpuInstance, GpuInstanceId, GpuRecord, Health,
    Identity, Memory, MigMode, ModeChange, NvLink, Observation, Placement, Process, ProcessKind,
    Profile, ProfileId, ProfileIndex, Recovery, RemappedRows, Slot, Slowdown, Unread,
    Virtualization, pci_address,
};
pub use watch::{Event, EventKind, Unwatched, Watcher};
