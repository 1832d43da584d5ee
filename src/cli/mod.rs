//! `cli`: the command line, one file a command; the place that wires everything.
//!
//! It never decides about the machine itself: what is asked about the past is read from the log,
//! what acts is asked of the daemon, or done under the log's lock where no daemon runs.

mod accept_rewrite;
mod apply;
mod approve;
mod backup;
mod backup_worker;
mod bars;
mod check;
mod cluster;
mod completions;
mod context;
pub mod control;
mod desk;
mod drift;
pub mod exit;
mod gpu;
mod hold;
mod image_build;
mod init;
mod interrupt;
mod known;
mod log;
mod log_blob;
mod log_verify;
mod operate;
pub mod paint;
mod past;
mod pause;
mod plan;
mod policy;
mod preflight;
mod recover;
mod release;
mod releases;
mod replay;
mod report;
mod resume;
mod run;
pub mod schema;
mod state;
mod status;
mod time;
pub mod ui;
mod why;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};

use context::Context;
use exit::{CliError, CliResult, ErrorKind};
use ui::{ColorChoice, Format, Ui};

use crate::telemetry;

/// Keeps a machine true to a Git repository.
///
/// trueup follows a repository that says which networks, images, disks and virtual machines this
/// host has. It brings the host there, notices what drifts, puts it right, and writes everything it
/// sees and does into a log that can be verified and replayed.
#[derive(Debug, Parser)]
#[command(name = "trueup", version, max_term_width = 100, after_long_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
EXIT CODES
  0   done, or in sync
  1   what was given (config, spec) is wrong
  2   wrong usage
  3   changes or drift found
  4   held or refused
  5   the machine or a peer failed
  70  a bug of trueup

START HERE
  trueup preflight                 whether this host is fit
  trueup init /srv/git/env.git     write a config
  trueup check .                   look for mistakes in a repository
  trueup plan                      what would be done, and why
  trueup run                       the daemon
  trueup status                    what everything is in";

/// What every command takes.
#[derive(Debug, Clone, Args)]
struct Global {
    /// The config of trueup on this host [default: /etc/trueup/config.yaml]
    #[arg(long, global = true, env = "TRUEUP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state directory, instead of the config's
    #[arg(long, global = true, env = "TRUEUP_STATE", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// When to colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: ColorChoice,
    /// Say more about the work; repeat for more
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Say less; twice: nothing
    #[arg(short, long, global = true, action = ArgAction::Count)]
    quiet: u8,
}

/// The form of the output.
#[derive(Debug, Clone, Copy, Args)]
struct Output {
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Check(check::Check),
    Plan(plan::Plan),
    Preflight(preflight::Preflight),
    Policy(policy::Policy),
    Apply(apply::Apply),
    Run(run::Run),
    Status(status::Status),
    Drift(drift::Drift),
    Gpu(Box<gpu::Gpu>),
    Backup(backup::Backup),
    Recover(recover::Recover),
    Cluster(cluster::Cluster),
    Releases(releases::Releases),
    Why(why::Why),
    Log(log::Log),
    State(state::State),
    Replay(replay::Replay),
    Approve(approve::Approve),
    Hold(hold::Hold),
    Release(release::Release),
    Pause(pause::Pause),
    Resume(resume::Resume),
    AcceptRewrite(accept_rewrite::AcceptRewrite),
    Schema(schema::Schema),
    ImageBuild(image_build::ImageBuild),
    BackupWorker(backup_worker::BackupWorker),
    Completions(completions::Completions),
}

impl Command {
    /// How much is written about the work: the daemon says what happens, all others answer and end.
    fn base(&self) -> telemetry::Base {
        match self {
            Self::Run(_) => telemetry::Base::Daemon,
            _ => telemetry::Base::Command,
        }
    }

    /// The form asked for, where the command takes one.
    fn format(&self) -> Format {
        match self {
            Self::Plan(command) => command.output.output,
            Self::Preflight(command) => command.output.output,
            Self::Policy(command) => command.format(),
            Self::Apply(command) => command.output.output,
            Self::Status(command) => command.output.output,
            Self::Drift(command) => command.output.output,
            Self::Gpu(command) => command.format(),
            Self::Backup(command) => command.format(),
            Self::Recover(command) => command.format(),
            Self::Cluster(command) => command.format(),
            Self::Releases(command) => command.output.output,
            Self::Why(command) => command.output.output,
            Self::Log(command) => command.output.output,
            Self::State(command) => command.output.output,
            Self::Replay(command) => command.output.output,
            Self::Init(_)
            | Self::Check(_)
            | Self::Run(_)
            | Self::Approve(_)
            | Self::Hold(_)
            | Self::Release(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::AcceptRewrite(_)
            | Self::Schema(_)
            | Self::ImageBuild(_)
            | Self::BackupWorker(_)
            | Self::Completions(_) => Format::Table,
        }
    }

    fn run(self, context: &Context) -> CliResult {
        match self {
            Self::Init(command) => command.run(context),
            Self::Check(command) => command.run(context),
            Self::Plan(command) => command.run(context),
            Self::Preflight(command) => command.run(context),
            Self::Policy(command) => command.run(context),
            Self::Apply(command) => command.run(context),
            Self::Run(command) => command.run(context),
            Self::Status(command) => command.run(context),
            Self::Drift(command) => command.run(context),
            Self::Gpu(command) => command.run(context),
            Self::Backup(command) => command.run(context),
            Self::Recover(command) => command.run(context),
            Self::Cluster(command) => command.run(context),
            Self::Releases(command) => command.run(context),
            Self::Why(command) => command.run(context),
            Self::Log(command) => command.run(context),
            Self::State(command) => command.run(context),
            Self::Replay(command) => command.run(context),
            Self::Approve(command) => command.run(context),
            Self::Hold(command) => command.run(context),
            Self::Release(command) => command.run(context),
            Self::Pause(command) => command.run(context),
            Self::Resume(command) => command.run(context),
            Self::AcceptRewrite(command) => command.run(context),
            Self::Schema(command) => command.run(context),
            Self::ImageBuild(command) => command.run(context),
            Self::BackupWorker(command) => command.run(context),
            Self::Completions(command) => command.run(context),
        }
    }
}

/// The whole program: from the process's arguments to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let ui = Ui::new(cli.command.format(), cli.global.color, cli.global.quiet == 0);
    let result = start(cli, ui);
    if let Err(error) = &result {
        ui.error(error);
    }
    exit::exit_code(&result)
}

/// clap's own answer: the help and the version on stdout, a mistake on stderr.
fn usage(error: &clap::Error) -> ExitCode {
    match error.print() {
        Err(failed) if failed.kind() != std::io::ErrorKind::BrokenPipe => {
            ExitCode::from(ErrorKind::Machine.code())
        }
        _ if error.use_stderr() => ExitCode::from(ErrorKind::Usage.code()),
        _ => ExitCode::SUCCESS,
    }
}

fn start(cli: Cli, ui: Ui) -> CliResult {
    let Cli { global, command } = cli;
    let context = Context::new(ui, &global);
    telemetry::init(&context.telemetry(&global, command.base())).map_err(CliError::from)?;
    command.run(&context)
}

/// The command line as clap knows it, for completions and for tests.
fn command_line() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;
