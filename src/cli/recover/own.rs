//! trueup's own state out of its backup: fetched, read back, proved, and put in place.
//!
//! Everything is made ready beside the state directory; putting it in place is one rename. It does
//! nothing to the machine itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

use super::super::context::Context;
use super::super::exit::{CliError, ErrorKind};
use super::super::wire::{self, HostClock, Until};
use super::super::{bars, control};
use super::config::install;
use super::place::{assemble, beside, fresh, is_free, plain, put_in_place, turn};
use super::waiting::{HeldDisk, folder_of, held, pools_missing, secrets};
use super::{Own, from, millis};
use crate::config::Config;
use crate::event::body::{LogRecovered, OperatorHeld};
use crate::event::chain::Head;
use crate::event::{Entry, Event};
use crate::journal::{self, Reader};
use crate::model::{Digest, Fault, Kind, Name, ResourceId};
use crate::port::{Progress, ProgressUpdate};
use crate::provider::backup::{Fetched, OwnState, Vault};
use crate::provider::paths::remove;
use crate::source::{MirrorConfig, prove_restored};
use crate::state::State;

/// Digits of a checkpoint's hash that are enough: as many as a plan's digest needs.
const CHECKPOINT_DIGITS_MIN: usize = 12;

/// An event and the start of its line's hash.
#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    seq: u64,
    hash: String,
}

pub(super) fn checkpoint(text: &str) -> Result<Checkpoint, String> {
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

/// The state that is back.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnBack {
    pub(super) snapshot: String,
    pub(super) host: String,
    pub(super) taken: Timestamp,
    /// The last event that came back.
    pub(super) last: u64,
    pub(super) last_at: Option<Timestamp>,
    /// The hash of its line.
    pub(super) head: String,
    pub(super) commit: Option<String>,
    pub(super) state_directory: PathBuf,
    /// Where the config is; what came back where it was not put in its place.
    pub(super) config: Option<PathBuf>,
    /// SHA-256 of what came back of it: no checkpoint covers that.
    pub(super) config_digest: Option<Digest>,
    /// It is not in its place.
    pub(super) config_kept: bool,
    /// Why, and what to do about it.
    #[serde(skip)]
    pub(super) config_why: Option<String>,
    /// The names of the secrets that backups need and no backup holds.
    pub(super) secrets: Vec<Name>,
    /// Those of them that are not on the machine, where that was looked at.
    pub(super) secrets_missing: Vec<Name>,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Milliseconds of each part, and of all of them.
    pub(super) restored_ms: u64,
    pub(super) compared_ms: u64,
    pub(super) proved_ms: u64,
    pub(super) state_ms: u64,
}

impl OwnBack {
    /// The config that goes on, where it is not the one that was in its place.
    pub(super) fn config_read(&self) -> Option<&Path> {
        self.config.as_deref().filter(|_| !self.config_kept)
    }
}

/// Where everything goes.
struct Places {
    state: PathBuf,
    /// Beside the state directory, so that one rename puts it in place.
    staging: PathBuf,
}

impl Own {
    /// Brings it back; with it the disks that are held from now on.
    pub(super) fn bring_back(
        &self,
        context: &Context,
        login: &from::Login,
    ) -> Result<(OwnBack, Vec<HeldDisk>), CliError> {
        let begun = Instant::now();
        let named = context.named_state_dir()?;
        if let Some(state) = &named {
            is_free(state)?;
        }
        let scratch = tempfile::tempdir().map_err(CliError::machine)?;
        let vault = from::vault(&self.from, login, &self.password_file, scratch.path())?;
        let found = wire::block_on(vault.states(self.host.as_deref()))?.map_err(failed)?;
        let own = self.chosen(&vault.at, found)?;
        plain(&own)?;
        let state = match named {
            Some(state) => state,
            None => usual(&own)?,
        };
        is_free(&state)?;
        let _turn = turn(&state)?;
        let places = Places { staging: beside(&state), state };
        let recovered = self.recover(context, &vault, &own, &places, begun);
        // Whatever came of it: what is beside is in place, or for nothing.
        let cleared = remove(&places.staging);
        let recovered = recovered?;
        cleared.map_err(CliError::machine)?;
        Ok(recovered)
    }

    /// The snapshot that is meant.
    fn chosen(&self, at: &str, mut found: Vec<OwnState>) -> Result<OwnState, CliError> {
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
    ) -> Result<(OwnBack, Vec<HeldDisk>), CliError> {
        remove(&places.staging).map_err(CliError::machine)?;
        fresh(&places.staging).map_err(CliError::machine)?;
        let raw = places.staging.join("restored");
        let progress = drawn(context);
        let fetched = vault.fetch(&own.snapshot.id, &raw, &progress);
        let fetched = wire::block_on(fetched)?.map_err(failed)?;
        let staged = places.staging.join("state");
        let files = assemble(own, &raw, &staged)
            .map_err(|error| CliError::machine(error).hint("take an older one with --snapshot"))?;
        let proving = Instant::now();
        let report = journal::verify(&staged);
        let report =
            report.map_err(|it| CliError::from(it).hint("take an older one with --snapshot"))?;
        if report.head.seq == 0 {
            return Err(CliError::machine("the snapshot holds no event")
                .hint("take an older one with --snapshot"));
        }
        if let Some(checkpoint) = &self.checkpoint {
            holds(&staged, checkpoint, report.head.seq)?;
        }
        mirror(context, &staged)?;
        let known = wire::fold(&staged, Until::End)?;
        let proved_ms = millis(proving);
        let held = held(&known);
        let mut pools = pools_missing(&known, &held);
        pools.retain(|_| !self.make_pools);
        wire::block_on(note(&staged, own, &fetched, &known, &held, &pools))??;
        let config = install(files, context.named_config(), &staged, &places.state);
        let config = config.map_err(CliError::machine)?;
        put_in_place(&staged, &places.state).map_err(CliError::machine)?;
        let back = OwnBack {
            snapshot: own.snapshot.id.clone(),
            host: own.snapshot.host.clone(),
            taken: own.snapshot.time,
            last: report.head.seq,
            last_at: report.head.at,
            head: report.head.hash.to_string(),
            commit: known.spec.commit.as_ref().map(ToString::to_string),
            state_directory: places.state.clone(),
            config: config.at.map(|config| match config.strip_prefix(&staged) {
                Ok(inside) => places.state.join(inside),
                Err(_) => config.clone(),
            }),
            config_digest: config.digest,
            config_kept: config.kept.is_some(),
            config_why: config.kept,
            secrets: secrets(&known),
            secrets_missing: Vec::new(),
            files: fetched.files,
            bytes: fetched.bytes,
            restored_ms: fetched.restored_ms,
            compared_ms: fetched.compared_ms,
            proved_ms,
            state_ms: millis(begun),
        };
        Ok((back, held))
    }
}

