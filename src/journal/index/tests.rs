//! The index gives the log's own answers, whatever happens to its files.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::event::envelope::{Data, Draft};
use crate::journal::{Filter, Journal, Options, search};

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn draft(number: u64) -> Draft {
    let types = ["step.started", "step.failed", "plan.made"];
    let mut draft = Draft::new(types[(number % 3) as usize], 1, Data::empty());
    if !number.is_multiple_of(4) {
        draft.subject = Some(format!("vm/{}", number % 7));
    }
    draft.run = number.is_multiple_of(5).then(|| uuid::Uuid::from_u128(u128::from(number / 50)));
    draft.commit =
        number.is_multiple_of(6).then(|| format!("{:040x}", u128::from(number / 100) << 100));
    draft
}

fn log(dir: &Path, from: u64, to: u64) -> Reader {
    let options = Options { segment_bytes: 100_000, ..Options::default() };
    let (journal, _) = Journal::open(dir, &options).unwrap();
    for number in from..to {
        let now = start() + SignedDuration::from_secs(number as i64 * 7);
        journal.append(now, vec![draft(number)]).unwrap();
    }
    Reader::open(dir)
}

fn found(reader: &Reader, index: Option<&Index>, filter: &Filter, after: u64) -> Vec<u64> {
    let mut seqs = Vec::new();
    search(reader, index, filter, after, |line| {
        seqs.push(line.record.seq);
        ControlFlow::Continue(())
    })
    .unwrap();
    seqs
}

fn filters() -> Vec<Filter> {
    let text = |text: &str| Some(text.to_owned());
    let at = |seconds: i64| Some(start() + SignedDuration::from_secs(seconds));
    vec![
        Filter::default(),
        Filter { subject: text("vm/3"), ..Filter::default() },
        Filter { subject: text("vm/*"), type_: text("step.*"), ..Filter::default() },
        Filter { type_: text("plan.made"), since: at(700), ..Filter::default() },
        Filter { type_: text("*"), until: at(1400), ..Filter::default() },
        Filter { since: at(301), until: at(1000), ..Filter::default() },
        Filter { commit: text("0000"), subject: text("vm/2"), ..Filter::default() },
        Filter { run: Some(uuid::Uuid::from_u128(1).to_string()), ..Filter::default() },
        Filter { subject: text("nobody"), ..Filter::default() },
    ]
}

#[track_caller]
fn agree(reader: &Reader, index: &Index) {
    for filter in filters() {
        for after in [0, 64, 150] {
            let plain = found(reader, None, &filter, after);
            assert_eq!(found(reader, Some(index), &filter, after), plain, "{filter:?} {after}");
        }
    }
}

#[test]
fn answers_are_those_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let reader = log(dir.path(), 0, 300);
    let index = Index::open(dir.path(), &reader);
    assert!(found(&reader, None, &filters()[1], 0).len() > 20, "the test looks for something");
    agree(&reader, &index);
    assert_eq!(index.update(&reader).unwrap(), Updated { seq: 300, rebuilt: true });
    agree(&reader, &index);
    log(dir.path(), 300, 400);
    agree(&reader, &index);
    assert_eq!(index.update(&reader).unwrap(), Updated { seq: 400, rebuilt: false });
    agree(&reader, &index);
}

#[test]
fn pages_join() {
    let dir = tempfile::tempdir().unwrap();
    let reader = log(dir.path(), 0, 300);
    let index = Index::open(dir.path(), &reader);
    index.update(&reader).unwrap();
    for filter in filters() {
        let Some(all) = index.candidates(&filter, 0, 10_000) else { continue };
        assert!(all.last);
        let (mut seqs, mut after) = (Vec::new(), 0);
        loop {
            let page = index.candidates(&filter, after, 7).unwrap();
            assert!(page.seqs.len() <= 7);
            seqs.extend(page.seqs);
            after = page.complete_to;
            if page.last {
                break;
            }
        }
        assert_eq!(seqs, all.seqs, "{filter:?}");
    }
}

#[test]
fn a_clean_close_is_kept_and_anything_else_is_built_again() {
    let dir = tempfile::tempdir().unwrap();
    let reader = log(dir.path(), 0, 100);
    let index = Index::open(dir.path(), &reader);
    index.update(&reader).unwrap();
    assert!(index.snapshot_put("status", 2, 40, b"forty"));
    index.close();
    let index = Index::open(dir.path(), &reader);
    assert_eq!(index.update(&reader).unwrap(), Updated { seq: 100, rebuilt: false });
    assert_eq!(index.snapshot_latest("status", 2, 99), Some((40, b"forty".to_vec())));
    drop(index);
    let index = Index::open(dir.path(), &reader);
    assert!(index.update(&reader).unwrap().rebuilt, "not closed, so not trusted");
    index.close();
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let index = Index::open(dir.path(), &reader);
    assert!(index.update(&reader).unwrap().rebuilt);
    index.close();
    // Another log under the same index.
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    fs::remove_file(dir.path().join("head")).unwrap();
    log(dir.path(), 1, 150);
    let index = Index::open(dir.path(), &reader);
    assert!(index.update(&reader).unwrap().rebuilt);
    agree(&reader, &index);
}

#[test]
fn a_second_process_leaves_the_index_alone() {
    let dir = tempfile::tempdir().unwrap();
    let reader = log(dir.path(), 0, 100);
    let index = Index::open(dir.path(), &reader);
    index.update(&reader).unwrap();
    let other = Index::open(dir.path(), &reader);
    assert_eq!(other.update(&reader).unwrap(), Updated { seq: 0, rebuilt: false });
    agree(&reader, &other);
    agree(&reader, &index);
    assert!(index.head().is_some(), "still serving");
}

