//! A layout that the commit no longer asks for: what is ours goes, the rest stays.

use std::collections::BTreeSet;

use trueup_mig::{Instance, Layout, Outcome, Placed, Target, plan};

use super::parts::{action, units_of, with_clients};
use super::{handover, share, words};
use crate::model::ResourceId;
use crate::model::resource::{GpuLayout, GpuMemory};
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
    if way.steps.is_empty() {
        return Ok(Vec::new());
    }
    let stopped = units_of(&way.stops);
    let memory = GpuMemory {
        gpu: Some(state.uuid.clone()),
        layout: way.after,
        before: Some(way.before.clone()),
        stopped,
        ..GpuMemory::default()
    };
    let on_busy = claimed.and_then(|it| it.on_busy).unwrap_or_default();
    let change = GpuChange { gpu: state.uuid.clone(), on_busy, memory };
    let mut drafts = Vec::new();
    let draft = |action| {
        Draft::quiet(action, Reason::Gone, Vec::new())
            .disturbing(Disruption::Destroy, BTreeSet::from([id.clone()]))
    };
    if !change.memory.stopped.is_empty() {
        drafts.push(draft(Action::GpuStopClients { change: Box::new(change.clone()) }));
    }
    let names = |placed: Placed| way.before.part(placed)?.name.clone();
    let actions = way.steps.iter().map(|step| action(board, step, &change, &names));
    drafts.extend(actions.map(draft));
    // What an interrupted change left stopped; what is stopped for this one stays so.
    let left = claimed.and_then(|it| it.memory.as_deref()).map(|memory| memory.stopped.iter());
    let asleep =
        |unit: &&String| !state.running.contains(*unit) && !change.memory.stopped.contains(*unit);
    let start = left.into_iter().flatten().filter(asleep).cloned().collect();
    let settle = Action::GpuSettle { start, change: Box::new(change) };
    drafts.push(Draft::quiet(settle, Reason::Gone, Vec::new()));
    Ok(drafts)
}
