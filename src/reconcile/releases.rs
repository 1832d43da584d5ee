//! Releases in the log: how their objects or files do, each time that it is news.
//!
//! Pure. Words of a cluster about an object that is on its way change with every pod: these alone are
//! written now and then.

use jiff::{SignedDuration, Timestamp};
use trueup_kubernetes::release::Health;

use crate::event::body::{
    AddedField, FolderLook, ObjectHealth, ReleaseLook, ReleaseObserved, UnreadyObject,
};
use crate::event::{Entry, Event};
use crate::model::resource::{Release, ReleaseSeen, SharedFolder};
use crate::model::{Observed, Resource};
use crate::plan::render::escape::cut;
use crate::state::State;

/// Between two events that differ in words alone, seconds.
const WORDS_EVERY_S: i64 = 120;
/// Objects and fields that one event names; more are counted.
const NAMED_MAX: usize = 50;
/// Longest words about one object, characters: a person reads a line.
const WHY_MAX: usize = 300;

/// The events for releases whose objects do not do as the log says. Also of those that are being worked
/// on: how they were on the way is what somebody asks later.
pub(super) fn events_of_releases(state: &State, observed: &Observed, now: Timestamp) -> Vec<Entry> {
    let releases = observed.resources.iter().filter_map(|(id, seen)| match &seen.config {
        Resource::Release(release) => Some((id, release)),
        _ => None,
    });
    let events = releases.filter_map(|(id, release)| {
        let known = state.resources.get(id)?;
        let look = match release.folder.as_deref() {
            Some(folder) => look_of_folder(folder)?,
            None if release.objects.is_empty() => return None,
            None => look_of(release, release.seen.as_deref()?),
        };
        let last = known.release.as_deref();
        if let Some(last) = last.filter(|last| last.cluster == release.place.cluster) {
            let young = now < last.at + SignedDuration::from_secs(WORDS_EVERY_S);
            if last.look == look || (young && without_words(&last.look) == without_words(&look)) {
                return None;
            }
        }
        let event = ReleaseObserved {
            cluster: release.place.cluster.clone(),
            namespace: release.place.namespace.clone(),
            look,
        };
        Some(Entry::new(Event::ReleaseObserved(event)).about(id))
    });
    events.collect()
}

/// What was seen, at a glance.
fn look_of(release: &Release, seen: &ReleaseSeen) -> ReleaseLook {
    let mut look = ReleaseLook::default();
    for object in &release.objects {
        *look.kinds.entry(object.kind.clone()).or_default() += 1;
    }
    for (key, health) in seen.seen.health() {
        let missing = seen.seen.objects.get(key).is_none_or(|found| found.live.is_none());
        let (health, why) = match health {
            Health::Ready => {
                look.ready += 1;
                continue;
            }
            Health::Progressing(why) if missing => (ObjectHealth::Missing, why),
            Health::Progressing(why) => (ObjectHealth::Progressing, why),
            Health::Failed(why) => (ObjectHealth::Failed, why),
            Health::Terminating(why) => (ObjectHealth::Terminating, why),
        };
        if look.unready.len() < NAMED_MAX {
            let object = key.to_string();
            look.unready.push(UnreadyObject { object, health, why: line(&why) });
        } else {
            look.more_unready += 1;
        }
    }
    for (key, found) in &seen.seen.objects {
        for extra in &found.extras {
            if look.added.len() < NAMED_MAX {
                look.added.push(AddedField {
                    object: key.to_string(),
                    path: line(&extra.path),
                    manager: line(&extra.manager),
                });
            } else {
                look.more_added += 1;
            }
        }
    }
    look
}

