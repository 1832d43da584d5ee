//! The integration tests: one binary, one folder a subject.
#![allow(
    clippy::disallowed_methods,
    reason = "tests talk to the host on purpose"
)]

mod libvirt;
