//! Plain restic restores what we wrote, and we what it wrote.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};
use trueup_backup::protocol::{Done, Fault, Snapshot};

use crate::bench_data::mixed;
use crate::lab::{Lab, same};

#[test]
fn restic_checks_and_restores_what_we_wrote_byte_for_byte() {
    let lab = Lab::ready();
    let source = lab.path("source");
    mixed(&source, 20, 1);
    let taken = lab.save(&source);
    assert_eq!((taken.missing_count, taken.files > 200), (0, true));
    lab.restic_good(&["check", "--read-data"]);
    let to = lab.path("theirs");
    lab.restic_good(&["restore", "latest", "--target", to.to_str().unwrap()]);
    same(&source, &to.join(source.strip_prefix("/").unwrap()));
}

#[test]
fn we_restore_what_we_wrote_with_its_holes() {
    let lab = Lab::ready();
    let source = lab.path("source");
    mixed(&source, 20, 2);
    lab.save(&source);
    let outcome = lab.restore("ours");
    let Done::Restore(restored) = &outcome.done else { panic!("{outcome:?}") };
    assert_eq!(restored.warnings, Vec::<String>::new());
    let ours = lab.path("ours").join(source.strip_prefix("/").unwrap());
    same(&source, &ours);
    let image = fs::metadata(ours.join("disk.img")).unwrap();
    assert!(image.blocks() * 512 < image.len() / 2, "{} of {}", image.blocks() * 512, image.len());
}

#[test]
fn we_list_check_and_restore_what_restic_wrote() {
    let lab = Lab::new();
    let source = lab.path("source");
    mixed(&source, 10, 3);
    lab.restic_good(&["init"]);
    lab.restic_good(&["backup", "--host", "theirs", "--tag", "x", source.to_str().unwrap()]);
    let outcome = lab.good(json!({ "snapshots": { "filter": { "host": "theirs" } } }));
    let Done::Snapshots { snapshots } = outcome.done else { panic!("{:?}", outcome.done) };
    assert_eq!(snapshots.len(), 1);
    assert_eq!((&*snapshots[0].host, &*snapshots[0].tags), ("theirs", &["x".to_owned()][..]));
    let outcome = lab.good(json!({ "check": { "read": "all" } }));
    let Done::Check(checked) = outcome.done else { panic!("{:?}", outcome.done) };
    assert_eq!((checked.error_count, checked.snapshots), (0, 1), "{:?}", checked.findings);
    lab.restore("ours");
    same(&source, &lab.path("ours").join(source.strip_prefix("/").unwrap()));
}

#[test]
fn an_unchanged_source_stores_next_to_nothing_and_has_the_same_digest() {
    let lab = Lab::ready();
    let source = lab.path("source");
    mixed(&source, 5, 4);
    let first = lab.save(&source);
    let outcome = lab.good(crate::lab::backup(&source));
    assert!(outcome.stored < 20_000, "{}", outcome.stored);
    let second = crate::lab::taken(outcome);
    assert_eq!(first.snapshot.tree, second.snapshot.tree);
    assert_eq!(second.files_changed, 0);
    assert!(second.bytes.abs_diff(first.bytes) < 100, "{} {}", second.bytes, first.bytes);
}

#[test]
fn a_stream_is_a_file_also_for_restic() {
    let lab = Lab::ready();
    let mut content = vec![0; 9_000_000];
    fastrand::Rng::with_seed(5).fill(&mut content);
    let taken = crate::lab::taken(lab.stream("db.sql", &content, true).unwrap());
    assert_eq!((taken.files, taken.bytes), (1, 9_000_000));
    lab.restic_good(&["check", "--read-data"]);
    let to = lab.path("theirs");
    lab.restic_good(&["restore", "latest", "--target", to.to_str().unwrap()]);
    assert!(fs::read(to.join("db.sql")).unwrap() == content);
    lab.restore("ours");
    assert!(fs::read(lab.path("ours/db.sql")).unwrap() == content);
}

#[test]
fn a_stream_that_breaks_off_leaves_no_snapshot() {
    let lab = Lab::ready();
    let fault = lab.stream("db.sql", &[1; 3_000_000], false).unwrap_err();
    assert!(matches!(fault, Fault::SourceVanished { .. }), "{fault}");
    assert!(snapshots(&lab).is_empty());
    lab.restic_good(&["check"]);
}

