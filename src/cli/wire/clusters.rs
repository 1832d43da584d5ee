//! Clusters, whatever runs them: one kind, and a hand for each of its types.

use std::sync::Arc;

use crate::model::{Fault, Kind, Observed, Resource};
use crate::plan::{Action, Step};
use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope};

/// The hands of every type of cluster.
pub(super) struct Clusters {
    slurm: Arc<dyn Provider>,
    kubernetes: Arc<dyn Provider>,
}

impl Clusters {
    pub(super) fn new(slurm: Arc<dyn Provider>, kubernetes: Arc<dyn Provider>) -> Self {
        Self { slurm, kubernetes }
    }
}

/// What one hand saw. What it did not see at all is unreadable, and nothing of the other's is.
fn part(seen: Result<Observed, Fault>, scope: &Scope, is_kubernetes: bool) -> Observed {
    seen.unwrap_or_else(|fault| {
        let mut observed = Observed::default();
        for (id, wish) in &scope.desired.resources {
            let Resource::Cluster(cluster) = &wish.resource else { continue };
            if cluster.kubernetes().is_some() == is_kubernetes {
                observed.unreadable.insert(id.clone(), fault.to_string());
            }
        }
        observed
    })
}

impl Provider for Clusters {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn kinds(&self) -> &[Kind] {
        &[Kind::Cluster]
    }

    fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
        Box::pin(async move {
            let looks = (self.slurm.observe(scope), self.kubernetes.observe(scope));
            let (slurm, kubernetes) = tokio::join!(looks.0, looks.1);
            let mut observed = part(slurm, scope, false);
            observed.merge(part(kubernetes, scope, true));
            Ok(observed)
        })
    }

    fn perform<'a>(
        &'a self,
        step: &'a Step,
        scope: &'a Scope,
        progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        let hand = match step.action {
            Action::KubernetesAdopt
            | Action::KubernetesPrepare { .. }
            | Action::KubernetesInit { .. }
            | Action::KubernetesRestore { .. }
            | Action::KubernetesConnect { .. }
            | Action::KubernetesRenew { .. }
            | Action::KubernetesNode { .. }
            | Action::KubernetesNamespace { .. }
            | Action::KubernetesAccess { .. } => &self.kubernetes,
            _ => &self.slurm,
        };
        hand.perform(step, scope, progress)
    }

    fn let_go<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            tokio::join!(self.slurm.let_go(scope), self.kubernetes.let_go(scope));
        })
    }

    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            tokio::join!(self.slurm.settled(), self.kubernetes.settled());
        })
    }
}
