//! Clusters whose machines trueup makes: from machines that are there to a cluster, nodes that come and go,
//! and machines that are started anew only while they are empty.
//!
//! The machines are resources of their own with blocks of their own. Here is only what has to be done
//! before and after them, and in which order ([`weave`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trueup_slurm::plan::config;
use trueup_slurm::plan::roll::Token;
use trueup_slurm::wish;

use super::super::super::work::{Bond, Work as All};
use super::super::super::{Action, Disruption, SkipReason};
use super::super::{Case, Draft, Verdict};
use super::roll::Wave;
use super::{Files, Work, beside, kubernetes, plain};
use crate::model::resource::{Cluster, NodeStep, SlurmBuilt, SlurmCluster};
use crate::model::{Digest, Kind, Name, Resource, ResourceId, digest_of};

/// The nodes whose machines this plan stops, to start them otherwise.
pub(super) fn stopped<'a>(
    case: &'a Case<'_, '_>,
    to: &'a SlurmCluster,
) -> impl Iterator<Item = String> {
    let nodes = to.wish.pools.iter().flat_map(|pool| pool.names());
    let built = to.built.as_ref();
    nodes
        .filter(move |node| {
            let machine = built.and_then(|built| built.machines.get(*node));
            machine.is_some_and(|name| case.facts.stops(&vm(name)))
        })
        .map(str::to_owned)
}

fn vm(name: &Name) -> ResourceId {
    ResourceId::new(Kind::VirtualMachine, name.clone())
}

/// Why a cluster that was built is not made anew where it is wished now. Its controller's machine has the
/// state of all jobs, and a controller without it ends them.
pub(super) fn moved(case: &Case<'_, '_>, to: Option<&SlurmCluster>) -> Option<String> {
    let Some(Resource::Cluster(claimed)) = case.facts.claimed(case.id) else { return None };
    let claimed = claimed.slurm()?;
    let before = claimed.built.as_ref().and(claimed.place.guest.as_ref())?;
    let now = to.and_then(|to| to.place.guest.as_ref());
    (now != Some(before)).then(|| {
        format!(
            "its controller is {}, which has the state of all jobs, and cannot be another one: name it \
             as before, or remove the cluster first",
            vm(before)
        )
    })
}

/// A cluster that is not there yet.
pub(super) struct Create<'a, 'w> {
    case: &'a Case<'a, 'w>,
    to: &'a SlurmCluster,
    built: &'a SlurmBuilt,
    files: Files,
    digest: Digest,
}

impl<'a, 'w> Create<'a, 'w> {
    pub(super) fn new(
        case: &'a Case<'a, 'w>,
        to: &'a SlurmCluster,
        built: &'a SlurmBuilt,
    ) -> Result<Self, String> {
        let files = Files::of(to.wish.clone(), built.release)?;
        Ok(Self { case, to, built, files, digest: digest_of(&to.wish) })
    }

    /// Keys, a proof, the controller, and then its nodes: all at once, as nothing runs on them.
    pub(super) fn decide(&self, verdict: &mut Verdict) {
        let place = || self.to.place.clone();
        let quiet = |action| Draft::quiet(action, self.case.reason, Vec::new());
        verdict.step(quiet(Action::ClusterPrepare {
            place: place(),
            machines: self.built.machines.clone(),
            key: self.built.key,
            shared: beside::shared(self.to),
        }));
        if self.built.firewall.is_some() {
            let rules = beside::firewall(self.to, self.built.machines.clone(), &self.to.wish);
            rules.into_iter().for_each(|action| verdict.step(quiet(action)));
        }
        let database = beside::database(self.to, self.built.release);
        database.into_iter().for_each(|action| verdict.step(quiet(action)));
        verdict.step(quiet(Action::ClusterProve {
            place: place(),
            files: self.files.texts.clone(),
            wish: self.digest,
        }));
        verdict.step(quiet(Action::ClusterConfigure {
            place: place(),
            files: self.files.texts.clone(),
            controller: config::Action::Restart,
            nodes: Vec::new(),
            wish: self.digest,
        }));
        let copy = beside::copy(self.to, self.to.copies());
        copy.into_iter().for_each(|action| verdict.step(quiet(action)));
        for pool in &self.to.wish.pools {
            let token = Token::new(&self.to.wish.name, &pool.name, &self.digest.short());
            for node in pool.names() {
                if let Some(step) = join(self.built, node) {
                    verdict.step(self.node(node, step, &token));
                }
            }
        }
        for pool in &self.to.wish.pools {
            let token = Token::new(&self.to.wish.name, &pool.name, &self.digest.short());
            for node in pool.names() {
                verdict.step(self.node(node, NodeStep::Check, &token));
            }
        }
    }

