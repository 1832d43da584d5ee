//! A plan by resource: what is done to each, how bad it is, what else it interrupts.
//!
//! The worst come first, because whatever is cut is cut from the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ResourceId;
use crate::plan::{Disruption, FieldChange, Plan, Step, render};

/// What a plan does to one resource.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// The resource.
    pub resource: &'a ResourceId,
    /// Its steps, in order.
    pub steps: Vec<&'a Step>,
    /// The worst of them.
    pub disruption: Disruption,
    /// What else is interrupted.
    pub interrupts: BTreeSet<&'a ResourceId>,
}

impl Row<'_> {
    /// The verbs, each once, in order: `stop, define, start`.
    pub(super) fn verbs(&self) -> String {
        let mut verbs: Vec<&str> = Vec::new();
        for step in &self.steps {
            let verb = step.action.verb();
            if !verbs.contains(&verb) {
                verbs.push(verb);
            }
        }
        verbs.join(", ")
    }

    /// Why: the reason of its first step that has one of its own.
    pub(super) fn reason(&self) -> &'static str {
        use crate::plan::Reason;
        let first = self.steps.iter().find(|step| step.reason != Reason::Needed);
        render::reason(first.or(self.steps.first()).map_or(Reason::Needed, |step| step.reason))
    }

    /// The fields that differ, each once.
    pub(super) fn changes(&self) -> Vec<&FieldChange> {
        let mut seen = BTreeSet::new();
        let all = self.steps.iter().flat_map(|step| &step.changes);
        all.filter(|change| seen.insert(change.path.as_str())).collect()
    }
}

/// The plan's resources, the worst first, else in the plan's order.
#[must_use]
pub fn rows(plan: &Plan) -> Vec<Row<'_>> {
    let mut places: BTreeMap<&ResourceId, usize> = BTreeMap::new();
    let mut rows: Vec<Row<'_>> = Vec::new();
    for step in &plan.steps {
        let at = *places.entry(&step.resource).or_insert(rows.len());
        if at == rows.len() {
            rows.push(Row {
                resource: &step.resource,
                steps: Vec::new(),
                disruption: Disruption::None,
                interrupts: BTreeSet::new(),
            });
        }
        let row = &mut rows[at];
        row.steps.push(step);
        row.disruption = row.disruption.max(step.disruption);
        let others = step.interrupts.iter().filter(|id| **id != step.resource);
        row.interrupts.extend(others);
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.disruption));
    rows
}

/// What happens to a resource in a word; lower case, never empty.
pub(super) fn word(disruption: Disruption) -> &'static str {
    match disruption {
        Disruption::None => "none",
        Disruption::Live => "live",
        Disruption::Restart => "restart",
        Disruption::Replace => "replace",
        Disruption::Destroy => "destroy",
    }
}
