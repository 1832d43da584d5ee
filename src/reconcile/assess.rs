//! What a look at the machine means: drifted, recovered, synced, pruned — each only at the edge.
//!
//! Pure: state, wish, observation and plan in, events out.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::event::body::{Claim, Claimed, Drifted, MoreChanges, Moved, Pruned, Recovered, Synced};
use crate::event::{Entry, Event, Spilled};
use crate::model::resource::Cluster;
use crate::model::{Digest, Observed, Resource, ResourceId, digest_of};
use crate::plan::{Action, FieldChange, Plan, Reason, SkipReason, Skipped, Step, render};
use crate::spec::{Desired, DesiredResource};
use crate::state::{ResourceState, State};

use super::claim::{claim_of, settled};

/// The events that follow from comparing what is known with what was seen. Of what is `busy`, being
/// worked on, nothing is said: it was seen half-done.
pub(super) fn events_of_look(
    state: &State,
    desired: &Desired,
    observed: &Observed,
    plan: &Plan,
    busy: &BTreeSet<ResourceId>,
) -> Vec<Entry> {
    let differences = Differences::of(plan);
    let mut entries = Vec::new();
    for (id, wish) in &desired.resources {
        let known = state.resources.get(id);
        let unseen = observed.why_unobservable(id).is_some();
        let settled = differences.is_none_for(id) && !unseen && !busy.contains(id);
        // For this nothing has to be seen: a protection also counts when it comes in an outage.
        entries.extend(claimed(id, wish, known, settled));
        // Nor for a promise that is broken while nobody can look.
        if busy.contains(id) || (unseen && !differences.is_unprotected(id)) {
            continue;
        }
        entries.extend(differences.event_for(id, wish, known, observed));
    }
    entries
}

/// The events for resources of ours that the commit gave another name. Before looking: what is known
/// of them tells where to look.
pub(super) fn moves(state: &State, desired: &Desired, busy: &BTreeSet<ResourceId>) -> Vec<Entry> {
    let ours = |id: &ResourceId| state.resources.get(id).is_some_and(ResourceState::is_ours);
    let renamed = &desired.sync.renamed;
    let moves = renamed.moved.keys().filter_map(|to| {
        // What a step is at keeps its name until the step's outcome is there.
        let from = renamed.former(to, ours).filter(|from| !busy.contains(*from))?.clone();
        Some(Entry::new(Event::Moved(Moved { from })).about(to))
    });
    moves.collect()
}

/// The events for resources that are gone from the commit and from the machine. Before planning:
/// what is gone needs no step. What is `busy` may be gone only for a moment.
pub(super) fn farewells(
    state: &State,
    desired: &Desired,
    observed: &Observed,
    busy: &BTreeSet<ResourceId>,
    now: Timestamp,
) -> Vec<Entry> {
    let there = |id: &ResourceId| {
        observed.resources.contains_key(id)
            || observed.stale.iter().any(|stale| stale.resource == *id)
    };
    let gone = state.resources.iter().filter(|(id, known)| {
        known.is_ours()
            && !busy.contains(*id)
            && !desired.resources.contains_key(*id)
            && (observed.why_unobservable(id).is_none() || leaves_nothing(id, known, observed, now))
            && !there(id)
    });
    gone.map(|(id, known)| {
        let wish = known.applied.as_ref().map(|applied| applied.wish);
        Entry::new(Event::Pruned(Pruned { wish })).about(id)
    })
    .collect()
}

/// Whether what cannot be seen is a Kubernetes cluster to which nobody can have access any more through us:
/// that alone would have to be taken back, and every token ends with its time.
fn leaves_nothing(
    id: &ResourceId,
    known: &ResourceState,
    observed: &Observed,
    now: Timestamp,
) -> bool {
    let claimed = known.claim.as_ref().and_then(|claim| claim.resource.as_ref());
    let is_kubernetes = matches!(claimed, Some(Resource::Cluster(it)) if it.kubernetes().is_some());
    let mut access = known.cluster.iter().flat_map(|cluster| cluster.access.values());
    // Taken with a word alone, it is there until it is seen to be gone.
    is_kubernetes && observed.unreadable.contains_key(id) && access.all(|it| it.until <= now)
}

