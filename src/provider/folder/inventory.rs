//! What a folder has made, in a file beside its versions: written before the first change, cut down after the
//! last, so that a crash leaves nothing that nobody knows of.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat, renameat};
use serde::{Deserialize, Serialize};

use crate::model::resource::ReleasePlace;

/// Its file.
const FILE: &str = "inventory.json";
/// The same while it is written.
const NEW: &str = ".inventory-new";
/// Its form.
const FORM: u32 = 1;
/// Largest one that is read, bytes: a thousand versions have less.
const BYTES_MAX: u64 = 64 << 10;

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Inventory {
    form: u32,
    /// Of which cluster, and where.
    release: String,
    /// The host that keeps it.
    pub(super) holder: String,
    /// Its versions, the oldest first.
    pub(super) versions: Vec<String>,
    /// Whether all of the last change was done.
    pub(super) complete: bool,
}

impl Inventory {
    pub(super) fn new(
        place: &ReleasePlace,
        holder: &str,
        versions: Vec<String>,
        complete: bool,
    ) -> Self {
        let (release, holder) = (place.to_string(), holder.to_owned());
        Self { form: FORM, release, holder, versions, complete }
    }

    /// Reads it; `None`: there is none.
    ///
    /// # Errors
    /// It cannot be read: it is no empty one.
    pub(super) fn read(store: &OwnedFd) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match openat(store, FILE, flags, Mode::empty()) {
            Ok(file) => std::fs::File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut text = String::new();
        file.take(BYTES_MAX).read_to_string(&mut text)?;
        let read: Self = serde_json::from_str(&text).map_err(io::Error::other)?;
        let named = |version: &String| is_version(version);
        if read.form != FORM || !read.versions.iter().all(named) {
            return Err(io::Error::other("it is none that this version of trueup wrote"));
        }
        Ok(Some(read))
    }

    /// Writes it in the place of the one before.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, store: &OwnedFd) -> io::Result<()> {
        super::tree::remove(store, NEW)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(openat(store, NEW, flags, Mode::from(0o600))?);
        file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)?;
        file.sync_all()?;
        renameat(store, NEW, store, FILE)?;
        rustix::fs::fsync(store)?;
        Ok(())
    }

    /// Removes it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn remove(store: &OwnedFd) -> io::Result<()> {
        super::tree::remove(store, NEW)?;
        super::tree::remove(store, FILE)
    }
}

/// Whether a name is one of a version: twelve digits of a digest.
pub(super) fn is_version(name: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.len() == 12 && name.bytes().all(digit)
}
