//! Restores a snapshot in bounded memory.
//!
//! The library's own restore queues decoded data without a bound (1.3 GB for 2 GiB of files), stops
//! with a panic where a pack is damaged, and writes holes out. Here the tree is walked once, in
//! batches: the parts of a batch are ordered by where they lie in packs, read in ranges of a few MiB,
//! and written by a few threads that hold one range each. A second walk sets what must come last:
//! links, special files, and the times of folders.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use rustic_core::repofile::{BlobType, Node, NodeType, SnapshotFile};
use rustic_core::{
    BlobId, Id, IndexedFullStatus, LsOptions, Repository, RusticProgress, RusticResult,
};

use super::place::{self, Warnings};
use super::progress::Bar;
use super::resume::{self, BEING_WRITTEN, Begun, MARK, STICKY};
use super::way::Way;
use super::{Job, Open, guarded, held};
use crate::protocol::{Fault, Filter, Restore, Restored};

/// Content planned before it is read: enough that neighbours in a pack meet.
const BATCH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Files of a batch; each is open until it is whole, and 1024 is what a process may have.
const BATCH_FILES_MAX: usize = 200;
/// Read at once from a pack. Each thread holds one such range and one blob (8 MiB at most).
const RANGE_MAX: u32 = 4 * 1024 * 1024;
/// Read along rather than skipped, between two blobs.
const HOLE_MAX: u32 = 128 * 1024;
/// Requests wait on a remote repository, not on the processor.
const THREADS_REMOTE: usize = 8;
const THREADS_MAX: usize = 32;

type Indexed = Repository<IndexedFullStatus>;

pub(super) fn unwritable(path: &Path, error: &std::io::Error) -> Fault {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Fault::DiskFullHere { path },
        _ => Fault::Unwritable { path, why: error.to_string() },
    }
}

/// A file that is being written.
struct Target {
    path: PathBuf,
    /// Its description, without the list of its content.
    node: Node,
    /// Parts that are still to come.
    left: AtomicU64,
    /// It has one part, and no length before that is written.
    single: bool,
    file: Mutex<Option<Arc<File>>>,
}

impl Target {
    fn open(&self) -> Result<Arc<File>, Fault> {
        let what = || format!("{} was closed too early", self.path.display());
        held(&self.file).clone().ok_or_else(|| Fault::Internal { what: what() })
    }
}

/// One blob of one file.
struct Part {
    pack: Id,
    offset: u32,
    length: u32,
    plain: u32,
    blob: BlobId,
    at: u64,
    target: Arc<Target>,
}

/// Neighbouring blobs of a pack.
struct Range {
    pack: Id,
    offset: u32,
    length: u32,
    parts: Vec<Part>,
}

/// What all threads of a restore share.
struct Work<'a> {
    job: &'a Job,
    repo: &'a Indexed,
    bar: Bar,
    everything: LsOptions,
    /// Blobs known to hold zeros only: holes need no reading a second time.
    zeros: Mutex<HashSet<BlobId>>,
    warnings: Mutex<Warnings>,
    files: AtomicU64,
    bytes: AtomicU64,
    failed: Mutex<Option<Fault>>,
}

