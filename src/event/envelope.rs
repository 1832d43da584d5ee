//! The envelope: what every event carries around its own data, before and after it is stored.
//!
//! It never reads a clock and never looks inside `data`; what the data means is the body's affair.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::chain::LineHash;

/// Longest line in bytes, without its newline. A reader holds one line in memory at a time; what
/// is larger (a rendered plan, a console log) is stored by digest and only the digest is an event.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Longest event type in bytes: a family, a dot and a verb; it is an index key.
pub const TYPE_BYTES_MAX: usize = 64;
/// Longest subject in bytes: a kind, a slash and a path at most; it is an index key.
pub const SUBJECT_BYTES_MAX: usize = 512;
/// Longest actor in bytes: `operator:` and a user name.
pub const ACTOR_BYTES_MAX: usize = 128;

/// Why a draft cannot become a line. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A member does not have the form the format allows.
    #[error("event {type_}: {member} {value:?} is not allowed: {rule}")]
    Member {
        /// The draft's type, so that the offender can be found.
        type_: String,
        /// The member's name in the line.
        member: &'static str,
        /// What it held.
        value: String,
        /// What it must look like.
        rule: &'static str,
    },
    /// The line would be longer than [`LINE_BYTES_MAX`].
    #[error(
        "event {type_} would be a line of {bytes} bytes, the limit is {LINE_BYTES_MAX}: store the \
         content by digest and record the digest"
    )]
    TooLong {
        /// The draft's type.
        type_: String,
        /// The length the line would have.
        bytes: usize,
    },
    /// The data could not be written as JSON, or is not one object on one line.
    #[error("event data is not one JSON object on one line: {reason}")]
    Data {
        /// What was wrong.
        reason: String,
    },
}

/// The JSON text of an event's data: one object, no raw line break, known to be valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data(String);

impl Data {
    /// The data of an event that has none: `{}`.
    #[must_use]
    pub fn empty() -> Self {
        Self("{}".to_owned())
    }

    /// Serialises `value`.
    ///
    /// # Errors
    /// When it cannot be serialised or is not a JSON object.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, EnvelopeError> {
        let text = serde_json::to_string(value)
            .map_err(|error| EnvelopeError::Data { reason: error.to_string() })?;
        // serde_json's compact form is valid JSON on one line by construction.
        if text.starts_with('{') { Ok(Self(text)) } else { Err(not_an_object()) }
    }

    /// Takes JSON text as it is, byte for byte, after checking it.
    ///
    /// # Errors
    /// When it is not valid JSON, not an object, or holds a raw line break.
    pub fn from_json(text: String) -> Result<Self, EnvelopeError> {
        serde_json::from_str::<serde::de::IgnoredAny>(&text)
            .map_err(|error| EnvelopeError::Data { reason: error.to_string() })?;
        if !text.starts_with('{') || !text.ends_with('}') {
            return Err(not_an_object());
        }
        if text.contains(['\n', '\r']) {
            return Err(EnvelopeError::Data { reason: "it holds a raw line break".to_owned() });
        }
        Ok(Self(text))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn not_an_object() -> EnvelopeError {
    EnvelopeError::Data { reason: "it is not an object".to_owned() }
}

/// An event not yet placed in the log: everything but `seq`, `at`, `prev` and `hash`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The event's type, like `step.started`: `a-z 0-9 . _ -`, with a dot inside.
    pub type_: Cow<'static, str>,
    /// The version of the data's form, from 1.
    pub v: u32,
    /// What the event is about, like `vm/web`.
    pub subject: Option<String>,
    /// Who caused it: `trueup`, `operator:alice`.
    pub actor: Cow<'static, str>,
    /// The seq of the event that led to this one; always an earlier one.
    pub cause: Option<u64>,
    /// The pass it belongs to.
    pub run: Option<Uuid>,
    /// The commit of the environment repo it belongs to, in lower-case hex.
    pub commit: Option<String>,
    /// The event's own data.
    pub data: Data,
}

impl Draft {
    /// A draft of the given type and version by `trueup` itself, with nothing optional set.
    #[must_use]
    pub fn new(type_: impl Into<Cow<'static, str>>, v: u32, data: Data) -> Self {
        Self {
            type_: type_.into(),
            v,
            subject: None,
            actor: Cow::Borrowed("trueup"),
            cause: None,
            run: None,
            commit: None,
            data,
        }
    }

    /// The same draft about `subject`.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The same draft caused by `actor`.
    #[must_use]
    pub fn by(mut self, actor: impl Into<Cow<'static, str>>) -> Self {
        self.actor = actor.into();
        self
    }

    /// Checks every member against the format.
    ///
    /// # Errors
    /// Names the first member that is not allowed.
    pub fn check(&self) -> Result<(), EnvelopeError> {
        if !is_type(&self.type_) {
            return Err(self.refuse("type", &self.type_, "a-z 0-9 . _ - with a dot inside, ≤ 64"));
        }
        if self.v == 0 {
            return Err(self.refuse("v", "0", "versions start at 1"));
        }
        if let Some(subject) = &self.subject
            && !is_text(subject, SUBJECT_BYTES_MAX)
        {
            return Err(self.refuse("subject", subject, "1 to 512 bytes, no control characters"));
        }
        if !is_text(&self.actor, ACTOR_BYTES_MAX) {
            return Err(self.refuse("actor", &self.actor, "1 to 128 bytes, no control characters"));
        }
        if let Some(commit) = &self.commit
            && !is_commit(commit.as_bytes())
        {
            return Err(self.refuse("commit", commit, "40 or 64 lower-case hex digits"));
        }
        Ok(())
    }

    pub(super) fn refuse(
        &self,
        member: &'static str,
        value: &str,
        rule: &'static str,
    ) -> EnvelopeError {
        let value = value.chars().take(80).collect();
        EnvelopeError::Member { type_: self.type_.to_string(), member, value, rule }
    }
}

/// A stored event, borrowed from its line. `data` is raw JSON: parse it by `type_` and `v`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Place in the log, from 1, without gaps.
    pub seq: u64,
    /// When it was recorded; later than every earlier event's time.
    pub at: Timestamp,
    /// The event's type.
    pub type_: &'a str,
    /// The version of the data's form.
    pub v: u32,
    /// What it is about.
    pub subject: Option<Cow<'a, str>>,
    /// Who caused it.
    pub actor: Cow<'a, str>,
    /// The seq of the event that led to it.
    pub cause: Option<u64>,
    /// The pass it belongs to, a UUID in its hyphenated form.
    pub run: Option<&'a str>,
    /// The commit it belongs to.
    pub commit: Option<&'a str>,
    /// The raw JSON object.
    pub data: &'a str,
    /// The hash of the line before; zeros for the first.
    pub prev: LineHash,
    /// The hash of this line, as written (checked by [`super::chain::verify_line`]).
    pub hash: LineHash,
}

pub(super) fn is_type(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    text.len() <= TYPE_BYTES_MAX
        && text.bytes().all(allowed)
        && text.split('.').count() > 1
        && text.split('.').all(|part| !part.is_empty())
}

fn is_text(text: &str, bytes_max: usize) -> bool {
    !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
}

pub(super) fn is_commit(text: &[u8]) -> bool {
    matches!(text.len(), 40 | 64)
        && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
