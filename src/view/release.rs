//! Releases: how many objects or files each has and how they do, what others added to them, and since when.
//!
//! Everything is what the log says; nothing is asked of a cluster.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::status::{Status, row_of};
use crate::event::body::{ReleaseLook, ReleaseObserved};
use crate::model::{Kind, Name, ResourceId};
use crate::plan::FieldChange;
use crate::state::State;

/// Every release that is asked for or was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Releases {
    /// The last event this is from.
    pub seq: u64,
    /// In the order of their names.
    pub releases: Vec<ReleaseRow>,
}

/// One release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseRow {
    /// Which.
    pub resource: ResourceId,
    /// What it is in, as any resource.
    pub status: Option<Status>,
    /// The cluster; `None`: it was never seen.
    pub cluster: Option<Name>,
    /// The namespace of the list of what it has made.
    pub namespace: Option<String>,
    /// When it was last seen to be other than before.
    pub seen_at: Option<Timestamp>,
    /// Since when all of its objects do what they are for, or some do not.
    pub since: Option<Timestamp>,
    /// How it was then.
    pub look: Option<ReleaseLook>,
    /// What differs from what was applied, as far as that is drift.
    pub drift: Vec<FieldChange>,
}

/// Releases as `state` has them.
#[must_use]
pub fn releases(state: &State) -> Releases {
    let rows = state.resources.iter().filter(|(id, _)| id.kind == Kind::Release);
    let rows = rows.map(|(id, known)| {
        let seen = known.release.as_deref();
        ReleaseRow {
            resource: id.clone(),
            status: row_of(state, id).map(|row| row.status),
            cluster: seen.map(|seen| seen.cluster.clone()),
            namespace: seen.map(|seen| seen.namespace.clone()),
            seen_at: seen.map(|seen| seen.at),
            since: seen.map(|seen| seen.since),
            look: seen.map(|seen| seen.look.clone()),
            drift: known.drift.iter().flat_map(|drift| drift.changes.iter().cloned()).collect(),
        }
    });
    Releases { seq: state.seq, releases: rows.collect() }
}

pub(super) fn observed(observed: &ReleaseObserved) -> String {
    let look = &observed.look;
    let (all, cluster) = (look.total(), &observed.cluster);
    let mut words = match &look.folder {
        Some(folder) => format!(
            "{} of {all} file(s) as asked for in {} of {cluster}, version {}",
            look.ready, folder.to, folder.version
        ),
        None => {
            format!(
                "{} of {all} object(s) ready in {} of {cluster}",
                look.ready, observed.namespace
            )
        }
    };
    if let Some(first) = look.unready.first() {
        words.push_str(&format!("; {} is {}: {}", first.object, first.health.word(), first.why));
        let more = look.unready.len() as u64 - 1 + look.more_unready;
        if more > 0 {
            words.push_str(&format!(" and {more} more"));
        }
    }
    let added = look.added.len() as u64 + look.more_added;
    if added > 0 {
        words.push_str(&format!("; {added} field(s) added by others"));
    }
    words
}
