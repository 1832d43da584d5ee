//! Takes a backup of a disk's image of which only the changed extents come.
//!
//! The base's file is cut into blobs, and this one is cut the same way. A blob no extent touches is
//! taken over without a look; of one that is touched in part the rest comes from the repository. So
//! neither the disk nor the repository is read further than the changes go. What has no base is cut
//! into equal pieces, which suits disks: their blocks do not move.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustic_core::repofile::{BlobType, NodeType, Tree};
use rustic_core::{BlobId, DataId, IndexedFullStatus, Repository, RusticProgress};

use super::backup::taken;
use super::pack::{Packer, Type, id_of};
use super::progress::Bar;
use super::stream::{file_name, file_node};
use super::{Feed, Job, Open, guarded, held};
use crate::bridge::Pace;
use crate::feed::Extents;
use crate::protocol::{Backup, Fault, Filter, Taken};

/// Pieces of a new image: restic's least size of a blob, so that a small change costs little.
const PIECE_BYTES: u64 = 512 * 1024;
/// Pieces of a large image grow up to restic's largest blob.
const PIECE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// So many pieces before they grow: each costs about 100 bytes of tree and 50 of index in memory.
const PIECES_MAX: u64 = 512 * 1024;
/// Each holds a piece and what becomes of it, 16 MiB at most.
const THREADS_MAX: usize = 4;

/// What is asked for.
pub(super) struct Image<'a> {
    pub(super) name: &'a str,
    pub(super) size: u64,
    pub(super) base: Option<&'a str>,
}

type Indexed = Repository<IndexedFullStatus>;

/// A part of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece<I> {
    at: u64,
    length: u64,
    /// The blob it was, and that blob's length.
    base: Option<(I, u64)>,
}

impl<I> Piece<I> {
    /// Whether it is all of its blob, so that it may be taken over.
    fn whole(&self) -> bool {
        self.base.as_ref().is_some_and(|(_, length)| *length == self.length)
    }
}

/// The size of pieces without a base.
fn step(size: u64) -> u64 {
    let mut step = PIECE_BYTES;
    while size / step > PIECES_MAX && step < PIECE_BYTES_MAX {
        step *= 2;
    }
    step
}

/// Cuts an image where its base is cut, and behind the base's end into equal pieces.
fn pieces<I: Copy>(size: u64, base: &[(I, u64)]) -> impl Iterator<Item = Piece<I>> + use<'_, I> {
    let mut blobs = base.iter().filter(|(_, length)| *length > 0);
    let (mut at, step) = (0, step(size));
    std::iter::from_fn(move || {
        let base = blobs.next().copied();
        let length = base.as_ref().map_or(step, |(_, length)| *length).min(size - at);
        let piece = Piece { at, length, base };
        at += length;
        (length > 0).then_some(piece)
    })
}

/// A piece that is to be stored.
struct Changed {
    index: usize,
    /// As long as the piece; where it is not laid it is the base's.
    content: Vec<u8>,
    laid: Vec<(usize, usize)>,
    base: Option<BlobId>,
}

/// What the threads share.
struct Work<'a> {
    job: &'a Job,
    repo: &'a Indexed,
    packer: Packer<'a>,
    content: Mutex<Vec<DataId>>,
    changed: AtomicU64,
    added: AtomicU64,
    failed: Mutex<Option<Fault>>,
}

