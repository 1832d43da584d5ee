//! Kubernetes clusters whose machines trueup makes: from machines that are there to a cluster, nodes that come
//! and go, machines that are started anew only while they are empty, and certificates that are renewed.
//!
//! The machines are resources of their own with blocks of their own. Here is only what has to be done before
//! and after them; `cluster::built` orders it.

use std::collections::{BTreeMap, BTreeSet};

use trueup_kubernetes::cert::Certificate;
use trueup_kubernetes::kubeadm::MACHINE;
use trueup_kubernetes::node::{self, ClusterView, CordonMark, Out};
use trueup_kubernetes::release::Seen;

use super::super::super::super::work::Work as All;
use super::super::super::{Case, Draft, Verdict};
use super::super::common;
use super::Work;
use crate::model::resource::{
    Cluster, KubernetesBuilt, KubernetesCluster, KubernetesData, KubernetesLost,
    KubernetesMachineSeen, KubernetesNodeStep, KubernetesSeen,
};
use crate::model::{Kind, Name, Resource, ResourceId};
use crate::plan::{Action, Disruption, FieldChange, Reason, SkipReason};

/// The mark on nodes that go is of this pool, which no document can name.
const GOING: &str = "-going";
/// What the mark of the control plane's node is of.
pub(super) const CONTROL: &str = "-control-plane";

/// Why a cluster that was built is not made anew where it is wished now. Its control plane's machine has
/// everything that the cluster knows.
pub(in super::super) fn moved(
    case: &Case<'_, '_>,
    to: Option<&KubernetesCluster>,
) -> Option<String> {
    let Some(Resource::Cluster(claimed)) = case.facts.claimed(case.id) else { return None };
    let before = claimed.kubernetes()?.built.as_ref()?;
    let now = to.and_then(|to| to.built.as_ref());
    let guest = |built: &KubernetesBuilt| built.control().map(|it| it.guest.clone());
    if now.and_then(guest) != guest(before) {
        return Some(format!(
            "its control plane is {}, which has everything that the cluster knows, and cannot be another \
             one: name it as before, or remove the cluster first",
            guest(before).map(|it| vm(&it).to_string()).unwrap_or_default()
        ));
    }
    let now = now?;
    let address = |built: &KubernetesBuilt| built.control().map(|it| it.address);
    let fixed = [
        ("the address of its control plane", address(before) != address(now)),
        ("`podCidr`", before.pods != now.pods),
        ("`serviceCidr`", before.services != now.services),
    ];
    let (what, _) = fixed.into_iter().find(|(_, differs)| *differs)?;
    Some(format!(
        "{what} is what the cluster was made with, and cannot be another one: say it as before, or remove \
         the cluster first"
    ))
}

/// A cluster that is not there yet: its control plane, its nodes, and what is in it from the beginning.
pub(super) fn create(
    case: &Case<'_, '_>,
    to: &KubernetesCluster,
    built: &KubernetesBuilt,
    verdict: &mut Verdict,
) {
    let nothing = nothing(built);
    let work = Work { case, to, seen: &nothing };
    let quiet = |action| Draft::quiet(action, case.reason, Vec::new());
    let (machines, data) = (built.guests(), built.data_on());
    verdict.step(quiet(Action::KubernetesPrepare { machines, data }));
    let cluster = Box::new(built.clone());
    verdict.step(quiet(Action::KubernetesInit { cluster, again: false }));
    work.pools(verdict);
    work.namespaces(verdict);
}

/// What is seen of a cluster that does not answer.
fn nothing(built: &KubernetesBuilt) -> KubernetesSeen {
    KubernetesSeen {
        release: format!("v{}.0", built.version),
        view: ClusterView::default(),
        nodes: BTreeMap::new(),
        namespaces: Seen::default(),
        certificates: Vec::new(),
        renewable: BTreeSet::new(),
        machines: BTreeMap::new(),
        unwell: BTreeMap::new(),
        access: Vec::new(),
        now: 0,
    }
}

