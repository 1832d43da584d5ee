//! The data of held disks, out of the backups that have it, under the log's lock.
//!
//! For each disk it is in the log what is about to be done before anything is, and what came of it after.
//! The newest data is taken, and an older one only where somebody names it: what keeps the newest from
//! coming back may be mended. A disk that does not come back keeps no other from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::super::context::Context;
use super::super::exit::{CliError, ErrorKind};
use super::super::time::shown;
use super::super::wire::{self, HostClock, Written};
use super::super::{bars, control};
use super::waiting::{HeldDisk, backups_of};
use crate::config::Config;
use crate::event::body::{RestoreFailed, Restored, Restoring};
use crate::event::{Entry, Event};
use crate::model::resource::{Backup, Disk};
use crate::model::{Fault, Kind, Name, Resource, ResourceId};
use crate::port::{Progress, ProgressUpdate};
use crate::provider::backup::{BackupProvider, DisksFound, LostDisk, Which};
use crate::reconcile::StepProgress;
use crate::state::State;
use crate::view::backup::bytes;

/// Which disks, and from where; all of them from the newest where nothing is said.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) disks: Vec<ResourceId>,
    pub(super) backup: Option<Name>,
    pub(super) snapshot: Option<String>,
}

/// A disk whose data is back.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RestoredDisk {
    pub(super) disk: ResourceId,
    pub(super) backup: ResourceId,
    pub(super) snapshot: String,
    /// When that was begun: what was written later is lost.
    pub(super) taken: Timestamp,
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) elapsed_ms: u64,
    /// It is held for another reason too.
    pub(super) still_held: bool,
}

/// Brings the disks back that wait for their data: those that are back, and those that are not.
pub(super) fn bring_back(
    context: &Context,
    config: &Config,
    choice: &Choice,
) -> Result<(Vec<RestoredDisk>, Vec<HeldDisk>), CliError> {
    let known = wire::known(&config.state_directory())?;
    let lost = choice.lost(&known)?;
    if lost.is_empty() {
        context.ui.say("no disk waits for its data");
        return Ok((Vec::new(), Vec::new()));
    }
    wire::block_on(async {
        let clock = Arc::new(HostClock::default());
        let log = wire::open_log(&config.state_directory(), &config.host(), clock).await;
        let log = log.map_err(|error| match error.kind {
            ErrorKind::Held => error.hint(
                "where the daemon runs, stop it first: `systemctl stop trueup`; start it once the \
                 disks are back",
            ),
            _ => error,
        })?;
        let mut work = Work {
            context,
            provider: wire::backups(config, &context.config_path()),
            draws: bars::progress(context.ui.progress()),
            who: control::operator_here(),
            log,
            restored: Vec::new(),
            held: Vec::new(),
        };
        let done = work.all(&lost, choice).await;
        work.log.close();
        done.map(|()| (work.restored, work.held))
    })?
}

impl Choice {
    /// The disks that wait for their data and are meant.
    fn lost(&self, known: &State) -> Result<BTreeMap<ResourceId, Disk>, CliError> {
        let waiting = known.resources.iter().filter(|(_, it)| it.lost_data.is_some());
        let disks = waiting.filter_map(|(id, it)| match it.claim.as_ref()?.resource.as_ref()? {
            Resource::Disk(disk) => Some((id.clone(), disk.clone())),
            _ => None,
        });
        let mut lost: BTreeMap<_, _> = disks.collect();
        if let Some(other) = self.disks.iter().find(|id| !lost.contains_key(*id)) {
            let waiting: Vec<_> = lost.keys().map(ToString::to_string).collect();
            let hint = match waiting.is_empty() {
                true => "no disk does".to_owned(),
                false => format!("these do: {}", waiting.join(", ")),
            };
            return Err(CliError::input(format!("{other} does not wait for its data")).hint(hint));
        }
        lost.retain(|id, _| self.disks.is_empty() || self.disks.contains(id));
        if let Some(name) = &self.backup {
            let id = ResourceId::new(Kind::Backup, name.clone());
            if claimed(known, &id).is_none() {
                return Err(CliError::input(format!("the log knows of no {id}"))
                    .hint("`trueup backup` shows those there are"));
            }
        }
        Ok(lost)
    }
}

/// A backup as the log has it.
fn claimed<'s>(known: &'s State, id: &ResourceId) -> Option<&'s Backup> {
    match known.resources.get(id)?.claim.as_ref()?.resource.as_ref()? {
        Resource::Backup(backup) => Some(backup),
        _ => None,
    }
}

/// A backup that may have data of lost disks, and what of it was found there.
struct Looked {
    of: ResourceId,
    backup: Backup,
    /// The id of its repository, where the log knows it.
    repository: Option<String>,
    /// When its newest complete snapshot was begun, by the log.
    good: Option<Timestamp>,
    found: Result<Option<DisksFound>, Fault>,
}

