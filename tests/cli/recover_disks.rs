//! Disks that come back by `trueup recover`: what keeps one of them is told and keeps no other, nothing is
//! written over, and what was killed goes on.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use super::backup::{SOON, Saved, backup};

fn disk(name: &str) -> String {
    format!(
        "---\napiVersion: trueup/v1\nkind: Disk\nmetadata: {{name: {name}}}\nspec: {{size: 16 MiB}}\n"
    )
}

/// A backup of the disk of the same name, in a repository and with a key of its own.
fn of_disk(name: &str) -> String {
    let spec = format!(
        "  source: {{paths: [@pool/{name}.qcow2]}}\n  repository: {{local: @vault-{name}}}\n  \
         schedule: {{every: 6h}}\n"
    );
    backup(name, &spec).replace("key: vault", &format!("key: {name}"))
}

fn own() -> String {
    backup("own", "  source: {state: true}\n  repository: {local: @vault}\n")
}

/// A host with these disks, each saved with this content, and lost.
fn lost(disks: &[(&str, &[u8])]) -> Saved {
    let documents = disks.iter().map(|(name, _)| disk(name) + &of_disk(name));
    let saved = Saved::new(&(documents.collect::<String>() + &own()));
    std::fs::create_dir_all(saved.at("pool")).unwrap();
    for (name, content) in disks {
        saved.secret(name, &format!("the key of {name}"));
        std::fs::write(place(&saved, name), content).unwrap();
    }
    saved.run(&["apply"]).code(0);
    saved.run(&["backup", "run", "own"]).code(0);
    saved.run(&["apply"]).code(0);
    saved.lose();
    std::fs::remove_dir_all(saved.at("pool")).unwrap();
    std::fs::create_dir(saved.at("pool")).unwrap();
    saved
}

fn place(saved: &Saved, disk: &str) -> PathBuf {
    saved.at(&format!("pool/{disk}.qcow2"))
}

fn beside(saved: &Saved, disk: &str) -> PathBuf {
    saved.at(&format!("pool/.trueup-restore-{disk}.part"))
}

/// Why the disk is held, by the log.
fn held(saved: &Saved, disk: &str) -> Option<String> {
    let state = saved.run(&["state", "-o", "json"]).code(0).out;
    let state: Value = serde_json::from_str(&state).unwrap();
    let hold = &state["resources"][format!("disk/{disk}")]["hold"];
    hold["reason"].as_str().map(str::to_owned)
}

/// Overwrites the middle of the largest pack of a repository.
fn damage(repository: &Path) {
    let mut packs = Vec::new();
    for folder in std::fs::read_dir(repository.join("data")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let file = file.unwrap();
            packs.push((file.metadata().unwrap().len(), file.path()));
        }
    }
    let (length, path) = packs.into_iter().max().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = usize::try_from(length).unwrap() / 2;
    bytes[middle..middle + 64].fill(0x5a);
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    std::fs::set_permissions(&path, permissions).unwrap();
    std::fs::write(&path, bytes).unwrap();
}

/// How many restores were about to begin, by the log's own lines: asking the program takes too long.
fn intents(saved: &Saved) -> usize {
    let segments = std::fs::read_dir(saved.host.state().join("log")).unwrap();
    let text = |path: PathBuf| std::fs::read(path).unwrap();
    let count =
        |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).matches("\"resource.restoring\"").count();
    segments.map(|segment| count(text(segment.unwrap().path()))).sum()
}

/// What no compression makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        noise.write_all(&seed.to_le_bytes()).unwrap();
    }
    noise.truncate(bytes);
    noise
}