/// A cluster of which something was lost: what brings that back. All else waits until it answers.
pub(super) fn found_lost(
    case: &Case<'_, '_>,
    to: &KubernetesCluster,
    lost: KubernetesLost,
    verdict: &mut Verdict,
) {
    let Some(built) = &to.built else { return };
    let quiet = |action| Draft::quiet(action, case.reason, Vec::new());
    match lost {
        KubernetesLost::ControlPlane => {
            let nothing = nothing(built);
            Work { case, to, seen: &nothing }.restore(verdict, built, None);
        }
        KubernetesLost::Credentials => {
            let cluster = Box::new(built.clone());
            verdict.step(quiet(Action::KubernetesInit { cluster, again: true }));
        }
        // Whose data are on its disk is seen once that is mounted.
        KubernetesLost::Unknown => {
            verdict.drafts.extend(set_up_control(built).map(quiet));
        }
    }
}

/// Sets the machine of the control plane up, with the disk of what the cluster knows.
pub(super) fn set_up_control(built: &KubernetesBuilt) -> Option<Action> {
    let guest = built.control()?.guest.clone();
    let machines = BTreeMap::from([(built.control_plane.clone(), guest)]);
    Some(Action::KubernetesPrepare { machines, data: built.data_on() })
}

/// What of a cluster's nodes has to become of its machines.
#[derive(Default)]
pub(super) struct Joins<'a> {
    /// Nodes that are to join, in the order of the pools: each with its pool's place.
    pub(super) nodes: Vec<(usize, &'a str)>,
}

impl Work<'_, '_> {
    fn built(&self) -> Option<&KubernetesBuilt> {
        self.to.built.as_ref()
    }

    fn machine(&self, node: &str) -> Option<&KubernetesMachineSeen> {
        self.seen.machines.get(node)
    }

    /// Whether the machine of a node answers and cannot be looked at.
    pub(super) fn is_unwell(&self, node: &str) -> bool {
        self.seen.unwell.contains_key(node)
    }

    /// Whether this plan stops the machine of a node.
    pub(super) fn stops(&self, node: &str) -> bool {
        let machine = self.built().and_then(|built| built.machines.get(node));
        machine.is_some_and(|it| self.case.facts.stops(&vm(&it.guest)))
    }

    /// Why a node is taken out and given back. Where its machine alone is to change, the cluster is as it was made:
    /// to tell of a drift would be to say that somebody changed it.
    pub(super) fn because(&self, node: &str) -> Reason {
        match self.case.reason {
            Reason::Drifted if self.stops(node) => Reason::Needed,
            reason => reason,
        }
    }

