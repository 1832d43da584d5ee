//! Beside a libvirt of a test's own.
//!
//! A test that finds none starts itself again in `tests/support/private-libvirt`.

use std::path::Path;
use std::process::Command;

use super::again;

/// Set where a private libvirt is there.
const URI: &str = "TRUEUP_TEST_LIBVIRT_URI";

/// Where the tiny guest's kernel, initrd and disk lie.
pub(crate) const TINY: &str = "TRUEUP_TEST_TINY_GUEST";

/// Runs `test`, the test function called `name`, beside a private libvirt, whose URI it is handed.
#[track_caller]
pub(crate) fn beside_libvirt(name: &str, test: impl FnOnce(String)) {
    if let Ok(uri) = std::env::var(URI) {
        test(uri);
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
