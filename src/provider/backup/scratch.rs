//! The folder of a drill: made empty, locked, and removed again, with what may run on its content.
//!
//! Nothing of another name in the scratch place is touched. What a kill left is found and removed by the
//! next process ([`BackupProvider::sweep`]): a machine by the note in its lock, files by their names. So is,
//! by a later look of the same process, a machine that could not be ended: its files stay until it is.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tokio::time::timeout;

use super::held::Closing;
use super::{BackupProvider, BackupSetup, room};
use crate::model::{Fault, Name};
use crate::port::Guests;
use crate::provider::paths::{named, private, remove};

/// What our folders in the scratch place are called, before the backup's name: only these are ever
/// removed, wherever somebody put the scratch place.
const PREFIX: &str = "trueup-drill-";
/// Room that a drill leaves on the scratch place's disk, bytes: the log may lie on the same one.
const ROOM_LEFT: u64 = 64 << 20;
/// The same where the disks of guests may lie, which stop where there is none; the copy that is booted
/// writes too.
const ROOM_LEFT_TO_GUESTS: u64 = 512 << 20;
/// The note in the lock of a drill whose machine may be there.
const BOOTED: &[u8] = b"boot\n";
/// How long a look waits for what drills left to be removed, which goes on beside it: libvirt may hang,
/// and a folder may be large.
const SWEEP_WAIT: Duration = Duration::from_secs(5);

/// That no other drill boots anything, as [`BackupProvider::turn_to_boot`] gives it.
pub(super) type BootTurn = OwnedMutexGuard<()>;

/// A folder that a drill has for itself, as long as it has the lock.
pub(super) struct Scratch {
    pub(super) folder: PathBuf,
    pub(super) lock: Option<File>,
    boots: bool,
    /// Held until its machine and its folder are gone.
    alone: Option<BootTurn>,
    /// The machine that may run on what is in it.
    machine: Option<Running>,
}

/// A machine that may run, and who ends it.
struct Running {
    guests: Arc<dyn Guests>,
    name: Name,
    closing: Closing,
    /// Whether nothing has to be looked for any more.
    swept: Arc<Mutex<bool>>,
}

impl Drop for Scratch {
    /// A drill that was given up: its machine and its folder go without anybody waiting for it. Where the
    /// process ends first, the next one removes them; where the machine does not end, a later look.
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        let alone = self.alone.take();
        let folder = std::mem::take(&mut self.folder);
        let files = move || {
            if let Err(error) = remove(&folder) {
                tracing::warn!(%error, "what a drill left cannot be removed yet");
            }
        };
        match self.machine.take() {
            // Whoever stops the program waits for it.
            Some(Running { guests, name, closing, swept }) => closing.spawn(async move {
                if !end(&guests, &name, &lock).await {
                    // It may have its files open. Whoever sweeps finds them by the note.
                    drop((lock, alone));
                    *swept.lock().await = false;
                    return;
                }
                // The lock goes last.
                let gone = tokio::task::spawn_blocking(move || {
                    files();
                    drop((lock, alone));
                });
                if let Err(error) = gone.await {
                    tracing::warn!(%error, "what a drill left cannot be removed yet");
                }
            }),
            None => {
                std::thread::spawn(move || {
                    let _held = (lock, alone);
                    files();
                });
            }
        }
    }
}

/// Ends a machine, and takes the note about it away; whether both are gone. What is not is tried again by a
/// later look.
async fn end(guests: &Arc<dyn Guests>, name: &Name, lock: &File) -> bool {
    let ended = guests.end_boot(name).await.map_err(|fault| fault.to_string());
    let ended = ended.and_then(|_| lock.set_len(0).map_err(|error| error.to_string()));
    if let Err(error) = &ended {
        tracing::warn!(backup = %name, error, "what a drill booted cannot be ended yet");
    }
    ended.is_ok()
}

impl Scratch {
    /// Makes it, empty; `None`: another process has it. `alone`: something is booted out of it.
    pub(super) fn take(
        setup: &BackupSetup,
        name: &Name,
        alone: Option<BootTurn>,
    ) -> io::Result<Option<Self>> {
        let Some(lock) = lock(setup, name.as_str())? else { return Ok(None) };
        let boots = alone.is_some();
        let place = place(setup, boots);
        if boots {
            passable(place)?
        } else {
            private(place)?
        }
        let folder = place.join(format!("{PREFIX}{name}"));
        remove(&folder)?;
        private(&folder)?;
        Ok(Some(Self { folder, lock: Some(lock), boots, alone, machine: None }))
    }

