//! Where the data of a lost disk is made ready, and how it comes to its place.
//!
//! Everything is made ready in a folder beside the place, and comes to it by one hard link, which is
//! never made over anything. What a kill left in that folder is used by the next try as far as it is
//! whole. Nothing but that folder, the place and the folder around it is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::bring::LostDisk;
use crate::model::{Fault, Name, Resource, ResourceId};
use crate::provider::files::blocking;

/// Digits of a snapshot that files of it are called by.
const DIGITS: usize = 16;

/// Where one disk is made ready.
#[derive(Debug, Clone)]
pub(super) struct Work {
    id: ResourceId,
    /// The disk's place.
    place: PathBuf,
    /// Beside it, on the same file system; its name ends as no disk's does.
    pub(super) folder: PathBuf,
    /// What the worker restores into.
    pub(super) fetching: PathBuf,
    /// What it restored, whole.
    pub(super) fetched: PathBuf,
    /// What is being made of that.
    pub(super) making: PathBuf,
    /// What is to be put in place, whole.
    ready: PathBuf,
}

impl Work {
    pub(super) fn of(lost: LostDisk<'_>, snapshot: &str) -> Self {
        let place = PathBuf::from(&lost.disk.path);
        let folder = place.with_file_name(folder_name(&lost.id.name));
        let of = snapshot.get(..DIGITS).unwrap_or(snapshot);
        Self {
            id: lost.id.clone(),
            fetching: folder.join("fetching"),
            fetched: folder.join(format!("{of}.fetched")),
            making: folder.join("making"),
            ready: folder.join(format!("{of}.ready")),
            place,
            folder,
        }
    }

