//! Takes a backup of a stream: bytes whose number nobody knows before their end.
//!
//! The library stores a file's size before it reads it, and restic restores a file of size zero
//! without content. So the stream is read with its snapshot withheld, then the tree is written anew
//! with the right size (a pack, an index and a snapshot, see doc/design.rst of restic), and only that
//! is stored. A stream that breaks off leaves nothing but data that the next prune removes.

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustic_core::repofile::{Metadata, Node, NodeType, SnapshotFile};
use rustic_core::{BackupOptions, ParentOptions, ReadSource, ReadSourceEntry, RusticResult};

use super::backup::taken;
use super::pack::{Packer, Type};
use super::{Feed, Job, Open};
use crate::bridge::Pace;
use crate::protocol::{Backup, Fault, Taken};

/// How a stream went.
#[derive(Default)]
struct Flow {
    bytes: u64,
    /// Why it ended too early.
    broken: Option<String>,
}

type Shared = Arc<Mutex<Flow>>;

/// The only file of the snapshot.
struct Stream {
    name: PathBuf,
    node: Node,
    reader: Mutex<Option<Reader>>,
}

impl ReadSource for Stream {
    type Open = Reader;
    type Iter = std::vec::IntoIter<RusticResult<ReadSourceEntry<Reader>>>;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Self::Iter {
        let open = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (path, node) = (self.name.clone(), self.node.clone());
        vec![Ok(ReadSourceEntry { path, node, open })].into_iter()
    }
}

struct Reader {
    feed: Feed,
    flow: Shared,
    pace: Pace,
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.feed.read(into);
        let mut flow = self.flow.lock().unwrap_or_else(PoisonError::into_inner);
        match &read {
            Ok(read) => flow.bytes += *read as u64,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => flow.broken = Some(error.to_string()),
        }
        drop(flow);
        if let Ok(read) = read {
            self.pace.take(read as u64);
        }
        read
    }
}

impl Job {
    pub(super) fn backup_stream(
        &self,
        open: Open,
        backup: &Backup,
        name: &str,
        feed: Feed,
    ) -> Result<Taken, Fault> {
        let name = file_name(name)?;
        let flow = Shared::default();
        let pace = Pace::new(self.limits.read_kib);
        let blank = self.blank(backup)?;
        let node = file_node(name.clone(), &blank);
        let reader = Mutex::new(Some(Reader { feed, flow: Arc::clone(&flow), pace }));
        let source = Stream { name: name.clone(), node, reader };
        let parent = ParentOptions::default().force(true);
        let options = BackupOptions::default().no_scan(true).parent_opts(parent);
        let indexed = open.to_indexed_ids().map_err(|error| self.fault(&error))?;
        self.bridge.withhold(true);
        let stored = indexed.archive(&options, &source, blank, std::slice::from_ref(&name));
        self.bridge.withhold(false);
        let flow = flow.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &flow.broken {
            return Err(Fault::SourceVanished { path: name, why: why.clone() });
        }
        let snapshot = stored.map_err(|error| self.fault(&error))?;
        if let Some(fault) = self.bridge.barred() {
            return Err(fault);
        }
        let snapshot = self.resize(indexed.drop_index(), snapshot, flow.bytes)?;
        Ok(taken(&snapshot, 0, vec![]))
    }

    /// Stores the snapshot with a tree in which the file has its size.
    fn resize(
        &self,
        open: Open,
        mut snapshot: SnapshotFile,
        size: u64,
    ) -> Result<SnapshotFile, Fault> {
        let internal = |what: String| Fault::Internal { what };
        let packer = Packer::new(&self.bridge, &open, Type::Tree)?;
        // Anew: the index the stream was written with does not know what came with it.
        let indexed = open.to_indexed().map_err(|error| self.fault(&error))?;
        let mut tree = indexed.get_tree(&snapshot.tree).map_err(|error| self.fault(&error))?;
        let [file] = tree.nodes.as_mut_slice() else {
            return Err(internal(format!("the stream became {} files", tree.nodes.len())));
        };
        if file.content.is_none() {
            return Err(internal("the stream became a file without content".into()));
        }
        file.meta.size = size;
        let (text, id) = tree.serialize().map_err(|error| internal(error.to_string()))?;
        packer.add(id.into(), &text)?;
        packer.finish()?;
        snapshot.tree = id;
        if let Some(summary) = &mut snapshot.summary {
            summary.total_bytes_processed = size;
        }
        packer.snapshot(&mut snapshot)?;
        Ok(snapshot)
    }
}

/// The name of a stream's or an image's file, if it is one.
pub(super) fn file_name(name: &str) -> Result<PathBuf, Fault> {
    if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
        return Err(Fault::Invalid { what: format!("`{name}` is no file's name") });
    }
    Ok(PathBuf::from(name))
}

/// A file that is none on this host: private, and of the time of its snapshot.
pub(super) fn file_node(name: PathBuf, snapshot: &SnapshotFile) -> Node {
    let time = Some(snapshot.time.timestamp());
    let meta = Metadata {
        mode: Some(0o600),
        mtime: time,
        atime: time,
        ctime: time,
        uid: Some(rustix::process::getuid().as_raw()),
        gid: Some(rustix::process::getgid().as_raw()),
        links: 1,
        ..Metadata::default()
    };
    Node::new_node(name.as_os_str(), NodeType::File, meta)
}
