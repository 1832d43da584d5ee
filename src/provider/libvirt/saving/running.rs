//! Disks of a running guest: a backup job in pull mode, and the mark from which on changes are noted.
//!
//! Where the guest's file systems are frozen for the moment, they are thawed whatever happens: the
//! whole of it is one task that nobody cancels, and what a crash leaves is thawed from its note.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;
use trueup_libvirt::{Client, Code, Error};

use super::super::xml::backup as xml;
use super::super::{fault, xml::XmlError};
use super::note::{self, Lock, Note, UnderWay};
use super::place::Place;
use super::{LibvirtGuests, Reads, Session, unnoted};
use crate::model::resource::VolumeFormat;
use crate::model::{Digest, Fault, Name};
use crate::port::{GuestImage, GuestWish, OpenGuest};

/// How long the agent may take to freeze file systems: it waits for what is being written.
const FREEZE_LIMIT: Duration = Duration::from_secs(30);
/// How long the agent may take to thaw them.
const THAW_LIMIT: Duration = Duration::from_secs(10);
/// How often it is asked to.
const THAW_TRIES: u32 = 3;
/// How long a job may take to begin while file systems are frozen: longer, and guests notice.
const FROZEN_BEGIN_LIMIT: Duration = Duration::from_secs(10);

/// A mark and the disks that noted their changes since.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Base {
    mark: String,
    targets: BTreeSet<String>,
}

impl LibvirtGuests {
    pub(super) async fn open_running(
        &self,
        wish: &GuestWish,
        place: &Place,
        lock: Lock,
        turn: OwnedMutexGuard<()>,
    ) -> Result<OpenGuest, Fault> {
        let (guest, backup) = (place.guest(), &wish.backup.name);
        let what = format!("vm/{guest}");
        if wish.guest.quiesce {
            // Before anything is noted: what was never frozen need not be thawed.
            let answer = self.client.agent_command(guest, PING, THAW_LIMIT).await;
            answer.map_err(|error| Failed::Freeze(error).fault(&what))?;
        }
        let socket = self.socket(place, backup)?;
        self.check_free(&what, guest, &socket).await?;
        let snapshots = self.client.snapshots(guest).await;
        let snapshots =
            snapshots.map_err(|error| fault::step(format!("looking at {what}"), &error))?;
        let notes = place.disks.iter().any(|disk| disk.format == VolumeFormat::Qcow2);
        // QEMU takes no disk back to a snapshot while it notes changes in it (`bdrv_snapshot_goto`),
        // and libvirt ends the guest over trying: the way back is worth more than a short read.
        let may_mark = notes && snapshots.is_empty();
        let mut notices = Vec::new();
        if notes && !may_mark {
            notices.push(format!(
                "everything was read: {what} has snapshots, and no disk that notes its changes can \
                 be taken back to one"
            ));
        }
        let base = if may_mark { self.base(wish, place).await? } else { None };
        self.forget_marks(backup, place, base.as_ref()).await?;
        let mark = may_mark.then(|| note::mark(backup, Timestamp::now().as_millisecond()));
        let before = self.notes.of(backup).map_err(|error| unnoted(&error))?;
        // What an earlier run froze, and its agent did not thaw, stays noted.
        let frozen = before.iter().any(|note| note.uuid == place.uuid() && note.only_frozen());
        let mut session = Session {
            backup: backup.clone(),
            note: Note {
                guest: guest.to_owned(),
                uuid: place.uuid().to_owned(),
                kept: base.as_ref().map(|base| base.mark.clone()),
                under_way: Some(UnderWay {
                    number: number(place)?,
                    mark: mark.clone(),
                    sockets: vec![socket.clone()],
                    scratch: place.disks.iter().map(|it| scratch(backup, &it.path)).collect(),
                    freezes: wish.guest.quiesce || frozen,
                    begins: true,
                }),
            },
            base: base.as_ref().map(|base| base.mark.clone()),
            reads: Reads::Job { socket: socket.clone() },
            _lock: lock,
            _turn: turn,
        };
        self.notes.keep(backup, &session.note).map_err(|error| unnoted(&error))?;
        let begin = Begin { wish, place, mark: mark.as_deref(), socket: &socket };
        let base = match (self.begin(&begin, base.as_ref()).await, base) {
            (Ok(()), base) => base,
            (Err(Failed::Begin(error)), Some(lost)) if is_lost(error.code) => {
                notices.push(format!(
                    "everything was read: the mark of the last time is lost ({})",
                    error.message
                ));
                self.forget_marks(backup, place, None).await?;
                (session.note.kept, session.base) = (None, None);
                drop(lost);
                self.begin(&begin, None).await.map_err(|failed| failed.fault(&what))?;
                None
            }
            (Err(failed), _) => {
                if let Some(under_way) = &mut session.note.under_way
                    && !failed.may_begin()
                {
                    under_way.begins = false;
                    self.notes.keep(backup, &session.note).map_err(|error| unnoted(&error))?;
                }
                return Err(failed.fault(&what));
            }
        };
        if let Some(under_way) = &mut session.note.under_way {
            (under_way.freezes, under_way.begins) = (frozen, false);
        }
        self.notes.keep(backup, &session.note).map_err(|error| unnoted(&error))?;
        let since = |target: &str| base.as_ref().is_some_and(|base| base.targets.contains(target));
        let images = place.disks.iter().map(|disk| GuestImage {
            file: disk.file.clone(),
            path: disk.path.clone(),
            socket: socket.clone(),
            export: disk.target.clone(),
            bitmap: since(&disk.target).then(|| xml::BITMAP.to_owned()),
        });
        Ok(OpenGuest {
            what,
            images: images.collect(),
            texts: place.texts()?,
            base: session.base.clone(),
            mark,
            fills: place.disks.iter().filter_map(|it| Some(it.path.parent()?.into())).collect(),
            notices,
            held: Box::new(session),
        })
    }

