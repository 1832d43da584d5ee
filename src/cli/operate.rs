//! What the commands of an operator have in common: asking the daemon, or deciding under the log's
//! lock where none runs.
//!
//! It never writes while a daemon does: the lock refuses it.

use std::sync::Arc;

use super::context::Context;
use super::control::{self, AskError, Reply, Request};
use super::exit::{CliError, CliResult, Done, ErrorKind};
use super::wire::{self, HostClock};
use crate::config::Config;
use crate::state::{Command, decide};

/// Carries `command` out and says `said` when it was granted.
pub(super) fn operate(context: &Context, command: Command, said: &str) -> CliResult {
    let config = context.places()?;
    match control::ask(&config.socket(), &Request::Command(command.clone())) {
        Ok(reply) => granted(reply)?,
        Err(AskError::NoDaemon { .. }) => wire::block_on(alone(&config, &command))??,
        Err(error) => return Err(unanswered(error)),
    }
    context.ui.say(said);
    Ok(Done::Fine)
}

fn granted(reply: Reply) -> Result<(), CliError> {
    match reply {
        Reply::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// A reply that is no answer to what was asked, or the failure it tells of.
pub(super) fn unexpected(reply: Reply) -> CliError {
    match reply {
        Reply::Failed { kind, message } => CliError::new(kind, message),
        other => CliError::new(ErrorKind::Bug, format!("the daemon answered {other:?}")),
    }
}

/// Why the daemon did not answer, with what to do.
pub(super) fn unanswered(error: AskError) -> CliError {
    let hint = match &error {
        AskError::NoDaemon { .. } => "start it: systemctl start trueup",
        AskError::Denied { .. } => "root and members of the group trueup may",
        AskError::Broken { .. } => "look at what it says: journalctl -u trueup",
        AskError::Reply { .. } => "it may be of another version: restart it",
    };
    CliError::machine(error).hint(hint)
}

/// Decides without a daemon.
async fn alone(config: &Config, command: &Command) -> Result<(), CliError> {
    let dir = config.state_directory();
    wire::known(&dir)?;
    let mut log = wire::open_log(&dir, &config.host(), Arc::new(HostClock::default())).await?;
    let decided = match decide(&log.state, command, &control::operator_here()) {
        Ok(entries) => wire::append(&*log.port, entries).await,
        Err(refusal) => Err(refusal.into()),
    };
    let decided = decided.map(|appended| {
        appended.iter().for_each(|recorded| log.state.apply(recorded));
    });
    log.close();
    decided
}
