//! Takes a backup of a stream: bytes whose number nobody knows before their end.
//!
//! The library stores a file's size before it reads it, and restic restores a file of size zero
//! without content. So the stream is read with its snapshot withheld, then the tree is written anew
//! with the right size (a pack, an index and a snapshot, see doc/design.rst of restic), and only that
//! is stored. A stream that breaks off leaves nothing but data that the next prune removes.

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use rustic_core::repofile::{Metadata, Node, NodeType, SnapshotFile};
use rustic_core::{
    BackupOptions, ParentOptions, ReadSource, ReadSourceEntry, RusticResult, TreeId,
};
use serde_json::json;

use super::backup::taken;
use super::{Feed, Job, Open};
use crate::bridge::Pace;
use crate::protocol::{Backup, Fault, Taken};
use crate::seal::{self, Seal, SealError};
use crate::store::Kind;

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
    meta: Metadata,
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
        let node = Node::new_node(self.name.as_os_str(), NodeType::File, self.meta.clone());
        vec![Ok(ReadSourceEntry { path: self.name.clone(), node, open })].into_iter()
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
        if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
            return Err(Fault::Invalid { what: format!("`{name}` is no file's name") });
        }
        let flow = Shared::default();
        let pace = Pace::new(self.limits.read_kib);
        let blank = self.blank(backup)?;
        let time = Some(blank.time.timestamp());
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
        let name = PathBuf::from(name);
        let reader = Mutex::new(Some(Reader { feed, flow: Arc::clone(&flow), pace }));
        let source = Stream { name: name.clone(), meta, reader };
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
        let seal = super::seal(&open)?;
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
        let (name, pack, index) =
            pack(&seal, &text, id).map_err(|error| internal(error.to_string()))?;
        self.bridge.put(Kind::Pack, &name, &[Bytes::from(pack)])?;
        let index = seal.close(&index).map_err(|error| internal(error.to_string()))?;
        self.bridge.put(Kind::Index, &seal::digest(&index), &[Bytes::from(index)])?;
        snapshot.tree = id;
        if let Some(summary) = &mut snapshot.summary {
            summary.total_bytes_processed = size;
        }
        // The name it was withheld under is not its own any more.
        snapshot.id = Default::default();
        indexed.save_snapshots(vec![snapshot.clone()]).map_err(|error| self.fault(&error))?;
        let all = indexed.get_all_snapshots().map_err(|error| self.fault(&error))?;
        let ours = |stored: &SnapshotFile| stored.tree == id && stored.time == snapshot.time;
        all.into_iter().find(ours).ok_or_else(|| internal("the snapshot is not there".into()))
    }
}

/// A pack with one tree in it, uncompressed: its name, its content, and the index that knows it.
fn pack(seal: &Seal, tree: &[u8], id: TreeId) -> Result<(String, Vec<u8>, Vec<u8>), SealError> {
    /// A tree that is not compressed (doc/design.rst, "Pack Format").
    const PLAIN_TREE: u8 = 1;
    let mut pack = seal.close(tree)?;
    let length = u32::try_from(pack.len()).map_err(|_| SealError::Foreign)?;
    let name = id.to_hex();
    let mut header = vec![PLAIN_TREE];
    header.extend(length.to_le_bytes());
    header.extend(hex::decode(name.as_str()).map_err(|_| SealError::Foreign)?);
    let header = seal.close(&header)?;
    let header_length = u32::try_from(header.len()).map_err(|_| SealError::Foreign)?;
    pack.extend(&header);
    pack.extend(header_length.to_le_bytes());
    let pack_name = seal::digest(&pack);
    let blob = json!({ "id": name.as_str(), "type": "tree", "offset": 0, "length": length });
    let index = json!({ "packs": [{
        "id": pack_name,
        "blobs": [blob],
        "time": Timestamp::now().to_string(),
        "size": pack.len(),
    }] });
    Ok((pack_name, pack, index.to_string().into_bytes()))
}
