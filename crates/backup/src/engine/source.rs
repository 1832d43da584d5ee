//! What a backup reads, watched: the library leaves out what it cannot read and says nothing.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustic_core::repofile::NodeType;
use rustic_core::{
    LocalSource, ReadSource, ReadSourceEntry, ReadSourceOpen, RusticError, RusticResult,
};

use crate::bridge::Pace;
use crate::protocol::{MISSING_MAX, Missing};

/// What could not be read so far.
#[derive(Default)]
pub(crate) struct Watch {
    missing: Mutex<(u64, Vec<Missing>)>,
}

impl Watch {
    fn note(&self, path: &Path, vanished: bool, why: String) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.0 += 1;
        if missing.1.len() < MISSING_MAX {
            missing.1.push(Missing { path: path.to_owned(), vanished, why });
        }
    }

    /// How many things, and the first of them.
    pub(crate) fn missing(&self) -> (u64, Vec<Missing>) {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn why(error: &RusticError) -> String {
    /// The library's texts go on with advice that is not ours.
    const TEXT_MAX: usize = 300;
    error.display_log().chars().take(TEXT_MAX).collect()
}

/// Whether somewhere below an error lies that the file is not there, and which file it is about, as
/// far as the error says.
fn about(error: &(dyn std::error::Error + 'static)) -> (bool, PathBuf) {
    let (mut gone, mut path) = (false, PathBuf::new());
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        gone |= io.is_some_and(|io| io.kind() == std::io::ErrorKind::NotFound);
        if let Some(walk) = error.downcast_ref::<ignore::Error>() {
            let io = walk.io_error();
            gone |= io.is_some_and(|io| io.kind() == std::io::ErrorKind::NotFound);
            walked(walk, &mut path);
        }
        cause = error.source();
    }
    (gone, path)
}

/// The path an error of the walk is about.
fn walked(error: &ignore::Error, path: &mut PathBuf) {
    match error {
        ignore::Error::WithPath { path: known, err } => {
            path.clone_from(known);
            walked(err, path);
        }
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
            walked(err, path);
        }
        _ => {}
    }
}

/// Read at once of a file: the library itself asks for 4 KiB at a time.
const BUFFER_BYTES: usize = 128 * 1024;

/// Files and folders of this host.
pub(crate) struct Watched {
    pub(crate) inner: LocalSource,
    pub(crate) watch: Arc<Watch>,
    pub(crate) pace: Arc<Pace>,
}

impl ReadSource for Watched {
    type Open = WatchedOpen;
    type Iter = WatchedEntries;

    fn size(&self) -> RusticResult<Option<u64>> {
        self.inner.size()
    }

    fn entries(&self) -> WatchedEntries {
        WatchedEntries {
            inner: self.inner.entries(),
            watch: Arc::clone(&self.watch),
            pace: Arc::clone(&self.pace),
        }
    }
}

pub(crate) struct WatchedEntries {
    inner: <LocalSource as ReadSource>::Iter,
    watch: Arc<Watch>,
    pace: Arc<Pace>,
}

impl Iterator for WatchedEntries {
    type Item = RusticResult<ReadSourceEntry<WatchedOpen>>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = match self.inner.next()? {
            Ok(entry) => entry,
            Err(error) => {
                let (gone, path) = about(&*error);
                self.watch.note(&path, gone, why(&error));
                return Some(Err(error));
            }
        };
        let ReadSourceEntry { path, node, open } = entry;
        let open = open.map(|inner| WatchedOpen {
            inner,
            path: path.clone(),
            file: node.node_type == NodeType::File,
            size: node.meta.size,
            watch: Arc::clone(&self.watch),
            pace: Arc::clone(&self.pace),
        });
        Some(Ok(ReadSourceEntry { path, node, open }))
    }
}

pub(crate) struct WatchedOpen {
    inner: <LocalSource as ReadSource>::Open,
    path: PathBuf,
    file: bool,
    size: u64,
    watch: Arc<Watch>,
    pace: Arc<Pace>,
}

impl ReadSourceOpen for WatchedOpen {
    type Reader = WatchedReader;

    fn open(self) -> RusticResult<WatchedReader> {
        let WatchedOpen { inner, path, file, size, watch, pace } = self;
        match inner.open() {
            Ok(inner) => {
                let left = if file { size } else { 0 };
                // A small file needs no more than itself, and the end behind it.
                let buffer = usize::try_from(left).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
                let inner = BufReader::with_capacity(buffer, Box::new(inner) as _);
                Ok(WatchedReader { inner, path, left, watch, pace })
            }
            Err(error) => {
                watch.note(&path, about(&*error).0, why(&error));
                Err(error)
            }
        }
    }
}

/// A file, as long as it was when its folder was listed.
///
/// The size is stored before the content is read. One that grows meanwhile is saved up to that size;
/// one that shrinks is left out and said, because restic would fill it up with zeros.
pub(crate) struct WatchedReader {
    inner: BufReader<Box<dyn Read + Send>>,
    path: PathBuf,
    left: u64,
    watch: Arc<Watch>,
    pace: Arc<Pace>,
}

impl Read for WatchedReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        if most == 0 {
            return Ok(0);
        }
        let read = match self.inner.read(&mut into[..most]) {
            Ok(0) => {
                let why = format!("it became {} bytes shorter while it was read", self.left);
                Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, why))
            }
            other => other,
        };
        match read {
            Ok(read) => {
                self.pace.take(read as u64);
                self.left -= read as u64;
                Ok(read)
            }
            // The reader asks again by itself.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.watch.note(&self.path, about(&error).0, error.to_string());
                Err(error)
            }
        }
    }
}
