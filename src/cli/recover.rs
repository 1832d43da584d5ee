//! `trueup recover`: trueup's own state back onto an empty machine.
//!
//! Everything is fetched, read back and proved beside the state directory; putting it in place is one
//! rename. Nothing that is there is written over. It does nothing to the machine itself: that is for the
//! loop, which goes on from what the log says.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::context::Context;
use super::exit::{CliError, CliResult, Done, ErrorKind};
use super::paint::{Block, Label, Text};
use super::time::shown;
use super::ui::Product;
use super::wire::{self, HostClock, Until};
use super::{Output, bars, control};
use crate::event::body::{LogRecovered, OperatorHeld};
use crate::event::chain::Head;
use crate::event::{Entry, Event};
use crate::journal::{self, Reader};
use crate::model::{Fault, Kind, Name, Resource, ResourceId, resource};
use crate::port::{Progress, ProgressUpdate};
use crate::provider::backup::{Fetched, OwnState, Vault};
use crate::spec::saved_by;
use crate::state::State;
use crate::view::backup::{bytes, span};

/// Digits of a checkpoint's hash that are enough: as many as a plan's digest needs.
const CHECKPOINT_DIGITS_MIN: usize = 12;

/// Bring trueup's own state back onto an empty machine, out of a backup of it
///
/// Fetches the newest snapshot of a `Backup` with `source: {state: true}`, reads every file of it back,
/// proves the log's chain, and puts the log, the mirror and the config in place; what is there already is
/// never written over. Disks that are not there but saved in a backup are held, so that none is begun empty
/// before its data is back. Then `trueup apply`, or the daemon, brings the machine to the commit in force.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup recover --from /mnt/vault/trueup/host1 --password-file /root/vault.key\n  \
    trueup recover --from /mnt/vault --password-file key --host node1 --snapshot 4f2a\n  \
    trueup recover --from /mnt/vault --password-file key --checkpoint 1042:9f86d081884c")]
pub(super) struct Recover {
    /// The folder of the repository
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
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
    #[arg(long, value_name = "SEQ:HASH", value_parser = checkpoint)]
    checkpoint: Option<Checkpoint>,
    #[command(flatten)]
    pub(super) output: Output,
}

/// An event and the start of its line's hash.
#[derive(Debug, Clone)]
struct Checkpoint {
    seq: u64,
    hash: String,
}

