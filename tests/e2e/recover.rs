//! A machine that is lost with everything on it, and comes back out of its backups: the same state, the same
//! guest with the same data, by one command.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::bench::{Bench, sh};
use super::saved::{DEVICE, UP, backup, host, moment, raw_disk, take, writer, writer_initrd};
use super::spec::{disk, environment, network, tiny_disk, tiny_image};

/// What the guest itself never writes to: a pattern near the end of its first disk.
const PATTERN: &str = "-P 90 62914560 65536";

/// A machine without a system, which runs all the same.
const BARE: &str = "---\napiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: { name: web }\nspec:\n  \
                    cpus: 1\n  memory: 64MiB\n  accelerator: tcg\n  snapshot: never\n  \
                    stop: { timeout: 1s, force: true }\n  disks: [{ disk: data }]\n";

/// Has the guest's emulator read or write its first disk.
#[track_caller]
fn io(what: &str) {
    let hmp = format!("qemu-io -d {DEVICE} \"{what}\"");
    let said = sh(&["virsh", "qemu-monitor-command", "web", "--hmp", &hmp]);
    assert!(!said.contains("rror") && !said.contains("ailed"), "{said}");
}

/// The guest's identity: its UUID and its addresses.
fn identity() -> (String, Vec<String>) {
    let definition = sh(&["virsh", "dumpxml", "--inactive", "web"]);
    let macs = definition.lines().filter(|line| line.contains("<mac address="));
    (sh(&["virsh", "domuuid", "web"]), macs.map(|line| line.trim().to_owned()).collect())
}

fn names(what: &str) -> String {
    sh(&["virsh", what, "--all", "--name"]).trim().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Nothing is left of the machine but its backups and its secrets; where its state lies for comparison.
fn lose_everything(bench: &Bench) -> PathBuf {
    let lost = bench.dir.join("lost");
    std::fs::rename(bench.state_dir(), &lost).unwrap();
    std::fs::rename(bench.config(), bench.dir.join("lost.yaml")).unwrap();
    sh(&["virsh", "destroy", "web"]);
    sh(&["virsh", "undefine", "web", "--checkpoints-metadata", "--nvram"]);
    for net in names("net-list").lines().filter(|name| !name.is_empty()) {
        sh(&["virsh", "net-destroy", net]);
        sh(&["virsh", "net-undefine", net]);
    }
    sh(&["virsh", "pool-destroy", "fast"]);
    sh(&["virsh", "pool-undefine", "fast"]);
    std::fs::remove_dir_all(bench.dir.join("pool")).unwrap();
    assert!(names("list").is_empty() && names("net-list").is_empty());
    lost
}

/// The state at an event, of a state directory.
fn state_at(bench: &Bench, dir: &Path, seq: u64) -> Value {
    let seq = seq.to_string();
    let words = ["--state-dir", text(dir), "state", "--at", &seq, "-o", "json"];
    serde_json::from_str(&bench.run(&words).code(0).out).unwrap()
}

#[test]
fn a_machine_that_is_lost_comes_back_with_its_guest_and_its_data() {
    let name = "e2e::recover::a_machine_that_is_lost_comes_back_with_its_guest_and_its_data";
    super::beside_libvirt(name, || {
        let mut bench = host();
        let initrd = writer_initrd(&bench);
        let disks = "{ disk: data }, { disk: log }, { disk: root }";
        let nic = format!("{UP}  nics: [{{ network: lan }}]\n");
        let wish = [
            environment(&bench.dir, ""),
            network("lan", 77, ""),
            tiny_image(&Bench::tiny()),
            disk("data", 64),
            raw_disk("log", 16),
            tiny_disk("root"),
            writer(&initrd, disks, &nic),
            backup(&bench, "web", "virtualMachine: web, quiesce: true", ""),
            backup(&bench, "own", "state: true", ""),
        ];
        let commit = bench.push(&wish).0;
        bench.start();
        bench.converged(&commit);
        io(&format!("write {PATTERN}"));
        let before = identity();
        assert_eq!(before.1.len(), 1, "{before:?}");
        let saved = take(&bench, "web");
        let own = take(&bench, "own");
        let restored = bench.dir.join("restored");
        bench.run(&["backup", "restore", "web", "--to", text(&restored)]).code(0);
        let saved_at = moment(&restored.join("vda.raw"));
        assert!(saved_at > 0);
        bench.stop();
        let lost = lose_everything(&bench);

        let (vault, key) = (bench.dir.join("vault"), bench.dir.join("secrets/vault"));
        let words = ["recover", "--from", text(&vault), "--password-file", text(&key)];
        let state = bench.state_dir();
        let words = [&words[..], &["--state-dir", text(&state), "--make-pools"]].concat();
        let told = bench.run(&[&words[..], &["-o", "json"]].concat()).code(0);
        let told: Value = serde_json::from_str(&told.out).unwrap();
        let seconds = |field: &str| told[field].as_f64().unwrap() / 1000.0;
        println!(
            "from nothing to the running machine: {:.1} s: state {:.1} s, of which the log proved in \
             {:.1} s, disks {:.1} s, machine {:.1} s",
            seconds("totalMs"),
            seconds("stateMs"),
            seconds("provedMs"),
            seconds("disksMs"),
            told["converged"]["elapsedMs"].as_f64().unwrap() / 1000.0
        );
        assert_eq!(told["snapshot"], own.data["snapshot"]);
        assert_eq!(
            (&told["held"], &told["converged"]["failed"]),
            (&serde_json::json!([]), &0.into())
        );
        let back = told["restored"].as_array().unwrap();
        assert_eq!(back.len(), 3, "{told}");
        assert!(back.iter().all(|it| it["snapshot"] == saved.data["snapshot"]), "{told}");

        // The same state, up to where it was saved.
        let last = told["last"].as_u64().unwrap();
        assert_eq!(state_at(&bench, &bench.state_dir(), last), state_at(&bench, &lost, last));
        // The same guest, which runs.
        assert_eq!(identity(), before);
        assert_eq!(sh(&["virsh", "domstate", "web"]).trim(), "running");
        // Its data: what it never writes to, and all of its own writes up to the snapshot.
        io(&format!("read {PATTERN}"));
        let pool: Vec<_> = std::fs::read_dir(bench.dir.join("pool")).unwrap().collect();
        let litter = |name: &str| name.starts_with(".trueup-restore");
        assert!(!pool.iter().any(|it| litter(&it.as_ref().unwrap().file_name().to_string_lossy())));
        let root = bench.dir.join("pool/root.qcow2");
        let info = sh(&["qemu-img", "info", "-U", "--output=json", text(&root)]);
        assert!(info.contains("backing-filename") && info.contains("/pool/image-tiny-"), "{info}");

        // The daemon has nothing left to do, and goes on: the next snapshot has the old writes too.
        bench.start();
        bench.await_socket();
        bench.converged(&commit);
        let status: Value =
            serde_json::from_str(&bench.run(&["status", "-o", "json"]).code(0).out).unwrap();
        let rows = status["resources"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["status"]["is"] == "synced"), "{status}");
        let again = take(&bench, "web");
        let snapshot = again.data["snapshot"].as_str().unwrap();
        let newer = bench.dir.join("newer");
        let words = ["backup", "restore", "web", "--snapshot", snapshot, "--to", text(&newer)];
        bench.run(&words).code(0);
        assert!(moment(&newer.join("vda.raw")) > saved_at);
        bench.stop();
        bench.assert_log_is_whole();
    });
}

