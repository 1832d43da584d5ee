//! An event with its place in the log, opened for the fold.

use std::sync::Arc;

use jiff::Timestamp;

use super::envelope::{Data, Draft, EnvelopeError, Record};
use super::spill::Brought;
use super::{DecodeError, Event};
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
    /// Contents that the event names by their digests; stored before it is.
    pub brought: Brought,
}

/// The actor of everything trueup does by itself.
pub const ACTOR_SELF: &str = "trueup";
/// The actor of what happens to the machine by itself.
pub const ACTOR_MACHINE: &str = "machine";

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
            brought: Brought::default(),
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

    /// The same, bringing contents that its event names.
    #[must_use]
    pub fn bringing(mut self, contents: impl IntoIterator<Item = Arc<[u8]>>) -> Self {
        self.brought.0.extend(contents);
        self
    }

    /// The same, caused by the event at `seq`.
    #[must_use]
    pub fn because(mut self, seq: u64) -> Self {
        self.cause = Some(seq);
        self
    }
}

/// Why a stored line is no event that can be folded.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its data cannot be read.
    #[error("event {seq}")]
    Decode {
        /// Place in the log.
        seq: u64,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A member of the envelope does not name what it should.
    #[error("event {seq} has a {member} that is none: `{text}`")]
    Member {
        /// Place in the log.
        seq: u64,
        /// Which member.
        member: &'static str,
        /// What it holds.
        text: String,
    },
}

impl Entry {
    /// The entry in the form in which the log takes it.
    ///
    /// # Errors
    /// When the event is too large for a line or breaks the format: a bug of its maker.
    pub fn draft(&self) -> Result<Draft, EnvelopeError> {
        let json = self.event.to_json();
        let json = json.map_err(|error| EnvelopeError::Data { reason: error.to_string() })?;
        let data = Data::from_json(json)?;
        let mut draft = Draft::new(self.event.type_name(), self.event.version(), data);
        draft.subject = self.subject.as_ref().map(ToString::to_string);
        draft.actor = self.actor.clone().into();
        draft.cause = self.cause;
        draft.run = self.run.map(|run| run.0);
        draft.commit = self.commit.as_ref().map(ToString::to_string);
        draft.check()?;
        Ok(draft)
    }
}

impl Recorded {
    /// Opens a stored record as today's event.
    ///
    /// # Errors
    /// An [`OpenError`] with the place in the log.
    pub fn open(record: &Record<'_>) -> Result<Self, OpenError> {
        let seq = record.seq;
        let event = Event::decode(record.type_, record.v, record.data)
            .map_err(|source| OpenError::Decode { seq, source })?;
        let entry = Entry {
            event,
            subject: member(seq, "subject", record.subject.as_deref())?,
            actor: record.actor.to_string(),
            cause: record.cause,
            run: member(seq, "run", record.run)?.map(RunId),
            commit: member(seq, "commit", record.commit)?,
            brought: Brought::default(),
        };
        Ok(Self { seq, at: record.at, entry })
    }
}

fn member<T: std::str::FromStr>(
    seq: u64,
    member: &'static str,
    text: Option<&str>,
) -> Result<Option<T>, OpenError> {
    let parse = |text: &str| {
        text.parse().map_err(|_| OpenError::Member { seq, member, text: text.to_owned() })
    };
    text.map(parse).transpose()
}
