//! The whole program on a real machine: the real binary as a daemon, a real Git repository, a real
//! libvirt that is started privately for each test, and real (tiny) guests.
//!
//! A test that finds no private libvirt starts itself again beside one. It fails, rather than being
//! skipped, where libvirt is not installed.

mod approvals;
mod begin;
mod bench;
mod booted;
mod commits;
mod converge;
mod crowd;
mod demo;
mod events;
mod gitea;
mod idle;
mod kill;
mod mend;
mod midway;
mod outage;
mod pulls;
mod recover;
mod replay;
mod saved;
mod spec;
mod stop;
mod storm;
mod way_back;

use crate::support::beside;
use crate::support::beside::TINY;

/// Runs `test`, the test function called `name`, beside a private libvirt.
#[track_caller]
fn beside_libvirt(name: &str, test: impl FnOnce()) {
    beside::beside_libvirt(name, |_| test());
}
