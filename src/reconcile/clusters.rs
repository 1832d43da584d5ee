//! Clusters in the log: how they are, each time that it is news, and what operators ask of their nodes.
//!
//! Pure. What runs and waits changes all the time: that alone is written now and then.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use trueup_kubernetes as kubernetes;
use trueup_slurm::observe::NodeState;
use trueup_slurm::{NodeGroup, Overview, overview};

use super::pass::Outlook;
use crate::event::body::{ClusterObserved, KubernetesObserved};
use crate::event::{Entry, Event};
use crate::model::resource::{Cluster, KubernetesCluster};
use crate::model::{Kind, Observed, Resource, ResourceId};
use crate::plan::{KnownAccess, KnownCluster, NodeDrain};
use crate::state::{ClusterState, State};

/// Between two events that tell of the load alone, seconds: some 700 a day, of 2 or 3 KB each. A thousand nodes
/// make them no longer: those that are alike are a few words.
const LOAD_EVERY_S: i64 = 120;

/// What operators ask of clusters at `now`.
pub(super) fn known_clusters(
    state: &State,
    now: Timestamp,
    outlook: Outlook,
) -> BTreeMap<ResourceId, KnownCluster> {
    let clusters = state.resources.iter().filter(|_| outlook.due).filter_map(|(id, known)| {
        let drains = known.cluster.as_ref()?.drains.iter().map(|(node, drain)| {
            let drain = NodeDrain {
                number: drain.number,
                by: drain.by.clone(),
                reason: drain.reason.clone(),
                over: drain.is_over(now),
            };
            (node.clone(), drain)
        });
        let access = known.cluster.as_ref()?.access.iter().map(|(number, access)| {
            let access_now = KnownAccess {
                user: access.user.clone(),
                namespace: access.namespace.clone(),
                role: access.role,
                over: access.is_over(now),
            };
            (*number, access_now)
        });
        Some((id.clone(), KnownCluster { drains: drains.collect(), access: access.collect() }))
    });
    clusters.collect()
}

/// When the next of those drains is over, or somebody's access.
pub(super) fn next_end(state: &State, now: Timestamp) -> Option<Timestamp> {
    let clusters = state.resources.values().filter_map(|known| known.cluster.as_ref());
    let ends = clusters.flat_map(|cluster| {
        let drains = cluster.drains.values().map(|drain| drain.until);
        drains.chain(cluster.access.values().map(|access| access.until))
    });
    ends.filter(|at| *at > now).min()
}

/// The events for clusters that are not as the log says. Also of those that are being worked on: how
/// they were on the way is what somebody asks later.
pub(super) fn events_of_clusters(state: &State, observed: &Observed, now: Timestamp) -> Vec<Entry> {
    let clusters = observed.resources.iter().filter(|(id, _)| id.kind == Kind::Cluster);
    let events = clusters.filter_map(|(id, seen)| {
        let Resource::Cluster(cluster) = &seen.config else { return None };
        let known = state.resources.get(id)?;
        let slurm = match &**cluster {
            Cluster::Slurm(slurm) => slurm,
            // Of one that is not asked for any more, nothing is looked at but what has to be taken back.
            Cluster::Kubernetes(_) if known.wish.is_none() => return None,
            Cluster::Kubernetes(kubernetes) => {
                let event = event_of_kubernetes(known.cluster.as_deref(), kubernetes, now)?;
                return Some(Entry::new(Event::KubernetesObserved(event)).about(id));
            }
        };
        let look = slurm.seen.as_ref()?;
        let observed = look.observed.as_deref()?;
        let overview = overview(observed, look.now);
        let last = known.cluster.as_ref().and_then(|cluster| cluster.seen.as_ref());
        // For some seconds after a start of the controller: that nobody has answered yet is no news.
        let starting = observed.nodes.values().all(|node| node.state == NodeState::Unknown);
        if starting && !observed.nodes.is_empty() && last.is_some() {
            return None;
        }
        let load_only = last.is_some_and(|last| standing(&last.overview) == standing(&overview));
        if let Some(last) = last.filter(|_| load_only) {
            let young = now < last.at + SignedDuration::from_secs(LOAD_EVERY_S);
            if young || loaded(&last.overview) == loaded(&overview) {
                return None;
            }
        }
        let name = slurm.wish.name.clone();
        let event = ClusterObserved { name, overview, load_only };
        Some(Entry::new(Event::ClusterObserved(event)).about(id))
    });
    events.collect()
}

