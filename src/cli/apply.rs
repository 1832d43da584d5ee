//! `trueup apply`.

use clap::Args;
use tokio::sync::watch;

use super::context::Context;
use super::control::{self, AskError, Reply, Report, Request};
use super::exit::{CliError, CliResult, Done, ErrorKind};
use super::interrupt::Interrupt;
use super::operate::{unanswered, unexpected};
use super::{Output, bars, report, wire};
use crate::config::Config;
use crate::reconcile::{Approval, PassOptions, StepProgress};

/// Bring the machine to the newest commit, once
///
/// One pass of the loop: asks the repository, looks at the machine, plans, does what may be done,
/// and looks again. A running daemon makes the pass; else this process does, under the log's lock:
/// then Ctrl-C or SIGTERM ends it after the steps under way, and a second one, or the config's
/// `limits.stopTimeout`, cuts them off.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup apply\n  trueup apply --approve 5b1f0c9a3d77")]
pub(super) struct Apply {
    /// Approve the plan with this digest (its first 12 digits are enough), if it is still the plan
    #[arg(long, value_name = "DIGEST")]
    approve: Option<String>,
    #[command(flatten)]
    pub(super) output: Output,
}

impl Apply {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let config = context.settings()?.config;
        let look = report::look(context);
        let request = Request::Apply { look, approve: self.approve.clone() };
        let made = match control::ask(&config.socket(), &request) {
            Ok(Reply::Report(made)) => *made,
            Ok(other) => return Err(unexpected(other)),
            Err(AskError::NoDaemon { .. }) => once(context, &config, self.approve)?,
            Err(error) => return Err(unanswered(error)),
        };
        report::commit_in_force(context, &made)?;
        report::print(context, &made)?;
        verdict(context, &made)
    }
}

/// One pass in this process, under the log's lock.
pub(super) fn once(
    context: &Context,
    config: &Config,
    approve: Option<String>,
) -> Result<Report, CliError> {
    let progress = bars::progress(context.ui.progress());
    wire::block_on(alone(context, config, approve, progress, report::look(context)))?
}

/// How a pass ended.
pub(super) fn verdict(context: &Context, made: &Report) -> CliResult {
    let Report { succeeded, failed, blocked, .. } = made;
    if *failed > 0 || *blocked > 0 {
        let message = format!("{succeeded} steps succeeded, {failed} failed, {blocked} blocked");
        return Err(CliError::machine(message)
            .hint("`trueup status` shows what failed, `trueup why RESOURCE` how it came to it"));
    }
    if !made.held.is_empty() {
        let error = CliError::new(ErrorKind::Held, made.held.join("; "));
        return Err(match &made.plan {
            Some(plan) => error.hint(format!(
                "look at it with `trueup plan`; where an approval is enough: trueup approve {}",
                plan.digest.short()
            )),
            None => error,
        });
    }
    if let Some(error) = report::unseen(made, &format!("{succeeded} steps done")) {
        return Err(error);
    }
    context.ui.say(&format!("{succeeded} steps done"));
    Ok(Done::Fine)
}

async fn alone(
    context: &Context,
    config: &Config,
    approve: Option<String>,
    progress: Option<StepProgress>,
    look: control::Look,
) -> Result<Report, CliError> {
    // Listened for before anything begins: from here on a signal ends this in good order.
    let mut signals = Interrupt::new()?;
    let (stop, stopped) = watch::channel(false);
    let engine = wire::engine(config, &context.config_path(), progress, stopped).await?;
    let approve = approve.map(|plan| Approval { plan, actor: control::operator_here() });
    let options = PassOptions { retry_now: true, approve, wait: true };
    let pass = async {
        engine.reconciler.recover().await?;
        engine.reconciler.pass(options).await
    };
    let limit = config.limits.stop_timeout.duration();
    let made = signals.bound(pass, &stop, limit, context.ui).await;
    let made = match made {
        Ok(Ok(pass)) => Ok(engine.reconciler.ledger.read(|state| Report::of(&pass, state, look))),
        Ok(Err(error)) => Err(error.into()),
        Err(cut) => Err(CliError::from(cut)),
    };
    // What was cut off must not go on while the log is closed.
    engine.cut_off().await;
    engine.close();
    made
}
