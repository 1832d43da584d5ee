//! The libvirt client of trueup.
