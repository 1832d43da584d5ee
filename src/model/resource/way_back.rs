//! What is kept so that a change which interrupts or destroys can be undone.

use serde::{Deserialize, Serialize};

use crate::model::Name;

/// What is saved before such a change, and how long it stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WayBack {
    /// The backup that takes a snapshot first; `None`: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Name>,
    /// How long the change has to have been good before what was saved may go, seconds.
    pub keep_s: u64,
}

impl WayBack {
    /// How long it is kept when nothing is said, seconds: a day, in which most of what a change broke
    /// is noticed.
    pub const KEEP_S: u64 = 24 * 3600;
}
