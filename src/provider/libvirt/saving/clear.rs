//! Takes away what backups made in guests: right after one, or when its note is found later.
//!
//! Only what a note names is touched, and only if it still bears our name.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use trueup_libvirt::{Client, Code, DomainRecord, Error};

use super::super::fault;
use super::super::xml::backup as xml;
use super::note::{self, Note, UnderWay};
use super::running::{thaw, unthawed};
use super::{LibvirtGuests, off, unnoted};
use crate::model::{Fault, Name};

/// How the names of our files beside disks begin.
pub(super) const SCRATCH: &str = ".trueup-";

/// How long a job may take to end: QEMU closes its files.
const END_LIMIT: Duration = Duration::from_secs(60);
/// How long libvirt may still begin a job that it was asked for: it waits 30 s for a domain that
/// somebody else is busy with (`QEMU_JOB_WAIT_TIME`, qemu_domainjob.c).
const BEGIN_MAX: Duration = Duration::from_secs(35);
/// How often is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What was cleared up.
#[derive(Debug, Default)]
pub(super) struct Cleared {
    /// Whether there was anything.
    pub(super) any: bool,
    /// Why a guest may still be frozen; nothing else is left then.
    pub(super) frozen: Option<Fault>,
}

impl Cleared {
    /// Whether there was anything, where nothing at all may be left.
    pub(super) fn wholly(self) -> Result<bool, Fault> {
        self.frozen.map_or(Ok(self.any), Err)
    }
}

impl LibvirtGuests {
    /// Takes away what `backup` left behind in mid-work, and with `wholly` all that it has. Whoever
    /// calls holds its lock.
    pub(super) async fn clear_up(&self, backup: &Name, wholly: bool) -> Result<Cleared, Fault> {
        let mut all = Cleared::default();
        for note in self.notes.of(backup).map_err(|error| unnoted(&error))? {
            let one = self.clear_one(backup, note, wholly).await?;
            all.any |= one.any;
            all.frozen = all.frozen.or(one.frozen);
        }
        Ok(all)
    }

    /// Takes away what a note names, and then what is noted.
    pub(super) async fn clear_one(
        &self,
        backup: &Name,
        mut note: Note,
        wholly: bool,
    ) -> Result<Cleared, Fault> {
        if note.under_way.is_none() && !wholly {
            return Ok(Cleared::default());
        }
        let mut frozen = None;
        let record = self.guest_of(&note).await?;
        if let Some(under_way) = &note.under_way {
            if let Some(record) = record.as_ref().filter(|record| record.active) {
                frozen = self.end_job(record, under_way).await?;
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
        let under_way = note.under_way.take();
        if frozen.is_some() {
            // All that is known of it from now on: whatever else there was is gone.
            note.under_way = under_way.as_ref().and_then(UnderWay::frozen);
        }
        let made = under_way.and_then(|under_way| under_way.mark);
        let kept = if wholly { note.kept.take() } else { None };
        if let Some(record) = &record {
            for mark in made.iter().chain(&kept).filter(|mark| note::is_mark_of(mark, backup)) {
                self.forget_mark(&record.name, mark, record.active).await?;
            }
        }
        self.notes.keep(backup, &note).map_err(|error| unnoted(&error))?;
        Ok(Cleared { any: true, frozen })
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

    /// Thaws, and ends a job of ours, in the start of the guest that they were begun in; why it could
    /// not be thawed. The job ends all the same: its file grows until the disk is full.
    async fn end_job(
        &self,
        record: &DomainRecord,
        under_way: &UnderWay,
    ) -> Result<Option<Fault>, Fault> {
        let guest = &record.name;
        let number = record.live_xml.as_deref().map(xml::domain_number).transpose();
        let number = number.map_err(|error| fault::xml(format!("reading vm/{guest}"), &error))?;
        if number.flatten() != under_way.number {
            return Ok(None);
        }
        let frozen = match under_way.freezes {
            true => thaw(&self.client, guest).await.err(),
            false => None,
        };
        // Without an agent nothing was ever frozen.
        let frozen = frozen.filter(|error| error.code != Code::NoSupport);
        let frozen = frozen.map(|error| unthawed(&format!("vm/{guest}"), &error));
        if self.is_ours(guest, under_way).await? {
            self.abort(guest).await?;
        }
        Ok(frozen)
    }

    /// Whether the guest has a job of ours. One that libvirt may still begin is waited for: begun
    /// after this, nobody would know of it.
    async fn is_ours(&self, guest: &str, under_way: &UnderWay) -> Result<bool, Fault> {
        let deadline = Instant::now() + if under_way.begins { BEGIN_MAX } else { Duration::ZERO };
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            for socket in &under_way.sockets {
                if self.job_runs(guest, socket).await? {
                    return Ok(true);
                }
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }

    /// Ends the job of a guest, which is ours, and waits until it has ended.
    pub(super) async fn abort(&self, guest: &str) -> Result<(), Fault> {
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
        let marks = match client.checkpoints(&record.name).await {
            Ok(marks) => marks,
            // A driver without checkpoints has none. Whatever else went wrong, there may be some.
            Err(error) if error.code == Code::NoSupport => return Ok(()),
            Err(error) => {
                let doing = format!("listing the checkpoints of vm/{}", record.name);
                return Err(fault::step(doing, &error));
            }
        };
        for mark in marks.iter().filter(|mark| mark.starts_with(note::MARK)) {
            guests.forget_mark(&record.name, mark, record.active).await?;
        }
        Ok(())
    }

    /// Whether a mark could not be removed because what the disks noted for it is lost.
    async fn is_lost(&self, guest: &str, mark: &str, error: &Error) -> Result<bool, Fault> {
        if error.code == Code::CheckpointInconsistent {
            return Ok(true);
        }
        if error.is_transient() {
            return Ok(false);
        }
        let doing = || format!("reading checkpoint {mark} of vm/{guest}");
        let told = self.client.checkpoint_sized(guest, mark).await;
        let told = told.map_err(|error| fault::step(doing(), &error))?;
        xml::lost(&told).map_err(|error| fault::xml(doing(), &error))
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
                Err(error) => {
                    // An emulator that was killed stores no bitmaps. While they are there, forgetting
                    // the mark alone would leave them in the disks, and nobody would know of them.
                    if !self.is_lost(guest, mark, &error).await? {
                        return Err(failed(error));
                    }
                    tracing::debug!(guest, mark, %error, "only forgotten");
                }
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
