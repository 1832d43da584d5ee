//! Questions about the past, and what the daemon answers to them.
//!
//! Whoever may use the socket need not be able to read the log. No answer is longer than a page, and
//! no question makes the daemon read without an end.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cli::log::Line;
use crate::journal::Filter;
use crate::view::StatusRow;

/// Most events of a page: what a terminal shows in a few seconds, and far below a reply's limit.
pub const PAGE_EVENTS_MAX: usize = 1_000;
/// A page ends with the event that reaches so many bytes: twice the longest line there can be.
pub const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most events that are looked at for one page, whether they fit or not: about a second's work.
pub const PAGE_SCAN_MAX: usize = 100_000;

/// Which events are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogQuery {
    /// Which fit.
    pub filter: Filter,
    /// Only what comes after this event.
    pub after: u64,
    /// Only the last so many of the whole log.
    pub last: Option<u64>,
    /// Where nothing comes after it yet: wait a little for what does.
    pub wait: bool,
}

/// A part of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// The state directory it is from.
    pub directory: PathBuf,
    /// The events that fit, as they are stored.
    pub lines: Vec<String>,
    /// The last event that was looked at: what comes next is asked for after it.
    pub seen: u64,
    /// Whether nothing that could fit comes after it now.
    pub end: bool,
}

/// The events behind one resource's status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// The state directory it is from.
    pub directory: PathBuf,
    /// What the resource is in; `None`: it is neither asked for nor ours.
    pub row: Option<StatusRow>,
    /// How to go back from what was done to it last, in sentences.
    #[serde(default)]
    pub ways_back: Vec<String>,
    /// How many events were left out.
    pub left_out: u64,
    /// The others, oldest first.
    pub events: Vec<Line>,
}
