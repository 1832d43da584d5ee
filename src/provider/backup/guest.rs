//! A snapshot of a guest's disks: read through the port to guests, fed to the worker.
//!
//! What is read is known to be of one moment before the snapshot is stored, and the mark from which on
//! the next one is read is kept with the snapshot itself: whatever crashes when, a mark without its
//! snapshot, or a snapshot without its mark, only costs reading.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use tokio::process::ChildStdin;
use trueup_backup::ImageWriter;
use trueup_backup::protocol::{self, Action, Done, ImageFile, Outcome as Ended, Snapshot, Source};

use super::held::Held;
use super::job::{Job, tags, unexpected};
use super::nbd::{Export, Extent};
use super::room;
use super::worker::FeedFn;
use crate::model::backup::{BackupNews, BackupTaken};
use crate::model::resource::BackupGuest;
use crate::model::{Fault, Resource, ResourceId};
use crate::port::{BoxFuture, GuestBase, GuestImage, GuestWish, Guests, OpenGuest, Outcome, Scope};
use crate::provider::files::blocking;
use crate::provider::paths::named;

/// What a snapshot's tag says before the mark that it was read at. No backup can be called so.
const MARK_TAG: &str = "mark:";
/// What the tag of a snapshot of a guest that was off says before the mark since which it was read:
/// nothing goes on from it, as its disks had changed since that mark.
const SINCE_TAG: &str = "since:";
/// The tag of a snapshot for which everything was read.
const WHOLE_TAG: &str = "read:all";

/// So much is read at once.
const READ_BYTES: u64 = 1 << 20;

/// A folder into which QEMU copies what guests overwrite has to keep so much room: a guest whose
/// overwritten data finds no place gets errors from its disk.
const ROOM_MIN: u64 = 512 << 20;

