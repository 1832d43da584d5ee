//! The data of lost disks out of a backup, each to the place of its disk.
//!
//! Of a snapshot it is never guessed which file is which disk (`listed`). Where and how a disk is made ready, and
//! that it is put over nothing, is [`super::ready`]'s.

mod listed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use trueup_backup::protocol::{self, Action, Done, Filter, Restore, Snapshot};

use self::listed::{by_place, is_raw_file, saved_in, whole_files};
use super::BackupProvider;
use super::convert::{below, to_disk};
use super::job::{Job, Which, silent, unexpected};
use super::ready::{Work, gone};
use crate::model::resource::{BackupSource, Disk, GuestPart, VolumeFormat};
use crate::model::{Fault, ResourceId};
use crate::port::{DiskInBackup, Progress, ProgressUpdate, SAVED_DISKS};
use crate::provider::files::blocking;

/// The disks in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisksFound {
    /// The snapshot's id, 64 hex digits.
    pub snapshot: String,
    /// When it was begun.
    pub taken: Timestamp,
    /// The disks that are in it, of those that were looked for.
    pub disks: BTreeMap<ResourceId, DiskFile>,
}

/// What a disk is in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskFile {
    /// Its content, by the name of a file.
    Content(String),
    /// Its very file, by its path.
    Itself(String),
}

impl DiskFile {
    /// Where it is in the snapshot.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Content(path) | Self::Itself(path) => path,
        }
    }
}

/// A disk whose data is to come back.
#[derive(Debug, Clone, Copy)]
pub struct LostDisk<'a> {
    /// What it is called.
    pub id: &'a ResourceId,
    /// What it is.
    pub disk: &'a Disk,
}

/// A disk whose data is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brought {
    /// How large its file is, holes counted, bytes.
    pub bytes: u64,
    /// How long it took, milliseconds.
    pub elapsed_ms: u64,
}

impl BackupProvider {
    /// Looks for `disks` in a snapshot of a backup, the newest where none is named. `None`: there is no
    /// such snapshot.
    ///
    /// # Errors
    /// What keeps it from being looked at.
    pub async fn find_disks(
        &self,
        of: Which<'_>,
        snapshot: Option<&str>,
        disks: &BTreeMap<ResourceId, Disk>,
    ) -> Result<Option<DisksFound>, Fault> {
        let progress = silent();
        let job = self.job(of, &progress);
        let (_, all) = job.snapshots().await.map_err(|fault| job.fault(&fault))?;
        let meant = |it: &Snapshot| snapshot.is_none_or(|wanted| it.id.starts_with(wanted));
        let mut meant = all.into_iter().rev().filter(meant);
        let Some(found) = meant.next() else { return Ok(None) };
        if snapshot.is_some() && meant.next().is_some() {
            return Err(Fault::permanent(format!(
                "{}: `{}` is several snapshots; see `trueup backup ls {}`",
                of.id,
                snapshot.unwrap_or_default(),
                of.id.name
            )));
        }
        let disks = job.disks_in(&found, disks).await?;
        Ok(Some(DisksFound { snapshot: found.id, taken: found.time, disks }))
    }

    /// Brings the data of a disk to its place, where no file is. Repeated after a kill it goes on. The
    /// folder of its pool is made with `make_pool` only: it may not be mounted yet.
    ///
    /// # Errors
    /// Why it does not come back; nothing is in its place then that was not there before.
    pub async fn bring_back(
        &self,
        of: Which<'_>,
        found: &DisksFound,
        lost: LostDisk<'_>,
        make_pool: bool,
        progress: &Progress,
    ) -> Result<Brought, Fault> {
        let begun = Instant::now();
        let Some(file) = found.disks.get(lost.id) else {
            return Err(Fault::permanent(format!("{} is not in {}", lost.id, of.id)));
        };
        let work = Work::of(lost, &found.snapshot);
        let job = self.job(of, progress);
        let bytes = match work.clone().on_disk(move |work| work.begin(make_pool)).await? {
            Some(bytes) => bytes,
            None => {
                let placed = job.place(&work, found, file, lost.disk).await;
                match placed {
                    Ok(bytes) => bytes,
                    Err(fault) => {
                        let left = work.on_disk(Work::leave).await;
                        return Err(match left {
                            Ok(()) => fault,
                            Err(left) => fault.with(&left.to_string()),
                        });
                    }
                }
            }
        };
        let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Brought { bytes, elapsed_ms })
    }

    /// Removes what is left beside the place of a disk whose data is back.
    ///
    /// # Errors
    /// It is still there.
    pub async fn clear_beside(&self, lost: LostDisk<'_>) -> Result<(), Fault> {
        Work::of(lost, "").on_disk(|work| gone(&work.folder)).await
    }
}

