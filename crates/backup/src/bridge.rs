//! Lets `rustic_core` work on a store, and keeps what it would lose: typed faults, limits, and the
//! order in which things must reach the disk.
//!
//! The library goes on after most errors of a backup. So nothing depends on it stopping: once a write
//! failed, or the lock is gone, the bridge itself takes no snapshot and removes nothing any more.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use rustic_core::{
    BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend,
};

use crate::protocol::{Fault, Limits};
use crate::seal;
use crate::store::{Kind, Store, StoreFault};

/// Others take a lock that was not renewed for 30 minutes (restic's `staleLockTimeout`) for dead.
const LEASE_MAX: SignedDuration = SignedDuration::from_mins(28);

/// Asked before an index or a snapshot is stored: whether what it names may have been removed
/// meanwhile.
pub(crate) type Sentry = Box<dyn Fn() -> Result<(), Fault> + Send + Sync>;

/// A store as the library sees it.
pub(crate) struct Bridge {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) at: String,
    up: Pace,
    down: Pace,
    fetched: AtomicU64,
    stored: AtomicU64,
    /// Snapshots are taken and not kept: what they point to is not final.
    withhold: AtomicBool,
    noted: Mutex<Noted>,
    sentry: Mutex<Option<Sentry>>,
}

#[derive(Default)]
struct Noted {
    /// The first failed write, or the loss of the lock: final.
    barred: Option<Fault>,
    /// The last failed read; the library may have gone another way.
    read: Option<Fault>,
    /// The first read since [`Bridge::read_anew`] that may succeed later.
    unreached: Option<Fault>,
    /// When the lock in the repository was last renewed.
    renewed: Option<Timestamp>,
}

thread_local! {
    /// A part of a pack that this thread read ahead: pack, offset, content.
    static WINDOW: RefCell<Option<(Id, u32, Bytes)>> = const { RefCell::new(None) };
}

