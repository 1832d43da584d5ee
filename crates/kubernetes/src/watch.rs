//! Objects followed by watches, so that a look at a cluster at rest asks for nothing.
//!
//! A watch that fails in any way is begun anew by a list, and until that is done its objects are not
//! handed out: what is not known to be current is asked for instead. A connection on which nothing comes
//! any more is found by its silence, and a pulse tells that something changed, never what.
//!
//! Everybody who asks about a cluster shares its watches, and one that nobody asks for any more ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api::{Api, Resource, Selector, typed};
use crate::fault::{About, Fault, explain};
use crate::key::{Kind, ObjectKey};

/// Longest wait before a watch is begun anew, whatever went wrong.
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// Objects by what they are.
pub type Stock = HashMap<ObjectKey, Arc<Value>>;

/// What changes in objects all the time and says nothing: whoever waits is not told of it.
const NOISE: &[&str] = &["resourceVersion", "managedFields", "lastHeartbeatTime", "lastProbeTime"];

/// Tells that something changed, and on purpose not what: whoever waits looks at everything. The watches
/// of several clusters may share one.
#[derive(Debug, Clone)]
pub struct Pulse(watch::Sender<u64>);

impl Default for Pulse {
    fn default() -> Self {
        Self(watch::channel(0).0)
    }
}

impl Pulse {
    /// Changes with each change from now on; what comes while nobody waits is one change. Lives on its
    /// own, so that a task can wait on it while others use the watches.
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    pub(crate) fn beat(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// How objects are kept, and what of them is news.
#[derive(Debug, Clone, Copy)]
pub struct Lens {
    /// Its name: two lenses of one name are the same.
    pub name: &'static str,
    /// Takes out what nobody who uses it asks for.
    pub slim: fn(&mut Value),
    /// Whether a change is news: from one version to another, or one that comes or goes.
    pub is_news: fn(Option<&Value>, Option<&Value>) -> bool,
}

impl Lens {
    /// Whole objects; every change is news but for what changes all the time and says nothing.
    pub const WHOLE: Self = Self { name: "", slim: |_| {}, is_news: differs };
}

fn differs(old: Option<&Value>, new: Option<&Value>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => !alike(old, new),
        _ => true,
    }
}

/// What is known of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Its first list is not done.
    Begun,
    /// What it holds is what the cluster has, but for what is on its way.
    Current,
    /// It broke, for this reason.
    Broken(Fault),
}

