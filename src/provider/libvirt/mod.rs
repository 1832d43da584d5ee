//! libvirt: storage pools, networks, disks and virtual machines.
//!
//! [`xml`] is pure and always there; what talks to a libvirt needs the feature `libvirt`. It never
//! decides what to do, and never changes an object that neither carries our mark nor is being adopted.

#[cfg(feature = "libvirt")]
mod act;
#[cfg(feature = "libvirt")]
mod agents;
#[cfg(feature = "libvirt")]
mod console;
#[cfg(feature = "libvirt")]
mod drill;
#[cfg(feature = "libvirt")]
mod fault;
#[cfg(feature = "libvirt")]
mod host;
#[cfg(feature = "libvirt")]
mod observe;
#[cfg(feature = "libvirt")]
mod saving;
#[cfg(feature = "libvirt")]
mod service;
pub mod xml;

#[cfg(feature = "libvirt")]
pub use agents::LibvirtAgents;
#[cfg(feature = "libvirt")]
pub use saving::LibvirtGuests;
#[cfg(feature = "libvirt")]
pub use service::{LibvirtProvider, Settings, WakeSource};
