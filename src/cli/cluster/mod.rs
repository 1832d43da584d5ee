//! `trueup cluster`: nodes, queues, jobs and certificates as the log has them, and nodes taken out of use
//! for a while.
//!
//! It asks no controller and changes none: a drain is an event, which the loop acts on.

mod access;
mod hand;
mod import;
mod kubeconfig;
mod kubernetes;
mod show;

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

/// Show clusters: nodes, capacity and what of it is in use, queues, jobs by account, drains
///
/// Everything is from the log, for any moment of it with --at. What stands is written as soon as it is
/// seen to change; what runs and waits at most every two minutes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct Cluster {
    #[command(subcommand)]
    what: Option<What>,
    /// As the log has it at this event or time, or so long ago
    #[arg(long, value_name = "SEQ|TIME", value_parser = state::until)]
    at: Option<Until>,
    #[command(flatten)]
    output: Output,
}

const EXAMPLES: &str = "EXAMPLES
  trueup cluster
  trueup cluster -o json
  trueup cluster --at 2026-01-02T03:04:05Z
  trueup cluster drain n7 -m 'fan is loud' --for 4h
  trueup cluster resume n7
  trueup cluster import > environments/lab/cluster.yaml
  trueup cluster access ansible > inventory.yaml
  trueup cluster access kubeconfig --user ann --namespace research --for 8h > ann.kubeconfig
  trueup log --type 'cluster.*'      # everything that was seen of clusters";

#[derive(Debug, Subcommand)]
enum What {
    Drain(hand::Drain),
    Resume(hand::Resume),
    Import(import::Import),
    Access(access::Access),
}

impl Cluster {
    /// The form of the output asked for.
    pub(super) fn format(&self) -> Format {
        match &self.what {
            None => self.output.output,
            Some(What::Drain(_) | What::Resume(_) | What::Import(_) | What::Access(_)) => {
                Format::Table
            }
        }
    }

    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.what {
            None => view(context, self.at),
            Some(What::Drain(drain)) => drain.run(context),
            Some(What::Resume(resume)) => resume.run(context),
            Some(What::Import(import)) => import.run(context),
            Some(What::Access(access)) => access.run(context),
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
                    .hint("`trueup log --type 'cluster.*'` shows what was seen of clusters"));
            };
            let now = match until {
                Until::Time(asked) => asked,
                Until::End | Until::Seq(_) => last,
            };
            (then, now)
        }
    };
    context.ui.product(&Shown(view::cluster::clusters(&state, now)))?;
    Ok(Done::Fine)
}
