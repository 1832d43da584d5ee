//! Takes away what backups made in guests: right after one, or when its note is found later.
//!
//! Only what a note names is touched, and only if it still bears our name.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use trueup_libvirt::{Client, Code, DomainRecord};

use super::super::fault;
use super::super::xml::backup as xml;
use super::note::{self, Note, UnderWay};
use super::running::thaw;
use super::{LibvirtGuests, off, unnoted};
use crate::model::{Fault, Name};

/// How the names of our files beside disks begin.
pub(super) const SCRATCH: &str = ".trueup-";

/// How long a job may take to end: QEMU closes its files.
const END_LIMIT: Duration = Duration::from_secs(60);
/// How often is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl LibvirtGuests {
    /// Takes away what `backup` left behind in mid-work, and with `wholly` all that it has. Whoever
    /// calls holds its lock.
    pub(super) async fn clear_up(&self, backup: &Name, wholly: bool) -> Result<bool, Fault> {
        let mut cleared = false;
        for note in self.notes.of(backup).map_err(|error| unnoted(&error))? {
            cleared |= self.clear_one(backup, note, wholly).await?;
        }
        Ok(cleared)
    }

    /// Takes away what a note names, and then what is noted.
    pub(super) async fn clear_one(
        &self,
        backup: &Name,
        mut note: Note,
        wholly: bool,
    ) -> Result<bool, Fault> {
        if note.under_way.is_none() && !wholly {
            return Ok(false);
        }
        let record = self.guest_of(&note).await?;
        if let Some(under_way) = &note.under_way {
            if let Some(record) = record.as_ref().filter(|record| record.active) {
                self.end_job(record, under_way).await?;
            }
            // Those elsewhere are QEMU's, and went with the job.
            let folder = self.notes.folder(backup);
            for socket in under_way.sockets.iter().filter(|it| it.starts_with(&folder)) {
                dismiss(socket)?;
            }
            for scratch in &under_way.scratch {
                let name = scratch.file_name().unwrap_or_default();
                if name.to_string_lossy().starts_with(SCRATCH) {
                    note::remove(scratch).map_err(|error| unnoted(&error))?;
                }
            }
        }
        let made = note.under_way.take().and_then(|under_way| under_way.mark);
        let kept = if wholly { note.kept.take() } else { None };
        if let Some(record) = &record {
            for mark in made.iter().chain(&kept).filter(|mark| note::is_mark_of(mark, backup)) {
                self.forget_mark(&record.name, mark, record.active).await?;
            }
        }
        self.notes.keep(backup, &note).map_err(|error| unnoted(&error))?;
        Ok(true)
    }

    /// The guest that a note is about, if it is still there.
    async fn guest_of(&self, note: &Note) -> Result<Option<DomainRecord>, Fault> {
        if note.guest.is_empty() {
            return Ok(None);
        }
        match self.client.domain(&note.guest).await {
            Ok(record) => Ok(Some(record).filter(|record| record.uuid == note.uuid)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(fault::step(format!("looking at vm/{}", note.guest), &error)),
        }
    }

    /// Thaws, and ends a job of ours, in the start of the guest that they were begun in.
    async fn end_job(&self, record: &DomainRecord, under_way: &UnderWay) -> Result<(), Fault> {
        let guest = &record.name;
        let number = record.live_xml.as_deref().map(xml::domain_number).transpose();
        let number = number.map_err(|error| fault::xml(format!("reading vm/{guest}"), &error))?;
        if number.flatten() != under_way.number {
            return Ok(());
        }
        if under_way.freezes {
            let thawed = thaw(&self.client, guest).await;
            thawed.map_err(|error| fault::step(format!("thawing vm/{guest}"), &error))?;
        }
        let mut ours = false;
        for socket in &under_way.sockets {
            ours |= self.job_runs(guest, socket).await?;
        }
        if !ours {
            return Ok(());
        }
        match self.client.abort_job(guest).await {
            Ok(()) => {}
            // It ended by itself.
            Err(error) if error.code == Code::OperationInvalid => {}
            Err(error) => {
                return Err(fault::step(format!("ending the backup job of vm/{guest}"), &error));
            }
        }
        let deadline = Instant::now() + END_LIMIT;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let job = self.client.backup_job(guest).await;
            let job = job.map_err(|error| {
                fault::step(format!("looking at the jobs of vm/{guest}"), &error)
            })?;
            if job.is_none() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Fault::transient(format!(
                    "the backup job of vm/{guest} does not end; it is ended again later (`virsh \
                     domjobabort {guest}`)"
                )));
            }
        }
    }

    /// Removes all marks that backups of ours have in a guest. The next backup of each reads
    /// everything.
    pub(in super::super) async fn forget_marks_in(
        client: &Client,
        record: &DomainRecord,
    ) -> Result<(), Fault> {
        let guests = Self::new(client.clone(), PathBuf::new());
        // A driver without checkpoints has none.
        let Ok(marks) = guests.marks(&record.name).await else { return Ok(()) };
        for mark in marks.iter().filter(|mark| mark.starts_with(note::MARK)) {
            guests.forget_mark(&record.name, mark, record.active).await?;
        }
        Ok(())
    }

    /// Removes a mark with what the disks note for it.
    pub(super) async fn forget_mark(
        &self,
        guest: &str,
        mark: &str,
        runs: bool,
    ) -> Result<(), Fault> {
        let failed =
            |error| fault::step(format!("removing checkpoint {mark} of vm/{guest}"), &error);
        if runs {
            match self.client.delete_checkpoint(guest, mark, false).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_absent() => return Ok(()),
                Err(error) if error.is_transient() => return Err(failed(error)),
                // Its bitmaps are gone: an emulator that was killed does not store them.
                Err(error) => tracing::debug!(guest, mark, %error, "only forgotten"),
            }
        } else {
            let noted = match self.noted(guest, mark).await {
                Ok(noted) => noted,
                Err(_) if !self.marks(guest).await?.iter().any(|there| there == mark) => {
                    return Ok(());
                }
                Err(fault) => return Err(fault),
            };
            for path in noted.into_values().filter(|path| path.exists()) {
                off::remove_bitmap(&path, mark).await?;
            }
        }
        match self.client.delete_checkpoint(guest, mark, true).await {
            Err(error) if !error.is_absent() => Err(failed(error)),
            Err(_) | Ok(()) => Ok(()),
        }
    }
}

/// Ends a server that waits for its only client, by being that.
fn dismiss(socket: &Path) -> Result<(), Fault> {
    match UnixStream::connect(socket) {
        Ok(client) => drop(client),
        // Nobody listens there any more, or never did.
        Err(error) => tracing::debug!(socket = %socket.display(), %error, "no server"),
    }
    note::remove(socket).map_err(|error| unnoted(&error))
}