    /// The same of several at once.
    fn because_of<'n>(&self, nodes: impl Iterator<Item = &'n str>) -> Reason {
        common(nodes.map(|node| self.because(node)), self.case.reason)
    }

    /// Whether a machine is no node, although the cluster has one of its name: it was made anew.
    pub(super) fn lost(&self, node: &str) -> bool {
        self.built().is_some() && self.machine(node).is_some_and(|seen| !seen.joined)
    }

    /// Whether a machine that is out of use may not be a node any more: it was stopped, or made anew.
    pub(super) fn may_be_lost(&self, node: &str) -> bool {
        self.built().is_some() && self.machine(node).is_none_or(|seen| !seen.joined)
    }

    /// Sets up machines that are otherwise than they should be, and that nothing else sets up.
    pub(super) fn prepare(&self, verdict: &mut Verdict) {
        let Some(built) = self.built() else { return };
        let unset = |seen: &KubernetesMachineSeen| seen.data == KubernetesData::Unset;
        let lacks =
            |node: &String| self.machine(node).is_some_and(|seen| !seen.prepared || unset(seen));
        let machines = built.guests().into_iter().filter(|(node, _)| lacks(node));
        let machines: BTreeMap<String, Name> =
            machines.filter(|(node, _)| !self.stops(node)).collect();
        if machines.is_empty() {
            return;
        }
        let changes = machines.keys().map(|node| plain(&format!("machines/{node}"), "set up"));
        let data = built.data_on().filter(|node| machines.contains_key(node));
        let action = Action::KubernetesPrepare { machines: machines.clone(), data };
        let draft = Draft::quiet(action, self.case.reason, changes.collect());
        verdict.step(draft.disturbing(Disruption::Live, BTreeSet::new()));
    }

    /// Makes empty machines nodes: some that were set up before, and some of which nobody knows that.
    pub(super) fn rejoin(&self, verdict: &mut Verdict, nodes: &[&str], mark: &CordonMark) {
        let Some(built) = self.built() else { return };
        if nodes.is_empty() {
            return;
        }
        let machines = nodes.iter().filter_map(|node| built.machines.get_key_value(*node));
        let machines = machines.map(|(node, it)| (node.clone(), it.guest.clone())).collect();
        let action = Action::KubernetesPrepare { machines, data: None };
        verdict.step(Draft::quiet(action, self.because_of(nodes.iter().copied()), Vec::new()));
        for node in nodes {
            self.join(verdict, built, node, mark);
        }
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        self.connect_some(verdict, built, nodes);
    }

    fn join(&self, verdict: &mut Verdict, built: &KubernetesBuilt, node: &str, mark: &CordonMark) {
        let Some(machine) = built.machines.get(node).cloned() else { return };
        let pool = self.to.pools.iter().find(|pool| pool.nodes.iter().any(|it| it == node));
        let version = pool.and_then(|pool| pool.version.clone());
        let step = KubernetesNodeStep::Join { machine, version };
        self.node(verdict, node, step, mark, self.because(node));
    }

    /// Makes new machines nodes, connects all pods, and waits until what is new is well.
    pub(super) fn joins(&self, verdict: &mut Verdict, joins: &Joins<'_>) {
        let Some(built) = self.built() else { return };
        let is_new = self.seen.nodes.is_empty();
        let pool = |index: usize| &self.to.pools[index];
        let mark = |index: usize| CordonMark::of_pool(self.name(), &pool(index).name);
        let unset: Vec<&str> = joins.nodes.iter().map(|(_, node)| *node).collect();
        // All that answer were set up before.
        let machines: BTreeMap<String, Name> = built
            .guests()
            .into_iter()
            .filter(|(node, _)| unset.contains(&node.as_str()) && !is_new)
            .filter(|(node, _)| self.machine(node).is_none())
            .collect();
        if !machines.is_empty() {
            let action = Action::KubernetesPrepare { machines, data: None };
            verdict.step(Draft::quiet(action, self.case.reason, Vec::new()));
        }
        for (index, node) in &joins.nodes {
            self.join(verdict, built, node, &mark(*index));
        }
        let unconnected = |node: &&String| {
            let seen = self.machine(node);
            is_new || !joins.nodes.is_empty() || seen.is_some_and(|seen| !seen.connected)
        };
        let nodes: BTreeSet<String> = built.machines.keys().filter(unconnected).cloned().collect();
        self.connect_some(verdict, built, nodes);
        for (index, node) in &joins.nodes {
            let wish = &pool(*index).wish;
            if !(wish.labels.is_empty() && wish.taints.is_empty()) {
                let step = KubernetesNodeStep::Set { wish: wish.clone(), empty: false };
                self.node(verdict, node, step, &mark(*index), self.case.reason);
            }
        }
        // Without a network of pods no node is well, and whoever brings one comes later.
        if !built.bridge {
            return;
        }
        let check = || KubernetesNodeStep::Check { offers: BTreeMap::new() };
        if is_new {
            let mark = CordonMark::of_pool(self.name(), CONTROL);
            self.node(verdict, &built.control_plane, check(), &mark, self.case.reason);
        }
        for (index, node) in &joins.nodes {
            self.node(verdict, node, check(), &mark(*index), self.case.reason);
        }
    }

    pub(super) fn connect_some(
        &self,
        verdict: &mut Verdict,
        built: &KubernetesBuilt,
        mut nodes: BTreeSet<String>,
    ) {
        // Once it is well it is seen that it lacks this.
        nodes.retain(|node| !self.is_unwell(node));
        if !built.bridge || nodes.is_empty() {
            return;
        }
        let reason = self.because_of(nodes.iter().map(String::as_str));
        let action = Action::KubernetesConnect { cluster: Box::new(built.clone()), nodes };
        verdict.step(Draft::quiet(action, reason, Vec::new()));
    }

    /// Nodes that were machines of ours, and that the document does not have any more.
    fn going(&self) -> Vec<&str> {
        let Some(built) = self.built() else { return Vec::new() };
        let own = |node: &serde_json::Value, name: &str| {
            let label = node.pointer("/metadata/labels").and_then(|all| all.get(MACHINE));
            let machine = format!("{}-{name}", self.name());
            label.and_then(serde_json::Value::as_str) == Some(machine.as_str())
        };
        let nodes = self.seen.nodes.iter();
        let nodes = nodes.filter(|(name, _)| !built.machines.contains_key(*name));
        nodes.filter(|(name, node)| own(node, name)).map(|(name, _)| name.as_str()).collect()
    }

    /// Empties nodes that go, and takes them out of the cluster; their machines go after that.
    pub(super) fn leave(&self, verdict: &mut Verdict) {
        let mark = CordonMark::of_pool(self.name(), GOING);
        let (timeout_s, evicts) = (self.to.drain_timeout_s, self.to.evicts);
        self.stay(verdict, &mark);
        let mut goes = false;
        for name in self.going() {
            let Some(live) = self.seen.nodes.get(name) else { continue };
            match node::out(live) {
                Some(Out::Ours(have)) if have.token == mark.token => {}
                Some(_) => {
                    let why =
                        format!("{name} is to go, and somebody took it out: give it back first");
                    verdict.skip(SkipReason::BusyWaits(why), Vec::new());
                    continue;
                }
                None => {
                    let step = KubernetesNodeStep::Cordon { pool: Vec::new(), at_most: None };
                    self.node(verdict, name, step, &mark, self.case.reason);
                }
            }
            let step = KubernetesNodeStep::Drain { timeout_s, evicts };
            self.node(verdict, name, step, &mark, self.case.reason);
            self.node(verdict, name, KubernetesNodeStep::Remove, &mark, self.case.reason);
            goes = true;
        }
        if let Some(built) = self.built().filter(|_| goes) {
            // Nobody needs a way to its pods any more.
            self.connect_some(verdict, built, built.machines.keys().cloned().collect());
        }
    }

    /// Gives back what was to go and stays after all.
    fn stay(&self, verdict: &mut Verdict, mark: &CordonMark) {
        let nodes = self.to.pools.iter().flat_map(|pool| &pool.nodes);
        for name in nodes.filter(|node| !self.is_unwell(node)) {
            let out = self.seen.nodes.get(name).and_then(|live| node::out(live));
            if matches!(out, Some(Out::Ours(have)) if have.token == mark.token) {
                let check = KubernetesNodeStep::Check { offers: BTreeMap::new() };
                self.node(verdict, name, check, mark, self.case.reason);
                self.node(verdict, name, KubernetesNodeStep::Uncordon, mark, self.case.reason);
            }
        }
    }

    /// Renews certificates that end soon, and that are kubeadm's to renew. The authority's is not among them: it is
    /// told, and renewed by nobody.
    pub(super) fn renew(&self, verdict: &mut Verdict) {
        let Some(built) = self.built() else { return };
        let (Some(before), Some(control)) = (built.renew_before_s, built.control()) else { return };
        if self.is_unwell(&built.control_plane) {
            return;
        }
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let ours = |it: &&Certificate| self.seen.renewable.contains(&it.what) && !it.is_authority();
        let soon = self.seen.certificates.iter().filter(ours);
        let soon = soon.filter(|it| {
            it.until.as_second().saturating_sub(self.seen.now) <= renewed_before(it, before)
        });
        let changes: Vec<FieldChange> = soon
            .map(|it| FieldChange {
                path: format!("/certificates/{}", it.what.replace('~', "~0").replace('/', "~1")),
                from: Some(format!("until {}", it.until).into()),
                to: Some("renewed".into()),
                disruption: Disruption::Live,
            })
            .collect();
        if changes.is_empty() {
            return;
        }
        let action = Action::KubernetesRenew { guest: control.guest.clone() };
        let draft = Draft::quiet(action, self.case.reason, changes);
        verdict.step(draft.disturbing(Disruption::Live, BTreeSet::new()));
    }
}

