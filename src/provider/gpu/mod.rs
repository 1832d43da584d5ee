//! GPUs through NVML, behind `port::Provider`.
//!
//! It observes what a layout matches, and does what a step says; it decides nothing about cuts. It
//! never kills a process, and destroys nothing that turns out to be in use. In reading order:
//!
//! - `behind_port`: [`GpuProvider`]. `session`: the library, on a thread of its own.
//! - `look`: from what NVML tells to observations. `host`: files of the machine, below a root.
//! - `inventory`: every GPU there is, for people.
//! - `act`: one file a group of steps. `tools`: programs, from argument vectors.
//! - `watch`: what NVML reports by itself.

mod act;
mod behind_port;
mod host;
mod inventory;
mod look;
mod session;
mod tools;
mod watch;

pub use behind_port::{GpuProvider, GpuSetup};
pub use tools::Tools;
