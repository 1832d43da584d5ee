//! What several subjects' tests need: real servers, started here and ended by process id.

#[cfg(feature = "libvirt")]
pub(crate) mod again;
#[cfg(feature = "libvirt")]
pub(crate) mod beside;
pub(crate) mod git_repo;
pub(crate) mod git_server;
pub(crate) mod tiny_guest;
