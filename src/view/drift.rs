//! What differs from what trueup made it.
//!
//! From the state alone: a drift that the log does not hold was never seen.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::body::MoreChanges;
use crate::model::ResourceId;
use crate::plan::FieldChange;
use crate::state::State;

/// One drift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftRow {
    /// What drifted.
    pub resource: ResourceId,
    /// Since when.
    pub since: Timestamp,
    /// What happened, in a few words.
    pub what: String,
    /// The fields that differ, the first of them.
    pub changes: Vec<FieldChange>,
    /// All of them, where that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<MoreChanges>,
    /// It keeps drifting and is left alone until then.
    pub left_alone_until: Option<Timestamp>,
}

/// Every drift there is now, in the order of their resources.
#[must_use]
pub fn drifts(state: &State) -> Vec<DriftRow> {
    let drifted =
        state.resources.iter().filter_map(|(id, known)| Some((id, known, known.drift.as_ref()?)));
    drifted
        .map(|(id, known, drift)| DriftRow {
            resource: id.clone(),
            since: drift.since,
            what: drift.what.clone(),
            changes: drift.changes.clone(),
            more: drift.more.clone(),
            left_alone_until: known.flapping_until,
        })
        .collect()
}