fn checkpoint(text: &str) -> Result<Checkpoint, String> {
    let wrong = || {
        format!(
            "write the event's number and at least {CHECKPOINT_DIGITS_MIN} digits: 1042:9f86d081884c"
        )
    };
    let (seq, hash) = text.split_once([':', ' ']).ok_or_else(wrong)?;
    let seq = seq.parse().map_err(|_| wrong())?;
    let hex = hash.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    match hex && hash.len() >= CHECKPOINT_DIGITS_MIN {
        true => Ok(Checkpoint { seq, hash: hash.to_owned() }),
        false => Err(wrong()),
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Recovered {
    snapshot: String,
    host: String,
    taken: Timestamp,
    /// The last event that came back.
    last: u64,
    last_at: Option<Timestamp>,
    /// The hash of its line.
    head: String,
    commit: Option<String>,
    state_directory: PathBuf,
    /// Where the config is; what came back where another one is in its place.
    config: Option<PathBuf>,
    config_kept: bool,
    held: Vec<HeldDisk>,
    /// The names of the secrets that backups need and no backup holds.
    secrets: Vec<Name>,
    files: u64,
    bytes: u64,
    /// Milliseconds of each part.
    restored_ms: u64,
    compared_ms: u64,
    proved_ms: u64,
    total_ms: u64,
}

/// A disk whose data is in a backup and not on the machine.
#[derive(Debug, Serialize)]
struct HeldDisk {
    disk: ResourceId,
    backup: ResourceId,
    path: String,
}

/// Where everything goes.
struct Places {
    state: PathBuf,
    /// Beside the state directory, so that one rename puts it in place.
    staging: PathBuf,
}

impl Recover {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let begun = Instant::now();
        let named = context.named_state_dir()?;
        if let Some(state) = &named {
            is_free(state)?;
        }
        let scratch = tempfile::tempdir().map_err(CliError::machine)?;
        let from = std::path::absolute(&self.from).map_err(CliError::input)?;
        let vault = wire::vault(&from, &self.password_file, scratch.path());
        let vault = vault.map_err(|why| {
            CliError::input(why).hint("chmod 600 it, with the password alone in its first line")
        })?;
        let found = wire::block_on(vault.states(self.host.as_deref()))?.map_err(failed)?;
        let own = self.chosen(found)?;
        let state = named.unwrap_or_else(|| own.state.clone());
        is_free(&state)?;
        let places = Places { staging: beside(&state), state };
        let recovered = self.recover(context, &vault, &own, &places, begun);
        // Whatever came of it: what is beside is in place, or for nothing.
        let cleared = remove(&places.staging);
        let recovered = recovered?;
        cleared.map_err(CliError::machine)?;
        context.ui.product(&recovered)?;
        Ok(Done::Fine)
    }

    /// The snapshot that is meant.
    fn chosen(&self, mut found: Vec<OwnState>) -> Result<OwnState, CliError> {
        let at = self.from.display();
        if let Some(wanted) = &self.snapshot {
            found.retain(|own| own.snapshot.id.starts_with(wanted.as_str()));
            if found.len() > 1 {
                return Err(CliError::input(format!("`{wanted}` is several snapshots")));
            }
        }
        let mut hosts: Vec<_> = found.iter().map(|own| own.snapshot.host.clone()).collect();
        hosts.sort();
        hosts.dedup();
        if hosts.len() > 1 {
            let message = format!("{at} holds the state of several hosts: {}", hosts.join(", "));
            return Err(CliError::input(message).hint("say which one with --host"));
        }
        found.pop().ok_or_else(|| {
            let message = format!("{at} holds no such snapshot of trueup's own state");
            CliError::input(message)
                .hint("it is taken by a `Backup` with `source: {state: true}`; `restic snapshots` lists all")
        })
    }

    fn recover(
        &self,
        context: &Context,
        vault: &Vault,
        own: &OwnState,
        places: &Places,
        begun: Instant,
    ) -> Result<Recovered, CliError> {
        remove(&places.staging).map_err(CliError::machine)?;
        private(&places.staging).map_err(CliError::machine)?;
        let raw = places.staging.join("restored");
        let progress = drawn(context);
        let fetched = vault.fetch(&own.snapshot.id, &raw, &progress);
        let fetched = wire::block_on(fetched)?.map_err(failed)?;
        let staged = places.staging.join("state");
        let config = assemble(own, &raw, &staged).map_err(CliError::machine)?;
        let proving = Instant::now();
        let report = journal::verify(&staged)?;
        if report.head.seq == 0 {
            return Err(CliError::machine("the snapshot holds no event")
                .hint("take an older one with --snapshot"));
        }
        if let Some(checkpoint) = &self.checkpoint {
            holds(&staged, checkpoint, report.head.seq)?;
        }
        let known = wire::fold(&staged, Until::End)?;
        let proved_ms = millis(proving);
        let held = held(&known);
        wire::block_on(note(&staged, own, &fetched, &known, &held))??;
        let (config, config_kept) = match config {
            None => (None, false),
            Some(from) => install(context, own, &from, &staged).map_err(CliError::machine)?,
        };
        put_in_place(&staged, &places.state).map_err(CliError::machine)?;
        Ok(Recovered {
            snapshot: own.snapshot.id.clone(),
            host: own.snapshot.host.clone(),
            taken: own.snapshot.time,
            last: report.head.seq,
            last_at: report.head.at,
            head: report.head.hash.to_string(),
            commit: known.spec.commit.as_ref().map(ToString::to_string),
            state_directory: places.state.clone(),
            config: config.map(|config| match config.strip_prefix(&staged) {
                Ok(inside) => places.state.join(inside),
                Err(_) => config.clone(),
            }),
            config_kept,
            held,
            secrets: secrets(&known),
            files: fetched.files,
            bytes: fetched.bytes,
            restored_ms: fetched.restored_ms,
            compared_ms: fetched.compared_ms,
            proved_ms,
            total_ms: millis(begun),
        })
    }
}

fn failed(fault: Fault) -> CliError {
    CliError::new(ErrorKind::Machine, fault)
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn drawn(context: &Context) -> Progress {
    let drawn = bars::progress(context.ui.progress());
    let id = Name::new("state").map(|name| ResourceId::new(Kind::Backup, name));
    Arc::new(move |update: ProgressUpdate| {
        if let (Some(drawn), Ok(id)) = (&drawn, &id) {
            drawn(id, update);
        }
    })
}

/// That nothing is there yet.
fn is_free(state: &Path) -> Result<(), CliError> {
    let mut entries = match fs::read_dir(state) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CliError::machine(format!("{}: {error}", state.display()))),
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(CliError::new(
            ErrorKind::Held,
            format!("{} is not empty, and nothing is written over", state.display()),
        )
        .hint("where it is of no use any more, move it away; else name another with --state-dir")),
    }
}

