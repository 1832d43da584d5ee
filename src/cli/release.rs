//! `trueup release`.

use clap::Args;

use super::context::Context;
use super::exit::CliResult;
use super::operate::operate;
use crate::model::ResourceId;
use crate::state::Command;

/// Let changes to a held resource go on
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup release vm/web")]
pub(super) struct Release {
    /// Which, as kind/name
    resource: ResourceId,
}

impl Release {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let said = format!("{} is no longer held", self.resource);
        operate(context, Command::Release { resource: self.resource }, &said)
    }
}
