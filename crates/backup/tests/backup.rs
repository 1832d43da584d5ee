//! The worker against Debian's restic, damaged repositories, full disks and kills.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests talk to the host, and say what they cannot do there"
)]

#[path = "backup/bench_data.rs"]
mod bench_data;
#[path = "backup/compare.rs"]
mod compare;
#[path = "backup/faults.rs"]
mod faults;
#[path = "backup/image.rs"]
mod image;
#[path = "backup/interop.rs"]
mod interop;
#[path = "backup/lab.rs"]
mod lab;
#[path = "backup/lies.rs"]
mod lies;
#[path = "backup/locks.rs"]
mod locks;
#[path = "backup/remote.rs"]
mod remote;
