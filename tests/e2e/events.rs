//! The log of a daemon as the tests read it: events with their times, and waiting for them.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use trueup::event::Recorded;
use trueup::journal::Reader;
use trueup::state::State;

/// How often the log is read again while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An event.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    pub(super) type_: String,
    pub(super) subject: String,
    pub(super) commit: String,
    pub(super) data: Value,
}

impl Event {
    pub(super) fn is(&self, type_: &str, subject: &str) -> bool {
        self.type_ == type_ && self.subject == subject
    }
}

/// Every event of the log in `dir` after event `seq`.
pub(super) fn after(dir: &Path, seq: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let mut cursor = Reader::open(dir).from(seq + 1).unwrap();
    while let Some(line) = cursor.read().unwrap() {
        let record = &line.record;
        // A log that is shorter hands out its end instead.
        if record.seq <= seq {
            continue;
        }
        events.push(Event {
            seq: record.seq,
            at: record.at,
            type_: record.type_.to_owned(),
            subject: record.subject.as_deref().unwrap_or_default().to_owned(),
            commit: record.commit.unwrap_or_default().to_owned(),
            data: serde_json::from_str(record.data).unwrap(),
        });
    }
    events
}

/// The fold of the log in `dir`.
pub(super) fn state(dir: &Path) -> State {
    let mut state = State::default();
    let mut cursor = Reader::open(dir).from(1).unwrap();
    while let Some(line) = cursor.read().unwrap() {
        state.apply(&Recorded::open(&line.record).unwrap());
    }
    state
}

/// Waits until `look` finds something, at most `limit`.
pub(super) fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Seconds from `from` to `to`.
pub(super) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// Time in `events` during which at least one step was under way, seconds: what the machine itself
/// took. Steps that run side by side count once.
pub(super) fn machine_time(events: &[Event]) -> f64 {
    let (mut under_way, mut since, mut sum) = (0_u32, None, 0.0);
    for event in events {
        match event.type_.as_str() {
            "step.started" => {
                under_way += 1;
                since = since.or(Some(event.at));
            }
            "step.succeeded" | "step.failed" => {
                under_way -= 1;
                if let (0, Some(begun)) = (under_way, since) {
                    sum += seconds(begun, event.at);
                    since = None;
                }
            }
            _ => {}
        }
    }
    sum
}
