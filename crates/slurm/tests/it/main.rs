//! What holds against a real Slurm: controller, nodes' daemons, munge, database and slurmrestd, each of
//! a private folder and of a private process tree, so that nothing outlives its test.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests start daemons, write their files, wait for them, say what they skip, and fail where \
              they cannot"
)]

mod accounts;
mod config;
mod database;
mod faults;
mod firewall;
mod lab;
mod look;
mod nodes;
