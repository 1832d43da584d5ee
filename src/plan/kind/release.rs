//! Releases: what the cluster said is to be done, as steps of one chain.
//!
//! What differs and in which order it is mended is decided by `trueup_kubernetes::release::plan`, which is
//! pure, from what the look found. Here it gets reasons, guards and words. A plan after a crash is the rest
//! of the plan before it: the inventory in the cluster knows what was begun.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use trueup_kubernetes::ObjectKey;
use trueup_kubernetes::release::{self, Action as Does, Item, KEEP, Step};

use super::super::{Action, Disruption, FieldChange, Reason, SkipReason};
use super::{Case, Draft, Verdict, folder};
use crate::model::resource::{Release, ReleasePlace, ReleaseRendering, ReleaseSeen};
use crate::model::{Resource, ResourceId, listed};

/// Objects that are named in a reason; the rest is counted.
const NAMED_MAX: usize = 5;

/// What has to be done for a release.
pub(in super::super) fn decide(
    case: &Case<'_, '_>,
    to: &Release,
    from: Option<&Release>,
) -> Verdict {
    let mut verdict = Verdict::default();
    if let Some(Resource::Release(before)) = case.facts.claimed(case.id)
        && before.place != to.place
    {
        let why = format!(
            "it was applied as {}, and its objects would stay there: take the document out first, or \
             give the new one another name",
            before.place
        );
        verdict.skip(SkipReason::Immutable(why), Vec::new());
        return verdict;
    }
    if let Some(files) = &to.folder {
        folder::decide(case, to, files, from, &mut verdict);
        return verdict;
    }
    // An observation without a look is one that nobody made.
    let Some(seen) = from.and_then(|from| from.seen.as_deref()) else { return verdict };
    let plan = release::plan(&seen.wish, &seen.seen);
    let refused: Vec<(&ObjectKey, &str)> = plan.refused().collect();
    if !refused.is_empty() {
        verdict.skip(SkipReason::Conflict(told(&refused)), changes_of(&plan.items));
        return verdict;
    }
    if case.desired.lifecycle.prevent_destroy
        && plan.items.iter().any(|item| item.action == Does::Replace)
    {
        verdict.skip(SkipReason::PreventDestroy, changes_of(&plan.items));
        return verdict;
    }
    left(case, to, seen, &plan.items, &mut verdict);
    let reason = match (&seen.seen.inventory, case.reason) {
        (None, Reason::Changed) => Reason::Missing,
        (_, reason) => reason,
    };
    let before = match case.facts.claimed(case.id) {
        Some(Resource::Release(before)) => before.rendered.as_slice(),
        _ => &[],
    };
    let mut renderings = rendered(to, before);
    for mut draft in drafts(case.id, &to.place, reason, &plan) {
        // With the first note, which says what comes: whoever approves sees what was rendered, and by what.
        if matches!(&draft.action, Action::Release { step, .. } if matches!(**step, Step::Record { .. }))
        {
            draft.changes.append(&mut renderings);
        }
        verdict.step(draft);
    }
    verdict
}

/// The steps that take a release out of its cluster.
///
/// # Errors
/// Why none of it can go.
pub(in super::super) fn remove(id: &ResourceId, from: &Release) -> Result<Vec<Draft>, SkipReason> {
    if let Some(seen) = from.folder.as_deref().and_then(|folder| folder.seen.as_deref()) {
        return Ok(folder::remove(id, &from.place, seen));
    }
    let Some(seen) = from.seen.as_deref() else { return Ok(Vec::new()) };
    let plan = release::plan(&seen.wish, &seen.seen);
    if plan.steps.is_empty() {
        let held: Vec<(&ObjectKey, &str)> = plan.items.iter().filter_map(kept).collect();
        return if held.is_empty() { Ok(Vec::new()) } else { Err(SkipReason::InUse(told(&held))) };
    }
    Ok(drafts(id, &from.place, Reason::Gone, &plan))
}

/// What was rendered for a release, where it is not what was rendered for the one before.
fn rendered(to: &Release, before: &[ReleaseRendering]) -> Vec<FieldChange> {
    let words = |it: &ReleaseRendering| Value::from(format!("{} by {}", it.digest, it.by));
    let change = |new: &ReleaseRendering| {
        let old = before.iter().find(|old| old.of == new.of);
        FieldChange {
            path: format!("/rendered/{}", new.of),
            from: old.map(words),
            to: Some(words(new)),
            disruption: Disruption::None,
        }
    };
    to.rendered.iter().filter(|new| !before.contains(new)).map(change).collect()
}

/// Says what stays although the files have it no more.
fn left(
    case: &Case<'_, '_>,
    to: &Release,
    seen: &ReleaseSeen,
    items: &[Item],
    verdict: &mut Verdict,
) {
    let there = |item: &&Item| seen.seen.left.get(&item.key).is_some_and(Option::is_some);
    let kept: Vec<(&ObjectKey, &str)> = items.iter().filter(there).filter_map(kept).collect();
    if kept.is_empty() {
        return;
    }
    let protected = case.desired.lifecycle.prevent_destroy;
    if !seen.wish.prune && (protected || !to.prune || !case.facts.desired().sync.prune) {
        let gone = |(key, _): &(&ObjectKey, &str)| FieldChange {
            path: path(key),
            from: Some("there".into()),
            to: None,
            disruption: Disruption::Destroy,
        };
        verdict.skip(SkipReason::PruneOff, kept.iter().map(gone).collect());
    } else {
        verdict.skip(SkipReason::InUse(told(&kept)), Vec::new());
    }
}

