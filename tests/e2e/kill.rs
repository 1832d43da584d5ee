//! The daemon is killed at every boundary between two effects, for real, and comes back.
//!
//! The machine goes to and fro between two wishes, so that each plan creates, changes and removes.
//! Whatever was killed in between, it must end as it ends without.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use trueup::source::CommitId;

use super::bench::{Bench, PATIENCE, sh};
use super::events::{Event, until};
use super::spec::{Vm, disk, environment, network};

/// What one of the tests spends on boundaries, at most: an idle machine needs less for all of them.
const BUDGET: Duration = Duration::from_secs(100);

#[test]
fn killed_at_every_boundary_of_networks_and_disks() {
    super::beside_libvirt("e2e::kill::killed_at_every_boundary_of_networks_and_disks", || {
        let sides = |bench: &Bench| {
            let dir = &bench.dir;
            let dns = |name| format!("  dns: [{{ ip: 10.91.0.5, names: [{name}.lab.test] }}]\n");
            [
                vec![
                    environment(dir, ""),
                    network("lab", 91, &dns("old")),
                    network("left", 92, ""),
                    disk("left", 16),
                ],
                vec![
                    environment(dir, ""),
                    network("lab", 91, &dns("new")),
                    network("right", 93, ""),
                    disk("right", 16),
                ],
            ]
        };
        sweep("networks and disks", sides, 1);
    });
}

#[test]
fn killed_at_boundaries_of_machines() {
    super::beside_libvirt("e2e::kill::killed_at_boundaries_of_machines", || {
        let sides = |bench: &Bench| {
            let vm = |name, memory_mib, disks| {
                Vm {
                    name,
                    memory_mib,
                    disks,
                    nic: Some(("lab", if name == "stays" { "10.91.0.5" } else { "10.91.0.6" })),
                    tiny: None,
                    stop_s: 1,
                }
                .yaml()
            };
            let base = vec![environment(&bench.dir, ""), network("lab", 91, ""), disk("data", 16)];
            let side = |memory_mib, name| {
                let mut all = base.clone();
                all.extend([vm("stays", memory_mib, &["data"]), disk(name, 16)]);
                let own: &'static [&'static str] =
                    if name == "left" { &["left"] } else { &["right"] };
                // Switched off: what goes with its spec gets all the time it wants to shut down.
                all.push(vm(name, 64, own) + "  power: off\n");
                all
            };
            [side(64, "left"), side(96, "right")]
        };
        // Each stop of a guest without a system takes its second; every third boundary of each way.
        sweep("machines", sides, 3);
    });
}

/// Goes to and fro, killed at boundary 1, 1 + `stride` … until a way comes to its end unharmed, and
/// then at those left out, as long as the time lasts.
fn sweep(what: &str, sides: impl Fn(&Bench) -> [Vec<String>; 2], stride: u64) {
    let mut bench = Bench::new();
    // One step after the other, so that a boundary has one number.
    bench.parallelism = 1;
    bench.configure();
    let sides = sides(&bench);
    let mut ways = Ways { expected: Vec::new(), longest: Vec::new() };
    for side in [0, 1, 0] {
        let before = if side == 0 && ways.expected.is_empty() { 0 } else { bench.seq() };
        let commit = bench.push(&sides[side]).0;
        bench.start();
        bench.converged(&commit);
        bench.stop();
        ways.expected.push(machine());
        let steps = bench.events_after(before).iter().filter(|e| e.type_ == "step.started").count();
        ways.longest.push(steps as u64 * 4);
    }
    assert_eq!(ways.expected[0], ways.expected[2], "to and fro is not where it began");
    let (there, back) = (ways.longest[1], ways.longest[2]);
    println!("{what}: {there} boundaries one way, {back} the other");

    let begun = Instant::now();
    let last = there.max(back);
    let mut order: Vec<u64> =
        (0..stride).flat_map(|k| (1 + k..=last).step_by(stride as usize)).collect();
    // Both ways by turns.
    order = order.into_iter().flat_map(|n| [n, n]).collect();
    let (mut killed, mut tried, mut side) = (0, 0, 1);
    for at in &order {
        if begun.elapsed() > BUDGET {
            break;
        }
        let reach = if side == 1 { there } else { back };
        let commit = bench.push(&sides[side]).0;
        if *at <= reach {
            killed += u32::from(once(&mut bench, &commit, *at));
            tried += 1;
        } else {
            bench.start();
            bench.converged(&commit);
            bench.stop();
        }
        assert_eq!(machine(), ways.expected[side], "killed at boundary {at}");
        side = 1 - side;
    }
    bench.assert_log_is_whole();
    nothing_has_two_ends(&bench.events_after(0));
    println!(
        "{what}: killed {killed} times at {tried} of {} boundaries in {:.1} s; {} events",
        there + back,
        begun.elapsed().as_secs_f64(),
        bench.seq()
    );
    assert_eq!(killed, tried, "some boundaries were never reached");
}

