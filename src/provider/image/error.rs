//! Why an image could not be fetched, converted, built or booted.
//!
//! No text here holds a URL's credentials or a file's content.

use std::io;
use std::path::PathBuf;

use super::child::ChildError;
use crate::model::{Digest, Fault};

/// What went wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file or directory on this host.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    File {
        /// What was being done, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The source is neither an http(s) URL nor an absolute path of a regular file.
    #[error("image source `{origin}` is not usable: {why}")]
    Source {
        /// The source, without credentials.
        origin: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The server could not be reached, or broke off more often than it is tried.
    #[error("cannot download `{origin}` ({done} bytes so far are kept for the next try): {why}")]
    Download {
        /// The source, without credentials.
        origin: String,
        /// How many bytes were there when it was given up.
        done: u64,
        /// What happened.
        why: String,
    },
    /// The server said no.
    #[error("`{origin}` answered {status}: check the image's source")]
    Refused {
        /// The source, without credentials.
        origin: String,
        /// The HTTP status.
        status: u16,
    },
    /// Larger than allowed.
    #[error("`{origin}` is larger than {limit} bytes, the limit for one image")]
    TooLarge {
        /// The source, without credentials.
        origin: String,
        /// The limit.
        limit: u64,
    },
    /// The bytes are not what the spec says.
    #[error(
        "`{origin}` has SHA-256 {found}, the spec says {wanted}: it was removed and is not used; \
         if the publisher changed the file, update `sha256`"
    )]
    WrongDigest {
        /// The source, without credentials.
        origin: String,
        /// From the spec.
        wanted: Digest,
        /// Of the bytes.
        found: Digest,
    },
    /// Someone else is at the same file.
    #[error("another process is working on `{}`: it is tried again later", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// An image that must not be used.
    #[error("image `{}` is refused: {why}", path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// The build's input is wrong.
    #[error("image build: {what}")]
    Input {
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// A program we use failed.
    #[error("{doing}")]
    Child {
        /// What was being done.
        doing: &'static str,
        /// What happened to the program.
        source: ChildError,
    },
    /// The image does not boot.
    #[error("the image does not boot: {why}; its console is in `{}`", console.display())]
    Boot {
        /// What was seen instead of the expected text.
        why: String,
        /// The console's log.
        console: PathBuf,
    },
    /// A task of ours panicked.
    #[error("a worker thread died while it was to {doing}")]
    Worker {
        /// What it was doing.
        doing: &'static str,
    },
}

impl ImageError {
    /// For `map_err`: a file error with what was being done to which file.
    pub(super) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }

    /// For `map_err`: a failed program.
    pub(super) fn child(doing: &'static str) -> impl FnOnce(ChildError) -> Self {
        move |source| Self::Child { doing, source }
    }

    /// The error with everything below it, on one line.
    pub fn chain(&self) -> String {
        match self {
            Self::Child { source, .. } => match source {
                ChildError::Start { source: io, .. } | ChildError::Output { source: io, .. } => {
                    format!("{self}: {source}: {io}")
                }
                ChildError::Deadline { .. } | ChildError::Failed { .. } => {
                    format!("{self}: {source}")
                }
            },
            _ => self.to_string(),
        }
    }

    /// What the executor does about it.
    pub fn to_fault(&self) -> Fault {
        let message = self.chain();
        match self {
            // A full disk, a slow mirror or a busy machine may be better later; so may a build, whose
            // packages come over the network.
            Self::File { .. }
            | Self::Download { .. }
            | Self::Busy { .. }
            | Self::Worker { .. }
            | Self::Child { .. } => Fault::transient(message),
            Self::Refused { status, .. } if *status >= 500 || *status == 429 => {
                Fault::transient(message)
            }
            Self::Refused { .. }
            | Self::Source { .. }
            | Self::TooLarge { .. }
            | Self::WrongDigest { .. }
            | Self::Unsafe { .. }
            | Self::Input { .. }
            | Self::Boot { .. } => Fault::permanent(message),
        }
    }
}