/// The folder in which everything is made ready.
fn beside(state: &Path) -> PathBuf {
    let mut name = state.file_name().unwrap_or_default().to_owned();
    name.push(".recovering");
    state.with_file_name(name)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn private(folder: &Path) -> io::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| named(folder, &error))
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(folder, &error)),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Makes a state directory of what was restored; the config, if there is one.
fn assemble(own: &OwnState, raw: &Path, staged: &Path) -> io::Result<Option<PathBuf>> {
    private(staged)?;
    let restored = |path: &Path| raw.join(path.strip_prefix("/").unwrap_or(path));
    let mut config = None;
    for path in own.snapshot.paths.iter().map(PathBuf::from) {
        let from = restored(&path);
        let to = match path.strip_prefix(&own.state) {
            _ if path == own.log => staged.join("log"),
            Ok(inside) => staged.join(inside),
            Err(_) => {
                if from.is_file() {
                    config = Some(from);
                }
                continue;
            }
        };
        if let Some(parent) = to.parent() {
            private(parent)?;
        }
        fs::rename(&from, &to).map_err(|error| named(&from, &error))?;
    }
    Ok(config)
}

/// That the log holds an event with this hash.
fn holds(staged: &Path, wanted: &Checkpoint, last: u64) -> Result<(), CliError> {
    let Checkpoint { seq, hash } = wanted;
    if *seq > last {
        let lost = seq - last;
        return Err(CliError::new(
            ErrorKind::Held,
            format!(
                "the log that came back ends with event {last}: the {lost} up to {seq} are lost"
            ),
        )
        .hint("leave --checkpoint out to accept that, or take another repository"));
    }
    let mut cursor = Reader::open(staged).from(*seq)?;
    let found = cursor.read()?.map(|line| Head::after(&line.record).hash.to_string());
    match found {
        Some(found) if found.starts_with(hash.as_str()) => Ok(()),
        found => Err(CliError::machine(format!(
            "event {seq} of the log that came back has the hash {}, not {hash}: it is another log",
            found.unwrap_or_default()
        ))
        .hint("take an older snapshot with --snapshot, and find out who changed this one")),
    }
}

