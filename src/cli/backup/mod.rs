//! `trueup backup`: what is saved and how it stands, and work on one backup.
//!
//! What is shown is what the log says. Listing and restoring ask the repository itself, which needs
//! root; taking a snapshot is asked of the loop, so that it is an event like any other.

mod show;
mod work;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::context::Context;
use super::exit::{CliError, CliResult, Done};
use super::known::known;
use super::ui::Format;
use super::wire::{self, Until};
use super::{Output, past, state};
use crate::view;
use show::Shown;

/// Show backups: what is saved, how old it is, whether it was checked, and what is promised
///
/// Everything is from the log, for any moment of it with --at. HEALTH is `unproved` where the last
/// complete snapshot is as young as promised and it was not checked or not restored by a drill,
/// `missed` where it is older than its RPO or a drill took longer than its RTO, `failed` where a check
/// found damage or a drill did not bring everything back. Exits with 3 where a promise is not kept.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct Backup {
    #[command(subcommand)]
    what: Option<What>,
    /// As the log has it at this event or time, or so long ago
    #[arg(long, value_name = "SEQ|TIME", value_parser = state::until)]
    at: Option<Until>,
    #[command(flatten)]
    output: Output,
}

const EXAMPLES: &str = "EXAMPLES
  trueup backup
  trueup backup --at 2026-01-02T03:04:05Z
  trueup backup run etc
  trueup backup drill etc
  trueup backup cancel etc
  trueup backup ls etc
  trueup backup restore etc --to /srv/restored
  trueup backup restore etc --snapshot 4f2a --path /etc/hosts --to /tmp/hosts
  trueup backup restore web --format qcow2 --to /srv/web   # disks of a guest
  trueup backup forget etc --dry-run
  trueup log --type 'backup.*'       # everything that happened to backups";

#[derive(Debug, Subcommand)]
enum What {
    Run(work::Run),
    Drill(work::Drill),
    Cancel(work::Cancel),
    Ls(work::Ls),
    Restore(work::RestoreArgs),
    Forget(work::Forget),
}

impl Backup {
    /// The form of the output asked for.
    pub(super) fn format(&self) -> Format {
        match &self.what {
            None => self.output.output,
            Some(What::Ls(ls)) => ls.output.output,
            Some(What::Forget(forget)) => forget.output.output,
            Some(What::Run(_) | What::Drill(_) | What::Cancel(_) | What::Restore(_)) => {
                Format::Table
            }
        }
    }

    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.what {
            None => view(context, self.at),
            Some(What::Run(run)) => run.run(context),
            Some(What::Drill(drill)) => drill.run(context),
            Some(What::Cancel(cancel)) => cancel.run(context),
            Some(What::Ls(ls)) => ls.run(context),
            Some(What::Restore(restore)) => restore.run(context),
            Some(What::Forget(forget)) => forget.run(context),
        }
    }
}

fn view(context: &Context, at: Option<Until>) -> CliResult {
    let (state, now) = match at {
        None => (known(context)?.state, Timestamp::now()),
        Some(until) => {
            let dir = context.state_dir()?;
            let then = match past::is_closed(&dir) {
                true => past::ask_state(context, &dir, until)?,
                false => wire::fold(&dir, until)?,
            };
            let Some(last) = then.at else {
                return Err(CliError::input("nothing had happened by then")
                    .hint("`trueup log --type 'backup.*'` shows what happened to backups"));
            };
            let now = match until {
                Until::Time(asked) => asked,
                Until::End | Until::Seq(_) => last,
            };
            (then, now)
        }
    };
    let backups = view::backup::backups(&state, now);
    let broken = backups.backups.iter().any(show::is_broken);
    context.ui.product(&Shown(backups))?;
    Ok(if broken { Done::Changes } else { Done::Fine })
}