/// What was seen of a folder; `None`: nothing was, or nothing is asked for in it any more.
fn look_of_folder(folder: &SharedFolder) -> Option<ReleaseLook> {
    let seen = folder.seen.as_deref().filter(|_| !folder.files.is_empty())?;
    let (all, version) = (folder.files.len() as u64, folder.version());
    let in_force = seen.link.as_ref() == Some(&version);
    let mut look = ReleaseLook { kinds: [("file".to_owned(), all)].into(), ..Default::default() };
    let whole = |health, why: &str| {
        let object = folder.to.clone();
        UnreadyObject { object, health, why: line(why) }
    };
    match &seen.wished {
        None => {
            let why = seen.foreign.as_deref().unwrap_or("this version is not there yet");
            look.unready.push(whole(ObjectHealth::Missing, why));
        }
        Some(differences) => {
            if !in_force {
                let why = seen.foreign.as_deref().unwrap_or("another version is in force");
                look.unready.push(whole(ObjectHealth::Progressing, why));
            }
            let differing = differences.iter().map(|it| UnreadyObject {
                object: line(&it.path),
                health: ObjectHealth::Failed,
                why: line(&it.what),
            });
            look.unready.extend(differing.take(NAMED_MAX));
            look.more_unready = differences.len().saturating_sub(NAMED_MAX) as u64;
            // Some may be more than are asked for.
            let good = all.saturating_sub(differences.len() as u64);
            look.ready = if in_force { good } else { 0 };
        }
    }
    let (to, bytes) = (folder.to.clone(), folder.bytes());
    look.folder = Some(FolderLook { to, version, bytes, in_force });
    Some(look)
}

/// Words of others as a line that is not too long.
fn line(words: &str) -> String {
    cut(words, WHY_MAX)
}

