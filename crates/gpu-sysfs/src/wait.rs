//! Waiting for a condition, bounded.
//!
//! inotify does not report what the kernel changes in sysfs, driver links cannot be polled, and a
//! process that closes a file tells nobody: the only way is to look again, at growing intervals, until
//! a deadline.

use std::time::{Duration, Instant};

use crate::condition::{Condition, Fails};
use crate::error::Error;
use crate::root::Root;

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the effect of a write to show.
    pub settle: Duration,
    /// For a refusal that passes by itself (`EBUSY`, `EAGAIN`), all tries together.
    pub busy: Duration,
    /// For a write to return.
    pub write: Duration,
    /// For a command to end.
    pub run: Duration,
    /// The first interval between two looks; each is twice as long as the one before.
    pub first: Duration,
    /// The longest interval.
    pub longest: Duration,
}

impl Default for Patience {
    /// A driver's probe takes one to three seconds, a vGPU's creation some hundred milliseconds; the
    /// vendor's tool for virtual functions unbinds the GPU and binds it again.
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(15),
            busy: Duration::from_secs(5),
            write: Duration::from_secs(60),
            run: Duration::from_secs(120),
            first: Duration::from_millis(5),
            longest: Duration::from_millis(250),
        }
    }
}

/// Looks again and again, until a deadline.
pub(crate) struct Looks {
    until: Instant,
    interval: Duration,
    longest: Duration,
}

impl Looks {
    pub(crate) fn new(patience: &Patience, limit: Duration) -> Self {
        let until = Instant::now() + limit;
        Self { until, interval: patience.first, longest: patience.longest }
    }

    /// Lets the next interval pass; false where there is no time left.
    pub(crate) fn again(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(self.interval.min(left));
        self.interval = (self.interval * 2).min(self.longest);
        true
    }
}

/// The first of the conditions that does not hold; none where all do.
pub(crate) fn first_failing<'c>(
    root: &Root,
    conditions: &'c [Condition],
) -> Result<Option<(&'c Condition, Fails)>, Error> {
    for condition in conditions {
        if let Some(fails) = condition.check(root)? {
            return Ok(Some((condition, fails)));
        }
    }
    Ok(None)
}

/// Waits until all conditions hold; at the deadline, the first that does not.
pub(crate) fn until<'c>(
    root: &Root,
    conditions: &'c [Condition],
    patience: &Patience,
    limit: Duration,
) -> Result<Option<(&'c Condition, Fails)>, Error> {
    let mut looks = Looks::new(patience, limit);
    loop {
        let failing = first_failing(root, conditions)?;
        if failing.is_none() || !looks.again() {
            return Ok(failing);
        }
    }
}
