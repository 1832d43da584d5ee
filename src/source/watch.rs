//! Wakes the daemon when somebody pushes to a repository on this machine.
//!
//! It says only that something may have happened, never what; polling finds the same without it.
//! Reading a repository (as our own fetch does) never wakes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::error::{SourceError, chain};

/// Watches the refs of a local repository until it is dropped.
#[derive(Debug)]
pub struct Watch {
    // Held for its threads and descriptors.
    _watcher: RecommendedWatcher,
    alive: Arc<AtomicBool>,
}

impl Watch {
    /// Starts watching the repository at `path` (bare or not). Every push leaves one permit in
    /// `wake`, however many refs it moved.
    ///
    /// # Errors
    /// [`SourceError::Watch`] when there is no repository or no more watches are to be had.
    pub fn start(path: &Path, wake: Arc<Notify>) -> Result<Self, SourceError> {
        let failed = |why: String| SourceError::Watch { path: path.to_path_buf(), why };
        let places = git_directories(path).map_err(&failed)?;
        let roots: Vec<PathBuf> = places.clone();
        let alive = Arc::new(AtomicBool::new(true));
        let living = Arc::clone(&alive);
        let handler = move |event: notify::Result<notify::Event>| match event {
            Ok(event) => {
                if event.kind.is_remove() && event.paths.iter().any(|gone| roots.contains(gone)) {
                    living.store(false, Ordering::Release);
                }
                if matters(&event) {
                    wake.notify_one();
                }
            }
            Err(error) => {
                // Events may be lost from here on; looking once more is always right.
                tracing::warn!(error = chain(&error), "the watch on the local repository failed");
                living.store(false, Ordering::Release);
                wake.notify_one();
            }
        };
        let failed_by = |error: notify::Error| failed(chain(&error));
        let mut watcher = notify::recommended_watcher(handler).map_err(failed_by)?;
        for place in &places {
            // HEAD and packed-refs lie here, beside directories that are not of interest.
            watcher.watch(place, RecursiveMode::NonRecursive).map_err(failed_by)?;
            for refs in ["refs", "reftable"] {
                let refs = place.join(refs);
                if refs.is_dir() {
                    watcher.watch(&refs, RecursiveMode::Recursive).map_err(failed_by)?;
                }
            }
        }
        Ok(Self { _watcher: watcher, alive })
    }

    /// False once the repository was removed or replaced or the watch failed: start a new one.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }
}

/// Whether the event can mean that a ref moved.
fn matters(event: &notify::Event) -> bool {
    if event.need_rescan() {
        return true;
    }
    if matches!(event.kind, EventKind::Access(_)) {
        return false;
    }
    event.paths.is_empty()
        || event.paths.iter().any(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let ref_like = path
                .components()
                .any(|part| part.as_os_str() == "refs" || part.as_os_str() == "reftable");
            !name.ends_with(".lock") && (ref_like || name == "HEAD" || name == "packed-refs")
        })
}

/// The directories that hold the refs: of a plain repository one, of a linked worktree its own and
/// the common one.
fn git_directories(path: &Path) -> Result<Vec<PathBuf>, String> {
    let path = fs::canonicalize(path).map_err(|error| error.to_string())?;
    let dot = path.join(".git");
    let own = if dot.is_dir() {
        dot
    } else if dot.is_file() {
        let text = fs::read_to_string(&dot).map_err(|error| error.to_string())?;
        let target =
            text.trim().strip_prefix("gitdir:").ok_or("its .git file names no directory")?;
        path.join(target.trim())
    } else {
        path
    };
    if !own.join("HEAD").is_file() {
        return Err("there is no Git repository".to_owned());
    }
    let mut all = vec![own.clone()];
    if let Ok(common) = fs::read_to_string(own.join("commondir")) {
        all.push(fs::canonicalize(own.join(common.trim())).map_err(|error| error.to_string())?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{AccessKind, CreateKind, ModifyKind, RenameMode};

    fn event(kind: EventKind, path: &str) -> notify::Event {
        notify::Event::new(kind).add_path(path.into())
    }

    #[test]
    fn reading_and_locking_do_not_wake_but_a_moved_ref_does() {
        let rename = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        assert!(matters(&event(rename, "/r.git/refs/heads/main")));
        assert!(matters(&event(rename, "/r.git/packed-refs")));
        assert!(matters(&event(rename, "/r.git/HEAD")));
        assert!(!matters(&event(
            EventKind::Create(CreateKind::File),
            "/r.git/refs/heads/main.lock"
        )));
        assert!(!matters(&event(EventKind::Access(AccessKind::Any), "/r.git/refs/heads/main")));
        assert!(!matters(&event(rename, "/r.git/FETCH_HEAD")));
        assert!(!matters(&event(rename, "/r.git/objects")));
    }
}