    fn node(&self, node: &str, step: NodeStep, token: &Token) -> Draft {
        let (place, node, token) = (self.to.place.clone(), node.to_owned(), token.clone());
        Draft::quiet(Action::ClusterNode { place, node, step, token }, self.case.reason, Vec::new())
    }
}

/// The step that makes a machine a node.
fn join(built: &SlurmBuilt, node: &str) -> Option<NodeStep> {
    let guest = built.machines.get(node)?.clone();
    Some(NodeStep::Join { guest, server: built.server.clone() })
}

impl Work<'_, '_> {
    /// Nodes that the files in force do not have.
    fn new_nodes(&self) -> BTreeSet<&str> {
        let there: BTreeSet<&str> = names(&self.live.wish).collect();
        names(&self.to.wish).filter(|node| !there.contains(node)).collect()
    }

    /// Machines that answer and cannot be looked at: what would need to know how they are is not done, and all
    /// the rest goes on.
    pub(super) fn unwell(&self, verdict: &mut Verdict) {
        for (name, why) in &self.seen.unwell {
            let why = format!("the machine of {name} is not well, and stays as it is: {why}");
            verdict.skip(SkipReason::Unlike(why), Vec::new());
        }
    }

    /// Whether it cannot be known how the machine of a node is.
    pub(super) fn is_unwell(&self, node: &str) -> bool {
        self.seen.unwell.contains_key(node)
    }

    /// The key and the services of machines that do not have them: of new ones, and of those that are
    /// otherwise than they should be. One that does not answer, or is not well, is as nobody knows.
    pub(super) fn prepare(&self, verdict: &mut Verdict) {
        let mut machines = self.unprepared();
        if self.key_waits() {
            machines.retain(|name, _| !self.seen.machines.contains_key(name));
        }
        self.prepare_these(verdict, machines);
    }

    /// Machines that did not get their key then, because nodes had to leave with the one before.
    pub(super) fn prepare_rest(&self, verdict: &mut Verdict) {
        if self.key_waits() {
            let mut machines = self.unprepared();
            machines.retain(|name, _| self.seen.machines.contains_key(name));
            self.prepare_these(verdict, machines);
        }
    }

    /// Whether all machines get another key while nodes leave, which do not get it any more: with another one
    /// than the controller they could not tell of the end of their jobs.
    fn key_waits(&self) -> bool {
        let mut seen = self.seen.machines.values();
        !self.going().is_empty() && seen.all(|seen| !seen.prepared)
    }

    fn unprepared(&self) -> BTreeMap<String, Name> {
        let Some(built) = &self.to.built else { return BTreeMap::new() };
        let new = self.new_nodes();
        let mut machines = self.lacking(&built.machines, |seen| !seen.prepared);
        // A machine that was there before it was a node may not answer now.
        let nodes = built.machines.iter().filter(|(name, _)| {
            new.contains(name.as_str())
                && !self.seen.machines.contains_key(*name)
                && !self.is_unwell(name)
        });
        machines.extend(nodes.map(|(name, domain)| (name.clone(), domain.clone())));
        machines
    }

