//! Tests that run themselves again in a child process, where they find what they need.
//!
//! The test harness ends well when it finds no test of a name, so that an exit status proves
//! nothing: the child has to say that it came to its end.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// Said by a child whose test came to its end.
const MARK: &str = "this child ran to its end: ";

/// To be called by the child when the test `name` has come to its end.
pub(crate) fn ran(name: &str) {
    println!("{MARK}{name}");
}

/// Runs `command`, a child that runs the test `name` with `--nocapture`, shows what it says, and
/// requires that the test ran in it and came to its end.
#[track_caller]
pub(crate) fn run_again(command: &mut Command, name: &str) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mark = format!("{MARK}{name}");
    let mut ran = false;
    // The harness's own words may stand on the same line.
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        ran |= line.ends_with(&mark);
        println!("{line}");
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "{name} failed in its child ({status}): see above");
    assert!(ran, "{name} did not run in its child, which ended well all the same");
}

#[test]
#[should_panic(expected = "did not run in its child")]
fn a_child_that_runs_no_test_is_a_failure() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["no::such::test", "--exact", "--nocapture"]);
    run_again(&mut command, "no::such::test");
}
