//! One connection to each cluster, with one set of watches, for everybody here who has to do with it.
//!
//! Which kubeconfig leads to a cluster is said when this is made, and by nobody later: which file, or where
//! one is kept once there is one. Another file in its place is used with the next request for the way; a
//! connection that nobody asks for any more ends, and so does each of its watches.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::access::{Access, AccessError, KubeconfigRef, access, access_given};
use crate::api::{Api, Limits};
use crate::fault::Fault;
use crate::watch::{Pulse, Watches};

/// After news, how long more of it is waited for: a rollout tells of every pod.
const PAUSE: Duration = Duration::from_millis(500);
/// The same at most, where news goes on and on: a cluster that is never at rest must not keep whoever
/// listens from everything else.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Why there is no way to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum NoWay {
    /// Nobody said how.
    #[error(
        "nothing says how the cluster `{0}` is reached: name its kubeconfig in `clusters.{0}.kubeconfig` of the host's config"
    )]
    Unnamed(String),
    /// The kubeconfig.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// The ways to clusters. Cheap to clone; all clones are the same connections.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

/// Where the kubeconfig of a cluster is kept when nobody said another one; `None`: nowhere.
type Kept = Box<dyn Fn(&str) -> Option<PathBuf> + Send + Sync>;

struct Inner {
    ways: BTreeMap<String, KubeconfigRef>,
    kept: Kept,
    limits: Limits,
    idle: Duration,
    news: Pulse,
    open: Mutex<HashMap<String, Arc<Connection>>>,
}

/// The way to one cluster.
pub struct Connection {
    /// The server.
    pub access: Access,
    /// What is followed there.
    pub watches: Watches,
    stamp: Option<Stamp>,
    asked: Mutex<Instant>,
    ended: AtomicBool,
}

impl Connection {
    /// The server, to ask.
    pub fn api(&self) -> &Api {
        &self.access.api
    }

    /// Whether another one is in its place by now, or nobody needed it: what was kept for it is of no use.
    pub fn is_over(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.watches.end();
    }

    fn touch(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idles(&self, limit: Duration) -> bool {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= limit
    }
}

impl Connections {
    /// None open yet. `idle`: what nobody asks for in this time ends; it has to be longer than the time
    /// between two looks at a cluster.
    pub fn new(ways: BTreeMap<String, KubeconfigRef>, limits: Limits, idle: Duration) -> Self {
        Self::or_kept(ways, |_| None, limits, idle)
    }

    /// The same, and where `ways` have none, the file of that place leads to the cluster as soon as it is there. No
    /// program that it names is started, and it may name no other file: see [`crate::leads_to`].
    pub fn or_kept(
        ways: BTreeMap<String, KubeconfigRef>,
        place: impl Fn(&str) -> Option<PathBuf> + Send + Sync + 'static,
        limits: Limits,
        idle: Duration,
    ) -> Self {
        let (kept, news, open) = (Box::new(place), Pulse::default(), Mutex::default());
        Self(Arc::new(Inner { ways, kept, limits, idle, news, open }))
    }

    /// Whether anything says how a cluster is reached.
    pub fn has(&self, cluster: &str) -> bool {
        self.way(cluster).is_some()
    }

    /// Whether that was said beforehand, so that nothing that is kept leads there.
    pub fn is_said(&self, cluster: &str) -> bool {
        self.0.ways.contains_key(cluster)
    }

    fn way(&self, cluster: &str) -> Option<KubeconfigRef> {
        if let Some(said) = self.0.ways.get(cluster) {
            return Some(said.clone());
        }
        let path = (self.0.kept)(cluster)?;
        // Of one that cannot be looked at, whoever reads it says why.
        let is_there = path.try_exists().unwrap_or(true);
        is_there.then_some(KubeconfigRef { path, context: None, programs: false })
    }

