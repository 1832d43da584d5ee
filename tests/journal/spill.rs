//! Row 52: what is too large for an event is stored beside the log, named by it, and cleaned up.

use std::sync::Arc;

use trueup::event::body::{Problem, SpecRejected};
use trueup::event::{Entry, Event, Spilled, spill};
use trueup::journal::{Blobs, Journal, LogPort, Options, Reader};
use trueup::model::CommitId;
use trueup::port::{BoxFuture, Clock, Journal as _};

struct Still;

impl Clock for Still {
    fn now(&self) -> jiff::Timestamp {
        super::now()
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn sleep(&self, _: std::time::Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

fn options() -> Options {
    Options { known: |_, _| true, ..Options::default() }
}

fn rejected(mistakes: usize) -> (Entry, Spilled) {
    let problem = |n| Problem {
        path: format!("environments/lab/{n}.yaml"),
        line: 1,
        column: 1,
        message: "unknown field `memroy`".into(),
    };
    let problems: Vec<Problem> = (0..mistakes).map(problem).collect();
    let (more, content) = Spilled::of_json(&problems).unwrap();
    let rejected = SpecRejected {
        errors: mistakes as u64,
        problems: problems[..1].to_vec(),
        more: Some(more.clone()),
    };
    let commit: CommitId = "a".repeat(40).parse().unwrap();
    let entry = Entry::new(Event::SpecRejected(rejected)).at_commit(&commit);
    (entry.bringing([content]), more)
}

#[tokio::test]
async fn a_large_content_is_there_before_its_event_and_what_none_names_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), &options()).unwrap();
    let port = LogPort::new(journal.clone(), Arc::new(Still));
    // A line that large would be refused by the log.
    let (entry, more) = rejected(40_000);
    assert!(more.bytes > 1 << 20);
    port.append(vec![entry]).await.unwrap();
    drop(port);
    journal.close();
    let blobs = Blobs::open(dir.path());
    let content = blobs.read(&more.blob).unwrap().unwrap();
    let all: Vec<Problem> = serde_json::from_slice(&content).unwrap();
    assert_eq!(all.len(), 40_000);
    assert_eq!(blobs.find(&more.blob.short()).unwrap(), Some(more.blob));

    let mut cursor = Reader::open(dir.path()).from(1).unwrap();
    let mut named = Vec::new();
    while let Some(line) = cursor.read().unwrap() {
        assert!(line.bytes.len() < 1_000, "the event itself stays small");
        named.extend(spill::named(line.record.data));
    }
    assert_eq!(named, [more.blob]);

    // Killed between the content and its event: nothing names it.
    let orphan = blobs.store(b"stored for an event that never came").unwrap();
    let (journal, _) = Journal::open(dir.path(), &options()).unwrap();
    journal.close();
    assert_eq!(blobs.read(&orphan).unwrap(), None, "what no event names is removed");
    assert!(blobs.read(&more.blob).unwrap().is_some(), "what an event names stays");
    // However new a named content looks (the clock had jumped), the whole log has a say.
    let path = dir.path().join("blobs").join(more.blob.to_string());
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
    let (journal, _) = Journal::open(dir.path(), &options()).unwrap();
    journal.close();
    assert!(blobs.read(&more.blob).unwrap().is_some());
}
