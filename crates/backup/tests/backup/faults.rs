//! Repositories that lie, sources that vanish, disks that are full, and workers that are killed.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::json;
use trueup_backup::protocol::{Checked, Done, Fault, Notice};

use crate::bench_data::mixed;
use crate::interop::snapshots;
use crate::lab::{Lab, answer, backup, same, walk};

fn check(lab: &Lab) -> Checked {
    match lab.good(json!({ "check": { "read": "all" } })).done {
        Done::Check(checked) => checked,
        other => panic!("{other:?}"),
    }
}

fn saved(scale: u64, seed: u64) -> Lab {
    let lab = Lab::ready();
    mixed(&lab.path("source"), scale, seed);
    lab.save(&lab.path("source"));
    lab
}

fn name(pack: &Path) -> String {
    pack.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_wrong_password_opens_nothing() {
    let lab = Lab::ready();
    fs::write(lab.path("key"), "another\n").unwrap();
    let fault = lab.bad(json!({ "snapshots": {} }));
    assert!(matches!(fault, Fault::KeyWrong { .. }), "{fault}");
    assert!(!format!("{fault:?}").contains("another"));
}

#[test]
fn a_password_that_others_may_read_is_not_read() {
    let lab = Lab::ready();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(lab.path("key"), mode).unwrap();
    let fault = lab.bad(json!({ "snapshots": {} }));
    assert!(matches!(fault, Fault::KeyUnreadable { .. }), "{fault}");
}

#[test]
fn a_password_may_come_by_standard_input() {
    let lab = Lab::ready();
    let mut request = lab.request(&json!({ "snapshots": {} }));
    request["key"] = json!("stdin");
    let mut child = lab.start_with(&request);
    child.stdin.as_mut().unwrap().write_all(b"secret\n").unwrap();
    answer(child).unwrap();
}

#[test]
fn an_empty_place_is_no_repository_and_a_repository_is_not_made_twice() {
    let lab = Lab::new();
    let missing = |fault: &Fault| matches!(fault, Fault::RepositoryMissing { .. });
    assert!(missing(&lab.bad(json!({ "snapshots": {} }))));
    fs::create_dir(lab.path("repo")).unwrap();
    assert!(missing(&lab.bad(backup(lab.root.path()))));
    lab.good(json!({ "init": {} }));
    let fault = lab.bad(json!({ "init": {} }));
    assert!(matches!(fault, Fault::RepositoryExists { .. }), "{fault}");
}

#[test]
fn a_flipped_bit_is_found_and_named_and_stops_a_restore() {
    let lab = saved(10, 11);
    let pack = lab.packs().remove(0);
    let file = fs::OpenOptions::new().read(true).write(true).open(&pack).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 5000).unwrap();
    let checked = check(&lab);
    assert!(checked.error_count > 0);
    let named = checked.findings.iter().filter_map(|finding| finding.pack.clone());
    assert!(named.clone().any(|id| id == name(&pack)), "{:?}", checked.findings);
    let fault = lab.bad(json!({ "restore": { "snapshot": "latest", "to": lab.path("to") } }));
    let Fault::Damaged { kind, name: id, .. } = &fault else { panic!("{fault}") };
    assert_eq!((&**kind, id), ("pack", &name(&pack)));
}

#[test]
fn a_truncated_and_a_missing_pack_are_found_without_reading_data() {
    for gone in [false, true] {
        let lab = saved(10, 12);
        let pack = lab.packs().remove(0);
        match gone {
            true => fs::remove_file(&pack).unwrap(),
            false => {
                let file = fs::OpenOptions::new().write(true).open(&pack).unwrap();
                file.set_len(1000).unwrap();
            }
        }
        let done = lab.good(json!({ "check": {} })).done;
        let Done::Check(checked) = done else { panic!("{done:?}") };
        assert!(checked.error_count > 0);
        let named = checked.findings.iter().any(|f| f.pack.as_deref() == Some(&*name(&pack)));
        assert!(named, "{:?}", checked.findings);
        let fault = lab.bad(json!({ "restore": { "snapshot": "latest", "to": lab.path("to") } }));
        assert!(matches!(fault, Fault::Damaged { .. }), "{fault}");
        // A prune must not make it worse.
        lab.bad(json!({ "prune": {} }));
    }
}

