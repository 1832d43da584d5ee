//! What does not answer for a while: libvirt, and the repository.

use std::time::Instant;

use super::bench::{Bench, sh};
use super::spec::{Vm, environment, network};

#[test]
fn a_lost_libvirt_and_a_lost_repository_come_back() {
    super::beside_libvirt("e2e::outage::a_lost_libvirt_and_a_lost_repository_come_back", || {
        let mut bench = Bench::new();
        bench.poll = "1s";
        bench.configure();
        let vm = Vm {
            name: "plain",
            memory_mib: 64,
            disks: &[],
            nic: Some(("lab", "10.91.0.5")),
            tiny: None,
            stop_s: 1,
        };
        let documents =
            |bench: &Bench| vec![environment(&bench.dir, ""), network("lab", 91, ""), vm.yaml()];
        let wish = documents(&bench);
        let (commit, _) = bench.push(&wish);
        bench.start();
        bench.converged(&commit);
        libvirt_goes_and_comes(&bench);
        the_repository_goes_and_comes(&bench, wish);
        bench.assert_log_is_whole();
        bench.stop();
    });
}

fn libvirt_goes_and_comes(bench: &Bench) {
    let script = |name: &str| bench.dir.join(name).to_str().unwrap().to_owned();
    let id = sh(&["virsh", "domid", "plain"]);
    let before = bench.seq();
    sh(&[&script("stop-libvirtd"), "KILL"]);
    for subject in ["network/lab", "vm/plain"] {
        bench.event(before, "resource.unobservable", subject);
    }
    // Out of sight is not gone: nothing is planned for what cannot be seen, and that is said.
    bench.run(&["plan"]).code(5);
    let begun = Instant::now();
    sh(&[&script("start-libvirtd")]);
    for subject in ["network/lab", "vm/plain"] {
        bench.event(before, "resource.observable", subject);
    }
    println!("libvirt's return was noticed within {:.3} s", begun.elapsed().as_secs_f64());
    assert_eq!(sh(&["virsh", "domid", "plain"]), id, "the guest went on running");
    let seen = bench.events_after(before);
    let acted: Vec<_> = seen.iter().filter(|event| event.type_ == "step.started").collect();
    assert!(acted.is_empty(), "{acted:?}");

    // And what happens from now on is seen again.
    let before = bench.seq();
    sh(&["virsh", "destroy", "plain"]);
    bench.event(before, "resource.recovered", "vm/plain");
}

fn the_repository_goes_and_comes(bench: &Bench, mut wish: Vec<String>) {
    let (here, away) = (bench.repo.bare(), bench.repo.root().join("away.git"));
    let before = bench.seq();
    std::fs::rename(&here, &away).unwrap();
    bench.event(before, "source.unreachable", "");
    // It keeps healing toward the last good commit.
    sh(&["virsh", "net-destroy", "lab"]);
    bench.event(before, "resource.recovered", "network/lab");
    std::fs::rename(&away, &here).unwrap();
    bench.event(before, "source.reachable", "");
    wish.push(network("side", 92, ""));
    let (commit, pushed) = bench.push(&wish);
    bench.converged(&commit);
    let found = bench.event(before, "source.commit_observed", "");
    println!(
        "a push after the repository's return was seen after {:.3} s",
        super::events::seconds(pushed, found.at)
    );
}
