//! Disks that no running guest has: read from their files, by a read-only NBD server.
//!
//! The server takes no lock, so that nobody who starts the guest meanwhile is refused; whether somebody
//! did is looked at before what was read counts. It ends by itself with its only client.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::note::{self, Lock, Note, UnderWay};
use super::place::{Place, SavedDisk};
use super::{LibvirtGuests, Reads, Session, unnoted};
use crate::model::Fault;
use crate::model::resource::VolumeFormat;
use crate::port::{GuestImage, GuestWish, OpenGuest};

/// How long a program of QEMU's may take that only opens a file.
const TOOL_LIMIT: Duration = Duration::from_secs(60);

/// The export's name.
const EXPORT: &str = "disk";

/// What a file looked like: whoever writes to it changes this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Look {
    fn at(path: &Path) -> io::Result<Self> {
        let seen = fs::metadata(path)?;
        let changed = (seen.mtime(), seen.mtime_nsec());
        Ok(Self { inode: seen.ino(), size: seen.size(), changed })
    }
}

/// What `qemu-img info` says of an image.
#[derive(Debug, Deserialize)]
struct Info {
    #[serde(rename = "format-specific", default)]
    specific: Specific,
}

#[derive(Debug, Default, Deserialize)]
struct Specific {
    #[serde(default)]
    data: Data,
}

#[derive(Debug, Default, Deserialize)]
struct Data {
    #[serde(default)]
    bitmaps: Vec<Bitmap>,
}

#[derive(Debug, Deserialize)]
struct Bitmap {
    name: String,
    #[serde(default)]
    flags: Vec<String>,
}

impl Info {
    /// Whether the image has this bitmap, and it is whole.
    fn has(&self, name: &str) -> bool {
        let mut bitmaps = self.specific.data.bitmaps.iter();
        let whole = |it: &&Bitmap| it.flags.iter().all(|flag| flag != "in-use");
        bitmaps.find(|it| it.name == name).filter(whole).is_some()
    }
}

impl LibvirtGuests {
    pub(super) async fn open_off(
        &self,
        wish: &GuestWish,
        place: &Place,
        lock: Lock,
        turn: OwnedMutexGuard<()>,
    ) -> Result<OpenGuest, Fault> {
        let backup = &wish.backup.name;
        let what = wish.guest.part.id().to_string();
        let folder = self.notes.folder(backup);
        let base = self.base_off(wish, place).await?;
        let before = self.notes.of(backup).map_err(|error| unnoted(&error))?;
        let before = before.into_iter().find(|note| note.uuid == place.uuid());
        // One that is of no use any more is still there, and only this note knows of it.
        let kept = base.as_ref().map(|(mark, _)| mark.clone());
        let kept = kept.or_else(|| before.and_then(|note| note.kept));
        let since = |disk: &SavedDisk| {
            base.as_ref().filter(|(_, disks)| disks.contains(disk)).map(|(mark, _)| mark.as_str())
        };
        let socket = |at: usize| folder.join(format!("disk{at}.sock"));
        let note = Note {
            guest: place.guest().to_owned(),
            uuid: place.uuid().to_owned(),
            kept: kept.clone(),
            under_way: Some(UnderWay {
                sockets: (0..place.disks.len()).map(socket).collect(),
                ..UnderWay::default()
            }),
        };
        self.notes.keep(backup, &note).map_err(|error| unnoted(&error))?;
        let (mut seen, mut images) = (Vec::new(), Vec::new());
        for (at, disk) in place.disks.iter().enumerate() {
            let look = Look::at(&disk.path).map_err(|error| {
                Fault::transient(format!("{} of {what}: {error}", disk.path.display()))
            })?;
            seen.push((disk.path.clone(), look));
            serve(&what, disk, &socket(at), since(disk)).await?;
            images.push(GuestImage {
                file: disk.file.clone(),
                path: disk.path.clone(),
                socket: socket(at),
                export: EXPORT.to_owned(),
                bitmap: since(disk).map(ToOwned::to_owned),
            });
        }
        let mark = base.map(|(mark, _)| mark);
        let session = Session {
            backup: backup.clone(),
            note,
            base: kept,
            reads: Reads::Files { seen },
            _lock: lock,
            _turn: turn,
        };
        Ok(OpenGuest {
            what,
            images,
            texts: place.texts()?,
            base: mark,
            // No new one can be made. What is read now is not what was there at the old one, so that no
            // later snapshot may go on from this one as if it were.
            mark: None,
            fills: std::collections::BTreeSet::new(),
            notices: Vec::new(),
            held: Box::new(session),
        })
    }

    /// The newest mark since which the files note their changes, and the disks that do.
    async fn base_off(
        &self,
        wish: &GuestWish,
        place: &Place,
    ) -> Result<Option<(String, Vec<SavedDisk>)>, Fault> {
        let Some(record) = &place.record else { return Ok(None) };
        let there = self.marks(&record.name).await?;
        for base in &wish.bases {
            let ours = note::is_mark_of(&base.mark, &wish.backup.name);
            if !ours || !there.contains(&base.mark) {
                continue;
            }
            let noted = self.noted(&record.name, &base.mark).await?;
            let mut disks = Vec::new();
            for disk in &place.disks {
                let same = noted.get(&disk.target) == Some(&disk.path);
                if same
                    && base.files.contains(&disk.file)
                    && info(&disk.path).await?.has(&base.mark)
                {
                    disks.push(disk.clone());
                }
            }
            if !disks.is_empty() {
                return Ok(Some((base.mark.clone(), disks)));
            }
        }
        Ok(None)
    }

