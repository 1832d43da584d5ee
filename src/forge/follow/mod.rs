//! Following pull requests: what merging each would do, said on the forge.
//!
//! It runs beside the loop and never inside it: whatever the forge does, the machine is reconciled
//! all the same. It acts on nothing but the forge and the log. What is to be said follows from the
//! log alone (`wanted`), so nothing is lost with the program, and nothing is said twice.

mod approvals;
mod ballot;
mod foresee;
mod forks;
mod ground;
mod landing;
mod late;
mod people;
mod post;
mod report;
mod round;
mod seen;
mod turn;
mod wanted;
mod withdrawals;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

pub use landing::{Course, Landing};
pub use late::LOOK_MAX;
pub use report::Report;
pub use seen::PLANNED_MAX;
pub use turn::{Follower, Memory};
pub use wanted::{Sight, Want, What, wanted};

use crate::port::JournalFault;
use crate::port::forge::Budget;

/// Rest after a turn at least, as a part of the time between two: a forge that answers slowly is not
/// asked without end.
const REST: u32 = 10;

/// Requests that a poll with nothing new takes at most; `benches/pulls.rs` counts them.
const REQUESTS_A_POLL: u32 = 3;

/// The longest until a budget is full again that is believed: GitHub's is of an hour.
const RESET_MAX: Duration = Duration::from_secs(3_600);
/// A login's budget is spared from this part of it on: it may be other programs' too.
const SPARED_FROM: u64 = 10;

/// Follows until the program is asked to stop: a turn begins every `poll`, and whenever there is a hint.
/// One that took longer is followed by the next after a short rest: what came up meanwhile waits already.
///
/// # Errors
/// When the log can no longer be written.
pub async fn follow(
    mut follower: Follower,
    poll: Duration,
    hint: Arc<Notify>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), JournalFault> {
    let clock = Arc::clone(&follower.clock);
    loop {
        let begun = clock.monotonic();
        let wait = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            turn = follower.turn() => match turn {
                Ok(wait) => {
                    let rest = poll.saturating_sub(clock.monotonic() - begun).max(poll / REST);
                    let rest = spared(rest, follower.forge.budget(), clock.now());
                    wait.map_or(rest, |wait| wait.min(rest))
                }
                Err(JournalFault::Full { message }) => {
                    tracing::warn!(%message, "pull requests wait for space for the log");
                    poll
                }
                Err(fault) => return Err(fault),
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            () = clock.sleep(wait) => {}
            () = hint.notified() => {}
        }
    }
}

/// The time until the next look, longer where so little of the budget is left that it would not last.
fn spared(rest: Duration, budget: Option<Budget>, now: Timestamp) -> Duration {
    let Some(Budget { limit, remaining, reset: Some(reset) }) = budget else { return rest };
    if remaining >= limit / SPARED_FROM {
        return rest;
    }
    let until = Duration::try_from(reset.duration_since(now)).unwrap_or(Duration::ZERO);
    // A forge that names a time far away is asked again all the same.
    let until = until.min(RESET_MAX);
    let polls = u32::try_from(remaining).unwrap_or(u32::MAX) / REQUESTS_A_POLL;
    rest.max(until / polls.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_budget_lasts_until_there_is_more() {
        let now: Timestamp = "2026-01-02T03:00:00Z".parse().unwrap();
        let second = Duration::from_secs;
        let of = |remaining, reset: Option<&str>| {
            let reset = reset.map(|at| at.parse().unwrap());
            spared(second(30), Some(Budget { limit: 5_000, remaining, reset }), now)
        };
        let half = Some("2026-01-02T03:30:00Z");
        assert_eq!(of(4_000, half), second(30));
        assert_eq!(of(499, half), second(30), "it lasts");
        assert_eq!(of(60, half), second(90));
        assert_eq!(of(0, half), second(1_800));
        assert_eq!(of(0, Some("2026-01-02T02:59:00Z")), second(30), "it is full again");
        assert_eq!(of(0, None), second(30));
        assert_eq!(spared(second(30), None, now), second(30));
    }
}
