//! Kubernetes clusters behind `port::Provider`.

use super::act::Job;
use super::build::Site;
use super::{KubernetesProvider, kept};
use crate::model::{Fault, Kind, Name, Observed, ResourceId};
use crate::plan::{Action, Step};
use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope, misdirected};
use crate::provider::files::blocking;
use crate::provider::guest::Waiting;

impl Provider for KubernetesProvider {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn kinds(&self) -> &[Kind] {
        &[Kind::Cluster]
    }

    fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
        Box::pin(async move { Ok(self.look(scope).await) })
    }

    fn perform<'a>(
        &'a self,
        step: &'a Step,
        scope: &'a Scope,
        progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        Box::pin(async move {
            // Gone with this future, also where it is dropped while its thread is at work.
            let waiting = Waiting::default();
            let own = self.within(scope, &waiting);
            let site = || Site::new(&own, &step.resource, &progress);
            match &step.action {
                Action::KubernetesPrepare { machines, data } => {
                    return site().prepare(machines.clone(), data.clone()).await;
                }
                Action::KubernetesInit { cluster, again: false } => {
                    return site().init(cluster).await;
                }
                Action::KubernetesInit { cluster, again: true } => {
                    return site().read(cluster).await;
                }
                Action::KubernetesRestore { cluster, .. } => return site().restore(cluster).await,
                _ => {}
            }
            let job = Job::open(&own, &step.resource, &progress).await?;
            match &step.action {
                Action::KubernetesConnect { cluster, nodes } => job.connect(cluster, nodes).await,
                Action::KubernetesRenew { guest } => job.renew(guest).await,
                Action::KubernetesAdopt => job.adopt().await,
                Action::KubernetesNode { node, step, mark } => job.node(node, step, mark).await,
                Action::KubernetesNamespace { step } => job.namespace(step, scope).await,
                Action::KubernetesAccess { found } => job.take(found).await,
                _ => Err(misdirected(self.name(), step)),
            }
        })
    }

    fn let_go<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, ()> {
        let (folder, scope) = (self.folder.clone(), scope.clone());
        let forget = move || {
            let forgot = kept::forget(&folder, |cluster| is_gone(cluster, &scope));
            forgot.map_err(|error| Fault::transient(error.to_string()))
        };
        Box::pin(async move {
            if let Err(fault) =
                blocking("remove credentials of clusters that are gone", forget).await
            {
                tracing::warn!(%fault, "credentials of a cluster that is gone cannot be removed yet");
            }
        })
    }
}

/// Whether a cluster is neither asked for nor known, and nor is a machine of it.
fn is_gone(cluster: &Name, scope: &Scope) -> bool {
    let id = ResourceId::new(Kind::Cluster, cluster.clone());
    let machine = format!("{cluster}-");
    let of_it =
        |id: &ResourceId| id.kind == Kind::VirtualMachine && id.name.as_str().starts_with(&machine);
    let is_there = scope.desired.resources.contains_key(&id) || scope.known.contains(&id);
    !is_there && !scope.known.iter().any(of_it)
}
