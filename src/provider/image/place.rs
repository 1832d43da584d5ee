//! Putting a finished file in its place: never half, never writable, never lost by a power cut.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::error::ImageError;

/// Golden files may be read by all and written by nobody: a stray commit into one must fail.
pub(super) const GOLDEN_MODE: u32 = 0o444;

/// Makes `from` durable and read-only, and renames it to `to` on the same file system.
pub(super) fn place(from: &Path, to: &Path) -> Result<(), ImageError> {
    let file = File::open(from).map_err(ImageError::file("open", from))?;
    file.set_permissions(Permissions::from_mode(GOLDEN_MODE))
        .map_err(ImageError::file("protect", from))?;
    file.sync_all().map_err(ImageError::file("sync", from))?;
    std::fs::rename(from, to).map_err(ImageError::file("rename into place", to))?;
    let dir = to.parent().unwrap_or(Path::new("/"));
    let handle = File::open(dir).map_err(ImageError::file("open", dir))?;
    handle.sync_all().map_err(ImageError::file("sync", dir))
}

/// Runs blocking file work off the executor's threads.
pub(super) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ImageError::Worker { doing })?
}
