//! GPUs through NVML and the kernel's files, behind `port::Provider`.
//!
//! It observes what a layout matches, and does what a step says; it decides nothing about cuts. It
//! never kills a process, and destroys nothing that turns out to be in use. In reading order:
//!
//! - `behind_port`: [`GpuProvider`]. `session`: the library, on a thread of its own.
//! - `assign`: which of several equal GPUs a layout means.
//! - `look`, `sight`: from what NVML and files tell to observations. `hidden`: who has a GPU open and
//!   stands on no list of NVML's.
//! - `host`: files of the machine, below a root. `kernel`: those of GPUs that guests have or get.
//! - `inventory`: every GPU there is, for people.
//! - `act`: one file a group of steps. `tools`: programs, from argument vectors.
//! - `health`: what is wrong with a GPU. `watch`: what NVML reports by itself.

mod act;
mod assign;
mod behind_port;
mod health;
mod hidden;
mod host;
mod inventory;
mod kernel;
mod lock;
mod look;
mod session;
mod sight;
mod tools;
mod watch;

pub use behind_port::{GpuProvider, GpuSetup};
pub use kernel::SharedHands;
pub use tools::Tools;
