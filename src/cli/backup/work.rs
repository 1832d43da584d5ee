//! `trueup backup run`, `drill`, `cancel`, `ls`, `restore` and `forget`: work on one backup.
//!
//! Which repository it is and what it is called is what the log says of the wish in force. Nothing is
//! restored over anything, and nothing is removed here.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use trueup_backup::retention::Keep;

use super::super::context::Context;
use super::super::exit::{CliError, CliResult, Done, ErrorKind};
use super::super::operate::operate;
use super::super::paint::{Block, Text};
use super::super::time::shown;
use super::super::ui::Product;
use super::super::{Output, bars, wire};
use crate::model::resource::{Backup, BackupSource};
use crate::model::{Fault, Kind, Name, Resource, ResourceId};
use crate::port::ProgressUpdate;
use crate::provider::backup::protocol::Snapshot;
use crate::provider::backup::{BackupProvider, Wanted, Which, to_qcow2};
use crate::state::Command;
use crate::view::backup::bytes;

/// Take a snapshot now, whatever the schedule says
///
/// The daemon takes it at once; where none runs, the next `trueup apply` or `trueup run` does.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup backup run etc")]
pub(super) struct Run {
    /// The backup's name
    #[arg(value_parser = named)]
    name: Name,
}

impl Run {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let resource = ResourceId::new(Kind::Backup, self.name);
        let said = format!("{resource} is taken with the next pass; `trueup backup` shows it");
        operate(context, Command::BackUp { resource }, &said)
    }
}

/// Restore the last complete snapshot beside now, compare it, time it, and remove it again
///
/// What comes back is compared with what the snapshot says, file by file, and booted where the Backup
/// says so (`drill.boot`); the backup counts as failed where it differs or does not come up. The daemon does it at once; where none runs, the next `trueup apply` or
/// `trueup run` does.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup backup drill etc\n  \
    trueup why backup/etc          # what came of it")]
pub(super) struct Drill {
    /// The backup's name
    #[arg(value_parser = named)]
    name: Name,
}

impl Drill {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let resource = ResourceId::new(Kind::Backup, self.name);
        let said = format!("{resource} is drilled with the next pass; `trueup backup` shows it");
        operate(context, Command::Drill { resource }, &said)
    }
}

/// End what is being done for a backup now: a snapshot, a check or a removal
///
/// Nothing that is in the repository is harmed by it. It is done again when it is next due.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup backup cancel etc")]
pub(super) struct Cancel {
    /// The backup's name
    #[arg(value_parser = named)]
    name: Name,
}

impl Cancel {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let resource = ResourceId::new(Kind::Backup, self.name);
        let said = format!("what is being done for {resource} is ended");
        operate(context, Command::CancelBackup { resource }, &said)
    }
}

/// List the snapshots of a backup that are in its repository
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup backup ls etc\n  trueup backup ls etc -o json")]
pub(super) struct Ls {
    /// The backup's name
    #[arg(value_parser = named)]
    name: Name,
    #[command(flatten)]
    pub(super) output: Output,
}

impl Ls {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let one = One::of(context, self.name)?;
        let listed = wire::block_on(one.provider.list(one.which()))?;
        context.ui.product(&Snapshots(listed.map_err(failed)?))?;
        Ok(Done::Fine)
    }
}

/// Restore a snapshot, or a part of it, into a folder of its own
///
/// The folder is made where it is missing and has to be empty. Interrupted restores go on with
/// --resume. Plain restic restores the same: `restic -r REPOSITORY restore SNAPSHOT --target DIR`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup backup restore etc --to /srv/restored\n  \
    trueup backup restore etc --snapshot 4f2a --path /etc/hosts --to /tmp/hosts\n  \
    trueup backup restore web --format qcow2 --to /srv/web     # the disks of a guest")]
pub(super) struct RestoreArgs {
    /// The backup's name
    #[arg(value_parser = named)]
    name: Name,
    /// The folder to restore into
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The snapshot's id, or the start of it
    #[arg(long, value_name = "ID", default_value = "latest")]
    snapshot: String,
    /// Only this path of the snapshot
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Go on with a restore that was interrupted
    #[arg(long)]
    resume: bool,
    /// What disks are restored as: raw, as they are in the snapshot, or qcow2
    #[arg(long, value_name = "FORMAT", default_value = "raw", value_parser = ["raw", "qcow2"])]
    format: String,
}

