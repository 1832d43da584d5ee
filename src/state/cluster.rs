//! The fold, as far as it is about one cluster.
//!
//! A drain that an operator asked for ends with its time, with a word of an operator, or when somebody
//! gave the node back by other means: whoever was last is right.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trueup_slurm::Overview;
use trueup_slurm::plan::roll::Token;

use crate::event::body::{ClusterObserved, NodeDrained};

/// What is known of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterState {
    /// What was seen last.
    pub seen: Option<ClusterLook>,
    /// Nodes that operators took out through us, by name.
    pub drains: BTreeMap<String, OperatorDrain>,
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

impl ClusterState {
    /// Whether something is to be done for an operator that was not yet when the event `seq` was
    /// written, at `since`.
    #[must_use]
    pub fn asks_after(&self, seq: u64, since: Timestamp, now: Timestamp) -> bool {
        let ends = |drain: &OperatorDrain| drain.in_force && drain.until > since;
        self.asked > seq || self.drains.values().any(|it| ends(it) && it.is_over(now))
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

    pub(super) fn observe(&mut self, observed: &ClusterObserved, seq: u64, at: Timestamp) {
        let out: BTreeMap<&str, u64> = observed
            .overview
            .out
            .iter()
            .filter_map(|out| {
                Some((out.node.as_str(), Token::number_of_person(&observed.name, &out.reason)?))
            })
            .collect();
        self.drains.retain(|node, drain| {
            let in_force = out.get(node.as_str()) == Some(&drain.number);
            let given_back = drain.in_force && !in_force;
            let never_was = !in_force && drain.is_over(at);
            drain.in_force = in_force;
            !(given_back || never_was)
        });
        let (name, overview) = (observed.name.clone(), observed.overview.clone());
        self.seen = Some(ClusterLook { seq, at, name, overview });
    }
}
