//! Drills by the real program: what comes back is compared and timed, every lie of a repository is found,
//! and nothing is left behind.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::backup::{SOON, Saved, backup, files};

const DRILL: &str = "  drill: {schedule: {every: 6h}}\n";

fn allow(saved: &Saved, program: &str) {
    saved.allow(&format!("{{program: {program}, anyArguments: true}}"));
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map(|mut entries| entries.next().is_none()).unwrap_or(true)
}

fn scratch(saved: &Saved) -> PathBuf {
    saved.host.state().join("backup/drill")
}

impl Saved {
    /// A drill, asked for; the row after it.
    fn drilled(&self, name: &str) -> Value {
        self.run(&["backup", "drill", name]).code(0);
        self.run(&["apply"]);
        let row = self.row(name);
        assert!(is_empty(&scratch(self)), "something is left: {row}");
        row
    }

    #[track_caller]
    fn fails(&self, name: &str, because: &str) {
        let row = self.drilled(name);
        assert_eq!((&row["health"], &row["reliedOn"]), (&"failed".into(), &false.into()), "{row}");
        assert!(row["trouble"].to_string().contains(because), "{row}");
    }

    #[track_caller]
    fn succeeds(&self, name: &str) -> Value {
        let row = self.drilled(name);
        assert_eq!((&row["health"], &row["reliedOn"]), (&"good".into(), &true.into()), "{row}");
        row
    }

    fn copy(&self, from: &str, to: &str) {
        let mut copy = std::process::Command::new("cp");
        copy.arg("-a").arg(self.at(from)).arg(self.at(to));
        assert!(copy.status().unwrap().success());
    }

    /// The packs of a repository.
    fn packs(&self, repository: &str) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(self.at(repository).join("data")).unwrap();
        let folders = folders.map(|folder| folder.unwrap().path());
        let packs = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
        packs.map(|pack| pack.unwrap().path()).collect()
    }
}

