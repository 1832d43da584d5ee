//! What rules may know of backups: how each stands, and which disks it saves.
//!
//! Pure. From the log, the wish and what was seen; what is not certain counts as not saved.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use trueup_backup::objective::{self, Health};

use crate::model::{Kind, Observed, Resource, ResourceId, resource};
use crate::policy::Backup;
use crate::spec::{Desired, saved_by, saved_in_part};
use crate::state::{BackupState, State};

/// The backups that are asked for, or were and are not given up.
pub(super) fn saved(
    state: &State,
    desired: &Desired,
    observed: &Observed,
    now: Timestamp,
) -> Vec<Backup> {
    let ids = state.resources.keys().chain(desired.resources.keys());
    let ids: BTreeSet<_> = ids.filter(|id| id.kind == Kind::Backup).collect();
    let look = Look { state, desired, observed, now };
    ids.into_iter().flat_map(|id| look.backup(id)).collect()
}

struct Look<'a> {
    state: &'a State,
    desired: &'a Desired,
    observed: &'a Observed,
    now: Timestamp,
}

impl Look<'_> {
    /// One backup, once for each disk.
    fn backup(&self, id: &ResourceId) -> Vec<Backup> {
        let wish = self.desired.resources.get(id).map(|wish| &wish.resource);
        let claim = self.state.resources.get(id).and_then(|known| known.claim.as_ref());
        let claim = claim.filter(|claim| !claim.orphan).and_then(|claim| claim.resource.as_ref());
        let (wished, claimed) = (wish.and_then(as_backup), claim.and_then(as_backup));
        let Some(any) = wished.or(claimed) else { return Vec::new() };
        let of = self.state.backup(id);
        let standing = objective::standing(&of.facts, &any.objectives, self.now);
        // Only what the commit asks for was looked at.
        let gone = wished.is_some() && !self.observed.resources.contains_key(id);
        let health = match (gone, standing.health) {
            (true, _) => "gone",
            (false, Health::Good) => "good",
            (false, Health::Unverified) => "unverified",
            (false, Health::Missed) => "missed",
            (false, Health::Failed) => "failed",
        };
        let keeps = wished.map(|backup| self.disks(backup)).unwrap_or_default();
        let before = claimed.map(|backup| self.disks(backup)).unwrap_or_default();
        // It has a row, for whoever has a disk saved wants its data, and counts as not saved.
        let part: BTreeSet<_> =
            [wished, claimed].into_iter().flatten().flat_map(|it| self.in_part(it)).collect();
        let proved = of.proved.as_ref().map(|proved| proved.of.clone()).unwrap_or_default();
        let mut all: BTreeSet<_> = proved.into_iter().chain(before).map(Some).collect();
        all.extend(keeps.iter().chain(&part).cloned().map(Some));
        if all.is_empty() {
            all.insert(None);
        }
        let of = &of;
        let one = |resource: Option<ResourceId>| Backup {
            kept: wished.is_some() && resource.as_ref().is_none_or(|disk| keeps.contains(disk)),
            taken_unix: match resource.as_ref().is_some_and(|disk| part.contains(disk)) {
                true => 0,
                false => taken(of, resource.as_ref()),
            },
            resource,
            backup: id.clone(),
            health: health.to_owned(),
            relied_on: standing.relied_on && of.proved.is_some() && !gone,
            verified_unix: unix(of.facts.verified.max(of.facts.drilled)),
            drilled_unix: unix(of.facts.drilled),
            rpo_s: any.objectives.rpo_s,
            measured_rto_s: of.facts.measured_rto_s,
        };
        all.into_iter().map(one).collect()
    }

    /// The disks that a backup saves, those asked for and those that only are ours.
    fn disks(&self, backup: &resource::Backup) -> BTreeSet<ResourceId> {
        let wished = &self.desired.resources;
        let ours = self.state.resources.iter().filter(|(id, _)| !wished.contains_key(*id));
        let ours =
            ours.filter_map(|(id, known)| Some((id, known.claim.as_ref()?.resource.as_ref()?)));
        saved_by(backup, wished.iter().map(|(id, wish)| (id, &wish.resource)).chain(ours))
    }

    /// The disks of which a backup saves a part, by what they are now; else by what they are to be.
    fn in_part(&self, backup: &resource::Backup) -> BTreeSet<ResourceId> {
        let known = &self.state.resources;
        let ours: BTreeMap<_, _> = known
            .iter()
            .filter_map(|(id, known)| Some((id, known.claim.as_ref()?.resource.as_ref()?)))
            .collect();
        let wished = self.desired.resources.iter().map(|(id, wish)| (id, &wish.resource));
        let wished = wished.filter(|(id, _)| !ours.contains_key(id));
        saved_in_part(backup, ours.iter().map(|(id, resource)| (*id, *resource)).chain(wished))
    }
}

fn as_backup(resource: &Resource) -> Option<&resource::Backup> {
    match resource {
        Resource::Backup(backup) => Some(backup),
        _ => None,
    }
}

/// When the newest snapshot that was proved and has `disk` was begun; of no disk: any.
fn taken(of: &BackupState, disk: Option<&ResourceId>) -> i64 {
    let proved = of.proved.as_ref();
    unix(proved.filter(|it| disk.is_none_or(|disk| it.of.contains(disk))).map(|it| it.at))
}

fn unix(at: Option<Timestamp>) -> i64 {
    at.map(Timestamp::as_second).unwrap_or_default()
}
