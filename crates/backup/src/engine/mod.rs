//! Does what a request asks with `rustic_core`. Together with `bridge` the only code that speaks to it.
//!
//! The library is not trusted to stop after an error, nor never to panic: what failed is read from
//! the bridge and the source, and a panic becomes a fault like any other.

mod backup;
mod compare;
mod image;
mod pack;
mod place;
mod progress;
mod restore;
mod resume;
mod source;
mod stream;
mod upkeep;
mod way;

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytesize::ByteSize;
use jiff::{SignedDuration, Timestamp};
use rustic_core::repofile::SnapshotFile;
use rustic_core::{
    ConfigOptions, Credentials, KeyOptions, OpenStatus, Repository, RepositoryBackends,
    RepositoryOptions, RusticError,
};
use serde::Deserialize;

use crate::bridge::Bridge;
use crate::ledger::{self, Ledger};
use crate::lock::{HostLock, Mode, RepoLock, hostname};
use crate::protocol::{
    Action, Done, Fault, Filter, Holder, Limits, Notice, Outcome, Progress, Request, Snapshot,
};
use crate::seal::Seal;
use crate::store::{self, Kind, StoreFault};

pub(crate) use progress::Reporter;

/// The bytes of a stream to save.
pub(crate) type Feed = Box<dyn Read + Send>;

/// Packs of a repository we make: restic's size. The library would let them grow with the
/// repository, up to 4 GiB, and a writer holds several of them in memory.
const PACK_BYTES: u64 = 16 * 1024 * 1024;

/// Does what is asked. `say` is called for each line of progress.
pub(crate) fn run(
    request: &Request,
    password: &str,
    feed: Option<Feed>,
    say: impl Fn(Progress) + Send + Sync + 'static,
) -> Result<Outcome, Fault> {
    let started = Instant::now();
    let store = store::open(&request.target, &request.state)?;
    let job = Job {
        bridge: Arc::new(Bridge::new(store, &request.limits)),
        reporter: Reporter::new(request.limits.progress_ms, say),
        state: request.state.clone(),
        repository: request.repository.clone(),
        limits: request.limits.clone(),
    };
    // Nothing of the job is used after a panic but the bridge's notes, which hold whole values.
    let done = catch_unwind(AssertUnwindSafe(|| job.run(&request.action, password, feed)));
    let finished = match done {
        Ok(finished) => finished?,
        Err(panic) => return Err(job.bridge.barred().unwrap_or_else(|| panicked(&*panic))),
    };
    let (fetched, stored) = job.bridge.traffic();
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let Finished { repository, done, notices } = finished;
    Ok(Outcome { repository, done, notices, fetched, stored, elapsed_ms })
}