/// Leaves a mirror away that is none: what the commit in force asks for is read out of it.
fn mirror(context: &Context, staged: &Path) -> Result<(), CliError> {
    let mirror = MirrorConfig::new("", "", staged).directory;
    if !mirror.exists() {
        return Ok(());
    }
    if let Err(error) = prove_restored(&mirror) {
        let said = "the mirror of the repository that came back is not used, and is cloned again";
        context.ui.warn(&format!("{said}: {error}"));
        remove(&mirror).map_err(CliError::machine)?;
    }
    Ok(())
}

/// Where the state goes when nobody names a place: to the usual one, and never to another that only the
/// snapshot names.
fn usual(own: &OwnState) -> Result<PathBuf, CliError> {
    let usual = Config::new("").state_directory();
    if own.state == usual {
        return Ok(usual);
    }
    let message = format!(
        "the snapshot is of a state in {}, and nothing on this host says that it belongs there",
        own.state.display()
    );
    let hint = format!("where it does, say so: `--state-dir {}`", own.state.display());
    Err(CliError::new(ErrorKind::Held, message).hint(hint))
}

fn failed(fault: Fault) -> CliError {
    CliError::new(ErrorKind::Machine, fault)
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

/// Writes into the log that it was brought back, and holds the disks that wait for their data.
async fn note(
    staged: &Path,
    own: &OwnState,
    fetched: &Fetched,
    known: &State,
    held: &[HeldDisk],
    pools: &BTreeSet<ResourceId>,
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
        held: held.iter().map(|held| &held.disk).chain(pools).cloned().collect(),
    };
    let hold = |id: &ResourceId, reason: String| {
        let besides = known.resources.get(id).and_then(|known| {
            let ours = known.lost_data.as_ref().is_some_and(|lost_data| !lost_data.held_besides);
            known.hold.as_ref().filter(|_| !ours)
        });
        let besides = besides.map(|hold| format!("; and {} holds it: {}", hold.by, hold.reason));
        let reason = reason + &besides.unwrap_or_default();
        Entry::new(Event::OperatorHeld(OperatorHeld { reason })).about(id)
    };
    let disks = held.iter().map(|held| {
        let disk = &held.disk;
        let reason = match &held.why_not {
            Some(why) => held.not_back(why),
            None => format!(
                "its data is in {}: `trueup recover disks` brings it back; if you did, `trueup \
                 release {disk}`",
                held.data_in()
            ),
        };
        hold(disk, reason)
    });
    // Whoever made its folder anew would hide what is mounted there later.
    let pools = pools.iter().map(|pool| {
        let folder = folder_of(known, pool).unwrap_or_default();
        let reason = format!(
            "its folder {} is not there, and disks in it wait for their data: mount it, then `trueup \
             recover disks`; where it is lost too, `trueup recover disks --make-pools`",
            folder.display()
        );
        hold(pool, reason)
    });
    let holds = disks.chain(pools);
    let first = Entry::new(Event::LogRecovered(recovered));
    let entries = std::iter::once(first).chain(holds).map(|entry| entry.by(&who)).collect();
    let appended = wire::append(&*log.port, entries).await;
    let appended = appended.map(|all| all.iter().for_each(|one| log.state.apply(one)));
    log.close();
    appended
}

#[cfg(test)]
mod tests {
    use super::super::place::tests::own;
    use super::*;

    #[test]
    fn a_state_goes_to_the_usual_place_or_to_one_that_somebody_names() {
        let own = |state: &str| OwnState { state: state.into(), ..own(&[]) };
        let place = Config::new("").state_directory();
        assert_eq!(usual(&own(place.to_str().unwrap())).unwrap(), place);
        let refused = usual(&own("/etc/ssh")).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Held);
        assert!(refused.hints[0].contains("--state-dir /etc/ssh"), "{refused:?}");
    }

    #[test]
    fn a_checkpoint_is_a_number_and_enough_digits() {
        let read = |text| checkpoint(text).map(|it| (it.seq, it.hash));
        assert_eq!(read("42:0123456789ab"), Ok((42, "0123456789ab".into())));
        assert_eq!(read("42 0123456789ab"), Ok((42, "0123456789ab".into())), "as it is shown");
        for wrong in ["42", "42:0123", "x:0123456789ab", "42:0123456789xy"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