impl Bridge {
    pub(crate) fn new(store: Arc<dyn Store>, limits: &Limits) -> Self {
        Bridge {
            at: store.location(),
            store,
            up: Pace::new(limits.upload_kib),
            down: Pace::new(limits.download_kib),
            fetched: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            withhold: AtomicBool::new(false),
            noted: Mutex::default(),
            sentry: Mutex::default(),
        }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes read from and sent to the repository so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.fetched.load(Ordering::Relaxed), self.stored.load(Ordering::Relaxed))
    }

    /// From now on nothing more is stored or removed; the first reason stays.
    pub(crate) fn bar(&self, fault: Fault) {
        self.noted().barred.get_or_insert(fault);
    }

    /// Why nothing more is stored, if so.
    pub(crate) fn barred(&self) -> Option<Fault> {
        self.noted().barred.clone()
    }

    /// The lock was renewed at this time.
    pub(crate) fn renewed(&self, at: Timestamp) {
        self.noted().renewed = Some(at);
    }

    /// Forgets what could not be read until now.
    pub(crate) fn read_anew(&self) {
        let mut noted = self.noted();
        (noted.read, noted.unreached) = (None, None);
    }

    /// Why something could not be read since then that may be read later.
    pub(crate) fn unreached(&self) -> Option<Fault> {
        self.noted().unreached.clone()
    }

    /// Who is asked before an index or a snapshot is stored.
    pub(crate) fn post(&self, sentry: Option<Sentry>) {
        *self.sentry.lock().unwrap_or_else(PoisonError::into_inner) = sentry;
    }

    /// Sees that what an index or a snapshot names is on the disk, and still there.
    fn needed(&self) -> Result<(), Fault> {
        self.store.settle().map_err(|fault| self.explain_store(fault))?;
        let sentry = self.sentry.lock().unwrap_or_else(PoisonError::into_inner);
        sentry.as_ref().map_or(Ok(()), |sentry| sentry())
    }

    /// Whether snapshots are withheld from the store from now on.
    pub(crate) fn withhold(&self, withhold: bool) {
        self.withhold.store(withhold, Ordering::SeqCst);
    }

    /// What an error of the library means, in the words of what happened at the store.
    pub(crate) fn explain(&self, error: &RusticError) -> Fault {
        let noted = self.noted();
        if let Some(fault) = noted.barred.as_ref().or(noted.read.as_ref()) {
            return fault.clone();
        }
        let at = self.at.clone();
        if error.is_incorrect_password() {
            return Fault::KeyWrong { at };
        }
        let what = error.display_log();
        // Its kind is the same as that of a mistake; the version of the library is pinned.
        if what.contains("not found in index") {
            let (kind, name) = ("index".to_owned(), "of data".to_owned());
            let why = "it does not know a part that is needed".to_owned();
            return Fault::Damaged { at, kind, name, why };
        }
        Fault::Internal { what }
    }

    fn explain_store(&self, fault: StoreFault) -> Fault {
        fault.explain(&self.at)
    }

    fn failed_read<T>(&self, fault: StoreFault) -> RusticResult<T> {
        let fault = self.explain_store(fault);
        let mut noted = self.noted();
        noted.read = Some(fault.clone());
        if fault.transient() {
            noted.unreached.get_or_insert_with(|| fault.clone());
        }
        drop(noted);
        Err(RusticError::with_source(ErrorKind::Backend, fault.to_string(), fault))
    }

    fn check_lease(&self) -> Result<(), Fault> {
        let mut noted = self.noted();
        if let Some(renewed) = noted.renewed
            && Timestamp::now().duration_since(renewed) > LEASE_MAX
        {
            let why = format!("it is from {renewed}; was this host asleep?");
            noted.barred.get_or_insert(Fault::LockLost { at: self.at.clone(), why });
        }
        noted.barred.clone().map_or(Ok(()), Err)
    }

    /// Stores a file, as far as nothing speaks against it.
    pub(crate) fn put(&self, kind: Kind, name: &str, parts: &[Bytes]) -> Result<(), Fault> {
        self.check_lease()?;
        let size = parts.iter().map(|part| part.len() as u64).sum();
        self.up.take(size);
        let stored = (|| {
            // An index too: one that names what is gone spoils the backups after this one.
            if matches!(kind, Kind::Snapshot | Kind::Index) {
                self.needed()?;
            }
            let explain = |fault| self.explain_store(fault);
            self.store.write(kind, name, parts, kind == Kind::Config).map_err(explain)?;
            match kind {
                Kind::Snapshot | Kind::Config => self.store.settle().map_err(explain),
                _ => Ok(()),
            }
        })();
        match &stored {
            Ok(()) => {
                self.stored.fetch_add(size, Ordering::Relaxed);
            }
            Err(fault) => self.bar(fault.clone()),
        }
        stored
    }

    /// Reads a part of a pack for the reads this thread makes next.
    pub(crate) fn look_ahead(&self, pack: Id, offset: u32, length: u32) -> RusticResult<()> {
        let content = self.read_partial(FileType::Pack, &pack, false, offset, length)?;
        WINDOW.with_borrow_mut(|window| *window = Some((pack, offset, content)));
        Ok(())
    }

    fn from_window(id: &Id, offset: u32, length: u32) -> Option<Bytes> {
        WINDOW.with_borrow(|window| {
            let (pack, from, content) = window.as_ref()?;
            let start = usize::try_from(offset.checked_sub(*from)?).ok()?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            (pack == id && end <= content.len()).then(|| content.slice(start..end))
        })
    }
}

fn kind(file: FileType) -> Kind {
    match file {
        FileType::Config => Kind::Config,
        FileType::Index => Kind::Index,
        FileType::Key => Kind::Key,
        FileType::Snapshot => Kind::Snapshot,
        FileType::Pack => Kind::Pack,
    }
}

