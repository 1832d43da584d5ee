//! A control plane that is made anew under its cluster: with another image, of the same release or the next one,
//! or because its first disk was lost. What the cluster knows is on a disk beside that one, which no step here or
//! elsewhere removes; where it is not there, nothing is made anew.
//!
//! The machine and its disk are resources of their own. Here is what is done to the cluster after them
//! ([`Work::restores`]), and what keeps them from being made anew where that cannot be done ([`keeps`]).

use std::collections::{BTreeMap, BTreeSet};

use trueup_kubernetes::node::CordonMark;
use trueup_kubernetes::node::skew::{self, Version};

use super::super::super::super::work::{Bond, Work as All};
use super::super::super::{Draft, Verdict};
use super::Work;
use super::built::{CONTROL, set_up_control};
use crate::model::resource::{
    Cluster, KubernetesBuilt, KubernetesCluster, KubernetesData, KubernetesLost, KubernetesMachine,
    KubernetesNodeStep, KubernetesSeen,
};
use crate::model::{Kind, Resource, ResourceId};
use crate::plan::{Action, Disruption, FieldChange, SkipReason};

/// The disk that a control plane's machine is started from. It is called after the machine (`spec::machines`).
pub(in super::super) fn root_disk(built: &KubernetesBuilt) -> Option<ResourceId> {
    built.control().map(first_disk)
}

fn first_disk(machine: &KubernetesMachine) -> ResourceId {
    ResourceId::new(Kind::Disk, machine.guest.clone())
}

/// Whether these steps bring the API server to another release, before any node changes.
pub(super) fn upgrades(drafts: &[Draft]) -> bool {
    let is = |it: &Draft| matches!(it.action, Action::KubernetesRestore { from: Some(_), .. });
    drafts.iter().any(is)
}

/// Why the machine of a node is not made anew: it would come back with a kubelet that is newer than the API server,
/// and such a one never joins. What its image is of is the `version` of its pool or of the document, which is all
/// that is known of it. `upgraded`: the same plan brings the control plane to its release first.
fn ahead(
    wished: &KubernetesCluster,
    seen: &KubernetesSeen,
    upgraded: bool,
    node: &str,
) -> Option<SkipReason> {
    let built = wished.built.as_ref()?;
    let pool = wished.pools.iter().find(|pool| pool.nodes.iter().any(|it| it == node))?;
    // What is no node, or none any more, loses nothing.
    let is_node = seen.machines.get(node).is_none_or(|machine| machine.joined);
    if !is_node || !seen.nodes.contains_key(node) {
        return None;
    }
    let read = |text: &str| text.parse::<Version>().ok();
    let kubelet = read(pool.version.as_ref().unwrap_or(&built.version))?;
    let server = read(if upgraded { &built.version } else { &seen.release })?;
    ((kubelet.major, kubelet.minor) > (server.major, server.minor)).then(|| {
        SkipReason::Conflict(format!(
            "{node} would come back with a kubelet of {}.{}, newer than the API server ({server}): upgrade the \
             control plane first, by an image for its `machine` with `onImageChange: replace`; or say the \
             `version` of pool {}, if its image is of an older one",
            kubelet.major, kubelet.minor, pool.name
        ))
    })
}

/// The release from which a control plane is upgraded when its machine is made anew; `None`: it stays of the same
/// minor.
///
/// # Errors
/// Why its machine cannot be made anew now.
fn upgrade(built: &KubernetesBuilt, seen: &KubernetesSeen) -> Result<Option<Version>, SkipReason> {
    let control = &built.control_plane;
    match seen.machines.get(control).map(|seen| seen.data) {
        Some(KubernetesData::Apart) => {}
        Some(KubernetesData::OnRoot) => {
            return Err(SkipReason::Conflict(format!(
                "what the cluster of {control} knows is on this disk: move it to the disk beside it first, as \
                 docs/cluster.md says"
            )));
        }
        Some(KubernetesData::Unset | KubernetesData::Elsewhere) => {
            let why = format!("the disk of what the cluster of {control} knows is not set up");
            return Err(SkipReason::BusyWaits(why));
        }
        None => {
            let why = format!("the machine of {control} does not say where its cluster's data are");
            return Err(SkipReason::BusyWaits(why));
        }
    }
    let read =
        |text: &str| text.parse::<Version>().map_err(|it| SkipReason::Conflict(it.to_string()));
    let (have, wanted) = (read(&seen.release)?, read(&built.version)?);
    skew::step(have, wanted).map_err(SkipReason::Conflict)?;
    if (have.major, have.minor) == (wanted.major, wanted.minor) {
        return Ok(None);
    }
    // Kubelets that its next release would leave behind are upgraded first.
    let others: Vec<_> =
        seen.view.kubelets().into_iter().filter(|(node, _)| node != control).collect();
    match skew::check(&[(control.clone(), wanted)], &others).into_iter().next() {
        Some(why) => Err(SkipReason::Conflict(why)),
        None => Ok(Some(have)),
    }
}

