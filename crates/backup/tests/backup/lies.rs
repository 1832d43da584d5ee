//! Places that are not what they were: another's, old, with another key, or gone in mid-work.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use trueup_backup::protocol::{Done, Fault, Notice};

use crate::bench_data::mixed;
use crate::faults::{Small, under_way};
use crate::interop::snapshots;
use crate::lab::{Answer, Lab, answer, backup, same, taken};

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

impl Lab {
    fn expecting(&self, repository: &str, action: &Value) -> Answer {
        let mut request = self.request(action);
        request["repository"] = json!(repository);
        answer(self.start_with(&request))
    }
}

#[test]
fn a_repository_of_another_with_the_same_key_is_not_written_to() {
    let lab = Lab::new();
    let ours = lab.good(json!({ "init": {} })).repository;
    let source = lab.path("source");
    mixed(&source, 2, 70);
    lab.expecting(&ours, &backup(&source)).unwrap();
    // Another host's disk is mounted at the place; the password is the same.
    fs::rename(lab.path("repo"), lab.path("away")).unwrap();
    let theirs = lab.good(json!({ "init": {} })).repository;
    assert_ne!(ours, theirs);
    for action in [backup(&source), json!({ "prune": {} }), json!({ "snapshots": {} })] {
        let fault = lab.expecting(&ours, &action).unwrap_err();
        let Fault::RepositoryOther { wanted, found, .. } = &fault else { panic!("{fault}") };
        assert_eq!((wanted, found), (&ours, &theirs));
    }
    assert!(snapshots(&lab).is_empty());
}

#[test]
fn a_repository_set_back_to_an_older_state_is_noticed() {
    let lab = Lab::ready();
    let source = lab.path("source");
    mixed(&source, 3, 71);
    let first = lab.save(&source);
    copy(&lab.path("repo"), &lab.path("old"));
    fs::write(source.join("new"), "new").unwrap();
    let second = lab.save(&source).snapshot;
    // The place comes back as it was before the second backup.
    fs::remove_dir_all(lab.path("repo")).unwrap();
    fs::rename(lab.path("old"), lab.path("repo")).unwrap();
    let restore = json!({ "restore": { "snapshot": second.id, "to": lab.path("to") } });
    let fault = lab.bad(restore);
    assert!(matches!(fault, Fault::SnapshotUnknown { .. }), "{fault}");
    let outcome = lab.good(json!({ "check": {} }));
    let gone = Notice::ForeignForget { snapshots: vec![second.id] };
    assert!(outcome.notices.contains(&gone), "{:?}", outcome.notices);
    let pruned = |notice: &Notice| matches!(notice, Notice::ForeignPrune { .. });
    assert!(outcome.notices.iter().any(pruned), "{:?}", outcome.notices);
    // What it still holds is whole, and the next backup is too.
    assert_eq!(snapshots(&lab)[0].id, first.snapshot.id);
    lab.save(&source);
    lab.restic_good(&["check", "--read-data"]);
}

