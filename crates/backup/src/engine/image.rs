//! Takes a backup of disks' images of which only the changed extents come.
//!
//! The base's file is cut into blobs, and this one is cut the same way. A blob no extent touches is
//! taken over without a look; of one that is touched in part the rest comes from the repository. So
//! neither the disk nor the repository is read further than the changes go. What has no base is cut
//! into equal pieces, which suits disks: their blocks do not move.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustic_core::repofile::{BlobType, NodeType, SnapshotFile, Tree};
use rustic_core::{BlobId, DataId, IndexedFullStatus, Repository, RusticProgress};

use super::backup::taken;
use super::pack::{Packer, Type, id_of};
use super::progress::Bar;
use super::stream::{file_name, file_node};
use super::{Feed, Job, Open, guarded, held};
use crate::bridge::Pace;
use crate::feed::Extents;
use crate::protocol::{Backup, Fault, Filter, ImageFile, Taken};

/// Pieces of a new image: restic's least size of a blob, so that a small change costs little.
const PIECE_BYTES: u64 = 512 * 1024;
/// Pieces of a large image grow up to restic's largest blob.
const PIECE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// So many pieces before they grow: each costs about 100 bytes of tree and 50 of index in memory.
const PIECES_MAX: u64 = 512 * 1024;
/// Each holds a piece and what becomes of it, 16 MiB at most.
const THREADS_MAX: usize = 4;

/// What is asked for.
pub(super) struct Images<'a> {
    pub(super) files: &'a [ImageFile],
    pub(super) base: Option<&'a str>,
}

/// Most files of one snapshot: a machine has a few disks, and each is held in memory by its blobs.
const FILES_MAX: usize = 64;

impl Images<'_> {
    /// How large they are together.
    fn size(&self) -> Result<u64, Fault> {
        let invalid = |what: String| Fault::Invalid { what };
        if self.files.is_empty() || self.files.len() > FILES_MAX {
            let what = format!("{} images; 1 to {FILES_MAX} are taken", self.files.len());
            return Err(invalid(what));
        }
        if self.base.is_none() && self.files.iter().any(|file| file.based) {
            return Err(invalid("an image differs from a base that is not named".into()));
        }
        let mut names: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|two| two[0] == two[1]) {
            return Err(invalid("two images have one name".into()));
        }
        let mut sizes = self.files.iter().map(|file| file.size);
        let sum = sizes.try_fold(0u64, u64::checked_add);
        sum.ok_or_else(|| invalid("the images are too large together".into()))
    }
}

/// One image of several, as it is walked over.
struct Part<'a> {
    file: &'a ImageFile,
    /// Which one.
    number: usize,
    /// Where it begins in what comes.
    start: u64,
    /// What its base is cut into.
    base: &'a [(BlobId, u64)],
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