    /// That the guest has no backup job of somebody else. One at our own `socket` is ended: whoever
    /// calls holds the lock and the turn, so that nobody reads from it.
    async fn check_free(&self, what: &str, guest: &str, socket: &Path) -> Result<(), Fault> {
        if self.job_runs(guest, socket).await? {
            tracing::warn!(%guest, "a backup job of ours that nobody knew of is ended");
            return self.abort(guest).await;
        }
        let job = self.client.backup_job(guest).await;
        match job.map_err(|error| fault::step(format!("looking at the jobs of {what}"), &error))? {
            None => Ok(()),
            Some(_) => Err(Fault::transient(format!(
                "{what} has a backup job that is not ours; it is waited for (`virsh domjobinfo \
                 {guest}` shows it)"
            ))),
        }
    }

    /// Where the job's server is to listen: in the folder that libvirt has for the running domain,
    /// or, where there is none, in ours.
    fn socket(&self, place: &Place, backup: &Name) -> Result<PathBuf, Fault> {
        // Socket paths have 107 bytes at most; a name may have 63 of them.
        let file = format!("trueup-{}.sock", Digest::of(backup.as_str()).short());
        let Some(number) = number(place)? else {
            return Ok(self.notes.folder(backup).join(file));
        };
        let folder = folder_of(&self.domains, number).map_err(|error| {
            Fault::transient(format!("{} cannot be looked into: {error}", self.domains.display()))
        })?;
        Ok(folder.unwrap_or_else(|| self.notes.folder(backup)).join(file))
    }

    /// The newest mark that is still there, with the disks whose changes it tells.
    async fn base(&self, wish: &GuestWish, place: &Place) -> Result<Option<Base>, Fault> {
        let there = self.marks(place.guest()).await?;
        let known = wish.bases.iter().filter(|base| {
            note::is_mark_of(&base.mark, &wish.backup.name) && there.contains(&base.mark)
        });
        for base in known {
            let noted = self.noted(place.guest(), &base.mark).await?;
            // The same files, or else what was noted is of another disk.
            let same = place.disks.iter().filter(|disk| {
                noted.get(&disk.target) == Some(&disk.path) && base.files.contains(&disk.file)
            });
            let targets: BTreeSet<_> = same.map(|disk| disk.target.clone()).collect();
            if !targets.is_empty() {
                return Ok(Some(Base { mark: base.mark.clone(), targets }));
            }
        }
        Ok(None)
    }

    /// The checkpoints of a guest.
    pub(super) async fn marks(&self, guest: &str) -> Result<Vec<String>, Fault> {
        let marks = self.client.checkpoints(guest).await;
        marks.map_err(|error| fault::step(format!("listing the checkpoints of vm/{guest}"), &error))
    }

    /// The disks that noted their changes since a mark, as files.
    pub(super) async fn noted(
        &self,
        guest: &str,
        mark: &str,
    ) -> Result<BTreeMap<String, PathBuf>, Fault> {
        let doing = || format!("reading checkpoint {mark} of vm/{guest}");
        let text = self.client.checkpoint(guest, mark).await;
        let text = text.map_err(|error| fault::step(doing(), &error))?;
        xml::noted(&text).map_err(|error| fault::xml(doing(), &error))
    }

