//! `trueup plan`.

use std::path::{Path, PathBuf};

use clap::Args;
use tokio::sync::watch;

use super::context::Context;
use super::control::{self, AskError, PlanView, Reply, Report, Request};
use super::exit::{CliError, CliResult, Done, ErrorKind};
use super::operate::{unanswered, unexpected};
use super::{Output, gpu, report, wire};
use crate::config::Config;
use crate::plan::GpuPicture;

/// Show what would be done, and why
///
/// Asks the repository for its newest commit, looks at the machine, and prints the steps, what each
/// interrupts, and what is left alone. Nothing is done. Exits with 3 where there is something to do,
/// and with 5 where something could not be looked at, so that the plan is not the whole one.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup plan\n  \
    trueup plan -o markdown > plan.md\n  \
    trueup plan -o json | jq -r '.plan.digest'\n  \
    trueup plan --svg gpus.svg")]
pub(super) struct Plan {
    #[command(flatten)]
    pub(super) output: Output,
    /// Also write how GPUs change, before and after, into this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Plan {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let config = context.settings()?.config;
        let look = report::look(context);
        let made = match control::ask(&config.socket(), &Request::Plan(look)) {
            Ok(Reply::Report(made)) => *made,
            Ok(other) => return Err(unexpected(other)),
            Err(AskError::NoDaemon { .. }) => {
                wire::block_on(alone(&config, &context.config_path(), look))??
            }
            Err(error) => return Err(unanswered(error)),
        };
        report::commit_in_force(context, &made)?;
        report::print(context, &made)?;
        if let (Some(path), Some(plan)) = (&self.svg, &made.plan) {
            write_svg(context, plan, path)?;
        }
        let steps = made.plan.as_ref().map_or(0, |plan| plan.steps);
        // A plan of what could be seen is not the plan: a script must not take it for one.
        if let Some(error) = report::unseen(&made, &format!("{steps} steps planned")) {
            return Err(error);
        }
        let nothing = steps == 0;
        Ok(if nothing { Done::Fine } else { Done::Changes })
    }
}

/// Writes the pictures of GPUs that the plan changes, or cannot change.
fn write_svg(context: &Context, plan: &PlanView, path: &Path) -> Result<(), CliError> {
    let pictures = plan.json["plan"]["pictures"].clone();
    let pictures: Vec<GpuPicture> = match pictures.is_null() {
        true => Vec::new(),
        false => serde_json::from_value(pictures).map_err(|e| CliError::new(ErrorKind::Bug, e))?,
    };
    if pictures.is_empty() {
        context.ui.say("no GPU is cut in another way, so no picture is written");
        return Ok(());
    }
    let titled = pictures.iter().map(|it| (it.resource.to_string(), &it.picture));
    gpu::write_sheet(&titled.collect::<Vec<_>>(), path)
}

async fn alone(
    config: &Config,
    config_path: &Path,
    look: control::Look,
) -> Result<Report, CliError> {
    let (_stop, stopped) = watch::channel(false);
    let engine = wire::engine(config, config_path, None, stopped).await?;
    let made = match engine.reconciler.recover().await {
        Ok(()) => engine.reconciler.preview(true).await,
        Err(error) => Err(error),
    };
    let made =
        made.map(|pass| engine.reconciler.ledger.read(|state| Report::of(&pass, state, look)));
    engine.close();
    Ok(made?)
}
