//! The fold, as far as it is about one cluster.
//!
//! A drain that an operator asked for ends with its time, with a word of an operator, or when somebody
//! gave the node back by other means: whoever was last is right.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trueup_kubernetes::namespace::Role;
use trueup_kubernetes::node::CordonMark;
use trueup_slurm::Overview;
use trueup_slurm::plan::roll::Token;

use crate::event::body::{AccessGiven, ClusterObserved, KubernetesObserved, NodeDrained};

/// What is known of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterState {
    /// What was seen last, where Slurm runs it.
    pub seen: Option<ClusterLook>,
    /// What was seen last, where Kubernetes runs it.
    #[serde(default)]
    pub kubernetes: Option<KubernetesLook>,
    /// Nodes that operators took out through us, by name.
    pub drains: BTreeMap<String, OperatorDrain>,
    /// Access that operators gave to people through us, by the number of the event that did.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub access: BTreeMap<u64, GivenAccess>,
    /// The event in which an operator last asked for something; 0: none did.
    #[serde(default)]
    pub asked: u64,
}

/// A look at a cluster that found something new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLook {
    /// The event that says so.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// `ClusterName`.
    pub name: String,
    /// What was seen.
    pub overview: Overview,
}

/// A look at a Kubernetes cluster that found something new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesLook {
    /// The event that says so.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What was seen.
    pub overview: trueup_kubernetes::Overview,
}

/// A node that an operator took out through us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorDrain {
    /// The event that asked for it: the number in the reason on the node.
    pub number: u64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Whether the node was seen to be out for it.
    pub in_force: bool,
    /// Whether an operator ended it before its time.
    pub ended: bool,
}

impl OperatorDrain {
    /// Whether the node is to be given back at `now`.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.ended || self.until <= now
    }
}

/// Access that an operator gave to somebody through us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GivenAccess {
    /// Whom it is for.
    pub user: String,
    /// Where.
    pub namespace: String,
    /// What they may do there.
    pub role: Role,
    /// Who gave it.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Whether the cluster was seen to have it.
    pub in_force: bool,
    /// Whether an operator ended it before its time.
    pub ended: bool,
}

impl GivenAccess {
    /// Whether it is to be taken away at `now`.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.ended || self.until <= now
    }
}

impl ClusterState {
    /// Whether something is to be done for an operator that was not yet when the event `seq` was
    /// written, at `since`.
    #[must_use]
    pub fn asks_after(&self, seq: u64, since: Timestamp, now: Timestamp) -> bool {
        let ends = |drain: &OperatorDrain| drain.in_force && drain.until > since;
        let access = |it: &GivenAccess| it.in_force && it.until > since && it.is_over(now);
        self.asked > seq
            || self.drains.values().any(|it| ends(it) && it.is_over(now))
            || self.access.values().any(access)
    }

    pub(super) fn drain(&mut self, drained: &NodeDrained, by: &str, number: u64, at: Timestamp) {
        let drain = OperatorDrain {
            number,
            by: by.to_owned(),
            reason: drained.reason.clone(),
            since: at,
            until: drained.until,
            in_force: false,
            ended: false,
        };
        self.drains.insert(drained.node.clone(), drain);
        self.asked = number;
    }

    pub(super) fn resume(&mut self, node: &str, seq: u64) {
        self.asked = seq;
        if let Some(drain) = self.drains.get_mut(node) {
            drain.ended = true;
        }
    }

    pub(super) fn give_access(
        &mut self,
        given: &AccessGiven,
        by: &str,
        number: u64,
        at: Timestamp,
    ) {
        let access = GivenAccess {
            user: given.user.clone(),
            namespace: given.namespace.clone(),
            role: given.role,
            by: by.to_owned(),
            since: at,
            until: given.until,
            in_force: false,
            ended: false,
        };
        self.access.insert(number, access);
    }

    pub(super) fn take_access(&mut self, number: u64, seq: u64) {
        self.asked = seq;
        if let Some(access) = self.access.get_mut(&number) {
            access.ended = true;
        }
    }

