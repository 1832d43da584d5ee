//! `trueup approve`.

use clap::Args;

use super::context::Context;
use super::exit::CliResult;
use super::operate::operate;
use crate::state::Command;

/// Approve the plan that waits
///
/// Give at least the first 12 digits of its digest, as `trueup plan` shows it: what runs is then
/// that plan and no other. If the machine or the commit has changed since, there is another plan,
/// and the approval is refused.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup approve 0123456789ab")]
pub(super) struct Approve {
    /// The first digits of the plan's digest, at least 12
    #[arg(value_name = "PLAN")]
    plan: String,
}

impl Approve {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let said = format!("plan {} is approved", self.plan);
        operate(context, Command::Approve { plan: self.plan }, &said)
    }
}
