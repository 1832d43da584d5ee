//! The log from outside: whole flows over real files.

mod crash;
mod damage;
mod flow;
mod recipe;
mod spill;

use jiff::Timestamp;
use serde_json::json;
use trueup::event::envelope::{Data, Draft};
use trueup::journal::{JournalError, Options, Reader};

/// A clock that stands still: the log's own order of time has to do.
fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn draft(number: u64) -> Draft {
    Draft::new("test.made", 1, Data::of(&json!({ "number": number })).unwrap())
        .about(format!("vm/{number}"))
}

/// Segments of a few events.
fn small() -> Options {
    Options { segment_bytes: 2000, reserve_bytes: 4096, ..Options::default() }
}

fn read_all(dir: &std::path::Path) -> Result<Vec<(u64, String)>, JournalError> {
    let mut cursor = Reader::open(dir).from(1)?;
    let mut all = Vec::new();
    while let Some(line) = cursor.read()? {
        all.push((line.record.seq, line.record.data.to_owned()));
    }
    Ok(all)
}
