//! When to ask the remote again.
//!
//! Pure: the time is given, the chance comes from a seed. It never sleeps and never asks anybody.

use std::time::Duration;

/// Parts in a thousand by which a wait is stretched at most, so that many hosts started together
/// do not ask together for ever.
const JITTER_PERMILLE: u64 = 200;
/// Doublings of the interval while the remote fails; the ceiling is reached long before.
const DOUBLINGS_MAX: u32 = 16;

/// Decides when the next poll is due. Times are durations since any fixed moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollSchedule {
    interval: Duration,
    back_off_max: Duration,
    seed: u64,
    failures: u32,
    next: Duration,
}

impl PollSchedule {
    /// The longest wait while the remote is down, unless the interval itself is longer: a remote
    /// that came back is noticed within it.
    pub const BACK_OFF_MAX: Duration = Duration::from_secs(600);

    /// A schedule that is due at once.
    #[must_use]
    pub fn new(interval: Duration, seed: u64, now: Duration) -> Self {
        Self {
            interval,
            back_off_max: Self::BACK_OFF_MAX.max(interval),
            seed,
            failures: 0,
            next: now,
        }
    }

    /// When the next poll is due.
    #[must_use]
    pub fn next(&self) -> Duration {
        self.next
    }

    /// Whether one is due.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        now >= self.next
    }

    /// How long to wait from `now`.
    #[must_use]
    pub fn wait(&self, now: Duration) -> Duration {
        self.next.saturating_sub(now)
    }

    /// Polls that failed since the last that did not.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The remote answered.
    pub fn succeeded(&mut self, now: Duration) {
        self.failures = 0;
        self.next = now + self.stretched(self.interval);
    }

    /// The remote did not answer: the wait doubles, up to the ceiling.
    pub fn failed(&mut self, now: Duration) {
        let doubled = self.interval.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX));
        self.failures = self.failures.saturating_add(1);
        self.next = now + self.stretched(doubled.min(self.back_off_max));
    }

    /// Something says that there is news: the next poll is due now.
    pub fn hurry(&mut self, now: Duration) {
        self.next = self.next.min(now);
    }

    fn stretched(&mut self, wait: Duration) -> Duration {
        // SplitMix64 (Steele, Lea, Flood 2014): one word of state, any seed, even spread.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.seed;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let permille = (word ^ (word >> 31)) % (JITTER_PERMILLE + 1);
        let extra = wait.as_micros().saturating_mul(u128::from(permille)) / 1_000;
        wait.saturating_add(Duration::from_micros(u64::try_from(extra).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_poll_is_due_at_once_and_then_once_an_interval() {
        let mut schedule = PollSchedule::new(15 * SECOND, 1, SECOND);
        assert!(schedule.is_due(SECOND));
        for round in 1..200_u32 {
            let now = round * 100 * SECOND;
            schedule.succeeded(now);
            let wait = schedule.wait(now);
            assert!((15 * SECOND..=18 * SECOND).contains(&wait), "{wait:?}");
            assert!(!schedule.is_due(now));
        }
    }

    #[test]
    fn jitter_differs_between_seeds_and_not_between_runs() {
        let waits = |seed| {
            let mut schedule = PollSchedule::new(15 * SECOND, seed, SECOND);
            (0..5)
                .map(|_| {
                    schedule.succeeded(SECOND);
                    schedule.next()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }

    #[test]
    fn failures_double_the_wait_up_to_the_ceiling_and_success_ends_that() {
        let mut schedule = PollSchedule::new(15 * SECOND, 3, SECOND);
        let mut expected = 15 * SECOND;
        for _ in 0..100 {
            schedule.failed(SECOND);
            let wait = schedule.wait(SECOND);
            assert!((expected..=expected + expected / 5).contains(&wait), "{wait:?}");
            expected = (expected * 2).min(PollSchedule::BACK_OFF_MAX);
        }
        assert_eq!(schedule.failures(), 100);
        schedule.succeeded(SECOND);
        assert!(schedule.wait(SECOND) <= 18 * SECOND);
        assert_eq!(schedule.failures(), 0);
    }

    #[test]
    fn news_is_looked_at_at_once() {
        let mut schedule = PollSchedule::new(15 * SECOND, 3, SECOND);
        schedule.failed(SECOND);
        schedule.hurry(2 * SECOND);
        assert!(schedule.is_due(2 * SECOND));
    }
}
