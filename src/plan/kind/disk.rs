//! Disks: made, grown, and only where the spec says so made anew. Never shrunk, moved or converted.

use std::collections::BTreeSet;

use super::super::diff::Diff;
use super::super::{Action, Disruption, FieldChange, SkipReason};
use super::{Case, Draft, Verdict};
use crate::model::Resource;
use crate::model::resource::{Disk, OnImageChange};

/// What has to be done for a disk.
pub(in super::super) fn decide(case: &Case<'_, '_>, to: &Disk, from: Option<&Disk>) -> Verdict {
    let mut verdict = Verdict::default();
    let create = || Action::DiskCreate { disk: to.clone() };
    let Some(from) = from else {
        match moved_from(case, to) {
            Some(why) => verdict.skip(why, Vec::new()),
            None => verdict.step(Draft::quiet(create(), case.reason, Vec::new())),
        }
        return verdict;
    };
    if let Some((why, changes)) = immutable(from, to) {
        verdict.skip(why, changes);
        return verdict;
    }
    if from.backing != to.backing && replaces(case, &mut verdict, from, to) {
        return verdict;
    }
    if case.adopting() {
        verdict.step(Draft::quiet(create(), case.reason, Vec::new()));
    }
    size(case, &mut verdict, from, to);
    verdict
}

/// Why a disk that is absent where it should be must not be made: its data is somewhere else.
fn moved_from(case: &Case<'_, '_>, to: &Disk) -> Option<SkipReason> {
    match case.facts.claimed(case.id) {
        Some(Resource::Disk(old)) if old.path != to.path => Some(SkipReason::Immutable(format!(
            "its data is in {}: if the disk was renamed, say so under `moved` in the environment; \
             give it another name to start empty, or move the file to {} by hand and set \
             lifecycle.adopt",
            old.path, to.path
        ))),
        _ => None,
    }
}

/// The fields that nothing but a new disk could change.
fn immutable(from: &Disk, to: &Disk) -> Option<(SkipReason, Vec<FieldChange>)> {
    let mut diff = Diff::default();
    diff.field(format_args!("/path"), &from.path, &to.path, Disruption::Replace);
    diff.field(format_args!("/format"), &from.format, &to.format, Disruption::Replace);
    if let (Some(from), Some(to)) = (&from.backing, &to.backing)
        && from.path == to.path
    {
        diff.field(format_args!("/backing/format"), &from.format, &to.format, Disruption::Replace);
    }
    let text = "a disk keeps its file and format: give it another name to get a new one";
    (!diff.changes.is_empty()).then(|| (SkipReason::Immutable(text.to_owned()), diff.changes))
}

/// Handles another image below; true where the disk is made anew.
fn replaces(case: &Case<'_, '_>, verdict: &mut Verdict, from: &Disk, to: &Disk) -> bool {
    let mut diff = Diff::default();
    diff.optional(format_args!("/backing"), &from.backing, &to.backing, Disruption::Replace);
    let mut running = case.facts.running_with_file(&from.path);
    let foreign = running.find(|vm| !case.facts.ours_now(vm));
    let why = match to.on_image_change.unwrap_or_default() {
        OnImageChange::Keep => SkipReason::ImageKept,
        OnImageChange::Replace if case.desired.lifecycle.prevent_destroy => {
            SkipReason::PreventDestroy
        }
        OnImageChange::Replace if case.adopting() => SkipReason::ImageKept,
        OnImageChange::Replace if !case.facts.window_open => SkipReason::RestartNeeded,
        OnImageChange::Replace if foreign.is_some() => {
            SkipReason::InUse(foreign.map(ToString::to_string).unwrap_or_default())
        }
        OnImageChange::Replace => {
            let mut interrupts = BTreeSet::from([case.id.clone()]);
            interrupts.extend(case.facts.running_with_file(&from.path).cloned());
            let delete = Action::DiskDelete { pool: from.pool.clone(), path: from.path.clone() };
            verdict.step(
                Draft::quiet(delete, case.reason, diff.changes)
                    .disturbing(Disruption::Replace, interrupts),
            );
            let create = Action::DiskCreate { disk: to.clone() };
            verdict.step(Draft::quiet(create, case.reason, Vec::new()));
            return true;
        }
    };
    verdict.skip(why, diff.changes);
    false
}

/// Grows, and refuses to shrink.
fn size(case: &Case<'_, '_>, verdict: &mut Verdict, from: &Disk, to: &Disk) {
    let mut diff = Diff::default();
    // Asked only where it matters: the answer costs an index of all domains.
    let live = (to.size > from.size).then(|| case.facts.live_target(&from.path)).flatten();
    let disruption = match live {
        Some(_) => Disruption::Live,
        None => Disruption::None,
    };
    diff.field(format_args!("/size"), &from.size, &to.size, disruption);
    if to.size < from.size {
        verdict.skip(SkipReason::ShrinkRefused, diff.changes);
    } else if to.size > from.size {
        let grow =
            Action::DiskGrow { path: to.path.clone(), pool: to.pool.clone(), size: to.size, live };
        verdict.step(
            Draft::quiet(grow, case.reason, diff.changes).disturbing(disruption, BTreeSet::new()),
        );
    }
}
