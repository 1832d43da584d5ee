//! A stand-in for `libnvidia-ml.so.1`, for tests and for the demonstration.
//!
//! Built as a shared library it exports what the client calls, over a machine that is kept as JSON
//! in a file; built as a Rust library it makes and changes that file. In reading order:
//!
//! - `state`: the machine, as data. `board`: the kinds of GPU, from `boards.json`.
//! - `edit`: what happens to the machine other than by NVML: reboots, losses, processes.
//! - `mig`: what the firmware and the driver do with instances. Pure.
//! - `store`: the file, which several processes share.
//! - `handle`, `entry`, `exports`: the C side.
//!
//! It is stricter than a driver: a handle of something destroyed, a wrong version of a structure
//! and a call before the initialisation are refused. It claims nothing about real hardware beyond
//! what `boards.json` names as evidence; where a driver's rule is not public, the code says so.
//!
//! Nothing here is part of the product.
#![expect(clippy::disallowed_methods, reason = "it plays a machine, which lives in files")]

mod board;
mod code;
mod edit;
mod entry;
mod exports;
mod handle;
mod mig;
mod state;
mod store;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub use board::{Board, Engines, Profile, boards};
pub use edit::{EVENTS_MAX, Edit, EditError};
pub use state::{
    ComputeInstance, Event, Fault, Gpu, GpuInstance, Health, Mode, NvLink, Process, ProcessKind,
    State,
};
pub use store::{Store, StoreError};

/// The name of the shared library as it is built.
pub const FILE_NAME: &str = "libtrueup_fake_nvml.so";

/// Copies the library that was built beside the running test into `folder`, under the name that a
/// driver's has, and writes `state` beside it. Every copy is a machine of its own.
///
/// # Errors
///
/// The library was not built, or `folder` cannot be written.
pub fn install(folder: &Path, state: State) -> Result<(PathBuf, Store), StoreError> {
    let library = folder.join("libnvidia-ml.so.1");
    let io = |source| StoreError::Io { path: library.clone(), source };
    std::fs::copy(built().map_err(io)?, &library).map_err(io)?;
    let mut store = Store::at(folder.join("state.json"));
    store.replace(state)?;
    Ok((library, store))
}

/// The library as cargo builds it for a test: beside the test itself, or one folder up.
fn built() -> io::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let places = exe
        .ancestors()
        .skip(1)
        .take(2)
        .flat_map(|folder| [folder.join(FILE_NAME), folder.join("deps").join(FILE_NAME)]);
    let mut there = places.filter(|place| place.is_file());
    there
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the fake NVML is not built"))
}
