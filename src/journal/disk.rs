//! The few file operations the writer's promises rest on, behind a trait so that tests can break
//! each of them.
//!
//! It never retries: what to do about a failure is the writer's decision.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::layout;

/// A disk that holds segments and the reserve.
pub(crate) trait Disk: Send {
    /// Opens a segment for writing; creates it, and makes its name durable, where it is missing.
    fn open_segment(&self, path: &Path) -> io::Result<Box<dyn Segment>>;
    /// Gives a new segment the name under which it is part of the log, durably.
    fn publish(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Sets `bytes` aside in a file of their own.
    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Removes the reserve, or a segment that never became one; it may be gone already.
    fn release(&self, path: &Path) -> io::Result<()>;
}

/// A segment open for writing.
pub(crate) trait Segment: Send {
    /// Writes at `offset`; may write less than all.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes everything written durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file to `bytes` and gives back what was allocated beyond.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Allocates blocks up to `bytes` without changing the file's size.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// The file's size.
    fn size(&self) -> io::Result<u64>;
}

/// Whether an error says that there is no space.
pub(crate) fn is_full(error: &io::Error) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT];
    Errno::from_io_error(error).is_some_and(|errno| full.contains(&errno))
}

/// The real disk.
pub(crate) struct HostDisk;

impl Disk for HostDisk {
    fn open_segment(&self, path: &Path) -> io::Result<Box<dyn Segment>> {
        let missing = !path.try_exists()?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if missing {
            file.sync_all()?;
            path.parent().map_or(Ok(()), layout::sync_dir)?;
        }
        Ok(Box::new(file))
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)?;
        to.parent().map_or(Ok(()), layout::sync_dir)
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        preallocate(&file, FallocateFlags::empty(), bytes)?;
        file.sync_all()
    }

    fn release(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

impl Segment for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        preallocate(self, FallocateFlags::KEEP_SIZE, bytes)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Where the filesystem cannot preallocate there is nothing to gain and nothing lost.
fn preallocate(file: &File, flags: FallocateFlags, bytes: u64) -> io::Result<()> {
    match fallocate(file, flags, 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        done => Ok(done?),
    }
}

/// Reads at `offset` until `buffer` is full or the file ends.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
