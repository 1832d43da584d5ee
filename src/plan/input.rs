//! What a plan is made from: the wish, the fact, and what the log says is ours.
//!
//! Everything a plan depends on is in [`Input`], the time included; nothing else may be.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trueup_backup::objective;
use trueup_kubernetes::namespace::Role;

use super::SkipReason;
use crate::model::resource::Chore;
use crate::model::{CommitId, Digest, Observed, Resource, ResourceId};
use crate::spec::{Desired, SyncWindow};

/// Everything a plan is a function of.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The commit that `desired` was read from.
    pub commit: &'a CommitId,
    /// What the commit asks for.
    pub desired: &'a Desired,
    /// What the machine has.
    pub observed: &'a Observed,
    /// What the log says is ours.
    pub known: &'a Known,
    /// What this pass may do at all.
    pub guards: Guards,
    /// Minutes since Monday 00:00 UTC, for the sync windows; `None`: windows are taken as open.
    pub now_minute_of_week: Option<u16>,
}

/// What the log says is ours.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// Every resource we made, adopted or started to make, until it is removed or given up.
    pub resources: BTreeMap<ResourceId, KnownResource>,
    /// Resources that are left alone for now: waiting for a retry, or held by an operator.
    pub suspended: BTreeMap<ResourceId, SkipReason>,
    /// What trueup itself needs to go on: nothing of it is stopped or removed.
    #[serde(default)]
    pub own: Own,
    /// How backups stand, and what is due for them.
    #[serde(default)]
    pub backups: BTreeMap<ResourceId, KnownBackup>,
    /// Snapshots inside the disks of virtual machines that nothing needs any more as a way back.
    #[serde(default)]
    pub over: BTreeMap<ResourceId, Vec<String>>,
    /// What operators ask of clusters.
    #[serde(default)]
    pub clusters: BTreeMap<ResourceId, KnownCluster>,
}

/// What the log says about a cluster, at the time that the plan is made for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownCluster {
    /// Nodes that operators took out through us, by name.
    pub drains: BTreeMap<String, NodeDrain>,
    /// Access that operators gave to people through us, by its number.
    #[serde(default)]
    pub access: BTreeMap<u64, KnownAccess>,
}

/// Access that an operator gave to somebody through us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownAccess {
    /// Whom it is for.
    pub user: String,
    /// Where.
    pub namespace: String,
    /// What they may do there.
    pub role: Role,
    /// Whether it is over: it is taken away.
    pub over: bool,
}

/// A node that an operator took out through us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeDrain {
    /// What tells it from other drains: the event's number.
    pub number: u64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Whether it is over: the node is given back.
    pub over: bool,
}

/// What the log says about a backup, at the time that the plan is made for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownBackup {
    /// The id of its repository; `None`: there was none yet.
    pub repository: Option<String>,
    /// The newest snapshot.
    pub newest: Option<String>,
    /// The last complete snapshot.
    pub good: Option<String>,
    /// How often the repository was checked and nothing was found.
    pub checks: u32,
    /// Whether somebody else removed things from its repository, and no check has looked since.
    #[serde(default)]
    pub foreign: bool,
    /// Snapshots that are the ways back from changes.
    #[serde(default)]
    pub pinned: Vec<String>,
    /// Snapshots that were, and are not any more.
    #[serde(default)]
    pub released: Vec<String>,
    /// What is due now, in the order in which it is done.
    pub due: Vec<Due>,
    /// What is promised and not so.
    pub trouble: Vec<objective::Reason>,
}

/// Something whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// What.
    pub chore: Chore,
    /// Since when; `None`: for the first time, or because an operator asks.
    pub since: Option<Timestamp>,
}

/// What trueup itself needs to go on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Own {
    /// Resources that the daemon's config protects.
    pub resources: BTreeSet<ResourceId>,
    /// Folders in which it keeps its log, its mirror and its indexes; absolute.
    pub folders: BTreeSet<String>,
    /// Where the repository is, as far as its URL says so.
    pub addresses: BTreeSet<std::net::IpAddr>,
}

impl Own {
    /// Whether it needs nothing.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.folders.is_empty() && self.addresses.is_empty()
    }
}

impl Known {
    /// Takes what was renamed along: what is known under the old name is known under the new one.
    pub fn rename(&mut self, desired: &Desired) {
        for to in desired.sync.renamed.moved.keys() {
            let ours = |id: &ResourceId| self.resources.contains_key(id);
            let Some(from) = desired.sync.renamed.former(to, ours).cloned() else { continue };
            if let Some(known) = self.resources.remove(&from) {
                self.resources.insert(to.clone(), known);
            }
            if let Some(why) = self.suspended.remove(&from) {
                self.suspended.entry(to.clone()).or_insert(why);
            }
            if let Some(over) = self.over.remove(&from) {
                self.over.insert(to.clone(), over);
            }
            // Backups cannot be renamed: nothing is carried over of them.
        }
    }
}

/// What the log says about one resource.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownResource {
    /// Digest of the wish last seen to be fulfilled whole; `None`: never yet.
    pub applied: Option<Digest>,
    /// What we last made or started to make: the paths in it are ours.
    pub claimed: Option<Resource>,
    /// `lifecycle.preventDestroy` of the last wish.
    pub prevent_destroy: bool,
    /// `lifecycle.orphan` of the last wish.
    pub orphan: bool,
    /// It runs, but its last proof of being up failed: it is asked again.
    #[serde(default)]
    pub unready: bool,
    /// What the last wish depended on; orders removals.
    pub depends_on: BTreeSet<ResourceId>,
}

/// What a pass may do at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guards {
    /// Whether anything may be removed: false where the environment was empty or read in part.
    pub prune: bool,
}

/// Minutes in a week.
const WEEK_MINUTES: u32 = 7 * DAY_MINUTES;
/// Minutes in a day.
const DAY_MINUTES: u32 = 24 * 60;

/// Whether disruptive steps may run at `minute` of the week; no windows means always.
pub fn window_open(windows: &[SyncWindow], minute: Option<u16>) -> bool {
    let Some(minute) = minute else { return true };
    let minute = u32::from(minute) % WEEK_MINUTES;
    let opened = |window: &SyncWindow, day: u32| {
        let start = (day - 1) * DAY_MINUTES + u32::from(window.start_minute);
        (minute + WEEK_MINUTES - start % WEEK_MINUTES) % WEEK_MINUTES < window.minutes
    };
    windows.is_empty()
        || windows.iter().any(|window| {
            (1..=7u32)
                .filter(|&day| {
                    window.days.is_empty() || window.days.iter().any(|&d| u32::from(d) == day)
                })
                .any(|day| opened(window, day))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_open_and_close_also_over_midnight_and_the_week_end() {
        let night = SyncWindow { days: vec![7], start_minute: 23 * 60, minutes: 120 };
        let sunday = 6 * 1440;
        let at = |minute: u16| window_open(std::slice::from_ref(&night), Some(minute));
        assert!(!at(sunday + 22 * 60 + 59));
        assert!(at(sunday + 23 * 60));
        assert!(at(59), "monday 00:59 is still sunday's window");
        assert!(!at(60));
        assert!(window_open(&[], Some(0)));
        assert!(window_open(&[night], None));
    }
}