/// How the machine looks without any kill, and how many boundaries each way has.
struct Ways {
    expected: Vec<BTreeMap<String, String>>,
    longest: Vec<u64>,
}

/// Killed at boundary `at` on the way to `commit`, then to the end; whether it was killed.
fn once(bench: &mut Bench, commit: &CommitId, at: u64) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    bench.start_to_crash(at);
    let killed = until("the daemon to be killed or done", PATIENCE, || match bench.ended() {
        Some(status) => {
            assert_eq!(status.signal(), Some(9), "{status}");
            Some(true)
        }
        None => super::bench::is_converged(&bench.state(), commit).then_some(false),
    });
    if !killed {
        bench.stop();
        return false;
    }
    bench.start();
    bench.converged(commit);
    bench.stop();
    true
}

/// Everything on the machine that can be seen of what was asked for.
fn machine() -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for name in names(&["virsh", "list", "--all", "--name"]) {
        let asked = format!("dumpxml --inactive {name}; domstate {name}");
        seen.insert(format!("domain {name}"), sh(&["virsh", &asked]));
    }
    for name in names(&["virsh", "net-list", "--all", "--name"]) {
        let asked = format!("net-dumpxml --inactive {name}; net-info {name}");
        let whole = sh(&["virsh", &asked]);
        // Which bridge and which hardware address it gets, libvirt chooses anew each time.
        let chosen = ["<bridge ", "<mac address=", "Bridge:"];
        let kept = whole.lines().filter(|l| !chosen.iter().any(|c| l.trim().starts_with(c)));
        // A lease that comes back while the network runs is added behind the others: the order of
        // leases means nothing, to libvirt or to dnsmasq.
        let mut kept: Vec<_> = kept.collect();
        kept.sort_unstable();
        seen.insert(format!("network {name}"), kept.join("\n"));
    }
    for pool in names(&["virsh", "pool-list", "--all", "--name"]) {
        let asked = format!("pool-refresh {pool}; vol-list {pool}");
        for path in names(&["virsh", &asked]).into_iter().filter(|word| word.starts_with('/')) {
            let info = sh(&["qemu-img", "info", "--force-share", "--output=json", &path]);
            let info: serde_json::Value = serde_json::from_str(&info).unwrap();
            let facts = [&info["virtual-size"], &info["format"], &info["backing-filename"]];
            seen.insert(format!("volume {path}"), format!("{facts:?}"));
        }
    }
    seen
}

/// The words that a program prints.
fn names(argv: &[&str]) -> Vec<String> {
    sh(argv).split_whitespace().map(str::to_owned).collect()
}

/// No step has two ends, and none is left without one.
fn nothing_has_two_ends(events: &[Event]) {
    let mut open: BTreeMap<(String, String), u64> = BTreeMap::new();
    for event in events {
        let key = (event.data["plan"].to_string(), event.data["step"].to_string());
        match event.type_.as_str() {
            "step.started" => {
                assert_eq!(open.insert(key, event.seq), None, "started twice: {event:?}");
            }
            "step.succeeded" | "step.failed" | "step.interrupted" => {
                assert!(open.remove(&key).is_some(), "ended without a start: {event:?}");
                assert_ne!(event.type_, "step.failed", "{event:?}");
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "never ended: {open:?}");
}
