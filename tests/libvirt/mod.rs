//! The libvirt provider against a real libvirt, privately started for each test.
//!
//! A test that finds no private libvirt starts itself again beside one. It fails, rather than being
//! skipped, where libvirt is not installed.

mod bench;
mod contract;
mod network;
mod safety;

use std::future::Future;
use std::path::Path;
use std::process::Command;

use crate::support::again;

/// Set where a private libvirt is there.
const URI: &str = "TRUEUP_TEST_LIBVIRT_URI";

/// Where the tiny guest's kernel, initrd and disk lie.
const TINY: &str = "TRUEUP_TEST_TINY_GUEST";

/// Runs `test`, the test function called `name`, beside a private libvirt.
fn beside_libvirt<F: Future<Output = ()>>(name: &str, test: impl FnOnce(String) -> F) {
    if let Ok(uri) = std::env::var(URI) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test(uri));
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
