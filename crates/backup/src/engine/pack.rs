//! Writes what `rustic_core` has no way to write from outside: blobs into packs, their index, and a
//! snapshot over them. The formats are restic's (doc/design.rst, "Pack Format", "Indexing").
//!
//! Packs come before the index that names them, and all of them before the snapshot. It never says
//! that a blob is stored before its pack is.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use rustic_core::repofile::SnapshotFile;
use rustic_core::{BlobId, Id};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Open, PACK_BYTES};
use crate::bridge::Bridge;
use crate::protocol::Fault;
use crate::seal::{self, Seal};
use crate::store::Kind;

/// Blobs named by one index file: some MiB of it, as with restic.
const INDEX_BLOBS_MAX: usize = 40_000;
/// What is stored and not yet named is stored again by the next run after a kill; as with restic.
const UNNAMED_MAX: Duration = Duration::from_secs(5 * 60);

/// What a blob is, in the words of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Data,
    Tree,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Type::Data => "data",
            Type::Tree => "tree",
        }
    }

    /// The first byte of a blob's entry in a pack's header.
    fn code(self, compressed: bool) -> u8 {
        match (self, compressed) {
            (Type::Data, false) => 0,
            (Type::Tree, false) => 1,
            (Type::Data, true) => 2,
            (Type::Tree, true) => 3,
        }
    }
}

/// A blob in a pack.
struct Entry {
    id: BlobId,
    offset: u32,
    length: u32,
    /// Its size before it was compressed.
    plain: Option<u32>,
}

#[derive(Default)]
struct Pack {
    content: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Default)]
struct Index {
    packs: Vec<Value>,
    blobs: usize,
    /// When its first pack was stored.
    since: Option<Instant>,
}

/// Blobs on their way into packs; several threads may add some.
pub(super) struct Packer<'a> {
    bridge: &'a Bridge,
    seal: Seal,
    /// Repositories of version 1 know no compression.
    compress: bool,
    kind: Type,
    pack: Mutex<Pack>,
    index: Mutex<Index>,
    added: Mutex<HashSet<BlobId>>,
}

fn internal(error: impl std::fmt::Display) -> Fault {
    Fault::Internal { what: error.to_string() }
}

/// A length restic has 32 bits for.
fn small(length: usize) -> Result<u32, Fault> {
    u32::try_from(length).map_err(internal)
}

fn bytes(id: BlobId) -> Result<Vec<u8>, Fault> {
    hex::decode(id.to_hex().as_str()).map_err(internal)
}

/// The id of a blob with this content.
pub(super) fn id_of(content: &[u8]) -> BlobId {
    BlobId::from(Id::new(seal::digest_bytes(content)))
}

fn squeeze(plain: &[u8]) -> Result<Vec<u8>, Fault> {
    zstd::bulk::compress(plain, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(internal)
}

impl<'a> Packer<'a> {
    pub(super) fn new(bridge: &'a Bridge, open: &Open, kind: Type) -> Result<Self, Fault> {
        Ok(Packer {
            bridge,
            seal: super::seal(open)?,
            compress: open.config().version > 1,
            kind,
            pack: Mutex::default(),
            index: Mutex::default(),
            added: Mutex::default(),
        })
    }

    /// Adds a blob, unless it was added before; the bytes it takes.
    pub(super) fn add(&self, id: BlobId, content: &[u8]) -> Result<u64, Fault> {
        if !super::held(&self.added).insert(id) {
            return Ok(0);
        }
        let packed = if self.compress { Some(squeeze(content)?) } else { None };
        let packed = packed.filter(|packed| packed.len() < content.len());
        let plain = packed.as_ref().map(|_| small(content.len())).transpose()?;
        let sealed = self.seal.close(packed.as_deref().unwrap_or(content)).map_err(internal)?;
        let length = small(sealed.len())?;
        let full = {
            let mut pack = self.pack.lock().unwrap_or_else(PoisonError::into_inner);
            let offset = small(pack.content.len())?;
            pack.content.extend(&sealed);
            pack.entries.push(Entry { id, offset, length, plain });
            let full = pack.content.len() as u64 >= PACK_BYTES;
            full.then(|| std::mem::take(&mut *pack))
        };
        // Outside of the lock, so that others go on meanwhile.
        full.map_or(Ok(()), |pack| self.store(pack))?;
        Ok(u64::from(length))
    }

    fn store(&self, pack: Pack) -> Result<(), Fault> {
        let Pack { mut content, entries } = pack;
        let mut header = Vec::new();
        for entry in &entries {
            header.push(self.kind.code(entry.plain.is_some()));
            header.extend(entry.length.to_le_bytes());
            header.extend(entry.plain.into_iter().flat_map(u32::to_le_bytes));
            header.extend(bytes(entry.id)?);
        }
        let header = self.seal.close(&header).map_err(internal)?;
        content.extend(&header);
        content.extend(small(header.len())?.to_le_bytes());
        let (name, size) = (seal::digest(&content), content.len());
        self.bridge.put(Kind::Pack, &name, &[Bytes::from(content)])?;
        let blobs: Vec<Value> = entries.iter().map(|entry| self.told(entry)).collect();
        let known = json!({
            "id": name,
            "blobs": blobs,
            "time": Timestamp::now().to_string(),
            "size": size,
        });
        let full = {
            let mut index = super::held(&self.index);
            index.packs.push(known);
            index.blobs += entries.len();
            let since = *index.since.get_or_insert_with(Instant::now);
            let full = index.blobs >= INDEX_BLOBS_MAX || since.elapsed() > UNNAMED_MAX;
            full.then(|| std::mem::take(&mut *index))
        };
        full.map_or(Ok(()), |index| self.name(&index))
    }

    fn told(&self, entry: &Entry) -> Value {
        let mut told = json!({
            "id": entry.id.to_hex().as_str(),
            "type": self.kind.name(),
            "offset": entry.offset,
            "length": entry.length,
        });
        if let Some(plain) = entry.plain {
            told["uncompressed_length"] = json!(plain);
        }
        told
    }

    fn name(&self, index: &Index) -> Result<(), Fault> {
        self.file(Kind::Index, &json!({ "packs": index.packs })).map(drop)
    }

    /// Stores a file that is JSON; its name.
    fn file(&self, kind: Kind, value: &impl Serialize) -> Result<String, Fault> {
        /// Before compressed JSON (doc/design.rst, "Unpacked Data Format").
        const COMPRESSED: u8 = 2;
        let text = serde_json::to_vec(value).map_err(internal)?;
        let text = match self.compress {
            true => [&[COMPRESSED], &*squeeze(&text)?].concat(),
            false => text,
        };
        let sealed = self.seal.close(&text).map_err(internal)?;
        let name = seal::digest(&sealed);
        self.bridge.put(kind, &name, &[Bytes::from(sealed)])?;
        Ok(name)
    }

    /// Stores what is left, and the index over all of it.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        let pack = std::mem::take(&mut *super::held(&self.pack));
        if !pack.entries.is_empty() {
            self.store(pack)?;
        }
        let index = std::mem::take(&mut *super::held(&self.index));
        if index.packs.is_empty() { Ok(()) } else { self.name(&index) }
    }

    /// Stores a snapshot once everything it needs is stored, and gives it its name.
    pub(super) fn snapshot(&self, snapshot: &mut SnapshotFile) -> Result<(), Fault> {
        // A name is not part of what it names.
        snapshot.id = Default::default();
        let name = self.file(Kind::Snapshot, snapshot)?;
        snapshot.id = name.parse::<Id>().map_err(internal)?.into();
        Ok(())
    }
}