#[test]
fn a_damaged_index_or_snapshot_is_named() {
    for folder in ["index", "snapshots"] {
        let lab = saved(2, 13);
        let file = fs::read_dir(lab.path("repo").join(folder)).unwrap().next().unwrap().unwrap();
        let mut content = fs::read(file.path()).unwrap();
        content[40] ^= 1;
        fs::write(file.path(), content).unwrap();
        let fault = lab.bad(json!({ "check": {} }));
        let Fault::Damaged { name: id, .. } = &fault else { panic!("{folder}: {fault}") };
        assert_eq!(*id, name(&file.path()));
    }
}

/// Waits for the first progress of a phase, by bytes or things done. Not a byte is read beyond it: whoever reads
/// on finds whole lines.
pub(crate) fn under_way(child: &mut Child, phase: &str) {
    let stdout = child.stdout.as_mut().unwrap();
    let (mut line, mut byte) = (Vec::new(), [0]);
    while stdout.read(&mut byte).unwrap() == 1 {
        if byte != *b"\n" {
            line.extend(byte);
            continue;
        }
        let said = String::from_utf8(std::mem::take(&mut line)).unwrap();
        if said.contains(phase) {
            return;
        }
        assert!(!said.contains("\"outcome\""), "it was too quick: {said}");
    }
    panic!("it ended before `{phase}`");
}

#[test]
fn a_backup_that_is_killed_is_simply_taken_again() {
    let lab = Lab::ready();
    let source = lab.path("source");
    mixed(&source, 30, 14);
    let mut request = lab.request(&backup(&source));
    request["limits"]["upload_kib"] = json!(8000);
    let mut child = lab.start_with(&request);
    under_way(&mut child, "backing up");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(snapshots(&lab).is_empty());
    let outcome = lab.good(backup(&source));
    let stale = |notice| matches!(notice, Notice::StaleLock { .. });
    assert!(outcome.notices.into_iter().any(stale));
    lab.good(json!({ "prune": {} }));
    lab.restic_good(&["check", "--read-data"]);
    lab.restore("ours");
    same(&source, &lab.path("ours").join(source.strip_prefix("/").unwrap()));
}

#[test]
fn closing_standard_input_cancels() {
    let lab = Lab::ready();
    let source = lab.path("source");
    mixed(&source, 30, 15);
    let mut request = lab.request(&backup(&source));
    request["limits"]["upload_kib"] = json!(1000);
    let mut child = lab.start_with(&request);
    under_way(&mut child, "backing up");
    drop(child.stdin.take());
    assert!(!child.wait().unwrap().success());
    assert!(snapshots(&lab).is_empty());
}

#[test]
fn a_prune_that_is_killed_anywhere_loses_nothing() {
    for phase in ["repacking", "removing old index", "removing"] {
        let lab = saved(12, 16);
        let source = lab.path("source");
        for n in (0..120).step_by(2) {
            let small = source.join("small").join((n % 97).to_string()).join(n.to_string());
            fs::remove_file(small).unwrap();
        }
        fs::remove_file(source.join("random.bin")).unwrap();
        lab.save(&source);
        lab.good(json!({ "forget": { "keep": { "last": 1 } } }));
        let action = json!({ "prune": { "max_unused_percent": 0 } });
        let mut request = lab.request(&action);
        request["limits"]["upload_kib"] = json!(20_000);
        let mut child = lab.start_with(&request);
        under_way(&mut child, phase);
        child.kill().unwrap();
        child.wait().unwrap();
        lab.good(action);
        lab.restic_good(&["check", "--read-data"]);
        let to = lab.path("theirs");
        lab.restic_good(&["restore", "latest", "--target", to.to_str().unwrap()]);
        same(&source, &to.join(source.strip_prefix("/").unwrap()));
    }
}