impl Work<'_, '_> {
    /// Whether the machine of a node is asked to be made anew, and must not be yet ([`ahead`]). Its disk says why
    /// ([`keeps`]), and is left as it is in the plan that is made without that.
    pub(super) fn is_ahead(&self, node: &str, upgraded: bool) -> bool {
        let machine = self.to.built.as_ref().and_then(|built| built.machines.get(node));
        machine.is_some_and(|it| self.case.facts.is_replaced(&first_disk(it)))
            && ahead(self.to, self.seen, upgraded, node).is_some()
    }

    /// Makes a machine that was made anew, or is by this plan, the control plane again. Whether nothing else may be
    /// done beside it: the cluster is not whole before that.
    pub(super) fn restores(&self, verdict: &mut Verdict) -> bool {
        let Some(built) = &self.to.built else { return false };
        let replaced = root_disk(built).is_some_and(|disk| self.case.facts.is_replaced(&disk));
        if !replaced {
            let seen = self.seen.machines.get(&built.control_plane);
            // Without such a disk there is nothing to make it again from, and it may be one all the same.
            let apart = |data| matches!(data, KubernetesData::Apart | KubernetesData::Unset);
            let lost = seen.is_some_and(|seen| !seen.joined && apart(seen.data));
            if lost {
                self.restore(verdict, built, None);
            }
            return lost;
        }
        // Where it cannot be, its disk says why (`keeps`).
        if let Ok(from) = upgrade(built, self.seen) {
            self.restore(verdict, built, from);
        }
        false
    }

    /// The steps, after its machine is up.
    pub(super) fn restore(
        &self,
        verdict: &mut Verdict,
        built: &KubernetesBuilt,
        from: Option<Version>,
    ) {
        let Some(prepare) = set_up_control(built) else { return };
        let node = &built.control_plane;
        let (reason, of) = (self.case.reason, CordonMark::of_pool(self.name(), CONTROL));
        verdict.step(Draft::quiet(prepare, reason, Vec::new()));
        let (was, will) = match from {
            Some(from) => (from.to_string(), built.version.clone()),
            None => ("a machine".to_owned(), "the control plane".to_owned()),
        };
        let change = FieldChange {
            path: format!("/nodes/{node}"),
            from: Some(was.into()),
            to: Some(will.into()),
            disruption: Disruption::Live,
        };
        let from = from.map(|from| from.to_string());
        let restore = Action::KubernetesRestore { cluster: Box::new(built.clone()), from };
        let draft = Draft::quiet(restore, reason, vec![change]);
        verdict.step(draft.disturbing(Disruption::Live, BTreeSet::new()));
        self.connect_some(verdict, built, BTreeSet::from([node.clone()]));
        // Without a network of pods no node is well, and whoever brings one comes later.
        if built.bridge {
            let check = KubernetesNodeStep::Check { offers: BTreeMap::new() };
            self.node(verdict, node, check, &of, reason);
        }
    }
}

/// Whether a step makes a machine the control plane of its cluster, for the first time or again.
fn makes(action: &Action) -> bool {
    matches!(action, Action::KubernetesInit { again: false, .. } | Action::KubernetesRestore { .. })
}

/// A cluster as it was seen.
fn observed<'a>(all: &All<'a>, cluster: &ResourceId) -> Option<&'a KubernetesCluster> {
    match &all.input.observed.resources.get(cluster)?.config {
        Resource::Cluster(seen) => seen.kubernetes(),
        _ => None,
    }
}

/// Why the machine of a cluster's control plane cannot be made anew, as far as it was seen.
fn refusal(all: &All<'_>, cluster: &ResourceId) -> Option<SkipReason> {
    let Resource::Cluster(wished) = &all.input.desired.resources.get(cluster)?.resource else {
        return None;
    };
    if let Some(why) = all.input.observed.why_unobservable(cluster) {
        return Some(SkipReason::BusyWaits(format!(
            "{cluster} cannot be seen ({why}), and all that it knows may be on this disk; if its machine does not come \
             up with this image, remove the disk by hand, as docs/cluster.md says under Upgrades"
        )));
    }
    let seen = observed(all, cluster)?;
    if is_unread(seen) {
        return Some(unread(cluster));
    }
    upgrade(wished.kubernetes()?.built.as_ref()?, seen.seen.as_deref()?).err()
}

