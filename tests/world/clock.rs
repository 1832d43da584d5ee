//! Time that passes only when everybody waits: tokio's paused clock with a calendar.

use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use trueup::port::{BoxFuture, Clock};

/// A calendar over tokio's paused clock. Its wall clock can be made to jump.
pub(crate) struct FakeClock {
    begin: tokio::time::Instant,
    jump: Mutex<SignedDuration>,
}

impl FakeClock {
    /// Begins on a Monday at noon.
    pub(crate) fn new() -> Self {
        Self { begin: tokio::time::Instant::now(), jump: Mutex::new(SignedDuration::ZERO) }
    }

    /// Moves the wall clock, as a bad NTP server would; monotonic time is not touched.
    pub(crate) fn jump(&self, by: SignedDuration) {
        *self.jump.lock().unwrap() += by;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let monday: Timestamp = "2026-03-02T12:00:00Z".parse().unwrap();
        let elapsed = SignedDuration::try_from(self.monotonic()).unwrap();
        monday + elapsed + *self.jump.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.begin.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
