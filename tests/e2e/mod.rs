//! The whole program on a real machine: the real binary as a daemon, a real Git repository, a real
//! libvirt that is started privately for each test, and real (tiny) guests.
//!
//! A test that finds no private libvirt starts itself again beside one. It fails, rather than being
//! skipped, where libvirt is not installed.

mod bench;
mod commits;
mod converge;
mod events;
mod idle;
mod kill;
mod outage;
mod pulls;
mod replay;
mod spec;
mod stop;

use std::path::Path;
use std::process::Command;

use crate::support::again;

/// Set where a private libvirt is there.
const PRIVATE: &str = "TRUEUP_TEST_LIBVIRT_URI";

/// Where the tiny guest's kernel, initrd and disk lie.
const TINY: &str = "TRUEUP_TEST_TINY_GUEST";

/// Runs `test`, the test function called `name`, beside a private libvirt.
fn beside_libvirt(name: &str, test: impl FnOnce()) {
    if std::env::var_os(PRIVATE).is_some() {
        test();
        again::ran(name);
        return;
    }
    let support = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support");
    let tiny = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tiny-guest");
    // Outside: inside there is no way to the archive that the guest's kernel comes from.
    let made = Command::new(support.join("make-tiny-guest")).arg(&tiny).status();
    assert!(made.unwrap().success(), "the tiny guest could not be made");
    let mut command = Command::new(support.join("private-libvirt"));
    command
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(TINY, &tiny);
    again::run_again(&mut command, name);
}
