//! What backups have in guests, noted before it is made: a crash leaves nothing that nobody knows of.
//!
//! A folder for each backup, in it a note for each guest, and a lock that is held while the backup is
//! taken. Only what a note names is ever taken away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::model::Name;
use crate::provider::paths::{named, private};

/// What one backup has in one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    /// The guest's name in libvirt; empty where a disk is nobody's.
    pub(super) guest: String,
    /// Its UUID.
    pub(super) uuid: String,
    /// The mark that the next run needs.
    pub(super) kept: Option<String>,
    /// What is there only while the backup is taken.
    pub(super) under_way: Option<UnderWay>,
}

/// What is there only while a backup is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UnderWay {
    /// The number of the running domain: another one is another start of it, without a job or a
    /// freeze of ours.
    pub(super) number: Option<u32>,
    /// The mark of this moment.
    pub(super) mark: Option<String>,
    /// Sockets that disks are served at.
    pub(super) sockets: Vec<PathBuf>,
    /// Files into which QEMU copies what the guest overwrites.
    pub(super) scratch: Vec<PathBuf>,
    /// Whether its file systems may be frozen.
    pub(super) freezes: bool,
    /// Whether libvirt may still begin the job: it was asked to, and its answer is not known.
    #[serde(default)]
    pub(super) begins: bool,
}

impl UnderWay {
    /// What is left of it where all has gone but that file systems may be frozen; `None`: nothing.
    pub(super) fn frozen(&self) -> Option<Self> {
        self.freezes.then(|| Self { number: self.number, freezes: true, ..Self::default() })
    }
}

impl Note {
    /// Whether all that is left is that its file systems may be frozen.
    pub(super) fn only_frozen(&self) -> bool {
        self.under_way.as_ref().is_some_and(|it| it.frozen().as_ref() == Some(it))
    }
}

/// Holds off everybody else who would take, or clear up after, the same backup.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "it unlocks when it is closed")] File);

/// The notes of this host.
#[derive(Debug, Clone)]
pub(super) struct Notes {
    folder: PathBuf,
}

/// The name of the lock within a backup's folder.
const LOCK: &str = "lock";

impl Notes {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder itself, as text.
    pub(super) fn place(&self) -> String {
        self.folder.display().to_string()
    }

    /// The folder of one backup.
    pub(super) fn folder(&self, backup: &Name) -> PathBuf {
        self.folder.join(backup.as_str())
    }

    /// The backups that there is a folder of.
    pub(super) fn backups(&self) -> io::Result<Vec<Name>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(named(&self.folder, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| named(&self.folder, &error))?;
            names.extend(entry.file_name().to_str().and_then(|name| Name::new(name).ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Takes the lock of a backup; `None`: somebody has it.
    pub(super) fn lock(&self, backup: &Name) -> io::Result<Option<Lock>> {
        let folder = self.folder(backup);
        private(&folder)?;
        let path = folder.join(LOCK);
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|error| named(&path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(named(&path, &error.into())),
        }
    }

    /// The notes of a backup.
    pub(super) fn of(&self, backup: &Name) -> io::Result<Vec<Note>> {
        let folder = self.folder(backup);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(named(&folder, &error)),
        };
        let mut notes = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| named(&folder, &error))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(|error| named(&path, &error))?;
            let note: Note =
                serde_json::from_str(&text).map_err(|error| named(&path, &error.into()))?;
            notes.push(note);
        }
        notes.sort_by(|a, b| a.uuid.cmp(&b.uuid));
        Ok(notes)
    }

    /// Keeps a note, on the disk before anything is done; one that says nothing is removed.
    pub(super) fn keep(&self, backup: &Name, note: &Note) -> io::Result<()> {
        let folder = self.folder(backup);
        let path = folder.join(format!("{}.json", note.uuid));
        if note.kept.is_none() && note.under_way.is_none() {
            return remove(&path);
        }
        let fresh = folder.join(format!("{}.fresh", note.uuid));
        let text = serde_json::to_vec(note)?;
        let write = || {
            let mut options = OpenOptions::new();
            let mut file =
                options.create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&folder)?.sync_all()
        };
        write().map_err(|error| named(&path, &error))
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    // On a file system that is read-only to us, removing what is not there fails too.
    if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(path, &error)),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// How the names of marks begin.
pub(super) const MARK: &str = "trueup-";

/// The name of a mark of `backup`, made at `millis` since 1970.
pub(super) fn mark(backup: &Name, millis: i64) -> String {
    format!("{MARK}{backup}-{millis}")
}

/// Whether a mark is one of `backup`'s.
pub(super) fn is_mark_of(mark: &str, backup: &Name) -> bool {
    let rest = mark.strip_prefix(MARK).and_then(|rest| rest.rsplit_once('-'));
    rest.is_some_and(|(name, millis)| {
        name == backup.as_str() && !millis.is_empty() && millis.bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_mark_is_of_one_backup_only() {
        let made = mark(&name("web"), 12);
        assert!(is_mark_of(&made, &name("web")));
        assert!(!is_mark_of(&mark(&name("web-2"), 12), &name("web")));
        // The name of another backup may end as a mark does.
        assert!(!is_mark_of("trueup-web-2-12", &name("web")));
        for foreign in ["trueup-web", "web-12", "trueup-web-", "trueup-web-x1", "nightly"] {
            assert!(!is_mark_of(foreign, &name("web")), "{foreign}");
        }
    }

    #[test]
    fn a_job_that_is_gone_may_leave_a_freeze() {
        let job = UnderWay {
            number: Some(3),
            mark: Some("m".into()),
            sockets: vec!["/s".into()],
            scratch: vec!["/p".into()],
            freezes: true,
            begins: true,
        };
        let mut note = Note {
            guest: "web".into(),
            uuid: "u".into(),
            kept: None,
            under_way: Some(job.clone()),
        };
        assert!(!note.only_frozen());
        note.under_way = job.frozen();
        assert!(note.only_frozen());
        assert_eq!(note.under_way.and_then(|it| it.number), Some(3), "it is of this start");
        assert_eq!(UnderWay { freezes: false, ..job }.frozen(), None);
    }

    #[test]
    fn notes_are_kept_until_they_say_nothing_and_locks_until_they_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::new(folder.path().join("guests"));
        assert!(notes.backups().unwrap().is_empty());
        let web = name("web");
        let lock = notes.lock(&web).unwrap().unwrap();
        assert!(notes.lock(&web).unwrap().is_none());
        let mut note = Note {
            guest: "web".into(),
            uuid: "u".into(),
            kept: None,
            under_way: Some(UnderWay { freezes: true, ..UnderWay::default() }),
        };
        notes.keep(&web, &note).unwrap();
        assert_eq!(notes.of(&web).unwrap(), [note.clone()]);
        assert_eq!(notes.backups().unwrap(), std::slice::from_ref(&web));
        drop(lock);
        assert!(notes.lock(&web).unwrap().is_some());
        note.under_way = None;
        notes.keep(&web, &note).unwrap();
        assert!(notes.of(&web).unwrap().is_empty());
    }
}
