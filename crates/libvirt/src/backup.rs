//! Calls about backups of running domains: backup jobs, and the checkpoints that say what changed.
//!
//! The safe API has none of them. Only active domains can have either (libvirt's "Incremental
//! backup"); of an inactive one a checkpoint can be forgotten, and its bitmap stays in the disk.

use std::ptr;

use virt::domain::Domain;
use virt_sys as sys;

use crate::client::Client;
use crate::error::{Code, Error};
use crate::text;

/// A checkpoint, which is owned by whoever holds this.
struct Checkpoint(sys::virDomainCheckpointPtr);

impl Drop for Checkpoint {
    fn drop(&mut self) {
        // SAFETY: it came from libvirt for the caller to free, is freed here only, and keeps its
        // domain alive by itself.
        unsafe { sys::virDomainCheckpointFree(self.0) };
    }
}

impl Checkpoint {
    fn look_up(domain: &Domain, name: &str) -> Result<Self, Error> {
        let name = text::to_c(name)?;
        // SAFETY: the domain and the text are valid during the call; what comes is ours to free.
        let found =
            unsafe { sys::virDomainCheckpointLookupByName(domain.as_ptr(), name.as_ptr(), 0) };
        if found.is_null() { Err(Error::last()) } else { Ok(Checkpoint(found)) }
    }

    fn delete(&self, only_forget: bool) -> Result<(), Error> {
        let flags = if only_forget { sys::VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY } else { 0 };
        // SAFETY: the checkpoint is valid as long as `self` is.
        let done = unsafe { sys::virDomainCheckpointDelete(self.0, flags) };
        if done < 0 { Err(Error::last()) } else { Ok(()) }
    }
}

/// A text that libvirt allocated for its caller.
///
/// # Safety
///
/// `text` is null, where a call failed, or a string that the caller has to free and nobody else does.
unsafe fn take(found: *mut libc::c_char) -> Result<String, Error> {
    if found.is_null() {
        return Err(Error::last());
    }
    // SAFETY: not null, NUL-terminated by libvirt, and freed once, here.
    unsafe {
        let copied = text::copy(found);
        libc::free(found.cast());
        Ok(copied)
    }
}

fn names(domain: &Domain) -> Result<Vec<String>, Error> {
    let mut list: *mut sys::virDomainCheckpointPtr = ptr::null_mut();
    // SAFETY: the domain is valid; libvirt fills `list` with an array of as many checkpoints as it
    // returns, all ours to free.
    let count = unsafe { sys::virDomainListAllCheckpoints(domain.as_ptr(), &raw mut list, 0) };
    let count = usize::try_from(count).map_err(|_| Error::last())?;
    let mut names = Vec::with_capacity(count);
    for n in 0..count {
        // SAFETY: `n` is within the array; the name lives as long as the checkpoint, which is freed
        // once, with its owner, after the name was copied.
        unsafe {
            let checkpoint = Checkpoint(*list.add(n));
            names.push(text::copy(sys::virDomainCheckpointGetName(checkpoint.0)));
        }
    }
    // SAFETY: the array was allocated by libvirt for the caller to free; free accepts null.
    unsafe { libc::free(list.cast()) };
    Ok(names)
}

impl Client {
    /// Begins a backup job described by `<domainbackup>` and, at the same moment, a checkpoint
    /// described by `<domaincheckpoint>`.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`] or [`Code::NoSupport`] where it does not run;
    /// [`Code::NoCheckpoint`] and [`Code::CheckpointInconsistent`] for a checkpoint named in the
    /// description that is not there or lost a bitmap; [`Code::Timeout`] while another job runs.
    pub async fn backup_begin(
        &self,
        domain: &str,
        backup: &str,
        checkpoint: Option<&str>,
    ) -> Result<(), Error> {
        let described = (text::to_c(backup)?, checkpoint.map(text::to_c).transpose()?);
        self.on_domain("backup_begin", domain, &[], move |domain| {
            let (backup, checkpoint) = &described;
            let checkpoint = checkpoint.as_ref().map_or(ptr::null(), |text| text.as_ptr());
            // SAFETY: the domain and both texts are valid during the call; null is no checkpoint.
            let begun = unsafe {
                sys::virDomainBackupBegin(domain.as_ptr(), backup.as_ptr(), checkpoint, 0)
            };
            if begun < 0 { Err(Error::last()) } else { Ok(()) }
        })
        .await
    }

