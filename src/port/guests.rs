//! The port to the disks of guests, as far as backups read them.
//!
//! Whoever is behind it makes disks readable as they are at one moment, without stopping a guest and
//! without ever putting a layer under it, and takes away whatever that took, also after a crash. It also
//! boots what was restored of a guest, as a machine of its own that no other one notices.

use std::any::Any;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{BoxFuture, Progress};
use crate::model::backup::BackupBooted;
use crate::model::resource::{
    BackupBoot, BackupDefinition, BackupGuest, GuestPart, VirtualMachine, VolumeFormat,
};
use crate::model::{Fault, Name, ResourceId};

/// What a backup wants to read.
#[derive(Debug, Clone)]
pub struct GuestWish {
    /// The backup; what is made for it bears its name.
    pub backup: ResourceId,
    /// Of what.
    pub guest: BackupGuest,
    /// Points in time from which it has everything, the newest first.
    pub bases: Vec<GuestBase>,
}

/// A point in time from which a backup has everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestBase {
    /// The mark in the disks from which on changes are noted.
    pub mark: String,
    /// The files that the backup has of it.
    pub files: BTreeSet<String>,
}

/// Disks that can be read as they were at one moment.
pub struct OpenGuest {
    /// What it is, for people: `vm/web`.
    pub what: String,
    /// The disks.
    pub images: Vec<GuestImage>,
    /// Small files that belong to them: names and contents.
    pub texts: Vec<(String, String)>,
    /// The mark from which on changes are told; `None`: nothing is told, so everything is read.
    pub base: Option<String>,
    /// The mark of this moment, to be kept with what is read; `None`: there is none.
    pub mark: Option<String>,
    /// Folders that fill up while it is read, by what the guest overwrites.
    pub fills: BTreeSet<PathBuf>,
    /// What is worth knowing, in sentences.
    pub notices: Vec<String>,
    /// What [`Guests`] keeps for itself. Once it is dropped, without [`Guests::close`], what was
    /// made is a leftover.
    pub held: Box<dyn Any + Send + Sync>,
}

/// The small file of a machine's backup that says which of its files is which disk: a list of
/// [`DiskInBackup`] as JSON. Targets alone do not tell: they may change with the next start of the machine.
pub const SAVED_DISKS: &str = "disks.json";

/// Which disk a file of a backup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskInBackup {
    /// What the file is called in the backup.
    pub file: String,
    /// The disk's own file on the host.
    pub path: PathBuf,
    /// The format of that; the file in the backup is raw.
    pub format: VolumeFormat,
}

/// A disk that can be read through an NBD server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestImage {
    /// What the file is called in the backup.
    pub file: String,
    /// The disk's file on this host.
    pub path: PathBuf,
    /// The server's socket.
    pub socket: PathBuf,
    /// The name of the export.
    pub export: String,
    /// The bitmap of what changed since [`OpenGuest::base`]; `None`: everything is read.
    pub bitmap: Option<String>,
}

/// What a backup has in a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestLeft {
    /// Which backup.
    pub backup: Name,
    /// The guest, as libvirt calls it.
    pub guest: String,
    /// Whether it was left behind in mid-work; otherwise it is a mark that the next run needs.
    pub unfinished: bool,
    /// Whether all that is left is that the guest's file systems may be frozen: its agent was asked to
    /// thaw them and does not answer.
    pub only_frozen: bool,
}

/// What is to be booted of what a drill brought back.
#[derive(Debug, Clone, Copy)]
pub struct BootWish<'a> {
    /// The backup; the copy bears its name.
    pub backup: &'a Name,
    /// What of a guest it has.
    pub part: &'a GuestPart,
    /// How it is booted.
    pub boot: &'a BackupBoot,
    /// The virtual machine as the commit asks for it: a kernel of the host is taken from here, never
    /// from what came back.
    pub spec: &'a VirtualMachine,
    /// The folder that it was restored into. Only root and whoever runs guests may look into it then.
    pub folder: &'a Path,
}

/// What came of a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Booted {
    /// It came up, and every command in it succeeded.
    Up {
        /// How.
        up: BackupBooted,
        /// What is worth knowing beside it, in sentences.
        notices: Vec<String>,
    },
    /// It did not.
    Down {
        /// Why, in a sentence.
        why: String,
        /// What it wrote on its console last, cut short, without what looks like a secret.
        console: Vec<String>,
    },
}

/// Makes the disks of guests readable, and boots copies of guests.
pub trait Guests: Send + Sync {
    /// Makes disks readable as they are now.
    ///
    /// # Errors
    /// A [`Fault`] that says what to do next; nothing is left behind then.
    fn open<'a>(&'a self, wish: &'a GuestWish) -> BoxFuture<'a, Result<OpenGuest, Fault>>;

    /// That what was read is still of one moment.
    ///
    /// # Errors
    /// It is not, or nobody can tell.
    fn confirm<'a>(&'a self, open: &'a OpenGuest) -> BoxFuture<'a, Result<(), Fault>>;

    /// Takes away what was made. The mark of this moment stays where `stored` says that what was
    /// read is kept with it, and the one before goes; otherwise it is the other way round.
    ///
    /// # Errors
    /// Something is left behind, and told by [`Guests::left`].
    fn close(&self, open: OpenGuest, stored: bool) -> BoxFuture<'_, Result<(), Fault>>;

    /// What backups have in guests, but for those that are being taken now. It asks no guest.
    ///
    /// # Errors
    /// The notes about it cannot be read.
    fn left(&self) -> BoxFuture<'_, Result<Vec<GuestLeft>, Fault>>;

    /// Takes away what a backup left behind in mid-work, and with `wholly` all that it has.
    ///
    /// # Errors
    /// Something is still there.
    fn clear<'a>(&'a self, backup: &'a Name, wholly: bool) -> BoxFuture<'a, Result<bool, Fault>>;

    /// What libvirt has of an object, as text.
    ///
    /// # Errors
    /// It is not there, or cannot be told.
    fn definition<'a>(&'a self, of: &'a BackupDefinition) -> BoxFuture<'a, Result<String, Fault>>;

    /// That a copy could be started of what is restored into the folder of the wish, which need not be
    /// there yet.
    ///
    /// # Errors
    /// It could not, or nobody can tell.
    fn may_boot<'a>(&'a self, wish: &'a BootWish<'a>) -> BoxFuture<'a, Result<(), Fault>>;

    /// Boots a copy and waits until it is up; nobody else is on its network. Whatever comes of it,
    /// [`Guests::end_boot`] has to be called afterwards.
    ///
    /// # Errors
    /// Something kept it from being found out whether it comes up.
    fn boot<'a>(
        &'a self,
        wish: &'a BootWish<'a>,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Booted, Fault>>;

    /// Ends the copy of a backup and removes its network, known by our mark alone; whether there was
    /// something.
    ///
    /// # Errors
    /// Something is still there.
    fn end_boot<'a>(&'a self, backup: &'a Name) -> BoxFuture<'a, Result<bool, Fault>>;
}
