//! Events about clusters; the cluster is always the envelope's subject.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trueup_kubernetes::namespace::Role;
use trueup_slurm::Overview;

/// `cluster.observed`: how a cluster is, written when it is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterObserved {
    /// `ClusterName`.
    pub name: String,
    /// What was seen.
    pub overview: Overview,
    /// Whether only what runs and waits on it is other than before: that changes all the time, and is
    /// written now and then.
    pub load_only: bool,
}

/// `cluster.kubernetes_observed`: how a Kubernetes cluster is, written when it is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesObserved {
    /// What was seen.
    pub overview: trueup_kubernetes::Overview,
    /// Whether only what runs and waits on it is other than before: that changes all the time, and is
    /// written now and then.
    pub load_only: bool,
}

/// `operator.node_drained`: somebody takes a node out of use for a while; who is the envelope's actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDrained {
    /// The node.
    pub node: String,
    /// Why, in the operator's words.
    pub reason: String,
    /// When it is given back.
    pub until: Timestamp,
}

/// `operator.node_resumed`: somebody gives a node back before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeResumed {
    /// The node.
    pub node: String,
}

/// `operator.access_given`: somebody gets access to a namespace of a Kubernetes cluster for a while; who
/// gave it is the envelope's actor. What it is called by is the number of this event. The token is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessGiven {
    /// Whom it is for.
    pub user: String,
    /// Where.
    pub namespace: String,
    /// What they may do there.
    pub role: Role,
    /// When it ends.
    pub until: Timestamp,
}

/// `operator.access_taken`: access ends before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTaken {
    /// The event that gave it.
    pub number: u64,
    /// Whom it was for.
    pub user: String,
    /// Where.
    pub namespace: String,
}
