//! Clusters: nodes, what there is and what of it is in use, queues, jobs by account, certificates, and
//! which nodes are out, why and by whom.
//!
//! Everything is what the log says; nothing is asked of a controller.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trueup_slurm::Overview;

use super::status::{Status, row_of};
use crate::event::body::{ClusterObserved, KubernetesObserved};
use crate::model::{Kind, ResourceId};
use crate::state::{GivenAccess, OperatorDrain, State};

/// Every cluster that is asked for or was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Clusters {
    /// The last event this is from.
    pub seq: u64,
    /// The time at which it is looked at.
    pub at: Timestamp,
    /// In the order of their names.
    pub clusters: Vec<ClusterRow>,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRow {
    /// Which.
    pub resource: ResourceId,
    /// What it calls itself; `None`: it was never seen.
    pub name: Option<String>,
    /// What it is in, as any resource.
    pub status: Option<Status>,
    /// When it was last seen to be other than before.
    pub seen_at: Option<Timestamp>,
    /// How it was then, where Slurm runs it.
    pub overview: Option<Overview>,
    /// How it was then, where Kubernetes runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<trueup_kubernetes::Overview>,
    /// Nodes that operators took out through trueup.
    pub drains: Vec<DrainRow>,
    /// Access that operators gave to people through trueup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<AccessRow>,
}

/// Access that an operator gave to somebody through trueup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessRow {
    /// What it is called by.
    pub number: u64,
    /// Who, what and for how long.
    #[serde(flatten)]
    pub access: GivenAccess,
}

/// A node that an operator took out through trueup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainRow {
    /// The node.
    pub node: String,
    /// Who, why and for how long.
    #[serde(flatten)]
    pub drain: OperatorDrain,
}

/// Clusters as `state` has them, looked at at `now`.
#[must_use]
pub fn clusters(state: &State, now: Timestamp) -> Clusters {
    let rows = state.resources.iter().filter(|(id, _)| id.kind == Kind::Cluster);
    let rows = rows.map(|(id, known)| {
        let of = known.cluster.as_deref();
        let seen = of.and_then(|of| of.seen.as_ref());
        let kubernetes = of.and_then(|of| of.kubernetes.as_ref());
        let drains = of.into_iter().flat_map(|of| &of.drains);
        ClusterRow {
            resource: id.clone(),
            name: seen.map(|seen| seen.name.clone()),
            status: row_of(state, id).map(|row| row.status),
            seen_at: seen.map(|seen| seen.at).or(kubernetes.map(|seen| seen.at)),
            overview: seen.map(|seen| seen.overview.clone()),
            kubernetes: kubernetes.map(|seen| seen.overview.clone()),
            drains: drains
                .filter(|(_, drain)| drain.in_force || !drain.is_over(now))
                .map(|(node, drain)| DrainRow { node: node.clone(), drain: drain.clone() })
                .collect(),
            access: of
                .into_iter()
                .flat_map(|of| &of.access)
                .filter(|(_, access)| access.in_force || !access.is_over(now))
                .map(|(number, access)| AccessRow { number: *number, access: access.clone() })
                .collect(),
        }
    });
    Clusters { seq: state.seq, at: now, clusters: rows.collect() }
}

pub(super) fn observed_kubernetes(observed: &KubernetesObserved) -> String {
    let overview = &observed.overview;
    let nodes = &overview.nodes;
    let mut words = format!(
        "{} of {} node(s) ready, {} out of service; {} pod(s) wait",
        nodes.ready, nodes.total, nodes.out, overview.waiting
    );
    if observed.load_only {
        return words;
    }
    if let Some(first) = overview.problems.first() {
        words.push_str(&format!("; {} says {}: {}", first.node, first.kind, first.status));
    }
    if let Some(first) = overview.missing.first() {
        words.push_str(&format!("; {first} is missing"));
    }
    if let Some(first) = overview.skew.first() {
        words.push_str(&format!("; {first}"));
    }
    words
}

pub(super) fn observed(observed: &ClusterObserved) -> String {
    let overview = &observed.overview;
    let nodes = &overview.nodes;
    let (running, pending) = overview
        .accounts
        .values()
        .fold((0, 0), |(running, pending), load| (running + load.running, pending + load.pending));
    let mut words = format!(
        "{} of {} node(s) up, {} drained, {} down; {running} job(s) run, {pending} wait",
        nodes.up, nodes.total, nodes.drained, nodes.down
    );
    if let Some(first) = overview.out.first().filter(|_| !observed.load_only) {
        words.push_str(&format!("; out is {}", first.node));
        if !first.reason.is_empty() {
            words.push_str(&format!(" ({})", first.reason));
        }
        let more = overview.out.len() - 1;
        if more > 0 {
            words.push_str(&format!(" and {more} more"));
        }
    }
    words
}
