//! Before a real guest is restarted it is saved: by a backup and inside its disks, as steps of the same
//! plan. Without the backup it goes on running, and what was saved stays until the change is good.

use std::fs;
use std::process::Command;

use super::bench::{Bench, PATIENCE, sh};
use super::events::{Event, until};
use super::saved::{backup, host, left, only_marks, take};
use super::spec::{Vm, disk, environment};

/// A guest whose disk is empty and notes its changes, with an agent's channel that nobody answers.
fn guest(memory_mib: u32, more: &str) -> String {
    let tiny = Bench::tiny();
    let vm =
        Vm { name: "web", memory_mib, disks: &["data"], nic: None, tiny: Some(&tiny), stop_s: 2 };
    vm.yaml() + "  guestAgent: true\n" + more
}

const KEPT: &str = "  snapshot: beforeDisruption\n  backupBefore: web\n  keepFor: 1h\n";

/// What was done, and to what, in its order.
fn deeds(events: &[Event]) -> Vec<String> {
    let started = events.iter().filter(|it| it.type_ == "step.started");
    let deeds = started.map(|it| format!("{} {}", it.data["verb"].as_str().unwrap(), it.subject));
    deeds.collect()
}

fn snapshots(bench: &Bench) -> usize {
    let listed = bench.run(&["backup", "ls", "web", "-o", "json"]).code(0).out;
    serde_json::from_str::<Vec<serde_json::Value>>(&listed).unwrap().len()
}

#[test]
fn a_guest_is_saved_before_it_is_restarted_and_what_was_saved_is_kept() {
    let name = "e2e::way_back::a_guest_is_saved_before_it_is_restarted_and_what_was_saved_is_kept";
    super::beside_libvirt(name, || {
        let mut bench = host();
        let wish = |memory_mib: u32, more: &str, source: &str| {
            let retention = "  retention: { keep: { last: 1 }, every: 2s }\n";
            vec![
                environment(&bench.dir, ""),
                disk("data", 16),
                guest(memory_mib, more),
                backup(&bench, "web", source, retention),
            ]
        };
        let whole = "virtualMachine: web";
        let wishes = [
            wish(96, KEPT, whole),
            wish(112, KEPT, whole),
            wish(128, KEPT, whole),
            wish(128, &KEPT.replace("1h", "1s"), whole),
            wish(128, KEPT, "virtualMachine: web, quiesce: true"),
        ];
        let first = bench.push(&wishes[0]).0;
        bench.start();
        bench.converged(&first);

        // Saved by the backup, then inside its disks, and only then stopped.
        let before = bench.seq();
        let second = bench.push(&wishes[1]).0;
        bench.converged(&second);
        let events = bench.events_after(before);
        let done = deeds(&events);
        let place = |deed: &str| done.iter().position(|it| it == deed).expect(deed);
        let order = ["back up backup/web", "snapshot vm/web", "stop vm/web", "start vm/web"];
        assert!(order.map(place).is_sorted(), "{done:?}");
        let taken = events.iter().find(|it| it.is("backup.taken", "backup/web")).unwrap();
        assert_eq!(taken.data["before"]["of"], serde_json::json!(["vm/web"]));
        let id = taken.data["snapshot"].as_str().unwrap().to_owned();
        let why = bench.run(&["why", "vm/web"]).code(0).out;
        let way = format!("trueup backup restore web --snapshot {} --to DIR", &id[..8]);
        assert!(why.contains(&way) && why.contains("virsh snapshot-revert web trueup-"), "{why}");

        // The retention would keep the newest only.
        let before = bench.seq();
        bench.run(&["backup", "run", "web"]).code(0);
        bench.event(before, "backup.taken", "backup/web");
        let forgot = bench.event(bench.seq(), "backup.forgotten", "backup/web");
        assert_eq!((&forgot.data["kept"], snapshots(&bench)), (&2.into(), 2), "{forgot:?}");
        let kept = bench.run(&["backup", "forget", "web", "--dry-run"]).code(0).out;
        assert!(kept.contains("way back from a change"), "{kept}");

        // Without its repository nothing is taken, and the guest goes on as it is.
        let number = sh(&["virsh", "domid", "web"]);
        let (vault, away) = (bench.dir.join("vault"), bench.dir.join("away"));
        fs::rename(&vault, &away).unwrap();
        let before = bench.seq();
        let third = bench.push(&wishes[2]).0;
        until("the commit to be in force", PATIENCE, || {
            let in_force = bench.state().spec.commit.map(|commit| commit.to_string());
            (in_force == Some(third.to_string())).then_some(())
        });
        until("the guest to wait for its backup", PATIENCE, || {
            let status = bench.run(&["status"]).out;
            status.contains("not before it is saved: backup/web").then_some(())
        });
        assert_eq!(sh(&["virsh", "domid", "web"]), number);
        assert!(!deeds(&bench.events_after(before)).iter().any(|it| it.ends_with("vm/web")));
        fs::rename(&away, &vault).unwrap();
        bench.run(&["apply"]);
        bench.converged(&third);
        assert_ne!(sh(&["virsh", "domid", "web"]), number);

        // Once it was good for long enough the snapshots inside its disks go.
        let listed = || sh(&["virsh", "snapshot-list", "--name", "web"]);
        assert_eq!(listed().split_whitespace().count(), 2);
        bench.push(&wishes[3]);
        until("its snapshots to go", PATIENCE, || {
            listed().split_whitespace().next().is_none().then_some(())
        });
        take(&bench, "web");
        assert_eq!(only_marks(&bench).len(), 1, "its changes are noted again");

        // An agent that does not answer cannot make its file systems whole: no snapshot is taken.
        let last = bench.push(&wishes[4]).0;
        bench.converged(&last);
        let number = sh(&["virsh", "domid", "web"]);
        let before = bench.seq();
        bench.run(&["backup", "run", "web"]).code(0);
        let failed = bench.event(before, "step.failed", "backup/web");
        let said = failed.data["fault"].to_string();
        assert!(said.contains("did not freeze its file systems"), "{said}");
        let taken = bench.events_after(before);
        assert!(!taken.iter().any(|it| it.is("backup.taken", "backup/web")), "{taken:?}");
        assert!(!left(&bench).contains_key("job") && !left(&bench).contains_key("scratch"));
        assert_eq!(sh(&["virsh", "domid", "web"]), number, "it goes on running");
        let listening = Command::new("virsh").args(["domstate", "web"]).output().unwrap();
        assert!(String::from_utf8_lossy(&listening.stdout).contains("running"));
        bench.stop();
        bench.assert_log_is_whole();
    });
}
