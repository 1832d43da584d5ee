//! An event with its place in the log, opened for the fold.

use jiff::Timestamp;

use super::Event;
use crate::model::{CommitId, ResourceId, RunId};

/// An event that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Place in the log, from 1.
    pub seq: u64,
    /// When; never earlier than the one before it.
    pub at: Timestamp,
    /// What it is about.
    pub entry: Entry,
}

/// An event and what it belongs to, before it has a place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What happened.
    pub event: Event,
    /// The resource it happened to.
    pub subject: Option<ResourceId>,
    /// Who caused it: `trueup`, `operator:alice`.
    pub actor: String,
    /// The event that led to it.
    pub cause: Option<u64>,
    /// The pass it belongs to.
    pub run: Option<RunId>,
    /// The commit it belongs to.
    pub commit: Option<CommitId>,
}

/// The actor of everything trueup does by itself.
pub const ACTOR_SELF: &str = "trueup";

impl Entry {
    /// Something trueup did or saw by itself.
    pub fn new(event: Event) -> Self {
        Self {
            event,
            subject: None,
            actor: ACTOR_SELF.to_owned(),
            cause: None,
            run: None,
            commit: None,
        }
    }

    /// The same, about `subject`.
    #[must_use]
    pub fn about(mut self, subject: &ResourceId) -> Self {
        self.subject = Some(subject.clone());
        self
    }

    /// The same, caused by `actor`.
    #[must_use]
    pub fn by(mut self, actor: impl Into<String>) -> Self {
        self.actor = actor.into();
        self
    }

    /// The same, belonging to `commit`.
    #[must_use]
    pub fn at_commit(mut self, commit: &CommitId) -> Self {
        self.commit = Some(commit.clone());
        self
    }

    /// The same, belonging to the pass `run`.
    #[must_use]
    pub fn in_run(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    /// The same, caused by the event at `seq`.
    #[must_use]
    pub fn because(mut self, seq: u64) -> Self {
        self.cause = Some(seq);
        self
    }
}
