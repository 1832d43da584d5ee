//! What a backup has in a guest while nobody watches it: the program stopped or was killed, the guest's
//! agent does not answer, its emulator was killed, or the backup has gone from the commit.

use super::*;

/// A guest without a system: its agent's channel is there, and nobody answers at it.
fn silent(power: &str) -> String {
    format!(
        "---\napiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {{ name: web }}\nspec:\n  cpus: \
         1\n  memory: 64MiB\n  accelerator: tcg\n  snapshot: never\n  stop: {{ timeout: 1s, force: true \
         }}\n  guestAgent: true\n  disks: [{{ disk: data }}]\n{power}"
    )
}

/// The note about the guest, if there is one.
fn note(bench: &Bench) -> Option<PathBuf> {
    let folder = bench.state_dir().join("backup/guests/web");
    let files = std::fs::read_dir(folder).ok()?.map(|it| it.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|it| it == "json"))
}

/// Waits until the job of a backup that is being taken is there, and its note says so.
fn reading(bench: &Bench) {
    until("a job in the guest", PATIENCE, || left(bench).contains_key("job").then_some(()));
    until("a note that the job has begun", PATIENCE, || {
        let note: Value = serde_json::from_slice(&std::fs::read(note(bench)?).ok()?).ok()?;
        (note["underWay"]["begins"] == false).then_some(())
    });
}

fn taken_since(bench: &Bench, before: u64) -> Event {
    let taken = bench.event(before, "backup.taken", "backup/web");
    assert_eq!(only_marks(bench).len(), 1);
    taken
}

#[test]
fn what_nobody_watches_in_a_guest_is_ended_and_an_agent_that_is_silent_holds_nothing_up() {
    let name = "e2e::saved::unwatched::what_nobody_watches_in_a_guest_is_ended_and_an_agent_that_is_\
                silent_holds_nothing_up";
    crate::e2e::beside_libvirt(name, || {
        let mut bench = host();
        let wish = |source: &str, power: &str, slow: &str| {
            let source = format!("virtualMachine: web{source}");
            vec![
                environment(&bench.dir, ""),
                disk("data", 64),
                silent(power),
                backup(&bench, "web", &source, slow),
            ]
        };
        let slow = "  limits: { read: 256KiB }\n";
        let frozen = wish(", quiesce: true", "", slow);
        let plain = wish("", "", slow);
        let off = wish(", readAll: 1s", "  power: off\n", "");
        let commit = bench.push(&frozen).0;
        bench.start();
        bench.converged(&commit);
        let write = format!("qemu-io -d {DEVICE} \"write -P 7 0 {}\"", 4 << 20);
        sh(&["virsh", "qemu-monitor-command", "web", "--hmp", &write]);

        // Nothing was frozen, so that there is nothing to thaw; and doing what it says helps.
        let before = bench.seq();
        bench.run(&["backup", "run", "web"]).code(0);
        let failed = bench.event(before, "step.failed", "backup/web");
        let said = failed.data["fault"].to_string();
        assert!(said.contains("did not freeze") && said.contains("leave out `quiesce`"), "{said}");
        assert!(only_marks(&bench).is_empty() && note(&bench).is_none());
        bench.push(&plain);

        // Killed between the freeze and the thaw, as its note tells: the job is ended all the same.
        reading(&bench);
        bench.kill();
        let path = note(&bench).unwrap();
        let mut told: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        told["underWay"]["freezes"] = true.into();
        std::fs::write(&path, told.to_string()).unwrap();
        let before = bench.seq();
        bench.start();
        let failed = bench.event(before, "step.failed", "backup/web");
        let said = failed.data["fault"].to_string();
        assert!(said.contains("did not thaw"), "{said}");
        // One that asks no agent is taken all the same, and says that the guest may be frozen.
        let taken = taken_since(&bench, before);
        assert!(taken.data["notices"].to_string().contains("did not thaw"), "{taken:?}");
        assert_eq!(taken.data["of"], serde_json::json!(["disk/data"]));

        // A job of ours that no note knows of: libvirt began it after it was given up.
        bench.run(&["backup", "run", "web"]).code(0);
        reading(&bench);
        bench.kill();
        std::fs::remove_file(note(&bench).unwrap()).unwrap();
        let before = bench.seq();
        bench.start();
        taken_since(&bench, before);

        // Stopped in the middle: what the guest overwrites is copied aside for nobody.
        bench.run(&["backup", "run", "web"]).code(0);
        reading(&bench);
        let before = bench.seq();
        bench.stop();
        assert!(only_marks(&bench).len() <= 1);
        bench.start();
        taken_since(&bench, before);

        // Its emulator is killed, and what its disks had noted with it.
        let pid = std::fs::read_to_string("/run/libvirt/qemu/web.pid").unwrap();
        sh(&["kill", "-9", pid.trim()]);
        until("the guest to run again", PATIENCE, || {
            let state = Command::new("virsh").args(["domstate", "web"]).output().unwrap();
            String::from_utf8_lossy(&state.stdout).contains("running").then_some(())
        });
        let before = bench.seq();
        bench.run(&["backup", "run", "web"]).code(0);
        taken_since(&bench, before);

        // Off, everything is read anew; what the disk notes is known all the same, and goes with the
        // backup.
        let commit = bench.push(&off).0;
        bench.converged(&commit);
        let taken = take(&bench, "web");
        assert_eq!(bytes_read(&taken), 4 << 20, "{taken:?}");
        assert_eq!(only_marks(&bench).len(), 1);
        let mut bare = off.clone();
        bare.truncate(3);
        let commit = bench.push(&bare).0;
        bench.converged(&commit);
        until("the marks to go", PATIENCE, || only_marks(&bench).is_empty().then_some(()));
        let data = bench.dir.join("pool/data.qcow2");
        let info = sh(&["qemu-img", "info", data.to_str().unwrap()]);
        assert!(!info.contains("bitmaps"), "{info}");
        bench.stop();
        bench.assert_log_is_whole();
    });
}
