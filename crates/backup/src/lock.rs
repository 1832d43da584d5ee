//! Who may work on a repository at the same time: our own processes by a file lock of this host, and
//! everybody else by restic's lock files in the repository.
//!
//! Writers and readers share; whoever removes things is alone. A lock is stale, as with restic, when
//! it was not renewed for half an hour, or when its process is of this host and dead. A lock that
//! cannot be read is somebody's.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::bridge::Bridge;
use crate::protocol::{Fault, Holder, Notice};
use crate::seal::{self, Seal};
use crate::store::{Kind, StoreFault};

/// restic's `staleLockTimeout`.
const STALE: SignedDuration = SignedDuration::from_mins(30);
/// restic's `refreshInterval`.
const RENEW: Duration = Duration::from_secs(5 * 60);

/// How much of a repository a job needs for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Reads only, so that a place that takes no lock is no reason to give up.
    Reader,
    /// Adds things.
    Writer,
    /// Removes things.
    Alone,
}

impl Mode {
    fn exclusive(self) -> bool {
        self == Mode::Alone
    }
}

/// A lock file's content (restic, `internal/restic/lock.go`).
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Lock {
    time: Timestamp,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    pid: i64,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

impl Lock {
    fn ours(exclusive: bool) -> Self {
        Lock {
            time: Timestamp::now(),
            exclusive,
            hostname: hostname(),
            username: "trueup".into(),
            pid: i64::from(std::process::id()),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        }
    }

    fn holder(&self) -> Holder {
        Holder {
            host: self.hostname.clone(),
            pid: self.pid,
            since: Some(self.time),
            exclusive: self.exclusive,
        }
    }
}

/// A lock's content: JSON, or with repositories of version 2 also compressed, with a 2 before it.
fn parse(plain: &[u8]) -> Option<Lock> {
    /// A lock has some hundred bytes.
    const LOCK_MAX: usize = 64 * 1024;
    match plain.split_first()? {
        (2, packed) => {
            let text = zstd::bulk::decompress(packed, LOCK_MAX).ok()?;
            serde_json::from_slice(&text).ok()
        }
        _ => serde_json::from_slice(plain).ok(),
    }
}

/// The name this host goes by.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether a lock's owner can be taken for dead.
fn stale(lock: &Lock, now: Timestamp, host: &str, alive: impl Fn(i64) -> bool) -> bool {
    now.duration_since(lock.time) > STALE || (lock.hostname == host && !alive(lock.pid))
}

/// Whether there is such a process here.
fn alive(pid: i64) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    rustix::process::test_kill_process(pid) != Err(Errno::SRCH)
}

/// The lock of this host's own jobs; it ends with the process.
pub(crate) struct HostLock {
    _file: File,
}

impl HostLock {
    pub(crate) fn take(state: &Path, name: &str, mode: Mode, at: &str) -> Result<Self, Fault> {
        let unwritable = |path: &Path, error: &std::io::Error| Fault::Unwritable {
            path: path.to_owned(),
            why: error.to_string(),
        };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(state);
        made.map_err(|error| unwritable(state, &error))?;
        let path = state.join(format!("{name}.lock"));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = file.open(&path).map_err(|error| unwritable(&path, &error))?;
        let operation = match mode.exclusive() {
            true => FlockOperation::NonBlockingLockExclusive,
            false => FlockOperation::NonBlockingLockShared,
        };
        match rustix::fs::flock(&file, operation) {
            Ok(()) => Ok(HostLock { _file: file }),
            Err(Errno::WOULDBLOCK) => {
                // Which process holds it is not for flock(2) to say.
                let holder =
                    Holder { host: hostname(), pid: 0, since: None, exclusive: !mode.exclusive() };
                Err(Fault::Locked { at: at.to_owned(), holder })
            }
            Err(errno) => Err(unwritable(&path, &errno.into())),
        }
    }
}

/// A lock file in the repository, renewed until it is dropped.
pub(crate) struct RepoLock {
    shared: Arc<Shared>,
    renewer: Option<JoinHandle<()>>,
}

