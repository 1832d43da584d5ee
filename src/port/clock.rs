//! The port to time.

use std::time::Duration;

use jiff::Timestamp;

use super::BoxFuture;

/// Tells the time and waits for it to pass.
pub trait Clock: Send + Sync {
    /// The wall-clock time: for what is written down and shown.
    fn now(&self) -> Timestamp;

    /// Time that only goes forward, from an arbitrary start: for time limits and durations.
    fn monotonic(&self) -> Duration;

    /// Waits for `duration` of monotonic time.
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()>;
}
