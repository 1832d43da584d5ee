//! The judge's own view of a change of a GPU: it replays the steps on what was seen, and asks
//! whether what comes out is what was asked for and nobody loses what is in use.
//!
//! It uses the rule of what fits and what each step does, and nothing of the search.

use std::collections::{BTreeMap, BTreeSet};

use trueup_mig::{Holder, Layout, Part, Selector, Step, step};

mod handover;
mod share;

use super::Judge;
use crate::model::resource::{GpuClient, GpuLayout, GpuMode, GpuProfile, GpuState, Partition};
use crate::model::{Resource, ResourceId};
use crate::plan::{Action, Reason};

impl<'a> Judge<'a> {
    /// What the commit asks of a GPU.
    fn gpu_wish(&self, id: &ResourceId) -> Option<&'a GpuLayout> {
        match self.input.desired.resources.get(id).map(|it| &it.resource) {
            Some(Resource::GpuLayout(wish)) => Some(wish),
            _ => None,
        }
    }
}

impl Judge<'_> {
    /// Every GPU whose cut the plan changes.
    pub(super) fn gpus(&mut self) {
        let changed: BTreeSet<&ResourceId> = self
            .plan
            .steps
            .iter()
            .filter(|step| step.action.gpu_change().is_some())
            .map(|step| &step.resource)
            .collect();
        for id in changed {
            self.gpu(id);
        }
    }

    fn gpu(&mut self, id: &ResourceId) {
        let steps = self.steps_of[id].clone();
        let first = steps[0];
        for pair in steps.windows(2) {
            if !self.precedes(pair[0], pair[1]) {
                self.blame(pair[1], "changes a GPU beside another step on it");
            }
        }
        let Some(Resource::GpuLayout(seen)) = self.seen(id).map(|seen| &seen.config) else {
            return self.blame(first, "changes a GPU that was not seen");
        };
        let changes_hands = |&at: &usize| {
            let action = &self.plan.steps[at].action;
            let kept = action
                .gpu_change()
                .is_some_and(|it| it.memory.handover.is_some() || it.memory.share.is_some());
            kept || action.handover().is_some()
        };
        if steps.iter().any(changes_hands) {
            return self.handover(id, seen, &steps);
        }
        let Some(state) = seen.state.as_deref() else {
            return self.blame(first, "changes a GPU that was not looked at");
        };
        let wish = self.gpu_wish(id);
        if wish.is_none() && (!self.input.guards.prune || !self.input.desired.sync.prune) {
            self.blame(first, "removes while pruning is off");
        }
        let claimed = self.input.known.resources.get(id).and_then(|it| it.claimed.as_ref());
        let clients = match (wish, claimed) {
            (Some(wish), _) => wish.clients.as_slice(),
            (None, Some(Resource::GpuLayout(claimed))) => claimed.clients.as_slice(),
            (None, _) => &[],
        };
        let mut layout = Layout::of(&state.instances);
        let mut cut = state.mig.is_some_and(|mig| mig.current);
        for at in steps {
            let action = &self.plan.steps[at].action;
            if action.gpu_change().is_some_and(|change| change.gpu != state.uuid) {
                self.blame(at, "is meant for another GPU");
            }
            if let Action::GpuMigMode { on, .. } = action {
                self.mode(at, wish, state, &layout, *on);
                cut = *on;
            }
            let Some(does) = action.mig_step() else { continue };
            let Some(board) = state.board.as_ref().filter(|_| cut) else {
                self.blame(at, "cuts a GPU that is not to be cut");
                continue;
            };
            if let Some(why) = taken(state, &does, clients) {
                self.blame(at, why);
            }
            if let Err(error) = step::apply(board, &mut layout, &does) {
                self.blame(at, format!("is impossible: {error}"));
            }
        }
        self.result(id, first, wish, state, &layout, cut);
    }

    /// A mode is changed only as the wish says, on an empty GPU, and by a reset only where allowed.
    fn mode(
        &mut self,
        at: usize,
        wish: Option<&GpuLayout>,
        state: &GpuState,
        layout: &Layout,
        on: bool,
    ) {
        let Some(wish) = wish else {
            return self.blame(at, "changes the mode of a GPU that nobody asks for");
        };
        if (wish.mode == GpuMode::Mig) != on {
            self.blame(at, "changes to a mode that nobody asks for");
        }
        if !state.hot && wish.allow_reset != Some(true) {
            self.blame(at, "needs a reset, which is not allowed");
        }
        if !layout.parts.is_empty() {
            self.blame(at, "changes the mode while instances stand");
        }
        let declared = |holder: &Holder| {
            wish.clients.iter().any(|client| holder.unit.as_ref() == Some(&client.unit))
        };
        if state.holders.iter().any(|holder| !declared(holder)) {
            self.blame(at, "changes the mode of a GPU in use");
        }
    }

    /// What the driver's names stood for when the GPU was cut, by the log.
    fn called(&self, id: &ResourceId) -> BTreeMap<String, GpuProfile> {
        let memory = match self.seen(id).map(|seen| &seen.config) {
            Some(Resource::GpuLayout(seen)) => seen.memory.as_deref(),
            _ => None,
        };
        memory.map(|memory| memory.called.clone()).unwrap_or_default()
    }

    /// What comes out is what was asked for.
    fn result(
        &mut self,
        id: &ResourceId,
        first: usize,
        wish: Option<&GpuLayout>,
        state: &GpuState,
        layout: &Layout,
        cut: bool,
    ) {
        let Some(wish) = wish else {
            if self.plan.steps[first].reason != Reason::Gone {
                self.blame(first, "acts on what the commit does not name");
            }
            return;
        };
        if cut != (wish.mode == GpuMode::Mig) {
            return self.blame(first, "leaves the GPU in another mode than was asked for");
        }
        // Without a board only the mode changes; the rest is for the next plan.
        let Some(board) = &state.board else { return };
        let called = self.called(id);
        let mut left: Vec<&Part> = layout.parts.iter().collect();
        let fixed_first = |partition: &&Partition| partition.start.is_none();
        let mut partitions: Vec<&Partition> = wish.partitions.iter().collect();
        partitions.sort_by_key(fixed_first);
        for partition in partitions {
            let meets = |part: &&Part| {
                let profile = part.placed.profile;
                let same = match &partition.select {
                    Selector::Shape(shape) => board.shape(profile) == *shape,
                    Selector::Profile(name) => {
                        let now = board.profile(profile).is_some_and(|it| it.name == *name);
                        let then = called.get(name).map(|known| &known.shape);
                        now || then == Some(&board.shape(profile))
                    }
                };
                let count = partition.compute.as_ref().map_or(1, |all| {
                    all.iter().map(|it| usize::try_from(it.count).unwrap_or(0)).sum()
                });
                same && partition.start.is_none_or(|start| start == part.placed.start)
                    && part.compute.len() == count
            };
            match left.iter().position(meets) {
                Some(at) => drop(left.remove(at)),
                None => self.blame(first, format!("leaves {id} without `{}`", partition.name)),
            }
        }
        if !left.is_empty() {
            self.blame(first, "leaves instances that nobody asks for");
        }
    }
}

/// Why a step would take something away from somebody.
fn taken(state: &GpuState, does: &Step, clients: &[GpuClient]) -> Option<String> {
    let (placed, compute) = match *does {
        Step::DestroyInstance { instance } => (instance, None),
        Step::DestroyCompute { instance, profile, start } => (instance, Some((profile, start))),
        Step::CreateInstance { .. } | Step::CreateCompute { .. } => return None,
    };
    let instance = state.instances.iter().find(|it| it.placed == placed)?;
    let within = instance.compute.iter().filter(|it| match compute {
        None => true,
        Some((profile, start)) => {
            it.profile == profile && start.is_none_or(|start| start == it.start)
        }
    });
    let own = instance.holders.iter().filter(|_| compute.is_none());
    let name = instance.name.as_deref();
    let declared = |holder: &Holder| {
        clients.iter().any(|client| {
            holder.unit.as_ref() == Some(&client.unit)
                && name.map_or(client.uses.is_empty(), |name| client.uses(name))
        })
    };
    let mut holders = own.chain(within.flat_map(|it| &it.holders));
    let holder = holders.find(|holder| !declared(holder))?;
    Some(format!("destroys {}, which {holder} uses", state.label(placed)))
}
