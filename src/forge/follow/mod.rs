//! Following pull requests: what merging each would do, said on the forge.
//!
//! It runs beside the loop and never inside it: whatever the forge does, the machine is reconciled
//! all the same. It acts on nothing but the forge and the log. What is to be said follows from the
//! log alone (`wanted`), so nothing is lost with the program, and nothing is said twice.

mod approvals;
mod ballot;
mod foresee;
mod ground;
mod late;
mod people;
mod post;
mod report;
mod seen;
mod turn;
mod wanted;
mod withdrawals;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

pub use late::LOOK_MAX;
pub use report::Report;
pub use seen::PLANNED_MAX;
pub use turn::{Follower, Memory};
pub use wanted::{Course, Landing, Want, What, wanted};

use crate::port::JournalFault;

/// Rest after a turn at least, as a part of the time between two: a forge that answers slowly is not
/// asked without end.
const REST: u32 = 10;

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