impl Job {
    pub(super) fn restore(&self, open: Open, wanted: &Restore) -> Result<Restored, Fault> {
        // What was the latest then: another one may have been taken since.
        let begun = resume::begun(&wanted.to).filter(|_| wanted.resume);
        let name = match (&begun, wanted.snapshot.as_str()) {
            (Some(begun), "latest") => &begun.snapshot,
            _ => &wanted.snapshot,
        };
        let snapshot = self.find(&open, name, &wanted.filter)?;
        let repo = open.to_indexed().map_err(|error| self.unreadable("index", &error))?;
        let inside = wanted.path.as_deref().unwrap_or("");
        let top =
            repo.node_from_snapshot_and_path(&snapshot, inside).map_err(|error| {
                match self.fault(&error) {
                    Fault::Internal { .. } if inside.is_empty() => self.unreadable("tree", &error),
                    Fault::Internal { .. } => Fault::SnapshotUnknown {
                        at: self.bridge.at.clone(),
                        wanted: format!("{}:{inside}", wanted.snapshot),
                    },
                    other => other,
                }
            })?;
        let id = snapshot.id.to_hex().as_str().to_owned();
        let what = Begun { snapshot: id.clone(), path: inside.to_owned() };
        resume::begin(&wanted.to, &what, wanted.resume)?;
        let bar = self.reporter.bar("restoring", true);
        if let Some(summary) = snapshot.summary.as_ref().filter(|_| inside.is_empty()) {
            bar.set_length(summary.total_bytes_processed);
        }
        let work = Work {
            job: self,
            repo: &repo,
            bar,
            everything: LsOptions::default(),
            zeros: Mutex::default(),
            warnings: Mutex::default(),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: Mutex::default(),
        };
        let mut walk = Walk::new(&work, wanted);
        walk.contents(&top)?;
        walk.finish(&top)?;
        resume::end(&wanted.to)?;
        if wanted.sync {
            let synced = File::open(&wanted.to).and_then(|to| Ok(rustix::fs::syncfs(&to)?));
            synced.map_err(|error| unwritable(&wanted.to, &error))?;
        }
        let (unchanged, folders) = (walk.unchanged, walk.folders);
        let warnings = std::mem::take(&mut *held(&work.warnings));
        Ok(Restored {
            snapshot: id,
            files: work.files.load(Ordering::Relaxed),
            unchanged,
            folders,
            bytes: work.bytes.load(Ordering::Relaxed),
            warning_count: warnings.count,
            warnings: warnings.first,
        })
    }

    /// The snapshot of a name: an id, the start of one, or `latest` of those a filter is about.
    pub(super) fn find(
        &self,
        open: &Open,
        name: &str,
        filter: &Filter,
    ) -> Result<SnapshotFile, Fault> {
        /// Fewer digits are more likely a mistake than a name; restic's short ids have 8.
        const DIGITS_MIN: usize = 4;
        let latest = name == "latest";
        if !latest && (name.len() < DIGITS_MIN || !name.chars().all(|c| c.is_ascii_hexdigit())) {
            return Err(Fault::Invalid { what: format!("`{name}` is no snapshot's id") });
        }
        let mut all = self.snapshots(open, filter)?;
        if !latest {
            all.retain(|snapshot| snapshot.id.to_hex().as_str().starts_with(name));
            if all.len() > 1 {
                return Err(Fault::Invalid { what: format!("`{name}` is several snapshots") });
            }
        }
        let unknown =
            || Fault::SnapshotUnknown { at: self.bridge.at.clone(), wanted: name.to_owned() };
        all.pop().ok_or_else(unknown)
    }

    pub(super) fn threads(&self) -> usize {
        let here = || std::thread::available_parallelism().map_or(2, usize::from) + 1;
        let own = if self.bridge.store.remote() { THREADS_REMOTE } else { here() };
        self.limits.threads.unwrap_or(own).clamp(1, THREADS_MAX)
    }
}

/// The two walks over the tree.
struct Walk<'a> {
    work: &'a Work<'a>,
    to: &'a Path,
    resume: bool,
    /// The first name of each file with several.
    links: BTreeMap<(u64, u64), PathBuf>,
    batch: Vec<Part>,
    batch_bytes: u64,
    batch_files: usize,
    unchanged: u64,
    folders: u64,
}

fn several_names(node: &Node) -> Option<(u64, u64)> {
    let named = node.meta.links > 1 && node.meta.inode != 0 && node.node_type == NodeType::File;
    named.then_some((node.meta.device_id, node.meta.inode))
}

impl<'a> Walk<'a> {
    fn new(work: &'a Work<'a>, wanted: &'a Restore) -> Self {
        Walk {
            work,
            to: &wanted.to,
            resume: wanted.resume,
            links: BTreeMap::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            batch_files: 0,
            unchanged: 0,
            folders: 0,
        }
    }

