//! A push converges, what is done by hand is noticed and put right, and strangers are left alone.

use std::time::Duration;

use jiff::Timestamp;

use super::bench::{Bench, PATIENCE, http, sh};
use super::events::{machine_time, seconds, until};
use super::spec::{Vm, disk, environment, network, tiny_disk, tiny_image};

/// What trueup may add to the machine's own time, on an idle machine.
const OVERHEAD_MAX_S: f64 = 2.0;
/// Within what something done by hand is noticed, on an idle machine.
const NOTICE_MAX_S: f64 = 1.0;
/// How much longer a busy machine may take. Polls are a minute apart, so that nothing is noticed by
/// them within these limits.
const NOISE: f64 = 5.0;

#[test]
fn pushes_and_hands_are_followed_and_strangers_left_alone() {
    super::beside_libvirt(
        "e2e::converge::pushes_and_hands_are_followed_and_strangers_left_alone",
        || {
            let mut bench = Bench::new();
            let strangers = Strangers::new(&bench);
            let (first, _) = bench.push(&wish(&bench, ""));
            bench.start();
            bench.converged(&first);
            assert!(sh(&["virsh", "dominfo", "web"]).contains("running"));
            guest_answers();

            a_push_is_converged_soon(&bench);
            a_killed_guest_comes_back(&bench);
            a_destroyed_network_comes_back_with_its_guest(&bench);

            assert_eq!(strangers, Strangers::see(), "what is foreign was touched");
            bench.assert_log_is_whole();
            bench.stop();
        },
    );
}

fn wish(bench: &Bench, more: &str) -> Vec<String> {
    let tiny = Bench::tiny();
    vec![
        environment(&bench.dir, ""),
        network("lab", 91, more),
        tiny_image(&tiny),
        tiny_disk("web"),
        Vm {
            name: "web",
            memory_mib: 128,
            disks: &["web"],
            nic: Some(("lab", "10.91.0.5")),
            tiny: Some(&tiny),
            stop_s: 20,
        }
        .yaml(),
    ]
}

/// The guest's own web server, over its own link.
fn guest_answers() {
    until("the guest to answer over its link", Duration::from_secs(30), || http("10.91.0.5:80"));
}

fn a_push_is_converged_soon(bench: &Bench) {
    let before = bench.seq();
    let record = "  dns: [{ ip: 10.91.0.5, names: [web.lab.test] }]\n";
    let mut documents = wish(bench, record);
    documents.push(network("side", 92, ""));
    documents.push(disk("data", 16));
    let (commit, pushed) = bench.push(&documents);
    bench.converged(&commit);
    let events = bench.events_after(before);
    let last = events.iter().rfind(|event| event.type_ == "resource.synced").unwrap();
    assert_eq!(last.commit, commit.to_string());
    let stepped: Vec<_> = events.iter().filter(|event| event.type_ == "step.started").collect();
    assert!(
        stepped.iter().all(|event| event.subject != "vm/web"),
        "the guest was not to be touched"
    );
    let (whole, machine) = (seconds(pushed, last.at), machine_time(&events));
    println!(
        "push to synced: {whole:.3} s, of it {machine:.3} s in {} steps, trueup's own {:.3} s",
        stepped.len(),
        whole - machine
    );
    assert!(whole - machine < OVERHEAD_MAX_S * NOISE, "a push took too long");
}

fn a_killed_guest_comes_back(bench: &Bench) {
    let before = bench.seq();
    let killed = Timestamp::now();
    sh(&["virsh", "destroy", "web"]);
    let drifted = bench.event(before, "resource.drifted", "vm/web");
    assert_eq!(drifted.data["what"], "stopped");
    let healed = bench.event(before, "resource.recovered", "vm/web");
    guest_answers();
    report("virsh destroy", killed, &drifted, &healed);
}

fn a_destroyed_network_comes_back_with_its_guest(bench: &Bench) {
    let before = bench.seq();
    let destroyed = Timestamp::now();
    sh(&["virsh", "net-destroy", "lab"]);
    let drifted = bench.event(before, "resource.drifted", "network/lab");
    let healed = bench.event(before, "resource.recovered", "network/lab");
    guest_answers();
    report("virsh net-destroy", destroyed, &drifted, &healed);
    // The guest itself was never restarted for it.
    let restarts = bench.events_after(before).into_iter().any(|event| {
        event.is("step.started", "vm/web")
            && !matches!(event.data["disruption"].as_str(), Some("none" | "live"))
    });
    assert!(!restarts, "the guest was interrupted");
}

fn report(
    what: &str,
    done: Timestamp,
    drifted: &super::events::Event,
    healed: &super::events::Event,
) {
    let noticed = seconds(done, drifted.at);
    println!(
        "{what}: noticed after {noticed:.3} s, healed after {:.3} s",
        seconds(done, healed.at)
    );
    assert!(noticed < NOTICE_MAX_S * NOISE, "{what} was noticed too late");
}

/// A running domain, a stopped one, a network and a volume that somebody else made.
#[derive(Debug, PartialEq, Eq)]
struct Strangers(Vec<String>);

impl Strangers {
    fn new(bench: &Bench) -> Self {
        let write = |name: &str, xml: String| {
            let path = bench.dir.join(name);
            std::fs::write(&path, xml).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let domain = |name: &str| {
            write(
                &format!("{name}.xml"),
                format!(
                    "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory>\
                     <os><type machine='q35'>hvm</type></os></domain>"
                ),
            )
        };
        sh(&["virsh", "define", &domain("theirs")]);
        sh(&["virsh", "start", "theirs"]);
        sh(&["virsh", "define", &domain("theirs-off")]);
        let network = "<network><name>theirs</name><bridge name='theirs0'/></network>".to_owned();
        sh(&["virsh", "net-define", &write("net.xml", network)]);
        sh(&["virsh", "net-start", "theirs"]);
        // In the very folder that will be the pool.
        let pool = bench.dir.join("pool");
        std::fs::create_dir_all(&pool).unwrap();
        std::fs::write(pool.join("theirs.qcow2"), "precious").unwrap();
        Self::see()
    }

    fn see() -> Self {
        let dir = std::env::var("TRUEUP_PRIVATE_DIR").unwrap();
        let file = format!("{dir}/pool/theirs.qcow2");
        Self(vec![
            sh(&["virsh", "dumpxml", "theirs"]),
            sh(&["virsh", "domstate", "theirs"]),
            sh(&["virsh", "dumpxml", "theirs-off"]),
            sh(&["virsh", "domstate", "theirs-off"]),
            sh(&["virsh", "net-dumpxml", "theirs"]),
            sh(&["virsh", "net-info", "theirs"]),
            std::fs::read_to_string(file).unwrap(),
        ])
    }
}

#[test]
fn what_is_switched_off_by_hand_inside_a_guest_is_healed_too() {
    super::beside_libvirt(
        "e2e::converge::what_is_switched_off_by_hand_inside_a_guest_is_healed_too",
        || {
            let mut bench = Bench::new();
            let (first, _) = bench.push(&wish(&bench, ""));
            bench.start();
            bench.converged(&first);
            let before = bench.seq();
            // The guest ends by itself, as by `poweroff`; libvirt says nothing of a hand.
            sh(&["virsh", "shutdown", "web", "--mode", "acpi"]);
            bench.event_within(before, "resource.drifted", "vm/web", PATIENCE);
            bench.event(before, "resource.recovered", "vm/web");
            guest_answers();
            bench.stop();
        },
    );
}
