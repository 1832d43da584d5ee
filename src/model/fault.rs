//! What went wrong at the edge, told by what to do next.
//!
//! A fault never carries a secret: its text goes into the log and onto pull requests.

use serde::{Deserialize, Serialize};

/// The failure of an observation or a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", content = "detail", rename_all = "camelCase")]
pub enum Fault {
    /// May pass by itself: try again, with back-off.
    #[error("{message}")]
    Transient {
        /// What happened, to which object, and the next step.
        message: String,
    },
    /// The peer does not answer, so nothing is known; nothing may be planned on it.
    #[error("{message}")]
    Unobservable {
        /// Who did not answer, and how to look into it.
        message: String,
    },
    /// Trying the same again gives the same answer: wait for a changed spec or machine.
    #[error("{message}")]
    Permanent {
        /// What happened, to which object, and the next step.
        message: String,
    },
    /// A person has to do something first.
    #[error("{message}; {ask}")]
    NeedsHuman {
        /// What happened, to which object.
        message: String,
        /// What is asked of the person.
        ask: String,
    },
}

impl Fault {
    /// A fault that may pass by itself.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::Transient { message: message.into() }
    }

    /// A fault that stays until the spec or the machine changes.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::Permanent { message: message.into() }
    }

    /// A peer that does not answer.
    pub fn unobservable(message: impl Into<String>) -> Self {
        Self::Unobservable { message: message.into() }
    }

    /// A fault that only a person can clear.
    pub fn needs_human(message: impl Into<String>, ask: impl Into<String>) -> Self {
        Self::NeedsHuman { message: message.into(), ask: ask.into() }
    }

    /// With what went wrong beside it.
    #[must_use]
    pub fn with(mut self, more: &str) -> Self {
        let (Self::Transient { message }
        | Self::Unobservable { message }
        | Self::Permanent { message }
        | Self::NeedsHuman { message, .. }) = &mut self;
        message.push_str("; ");
        message.push_str(more);
        self
    }

    /// Cuts the message to at most `max` bytes; the whole one, where it was longer.
    pub fn cut(&mut self, max: usize) -> Option<String> {
        let (Self::Transient { message }
        | Self::Unobservable { message }
        | Self::Permanent { message }
        | Self::NeedsHuman { message, .. }) = self;
        if message.len() <= max {
            return None;
        }
        let end = (0..=max).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        let short = format!("{}…", &message[..end]);
        Some(std::mem::replace(message, short))
    }

    /// Whether trying again without any other change can help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. } | Self::Unobservable { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters_and_given_back() {
        let mut fault = Fault::needs_human("äöü".repeat(100), "look");
        let whole = fault.cut(101).unwrap();
        assert_eq!(whole.chars().count(), 300);
        assert_eq!(fault.to_string().chars().filter(|c| *c == '…').count(), 1);
        assert!(Fault::transient("busy").cut(100).is_none());
    }
}