    /// Does `work` on a thread that nobody waits for.
    pub(super) async fn on_disk<T: Send + 'static>(
        self,
        work: impl FnOnce(&Self) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        blocking("bring a disk back", move || work(&self)).await
    }

    pub(super) fn about(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Permanent { message } => Fault::permanent(format!("{}: {message}", self.id)),
            other => other,
        }
    }

    fn failed(&self, path: &Path) -> impl Fn(io::Error) -> Fault {
        let (id, path) = (self.id.clone(), path.display().to_string());
        move |error| Fault::transient(format!("{id}: {path}: {error}"))
    }

    /// Sees that nothing is in the place, and makes the folder beside it; with `make_pool` the one around
    /// both too. The size of what is in the place where an earlier try put it there.
    pub(super) fn begin(&self, make_pool: bool) -> Result<Option<u64>, Fault> {
        match fs::symlink_metadata(&self.place) {
            Ok(there) => {
                let ours = fs::symlink_metadata(&self.ready);
                let inode = |it: &fs::Metadata| (it.dev(), it.ino());
                if !ours.is_ok_and(|ours| inode(&ours) == inode(&there)) {
                    return Err(self.taken());
                }
                return Ok(Some(there.len()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(self.failed(&self.place)(error)),
        }
        let around = self.folder.parent().unwrap_or(Path::new("/"));
        match fs::metadata(around) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if !make_pool {
                    return Err(self.not_mounted(around));
                }
                // As libvirt makes the folder of a pool, so that QEMU may go through it.
                let made = DirBuilder::new().recursive(true).mode(0o711).create(around);
                made.map_err(self.failed(around))?;
            }
            Err(error) => return Err(self.failed(around)(error)),
            Ok(_) => {}
        }
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(self.failed(&self.folder)(error));
            }
            Err(_) | Ok(()) => {}
        }
        // A link would lead to somebody's files, and those of another name in it are removed.
        if !fs::symlink_metadata(&self.folder).map_err(self.failed(&self.folder))?.is_dir() {
            let why = io::Error::other("it is in the way, and is no folder");
            return Err(self.failed(&self.folder)(why));
        }
        // What is left of another snapshot is of no use.
        for entry in fs::read_dir(&self.folder).map_err(self.failed(&self.folder))? {
            let path = entry.map_err(self.failed(&self.folder))?.path();
            if path != self.fetched && path != self.ready && path != self.fetching {
                gone(&path)?;
            }
        }
        Ok(None)
    }

    fn taken(&self) -> Fault {
        Fault::needs_human(
            format!("{}: {} is there already and is left alone", self.id, self.place.display()),
            format!("if that is its data, `trueup release {}`; else move it away", self.id),
        )
    }

    /// What lies there may be newer than any backup, and only not mounted.
    fn not_mounted(&self, around: &Path) -> Fault {
        Fault::needs_human(
            format!("{}: the folder {} is not there", self.id, around.display()),
            "mount it where it outlived the machine; where it is lost too, say --make-pools",
        )
    }

    /// What the worker restored is whole: the file `name`.
    pub(super) fn take_fetched(&self, name: &Path) -> Result<(), Fault> {
        let file = self.fetching.join(name);
        let there = fs::symlink_metadata(&file).map_err(self.failed(&file))?;
        if !there.is_file() {
            return Err(Fault::permanent(format!(
                "{}: {} of the snapshot is no plain file",
                self.id,
                name.display()
            )));
        }
        // Before it is called whole: a power cut must not leave less under that name.
        let synced = File::open(&file).and_then(|file| file.sync_all());
        synced.and_then(|()| fs::rename(&file, &self.fetched)).map_err(self.failed(&file))?;
        gone(&self.fetching)
    }

    /// A disk that has grown since it was saved is as large as it was last; it never shrinks.
    pub(super) fn grow(&self, size: u64) -> Result<(), Fault> {
        let file = File::options().write(true).open(&self.fetched);
        let grown = file.and_then(|file| match file.metadata()?.len() < size {
            true => file.set_len(size),
            false => Ok(()),
        });
        grown.map_err(self.failed(&self.fetched))
    }

    /// `file` is what is to be put in place; it is on the disk before it is called so.
    pub(super) fn made(&self, file: &Path) -> Result<(), Fault> {
        let synced = fs::set_permissions(file, Permissions::from_mode(0o600))
            .and_then(|()| File::open(file)?.sync_all())
            .and_then(|()| fs::rename(file, &self.ready));
        synced.map_err(self.failed(file))
    }

    /// One link, which is never made over anything.
    pub(super) fn put_in_place(&self) -> Result<u64, Fault> {
        match fs::hard_link(&self.ready, &self.place) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(self.taken()),
            linked => linked.map_err(self.failed(&self.place))?,
        }
        let around = self.place.parent().unwrap_or(Path::new("/"));
        let synced = File::open(around).and_then(|folder| folder.sync_all());
        synced.map_err(self.failed(around))?;
        fs::metadata(&self.place).map(|it| it.len()).map_err(self.failed(&self.place))
    }

    /// It did not come back: what is not whole goes, what is whole is kept for the next try.
    pub(super) fn leave(&self) -> Result<(), Fault> {
        gone(&self.fetching)?;
        gone(&self.making)?;
        match fs::remove_dir(&self.folder) {
            Err(error)
                if !matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) =>
            {
                Err(self.failed(&self.folder)(error))
            }
            Err(_) | Ok(()) => Ok(()),
        }
    }

    pub(super) fn is_fetched(&self) -> bool {
        is_there(&self.fetched)
    }

    pub(super) fn is_ready(&self) -> bool {
        is_there(&self.ready)
    }
}

/// Removes what was made ready for disks that wait for nothing: a recovery of them was killed after it was
/// in their place, or they were released.
pub(super) fn tidy(claims: &BTreeMap<ResourceId, Resource>, awaited: &BTreeSet<ResourceId>) {
    let disks = claims.iter().filter(|(id, _)| !awaited.contains(*id));
    for (id, claim) in disks {
        let Resource::Disk(disk) = claim else { continue };
        let folder = Work::of(LostDisk { id, disk }, "").folder;
        if !folder.symlink_metadata().is_ok_and(|it| it.is_dir()) {
            continue;
        }
        match gone(&folder) {
            Ok(()) => tracing::info!(%id, "what was made ready to bring it back is removed"),
            Err(fault) => tracing::warn!(%id, %fault, "what was made ready to bring it back stays"),
        }
    }
}

