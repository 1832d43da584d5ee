//! How a call can fail, told by what may have happened at the other end.
//!
//! No variant holds a token, a header or a request's body.

use crate::client::Method;
use crate::reply::Rate;

/// Why there is no reply to use.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// No login could be had: the token or key is missing, unreadable or malformed.
    #[error("cannot log in to the forge: {why}")]
    Login {
        /// What is wrong with it; never the secret.
        why: String,
    },
    /// Nothing reached the other end; the call may be made again.
    #[error("{method} {path} was not sent: {why}")]
    NotSent {
        /// The method.
        method: Method,
        /// The path with its query.
        path: String,
        /// The cause.
        why: String,
    },
    /// It was sent, wholly or in part, and no whole reply came back: it may have been carried out.
    #[error("{method} {path} was sent and its outcome is unknown: {why}")]
    Unknown {
        /// The method.
        method: Method,
        /// The path with its query.
        path: String,
        /// The cause.
        why: String,
    },
    /// The other end answered with a status that is not a success.
    #[error("{method} {path} was answered with {status}: {message}")]
    Refused {
        /// The method.
        method: Method,
        /// The path with its query.
        path: String,
        /// The HTTP status.
        status: u16,
        /// The forge's own words, cut to a line.
        message: String,
        /// What the reply says of the budget.
        rate: Rate,
        /// The permission the forge says the call needs: `statuses=write`.
        needs: Option<String>,
    },
}

impl ClientError {
    /// Whether the call certainly had no effect: it was never sent, or a reply refused it.
    ///
    /// A 5xx is no such reply: a gateway in front gives up on work that is then done behind it.
    #[must_use]
    pub fn certainly_not_done(&self) -> bool {
        match self {
            Self::Login { .. } | Self::NotSent { .. } => true,
            Self::Unknown { .. } => false,
            Self::Refused { status, .. } => *status < 500,
        }
    }
}