impl Looked {
    fn which(&self) -> Which<'_> {
        let repository = self.repository.as_deref();
        Which { id: &self.of, backup: &self.backup, repository }
    }

    /// How good its data of `disk` is; the best comes last. Of a machine with several lost disks all of
    /// one moment come first: disks of different moments may not fit each other.
    fn rank(&self, disk: &ResourceId) -> Option<(bool, Option<Timestamp>)> {
        match &self.found {
            Ok(Some(found)) => {
                let together = self.backup.is_of_machine() && found.disks.len() > 1;
                found.disks.contains_key(disk).then_some((together, Some(found.taken)))
            }
            Ok(None) => None,
            Err(_) => Some((false, self.good)),
        }
    }
}

/// The best of those that have, or may have, the data of `disk`.
fn best<'l>(
    all: &'l [Looked],
    disk: &ResourceId,
    may: impl Fn(&ResourceId) -> bool,
) -> Option<&'l Looked> {
    let candidates = all.iter().filter(|it| it.found.is_ok() || may(&it.of));
    candidates
        .filter_map(|it| Some((it.rank(disk)?, it)))
        .max_by(|(a, _), (b, _)| a.cmp(b))
        .map(|(_, it)| it)
}

/// Who else has the data of `disk`, though an older one.
fn others(all: &[Looked], disk: &ResourceId) -> String {
    let others = all.iter().filter_map(|it| {
        let found = it.found.as_ref().ok()?.as_ref()?;
        found.disks.contains_key(disk).then(|| {
            format!(
                "; {} has it of {}: `trueup recover disks {disk} --backup {}` takes that",
                it.of,
                shown(found.taken),
                it.of.name
            )
        })
    });
    others.collect()
}

struct Work<'a> {
    context: &'a Context,
    provider: BackupProvider,
    draws: Option<StepProgress>,
    who: String,
    log: Written,
    restored: Vec<RestoredDisk>,
    held: Vec<HeldDisk>,
}

impl Work<'_> {
    async fn all(
        &mut self,
        lost: &BTreeMap<ResourceId, Disk>,
        choice: &Choice,
    ) -> Result<(), CliError> {
        let looked = self.look(lost, choice).await;
        for (id, disk) in lost {
            // Of those that cannot be looked at, those count that have it by the log.
            let may = backups_of(&self.log.state, id);
            let may = |of: &ResourceId| choice.backup.is_some() || may.contains(of);
            let Some(from) = best(&looked, id, may) else {
                let why = match &choice.snapshot {
                    Some(snapshot) => format!("there is no snapshot {snapshot} with it"),
                    None => {
                        "no newest snapshot of the backups that the log knows has it".to_owned()
                    }
                };
                self.not_back(id, disk, choice.backup_id(), why).await?;
                continue;
            };
            match &from.found {
                Ok(Some(found)) => self.one(LostDisk { id, disk }, from, found).await?,
                Ok(None) => {}
                Err(fault) => {
                    let why = format!("{fault}{}", others(&looked, id));
                    self.not_back(id, disk, Some(from.of.clone()), why).await?;
                }
            }
        }
        Ok(())
    }

    /// Looks for the disks in every backup that may have one.
    async fn look(&self, lost: &BTreeMap<ResourceId, Disk>, choice: &Choice) -> Vec<Looked> {
        let known = &self.log.state;
        let ids: BTreeSet<ResourceId> = match choice.backup_id() {
            Some(named) => BTreeSet::from([named]),
            None => lost.keys().flat_map(|disk| backups_of(known, disk)).collect(),
        };
        let mut looked = Vec::new();
        for of in ids {
            let Some(backup) = claimed(known, &of).cloned() else { continue };
            let state = known.backup(&of);
            let (repository, good) = (state.repository, state.good.map(|good| good.at));
            let found = Ok(None);
            let mut one = Looked { of, backup, repository, good, found };
            let snapshot = choice.snapshot.as_deref();
            one.found = self.provider.find_disks(one.which(), snapshot, lost).await;
            looked.push(one);
        }
        looked
    }

    async fn one(
        &mut self,
        lost: LostDisk<'_>,
        from: &Looked,
        found: &DisksFound,
    ) -> Result<(), CliError> {
        let LostDisk { id, disk } = lost;
        let file = found.disks.get(id).map(|file| file.path().to_owned()).unwrap_or_default();
        let restoring = Restoring {
            backup: from.of.clone(),
            snapshot: found.snapshot.clone(),
            taken: found.taken,
            file,
            path: disk.path.clone(),
        };
        self.append(id, Event::Restoring(restoring)).await?;
        let brought = self.provider.bring_back(from.which(), found, lost, &self.progress(id)).await;
        let brought = match brought {
            Ok(brought) => brought,
            Err(fault) => {
                return self.not_back(id, disk, Some(from.of.clone()), fault.to_string()).await;
            }
        };
        let restored = Restored {
            backup: from.of.clone(),
            snapshot: found.snapshot.clone(),
            taken: found.taken,
            bytes: brought.bytes,
            elapsed_ms: brought.elapsed_ms,
        };
        self.append(id, Event::Restored(restored)).await?;
        if let Err(fault) = self.provider.clear_beside(lost).await {
            self.context.ui.warn(&format!("{id} is back; {fault}"));
        }
        self.context.ui.say(&format!("{id} is back: {}", bytes(brought.bytes)));
        let known = self.log.state.resources.get(id);
        self.restored.push(RestoredDisk {
            disk: id.clone(),
            backup: from.of.clone(),
            snapshot: found.snapshot.clone(),
            taken: found.taken,
            path: disk.path.clone(),
            bytes: brought.bytes,
            elapsed_ms: brought.elapsed_ms,
            still_held: known.is_some_and(|known| known.hold.is_some()),
        });
        Ok(())
    }

    /// It stays held, with the reason.
    async fn not_back(
        &mut self,
        id: &ResourceId,
        disk: &Disk,
        backup: Option<ResourceId>,
        why: String,
    ) -> Result<(), CliError> {
        self.context.ui.warn(&format!("{id} is not back: {why}"));
        let backup = backup.or_else(|| backups_of(&self.log.state, id).into_iter().next());
        let (disk, path) = (id.clone(), disk.path.clone());
        let held = HeldDisk { disk, backup, path, why_not: Some(why.clone()) };
        let said = format!(
            "its data is in {} and did not come back: {why}; then `trueup recover disks`, or bring \
             it back yourself and `trueup release {id}`",
            held.data_in()
        );
        self.append(id, Event::RestoreFailed(RestoreFailed { why: said })).await?;
        self.held.push(held);
        Ok(())
    }

    async fn append(&mut self, id: &ResourceId, event: Event) -> Result<(), CliError> {
        let entry = Entry::new(event).about(id).by(&self.who);
        for recorded in wire::append(&*self.log.port, vec![entry]).await? {
            self.log.state.apply(&recorded);
        }
        Ok(())
    }

    fn progress(&self, id: &ResourceId) -> Progress {
        let (draws, id) = (self.draws.clone(), id.clone());
        Arc::new(move |update: ProgressUpdate| {
            if let Some(draw) = &draws {
                draw(&id, update);
            }
        })
    }
}