    /// The folder that it is in.
    pub(super) fn place<'s>(&self, setup: &'s BackupSetup) -> &'s Path {
        place(setup, self.boots)
    }

    /// Room that it has to leave on its disk, bytes.
    pub(super) fn room_left(&self) -> u64 {
        if self.boots { ROOM_LEFT_TO_GUESTS } else { ROOM_LEFT }
    }

    /// A machine is about to run on what is in it: noted first, so that it is found after a crash.
    pub(super) fn boots_now(
        &mut self,
        guests: &Arc<dyn Guests>,
        name: &Name,
        provider: &BackupProvider,
    ) -> io::Result<()> {
        if let Some(lock) = &mut self.lock {
            lock.write_all(BOOTED)?;
            lock.sync_all()?;
        }
        self.machine = Some(Running {
            guests: Arc::clone(guests),
            name: name.clone(),
            closing: provider.closing.clone(),
            swept: Arc::clone(&provider.swept),
        });
        Ok(())
    }

    /// Ends the machine that runs on what is in it, if there is one.
    pub(super) async fn end_machine(&mut self) -> Result<(), Fault> {
        let Some(Running { guests, name, .. }) = &self.machine else { return Ok(()) };
        guests.end_boot(name).await?;
        if let Some(lock) = &self.lock {
            let unnoted = lock.set_len(0);
            unnoted.map_err(|error| Fault::transient(format!("the note of a drill: {error}")))?;
        }
        self.machine = None;
        Ok(())
    }

    /// Bytes that may be written into it.
    pub(super) fn free(&self) -> io::Result<u64> {
        room::free(&self.folder)
    }
}

/// Where drills restore to.
fn place(setup: &BackupSetup, boots: bool) -> &Path {
    if boots { &setup.scratch_of_guests } else { &setup.scratch }
}

/// The lock on the drill of one backup, on a file that is never removed; `None`: somebody has it.
fn lock(setup: &BackupSetup, name: &str) -> io::Result<Option<File>> {
    private(&setup.folder)?;
    let path = setup.folder.join(format!("drill-{name}.lock"));
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| named(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(named(&path, &error)),
    }
}

/// A folder that everybody is let through, and nobody but root may look into.
fn passable(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        // The mode that it has is somebody's will.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made
            .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o711)))
            .map_err(|error| named(folder, &error)),
    }
}

impl BackupProvider {
    /// Ends and removes what drills of processes that are no more left behind, once. It only takes room:
    /// what cannot be removed is no reason to look at nothing. A machine that is not ended is tried again
    /// with the next look.
    pub(super) async fn sweep(&self) {
        // An earlier look began it otherwise.
        let Ok(mut swept) = Arc::clone(&self.swept).try_lock_owned() else { return };
        if *swept {
            return;
        }
        let (ending, ended) = oneshot::channel::<()>();
        let provider = self.clone();
        // On a task of its own: a look that is cut off leaves it to nobody.
        self.closing.spawn(async move {
            *swept = provider.sweep_now().await;
            drop((swept, ending));
        });
        if timeout(SWEEP_WAIT, ended).await.is_err() {
            tracing::info!("what drills left is still being removed");
        }
    }

    /// Whether there is nothing left to be tried again.
    async fn sweep_now(&self) -> bool {
        let setup = Arc::clone(&self.setup);
        let machines = tokio::task::spawn_blocking(move || booted(&setup)).await;
        let machines = machines.map_err(|error| error.to_string());
        let machines = machines.and_then(|found| found.map_err(|error| error.to_string()));
        let mut done = machines.is_ok();
        if let Err(error) = &machines {
            tracing::warn!(error, "what a drill booted cannot be looked for");
        }
        for (name, lock) in machines.unwrap_or_default() {
            let Ok(guests) = self.guests() else { continue };
            tracing::info!(backup = %name, "what a drill booted is ended");
            done &= end(guests, &name, &lock).await;
        }
        let setup = Arc::clone(&self.setup);
        let files = tokio::task::spawn_blocking(move || sweep(&setup)).await;
        let files = files.map_err(|error| error.to_string());
        let files = files.and_then(|swept| swept.map_err(|error| error.to_string()));
        if let Err(error) = files {
            tracing::warn!(error, "what a drill left cannot be removed");
        }
        done
    }
}

/// The backups whose drills noted that they boot something and are no more, with their locks.
fn booted(setup: &BackupSetup) -> io::Result<Vec<(Name, File)>> {
    let entries = match fs::read_dir(&setup.folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(named(&setup.folder, &error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let file_name = entry.file_name();
        let name = file_name.to_str().and_then(|name| name.strip_prefix("drill-"));
        let name = name.and_then(|name| Name::new(name.strip_suffix(".lock")?).ok());
        let Some(name) = name else { continue };
        if entry.metadata().is_ok_and(|note| note.len() > 0)
            && let Some(lock) = lock(setup, name.as_str())?
        {
            found.push((name, lock));
        }
    }
    Ok(found)
}

/// Removes what drills of processes that are no more left behind.
///
/// # Errors
/// It cannot be looked for, or not be removed; the path is in the error.
fn sweep(setup: &BackupSetup) -> io::Result<()> {
    sweep_in(setup, &setup.scratch)?;
    if setup.scratch_of_guests == setup.scratch {
        return Ok(());
    }
    sweep_in(setup, &setup.scratch_of_guests)
}

fn sweep_in(setup: &BackupSetup, place: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(named(place, &error)),
    };
    for entry in entries {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        if let Some(lock) = lock(setup, name)? {
            if lock.metadata()?.len() > 0 {
                // A machine may run on it, which is ended first.
                continue;
            }
            tracing::info!(folder = %entry.path().display(), "what a drill left is removed");
            remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