/// The disks that are not there and whose data is in a backup.
fn held(known: &State) -> Vec<HeldDisk> {
    let claims = known.resources.iter();
    let claims = claims.filter_map(|(id, it)| Some((id, it.claim.as_ref()?.resource.as_ref()?)));
    let claims: Vec<(&ResourceId, &Resource)> = claims.collect();
    let mut held = Vec::new();
    for &(id, claim) in &claims {
        let Resource::Disk(disk) = claim else { continue };
        if Path::new(&disk.path).exists() {
            continue;
        }
        let backup = claims.iter().find_map(|&(of, other)| match other {
            Resource::Backup(backup) if saves(known, of, backup, id, &claims) => Some(of.clone()),
            _ => None,
        });
        if let Some(backup) = backup {
            held.push(HeldDisk { disk: id.clone(), backup, path: disk.path.clone() });
        }
    }
    held
}

/// Whether a snapshot of `backup` has the disk: one was taken, of what it is said to save.
fn saves(
    known: &State,
    of: &ResourceId,
    backup: &resource::Backup,
    disk: &ResourceId,
    claims: &[(&ResourceId, &Resource)],
) -> bool {
    let Some(good) = known.backup(of).good else { return false };
    good.of.contains(disk) || saved_by(backup, claims.iter().copied()).contains(disk)
}

/// The secrets that backups need: no backup holds any.
fn secrets(known: &State) -> Vec<Name> {
    let claims = known.resources.values().filter_map(|known| known.claim.as_ref());
    let mut keys: Vec<Name> = claims
        .filter_map(|claim| match claim.resource.as_ref()? {
            Resource::Backup(backup) => Some(backup.key.clone()),
            _ => None,
        })
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Writes into the log that it was brought back, and holds the disks that wait for their data.
async fn note(
    staged: &Path,
    own: &OwnState,
    fetched: &Fetched,
    known: &State,
    held: &[HeldDisk],
) -> Result<(), CliError> {
    let clock = Arc::new(HostClock::default());
    let mut log = wire::open_log(staged, &own.snapshot.host, clock).await?;
    let who = control::operator_here();
    let recovered = LogRecovered {
        repository: fetched.repository.clone(),
        snapshot: own.snapshot.id.clone(),
        taken: own.snapshot.time,
        host: own.snapshot.host.clone(),
        last: known.seq,
        held: held.iter().map(|held| held.disk.clone()).collect(),
    };
    let holds = held.iter().map(|HeldDisk { disk, backup, .. }| {
        let reason =
            format!("its data is in {backup}: bring it back, then `trueup release {disk}`");
        Entry::new(Event::OperatorHeld(OperatorHeld { reason })).about(disk)
    });
    let first = Entry::new(Event::LogRecovered(recovered));
    let entries = std::iter::once(first).chain(holds).map(|entry| entry.by(&who)).collect();
    let appended = wire::append(&*log.port, entries).await;
    let appended = appended.map(|all| all.iter().for_each(|one| log.state.apply(one)));
    log.close();
    appended
}

/// Puts the config in its place; where another one is, it goes to the state directory. Where it is, and
/// whether another one was kept.
fn install(
    context: &Context,
    own: &OwnState,
    from: &Path,
    staged: &Path,
) -> io::Result<(Option<PathBuf>, bool)> {
    let text = fs::read(from).map_err(|error| named(from, &error))?;
    let origin =
        own.snapshot.paths.iter().map(PathBuf::from).find(|path| from.ends_with(inside(path)));
    let to = match (context.named_config(), origin) {
        (Some(named), _) => std::path::absolute(named)?,
        (None, Some(origin)) => origin,
        (None, None) => context.config_path(),
    };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(|error| named(parent, &error))?;
    }
    let same = fs::read(&to).is_ok_and(|there| there == text);
    if same {
        return Ok((Some(to), false));
    }
    if to.symlink_metadata().is_ok() {
        let kept = staged.join("recovered-config.yaml");
        fs::rename(from, &kept).map_err(|error| named(&kept, &error))?;
        return Ok((Some(kept), true));
    }
    // It may be on another file system; a crash in between leaves one that is not whole beside it.
    let fresh = to.with_extension("recovering");
    fs::copy(from, &fresh).map_err(|error| named(&fresh, &error))?;
    File::open(&fresh)?.sync_all()?;
    fs::rename(&fresh, &to).map_err(|error| named(&to, &error))?;
    Ok((Some(to), false))
}

fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// One rename: the state directory is there whole, or not at all. An empty one may be in its place.
fn put_in_place(staged: &Path, state: &Path) -> io::Result<()> {
    fs::rename(staged, state).map_err(|error| named(state, &error))?;
    let parent = state.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| named(parent, &error))
}

impl Product for Recovered {
    fn blocks(&self) -> Vec<Block> {
        let secs = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
        let id = self.snapshot.get(..8).unwrap_or(&self.snapshot);
        let ago = Timestamp::now().duration_since(self.taken).max(SignedDuration::ZERO);
        let ago = span(u64::try_from(ago.as_secs()).unwrap_or_default());
        let mut blocks = vec![
            Block::Line(vec![
                "recovered ".into(),
                Text::new(self.host.clone(), Label::Strong),
                format!(" from snapshot {id}, begun {} ({ago} ago)", shown(self.taken)).into(),
            ]),
            Block::line(format!(
                "  log      {} events, to {}; its chain is whole and ends in {}",
                self.last,
                self.last_at.map(shown).unwrap_or_default(),
                self.head.get(..12).unwrap_or(&self.head)
            )),
            Block::line(format!("  state    {}", self.state_directory.display())),
        ];
        if let Some(config) = &self.config {
            let kept = match self.config_kept {
                true => "; another one is in its place and was left there",
                false => "",
            };
            blocks.push(Block::line(format!("  config   {}{kept}", config.display())));
        }
        if let Some(commit) = &self.commit {
            blocks.push(Block::line(format!("  commit   {commit}")));
        }
        blocks.push(Block::line(format!(
            "  took     {} in all: restored {} in {}, read back in {}, proved in {}",
            secs(self.total_ms),
            bytes(self.bytes),
            secs(self.restored_ms),
            secs(self.compared_ms),
            secs(self.proved_ms)
        )));
        blocks.push(Block::line(format!(
            "  lost     what happened after event {}, in the last {ago}",
            self.last
        )));
        blocks.push(Block::Gap);
        for held in &self.held {
            blocks.push(Block::Line(vec![
                Text::new(format!("{} is held", held.disk), Label::Warn),
                format!(
                    ": its data is in {}; bring {} back, then `trueup release {}`",
                    held.backup, held.path, held.disk
                )
                .into(),
            ]));
        }
        if !self.secrets.is_empty() {
            let names: Vec<_> = self.secrets.iter().map(|name| name.as_str()).collect();
            blocks.push(Block::line(format!(
                "put the secrets back, which no backup holds: {}",
                names.join(", ")
            )));
        }
        blocks.push(Block::line(
            "then bring the machine to the commit in force: `trueup apply`, or start the daemon",
        ));
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_a_number_and_enough_digits() {
        let read = |text| checkpoint(text).map(|it| (it.seq, it.hash));
        assert_eq!(read("42:0123456789ab"), Ok((42, "0123456789ab".into())));
        assert_eq!(read("42 0123456789ab"), Ok((42, "0123456789ab".into())), "as it is shown");
        for wrong in ["42", "42:0123", "x:0123456789ab", "42:0123456789xy"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_there_is_never_written_over() {
        let host = tempfile::tempdir().unwrap();
        let state = host.path().join("state");
        is_free(&state).unwrap();
        fs::create_dir(&state).unwrap();
        is_free(&state).unwrap();
        assert_eq!(beside(&state), host.path().join("state.recovering"));
        fs::write(state.join("head"), "x").unwrap();
        assert_eq!(is_free(&state).unwrap_err().kind, ErrorKind::Held);
    }
}
