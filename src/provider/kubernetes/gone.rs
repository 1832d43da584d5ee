//! A look at what clusters have left of us that nobody asks for any more: access that people were given through
//! us, which is to end with the document that allowed it.
//!
//! Nothing else of such a cluster is looked at.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinSet;
use trueup_kubernetes::Fault as KubeFault;
use trueup_kubernetes::grant::Found;
use trueup_kubernetes::node::ClusterView;
use trueup_kubernetes::release::Seen;

use super::KubernetesProvider;
use super::look::{LOOK, observation};
use crate::model::resource::{KubernetesCluster, KubernetesSeen};
use crate::model::{Kind, Observed, Resource, ResourceId};
use crate::port::Scope;

impl KubernetesProvider {
    /// Looks at every cluster that is known of and not asked for, side by side. One of which nothing is left
    /// is not there any more.
    pub(super) async fn look_behind(&self, scope: &Scope) -> Observed {
        let mut looks = JoinSet::new();
        let mut unseen: BTreeSet<ResourceId> = gone(scope).map(|(id, _)| id.clone()).collect();
        for (id, cluster) in gone(scope) {
            let (provider, id, cluster) = (self.clone(), id.clone(), cluster.clone());
            looks.spawn(async move {
                let gave = !cluster.kubeconfigs.is_empty();
                let look = tokio::time::timeout(LOOK, provider.left(&id, gave)).await;
                let late = || Err(format!("it did not answer within {} s", LOOK.as_secs()));
                (id, cluster, look.unwrap_or_else(|_| late()))
            });
        }
        let mut observed = Observed::default();
        while let Some(look) = looks.join_next().await {
            // One that panicked is told of below.
            let Ok((id, cluster, left)) = look else { continue };
            unseen.remove(&id);
            match left {
                Ok(access) if access.is_empty() => {}
                Ok(access) => {
                    let seen = observation(cluster, only(access));
                    observed.resources.insert(id, seen);
                }
                Err(why) => {
                    let why = format!(
                        "it is not asked for any more, and whether people have access to it still cannot be \
                         seen: {why}"
                    );
                    observed.unreadable.insert(id, why);
                }
            }
        }
        for id in unseen {
            let why = "the look at it ended in a panic, which is a bug of trueup";
            observed.unreadable.insert(id, why.to_owned());
        }
        observed
    }

    /// What gives people access. `gave`: the document let somebody have some.
    async fn left(&self, id: &ResourceId, gave: bool) -> Result<Vec<Found>, String> {
        let link = self.link(&id.name).await?;
        match link.given(false).await {
            Ok(found) => Ok(found),
            // Whoever gives nobody access needs no rights for it.
            Err(KubeFault::Forbidden { .. }) if !gave => Ok(Vec::new()),
            Err(fault) => {
                self.doubt(&id.name, &fault);
                Err(fault.to_string())
            }
        }
    }
}

/// Clusters that are known of and not asked for. One whose control plane was a machine of ours that is gone
/// has nothing left.
fn gone(scope: &Scope) -> impl Iterator<Item = (&ResourceId, &KubernetesCluster)> {
    let known = scope.claims.iter().filter_map(|(id, resource)| match resource {
        Resource::Cluster(cluster) => Some((id, cluster.kubernetes()?)),
        _ => None,
    });
    known.filter(|(id, cluster)| {
        let control = cluster.built.as_ref().and_then(|built| built.control());
        let machine = control.map(|it| ResourceId::new(Kind::VirtualMachine, it.guest.clone()));
        !scope.desired.resources.contains_key(*id)
            && machine.is_none_or(|machine| scope.known.contains(&machine))
    })
}

/// Of a cluster, nothing but this.
fn only(access: Vec<Found>) -> KubernetesSeen {
    KubernetesSeen {
        release: String::new(),
        view: ClusterView::default(),
        nodes: BTreeMap::new(),
        namespaces: Seen::default(),
        certificates: Vec::new(),
        renewable: BTreeSet::new(),
        machines: BTreeMap::new(),
        unwell: BTreeMap::new(),
        access,
        now: 0,
    }
}
