//! `trueup recover`: a lost machine back out of its backups: trueup's own state, the data of its disks,
//! and then the machine itself.
//!
//! Nothing that is there is ever written over. Each part ends before the next begins, and what breaks off
//! goes on with `trueup recover disks`.

mod config;
mod disks;
mod from;
mod own;
mod pick;
mod place;
mod show;
mod waiting;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{CliError, CliResult, Done, ErrorKind};
use super::ui::Format;
use super::{Output, apply, report};
use crate::model::{Name, ResourceId};
use disks::Choice;
use from::Login;
use own::Checkpoint;
use show::{Converged, Told};

/// Bring a lost machine back onto an empty one, out of its backups
///
/// Fetches the newest snapshot of a `Backup` with `source: {state: true}`, reads every file of it back,
/// proves the log's chain, and puts the log, the mirror and the config in place. Then the disks that are
/// not there and are saved in a backup come back from its newest snapshot, each to its place; those whose
/// data does not come back stay held, so that none is begun empty; so do those whose folder is not there,
/// unless --make-pools says that it is lost too. Then the machine is brought to the
/// commit in force, as by `trueup apply`. What is there already is never written over.
///
/// No backup holds the secrets: put them back first, mode 0600, to where `backup.secrets` of the config
/// says. Where one is missing, everything else goes on, and `trueup recover disks` later.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "EXAMPLES\n  \
    trueup recover --from /mnt/vault/trueup/host1 --password-file /root/vault.key\n  \
    trueup recover --from /mnt/vault --password-file key --host node1 --snapshot 4f2a\n  \
    trueup recover --from /mnt/vault --password-file key --checkpoint 1042:9f86d081884c\n  \
    trueup recover --from rest:https://backup.example/host1 --password-file key \
    --credentials-file login\n  \
    trueup recover --from sftp:me@backup.example:/srv/host1 --password-file key \
    --identity-file id_ed25519 --host-keys-file known_hosts\n  \
    trueup recover --from s3:https://s3.example/bucket/host1 --password-file key \
    --credentials-file login\n  \
    trueup recover --from /mnt/vault --password-file key --make-pools   # everything is lost\n  \
    trueup recover disks                   # go on with the disks that are held")]
pub(super) struct Recover {
    #[command(subcommand)]
    what: Option<What>,
    // What is optional as a whole must have nothing flattened in it, or clap takes it for absent.
    #[command(flatten)]
    own: Option<Own>,
    #[command(flatten)]
    login: Login,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum What {
    Disks(Disks),
}

/// What trueup's own state comes back from.
#[derive(Debug, Args)]
struct Own {
    /// The repository: a folder, or `rest:`, `sftp:` or `s3:`, as restic writes it
    #[arg(long, value_name = "REPOSITORY")]
    from: String,
    /// A file that only you may read, with the repository's password in its first line
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// The snapshot's id, or the start of it, instead of the newest
    #[arg(long, value_name = "ID")]
    snapshot: Option<String>,
    /// The host whose state it is, where the repository has those of several
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// A checkpoint of the log, as pull requests show it: the log that comes back has to hold it
    #[arg(long, value_name = "SEQ:HASH", value_parser = own::checkpoint)]
    checkpoint: Option<Checkpoint>,
    /// Make the folders of disks that are not there: without it such disks stay held, as what outlived the
    /// machine may only not be mounted
    #[arg(long)]
    make_pools: bool,
    /// Leave the disks held whose data is in a backup
    #[arg(long)]
    no_disks: bool,
    /// Do nothing to the machine itself
    #[arg(long)]
    no_apply: bool,
}

/// Bring the data of disks back that are held until it is, and go on from there
///
/// Which ones is in the log since `trueup recover`. Each comes from the newest snapshot that has it, to its
/// place, where no file may be, in a folder that is there. It takes the log's lock: stop the daemon first.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup recover disks\n  \
    trueup recover disks disk/db --backup nightly\n  \
    trueup recover disks disk/db --backup db --snapshot 4f2a")]
struct Disks {
    /// Only these disks
    #[arg(value_name = "DISK")]
    disks: Vec<ResourceId>,
    /// From this backup, whichever has the newest
    #[arg(long, value_name = "NAME", value_parser = backup_name)]
    backup: Option<Name>,
    /// From this snapshot of it: its id, or the start of it
    #[arg(long, value_name = "ID", requires = "backup")]
    snapshot: Option<String>,
    /// Make the folders of disks that are not there, which may only not be mounted
    #[arg(long)]
    make_pools: bool,
    /// Do nothing to the machine itself
    #[arg(long)]
    no_apply: bool,
    #[command(flatten)]
    output: Output,
}

/// A backup by its name, or as `backup/NAME`.
fn backup_name(text: &str) -> Result<Name, String> {
    Name::new(text.strip_prefix("backup/").unwrap_or(text)).map_err(|error| error.to_string())
}

impl Recover {
    /// The form of the output asked for.
    pub(super) fn format(&self) -> Format {
        match &self.what {
            Some(What::Disks(disks)) => disks.output.output,
            None => self.output.output,
        }
    }