impl Job<'_> {
    /// Takes a snapshot of a guest's disks.
    pub(super) async fn back_up_guest(
        &self,
        guest: &BackupGuest,
        scope: &Scope,
        of: Vec<ResourceId>,
    ) -> Result<Outcome, Fault> {
        let guests = self.provider.guests()?;
        let (_, snapshots) = self.snapshots().await.map_err(|fault| self.fault(&fault))?;
        let wish = GuestWish {
            backup: self.id.clone(),
            guest: guest.clone(),
            bases: bases(&snapshots, guest.read_all_s, Timestamp::now()),
        };
        // What is written from now on is in no snapshot for certain.
        let begun = Timestamp::now();
        let held = Held::open(guests, &self.provider.closing, wish).await?;
        let open = held.disks()?;
        let taken = self.take_guest(guests, open, &snapshots, begun).await;
        let of = among(of, |disk| file_of(scope, disk), &open.images);
        let mut notices = open.notices.clone();
        let closed = held.close(taken.is_ok()).await;
        let mut taken = match (taken, closed) {
            (Ok(taken), Ok(())) => BackupTaken { of, ..taken },
            (Ok(taken), Err(fault)) => {
                notices.push(format!("something was left behind, and is cleared up next: {fault}"));
                BackupTaken { of, ..taken }
            }
            (Err(fault), closed) => {
                if let Err(error) = closed {
                    tracing::warn!(backup = %self.id, %error, "left behind");
                }
                return Err(fault);
            }
        };
        notices.append(&mut taken.notices);
        taken.notices = notices;
        Ok(Outcome { backup: Some(BackupNews::Taken(taken)), ..Outcome::default() })
    }

    async fn take_guest(
        &self,
        guests: &Arc<dyn Guests>,
        open: &OpenGuest,
        snapshots: &[Snapshot],
        begun: Timestamp,
    ) -> Result<BackupTaken, Fault> {
        let images = open.images.clone();
        let connect = move || images.iter().map(Disk::open).collect::<io::Result<Vec<_>>>();
        let what = open.what.clone();
        let disks = blocking("connect to a guest's disks", move || {
            connect().map_err(|error| Fault::transient(format!("the disks of {what}: {error}")))
        });
        let disks = disks.await?;
        let mut files: Vec<_> = disks.iter().map(Disk::file).collect();
        files.extend(open.texts.iter().map(|(name, text)| ImageFile {
            name: name.clone(),
            size: text.len() as u64,
            based: false,
        }));
        let base = open.base.as_ref().filter(|_| files.iter().any(|file| file.based));
        let base = base.and_then(|mark| with_mark(snapshots, mark)).map(|it| it.id.clone());
        let mut tags = tags(&self.id.name);
        tags.extend(tags_of(open.mark.as_deref(), open.base.as_deref(), base.is_none()));
        let action = Action::Backup(protocol::Backup {
            source: Source::Images { files, base },
            host: self.provider.setup.host.clone(),
            tags,
            exclude: Vec::new(),
            one_file_system: false,
            force: false,
            time: Some(begun),
        });
        let read = Arc::new(AtomicU64::new(0));
        let feed = self.feed(guests, open, disks, Arc::clone(&read));
        let ended = tokio::select! {
            ended = self.run(action, Some(feed)) => ended,
            fault = no_room(&open.fills) => return Err(fault),
        };
        let ended: Ended = ended.map_err(|fault| self.fault(&fault))?;
        match &ended.done {
            Done::Backup(done) => Ok(BackupTaken {
                read: Some(read.load(Ordering::Relaxed)),
                ..super::act::taken(&ended, done, Vec::new())
            }),
            other => Err(self.fault(&unexpected(other))),
        }
    }

    /// Feeds the worker with what the disks have, and says that this is all only once it is known to
    /// be of one moment.
    fn feed<'a>(
        &self,
        guests: &'a Arc<dyn Guests>,
        open: &'a OpenGuest,
        disks: Vec<Disk>,
        read: Arc<AtomicU64>,
    ) -> FeedFn<'a> {
        let texts: Vec<String> = open.texts.iter().map(|(_, text)| text.clone()).collect();
        let vanished = move |why: String| protocol::Fault::SourceVanished {
            path: PathBuf::from(&open.what),
            why,
        };
        Box::new(move |stdin: ChildStdin| -> BoxFuture<'a, Result<File, protocol::Fault>> {
            Box::pin(async move {
                let stdin = stdin.into_owned_fd().map_err(|error| vanished(error.to_string()))?;
                let pour = move || pour(disks, &texts, File::from(stdin), &read);
                let poured = tokio::task::spawn_blocking(pour).await;
                let poured = poured.map_err(|error| vanished(error.to_string()))?;
                let writer = poured.map_err(|error| vanished(error.to_string()))?;
                guests.confirm(open).await.map_err(|fault| vanished(fault.to_string()))?;
                let finished = tokio::task::spawn_blocking(move || writer.finish()).await;
                let finished = finished.map_err(|error| vanished(error.to_string()))?;
                finished.map_err(|error| vanished(error.to_string()))
            })
        })
    }
}

/// Those of the disks whose files are read: a guest that was not restarted yet has others than the
/// commit gives it, and a rule lets go of a disk that is said to be in a snapshot.
fn among<'a>(
    of: Vec<ResourceId>,
    file: impl Fn(&ResourceId) -> Option<&'a Path>,
    images: &[GuestImage],
) -> Vec<ResourceId> {
    let read = |disk: &ResourceId| file(disk).is_some_and(|it| images.iter().any(|i| i.path == it));
    of.into_iter().filter(read).collect()
}

/// The file of a disk: the one that is ours, or else the one that is asked for.
fn file_of<'a>(scope: &'a Scope, disk: &ResourceId) -> Option<&'a Path> {
    let wished = || scope.desired.resources.get(disk).map(|wish| &wish.resource);
    match scope.claims.get(disk).or_else(wished)? {
        Resource::Disk(disk) => Some(Path::new(&disk.path)),
        _ => None,
    }
}

/// A disk that is about to be read.
struct Disk {
    file: String,
    /// Whether only what changed is of interest.
    based: bool,
    export: Export,
}

impl Disk {
    fn open(image: &GuestImage) -> io::Result<Self> {
        let export = Export::open(&image.socket, &image.export, image.bitmap.as_deref());
        let export = export.map_err(|error| named(Path::new(&image.file), &error))?;
        Ok(Self { file: image.file.clone(), based: image.bitmap.is_some(), export })
    }

