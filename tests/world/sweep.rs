//! Break every step, everywhere: crash at each point of a story, come back, and require the same end.

use std::collections::BTreeMap;
use std::time::Duration;

use trueup::model::ResourceId;

use super::host::Trouble;
use super::{ENVIRONMENT, World};

const STORY: [&[(&str, &str)]; 3] = [
    &[
        ("trueup.yaml", include_str!("../scenarios/repository.yaml")),
        ("environments/lab/all.yaml", include_str!("../scenarios/lab.yaml")),
    ],
    &[("environments/lab/all.yaml", include_str!("../scenarios/lab-changed.yaml"))],
    &[("environments/lab/all.yaml", include_str!("../scenarios/lab-removed.yaml"))],
];

/// A machine that is saved before it is restarted, and before it is stopped for good.
const SAVED: [&[(&str, &str)]; 3] = [
    &[
        ("trueup.yaml", include_str!("../scenarios/repository.yaml")),
        ("environments/lab/all.yaml", include_str!("../scenarios/lab-saved.yaml")),
    ],
    &[("environments/lab/all.yaml", include_str!("../scenarios/lab-saved-changed.yaml"))],
    &[("environments/lab/all.yaml", include_str!("../scenarios/lab-saved-off.yaml"))],
];

type Chapters = [&'static [(&'static str, &'static str)]];

/// Tells the whole story to `world`, settling after each chapter.
async fn tell(world: &mut World) {
    tell_of(world, &STORY).await;
}

async fn tell_of(world: &mut World, story: &Chapters) {
    for chapter in story {
        for (path, text) in *chapter {
            world.remote.write(path, text);
        }
        world.remote.commit("chapter");
        world.settle().await;
        world.check_invariants();
    }
}

/// What has to be the same however often it crashed.
fn end_of(world: &World) -> (String, BTreeMap<ResourceId, bool>) {
    let machine = serde_json::to_string_pretty(&world.host.machine()).unwrap();
    let state = world.state();
    let known = state.resources.iter().map(|(id, known)| (id.clone(), known.is_ours())).collect();
    (machine, known)
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_point_comes_to_the_same_end() {
    crash_everywhere(&STORY, 1, None).await;
}

/// The host refuses to disturb what was not saved since it was last disturbed.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_point_of_what_is_saved_first_comes_to_the_same_end() {
    for parallel in [1, 4] {
        crash_everywhere(&SAVED, parallel, None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_point_beside_other_steps_comes_to_the_same_end() {
    crash_everywhere(&STORY, 4, None).await;
}

/// Every step outlives the pass that began it: the crash comes between passes, or beside one.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_point_of_slow_steps_comes_to_the_same_end() {
    crash_everywhere(&STORY, 4, Some(Duration::from_secs(90))).await;
}

async fn world_of(parallel: usize, pace: Option<Duration>) -> World {
    let world = World::with_parallel(parallel).await;
    if let Some(pace) = pace {
        world.host.set_pace(pace);
    }
    world
}

async fn crash_everywhere(story: &Chapters, parallel: usize, pace: Option<Duration>) {
    let mut calm = world_of(parallel, pace).await;
    tell_of(&mut calm, story).await;
    let (points, effects) = (calm.crash.seen(), calm.host.effects());
    assert!(points > 40, "the story has only {points} places to crash in");
    for n in 0..points {
        let mut world = world_of(parallel, pace).await;
        world.crash.arm(n);
        tell_of(&mut world, story).await;
        assert_eq!(end_of(&world), end_of(&calm), "after a crash at point {n}");
        let mut sorted = (world.host.effects(), effects.clone());
        sorted.0.sort();
        sorted.1.sort();
        assert_eq!(sorted.0, sorted.1, "a crash at point {n} did something twice, or not at all");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_any_step_comes_to_the_same_end() {
    fail_everywhere(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_any_step_beside_other_steps_comes_to_the_same_end() {
    fail_everywhere(4).await;
}

async fn fail_everywhere(parallel: usize) {
    let mut calm = World::with_parallel(parallel).await;
    tell(&mut calm).await;
    let passing = || trueup::model::Fault::transient("busy");
    for effect in calm.host.effects() {
        let (verb, id) = effect.split_once(' ').unwrap();
        let id: ResourceId = id.parse().unwrap();
        let slow = Trouble::Slow(Duration::from_secs(300));
        let mut troubles =
            vec![Trouble::Fail(passing()), Trouble::FailAfter(passing()), Trouble::Panic];
        // One by one, whatever is slow is simply waited for.
        if parallel > 1 {
            troubles.push(slow);
        }
        for trouble in troubles {
            let mut world = World::with_parallel(parallel).await;
            world.host.trouble(&id, verb, trouble.clone());
            tell(&mut world).await;
            assert_eq!(end_of(&world), end_of(&calm), "after {trouble:?} in {effect}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_pass_does_nothing() {
    let mut world = World::new().await;
    tell(&mut world).await;
    let (effects, events) = (world.host.effects().len(), world.log.events().len());
    for _ in 0..3 {
        world.pass().await.unwrap();
    }
    assert_eq!(world.host.effects().len(), effects, "in {ENVIRONMENT}");
    assert_eq!(world.log.events().len(), events, "a pass with nothing to do is no event");
}
