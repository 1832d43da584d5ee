//! The daemon ends soon, also in the middle of a long step, and goes on from there.

use std::time::Duration;

use super::bench::{Bench, sh};
use super::events::until;
use super::spec::{Vm, environment, network};

/// What a service manager waits for a stop.
const STOP_MAX: Duration = Duration::from_secs(10);

#[test]
fn it_stops_in_the_middle_of_a_long_step_and_goes_on_from_there() {
    super::beside_libvirt(
        "e2e::stop::it_stops_in_the_middle_of_a_long_step_and_goes_on_from_there",
        || {
            let mut bench = Bench::new();
            // A guest without a system never hears its power button.
            let vm = |memory_mib, stop_s| {
                Vm { name: "deaf", memory_mib, disks: &[], nic: None, tiny: None, stop_s }.yaml()
            };
            let with = |bench: &Bench, vm: String| {
                bench.push(&[environment(&bench.dir, ""), network("lab", 91, ""), vm]).0
            };
            let first = with(&bench, vm(64, 60));
            bench.start();
            bench.converged(&first);

            let before = bench.seq();
            with(&bench, vm(96, 60));
            let stopping = until("the guest to be asked to stop", super::bench::PATIENCE, || {
                let found = bench.events_after(before);
                found
                    .into_iter()
                    .rfind(|e| e.is("step.started", "vm/deaf"))
                    .filter(|event| event.data["verb"] == "stop")
            });
            let took = bench.stop();
            println!("stopped in the middle of a step within {:.3} s", took.as_secs_f64());
            assert!(took < STOP_MAX, "it took {took:?} to stop");
            assert!(sh(&["virsh", "domstate", "deaf"]).contains("running"));

            // The next start knows that the step was under way, and comes to the end.
            let last = with(&bench, vm(96, 1));
            bench.start();
            bench.event(before, "step.interrupted", "vm/deaf");
            bench.converged(&last);
            assert!(sh(&["virsh", "dominfo", "deaf"]).contains("98304 KiB"));
            let outcomes = bench.events_after(before);
            let outcomes = outcomes.iter().filter(|event| {
                event.data["step"] == stopping.data["step"]
                    && event.data["plan"] == stopping.data["plan"]
                    && event.type_ != "step.started"
            });
            assert_eq!(outcomes.count(), 1, "one start has one end");
            bench.assert_log_is_whole();
            bench.stop();
        },
    );
}
