//! `trueup replay`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::Output;
use super::context::Context;
use super::control::{self, AskError, Reply, Request};
use super::exit::{CliError, CliResult, Done, ErrorKind};
use super::known::same;
use super::operate::{unanswered, unexpected};
use super::paint::{Block, Label, Text};
use super::ui::Product;
use super::wire::{self, STATE_VIEW, STATE_VIEW_VERSION, Until};
use crate::event::spill;
use crate::journal::index::Index;
use crate::journal::{Blobs, Reader, verify};
use crate::model::{Digest, digest_of};
use crate::state::State;

/// Rebuild everything from the log and prove that it equals what is live
///
/// Verifies the log, folds it from the first event, and compares the result byte by byte with the
/// state of the running daemon. Where none runs, it compares with the snapshots in the index, and
/// the index with one that it builds from the log. The first difference is told with its place; an
/// index that differs is built anew. It reads the log itself, so it needs root.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup replay\n  trueup replay -o json")]
pub(super) struct Replay {
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Serialize)]
struct Shown {
    events: u64,
    /// Digest of the state folded from the whole log.
    state: Digest,
    resources: usize,
    compared_with: Option<Compared>,
    index: IndexWas,
    /// Contents beside the log that events name.
    blobs: usize,
    /// Those of them that are missing or are not what their digest says.
    blobs_lost: Vec<Digest>,
    elapsed_ms: u128,
}

/// What the replay was compared with, and where that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Compared {
    with: Live,
    seq: u64,
}

/// What became of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum IndexWas {
    /// It is what the log says, entry by entry.
    Same,
    /// It was missing or not whole, and was built from the log.
    Rebuilt,
    /// Another process has it: it was not compared.
    InUse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Live {
    Daemon,
    Snapshot,
}

impl Replay {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let config = context.places()?;
        let dir = config.state_directory();
        let started = Instant::now();
        verify(&dir)?;
        let (state, compared_with, index) = match of_daemon(&config.socket(), &dir)? {
            Some(live) => {
                let with = Compared { with: Live::Daemon, seq: live.seq };
                (with_daemon(&dir, &live)?, Some(with), IndexWas::InUse)
            }
            None => with_index(&dir)?,
        };
        if state.seq == 0 {
            wire::known(&dir)?;
        }
        let (blobs, blobs_lost) = blobs(&dir)?;
        context.ui.product(&Shown {
            events: state.seq,
            state: digest_of(&state),
            resources: state.resources.len(),
            compared_with,
            index,
            blobs,
            blobs_lost,
            elapsed_ms: started.elapsed().as_millis(),
        })?;
        Ok(Done::Fine)
    }
}

/// How many contents the log names, and which of them are lost.
fn blobs(dir: &Path) -> Result<(usize, Vec<Digest>), CliError> {
    let mut named = BTreeSet::new();
    let mut cursor = Reader::open(dir).from(1)?;
    while let Some(line) = cursor.read()? {
        named.extend(spill::named(line.record.data));
    }
    let stored = Blobs::open(dir);
    let lost = named.iter().filter(|blob| !matches!(stored.read(blob), Ok(Some(_))));
    Ok((named.len(), lost.copied().collect()))
}

/// The daemon's own state, where one runs on this directory.
fn of_daemon(socket: &Path, dir: &Path) -> Result<Option<State>, CliError> {
    match control::ask(socket, &Request::Known) {
        Ok(Reply::Known(known)) if same(&known.directory, dir) => Ok(Some(known.state)),
        Ok(Reply::Known(_)) | Err(AskError::NoDaemon { .. }) => Ok(None),
        Ok(other) => Err(unexpected(other)),
        Err(error) => Err(unanswered(error)),
    }
}

/// Folds the log from its first event and compares with what the daemon has; the fold of it all.
fn with_daemon(dir: &Path, live: &State) -> Result<State, CliError> {
    let mut state = State::default();
    let mut different = None;
    wire::each_event(dir, Until::End, |recorded| {
        state.apply(recorded);
        if recorded.seq == live.seq {
            different = Some(differs(&bytes(&state), &bytes(live)));
        }
    })?;
    match different {
        Some(None) => Ok(state),
        Some(Some(place)) => {
            let message = format!(
                "at event {} the daemon's state is not what the log says: {place}",
                live.seq
            );
            Err(CliError::new(ErrorKind::Bug, message)
                .hint("restart the daemon: it starts from the log"))
        }
        None => {
            let message = format!(
                "the daemon is at event {}, but the log ends at event {}",
                live.seq, state.seq
            );
            Err(CliError::new(ErrorKind::Bug, message).hint("look at the log: trueup log verify"))
        }
    }
}

