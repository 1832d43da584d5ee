//! `trueup plan`.

use clap::Args;
use tokio::sync::watch;

use super::context::Context;
use super::control::{self, AskError, Reply, Report, Request};
use super::exit::{CliError, CliResult, Done};
use super::operate::{unanswered, unexpected};
use super::{Output, report, wire};
use crate::config::Config;

/// Show what would be done, and why
///
/// Asks the repository for its newest commit, looks at the machine, and prints the steps, what each
/// interrupts, and what is left alone. Nothing is done. Exits with 3 where there is something to do,
/// and with 5 where something could not be looked at, so that the plan is not the whole one.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup plan\n  \
    trueup plan -o markdown > plan.md\n  \
    trueup plan -o json | jq -r '.plan.digest'")]
pub(super) struct Plan {
    #[command(flatten)]
    pub(super) output: Output,
}

impl Plan {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let config = context.settings()?.config;
        let look = report::look(context);
        let made = match control::ask(&config.socket(), &Request::Plan(look)) {
            Ok(Reply::Report(made)) => *made,
            Ok(other) => return Err(unexpected(other)),
            Err(AskError::NoDaemon { .. }) => wire::block_on(alone(&config, look))??,
            Err(error) => return Err(unanswered(error)),
        };
        report::commit_in_force(context, &made)?;
        report::print(context, &made)?;
        let steps = made.plan.as_ref().map_or(0, |plan| plan.steps);
        // A plan of what could be seen is not the plan: a script must not take it for one.
        if let Some(error) = report::unseen(&made, &format!("{steps} steps planned")) {
            return Err(error);
        }
        let nothing = steps == 0;
        Ok(if nothing { Done::Fine } else { Done::Changes })
    }
}

async fn alone(config: &Config, look: control::Look) -> Result<Report, CliError> {
    let (_stop, stopped) = watch::channel(false);
    let engine = wire::engine(config, None, stopped).await?;
    let made = match engine.reconciler.recover().await {
        Ok(()) => engine.reconciler.preview(true).await,
        Err(error) => Err(error),
    };
    let made =
        made.map(|pass| engine.reconciler.ledger.read(|state| Report::of(&pass, state, look)));
    engine.close();
    Ok(made?)
}