/// An object that is kept, and why.
fn kept(item: &Item) -> Option<(&ObjectKey, &str)> {
    match &item.action {
        // What its own annotation keeps is as it should be.
        Does::Leave(why) if !why.contains(KEEP) => Some((&item.key, why.as_str())),
        _ => None,
    }
}

/// The steps of a plan, each with what it changes.
fn drafts(
    id: &ResourceId,
    place: &ReleasePlace,
    reason: Reason,
    plan: &release::Plan,
) -> Vec<Draft> {
    let items: BTreeMap<&ObjectKey, &Item> = plan.items.iter().map(|it| (&it.key, it)).collect();
    let draft = |step: &Step| {
        let (changes, disruption) = match key_of(step) {
            Some(key) => changes(step, key, items.get(key).copied()),
            None => (Vec::new(), Disruption::None),
        };
        let interrupts = match disruption >= Disruption::Restart {
            true => BTreeSet::from([id.clone()]),
            false => BTreeSet::new(),
        };
        let action = Action::Release { place: place.clone(), step: Box::new(step.clone()) };
        Draft::quiet(action, reason, changes).disturbing(disruption, interrupts)
    };
    plan.steps.iter().map(draft).collect()
}

/// The object that a step is about.
fn key_of(step: &Step) -> Option<&ObjectKey> {
    match step {
        Step::Apply { key, .. }
        | Step::AwaitReady { key }
        | Step::Delete { key, .. }
        | Step::AwaitGone { key, .. } => Some(key),
        Step::Record { .. } | Step::Forget => None,
    }
}

/// What one step changes, and how much that disturbs.
fn changes(step: &Step, key: &ObjectKey, item: Option<&Item>) -> (Vec<FieldChange>, Disruption) {
    let one = |path: String, from: Option<&str>, to: Option<&str>, disruption| {
        let value = |word: Option<&str>| word.map(Value::from);
        let change = FieldChange { path, from: value(from), to: value(to), disruption };
        (vec![change], disruption)
    };
    let replaced = item.is_some_and(|item| item.action == Does::Replace);
    match step {
        Step::Apply { .. } => {
            let fields = item.map(fields).unwrap_or_default();
            match item {
                Some(item) if item.action == Does::Change && !fields.is_empty() => {
                    (fields, of(item.disruption))
                }
                Some(item) if item.action == Does::Change => {
                    one(path(key), Some("there"), Some("applied"), Disruption::Live)
                }
                _ => one(path(key), None, Some("there"), Disruption::None),
            }
        }
        Step::AwaitReady { .. } => {
            one(format!("{}/ready", path(key)), None, Some("ready"), Disruption::None)
        }
        Step::Delete { .. } if replaced => {
            let why = item.map(fields).unwrap_or_default();
            (why, Disruption::Replace)
        }
        Step::Delete { .. } => one(path(key), Some("there"), None, Disruption::Destroy),
        Step::AwaitGone { .. } => {
            one(format!("{}/gone", path(key)), None, Some("gone"), Disruption::None)
        }
        Step::Record { .. } | Step::Forget => (Vec::new(), Disruption::None),
    }
}

/// Every difference of a plan that is not carried out.
fn changes_of(items: &[Item]) -> Vec<FieldChange> {
    items.iter().flat_map(fields).collect()
}

/// The fields of one object that differ. Values of Secrets are hidden in them already.
fn fields(item: &Item) -> Vec<FieldChange> {
    let own = path(&item.key);
    let field = |change: &release::FieldChange| FieldChange {
        path: format!("{own}{}", change.path),
        from: change.from.clone(),
        to: change.to.clone(),
        disruption: of(change.disruption),
    };
    item.changes.iter().map(field).collect()
}

/// An object as a path: `/Deployment/shop/web`.
fn path(key: &ObjectKey) -> String {
    match &key.namespace {
        Some(namespace) => format!("/{}/{namespace}/{}", key.kind, key.name),
        None => format!("/{}/{}", key.kind, key.name),
    }
}

/// How much a change disturbs, in words of plans.
fn of(disruption: release::Disruption) -> Disruption {
    match disruption {
        release::Disruption::None => Disruption::None,
        release::Disruption::Live => Disruption::Live,
        release::Disruption::Restart => Disruption::Restart,
        release::Disruption::Replace => Disruption::Replace,
        release::Disruption::Destroy => Disruption::Destroy,
    }
}

/// Objects with their reasons, the first of them.
fn told(all: &[(&ObjectKey, &str)]) -> String {
    let told = all.iter().take(NAMED_MAX).map(|(key, why)| {
        // Most reasons name their object.
        let named = key.to_string();
        if why.contains(&named) { (*why).to_owned() } else { format!("{named}: {why}") }
    });
    let mut words = told.collect::<Vec<_>>().join("; ");
    if all.len() > NAMED_MAX {
        let more: Vec<String> = all[NAMED_MAX..].iter().map(|(key, _)| key.to_string()).collect();
        words.push_str(&format!("; and so {}", listed(&more)));
    }
    words
}
