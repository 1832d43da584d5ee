//! The loop's pulse: when it last went on, for a watchdog that must not be fooled by a runtime that
//! lives while the loop hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::port::Clock;

/// The longest the loop may take for anything but looking at the machine, which has a limit of its
/// own: reading a large commit, an append to a slow disk.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Told of every turn of the loop. Cheap to clone; all clones are the same pulse.
#[derive(Clone, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The loop goes on.
    pub(super) fn beat(&self, clock: &Arc<dyn Clock>) {
        let now = u64::try_from(clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        self.0.store(now, Ordering::Relaxed);
    }
}

/// Tells whether the loop goes on. Cheap to clone; holds nothing of the loop itself.
#[derive(Clone)]
pub struct Heartbeat {
    pub(super) pulse: Pulse,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observe_limit: Duration,
}

impl Heartbeat {
    /// How long ago the loop last went on: a look ended, a turn began. It does so every few seconds
    /// also when there is nothing to do.
    #[must_use]
    pub fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.pulse.0.load(Ordering::Relaxed));
        self.clock.monotonic().saturating_sub(last)
    }

    /// Whether the loop can be trusted to go on: nothing it does takes as long as it is silent.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.silence() <= self.observe_limit + SILENCE_MAX
    }
}