    fn file(&self) -> ImageFile {
        ImageFile { name: self.file.clone(), size: self.export.size(), based: self.based }
    }
}

/// Writes disks and texts, one behind the other.
fn pour(
    disks: Vec<Disk>,
    texts: &[String],
    to: File,
    read: &AtomicU64,
) -> io::Result<ImageWriter<File>> {
    let mut writer = ImageWriter::new(to);
    let mut start = 0;
    for mut disk in disks {
        let failed = |error: io::Error| named(Path::new(&disk.file), &error);
        let size = disk.export.size();
        let mut at = 0;
        while at < size {
            for extent in disk.export.extents(at).map_err(failed)? {
                at = extent.offset + extent.length;
                match (extent.changed, extent.zero) {
                    (false, _) => {}
                    (true, true) if disk.based => {
                        writer.zeros(start + extent.offset, extent.length)?;
                    }
                    (true, true) => {}
                    (true, false) => {
                        copy(&mut disk.export, extent, start, &mut writer, read).map_err(failed)?;
                    }
                }
            }
        }
        if let Err(error) = disk.export.close() {
            // Everything is read; a server that is gone already is no loss.
            tracing::debug!(%error, "an NBD server did not hear goodbye");
        }
        start += size;
    }
    for text in texts {
        writer.data(start, text.as_bytes())?;
        start += text.len() as u64;
    }
    Ok(writer)
}

/// Copies an extent, piece by piece.
fn copy(
    export: &mut Export,
    extent: Extent,
    start: u64,
    writer: &mut ImageWriter<File>,
    read: &AtomicU64,
) -> io::Result<()> {
    let end = extent.offset + extent.length;
    let mut at = extent.offset;
    let mut buffer = Vec::new();
    while at < end {
        let length = READ_BYTES.min(end - at);
        buffer.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
        export.read(at, &mut buffer)?;
        read.fetch_add(length, Ordering::Relaxed);
        writer.data(start + at, &buffer)?;
        at += length;
    }
    Ok(())
}

/// Ends when there is too little room left in one of the folders; never where there are none.
async fn no_room(folders: &BTreeSet<PathBuf>) -> Fault {
    let (folder, free) = room::runs_out(folders, ROOM_MIN).await;
    Fault::transient(format!(
        "the backup was given up: {} MiB are left in {}, and what the guest overwrites meanwhile is \
         copied there; make room, {} MiB at least",
        free >> 20,
        folder.display(),
        ROOM_MIN >> 20
    ))
}

/// What the tags of a snapshot say of how it was read: at its own mark, or since an earlier one, or
/// `whole`.
fn tags_of(mark: Option<&str>, since: Option<&str>, whole: bool) -> Vec<String> {
    let marked = match (mark, since) {
        (Some(mark), _) => Some(format!("{MARK_TAG}{mark}")),
        (None, Some(since)) => Some(format!("{SINCE_TAG}{since}")),
        (None, None) => None,
    };
    marked.into_iter().chain(whole.then(|| WHOLE_TAG.to_owned())).collect()
}

/// The mark that a snapshot was read at.
fn mark_of(snapshot: &Snapshot) -> Option<&str> {
    snapshot.tags.iter().find_map(|tag| tag.strip_prefix(MARK_TAG))
}

/// The snapshot that was read at `mark`: of several, which earlier versions tagged alike, the first,
/// while those after it are of a guest that was off.
fn with_mark<'a>(snapshots: &'a [Snapshot], mark: &str) -> Option<&'a Snapshot> {
    snapshots.iter().find(|snapshot| mark_of(snapshot) == Some(mark))
}