    fn nodes<'n>(
        &self,
        top: &'n Node,
    ) -> Result<impl Iterator<Item = RusticResult<(PathBuf, Node)>> + use<'a, 'n>, Fault> {
        let work = self.work;
        work.repo.ls(top, &work.everything).map_err(|error| work.job.unreadable("tree", &error))
    }

    /// Where something of the snapshot goes: below the target, whatever its name says.
    fn place(&self, way: &mut Way, inside: &Path, node: &Node) -> Result<PathBuf, Fault> {
        way.to(inside, node).map_err(|why| Fault::Damaged {
            at: self.work.job.bridge.at.clone(),
            kind: "tree".into(),
            name: "of the snapshot".into(),
            why,
        })?;
        Ok(self.to.join(inside))
    }

    /// The first walk: folders, and all content.
    fn contents(&mut self, top: &Node) -> Result<(), Fault> {
        let work = self.work;
        let threads = work.job.threads();
        let (send, receive) = sync_channel::<Range>(threads);
        let receive = Mutex::new(receive);
        let walked = std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| work.write_all(&receive));
            }
            // Dropped at the end of the walk, whichever way: then the threads end.
            let send = send;
            let mut way = Way::default();
            for node in self.nodes(top)? {
                let (inside, node) = node.map_err(|error| work.job.unreadable("tree", &error))?;
                let path = self.place(&mut way, &inside, &node)?;
                if inside == Path::new(MARK) {
                    // Somebody saved a restore that was interrupted: this one has its own.
                    held(&work.warnings).note(&path, "it is left out", "it is a restore's mark");
                    continue;
                }
                match node.node_type {
                    NodeType::Dir => self.folder(&path)?,
                    NodeType::File => self.file(path, node, &send)?,
                    _ => {}
                }
            }
            self.flush(&send)
        });
        held(&work.failed).take().map_or(walked, Err)
    }

    fn folder(&mut self, path: &Path) -> Result<(), Fault> {
        self.folders += 1;
        if self.resume {
            match fs::symlink_metadata(path) {
                Ok(meta) if meta.is_dir() => return Ok(()),
                Ok(_) => return Err(Fault::InTheWay { path: path.to_owned() }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(unwritable(path, &error)),
            }
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            // Snapshots of earlier versions may hold a folder twice, each time with a part of it. It was
            // empty when this began, so the other part is from this restore.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made.map_err(|error| unwritable(path, &error)),
        }
    }

    /// Whether a file of an earlier try is whole. One that was being written is removed; one that is
    /// neither is somebody's.
    fn whole(path: &Path, size: u64, node: &Node) -> Result<bool, Fault> {
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(unwritable(path, &error)),
        };
        let marked = meta.is_file() && meta.mode() & STICKY != 0;
        if marked && !place::is_sticky(node) {
            fs::remove_file(path).map_err(|error| unwritable(path, &error))?;
            return Ok(false);
        }
        let time = meta.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
        if meta.is_file() && meta.len() == size && time.is_some() && time == node.meta.mtime {
            return Ok(true);
        }
        Err(Fault::InTheWay { path: path.to_owned() })
    }

    fn file(
        &mut self,
        path: PathBuf,
        mut node: Node,
        send: &SyncSender<Range>,
    ) -> Result<(), Fault> {
        if let Some(key) = several_names(&node) {
            if self.links.contains_key(&key) {
                return Ok(());
            }
            self.links.insert(key, path.clone());
        }
        let work = self.work;
        let mut size = 0;
        let mut parts = Vec::new();
        for id in node.content.take().unwrap_or_default() {
            let entry = work.repo.get_index_entry(&id).map_err(|_| Fault::Damaged {
                at: work.job.bridge.at.clone(),
                kind: "index".into(),
                name: "of data".into(),
                why: format!("it does not know a part of {}", path.display()),
            })?;
            parts.push((size, BlobId::from(id.into_inner()), entry));
            size += u64::from(entry.data_length());
        }
        if self.resume && Walk::whole(&path, size, &node)? {
            self.unchanged += 1;
            work.bar.inc(size);
            return Ok(());
        }
        // Of one part, the file becomes as long as it is when that is written; most files have one.
        let single = parts.len() == 1;
        let made = OpenOptions::new().write(true).create_new(true).mode(BEING_WRITTEN).open(&path);
        let sized = |file: File| if single { Ok(file) } else { file.set_len(size).map(|()| file) };
        let file = made.and_then(sized);
        let file = file.map_err(|error| unwritable(&path, &error))?;
        work.bytes.fetch_add(size, Ordering::Relaxed);
        let left = AtomicU64::new(parts.len() as u64);
        let file = Mutex::new(Some(Arc::new(file)));
        let target = Arc::new(Target { path, node, left, single, file });
        if parts.is_empty() {
            work.done(&target);
        }
        self.batch_files += 1;
        for (at, blob, entry) in parts {
            let plain = entry.data_length();
            if held(&work.zeros).contains(&blob) {
                work.hole(&target, plain)?;
                continue;
            }
            self.batch_bytes += u64::from(plain);
            self.batch.push(Part {
                pack: entry.pack.into_inner(),
                offset: entry.location.offset,
                length: entry.location.length,
                plain,
                blob,
                at,
                target: Arc::clone(&target),
            });
            if self.batch_bytes >= BATCH_BYTES_MAX {
                self.flush(send)?;
            }
        }
        if self.batch_files >= BATCH_FILES_MAX { self.flush(send) } else { Ok(()) }
    }

    /// Gives the batch to the threads, in the order of the packs.
    fn flush(&mut self, send: &SyncSender<Range>) -> Result<(), Fault> {
        let mut batch = std::mem::take(&mut self.batch);
        (self.batch_bytes, self.batch_files) = (0, 0);
        batch.sort_unstable_by_key(|part| (part.pack, part.offset));
        for range in ranges(batch) {
            let failed = held(&self.work.failed).clone();
            // The threads end only when this end is dropped, so that one is always there to take it.
            match failed {
                Some(fault) => return Err(fault),
                None => send.send(range).map_err(|_| Fault::Internal {
                    what: "no thread takes what is to be restored".into(),
                })?,
            }
        }
        Ok(())
    }

    /// The second walk: links, special files, and the looks of folders once nothing changes in them.
    fn finish(&self, top: &Node) -> Result<(), Fault> {
        let work = self.work;
        let mut folders: Vec<(PathBuf, Node)> = Vec::new();
        let dress = |path: &Path, node: &Node| {
            place::dress(path, None, node, &mut held(&work.warnings));
        };
        let mut way = Way::default();
        for node in self.nodes(top)? {
            let (inside, node) = node.map_err(|error| work.job.unreadable("tree", &error))?;
            let path = self.place(&mut way, &inside, &node)?;
            if inside == Path::new(MARK) {
                continue;
            }
            while let Some((folder, node)) = folders.pop_if(|(folder, _)| !path.starts_with(folder))
            {
                dress(&folder, &node);
            }
            match node.node_type {
                NodeType::Dir => folders.push((path, node)),
                NodeType::File => {
                    let first = several_names(&node).and_then(|key| self.links.get(&key));
                    if let Some(first) = first.filter(|first| **first != path) {
                        self.link(first, &path)?;
                    }
                }
                _ => {
                    let made = match self.resume && self.made(&path, &node)? {
                        true => Ok(()),
                        false => place::special(&path, &node),
                    };
                    match made {
                        Ok(()) => dress(&path, &node),
                        // Only root may make devices.
                        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                            held(&work.warnings).note(&path, "it cannot be made", error);
                        }
                        Err(error) => return Err(unwritable(&path, &error)),
                    }
                }
            }
        }
        while let Some((folder, node)) = folders.pop() {
            dress(&folder, &node);
        }
        Ok(())
    }

    /// Whether an earlier try made this link or special file.
    fn made(&self, path: &Path, node: &Node) -> Result<bool, Fault> {
        match place::is_there(path, node) {
            Ok(Some(true)) => Ok(true),
            Ok(None) => Ok(false),
            Ok(Some(false)) => Err(Fault::InTheWay { path: path.to_owned() }),
            Err(error) => Err(unwritable(path, &error)),
        }
    }

    /// Another name of a file.
    fn link(&self, first: &Path, path: &Path) -> Result<(), Fault> {
        let explain = |error: std::io::Error| unwritable(path, &error);
        match fs::hard_link(first, path) {
            Err(error) if self.resume && error.kind() == ErrorKind::AlreadyExists => {
                let inode = |path| fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()));
                match inode(first).map_err(explain)? == inode(path).map_err(explain)? {
                    true => Ok(()),
                    false => Err(Fault::InTheWay { path: path.to_owned() }),
                }
            }
            made => made.map_err(explain),
        }
    }
}

