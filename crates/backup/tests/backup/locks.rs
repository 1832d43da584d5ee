//! Two at once: of this host, of another, and restic itself.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;
use trueup_backup::FeedWriter;
use trueup_backup::protocol::{Fault, Notice};

use crate::bench_data::mixed;
use crate::lab::{Lab, backup};

/// Locks that are whole: restic gives them another name while it writes them.
fn locks(lab: &Lab) -> usize {
    let names = fs::read_dir(lab.path("repo/locks")).unwrap().map(|lock| lock.unwrap().file_name());
    names.filter(|name| name.len() == 64).count()
}

/// A backup that is under way, slowly.
fn slow(lab: &Lab) -> std::process::Child {
    let source = lab.path("source");
    mixed(&source, 20, 30);
    let mut request = lab.request(&backup(&source));
    request["limits"]["upload_kib"] = json!(500);
    let mut child = lab.start_with(&request);
    crate::faults::under_way(&mut child, "backing up");
    child
}

#[test]
fn nobody_prunes_beside_a_writer() {
    let lab = Lab::ready();
    let mut writer = slow(&lab);
    // Ours on this host.
    let fault = lab.bad(json!({ "prune": {} }));
    assert!(matches!(fault, Fault::Locked { .. }), "{fault}");
    // Ours on another host, which shares nothing but the repository.
    let mut request = lab.request(&json!({ "prune": {} }));
    request["state"] = json!(lab.path("another-state"));
    let fault = crate::lab::answer(lab.start_with(&request)).unwrap_err();
    let Fault::Locked { holder, .. } = &fault else { panic!("{fault}") };
    assert_eq!(holder.pid, i64::from(writer.id()));
    // restic.
    let prune = lab.restic(&["prune"]);
    let said = String::from_utf8_lossy(&prune.stderr).into_owned();
    assert!(!prune.status.success() && said.contains("already locked"), "{said}");
    writer.kill().unwrap();
    writer.wait().unwrap();
}

#[test]
fn restic_at_work_is_heeded_and_once_dead_is_not() {
    let lab = Lab::ready();
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    // restic reads its standard input, which nobody ends, under its own lock.
    let mut restic = Command::new("restic");
    restic.arg("-r").arg(lab.path("repo")).arg("--password-file").arg(lab.path("key"));
    restic.args(["--no-cache", "backup", "--stdin"]).stdin(Stdio::piped());
    let mut restic = restic.stdout(Stdio::null()).spawn().unwrap();
    let locks = || locks(&lab);
    while locks() == 0 {
        assert!(restic.try_wait().unwrap().is_none(), "restic ended");
        std::thread::yield_now();
    }
    let fault = lab.bad(json!({ "prune": {} }));
    let Fault::Locked { holder, .. } = &fault else { panic!("{fault}") };
    assert_eq!((holder.pid, holder.exclusive), (i64::from(restic.id()), false));
    // A backup may run beside another.
    lab.save(&source);
    restic.kill().unwrap();
    restic.wait().unwrap();
    let outcome = lab.good(json!({ "prune": {} }));
    let stale = |notice: &Notice| matches!(notice, Notice::StaleLock { .. });
    assert!(outcome.notices.iter().any(stale), "{:?}", outcome.notices);
    assert_eq!(locks(), 0);
}

#[test]
fn what_others_removed_is_noticed_once() {
    let lab = Lab::ready();
    let source = lab.path("source");
    mixed(&source, 3, 31);
    let first = lab.save(&source);
    fs::remove_file(source.join("random.bin")).unwrap();
    fs::remove_file(source.join("copy.bin")).unwrap();
    lab.save(&source);
    lab.restic_good(&["forget", "--prune", "--max-unused", "0", &first.snapshot.id]);
    let outcome = lab.good(backup(&source));
    let forgot = Notice::ForeignForget { snapshots: vec![first.snapshot.id] };
    assert!(outcome.notices.contains(&forgot), "{:?}", outcome.notices);
    let pruned = |notice: &Notice| matches!(notice, Notice::ForeignPrune { .. });
    assert!(outcome.notices.iter().any(pruned), "{:?}", outcome.notices);
    // What we remove ourselves is no news.
    lab.good(json!({ "forget": { "keep": { "last": 1 } } }));
    lab.good(json!({ "prune": { "max_unused_percent": 0 } }));
    assert_eq!(lab.good(backup(&source)).notices, vec![]);
}

