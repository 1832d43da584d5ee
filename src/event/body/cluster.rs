//! Events about clusters; the cluster is always the envelope's subject.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
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
