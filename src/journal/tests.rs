//! A disk that fails on demand, and what the writer makes of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::disk::{Disk, HostDisk, Segment};
use super::error::{AppendError, JournalError};
use super::{Journal, Opened, Options, Reader, verify};
use crate::event::envelope::{Data, Draft};

/// What the disk does wrong; all clear at first.
#[derive(Default)]
struct Faults {
    /// Bytes that may still be written before ENOSPC; `u64::MAX` for any.
    space: AtomicU64,
    /// Writes take at most so many bytes; 0 for any.
    short: AtomicU64,
    sync_fails: AtomicBool,
    write_fails: AtomicBool,
    truncate_fails: AtomicBool,
    /// Whether the reserve's space is free for segments.
    calls: Mutex<Vec<String>>,
}

struct FaultyDisk {
    faults: Arc<Faults>,
    reserve: Arc<AtomicU64>,
}

struct FaultySegment {
    faults: Arc<Faults>,
    inner: Box<dyn Segment>,
}

fn errno(errno: rustix::io::Errno) -> io::Error {
    errno.into()
}

impl Disk for FaultyDisk {
    fn open_segment(&self, path: &Path) -> io::Result<Box<dyn Segment>> {
        let inner = HostDisk.open_segment(path)?;
        Ok(Box::new(FaultySegment { faults: Arc::clone(&self.faults), inner }))
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        HostDisk.publish(from, to)
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let space = self.faults.space.load(Ordering::SeqCst);
        if space < bytes {
            return Err(errno(rustix::io::Errno::NOSPC));
        }
        HostDisk.reserve(path, bytes)?;
        self.faults
            .space
            .store(space - if space == u64::MAX { 0 } else { bytes }, Ordering::SeqCst);
        self.reserve.store(bytes, Ordering::SeqCst);
        Ok(())
    }

    fn release(&self, path: &Path) -> io::Result<()> {
        HostDisk.release(path)?;
        let is_reserve = path.file_name().is_some_and(|name| name == "reserve");
        let freed = if is_reserve { self.reserve.swap(0, Ordering::SeqCst) } else { 0 };
        let space = self.faults.space.load(Ordering::SeqCst);
        self.faults.space.store(space.saturating_add(freed), Ordering::SeqCst);
        Ok(())
    }
}