struct Shared {
    bridge: Arc<Bridge>,
    seal: Seal,
    exclusive: bool,
    name: Mutex<String>,
    done: Mutex<bool>,
    wake: Condvar,
}

impl Shared {
    /// Writes our lock anew; its name.
    fn write(&self) -> Result<String, Fault> {
        let internal = |what: String| Fault::Internal { what };
        let lock = Lock::ours(self.exclusive);
        let text = serde_json::to_vec(&lock).map_err(|error| internal(error.to_string()))?;
        let sealed = self.seal.close(&text).map_err(|error| internal(error.to_string()))?;
        let name = seal::digest(&sealed);
        // Past the bridge's gate: a lock that failed once may be renewed the next time.
        let written = self.bridge.store.write(Kind::Lock, &name, &[sealed.into()], false);
        written.map_err(|fault| fault.explain(&self.bridge.at))?;
        self.bridge.renewed(lock.time);
        Ok(name)
    }

    /// Locks of others that are alive and speak against ours; stale ones are removed.
    fn conflict(&self, own: Option<&str>) -> Result<(Option<Holder>, Vec<Notice>), Fault> {
        let at = &self.bridge.at;
        let store = &self.bridge.store;
        let explain = |fault: StoreFault| fault.explain(at);
        let (mut notices, mut conflict) = (Vec::new(), None);
        let (host, now) = (hostname(), Timestamp::now());
        for (name, _) in store.list(Kind::Lock).map_err(explain)? {
            if own == Some(name.as_str()) {
                continue;
            }
            let sealed = match store.read(Kind::Lock, &name) {
                Ok(sealed) => sealed,
                Err(StoreFault::Missing { kind: Kind::Lock, .. }) => continue,
                Err(fault) => return Err(explain(fault)),
            };
            match self.seal.open(&sealed).ok().and_then(|plain| parse(&plain)) {
                Some(lock) if stale(&lock, now, &host, alive) => {
                    // Another job may have removed it meanwhile; where it is refused it stays.
                    match store.remove(Kind::Lock, &name) {
                        Ok(()) => notices.push(Notice::StaleLock { holder: lock.holder() }),
                        Err(StoreFault::Missing { .. } | StoreFault::Refused { .. }) => {}
                        Err(fault) => return Err(explain(fault)),
                    }
                }
                Some(lock) if self.exclusive || lock.exclusive => conflict = Some(lock.holder()),
                Some(_) => {}
                None => {
                    let host = format!("an unreadable lock {name}");
                    conflict = Some(Holder { host, pid: 0, since: None, exclusive: true });
                }
            }
        }
        Ok((conflict, notices))
    }

    /// That nobody removed our lock or, since then, an index: whoever did may have removed what we
    /// wrote, or what we found there and wrote no second time.
    fn untouched(&self, indexes: &BTreeSet<String>) -> Result<(), Fault> {
        let at = self.bridge.at.clone();
        let list = |kind| self.bridge.store.list(kind).map_err(|fault| fault.explain(&at));
        // Held until the listing is there, so that it is not renewed meanwhile.
        let name = self.name.lock().unwrap_or_else(PoisonError::into_inner);
        if !list(Kind::Lock)?.iter().any(|(lock, _)| *lock == *name) {
            let why = "somebody removed it".to_owned();
            return Err(Fault::LockLost { at, why });
        }
        drop(name);
        let now: BTreeSet<String> = list(Kind::Index)?.into_iter().map(|(name, _)| name).collect();
        if indexes.is_subset(&now) { Ok(()) } else { Err(Fault::PrunedMeanwhile { at }) }
    }

    fn unlock(&self) {
        let name = self.name.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What stays behind is stale at once, because this process is gone.
        drop(self.bridge.store.remove(Kind::Lock, &name));
    }
}