impl ReadBackend for Bridge {
    fn location(&self) -> String {
        self.at.clone()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let listed = match self.store.list(kind(tpe)) {
            Ok(listed) => listed,
            Err(fault) => return self.failed_read(fault),
        };
        if tpe == FileType::Config {
            return Ok(listed.into_iter().map(|_| (Id::default(), 0)).collect());
        }
        // What has another name is no file of a repository, such as an editor's backup copy.
        let known = |(name, size): (String, u64)| {
            Some((Id::parse_some(&name, tpe)?, u32::try_from(size).unwrap_or(u32::MAX)))
        };
        Ok(listed.into_iter().filter_map(known).collect())
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        let name = id.to_hex();
        let content = match self.store.read(kind(tpe), name.as_str()) {
            Ok(content) => content,
            Err(fault) => return self.failed_read(fault),
        };
        self.fetched.fetch_add(content.len() as u64, Ordering::Relaxed);
        self.down.take(content.len() as u64);
        if tpe != FileType::Config && seal::digest(&content) != name.as_str() {
            let fault = Fault::Damaged {
                at: self.at.clone(),
                kind: kind(tpe).to_string(),
                name: name.as_str().to_owned(),
                why: "its content is not what its name says".into(),
            };
            self.noted().read = Some(fault.clone());
            return Err(RusticError::with_source(ErrorKind::Backend, fault.to_string(), fault));
        }
        Ok(content)
    }

    fn read_partial(
        &self,
        tpe: FileType,
        id: &Id,
        _cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        if tpe == FileType::Pack
            && let Some(content) = Bridge::from_window(id, offset, length)
        {
            return Ok(content);
        }
        self.down.take(u64::from(length));
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        let read = self.store.read_range(kind(tpe), id.to_hex().as_str(), u64::from(offset), size);
        match read {
            Ok(content) => {
                self.fetched.fetch_add(u64::from(length), Ordering::Relaxed);
                Ok(content)
            }
            Err(fault) => self.failed_read(fault),
        }
    }

    fn warmup_path(&self, _tpe: FileType, id: &Id) -> String {
        id.to_hex().as_str().to_owned()
    }
}

impl WriteBackend for Bridge {
    fn create(&self) -> RusticResult<()> {
        self.store.create().map_err(|fault| {
            let fault = self.explain_store(fault);
            self.bar(fault.clone());
            RusticError::with_source(ErrorKind::Backend, fault.to_string(), fault)
        })
    }

    fn write_bytes(
        &self,
        tpe: FileType,
        id: &Id,
        _cacheable: bool,
        content: BytesList,
    ) -> RusticResult<()> {
        if tpe == FileType::Snapshot && self.withhold.load(Ordering::SeqCst) {
            return Ok(());
        }
        let name = id.to_hex();
        self.put(kind(tpe), name.as_str(), content.slice())
            .map_err(|fault| RusticError::with_source(ErrorKind::Backend, fault.to_string(), fault))
    }

    fn remove(&self, tpe: FileType, id: &Id, _cacheable: bool) -> RusticResult<()> {
        let name = id.to_hex();
        let removed = self.check_lease().and_then(|()| {
            match self.store.remove(kind(tpe), name.as_str()) {
                // Gone is what was wanted; a prune that was killed had removed it.
                Ok(()) | Err(StoreFault::Missing { .. }) => Ok(()),
                Err(fault) => Err(self.explain_store(fault)),
            }
        });
        removed.map_err(|fault| {
            self.bar(fault.clone());
            RusticError::with_source(ErrorKind::Backend, fault.to_string(), fault)
        })
    }
}

/// At most so many bytes a second, over all threads.
pub(crate) struct Pace {
    per_second: Option<u64>,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(kib: Option<u64>) -> Self {
        let per_second = kib.map(|kib| kib.saturating_mul(1024).max(1));
        Pace { per_second, next: Mutex::new(None) }
    }

    /// Waits until these bytes may go.
    pub(crate) fn take(&self, bytes: u64) {
        let Some(per_second) = self.per_second else { return };
        let now = Instant::now();
        let start = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let start = next.map_or(now, |next| next.max(now));
            let micros = u128::from(bytes) * 1_000_000 / u128::from(per_second);
            let cost = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
            *next = start.checked_add(cost);
            start
        };
        // Time itself is what is waited for.
        std::thread::sleep(start.duration_since(now));
    }
}