impl Segment for FaultySegment {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let faults = &self.faults;
        if faults.write_fails.load(Ordering::SeqCst) {
            return Err(errno(rustix::io::Errno::IO));
        }
        let short = faults.short.load(Ordering::SeqCst);
        let most = if short == 0 { u64::MAX } else { short };
        let space = faults.space.load(Ordering::SeqCst);
        let count = (bytes.len() as u64).min(most).min(space);
        if count == 0 {
            return Err(errno(rustix::io::Errno::NOSPC));
        }
        if space != u64::MAX {
            faults.space.store(space - count, Ordering::SeqCst);
        }
        self.inner.write_at(&bytes[..count as usize], offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.calls.lock().unwrap().push("sync".to_owned());
        if self.faults.sync_fails.load(Ordering::SeqCst) {
            return Err(errno(rustix::io::Errno::IO));
        }
        self.inner.sync()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        if self.faults.truncate_fails.load(Ordering::SeqCst) {
            return Err(errno(rustix::io::Errno::IO));
        }
        let taken = self.inner.size()?.saturating_sub(bytes);
        let space = self.faults.space.load(Ordering::SeqCst);
        self.faults.space.store(space.saturating_add(taken), Ordering::SeqCst);
        self.inner.truncate(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        if self.faults.space.load(Ordering::SeqCst) < bytes {
            return Err(errno(rustix::io::Errno::NOSPC));
        }
        self.inner.allocate(bytes)
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    faults: Arc<Faults>,
}

const RESERVE: u64 = 64 * 1024;

impl Bench {
    fn new() -> Self {
        let faults = Faults { space: AtomicU64::new(u64::MAX), ..Faults::default() };
        Self { dir: tempfile::tempdir().unwrap(), faults: Arc::new(faults) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn open(&self, segment_bytes: u64) -> Result<(Journal, Opened), JournalError> {
        let faults = Arc::clone(&self.faults);
        let disk = Box::new(FaultyDisk { faults, reserve: Arc::default() });
        let options = Options { segment_bytes, reserve_bytes: RESERVE, ..Options::default() };
        Journal::open_on(disk, &self.path(), &options)
    }

    fn space(&self, bytes: u64) {
        self.faults.space.store(bytes, Ordering::SeqCst);
    }

    fn events(&self) -> u64 {
        verify(&self.path()).unwrap().events
    }
}

fn draft(length: usize) -> Draft {
    Draft::new("test.made", 1, Data::of(&serde_json::json!({"x": "y".repeat(length)})).unwrap())
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

#[test]
fn short_writes_are_completed() {
    let bench = Bench::new();
    bench.faults.short.store(7, Ordering::SeqCst);
    let (journal, _) = bench.open(1 << 20).unwrap();
    let sealed = journal.append(now(), vec![draft(10), draft(1000)]).unwrap();
    assert_eq!(sealed.iter().map(|sealed| sealed.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(bench.events(), 2);
}

#[test]
fn a_failed_sync_ends_the_writer_for_good() {
    let bench = Bench::new();
    let (journal, _) = bench.open(1 << 20).unwrap();
    journal.append(now(), vec![draft(1)]).unwrap();
    bench.faults.sync_fails.store(true, Ordering::SeqCst);
    let error = journal.append(now(), vec![draft(2)]).unwrap_err();
    assert!(matches!(&error, AppendError::Poisoned { reason } if reason.contains("cannot sync")));
    bench.faults.sync_fails.store(false, Ordering::SeqCst);
    let syncs = bench.faults.calls.lock().unwrap().len();
    assert_eq!(journal.append(now(), vec![draft(3)]).unwrap_err(), error, "not retried");
    assert_eq!(bench.faults.calls.lock().unwrap().len(), syncs);
    assert_eq!(journal.head().seq, 1);
    drop(journal);
    let (journal, opened) = bench.open(1 << 20).unwrap();
    assert_eq!((opened.last_seq, opened.tail_cut), (1, None), "what failed is not in the log");
    assert_eq!(journal.append(now(), vec![draft(4)]).unwrap()[0].seq, 2);
}

#[test]
fn a_failed_write_ends_the_writer_and_leaves_a_whole_log() {
    let bench = Bench::new();
    let (journal, _) = bench.open(1 << 20).unwrap();
    journal.append(now(), vec![draft(1)]).unwrap();
    bench.faults.write_fails.store(true, Ordering::SeqCst);
    bench.faults.truncate_fails.store(true, Ordering::SeqCst);
    let error = journal.append(now(), vec![draft(2)]).unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("restart"), "{error}");
    drop(journal);
    assert_eq!(bench.events(), 1);
}

#[test]
fn a_full_disk_refuses_takes_back_and_goes_on() {
    let bench = Bench::new();
    let (journal, opened) = bench.open(1 << 20).unwrap();
    assert!(!opened.full);
    journal.append(now(), vec![draft(10)]).unwrap();
    bench.space(100);
    let full = journal.append(now(), vec![draft(10)]).unwrap_err();
    assert!(matches!(full, AppendError::Full { .. }));
    assert_eq!(verify(&bench.path()).unwrap().tail, None, "the half line was taken back");

    // An urgent append gets through on the reserve; ordinary ones wait for it to be whole again.
    bench.faults.space.store(100, Ordering::SeqCst);
    assert_eq!(journal.append_urgent(now(), vec![draft(10)]).unwrap()[0].seq, 2);
    assert!(!bench.path().join("reserve").exists());
    assert_eq!(journal.append(now(), vec![draft(10)]).unwrap_err(), full);
    assert_eq!(journal.append_urgent(now(), vec![draft(10)]).unwrap()[0].seq, 3);

    bench.space(u64::MAX);
    assert_eq!(journal.append(now(), vec![draft(10)]).unwrap()[0].seq, 4);
    assert!(bench.path().join("reserve").exists());
    assert_eq!(bench.events(), 4);
}

#[test]
fn a_disk_full_at_a_segments_end_loses_nothing() {
    let bench = Bench::new();
    let (journal, _) = bench.open(4096).unwrap();
    journal.append(now(), vec![draft(3000)]).unwrap();
    bench.space(3000);
    let full = journal.append(now(), vec![draft(2000)]).unwrap_err();
    assert!(matches!(full, AppendError::Full { .. }));
    assert_eq!(journal.append_urgent(now(), vec![draft(2000)]).unwrap()[0].seq, 2);
    drop(journal);
    assert_eq!(bench.events(), 2);
    bench.space(10);
    let (journal, opened) = bench.open(4096).unwrap();
    assert!(opened.full, "a full disk does not keep the log from opening");
    assert!(journal.append(now(), vec![draft(1)]).is_err());
}

#[test]
fn a_segment_that_could_not_be_made_leaves_nothing_behind() {
    let bench = Bench::new();
    let (journal, _) = bench.open(4096).unwrap();
    journal.append(now(), vec![draft(2500)]).unwrap();
    bench.space(3000);
    let full = journal.append(now(), vec![draft(2000)]).unwrap_err();
    assert!(matches!(full, AppendError::Full { .. }));
    let names = || -> Vec<_> {
        let folder = std::fs::read_dir(super::layout::log_dir(&bench.path())).unwrap();
        folder.map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_eq!(names().len(), 1, "{:?}", names());
    // A smaller one still fits into the segment that could not be left.
    assert_eq!(journal.append(now(), vec![draft(10)]).unwrap()[0].seq, 2);
    bench.space(u64::MAX);
    assert_eq!(journal.append(now(), vec![draft(2000)]).unwrap()[0].seq, 3);
    drop(journal);
    assert_eq!(bench.events(), 3);
    assert_eq!(bench.open(4096).unwrap().1.last_seq, 3);
}

#[test]
fn an_empty_segment_that_an_earlier_version_left_is_passed_over() {
    let bench = Bench::new();
    let (journal, _) = bench.open(1 << 20).unwrap();
    journal.append(now(), vec![draft(1), draft(2), draft(3)]).unwrap();
    drop(journal);
    let log = |seq| super::layout::segment_path(&bench.path(), seq);
    std::fs::write(log(2), "").unwrap();
    std::fs::write(super::layout::next_path(&bench.path()), "").unwrap();
    let seqs = |from| {
        let mut cursor = Reader::open(&bench.path()).from(from).unwrap();
        let mut seqs = Vec::new();
        while let Some(line) = cursor.read().unwrap() {
            seqs.push(line.record.seq);
        }
        seqs
    };
    assert_eq!((seqs(1), seqs(3), bench.events()), (vec![1, 2, 3], vec![3], 3));
    let (journal, opened) = bench.open(600).unwrap();
    assert_eq!(opened.last_seq, 3);
    journal.append(now(), vec![draft(4)]).unwrap();
    drop(journal);
    assert!(log(4).exists(), "it goes on behind the misplaced one");
    assert!(!super::layout::next_path(&bench.path()).exists());
    assert_eq!((seqs(1), seqs(3), bench.events()), (vec![1, 2, 3, 4], vec![3, 4], 4));
    // One that is ahead of the log says that something is missing.
    std::fs::write(log(9), "").unwrap();
    assert!(matches!(verify(&bench.path()), Err(JournalError::Damaged(_))));
}

#[test]
fn a_crash_between_write_and_sync_leaves_a_prefix() {
    let bench = Bench::new();
    let (journal, _) = bench.open(1 << 20).unwrap();
    journal.append(now(), vec![draft(10)]).unwrap();
    bench.faults.sync_fails.store(true, Ordering::SeqCst);
    bench.faults.truncate_fails.store(true, Ordering::SeqCst);
    journal.append(now(), vec![draft(10), draft(20)]).unwrap_err();
    drop(journal);
    let segment = super::layout::segment_path(&bench.path(), 1);
    let whole = std::fs::read(&segment).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bench.faults.sync_fails.store(false, Ordering::SeqCst);
    bench.faults.truncate_fails.store(false, Ordering::SeqCst);
    // Whatever part of the unsynced bytes the disk got, zeros in their place included.
    let newlines = (first..=whole.len()).filter(|kept| whole[kept - 1] == b'\n');
    for kept in (first..=whole.len()).step_by(11).chain(newlines) {
        for zeros in [0, 5000] {
            let mut bytes = whole[..kept].to_vec();
            bytes.resize(kept + zeros, 0);
            std::fs::write(&segment, &bytes).unwrap();
            std::fs::remove_file(bench.path().join("head")).ok();
            let (journal, opened) = bench.open(1 << 20).unwrap();
            let lines = whole[..kept].iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!(opened.last_seq, lines, "kept {kept} zeros {zeros}");
            let cut = opened.tail_cut.map_or(0, |cut| {
                let saved = std::fs::read(&cut.saved_to).unwrap();
                assert_eq!(saved, bytes[cut.offset as usize..]);
                std::fs::remove_file(&cut.saved_to).unwrap();
                cut.bytes
            });
            let line_end = whole[..kept].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
            assert_eq!(cut as usize, kept + zeros - line_end);
            drop(journal);
        }
    }
}

#[test]
fn a_refused_draft_refuses_only_its_own_append() {
    let bench = Bench::new();
    let (journal, _) = bench.open(1 << 20).unwrap();
    let bad = Draft::new("nodot", 1, Data::empty());
    let error = journal.append(now(), vec![draft(1), bad]).unwrap_err();
    assert!(matches!(error, AppendError::Envelope(_)));
    let large: Vec<_> = (0..10).map(|_| draft(900_000)).collect();
    let error = journal.append(now(), large).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { .. }));
    assert_eq!(journal.append(now(), vec![draft(1)]).unwrap()[0].seq, 1);
}

#[test]
fn a_writer_that_lost_its_lock_file_stops() {
    let bench = Bench::new();
    let (journal, _) = bench.open(1 << 20).unwrap();
    std::fs::remove_file(bench.path().join("lock")).unwrap();
    let (other, opened) = bench.open(1 << 20).unwrap();
    assert_eq!(opened.epoch, 2);
    let error = journal.append(now(), vec![draft(1)]).unwrap_err();
    assert!(error.to_string().contains("lock"), "{error}");
    assert_eq!(other.append(now(), vec![draft(1)]).unwrap()[0].seq, 1);
}

#[test]
fn a_reader_sees_a_partial_line_only_once_it_is_whole() {
    let bench = Bench::new();
    let (journal, _) = bench.open(1 << 20).unwrap();
    journal.append(now(), vec![draft(1), draft(2)]).unwrap();
    drop(journal);
    let segment = super::layout::segment_path(&bench.path(), 1);
    let whole = std::fs::read(&segment).unwrap();
    let half = whole.len() - 30;
    std::fs::write(&segment, &whole[..half]).unwrap();
    let mut cursor = Reader::open(&bench.path()).from(1).unwrap();
    assert_eq!(cursor.read().unwrap().map(|line| line.record.seq), Some(1));
    assert!(cursor.read().unwrap().is_none());
    std::fs::write(&segment, &whole).unwrap();
    assert_eq!(cursor.read().unwrap().map(|line| line.record.seq), Some(2));
}
