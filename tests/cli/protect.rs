//! A plan that would destroy a disk: with a backup of it that is sound, damaged and mended, and with none.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::Instant;

use super::backup::{SOON, Saved, backup};

const DISK: &str = "---\napiVersion: trueup/v1\nkind: Disk\nmetadata: {name: db}\n\
                    spec: {size: 16 MiB}\n";

const NETWORK: &str = "---\napiVersion: trueup/v1\nkind: Network\nmetadata: {name: alpha}\n\
                       spec: {mode: isolated, cidr: 10.199.1.0/24}\n";

fn pool() -> String {
    backup(
        "pool",
        "  source: {paths: [@pool]}\n  repository: {local: @vault}\n  schedule: {every: 6h}\n  drill: \
         {schedule: {every: 6h}}\n  objectives: {rpo: 24h}\n",
    )
}

/// A daemon: libvirt's test driver remembers only as long as its process lives.
struct Daemon(Child);

impl Daemon {
    fn of(saved: &Saved) -> Self {
        std::fs::create_dir_all(saved.at("pool")).unwrap();
        std::fs::write(saved.at("pool/other"), vec![3; 100_000]).unwrap();
        let mut run = saved.command(&["run"]);
        let daemon = Self(run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let begun = Instant::now();
        while !saved.at("t.sock").exists() {
            assert!(begun.elapsed() < SOON, "the daemon does not answer");
            std::thread::yield_now();
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn events(saved: &Saved, kind: &str) -> usize {
    let words = ["log", "--type", kind, "--subject", "disk/db", "-o", "json"];
    saved.run(&words).code(0).out.lines().count()
}

/// Turns a bit of every pack over, and over again.
fn flip(saved: &Saved) {
    for folder in std::fs::read_dir(saved.at("vault/data")).unwrap() {
        for pack in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let pack = pack.unwrap().path();
            let mut bytes = std::fs::read(&pack).unwrap();
            let middle = bytes.len() / 3;
            bytes[middle] ^= 1;
            std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o600)).unwrap();
            std::fs::write(&pack, bytes).unwrap();
        }
    }
}

#[test]
fn a_disk_goes_only_once_its_backup_is_sound() {
    let saved = Saved::new(&(DISK.to_owned() + &pool()));
    let _daemon = Daemon::of(&saved);
    saved.run(&["apply"]).code(0);
    let row = saved.row("pool");
    assert_eq!((&row["health"], &row["reliedOn"]), (&"good".into(), &true.into()), "{row}");

    flip(&saved);
    saved.run(&["backup", "drill", "pool"]).code(0);
    saved.run(&["apply"]);
    assert_eq!(saved.row("pool")["health"], "failed");
    saved.publish(&pool());
    let held = saved.run(&["apply"]).code(4);
    assert!(held.err.contains("backup/pool is failed"), "{}{}", held.out, held.err);
    assert_eq!((events(&saved, "step.started"), events(&saved, "resource.pruned")), (1, 0));

    flip(&saved);
    saved.run(&["backup", "drill", "pool"]).code(0);
    let begun = Instant::now();
    while events(&saved, "resource.pruned") == 0 {
        let last = saved.run(&["apply"]);
        assert!(begun.elapsed() < SOON, "it stays: {}{}", last.out, last.err);
    }
    assert_eq!(saved.row("pool")["health"], "good");
}

#[test]
fn a_disk_that_has_to_be_saved_and_is_not_does_not_go() {
    let policy = "---\napiVersion: trueup/v1\nkind: Policy\nmetadata: {name: house}\nspec:\n  \
                  rules: {trueup.backups: {params: {required: ['disk/*']}}}\n";
    // Where nothing at all is asked for, nothing is removed.
    let policy = &(NETWORK.to_owned() + policy);
    let saved = Saved::new(&(DISK.to_owned() + policy));
    let _daemon = Daemon::of(&saved);
    saved.run(&["apply"]).code(0);
    saved.publish(policy);
    let held = saved.run(&["apply"]).code(4);
    assert!(held.err.contains("has no verified backup younger than 24h"), "{}", held.err);
    // Nothing has saved it yet: what is declared now does not count before it is checked.
    saved.publish(&(pool() + policy));
    let begun = Instant::now();
    while events(&saved, "resource.pruned") == 0 {
        let last = saved.run(&["apply"]);
        assert!(begun.elapsed() < SOON, "it stays: {}{}", last.out, last.err);
    }
    let log = saved.run(&["log"]).code(0).out;
    let at = |kind: &str| log.find(kind).unwrap_or_else(|| panic!("no {kind}: {log}"));
    assert!(at("backup.verified") < at("resource.pruned"), "{log}");
}

#[test]
fn what_a_commit_leaves_without_a_backup_is_said() {
    let saved = Saved::new(&(DISK.to_owned() + &pool()));
    std::fs::create_dir_all(saved.at("pool")).unwrap();
    saved.run(&["apply"]).code(0);
    saved.publish(DISK);
    let plan = saved.run(&["plan"]);
    let said = format!("{}{}", plan.out, plan.err);
    assert!(said.contains("nothing saves disk/db for certain: backup/pool goes"), "{said}");
}
