//! Releases: looked at and applied through the API server of their cluster.
//!
//! Which cluster a name means, and by which credentials it is asked, is what the host's config says, never a
//! commit. What is done is decided by the plan; nothing is chosen here. A server that does not answer is no
//! empty cluster: its releases are unreadable.

mod act;
mod behind_port;
mod look;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use trueup_kubernetes::release::{Engine, ReleaseName, Waits, Wish};
use trueup_kubernetes::{Api, KubeconfigRef, Limits, Pulse, Watches, access, chain};

use crate::model::resource::{Release, ReleasePlace};
use crate::model::{Digest, Name, Resource, ResourceId};
use crate::port::Scope;

/// How a look asks: it has to be over before the limit of all looks, so that one server that is away is
/// told apart from the others.
const LOOK: Limits = Limits {
    connect: Duration::from_secs(5),
    request: Duration::from_secs(15),
    attempts: 2,
    first_wait: Duration::from_millis(250),
    wait_max: Duration::from_secs(5),
    watch: Duration::from_secs(60),
};
/// After news from a cluster, how long more of it is waited for: a rollout tells of every pod.
const NEWS_PAUSE: Duration = Duration::from_millis(500);

/// What releases work with.
#[derive(Debug, Clone, Default)]
pub struct ReleaseSetup {
    /// How clusters are reached, by the name of the `Cluster`.
    pub clusters: BTreeMap<Name, KubeconfigRef>,
}

/// Releases of this host. Cheap to clone.
#[derive(Clone)]
pub struct ReleaseProvider {
    setup: Arc<ReleaseSetup>,
    kept: Arc<Mutex<HashMap<Name, Arc<Kept>>>>,
    wishes: Arc<Mutex<HashMap<ResourceId, Settled>>>,
    news: Pulse,
}

/// A wish whose kinds were looked up, and what it was made from: the digest of what is asked for, and
/// whether the environment lets objects go.
#[derive(Clone)]
struct Settled {
    of: (Digest, bool),
    wish: Arc<Wish>,
}

/// What is kept of a cluster, so that the next look asks for little.
struct Kept {
    api: Api,
    engine: tokio::sync::Mutex<Engine>,
    /// What it follows.
    releases: Mutex<BTreeSet<ResourceId>>,
}

impl Kept {
    /// Whether it follows nothing but `releases`, which it follows from now on.
    fn follows_no_other_than(&self, releases: &BTreeSet<ResourceId>) -> bool {
        let mut own = self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = own.is_subset(releases);
        own.clone_from(releases);
        fits
    }
}

impl ReleaseProvider {
    /// A provider that has not asked anybody yet.
    #[must_use]
    pub fn new(setup: ReleaseSetup) -> Self {
        Self {
            setup: Arc::new(setup),
            kept: Arc::default(),
            wishes: Arc::default(),
            news: Pulse::default(),
        }
    }

    /// Calls `wake` for everything that clusters report from now on. Never ends.
    pub async fn each_event(&self, wake: impl Fn()) {
        let mut news = self.news.listen();
        // The other end is this very provider's.
        while news.changed().await.is_ok() {
            wake();
            tokio::time::sleep(NEWS_PAUSE).await;
        }
    }

    /// The way to a cluster.
    fn way(&self, cluster: &Name) -> Result<&KubeconfigRef, String> {
        self.setup.clusters.get(cluster).ok_or_else(|| {
            format!(
                "nothing says how the cluster `{cluster}` is reached: set \
                 `clusters.{cluster}.kubeconfig` in the config of this host"
            )
        })
    }

