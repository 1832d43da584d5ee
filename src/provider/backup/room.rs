//! Room on this host's disks, watched while something is written to them.
//!
//! It only looks: who gives up what, and what is said about it, is for whoever asks.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the room is looked at; a fast disk fills half a GiB in that time.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Bytes that may be written into a folder.
///
/// # Errors
/// Its file system cannot be asked.
pub(super) fn free(folder: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(folder)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// Ends once one of the folders has less room than `least`, bytes, and says which and how much it has;
/// never where there are none. One that cannot be asked tells nothing.
pub(super) async fn runs_out(folders: &BTreeSet<PathBuf>, least: u64) -> (PathBuf, u64) {
    if folders.is_empty() {
        return std::future::pending().await;
    }
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        for folder in folders {
            if let Some(free) = free(folder).ok().filter(|free| *free < least) {
                return (folder.clone(), free);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn too_little_room_in_one_of_the_folders_is_told() {
        let host = tempfile::tempdir().unwrap();
        let gone = host.path().join("gone");
        let folders = BTreeSet::from([gone.clone(), host.path().to_owned()]);
        let (folder, free) = runs_out(&folders, u64::MAX).await;
        assert_eq!(folder, host.path());
        assert!(free > 0);
        let an_hour = Duration::from_secs(3600);
        assert!(timeout(an_hour, runs_out(&folders, 0)).await.is_err());
        for silent in [BTreeSet::from([gone]), BTreeSet::new()] {
            assert!(timeout(an_hour, runs_out(&silent, u64::MAX)).await.is_err());
        }
    }
}