    /// That what was read is of one moment.
    pub(super) async fn still_whole(&self, what: &str, session: &Session) -> Result<(), Fault> {
        let guest = &session.note.guest;
        match &session.reads {
            Reads::Job { socket } => {
                if self.job_runs(guest, socket).await? {
                    return Ok(());
                }
                Err(Fault::transient(format!(
                    "the backup job of {what} ended before everything was read: the guest stopped, or \
                     somebody ended it; it is begun anew"
                )))
            }
            Reads::Files { seen } => {
                for (path, look) in seen {
                    if Look::at(path).ok().as_ref() != Some(look) {
                        return Err(Fault::transient(format!(
                            "{} of {what} was written to while it was read: the guest was started, or \
                             somebody changed it; it is read anew",
                            path.display()
                        )));
                    }
                }
                Ok(())
            }
        }
    }
}

/// The options that open an image for reading, whoever else has it.
fn options(path: &Path, format: VolumeFormat, device: bool) -> String {
    // A comma in a value is written twice (qemu-img(1)).
    let file = path.display().to_string().replace(',', ",,");
    let driver = if device { "host_device" } else { "file" };
    let format = format.as_str();
    format!("driver={format},force-share=on,file.driver={driver},file.filename={file}")
}

/// Serves a disk's file until its only client has gone.
async fn serve(
    what: &str,
    disk: &SavedDisk,
    socket: &Path,
    bitmap: Option<&str>,
) -> Result<(), Fault> {
    let failed = |why: String| {
        Fault::transient(format!(
            "{} of {what} cannot be read: {why}; it is tried again",
            disk.path.display()
        ))
    };
    note::remove(socket).map_err(|error| failed(error.to_string()))?;
    let device = fs::metadata(&disk.path).map_err(|error| failed(error.to_string()))?;
    let options = options(&disk.path, disk.format, device.file_type().is_block_device());
    let mut command = Command::new("qemu-nbd");
    command.args(["--fork", "--read-only", "--export-name", EXPORT]);
    command.arg(format!("--socket={}", socket.display()));
    if let Some(bitmap) = bitmap {
        command.arg(format!("--bitmap={bitmap}"));
    }
    command.args(["--image-opts", &options]);
    run(command).await.map(drop).map_err(failed)
}

async fn info(path: &Path) -> Result<Info, Fault> {
    let failed =
        |why: String| Fault::transient(format!("{} cannot be looked at: {why}", path.display()));
    let mut command = Command::new("qemu-img");
    command.args(["info", "--force-share", "--output=json"]).arg(path);
    let said = run(command).await.map_err(failed)?;
    serde_json::from_slice(&said).map_err(|error| failed(error.to_string()))
}

/// Takes a bitmap out of an image that nobody has open; whether it was there.
pub(super) async fn remove_bitmap(path: &Path, name: &str) -> Result<bool, Fault> {
    let info = info(path).await?;
    if !info.specific.data.bitmaps.iter().any(|bitmap| bitmap.name == name) {
        return Ok(false);
    }
    let mut command = Command::new("qemu-img");
    command.args(["bitmap", "--remove"]).arg(path).arg(name);
    run(command).await.map(|_| true).map_err(|why| {
        Fault::transient(format!(
            "the mark {name} stays in {}: {why}; it is tried again",
            path.display()
        ))
    })
}

/// Runs a program to its end and gives what it printed, or why it failed.
async fn run(mut command: Command) -> Result<Vec<u8>, String> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = timeout(TOOL_LIMIT, command.output()).await;
    let output = output.map_err(|_| format!("{program} did not end in time"))?;
    let output = output.map_err(|error| format!("{program} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}", said.trim().lines().last().unwrap_or("it failed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_that_was_not_closed_tells_nothing() {
        let told = r#"{"format-specific":{"type":"qcow2","data":{"bitmaps":[
            {"flags":["auto"],"name":"a","granularity":65536},
            {"flags":["in-use","auto"],"name":"b","granularity":65536}]}}}"#;
        let info: Info = serde_json::from_str(told).unwrap();
        assert_eq!(["a", "b", "c"].map(|name| info.has(name)), [true, false, false]);
        let raw: Info = serde_json::from_str(r#"{"format":"raw"}"#).unwrap();
        assert!(!raw.has("a"));
    }

    #[test]
    fn a_path_is_one_value_whatever_is_in_it() {
        assert_eq!(
            options(Path::new("/p/a,b.qcow2"), VolumeFormat::Qcow2, false),
            "driver=qcow2,force-share=on,file.driver=file,file.filename=/p/a,,b.qcow2"
        );
    }
}