#[test]
fn an_empty_stream_is_an_empty_file() {
    let lab = Lab::ready();
    lab.stream("nothing", b"", true).unwrap();
    lab.restore("ours");
    assert_eq!(fs::read(lab.path("ours/nothing")).unwrap(), b"");
    lab.restic_good(&["check", "--read-data"]);
}

pub(crate) fn snapshots(lab: &Lab) -> Vec<Snapshot> {
    match lab.good(json!({ "snapshots": {} })).done {
        Done::Snapshots { snapshots } => snapshots,
        other => panic!("{other:?}"),
    }
}

#[test]
fn retention_is_that_of_restic() {
    let lab = Lab::ready();
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let mut random = fastrand::Rng::with_seed(6);
    // Near each other, years apart, and around the turn of a year.
    let mut times: Vec<i64> = (0..8).map(|_| 1_700_000_000 + random.i64(0..5_000_000)).collect();
    times.extend((0..4).map(|_| 1_400_000_000 + random.i64(0..300_000_000)));
    times.extend((0..4).map(|n| 1_735_500_000 + n * 80_000));
    for second in times {
        let time = jiff::Timestamp::from_second(second).unwrap();
        let mut action = crate::lab::backup(&source);
        action["backup"]["time"] = json!(time);
        lab.good(action);
    }
    let keeps = [
        json!({ "last": 3 }),
        json!({ "hourly": 6 }),
        json!({ "daily": 5 }),
        json!({ "weekly": 9 }),
        json!({ "monthly": 7 }),
        json!({ "yearly": 4 }),
        json!({ "last": 2, "daily": 4, "weekly": 3, "monthly": 5, "yearly": 99 }),
        json!({ "last": 1, "hourly": 1, "tags": ["none"] }),
    ];
    for keep in keeps {
        let mut arguments = vec!["forget", "--dry-run", "--json", "--group-by", ""];
        let rules: Vec<String> = keep
            .as_object()
            .unwrap()
            .iter()
            .map(|(rule, n)| match n.as_array() {
                Some(tags) => format!("--keep-tag={}", tags[0].as_str().unwrap()),
                None => format!("--keep-{rule}={n}"),
            })
            .collect();
        arguments.extend(rules.iter().map(String::as_str));
        let theirs: Value = serde_json::from_str(&lab.restic_good(&arguments)).unwrap();
        let kept = theirs[0]["keep"].as_array().unwrap();
        let theirs: BTreeSet<_> = kept.iter().map(|s| s["id"].as_str().unwrap()).collect();
        let done = lab.good(json!({ "forget": { "keep": keep, "dry_run": true } })).done;
        let Done::Forget { keep: ours, remove, .. } = done else { panic!("{done:?}") };
        let ids: BTreeSet<_> = ours.iter().map(|kept| &*kept.snapshot.id).collect();
        assert_eq!(ids, theirs, "{keep}");
        assert_eq!(ours.len() + remove.len(), 16);
    }
}

#[test]
fn what_is_forgotten_and_pruned_is_gone_and_the_rest_is_whole() {
    let lab = Lab::ready();
    let source = lab.path("source");
    mixed(&source, 10, 7);
    lab.save(&source);
    fs::remove_file(source.join("random.bin")).unwrap();
    fs::remove_file(source.join("copy.bin")).unwrap();
    lab.save(&source);
    let full: u64 = lab.packs().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    let done = lab.good(json!({ "forget": { "keep": { "last": 1 } } })).done;
    assert!(matches!(&done, Done::Forget { remove, .. } if remove.len() == 1), "{done:?}");
    let would = lab.good(json!({ "prune": { "dry_run": true } })).done;
    let Done::Prune(would) = would else { panic!("{would:?}") };
    assert!(would.bytes_removed > 1_500_000, "{would:?}");
    assert_eq!(full, lab.packs().iter().map(|p| fs::metadata(p).unwrap().len()).sum::<u64>());
    lab.good(json!({ "prune": {} }));
    let left: u64 = lab.packs().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(left + 1_500_000 < full, "{left} of {full}");
    lab.restic_good(&["check", "--read-data"]);
    lab.restore("ours");
    same(&source, &lab.path("ours").join(source.strip_prefix("/").unwrap()));
}

#[test]
fn a_policy_that_keeps_nothing_is_refused() {
    let lab = Lab::ready();
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    lab.save(&source);
    for keep in [json!({}), json!({ "tags": ["none"] })] {
        let fault = lab.bad(json!({ "forget": { "keep": keep } }));
        assert!(matches!(fault, Fault::Invalid { .. }), "{fault}");
    }
    assert_eq!(snapshots(&lab).len(), 1);
}
