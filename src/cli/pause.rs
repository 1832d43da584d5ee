//! `trueup pause`.

use clap::Args;

use super::context::Context;
use super::exit::CliResult;
use super::operate::operate;
use crate::state::Command;

/// Stop all changes on this host
///
/// Steps under way end; nothing new starts until `trueup resume`. Looking, and saying what was
/// seen, goes on.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup pause -m 'moving the rack'")]
pub(super) struct Pause {
    /// Why
    #[arg(short = 'm', long, value_name = "WHY")]
    reason: String,
}

impl Pause {
    pub(super) fn run(self, context: &Context) -> CliResult {
        operate(context, Command::Pause { reason: self.reason }, "all changes are stopped")
    }
}