/// Folds the log from its first event, compares the index and every snapshot in it with what comes
/// out, and builds it again where it differs.
fn with_index(dir: &Path) -> Result<(State, Option<Compared>, IndexWas), CliError> {
    let reader = Reader::open(dir);
    let index = Index::open(dir, &reader);
    let snapshots = snapshots(&index);
    let compared = snapshots.last_key_value();
    let compared = compared.map(|(seq, _)| Compared { with: Live::Snapshot, seq: *seq });
    let mut place = None;
    let mut state = State::default();
    wire::each_event(dir, Until::End, |recorded| {
        state.apply(recorded);
        if let Some(live) = snapshots.get(&recorded.seq).filter(|_| place.is_none()) {
            let found = differs(&bytes(&state), live);
            place = found.map(|found| format!("snapshot at event {}: {found}", recorded.seq));
        }
    })?;
    let updated = index.update(&reader)?;
    let was = match (index.is_there(), updated.rebuilt) {
        (false, _) => IndexWas::InUse,
        (true, true) => IndexWas::Rebuilt,
        (true, false) => IndexWas::Same,
    };
    if place.is_none() && was == IndexWas::Same {
        place = index.audit(&reader)?;
    }
    let Some(place) = place else {
        index.close();
        return Ok((state, compared, was));
    };
    index.rebuild(&reader)?;
    index.snapshot_put(STATE_VIEW, STATE_VIEW_VERSION, state.seq, &bytes(&state));
    index.close();
    let message = format!("the index is not what the log says: {place}");
    Err(CliError::machine(message)
        .hint("it was built again from the log; replay once more to see that it is right now")
        .hint("it was sealed as it was, so nothing but trueup wrote it: please report this"))
}

/// Every snapshot of the state in the index, by its event.
fn snapshots(index: &Index) -> BTreeMap<u64, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut before = u64::MAX;
    while let Some((seq, bytes)) = index.snapshot_latest(STATE_VIEW, STATE_VIEW_VERSION, before) {
        found.insert(seq, bytes);
        let Some(next) = seq.checked_sub(1) else { break };
        before = next;
    }
    found
}

/// A state as a snapshot has it.
fn bytes(state: &State) -> Vec<u8> {
    // Maps with text keys and plain data: there is nothing in it that JSON cannot say.
    serde_json::to_vec(state).unwrap_or_default()
}

/// The first place in two JSON texts that are not the same to the byte.
fn differs(replayed: &[u8], live: &[u8]) -> Option<String> {
    if replayed == live {
        return None;
    }
    let value = |text| serde_json::from_slice::<Value>(text).ok();
    let place = match (value(replayed), value(live)) {
        (Some(replayed), Some(live)) => place(&replayed, &live, ""),
        (None, _) | (_, None) => Some("it is no JSON".to_owned()),
    };
    Some(place.unwrap_or_else(|| "the order or the form of its fields".to_owned()))
}

/// The first difference, as a JSON pointer.
fn place(replayed: &Value, live: &Value, at: &str) -> Option<String> {
    match (replayed, live) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let null = &Value::Null;
            keys.into_iter().find_map(|key| {
                let token = key.replace('~', "~0").replace('/', "~1");
                let below = format!("{at}/{token}");
                place(a.get(key).unwrap_or(null), b.get(key).unwrap_or(null), &below)
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(n, (a, b))| place(a, b, &format!("{at}/{n}")))
        }
        (a, b) => (a != b).then(|| if at.is_empty() { "/".to_owned() } else { at.to_owned() }),
    }
}

impl Product for Shown {
    fn blocks(&self) -> Vec<Block> {
        let (verdict, label) = match self.compared_with {
            Some(Compared { with: Live::Daemon, seq }) => {
                (format!("equals the daemon's state at event {seq}"), Label::Good)
            }
            Some(Compared { with: Live::Snapshot, seq }) => {
                (format!("equals the snapshot at event {seq}"), Label::Good)
            }
            None => ("nothing live to compare with".to_owned(), Label::Plain),
        };
        let index = match self.index {
            IndexWas::Same => ", index the same",
            IndexWas::Rebuilt => ", index built anew",
            IndexWas::InUse => "",
        };
        let mut blocks = vec![
            Block::Line(vec!["replay: ".into(), Text::new(verdict, label)]),
            Block::line(format!(
                "{} events, {} resources, state {} in {} ms{index}",
                self.events,
                self.resources,
                self.state.short(),
                self.elapsed_ms
            )),
        ];
        if self.blobs > 0 {
            blocks.push(Block::line(format!(
                "{} contents beside the log, {} of them lost",
                self.blobs,
                self.blobs_lost.len()
            )));
        }
        blocks.extend(self.blobs_lost.iter().map(|blob| {
            Block::Line(vec![
                "lost: ".into(),
                Text::new(format!("{blob}: restore blobs/ from a backup"), Label::Bad),
            ])
        }));
        blocks
    }
}
