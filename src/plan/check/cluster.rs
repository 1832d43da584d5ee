//! The judge's own view of clusters: files come after their proof, a node changes after its jobs have
//! ended and is given back after a look, and only what an operator asked for is done because it is due.

use super::Judge;
use crate::model::resource::NodeStep;
use crate::model::{Kind, ResourceId};
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
                Action::ClusterNode { node, step: NodeStep::Resume, .. }
                    if !asked && !self.before(at, id, |it| is(it, node, &NodeStep::Check)) =>
                {
                    self.blame(at, "gives a node back that was not looked at");
                }
                _ => {}
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

/// Whether a node is taken out or given back in the name of a person: their name is in the reason.
fn is_asked(action: &Action) -> bool {
    matches!(action, Action::ClusterNode { token, .. } if token.as_str().contains("/@"))
}
