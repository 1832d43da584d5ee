//! The daemon's own loop over the world: what it does while something is slow.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use trueup::model::ResourceId;
use trueup::port::Clock;
use trueup::reconcile::{Daemon, Handle, Pace, PassError, PassOptions};

use super::World;
use super::host::Trouble;

/// The time between two looks of the daemon in these tests: far longer than any wait in them, so
/// that whatever happens was not found by the clock.
const POLL: Duration = Duration::from_secs(100_000);
const SLOW: Duration = Duration::from_secs(600);

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

/// A world whose daemon runs, with an image that takes [`SLOW`].
async fn begun() -> (World, Handle, JoinHandle<Result<(), PassError>>, watch::Sender<bool>) {
    begun_at(Pace { poll: POLL, look: POLL }).await
}

async fn begun_at(
    pace: Pace,
) -> (World, Handle, JoinHandle<Result<(), PassError>>, watch::Sender<bool>) {
    let mut world = World::with_parallel(2).await;
    let stop = world.stoppable();
    world.remote.write("trueup.yaml", include_str!("../scenarios/repository.yaml"));
    world.remote.write("environments/lab/all.yaml", include_str!("../scenarios/lab.yaml"));
    world.remote.commit("first");
    world.host.trouble(&id("image/debian"), "create", Trouble::Slow(SLOW));
    let (daemon, handle) = Daemon::new(Arc::clone(&world.program), pace);
    let running = tokio::spawn(daemon.run());
    world.clock.sleep(Duration::from_secs(10)).await;
    assert!(world.state().resources[&id("image/debian")].in_flight.is_some());
    (world, handle, running, stop)
}

#[tokio::test(start_paused = true)]
async fn a_slow_step_keeps_nobody_else_waiting() {
    let (world, handle, running, stop) = begun().await;
    world.host.stop(&id("network/lab"));
    handle.wake();
    world.clock.sleep(Duration::from_secs(3)).await;
    assert!(world.host.machine().resources[&id("network/lab")].active, "not healed");
    let plan = handle.preview().await.unwrap();
    assert!(plan.under_way.contains(&id("image/debian")), "{:?}", plan.under_way);
    assert!(world.state().resources[&id("image/debian")].in_flight.is_some(), "it waited for it");

    // The end of the slow step wakes the loop, and all that hung on it follows.
    world.clock.sleep(SLOW).await;
    let state = world.state();
    let unsynced = state.resources.iter().filter(|(_, known)| known.applied.is_none());
    assert_eq!(unsynced.count(), 0);
    world.check_invariants();
    stop.send_replace(true);
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_machine_at_rest_is_looked_at_less_often_than_the_repository() {
    let look = POLL * 20;
    let (world, _handle, running, stop) = begun_at(Pace { poll: POLL, look }).await;
    world.clock.sleep(SLOW * 2).await;
    let is_off = |world: &World| !world.host.machine().resources[&id("network/lab")].active;
    // Nobody says so: it is found by looking.
    world.host.stop(&id("network/lab"));
    world.clock.sleep(POLL * 4).await;
    assert!(is_off(&world), "the machine is looked at with every poll");
    world.clock.sleep(look).await;
    assert!(!is_off(&world), "the machine is not looked at any more");

    // A new commit does not wait for that.
    world.host.stop(&id("network/lab"));
    let lab = include_str!("../scenarios/lab.yaml");
    world.remote.write("environments/lab/all.yaml", &format!("{lab}# other\n"));
    world.remote.commit("second");
    world.clock.sleep(POLL * 3).await;
    assert!(!is_off(&world), "a commit has to wait for the next look");
    stop.send_replace(true);
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_asked_for_pass_is_answered_when_all_of_it_has_ended() {
    let (world, handle, running, stop) = begun().await;
    let before = world.clock.monotonic();
    let asked = handle.pass(PassOptions::default()).await.unwrap();
    assert!(world.clock.monotonic() - before > SLOW / 2, "it did not wait for the image");
    assert!(asked.under_way.is_empty());
    assert_eq!((asked.failed, asked.blocked), (0, 0));
    assert!(asked.succeeded >= 5, "the image and what hangs on it: {}", asked.succeeded);
    assert!(world.host.machine().resources[&id("vm/db")].active);
    stop.send_replace(true);
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_is_under_way_and_starts_nothing() {
    let (world, _handle, running, stop) = begun().await;
    stop.send_replace(true);
    let before = world.clock.monotonic();
    running.await.unwrap().unwrap();
    assert!(world.clock.monotonic() - before > SLOW / 2, "it did not wait");
    let machine = world.host.machine();
    assert!(machine.resources.contains_key(&id("image/debian")));
    assert!(!machine.resources.contains_key(&id("disk/web")), "it started something");
    world.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_is_looked_at_anew() {
    let (mut world, handle, running, _stop) = begun().await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    drop(handle);
    world.restart().await;
    let events = world.log.events();
    assert!(events.iter().any(|event| event.entry.event.type_name() == "step.interrupted"));
    world.settle().await;
    let effects = world.host.effects();
    let made = effects.iter().filter(|effect| *effect == "create image/debian");
    assert_eq!(made.count(), 1, "{effects:?}");
}

#[tokio::test(start_paused = true)]
async fn the_log_that_fills_while_a_step_runs_is_survived() {
    let (world, handle, running, stop) = begun().await;
    world.log.set_full(true);
    world.clock.sleep(SLOW).await;
    world.log.set_full(false);
    world.clock.sleep(Duration::from_secs(60)).await;
    handle.wake();
    world.clock.sleep(Duration::from_secs(60)).await;
    assert!(world.host.machine().resources[&id("vm/db")].active);
    let named = |name: &str| {
        world.log.events().iter().filter(|event| event.entry.event.type_name() == name).count()
    };
    assert_eq!(
        named("step.started"),
        named("step.succeeded") + named("step.failed") + named("step.interrupted"),
        "one outcome for every intent"
    );
    stop.send_replace(true);
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_remote_that_hangs_delays_neither_healing_nor_the_pulse() {
    let (world, handle, running, stop) = begun().await;
    world.clock.sleep(SLOW * 2).await;
    let heartbeat = handle.heartbeat();
    assert!(heartbeat.is_alive(), "silent for {:?} with nothing to do", heartbeat.silence());
    world.remote.set_hang(true);
    world.host.stop(&id("vm/db"));
    handle.wake();
    world.clock.sleep(Duration::from_secs(3)).await;
    assert!(world.host.machine().resources[&id("vm/db")].active, "not healed");
    stop.send_replace(true);
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_hangs_has_no_pulse() {
    let (world, handle, running, _stop) = begun().await;
    let heartbeat = handle.heartbeat();
    assert!(heartbeat.is_alive());
    // The runtime lives, the loop does not.
    running.abort();
    assert!(running.await.is_err());
    world.clock.sleep(Duration::from_secs(600)).await;
    assert!(!heartbeat.is_alive());
}