    pub(super) fn observe(&mut self, observed: &ClusterObserved, seq: u64, at: Timestamp) {
        let out: BTreeMap<&str, u64> = observed
            .overview
            .out
            .iter()
            .filter_map(|out| {
                Some((out.node.as_str(), Token::number_of_person(&observed.name, &out.reason)?))
            })
            .collect();
        self.out_by_operators(&out, at);
        let (name, overview) = (observed.name.clone(), observed.overview.clone());
        self.seen = Some(ClusterLook { seq, at, name, overview });
        self.kubernetes = None;
    }

    /// `name`: of the `Cluster`, which is in the marks on its nodes.
    pub(super) fn observe_kubernetes(
        &mut self,
        observed: &KubernetesObserved,
        name: &str,
        seq: u64,
        at: Timestamp,
    ) {
        let number = |out: &trueup_kubernetes::OutNode| {
            let (token, reason) = (out.by.clone().filter(|_| out.ours)?, String::new());
            CordonMark { token, reason }.number_of_person(name)
        };
        let out = observed.overview.out.iter();
        let out = out.filter_map(|out| Some((out.node.as_str(), number(out)?))).collect();
        self.out_by_operators(&out, at);
        // What is over is known until it is seen to be gone.
        self.access.retain(|number, access| {
            access.in_force = observed.overview.access.contains(number);
            access.in_force || !access.is_over(at)
        });
        let overview = observed.overview.clone();
        self.kubernetes = Some(KubernetesLook { seq, at, overview });
        self.seen = None;
    }

