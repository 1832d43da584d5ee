//! Folders of releases: noted first, the link last, old versions within what is kept.

use std::sync::Arc;

use crate::model::resource::{
    Release, ReleaseManifests, ReleasePlace, SharedContent, SharedDifference, SharedFile,
    SharedFolder, SharedSeen,
};
use crate::model::{Digest, Observation, Ownership, Resource};
use crate::plan::fixture::{Machine, id, name};
use crate::plan::promise::{Kept, Promise};
use crate::plan::{Action, Disruption, KnownResource, SkipReason, hold_reasons};

fn release(content: &str) -> Release {
    let file = SharedFile {
        path: "bin/run".into(),
        digest: Digest::of(content),
        bytes: content.len() as u64,
        executable: true,
    };
    let folder = SharedFolder {
        to: "/shared/jobs".into(),
        keep: 2,
        group: None,
        everybody: true,
        files: vec![file],
        content: SharedContent::default(),
        seen: None,
    };
    Release {
        place: ReleasePlace {
            cluster: name("hpc"),
            namespace: "/shared".into(),
            name: "jobs".into(),
        },
        prune: true,
        takes_fields: false,
        takes_from: Default::default(),
        takes_over_from: None,
        timeout_s: 600,
        objects: Vec::new(),
        rendered: Vec::new(),
        folder: Some(Box::new(folder)),
        manifests: ReleaseManifests::default(),
        seen: None,
    }
}

fn version(content: &str) -> String {
    release(content).folder.unwrap().version()
}

/// What a look finds where `content` is asked for.
fn site(content: &str, seen: SharedSeen) -> Machine {
    let mut machine = Machine::new();
    let asked = release(content);
    machine.want("release/jobs", Resource::Release(Box::new(asked.clone())));
    observe(&mut machine, asked, seen);
    machine
}

fn observe(machine: &mut Machine, mut release: Release, seen: SharedSeen) {
    let folder = release.folder.as_mut().unwrap();
    folder.seen = Some(Arc::new(seen));
    let observation = Observation {
        ownership: Ownership::Ours { environment: name("lab") },
        active: true,
        config: Resource::Release(Box::new(release)),
        live: None,
        uuid: None,
        unplugged: Vec::new(),
    };
    machine.observed.resources.insert(id("release/jobs"), observation);
}

/// A folder in which `content` is in force, after these versions.
fn there(content: &str, before: &[&str]) -> SharedSeen {
    let all = before.iter().chain([&content]);
    SharedSeen {
        link: Some(version(content)),
        versions: all.map(|content| version(content)).collect(),
        complete: true,
        wished: Some(Vec::new()),
        ..SharedSeen::default()
    }
}

/// The steps of a plan that its judge passes, each with how much it disturbs.
#[track_caller]
fn steps(machine: &Machine) -> Vec<String> {
    let plan = machine.plan();
    let steps = plan.steps.iter().map(|step| {
        let Action::Release { step: part, .. } = &step.action else { panic!("{step:?}") };
        let about = match &**part {
            trueup_kubernetes::release::Step::Apply { key, .. } => key.kind.clone(),
            trueup_kubernetes::release::Step::Record { members, .. } => members.len().to_string(),
            _ => String::new(),
        };
        format!("{} {about} {:?}", step.action.verb(), step.disruption)
    });
    steps.collect()
}

#[test]
fn the_new_version_comes_before_the_link_and_old_ones_stay() {
    let nothing = SharedSeen { complete: true, ..SharedSeen::default() };
    assert_eq!(
        steps(&site("one", nothing)),
        ["record 1 None", "apply Version None", "apply Link None", "record 1 None"]
    );
    assert_eq!(steps(&site("one", there("one", &[]))), [""; 0]);
    let mut before = there("two", &["one"]);
    before.wished = None;
    assert_eq!(
        steps(&site("three", before.clone())),
        ["record 3 None", "apply Version None", "apply Link Live", "record 2 None"]
    );
    // Killed after the version was written, and after the link.
    before.versions.push(version("three"));
    (before.wished, before.complete) = (Some(Vec::new()), false);
    assert_eq!(
        steps(&site("three", before.clone())),
        ["record 3 None", "apply Link Live", "record 2 None"]
    );
    before.link = Some(version("three"));
    assert_eq!(steps(&site("three", before)), ["record 3 None", "record 2 None"]);
    // Back to one that is still there: it is the newest again.
    assert_eq!(
        steps(&site("one", SharedSeen { link: Some(version("two")), ..there("two", &["one"]) })),
        ["record 2 None", "apply Link Live", "record 2 None"]
    );
}

#[test]
fn what_differs_is_written_anew_under_whoever_uses_it() {
    let difference = SharedDifference { path: "bin/run".into(), what: "mode 6755".into() };
    let seen = SharedSeen { wished: Some(vec![difference]), ..there("one", &[]) };
    let machine = site("one", seen);
    assert_eq!(steps(&machine), ["record 1 None", "apply Version Live", "record 1 None"]);
    assert_eq!(machine.plan().steps[1].changes[0].path, "/files/bin/run");
}

#[test]
fn what_is_not_ours_holds_the_release() {
    let foreign = Some("/shared/jobs is a folder that no release made".to_owned());
    let machine = site("one", SharedSeen { foreign, ..SharedSeen::default() });
    let plan = machine.plan();
    assert!(plan.is_empty());
    assert!(
        matches!(&plan.skipped[0].why, SkipReason::Conflict(why) if why.contains("no release"))
    );
}

#[test]
fn a_folder_that_is_gone_from_the_commit_counts_as_destroyed() {
    let mut machine = Machine::new();
    observe(&mut machine, release("two"), there("two", &["one"]));
    machine.known.resources.insert(id("release/jobs"), KnownResource::default());
    assert_eq!(steps(&machine), ["record 2 None", "delete  Destroy", "remove  None"]);
    let plan = machine.plan();
    assert!(plan.steps.iter().any(|step| step.disruption == Disruption::Destroy));
    machine.desired.sync.max_destroy = 0;
    assert!(!hold_reasons(&plan, &machine.desired.sync, None).is_empty());
}

#[test]
fn a_merge_does_what_was_shown() {
    let seen = SharedSeen { wished: None, ..there("one", &[]) };
    let promise = Promise::of(&site("two", seen.clone()).plan());
    assert_eq!(promise.kept_by(&site("two", seen.clone()).plan()), Kept::Equal);
    let other = promise.kept_by(&site("three", seen).plan());
    assert!(matches!(other, Kept::Surprised { .. }), "{other:?}");
}
