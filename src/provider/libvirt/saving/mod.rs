//! The disks of guests, made readable for backups: of a running one by a backup job in pull mode, of
//! one that is off by a read-only NBD server.
//!
//! No guest is stopped, and no layer is ever put under one: what a guest overwrites meanwhile is copied
//! aside by QEMU, and gone with the job. Everything is noted before it is made, and bears the backup's
//! name; nothing else is touched.

mod clear;
mod note;
mod off;
mod place;
mod running;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use trueup_libvirt::{Client, Error};

use self::clear::Cleared;
use self::note::{Lock, Note, Notes};
use super::fault;
use crate::model::resource::{Accelerator, BackupDefinition};
use crate::model::{Fault, Kind, Name};
use crate::port::{BootWish, Booted, BoxFuture, GuestLeft, GuestWish, Guests, OpenGuest, Progress};

/// Where libvirt keeps a folder for each running domain of the system's QEMU, which QEMU may write to
/// also where AppArmor confines it (`virt-aa-helper`).
const DOMAINS: &str = "/var/lib/libvirt/qemu";

/// How long somebody may look at what a backup has in guests; the lock is held meanwhile.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// How often a lock is tried that is held.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// Reads the disks of the guests of one libvirt, and boots copies of them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LibvirtGuests {
    pub(super) client: Client,
    /// What executes copies.
    pub(super) accelerator: Accelerator,
    notes: Notes,
    domains: PathBuf,
    turns: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// What is held between the opening of disks and their closing.
struct Session {
    backup: Name,
    /// What has to be taken away again.
    note: Note,
    /// The mark of an earlier time that stays unless there is a new one.
    base: Option<String>,
    reads: Reads,
    _lock: Lock,
    /// A domain has one job at a time.
    _turn: OwnedMutexGuard<()>,
}

/// How disks are read.
enum Reads {
    /// By a job of a running domain.
    Job {
        /// The socket that the job serves them at.
        socket: PathBuf,
    },
    /// From their files.
    Files {
        /// Each file with what it looked like.
        seen: Vec<(PathBuf, off::Look)>,
    },
}

impl LibvirtGuests {
    /// On a client, with a private folder of this host for notes.
    #[must_use]
    pub fn new(client: Client, folder: PathBuf) -> Self {
        Self {
            client,
            accelerator: Accelerator::Tcg,
            notes: Notes::new(folder),
            domains: PathBuf::from(DOMAINS),
            turns: Arc::default(),
        }
    }

    /// The same where copies are executed so.
    #[must_use]
    pub fn with_accelerator(self, accelerator: Accelerator) -> Self {
        Self { accelerator, ..self }
    }

    /// Whose copies are ours: those of whoever has this folder.
    pub(super) fn place(&self) -> String {
        self.notes.place()
    }

    /// Waits until nobody else reads the guest of this name.
    async fn turn(&self, guest: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(guest.to_owned()).or_default())
        };
        turn.lock_owned().await
    }

    /// Takes the lock of a backup. A look has it too, for a moment: that alone must not end a run.
    async fn lock(&self, backup: &Name) -> Result<Lock, Fault> {
        let deadline = Instant::now() + LOOK_MAX;
        let mut tries = tokio::time::interval(TRY_EVERY);
        loop {
            tries.tick().await;
            let lock = self.notes.lock(backup).map_err(|error| unnoted(&error))?;
            if let Some(lock) = lock {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(Fault::transient(format!(
                    "backup/{backup} is being taken already; it is waited for"
                )));
            }
        }
    }

    async fn open_now(&self, wish: &GuestWish) -> Result<OpenGuest, Fault> {
        let backup = &wish.backup.name;
        let lock = self.lock(backup).await?;
        let cleared = self.clear_up(backup, false).await?;
        let first = self.find(&wish.guest.part).await?;
        let turn = self.turn(first.guest()).await;
        // It may have been started or stopped while others were waited for.
        let place = self.find(&wish.guest.part).await?;
        if place.guest() != first.guest() {
            return Err(Fault::transient(format!(
                "{} went from one guest to another; it is looked at again",
                wish.guest.part.id()
            )));
        }
        let mut frozen = cleared.frozen;
        // What is noted in another guest is of no use any more.
        for note in self.notes.of(backup).map_err(|error| unnoted(&error))? {
            if note.uuid != place.uuid() {
                frozen = self.clear_one(backup, note, true).await?.frozen.or(frozen);
            }
        }
        // Where nothing is to be frozen, an agent that does not answer keeps nothing from being saved.
        if let Some(fault) = frozen {
            if wish.guest.quiesce {
                return Err(fault);
            }
            tracing::warn!(%backup, %fault, "saved as it is");
        }
        let opened = if place.runs() {
            self.open_running(wish, &place, lock, turn).await
        } else {
            self.open_off(wish, &place, lock, turn).await
        };
        match opened {
            Ok(open) => Ok(open),
            Err(fault) => {
                // Both the lock and the turn are gone with the failure.
                if let Ok(_lock) = self.lock(backup).await
                    && let Err(error) = self.clear_up(backup, false).await.and_then(Cleared::wholly)
                {
                    tracing::warn!(%backup, %error, "a backup that failed left something behind");
                }
                Err(fault)
            }
        }
    }

    async fn close_now(&self, open: OpenGuest, stored: bool) -> Result<(), Fault> {
        let session = open.held.downcast::<Session>().map_err(|_| {
            Fault::permanent(
                "a backup was closed that was not opened here: this is a mistake of trueup, please \
                 report it",
            )
        })?;
        let Session { backup, mut note, base, .. } = *session;
        let made = note.under_way.as_ref().and_then(|under_way| under_way.mark.clone());
        let (keep, drop) = match (stored, made) {
            (true, Some(made)) => (Some(made), base),
            (true, None) => (base, None),
            (false, made) => (base, made),
        };
        // From here on the mark that is kept is known, whatever happens.
        note.kept = keep.clone();
        if let Some(under_way) = &mut note.under_way {
            under_way.mark = drop.filter(|mark| keep.as_ref() != Some(mark));
        }
        self.notes.keep(&backup, &note).map_err(|error| unnoted(&error))?;
        self.clear_one(&backup, note, false).await?.wholly().map(|_| ())
    }

    async fn defined(&self, of: &BackupDefinition) -> Result<String, Fault> {
        let name = of.of.name.as_str();
        let failed =
            |error: Error| fault::step(format!("reading the definition of {}", of.of), &error);
        match of.of.kind {
            Kind::VirtualMachine => {
                self.client.domain(name).await.map(|it| it.inactive_xml).map_err(failed)
            }
            Kind::Network => {
                self.client.network(name).await.map(|it| it.inactive_xml).map_err(failed)
            }
            _ => Err(Fault::permanent(format!(
                "libvirt has no {}: this is a mistake of trueup, please report it",
                of.of
            ))),
        }
    }

    fn told(&self) -> std::io::Result<Vec<GuestLeft>> {
        let mut left = Vec::new();
        for backup in self.notes.backups()? {
            // Whoever holds it takes it away.
            let Some(_lock) = self.notes.lock(&backup)? else { continue };
            let notes = self.notes.of(&backup)?;
            left.extend(notes.into_iter().map(|note| GuestLeft {
                backup: backup.clone(),
                unfinished: note.under_way.is_some(),
                only_frozen: note.only_frozen(),
                guest: note.guest,
            }));
        }
        Ok(left)
    }
}

