//! From every desired resource to its block: whose it is, why it differs, what its kind's arm says.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

use super::diff::with_ignored;
use super::input::KnownResource;
use super::kind::{Case, Verdict, backup, cluster, disk, gpu, media, network, pool, release, vm};
use super::work::Work;
use super::{GpuPicture, Note, Reason, SkipReason};
use crate::model::resource::Network;
use crate::model::{Name, Observation, Ownership, Resource, ResourceId};
use crate::spec::{DesiredResource, SelfHeal};

/// Walks a sorted map beside another one, without a search for each key.
struct Cursor<'a, V> {
    rest: Peekable<btree_map::Iter<'a, ResourceId, V>>,
    /// What was not asked for.
    passed: Vec<(&'a ResourceId, &'a V)>,
}

impl<'a, V> Cursor<'a, V> {
    /// At the start of `map`.
    fn new(map: &'a BTreeMap<ResourceId, V>) -> Self {
        Self { rest: map.iter().peekable(), passed: Vec::new() }
    }

    /// The value at `id`; ids have to be asked for in ascending order.
    fn seek(&mut self, id: &ResourceId) -> Option<&'a V> {
        while let Some(&(key, value)) = self.rest.peek() {
            match key.cmp(id) {
                Ordering::Less => {
                    self.passed.push((key, value));
                    self.rest.next();
                }
                Ordering::Equal => {
                    self.rest.next();
                    return Some(value);
                }
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// Everything that was not asked for.
    fn left(mut self) -> Vec<(&'a ResourceId, &'a V)> {
        self.passed.extend(self.rest);
        self.passed
    }
}

/// What the commit does not name: on the machine, and in the log.
pub(super) struct Unnamed<'a> {
    /// On the machine, ours or not.
    pub(super) seen: Vec<(&'a ResourceId, &'a Observation)>,
    /// In the log.
    pub(super) known: Vec<(&'a ResourceId, &'a KnownResource)>,
}

/// Decides on every desired resource. The map's order is the order of kinds, so that what a disk or
/// a network is in for is known when its domains are decided on. Every map is walked once: at a
/// hundred thousand resources, memory is what a plan waits for.
pub(super) fn all<'a>(work: &mut Work<'a>) -> Unnamed<'a> {
    let input = work.input;
    let mut seen = Cursor::new(&input.observed.resources);
    let mut known = Cursor::new(&input.known.resources);
    for (id, wish) in &input.desired.resources {
        one(work, id, wish, seen.seek(id), known.seek(id));
    }
    Unnamed { seen: seen.left(), known: known.left() }
}

