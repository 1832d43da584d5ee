//! The judge's own view of clusters: files come after their proof, a node changes after its jobs have
//! ended and is given back after a look, and only what an operator asked for is done because it is due.

use super::Judge;
use crate::model::resource::{Cluster, KubernetesLost, KubernetesNodeStep, NodeStep};
use crate::model::{Kind, Name, Resource, ResourceId};
use crate::plan::{Action, Reason};

impl Judge<'_> {
    /// Every step on a cluster.
    pub(super) fn clusters(&mut self) {
        let plan = self.plan;
        let own = plan.steps.iter().enumerate().filter(|(_, it)| it.resource.kind == Kind::Cluster);
        for (at, step) in own {
            let asked = is_asked(&step.action);
            if asked != (step.reason == Reason::Due) {
                self.blame(at, "is due, or is not, against what an operator asked for");
            }
            let id = &step.resource;
            match &step.action {
                Action::ClusterConfigure { wish, nodes, .. } => {
                    let proves = |it: &Action| matches!(it, Action::ClusterProve { wish: proved, .. } if proved == wish);
                    if !self.before(at, id, proves) {
                        self.blame(at, "exchanges files before the last ones were proved");
                    }
                    for node in nodes {
                        self.emptied(at, id, node);
                    }
                }
                Action::ClusterNode { node, step: NodeStep::Restart, .. } => {
                    self.emptied(at, id, node);
                }
                Action::KubernetesNode {
                    node,
                    step: KubernetesNodeStep::Set { empty: true, .. },
                    ..
                } => {
                    let drains = |it: &Action| matches!(it, Action::KubernetesNode { node: of, step: KubernetesNodeStep::Drain { .. }, .. } if of == node);
                    if !self.before(at, id, drains) {
                        self.blame(at, format!("changes {node} before its pods have left"));
                    }
                }
                Action::KubernetesNode { node, step: KubernetesNodeStep::Remove, .. } => {
                    let drains = |it: &Action| matches!(it, Action::KubernetesNode { node: of, step: KubernetesNodeStep::Drain { .. }, .. } if of == node);
                    if !self.before(at, id, drains) {
                        self.blame(at, format!("removes {node} before its pods have left"));
                    }
                }
                Action::KubernetesNode { node, step: KubernetesNodeStep::Uncordon, .. }
                    if !asked =>
                {
                    let looks = |it: &Action| matches!(it, Action::KubernetesNode { node: of, step: KubernetesNodeStep::Check { .. }, .. } if of == node);
                    if !self.before(at, id, looks) {
                        self.blame(at, "gives a node back that was not looked at");
                    }
                }
                Action::ClusterNode { node, step: NodeStep::Resume, .. }
                    if !asked && !self.before(at, id, |it| is(it, node, &NodeStep::Check)) =>
                {
                    self.blame(at, "gives a node back that was not looked at");
                }
                Action::KubernetesInit { again: false, .. } if self.lost(id).is_some() => {
                    self.blame(at, "makes a cluster that was there before");
                }
                _ => {}
            }
        }
        self.machines();
    }

    /// A machine on which jobs may run is stopped only once they have ended, or the cluster does without it.
    fn machines(&mut self) {
        let input = self.input;
        for (id, wish) in &input.desired.resources {
            let Resource::Cluster(cluster) = &wish.resource else { continue };
            let claimed = input.known.resources.get(id).and_then(|known| known.claimed.as_ref());
            let claimed = claimed.and_then(|claimed| match claimed {
                Resource::Cluster(cluster) => Some(&**cluster),
                _ => None,
            });
            for of in claimed.into_iter().chain([&**cluster]) {
                self.pods(id, of, cluster);
                self.data(id, of);
            }
            let claimed = claimed.and_then(Cluster::slurm);
            for slurm in claimed.into_iter().chain(cluster.slurm()) {
                let Some(built) = &slurm.built else { continue };
                let nodes = slurm.wish.pools.iter().flat_map(|pool| pool.names());
                let nodes: Vec<&str> = nodes.filter(|node| self.may_have_jobs(id, node)).collect();
                for node in nodes {
                    let Some(machine) = built.machines.get(node) else { continue };
                    let stays = cluster.slurm().is_some_and(|now| {
                        now.wish.pools.iter().any(|pool| pool.names().any(|it| it == node))
                    });
                    self.stopped_empty(id, node, stays, machine);
                }
            }
        }
    }

    /// The same where pods may run.
    fn pods(&mut self, id: &ResourceId, of: &Cluster, now: &Cluster) {
        let Some(built) = of.kubernetes().and_then(|of| of.built.as_ref()) else { return };
        let stays = |node: &str| {
            let now = now.kubernetes().and_then(|now| now.built.as_ref());
            now.is_some_and(|now| now.machines.contains_key(node))
        };
        // A control plane has no pods of anybody's, and it alone has credentials that were lost.
        let unread = self.is_unread(id);
        let nodes =
            built.machines.iter().filter(|(node, _)| unread || **node != built.control_plane);
        for (node, machine) in nodes {
            if !self.may_have_jobs(id, node) {
                continue;
            }
            let machine = ResourceId::new(Kind::VirtualMachine, machine.guest.clone());
            let plan = self.plan;
            let stops = |at: &usize| matches!(plan.steps[*at].action, Action::VmStop { .. });
            let steps = self.steps_of.get(&machine).into_iter().flatten();
            for at in steps.copied().filter(stops).collect::<Vec<_>>() {
                let leaves = |it: &Action| matches!(it, Action::KubernetesNode { node: of, step: KubernetesNodeStep::Drain { .. }, .. } if of == node);
                let goes = |it: &Action| {
                    matches!(it, Action::KubernetesNode { node: of, step: KubernetesNodeStep::Remove, .. } if of == node)
                        && !stays(node)
                };
                if !self.before(at, id, leaves) && !self.before(at, id, goes) {
                    self.blame(at, format!("stops {node} of {id} before its pods have left"));
                }
            }
        }
    }

    /// What a cluster knows is never removed, and the disk beside it only where the cluster comes back on it.
    fn data(&mut self, id: &ResourceId, of: &Cluster) {
        let Some(built) = of.kubernetes().and_then(|of| of.built.as_ref()) else { return };
        let plan = self.plan;
        let deleted = |judge: &Self, name: &Name| {
            let disk = ResourceId::new(Kind::Disk, name.clone());
            let steps = judge.steps_of.get(&disk).into_iter().flatten().copied();
            let deletes = |at: &usize| matches!(plan.steps[*at].action, Action::DiskDelete { .. });
            steps.filter(deletes).collect::<Vec<_>>()
        };
        let data = built.data.as_ref().map(|name| deleted(self, name));
        for at in data.into_iter().flatten() {
            self.blame(at, format!("removes what {id} knows"));
        }
        let root = built.control().map(|it| deleted(self, &it.guest));
        for at in root.into_iter().flatten() {
            let again = self.steps_of.get(id).into_iter().flatten().copied().any(|later| {
                let made = &plan.steps[later].action;
                matches!(
                    made,
                    Action::KubernetesInit { again: false, .. } | Action::KubernetesRestore { .. }
                ) && self.precedes(at, later)
            });
            if !again || self.is_unread(id) {
                let rule = format!("takes the control plane of {id} and does not bring it back");
                self.blame(at, rule);
            }
        }
    }

    /// What was lost of a cluster.
    fn lost(&self, cluster: &ResourceId) -> Option<KubernetesLost> {
        match &self.seen(cluster)?.config {
            Resource::Cluster(seen) => seen.kubernetes()?.lost,
            _ => None,
        }
    }

    /// Whether nobody has the credentials of a cluster that was there.
    fn is_unread(&self, cluster: &ResourceId) -> bool {
        matches!(self.lost(cluster), Some(KubernetesLost::Credentials | KubernetesLost::Unknown))
    }

    fn may_have_jobs(&self, cluster: &ResourceId, node: &str) -> bool {
        let Some(seen) = self.seen(cluster) else {
            return self.input.observed.why_unobservable(cluster).is_some();
        };
        let Resource::Cluster(seen) = &seen.config else { return false };
        if seen.kubernetes().is_some_and(|seen| seen.lost.is_some()) {
            return true;
        }
        if let Some(seen) = seen.kubernetes_seen() {
            return seen.nodes.contains_key(node);
        }
        let observed = seen.seen().and_then(|seen| seen.observed.as_deref());
        observed.is_some_and(|observed| observed.nodes.contains_key(node))
    }

    fn stopped_empty(&mut self, cluster: &ResourceId, node: &str, stays: bool, machine: &Name) {
        let machine = ResourceId::new(Kind::VirtualMachine, machine.clone());
        let plan = self.plan;
        let stops = |at: &usize| matches!(plan.steps[*at].action, Action::VmStop { .. });
        let steps = self.steps_of.get(&machine).into_iter().flatten();
        for at in steps.copied().filter(stops).collect::<Vec<_>>() {
            let waits = |it: &Action| matches!(it, Action::ClusterNode { node: of, step: NodeStep::Wait { .. }, .. } if of == node);
            let goes = |it: &Action| matches!(it, Action::ClusterConfigure { .. }) && !stays;
            if !self.before(at, cluster, waits) && !self.before(at, cluster, goes) {
                self.blame(at, format!("stops {node} of {cluster} before its jobs have ended"));
            }
        }
    }

    /// A node has to be empty by then.
    fn emptied(&mut self, at: usize, id: &ResourceId, node: &str) {
        let waits = |it: &Action| matches!(it, Action::ClusterNode { node: of, step: NodeStep::Wait { .. }, .. } if of == node);
        if !self.before(at, id, waits) {
            self.blame(at, format!("changes {node} before its jobs have ended"));
        }
    }
}

fn is(action: &Action, node: &str, wanted: &NodeStep) -> bool {
    matches!(action, Action::ClusterNode { node: of, step, .. } if of == node && step == wanted)
}

/// Whether it is done in the name of a person: a node is taken out or given back with their name in the
/// reason, or access that one gave is taken away.
fn is_asked(action: &Action) -> bool {
    match action {
        Action::ClusterNode { token, .. } => token.as_str().contains("/@"),
        Action::KubernetesNode { mark, .. } => mark.token.contains("/@"),
        Action::KubernetesAccess { .. } => true,
        _ => false,
    }
}
