//! Approved plans from their beginning to their end: what the approval stands for is in the log before
//! the first step, so that a failure, a stop or a crash does not leave a machine half-way.
//!
//! It never widens an approval: what does not fit in here has to be approved again.

use std::collections::BTreeSet;

use super::pass::{PassError, Reconciler, Round};
use crate::event::body::{PlanBegun, PlanLapsed};
use crate::event::{Entry, Event};
use crate::model::{Digest, ResourceId, RunId};
use crate::plan::promise::{Promise, PromisedStep};
use crate::plan::{Plan, SkipReason};

/// Bytes of steps as JSON in one event: far below the longest line.
const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Events for one plan: some ten thousand steps, and half of what the journal takes at once.
const EVENTS_MAX: usize = 16;

impl Reconciler {
    /// Notes what an approved plan may do, once, before it does any of it. Whether it is approved:
    /// by itself, or as `part` of one that is.
    pub(super) async fn begin(
        &self,
        plan: &Plan,
        part: bool,
        run: RunId,
    ) -> Result<bool, PassError> {
        let (approved, begun_before) = self
            .ledger
            .read(|state| (part || state.is_approved(plan), state.is_left_of_begun(plan)));
        if approved && !begun_before {
            let entries = begun(plan.digest(), Promise::of(plan).steps);
            let entries = entries.into_iter().map(|entry| entry.in_run(run)).collect();
            self.append_at(&plan.commit, entries).await?;
        }
        Ok(approved)
    }

    /// Ends what is left of approved plans where nothing is to be done any more about what they were
    /// for, nor will be after a wait.
    pub(super) async fn lapse(&self, round: &Round, run: RunId) -> Result<(), PassError> {
        let steps = round.plan.steps.iter().map(|step| &step.resource);
        let later = round.plan.skipped.iter().filter(|skip| comes_later(&skip.why));
        let open: BTreeSet<&ResourceId> =
            steps.chain(later.map(|skip| &skip.resource)).chain(&round.busy).collect();
        let lapsed: Vec<Digest> = self.ledger.read(|state| {
            let over = |begun: &Promise| !begun.steps.iter().any(|it| open.contains(&it.resource));
            state.begun.iter().filter(|(_, begun)| over(begun)).map(|(plan, _)| *plan).collect()
        });
        let event = |plan| Entry::new(Event::PlanLapsed(PlanLapsed { plan })).in_run(run);
        self.append_at(&round.commit, lapsed.into_iter().map(event).collect()).await
    }
}

/// Whether what is left alone now is looked at again without a change of the commit.
fn comes_later(why: &SkipReason) -> bool {
    matches!(
        why,
        SkipReason::BackingOff
            | SkipReason::InProgress
            | SkipReason::Blocked(_)
            | SkipReason::Unobservable(_)
            | SkipReason::Paused
    )
}

/// The events that say so; a step that is too large for one is left out.
fn begun(plan: Digest, steps: Vec<PromisedStep>) -> Vec<Entry> {
    let mut parts: Vec<Vec<PromisedStep>> = vec![Vec::new()];
    let mut bytes = 0;
    for step in steps {
        let more = serde_json::to_vec(&step).map_or(usize::MAX, |text| text.len());
        if more > EVENT_BYTES_MAX {
            continue;
        }
        if bytes + more > EVENT_BYTES_MAX {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        parts.last_mut().into_iter().for_each(|part| part.push(step.clone()));
    }
    parts.truncate(EVENTS_MAX);
    let event = |steps| Entry::new(Event::PlanBegun(PlanBegun { plan, steps }));
    parts.into_iter().map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Disruption;
    use crate::plan::promise::Deed;

    #[test]
    fn a_large_plan_takes_several_events_and_a_giant_one_is_not_approved_whole() {
        let step = |number: usize, path: usize| PromisedStep {
            resource: format!("vm/web-{number}").parse().unwrap(),
            deed: Deed { kind: "diskDelete".into(), path: Some("x".repeat(path)) },
            wish: None,
            disruption: Disruption::Destroy,
            interrupts: BTreeSet::new(),
            parts: Default::default(),
        };
        let count = |steps: Vec<PromisedStep>| {
            let events = begun(Digest::of("plan"), steps);
            let each = events.iter().map(|entry| {
                let Event::PlanBegun(begun) = &entry.event else { panic!("{entry:?}") };
                assert!(entry.event.to_json().unwrap().len() < 2 * EVENT_BYTES_MAX);
                begun.steps.len()
            });
            (events.len(), each.sum::<usize>())
        };
        assert_eq!(count(vec![step(0, 10), step(1, EVENT_BYTES_MAX)]), (1, 1));
        assert_eq!(count((0..3).map(|n| step(n, 100_000)).collect()), (2, 3));
        let (events, steps) = count((0..100).map(|n| step(n, 100_000)).collect());
        assert_eq!((events, steps), (EVENTS_MAX, 2 * EVENTS_MAX));
    }
}
