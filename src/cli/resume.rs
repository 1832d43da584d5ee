//! `trueup resume`.

use clap::Args;

use super::context::Context;
use super::exit::CliResult;
use super::operate::operate;
use crate::state::Command;

/// Let changes go on after a pause
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup resume")]
pub(super) struct Resume {}

impl Resume {
    pub(super) fn run(self, context: &Context) -> CliResult {
        operate(context, Command::Resume, "changes go on")
    }
}
