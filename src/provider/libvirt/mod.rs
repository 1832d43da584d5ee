//! libvirt: storage pools, networks, disks and virtual machines.
//!
//! [`xml`] is pure and always there; what talks to a libvirt needs the feature `libvirt`. It never
//! decides what to do, and never changes an object that neither carries our mark nor is being adopted.

pub mod xml;