impl RepoLock {
    /// Takes the lock, or says who holds it.
    ///
    /// Ours is written before the second look: of two that come at once at least one sees the other.
    pub(crate) fn take(
        bridge: Arc<Bridge>,
        seal: Seal,
        mode: Mode,
    ) -> Result<(Option<Self>, Vec<Notice>), Fault> {
        let shared = Arc::new(Shared {
            bridge,
            seal,
            exclusive: mode.exclusive(),
            name: Mutex::default(),
            done: Mutex::default(),
            wake: Condvar::new(),
        });
        let locked = |holder| Fault::Locked { at: shared.bridge.at.clone(), holder };
        let (conflict, mut notices) = shared.conflict(None)?;
        if let Some(holder) = conflict {
            return Err(locked(holder));
        }
        let name = match shared.write() {
            Ok(name) => name,
            Err(Fault::Refused { why, .. }) if mode == Mode::Reader => {
                notices.push(Notice::Unlocked { why });
                return Ok((None, notices));
            }
            Err(fault) => return Err(fault),
        };
        name.clone_into(&mut shared.name.lock().unwrap_or_else(PoisonError::into_inner));
        // From here on dropping it removes the file.
        let mut lock = RepoLock { shared: Arc::clone(&shared), renewer: None };
        let (conflict, more) = shared.conflict(Some(&name))?;
        if let Some(holder) = conflict {
            return Err(locked(holder));
        }
        notices.extend(more);
        lock.renewer = Some(std::thread::spawn(move || renew(&shared)));
        Ok((Some(lock), notices))
    }

    /// From now on no index and no snapshot is stored once one of these indexes is gone, or the lock.
    pub(crate) fn guard(&self, indexes: BTreeSet<String>) {
        let shared = Arc::downgrade(&self.shared);
        // Without the lock there is nothing left to be written.
        let sentry = move || shared.upgrade().map_or(Ok(()), |lock| lock.untouched(&indexes));
        self.shared.bridge.post(Some(Box::new(sentry)));
    }
}

fn renew(shared: &Shared) {
    loop {
        let done = shared.done.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = shared.wake.wait_timeout_while(done, RENEW, |done| !*done);
        if *waited.unwrap_or_else(PoisonError::into_inner).0 {
            return;
        }
        let mut name = shared.name.lock().unwrap_or_else(PoisonError::into_inner);
        // One that fails is tried again; the bridge stops all writing before others take it for dead.
        if let Ok(fresh) = shared.write() {
            drop(shared.bridge.store.remove(Kind::Lock, &name));
            *name = fresh;
        }
    }
}

impl Drop for RepoLock {
    fn drop(&mut self) {
        *self.shared.done.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.wake.notify_all();
        if let Some(renewer) = self.renewer.take() {
            // A renewer that panicked renews nothing any more.
            drop(renewer.join());
        }
        self.shared.bridge.post(None);
        self.shared.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_stale_when_it_is_old_or_its_owner_is_dead() {
        let now = Timestamp::from_second(1_000_000).expect("in range");
        let lock = |age_min: i64, host: &str| Lock {
            time: now.checked_sub(SignedDuration::from_mins(age_min)).expect("in range"),
            hostname: host.into(),
            ..Lock::ours(true)
        };
        assert!(!stale(&lock(29, "there"), now, "here", |_| false));
        assert!(stale(&lock(31, "there"), now, "here", |_| true));
        assert!(stale(&lock(1, "here"), now, "here", |_| false));
        assert!(!stale(&lock(1, "here"), now, "here", |_| true));
        // A clock that is ahead makes no lock stale.
        assert!(!stale(&lock(-600, "there"), now, "here", |_| false));
    }

    #[test]
    fn this_process_is_alive_and_no_process_is_not() {
        assert!(alive(i64::from(std::process::id())));
        assert!(!alive(0) && !alive(i64::from(i32::MAX)) && !alive(i64::MAX));
    }

    #[test]
    fn readers_share_and_a_pruner_is_alone() {
        let state = tempfile::tempdir().expect("a folder");
        let take = |mode| HostLock::take(state.path(), "r", mode, "there");
        let reader = take(Mode::Reader).expect("it is free");
        let writer = take(Mode::Writer).expect("they share");
        assert!(matches!(take(Mode::Alone), Err(Fault::Locked { .. })));
        drop((reader, writer));
        let alone = take(Mode::Alone).expect("it is free");
        assert!(matches!(take(Mode::Reader), Err(Fault::Locked { .. })));
        drop(alone);
    }
}