/// A lock's content; a thread that panicked left it whole, because each change is one.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does it in a thread that others wait for: a panic becomes a fault, so that they do not wait for ever.
fn guarded(work: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Fault {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    Fault::Internal { what: text.unwrap_or("it panicked").to_owned() }
}

/// What the parts of a job share.
struct Job {
    bridge: Arc<Bridge>,
    reporter: Arc<Reporter>,
    state: PathBuf,
    repository: Option<String>,
    limits: Limits,
}

struct Finished {
    repository: String,
    done: Done,
    notices: Vec<Notice>,
}

type Open = Repository<OpenStatus>;

/// Who made a key file (restic's design, "Keys, Encryption and MAC").
#[derive(Default, Deserialize)]
#[serde(default)]
struct Maker {
    hostname: String,
    created: Option<Timestamp>,
}

impl Job {
    fn run(&self, action: &Action, password: &str, feed: Option<Feed>) -> Result<Finished, Fault> {
        if matches!(action, Action::Init {}) {
            let repository = self.init(password)?.config().id.to_hex().as_str().to_owned();
            return Ok(Finished { repository, done: Done::Init {}, notices: vec![] });
        }
        let open = self.open(password)?;
        let repository = open.config().id.to_hex().as_str().to_owned();
        if let Some(wanted) = self.repository.as_ref().filter(|wanted| **wanted != repository) {
            let (at, wanted) = (self.bridge.at.clone(), wanted.clone());
            return Err(Fault::RepositoryOther { at, wanted, found: repository });
        }
        let mode = mode(action);
        let _host = match mode {
            None => None,
            Some(mode) => Some(HostLock::take(&self.state, &repository, mode, &self.bridge.at)?),
        };
        let (lock, mut notices) = match mode {
            None => (None, vec![]),
            Some(mode) => RepoLock::take(Arc::clone(&self.bridge), seal(&open)?, mode)?,
        };
        let note = ledger::path(&self.state, &repository);
        if mode.is_some() {
            let seen = self.seen()?;
            if let Some(before) = Ledger::recall(&note) {
                notices.extend(seen.gone_since(&before));
            }
            if let (Some(lock), Some(Mode::Writer)) = (&lock, mode) {
                lock.guard(seen.indexes);
            }
        }
        let done = self.act(open, action, feed)?;
        // The job is done, whether or not it can be noted. One that is not told to the log leaves what it
        // noticed to the next that is.
        if mode.is_some()
            && !only_reads(action)
            && let Err(fault) = self.seen().and_then(|seen| seen.note(&note))
        {
            notices.push(Notice::Unnoted { why: fault.to_string() });
        }
        Ok(Finished { repository, done, notices })
    }

    fn act(&self, open: Open, action: &Action, feed: Option<Feed>) -> Result<Done, Fault> {
        match action {
            Action::Init {} => Ok(Done::Init {}),
            Action::Backup(backup) => self.backup(open, backup, feed).map(Done::Backup),
            Action::Snapshots { filter } => {
                let snapshots = self.snapshots(&open, filter)?;
                Ok(Done::Snapshots { snapshots: snapshots.iter().map(told).collect() })
            }
            Action::Restore(restore) => self.restore(open, restore).map(Done::Restore),
            Action::Compare(compare) => self.compare(open, compare).map(Done::Compare),
            Action::Check { read } => self.check(&open, *read).map(Done::Check),
            Action::Forget { filter, keep, dry_run } => self.forget(&open, filter, keep, *dry_run),
            Action::Prune { dry_run, max_unused_percent } => {
                self.prune(&open, *dry_run, *max_unused_percent).map(Done::Prune)
            }
        }
    }

    fn seen(&self) -> Result<Ledger, Fault> {
        Ledger::look(&*self.bridge.store).map_err(|fault| fault.explain(&self.bridge.at))
    }

    fn library(&self) -> Result<Repository<()>, Fault> {
        let options = RepositoryOptions::default();
        let options = match self.bridge.store.remote() {
            // Indexes and trees of a remote repository are read often and never change.
            true => options.cache_dir(self.state.join("cache")),
            false => options.no_cache(true),
        };
        let backends = RepositoryBackends::new(Arc::clone(&self.bridge) as _, None);
        let bars = Arc::clone(&self.reporter);
        let library = Repository::new_with_progress(&options, &backends, progress::Bars(bars));
        library.map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &RusticError) -> Fault {
        self.bridge.explain(error)
    }

    /// What went wrong while things of the repository were read that it has to have: where the library
    /// only says that it failed, they are not what they were.
    fn unreadable(&self, kind: &str, error: &RusticError) -> Fault {
        match self.fault(error) {
            Fault::Internal { what } => Fault::Damaged {
                at: self.bridge.at.clone(),
                kind: kind.to_owned(),
                name: "of the snapshot".into(),
                why: what,
            },
            other => other,
        }
    }

    fn exists(&self) -> Result<bool, Fault> {
        let store = &self.bridge.store;
        let explain = |fault: StoreFault| fault.explain(&self.bridge.at);
        let there = !store.list(Kind::Config).map_err(explain)?.is_empty();
        if !there && store.remote() {
            // A server may say that a file is not there when it could not look; of a folder it says
            // which.
            match store.list(Kind::Key) {
                Ok(_) | Err(StoreFault::Missing { .. }) => {}
                Err(fault) => return Err(explain(fault)),
            }
        }
        Ok(there)
    }

    fn init(&self, password: &str) -> Result<Open, Fault> {
        if self.exists()? {
            return Err(Fault::RepositoryExists { at: self.bridge.at.clone() });
        }
        self.clear_half_made()?;
        let size = ByteSize::b(PACK_BYTES);
        let config = ConfigOptions::default()
            // Opening again what was just sealed takes a fifth of a first backup, and Debian's restic does
            // not do it: checks that read data find what a flaw in memory spoilt.
            .set_extra_verify(false)
            .set_datapack_size(size)
            .set_datapack_growfactor(0u32)
            .set_treepack_size(ByteSize::b(PACK_BYTES / 4))
            .set_treepack_growfactor(0u32);
        // Whose key it is, for whoever comes after one that was killed before the config.
        let key = KeyOptions::default()
            .hostname(hostname())
            .username("trueup".to_owned())
            .with_created(true);
        let made = self.library()?.init(&Credentials::password(password), &key, &config);
        made.map_err(|error| self.fault(&error))
    }

    /// Removes what somebody left who was killed while making a repository here: a key without a
    /// config opens nothing, and beside the right one it would make a repository that opens with the
    /// wrong master key. Where anything was saved it was a repository, which nothing is made over.
    fn clear_half_made(&self) -> Result<(), Fault> {
        /// Another host's key that is younger may be of one who is making a repository right now.
        const MAKING_MAX: SignedDuration = SignedDuration::from_mins(10);
        let at = &self.bridge.at;
        let store = &self.bridge.store;
        let names = |kind| match store.list(kind) {
            Err(StoreFault::Missing { .. }) => Ok(vec![]),
            listed => listed.map_err(|fault| fault.explain(at)),
        };
        for kind in [Kind::Snapshot, Kind::Index, Kind::Pack] {
            let count = names(kind)?.len();
            if count > 0 {
                let why = format!("it is not there, though {count} {kind} file(s) are");
                let (kind, name) = ("config".to_owned(), String::new());
                return Err(Fault::Damaged { at: at.clone(), kind, name, why });
            }
        }
        for (name, _) in names(Kind::Key)? {
            let text = store.read(Kind::Key, &name).map_err(|fault| fault.explain(at))?;
            let key: Maker = serde_json::from_slice(&text).unwrap_or_default();
            let young = |made| Timestamp::now().duration_since(made) < MAKING_MAX;
            if key.hostname != hostname() && key.created.is_some_and(young) {
                let (host, since) = (key.hostname, key.created);
                let holder = Holder { host, pid: 0, since, exclusive: true };
                return Err(Fault::Locked { at: at.clone(), holder });
            }
            store.remove(Kind::Key, &name).map_err(|fault| fault.explain(at))?;
        }
        Ok(())
    }

    fn open(&self, password: &str) -> Result<Open, Fault> {
        if !self.exists()? {
            return Err(Fault::RepositoryMissing { at: self.bridge.at.clone() });
        }
        let opened = self.library()?.open(&Credentials::password(password));
        opened.map_err(|error| self.fault(&error))
    }

    /// The snapshots a filter is about, oldest first.
    fn snapshots(&self, open: &Open, filter: &Filter) -> Result<Vec<SnapshotFile>, Fault> {
        let mut all = open.get_all_snapshots().map_err(|error| self.fault(&error))?;
        all.retain(|snapshot| matches(filter, snapshot));
        all.sort_by(|a, b| a.time.cmp(&b.time).then_with(|| a.id.cmp(&b.id)));
        Ok(all)
    }
}

/// What a job needs of the repository for itself; nothing to only list.
fn mode(action: &Action) -> Option<Mode> {
    match action {
        Action::Init {} | Action::Snapshots { .. } => None,
        Action::Forget { dry_run: true, .. } | Action::Prune { dry_run: true, .. } => {
            Some(Mode::Reader)
        }
        Action::Restore(_) | Action::Compare(_) | Action::Check { .. } => Some(Mode::Reader),
        Action::Backup(_) => Some(Mode::Writer),
        Action::Forget { .. } | Action::Prune { .. } => Some(Mode::Alone),
    }
}

/// Whether it is something that anybody does who only wants to have or to know something.
fn only_reads(action: &Action) -> bool {
    match action {
        Action::Forget { dry_run, .. } | Action::Prune { dry_run, .. } => *dry_run,
        Action::Restore(_) | Action::Compare(_) => true,
        Action::Init {} | Action::Snapshots { .. } | Action::Check { .. } | Action::Backup(_) => {
            false
        }
    }
}

fn seal(open: &Open) -> Result<Seal, Fault> {
    let key = open.key();
    Seal::new(&key.encrypt, &key.mac.k, &key.mac.r)
        .ok_or_else(|| Fault::Internal { what: "the master key has another size".into() })
}

fn matches(filter: &Filter, snapshot: &SnapshotFile) -> bool {
    let host = filter.host.as_ref().is_none_or(|host| *host == snapshot.hostname);
    let tags = filter.tags.iter().all(|tag| snapshot.tags.contains(tag));
    let paths = filter.paths.is_empty()
        || (filter.paths.len() == (&snapshot.paths).into_iter().count()
            && filter
                .paths
                .iter()
                .all(|path| path.to_str().is_some_and(|path| snapshot.paths.contains(path))));
    host && tags && paths
}

/// A snapshot in our words.
fn told(snapshot: &SnapshotFile) -> Snapshot {
    Snapshot {
        id: snapshot.id.to_hex().as_str().to_owned(),
        time: snapshot.time.timestamp(),
        offset: snapshot.time.offset().seconds(),
        host: snapshot.hostname.clone(),
        paths: (&snapshot.paths).into_iter().cloned().collect(),
        tags: (&snapshot.tags).into_iter().cloned().collect(),
        tree: snapshot.tree.to_hex().as_str().to_owned(),
        bytes: snapshot.summary.as_ref().map(|summary| summary.total_bytes_processed),
    }
}
