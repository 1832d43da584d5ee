//! `trueup accept-rewrite`.

use clap::Args;

use super::context::Context;
use super::exit::CliResult;
use super::operate::operate;
use crate::model::CommitId;
use crate::state::Command;

/// Let a rewritten history through
///
/// A head that does not contain the commit in force (a force-push, or an older commit) is refused.
/// This lets exactly that head through, once, and the log keeps who did it. A missing or wrong
/// signature is not let through by it.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup status            # shows the refused head\n  \
    trueup accept-rewrite 4b825dc642cb6eb9a060e54bf8d69288fbee4904")]
pub(super) struct AcceptRewrite {
    /// The refused head, all of its digits
    commit: CommitId,
}

impl AcceptRewrite {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let said = format!("head {} is let through", self.commit.short());
        operate(context, Command::AcceptRewrite { commit: self.commit }, &said)
    }
}
