//! The integration tests: one binary, one folder a subject.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests talk to the host on purpose, and end where they fail"
)]

#[cfg(feature = "libvirt")]
mod libvirt;
