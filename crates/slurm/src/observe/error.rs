//! Why a cluster could not be looked at. None of these means that something is not there.

use std::io;

use crate::release::{NoRelease, Release};
use crate::run::RunError;

/// A look that failed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A program failed or took too long.
    #[error(transparent)]
    Run(RunError),
    /// Nobody answers, or the controller is away.
    #[error("the controller does not answer: {words}")]
    Unreachable {
        /// Slurm's own words.
        words: String,
    },
    /// Slurm says why it does not answer.
    #[error("Slurm refuses to answer: {words}")]
    Refused {
        /// Its own words.
        words: String,
    },
    /// Nobody tried this release.
    #[error(
        "Slurm {0} answers, and only 22.05 and 24.11 are known: nothing is planned on what is not understood"
    )]
    UnknownRelease(Release),
    /// An answer names no release.
    #[error("the answer names no release: {0}")]
    NoRelease(NoRelease),
    /// An answer is not of the form of its release.
    #[error("cannot read {what}: {message}")]
    Form {
        /// Which answer.
        what: &'static str,
        /// What is wrong with it, and where.
        message: String,
    },
    /// The socket of slurmrestd fails.
    #[error("cannot ask slurmrestd at {socket}: {error}")]
    Socket {
        /// Its path.
        socket: String,
        /// Why.
        error: io::Error,
    },
}

impl ObserveError {
    /// Whether trying again may help without a change of anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Run(error) => {
                matches!(
                    error,
                    RunError::TimedOut { .. } | RunError::Failed { .. } | RunError::Away { .. }
                )
            }
            Self::Unreachable { .. } | Self::Refused { .. } | Self::Socket { .. } => true,
            Self::UnknownRelease(_) | Self::NoRelease(_) | Self::Form { .. } => false,
        }
    }
}
