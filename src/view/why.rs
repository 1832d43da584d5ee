//! The events behind a resource's status: the short story, not the whole history.
//!
//! It is fed every event in the order of the log and remembers a bounded part.

use crate::event::{Event, Recorded};
use crate::model::{Digest, ResourceId};

/// Events kept of one story: more are repetitions (retries), of which the newest tell most.
pub const STORY_MAX: usize = 40;

/// What led to where one resource is.
#[derive(Debug, Clone)]
pub struct Story {
    resource: ResourceId,
    /// Kept whatever happens later: the commit that asked for it, and its last fulfilment.
    asked: Option<Recorded>,
    synced: Option<Recorded>,
    since: Vec<Recorded>,
    plan: Option<Digest>,
    left_out: u64,
}

impl Story {
    /// The story of `resource`, before any event.
    #[must_use]
    pub fn of(resource: ResourceId) -> Self {
        let (since, plan) = (Vec::new(), None);
        Self { resource, asked: None, synced: None, since, plan, left_out: 0 }
    }

    /// Takes one event in.
    pub fn take(&mut self, recorded: &Recorded) {
        let event = &recorded.entry.event;
        if let Event::SpecAccepted(spec) = event {
            let changed = spec.changed.iter().any(|(id, _)| *id == self.resource);
            if changed || spec.removed.contains(&self.resource) {
                self.start_anew();
                self.asked = Some(recorded.clone());
            }
            return;
        }
        if recorded.entry.subject.as_ref() == Some(&self.resource) {
            self.take_own(recorded);
        } else if self.concerns(event) {
            self.push(recorded);
        }
    }

    fn take_own(&mut self, recorded: &Recorded) {
        match &recorded.entry.event {
            Event::Synced(_) => self.synced = Some(recorded.clone()),
            Event::Drifted(_) => {
                // What was done before it was in sync no longer explains anything.
                self.since.clear();
                self.left_out = 0;
                self.push(recorded);
            }
            _ => self.push(recorded),
        }
    }

    /// Whether an event about no resource, or about several, has to do with this one.
    fn concerns(&mut self, event: &Event) -> bool {
        match event {
            Event::PlanMade(made) => {
                let ours = made.steps.iter().any(|step| step.resource == self.resource);
                if ours || made.beside.is_none() {
                    self.plan = ours.then_some(made.plan);
                }
                ours
            }
            Event::PlanHeld(held) => self.plan == Some(held.plan),
            Event::PlanApproved(approved) => self.plan == Some(approved.plan),
            Event::OperatorPaused(_) | Event::OperatorResumed(_) => !self.since.is_empty(),
            _ => false,
        }
    }

    fn start_anew(&mut self) {
        self.since.clear();
        self.left_out = 0;
        self.plan = None;
    }

    fn push(&mut self, recorded: &Recorded) {
        if self.since.len() == STORY_MAX {
            self.since.remove(0);
            self.left_out += 1;
        }
        self.since.push(recorded.clone());
    }

    /// The events, in the order of the log.
    #[must_use]
    pub fn events(&self) -> Vec<&Recorded> {
        let mut events: Vec<_> = self.asked.iter().chain(&self.synced).chain(&self.since).collect();
        events.sort_by_key(|recorded| recorded.seq);
        events
    }

    /// How many events were left out because there were too many.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}
