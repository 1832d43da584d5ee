//! What is asked of the machine and of the log before anything is said about GPUs.

use super::super::context::Context;
use super::super::control::{self, AskError, Known, Reply, Request};
use super::super::exit::CliError;
use super::super::known::known;
use super::super::operate::{unanswered, unexpected};
use super::super::wire;
use crate::config::Config;
use crate::model::GpuInventory;
use crate::plan::Skipped;
use crate::state::State;

/// What the log knows and what the machine has.
pub(super) struct Looked {
    /// What the log folds to; nothing where there is no log yet.
    pub(super) state: State,
    /// What the newest plan leaves alone.
    pub(super) skipped: Vec<Skipped>,
    /// The GPUs, or why they could not be looked at.
    pub(super) found: Result<GpuInventory, String>,
}

/// Looks, by the daemon where one runs. A host without a log is looked at all the same.
pub(super) fn looked(context: &Context) -> Result<Looked, CliError> {
    let found = inventory(&context.places()?)?;
    let (state, skipped) = match known(context) {
        Ok(Known { state, skipped, .. }) => (state, skipped),
        Err(error) => {
            context.ui.say(&format!("without what the log knows: {}", error.source));
            (State::default(), Vec::new())
        }
    };
    Ok(Looked { state, skipped, found })
}

/// The GPUs of this machine, or why they could not be looked at.
pub(super) fn inventory(config: &Config) -> Result<Result<GpuInventory, String>, CliError> {
    match control::ask(&config.socket(), &Request::Gpus) {
        Ok(Reply::Gpus(inventory)) => Ok(Ok(*inventory)),
        Ok(Reply::Failed { message, .. }) => Ok(Err(message)),
        Ok(other) => Err(unexpected(other)),
        Err(AskError::NoDaemon { .. }) => here(config),
        Err(error) => Err(unanswered(error)),
    }
}

fn here(config: &Config) -> Result<Result<GpuInventory, String>, CliError> {
    let limit = config.limits.observe_timeout.duration();
    let gpus = wire::gpus(config);
    let looked = async { tokio::time::timeout(limit, gpus.inventory()).await };
    Ok(match wire::block_on(looked)? {
        Ok(Ok(inventory)) => Ok(inventory),
        Ok(Err(fault)) => Err(fault.to_string()),
        Err(_) => Err(format!("NVML did not answer within {} s", limit.as_secs())),
    })
}
