//! The data of held disks, out of the backups that have it, under the log's lock.
//!
//! For each disk it is in the log what is about to be done before anything is, and what came of it after.
//! Which data is taken is [`super::pick`]'s. A disk that does not come back keeps no other from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::super::context::Context;
use super::super::exit::{CliError, ErrorKind};
use super::super::wire::{self, HostClock, Written};
use super::super::{bars, control};
use super::pick::{Looked, Pick, others, pick};
use super::waiting::{HeldDisk, backups_of, folder_of, is_missing, only_a_part, part_in};
use crate::config::Config;
use crate::event::body::{OperatorReleased, RestoreFailed, Restored, Restoring};
use crate::event::{Entry, Event};
use crate::model::resource::{Backup, Disk};
use crate::model::{Kind, Name, Resource, ResourceId};
use crate::port::{Progress, ProgressUpdate};
use crate::provider::backup::{BackupProvider, DisksFound, LostDisk};
use crate::reconcile::StepProgress;
use crate::state::State;
use crate::view::backup::bytes;

/// Which disks, and from where; all of them from the newest where nothing is said.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) disks: Vec<ResourceId>,
    pub(super) backup: Option<Name>,
    pub(super) snapshot: Option<String>,
    /// Whether folders of disks are made that are not there.
    pub(super) make_pools: bool,
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
    /// The folder that was made for it, where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) made: Option<String>,
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
    if choice.lost(&known)?.is_empty() && pools(&known).next().is_none() {
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
        let done = work.bring(choice).await;
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

/// The pools that are held because their folders were not there, and for that alone.
fn pools(known: &State) -> impl Iterator<Item = &ResourceId> {
    let pools = known.resources.iter().filter(|(id, known)| {
        let alone = known.lost_data.as_ref().is_some_and(|lost_data| !lost_data.held_besides);
        id.kind == Kind::StoragePool && alone
    });
    pools.map(|(id, _)| id)
}

/// A backup as the log has it.
fn claimed<'s>(known: &'s State, id: &ResourceId) -> Option<&'s Backup> {
    match known.resources.get(id)?.claim.as_ref()?.resource.as_ref()? {
        Resource::Backup(backup) => Some(backup),
        _ => None,
    }
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
    /// Brings them back, and lets go of the pools whose folders are there then.
    async fn bring(&mut self, choice: &Choice) -> Result<(), CliError> {
        // Of this very log: until it was ours, another recovery may have gone on.
        let lost = choice.lost(&self.log.state)?;
        self.free_pools(false).await?;
        self.all(&lost, choice).await?;
        // Who names some disks says nothing of the folders of others: a look at the machine would make
        // them.
        self.free_pools(choice.make_pools && !choice.is_of_some()).await
    }

    async fn all(
        &mut self,
        lost: &BTreeMap<ResourceId, Disk>,
        choice: &Choice,
    ) -> Result<(), CliError> {
        let looked = self.look(lost, choice).await;
        for (id, disk) in lost {
            // Of those that cannot be looked at, those count that have it by the log.
            let by_log = backups_of(&self.log.state, id);
            let may = |of: &ResourceId| choice.names(id) || by_log.contains(of);
            match pick(&looked, id, may) {
                Pick::One(from) => match &from.found {
                    Ok(Some(found)) => {
                        let lost = LostDisk { id, disk };
                        self.one(lost, from, found, choice.make_pools).await?;
                    }
                    Ok(None) => {}
                    Err(fault) => {
                        let why = format!("{fault}{}", others(&looked, id));
                        self.not_back(id, disk, Some(from.of.clone()), why).await?;
                    }
                },
                Pick::Either { newer, why } => {
                    self.not_back(id, disk, Some(newer.of.clone()), why).await?;
                }
                // Who names a backup means the disks that it has.
                Pick::Nobody if choice.backup.is_some() && !choice.names(id) => {}
                Pick::Nobody => self.nowhere(id, disk, choice).await?,
            }
        }
        match self.restored.is_empty() && self.held.is_empty() {
            true => choice.nothing_in(&looked, lost),
            false => Ok(()),
        }
    }

    /// No backup has it, as far as it was looked for.
    async fn nowhere(
        &mut self,
        id: &ResourceId,
        disk: &Disk,
        choice: &Choice,
    ) -> Result<(), CliError> {
        let named = choice.backup_id();
        let part = part_in(&self.log.state, id);
        if let Some(part) = part.filter(|part| named.as_ref().is_none_or(|named| named == part)) {
            let why_not = Some(only_a_part(&part, id, &disk.path));
            let (disk, path, backup) = (id.clone(), disk.path.clone(), Some(part));
            return self.stays(HeldDisk { disk, backup, path, why_not, by_hand: true }).await;
        }
        let why = match (&choice.snapshot, named) {
            (Some(snapshot), Some(named)) => {
                format!("{named} has no snapshot {snapshot} with it")
            }
            (None, Some(named)) => format!("the newest snapshot of {named} does not have it"),
            (_, None) => "no newest snapshot of the backups that the log knows has it".to_owned(),
        };
        self.not_back(id, disk, None, why).await
    }

    /// Lets go of the pools whose folders are there by now, or are made.
    async fn free_pools(&mut self, make: bool) -> Result<(), CliError> {
        let known = &self.log.state;
        let there = |pool: &&ResourceId| {
            make || folder_of(known, pool).is_none_or(|folder| !is_missing(&folder))
        };
        let free: Vec<ResourceId> = pools(known).filter(there).cloned().collect();
        for pool in free {
            self.append(&pool, Event::OperatorReleased(OperatorReleased {})).await?;
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
        make_pool: bool,
    ) -> Result<(), CliError> {
        let LostDisk { id, disk } = lost;
        let around = Path::new(&disk.path).parent().filter(|it| make_pool && is_missing(it));
        let made = around.map(|folder| folder.display().to_string());
        let file = found.disks.get(id).map(|file| file.path().to_owned()).unwrap_or_default();
        let restoring = Restoring {
            backup: from.of.clone(),
            snapshot: found.snapshot.clone(),
            taken: found.taken,
            file,
            path: disk.path.clone(),
        };
        self.append(id, Event::Restoring(restoring)).await?;
        let progress = self.progress(id);
        let brought = self.provider.bring_back(from.which(), found, lost, make_pool, &progress);
        let brought = match brought.await {
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
            made,
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
        let backup = backup.or_else(|| backups_of(&self.log.state, id).into_iter().next());
        let (disk, path) = (id.clone(), disk.path.clone());
        self.stays(HeldDisk { disk, backup, path, why_not: Some(why), by_hand: false }).await
    }

    async fn stays(&mut self, held: HeldDisk) -> Result<(), CliError> {
        let why = held.why_not.clone().unwrap_or_default();
        self.context.ui.warn(&format!("{} is not back: {why}", held.disk));
        let failed = RestoreFailed { why: held.not_back(&why) };
        self.append(&held.disk, Event::RestoreFailed(failed)).await?;
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

    /// Whether only some of the disks that wait are meant.
    fn is_of_some(&self) -> bool {
        self.backup.is_some() || !self.disks.is_empty()
    }

    /// Whether it says both the disk and where it comes from.
    fn names(&self, disk: &ResourceId) -> bool {
        self.backup.is_some() && self.disks.contains(disk)
    }

    /// That nothing was done is a mistake where a backup is named for what it has.
    fn nothing_in(
        &self,
        looked: &[Looked],
        lost: &BTreeMap<ResourceId, Disk>,
    ) -> Result<(), CliError> {
        let Some(named) = self.backup_id().filter(|_| !lost.is_empty()) else { return Ok(()) };
        if let Some(fault) = looked.iter().find_map(|it| it.found.as_ref().err()) {
            return Err(CliError::new(ErrorKind::Machine, fault.clone()));
        }
        let waiting: Vec<_> = lost.keys().map(ToString::to_string).collect();
        let message = format!("{named} has none of the disks that wait: {}", waiting.join(", "));
        Err(CliError::input(message)
            .hint("without --backup each is taken from the backup that has its newest data"))
    }
}
