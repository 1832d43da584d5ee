//! What the driver reports by itself wakes the loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use trueup::reconcile::{Daemon, Pace};
use trueup::view::{self, HealthWord};
use trueup_fake_nvml::Edit;

use super::lab::{FIRST, Lab, layout, uuid};

/// Far longer than any wait in these tests: whatever is found, is not found by the clock.
const NEVER: Duration = Duration::from_secs(1_000_000);

#[tokio::test]
async fn an_xid_is_a_reason_to_look() {
    let mut lab = Lab::cut().await;
    let provider = lab.provider();
    lab.world.hand_over_to(Arc::new(provider.clone())).await;
    let woken = Arc::new(Notify::new());
    let waking = Arc::clone(&woken);
    let events = tokio::spawn(provider.each_event(move || waking.notify_one()));
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    lab.edit(&Edit::Xid { gpu: 0, xid: 79, start: None });
    tokio::time::timeout(Duration::from_secs(30), woken.notified()).await.unwrap();
    events.abort();
}

/// From the driver's report to the log, through the daemon's own loop.
#[tokio::test]
async fn an_xid_is_in_the_log_within_a_second() {
    let mut lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    let provider = lab.provider();
    lab.world.hand_over_to(Arc::new(provider.clone())).await;
    let stop = lab.world.stoppable();
    lab.settle().await;
    let pace = Pace { poll: NEVER, look: NEVER };
    let (daemon, handle) = Daemon::new(Arc::clone(&lab.world.program), pace);
    let running = tokio::spawn(daemon.run());
    let waking = handle.clone();
    let events = tokio::spawn(provider.each_event(move || waking.wake()));
    let xids = |lab: &Lab| lab.world.state().gpus[&uuid(0)].xids.len();
    assert_eq!(xids(&lab), 0);
    let began = Instant::now();
    lab.edit(&Edit::Xid { gpu: 0, xid: 119, start: Some(4) });
    let noticed = async {
        while xids(&lab) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), noticed).await.unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let rows = view::gpu_health(&lab.world.state());
    assert_eq!(rows[0].health, HealthWord::Degraded, "{rows:?}");
    let reported = lab.world.log.events();
    let reported = reported.iter().find(|it| it.entry.event.type_name() == "gpu.xid").unwrap();
    assert_eq!(reported.entry.actor, "machine");
    assert_eq!(reported.entry.subject, Some("gpu/big".parse().unwrap()));
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    events.abort();
}

/// A GPU that came back is watched again.
#[tokio::test]
async fn a_gpu_that_was_lost_when_the_watch_began_is_watched_later() {
    let mut lab = Lab::with(&["h100-80gb", "h100-80gb"]).await;
    lab.edit(&Edit::Lose { gpu: 0 });
    lab.commit(&[layout("other", 1, "mig", FIRST)]);
    lab.settle().await;
    lab.edit(&Edit::Return { gpu: 0 });
    lab.pass().await;
    lab.edit(&Edit::Xid { gpu: 0, xid: 62, start: None });
    lab.reported("Xid 62").await;
}
