//! Compares what was restored with what its snapshot says: every file is read back, and every part of
//! it has to have the digest under which the repository keeps it.
//!
//! Nothing is written. What differs is an answer; only what cannot be asked is a fault.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use rustic_core::repofile::{Node, NodeType};
use rustic_core::{LsOptions, RusticProgress};
use rustix::fs::{Advice, fadvise};
use sha2::{Digest, Sha256};

use super::progress::Bar;
use super::{Job, Open, guarded, held, place};
use crate::protocol::{Compare, Compared, DIFFERENCES_MAX, Difference, Fault};

/// One part of a file: its digest in hex, and its length.
type Part = (String, u64);

/// A file that is to be read back.
struct Wanted {
    inside: PathBuf,
    mode: Option<u32>,
    parts: Vec<Part>,
}

/// What all threads of a comparison share.
struct Work<'a> {
    root: &'a Path,
    bar: Bar,
    files: AtomicU64,
    bytes: AtomicU64,
    wrong: Mutex<Wrong>,
    failed: Mutex<Option<Fault>>,
}

#[derive(Default)]
struct Wrong {
    count: u64,
    first: Vec<Difference>,
}

impl Wrong {
    fn note(&mut self, path: &Path, why: String) {
        self.count += 1;
        if self.first.len() < DIFFERENCES_MAX {
            self.first.push(Difference { path: path.to_owned(), why });
        }
    }
}

impl Job {
    pub(super) fn compare(&self, open: Open, wanted: &Compare) -> Result<Compared, Fault> {
        let snapshot = self.find(&open, &wanted.snapshot, &wanted.filter)?;
        let repo = open.to_indexed().map_err(|error| self.unreadable("index", &error))?;
        let top = repo.node_from_snapshot_and_path(&snapshot, "");
        let top = top.map_err(|error| self.unreadable("tree", &error))?;
        let bar = self.reporter.bar("comparing", true);
        if let Some(summary) = &snapshot.summary {
            bar.set_length(summary.total_bytes_processed);
        }
        let work = Work {
            root: &wanted.with,
            bar,
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            wrong: Mutex::default(),
            failed: Mutex::default(),
        };
        let mut others = 0;
        let (send, receive) = sync_channel::<Wanted>(self.threads());
        let receive = Mutex::new(receive);
        let walked = std::thread::scope(|scope| {
            for _ in 0..self.threads() {
                scope.spawn(|| work.read_all(&receive));
            }
            // Dropped at the end of the walk, whichever way: then the threads end.
            let send = send;
            let broken = |error: Box<rustic_core::RusticError>| self.unreadable("tree", &error);
            let all = repo.ls(&top, &LsOptions::default()).map_err(broken)?;
            for node in all {
                let (inside, node) = node.map_err(broken)?;
                if node.node_type != NodeType::File {
                    others += 1;
                    work.look(&inside, &node);
                    continue;
                }
                let mut parts = Vec::new();
                for id in node.content.iter().flatten() {
                    let entry = repo.get_index_entry(id).map_err(|_| Fault::Damaged {
                        at: self.bridge.at.clone(),
                        kind: "index".into(),
                        name: "of data".into(),
                        why: format!("it does not know a part of {}", inside.display()),
                    })?;
                    let digest = id.to_hex().as_str().to_owned();
                    parts.push((digest, u64::from(entry.data_length())));
                }
                let mode = node.meta.mode.map(place::mode);
                send.send(Wanted { inside, mode, parts }).map_err(|_| Fault::Internal {
                    what: "no thread takes what is to be compared".into(),
                })?;
            }
            Ok(())
        });
        held(&work.failed).take().map_or(walked, Err)?;
        let wrong = std::mem::take(&mut *held(&work.wrong));
        Ok(Compared {
            snapshot: snapshot.id.to_hex().as_str().to_owned(),
            files: work.files.load(Ordering::Relaxed),
            bytes: work.bytes.load(Ordering::Relaxed),
            others,
            wrong_count: wrong.count,
            wrong: wrong.first,
        })
    }
}