fn unnoted(error: &std::io::Error) -> Fault {
    Fault::transient(format!(
        "what a backup has in a guest cannot be noted ({error}); nothing is done without that"
    ))
}

impl Guests for LibvirtGuests {
    fn open<'a>(&'a self, wish: &'a GuestWish) -> BoxFuture<'a, Result<OpenGuest, Fault>> {
        Box::pin(self.open_now(wish))
    }

    fn confirm<'a>(&'a self, open: &'a OpenGuest) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            match open.held.downcast_ref::<Session>() {
                Some(session) => self.still_whole(&open.what, session).await,
                None => Err(Fault::permanent("a backup was confirmed that was not opened here")),
            }
        })
    }

    fn close(&self, open: OpenGuest, stored: bool) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.close_now(open, stored))
    }

    fn left(&self) -> BoxFuture<'_, Result<Vec<GuestLeft>, Fault>> {
        Box::pin(async move {
            let this = self.clone();
            let told = tokio::task::spawn_blocking(move || this.told()).await;
            let told = told.map_err(|error| Fault::transient(error.to_string()))?;
            told.map_err(|error| Fault::unobservable(format!("notes about guests: {error}")))
        })
    }

    fn clear<'a>(&'a self, backup: &'a Name, wholly: bool) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            let _lock = self.lock(backup).await?;
            self.clear_up(backup, wholly).await?.wholly()
        })
    }

    fn definition<'a>(&'a self, of: &'a BackupDefinition) -> BoxFuture<'a, Result<String, Fault>> {
        Box::pin(self.defined(of))
    }

    fn may_boot<'a>(&'a self, wish: &'a BootWish<'a>) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.may_boot_now(wish))
    }

    fn boot<'a>(
        &'a self,
        wish: &'a BootWish<'a>,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Booted, Fault>> {
        Box::pin(self.boot_now(wish, progress))
    }

    fn end_boot<'a>(&'a self, backup: &'a Name) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(self.end_boot_now(backup))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guests(folder: &std::path::Path) -> LibvirtGuests {
        // Nothing connects before the first call, and none is made.
        let client = Client::new(trueup_libvirt::Options::new("test:///default"));
        LibvirtGuests::new(client, folder.to_owned())
    }

    #[tokio::test]
    async fn a_look_does_not_keep_a_backup_from_being_taken() {
        let folder = tempfile::tempdir().unwrap();
        let guests = guests(folder.path());
        let web = Name::new("web").unwrap();
        let looking = guests.lock(&web).await.unwrap();
        let (taken, ()) = tokio::join!(guests.lock(&web), async {
            tokio::time::sleep(TRY_EVERY).await;
            drop(looking);
        });
        let taken = taken.unwrap();
        let refused = guests.lock(&web).await.unwrap_err();
        assert!(refused.to_string().contains("backup/web is being taken"), "{refused}");
        drop(taken);
    }
}