/// How a resource of ours may be destroyed counts from the commit that says so, not from the day
/// on which everything else about it could be done.
fn claimed(
    id: &ResourceId,
    wish: &DesiredResource,
    known: Option<&ResourceState>,
    settled: bool,
) -> Option<Entry> {
    let known = known.filter(|known| known.is_ours())?;
    let old = known.claim.as_ref();
    let mut resource = old.and_then(|claim| claim.resource.clone());
    if let Some(Resource::GpuLayout(layout)) = &mut resource
        && let Some(memory) = layout.memory.as_mut().filter(|_| settled)
    {
        // What a change needed on its way is not needed once nothing is left of it.
        memory.close();
    }
    // So does who may be given access to a cluster.
    if let (Some(Resource::Cluster(old)), Resource::Cluster(new)) = (&mut resource, &wish.resource)
        && let (Cluster::Kubernetes(old), Cluster::Kubernetes(new)) = (&mut **old, &**new)
    {
        old.kubeconfigs.clone_from(&new.kubeconfigs);
    }
    let claim = Claim { resource, ..claim_of(wish) };
    (old != Some(&claim)).then(|| Entry::new(Event::Claimed(Claimed { claim })).about(id))
}

/// What differs, by resource.
struct Differences<'a> {
    steps: BTreeMap<&'a ResourceId, Vec<&'a Step>>,
    skips: BTreeMap<&'a ResourceId, Vec<&'a Skipped>>,
}

impl<'a> Differences<'a> {
    fn of(plan: &'a Plan) -> Self {
        let mut differences = Self { steps: BTreeMap::new(), skips: BTreeMap::new() };
        for step in &plan.steps {
            differences.steps.entry(&step.resource).or_default().push(step);
        }
        for skip in &plan.skipped {
            differences.skips.entry(&skip.resource).or_default().push(skip);
        }
        differences
    }

    /// Whether a promise about `id` is broken.
    fn is_unprotected(&self, id: &ResourceId) -> bool {
        let skips = self.skips.get(id).map_or(&[][..], Vec::as_slice);
        skips.iter().any(|skip| matches!(skip.why, SkipReason::Unprotected(_)))
    }

    /// Whether nothing is left to do for `id`, and nothing left alone.
    fn is_none_for(&self, id: &ResourceId) -> bool {
        !self.steps.contains_key(id) && !self.skips.contains_key(id)
    }

    fn event_for(
        &self,
        id: &ResourceId,
        wish: &DesiredResource,
        known: Option<&ResourceState>,
        observed: &Observed,
    ) -> Option<Entry> {
        let steps = self.steps.get(id).map_or(&[][..], Vec::as_slice);
        let skips = self.skips.get(id).map_or(&[][..], Vec::as_slice);
        let applied = known.and_then(|known| known.applied.as_ref());
        let fulfilled_before = applied.is_some_and(|applied| applied.wish == wish.digest);
        // Cleaning up behind a resource is no difference in the resource itself.
        // What is due neither makes nor ends a difference.
        // Nor does what is saved for the sake of something else.
        let differs = |step: &&Step| !step.action.removes() && !is_chore(step);
        let at_work = steps.iter().any(differs);
        let left_alone = skips.iter().any(|skip| !is_remark(&skip.why));
        if !at_work && !left_alone {
            let failed = known.is_some_and(|known| known.failure.is_some());
            if failed && !steps.is_empty() && steps.iter().all(|it| is_chore(it)) {
                // Whether what is due succeeds this time is for its outcome to say.
                return None;
            }
            return synced(id, wish, known, fulfilled_before, observed);
        }
        let gone = observed
            .resources
            .get(id)
            .is_none_or(|seen| !seen.active && expects_activity(&seen.config));
        let drifting = steps.iter().any(|step| step.reason == Reason::Drifted)
            || skips.iter().any(|skip| is_drift(skip, gone));
        let known = known.filter(|_| fulfilled_before && drifting)?;
        if known.in_flight.is_some() {
            return None;
        }
        let (drifted, contents) = drift(id, steps, skips, observed);
        let said = known.drift.as_ref();
        let news = said.is_none_or(|said| {
            said.what != drifted.what
                || said.changes != drifted.changes
                || said.more != drifted.more
        });
        news.then(|| Entry::new(Event::Drifted(drifted)).about(id).bringing(contents))
    }
}