    /// Takes in which nodes are out by which wish of an operator.
    fn out_by_operators(&mut self, out: &BTreeMap<&str, u64>, at: Timestamp) {
        self.drains.retain(|node, drain| {
            let in_force = out.get(node.as_str()) == Some(&drain.number);
            let given_back = drain.in_force && !in_force;
            let never_was = !in_force && drain.is_over(at);
            drain.in_force = in_force;
            !(given_back || never_was)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn look(out: &[(&str, &str)]) -> ClusterObserved {
        let out: Vec<_> = out
            .iter()
            .map(|(node, reason)| {
                serde_json::json!({
                    "node": node, "reason": reason, "by": "root", "since": 1, "answers": true
                })
            })
            .collect();
        let overview = serde_json::json!({
            "release": "22.05.8", "daemons": {}, "resources": {}, "partitions": {},
            "accounts": {}, "out": out,
            "nodes": {"total": 1, "up": 1, "busy": 0, "drained": 0, "down": 0},
        });
        let overview = serde_json::from_value(overview).unwrap();
        ClusterObserved { name: "lab".into(), overview, load_only: false }
    }

    fn drained() -> ClusterState {
        let mut cluster = ClusterState::default();
        let drain = NodeDrained { node: "n1".into(), reason: "fan".into(), until: at(100) };
        cluster.drain(&drain, "operator:alice", 12, at(10));
        cluster
    }

    #[test]
    fn a_drain_ends_by_its_time_by_a_word_and_by_hand() {
        let mut cluster = drained();
        cluster.observe(&look(&[]), 13, at(11));
        assert!(!cluster.drains["n1"].in_force, "asked for, and not out yet");
        let ours = look(&[("n1", "trueup:lab/@alice/12 fan")]);
        cluster.observe(&ours, 14, at(12));
        assert!(cluster.drains["n1"].in_force && !cluster.drains["n1"].is_over(at(99)));
        assert!(cluster.drains["n1"].is_over(at(100)));
        // Given back with scontrol: that is its end.
        let mut by_hand = cluster.clone();
        by_hand.observe(&look(&[]), 15, at(20));
        assert!(by_hand.drains.is_empty());
        // Taken over by somebody else: as well.
        let mut taken = cluster.clone();
        taken.observe(&look(&[("n1", "disk, bob")]), 15, at(20));
        assert!(taken.drains.is_empty());
        // Ended by a word: over, and known until the node was given back.
        cluster.resume("n1", 15);
        assert!(cluster.drains["n1"].is_over(at(20)));
        cluster.observe(&ours, 16, at(21));
        assert_eq!(cluster.drains.len(), 1);
        cluster.observe(&look(&[]), 17, at(22));
        assert!(cluster.drains.is_empty());
    }

    #[test]
    fn a_drain_of_a_kubernetes_node_ends_when_its_mark_is_gone() {
        let seen = |out: serde_json::Value| {
            let overview = serde_json::json!({
                "release": "v1.33.1", "nodes": {"total": 1, "ready": 1, "out": 1}, "kubelets": {},
                "resources": {}, "out": out, "problems": [], "waiting": 0, "waitingFor": [],
                "missing": [], "unexpected": [], "skew": [], "certificates": [], "unread": [],
            });
            let overview = serde_json::from_value(overview).unwrap();
            KubernetesObserved { overview, load_only: false }
        };
        let by = |token: &str, ours: bool| serde_json::json!([{"node": "n1", "by": token, "ours": ours, "reason": "fan"}]);
        let mut cluster = drained();
        let ours = seen(by("trueup:cloud/@alice/12", true));
        cluster.observe_kubernetes(&ours, "cloud", 13, at(11));
        assert!(cluster.drains["n1"].in_force && cluster.kubernetes.is_some());
        // Of another cluster, or a name that only looks like a mark: no end of it, and none in force.
        for other in
            [seen(by("trueup:lab/@alice/12", true)), seen(by("trueup:cloud/@alice/12", false))]
        {
            let mut fresh = drained();
            fresh.observe_kubernetes(&other, "cloud", 13, at(11));
            assert!(!fresh.drains["n1"].in_force);
        }
        cluster.observe_kubernetes(&seen(serde_json::json!([])), "cloud", 14, at(12));
        assert!(cluster.drains.is_empty());
    }

    #[test]
    fn access_ends_by_its_time_or_a_word_and_is_known_until_it_is_seen_to_be_gone() {
        let seen = |access: &[u64]| {
            let overview = serde_json::json!({
                "release": "v1.33.1", "nodes": {"total": 1, "ready": 1, "out": 0}, "kubelets": {},
                "resources": {}, "out": [], "problems": [], "waiting": 0, "waitingFor": [],
                "missing": [], "unexpected": [], "skew": [], "certificates": [], "unread": [],
                "access": access,
            });
            let overview = serde_json::from_value(overview).unwrap();
            KubernetesObserved { overview, load_only: false }
        };
        let given = AccessGiven {
            user: "ann".into(),
            namespace: "research".into(),
            role: Role::Edit,
            until: at(100),
        };
        let mut cluster = ClusterState::default();
        cluster.give_access(&given, "operator:bob", 12, at(10));
        cluster.observe_kubernetes(&seen(&[]), "cloud", 13, at(11));
        assert!(!cluster.access[&12].in_force && !cluster.access[&12].is_over(at(99)));
        cluster.observe_kubernetes(&seen(&[12]), "cloud", 14, at(12));
        assert!(cluster.access[&12].in_force && cluster.access[&12].is_over(at(100)));
        assert!(cluster.asks_after(15, at(20), at(100)), "what waits makes room for its end");
        assert!(!cluster.asks_after(15, at(20), at(99)));
        cluster.take_access(12, 16);
        assert!(cluster.access[&12].is_over(at(30)) && cluster.asks_after(15, at(20), at(30)));
        cluster.observe_kubernetes(&seen(&[12]), "cloud", 17, at(31));
        assert!(cluster.access.contains_key(&12), "it is there still");
        cluster.observe_kubernetes(&seen(&[]), "cloud", 18, at(32));
        assert!(cluster.access.is_empty());
    }

    #[test]
    fn what_never_came_into_force_is_forgotten_when_it_is_over() {
        let mut cluster = drained();
        cluster.observe(&look(&[("n1", "disk, bob")]), 13, at(50));
        assert_eq!(cluster.drains.len(), 1);
        cluster.observe(&look(&[("n1", "disk, bob")]), 14, at(101));
        assert!(cluster.drains.is_empty());
    }

    #[test]
    fn waiting_ends_for_what_is_asked_after_it_began() {
        let mut cluster = drained();
        assert!(cluster.asks_after(11, at(9), at(20)));
        assert!(!cluster.asks_after(12, at(15), at(20)), "begun after it");
        cluster.drains.get_mut("n1").unwrap().in_force = true;
        assert!(cluster.asks_after(13, at(15), at(100)), "its time ran out meanwhile");
        assert!(!cluster.asks_after(13, at(101), at(102)));
    }
}