#[test]
fn snapshots_are_found_by_view_version_and_place() {
    let dir = tempfile::tempdir().unwrap();
    let reader = log(dir.path(), 0, 100);
    let index = Index::open(dir.path(), &reader);
    index.update(&reader).unwrap();
    assert!(!index.snapshot_put("status", 1, 101, b"ahead of the log"));
    for (view, version, seq) in
        [("status", 1, 10), ("status", 1, 50), ("status", 2, 60), ("s", 1, 70)]
    {
        assert!(index.snapshot_put(view, version, seq, format!("{view}{seq}").as_bytes()));
    }
    let latest =
        |view, version, seq| index.snapshot_latest(view, version, seq).map(|found| found.0);
    assert_eq!(latest("status", 1, 9), None);
    assert_eq!(latest("status", 1, 49), Some(10));
    assert_eq!(latest("status", 1, 99), Some(50));
    assert_eq!(latest("status", 3, 99), None);
    assert_eq!(latest("s", 1, 99), Some(70));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn damaged_files_change_no_answer(
        pick in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        harm in 0..4,
        sealed in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let reader = log(dir.path(), 0, 130);
        let index = Index::open(dir.path(), &reader);
        index.update(&reader).unwrap();
        index.snapshot_put("status", 1, 100, b"state");
        index.close();
        let all = files(&dir.path().join("index").join("db"));
        let path = &all[pick.index(all.len())];
        let mut bytes = fs::read(path).unwrap();
        let at = if bytes.is_empty() { 0 } else { place.index(bytes.len()) };
        match harm {
            0 if !bytes.is_empty() => bytes[at] ^= 0x40,
            1 => bytes.truncate(at),
            2 => bytes.extend_from_slice(b"more"),
            _ => bytes.clear(),
        }
        fs::write(path, &bytes).unwrap();
        if sealed && harm == 3 {
            fs::remove_file(path).unwrap();
        }
        let index = Index::open(dir.path(), &reader);
        let updated = index.update(&reader).unwrap();
        prop_assert_eq!(updated.seq, 130);
        agree(&reader, &index);
        let snapshot = index.snapshot_latest("status", 1, 130);
        prop_assert!(snapshot.is_none_or(|found| found == (100, b"state".to_vec())));
    }
}

#[test]
fn an_entry_that_is_not_what_the_log_says_is_found_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = log(dir.path(), 0, 300);
    let index = Index::open(dir.path(), &reader);
    index.update(&reader).unwrap();
    // Written in two rounds, which cuts the lists elsewhere than one would.
    reader = log(dir.path(), 300, 400);
    index.update(&reader).unwrap();
    assert_eq!(index.audit(&reader).unwrap(), None);
    assert!(!dir.path().join("index/audit").exists());

    let lost = index.ask(|store| {
        let (key, _) = store.terms.scan_prefix(b"svm/3\0").next()?.ok()?;
        store.terms.remove(key).ok()
    });
    assert!(lost.is_some());
    let place = index.audit(&reader).unwrap().unwrap();
    assert!(place.starts_with("events of subject vm/3"), "{place}");
    assert!(index.rebuild(&reader).unwrap().rebuilt);
    assert_eq!(index.audit(&reader).unwrap(), None);

    let key = b"svm/4\0".iter().copied().chain(2_u64.to_be_bytes()).collect::<Vec<_>>();
    index.ask(|store| store.terms.insert(key.clone(), &[0x80]).ok()).unwrap();
    assert!(index.audit(&reader).unwrap().unwrap().contains("vm/4"));
    index.rebuild(&reader).unwrap();
    let key = 65_u64.to_be_bytes();
    index.ask(|store| store.positions.insert(key, &[0; 16]).ok()).unwrap();
    assert_eq!(index.audit(&reader).unwrap().as_deref(), Some("place of event 65"));
}

#[test]
fn a_question_makes_no_index_and_leaves_the_one_there_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let reader = log(dir.path(), 0, 100);
    assert!(!Index::peek(dir.path(), &reader).is_there());
    assert!(!dir.path().join("index").exists());
    let index = Index::open(dir.path(), &reader);
    index.update(&reader).unwrap();
    assert!(!Index::peek(dir.path(), &reader).is_there(), "another has it");
    index.close();
    for _ in 0..2 {
        let peeked = Index::peek(dir.path(), &reader);
        assert_eq!(peeked.head().unwrap().seq, 100);
        agree(&reader, &peeked);
        peeked.close();
    }
    // One that was not closed well is left to a writer.
    drop(Index::peek(dir.path(), &reader));
    assert!(!Index::peek(dir.path(), &reader).is_there());
    assert!(Index::open(dir.path(), &reader).update(&reader).unwrap().rebuilt);
}

#[test]
fn only_the_newest_snapshots_stay() {
    let dir = tempfile::tempdir().unwrap();
    let reader = log(dir.path(), 0, 100);
    let index = Index::open(dir.path(), &reader);
    index.update(&reader).unwrap();
    assert!(index.snapshot_put("state", 1, 5, b"old"));
    assert!(index.snapshot_put("other", 1, 5, b"other"));
    for seq in 1..=20 {
        assert!(index.snapshot_put("state", 2, seq, b"new"));
    }
    assert!(index.snapshot_latest("state", 1, u64::MAX).is_some());
    assert_eq!(index.snapshot_latest("state", 2, u64::MAX).unwrap().0, 20);
    let oldest = 20 - SNAPSHOTS_KEPT_MAX as u64;
    assert_eq!(index.snapshot_latest("state", 2, oldest), None);
    assert!(index.snapshot_latest("state", 2, oldest + 1).is_some());
    assert!(index.snapshot_latest("other", 1, u64::MAX).is_some());
}
