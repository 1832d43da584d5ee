//! Which heads of strangers are looked at.
//!
//! A label is for the head that it was put on; the next push needs it anew.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::approvals::TOLD_TO_THE;
use super::ballot;
use super::turn::Follower;
use crate::config::ForkPlans;
use crate::model::CommitId;
use crate::port::forge::PullRequest;

/// Whether a pull request was labelled, when that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Labelled {
    head: CommitId,
    /// When the pull request had changed last: every change of a label changes it.
    changed: Timestamp,
    is: bool,
}

impl Follower {
    /// Forks whose heads are looked at.
    pub(super) async fn allowed(&mut self) -> BTreeSet<u64> {
        let forks = self.memory.listed.iter().filter(|pull| pull.fork);
        match self.forks.plan {
            ForkPlans::Off => BTreeSet::new(),
            ForkPlans::Redacted => forks.map(|pull| pull.number).collect(),
            ForkPlans::Label => {
                let label = &self.forks.label;
                let with = forks.filter(|pull| pull.labels.contains(label));
                let with: Vec<PullRequest> = with.cloned().collect();
                self.memory.labelled.retain(|n, _| with.iter().any(|pull| pull.number == *n));
                let mut allowed = BTreeSet::new();
                for pull in with {
                    if self.is_labelled(&pull).await {
                        allowed.insert(pull.number);
                    }
                }
                allowed
            }
        }
    }

    /// Whether the label was put on after its head was seen; asked for once a change.
    async fn is_labelled(&mut self, pull: &PullRequest) -> bool {
        let (number, ahead) = (pull.number, self.memory.heard.ahead);
        if let Some(known) = self.memory.labelled.get(&number)
            && (&known.head, known.changed) == (&pull.head_sha, pull.updated_at)
        {
            return known.is;
        }
        let since = self.reconciler.ledger.read(|state| {
            let known = state.pulls.open.get(&number)?;
            (known.head == pull.head_sha).then_some(known.since)
        });
        let Some(since) = since else { return false };
        let events = match self.forge.label_events(number).await {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(number, %error, "its labels cannot be read");
                return false;
            }
        };
        let is = ballot::labelled(&events, &self.forks.label, since, ahead).is_some();
        // Within a second more can change without another time.
        if !ballot::after(pull.updated_at, self.clock.now() - TOLD_TO_THE, ahead) {
            let (head, changed) = (pull.head_sha.clone(), pull.updated_at);
            self.memory.labelled.insert(number, Labelled { head, changed, is });
        }
        is
    }
}