#[test]
fn without_its_key_a_disk_is_held_and_everything_else_is_back_until_the_key_is() {
    let name =
        "e2e::recover::without_its_key_a_disk_is_held_and_everything_else_is_back_until_the_key_is";
    super::beside_libvirt(name, || {
        let mut bench = host();
        let elsewhere = bench.dir.join("elsewhere");
        std::fs::copy(bench.dir.join("secrets/vault"), bench.dir.join("secrets/disks")).unwrap();
        let source = "disk: data";
        let disks = backup(&bench, "data", source, "");
        let disks = disks.replace("/vault }", "/disks }").replace("key: vault", "key: disks");
        let wish = [
            environment(&bench.dir, ""),
            network("lan", 78, ""),
            disk("data", 64),
            BARE.to_owned(),
            disks,
            backup(&bench, "own", "state: true", ""),
        ];
        let commit = bench.push(&wish).0;
        bench.start();
        bench.converged(&commit);
        io(&format!("write {PATTERN}"));
        take(&bench, "data");
        take(&bench, "own");
        bench.stop();
        lose_everything(&bench);
        std::fs::rename(bench.dir.join("secrets/disks"), &elsewhere).unwrap();

        let (vault, key) = (bench.dir.join("vault"), bench.dir.join("secrets/vault"));
        let words = ["recover", "--from", text(&vault), "--password-file", text(&key)];
        let state = bench.state_dir();
        let words = [&words[..], &["--state-dir", text(&state), "--make-pools"]].concat();
        let ended = bench.run(&words);
        assert!(ended.code == 4 && ended.err.contains("held until"), "{ended:?}");
        assert!(ended.out.contains("disk/data is held"), "{ended:?}");
        assert!(ended.out.contains("no backup holds: disks"), "{ended:?}");
        assert_eq!((names("net-list"), names("list")), ("lan".into(), String::new()));
        assert!(!bench.dir.join("pool/data.qcow2").exists());

        std::fs::rename(&elsewhere, bench.dir.join("secrets/disks")).unwrap();
        let ended = bench.run(&["recover", "disks"]).code(0);
        assert!(ended.out.contains("disk/data is back"), "{ended:?}");
        assert_eq!(sh(&["virsh", "domstate", "web"]).trim(), "running");
        io(&format!("read {PATTERN}"));
        bench.start();
        bench.await_socket();
        bench.converged(&commit);
        bench.stop();
        bench.assert_log_is_whole();
    });
}