#[test]
fn a_restore_that_is_killed_goes_on() {
    let lab = saved(30, 17);
    let action = json!({ "restore": { "snapshot": "latest", "to": lab.path("to") } });
    let mut request = lab.request(&action);
    request["limits"]["download_kib"] = json!(10_000);
    let mut child = lab.start_with(&request);
    under_way(&mut child, "restoring");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(lab.bad(action), Fault::TargetNotEmpty { .. }));
    let again = json!({ "snapshot": "latest", "to": lab.path("to"), "resume": true });
    lab.good(json!({ "restore": again }));
    let source = lab.path("source");
    same(&source, &lab.path("to").join(source.strip_prefix("/").unwrap()));
    // It is whole: nobody may go on in it any more, and nothing says that it is a restore's.
    assert!(!lab.path("to").join(".trueup-restore").exists());
    let fault = lab.bad(json!({ "restore": again }));
    assert!(matches!(fault, Fault::NotResumable { .. }), "{fault}");
}

/// A restore of the lab's snapshot into `to` that was killed in the middle.
fn interrupted(lab: &Lab) -> serde_json::Value {
    let action = json!({ "restore": { "snapshot": "latest", "to": lab.path("to") } });
    let mut request = lab.request(&action);
    request["limits"]["download_kib"] = json!(10_000);
    let mut child = lab.start_with(&request);
    under_way(&mut child, "restoring");
    child.kill().unwrap();
    child.wait().unwrap();
    json!({ "restore": { "snapshot": "latest", "to": lab.path("to"), "resume": true } })
}

#[test]
fn a_restore_goes_on_only_where_it_was_interrupted_and_with_the_snapshot_it_was_of() {
    let lab = saved(30, 18);
    let again = interrupted(&lab);
    let source = lab.path("source");
    fs::write(source.join("later"), "later").unwrap();
    lab.save(&source);
    let first = snapshots(&lab)[0].id.clone();
    let Done::Restore(done) = lab.good(again).done else { panic!("no restore") };
    assert_eq!(done.snapshot, first, "what was the latest when it began");
    assert!(!lab.path("to").join(source.strip_prefix("/").unwrap()).join("later").exists());
    // A folder of somebody's own.
    fs::create_dir(lab.path("mine")).unwrap();
    fs::write(lab.path("mine/file"), "mine").unwrap();
    let other = json!({ "snapshot": "latest", "to": lab.path("mine"), "resume": true });
    let fault = lab.bad(json!({ "restore": other }));
    assert!(matches!(fault, Fault::NotResumable { .. }), "{fault}");
    assert_eq!(fs::read(lab.path("mine/file")).unwrap(), b"mine");
}

#[test]
fn a_restore_that_goes_on_replaces_nothing_it_did_not_write() {
    let lab = saved(30, 19);
    let again = interrupted(&lab);
    let source = lab.path("source");
    let restored = lab.path("to").join(source.strip_prefix("/").unwrap());
    let whole = |path: &PathBuf| {
        let mode = fs::metadata(path).unwrap().permissions();
        path.is_file() && std::os::unix::fs::PermissionsExt::mode(&mode) & 0o1000 == 0
    };
    let live = walk(&restored).into_iter().find(whole).expect("one is whole");
    fs::write(&live, "used since").unwrap();
    let fault = lab.bad(again.clone());
    assert!(matches!(&fault, Fault::InTheWay { path } if *path == live), "{fault}");
    assert_eq!(fs::read(&live).unwrap(), b"used since");
    fs::remove_file(&live).unwrap();
    lab.good(again);
    same(&source, &restored);
}

#[test]
fn a_repository_that_was_half_made_is_made_anew() {
    let lab = Lab::ready();
    let keys = lab.path("repo/keys");
    // As a kill between the key and the config leaves it.
    fs::remove_file(lab.path("repo/config")).unwrap();
    fs::write(lab.path("repo/config-tmp-1"), "half").unwrap();
    lab.good(json!({ "init": {} }));
    assert_eq!(fs::read_dir(&keys).unwrap().count(), 1, "the old key would open nothing");
    let source = lab.path("source");
    mixed(&source, 1, 20);
    lab.save(&source);
    lab.good(json!({ "prune": {} }));
    assert!(!lab.path("repo/config-tmp-1").exists());
    lab.restic_good(&["check"]);
    // What was a repository stays what it is.
    fs::remove_file(lab.path("repo/config")).unwrap();
    let fault = lab.bad(json!({ "init": {} }));
    assert!(matches!(&fault, Fault::Damaged { kind, .. } if kind == "config"), "{fault}");
    assert_eq!(fs::read_dir(&keys).unwrap().count(), 1);
}

