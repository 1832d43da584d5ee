//! What was rendered, in files of our own by the digest of all that went into it. Secrets may be among it, so
//! that only their owner may read them; a file that is not what was written is taken for none.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::model::Digest;
use crate::provider::paths;

/// Renderings that are kept; the longest unused go first.
const KEPT_MAX: usize = 400;

/// What is known by this key.
///
/// # Errors
/// It cannot be read.
pub(super) fn get(folder: &Path, key: Digest) -> io::Result<Option<String>> {
    let path = file(folder, key);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(paths::named(&path, &error)),
    };
    let text = String::from_utf8(bytes).ok();
    let whole = text.as_deref().and_then(|text| text.split_once('\n'));
    let whole = whole.filter(|(digest, text)| *digest == Digest::of(text).to_string());
    match whole {
        Some((_, text)) => {
            // What is in use is not what is removed.
            let touched =
                fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
            if let Err(error) = touched {
                tracing::debug!(%error, path = %path.display(), "a rendering's time is not set");
            }
            Ok(Some(text.to_owned()))
        }
        None => {
            tracing::warn!(path = %path.display(), "a rendering is damaged; it is made anew");
            Ok(None)
        }
    }
}

/// Keeps what was rendered.
///
/// # Errors
/// It cannot be written.
pub(super) fn put(folder: &Path, key: Digest, text: &str) -> io::Result<()> {
    let path = file(folder, key);
    let kept = folder.join("kept");
    paths::private(&kept)?;
    let mut new = tempfile::NamedTempFile::new_in(&kept)?;
    new.write_all(Digest::of(text).to_string().as_bytes())?;
    new.write_all(b"\n")?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(&path).map_err(|error| paths::named(&path, &error.error))?;
    prune(&kept)
}

fn prune(kept: &Path) -> io::Result<()> {
    let mut all: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(kept)? {
        let entry = entry?;
        all.push((entry.metadata()?.modified()?, entry.path()));
    }
    let more = all.len().saturating_sub(KEPT_MAX);
    all.sort();
    for (_, path) in all.into_iter().take(more) {
        fs::remove_file(&path).map_err(|error| paths::named(&path, &error))?;
    }
    Ok(())
}

fn file(folder: &Path, key: Digest) -> PathBuf {
    folder.join("kept").join(key.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_damaged_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Digest::of("one"), Digest::of("other"));
        assert_eq!(get(folder.path(), one).unwrap(), None);
        put(folder.path(), one, "a: 1\n").unwrap();
        assert_eq!(get(folder.path(), one).unwrap().as_deref(), Some("a: 1\n"));
        assert_eq!(get(folder.path(), other).unwrap(), None);
        let path = file(folder.path(), one);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("a: 1", "a: 2")).unwrap();
        assert_eq!(get(folder.path(), one).unwrap(), None);
    }

    #[test]
    fn only_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for nth in 0..KEPT_MAX + 3 {
            put(folder.path(), Digest::of(nth.to_string()), "x").unwrap();
        }
        assert_eq!(fs::read_dir(folder.path().join("kept")).unwrap().count(), KEPT_MAX);
    }
}