/// The marks to go on from, the newest first; none where it is time to read everything anew.
fn bases(snapshots: &[Snapshot], read_all_s: u64, now: Timestamp) -> Vec<GuestBase> {
    let whole = snapshots.iter().rev().find(|it| it.tags.iter().any(|tag| tag == WHOLE_TAG));
    let age = whole.map(|it| now.duration_since(it.time).as_secs());
    // A clock that went back tells nothing.
    let fresh = age.is_some_and(|age| u64::try_from(age).is_ok_and(|age| age < read_all_s));
    let newest = snapshots.iter().rev().filter(|_| fresh);
    newest
        .filter_map(|snapshot| {
            let mark = mark_of(snapshot)?.to_owned();
            Some(GuestBase { mark, files: snapshot.paths.iter().cloned().collect() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(second: i64, tags: &[&str]) -> Snapshot {
        Snapshot {
            id: format!("{second}"),
            time: Timestamp::from_second(second).unwrap(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..super::super::fixture::snapshot(&["vda.raw"])
        }
    }

    #[test]
    fn only_the_disks_that_are_read_are_said_to_be_in_a_snapshot() {
        let image = |path: &str| GuestImage {
            file: "vda.raw".into(),
            path: path.into(),
            socket: "/s".into(),
            export: "vda".into(),
            bitmap: None,
        };
        let of = ["disk/web", "disk/db"].map(|id| id.parse::<ResourceId>().unwrap());
        let file = |id: &ResourceId| match id.name.as_str() {
            "web" => Some(Path::new("/pool/web.qcow2")),
            "db" => Some(Path::new("/pool/db.qcow2")),
            _ => None,
        };
        // `db` is given to the guest once it is restarted.
        let read = among(of.to_vec(), file, &[image("/pool/web.qcow2")]);
        assert_eq!(read, [of[0].clone()]);
        let both = [image("/pool/web.qcow2"), image("/pool/db.qcow2")];
        assert_eq!(among(of.to_vec(), file, &both), of);
        assert!(among(of.to_vec(), |_| None, &both).is_empty());
    }

    /// A disk that is set back to a time between the two would not note what the second one has.
    #[test]
    fn nothing_goes_on_from_a_snapshot_of_a_guest_that_was_off() {
        let running = tags_of(Some("trueup-web-2"), Some("trueup-web-1"), false);
        assert_eq!(running, ["mark:trueup-web-2"]);
        let off = tags_of(None, Some("trueup-web-2"), false);
        assert_eq!(tags_of(None, None, true), ["read:all"]);
        fn tags(all: &[String]) -> Vec<&str> {
            all.iter().map(|tag| &**tag).collect()
        }
        let all = [
            snapshot(100, &["read:all"]),
            snapshot(200, &tags(&running)),
            snapshot(300, &tags(&off)),
        ];
        assert_eq!(with_mark(&all, "trueup-web-2").unwrap().id, "200");
        let bases = bases(&all[..], 500, Timestamp::from_second(301).unwrap());
        assert_eq!(bases.iter().map(|base| &*base.mark).collect::<Vec<_>>(), ["trueup-web-2"]);
        // Once the one that it names is gone, everything is read.
        assert!(with_mark(&all[2..], "trueup-web-2").is_none());
        let old = [snapshot(200, &["mark:m"]), snapshot(300, &["mark:m"])];
        assert_eq!(with_mark(&old, "m").unwrap().id, "200");
    }

    #[test]
    fn what_changed_is_read_until_it_is_time_for_everything() {
        let all = [
            snapshot(100, &["read:all", "mark:trueup-web-1"]),
            snapshot(200, &["mark:trueup-web-2"]),
            snapshot(300, &[]),
        ];
        let marks = |now: i64| -> Vec<String> {
            let now = Timestamp::from_second(now).unwrap();
            bases(&all, 500, now).into_iter().map(|base| base.mark).collect()
        };
        assert_eq!(marks(301), ["trueup-web-2", "trueup-web-1"]);
        assert_eq!(marks(599), ["trueup-web-2", "trueup-web-1"]);
        assert!(marks(600).is_empty(), "everything was read too long ago");
        assert!(marks(50).is_empty(), "the clock went back");
        assert_eq!(with_mark(&all, "trueup-web-1").unwrap().id, "100");
        assert!(with_mark(&all, "trueup-web-3").is_none());
        // Nobody knows when everything was read.
        assert!(bases(&all[1..], 500, Timestamp::from_second(301).unwrap()).is_empty());
    }
}