#[test]
fn a_lock_nobody_can_read_is_somebodys() {
    let lab = Lab::ready();
    fs::write(lab.path("repo/locks").join("a".repeat(64)), "half a lock").unwrap();
    let fault = lab.bad(json!({ "prune": {} }));
    assert!(matches!(fault, Fault::Locked { .. }), "{fault}");
}

#[test]
fn a_lock_of_another_host_is_heeded_though_nobody_knows_whether_it_lives() {
    let lab = Lab::ready();
    let mut restic = Command::new("unshare");
    restic.args(["--uts", "sh", "-c", "hostname elsewhere && exec \"$@\"", "sh", "restic", "-r"]);
    restic.arg(lab.path("repo")).arg("--password-file").arg(lab.path("key"));
    restic.args(["--no-cache", "backup", "--stdin"]).stdin(Stdio::piped());
    let mut restic = restic.stdout(Stdio::null()).spawn().unwrap();
    let locks = || locks(&lab);
    while locks() == 0 {
        if restic.try_wait().unwrap().is_some() {
            eprintln!("not root: no other host can be played");
            return;
        }
        std::thread::yield_now();
    }
    restic.kill().unwrap();
    restic.wait().unwrap();
    let fault = lab.bad(json!({ "prune": {} }));
    let Fault::Locked { holder, .. } = &fault else { panic!("{fault}") };
    assert_eq!(holder.host, "elsewhere");
    // A backup is no reason to wait for it.
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    assert_eq!(lab.good(backup(&source)).notices, vec![]);
    assert_eq!(locks(), 1);
}

/// Does something while a stream is being saved, of which half is still to come.
fn half_way(lab: &Lab, content: &[u8], then: impl FnOnce()) -> Fault {
    let action = json!({ "backup": { "source": { "stream": { "name": "s" } }, "host": "h" } });
    let mut child = lab.start(&action);
    let mut writer = FeedWriter::new(child.stdin.take().unwrap());
    let (first, rest) = content.split_at(content.len() / 2);
    // More than pipes and buffers hold: so it is at work, and has its lock.
    writer.write_all(first).unwrap();
    then();
    writer.write_all(rest).unwrap();
    child.stdin = Some(writer.finish().unwrap());
    crate::lab::answer(child).unwrap_err()
}

#[test]
fn locks_taken_by_force_and_a_prune_leave_no_broken_snapshot() {
    // With something to prune, so that the index is written anew; and with nothing but what the
    // writer stored just now.
    for garbage in [true, false] {
        let lab = Lab::ready();
        let source = lab.path("source");
        mixed(&source, 6, 32);
        lab.save(&source);
        if garbage {
            fs::remove_file(source.join("random.bin")).unwrap();
            fs::remove_file(source.join("copy.bin")).unwrap();
            lab.save(&source);
            lab.good(json!({ "forget": { "keep": { "last": 1 } } }));
        }
        let mut noise = vec![0; 40_000_000];
        fastrand::Rng::with_seed(33).fill(&mut noise);
        let fault = half_way(&lab, &noise, || {
            lab.restic_good(&["unlock", "--remove-all"]);
            lab.restic_good(&["prune", "--max-unused", "0"]);
        });
        let lost = matches!(fault, Fault::LockLost { .. } | Fault::PrunedMeanwhile { .. });
        assert!(lost && fault.transient(), "{fault}");
        let snapshots = crate::interop::snapshots(&lab);
        assert_eq!(snapshots.len(), 1);
        lab.restic_good(&["check", "--read-data"]);
        // The next try is whole.
        lab.save(&source);
        lab.restic_good(&["check", "--read-data"]);
    }
}

#[test]
fn an_index_that_goes_while_a_backup_runs_takes_no_snapshot() {
    // As with tools that know no locks.
    let lab = Lab::ready();
    let source = lab.path("source");
    mixed(&source, 2, 34);
    lab.save(&source);
    let fault = half_way(&lab, &[5; 8_000_000], || {
        let index = fs::read_dir(lab.path("repo/index")).unwrap().next().unwrap().unwrap().path();
        fs::remove_file(index).unwrap();
    });
    assert!(matches!(fault, Fault::PrunedMeanwhile { .. }), "{fault}");
    assert_eq!(crate::interop::snapshots(&lab).len(), 1);
}