    fn prepare_these(&self, verdict: &mut Verdict, machines: BTreeMap<String, Name>) {
        let Some(built) = self.to.built.as_ref().filter(|_| !machines.is_empty()) else { return };
        let what = format!("key {} and services", built.key);
        let changes =
            machines.keys().map(|name| plain(&format!("machines/{name}"), &what)).collect();
        let place = self.to.place.clone();
        // Seen as one once, it is so until one of the two is made anew.
        let shared = beside::shared(self.to);
        let shared = shared.filter(|shared| machines.values().any(|it| *it == shared.with));
        let action = Action::ClusterPrepare { place, machines, key: built.key, shared };
        let draft = Draft::quiet(action, self.case.reason, changes);
        verdict.step(draft.disturbing(Disruption::Live, BTreeSet::new()));
    }

    /// Nodes that go, which are emptied first.
    pub(super) fn going(&self) -> BTreeSet<&str> {
        if self.to.built.is_none() {
            return BTreeSet::new();
        }
        let stay: BTreeSet<&str> = names(&self.to.wish).collect();
        let going = names(&self.live.wish).filter(|node| !stay.contains(node));
        going.filter(|node| self.observed.nodes.contains_key(*node)).collect()
    }

    /// Whether a node that goes cannot be emptied by us.
    ///
    /// # Errors
    /// It is in somebody's hands and has jobs.
    pub(super) fn can_go(&self) -> Result<(), String> {
        let token = self.going_token();
        for node in self.going() {
            let Some(seen) = self.observed.nodes.get(node) else { continue };
            let reason = seen.reason.as_ref().map(|reason| reason.text.as_str());
            let ours = reason.is_some_and(|reason| token.owns(reason));
            if seen.is_drained() && !ours && seen.is_busy() {
                return Err(format!(
                    "{node} is to go, somebody took it out ({}), and jobs run on it: end them, or \
                     give it back",
                    reason.unwrap_or("no reason is given")
                ));
            }
        }
        Ok(())
    }

    /// Our reason on nodes that go.
    fn going_token(&self) -> Token {
        Token::new(&self.to.wish.name, "going", &self.digest.short())
    }

    /// Empties nodes that go. Those that somebody else took out are empty already.
    pub(super) fn leave(&self, verdict: &mut Verdict) {
        let token = self.going_token();
        let timeout_s = self.to.drain_timeout_s;
        let mut ours = Vec::new();
        for node in self.going() {
            let Some(seen) = self.observed.nodes.get(node) else { continue };
            let reason = seen.reason.as_ref().map(|reason| reason.text.as_str());
            let in_our_hands = reason.is_some_and(|reason| token.owns(reason));
            if !seen.is_drained() {
                let step = NodeStep::Drain { pool: Arc::default(), at_most: None };
                self.node(verdict, node, step, &token, self.case.reason);
            }
            if in_our_hands || !seen.is_drained() {
                ours.push(node);
            }
        }
        for node in ours {
            self.node(verdict, node, NodeStep::Wait { timeout_s }, &token, self.case.reason);
        }
    }

    /// Makes machines nodes that are none: new ones, and those whose daemon asks another controller.
    pub(super) fn join(&self, verdict: &mut Verdict, waves: &[Wave]) {
        let Some(built) = &self.to.built else { return };
        let new = self.new_nodes();
        let lacks = |node: &str| {
            let seen = self.seen.machines.get(node);
            seen.map_or(new.contains(node), |seen| !seen.joined)
        };
        let mut joined = Vec::new();
        for pool in &self.to.wish.pools {
            let token = Token::new(&self.to.wish.name, &pool.name, &self.digest.short());
            for node in pool.names().filter(|node| lacks(node) && !self.is_unwell(node)) {
                // One that changes is joined on its way.
                let Some(step) = join(built, node).filter(|_| !waves.iter().any(|it| it.has(node)))
                else {
                    continue;
                };
                self.node(verdict, node, step, &token, self.case.reason);
                joined.push((node, token.clone()));
            }
        }
        for (node, token) in joined {
            self.node(verdict, node, NodeStep::Check, &token, self.case.reason);
        }
    }