/// Neighbours read together.
fn ranges(parts: Vec<Part>) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for part in parts {
        let end = part.offset + part.length;
        if let Some(range) = ranges.last_mut()
            && range.pack == part.pack
            && part.offset <= range.offset + range.length + HOLE_MAX
            && end - range.offset <= RANGE_MAX
        {
            range.length = range.length.max(end - range.offset);
            range.parts.push(part);
        } else {
            let Part { pack, offset, length, .. } = part;
            ranges.push(Range { pack, offset, length, parts: vec![part] });
        }
    }
    ranges
}

impl Work<'_> {
    /// What a thread does: ranges, one after the other, until there are no more.
    fn write_all(&self, receive: &Mutex<Receiver<Range>>) {
        loop {
            let next = held(receive).recv();
            let Ok(range) = next else { return };
            // After a failure the rest is only taken, so that the walk does not wait for ever.
            if held(&self.failed).is_some() {
                continue;
            }
            if let Err(fault) = guarded(|| self.write(range)) {
                held(&self.failed).get_or_insert(fault);
            }
        }
    }

    fn write(&self, range: Range) -> Result<(), Fault> {
        let Range { pack, offset, length, parts } = range;
        let damaged = |fault: Fault| match fault {
            Fault::Internal { what } => Fault::Damaged {
                at: self.job.bridge.at.clone(),
                kind: "pack".into(),
                name: pack.to_hex().as_str().to_owned(),
                why: what,
            },
            other => other,
        };
        let explain = |error: Box<rustic_core::RusticError>| damaged(self.job.fault(&error));
        self.job.bridge.look_ahead(pack, offset, length).map_err(explain)?;
        for part in parts {
            let data = self.repo.get_blob_cached(&part.blob, BlobType::Data).map_err(explain)?;
            if data.len() as u64 != u64::from(part.plain) {
                let what = format!("a blob has {} bytes, not {}", data.len(), part.plain);
                return Err(damaged(Fault::Internal { what }));
            }
            if data.iter().all(|byte| *byte == 0) {
                held(&self.zeros).insert(part.blob);
                self.hole(&part.target, part.plain)?;
                continue;
            }
            let path = &part.target.path;
            let written = part.target.open()?.write_all_at(&data, part.at);
            written.map_err(|error| unwritable(path, &error))?;
            self.wrote(&part.target, part.plain);
        }
        Ok(())
    }

    /// A part of a file is there by being nothing but zeros.
    fn hole(&self, target: &Target, bytes: u32) -> Result<(), Fault> {
        if target.single {
            let sized = target.open()?.set_len(u64::from(bytes));
            sized.map_err(|error| unwritable(&target.path, &error))?;
        }
        self.wrote(target, bytes);
        Ok(())
    }

    /// A part of a file is there.
    fn wrote(&self, target: &Target, bytes: u32) {
        self.bar.inc(u64::from(bytes));
        if target.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done(target);
        }
    }

    /// All of a file is there.
    fn done(&self, target: &Target) {
        let file = held(&target.file).take();
        self.files.fetch_add(1, Ordering::Relaxed);
        // Warnings are few: threads must not wait for each other over every file.
        let mut warnings = Warnings::default();
        place::dress(&target.path, file.as_deref(), &target.node, &mut warnings);
        if warnings.count > 0 {
            held(&self.warnings).merge(warnings);
        }
    }
}