/// How long before its end a certificate is renewed, seconds. One that was made for no longer than `before` would be
/// renewed with every plan: it has half of its time.
fn renewed_before(certificate: &Certificate, before: i64) -> i64 {
    let whole = certificate.until.as_second().saturating_sub(certificate.from.as_second());
    if whole > before { before } else { whole / 2 }
}

fn plain(path: &str, to: &str) -> FieldChange {
    let path = format!("/{path}");
    FieldChange { path, from: None, to: Some(to.into()), disruption: Disruption::Live }
}

fn vm(name: &Name) -> ResourceId {
    ResourceId::new(Kind::VirtualMachine, name.clone())
}

/// What a machine is to the cluster of block `at`: the places of the steps between which it may be stopped.
pub(in super::super) fn between(drafts: &[Draft], machine: &ResourceId) -> Option<(usize, usize)> {
    let joined = drafts.iter().position(|draft| {
        matches!(&draft.action, Action::KubernetesNode { step: KubernetesNodeStep::Join { machine: it, .. }, .. } if it.guest == machine.name)
    })?;
    let Action::KubernetesNode { node, .. } = &drafts[joined].action else { return None };
    let emptied = drafts.iter().position(|draft| {
        matches!(&draft.action, Action::KubernetesNode { node: of, step: KubernetesNodeStep::Drain { .. }, .. } if of == node)
    })?;
    // Before it is a node again it is set up.
    let prepared = drafts.get(emptied..joined)?.iter().position(|draft| {
        matches!(&draft.action, Action::KubernetesPrepare { machines, .. } if machines.contains_key(node))
    });
    Some((emptied, prepared.map_or(joined, |place| emptied + place)))
}