    /// The way to a cluster: the one that is open, unless its kubeconfig is another one by now.
    ///
    /// # Errors
    /// [`NoWay`].
    pub async fn to(&self, cluster: &str) -> Result<Arc<Connection>, NoWay> {
        let Some(way) = self.way(cluster) else {
            self.end(cluster);
            return Err(NoWay::Unnamed(cluster.to_owned()));
        };
        let stamp = Stamp::of(&way.path);
        if let Some(open) = self.current(cluster, stamp.as_ref()) {
            return Ok(open);
        }
        let access = match self.is_said(cluster) {
            true => access(&way, self.0.limits).await,
            false => access_given(&way, self.0.limits).await,
        };
        let access = access.inspect_err(|_| self.end(cluster))?;
        let mut all = self.open();
        // Two who asked at the same time get the same one.
        if let Some(open) = all.get(cluster).filter(|it| stamp.is_some() && it.stamp == stamp) {
            open.touch();
            return Ok(Arc::clone(open));
        }
        let watches = Watches::telling(access.api.clone(), self.0.news.clone());
        let (asked, ended) = (Mutex::new(Instant::now()), AtomicBool::new(false));
        let connection = Arc::new(Connection { access, watches, stamp, asked, ended });
        if let Some(old) = all.insert(cluster.to_owned(), Arc::clone(&connection)) {
            old.end();
        }
        Ok(connection)
    }

    fn current(&self, cluster: &str, stamp: Option<&Stamp>) -> Option<Arc<Connection>> {
        let all = self.open();
        let open = all.get(cluster)?;
        let same = stamp.is_some() && open.stamp.as_ref() == stamp;
        same.then(|| {
            open.touch();
            Arc::clone(open)
        })
    }

    /// Opens the way anew with the next request where credentials or certificates are refused: the files
    /// that a kubeconfig names may be others by then.
    pub fn doubt(&self, cluster: &str, fault: &Fault) {
        if matches!(fault, Fault::Unauthorized { .. } | Fault::Certificate { .. }) {
            self.end(cluster);
        }
    }

    fn end(&self, cluster: &str) {
        if let Some(old) = self.open().remove(cluster) {
            old.end();
        }
    }

    /// Ends what nobody asked for lately, whole connections and single watches of others, and those whose
    /// kubeconfig is gone: their credentials are not ours to use any more.
    pub fn rest(&self) {
        let idle = self.0.idle;
        self.open().retain(|cluster, open| {
            let over = open.idles(idle) || self.way(cluster).is_none();
            match over {
                true => open.end(),
                false => open.watches.rest(idle),
            }
            !over
        });
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open().len()
    }

    /// Calls `wake` for what clusters report from now on: at once for the first of it, and less and less
    /// often where it goes on and on. Never ends.
    pub async fn each_event(&self, wake: impl Fn()) {
        let mut news = self.0.news.listen();
        let mut pause = PAUSE;
        // The other end is our own.
        while news.changed().await.is_ok() {
            wake();
            tokio::time::sleep(pause).await;
            pause = match news.has_changed() {
                Ok(true) => (pause * 2).min(PAUSE_MAX),
                Ok(false) | Err(_) => PAUSE,
            };
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Arc<Connection>>> {
        // Nothing is left half done in it, whoever panicked.
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which file a kubeconfig was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    /// Of the file as it is now; `None`: it cannot be looked at.
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = std::fs::metadata(path).ok()?;
        Some(Self { modified: meta.modified().ok(), bytes: meta.len(), inode: meta.ino() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn news_that_goes_on_and_on_wakes_less_and_less_often() {
        let limits = Limits::default();
        let connections = Connections::new(BTreeMap::new(), limits, Duration::from_secs(600));
        let woken = Arc::new(Mutex::new(Vec::<Duration>::new()));
        let (since, told) = (Instant::now(), Arc::clone(&woken));
        let listening = connections.clone();
        let task = tokio::spawn(async move {
            listening.each_event(|| told.lock().unwrap().push(since.elapsed())).await;
        });
        // A word every tenth of a second, for two minutes.
        for _ in 0..1_200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            connections.0.news.beat();
        }
        let times = std::mem::take(&mut *woken.lock().unwrap());
        assert!(times[0] < Duration::from_secs(1), "the first at once: {times:?}");
        assert!((10..25).contains(&times.len()), "{times:?}");
        // After some rest the next one is at once again.
        tokio::time::sleep(Duration::from_secs(60)).await;
        woken.lock().unwrap().clear();
        let at = since.elapsed();
        connections.0.news.beat();
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(woken.lock().unwrap().len(), 1);
        assert!(woken.lock().unwrap()[0] - at < Duration::from_millis(10));
        task.abort();
    }
}
