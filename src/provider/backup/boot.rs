//! The part of a drill that boots what came back of a guest: the time until it is up is part of what a
//! restore takes.

use std::path::Path;
use std::sync::Arc;

use super::BackupProvider;
use super::act::brief;
use super::drill::Wrong;
use super::job::Job;
use super::scratch::{BootTurn, Scratch};
use crate::model::backup::BackupDrilled;
use crate::model::resource::{BackupBoot, BackupSource, GuestPart, VirtualMachine};
use crate::model::{Fault, Kind, Name, Resource, ResourceId};
use crate::port::{BootWish, Booted, Guests, Progress, ProgressUpdate, Scope};

/// What a drill is to boot.
pub(super) struct Boot<'a> {
    guests: &'a Arc<dyn Guests>,
    provider: &'a BackupProvider,
    backup: &'a Name,
    part: &'a GuestPart,
    boot: &'a BackupBoot,
    spec: &'a VirtualMachine,
}

impl BackupProvider {
    /// Waits until no other drill boots anything: two would each take the room and the memory that the
    /// other one was shown to be free, and QEMU takes memory only as its guest does.
    pub(super) async fn turn_to_boot(&self, progress: &Progress) -> BootTurn {
        if let Ok(turn) = Arc::clone(&self.boots).try_lock_owned() {
            return turn;
        }
        let what = "waiting for another drill, which boots a machine".to_owned();
        progress(ProgressUpdate { what, done: 0, total: None });
        Arc::clone(&self.boots).lock_owned().await
    }
}

impl Job<'_> {
    /// What is to be booted, if anything is.
    pub(super) fn boot<'b>(&'b self, scope: &'b Scope) -> Result<Option<Boot<'b>>, Fault> {
        let boot = self.backup.drill.as_ref().and_then(|drill| drill.boot.as_ref());
        let (Some(boot), BackupSource::Guest(guest)) = (boot, &self.backup.source) else {
            return Ok(None);
        };
        let id = ResourceId::new(Kind::VirtualMachine, boot.machine.clone());
        let wish = scope.desired.resources.get(&id).map(|wish| &wish.resource);
        let Some(Resource::VirtualMachine(spec)) = wish else {
            return Err(Fault::transient(format!("{}: {id} is not asked for any more", self.id)));
        };
        let (guests, backup) = (self.provider.guests()?, &self.id.name);
        let provider = self.provider;
        Ok(Some(Boot { guests, provider, backup, part: &guest.part, boot, spec }))
    }
}

impl Boot<'_> {
    fn wish<'w>(&'w self, folder: &'w Path) -> BootWish<'w> {
        let Self { backup, part, boot, spec, .. } = *self;
        BootWish { backup, part, boot, spec, folder }
    }

    /// That it could be booted out of `folder`.
    pub(super) async fn may(&self, folder: &Path) -> Result<(), Fault> {
        self.guests.may_boot(&self.wish(folder)).await
    }

    /// Boots what is in the scratch folder; what is wrong with it.
    pub(super) async fn with(
        &self,
        scratch: &mut Scratch,
        drilled: &mut BackupDrilled,
        progress: &Progress,
    ) -> Result<Option<Wrong>, Fault> {
        let noted = scratch.boots_now(self.guests, self.backup, self.provider);
        noted.map_err(|error| {
            Fault::transient(format!(
                "backup/{}: that a drill boots something cannot be noted ({error}); nothing is \
                 booted without that",
                self.backup
            ))
        })?;
        match self.guests.boot(&self.wish(&scratch.folder), progress).await? {
            Booted::Up { up, notices } => {
                drilled.boot = Some(up);
                drilled.notices.extend(notices.iter().map(|it| brief(it)));
                Ok(None)
            }
            // It may quote what came back, which is as long as somebody made it.
            Booted::Down { why, console } => Ok(Some(Wrong::of_guest(brief(&why), console))),
        }
    }
}
