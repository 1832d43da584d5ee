//! The log against its limits: a raw write+fdatasync loop and raw line framing, in the same run.
//!
//! `cargo bench --bench journal` prints one row each; only the ratios mean anything, as the disk and
//! the neighbours differ from run to run.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark times and tells")]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails has nothing to tell")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use trueup::event::envelope::{Data, Draft};
use trueup::event::line;
use trueup::journal::index::Index;
use trueup::journal::{Journal, Options, Reader, layout, verify};

/// Rounds of each pair; the best of both is compared, which is the least disturbed one.
const ROUNDS: usize = 3;
const REPLAYED: usize = 300_000;

fn draft(number: usize) -> Draft {
    let data = serde_json::json!({ "step": number, "note": "x".repeat(30) });
    Draft::new("step.started", 1, Data::of(&data).unwrap()).about(format!("vm/{}", number % 2000))
}

/// Events a second of a raw append loop that writes `bytes` and syncs, `batches` times.
fn raw(dir: &Path, bytes: &[u8], lines: usize, batches: usize) -> f64 {
    let path = dir.join("raw");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
    let start = Instant::now();
    for _ in 0..batches {
        file.write_all(bytes).unwrap();
        file.sync_data().unwrap();
    }
    (lines * batches) as f64 / start.elapsed().as_secs_f64()
}

fn append(dir: &Path, lines: usize, batches: usize) -> f64 {
    let (journal, _) = Journal::open(dir, &Options::default()).unwrap();
    let work: Vec<Vec<Draft>> = (0..batches).map(|_| (0..lines).map(draft).collect()).collect();
    let now = Timestamp::now();
    let start = Instant::now();
    for drafts in work {
        journal.append(now, drafts).unwrap();
    }
    (lines * batches) as f64 / start.elapsed().as_secs_f64()
}

/// Events a second of `threads` callers that append one by one, sharing syncs.
fn together(dir: &Path, threads: usize, each: usize) -> f64 {
    let (journal, _) = Journal::open(dir, &Options::default()).unwrap();
    let now = Timestamp::now();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for number in 0..each {
                    journal.append(now, vec![draft(number)]).unwrap();
                }
            });
        }
    });
    (threads * each) as f64 / start.elapsed().as_secs_f64()
}

fn row(name: &str, ours: f64, limit: f64) {
    println!("{name:<44} {ours:>12.0} ev/s {limit:>12.0} ev/s {:>6.2}", ours / limit);
}

fn appends(root: &Path) {
    let mut sample = Vec::new();
    for (lines, batches) in [(1, 2000), (64, 300), (1000, 60)] {
        let (mut ours, mut limit) = (0_f64, 0_f64);
        for _ in 0..ROUNDS {
            let dir = tempfile::tempdir_in(root).unwrap();
            ours = ours.max(append(dir.path(), lines, batches));
            sample = std::fs::read(layout::segment_path(dir.path(), 1)).unwrap();
            let line = sample.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            let bytes = sample[..line].repeat(lines);
            limit = limit.max(raw(dir.path(), &bytes, lines, batches));
        }
        row(&format!("append, {lines} at a time / raw"), ours, limit);
    }
    let line = sample.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let dir = tempfile::tempdir_in(root).unwrap();
    let limit = raw(dir.path(), &sample[..line], 1, 2000);
    row("append, 32 callers one by one / raw one by one", together(dir.path(), 32, 300), limit);
}

fn timed(work: impl Fn()) -> f64 {
    let best = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    REPLAYED as f64 / best.fold(f64::INFINITY, f64::min)
}

fn replays(root: &Path) {
    let dir = tempfile::tempdir_in(root).unwrap();
    let (journal, _) = Journal::open(dir.path(), &Options::default()).unwrap();
    for start in (0..REPLAYED).step_by(1000) {
        journal.append(Timestamp::now(), (start..start + 1000).map(draft).collect()).unwrap();
    }
    journal.close();
    let paths: Vec<_> = layout::segments(dir.path()).unwrap();
    let paths: Vec<_> =
        paths.iter().map(|first| layout::segment_path(dir.path(), *first)).collect();
    let lines = |each: &dyn Fn(&[u8])| {
        for path in &paths {
            std::fs::read(path).unwrap().split_inclusive(|byte| *byte == b'\n').for_each(each);
        }
    };
    let framing = timed(|| lines(&|line| assert!(!line.is_empty())));
    let parsed = |line: &[u8]| assert!(line::parse(&line[..line.len() - 1]).is_ok());
    row("parse the envelope / framing", timed(|| lines(&parsed)), framing);
    let reader = Reader::open(dir.path());
    let read = || {
        let mut cursor = reader.from(1).unwrap();
        while cursor.read().unwrap().is_some() {}
    };
    row("read, chain checked / framing", timed(read), framing);
    row("verify, data parsed / framing", timed(|| drop(verify(dir.path()).unwrap())), framing);
    row(
        "open for writing / framing",
        timed(|| drop(Journal::open(dir.path(), &Options::default()).unwrap())),
        framing,
    );
    let index = || {
        let old = dir.path().join("index");
        if old.exists() {
            std::fs::remove_dir_all(&old).unwrap();
        }
        let index = Index::open(dir.path(), &reader);
        assert!(index.update(&reader).unwrap().rebuilt);
        index.close();
    };
    row("build the index / framing", timed(index), framing);
}

fn main() {
    // Beside the build, so that it is a disk and not memory.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&root).unwrap();
    println!("{:<44} {:>17} {:>17} {:>6}", "", "trueup", "limit", "ratio");
    appends(&root);
    replays(&root);
}