fn synced(
    id: &ResourceId,
    wish: &DesiredResource,
    known: Option<&ResourceState>,
    fulfilled_before: bool,
    observed: &Observed,
) -> Option<Entry> {
    if !observed.resources.contains_key(id) {
        return None;
    }
    if !fulfilled_before {
        let claim = known.and_then(|known| known.claim.as_ref());
        let synced = Synced { wish: wish.digest, claim: settled(wish, claim) };
        return Some(Entry::new(Event::Synced(synced)).about(id));
    }
    let known = known?;
    // A plan over it all says that nothing is left to do: whatever failed, it is mended.
    let troubled = known.drift.is_some() || known.failure.is_some();
    troubled.then(|| Entry::new(Event::Recovered(Recovered {})).about(id))
}

fn drift(
    id: &ResourceId,
    steps: &[&Step],
    skips: &[&Skipped],
    observed: &Observed,
) -> (Drifted, Contents) {
    let mut changes: Vec<&FieldChange> = steps
        .iter()
        .filter(|step| step.reason == Reason::Drifted)
        .flat_map(|step| step.changes.iter())
        .chain(skips.iter().filter(|skip| !is_remark(&skip.why)).flat_map(|skip| &skip.changes))
        .collect();
    // Several steps may name the same field, and a skip names each once.
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes.dedup_by(|a, b| a.path == b.path);
    let stored = storable_changes(&changes);
    let unprotected = skips.iter().find(|skip| matches!(skip.why, SkipReason::Unprotected(_)));
    let said = unprotected.map(|skip| render::skip_reason(&skip.why));
    let what = match observed.resources.get(id) {
        _ if said.is_some() => said.as_deref().unwrap_or_default(),
        None => "missing",
        Some(seen) if !seen.active && expects_activity(&seen.config) => "stopped",
        Some(_) => "changed",
    };
    let heal = steps.iter().any(|step| step.reason == Reason::Drifted);
    let StoredChanges { changes, more, contents } = stored;
    (Drifted { changes, more, what: what.to_owned(), heal }, contents)
}

fn expects_activity(resource: &Resource) -> bool {
    matches!(
        resource,
        Resource::StoragePool(_) | Resource::Network(_) | Resource::VirtualMachine(_)
    )
}

/// Whether a step neither makes nor ends a difference: its time has come, or something else is saved.
fn is_chore(step: &Step) -> bool {
    step.reason == Reason::Due || step.action.way_back_for().is_some()
}

/// A remark about a resource that is otherwise what it should be.
fn is_remark(why: &SkipReason) -> bool {
    matches!(why, SkipReason::ImageKept | SkipReason::InUse(_) | SkipReason::PruneOff)
}

/// A difference that is drift although nothing is done about it now. `gone`: it is missing or
/// stopped.
fn is_drift(skip: &Skipped, gone: bool) -> bool {
    match &skip.why {
        // What is being changed may look like anything.
        SkipReason::Unobservable(_) | SkipReason::InProgress => false,
        // These stand before any comparison: only what differs is drift.
        SkipReason::BackingOff | SkipReason::Paused => gone || !skip.changes.is_empty(),
        why => !is_remark(why),
    }
}

/// Field changes of one event that are stored, and bytes of a value as JSON: enough to see what
/// happened, and far below the longest line however large a spec is.
const CHANGES_STORED_MAX: usize = 32;
const VALUE_BYTES_MAX: usize = 1_024;

/// Contents that an event names.
type Contents = Vec<std::sync::Arc<[u8]>>;

/// A field change as it is stored: a large value by its digest, its content put to `contents`.
fn storable(change: &FieldChange, contents: &mut Contents) -> FieldChange {
    let mut short = |value: &Option<Value>| {
        let value = value.as_ref()?;
        let text = value.to_string();
        if text.len() <= VALUE_BYTES_MAX {
            return Some(value.clone());
        }
        let (spilled, content) = Spilled::of(text.into_bytes());
        contents.push(content);
        serde_json::to_value(spilled).ok()
    };
    FieldChange { from: short(&change.from), to: short(&change.to), ..change.clone() }
}

