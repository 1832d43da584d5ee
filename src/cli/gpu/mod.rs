//! `trueup gpu`: the GPUs of this machine, how they are and were cut, and what would fit.
//!
//! It only looks. A running daemon does the looking; where none runs, this process does.

mod export;
mod fits;
mod import;
mod look;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{CliError, CliResult, Done, ErrorKind};
use super::ui::Format;
use super::wire::{self, Until};
use super::{Output, state};
use crate::view;
use look::{Looked, looked};
use show::Shown;
pub(super) use show::write_sheet;

/// Show GPUs: what there is, how each is cut, who uses what, how it is, and how it was
///
/// A running daemon looks at the machine and answers; where none runs, this command looks itself,
/// which needs root. Names of partitions, status and drift are what the log says. With --at everything
/// is from the log: how GPUs were cut, but not who used them. Exits with 5 where the driver does not
/// answer; what the log knows is shown all the same.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct Gpu {
    #[command(subcommand)]
    what: Option<What>,
    /// As the log has it at this event or time, or so long ago
    #[arg(long, value_name = "SEQ|TIME", value_parser = state::until)]
    at: Option<Until>,
    /// Also write the pictures into this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

const EXAMPLES: &str = "EXAMPLES
  trueup gpu
  trueup gpu --at 2026-01-02T03:04:05Z
  trueup gpu --at 1h --svg before.svg
  trueup gpu -o json | jq '.gpus[].parts[] | {name, devices}'
  trueup gpu fits 3g 1gx2
  trueup gpu import config.yaml --selected-config all-balanced > gpus.yaml
  trueup log --type gpu.observed     # every change of a cut";

#[derive(Debug, Subcommand)]
enum What {
    Fits(fits::Fits),
    Import(import::Import),
    Export(export::Export),
}

impl Gpu {
    /// The form of the output asked for.
    pub(super) fn format(&self) -> Format {
        match &self.what {
            None => self.output.output,
            Some(What::Fits(fits)) => fits.output.output,
            Some(What::Import(_) | What::Export(_)) => Format::Table,
        }
    }

    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.what {
            None => view(context, self.at, self.svg),
            Some(What::Fits(fits)) => fits.run(context),
            Some(What::Import(import)) => import.run(context),
            Some(What::Export(export)) => export.run(context),
        }
    }
}

fn view(context: &Context, at: Option<Until>, svg: Option<PathBuf>) -> CliResult {
    let gpus = match at {
        Some(until) => {
            let then = wire::fold(&context.state_dir()?, until)?;
            if then.seq == 0 {
                return Err(CliError::input("nothing had happened by then")
                    .hint("`trueup log --type gpu.observed` shows when a cut changed"));
            }
            view::gpu::gpus_then(&then)
        }
        None => {
            let Looked { state, skipped, found } = looked(context)?;
            let found = found.as_ref().map_err(String::as_str);
            view::gpu::gpus(&state, &skipped, found)
        }
    };
    if let Some(path) = &svg {
        show::write_svg(&gpus, path)?;
        context.ui.say(&format!("the pictures are in {}", path.display()));
    }
    let why = gpus.unobservable.clone();
    context.ui.product(&Shown(gpus))?;
    match why {
        None => Ok(Done::Fine),
        Some(why) => Err(CliError::new(ErrorKind::Machine, why)
            .hint("`trueup preflight --for gpu` says what the driver needs")),
    }
}
