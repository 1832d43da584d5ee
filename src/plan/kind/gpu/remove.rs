//! A layout that the commit no longer asks for: what is ours goes, the rest stays.

use std::collections::BTreeSet;

use trueup_mig::{Board, Instance, Layout, Outcome, Placed, Target, plan};

use super::parts::{action, units_of, with_clients};
use super::{handover, share, words};
use crate::model::ResourceId;
use crate::model::resource::{GpuLayout, GpuMemory, GpuState, OnBusy};
use crate::plan::facts::Facts;
use crate::plan::kind::Draft;
use crate::plan::{Action, Disruption, GpuChange, Reason, SkipReason};

/// The steps that take a layout off its GPU: the instances that are ours go, the rest stays, and so
/// does the mode.
pub(in crate::plan) fn remove(
    facts: &Facts<'_>,
    id: &ResourceId,
    claimed: Option<&GpuLayout>,
    from: &GpuLayout,
) -> Result<Vec<Draft>, SkipReason> {
    if let Some(drafts) = handover::remove(facts, id, claimed, from)? {
        return Ok(drafts);
    }
    if let Some(drafts) = share::remove(facts, id, claimed, from)? {
        return Ok(drafts);
    }
    let Some(state) = from.state.as_deref() else {
        return Err(SkipReason::Unobservable("the GPU was not looked at".to_owned()));
    };
    let ours = claimed.and_then(|it| it.memory.as_deref()).or(from.memory.as_deref());
    let mine = |placed: Placed| ours.is_some_and(|memory| memory.knows(placed));
    let clients = claimed.map(|it| it.clients.as_slice()).unwrap_or_default();
    let instances = with_clients(&state.instances, clients);
    let rest: Vec<Instance> = instances.iter().filter(|it| !mine(it.placed)).cloned().collect();
    let on_busy = claimed.and_then(|it| it.on_busy).unwrap_or_default();
    let left = Left { id, state, ours: ours.cloned().unwrap_or_default(), on_busy };
    if rest.len() == instances.len() {
        // Nothing of ours stands: only clients may be left that were stopped for it.
        return Ok(left.asleep().then(|| left.settle(Layout::of(&rest))).into_iter().collect());
    }
    let Some(board) = &state.board else {
        return Err(SkipReason::Unobservable("the driver tells no profiles".to_owned()));
    };
    let target = Target::exactly(&Layout::of(&rest));
    let planned = plan(board, &instances, &target)
        .map_err(|error| SkipReason::Unplaceable(words::chain(&error)))?;
    let way = match planned {
        Outcome::Ready(way) => way,
        Outcome::Blocked { needs, .. } => {
            return Err(SkipReason::Busy(words::needs(board, &needs)));
        }
        Outcome::Unplaceable { why, .. } => return Err(SkipReason::Unplaceable(why.to_string())),
    };
    Ok(left.drafts(board, &way))
}

/// A layout on its way off a GPU.
struct Left<'a> {
    id: &'a ResourceId,
    state: &'a GpuState,
    /// What is remembered of it.
    ours: GpuMemory,
    on_busy: OnBusy,
}

impl Left<'_> {
    /// Whether clients were stopped for a change that was interrupted, and do not run.
    fn asleep(&self) -> bool {
        self.ours.stopped.iter().any(|unit| !self.state.running.contains(unit))
    }

    /// The steps of a way that was found.
    fn drafts(&self, board: &Board, way: &trueup_mig::Plan) -> Vec<Draft> {
        let now = units_of(&way.stops);
        let change = self.change(way.after.clone(), way.before.clone(), &now);
        let draft = |action| {
            Draft::quiet(action, Reason::Gone, Vec::new())
                .disturbing(Disruption::Destroy, BTreeSet::from([self.id.clone()]))
        };
        let mut drafts = Vec::new();
        if !now.is_empty() {
            drafts.push(draft(Action::GpuStopClients { change: Box::new(change.clone()) }));
        }
        let names = |placed: Placed| way.before.part(placed)?.name.clone();
        let actions = way.steps.iter().map(|step| action(board, step, &change, &names));
        drafts.extend(actions.map(draft));
        drafts.push(settle(change));
        drafts
    }

    /// The proof alone, with clients to start.
    fn settle(&self, stands: Layout) -> Draft {
        settle(self.change(stands.clone(), stands, &[]))
    }

    /// Clients are started again whatever they were stopped for: what they need of the GPU may still
    /// be there, and nobody else would start them.
    fn change(&self, layout: Layout, before: Layout, now: &[String]) -> GpuChange {
        let stopped: BTreeSet<&String> = self.ours.stopped.iter().chain(now).collect();
        let devices = match self.ours.before {
            Some(_) => self.ours.devices.clone(),
            None => self.state.devices.clone(),
        };
        let gpu = self.state.uuid.clone();
        let memory = GpuMemory {
            gpu: Some(gpu.clone()),
            layout,
            before: Some(before),
            devices,
            stopped: stopped.into_iter().cloned().collect(),
            ..GpuMemory::default()
        };
        GpuChange { gpu, on_busy: self.on_busy, memory }
    }
}

/// The proof at the end.
fn settle(change: GpuChange) -> Draft {
    let start = change.memory.stopped.clone();
    Draft::quiet(Action::GpuSettle { start, change: Box::new(change) }, Reason::Gone, Vec::new())
}
