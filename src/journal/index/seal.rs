//! The seal: a digest over all of sled's files, valid from a clean close to the next open.
//!
//! It never opens sled.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::journal::layout;

/// Changes with the index's form; another one is built again.
const VERSION: &str = "trueup index 1\n";

/// Where sled's files lie.
pub(super) fn database(folder: &Path) -> PathBuf {
    folder.join("db")
}

fn path(folder: &Path) -> PathBuf {
    folder.join("seal")
}

/// Whether there is a seal, right or wrong.
pub(super) fn is_there(folder: &Path) -> bool {
    path(folder).exists()
}

/// Whether the files are as they were sealed. The seal is gone afterwards: only the next clean
/// close may say that they are whole.
pub(super) fn take(folder: &Path) -> bool {
    let path = path(folder);
    let checked = || -> io::Result<bool> {
        let sealed = fs::read(&path)?;
        fs::remove_file(&path)?;
        layout::sync_dir(folder)?;
        Ok(sealed == digest(&database(folder))?)
    };
    match checked() {
        Ok(true) => true,
        Ok(false) => {
            tracing::warn!("the index is not as it was closed; it is built again from the log");
            false
        }
        Err(error) => {
            tracing::info!(%error, "the index was not closed; it is built again from the log");
            false
        }
    }
}

/// Seals the files; sled must be closed.
pub(super) fn put(folder: &Path) {
    let sealed =
        digest(&database(folder)).and_then(|digest| layout::replace(&path(folder), &digest));
    if let Err(error) = sealed {
        tracing::info!(%error, "the index is not sealed and will be built again");
    }
}

fn digest(database: &Path) -> io::Result<Vec<u8>> {
    let mut hasher = Sha256::new();
    hasher.update(VERSION);
    add(&mut hasher, database)?;
    Ok(hasher.finalize().to_vec())
}

fn add(hasher: &mut Sha256, folder: &Path) -> io::Result<()> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut buffer = vec![0; 64 * 1024];
    for path in paths {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        hasher.update((name.len() as u64).to_be_bytes());
        hasher.update(name);
        if path.is_dir() {
            hasher.update(b"d");
            add(hasher, &path)?;
            continue;
        }
        let mut file = File::open(&path)?;
        hasher.update(file.metadata()?.len().to_be_bytes());
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
    }
    Ok(())
}
