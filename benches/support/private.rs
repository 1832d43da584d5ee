//! A part of a benchmark that needs a libvirtd: in a private one, started for it.

use std::process::Command;

/// Runs this program again with `word` inside of a private libvirt; what is left out where that
/// does not work is said.
pub fn again(word: &str, what: &str) {
    let support = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/private-libvirt");
    let this = std::env::current_exe().unwrap();
    let status = Command::new(support).arg(this).arg(word).status().unwrap();
    if !status.success() {
        println!("  skipped: {what}; a private libvirtd is needed, and so is root ({status})");
    }
}