/// Writes what a repository keeps read-only.
fn overwrite(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_comes_back_is_compared_timed_and_removed_again() {
    let dump = backup(
        "dump",
        "  source: {command: {argv: [/usr/bin/printf, '%s', whole], file: all.sql}}\n  repository: \
         {local: @vault}\n  schedule: {every: 6h}\n  drill: {schedule: {every: 6h}, check: \
         [/usr/bin/grep, -q, whole, all.sql]}\n",
    );
    let own = backup(
        "own",
        "  source: {state: true}\n  repository: {local: @vault}\n  schedule: {every: 6h}\n  drill: \
         {schedule: {every: 6h}}\n",
    );
    let files = files().replace("rpo: 24h", "rpo: 24h, rto: 1h, drilled: 1d") + DRILL;
    let saved = Saved::new(&(files + &dump + &own));
    allow(&saved, "/usr/bin/grep");
    saved.run(&["apply"]).code(0);
    for name in ["files", "dump", "own"] {
        let row = saved.row(name);
        assert_eq!((&row["health"], &row["reliedOn"]), (&"good".into(), &true.into()), "{row}");
        assert!(row["lastDrilled"].is_string() && row["measuredRtoS"].is_number(), "{row}");
        assert!(row["nextDrill"].is_string(), "{row}");
    }
    assert_eq!(saved.row("files")["rtoS"], 3600);
    let told = saved.run(&["log", "--type", "backup.drilled", "-o", "json"]).code(0).out;
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| {
        let named = format!("backup/{name}");
        told.iter().find(|line| line["subject"] == named.as_str()).unwrap()["data"].clone()
    };
    assert_eq!((&of("files")["files"], &of("files")["bytes"]), (&2.into(), &300_005.into()));
    assert!(of("own")["proved"].to_string().contains("whole up to event"), "{}", of("own"));
    assert!(of("dump")["proved"].to_string().contains("grep"), "{}", of("dump"));
    assert!(is_empty(&scratch(&saved)), "nothing is left over");
    let shown = saved.run(&["backup"]).code(0).out;
    assert!(shown.contains("DRILLED") && shown.contains(" of 1h"), "{shown}");
    // Promised, and not kept.
    saved.publish(&files_with_no_time());
    saved.misses_its_drill();
}

fn files_with_no_time() -> String {
    files().replace("rpo: 24h", "rpo: 24h, drilled: 1s") + DRILL
}

impl Saved {
    /// A drill that is a second old is too old for its objective.
    fn misses_its_drill(&self) {
        let begun = Instant::now();
        loop {
            self.run(&["apply"]);
            let plan = self.run(&["plan"]).out;
            if plan.contains("it was not restored for too long") {
                return;
            }
            assert!(begun.elapsed() < SOON, "{plan}");
        }
    }
}

#[test]
fn each_way_in_which_a_repository_lies_is_found_and_mended_by_a_drill_alone() {
    let saved = Saved::new(&(files() + DRILL));
    saved.run(&["apply"]).code(0);
    saved.succeeds("files");
    saved.copy("vault", "whole");
    let restored = || {
        std::fs::remove_dir_all(saved.at("vault")).unwrap();
        saved.copy("whole", "vault");
    };

    // A bit of every pack, so that one with data is among them.
    for pack in saved.packs("vault") {
        overwrite(&pack, |bytes| {
            let middle = bytes.len() / 3;
            bytes[middle] ^= 1;
        });
    }
    saved.fails("files", "did not bring everything back");
    assert!(saved.events("backup.failed") > 0);
    assert!(saved.run(&["drift"]).code(3).out.contains("backup/files"));
    restored();
    // Neither an upload nor a check mends it.
    saved.run(&["backup", "run", "files"]).code(0);
    saved.run(&["apply"]);
    assert_eq!(saved.row("files")["health"], "failed");
    saved.succeeds("files");

    // Too short.
    std::fs::remove_dir_all(saved.at("whole")).unwrap();
    saved.copy("vault", "whole");
    for pack in saved.packs("vault") {
        overwrite(&pack, |bytes| bytes.truncate(bytes.len() / 2));
    }
    saved.fails("files", "did not bring everything back");
    restored();
    saved.succeeds("files");

    // An older copy of it, in which the newest snapshot is not.
    std::fs::write(saved.at("files/a"), "newer").unwrap();
    saved.run(&["backup", "run", "files"]).code(0);
    saved.run(&["apply"]).code(0);
    std::fs::rename(saved.at("vault"), saved.at("newest")).unwrap();
    saved.copy("whole", "vault");
    saved.fails("files", "is not in");
    std::fs::remove_dir_all(saved.at("vault")).unwrap();
    std::fs::rename(saved.at("newest"), saved.at("vault")).unwrap();
    saved.succeeds("files");

    // Emptied of its snapshots.
    std::fs::rename(saved.at("vault/snapshots"), saved.at("away")).unwrap();
    std::fs::create_dir(saved.at("vault/snapshots")).unwrap();
    saved.fails("files", "is not in");
    std::fs::remove_dir(saved.at("vault/snapshots")).unwrap();
    std::fs::rename(saved.at("away"), saved.at("vault/snapshots")).unwrap();
    saved.succeeds("files");

    // Another host's, with the same key.
    std::fs::rename(saved.at("vault"), saved.at("ours")).unwrap();
    saved.restic("vault", &["init"]);
    saved.fails("files", "holds the repository");
    std::fs::remove_dir_all(saved.at("vault")).unwrap();
    std::fs::rename(saved.at("ours"), saved.at("vault")).unwrap();
    saved.succeeds("files");
}

#[test]
fn a_check_finds_that_the_newest_snapshot_is_gone() {
    let saved = Saved::new(&files().replace("readParts: 1", "readParts: 1, schedule: {every: 1s}"));
    saved.run(&["apply"]).code(0);
    std::fs::rename(saved.at("vault/snapshots"), saved.at("away")).unwrap();
    std::fs::create_dir(saved.at("vault/snapshots")).unwrap();
    let begun = Instant::now();
    loop {
        saved.run(&["apply"]);
        let row = saved.row("files");
        if row["health"] == "failed" {
            assert!(row["trouble"].to_string().contains("is not in"), "{row}");
            break;
        }
        assert!(begun.elapsed() < SOON, "{row}");
    }
}

#[test]
fn a_program_that_is_not_content_hangs_or_is_not_allowed_is_told() {
    let with = |check: &str| files() + &format!("  drill: {{schedule: {{every: 6h}}, {check}}}\n");
    let saved = Saved::new(&with("check: [/bin/false]"));
    saved.run(&["apply"]).code(5);
    let status = saved.run(&["status"]).out;
    assert!(status.contains("this host does not run /bin/false with these arguments"), "{status}");
    assert_eq!(saved.row("files")["health"], "unverified", "nothing was tried");
    allow(&saved, "/bin/false");
    allow(&saved, "/bin/sh");
    saved.fails("files", "is not content");
    saved.publish(&with("check: [/bin/sh, -c, 'test -f .@files/a && sleep 1000'], timeout: 1s"));
    saved.fails("files", "did not end within 1 s");
    saved.publish(&with("check: [/bin/sh, -c, 'test -f .@files/a']"));
    saved.succeeds("files");
    saved.publish(&(files() + DRILL));
    assert!(saved.run(&["backup", "drill", "nothing"]).code(4).err.contains("backup/nothing"));
}

#[test]
fn what_a_killed_drill_left_is_removed_by_the_next_start() {
    let drill = "  drill: {schedule: {every: 6h}, check: [/bin/sh, -c, 'echo $$ >@pid.new; mv \
                 @pid.new @pid; exec sleep 1000']}\n";
    let saved = Saved::new(&(files() + drill));
    allow(&saved, "/bin/sh");
    let mut apply = saved.command(&["apply"]);
    let mut apply = apply.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let pid = loop {
        if let Ok(pid) = std::fs::read_to_string(saved.at("pid")) {
            break pid;
        }
        assert!(begun.elapsed() < SOON, "the drill does not begin");
        std::thread::yield_now();
    };
    apply.kill().unwrap();
    apply.wait().unwrap();
    kill_process(Pid::from_raw(pid.trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    assert!(!is_empty(&scratch(&saved)), "it was killed too early to leave anything");
    // Without drills, so that none clears up for itself.
    saved.publish(&files());
    saved.run(&["apply"]).code(0);
    assert!(is_empty(&scratch(&saved)));
    saved.run(&["log", "verify"]).code(0);
}

#[test]
fn a_drill_needs_a_snapshot_first() {
    let saved = Saved::new(
        &files().replace("  schedule: {every: 6h}\n", "").replace("  objectives: {rpo: 24h}\n", ""),
    );
    saved.run(&["apply"]).code(0);
    let refused = saved.run(&["backup", "drill", "files"]);
    assert!(refused.code != 0 && refused.err.contains("no complete snapshot"), "{}", refused.err);
    saved.run(&["backup", "run", "files"]).code(0);
    saved.run(&["apply"]).code(0);
    saved.succeeds("files");
}

/// A file system of a size, until it is dropped.
struct Small(PathBuf);

impl Small {
    /// `None` where nothing can be mounted.
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at);
        mount.status().is_ok_and(|status| status.success()).then(|| Self(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let mut unmount = std::process::Command::new("umount");
        assert!(unmount.arg("-l").arg(&self.0).status().is_ok(), "it stays mounted");
    }
}

#[test]
fn a_drill_without_room_says_how_much_it_needs_and_restores_nothing() {
    let saved = Saved::new(&(files() + DRILL));
    let Some(small) = Small::mount(saved.at("small"), "1m") else {
        eprintln!("not root: nothing can be mounted");
        return;
    };
    let place = small.0.join("drill");
    saved.configure(&format!("  scratch: {}\n", place.display()));
    saved.run(&["apply"]).code(5);
    let status = saved.run(&["status"]).out;
    // The two files that are saved have so many bytes together.
    let said = format!("a drill needs 300005 bytes and some room to spare in {}", place.display());
    assert!(status.contains(&said) && status.contains("are free there"), "{status}");
    let row = saved.row("files");
    assert_eq!(
        (&row["health"], &row["lastDrilled"]),
        (&"unverified".into(), &Value::Null),
        "{row}"
    );
    assert!(is_empty(&place), "nothing is left there");
    assert_eq!(saved.events("backup.failed"), 0, "it says nothing about the snapshot");
}

#[test]
fn a_drill_is_given_up_where_the_room_runs_out_meanwhile() {
    // It has to leave 64 MiB, and something takes more.
    let drill = "  drill: {schedule: {every: 6h}, check: [/bin/sh, -c, 'head -c 50M /dev/zero >more; exec \
                 sleep 1000']}\n";
    let saved = Saved::new(&(files() + drill));
    let Some(small) = Small::mount(saved.at("small"), "100m") else {
        eprintln!("not root: nothing can be mounted");
        return;
    };
    let place = small.0.join("drill");
    saved.configure(&format!("  scratch: {}\n", place.display()));
    allow(&saved, "/bin/sh");
    saved.run(&["apply"]).code(5);
    let status = saved.run(&["status"]).out;
    assert!(
        status.contains("the drill was given up") && status.contains("64 MiB stay"),
        "{status}"
    );
    assert!(is_empty(&place), "nothing is left there");
    assert_eq!(saved.events("backup.failed"), 0, "it says nothing about the snapshot");
}