/// Decides on one desired resource.
fn one(
    work: &mut Work<'_>,
    id: &ResourceId,
    wish: &DesiredResource,
    seen: Option<&Observation>,
    known: Option<&KnownResource>,
) {
    if let Some(why) = work.input.observed.why_unobservable(id) {
        work.skip(id, SkipReason::Unobservable(why.to_owned()), Vec::new());
        if let (Resource::Backup(backup), Some(guests)) = (&wish.resource, work.facts.leftovers(id))
        {
            // It is in guests, whatever becomes of the repository.
            let suspended = work.input.known.suspended.get(id).cloned();
            work.add(id, true, vec![backup::clears(backup, guests)], suspended);
        }
        if let Some(why) = backup::broken_meanwhile(work.facts.backup(id)) {
            work.skip(id, why, Vec::new());
        }
        return;
    }
    let fulfilled_before = known.is_some_and(|it| it.applied == Some(wish.digest));
    let reason = match seen {
        Some(seen) if !work.facts.ours_by(seen, || known) => {
            match &seen.ownership {
                Ownership::Other { environment } if !formerly(work, environment) => {
                    let why = SkipReason::OtherEnvironment(environment.clone());
                    return work.skip(id, why, Vec::new());
                }
                Ownership::Other { .. } => {}
                _ if wish.lifecycle.adopt || takes_over(work, wish) => {}
                _ => return work.skip(id, SkipReason::Foreign, Vec::new()),
            }
            Reason::Adopted
        }
        _ if fulfilled_before => Reason::Drifted,
        Some(_) => Reason::Changed,
        None => Reason::Missing,
    };
    let Some(verdict) = verdict(work, id, wish, seen, reason) else {
        let why = "what was seen under this name is of another kind".to_owned();
        return work.skip(id, SkipReason::Unobservable(why), Vec::new());
    };
    if let Some(picture) = verdict.picture.clone().filter(|_| !verdict.is_nothing()) {
        work.pictures.push(GpuPicture { resource: id.clone(), picture });
    }
    if let Some(what) = verdict.remark {
        work.notes.push(Note { resource: id.clone(), what });
    }
    for (why, changes) in verdict.skipped.iter() {
        work.skip(id, why.clone(), changes.clone());
    }
    if verdict.drafts.is_empty() {
        return;
    }
    let unseen = work.facts.unseen_user(&verdict.drafts);
    let unseen = unseen.or_else(|| work.facts.own_need(id, &verdict.drafts));
    let drifted = verdict.drafts.iter().any(|draft| draft.reason == Reason::Drifted);
    let why_not = refusal(work, id, wish, seen, drifted).or(unseen);
    if why_not.is_none() {
        work.facts.note(id, &verdict);
    }
    work.add(id, true, verdict.drafts, why_not);
}

/// Why a block that would be needed is not done.
fn refusal(
    work: &Work<'_>,
    id: &ResourceId,
    wish: &DesiredResource,
    seen: Option<&Observation>,
    drifted: bool,
) -> Option<SkipReason> {
    let held = work.input.known.suspended.get(id);
    if let Some(why) = held.or_else(|| work.refused.get(id)) {
        return Some(why.clone());
    }
    let policies = [wish.lifecycle.self_heal, work.input.desired.sync.self_heal];
    if drifted && policies.contains(&SelfHeal::Report) {
        return Some(SkipReason::ReportOnly);
    }
    match &wish.resource {
        Resource::Network(network) => conflict(work, id, network, seen),
        _ => None,
    }
}

/// What a kind's arm says; `None` where the observation is of another kind.
fn verdict(
    work: &Work<'_>,
    id: &ResourceId,
    wish: &DesiredResource,
    seen: Option<&Observation>,
    reason: Reason,
) -> Option<Verdict> {
    // The paths are into the resource; the stored form wraps it in its kind.
    let ignore = wish.lifecycle.ignore_differences.iter();
    let ignore: Vec<String> = ignore.map(|path| format!("/spec{path}")).collect();
    let overlay = |from: &Resource, over: &Resource| with_ignored(from, over, &ignore);
    let to = match seen {
        Some(seen) if !ignore.is_empty() => Cow::Owned(overlay(&wish.resource, &seen.config)),
        _ => Cow::Borrowed(&wish.resource),
    };
    let live = seen.and_then(|seen| seen.live.as_ref()).map(|live| {
        if ignore.is_empty() { Cow::Borrowed(live) } else { Cow::Owned(overlay(live, &to)) }
    });
    let case = Case {
        id,
        desired: wish,
        observation: seen,
        live: live.as_deref(),
        reason,
        facts: &work.facts,
    };
    /// Calls an arm with both sides of its own kind.
    macro_rules! arm {
        ($kind:ident, $to:ident, $decide:expr) => {
            match seen.map(|seen| &seen.config) {
                None => Some($decide(&case, $to, None)),
                Some(Resource::$kind(from)) => Some($decide(&case, $to, Some(from))),
                Some(_) => None,
            }
        };
    }
    match &*to {
        Resource::StoragePool(to) => arm!(StoragePool, to, pool::decide),
        Resource::Network(to) => arm!(Network, to, network::decide),
        Resource::Image(to) => arm!(Image, to, media::decide_image),
        Resource::Disk(to) => arm!(Disk, to, disk::decide),
        Resource::Seed(to) => arm!(Seed, to, media::decide_seed),
        Resource::GpuLayout(to) => arm!(GpuLayout, to, gpu::decide),
        Resource::VirtualMachine(to) => arm!(VirtualMachine, to, vm::decide),
        Resource::Backup(to) => arm!(Backup, to, backup::decide),
        Resource::Cluster(to) => arm!(Cluster, to, cluster::decide),
        Resource::Release(to) => arm!(Release, to, release::decide),
    }
}