impl RestoreArgs {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let one = One::of(context, self.name)?;
        let qcow2 = self.format == "qcow2";
        if qcow2 && !matches!(one.backup.source, BackupSource::Guest(_)) {
            return Err(CliError::input(format!("{} holds no disks", one.id))
                .hint("leave out `--format`: it is about disks of guests"));
        }
        let to = std::path::absolute(&self.to).map_err(CliError::input)?;
        let drawn = bars::progress(context.ui.progress());
        let id = one.id.clone();
        let progress: crate::port::Progress = Arc::new(move |update: ProgressUpdate| {
            if let Some(drawn) = &drawn {
                drawn(&id, update);
            }
        });
        let wanted = Wanted {
            snapshot: &self.snapshot,
            path: self.path.as_deref(),
            to: &to,
            resume: self.resume,
        };
        let done = wire::block_on(one.provider.restore(one.which(), wanted, &progress))?;
        let done = done.map_err(failed)?;
        for warning in &done.warnings {
            context.ui.warn(warning);
        }
        context.ui.say(&format!(
            "{} files, {}, of snapshot {} are in {}",
            done.files + done.unchanged,
            bytes(done.bytes),
            done.snapshot.get(..8).unwrap_or(&done.snapshot),
            to.display()
        ));
        if qcow2 {
            for disk in wire::block_on(to_qcow2(&to))?.map_err(failed)? {
                context.ui.say(&format!("{} is a qcow2 disk", disk.display()));
            }
        }
        Ok(Done::Fine)
    }
}

/// Say which snapshots the retention of a backup would remove now
///
/// Removing is the loop's, as the `retention` of the backup says; here it is only told.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup backup forget etc --dry-run")]
pub(super) struct Forget {
    /// The backup's name
    #[arg(value_parser = named)]
    name: Name,
    /// Only say it; without this nothing is done either, and it is an error
    #[arg(long, required = true)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

impl Forget {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let one = One::of(context, self.name)?;
        let Some(retention) = &one.backup.retention else {
            context.ui.say(&format!("{} has no `retention`: everything stays", one.id));
            return Ok(Done::Fine);
        };
        let keep = Keep { ids: one.pinned.clone(), ..retention.keep.clone() };
        let told = one.provider.would_forget(one.which(), &keep);
        let told = wire::block_on(told)?.map_err(failed)?;
        let kept =
            told.keep.into_iter().map(|it| Fate { snapshot: it.snapshot, kept_by: it.reasons });
        let removed =
            told.remove.into_iter().map(|snapshot| Fate { snapshot, kept_by: Vec::new() });
        context.ui.product(&Fates(kept.chain(removed).collect()))?;
        Ok(Done::Fine)
    }
}

/// A backup by its name, or as `backup/NAME`.
fn named(text: &str) -> Result<Name, String> {
    Name::new(text.strip_prefix("backup/").unwrap_or(text)).map_err(|error| error.to_string())
}

/// One backup, with what is needed to work on it.
struct One {
    id: ResourceId,
    backup: Box<Backup>,
    /// The id of its repository, where the log knows it.
    repository: Option<String>,
    /// Snapshots that stay as the ways back from changes.
    pinned: Vec<String>,
    provider: BackupProvider,
}

impl One {
    fn of(context: &Context, name: Name) -> Result<Self, CliError> {
        let config = context.settings()?.config;
        let id = ResourceId::new(Kind::Backup, name);
        let state = wire::known(&config.state_directory())?;
        let claim = state.resources.get(&id).and_then(|known| known.claim.as_ref());
        let backup = match claim.and_then(|claim| claim.resource.as_ref()) {
            Some(Resource::Backup(backup)) => backup.clone(),
            _ => {
                return Err(CliError::input(format!("the log knows of no {id}"))
                    .hint("`trueup backup` shows those there are"));
            }
        };
        let repository = state.backup(&id).repository;
        let (pinned, _) = state.pinned(&id, Timestamp::now());
        let provider = wire::backups(&config, &context.config_path());
        Ok(Self { id, backup, repository, pinned, provider })
    }

    fn which(&self) -> Which<'_> {
        Which { id: &self.id, backup: &self.backup, repository: self.repository.as_deref() }
    }
}

fn failed(fault: Fault) -> CliError {
    CliError::new(ErrorKind::Machine, fault)
}

/// Snapshots as a product.
#[derive(Serialize)]
#[serde(transparent)]
struct Snapshots(Vec<Snapshot>);

impl Product for Snapshots {
    fn blocks(&self) -> Vec<Block> {
        let header = vec!["snapshot", "time", "size", "paths"];
        let rows = self.0.iter().map(cells).collect();
        vec![Block::Table { header, rows }]
    }
}

fn cells(snapshot: &Snapshot) -> Vec<Text> {
    vec![
        snapshot.id.get(..8).unwrap_or(&snapshot.id).into(),
        shown(snapshot.time).into(),
        snapshot.bytes.map(bytes).unwrap_or_default().into(),
        snapshot.paths.join(" ").into(),
    ]
}

/// What becomes of a snapshot.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fate {
    snapshot: Snapshot,
    /// The rules that keep it; it goes where there are none.
    kept_by: Vec<String>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Fates(Vec<Fate>);

impl Product for Fates {
    fn blocks(&self) -> Vec<Block> {
        let header = vec!["snapshot", "time", "size", "paths", "kept as"];
        let row = |fate: &Fate| {
            let mut row = cells(&fate.snapshot);
            row.push(match fate.kept_by.is_empty() {
                true => "goes".into(),
                false => fate.kept_by.join(", ").into(),
            });
            row
        };
        vec![Block::Table { header, rows: self.0.iter().map(row).collect() }]
    }
}
