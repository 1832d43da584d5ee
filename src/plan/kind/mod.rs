//! One arm a kind: from a resource as it should be and as it is to what has to be done for it alone.
//!
//! An arm knows nothing of order, of removals, or of what other resources need.

pub(super) mod backup;
pub(super) mod cluster;
pub(super) mod disk;
mod folder;
pub(super) mod gpu;
pub(super) mod media;
pub(super) mod network;
pub(super) mod pool;
pub(super) mod release;
pub(super) mod vm;

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::facts::Facts;
use super::{Action, Disruption, FieldChange, Reason, Remark, SkipReason};
use crate::model::resource::{HostDevice, Network, VirtualMachine};
use crate::model::{Observation, Resource, ResourceId, uuid_for};
use crate::spec::DesiredResource;

/// One resource to decide on.
pub(super) struct Case<'a, 'w> {
    /// Which.
    pub(super) id: &'a ResourceId,
    /// How it is asked for.
    pub(super) desired: &'a DesiredResource,
    /// How it is; `None`: absent.
    pub(super) observation: Option<&'a Observation>,
    /// What runs, where that is told apart from the configuration; ignored fields as desired.
    pub(super) live: Option<&'a Resource>,
    /// Why whatever has to be done is done.
    pub(super) reason: Reason,
    /// The rest of the world.
    pub(super) facts: &'a Facts<'w>,
}

impl Case<'_, '_> {
    /// Whether it is being taken over.
    pub(super) fn adopting(&self) -> bool {
        self.reason == Reason::Adopted
    }

    /// The network that runs.
    pub(super) fn live_network(&self) -> Option<&Network> {
        match self.live {
            Some(Resource::Network(network)) => Some(network),
            _ => None,
        }
    }

    /// The domain that runs.
    pub(super) fn live_vm(&self) -> Option<&VirtualMachine> {
        match self.live {
            Some(Resource::VirtualMachine(vm)) => Some(vm),
            _ => None,
        }
    }

    /// The UUID it has, or the one it gets.
    pub(super) fn uuid(&self) -> Uuid {
        self.observation
            .and_then(|seen| seen.uuid)
            .unwrap_or_else(|| uuid_for(self.facts.environment(), self.id))
    }
}

/// A step before its place is known.
#[derive(Debug)]
pub(super) struct Draft {
    /// What is done.
    pub(super) action: Action,
    /// How much it disturbs.
    pub(super) disruption: Disruption,
    /// Why.
    pub(super) reason: Reason,
    /// The fields that differ.
    pub(super) changes: Vec<FieldChange>,
    /// What it interrupts.
    pub(super) interrupts: BTreeSet<ResourceId>,
}

impl Draft {
    /// A step nobody notices.
    pub(super) fn quiet(action: Action, reason: Reason, changes: Vec<FieldChange>) -> Self {
        Self { action, disruption: Disruption::None, reason, changes, interrupts: BTreeSet::new() }
    }

    /// The same step with what it disturbs.
    pub(super) fn disturbing(
        mut self,
        disruption: Disruption,
        interrupts: BTreeSet<ResourceId>,
    ) -> Self {
        self.disruption = disruption;
        self.interrupts = interrupts;
        self
    }
}

/// What an arm decides: steps, one after the other, and what it leaves alone.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Steps, each after the one before.
    pub(super) drafts: Vec<Draft>,
    /// Differences left alone.
    pub(super) skipped: Vec<(SkipReason, Vec<FieldChange>)>,
    /// A GPU before and after.
    pub(super) picture: Option<trueup_mig::picture::Picture>,
    /// What guests have of a GPU after it, and what they lose; `None`: as it was.
    pub(super) handed: Option<Handed>,
    /// What is worth knowing of it, whatever is done.
    pub(super) remark: Option<Remark>,
}

/// What guests have of a GPU as soon as a verdict is carried out.
#[derive(Debug, Clone, Default)]
pub(super) struct Handed {
    /// The whole board; empty: not as a whole.
    pub(super) whole: Vec<HostDevice>,
    /// The vGPUs that stand then, by name.
    pub(super) gives: BTreeMap<String, HostDevice>,
    /// What stands now, and then no more.
    pub(super) takes: BTreeSet<HostDevice>,
}

impl Verdict {
    /// Adds a step.
    pub(super) fn step(&mut self, draft: Draft) {
        self.drafts.push(draft);
    }

    /// Whether there is nothing to do and nothing left alone.
    pub(super) fn is_nothing(&self) -> bool {
        self.drafts.is_empty() && self.skipped.is_empty()
    }

    /// Leaves a difference alone.
    pub(super) fn skip(&mut self, why: SkipReason, changes: Vec<FieldChange>) {
        self.skipped.push((why, changes));
    }
}
