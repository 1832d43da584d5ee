//! From what the commit no longer asks for to the blocks that remove it, each with its guards.

use std::collections::{BTreeMap, BTreeSet};

use super::build::Unnamed;
use super::kind::vm::STOP_DEFAULT;
use super::kind::{Draft, cluster, gpu, release};
use super::work::Work;
use super::{Action, Disruption, Reason, SkipReason, refs};
use crate::model::{Kind, Observation, Ownership, Resource, ResourceId};

/// Decides on everything of ours that the commit does not name, and on files left behind.
pub(super) fn all<'a>(work: &mut Work<'a>, unnamed: &Unnamed<'a>) {
    let input = work.input;
    let mut leftovers: BTreeMap<&ResourceId, BTreeSet<&str>> = BTreeMap::new();
    for stale in &input.observed.stale {
        leftovers.entry(&stale.resource).or_default().insert(&stale.path);
    }
    for id in gone(work, unnamed, &leftovers) {
        let files = leftovers.remove(id).unwrap_or_default();
        one(work, id, files);
    }
    for (id, guests) in &input.observed.leftovers {
        if input.desired.resources.contains_key(id) {
            continue;
        }
        // Nothing of the commit's is lost with it, whatever it says of pruning.
        let suspended = input.known.suspended.get(id).cloned();
        let action = Action::BackupClear { guests: guests.clone(), wholly: true };
        work.add(id, false, vec![Draft::quiet(action, Reason::Gone, Vec::new())], suspended);
    }
    for (id, paths) in leftovers {
        let why = guard(work, id);
        for path in paths {
            file(work, id, path, None, Disruption::None, why.clone());
        }
    }
}

/// What is ours and not desired, in the order of ids.
fn gone<'a>(
    work: &Work<'a>,
    unnamed: &Unnamed<'a>,
    leftovers: &BTreeMap<&'a ResourceId, BTreeSet<&'a str>>,
) -> BTreeSet<&'a ResourceId> {
    let environment = work.facts.environment();
    let marked = |seen: &Observation| matches!(&seen.ownership, Ownership::Ours { environment: owner } if owner == environment);
    let seen = unnamed.seen.iter().filter(|(_, seen)| marked(seen));
    let mut found: BTreeSet<_> = seen.map(|(id, _)| *id).collect();
    found.extend(unnamed.known.iter().map(|(id, _)| *id));
    let left = leftovers.keys().copied();
    found.extend(left.filter(|id| !work.input.desired.resources.contains_key(*id)));
    found
}

/// What forbids any removal of this resource.
fn guard(work: &Work<'_>, id: &ResourceId) -> Option<SkipReason> {
    let input = work.input;
    let known = input.known.resources.get(id);
    if let Some(why) = input.observed.why_unobservable(id) {
        return Some(SkipReason::Unobservable(why.to_owned()));
    }
    if let Some(why) = input.known.suspended.get(id) {
        return Some(why.clone());
    }
    if known.is_some_and(|known| known.orphan) {
        return Some(SkipReason::Orphaned);
    }
    if known.is_some_and(|known| known.prevent_destroy) {
        return Some(SkipReason::PreventDestroy);
    }
    (!input.guards.prune || !input.desired.sync.prune).then_some(SkipReason::PruneOff)
}

/// Decides on one resource that the commit does not name.
fn one<'a>(work: &mut Work<'a>, id: &'a ResourceId, mut files: BTreeSet<&'a str>) {
    let input = work.input;
    let seen = input.observed.resources.get(id);
    let claimed = work.facts.claimed(id);
    if let Some(Resource::Cluster(from)) = seen.map(|seen| &seen.config) {
        // Nothing of the commit's is lost with it, whatever it says of pruning.
        let suspended = input.known.suspended.get(id).cloned();
        let suspended = suspended.or((!input.guards.prune).then_some(SkipReason::PruneOff));
        work.add(id, false, cluster::leave(from), suspended);
        return;
    }
    let mut why = guard(work, id);
    let foreign = seen.is_some_and(|seen| !work.facts.ours(id, seen));
    if foreign && is_file(id.kind) {
        // Another file stands under this name; ours, if any, is where the log says.
    } else if foreign {
        why = Some(SkipReason::Foreign);
    }
    let config = seen.filter(|_| !foreign).map(|seen| &seen.config);
    if is_file(id.kind) {
        for resource in [claimed, config].into_iter().flatten() {
            files.extend(refs::own_files(resource));
        }
        let disruption = match id.kind {
            Kind::Seed => Disruption::None,
            _ => Disruption::Destroy,
        };
        for path in files {
            file(work, id, path, claimed.or(config), disruption, why.clone());
        }
    } else if let Some(seen) = seen {
        let special = match &seen.config {
            Resource::Release(from) => Some(release::remove(id, from)),
            _ => layout(work, id, seen, claimed),
        };
        let drafts = match special {
            Some(Ok(drafts)) => drafts,
            Some(Err(left)) => return work.skip(id, why.unwrap_or(left), Vec::new()),
            None => object(work, id, seen, claimed),
        };
        let why = why.or_else(|| work.facts.own_need(id, &drafts));
        let why = why.or_else(|| work.facts.unseen_user(&drafts));
        work.add(id, false, drafts, why);
    }
}