    /// The description of the domain's backup job; `None` where it has none.
    ///
    /// # Errors
    ///
    /// [`Code::NoDomain`] where there is none of that name.
    pub async fn backup_job(&self, domain: &str) -> Result<Option<String>, Error> {
        let found = self
            .on_domain("backup_job", domain, &[], |domain| {
                // SAFETY: the domain is valid; what comes is null or ours to free.
                unsafe { take(sys::virDomainBackupGetXMLDesc(domain.as_ptr(), 0)) }
            })
            .await;
        match found {
            Ok(described) => Ok(Some(described)),
            // One that does not run has no job either.
            Err(error) if matches!(error.code, Code::NoBackup | Code::OperationInvalid) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends the domain's job, whatever it is: how a backup in pull mode ends. It may go on for a
    /// moment after the call.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`] where no job runs, or the domain does not.
    pub async fn abort_job(&self, domain: &str) -> Result<(), Error> {
        self.on_domain("abort_job", domain, &[], |domain| {
            // SAFETY: the domain is valid during the call.
            let done = unsafe { sys::virDomainAbortJob(domain.as_ptr()) };
            if done < 0 { Err(Error::last()) } else { Ok(()) }
        })
        .await
    }

    /// The names of a domain's checkpoints.
    ///
    /// # Errors
    ///
    /// [`Code::NoDomain`] where there is none of that name.
    pub async fn checkpoints(&self, domain: &str) -> Result<Vec<String>, Error> {
        self.on_domain("checkpoints", domain, &[], names).await
    }

    /// The description of a checkpoint, with its domain as it was then, without secrets.
    ///
    /// # Errors
    ///
    /// [`Code::NoCheckpoint`] where there is none of that name.
    pub async fn checkpoint(&self, domain: &str, name: &str) -> Result<String, Error> {
        let wanted = name.to_owned();
        self.on_domain("checkpoint", domain, &[name], move |domain| {
            let checkpoint = Checkpoint::look_up(domain, &wanted)?;
            // SAFETY: the checkpoint is valid; what comes is null or ours to free.
            unsafe { take(sys::virDomainCheckpointGetXMLDesc(checkpoint.0, 0)) }
        })
        .await
    }

    /// The description of a checkpoint of a running domain in which each bitmap that is whole has a
    /// `size`; one that is lost has none.
    ///
    /// # Errors
    ///
    /// [`Code::NoCheckpoint`] where there is none of that name; [`Code::OperationInvalid`] where the
    /// domain does not run.
    pub async fn checkpoint_sized(&self, domain: &str, name: &str) -> Result<String, Error> {
        let wanted = name.to_owned();
        self.on_domain("checkpoint_sized", domain, &[name], move |domain| {
            let checkpoint = Checkpoint::look_up(domain, &wanted)?;
            let flags = sys::VIR_DOMAIN_CHECKPOINT_XML_SIZE;
            // SAFETY: the checkpoint is valid; what comes is null or ours to free.
            unsafe { take(sys::virDomainCheckpointGetXMLDesc(checkpoint.0, flags)) }
        })
        .await
    }

    /// Deletes a checkpoint with its bitmaps, or, `only_forget`, leaves the bitmaps alone: all that
    /// can be done for a domain that does not run.
    ///
    /// # Errors
    ///
    /// [`Code::NoCheckpoint`] where there is none of that name; [`Code::NoSupport`] where it does
    /// not run and is not only to be forgotten.
    pub async fn delete_checkpoint(
        &self,
        domain: &str,
        name: &str,
        only_forget: bool,
    ) -> Result<(), Error> {
        let wanted = name.to_owned();
        self.on_domain("delete_checkpoint", domain, &[name], move |domain| {
            Checkpoint::look_up(domain, &wanted)?.delete(only_forget)
        })
        .await
    }
}