/// Whether a cluster that was built is asked for without this machine: its control plane's, or where nothing
/// of it is to be built any more, any.
pub(in super::super) fn leaves(
    claimed: &KubernetesCluster,
    now: &Cluster,
    machine: &ResourceId,
) -> bool {
    let Some(before) = &claimed.built else { return false };
    match now.kubernetes().and_then(|now| now.built.as_ref()) {
        Some(_) => before.control().is_some_and(|it| it.guest == machine.name),
        None => before.machines.values().any(|it| it.guest == machine.name),
    }
}

/// The node that a machine is in a cluster; none: the control plane's, on which nobody's pods are.
pub(in super::super) fn node_of<'a>(
    cluster: &'a KubernetesCluster,
    machine: &ResourceId,
) -> Option<&'a str> {
    let built = cluster.built.as_ref()?;
    let found = built.machines.iter().find(|(_, it)| it.guest == machine.name);
    found.map(|(node, _)| node.as_str()).filter(|node| *node != built.control_plane)
}

/// Whether the drafts take that node out of a cluster that does without it.
pub(in super::super) fn goes(now: &KubernetesCluster, drafts: &[Draft], node: &str) -> bool {
    let stays = now.built.as_ref().is_some_and(|built| built.machines.contains_key(node));
    let removes = |draft: &Draft| matches!(&draft.action, Action::KubernetesNode { node: of, step: KubernetesNodeStep::Remove, .. } if of == node);
    !stays && drafts.iter().any(removes)
}

/// The node of a cluster that says that it is this machine, whatever the document has by now.
pub(in super::super) fn labelled(
    all: &All<'_>,
    cluster: &ResourceId,
    machine: &ResourceId,
) -> Option<String> {
    let Resource::Cluster(of) = &all.input.observed.resources.get(cluster)?.config else {
        return None;
    };
    let of = of.kubernetes()?;
    let control = of.built.as_ref()?.control_plane.as_str();
    let mut nodes = of.seen.as_deref()?.nodes.iter();
    let is = |node: &serde_json::Value| {
        let label = node.pointer("/metadata/labels").and_then(|all| all.get(MACHINE));
        label.and_then(serde_json::Value::as_str) == Some(machine.name.as_str())
    };
    nodes.find(|(name, node)| name.as_str() != control && is(node)).map(|(name, _)| name.clone())
}

/// Whether a node is in a cluster as it was seen.
pub(in super::super) fn is_in(all: &All<'_>, cluster: &ResourceId, node: &str) -> bool {
    let Some(seen) = all.input.observed.resources.get(cluster) else { return false };
    let Resource::Cluster(cluster) = &seen.config else { return false };
    // Nobody says so meanwhile, and pods run on.
    let nobody_knows = cluster.kubernetes().is_some_and(|cluster| cluster.lost.is_some());
    nobody_knows || cluster.kubernetes_seen().is_some_and(|seen| seen.nodes.contains_key(node))
}
