//! Releases: looked at and applied through the API server of their cluster.
//!
//! Which cluster a name means, and by which credentials it is asked, is what the host's config says, never a
//! commit. What is done is decided by the plan; nothing is chosen here. A server that does not answer is no
//! empty cluster: its releases are unreadable.

mod act;
mod behind_port;
mod look;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use trueup_kubernetes::release::{Engine, ReleaseName, Waits, Wish};
use trueup_kubernetes::{Connection, Connections, chain};

use crate::model::resource::{Release, ReleasePlace};
use crate::model::{Digest, Name, Resource, ResourceId};
use crate::port::Scope;

/// Releases of this host. Cheap to clone.
#[derive(Clone)]
pub struct ReleaseProvider {
    connections: Connections,
    /// This host, as inventories name who keeps a release; `None`: nobody is named.
    host: Option<String>,
    kept: Arc<Mutex<HashMap<Name, Arc<Kept>>>>,
    wishes: Arc<Mutex<HashMap<ResourceId, Settled>>>,
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
    connection: Arc<Connection>,
    engine: tokio::sync::Mutex<Engine>,
}

impl ReleaseProvider {
    /// A provider that has not asked anybody yet.
    #[must_use]
    pub fn new(connections: Connections, host: Option<String>) -> Self {
        Self { connections, host, kept: Arc::default(), wishes: Arc::default() }
    }

    /// What is kept of a cluster, as long as the way to it is the same.
    async fn kept(&self, cluster: &Name) -> Result<Arc<Kept>, String> {
        let connection = self.connections.to(cluster.as_str()).await;
        let connection = connection.map_err(|error| chain(&error))?;
        let mut all = self.all_kept();
        all.retain(|_, kept| !kept.connection.is_over());
        if let Some(kept) = all.get(cluster).filter(|it| Arc::ptr_eq(&it.connection, &connection)) {
            return Ok(Arc::clone(kept));
        }
        let (api, watches) = (connection.api().clone(), connection.watches.clone());
        let engine = Engine::with_watches(api, Waits::default(), watches);
        let kept = Arc::new(Kept { connection, engine: tokio::sync::Mutex::new(engine) });
        all.insert(cluster.clone(), Arc::clone(&kept));
        Ok(kept)
    }

    fn all_kept(&self) -> std::sync::MutexGuard<'_, HashMap<Name, Arc<Kept>>> {
        // Nothing is left half done in it, whoever panicked.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_wishes(&self) -> std::sync::MutexGuard<'_, HashMap<ResourceId, Settled>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wish of a release of which nothing is asked for any more: that it be gone.
    fn farewell(&self, place: &ReleasePlace) -> Result<Wish, String> {
        let mut wish = Wish::new(name_of(place)?, Vec::new());
        wish.holder.clone_from(&self.host);
        Ok(wish)
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
        wish.holder.clone_from(&self.host);
        wish.takes_over_from.clone_from(&release.takes_over_from);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trueup_kubernetes::Limits;

    use super::*;
    use crate::model::Digest;
    use crate::model::resource::{
        Cluster, KubernetesBuilt, KubernetesCluster, ReleaseManifests, ReleasePlace,
    };
    use crate::provider::files::tests::scope;
    use crate::spec::{DesiredResource, Lifecycle, Origin};

    fn wanted(resource: Resource) -> Arc<DesiredResource> {
        Arc::new(DesiredResource {
            resource,
            depends_on: Default::default(),
            owner: None,
            lifecycle: Lifecycle::default(),
            labels: BTreeMap::new(),
            origin: Origin { path: "lab/all.yaml".into(), line: 1 },
            digest: Digest::of("x"),
        })
    }

    fn cluster(built: Option<KubernetesBuilt>) -> Resource {
        let cluster = KubernetesCluster { built, ..KubernetesCluster::default() };
        Resource::Cluster(Box::new(Cluster::Kubernetes(cluster)))
    }

    #[tokio::test]
    async fn a_release_waits_for_a_cluster_that_is_built_and_wants_a_kubeconfig_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("admin.conf");
        let place = kept.clone();
        let connections = Connections::or_kept(
            BTreeMap::new(),
            move |_| Some(place.clone()),
            Limits::LOOKS,
            Duration::from_secs(600),
        );
        let provider = ReleaseProvider::new(connections, None);
        let release = Release {
            place: ReleasePlace {
                cluster: Name::new("cloud").unwrap(),
                namespace: "shop".into(),
                name: "web".into(),
            },
            prune: true,
            takes_fields: true,
            takes_from: Default::default(),
            takes_over_from: None,
            timeout_s: 60,
            objects: Vec::new(),
            rendered: Vec::new(),
            folder: None,
            manifests: ReleaseManifests::default(),
            seen: None,
        };
        let id: ResourceId = "release/web".parse().unwrap();
        let why = async |of: Option<Resource>| {
            let mut scope = scope(BTreeMap::new());
            let desired = Arc::make_mut(&mut scope.desired);
            let release = Resource::Release(Box::new(release.clone()));
            desired.resources.insert(id.clone(), wanted(release));
            desired.resources.extend(of.map(|it| ("cluster/cloud".parse().unwrap(), wanted(it))));
            provider.look(&scope).await.unwrap().unreadable[&id].clone()
        };
        let built = KubernetesBuilt {
            machines: BTreeMap::new(),
            control_plane: "ctl".into(),
            version: "1.33".into(),
            pods: "10.244.0.0/16".into(),
            services: "10.96.0.0/12".into(),
            bridge: true,
            dns: true,
            images: None,
            renew_before_s: None,
            data: None,
        };
        let words = why(Some(cluster(Some(built.clone())))).await;
        assert!(words.starts_with("it waits for cluster/cloud to be built"), "{words}");
        for other in [None, Some(cluster(None))] {
            let words = why(other).await;
            assert!(words.contains("clusters.cloud.kubeconfig"), "{words}");
        }
        // Once there are credentials, what is wrong with them is what is said.
        std::fs::write(&kept, "none").unwrap();
        let words = why(Some(cluster(Some(built)))).await;
        assert!(words.contains("admin.conf"), "{words}");
    }
}