impl Job<'_> {
    /// Which of `disks` are in a snapshot of this backup, as far as it can be told without reading them.
    async fn disks_in(
        &self,
        snapshot: &Snapshot,
        disks: &BTreeMap<ResourceId, Disk>,
    ) -> Result<BTreeMap<ResourceId, DiskFile>, Fault> {
        match &self.backup.source {
            BackupSource::Paths(_) => Ok(whole_files(self.backup, disks)),
            BackupSource::Guest(guest) => match &guest.part {
                GuestPart::Machine { .. } => {
                    let saved = self.saved_disks(snapshot).await?;
                    Ok(by_place(&saved, disks))
                }
                GuestPart::Disk { path, .. } => {
                    // It may have been called otherwise then.
                    let image = snapshot.paths.iter().find(|path| is_raw_file(path));
                    let file = image.map(|image| DiskFile::Content(image.clone()));
                    let disk = disks.iter().find(|(_, disk)| disk.path == *path);
                    Ok(disk.map(|(id, _)| id.clone()).zip(file).into_iter().collect())
                }
            },
            BackupSource::Command(_)
            | BackupSource::State
            | BackupSource::Postgresql(_)
            | BackupSource::Definition(_) => Ok(BTreeMap::new()),
        }
    }

    /// What a machine's snapshot says of which file is which disk.
    async fn saved_disks(&self, snapshot: &Snapshot) -> Result<Vec<DiskInBackup>, Fault> {
        if !snapshot.paths.iter().any(|path| path == SAVED_DISKS) {
            return Err(Fault::needs_human(
                format!(
                    "{}: snapshot {} does not say which of its files is which disk, as an older \
                     trueup took it",
                    self.id,
                    short(&snapshot.id)
                ),
                format!(
                    "see for yourself, by its `domain.xml`: `trueup backup restore {} --to DIR`",
                    self.id.name
                ),
            ));
        }
        let scratch = self.provider.setup.folder.join(format!("disks-of-{}", self.id.name));
        let at = scratch.clone();
        blocking("make room for a list of disks", move || gone(&at)).await?;
        let fetched = self.fetch(&snapshot.id, SAVED_DISKS, &scratch, false).await;
        let list = scratch.join(SAVED_DISKS);
        let id = self.id.clone();
        let read = move || {
            let wrong = |why: String| {
                Fault::permanent(format!("{id}: {SAVED_DISKS} of its snapshot: {why}"))
            };
            saved_in(&list).map_err(wrong)
        };
        let told = match fetched {
            Ok(()) => blocking("read a list of disks", read).await,
            Err(fault) => Err(self.fault(&fault)),
        };
        blocking("remove a list of disks", move || gone(&scratch)).await?;
        told
    }

    /// Restores one path of a snapshot into the folder `to`.
    async fn fetch(
        &self,
        snapshot: &str,
        path: &str,
        to: &Path,
        resume: bool,
    ) -> Result<(), protocol::Fault> {
        let restore = Restore {
            snapshot: snapshot.to_owned(),
            filter: Filter::default(),
            path: Some(path.to_owned()),
            to: to.to_owned(),
            resume,
            sync: false,
        };
        match self.run(Action::Restore(restore), None).await?.done {
            Done::Restore(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes the disk's file ready, and puts it in its place; its size.
    async fn place(
        &self,
        work: &Work,
        found: &DisksFound,
        file: &DiskFile,
        disk: &Disk,
    ) -> Result<u64, Fault> {
        if !work.clone().on_disk(|work| Ok(work.is_ready())).await? {
            if !work.clone().on_disk(|work| Ok(work.is_fetched())).await? {
                self.fetch_whole(work, found, file).await?;
            }
            if matches!(file, DiskFile::Content(_)) {
                let size = disk.size;
                work.clone().on_disk(move |work| work.grow(size)).await?;
            }
            match (file, disk.format) {
                (DiskFile::Content(_), VolumeFormat::Qcow2) => {
                    let what = "making a qcow2 file of it".to_owned();
                    (self.progress)(ProgressUpdate { what, done: 0, total: None });
                    work.clone().on_disk(|work| gone(&work.making)).await?;
                    let made = to_disk(&work.fetched, &work.making, disk.backing.as_ref()).await;
                    made.map_err(|fault| work.about(fault))?;
                    work.clone().on_disk(|work| work.made(&work.making)).await?;
                    work.clone().on_disk(|work| gone(&work.fetched)).await?;
                }
                (DiskFile::Itself(_), VolumeFormat::Qcow2) => {
                    work.clone().on_disk(stands_alone).await?;
                    work.clone().on_disk(|work| work.made(&work.fetched)).await?;
                }
                (_, VolumeFormat::Raw) => {
                    work.clone().on_disk(|work| work.made(&work.fetched)).await?;
                }
            }
        }
        work.clone().on_disk(Work::put_in_place).await
    }

    async fn fetch_whole(
        &self,
        work: &Work,
        found: &DisksFound,
        file: &DiskFile,
    ) -> Result<(), Fault> {
        use protocol::Fault::{InTheWay, NotResumable};
        let path = file.path();
        let first = self.fetch(&found.snapshot, path, &work.fetching, true).await;
        let fetched = match first {
            // What is left there is of another try, and nobody else's: the folder is ours.
            Err(NotResumable { .. } | InTheWay { .. }) => {
                work.clone().on_disk(|work| gone(&work.fetching)).await?;
                self.fetch(&found.snapshot, path, &work.fetching, false).await
            }
            first => first,
        };
        fetched.map_err(|fault| match fault {
            protocol::Fault::SnapshotUnknown { .. } => Fault::needs_human(
                format!("{}: {path} is not in snapshot {}", self.id, short(&found.snapshot)),
                format!(
                    "name an older one with --snapshot, see `trueup backup ls {}`",
                    self.id.name
                ),
            ),
            fault => self.fault(&fault),
        })?;
        let name = Path::new(path).file_name().map(PathBuf::from).unwrap_or_default();
        work.clone().on_disk(move |work| work.take_fetched(&name)).await
    }
}

/// That a whole file shows nothing of other files of this host: libvirt would give a guest what the header
/// names, and whoever can write to the repository wrote that. One of ours lies on nothing, or it is not
/// saved as a whole.
fn stands_alone(work: &Work) -> Result<(), Fault> {
    let header = below(&work.fetched);
    let header = header.map_err(|error| {
        work.about(Fault::permanent(format!("{}: {error}", work.fetched.display())))
    })?;
    let Some(what) = header else { return Ok(()) };
    // It is of no use to the next try either.
    gone(&work.fetched)?;
    Err(work.about(Fault::permanent(format!(
        "what came back is a qcow2 file that {what}, and the disk lies on nothing: it is not put in its \
         place"
    ))))
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::super::ready::tests::disk;
    use super::*;

    #[test]
    fn a_file_that_shows_others_of_this_host_is_put_in_no_place() {
        let pool = tempfile::tempdir().unwrap();
        let (id, disk) = ("disk/db".parse().unwrap(), disk(&pool.path().join("db.qcow2")));
        let work = Work::of(LostDisk { id: &id, disk: &disk }, &"a".repeat(64));
        work.begin(false).unwrap();
        let header = |backing: u64, features: u64| {
            let mut header = vec![0; 104];
            header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
            header[8..16].copy_from_slice(&backing.to_be_bytes());
            header[72..80].copy_from_slice(&features.to_be_bytes());
            std::fs::write(&work.fetched, header).unwrap();
        };
        header(0, 1);
        stands_alone(&work).unwrap();
        for (backing, features, what) in [(0x200, 0, "lies on another"), (0, 4, "has its data in")]
        {
            header(backing, features);
            let why = stands_alone(&work).unwrap_err().to_string();
            assert!(why.starts_with("disk/db: ") && why.contains(what), "{why}");
        }
        // QEMU takes this for no qcow2 file.
        std::fs::write(&work.fetched, "data").unwrap();
        stands_alone(&work).unwrap();
    }
}
