//! Appending, rotating, reading back, following.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use proptest::prelude::*;
use trueup::event::envelope::{Data, Draft};
use trueup::journal::{
    AppendError, Follower, Journal, JournalError, Options, Reader, layout, verify,
};

use super::{draft, now, read_all, small};

#[test]
fn events_survive_reopening_and_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for opening in 1..=3 {
        let (journal, opened) = Journal::open(dir.path(), &small()).unwrap();
        assert_eq!((opened.epoch, opened.last_seq), (opening, expected.len() as u64));
        assert_eq!(opened.tail_cut, None);
        for _ in 0..20 {
            let number = expected.len() as u64;
            let sealed = journal.append(now(), vec![draft(number)]).unwrap();
            assert_eq!(sealed[0].seq, number + 1);
            assert_eq!(journal.head().hash, sealed[0].hash);
            expected.push((number + 1, format!("{{\"number\":{number}}}")));
        }
    }
    assert_eq!(read_all(dir.path()).unwrap(), expected);
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.events, 60);
    assert!(report.segments.len() > 5, "{:?}", report.segments);
    for (first, bytes) in &report.segments {
        let metadata = fs::metadata(layout::segment_path(dir.path(), *first)).unwrap();
        assert_eq!(metadata.len(), *bytes);
        assert!(metadata.blocks() * 512 <= bytes.next_multiple_of(4096), "trimmed on close");
    }
    let mut cursor = Reader::open(dir.path()).from(37).unwrap();
    assert_eq!(cursor.read().unwrap().unwrap().record.seq, 37);
}

#[test]
fn a_second_writer_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), &small()).unwrap();
    let error = Journal::open(dir.path(), &small()).err().unwrap();
    assert!(matches!(&error, JournalError::Busy { .. }));
    let text = error.to_string();
    assert!(text.contains(&std::process::id().to_string()), "{text}");
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    journal.append(now(), vec![draft(1)]).unwrap();
    assert_eq!(read_all(dir.path()).unwrap().len(), 1, "readers need no lock");
    let clone = journal.clone();
    journal.close();
    assert_eq!(clone.append(now(), vec![draft(2)]).unwrap_err(), AppendError::Closed);
    Journal::open(dir.path(), &small()).unwrap();
}

#[test]
fn an_unknown_event_keeps_the_writer_out_and_readers_in() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), &small()).unwrap();
    let newer = Draft { v: 7, ..draft(2) };
    journal.append(now(), vec![draft(1), newer]).unwrap();
    drop(journal);
    let options = Options { known: |_, v| v <= 1, ..small() };
    let error = Journal::open(dir.path(), &options).err().unwrap().to_string();
    assert!(error.contains("test.made version 7") && error.contains("event 2"), "{error}");
    assert_eq!(read_all(dir.path()).unwrap().len(), 2);
}

#[test]
fn waiting_appends_share_a_sync_and_all_are_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), &Options::default()).unwrap();
    let mut seqs: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u64)
            .map(|thread| {
                let journal = journal.clone();
                let one = move |number| {
                    let drafts = vec![draft(thread * 100 + number), draft(number)];
                    let sealed = journal.append(now(), drafts).unwrap();
                    assert_eq!(sealed[0].seq + 1, sealed[1].seq, "an append stays together");
                    [sealed[0].seq, sealed[1].seq]
                };
                scope.spawn(move || (0..50).flat_map(one).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=800).collect::<Vec<_>>());
    assert_eq!(verify(dir.path()).unwrap().events, 800);
}

#[tokio::test]
async fn tasks_append_too() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), &small()).unwrap();
    let first = journal.append_async(now(), vec![draft(1)]);
    let second = journal.append_async(now(), vec![draft(2)]);
    assert_eq!(second.await.unwrap()[0].seq, 2);
    assert_eq!(first.await.unwrap()[0].seq, 1);
}

#[test]
fn a_follower_sees_events_as_they_come_over_rotations() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), &small()).unwrap();
    let mut follower = Follower::new(Reader::open(dir.path()).from(1).unwrap()).unwrap();
    assert!(follower.wait(Duration::ZERO).unwrap().is_none());
    let writer = std::thread::spawn(move || {
        for number in 0..50 {
            journal.append(now(), vec![draft(number)]).unwrap();
        }
        journal
    });
    for seq in 1..=50 {
        let line = follower.wait(Duration::from_secs(20)).unwrap().unwrap();
        assert_eq!(line.record.seq, seq);
    }
    drop(writer.join().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn any_appends_read_back(
        appends in proptest::collection::vec(
            proptest::collection::vec(("\\PC{0,60}", any::<u64>(), -1000_i64..1000), 0..5),
            0..20,
        ),
        reopen in 0_usize..20,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        let (mut journal, _) = Journal::open(dir.path(), &small()).unwrap();
        for (index, append) in appends.iter().enumerate() {
            if index == reopen {
                drop(journal);
                journal = Journal::open(dir.path(), &small()).unwrap().0;
            }
            let mut drafts = Vec::new();
            let mut when = now();
            for (text, number, shift) in append {
                let data = Data::of(&serde_json::json!({"text": text, "number": number})).unwrap();
                expected.push((expected.len() as u64 + 1, data.as_str().to_owned()));
                drafts.push(Draft::new("any.thing", 3, data));
                when += jiff::SignedDuration::from_secs(*shift);
            }
            journal.append(when, drafts).unwrap();
        }
        prop_assert_eq!(&read_all(dir.path()).unwrap(), &expected);
        let report = verify(dir.path()).unwrap();
        prop_assert_eq!(report.events, expected.len() as u64);
        prop_assert_eq!(report.head.hash, journal.head().hash);
    }
}