    /// Removes the marks of `backup` that no run needs.
    async fn forget_marks(
        &self,
        backup: &Name,
        place: &Place,
        but: Option<&Base>,
    ) -> Result<(), Fault> {
        for mark in self.marks(place.guest()).await? {
            if note::is_mark_of(&mark, backup) && but.is_none_or(|base| base.mark != mark) {
                self.forget_mark(place.guest(), &mark, true).await?;
            }
        }
        Ok(())
    }

    /// Begins the job, frozen where that is asked for.
    async fn begin(&self, begin: &Begin<'_>, base: Option<&Base>) -> Result<(), Failed> {
        let Begin { wish, place, mark, socket } = begin;
        let disks: Vec<_> = place
            .disks
            .iter()
            .map(|disk| xml::JobDisk {
                target: disk.target.clone(),
                scratch: scratch(&wish.backup.name, &disk.path),
                notes: mark.is_some() && disk.format == VolumeFormat::Qcow2,
                since: base
                    .filter(|base| base.targets.contains(&disk.target))
                    .map(|base| base.mark.clone()),
            })
            .collect();
        for disk in &disks {
            // What is there bears our name: an earlier job's, which is over.
            note::remove(&disk.scratch).map_err(Failed::Scratch)?;
        }
        let job = xml::job(&disks, &place.targets, socket)?;
        let mark = mark.map(|mark| xml::checkpoint(mark, &disks, &place.targets)).transpose()?;
        let (client, guest) = (self.client.clone(), place.guest().to_owned());
        let quiesce = wish.guest.quiesce;
        // A task of its own: whoever gives the backup up leaves nothing frozen.
        let begun = tokio::spawn(async move {
            if !quiesce {
                let begun = client.backup_begin(&guest, &job, mark.as_deref()).await;
                return begun.map_err(Failed::Begin);
            }
            let frozen = client.agent_command(&guest, FREEZE, FREEZE_LIMIT).await;
            let begun = match frozen {
                Ok(_) => {
                    let client = client.with_limit(FROZEN_BEGIN_LIMIT);
                    let begun = client.backup_begin(&guest, &job, mark.as_deref()).await;
                    begun.map_err(Failed::Begin)
                }
                Err(error) => Err(Failed::Freeze(error)),
            };
            // Also where freezing failed: it may have frozen some, or be on the way.
            match (thaw(&client, &guest).await, begun) {
                (_, Err(failed)) => Err(failed),
                (Err(error), Ok(())) => Err(Failed::Thaw(error)),
                (Ok(()), Ok(())) => Ok(()),
            }
        });
        begun.await.map_err(|error| Failed::Task(error.to_string()))?
    }

    /// That the job still runs, which serves the disks as they were.
    pub(super) async fn job_runs(&self, guest: &str, socket: &Path) -> Result<bool, Fault> {
        let job = self.client.backup_job(guest).await;
        let job =
            job.map_err(|error| fault::step(format!("looking at the jobs of vm/{guest}"), &error))?;
        let Some(job) = job else { return Ok(false) };
        let at = xml::socket(&job);
        let at =
            at.map_err(|error| fault::xml(format!("reading the job of vm/{guest}"), &error))?;
        Ok(at.as_deref() == Some(socket))
    }
}

const PING: &str = r#"{"execute":"guest-ping"}"#;
const FREEZE: &str = r#"{"execute":"guest-fsfreeze-freeze"}"#;
const THAW: &str = r#"{"execute":"guest-fsfreeze-thaw"}"#;

/// Thaws a guest's file systems; nothing happens to those that are not frozen.
pub(super) async fn thaw(client: &Client, guest: &str) -> Result<(), Error> {
    let mut tries = 1;
    loop {
        match client.agent_command(guest, THAW, THAW_LIMIT).await {
            Ok(_) => return Ok(()),
            Err(error) if tries == THAW_TRIES => return Err(error),
            Err(error) => tracing::warn!(guest, %error, "not thawed; asked again"),
        }
        tries += 1;
    }
}

/// That a guest may be frozen still.
pub(super) fn unthawed(what: &str, error: &Error) -> Fault {
    Fault::transient(format!(
        "the agent of {what} did not thaw its file systems ({}); it is asked again. If the guest \
         hangs: `virsh domfsthaw`, or reset it",
        error.message
    ))
}

