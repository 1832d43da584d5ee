//! What the driver reports by itself wakes the loop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use trueup_fake_nvml::Edit;

use super::lab::{FIRST, Lab, layout};

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
    lab.edit(&Edit::Event { gpu: 0, kind: 8, data: 79, start: None });
    tokio::time::timeout(Duration::from_secs(30), woken.notified()).await.unwrap();
    events.abort();
}
