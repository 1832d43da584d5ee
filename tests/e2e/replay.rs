//! The log is the truth: it folds to what is live, and the index may go at any time.

use std::time::Instant;

use super::bench::{Bench, is_there, sh};
use super::spec::{disk, environment, network};

#[test]
fn replay_equals_what_is_live_and_the_index_may_go() {
    super::beside_libvirt("e2e::replay::replay_equals_what_is_live_and_the_index_may_go", || {
        let mut bench = Bench::new();
        let (commit, _) = bench.push(&[
            environment(&bench.dir, ""),
            network("lab", 91, ""),
            network("side", 92, ""),
            disk("data", 16),
        ]);
        bench.start();
        bench.converged(&commit);
        sh(&["virsh", "net-destroy", "side"]);
        bench.event(0, "resource.recovered", "network/side");
        let live = bench.run(&["replay"]).code(0).out;
        assert!(live.contains("equals the daemon's state"), "{live}");
        bench.stop();

        // Stopped, with its index and without.
        let stopped = bench.run(&["replay"]).code(0).out;
        assert!(stopped.contains("equals the snapshot"), "{stopped}");
        let known = bench.run(&["state"]).code(0).out;
        let index = bench.state_dir().join("index");
        assert!(is_there(&index));
        std::fs::remove_dir_all(&index).unwrap();
        assert_eq!(bench.run(&["state"]).code(0).out, known);
        assert_eq!(bench.run(&["status"]).code(0).code, 0);

        let before = bench.seq();
        let networks = sh(&["virsh", "net-list", "--all"]);
        let begun = Instant::now();
        bench.start();
        bench.event(before, "log.opened", "");
        bench.await_socket();
        println!("start without an index: {:.3} s", begun.elapsed().as_secs_f64());
        bench.run(&["apply"]).code(0);
        let types: Vec<_> =
            bench.events_after(before).into_iter().map(|event| event.type_).collect();
        assert_eq!(types, ["log.opened"], "a start without an index changed something");
        assert_eq!(sh(&["virsh", "net-list", "--all"]), networks);
        bench.assert_log_is_whole();
        bench.stop();
        assert!(is_there(&index), "the index was built again");
    });
}
