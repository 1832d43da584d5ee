//! The judge's own view of releases: nothing is applied or removed that the inventory does not know, and
//! nothing goes that the commit keeps or protects.

use trueup_kubernetes::ObjectKey;
use trueup_kubernetes::release::Step;

use super::Judge;
use crate::model::{Kind, Resource, ResourceId};
use crate::plan::{Action, Disruption, Step as Planned};

impl Judge<'_> {
    /// Every step on a release.
    pub(super) fn releases(&mut self) {
        let plan = self.plan;
        let own = plan.steps.iter().enumerate().filter(|(_, it)| it.resource.kind == Kind::Release);
        for (at, planned) in own {
            let Action::Release { place, step } = &planned.action else {
                self.blame(at, "does to a release what is for others");
                continue;
            };
            match &**step {
                Step::Apply { key, .. } => {
                    // The inventory is in a namespace, which may come with the release.
                    let home = key.is_namespace() && key.name == place.namespace;
                    if !home && !self.is_noted(at, &planned.resource) {
                        self.blame(at, format!("applies {key} before that is noted"));
                    }
                }
                Step::Delete { key, .. } => {
                    if !self.is_noted(at, &planned.resource) {
                        self.blame(at, format!("deletes {key} before that is noted"));
                    }
                    self.may_go(at, planned, key);
                }
                Step::Record { .. }
                | Step::AwaitReady { .. }
                | Step::AwaitGone { .. }
                | Step::Forget => {}
            }
        }
    }

    /// Whether the inventory was written before.
    fn is_noted(&self, at: usize, id: &ResourceId) -> bool {
        let notes = |action: &Action| match action {
            Action::Release { step, .. } => matches!(**step, Step::Record { complete: false, .. }),
            _ => false,
        };
        self.before(at, id, notes)
    }

    fn may_go(&mut self, at: usize, planned: &Planned, key: &ObjectKey) {
        let id = &planned.resource;
        let sync = &self.input.desired.sync;
        let Some(wish) = self.input.desired.resources.get(id) else {
            let known = self.input.known.resources.get(id);
            if !self.input.guards.prune || !sync.prune {
                self.blame(at, "removes while pruning is off");
            }
            if known.is_some_and(|it| it.prevent_destroy || it.orphan) {
                self.blame(at, "removes what is protected or orphaned");
            }
            return;
        };
        let Resource::Release(release) = &wish.resource else { return };
        if wish.lifecycle.prevent_destroy {
            self.blame(at, format!("deletes {key}, which preventDestroy protects"));
        }
        if planned.disruption == Disruption::Replace {
            let again = |action: &Action| match action {
                Action::Release { step, .. } => {
                    matches!(&**step, Step::Apply { key: again, .. } if again == key)
                }
                _ => false,
            };
            let later = self.steps_of[id].iter();
            if !later.clone().any(|&it| again(&self.plan.steps[it].action) && self.precedes(at, it))
            {
                self.blame(at, format!("deletes {key} without making it anew"));
            }
            return;
        }
        if !release.prune || !sync.prune {
            self.blame(at, "removes while pruning is off");
        }
        let mut objects = release.objects.iter();
        let wished = objects.any(|it| {
            let group = it.version.rsplit_once('/').map_or("", |(group, _)| group);
            group == key.group
                && it.kind == key.kind
                && it.name == key.name
                && (it.namespace.is_none() || it.namespace == key.namespace)
        });
        if wished {
            self.blame(at, format!("deletes {key}, which the commit asks for"));
        }
    }
}