/// What it means that no more of an image comes.
fn broken(name: &str, error: &std::io::Error) -> Fault {
    match error.kind() {
        std::io::ErrorKind::InvalidData => Fault::Invalid { what: error.to_string() },
        _ => Fault::SourceVanished { path: name.into(), why: error.to_string() },
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
    /// Of which image.
    file: usize,
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
    /// What each image consists of.
    contents: Mutex<Vec<Vec<DataId>>>,
    /// How many pieces of each image are others than its base's.
    changed: Vec<AtomicU64>,
    added: AtomicU64,
    failed: Mutex<Option<Fault>>,
}

impl Job {
    pub(super) fn backup_images(
        &self,
        open: Open,
        backup: &Backup,
        images: &Images<'_>,
        feed: Feed,
    ) -> Result<Taken, Fault> {
        let size = images.size()?;
        let names: Vec<_> =
            images.files.iter().map(|file| file_name(&file.name)).collect::<Result<_, _>>()?;
        let mut snapshot = self.blank(backup)?;
        let base = match images.base {
            Some(id) => Some(self.find(&open, id, &Filter::default())?),
            None => None,
        };
        let packer = Packer::new(&self.bridge, &open, Type::Data)?;
        let trees = Packer::new(&self.bridge, &open, Type::Tree)?;
        let repo = open.to_indexed().map_err(|error| self.fault(&error))?;
        if let Some(base) = &base {
            snapshot.parent = Some(base.id);
            snapshot.parents = vec![base.id];
        }
        let blobs = |file: &ImageFile| match base.as_ref().filter(|_| file.based) {
            Some(base) => self.blobs(&repo, base, &file.name),
            None => Ok(vec![]),
        };
        let blobs: Vec<_> = images.files.iter().map(blobs).collect::<Result<_, _>>()?;
        let work = Work {
            job: self,
            repo: &repo,
            packer,
            contents: Mutex::new(vec![Vec::new(); images.files.len()]),
            changed: images.files.iter().map(|_| AtomicU64::new(0)).collect(),
            added: AtomicU64::new(0),
            failed: Mutex::default(),
        };
        work.all(images, &blobs, size, Extents::new(feed, size))?;
        work.packer.finish()?;
        let contents = std::mem::take(&mut *held(&work.contents));
        let files = names.into_iter().zip(images.files).zip(contents);
        let mut nodes: Vec<_> = files
            .map(|((name, file), content)| {
                let mut node = file_node(name, &snapshot);
                node.meta.size = file.size;
                node.content = Some(content);
                debug_assert_eq!(node.node_type, NodeType::File);
                node
            })
            .collect();
        // The order of a tree (restic's design, "Trees and Data").
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let (text, id) = Tree { nodes }
            .serialize()
            .map_err(|error| Fault::Internal { what: error.to_string() })?;
        trees.add(id.into(), &text)?;
        trees.finish()?;
        snapshot.tree = id;
        for file in images.files {
            snapshot.paths.add(file.name.clone());
        }
        work.sum_up(images, size, &mut snapshot);
        trees.snapshot(&mut snapshot)?;
        Ok(taken(&snapshot, 0, vec![]))
    }

    /// The blobs of a file of a snapshot, in order, with their lengths.
    fn blobs(
        &self,
        repo: &Indexed,
        snapshot: &SnapshotFile,
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
        images: &Images<'_>,
        bases: &[Vec<(BlobId, u64)>],
        size: u64,
        mut extents: Extents<Feed>,
    ) -> Result<(), Fault> {
        let bar = self.job.reporter.bar("backing up", true);
        bar.set_length(size);
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
            let mut start = 0;
            for (number, (file, base)) in images.files.iter().zip(bases).enumerate() {
                let part = Part { file, number, start, base };
                self.walk(&part, &mut extents, &send, &pace, &bar)?;
                start += file.size;
            }
            let last = images.files.last().map_or("", |file| file.name.as_str());
            extents.finish().map_err(|error| broken(last, &error))
        });
        held(&self.failed).take().map_or(walked, Err)
    }

    /// Goes over the pieces of one image; what changed goes to the threads.
    fn walk(
        &self,
        part: &Part<'_>,
        extents: &mut Extents<Feed>,
        send: &SyncSender<Changed>,
        pace: &Pace,
        bar: &Bar,
    ) -> Result<(), Fault> {
        let broken = |error: std::io::Error| broken(&part.file.name, &error);
        // Of the last length that was seen: there are two at most but for a base cut otherwise.
        let mut zeros: Option<(u64, DataId)> = None;
        for (index, piece) in pieces(part.file.size, part.base).enumerate() {
            let mut content = Vec::new();
            let at = part.start + piece.at;
            let laid = extents.lay(at, piece.length, &mut content).map_err(broken)?;
            pace.take(laid.iter().map(|(from, to)| (to - from) as u64).sum());
            bar.inc(piece.length);
            let known = match (laid.is_empty(), piece.base) {
                (true, Some((blob, _))) if piece.whole() => Some(DataId::from(blob)),
                (true, None) => zeros.filter(|(length, _)| *length == piece.length).map(|z| z.1),
                _ => None,
            };
            held(&self.contents)[part.number].push(known.unwrap_or_default());
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
            let changed = Changed { file: part.number, index, content, laid, base };
            send.send(changed).map_err(|_| Fault::Internal {
                what: "no thread takes what is to be stored".into(),
            })?;
        }
        Ok(())
    }

    /// Says in the snapshot how much of it is new.
    fn sum_up(&self, images: &Images<'_>, size: u64, snapshot: &mut SnapshotFile) {
        let Some(summary) = &mut snapshot.summary else { return };
        summary.total_files_processed = images.files.len() as u64;
        summary.total_bytes_processed = size;
        for (file, changed) in images.files.iter().zip(&self.changed) {
            let changed = changed.load(Ordering::Relaxed);
            match (file.based, changed) {
                (false, _) => summary.files_new += 1,
                (true, 0) => summary.files_unmodified += 1,
                (true, _) => summary.files_changed += 1,
            }
            summary.data_blobs += changed;
        }
        summary.data_added = self.added.load(Ordering::Relaxed);
        summary.backup_end = jiff::Zoned::now();
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
        let Changed { file, index, mut content, laid, base } = changed;
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
            self.changed[file].fetch_add(1, Ordering::Relaxed);
        }
        held(&self.contents)[file][index] = data;
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
