//! GPUs as the kernel's files show them: which driver has them, which vGPUs stand on them, who holds
//! them open, and the steps that hand one over to a virtual machine and back.
//!
//! Everything that MIG is not: passthrough (vfio-pci) and vGPU (mediated devices, or virtual
//! functions of the vendor's own VFIO driver). In reading order:
//!
//! - [`PciAddress`] (`address`): one address in the spellings of sysfs and NVML.
//! - [`Root`] (`root`): all paths are below a root, and no link leads out of it.
//! - [`Host`], [`observe()`] (`observe`): functions, groups, vGPU types and vGPUs, as found.
//! - [`Holders`], [`scan`] (`holders`): processes with a GPU's device node open, NVML's list aside.
//! - [`Step`], [`Condition`] (`step`, `condition`): one write, one command or one wait, with what must
//!   be true before and after it.
//! - [`plan`]: the pure planning: [`plan::bind`], [`plan::release`], [`plan::vgpus`],
//!   [`plan::functions_down`]; [`Refused`] (`refusal`) says why not, all reasons at once.
//! - [`Executor`] (`exec`, `wait`, `hands`): performs one step and proves it.
//!
//! How it is used: observe, scan, plan, keep the plan's claims, then for each step write the intent,
//! [`Executor::perform`], write the outcome. After a crash nothing is remembered: observe and plan
//! again, and what comes out are the remaining steps. A plan with [`Plan::again`] is one stage of
//! several; observe and plan again after it.
//!
//! Rules of this crate:
//!
//! - No process is ever ended, and no device is reset.
//! - What somebody holds is not taken away: the scan is repeated right before each step that takes.
//! - A vGPU without a claim of ours is somebody else's and is left alone.
//! - Planning has no I/O, no clock and no randomness: the same input gives the same steps.
#![forbid(unsafe_code)]

mod address;
mod condition;
mod error;
mod exec;
#[expect(clippy::disallowed_methods, reason = "runs sriov-manage and modprobe, and nothing else")]
mod hands;
mod holders;
mod observe;
pub mod plan;
mod refusal;
mod root;
mod step;
#[expect(clippy::disallowed_methods, reason = "sysfs tells nobody of changes: it has to be polled")]
mod wait;

pub use address::{AddressError, PciAddress};
pub use condition::{Condition, Fails};
pub use error::{Error, Next};
pub use exec::{Executor, Outcome};
pub use hands::{Hands, LiveHands};
pub use holders::{Held, Holder, Holders, scan};
pub use observe::{
    Backend, Function, Host, MdevType, Mediated, Sriov, Unread, VendorFunction, VgpuKind, observe,
};
pub use plan::{Claim, Note, OnBusy, Place, Plan, VFIO, is_on_instance};
pub use refusal::{Refusal, Refused};
pub use root::{Root, RootError};
pub use step::{Action, Step};
pub use wait::Patience;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests build trees and look at them")]
mod tests;
