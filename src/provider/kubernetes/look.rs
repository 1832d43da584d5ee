//! A look at every Kubernetes cluster that is asked for. One that does not answer is unreadable, never
//! empty.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use trueup_kubernetes::namespace;
use trueup_kubernetes::release::EngineError;

use super::KubernetesProvider;
use super::link::LookError;
use crate::model::resource::{Cluster, KubernetesCluster, KubernetesSeen};
use crate::model::{Fault, Observation, Observed, Ownership, Resource, ResourceId};
use crate::port::Scope;

/// Longest look at one cluster: less than a pass waits for all of them.
const LOOK: Duration = Duration::from_secs(45);

impl KubernetesProvider {
    /// Looks at every cluster of `scope`, side by side.
    pub(super) async fn look(&self, scope: &Scope) -> Observed {
        let mut looks = JoinSet::new();
        for (id, wish) in &scope.desired.resources {
            let Resource::Cluster(cluster) = &wish.resource else { continue };
            let Some(cluster) = cluster.kubernetes() else { continue };
            let (provider, id, cluster) = (self.clone(), id.clone(), cluster.clone());
            let adopt = wish.lifecycle.adopt;
            looks.spawn(async move {
                let look = tokio::time::timeout(LOOK, provider.one(&id, &cluster, adopt)).await;
                let late = || Err(format!("it did not answer within {} s", LOOK.as_secs()));
                (id, cluster, look.unwrap_or_else(|_| late()))
            });
        }
        let mut observed = Observed::default();
        while let Some(look) = looks.join_next().await {
            // One that panicked is told of below, as all that were not seen.
            let Ok((id, cluster, seen)) = look else { continue };
            match seen {
                Ok(seen) => drop(observed.resources.insert(id, observation(cluster, seen))),
                Err(why) => drop(observed.unreadable.insert(id, why)),
            }
        }
        for (id, wish) in &scope.desired.resources {
            let Resource::Cluster(cluster) = &wish.resource else { continue };
            let seen = observed.resources.contains_key(id) || observed.unreadable.contains_key(id);
            if cluster.kubernetes().is_some() && !seen {
                let why = "the look at it ended in a panic, which is a bug of trueup";
                observed.unreadable.insert(id.clone(), why.to_owned());
            }
        }
        self.connections.rest();
        observed
    }

    async fn one(
        &self,
        id: &ResourceId,
        cluster: &KubernetesCluster,
        adopt: bool,
    ) -> Result<KubernetesSeen, String> {
        let wish = wish(id, cluster, adopt).map_err(|fault| fault.to_string())?;
        let link = self.link(&id.name).await?;
        link.look(&wish, !cluster.kubeconfigs.is_empty()).await.map_err(|error| {
            match &error {
                LookError::Server(fault) | LookError::Namespaces(EngineError::Fault(fault)) => {
                    self.doubt(&id.name, fault);
                }
                LookError::Namespaces(_) => {}
            }
            error.to_string()
        })
    }
}

/// The release of a cluster's namespaces.
pub(super) fn wish(
    id: &ResourceId,
    cluster: &KubernetesCluster,
    adopt: bool,
) -> Result<trueup_kubernetes::release::Wish, Fault> {
    let release = namespace::release(id.name.as_str());
    let release = release.map_err(|error| Fault::permanent(format!("{id}: {error}")))?;
    let wish = namespace::wish(release, &cluster.namespaces, adopt);
    wish.map_err(|error| Fault::permanent(format!("{id}: {error}")))
}

fn observation(cluster: KubernetesCluster, seen: KubernetesSeen) -> Observation {
    let seen = KubernetesCluster { seen: Some(Arc::new(seen)), ..cluster };
    Observation {
        ownership: Ownership::Unmarked,
        config: Resource::Cluster(Box::new(Cluster::Kubernetes(seen))),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    }
}
