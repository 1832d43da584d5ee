//! `trueup replay`.

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
use crate::journal::index::Index;
use crate::journal::{Reader, verify};
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
        context.ui.product(&Shown {
            events: state.seq,
            state: digest_of(&state),
            resources: state.resources.len(),
            compared_with: compared_with.map(|(compared, _)| compared),
            index_rebuilt,
            elapsed_ms: started.elapsed().as_millis(),
        })?;
        Ok(Done::Fine)
    }
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
        vec![
            Block::Line(vec!["replay: ".into(), Text::new(verdict, label)]),
            Block::line(format!(
                "{} events, {} resources, state {} in {} ms{index}",
                self.events,
                self.resources,
                self.state.short(),
                self.elapsed_ms
            )),
        ]
    }
}