    /// What is kept of a cluster; made anew where that follows releases that are there no more.
    async fn kept(
        &self,
        cluster: &Name,
        releases: &BTreeSet<ResourceId>,
    ) -> Result<Arc<Kept>, String> {
        let known = self.all_kept().get(cluster).map(Arc::clone);
        if let Some(kept) = known.filter(|kept| kept.follows_no_other_than(releases)) {
            return Ok(kept);
        }
        let api = access(self.way(cluster)?, LOOK).await.map_err(|error| chain(&error))?.api;
        let watches = Watches::telling(api.clone(), self.news.clone());
        let engine = Engine::with_watches(api.clone(), Waits::default(), watches);
        let engine = tokio::sync::Mutex::new(engine);
        let kept = Arc::new(Kept { api, engine, releases: Mutex::new(releases.clone()) });
        self.all_kept().insert(cluster.clone(), Arc::clone(&kept));
        Ok(kept)
    }

    /// Forgets a cluster: the next look reads its kubeconfig anew.
    fn forget(&self, cluster: &Name) {
        self.all_kept().remove(cluster);
    }

    fn all_kept(&self) -> std::sync::MutexGuard<'_, HashMap<Name, Arc<Kept>>> {
        // Nothing is left half done in it, whoever panicked.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_wishes(&self) -> std::sync::MutexGuard<'_, HashMap<ResourceId, Settled>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wish of a release of which nothing is asked for any more: that it be gone.
    fn farewell(place: &ReleasePlace) -> Result<Wish, String> {
        Ok(Wish::new(name_of(place)?, Vec::new()))
    }

    /// The wish for a release, its kinds looked up where only the cluster knows them.
    async fn settled(
        &self,
        id: &ResourceId,
        release: &Release,
        scope: &Scope,
        engine: &Engine,
    ) -> Result<Arc<Wish>, Trouble> {
        let name = name_of(&release.place).map_err(Trouble::Words)?;
        let asked = scope.desired.resources.get(id);
        let of = asked.map(|asked| (asked.digest, scope.desired.sync.prune));
        if let Some(of) = of
            && let Some(known) = self.all_wishes().get(id).filter(|known| known.of == of)
        {
            return Ok(Arc::clone(&known.wish));
        }
        let manifests = engine.settle(&name, release.manifests.0.to_vec()).await?;
        let mut wish = Wish::new(name, manifests);
        wish.force = release.takes_fields;
        wish.takes_from.clone_from(&release.takes_from);
        wish.prune = release.prune && scope.desired.sync.prune;
        if let Some(asked) = asked {
            wish.adopt = asked.lifecycle.adopt;
            wish.prune &= !asked.lifecycle.prevent_destroy;
        }
        let wish = Arc::new(wish);
        if let Some(of) = of {
            self.all_wishes().insert(id.clone(), Settled { of, wish: Arc::clone(&wish) });
        }
        Ok(wish)
    }
}

/// Why there is nothing to be said of a release.
enum Trouble {
    /// The engine's own.
    Engine(trueup_kubernetes::release::EngineError),
    /// Ours.
    Words(String),
}

impl From<trueup_kubernetes::release::EngineError> for Trouble {
    fn from(error: trueup_kubernetes::release::EngineError) -> Self {
        Self::Engine(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Words(words) => f.write_str(words),
        }
    }
}

fn name_of(place: &ReleasePlace) -> Result<ReleaseName, String> {
    ReleaseName::new(&place.namespace, &place.name).map_err(|error| error.to_string())
}

/// The releases of a scope by cluster: those that are asked for, and those that are only known of. What is
/// asked for in another place than it was made counts as asked for.
fn by_cluster(scope: &Scope) -> BTreeMap<Name, Vec<(ResourceId, Release)>> {
    let mut all: BTreeMap<Name, Vec<(ResourceId, Release)>> = BTreeMap::new();
    let asked = scope.desired.resources.iter().map(|(id, wish)| (id, &wish.resource));
    let gone = scope.claims.iter().filter(|(id, _)| !scope.desired.resources.contains_key(*id));
    for (id, resource) in asked.chain(gone) {
        if let Resource::Release(release) = resource {
            let of = all.entry(release.place.cluster.clone()).or_default();
            of.push((id.clone(), (**release).clone()));
        }
    }
    all
}
