//! What `make demo-pulls` shows, as a test: the script ends with an error where something is not as it
//! tells.

use std::path::Path;
use std::process::Command;

#[test]
fn the_demo_of_pull_requests_ends_well() {
    let built = Path::new(env!("CARGO_BIN_EXE_trueup")).parent().unwrap();
    let fake = built.join("examples/fake-github");
    assert!(
        fake.is_file(),
        "cargo builds it with all tests; alone: cargo build --example fake-github"
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/demo-pulls");
    let mut command = Command::new(script);
    command.env("CARGO_TARGET_DIR", built.parent().unwrap());
    let shown = command.env("DEMO_PROFILE", built.file_name().unwrap()).output().unwrap();
    let (out, errors) =
        (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    assert!(shown.status.success(), "{}\n{out}\n{errors}", shown.status);
    for told in ["success 2 to change, 1 restart", "failure held", "success applied: "] {
        assert!(out.contains(told), "no {told:?} in\n{out}");
    }
}

/// Some ten minutes and more of emulated guests, so only where it is asked for.
#[test]
fn the_demo_of_a_cluster_ends_well() {
    if std::env::var_os("TRUEUP_TEST_CLUSTER").is_none() {
        println!("skipped: TRUEUP_TEST_CLUSTER=1 builds a Slurm cluster of virtual machines");
        return;
    }
    let built = Path::new(env!("CARGO_BIN_EXE_trueup")).parent().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/demo-cluster");
    let mut command = Command::new(script);
    command.env("CARGO_TARGET_DIR", built.parent().unwrap());
    let status = command.env("DEMO_PROFILE", built.file_name().unwrap()).status().unwrap();
    assert!(status.success(), "{status}");
}