    /// Starts the daemons of empty nodes anew. A machine that trueup made may have been made anew for it,
    /// and is set up from the beginning.
    pub(super) fn start_anew(
        &self,
        verdict: &mut Verdict,
        nodes: &BTreeSet<String>,
        token: &Token,
    ) {
        let Some(built) = &self.to.built else {
            for node in nodes {
                self.node(verdict, node, NodeStep::Restart, token, self.case.reason);
            }
            return;
        };
        let anew: BTreeSet<String> = stopped(self.case, self.to).collect();
        let machines: BTreeMap<String, Name> = nodes
            .intersection(&anew)
            .filter_map(|node| built.machines.get_key_value(node))
            .map(|(node, domain)| (node.clone(), domain.clone()))
            .collect();
        if !machines.is_empty() {
            let place = self.to.place.clone();
            // One that was made anew has no rules either, and is no node before it has them.
            let rules = beside::firewall(self.to, machines.clone(), &self.live.wish);
            let rules = built.firewall.as_ref().and(rules);
            let reason = self.because_of(machines.keys());
            let set = Action::ClusterPrepare { place, machines, key: built.key, shared: None };
            for action in [Some(set), rules].into_iter().flatten() {
                verdict.step(Draft::quiet(action, reason, Vec::new()));
            }
        }
        for node in nodes {
            if let Some(step) = join(built, node) {
                self.node(verdict, node, step, token, self.because(node));
            }
        }
    }
}

/// The nodes of a wish.
fn names(wish: &wish::Cluster) -> impl Iterator<Item = &str> {
    wish.pools.iter().flat_map(wish::Pool::names)
}

/// What a machine is to the cluster of block `at`: the places of the steps between which it may be stopped.
fn between(all: &All<'_>, at: usize, machine: &ResourceId) -> Option<(usize, usize)> {
    let drafts = &all.blocks[at].drafts;
    if let Some(found) = kubernetes::built::between(drafts, machine) {
        return Some(found);
    }
    let of = |wanted: &dyn Fn(&NodeStep) -> bool| {
        drafts.iter().position(|draft| match &draft.action {
            Action::ClusterNode { step, .. } => wanted(step),
            _ => false,
        })
    };
    let joined =
        of(&|step| matches!(step, NodeStep::Join { guest, .. } if *guest == machine.name))?;
    let Action::ClusterNode { node, .. } = &drafts[joined].action else { return None };
    let emptied = drafts.iter().position(|draft| {
        matches!(&draft.action, Action::ClusterNode { node: of, step: NodeStep::Wait { .. }, .. } if of == node)
    })?;
    // Before it is a node again it is prepared.
    let prepared = drafts[emptied..joined].iter().position(|draft| {
        matches!(&draft.action, Action::ClusterPrepare { machines, .. } if machines.contains_key(node))
    });
    Some((emptied, prepared.map_or(joined, |place| emptied + place)))
}

/// Orders the steps of a machine that is stopped, block `other`, within those of its cluster, block `at`:
/// after its node is empty and before it is a node again. Whether it is so.
pub(in super::super::super) fn weave(all: &mut All<'_>, at: usize, other: usize) -> bool {
    if all.blocks[at].id.kind != Kind::Cluster {
        return false;
    }
    let machine = all.blocks[other].id.clone();
    if !all.facts.stops(&machine) {
        return false;
    }
    let Some((emptied, again)) = between(all, at, &machine) else { return false };
    all.order((at, emptied), (other, 0), Bond::Hard);
    all.order(all.last(other), (at, again), Bond::Hard);
    let cluster = all.blocks[at].id.clone();
    all.need(at, other, SkipReason::Blocked(machine));
    all.need(other, at, SkipReason::Blocked(cluster));
    true
}

