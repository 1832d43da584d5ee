//! What holds for the client as its users see it, against libvirt's own test driver and, where
//! `TRUEUP_TEST_LIBVIRT_URI` names one, a real daemon that the tests may stop and restart.
#![expect(
    clippy::disallowed_methods,
    reason = "tests write files, read the environment, and stop and start a daemon"
)]

mod daemon;
mod driver;
mod rules;

use std::future::Future;
use std::time::Duration;

use trueup_libvirt::{Event, EventReceiver};

/// Drives a future to its end; a test that hangs fails in place of hanging.
#[track_caller]
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let limit = async { tokio::time::timeout(Duration::from_secs(100), future).await };
    runtime.expect("a runtime").block_on(limit).expect("the test hangs")
}

/// Waits for an event that `wanted` accepts.
#[track_caller]
fn await_event(events: &mut EventReceiver, wanted: impl Fn(&Event) -> bool) -> Event {
    let mut others = Vec::new();
    while let Some(event) = events.next_blocking(Duration::from_secs(30)) {
        if wanted(&event) {
            return event;
        }
        others.push(event);
    }
    panic!("the event did not arrive, only {others:?}");
}
