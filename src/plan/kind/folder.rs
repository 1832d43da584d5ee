//! Releases that are a folder on a shared file system: the new version beside the old ones, then the link.
//!
//! What is there and what will be is noted first, so that a crash leaves nothing that nobody knows of; the
//! note is cut down at the end, and versions beyond those that are kept go with it. They are as little lost
//! as an outdated file of ours: an old commit makes them again.

use std::collections::BTreeSet;

use serde_json::Value;
use trueup_kubernetes::ObjectKey;
use trueup_kubernetes::release::Step;

use super::super::{Action, Disruption, FieldChange, Reason, SkipReason};
use super::{Case, Draft, Verdict};
use crate::model::ResourceId;
use crate::model::resource::{Release, ReleasePlace, SharedFolder, SharedSeen};

/// The group of what a folder is made of: no kinds of a cluster have it.
const GROUP: &str = "trueup.io";
/// Differences of files that are shown; more are counted.
const SHOWN_MAX: usize = 20;

/// What has to be done for the folder of a release.
pub(super) fn decide(
    case: &Case<'_, '_>,
    to: &Release,
    folder: &SharedFolder,
    from: Option<&Release>,
    verdict: &mut Verdict,
) {
    let seen = from.and_then(|from| from.folder.as_deref()?.seen.as_deref());
    // An observation without a look is one that nobody made.
    let Some(seen) = seen else { return };
    if let Some(why) = &seen.foreign {
        verdict.skip(SkipReason::Conflict(why.clone()), Vec::new());
        return;
    }
    let reason = match (seen.versions.is_empty(), case.reason) {
        (true, Reason::Changed) => Reason::Missing,
        (_, reason) => reason,
    };
    for draft in drafts(&to.place, reason, folder, seen) {
        verdict.step(draft);
    }
}

/// The steps that take a folder away. What stands in its place and is not ours stays.
pub(super) fn remove(id: &ResourceId, place: &ReleasePlace, seen: &SharedSeen) -> Vec<Draft> {
    let mut drafts = Vec::new();
    if let Some(version) = &seen.link {
        let from = Some(Value::from(version.as_str()));
        let change = one("/link", from, None, Disruption::Destroy);
        let step = Step::Delete { key: link(place), version: "v1".into(), uid: version.clone() };
        drafts.push(record(place, Reason::Gone, &seen.versions, version, false));
        let interrupts = BTreeSet::from([id.clone()]);
        let draft = Draft::quiet(action(place, step), Reason::Gone, vec![change]);
        drafts.push(draft.disturbing(Disruption::Destroy, interrupts));
    }
    if !seen.versions.is_empty() {
        drafts.push(Draft::quiet(action(place, Step::Forget), Reason::Gone, Vec::new()));
    }
    drafts
}

fn drafts(
    place: &ReleasePlace,
    reason: Reason,
    folder: &SharedFolder,
    seen: &SharedSeen,
) -> Vec<Draft> {
    let version = folder.version();
    let is_whole = seen.wished.as_ref().is_some_and(Vec::is_empty);
    let is_linked = seen.link.as_ref() == Some(&version);
    let (all, kept) = versions(folder, seen, &version);
    if is_whole && is_linked && seen.complete && seen.versions == kept {
        return Vec::new();
    }
    let mut drafts = vec![record(place, reason, &all, &version, false)];
    if !is_whole {
        let key = ObjectKey::new(GROUP, "Version", None, &version);
        let step = Step::Apply { key, digest: version.clone() };
        let changes = written(folder, seen);
        let all = changes.iter().map(|it| it.disruption);
        let disruption = all.max().unwrap_or(Disruption::None);
        let draft = Draft::quiet(action(place, step), reason, changes);
        drafts.push(draft.disturbing(disruption, BTreeSet::new()));
    }
    if !is_linked {
        let step = Step::Apply { key: link(place), digest: version.clone() };
        let from = seen.link.as_deref().map(Value::from);
        // Whoever opens a file by its path from now on gets another one.
        let disruption = if from.is_some() { Disruption::Live } else { Disruption::None };
        let change = one("/link", from, Some(Value::from(version.as_str())), disruption);
        let draft = Draft::quiet(action(place, step), reason, vec![change]);
        drafts.push(draft.disturbing(disruption, BTreeSet::new()));
    }
    drafts.push(record(place, reason, &kept, &version, true));
    drafts
}

/// What is known on the way, and what is kept at the end: the newest, and the one in force.
fn versions(folder: &SharedFolder, seen: &SharedSeen, version: &str) -> (Vec<String>, Vec<String>) {
    let mut all: Vec<String> = seen.versions.iter().filter(|it| *it != version).cloned().collect();
    all.push(version.to_owned());
    let keep = usize::try_from(folder.keep).unwrap_or(usize::MAX).max(1);
    let kept = all[all.len().saturating_sub(keep)..].to_vec();
    (all, kept)
}

/// What writing a version changes.
fn written(folder: &SharedFolder, seen: &SharedSeen) -> Vec<FieldChange> {
    let is_used = seen.link.as_ref() == Some(&folder.version());
    match &seen.wished {
        Some(differences) => {
            // It is exchanged as a whole, under whoever uses it.
            let disruption = if is_used { Disruption::Live } else { Disruption::None };
            let shown = differences.iter().take(SHOWN_MAX).map(|it| {
                let to = Some(Value::from("as in the commit"));
                one(&format!("/files/{}", it.path), Some(Value::from(&*it.what)), to, disruption)
            });
            let more = differences.len().saturating_sub(SHOWN_MAX);
            let rest = (more > 0).then(|| {
                let to = Some(Value::from("as in the commit"));
                one("/files", Some(Value::from(format!("{more} more differ"))), to, disruption)
            });
            shown.chain(rest).collect()
        }
        None => {
            let words = format!("{} file(s), {} bytes", folder.files.len(), folder.bytes());
            vec![one("/files", None, Some(Value::from(words)), Disruption::None)]
        }
    }
}

fn record(
    place: &ReleasePlace,
    reason: Reason,
    versions: &[String],
    digest: &str,
    complete: bool,
) -> Draft {
    let key = |version: &String| (ObjectKey::new(GROUP, "Version", None, version), "v1".to_owned());
    let members = versions.iter().map(key).collect();
    let step = Step::Record { members, digest: digest.to_owned(), complete };
    Draft::quiet(action(place, step), reason, Vec::new())
}

fn action(place: &ReleasePlace, step: Step) -> Action {
    Action::Release { place: place.clone(), step: Box::new(step) }
}

fn link(place: &ReleasePlace) -> ObjectKey {
    ObjectKey::new(GROUP, "Link", None, &place.name)
}

fn one(path: &str, from: Option<Value>, to: Option<Value>, disruption: Disruption) -> FieldChange {
    FieldChange { path: path.to_owned(), from, to, disruption }
}