/// What keeps machines of clusters from being stopped or removed: jobs run on them. Gone over once, after
/// all blocks are linked.
pub(in super::super::super) fn keeps(all: &mut All<'_>) {
    kubernetes::upgrade::keeps(all);
    for block in 0..all.blocks.len() {
        let machine = all.blocks[block].id.clone();
        if machine.kind != Kind::VirtualMachine || all.blocks[block].skip.is_some() {
            continue;
        }
        let builds = all.blocks[block].build;
        if !builds && let Some(at) = closed_by(all, &machine) {
            let last = all.last(at);
            all.order(last, (block, 0), Bond::Hard);
        }
        if let Some(cluster) = left_by(all, &machine).filter(|_| !builds) {
            let why =
                format!("{cluster} is built of it still: remove that, or name it there as before");
            all.refuse(block, SkipReason::Conflict(why));
            continue;
        }
        if builds && !all.facts.stops(&machine) {
            continue;
        }
        if let Some(why) = kubernetes::upgrade::read_first(all, &machine) {
            all.refuse(block, why);
            continue;
        }
        let Some((cluster, node)) = node_of(all, &machine) else {
            // Slurm knows of no job on it, and does without it first.
            if let Some(at) = had_by(all, &machine).filter(|_| !builds) {
                let cluster = all.blocks[at].id.clone();
                let last = all.last(at);
                all.need(block, at, SkipReason::Blocked(cluster));
                all.order(last, (block, 0), Bond::Hard);
            }
            continue;
        };
        let with = all.by_id.get(&cluster).copied().filter(|&at| all.blocks[at].build);
        match with {
            // The plan of the cluster says when it is empty, and needs it.
            Some(at) if builds && between(all, at, &machine).is_some() => {}
            // What is removed goes once the cluster does without it.
            Some(at) if !builds && goes(all, at, &node) => {
                let last = all.last(at);
                all.need(block, at, SkipReason::Blocked(cluster));
                all.order(last, (block, 0), Bond::Hard);
            }
            _ => {
                let why = format!("{node} of {cluster} has to be out of use and empty first");
                all.refuse(block, SkipReason::BusyWaits(why));
            }
        }
    }
}

/// The block of a cluster that goes, and of what only this machine, its control plane, can take back.
fn closed_by(all: &All<'_>, machine: &ResourceId) -> Option<usize> {
    all.blocks.iter().position(|block| {
        if block.id.kind != Kind::Cluster || block.build || block.drafts.is_empty() {
            return false;
        }
        let claimed = match all.facts.claimed(&block.id) {
            Some(Resource::Cluster(claimed)) => claimed.kubernetes(),
            _ => None,
        };
        let control = claimed.and_then(|claimed| claimed.built.as_ref()?.control());
        block.skip.is_none() && control.is_some_and(|it| it.guest == machine.name)
    })
}

/// The cluster that is asked for otherwise than it was built ([`moved`]), and that a machine is a part of: its
/// controller, or where nothing of it is to be built any more, any.
fn left_by(all: &All<'_>, machine: &ResourceId) -> Option<ResourceId> {
    let wished = clusters(all).find(|(id, now)| {
        let Some(Resource::Cluster(claimed)) = all.facts.claimed(id) else { return false };
        let claimed = match &**claimed {
            Cluster::Slurm(claimed) => claimed,
            Cluster::Kubernetes(claimed) => {
                return kubernetes::built::leaves(claimed, now, machine);
            }
        };
        let part = |built: &SlurmBuilt| built.machines.values().any(|it| *it == machine.name);
        match now.slurm().and_then(|now| now.built.as_ref()) {
            Some(_) => claimed.place.guest.as_ref() == Some(&machine.name),
            None => claimed.built.as_ref().is_some_and(part),
        }
    });
    wished.map(|(id, _)| id.clone())
}

