//! Why an image could not be fetched, converted, built or booted.
//!
//! No text here holds a URL's credentials or a file's content.

use std::io;
use std::path::{Path, PathBuf};

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
        /// Where its output is kept.
        log: Option<PathBuf>,
    },
    /// The image does not boot.
    #[error(
        "the image does not boot: {why}{}; its console is in `{}`",
        quoted(said),
        console.display()
    )]
    Boot {
        /// What was seen instead of the expected text. Never what the guest wrote.
        why: String,
        /// What the guest wrote last; empty where `why` says enough.
        said: String,
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

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" (it said: {said})") }
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
        move |source| Self::Child { doing, source, log: None }
    }

    /// The error of a build whose log is kept in the file `kept`.
    pub(super) fn kept_in(self, kept: &Path) -> Self {
        match self {
            Self::Child { doing, source, .. } => {
                Self::Child { doing, source, log: Some(kept.to_owned()) }
            }
            other => other,
        }
    }

    /// What the log may keep: the chain without what a program or a guest wrote, which may be a
    /// password it made up. It says where that is instead.
    fn for_the_log(&self) -> String {
        match self {
            Self::Child { source, log, .. } => {
                let log = log.as_ref().map(|log| format!("; its output is in `{}`", log.display()));
                match source.without_output() {
                    Some(what) => format!("{self}: {what}{}", log.unwrap_or_default()),
                    None => self.chain(),
                }
            }
            Self::Boot { why, console, .. } => {
                format!("the image does not boot: {why}; its console is in `{}`", console.display())
            }
            _ => self.chain(),
        }
    }

    /// The error with everything below it, on one line. It quotes what programs wrote: for the
    /// person who runs the command, not for the log.
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

    /// What the executor does about it. Without what a program or a guest wrote: faults are kept.
    pub fn to_fault(&self) -> Fault {
        let message = self.for_the_log();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(program: &str, tail: &str) -> ImageError {
        let (program, status) = (program.to_owned(), "exit status: 1".to_owned());
        let tail = tail.to_owned();
        ImageError::child("cannot work")(ChildError::Failed { program, status, tail })
    }

    #[test]
    fn a_fault_names_the_kept_log_and_quotes_nothing_of_it() {
        let error = failed("chroot", "password: hunter2").kept_in(Path::new("/p/x.failed.log"));
        assert!(error.chain().contains("hunter2"));
        assert_eq!(
            error.to_fault().to_string(),
            "cannot work: `chroot` failed (exit status: 1); its output is in `/p/x.failed.log`"
        );
        let error = ImageError::Boot {
            why: "the machine stopped".to_owned(),
            said: "password: hunter2".to_owned(),
            console: "/p/console".into(),
        };
        assert!(error.to_string().contains("hunter2"));
        assert_eq!(
            error.to_fault().to_string(),
            "the image does not boot: the machine stopped; its console is in `/p/console`"
        );
    }

    #[test]
    fn a_programs_own_last_complaint_stays() {
        let shown = |program, tail| failed(program, tail).to_fault().to_string();
        let words = "cannot work: `mmdebstrap` failed (exit status: 1): E: no such suite";
        assert_eq!(shown("mmdebstrap", "hunter2 | E: no such suite | hunter2"), words);
        let words = "cannot work: `qemu-img` failed (exit status: 1): qemu-img: no space";
        assert_eq!(shown("qemu-img", "hunter2 | qemu-img: no space"), words);
        assert!(!shown("chroot", "E: hunter2").contains("hunter2"));
    }
}
