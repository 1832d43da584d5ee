//! A look at every release that is asked for or known of, cluster by cluster side by side.

use std::sync::Arc;

use tokio::task::JoinSet;
use trueup_kubernetes::Fault as KubeFault;
use trueup_kubernetes::release::EngineError;

use super::{Kept, ReleaseProvider, Trouble, by_cluster};
use crate::model::resource::{Release, ReleaseSeen};
use crate::model::{Fault, Kind, Name, Observation, Observed, Ownership, Resource, ResourceId};
use crate::port::Scope;

impl ReleaseProvider {
    /// Looks at every release of `scope`.
    pub(super) async fn look(&self, scope: &Scope) -> Result<Observed, Fault> {
        let mut looks = JoinSet::new();
        for (cluster, releases) in by_cluster(scope) {
            let (provider, scope) = (self.clone(), scope.clone());
            looks.spawn(async move { provider.cluster(&cluster, releases, &scope).await });
        }
        let mut observed = Observed::default();
        while let Some(look) = looks.join_next().await {
            let look = look.map_err(|error| {
                Fault::unobservable(format!("a look at releases ended without a result: {error}"))
            })?;
            observed.merge(look);
        }
        self.connections.rest();
        Ok(observed)
    }

    /// Looks at the releases of one cluster. One that does not answer is asked once, not once a release.
    async fn cluster(
        &self,
        cluster: &Name,
        releases: Vec<(ResourceId, Release)>,
        scope: &Scope,
    ) -> Observed {
        let mut observed = Observed::default();
        let mut silent = None;
        let kept = match self.kept(cluster).await {
            Ok(kept) => Some(kept),
            Err(words) => {
                silent = Some(self.is_awaited(cluster, scope).unwrap_or(words));
                None
            }
        };
        for (id, release) in releases {
            let (Some(kept), None) = (&kept, &silent) else {
                observed.unreadable.insert(id, silent.clone().unwrap_or_default());
                continue;
            };
            match self.one(kept, &id, release, scope).await {
                Ok(Some(seen)) => {
                    observed.resources.insert(id, seen);
                }
                Ok(None) => {}
                Err(trouble) => {
                    let words = trouble.to_string();
                    if let Trouble::Engine(EngineError::Fault(fault)) = &trouble {
                        // The kubeconfig may be another by the next look.
                        self.connections.doubt(cluster.as_str(), fault);
                    }
                    if trouble.is_of_all() {
                        silent = Some(words.clone());
                    }
                    observed.unreadable.insert(id, words);
                }
            }
        }
        observed
    }

    /// That a cluster is one that trueup builds, and is not there yet: nobody has to say how it is reached.
    fn is_awaited(&self, cluster: &Name, scope: &Scope) -> Option<String> {
        let id = ResourceId::new(Kind::Cluster, cluster.clone());
        let Resource::Cluster(wished) = &scope.desired.resources.get(&id)?.resource else {
            return None;
        };
        let built = wished.kubernetes()?.built.is_some();
        (built && !self.connections.has(cluster.as_str()))
            .then(|| format!("it waits for {id} to be built; `trueup status` says how far that is"))
    }

    async fn one(
        &self,
        kept: &Arc<Kept>,
        id: &ResourceId,
        release: Release,
        scope: &Scope,
    ) -> Result<Option<Observation>, Trouble> {
        let mut engine = kept.engine.lock().await;
        let is_asked = scope.desired.resources.contains_key(id);
        let wish = match is_asked {
            true => self.settled(id, &release, scope, &engine).await?,
            false => Arc::new(self.farewell(&release.place).map_err(Trouble::Words)?),
        };
        let seen = match engine.look(&wish).await {
            // Another host took it over: here it is gone.
            Err(EngineError::Held { .. }) if !is_asked => return Ok(None),
            seen => seen?,
        };
        let is_made = seen.inventory.is_some();
        if !is_asked && !is_made {
            return Ok(None);
        }
        let config = Release { seen: Some(Arc::new(ReleaseSeen { wish, seen })), ..release };
        let environment = scope.desired.environment.clone();
        Ok(Some(Observation {
            // Objects bear the release's name; one that another has made refuses its plan.
            ownership: Ownership::Ours { environment },
            config: Resource::Release(Box::new(config)),
            live: None,
            active: is_made,
            uuid: None,
            unplugged: Vec::new(),
        }))
    }
}

impl Trouble {
    /// Whether it is the server's, or that of our credentials: then every release there has it.
    fn is_of_all(&self) -> bool {
        match self {
            Self::Engine(EngineError::Fault(fault)) => {
                let ours =
                    matches!(fault, KubeFault::Certificate { .. } | KubeFault::Unauthorized { .. });
                ours || fault.is_transient()
            }
            Self::Engine(_) | Self::Words(_) => false,
        }
    }
}
