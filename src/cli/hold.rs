//! `trueup hold`.

use clap::Args;

use super::context::Context;
use super::exit::CliResult;
use super::operate::operate;
use crate::model::ResourceId;
use crate::state::Command;

/// Stop changes to one resource
///
/// It is still looked at and its drift reported; nothing is done to it until `trueup release`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup hold vm/web -m 'debugging until Friday'")]
pub(super) struct Hold {
    /// Which, as kind/name
    resource: ResourceId,
    /// Why
    #[arg(short = 'm', long, value_name = "WHY")]
    reason: String,
}

impl Hold {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let said = format!("{} is held", self.resource);
        let command = Command::Hold { resource: self.resource, reason: self.reason };
        operate(context, command, &said)
    }
}
