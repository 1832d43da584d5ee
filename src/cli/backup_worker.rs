//! `trueup backup-worker`: what trueup starts to do one job on a repository.
//!
//! Not for people: a request comes as JSON on stdin, and what comes of it goes as JSON to stdout. It
//! ends at once when its stdin does: nobody waits for the job any more.

use clap::Args;
use rustix::process::{Signal, getpid, kill_process};

use super::context::Context;
use super::exit::{CliError, CliResult, Done, ErrorKind};

/// Do one job on a backup's repository for trueup
#[derive(Debug, Args)]
#[command(
    hide = true,
    after_help = "EXAMPLES\n  \
    trueup backup-worker              # by trueup, with a request on stdin"
)]
pub(super) struct BackupWorker {}

impl BackupWorker {
    pub(super) fn run(self, _context: &Context) -> CliResult {
        trueup_malloc::one_arena();
        let gone = || {
            // Every state on the way is one that the next job copes with, so there is nothing to tidy.
            if let Err(error) = kill_process(getpid(), Signal::KILL) {
                tracing::error!(%error, "cannot end");
            }
        };
        match trueup_backup::serve(std::io::stdin(), std::io::stdout(), gone) {
            Ok(true) => Ok(Done::Fine),
            // The last line says why.
            Ok(false) => Err(CliError::new(ErrorKind::Machine, "the job failed")),
            Err(error) => Err(CliError::machine(error)),
        }
    }
}