impl Job {
    pub(super) fn backup_image(
        &self,
        open: Open,
        backup: &Backup,
        image: &Image<'_>,
        feed: Feed,
    ) -> Result<Taken, Fault> {
        let name = file_name(image.name)?;
        let mut snapshot = self.blank(backup)?;
        let base = match image.base {
            Some(id) => Some(self.find(&open, id, &Filter::default())?),
            None => None,
        };
        let packer = Packer::new(&self.bridge, &open, Type::Data)?;
        let trees = Packer::new(&self.bridge, &open, Type::Tree)?;
        let repo = open.to_indexed().map_err(|error| self.fault(&error))?;
        let blobs = match &base {
            Some(base) => {
                snapshot.parent = Some(base.id);
                snapshot.parents = vec![base.id];
                self.blobs(&repo, base, image.name)?
            }
            None => vec![],
        };
        let work = Work {
            job: self,
            repo: &repo,
            packer,
            content: Mutex::default(),
            changed: AtomicU64::new(0),
            added: AtomicU64::new(0),
            failed: Mutex::default(),
        };
        work.all(image, &blobs, Extents::new(feed, image.size))?;
        work.packer.finish()?;
        let mut node = file_node(name, &snapshot);
        node.meta.size = image.size;
        node.content = Some(std::mem::take(&mut *held(&work.content)));
        debug_assert_eq!(node.node_type, NodeType::File);
        let (text, id) = Tree { nodes: vec![node] }
            .serialize()
            .map_err(|error| Fault::Internal { what: error.to_string() })?;
        trees.add(id.into(), &text)?;
        trees.finish()?;
        snapshot.tree = id;
        snapshot.paths.add(image.name.to_owned());
        let changed = work.changed.load(Ordering::Relaxed) > 0;
        if let Some(summary) = &mut snapshot.summary {
            (summary.total_files_processed, summary.total_bytes_processed) = (1, image.size);
            summary.files_new = u64::from(base.is_none());
            summary.files_changed = u64::from(base.is_some() && changed);
            summary.files_unmodified = u64::from(base.is_some() && !changed);
            summary.data_blobs = work.changed.load(Ordering::Relaxed);
            summary.data_added = work.added.load(Ordering::Relaxed);
            summary.backup_end = jiff::Zoned::now();
        }
        trees.snapshot(&mut snapshot)?;
        Ok(taken(&snapshot, 0, vec![]))
    }

    /// The blobs of a file of a snapshot, in order, with their lengths.
    fn blobs(
        &self,
        repo: &Indexed,
        snapshot: &rustic_core::repofile::SnapshotFile,
        name: &str,
    ) -> Result<Vec<(BlobId, u64)>, Fault> {
        let node = repo.node_from_path(snapshot.tree, Path::new(name));
        let node = node.map_err(|error| match self.fault(&error) {
            Fault::Internal { .. } => Fault::SnapshotUnknown {
                at: self.bridge.at.clone(),
                wanted: format!("{}:{name}", snapshot.id.to_hex().as_str()),
            },
            other => other,
        })?;
        let ids = node.content.unwrap_or_default();
        let blob = |id: DataId| {
            let entry = repo.get_index_entry(&id).map_err(|_| Fault::Damaged {
                at: self.bridge.at.clone(),
                kind: "index".into(),
                name: "of data".into(),
                why: format!("it does not know a part of {name}"),
            })?;
            Ok((BlobId::from(id.into_inner()), u64::from(entry.data_length())))
        };
        ids.into_iter().map(blob).collect()
    }
}

