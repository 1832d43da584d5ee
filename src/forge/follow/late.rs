//! Pull requests that cannot be looked at: one that takes too long, or whose head does not come, keeps
//! no other from being looked at.
//!
//! It is put off, longer each time, and its status says why. It never gives one up for good.

use std::sync::Arc;
use std::time::Duration;

use super::foresee::{Foreseen, foresee, not_planned};
use super::seen::Basis;
use super::turn::{Follower, REFUSED_WAIT};
use crate::model::{CommitId, Fault};
use crate::port::JournalFault;

/// The most that looking at one pull request may take: what takes this long was made to, as a merge and
/// the rules have shorter limits of their own.
pub const LOOK_MAX: Duration = Duration::from_secs(60);
/// Wait before one that failed is tried again: the first, doubled each time, and the longest.
const AGAIN_S: (u64, u64) = (5, 300);
/// From this failure in a row on its status says why: before, it may be a moment's trouble.
const TOLD_FROM: u32 = 3;

/// A pull request that could not be looked at.
#[derive(Debug, Clone)]
pub(super) struct PutOff {
    /// Its head.
    head: CommitId,
    /// How often in a row it failed.
    tries: u32,
    /// Until when it is not tried, on the clock that only runs forward.
    until: Duration,
}

/// Why there is nothing to say.
pub(super) enum Unseen {
    /// It took longer than [`LOOK_MAX`].
    Late,
    /// It could not be read.
    Fault(Fault),
}

impl Follower {
    /// Looks at one pull request, for as long as one may take.
    pub(super) async fn look_at_one(
        &mut self,
        number: u64,
        basis: &Basis,
    ) -> Result<Foreseen, Unseen> {
        let clock = Arc::clone(&self.clock);
        tokio::select! {
            biased;
            seen = foresee(self, number, basis) => seen.map_err(Unseen::Fault),
            () = clock.sleep(LOOK_MAX) => Err(Unseen::Late),
        }
    }

    /// Whether it failed lately and waits for its next try.
    pub(super) fn is_put_off(&self, number: u64, head: &CommitId) -> bool {
        let known = self.memory.put_off.get(&number).filter(|known| known.head == *head);
        known.is_some_and(|known| known.until > self.clock.monotonic())
    }

    /// Leaves it alone for a while, and says so where that is more than a moment.
    pub(super) async fn put_off(
        &mut self,
        number: u64,
        basis: &Basis,
        why: &Unseen,
    ) -> Result<(), JournalFault> {
        let known = self.memory.put_off.get(&number).filter(|known| known.head == basis.head);
        let tries = known.map_or(0, |known| known.tries) + 1;
        let (first, longest) = AGAIN_S;
        let (wait, words) = match why {
            Unseen::Late => {
                (REFUSED_WAIT, format!("planning it took longer than {} s", LOOK_MAX.as_secs()))
            }
            Unseen::Fault(fault) => {
                let doubled = first.saturating_mul(1 << tries.saturating_sub(1).min(10));
                (Duration::from_secs(doubled.min(longest)), fault.to_string())
            }
        };
        tracing::warn!(number, why = words, wait_s = wait.as_secs(), "a pull request is put off");
        let (head, until) = (basis.head.clone(), self.clock.monotonic() + wait);
        self.memory.put_off.insert(number, PutOff { head, tries, until });
        if matches!(why, Unseen::Late) || tries >= TOLD_FROM {
            let again = format!("{words}; tried again in {}, or after a push", span(wait));
            // What it is said with needs nothing that could fail as it did.
            if let Ok(said) = not_planned(self, number, basis, again) {
                self.keep(number, said).await?;
            }
        }
        Ok(())
    }
}

/// A time as people say it.
fn span(wait: Duration) -> String {
    match wait.as_secs() {
        seconds if seconds >= 3_600 => format!("{} h", seconds / 3_600),
        seconds if seconds >= 60 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
