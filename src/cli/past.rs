//! What is past: read from the log where this user may, else asked of the daemon.
//!
//! The daemon's answers are made here too, by the same code. It never reads more for one question
//! than a page, but for a story and a fold, which need the whole log and are made one by one.

use std::path::Path;
use std::time::Duration;

use super::context::Context;
use super::control::{self, AskError, Known, LogQuery, Page, Reply, Request, Told};
use super::control::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX, PAGE_SCAN_MAX};
use super::exit::CliError;
use super::known::same;
use super::log::Line;
use super::operate::{unanswered, unexpected};
use super::wire::{self, Until};
use crate::journal::{Follower, Reader, layout};
use crate::model::ResourceId;
use crate::state::State;
use crate::view::{self, Story};

/// How long the daemon waits for an event that somebody follows the log for: far longer than asking
/// again costs, and no longer than a stop of the daemon may be held up.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(5);

/// Whether this user may not read the log in `dir`, which is there.
pub(super) fn is_closed(dir: &Path) -> bool {
    let listed = std::fs::read_dir(layout::log_dir(dir));
    listed.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// A page of the log in `dir`.
///
/// # Errors
/// The log cannot be read.
pub(super) fn page(dir: &Path, query: &LogQuery) -> Result<Page, CliError> {
    let page = page_now(dir, query)?;
    if !(query.wait && page.end && page.lines.is_empty()) {
        return Ok(page);
    }
    let mut follower = Follower::new(Reader::open(dir).from(page.seen.saturating_add(1))?)?;
    match follower.wait(FOLLOW_PATIENCE)? {
        Some(_) => page_now(dir, &LogQuery { after: page.seen, ..query.clone() }),
        None => Ok(page),
    }
}

fn page_now(dir: &Path, query: &LogQuery) -> Result<Page, CliError> {
    let mut cursor = Reader::open(dir).from(query.after.saturating_add(1))?;
    let mut page =
        Page { directory: dir.to_owned(), lines: Vec::new(), seen: query.after, end: false };
    let mut bytes = 0;
    for _ in 0..PAGE_SCAN_MAX {
        let Some(line) = cursor.read()? else {
            page.end = true;
            break;
        };
        if query.filter.until.is_some_and(|until| line.record.at > until) {
            page.end = true;
            break;
        }
        page.seen = line.record.seq;
        if query.filter.fits(&line.record) {
            bytes += line.bytes.len();
            page.lines.push(String::from_utf8_lossy(line.bytes).into_owned());
        }
        if page.lines.len() == PAGE_EVENTS_MAX || bytes >= PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(page)
}

/// The events behind what `resource` is in.
///
/// # Errors
/// The log cannot be read.
pub(super) fn told(dir: &Path, resource: &ResourceId) -> Result<Told, CliError> {
    let mut story = Story::of(resource.clone());
    let mut state = State::default();
    wire::each_event(dir, Until::End, |recorded| {
        state.apply(recorded);
        story.take(recorded);
    })?;
    Ok(Told {
        directory: dir.to_owned(),
        row: view::row_of(&state, resource),
        ways_back: view::ways_back(&state, resource),
        left_out: story.left_out(),
        events: story.events().into_iter().map(Line::of).collect(),
    })
}

/// The fold of the log in `dir` up to `until`, without its index, which the daemon has.
///
/// # Errors
/// The log cannot be read.
pub(super) fn state_at(dir: &Path, until: Until) -> Result<State, CliError> {
    let mut state = State::default();
    wire::each_event(dir, until, |recorded| state.apply(recorded))?;
    Ok(state)
}

/// A page of the log in `dir`, from the daemon.
///
/// # Errors
/// No daemon answers for this log.
pub(super) fn ask_page(context: &Context, dir: &Path, query: LogQuery) -> Result<Page, CliError> {
    match ask(context, dir, &Request::Log(query))? {
        Reply::Page(page) if same(&page.directory, dir) => Ok(*page),
        Reply::Page(page) => Err(elsewhere(dir, &page.directory)),
        other => Err(unexpected(other)),
    }
}

/// The events behind what `resource` is in, from the daemon.
///
/// # Errors
/// No daemon answers for this log.
pub(super) fn ask_told(
    context: &Context,
    dir: &Path,
    resource: &ResourceId,
) -> Result<Told, CliError> {
    match ask(context, dir, &Request::Why(resource.clone()))? {
        Reply::Told(told) if same(&told.directory, dir) => Ok(*told),
        Reply::Told(told) => Err(elsewhere(dir, &told.directory)),
        other => Err(unexpected(other)),
    }
}

/// All that was known at a point of the log in `dir`, from the daemon.
///
/// # Errors
/// No daemon answers for this log.
pub(super) fn ask_state(context: &Context, dir: &Path, until: Until) -> Result<State, CliError> {
    match ask(context, dir, &Request::StateAt(until))? {
        Reply::Known(known) if same(&known.directory, dir) => {
            let Known { state, .. } = *known;
            Ok(state)
        }
        Reply::Known(known) => Err(elsewhere(dir, &known.directory)),
        other => Err(unexpected(other)),
    }
}

fn ask(context: &Context, dir: &Path, request: &Request) -> Result<Reply, CliError> {
    let socket = context.places()?.socket();
    control::ask(&socket, request).map_err(|error| match error {
        AskError::NoDaemon { .. } => {
            let message = format!(
                "the log in {} is root's, and no daemon that would read it for you listens on {}",
                dir.display(),
                socket.display()
            );
            CliError::machine(message).hint("run this as root, or: systemctl start trueup")
        }
        error => unanswered(error),
    })
}

fn elsewhere(dir: &Path, theirs: &Path) -> CliError {
    let message = format!(
        "the log in {} is root's, and the daemon that answers writes the one in {}",
        dir.display(),
        theirs.display()
    );
    CliError::machine(message).hint("run this as root, or name the daemon's own state directory")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::event::body::OperatorPaused;
    use crate::event::{Entry, Event};
    use crate::journal::{Filter, Journal, Options};

    /// A log of `count` pauses with long reasons.
    fn log(count: usize, bytes: usize) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), &Options::default()).unwrap();
        for from in (0..count).step_by(100) {
            let drafts = (from..count.min(from + 100)).map(|_| {
                let reason = "x".repeat(bytes);
                Entry::new(Event::OperatorPaused(OperatorPaused { reason })).draft().unwrap()
            });
            journal.append(Timestamp::now(), drafts.collect()).unwrap();
        }
        journal.close();
        dir
    }

    /// Every page of `query`, by how many events it has.
    fn pages(dir: &Path, mut query: LogQuery) -> Vec<usize> {
        let mut sizes = Vec::new();
        loop {
            let page = page(dir, &query).unwrap();
            sizes.push(page.lines.len());
            if page.end {
                return sizes;
            }
            query.after = page.seen;
        }
    }

    #[test]
    fn a_page_has_an_end_and_the_next_one_goes_on_after_it() {
        let many = log(2_500, 10);
        assert_eq!(pages(many.path(), LogQuery::default()), [1_000, 1_000, 500]);
        let after = LogQuery { after: 2_490, ..LogQuery::default() };
        assert_eq!(pages(many.path(), after), [10]);
        let none = Filter { type_: Some("step.failed".into()), ..Filter::default() };
        assert_eq!(pages(many.path(), LogQuery { filter: none, ..LogQuery::default() }), [0]);
        let large = log(8, 500_000);
        assert_eq!(pages(large.path(), LogQuery::default()), [5, 3], "by its bytes");
    }

    #[test]
    fn a_point_in_the_past_is_folded_up_to_it() {
        let dir = log(30, 10);
        assert_eq!(state_at(dir.path(), Until::Seq(7)).unwrap().seq, 7);
        assert_eq!(state_at(dir.path(), Until::End).unwrap().seq, 30);
    }
}