#[test]
fn a_key_that_another_host_has_just_made_is_left_alone() {
    let lab = Lab::ready();
    fs::remove_file(lab.path("repo/config")).unwrap();
    let key = fs::read_dir(lab.path("repo/keys")).unwrap().next().unwrap().unwrap().path();
    let mut made: serde_json::Value = serde_json::from_slice(&fs::read(&key).unwrap()).unwrap();
    made["hostname"] = json!("another");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&key, made.to_string()).unwrap();
    let fault = lab.bad(json!({ "init": {} }));
    assert!(matches!(&fault, Fault::Locked { holder, .. } if holder.host == "another"), "{fault}");
    assert!(key.exists());
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_named_and_left_out() {
    let lab = Lab::ready();
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    let mut content = vec![0; 60_000_000];
    fastrand::Rng::with_seed(18).fill(&mut content);
    fs::write(source.join("a-large"), &content).unwrap();
    for n in 0..100 {
        fs::write(source.join(format!("file{n}")), [7; 100]).unwrap();
    }
    let mut request = lab.request(&backup(&source));
    request["limits"]["read_kib"] = json!(20_000);
    let mut child = lab.start_with(&request);
    under_way(&mut child, "backing up");
    fs::OpenOptions::new().write(true).open(source.join("a-large")).unwrap().set_len(9).unwrap();
    let taken = crate::lab::taken(answer(child).unwrap());
    assert_eq!(taken.missing_count, 1, "{:?}", taken.missing);
    assert_eq!(taken.missing[0].path, source.join("a-large"));
    lab.restic_good(&["check", "--read-data"]);
}

#[test]
fn a_source_that_is_not_there_is_no_empty_backup() {
    let lab = Lab::ready();
    let fault = lab.bad(backup(&lab.path("nowhere")));
    assert!(matches!(fault, Fault::SourceVanished { .. }), "{fault}");
    assert!(snapshots(&lab).is_empty());
}

/// A small file system of its own.
pub(crate) struct Small(std::path::PathBuf);

impl Small {
    pub(crate) fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at);
        let mounted = command.status().is_ok_and(|status| status.success());
        mounted.then(|| Small(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk_there_takes_no_snapshot_and_leaves_those_before_whole() {
    let lab = Lab::new();
    let Some(_small) = Small::mount(&lab.path("repo"), "12m") else {
        eprintln!("not root: nothing can be mounted");
        return;
    };
    lab.good(json!({ "init": {} }));
    let little = lab.path("little");
    mixed(&little, 2, 19);
    lab.save(&little);
    let source = lab.path("source");
    mixed(&source, 100, 20);
    let fault = lab.bad(backup(&source));
    assert!(matches!(fault, Fault::DiskFullThere { .. }), "{fault}");
    assert_eq!(snapshots(&lab).len(), 1);
    lab.restore("ours");
    same(&little, &lab.path("ours").join(little.strip_prefix("/").unwrap()));
}

#[test]
fn a_full_disk_here_stops_a_restore() {
    let lab = saved(20, 21);
    let Some(_small) = Small::mount(&lab.path("to"), "2m") else {
        eprintln!("not root: nothing can be mounted");
        return;
    };
    let fault = lab.bad(json!({ "restore": { "snapshot": "latest", "to": lab.path("to") } }));
    assert!(matches!(fault, Fault::DiskFullHere { .. }), "{fault}");
}

#[test]
fn a_full_disk_here_does_not_undo_a_backup_that_is_stored() {
    let lab = saved(2, 22);
    let Some(_small) = Small::mount(&lab.path("state"), "64k") else {
        eprintln!("not root: nothing can be mounted");
        return;
    };
    let full = fs::write(lab.path("state/full"), [1; 100_000]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let outcome = lab.good(backup(&lab.path("source")));
    let unnoted = |notice: &Notice| matches!(notice, Notice::Unnoted { .. });
    assert!(outcome.notices.iter().any(unnoted), "{:?}", outcome.notices);
    assert_eq!(snapshots(&lab).len(), 2);
    // Nothing half written is left.
    let left = fs::read_dir(lab.path("state")).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        (!name.ends_with(".lock") && name != "full").then_some(name)
    });
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
}