impl Work<'_> {
    fn all(
        &self,
        image: &Image<'_>,
        base: &[(BlobId, u64)],
        mut extents: Extents<Feed>,
    ) -> Result<(), Fault> {
        let bar = self.job.reporter.bar("backing up", true);
        bar.set_length(image.size);
        let pace = Pace::new(self.job.limits.read_kib);
        let threads = self.job.threads().min(THREADS_MAX);
        let (send, receive) = sync_channel::<Changed>(threads);
        let receive = Mutex::new(receive);
        let walked = std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| self.store_all(&receive));
            }
            // Dropped at the end of the walk, whichever way: then the threads end.
            let send = send;
            self.walk(image, base, &mut extents, &send, &pace, &bar)
        });
        held(&self.failed).take().map_or(walked, Err)
    }

    /// Goes over the pieces; what changed goes to the threads.
    fn walk(
        &self,
        image: &Image<'_>,
        base: &[(BlobId, u64)],
        extents: &mut Extents<Feed>,
        send: &SyncSender<Changed>,
        pace: &Pace,
        bar: &Bar,
    ) -> Result<(), Fault> {
        let broken = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::InvalidData => Fault::Invalid { what: error.to_string() },
            _ => Fault::SourceVanished { path: image.name.into(), why: error.to_string() },
        };
        // Of the last length that was seen: there are two at most but for a base cut otherwise.
        let mut zeros: Option<(u64, DataId)> = None;
        for (index, piece) in pieces(image.size, base).enumerate() {
            let mut content = Vec::new();
            let laid = extents.lay(piece.at, piece.length, &mut content).map_err(broken)?;
            pace.take(laid.iter().map(|(from, to)| (to - from) as u64).sum());
            bar.inc(piece.length);
            let known = match (laid.is_empty(), piece.base) {
                (true, Some((blob, _))) if piece.whole() => Some(DataId::from(blob)),
                (true, None) => zeros.filter(|(length, _)| *length == piece.length).map(|z| z.1),
                _ => None,
            };
            held(&self.content).push(known.unwrap_or_default());
            if known.is_some() {
                continue;
            }
            if content.is_empty() {
                let length = usize::try_from(piece.length);
                content.resize(length.map_err(|error| broken(std::io::Error::other(error)))?, 0);
            }
            if laid.is_empty() && piece.base.is_none() {
                zeros = Some((piece.length, DataId::from(id_of(&content))));
            }
            if let Some(fault) = held(&self.failed).clone() {
                return Err(fault);
            }
            let base = piece.base.map(|(blob, _)| blob);
            // The threads end only when this end is dropped, so that one is there to take it.
            send.send(Changed { index, content, laid, base }).map_err(|_| Fault::Internal {
                what: "no thread takes what is to be stored".into(),
            })?;
        }
        extents.finish().map_err(broken)
    }

    /// What a thread does: pieces, one after the other, until there are no more.
    fn store_all(&self, receive: &Mutex<Receiver<Changed>>) {
        loop {
            let next = held(receive).recv();
            let Ok(changed) = next else { return };
            // After a failure the rest is only taken, so that the walk does not wait for ever.
            if held(&self.failed).is_some() {
                continue;
            }
            if let Err(fault) = guarded(|| self.store(changed)) {
                held(&self.failed).get_or_insert(fault);
            }
        }
    }

    /// A blob of the base, which is what its name says.
    fn old(&self, blob: BlobId) -> Result<bytes::Bytes, Fault> {
        let damaged = |why: String| {
            let pack = self.repo.get_index_entry(&DataId::from(blob)).map(|entry| entry.pack);
            Fault::Damaged {
                at: self.job.bridge.at.clone(),
                kind: "pack".into(),
                name: pack.map(|pack| pack.to_hex().as_str().to_owned()).unwrap_or_default(),
                why,
            }
        };
        let old = self.repo.get_blob_cached(&blob, BlobType::Data);
        let old = old.map_err(|error| match self.job.fault(&error) {
            Fault::Internal { what } => damaged(what),
            other => other,
        })?;
        if id_of(&old) == blob { Ok(old) } else { Err(damaged("a blob is another".into())) }
    }

    fn store(&self, changed: Changed) -> Result<(), Fault> {
        let Changed { index, mut content, laid, base } = changed;
        let covered: usize = laid.iter().map(|(from, to)| to - from).sum();
        if let Some(blob) = base.filter(|_| covered < content.len()) {
            let old = self.old(blob)?;
            let mut at = 0;
            let end = content.len();
            for (from, to) in laid.into_iter().chain([(end, end)]) {
                // An image may end within a blob of its base, never the other way.
                let rest = old.get(at..from).ok_or_else(|| Fault::Internal {
                    what: format!("a blob of the base has {} bytes only", old.len()),
                })?;
                content[at..from].copy_from_slice(rest);
                at = to;
            }
        }
        let id = id_of(&content);
        let data = DataId::from(id);
        if self.repo.get_index_entry(&data).is_err() {
            let added = self.packer.add(id, &content)?;
            self.added.fetch_add(added, Ordering::Relaxed);
        }
        if base != Some(id) {
            self.changed.fetch_add(1, Ordering::Relaxed);
        }
        held(&self.content)[index] = data;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(size: u64, base: &[(char, u64)]) -> Vec<(u64, u64, Option<char>, bool)> {
        pieces(size, base).map(|p| (p.at, p.length, p.base.map(|b| b.0), p.whole())).collect()
    }

    #[test]
    fn an_image_is_cut_where_its_base_is_cut() {
        const P: u64 = PIECE_BYTES;
        assert_eq!(cut(0, &[('a', 4)]), []);
        assert_eq!(
            cut(7, &[('a', 4), ('b', 3)]),
            [(0, 4, Some('a'), true), (4, 3, Some('b'), true)]
        );
        // It became shorter: the last piece is a part of a blob.
        assert_eq!(
            cut(5, &[('a', 4), ('b', 3)]),
            [(0, 4, Some('a'), true), (4, 1, Some('b'), false)]
        );
        // It grew.
        assert_eq!(
            cut(2 * P, &[('a', 4)]),
            [(0, 4, Some('a'), true), (4, P, None, false), (4 + P, P - 4, None, false)]
        );
    }

    #[test]
    fn pieces_of_large_images_grow_up_to_a_limit() {
        assert_eq!(step(4 << 30), PIECE_BYTES);
        assert_eq!(step(256 << 30), PIECE_BYTES);
        assert_eq!(step(1 << 40), 4 * PIECE_BYTES);
        assert_eq!(step(u64::MAX), PIECE_BYTES_MAX);
    }
}