#[test]
fn a_repository_that_is_emptied_is_missing_and_never_made_anew() {
    let lab = Lab::ready();
    let source = lab.path("source");
    mixed(&source, 2, 72);
    lab.save(&source);
    for entry in fs::read_dir(lab.path("repo")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
    for action in [backup(&source), json!({ "check": {} }), json!({ "snapshots": {} })] {
        let fault = lab.bad(action);
        assert!(matches!(fault, Fault::RepositoryMissing { .. }), "{fault}");
    }
    assert_eq!(fs::read_dir(lab.path("repo")).unwrap().count(), 0);
}

#[test]
fn snapshots_without_their_data_do_not_pass_for_a_backup() {
    // The config, key and snapshots are there, but all data is gone.
    let lab = Lab::ready();
    let source = lab.path("source");
    mixed(&source, 2, 73);
    lab.save(&source);
    for folder in ["data", "index"] {
        let path = lab.path("repo").join(folder);
        fs::remove_dir_all(&path).unwrap();
        fs::create_dir(&path).unwrap();
    }
    assert_eq!(snapshots(&lab).len(), 1);
    match lab.run(json!({ "check": {} })) {
        Ok(outcome) => {
            let Done::Check(checked) = outcome.done else { panic!("{:?}", outcome.done) };
            assert!(checked.error_count > 0);
        }
        Err(fault) => assert!(matches!(fault, Fault::Damaged { .. }), "{fault}"),
    }
    let fault = lab.bad(json!({ "restore": { "snapshot": "latest", "to": lab.path("to") } }));
    assert!(matches!(fault, Fault::Damaged { .. }), "{fault}");
    // A backup stores all of it again, rather than believe what the last snapshot says.
    let outcome = lab.good(backup(&source));
    assert!(outcome.stored > 500_000, "{}", outcome.stored);
    let snapshot = taken(outcome).snapshot.id;
    lab.good(json!({ "restore": { "snapshot": snapshot, "to": lab.path("again") } }));
    same(&source, &lab.path("again").join(source.strip_prefix("/").unwrap()));
}

#[test]
fn a_key_that_was_rotated_is_wrong_and_the_new_one_opens() {
    let lab = Lab::ready();
    let source = lab.path("source");
    mixed(&source, 2, 74);
    lab.save(&source);
    fs::write(lab.path("new-key"), "rotated\n").unwrap();
    let new = lab.path("new-key");
    lab.restic_good(&["key", "passwd", "--new-password-file", new.to_str().unwrap()]);
    let fault = lab.bad(backup(&source));
    assert!(matches!(fault, Fault::KeyWrong { .. }) && !fault.transient(), "{fault}");
    fs::write(lab.path("key"), "rotated\n").unwrap();
    lab.save(&source);
    lab.restic_good(&["check", "--read-data"]);
}

#[test]
fn folders_that_vanish_while_they_are_read_are_named() {
    let lab = Lab::ready();
    let source = lab.path("source");
    fs::create_dir_all(source.join("z/deep")).unwrap();
    let mut content = vec![0; 40_000_000];
    fastrand::Rng::with_seed(75).fill(&mut content);
    fs::write(source.join("a-large"), &content).unwrap();
    for n in 0..300 {
        fs::write(source.join(format!("z/{n}")), [7; 100]).unwrap();
        fs::write(source.join(format!("z/deep/{n}")), [8; 100]).unwrap();
    }
    let mut request = lab.request(&backup(&source));
    request["limits"]["read_kib"] = json!(20_000);
    let mut child = lab.start_with(&request);
    under_way(&mut child, "backing up");
    fs::remove_dir_all(source.join("z")).unwrap();
    let taken = taken(answer(child).unwrap());
    assert!(taken.missing_count > 0);
    let gone = taken.missing.iter().find(|missing| missing.vanished);
    let gone = gone.unwrap_or_else(|| panic!("{:?}", taken.missing));
    assert!(gone.path.starts_with(source.join("z")), "{gone:?}");
    lab.restic_good(&["check", "--read-data"]);
    lab.restore("ours");
    let file = lab.path("ours").join(source.strip_prefix("/").unwrap()).join("a-large");
    assert!(fs::read(file).unwrap() == content);
}

#[test]
fn a_place_that_is_unmounted_in_mid_work_is_missing_and_takes_no_snapshot() {
    let lab = Lab::new();
    let Some(small) = Small::mount(&lab.path("repo"), "200m") else {
        eprintln!("not root: nothing can be mounted");
        return;
    };
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 60, 76);
    let mut request = lab.request(&backup(&source));
    request["limits"]["upload_kib"] = json!(8000);
    let mut child = lab.start_with(&request);
    under_way(&mut child, "backing up");
    drop(small);
    let fault = answer(child).unwrap_err();
    assert!(matches!(fault, Fault::RepositoryMissing { .. }), "{fault}");
    // Nothing was written to the folder below.
    assert_eq!(fs::read_dir(lab.path("repo")).unwrap().count(), 0);
}

#[test]
fn two_hosts_write_to_one_repository_at_the_same_time() {
    let lab = Lab::ready();
    let sources = [lab.path("one"), lab.path("two")];
    mixed(&sources[0], 30, 77);
    // Half of it is the same.
    copy(&sources[0], &sources[1]);
    mixed(&sources[1].join("more"), 10, 78);
    let hosts: Vec<_> = ["one", "two"]
        .into_iter()
        .zip(&sources)
        .map(|(host, source)| {
            let mut action = backup(source);
            action["backup"]["host"] = json!(host);
            let mut request = lab.request(&action);
            request["state"] = json!(lab.path(&format!("state-{host}")));
            lab.start_with(&request)
        })
        .collect();
    for child in hosts {
        let outcome = answer(child).unwrap();
        assert_eq!(outcome.notices, vec![]);
    }
    lab.restic_good(&["check", "--read-data"]);
    for (host, source) in ["one", "two"].into_iter().zip(&sources) {
        let to = lab.path(&format!("to-{host}"));
        let latest = json!({ "snapshot": "latest", "filter": { "host": host }, "to": to });
        lab.good(json!({ "restore": latest }));
        same(source, &to.join(source.strip_prefix("/").unwrap()));
    }
    // What is stored twice goes with the next prune, and nothing else.
    lab.good(json!({ "prune": { "max_unused_percent": 0 } }));
    lab.restic_good(&["check", "--read-data"]);
    let keep = json!({ "filter": { "host": "one" }, "keep": { "last": 1 } });
    let Done::Forget { keep, remove, .. } = lab.good(json!({ "forget": keep })).done else {
        panic!("no forget")
    };
    assert_eq!((keep.len(), remove.len()), (1, 0), "the other host's snapshots are not its");
}
