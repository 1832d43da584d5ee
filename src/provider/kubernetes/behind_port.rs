//! Kubernetes clusters behind `port::Provider`.

use super::KubernetesProvider;
use super::act::Job;
use super::build::Site;
use crate::model::{Fault, Kind, Observed};
use crate::plan::{Action, Step};
use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope};

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
            let site = || Site::new(self, &step.resource, &progress);
            match &step.action {
                Action::KubernetesPrepare { machines, data } => {
                    return site().prepare(machines.clone(), data.clone()).await;
                }
                Action::KubernetesInit { cluster } => return site().init(cluster).await,
                Action::KubernetesRestore { cluster, .. } => return site().restore(cluster).await,
                _ => {}
            }
            let job = Job::open(self, &step.resource, &progress).await?;
            match &step.action {
                Action::KubernetesConnect { cluster, nodes } => job.connect(cluster, nodes).await,
                Action::KubernetesRenew { guest } => job.renew(guest).await,
                Action::KubernetesAdopt => job.adopt().await,
                Action::KubernetesNode { node, step, mark } => job.node(node, step, mark).await,
                Action::KubernetesNamespace { step } => job.namespace(step, scope).await,
                Action::KubernetesAccess { found } => job.take(found).await,
                other => Err(Fault::permanent(format!(
                    "{} was handed to the kubernetes provider, which cannot {}: this is a mistake \
                     of trueup, please report it",
                    step.resource,
                    other.verb()
                ))),
            }
        })
    }
}
