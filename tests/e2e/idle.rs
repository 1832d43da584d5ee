//! Where nothing is to be done, nothing is written; and there is one daemon at a time.

use super::bench::{Bench, sh};
use super::spec::{environment, network};
use crate::cli::{Ended, program};

#[test]
fn nothing_to_do_leaves_no_trace_and_a_second_daemon_is_refused() {
    super::beside_libvirt(
        "e2e::idle::nothing_to_do_leaves_no_trace_and_a_second_daemon_is_refused",
        || {
            let mut bench = Bench::new();
            bench.poll = "1s";
            bench.configure();
            let (commit, _) = bench.push(&[environment(&bench.dir, ""), network("lab", 91, "")]);
            bench.start();
            bench.converged(&commit);

            let before = bench.seq();
            let events = sh(&["virsh", "net-dumpxml", "lab"]);
            // Whole passes, one after the other, each asked for and answered, beside the polls.
            for _ in 0..5 {
                bench.run(&["apply"]).code(0);
                bench.run(&["plan"]).code(0);
            }
            assert_eq!(bench.events_after(before).len(), 0, "a pass with nothing to do was noted");
            assert_eq!(sh(&["virsh", "net-dumpxml", "lab"]), events);

            a_second_daemon_is_refused(&bench);
            assert_eq!(bench.events_after(before).len(), 0);
            bench.run(&["apply"]).code(0);
            bench.stop();
        },
    );
}

/// On the same socket, and on the same log with another socket.
fn a_second_daemon_is_refused(bench: &Bench) {
    let listens = bench.run(&["run"]).code(4).err;
    assert!(listens.contains("another daemon listens on"), "{listens}");
    let config = std::fs::read_to_string(bench.config()).unwrap();
    let other = bench.dir.join("other.yaml");
    std::fs::write(&other, config.replace("trueup.sock", "other.sock")).unwrap();
    let mut command = program();
    command.arg("--config").arg(other).arg("run");
    let writes = Ended::of(command.output().unwrap()).code(4).err;
    assert!(writes.contains(&format!("written by process {}", bench.pid())), "{writes}");
    println!("a second daemon is told: {listens}{writes}");
}