struct Watch {
    stock: Arc<Mutex<Arc<Stock>>>,
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
    /// When somebody asked for it last.
    asked: Instant,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is followed, and how.
type Followed = (Kind, Selector, &'static str);

/// The watches of a cluster. Cheap to clone; all clones are the same watches.
#[derive(Clone)]
pub struct Watches {
    api: Api,
    pulse: Pulse,
    all: Arc<Mutex<BTreeMap<Followed, Watch>>>,
}

impl Watches {
    /// None yet.
    pub fn new(api: Api) -> Self {
        Self::telling(api, Pulse::default())
    }

    /// None yet; what they see is told here.
    pub fn telling(api: Api, pulse: Pulse) -> Self {
        Self { api, pulse, all: Arc::default() }
    }

    /// Follows whole objects; those that are followed already go on. Has to be called within a runtime.
    pub fn follow(&self, of: &Resource, which: &Selector) {
        self.follow_by(of, which, &Lens::WHOLE);
    }

    /// The same through a lens.
    pub fn follow_by(&self, of: &Resource, which: &Selector, lens: &Lens) {
        let key = (of.kind(), which.clone(), lens.name);
        let mut all = self.all();
        if let Some(watch) = all.get_mut(&key).filter(|watch| !watch.task.is_finished()) {
            watch.asked = Instant::now();
            return;
        }
        let stock = Arc::new(Mutex::new(Arc::new(Stock::new())));
        let (tell, state) = watch::channel(State::Begun);
        let follower = Follower {
            api: self.api.clone(),
            lens: *lens,
            of: of.clone(),
            which: which.clone(),
            stock: stock.clone(),
            tell,
            pulse: self.pulse.clone(),
        };
        let task = tokio::spawn(follower.run());
        all.insert(key, Watch { stock, state, task, asked: Instant::now() });
    }

    /// Ends what nobody asked for in this time.
    pub fn rest(&self, idle: Duration) {
        self.all().retain(|_, watch| watch.asked.elapsed() < idle);
    }

    /// Ends all of them.
    pub fn end(&self) {
        self.all().clear();
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all().len()
    }

    /// What a watch of whole objects holds; `None` where they are not followed, or not known to be
    /// current.
    pub fn stock(&self, kind: &Kind, which: &Selector) -> Option<Arc<Stock>> {
        self.stock_by(kind, which, &Lens::WHOLE)
    }

    /// The same through a lens.
    pub fn stock_by(&self, kind: &Kind, which: &Selector, lens: &Lens) -> Option<Arc<Stock>> {
        let all = self.all();
        let watch = all.get(&(kind.clone(), which.clone(), lens.name))?;
        let current = *watch.state.borrow() == State::Current;
        let stock = watch.stock.lock().unwrap_or_else(PoisonError::into_inner);
        current.then(|| stock.clone())
    }

    /// Waits until all are current.
    ///
    /// # Errors
    /// Why one of them is not, once the time is over.
    pub async fn current(&self, limit: Duration) -> Result<(), Fault> {
        let states: Vec<(Kind, watch::Receiver<State>)> =
            self.all().iter().map(|(key, watch)| (key.0.clone(), watch.state.clone())).collect();
        let mut waited = states.clone();
        let all = async {
            for (_, state) in &mut waited {
                // The other end lives as long as the watch.
                if state.wait_for(|state| *state == State::Current).await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(limit, all).await.is_ok() {
            return Ok(());
        }
        for (kind, state) in &states {
            match &*state.borrow() {
                State::Current => {}
                State::Broken(fault) => return Err(fault.clone()),
                State::Begun => {
                    let what = format!("list all {}", kind.kind);
                    let server = self.api.server().to_owned();
                    return Err(Fault::TimedOut { server, what, seconds: limit.as_secs() });
                }
            }
        }
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Followed, Watch>> {
        // Nothing is left half done in it, whoever panicked.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes with each change in any of them. Taken before a look, it tells of all that came after.
    pub fn pulse(&self) -> watch::Receiver<u64> {
        self.pulse.listen()
    }
}

/// One watch at work.
struct Follower {
    api: Api,
    lens: Lens,
    of: Resource,
    which: Selector,
    stock: Arc<Mutex<Arc<Stock>>>,
    tell: watch::Sender<State>,
    pulse: Pulse,
}

impl Follower {
    async fn run(self) {
        let mut wait = self.api.limits().first_wait;
        loop {
            let fault = self.follow(&mut wait).await;
            // The watcher itself would go on where it was, and nothing would say that it does.
            self.say(State::Broken(fault));
            tokio::time::sleep(wait.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }

    /// Follows until it breaks.
    async fn follow(&self, wait: &mut Duration) -> Fault {
        let config = watcher::Config {
            label_selector: self.which.labels.clone(),
            field_selector: self.which.fields.clone(),
            timeout: Some(self.api.limits().watch_seconds()),
            ..watcher::Config::default()
        };
        let api = dynamic(&self.api, &self.of, self.which.namespace.as_deref());
        let mut events = std::pin::pin!(watcher(api, config));
        let mut listed = Stock::new();
        while let Some(event) = events.next().await {
            match event {
                Err(error) => return self.broken(&error),
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    listed.extend(self.read(object));
                }
                Ok(Event::InitDone) => {
                    *self.stock() = Arc::new(std::mem::take(&mut listed));
                    *wait = self.api.limits().first_wait;
                    self.say(State::Current);
                }
                Ok(Event::Apply(object)) => {
                    let Some((key, object)) = self.read(object) else { continue };
                    let new = object.clone();
                    let old = Arc::make_mut(&mut *self.stock()).insert(key, object);
                    if (self.lens.is_news)(old.as_deref(), Some(&new)) {
                        self.say(State::Current);
                    }
                }
                Ok(Event::Delete(object)) => {
                    let Some((key, old)) = self.read(object) else { continue };
                    Arc::make_mut(&mut *self.stock()).remove(&key);
                    if (self.lens.is_news)(Some(&old), None) {
                        self.say(State::Current);
                    }
                }
            }
        }
        let server = self.api.server().to_owned();
        let what = format!("watch {}", self.of.api.plural);
        Fault::Unreachable { server, what, words: "the watch ended".to_owned() }
    }

    /// After the stock was changed, never before. That it is still broken is no news.
    fn say(&self, state: State) {
        let same = |old: &State| match (old, &state) {
            (State::Broken(old), State::Broken(new)) => old == new,
            _ => false,
        };
        let news = !same(&self.tell.borrow());
        self.tell.send_replace(state);
        if news {
            self.pulse.beat();
        }
    }

    fn stock(&self) -> std::sync::MutexGuard<'_, Arc<Stock>> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, object: DynamicObject) -> Option<(ObjectKey, Arc<Value>)> {
        let mut object = plain(object, &self.of)?;
        (self.lens.slim)(&mut object);
        Some((ObjectKey::of(&object)?, Arc::new(object)))
    }

    fn broken(&self, error: &watcher::Error) -> Fault {
        let what = format!("watch {}", self.of.api.plural);
        explain_watch(error, &About { server: self.api.server(), what: &what, hide: false })
    }
}

/// Whether two versions of an object differ in nothing but noise.
fn alike(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let told = |map: &serde_json::Map<String, Value>| {
                map.keys().filter(|key| !NOISE.contains(&key.as_str())).count()
            };
            let same = |(key, value): (&String, &Value)| {
                NOISE.contains(&key.as_str()) || new.get(key).is_some_and(|new| alike(value, new))
            };
            told(old) == told(new) && old.iter().all(same)
        }
        (Value::Array(old), Value::Array(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| alike(old, new))
        }
        (old, new) => old == new,
    }
}

/// What an error of a watch means.
pub(crate) fn explain_watch(error: &watcher::Error, about: &About<'_>) -> Fault {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => explain(error, about),
        watcher::Error::WatchError(status) => explain(&kube::Error::Api(status.clone()), about),
        watcher::Error::NoResourceVersion => Fault::Unreadable {
            server: about.server.to_owned(),
            what: about.what.to_owned(),
            words: "no resourceVersion".to_owned(),
        },
    }
}

/// The objects of a kind, for the client's own watches.
pub(crate) fn dynamic(
    api: &Api,
    of: &Resource,
    namespace: Option<&str>,
) -> kube::Api<DynamicObject> {
    match namespace.filter(|_| of.namespaced) {
        Some(namespace) => kube::Api::namespaced_with(api.client(), namespace, &of.api),
        None => kube::Api::all_with(api.client(), &of.api),
    }
}

/// An object as plain JSON; `None` only where it holds what JSON cannot.
pub(crate) fn plain(object: DynamicObject, of: &Resource) -> Option<Value> {
    let mut value = serde_json::to_value(object).ok()?;
    if value.get("kind").is_none_or(Value::is_null)
        && let Some(map) = value.as_object_mut()
    {
        map.remove("kind");
        map.remove("apiVersion");
    }
    Some(typed(value, of))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn heartbeats_are_no_news() {
        let node = |version: &str, heard: &str, ready: &str| {
            json!({"metadata": {"name": "n", "resourceVersion": version},
                "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": heard}]}})
        };
        let old = node("1", "10:00", "True");
        assert!(alike(&old, &node("2", "10:05", "True")));
        assert!(!alike(&old, &node("2", "10:05", "False")));
        let mut more = node("2", "10:05", "True");
        more["metadata"]["labels"] = json!({"a": "b"});
        assert!(!alike(&old, &more) && !alike(&more, &old));
    }
}