/// The event for a Kubernetes cluster that is not as the log says.
fn event_of_kubernetes(
    known: Option<&ClusterState>,
    cluster: &KubernetesCluster,
    now: Timestamp,
) -> Option<KubernetesObserved> {
    let overview = cluster.overview()?;
    let last = known.and_then(|known| known.kubernetes.as_ref());
    let Some(last) = last else {
        return Some(KubernetesObserved { overview, load_only: false });
    };
    let load_only = unloaded(&last.overview) == unloaded(&overview);
    let young = now < last.at + SignedDuration::from_secs(LOAD_EVERY_S);
    if load_only && (young || last.overview == overview) {
        return None;
    }
    Some(KubernetesObserved { overview, load_only })
}

/// Without what changes with every pod.
fn unloaded(overview: &kubernetes::Overview) -> kubernetes::Overview {
    let mut standing = overview.clone();
    standing.resources.values_mut().for_each(|share| share.allocated = 0);
    standing.groups.iter_mut().for_each(kubernetes::NodeGroup::unload);
    // The cluster says it a moment after the node is out.
    standing.out.iter_mut().for_each(|out| out.since = None);
    standing.waiting = 0;
    standing.waiting_for.clear();
    standing
}

/// Without what changes with every job.
fn standing(overview: &Overview) -> Overview {
    let mut standing = overview.clone();
    standing.nodes.busy = 0;
    standing.groups.iter_mut().for_each(NodeGroup::unload);
    standing.resources.values_mut().for_each(|share| share.allocated = 0);
    standing.partitions.values_mut().for_each(|queue| {
        (queue.running, queue.pending, queue.longest_wait) = (0, 0, 0);
    });
    standing.accounts.clear();
    standing
}