#[test]
fn what_keeps_one_disk_is_told_and_keeps_no_other_and_is_mended_later() {
    let (data, large) = (b"the data of a".as_slice(), noise(1 << 20));
    let saved = lost(&[("a", data), ("b", &large), ("c", b"c"), ("d", b"d")]);
    saved.secret("b", "another key");
    std::fs::rename(saved.at("secrets/c"), saved.at("c-elsewhere")).unwrap();
    std::fs::rename(saved.at("vault-d"), saved.at("vault-d-elsewhere")).unwrap();
    let ended = saved.recover(&["--no-apply", "-o", "json"]).code(4);
    let told: Value = serde_json::from_str(&ended.out).unwrap();
    let names = |field: &str| -> Vec<String> {
        let disks = told[field].as_array().unwrap().iter();
        disks.map(|it| it["disk"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("restored"), ["disk/a"], "{told}");
    assert_eq!(names("held"), ["disk/b", "disk/c", "disk/d"]);
    assert_eq!(told["secretsMissing"], serde_json::json!(["c"]));
    assert!(told["disksMs"].is_u64() && told["totalMs"].as_u64() >= told["disksMs"].as_u64());
    assert_eq!(std::fs::read(place(&saved, "a")).unwrap(), data);
    assert_eq!(held(&saved, "a"), None);
    for (disk, why) in
        [("b", "opens no key"), ("c", "the secret `c`"), ("d", "there is no repository")]
    {
        let reason = held(&saved, disk).unwrap();
        assert!(reason.contains(why), "{disk}: {reason}");
        assert!(reason.contains("`trueup recover disks`"), "{disk}: {reason}");
        assert!(!place(&saved, disk).exists() && !beside(&saved, disk).exists());
        assert!(!ended.err.contains("another key") && !ended.out.contains("another key"));
    }
    let listed = saved.run(&["log", "--subject", "disk/a", "-o", "json"]).code(0).out;
    let at = |kind: &str| listed.find(&format!("\"{kind}\"")).unwrap_or_else(|| panic!("{listed}"));
    assert!(at("resource.restoring") < at("resource.restored"), "the intent comes first");

    // Again while nothing is mended: the same, and nothing is begun anew that is back.
    saved.run(&["recover", "disks", "--no-apply"]).code(4);
    assert_eq!(saved.events("resource.restored"), 1);
    saved.secret("b", "the key of b");
    damage(&saved.at("vault-b"));
    let ended = saved.run(&["recover", "disks", "disk/b", "--no-apply"]).code(4);
    assert!(ended.out.contains("damaged"), "{}", ended.out);
    assert!(!place(&saved, "b").exists() && !beside(&saved, "b").exists(), "no half of it is left");
    std::fs::rename(saved.at("c-elsewhere"), saved.at("secrets/c")).unwrap();
    std::fs::rename(saved.at("vault-d-elsewhere"), saved.at("vault-d")).unwrap();
    // A file that is there is left alone, and its disk held.
    std::fs::write(place(&saved, "d"), "somebody's").unwrap();
    let ended = saved.run(&["recover", "disks", "--no-apply"]).code(4);
    assert!(ended.out.contains("is left alone"), "{}", ended.out);
    assert_eq!(std::fs::read(place(&saved, "c")).unwrap(), b"c");
    assert_eq!(std::fs::read(place(&saved, "d")).unwrap(), b"somebody's");
    std::fs::remove_file(place(&saved, "d")).unwrap();
    let ended = saved.run(&["recover", "disks", "disk/d", "--no-apply"]).code(0);
    assert!(ended.out.contains("disk/d is back"), "{}", ended.out);
    saved.run(&["release", "disk/b"]).code(0);
    let ended = saved.run(&["recover", "disks", "--no-apply"]).code(0);
    assert!(ended.err.contains("no disk waits"), "{}", ended.err);
    let ended = saved.run(&["recover", "disks", "disk/b"]).code(1);
    assert!(ended.err.contains("does not wait for its data"), "{}", ended.err);
    saved.run(&["log", "verify"]).code(0);
    saved.run(&["replay"]).code(0);
}

#[test]
fn a_restore_that_is_killed_goes_on_and_leaves_nothing_behind() {
    let large = noise(64 << 20);
    let saved = lost(&[("db", &large)]);
    saved.recover(&["--no-disks", "--no-apply"]).code(0);
    for _ in 0..2 {
        let mut command = saved.command(&["recover", "disks", "--no-apply"]);
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        let (begun, before) = (Instant::now(), intents(&saved));
        while intents(&saved) == before || !beside(&saved, "db").join("fetching").exists() {
            assert!(begun.elapsed() < SOON, "nothing is restored");
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!place(&saved, "db").exists(), "it was not killed in the middle");
        assert!(held(&saved, "db").is_some());
    }
    // A file that somebody keeps beside is nobody's business.
    std::fs::write(saved.at("pool/other"), "kept").unwrap();
    saved.run(&["recover", "disks", "--no-apply"]).code(0);
    assert!(std::fs::read(place(&saved, "db")).unwrap() == large);
    assert!(!beside(&saved, "db").exists() && saved.at("pool/other").exists());
    assert_eq!((saved.events("resource.restoring"), saved.events("resource.restored")), (3, 1));
    assert_eq!(held(&saved, "db"), None);
    saved.run(&["log", "verify"]).code(0);
}

#[test]
fn a_disk_that_somebody_holds_stays_held_and_a_running_daemon_is_not_disturbed() {
    let saved = Saved::new(&(disk("db") + &of_disk("db") + &own()));
    saved.secret("db", "the key of db");
    std::fs::create_dir_all(saved.at("pool")).unwrap();
    std::fs::write(place(&saved, "db"), "data").unwrap();
    saved.run(&["apply"]).code(0);
    saved.run(&["hold", "disk/db", "--reason", "moving the rack"]).code(0);
    saved.run(&["backup", "run", "own"]).code(0);
    saved.run(&["apply"]);
    saved.lose();
    std::fs::remove_dir_all(saved.at("pool")).unwrap();
    std::fs::create_dir(saved.at("pool")).unwrap();
    saved.recover(&["--no-disks", "--no-apply"]).code(0);
    assert!(held(&saved, "db").unwrap().contains("moving the rack"));
    let writer = super::writer(&saved.host);
    let ended = saved.run(&["recover", "disks"]).code(4);
    assert!(ended.err.contains("systemctl stop trueup"), "{}", ended.err);
    drop(writer);
    let ended = saved.run(&["recover", "disks", "--no-apply"]).code(0);
    assert!(ended.out.contains("it stays held"), "{}", ended.out);
    assert!(held(&saved, "db").unwrap().contains("moving the rack"));
    assert_eq!(std::fs::read(place(&saved, "db")).unwrap(), b"data");
}

#[test]
fn a_folder_that_is_not_there_may_only_not_be_mounted() {
    let saved = lost(&[("db", b"older")]);
    std::fs::remove_dir(saved.at("pool")).unwrap();
    let ended = saved.recover(&[]).code(4);
    assert!(ended.out.contains("--make-pools") && !saved.at("pool").exists(), "{}", ended.out);
    let state = saved.run(&["state", "-o", "json"]).code(0).out;
    let state: Value = serde_json::from_str(&state).unwrap();
    let reason = state["resources"]["pool/fast"]["hold"]["reason"].as_str().unwrap();
    assert!(reason.contains("mount it"), "{reason}");
    // Nothing makes it meanwhile.
    saved.run(&["apply"]);
    assert!(!saved.at("pool").exists());
    // Who names a disk says nothing of a folder in which nothing came back.
    let words = ["log", "--type", "operator.released", "--subject", "pool/fast"];
    let released = || saved.run(&words).code(0).out.lines().count();
    let before = released();
    std::fs::rename(saved.at("secrets/db"), saved.at("db-elsewhere")).unwrap();
    saved.run(&["recover", "disks", "disk/db", "--make-pools", "--no-apply"]).code(4);
    assert_eq!(released(), before);
    std::fs::rename(saved.at("db-elsewhere"), saved.at("secrets/db")).unwrap();
    // It is mounted, and has newer data than the backup.
    std::fs::create_dir(saved.at("pool")).unwrap();
    std::fs::write(place(&saved, "db"), "newer").unwrap();
    let ended = saved.run(&["recover", "disks", "--no-apply"]).code(4);
    assert!(ended.out.contains("`trueup release disk/db`"), "{}", ended.out);
    assert_eq!(std::fs::read(place(&saved, "db")).unwrap(), b"newer");
    let state = saved.run(&["state", "-o", "json"]).code(0).out;
    let state: Value = serde_json::from_str(&state).unwrap();
    assert!(state["resources"]["pool/fast"]["hold"].is_null(), "{state}");
    // It is lost too.
    std::fs::remove_dir_all(saved.at("pool")).unwrap();
    let ended = saved.run(&["recover", "disks", "--no-apply"]).code(4);
    assert!(ended.out.contains("is not there"), "{}", ended.out);
    let ended = saved.run(&["recover", "disks", "--make-pools", "--no-apply"]).code(0);
    assert!(ended.out.contains("pool was made for it"), "{}", ended.out);
    assert_eq!(std::fs::read(place(&saved, "db")).unwrap(), b"older");
}

#[test]
fn a_backup_that_is_named_brings_back_what_it_has_and_says_nothing_of_others() {
    let saved = lost(&[("a", b"a"), ("b", b"b")]);
    saved.recover(&["--no-disks", "--no-apply"]).code(0);
    let reason = held(&saved, "b").unwrap();
    let ended = saved.run(&["recover", "disks", "--backup", "a", "--no-apply"]).code(0);
    assert!(ended.out.contains("disk/a is back") && !ended.out.contains("disk/b"), "{}", ended.out);
    assert_eq!((held(&saved, "a"), held(&saved, "b")), (None, Some(reason.clone())));
    assert_eq!(saved.events("resource.restore_failed"), 0);
    // Nothing of what waits is in it, and nothing is said of that.
    let ended = saved.run(&["recover", "disks", "--backup", "a"]).code(1);
    assert!(ended.err.contains("has none of the disks that wait: disk/b"), "{}", ended.err);
    saved.secret("a", "another key");
    let ended = saved.run(&["recover", "disks", "--backup", "a"]).code(5);
    assert!(ended.err.contains("opens no key"), "{}", ended.err);
    assert_eq!(held(&saved, "b"), Some(reason));
    // Who names both is told of the backup that has not got it, and where it is.
    let words = ["recover", "disks", "disk/b", "--backup", "own", "--no-apply"];
    let ended = saved.run(&words).code(4);
    assert!(ended.out.contains("its data is in backup/b and did not"), "{}", ended.out);
    assert!(ended.out.contains("snapshot of backup/own does not have it"), "{}", ended.out);
}

#[test]
fn what_a_recovery_left_beside_a_disk_goes_once_it_waits_for_nothing() {
    let saved = lost(&[("a", b"a")]);
    saved.recover(&["--no-disks", "--no-apply"]).code(0);
    // As after a kill.
    std::fs::create_dir(beside(&saved, "a")).unwrap();
    std::fs::write(beside(&saved, "a").join("0000.ready"), "a").unwrap();
    saved.run(&["apply"]);
    assert!(beside(&saved, "a").exists(), "it may be gone on with");
    std::fs::write(place(&saved, "a"), "by hand").unwrap();
    saved.run(&["release", "disk/a"]).code(0);
    saved.run(&["apply"]);
    assert!(!beside(&saved, "a").exists());
    assert_eq!(std::fs::read(place(&saved, "a")).unwrap(), b"by hand");
}