/// The block of the cluster that had a machine, and changes to do without it.
fn had_by(all: &All<'_>, machine: &ResourceId) -> Option<usize> {
    let part = |built: &SlurmBuilt| built.machines.values().any(|it| *it == machine.name);
    let wished = clusters(all).find(|(id, now)| {
        let Some(Resource::Cluster(claimed)) = all.facts.claimed(id) else { return false };
        let claimed = claimed.slurm().and_then(|claimed| claimed.built.as_ref());
        let now = now.slurm().and_then(|now| now.built.as_ref());
        claimed.is_some_and(part) && now.is_some_and(|now| !part(now))
    });
    let at = all.by_id.get(wished?.0).copied()?;
    (all.blocks[at].build && !all.blocks[at].drafts.is_empty()).then_some(at)
}

/// Clusters that are asked for: among the last of all.
fn clusters<'a>(all: &'a All<'_>) -> impl Iterator<Item = (&'a ResourceId, &'a Cluster)> {
    let last = all.input.desired.resources.iter().rev();
    last.take_while(|(id, _)| id.kind >= Kind::Cluster).filter_map(|(id, wish)| {
        let Resource::Cluster(cluster) = &wish.resource else { return None };
        Some((id, &**cluster))
    })
}

/// Whether block `at` leaves the cluster without that node.
fn goes(all: &All<'_>, at: usize, node: &str) -> bool {
    let Some(wish) = all.input.desired.resources.get(&all.blocks[at].id) else { return false };
    let Resource::Cluster(cluster) = &wish.resource else { return false };
    let slurm = match &**cluster {
        Cluster::Slurm(slurm) => slurm,
        Cluster::Kubernetes(now) => {
            return kubernetes::built::goes(now, &all.blocks[at].drafts, node);
        }
    };
    let configures = |draft: &Draft| matches!(draft.action, Action::ClusterConfigure { .. });
    !names(&slurm.wish).any(|name| name == node) && all.blocks[at].drafts.iter().any(configures)
}

/// The cluster that has a machine as a node now, and the node: where jobs may run on it.
fn node_of(all: &All<'_>, machine: &ResourceId) -> Option<(ResourceId, String)> {
    // A cluster that nobody asks for any more keeps nothing.
    for (id, now) in clusters(all) {
        let claimed = all.facts.claimed(id).and_then(|claimed| match claimed {
            Resource::Cluster(cluster) => Some(&**cluster),
            _ => None,
        });
        if let Some(node) = kubernetes::built::labelled(all, id, machine) {
            return Some((id.clone(), node));
        }
        for cluster in [claimed, Some(now)].into_iter().flatten() {
            let node = cluster.kubernetes().and_then(|it| kubernetes::built::node_of(it, machine));
            if let Some(node) = node.filter(|node| is_node(all, id, node)) {
                return Some((id.clone(), node.to_owned()));
            }
        }
        let claimed = claimed.and_then(Cluster::slurm);
        for slurm in [claimed, now.slurm()].into_iter().flatten() {
            let Some(built) = &slurm.built else { continue };
            let found = built.machines.iter().find(|(_, domain)| **domain == machine.name);
            let Some((node, _)) = found else { continue };
            // What becomes of a controller is no matter of jobs on it.
            if names(&slurm.wish).any(|name| name == node) && is_node(all, id, node) {
                return Some((id.clone(), node.clone()));
            }
        }
    }
    None
}

fn is_node(all: &All<'_>, cluster: &ResourceId, node: &str) -> bool {
    if all.input.observed.why_unobservable(cluster).is_some() {
        return true;
    }
    let Some(seen) = all.input.observed.resources.get(cluster) else { return false };
    let Resource::Cluster(of) = &seen.config else { return false };
    if of.kubernetes().is_some() {
        return kubernetes::built::is_in(all, cluster, node);
    }
    let observed = of.seen().and_then(|seen| seen.observed.as_deref());
    observed.is_some_and(|observed| observed.nodes.contains_key(node))
}