/// Whether there are no credentials for a cluster that was there.
fn is_unread(seen: &KubernetesCluster) -> bool {
    matches!(seen.lost, Some(KubernetesLost::Credentials | KubernetesLost::Unknown))
}

fn unread(cluster: &ResourceId) -> SkipReason {
    SkipReason::BusyWaits(format!(
        "the credentials of {cluster} are lost on this host, and read anew first"
    ))
}

/// Why the machine of a control plane is not stopped now: it alone has the credentials of its cluster.
pub(in super::super) fn read_first(all: &All<'_>, machine: &ResourceId) -> Option<SkipReason> {
    let is_control = |cluster: &KubernetesCluster| {
        let control = cluster.built.as_ref().and_then(KubernetesBuilt::control);
        control.is_some_and(|it| it.guest == machine.name)
    };
    // Clusters are among the last of all.
    let last = all.input.observed.resources.keys().rev();
    let mut last = last.take_while(|id| id.kind >= Kind::Cluster);
    let is_it =
        |id: &ResourceId| observed(all, id).is_some_and(|seen| is_unread(seen) && is_control(seen));
    last.find(|id| is_it(id)).map(unread)
}

/// Keeps disks of control planes from being made anew where no step brings the cluster back on them. Gone over
/// once, after all blocks are linked.
pub(in super::super) fn keeps(all: &mut All<'_>) {
    keeps_nodes(all);
    let built = all.input.desired.resources.iter().filter_map(|(id, wish)| {
        let Resource::Cluster(cluster) = &wish.resource else { return None };
        Some((id.clone(), root_disk(cluster.kubernetes()?.built.as_ref()?)?))
    });
    let mut disks: BTreeMap<ResourceId, ResourceId> = built.map(|(id, disk)| (disk, id)).collect();
    // The control plane as it was made counts as well, whatever the document says now.
    for (id, known) in &all.input.known.resources {
        let Some(Resource::Cluster(cluster)) = &known.claimed else { continue };
        let Cluster::Kubernetes(cluster) = &**cluster else { continue };
        let disk = cluster.built.as_ref().and_then(root_disk);
        disks.extend(disk.map(|disk| (disk, id.clone())));
    }
    for (disk, cluster) in disks {
        // One that nobody asks for any more keeps nothing.
        if !all.input.desired.resources.contains_key(&cluster) || !all.facts.is_replaced(&disk) {
            continue;
        }
        let Some(block) = all.by_id.get(&disk).copied() else { continue };
        let with = all.by_id.get(&cluster).copied().filter(|&at| {
            all.blocks[at].build && all.blocks[at].drafts.iter().any(|draft| makes(&draft.action))
        });
        match with {
            Some(at) => {
                all.need(block, at, SkipReason::Blocked(cluster));
                all.need(at, block, SkipReason::Blocked(disk));
                all.order(all.last(block), (at, 0), Bond::Hard);
            }
            None => {
                let why = refusal(all, &cluster).unwrap_or(SkipReason::Blocked(cluster));
                all.refuse(block, why);
            }
        }
    }
}

/// Keeps first disks of nodes from being made anew of a release that their cluster does not take.
fn keeps_nodes(all: &mut All<'_>) {
    let mut kept = Vec::new();
    for (id, wish) in &all.input.desired.resources {
        let Resource::Cluster(wished) = &wish.resource else { continue };
        let Some(wished) = wished.kubernetes() else { continue };
        let seen = observed(all, id).and_then(|seen| seen.seen.as_deref());
        let (Some(built), Some(seen)) = (&wished.built, seen) else { continue };
        let block = all.by_id.get(id).map(|&at| &all.blocks[at]).filter(|block| block.build);
        let upgraded = block.is_some_and(|block| upgrades(&block.drafts));
        for (node, machine) in &built.machines {
            let disk = first_disk(machine);
            if all.facts.is_replaced(&disk)
                && let Some(why) = ahead(wished, seen, upgraded, node)
            {
                kept.push((disk, why));
            }
        }
    }
    for (disk, why) in kept {
        if let Some(block) = all.by_id.get(&disk).copied() {
            all.refuse(block, why);
        }
    }
}