fn without_words(look: &ReleaseLook) -> ReleaseLook {
    let mut plain = look.clone();
    plain.unready.iter_mut().for_each(|object| object.why.clear());
    plain
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use trueup_kubernetes::release::{Extra, Found, ReleaseName, Seen, Wish, Would, read};

    use super::*;
    use crate::model::resource::{
        ReleaseManifests, ReleaseObject, ReleasePlace, SharedDifference, SharedFile, SharedSeen,
    };
    use crate::model::{Digest, Name, Observation, Ownership, ResourceId};
    use crate::state::ReleaseState;

    const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n";

    /// A look at a release of one Deployment, of which so many pods of two are available.
    fn look(available: u64, extras: Vec<Extra>) -> Observed {
        let manifests = read("x", WEB).unwrap();
        let key = manifests[0].key.clone();
        let live = json!({"metadata": {"generation": 1}, "spec": {"replicas": 2}, "status": {
            "observedGeneration": 1, "replicas": 2, "updatedReplicas": 2,
            "availableReplicas": available}});
        let found = Found { live: Some(Arc::new(live)), would: Would::Same, extras };
        let seen = Seen { objects: [(key, found)].into(), ..Seen::default() };
        let wish = Wish::new(ReleaseName::new("shop", "web").unwrap(), manifests);
        let release = Release {
            place: ReleasePlace {
                cluster: Name::new("apps").unwrap(),
                namespace: "shop".into(),
                name: "web".into(),
            },
            prune: true,
            takes_fields: true,
            takes_from: Default::default(),
            takes_over_from: None,
            timeout_s: 600,
            objects: vec![ReleaseObject {
                version: "apps/v1".into(),
                kind: "Deployment".into(),
                namespace: None,
                name: "web".into(),
                digest: String::new(),
            }],
            rendered: Vec::new(),
            folder: None,
            manifests: ReleaseManifests::default(),
            seen: Some(Arc::new(ReleaseSeen { wish: Arc::new(wish), seen })),
        };
        let observation = Observation {
            ownership: Ownership::Ours { environment: Name::new("lab").unwrap() },
            config: Resource::Release(Box::new(release)),
            live: None,
            active: true,
            uuid: None,
            unplugged: Vec::new(),
        };
        let mut observed = Observed::default();
        observed.resources.insert("release/web".parse().unwrap(), observation);
        observed
    }

    #[test]
    fn health_and_fields_of_others_are_told_at_once_and_words_now_and_then() {
        let mut state = State::default();
        let id: ResourceId = "release/web".parse().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(
            events_of_releases(&state, &look(2, Vec::new()), at(0)).len(),
            0,
            "not asked for"
        );
        state.resources.insert(id.clone(), Default::default());
        let mut told = |observed: Observed, second: i64| {
            let entries = events_of_releases(&state, &observed, at(second));
            let [entry] = &entries[..] else { return None };
            let Event::ReleaseObserved(event) = &entry.event else { panic!("{entry:?}") };
            let known = ReleaseState {
                seq: 1,
                at: at(second),
                cluster: event.cluster.clone(),
                namespace: event.namespace.clone(),
                look: event.look.clone(),
                since: at(second),
            };
            state.resources.get_mut(&id).unwrap().release = Some(Box::new(known));
            Some((event.look.ready, event.look.unready.len(), event.look.added.len()))
        };
        assert_eq!(told(look(0, Vec::new()), 0), Some((0, 1, 0)));
        assert_eq!(told(look(0, Vec::new()), 500), None, "nothing is new");
        assert_eq!(told(look(1, Vec::new()), 1), None, "one pod more, a moment later");
        assert_eq!(told(look(1, Vec::new()), WORDS_EVERY_S), Some((0, 1, 0)));
        assert_eq!(told(look(2, Vec::new()), WORDS_EVERY_S + 1), Some((1, 0, 0)), "it is well");
        let value = Some(json!("not to be written"));
        let extra = Extra { path: ".data.x".into(), manager: "kubectl".into(), value };
        assert_eq!(told(look(2, vec![extra]), WORDS_EVERY_S + 2), Some((1, 0, 1)));
        let stored = serde_json::to_string(&state).unwrap();
        assert!(!stored.contains("not to be written"), "{stored}");
    }

    #[test]
    fn a_folder_is_told_by_its_files_and_by_the_version_that_is_in_force() {
        let file = |path: &str| SharedFile {
            path: path.into(),
            digest: Digest::of(path),
            bytes: 3,
            executable: false,
        };
        let folder = |seen: SharedSeen| SharedFolder {
            to: "/shared/jobs".into(),
            keep: 2,
            group: None,
            everybody: true,
            files: vec![file("a"), file("b")],
            content: Default::default(),
            seen: Some(Arc::new(seen)),
        };
        let version = folder(SharedSeen::default()).version();
        let look = |link: Option<&str>, wished: Option<&[&str]>| {
            let differs =
                |path: &&str| SharedDifference { path: (*path).into(), what: "content".into() };
            let wished = wished.map(|all| all.iter().map(differs).collect());
            let link = link.map(str::to_owned);
            let look = look_of_folder(&folder(SharedSeen { link, wished, ..Default::default() }));
            let look = look.unwrap();
            let named: Vec<String> = look.unready.iter().map(|it| it.object.clone()).collect();
            (look.ready, look.total(), named.join(" "), look.folder.unwrap().in_force)
        };
        let named = |all: &str| all.to_owned();
        assert_eq!(look(None, None), (0, 2, named("/shared/jobs"), false));
        assert_eq!(look(Some("0a1b"), Some(&[])), (0, 2, named("/shared/jobs"), false));
        assert_eq!(look(Some(&version), Some(&[])), (2, 2, named(""), true));
        assert_eq!(look(Some(&version), Some(&["b"])), (1, 2, named("b"), true));
        assert_eq!(
            look(Some(&version), Some(&["a", "b", "more"])),
            (0, 2, named("a b more"), true)
        );
        let mut gone = folder(SharedSeen::default());
        gone.files.clear();
        assert_eq!(look_of_folder(&gone), None, "nothing is asked for in it");
    }

    #[test]
    fn words_of_others_are_one_line_that_is_not_too_long() {
        assert_eq!(line(&"ö".repeat(WHY_MAX)), "ö".repeat(WHY_MAX));
        assert_eq!(line(&"ö".repeat(WHY_MAX + 1)), format!("{}…", "ö".repeat(WHY_MAX - 1)));
        assert!(!line("a\u{1b}[31m\nb").contains(char::is_control));
    }
}