/// Without what changes with every second.
fn loaded(overview: &Overview) -> Overview {
    let mut loaded = overview.clone();
    loaded.partitions.values_mut().for_each(|queue| queue.longest_wait = 0);
    loaded
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trueup_slurm::observe;
    use trueup_slurm::wish;

    use super::*;
    use crate::model::resource::{KubernetesSeen, SlurmCluster, SlurmPlace, SlurmSeen};
    use crate::model::{Observation, Ownership};

    fn node() -> observe::Node {
        observe::Node {
            state: NodeState::Idle,
            flags: Default::default(),
            reason: None,
            address: "n1".into(),
            hostname: "n1".into(),
            port: 6818,
            cpus: 4,
            cpus_allocated: 0,
            memory_mib: 2000,
            memory_allocated_mib: 0,
            gres: String::new(),
            gres_used: String::new(),
            features: Default::default(),
            weight: 1,
            partitions: Default::default(),
            release: None,
            daemon_started: 0,
        }
    }

    fn seen<const N: usize>(nodes: [observe::Node; N]) -> Observed {
        let nodes = nodes.into_iter().zip(1..).map(|(node, n)| (format!("n{n}"), node));
        let observed = observe::Observed {
            release: "22.05.8".parse().unwrap(),
            nodes: nodes.collect(),
            partitions: BTreeMap::new(),
            reservations: BTreeMap::new(),
            jobs: Vec::new(),
        };
        let look =
            SlurmSeen { observed: Some(Arc::new(observed)), now: 1000, ..SlurmSeen::default() };
        let wish: wish::Cluster = serde_json::from_value(serde_json::json!({
            "name": "lab", "controllers": [], "pools": [], "partitions": []
        }))
        .unwrap();
        let place = SlurmPlace::default();
        let slurm = SlurmCluster {
            place,
            wish,
            built: None,
            drain_timeout_s: 60,
            max_unavailable: 1,
            seen: Some(Arc::new(look)),
        };
        let config = Resource::Cluster(Box::new(Cluster::Slurm(slurm)));
        let mut observed = Observed::default();
        let observation = Observation {
            ownership: Ownership::Unmarked,
            config,
            live: None,
            active: true,
            uuid: None,
            unplugged: Vec::new(),
        };
        observed.resources.insert("cluster/lab".parse().unwrap(), observation);
        observed
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_stands_is_told_at_once_and_what_runs_now_and_then() {
        let mut state = State::default();
        let id: ResourceId = "cluster/lab".parse().unwrap();
        assert_eq!(events_of_clusters(&state, &seen([node()]), at(0)).len(), 0, "not asked for");
        state.resources.insert(id.clone(), Default::default());
        let mut look = |seen: Observed, second: i64| {
            let entries = events_of_clusters(&state, &seen, at(second));
            let [entry] = &entries[..] else { return None };
            let Event::ClusterObserved(event) = &entry.event else { panic!("{entry:?}") };
            let known = state.resources.get_mut(&id).unwrap();
            let look = crate::state::ClusterLook {
                seq: 1,
                at: at(second),
                name: "lab".into(),
                overview: event.overview.clone(),
            };
            known.cluster.get_or_insert_default().seen = Some(look);
            Some(event.load_only)
        };
        let mut told = |node: observe::Node, second: i64| look(seen([node]), second);
        assert_eq!(told(node(), 0), Some(false));
        assert_eq!(told(node(), 500), None, "nothing is new");
        let busy = || observe::Node { cpus_allocated: 2, ..node() };
        assert_eq!(told(busy(), 500), Some(true), "a job, and the last word is old");
        assert_eq!(told(node(), 510), None, "it ended, a moment later");
        assert_eq!(told(node(), 500 + LOAD_EVERY_S), Some(true));
        let down = observe::Node { state: NodeState::Down, ..node() };
        assert_eq!(told(down, 501 + LOAD_EVERY_S), Some(false), "that is no load");
        let unknown = || observe::Node { state: NodeState::Unknown, ..node() };
        assert_eq!(told(unknown(), 502 + LOAD_EVERY_S), None, "the controller starts");
        let one_is_up = look(seen([unknown(), node()]), 503 + LOAD_EVERY_S);
        assert_eq!(one_is_up, Some(false), "one that never answers does not silence the others");
    }

    #[test]
    fn a_pod_is_told_now_and_then_and_a_node_that_goes_out_at_once() {
        let node = |name: &str, out: bool| {
            let taint = serde_json::json!({"key": "node.kubernetes.io/unschedulable",
                "effect": "NoSchedule", "timeAdded": "2026-01-02T03:04:05Z"});
            serde_json::json!({"metadata": {"name": name},
                "spec": {"unschedulable": out, "taints": [taint]},
                "status": {"conditions": [{"type": "Ready", "status": "True"}],
                    "allocatable": {"cpu": "8"}}})
        };
        let pod = serde_json::json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n1",
            "containers": [{"resources": {"requests": {"cpu": "1"}}}]}});
        let look = |nodes: &[serde_json::Value], pods: &[serde_json::Value]| {
            let seen = KubernetesSeen {
                release: "v1.33.1".into(),
                view: kubernetes::node::overview(nodes, pods),
                nodes: BTreeMap::new(),
                namespaces: Default::default(),
                certificates: Vec::new(),
                renewable: Default::default(),
                machines: BTreeMap::new(),
                unwell: BTreeMap::new(),
                access: Vec::new(),
                now: 0,
            };
            KubernetesCluster { seen: Some(Arc::new(seen)), ..Default::default() }
        };
        let mut known = ClusterState::default();
        let mut told = |cluster: &KubernetesCluster, second: i64| {
            let event = event_of_kubernetes(Some(&known), cluster, at(second))?;
            let (at, overview) = (at(second), event.overview);
            known.kubernetes = Some(crate::state::KubernetesLook { seq: 1, at, overview });
            Some(event.load_only)
        };
        let calm = [node("n1", false), node("n2", false)];
        assert_eq!(told(&look(&calm, &[]), 0), Some(false));
        let busy = look(&calm, std::slice::from_ref(&pod));
        assert_eq!(told(&busy, 10), None, "a pod came, a moment later");
        assert_eq!(told(&busy, LOAD_EVERY_S), Some(true));
        assert_eq!(told(&busy, 9 * LOAD_EVERY_S), None, "nothing is new");
        let out = [node("n1", true), node("n2", false)];
        assert_eq!(told(&look(&out, &[]), 9 * LOAD_EVERY_S), Some(false));
        // Since when it is out is known a moment later, and is no event of its own.
        let mut unsaid = out.clone();
        unsaid[0]["spec"]["taints"] = serde_json::json!([]);
        assert_eq!(told(&look(&unsaid, &[]), 9 * LOAD_EVERY_S + 1), None);
    }
}
