//! `trueup replay`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::Output;
use super::context::Context;
use super::control::{self, AskError, Reply, Request};
use super::exit::{CliError, CliResult, Done, ErrorKind};
use super::operate::{unanswered, unexpected};
use super::paint::{Block, Label, Text};
use super::ui::Product;
use super::wire::{self, STATE_VIEW, STATE_VIEW_VERSION, Until};
use crate::event::spill;
use crate::journal::index::Index;
use crate::journal::{Blobs, Reader, verify};
use crate::model::{Digest, digest_of};

/// Rebuild everything from the log and prove that it equals what is live
///
/// Verifies the log, folds it from the first event, and compares the result with the state of the
/// running daemon. Where none runs, it compares with the snapshot in the index, and builds the
/// index anew.
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
    index_rebuilt: bool,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Live {
    Daemon,
    Snapshot,
}

impl Replay {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let (dir, socket) = context.daemon()?;
        let started = Instant::now();
        verify(&dir)?;
        let (compared_with, index_rebuilt) = match daemon_state(&socket)? {
            Some((seq, digest)) => (Some((Compared { with: Live::Daemon, seq }, digest)), false),
            None => rebuild(&dir)?,
        };
        if let Some((compared, live)) = compared_with {
            let replayed = digest_of(&wire::fold(&dir, Until::Seq(compared.seq))?);
            if replayed != live {
                return Err(differs(compared, replayed, live));
            }
        }
        let state = wire::known(&dir)?;
        let (blobs, blobs_lost) = blobs(&dir)?;
        context.ui.product(&Shown {
            events: state.seq,
            state: digest_of(&state),
            resources: state.resources.len(),
            compared_with: compared_with.map(|(compared, _)| compared),
            index_rebuilt,
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

fn differs(compared: Compared, replayed: Digest, live: Digest) -> CliError {
    let (what, hint) = match compared.with {
        Live::Daemon => ("the daemon's state", "restart the daemon: it starts from the log"),
        Live::Snapshot => {
            ("the index's snapshot", "remove the folder `index`: it is built again from the log")
        }
    };
    let message = format!(
        "at event {} the log folds to {}, but {what} is {}",
        compared.seq,
        replayed.short(),
        live.short()
    );
    CliError::new(ErrorKind::Bug, message).hint(hint)
}

/// Where the daemon's own state stands; `None`: none runs.
fn daemon_state(socket: &Path) -> Result<Option<(u64, Digest)>, CliError> {
    match control::ask(socket, &Request::State) {
        Ok(Reply::State { seq, digest }) => Ok(Some((seq, digest))),
        Ok(other) => Err(unexpected(other)),
        Err(AskError::NoDaemon { .. }) => Ok(None),
        Err(error) => Err(unanswered(error)),
    }
}

/// The newest snapshot as it was found, and whether the index was built anew.
fn rebuild(dir: &Path) -> Result<(Option<(Compared, Digest)>, bool), CliError> {
    let reader = Reader::open(dir);
    let index = Index::open(dir, &reader);
    let snapshot = index.snapshot_latest(STATE_VIEW, STATE_VIEW_VERSION, u64::MAX);
    let updated = index.update(&reader);
    index.close();
    let compared =
        snapshot.map(|(seq, bytes)| (Compared { with: Live::Snapshot, seq }, Digest::of(bytes)));
    Ok((compared, updated?.rebuilt))
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
        let index = if self.index_rebuilt { ", index built anew" } else { "" };
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