/// What the folder of a disk is called. Listings of pools leave out what ends so.
fn folder_name(disk: &Name) -> String {
    format!(".trueup-restore-{disk}.part")
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Removes a file or folder of ours; that it is not there is well.
pub(super) fn gone(path: &Path) -> Result<(), Fault> {
    let removed = match path.symlink_metadata() {
        Ok(it) if it.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Fault::transient(format!("{}: cannot be removed: {error}", path.display())))
        }
        Err(_) | Ok(()) => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::resource::{Disk, VolumeFormat};

    /// A disk in a file, four bytes long.
    pub(in super::super) fn disk(path: &Path) -> Disk {
        Disk {
            pool: Name::new("fast").unwrap(),
            path: path.display().to_string(),
            format: VolumeFormat::Raw,
            size: 4,
            backing: None,
            on_image_change: None,
            way_back: None,
        }
    }

    #[test]
    fn nothing_is_put_over_anything_and_what_was_put_is_known_again() {
        let pool = tempfile::tempdir().unwrap();
        let place = pool.path().join("deep/db.raw");
        let (id, disk) = ("disk/db".parse().unwrap(), disk(&place));
        let lost = LostDisk { id: &id, disk: &disk };
        let work = Work::of(lost, &"a".repeat(64));
        let why = work.begin(false).unwrap_err().to_string();
        assert!(why.contains("/deep is not there") && why.contains("--make-pools"), "{why}");
        assert!(!pool.path().join("deep").exists());
        assert_eq!(work.begin(true).unwrap(), None);
        assert_eq!(work.begin(false).unwrap(), None, "it is there now");
        fs::create_dir(&work.fetching).unwrap();
        fs::write(work.fetching.join("vda.raw"), "data").unwrap();
        work.take_fetched(Path::new("vda.raw")).unwrap();
        // Killed here, the next try goes on; one of another snapshot does not.
        assert_eq!(work.begin(true).unwrap(), None);
        assert!(work.fetched.exists());
        work.grow(3).unwrap();
        work.grow(6).unwrap();
        fs::write(&work.making, "half").unwrap();
        work.made(&work.fetched).unwrap();
        assert_eq!(work.put_in_place().unwrap(), 6);
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o777, 0o600);
        assert_eq!(work.begin(true).unwrap(), Some(6), "killed before it was said");
        gone(&work.folder).unwrap();
        let why = work.begin(true).unwrap_err().to_string();
        assert!(why.contains("is left alone") && why.contains("trueup release disk/db"), "{why}");

        fs::remove_file(&place).unwrap();
        std::os::unix::fs::symlink("/nowhere", &place).unwrap();
        assert!(work.begin(true).is_err(), "a link that leads nowhere is something too");
        fs::remove_file(&place).unwrap();
        work.begin(true).unwrap();
        fs::write(&work.ready, "data").unwrap();
        fs::write(&place, "somebody's").unwrap();
        assert!(work.put_in_place().is_err());
        assert_eq!(fs::read(&place).unwrap(), b"somebody's");
        let other = Work::of(lost, &"b".repeat(64));
        fs::remove_file(&place).unwrap();
        other.begin(true).unwrap();
        assert!(!work.ready.exists(), "it is of another snapshot");
        other.leave().unwrap();
        assert!(!other.folder.exists());

        let somebodys = pool.path().join("somebody's");
        fs::create_dir(&somebodys).unwrap();
        fs::write(somebodys.join("file"), "kept").unwrap();
        std::os::unix::fs::symlink(&somebodys, &other.folder).unwrap();
        assert!(other.begin(true).unwrap_err().to_string().contains("is no folder"));
        assert!(somebodys.join("file").exists());
    }

    #[test]
    fn what_was_made_ready_for_a_disk_that_waits_for_nothing_goes() {
        let pool = tempfile::tempdir().unwrap();
        let ready = |name: &str| {
            let id: ResourceId = format!("disk/{name}").parse().unwrap();
            let disk = disk(&pool.path().join(format!("{name}.raw")));
            let work = Work::of(LostDisk { id: &id, disk: &disk }, &"a".repeat(64));
            work.begin(false).unwrap();
            fs::write(&work.ready, "data").unwrap();
            (id, disk, work)
        };
        let (back, disk, done) = ready("db");
        done.put_in_place().unwrap();
        let (waits, other, undone) = ready("web");
        fs::create_dir(pool.path().join(".trueup-restore-else.part")).unwrap();
        let claims =
            BTreeMap::from([(back, Resource::Disk(disk)), (waits.clone(), Resource::Disk(other))]);
        tidy(&claims, &BTreeSet::from([waits]));
        assert!(!done.folder.exists() && undone.ready.exists());
        assert_eq!(fs::read(pool.path().join("db.raw")).unwrap(), b"data");
        tidy(&claims, &BTreeSet::new());
        assert!(!undone.folder.exists(), "it was released");
        assert!(pool.path().join(".trueup-restore-else.part").exists(), "it is of no disk of ours");
    }
}