impl Choice {
    fn backup_id(&self) -> Option<ResourceId> {
        self.backup.clone().map(|name| ResourceId::new(Kind::Backup, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resource::{BackupGuest, BackupLimits, BackupPaths, BackupSource, GuestPart};
    use crate::provider::backup::DiskFile;

    fn looked(name: &str, machine: bool, found: Result<(i64, &[&str]), i64>) -> Looked {
        let at = |second| Timestamp::from_second(second).unwrap();
        let guest = |part| BackupSource::Guest(BackupGuest { part, quiesce: false, read_all_s: 1 });
        let source = match machine {
            true => guest(GuestPart::Machine { name: Name::new("web").unwrap() }),
            false => BackupSource::Paths(BackupPaths {
                paths: vec!["/pool".into()],
                exclude: Vec::new(),
                one_file_system: false,
            }),
        };
        let backup = Backup {
            source,
            repository: "/vault".into(),
            remote: None,
            repository_id: None,
            key: Name::new("vault").unwrap(),
            schedule: None,
            verify: None,
            drill: None,
            retention: None,
            objectives: Default::default(),
            limits: BackupLimits::default(),
            hooks: Default::default(),
        };
        let (good, found) = match found {
            Err(good) => (Some(at(good)), Err(Fault::permanent("the key is wrong"))),
            Ok((taken, disks)) => {
                let file = |id: &&str| (id.parse().unwrap(), DiskFile::Content("x".into()));
                let disks = disks.iter().map(file).collect();
                let taken = at(taken);
                (None, Ok(Some(DisksFound { snapshot: "a".repeat(64), taken, disks })))
            }
        };
        Looked {
            of: ResourceId::new(Kind::Backup, Name::new(name).unwrap()),
            backup,
            repository: None,
            good,
            found,
        }
    }

    #[test]
    fn the_newest_is_taken_and_all_of_a_machine_before_a_single_one() {
        let a: ResourceId = "disk/a".parse().unwrap();
        let rank = |all: &[Looked]| {
            let ranked = all.iter().filter_map(|it| Some((it.rank(&a)?, it.of.name.to_string())));
            ranked.max().map(|(_, name)| name)
        };
        let (both, other): (&[&str], &[&str]) = (&["disk/a", "disk/b"], &["disk/b"]);
        let only: &[&str] = &["disk/a"];
        let old = || looked("old", false, Ok((1, both)));
        let new = || looked("new", false, Ok((9, only)));
        assert_eq!(rank(&[old(), new()]).as_deref(), Some("new"));
        assert_eq!(rank(&[new(), looked("vm", true, Ok((5, both)))]).as_deref(), Some("vm"));
        let single = looked("vm", true, Ok((5, only)));
        assert_eq!(rank(&[new(), single]).as_deref(), Some("new"));
        assert_eq!(rank(&[looked("other", false, Ok((9, other)))]), None);
        // An older one is no substitute for what only cannot be read now.
        assert_eq!(rank(&[old(), looked("shut", false, Err(7))]).as_deref(), Some("shut"));
        assert_eq!(rank(&[new(), looked("shut", false, Err(7))]).as_deref(), Some("new"));
    }
}