/// Field changes as an event holds them.
pub(super) struct StoredChanges {
    /// The first of them.
    pub(super) changes: Vec<FieldChange>,
    /// All of them, where that is more.
    pub(super) more: Option<MoreChanges>,
    /// What the two name.
    pub(super) contents: Contents,
}

/// Field changes as they are stored, with what they name. The first of them are for reading; what is
/// compared is the whole.
pub(super) fn storable_changes(all: &[&FieldChange]) -> StoredChanges {
    let mut contents = Contents::new();
    let first = all.iter().take(CHANGES_STORED_MAX);
    let changes: Vec<_> = first.map(|change| storable(change, &mut contents)).collect();
    let left_out = all.len().saturating_sub(CHANGES_STORED_MAX) as u64;
    let whole = if left_out > 0 { Spilled::of_json(all) } else { None };
    let more = whole.map(|(all, content)| {
        contents.push(content);
        MoreChanges { left_out, all }
    });
    StoredChanges { changes, more, contents }
}

/// Resources in `plan` that succeeded before in this pass with the very same step: putting them
/// right does not last.
pub(super) fn repeated(
    plan: &Plan,
    desired: &Desired,
    done: &BTreeSet<(ResourceId, Digest)>,
) -> BTreeSet<ResourceId> {
    let wish = |step: &Step| desired.resources.get(&step.resource).map(|wish| wish.digest);
    plan.steps
        .iter()
        // Asking a guest once more whether it is up puts nothing right.
        .filter(|step| !matches!(step.action, Action::VmAwaitReady { .. }))
        // Nor does what is due again, or saves something once more.
        .filter(|step| !is_chore(step))
        .filter(|step| done.contains(&(step.resource.clone(), signature(step, wish(step)))))
        .map(|step| step.resource.clone())
        .collect()
}

/// What makes two steps the same: what is done, for which wish, and why.
pub(super) fn signature(step: &Step, wish: Option<Digest>) -> Digest {
    digest_of(&(&step.action, wish, step.reason))
}

#[cfg(test)]
mod tests {
    use trueup_kubernetes::namespace::Role;

    use super::*;
    use crate::model::Name;
    use crate::model::resource::KubernetesCluster;
    use crate::spec::SyncSettings;
    use crate::state::{ClusterState, GivenAccess};

    #[test]
    fn a_cluster_that_nobody_reaches_is_let_go_of_when_the_last_token_has_ended() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let id: ResourceId = "cluster/cloud".parse().unwrap();
        let cluster = KubernetesCluster::default();
        let claim = Claim {
            resource: Some(Resource::Cluster(Box::new(Cluster::Kubernetes(cluster)))),
            prevent_destroy: false,
            orphan: false,
            depends_on: BTreeSet::new(),
        };
        // An operator took it, which nobody has seen to be done.
        let access = GivenAccess {
            user: "ann".into(),
            namespace: "research".into(),
            role: Role::View,
            by: "operator:bob".into(),
            since: at(0),
            until: at(100),
            in_force: true,
            ended: true,
        };
        let known = ClusterState { access: [(7, access)].into(), ..ClusterState::default() };
        let known = ResourceState {
            claim: Some(claim),
            cluster: Some(Box::new(known)),
            ..ResourceState::default()
        };
        let mut state = State::default();
        state.resources.insert(id.clone(), known);
        let desired = Desired {
            environment: Name::new("lab").unwrap(),
            sync: SyncSettings::default(),
            resources: BTreeMap::new(),
        };
        let gone = |state: &State, observed: &Observed, second| {
            farewells(state, &desired, observed, &BTreeSet::new(), at(second)).len()
        };
        let mut away = Observed::default();
        away.unreadable.insert(id.clone(), "no answer".into());
        assert_eq!((gone(&state, &away, 99), gone(&state, &away, 100)), (0, 1));
        assert_eq!(
            gone(&state, &Observed::default(), 1),
            1,
            "it was looked at, and nothing is left"
        );
        // Of anything else that cannot be seen nothing is known to be gone.
        state.resources.get_mut(&id).unwrap().claim.as_mut().unwrap().resource = None;
        assert_eq!(gone(&state, &away, 100), 0);
    }
}
