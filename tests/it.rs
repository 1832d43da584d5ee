//! The integration tests: one binary, one module a subject.
//!
//! A guard in `tidy` fails when a folder of tests is not named here.
#![allow(clippy::disallowed_methods, reason = "tests talk to the machine")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "measured times are told, and a child process tells its parent"
)]
#![allow(missing_docs, reason = "tests")]

mod check;
mod cli;
mod cluster;
#[cfg(feature = "libvirt")]
mod e2e;
mod forge;
mod gpu;
mod image;
mod journal;
#[cfg(feature = "libvirt")]
mod libvirt;
mod preflight;
mod source;
mod support;
mod tidy;
mod world;
