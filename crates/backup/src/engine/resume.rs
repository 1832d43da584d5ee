//! Which restore a folder is of, and which of its files were being written when that ended early.
//!
//! A restore that goes on replaces nothing but what it was itself writing: files bear a mode bit while
//! they are written that means nothing on Linux and that nobody else gives a file. Where a file system
//! does not keep it, going on is refused rather than somebody's file replaced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::restore::unwritable;
use crate::protocol::Fault;

/// The file in the target that says what is being restored there; it goes when all of it is there.
pub(super) const MARK: &str = ".trueup-restore";
/// The mode of a file while it is written: private, and sticky, which files never are.
pub(super) const BEING_WRITTEN: u32 = 0o1600;
/// Of [`BEING_WRITTEN`], what tells it from others.
pub(super) const STICKY: u32 = 0o1000;
/// A mark is a line of some hundred bytes.
const MARK_BYTES_MAX: u64 = 64 * 1024;

/// What is being restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begun {
    /// The snapshot's id.
    pub(super) snapshot: String,
    /// The path within it; empty for all of it.
    pub(super) path: String,
}

/// What an interrupted restore in `to` was of; `None` where there was none, or nobody can tell.
pub(super) fn begun(to: &Path) -> Option<Begun> {
    let mut text = Vec::new();
    File::open(to.join(MARK)).ok()?.take(MARK_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Makes the folder to restore into, sees that nothing is in it or that this very restore was
/// interrupted there, and marks it.
pub(super) fn begin(to: &Path, what: &Begun, resume: bool) -> Result<(), Fault> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(to);
    made.map_err(|error| unwritable(to, &error))?;
    let mut others = false;
    for entry in fs::read_dir(to).map_err(|error| unwritable(to, &error))? {
        others |= entry.map_err(|error| unwritable(to, &error))?.file_name() != MARK;
    }
    let found = begun(to);
    if others && !resume {
        return Err(Fault::TargetNotEmpty { path: to.to_owned() });
    }
    if others && found.as_ref() != Some(what) {
        let why = match found {
            None => "no restore was interrupted there".to_owned(),
            Some(Begun { snapshot, path }) if path.is_empty() => {
                format!("what was interrupted there is all of snapshot {snapshot}")
            }
            Some(Begun { snapshot, path }) => {
                format!("what was interrupted there is {path} of snapshot {snapshot}")
            }
        };
        return Err(Fault::NotResumable { path: to.to_owned(), why });
    }
    if found.as_ref() == Some(what) {
        return Ok(());
    }
    let mark = to.join(MARK);
    let text = serde_json::to_vec(what).map_err(|e| Fault::Internal { what: e.to_string() })?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&mark);
    let written = file.and_then(|mut file| file.write_all(&text));
    written.map_err(|error| unwritable(&mark, &error))
}

/// All of it is there: from now on nothing in the folder may be replaced.
pub(super) fn end(to: &Path) -> Result<(), Fault> {
    let mark: PathBuf = to.join(MARK);
    match fs::remove_file(&mark) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(unwritable(&mark, &error)),
        _ => Ok(()),
    }
}