impl Work<'_> {
    /// Where something of the snapshot is; `None`, noted, where its name leads out of the folder.
    fn place(&self, inside: &Path) -> Option<PathBuf> {
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if inside.components().all(plain) && !inside.as_os_str().is_empty() {
            return Some(self.root.join(inside));
        }
        held(&self.wrong).note(inside, "it is no path".into());
        None
    }

    /// What is neither read nor followed: folders, links and special files.
    fn look(&self, inside: &Path, node: &Node) {
        let Some(path) = self.place(inside) else { return };
        let why = match fs::symlink_metadata(&path) {
            Err(error) => Some(missing(&error)),
            Ok(meta) => other(&path, node, &meta),
        };
        if let Some(why) = why {
            held(&self.wrong).note(inside, why);
        }
    }

    /// What a thread does: files, one after the other, until there are no more.
    fn read_all(&self, receive: &Mutex<Receiver<Wanted>>) {
        loop {
            let next = held(receive).recv();
            let Ok(wanted) = next else { return };
            if held(&self.failed).is_some() {
                continue;
            }
            let read = guarded(|| {
                self.read(&wanted);
                Ok(())
            });
            if let Err(fault) = read {
                held(&self.failed).get_or_insert(fault);
            }
        }
    }

    fn read(&self, wanted: &Wanted) {
        let Some(path) = self.place(&wanted.inside) else { return };
        self.files.fetch_add(1, Ordering::Relaxed);
        let differs = match file(&path, wanted, |bytes| {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.bar.inc(bytes);
        }) {
            Ok(differs) => differs,
            Err(error) => Some(missing(&error)),
        };
        if let Some(why) = differs {
            held(&self.wrong).note(&wanted.inside, why);
        }
    }
}

fn missing(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it is not there".into(),
        _ => format!("it cannot be read: {error}"),
    }
}

/// How a file differs from what is wanted of it.
fn file(path: &Path, wanted: &Wanted, read: impl Fn(u64)) -> io::Result<Option<String>> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_file() {
        return Ok(Some("it is no file".into()));
    }
    let size: u64 = wanted.parts.iter().map(|(_, length)| length).sum();
    if meta.len() != size {
        return Ok(Some(format!("it has {} bytes, not {size}", meta.len())));
    }
    if let Some(why) = other_mode(wanted.mode, &meta) {
        return Ok(Some(why));
    }
    let mut file = File::open(path)?;
    // What was just written is still in memory; the proof is what the disk has of it. A file system
    // that does not take the advice gives what it has.
    fadvise(&file, 0, None, Advice::DontNeed).ok();
    let mut chunk = vec![0; 1 << 20];
    let mut at = 0;
    for (digest, length) in &wanted.parts {
        let mut hash = Sha256::new();
        let mut left = *length;
        while left > 0 {
            let most = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.read_exact(&mut chunk[..most])?;
            hash.update(&chunk[..most]);
            left -= most as u64;
        }
        if hex::encode(hash.finalize()) != *digest {
            return Ok(Some(format!(
                "its content differs within {length} bytes from byte {at} on"
            )));
        }
        at += length;
        read(*length);
    }
    Ok(None)
}

fn other_mode(wanted: Option<u32>, meta: &Metadata) -> Option<String> {
    let is = meta.permissions().mode() & 0o7777;
    let wanted = wanted.filter(|wanted| *wanted != is)?;
    Some(format!("its mode is {is:o}, not {wanted:o}"))
}

/// How something else than a file differs.
fn other(path: &Path, node: &Node, meta: &Metadata) -> Option<String> {
    let kind = meta.file_type();
    let right = match &node.node_type {
        NodeType::File => kind.is_file(),
        NodeType::Dir => kind.is_dir(),
        NodeType::Symlink { .. } => {
            if !kind.is_symlink() {
                return Some("it is no link".into());
            }
            return match fs::read_link(path) {
                Ok(to) if to == node.node_type.to_link() => None,
                Ok(to) => Some(format!("it leads to {}", to.display())),
                Err(error) => Some(missing(&error)),
            };
        }
        NodeType::Dev { .. } => kind.is_block_device(),
        NodeType::Chardev { .. } => kind.is_char_device(),
        NodeType::Fifo => kind.is_fifo(),
        NodeType::Socket => kind.is_socket(),
    };
    match right {
        true => other_mode(node.meta.mode.map(place::mode), meta),
        false => Some(format!("it is no {}", word(&node.node_type))),
    }
}

fn word(kind: &NodeType) -> &'static str {
    match kind {
        NodeType::File => "file",
        NodeType::Dir => "folder",
        NodeType::Symlink { .. } => "link",
        NodeType::Dev { .. } | NodeType::Chardev { .. } => "device of its kind",
        NodeType::Fifo => "pipe",
        NodeType::Socket => "socket",
    }
}