/// What a job begins with.
struct Begin<'a> {
    wish: &'a GuestWish,
    place: &'a Place,
    mark: Option<&'a str>,
    socket: &'a Path,
}

/// Why no job began.
#[derive(Debug)]
enum Failed {
    Begin(Error),
    Freeze(Error),
    Thaw(Error),
    Described(XmlError),
    Scratch(io::Error),
    Task(String),
}

impl From<XmlError> for Failed {
    fn from(error: XmlError) -> Self {
        Self::Described(error)
    }
}

impl Failed {
    /// Whether the job may begin all the same.
    fn may_begin(&self) -> bool {
        let unknown = |code| matches!(code, Code::Timeout | Code::ConnectionLost | Code::Closed);
        match self {
            Self::Begin(error) => unknown(error.code),
            // It has begun, or nobody saw.
            Self::Thaw(_) | Self::Task(_) => true,
            Self::Freeze(_) | Self::Described(_) | Self::Scratch(_) => false,
        }
    }

    fn fault(self, what: &str) -> Fault {
        match self {
            Self::Begin(error) if error.code == Code::NoSupport => Fault::permanent(format!(
                "{what} cannot be read while it runs: {}; it takes QEMU 6 and libvirt 7.2, or stop it \
                 and take the backup then",
                error.message
            )),
            Self::Begin(error) => fault::step(format!("beginning a backup of {what}"), &error),
            Self::Freeze(error) => Fault::transient(format!(
                "the agent of {what} did not freeze its file systems ({}): see that \
                 qemu-guest-agent runs in it, or leave out `quiesce`",
                error.message
            )),
            Self::Thaw(error) => unthawed(what, &error),
            Self::Described(error) => fault::xml(format!("describing a backup of {what}"), &error),
            Self::Scratch(error) => Fault::transient(format!("a backup of {what}: {error}")),
            Self::Task(error) => Fault::transient(format!("a backup of {what}: {error}")),
        }
    }
}

/// Whether a job could not begin because of the mark that it should go on from.
fn is_lost(code: Code) -> bool {
    matches!(code, Code::NoCheckpoint | Code::CheckpointInconsistent)
}

/// Where QEMU copies what the guest overwrites: beside the disk, where there is room for it, under a
/// name that pools are not looked at for.
fn scratch(backup: &Name, disk: &Path) -> PathBuf {
    let name = disk.file_name().unwrap_or_default().to_string_lossy();
    disk.with_file_name(format!("{}{backup}-{name}.part", super::clear::SCRATCH))
}

fn number(place: &Place) -> Result<Option<u32>, Fault> {
    let Some(record) = &place.record else { return Ok(None) };
    let Some(live) = &record.live_xml else { return Ok(None) };
    xml::domain_number(live)
        .map_err(|error| fault::xml(format!("reading vm/{}", record.name), &error))
}

/// The folder that libvirt has for the running domain of that number: `domain-7-web`.
fn folder_of(domains: &Path, number: u32) -> io::Result<Option<PathBuf>> {
    let prefix = format!("domain-{number}-");
    let entries = match fs::read_dir(domains) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_nobody_refused_may_begin_later() {
        let failed = |code| {
            let error = Error {
                code,
                number: 0,
                domain: 0,
                call: "backup_begin",
                object: "web".into(),
                message: "said so".into(),
            };
            Failed::Begin(error)
        };
        assert!(failed(Code::Timeout).may_begin() && failed(Code::ConnectionLost).may_begin());
        assert!(
            !failed(Code::OperationInvalid).may_begin() && !failed(Code::NoSupport).may_begin()
        );
        assert!(!Failed::Scratch(io::ErrorKind::NotFound.into()).may_begin());
    }

    #[test]
    fn a_running_domain_has_a_folder_of_its_own() {
        let domains = tempfile::tempdir().unwrap();
        for name in ["domain-1-web", "domain-12-db", "channel"] {
            fs::create_dir(domains.path().join(name)).unwrap();
        }
        let found = |number| folder_of(domains.path(), number).unwrap();
        assert_eq!(found(1), Some(domains.path().join("domain-1-web")));
        assert_eq!(found(2), None);
        assert_eq!(folder_of(Path::new("/nowhere"), 1).unwrap(), None);
    }

    #[test]
    fn what_is_copied_aside_lies_beside_the_disk_and_is_no_disk() {
        let path = scratch(&Name::new("web").unwrap(), Path::new("/pool/web.qcow2"));
        assert_eq!(path, Path::new("/pool/.trueup-web-web.qcow2.part"));
    }
}
