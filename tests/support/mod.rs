//! What several subjects' tests need: real servers, started here and ended by process id.

#[cfg(feature = "libvirt")]
pub(crate) mod again;
#[cfg(feature = "libvirt")]
pub(crate) mod beside;
pub(crate) mod git_repo;
pub(crate) mod git_server;
#[cfg(feature = "libvirt")]
#[path = "../../crates/slurm/tests/it/lab.rs"]
#[allow(dead_code, reason = "shared with the tests of the crate, which use all of it")]
pub(crate) mod slurm_lab;
pub(crate) mod tiny_guest;
