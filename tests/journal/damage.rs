//! Damage: every flipped byte is found, a torn tail is cut and kept, anything else is refused.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use trueup::journal::{Finding, Journal, JournalError, Opened, layout, verify};

use super::{draft, now, read_all, small};

/// A log of `count` events as a crash leaves it: the note says nothing about its end.
fn crashed(count: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), &small()).unwrap();
    for number in 0..count {
        journal.append(now(), vec![draft(number)]).unwrap();
    }
    drop(journal);
    fs::remove_file(dir.path().join("head")).unwrap();
    dir
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let firsts = layout::segments(dir).unwrap();
    firsts.into_iter().map(|first| layout::segment_path(dir, first)).collect()
}

fn open(dir: &Path) -> Result<Opened, JournalError> {
    Journal::open(dir, &small()).map(|(_, opened)| opened)
}

#[track_caller]
fn refused(dir: &Path, expected: &str) {
    let before: Vec<_> = segments(dir).iter().map(|path| fs::read(path).unwrap()).collect();
    let error = open(dir).unwrap_err();
    assert!(matches!(error, JournalError::Damaged(_)), "{error}");
    assert!(error.to_string().contains(expected), "{error}");
    let place = |error: JournalError| match error {
        JournalError::Damaged(damage) => damage,
        other => panic!("{other}"),
    };
    assert_eq!(place(verify(dir).unwrap_err()), place(error), "verify names the same place");
    let after: Vec<_> = segments(dir).iter().map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(before, after, "nothing was changed");
}

#[test]
fn the_last_line_cut_at_any_byte_leaves_a_whole_prefix_and_a_kept_tail() {
    let dir = crashed(9);
    let last = segments(dir.path()).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    let start = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for end in start..whole.len() {
        fs::write(&last, &whole[..end]).unwrap();
        let opened = open(dir.path()).unwrap();
        assert_eq!(opened.last_seq, 8);
        let cut = opened.tail_cut.map(|cut| {
            assert_eq!(
                (&cut.file, cut.offset, cut.bytes),
                (&last, start as u64, (end - start) as u64)
            );
            assert_eq!(fs::read(&cut.saved_to).unwrap(), &whole[start..end]);
            fs::remove_file(cut.saved_to).unwrap();
        });
        assert_eq!(cut.is_some(), end > start, "cut at {end}");
        assert_eq!(read_all(dir.path()).unwrap().len(), 8);
        assert_eq!(fs::read(&last).unwrap(), &whole[..start]);
        fs::remove_file(dir.path().join("head")).unwrap();
    }
}

#[test]
fn after_a_clean_close_even_a_lost_last_line_is_found() {
    let dir = crashed(9);
    let (journal, _) = Journal::open(dir.path(), &small()).unwrap();
    journal.append(now(), vec![draft(9)]).unwrap();
    journal.close();
    let last = segments(dir.path()).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    fs::write(&last, &whole[..whole.len() - 10]).unwrap();
    refused(dir.path(), "expected the log to reach seq 10");
    fs::remove_file(&last).unwrap();
    refused(dir.path(), "expected the log to reach seq 10");
}

#[test]
fn missing_doubled_and_swapped_lines_are_refused() {
    let dir = crashed(12);
    let path = segments(dir.path())[1].clone();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    assert!(lines.len() > 3);
    for (lines, expected) in [
        ([&lines[..1], &lines[2..]].concat(), "line 2, byte"),
        ([&lines[..2], &lines[1..]].concat(), "line 3, byte"),
        ([&lines[1..2], &lines[..1], &lines[2..]].concat(), "line 1, byte 0"),
    ] {
        fs::write(&path, lines.concat()).unwrap();
        refused(dir.path(), expected);
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let dir = crashed(20);
    let all = segments(dir.path());
    assert!(all.len() > 2);
    let bytes = fs::read(&all[1]).unwrap();
    fs::remove_file(&all[1]).unwrap();
    refused(dir.path(), "expected a segment that starts with seq");
    fs::write(&all[1], &bytes[..bytes.len() - 5]).unwrap();
    refused(dir.path(), "no end");
    fs::write(&all[1], b"").unwrap();
    refused(dir.path(), "expected a segment that starts with seq");
    fs::write(&all[1], &bytes).unwrap();
    fs::remove_file(&all[0]).unwrap();
    refused(dir.path(), "expected a segment that starts with seq 1,");
}

#[test]
fn a_rewritten_chain_is_found_by_what_the_writer_noted() {
    let dir = crashed(5);
    drop(Journal::open(dir.path(), &small()).unwrap());
    let note = fs::read(dir.path().join("head")).unwrap();
    let other = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(other.path(), &small()).unwrap();
    for number in 10..15 {
        journal.append(now(), vec![draft(number)]).unwrap();
    }
    drop(journal);
    fs::write(other.path().join("head"), note).unwrap();
    refused(other.path(), "history was rewritten");
}

#[test]
fn a_tail_no_crash_can_leave_is_refused() {
    let dir = crashed(3);
    let last = segments(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes.resize(bytes.len() + 10 * 1024 * 1024, b'x');
    fs::write(&last, &bytes).unwrap();
    refused(dir.path(), "the line is longer than");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]
    #[test]
    fn any_flipped_byte_is_found(
        place in any::<prop::sample::Index>(),
        segment in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let dir = crashed(12);
        let all = segments(dir.path());
        let path = segment.get(&all);
        let mut bytes = fs::read(path).unwrap();
        let at = place.index(bytes.len());
        bytes[at] ^= flip;
        fs::write(path, &bytes).unwrap();
        let last_line = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n');
        match open(dir.path()) {
            // Only the very last line may be taken for torn, and it is told and kept.
            Ok(opened) => {
                let cut = opened.tail_cut.expect("a flipped byte went unnoticed");
                prop_assert_eq!(path, all.last().unwrap());
                prop_assert_eq!(fs::read(&cut.saved_to).unwrap(), &bytes[cut.offset as usize..]);
                prop_assert!(at as u64 >= cut.offset);
                prop_assert!(cut.offset as usize <= last_line.map_or(0, |end| end + 1));
                prop_assert_eq!(opened.last_seq, 11);
            }
            Err(JournalError::Damaged(damage)) => {
                let gap = matches!(damage.finding, Finding::Gap { .. });
                prop_assert!(damage.file == *path || gap, "{damage}");
                prop_assert!(damage.offset as usize <= at + 1);
                let found = matches!(read_all(dir.path()), Err(JournalError::Damaged(_)));
                prop_assert!(found, "the reader finds it too");
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