/// Whether this environment was once called so.
fn formerly(work: &Work<'_>, name: &Name) -> bool {
    work.input.desired.sync.renamed.formerly.contains(name)
}

/// Whether the wish itself says that what is there may be taken over.
fn takes_over(work: &Work<'_>, wish: &DesiredResource) -> bool {
    match &wish.resource {
        Resource::GpuLayout(layout) => layout.takeover == Some(true),
        _ => takes_over_file(work, wish),
    }
}

/// Whether a disk's file is ours under another name that the commit no longer has: it was renamed,
/// and its data goes with it.
fn takes_over_file(work: &Work<'_>, wish: &DesiredResource) -> bool {
    let Resource::Disk(disk) = &wish.resource else {
        return false;
    };
    work.input.known.resources.iter().any(|(id, known)| {
        !work.input.desired.resources.contains_key(id)
            && matches!(&known.claimed, Some(Resource::Disk(old)) if old.path == disk.path)
    })
}

/// What of the host, or of somebody else's networks, is in a network's place.
fn conflict(
    work: &Work<'_>,
    id: &ResourceId,
    network: &Network,
    seen: Option<&Observation>,
) -> Option<SkipReason> {
    if let Some(Resource::Network(from)) = seen.map(|seen| &seen.config)
        && same_place(from, network)
    {
        return None;
    }
    let hosts = &work.input.observed.host.addresses;
    let with_host = network.addresses.iter().find_map(|ours| {
        let theirs = hosts.iter().find(|net| overlaps(&ours.address, net))?;
        Some(format!("{} overlaps with {theirs} of the host: choose another range", ours.address))
    });
    let with_network = || {
        work.facts.networks().iter().find_map(|&(other, seen, theirs)| {
            let foreign = other != id && !work.facts.ours(other, seen);
            let what = collision(network, theirs, seen.active).filter(|_| foreign)?;
            Some(format!("{what} is taken by {other}, which is not ours: choose another"))
        })
    };
    with_host.or_else(with_network).map(SkipReason::Conflict)
}

/// Whether a network stays where it is.
fn same_place(from: &Network, to: &Network) -> bool {
    let addresses = |network: &Network| -> Vec<_> {
        network.addresses.iter().map(|item| item.address).collect()
    };
    addresses(from) == addresses(to) && (to.bridge.is_none() || from.bridge == to.bridge)
}

/// What two networks cannot both have: a bridge, or, where the second runs, a range.
pub(super) fn collision(a: &Network, b: &Network, b_active: bool) -> Option<String> {
    use crate::model::resource::NetworkMode::Bridge;
    if a.mode != Bridge && b.mode != Bridge && a.bridge.is_some() && a.bridge == b.bridge {
        return a.bridge.as_ref().map(|bridge| format!("bridge {bridge}"));
    }
    let theirs = || b.addresses.iter().filter(|_| b_active);
    a.addresses.iter().find_map(|ours| {
        let other = theirs().find(|other| overlaps(&ours.address, &other.address))?;
        Some(format!("the range {}", other.address.trunc()))
    })
}

/// Whether two ranges share an address.
fn overlaps(a: &ipnet::IpNet, b: &ipnet::IpNet) -> bool {
    let (a, b) = (a.trunc(), b.trunc());
    a.contains(&b) || b.contains(&a)
}
