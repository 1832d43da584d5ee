//! Finding events: by subject, type, time, commit and run.
//!
//! The log itself answers; the index only says where to look, and the answer is the same without.

use std::ops::ControlFlow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::JournalError;
use super::index::Index;
use super::read::{Cursor, Reader, StoredLine};
use crate::event::envelope::Record;

/// How many candidates the index names at once.
const PAGE: usize = 4096;

/// Which events to find; those that fit everything set. The default fits all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Filter {
    /// A subject, or the start of one and `*`: `vm/web`, `vm/*`.
    pub subject: Option<String>,
    /// A type, or the start of one and `*`: `step.failed`, `step.*`.
    pub type_: Option<String>,
    /// No earlier than this.
    pub since: Option<Timestamp>,
    /// No later than this.
    pub until: Option<Timestamp>,
    /// A commit, or its first digits.
    pub commit: Option<String>,
    /// A pass.
    pub run: Option<String>,
}

impl Filter {
    /// Whether an event fits.
    #[must_use]
    pub fn fits(&self, record: &Record<'_>) -> bool {
        let named = |pattern: &Option<String>, text: Option<&str>| {
            pattern.as_deref().is_none_or(|pattern| text.is_some_and(|text| matches(pattern, text)))
        };
        let begins = |start: &Option<String>, text: Option<&str>| {
            start.as_deref().is_none_or(|start| text.is_some_and(|text| text.starts_with(start)))
        };
        self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at <= until)
            && named(&self.type_, Some(record.type_))
            && named(&self.subject, record.subject.as_deref())
            && begins(&self.commit, record.commit)
            && self.run.as_deref().is_none_or(|run| record.run == Some(run))
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == text, |start| text.starts_with(start))
}

/// Shows `visit` the events after `after` that fit, in order, until it breaks.
///
/// # Errors
/// When the log cannot be read or is damaged.
pub fn search(
    reader: &Reader,
    index: Option<&Index>,
    filter: &Filter,
    after: u64,
    mut visit: impl FnMut(&StoredLine<'_>) -> ControlFlow<()>,
) -> Result<(), JournalError> {
    let mut after = after;
    if let Some(index) = index {
        if let Some(since) = filter.since {
            // Order in the log is order in time, so nothing before can fit.
            after = after.max(index.seq_before(since).unwrap_or(0));
        }
        match indexed(reader, index, filter, after, &mut visit)? {
            ControlFlow::Break(()) => return Ok(()),
            ControlFlow::Continue(reached) => after = reached,
        }
    }
    let mut cursor = seek(reader, index, after + 1)?;
    while let Some(line) = cursor.read()? {
        if filter.until.is_some_and(|until| line.record.at > until) {
            return Ok(());
        }
        if filter.fits(&line.record) && visit(&line).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// Visits what the index knows; continues with the seq up to which everything was visited.
fn indexed(
    reader: &Reader,
    index: &Index,
    filter: &Filter,
    after: u64,
    visit: &mut impl FnMut(&StoredLine<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<(), u64>, JournalError> {
    let mut reached = after;
    let mut cursor: Option<Cursor> = None;
    loop {
        let Some(page) = index.candidates(filter, reached, PAGE) else {
            return Ok(ControlFlow::Continue(reached));
        };
        for seq in &page.seqs {
            // Reading on is cheaper than seeking as long as a seek would land no further.
            let near = cursor.as_ref().is_some_and(|cursor| *seq - cursor.seq() <= Index::STRIDE);
            if !near {
                cursor = Some(seek(reader, Some(index), *seq)?);
            }
            let Some(cursor) = &mut cursor else { continue };
            while cursor.seq() < *seq {
                let Some(line) = cursor.read()? else { return Ok(ControlFlow::Continue(reached)) };
                if line.record.seq < *seq {
                    continue;
                }
                if filter.until.is_some_and(|until| line.record.at > until) {
                    return Ok(ControlFlow::Break(()));
                }
                if filter.fits(&line.record) && visit(&line).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            reached = *seq;
        }
        reached = page.complete_to.max(reached);
        if page.last {
            return Ok(ControlFlow::Continue(reached));
        }
    }
}

fn seek(reader: &Reader, index: Option<&Index>, seq: u64) -> Result<Cursor, JournalError> {
    match index {
        Some(index) => index.read_from(reader, seq),
        None => reader.from(seq),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_end() {
        assert!(matches("vm/*", "vm/web"));
        assert!(matches("vm/web", "vm/web"));
        assert!(!matches("vm/web", "vm/web2"));
        assert!(!matches("vm/*", "network/vm/"));
        assert!(matches("*", ""));
    }
}
