//! When pull requests are looked at again because of the machine.
//!
//! A machine at work says something new all the time. What came up until a round begins is one reason
//! to look, once at each pull request; and a round costs so small a part of the time that the loop never
//! waits for it. It decides nothing about new heads and bases: those are looked at in any case.

use std::time::Duration;

/// Rest after a round, as a multiple of the time it took: a tenth of the time goes into them at most.
const REST: u32 = 10;
/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(300);
/// From this age of a round on, pull requests that were not looked at in it are late, and say so.
const LATE_AFTER: Duration = Duration::from_secs(60);

/// One round: the machine as it was when it began, and how far it has come.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The last event that said something new about the machine when it began.
    machine: u64,
    /// When it began.
    begun: Duration,
    /// The time that was spent looking.
    spent: Duration,
    /// When the next one may begin; `None`: this one is not over.
    next: Option<Duration>,
}

impl Round {
    /// The machine that is looked at `now`, where `newest` is the last that is known of it.
    pub(super) fn machine(&mut self, newest: u64, now: Duration) -> u64 {
        // The first one has nothing to come to an end of.
        let first = self.machine == 0;
        let over = self.next.is_some_and(|next| now >= next);
        if newest != self.machine && (first || over) {
            *self = Self { machine: newest, begun: now, ..Self::default() };
        }
        self.machine
    }

    /// The machine of this round.
    pub(super) fn of(&self) -> u64 {
        self.machine
    }

    /// That long was looked.
    pub(super) fn spend(&mut self, time: Duration) {
        self.spent += time;
    }

    /// Each pull request had its turn.
    pub(super) fn end(&mut self, now: Duration) {
        if self.next.is_none() {
            self.next = Some(now + (self.spent * REST).min(REST_MAX));
        }
    }

    /// Whether every pull request should have had its turn.
    pub(super) fn is_late(&self, now: Duration) -> bool {
        now.saturating_sub(self.begun) >= LATE_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_came_up_is_one_round_and_the_next_one_waits() {
        let second = Duration::from_secs;
        let mut round = Round::default();
        assert_eq!(round.machine(7, second(100)), 7, "the first begins at once");
        assert_eq!(round.machine(9, second(101)), 7, "it is not over");
        round.spend(second(3));
        assert!(!round.is_late(second(159)) && round.is_late(second(160)));
        round.end(second(110));
        round.end(second(120));
        assert_eq!(round.machine(9, second(139)), 7, "ten times the three seconds that it took");
        assert_eq!(round.machine(11, second(140)), 11, "whatever came up meanwhile");
        round.end(second(140));
        assert_eq!(
            round.machine(12, second(140)),
            12,
            "one that cost nothing is no reason to wait"
        );
        round.spend(second(100));
        round.end(second(200));
        assert_eq!(round.machine(13, second(500)), 13, "nor is any for longer than five minutes");
    }
}
