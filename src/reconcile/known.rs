//! What the log knows, in the form the planner needs.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::backups::{known_backups, ways_over};
use super::clusters::known_clusters;
use super::pass::Outlook;
use crate::model::{Resource, ResourceId};
use crate::plan::{Known, KnownResource, SkipReason};
use crate::spec::Desired;
use crate::state::{ResourceState, State};

/// The verb of the step that waits for a guest to prove that it is up.
const AWAIT: &str = "await";

/// What is ours, what is left alone and what is due at `now`.
pub(super) fn known_at(
    state: &State,
    desired: &Desired,
    now: Timestamp,
    outlook: Outlook,
) -> Known {
    let backups = known_backups(state, desired, now, outlook);
    let clusters = known_clusters(state, now, outlook);
    let over = if outlook.due { ways_over(state, desired, now) } else { BTreeMap::new() };
    let mut known = Known { backups, clusters, over, ..Known::default() };
    for (id, resource) in &state.resources {
        if resource.is_ours() {
            known.resources.insert(id.clone(), known_resource(resource));
        }
        if let Some(why) = suspended(resource, now, outlook.retry_now) {
            known.suspended.insert(id.clone(), why);
        }
    }
    known
}

fn known_resource(resource: &ResourceState) -> KnownResource {
    let claim = resource.claim.as_ref();
    KnownResource {
        applied: resource.applied.as_ref().map(|applied| applied.wish),
        claimed: claim.and_then(|claim| claim.resource.clone()),
        prevent_destroy: claim.is_some_and(|claim| claim.prevent_destroy),
        orphan: claim.is_some_and(|claim| claim.orphan),
        unready: resource.failure.as_ref().is_some_and(|failure| failure.verb == AWAIT),
        depends_on: claim.map(|claim| claim.depends_on.clone()).unwrap_or_default(),
    }
}

fn suspended(resource: &ResourceState, now: Timestamp, retry_now: bool) -> Option<SkipReason> {
    if resource.hold.is_some() {
        return Some(SkipReason::Paused);
    }
    if retry_now {
        return None;
    }
    let flapping = resource.flapping_until.is_some_and(|until| until > now);
    let failed = resource.failure.as_ref().is_some_and(|failure| {
        failure.wish == resource.wish && failure.retry_at.is_some_and(|at| at > now)
    });
    (flapping || failed).then_some(SkipReason::BackingOff)
}

/// The next time at which something left alone is tried again.
pub(super) fn next_retry(state: &State, now: Timestamp) -> Option<Timestamp> {
    let times = state.resources.values().flat_map(|resource| {
        let failure = resource.failure.as_ref().and_then(|failure| failure.retry_at);
        [failure, resource.flapping_until]
    });
    times.flatten().filter(|at| *at > now).min()
}

/// Ids of everything that is ours.
pub(super) fn ours(state: &State) -> std::collections::BTreeSet<ResourceId> {
    let ours = state.resources.iter().filter(|(_, resource)| resource.is_ours());
    ours.map(|(id, _)| id.clone()).collect()
}

/// What is held until its data is back.
pub(super) fn awaited(state: &State) -> std::collections::BTreeSet<ResourceId> {
    let awaited = state.resources.iter().filter(|(_, resource)| resource.lost_data.is_some());
    awaited.map(|(id, _)| id.clone()).collect()
}

/// What is remembered of files that are ours.
pub(super) fn claims(state: &State) -> std::collections::BTreeMap<ResourceId, Resource> {
    let claims = state.resources.iter().filter_map(|(id, resource)| {
        let claim = resource.claim.as_ref()?.resource.clone()?;
        Some((id.clone(), claim))
    });
    claims.collect()
}