/// Whether resources of this kind are files.
fn is_file(kind: Kind) -> bool {
    matches!(kind, Kind::Image | Kind::Disk | Kind::Seed)
}

/// The steps that take a layout off its GPU; `None` where it is no layout.
fn layout(
    work: &Work<'_>,
    id: &ResourceId,
    seen: &Observation,
    claimed: Option<&Resource>,
) -> Option<Result<Vec<Draft>, SkipReason>> {
    let Resource::GpuLayout(from) = &seen.config else { return None };
    let claimed = match claimed {
        Some(Resource::GpuLayout(claimed)) => Some(&**claimed),
        _ => None,
    };
    Some(gpu::remove(&work.facts, id, claimed, from))
}

/// The steps that remove a libvirt object.
fn object(
    work: &Work<'_>,
    id: &ResourceId,
    seen: &Observation,
    claimed: Option<&Resource>,
) -> Vec<Draft> {
    let destroy = |action, interrupts| {
        Draft::quiet(action, Reason::Gone, Vec::new()).disturbing(Disruption::Destroy, interrupts)
    };
    let alone = || BTreeSet::from([id.clone()]);
    let mut drafts = Vec::new();
    match id.kind {
        Kind::VirtualMachine => {
            if seen.active {
                let policy = match claimed {
                    Some(Resource::VirtualMachine(vm)) => vm.stop.unwrap_or(STOP_DEFAULT),
                    _ => STOP_DEFAULT,
                };
                let interrupts = work.facts.interrupted_with(id);
                drafts.push(destroy(Action::VmStop { policy }, interrupts));
            }
            drafts.push(destroy(Action::VmUndefine, alone()));
        }
        Kind::Network => {
            if seen.active {
                drafts.push(destroy(Action::NetworkStop, alone()));
            }
            drafts.push(destroy(Action::NetworkUndefine, alone()));
        }
        Kind::StoragePool => drafts.push(destroy(Action::PoolUndefine, alone())),
        Kind::Image
        | Kind::Disk
        | Kind::Seed
        | Kind::GpuLayout
        | Kind::Backup
        | Kind::Cluster
        | Kind::Release => {}
    }
    drafts
}

/// The step that removes one file.
fn file(
    work: &mut Work<'_>,
    id: &ResourceId,
    path: &str,
    resource: Option<&Resource>,
    disruption: Disruption,
    mut why: Option<SkipReason>,
) {
    let action = match (id.kind, resource) {
        (Kind::Seed, _) => Action::SeedDelete { path: path.to_owned() },
        (Kind::Disk, Some(Resource::Disk(disk))) => {
            Action::DiskDelete { pool: disk.pool.clone(), path: path.to_owned() }
        }
        (Kind::Image, _) => Action::ImageDelete { path: path.to_owned() },
        _ => return,
    };
    let wished = work.facts.owner_of_file(path);
    if let Some(other) = wished.or_else(|| work.facts.wishes_file(path)) {
        why = Some(SkipReason::InUse(other.to_string()));
    }
    let mut draft = Draft::quiet(action, Reason::Gone, Vec::new());
    if disruption > Disruption::None {
        draft = draft.disturbing(disruption, BTreeSet::from([id.clone()]));
    }
    let drafts = vec![draft];
    let why = why.or_else(|| work.facts.own_need(id, &drafts));
    let why = why.or_else(|| work.facts.unseen_user(&drafts));
    work.add(id, false, drafts, why);
}
