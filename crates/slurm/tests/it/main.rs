//! What holds against a real Slurm: controller, nodes' daemons, munge, database and slurmrestd, each of
//! a private folder and of a private process tree, so that nothing outlives its test.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests start daemons, write their files, wait for them, and say what they skip"
)]

mod accounts;
mod config;
mod faults;
mod lab;
mod look;
mod nodes;