    pub(super) fn run(self, context: &Context) -> CliResult {
        match (self.what, self.own) {
            (Some(What::Disks(disks)), _) => disks.run(context),
            (None, Some(own)) => own.run(context, &self.login),
            (None, None) => Err(CliError::new(ErrorKind::Usage, "--from names no repository")),
        }
    }
}

impl Own {
    fn run(self, context: &Context, login: &Login) -> CliResult {
        let begun = Instant::now();
        let (own, held) = self.bring_back(context, login)?;
        context.ui.say(&format!("the state of {} is back and proved", own.host));
        let context = context.at(own.config_read(), &own.state_directory);
        let choice = Choice { make_pools: self.make_pools, ..Choice::default() };
        let choice = (!self.no_disks && !held.is_empty()).then_some(choice);
        let told = Told { own: Some(own), held, ..Told::default() };
        finish(&context, told, begun, choice.as_ref(), !self.no_apply)
    }
}

impl Disks {
    fn run(self, context: &Context) -> CliResult {
        let Self { disks, backup, snapshot, make_pools, no_apply, output: _ } = self;
        let choice = Choice { disks, backup, snapshot, make_pools };
        finish(context, Told::default(), Instant::now(), Some(&choice), !no_apply)
    }
}

/// Goes on with the disks and the machine, and tells what came of all of it, however that ended.
fn finish(
    context: &Context,
    mut told: Told,
    begun: Instant,
    choice: Option<&Choice>,
    applies: bool,
) -> CliResult {
    let ended = go_on(context, &mut told, choice, applies);
    told.total_ms = millis(begun);
    // What failed before anything was done has nothing to tell but why.
    if ended.is_ok() || told.own.is_some() || told.disks_ms.is_some() {
        context.ui.product(&told)?;
    }
    ended
}

fn go_on(context: &Context, told: &mut Told, choice: Option<&Choice>, applies: bool) -> CliResult {
    if choice.is_none() && !applies {
        return Ok(Done::Fine);
    }
    let settings = context.settings();
    let config = settings.map_err(|it| it.hint("then go on: `trueup recover disks`"))?.config;
    if let Some(own) = &mut told.own {
        if config.host() != own.host {
            // What is wished and what is saved goes by the host's name.
            return Err(CliError::new(
                ErrorKind::Held,
                format!(
                    "this host is called {}, and the state is that of {}",
                    config.host(),
                    own.host
                ),
            )
            .hint(format!(
                "write `host: {}` into the config, then `trueup recover disks`",
                own.host
            )));
        }
        let there = |name: &Name| config.backup.secrets.join(name.as_str()).exists();
        own.secrets_missing = own.secrets.iter().filter(|name| !there(name)).cloned().collect();
    }
    if let Some(choice) = choice {
        let begun = Instant::now();
        (told.restored, told.held) = disks::bring_back(context, &config, choice)?;
        told.disks_ms = Some(millis(begun));
    }
    if applies {
        let begun = Instant::now();
        let made = apply::once(context, &config, None)?;
        told.converged = Some(Converged::of(&made, millis(begun)));
        report::commit_in_force(context, &made)?;
        made.held.iter().for_each(|reason| context.ui.warn(&format!("held: {reason}")));
        apply::verdict(context, &made)?;
    }
    match told.held.len() {
        0 => Ok(Done::Fine),
        _ if choice.is_none() => Ok(Done::Fine),
        count => Err(CliError::new(
            ErrorKind::Held,
            format!("{count} disk(s) are held until their data is back"),
        )
        .hint("mend what kept it from coming back, then `trueup recover disks`")),
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
