//! What is known now: the daemon's own answer, else the fold of its log.
//!
//! It never asks a daemon about another log than the one that was named.

use std::path::Path;

use super::context::Context;
use super::control::{self, AskError, Known, Reply, Request};
use super::exit::CliError;
use super::wire;

/// What is known now. The daemon answers where one runs, also those who cannot read the log; where
/// it does not, the log says everything but what only the newest plan knew.
pub(super) fn known(context: &Context) -> Result<Known, CliError> {
    let config = context.places()?;
    let (directory, socket) = (config.state_directory(), config.socket());
    if let Some(known) = of_daemon(&socket, &directory) {
        return Ok(known);
    }
    let state = wire::known(&directory)?;
    Ok(Known { directory, state, skipped: Vec::new(), notes: Vec::new() })
}

fn of_daemon(socket: &Path, directory: &Path) -> Option<Known> {
    match control::ask(socket, &Request::Known) {
        Ok(Reply::Known(known)) if same(&known.directory, directory) => Some(*known),
        Ok(Reply::Known(known)) => {
            let theirs = known.directory.display();
            tracing::debug!(%theirs, "the daemon is of another state directory");
            None
        }
        Ok(other) => {
            tracing::warn!(?other, "the daemon does not tell what it knows; the log is read");
            None
        }
        Err(AskError::NoDaemon { .. }) => None,
        Err(error) => {
            tracing::warn!(%error, "the daemon was not asked; the log is read");
            None
        }
    }
}

/// Whether two paths are one directory. One that cannot be looked at is what it is called.
pub(super) fn same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    a == b || real(a) == real(b)
}
