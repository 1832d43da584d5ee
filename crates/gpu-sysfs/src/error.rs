//! What can go wrong while a step is performed, and what to do then.

use rustix::io::Errno;

use crate::condition::{Condition, Fails, list};
use crate::holders::Holder;

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The same step later.
    Retry,
    /// Observe and plan again: the machine is not as it was when the plan was made.
    Replan,
    /// Somebody has to look.
    Human,
}

/// Why a step was not performed, or not proved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error(
        "{path} cannot be read: {source} (errno {errno}); look whether the device still answers"
    )]
    Read {
        /// The file.
        path: String,
        /// The number.
        errno: i32,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel refused a value.
    #[error("{path} does not take `{value}`: {source} (errno {errno}); {advice}")]
    Write {
        /// The file.
        path: String,
        /// The value.
        value: String,
        /// The number.
        errno: i32,
        /// What to do.
        advice: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A write does not return. It cannot be taken back, and the device is in the kernel's hands.
    #[error(
        "writing `{value}` to {path} did not return within {seconds} s; \
         see the kernel's log for who keeps the device, and restart the host if it never returns"
    )]
    Stuck {
        /// The file.
        path: String,
        /// The value.
        value: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// What must be true before the step is not.
    #[error("before `{step}`: expected that {condition}; found {found}; observe and plan again")]
    Changed {
        /// The step.
        step: String,
        /// What should have been true.
        condition: Box<Condition>,
        /// What was found.
        found: String,
    },
    /// Somebody holds what the step would take away. Nothing was done.
    #[error("`{step}` would take the device from {}; stop them first", list(holders))]
    Held {
        /// The step.
        step: String,
        /// Who.
        holders: Vec<Holder>,
    },
    /// Not every process could be looked into, so that nobody knows who holds the device.
    #[error(
        "`{step}` is not safe: processes {pids:?} could not be looked into; \
         run as root in the host's process namespace"
    )]
    Unscanned {
        /// The step.
        step: String,
        /// Their ids.
        pids: Vec<u32>,
    },
    /// The step was performed, and what should be true after it is not.
    #[error(
        "after `{step}`, done {tries} times: expected that {condition}; found {found} \
         after {seconds} s; {advice}"
    )]
    Unproved {
        /// The step.
        step: String,
        /// How often it was done.
        tries: u32,
        /// What should be true.
        condition: Box<Condition>,
        /// What was found.
        found: String,
        /// How long it was waited for, the last time.
        seconds: u64,
        /// What to do.
        advice: &'static str,
    },
    /// A command failed.
    #[error("`{}` {why}; see the kernel's log", argv.join(" "))]
    Run {
        /// The command.
        argv: Vec<String>,
        /// How it ended, and the end of what it said.
        why: String,
    },
}

impl Error {
    pub(crate) fn read(path: &str, errno: Errno) -> Self {
        Self::Read { path: path.to_owned(), errno: errno.raw_os_error(), source: errno.into() }
    }

    pub(crate) fn write(path: &str, value: &str, errno: Errno) -> Self {
        let (path, value) = (path.to_owned(), value.to_owned());
        let advice = advice(errno);
        Self::Write { path, value, errno: errno.raw_os_error(), advice, source: errno.into() }
    }

    /// A condition failed before a step.
    pub(crate) fn before(step: &str, condition: &Condition, fails: Fails) -> Self {
        let step = step.to_owned();
        match fails {
            Fails::Found(found) => {
                Self::Changed { step, condition: Box::new(condition.clone()), found }
            }
            Fails::Held(holders) => Self::Held { step, holders },
            Fails::Unscanned(pids) => Self::Unscanned { step, pids },
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn next(&self) -> Next {
        match self {
            Self::Held { .. } => Next::Retry,
            Self::Write { errno, .. } => match Errno::from_raw_os_error(*errno) {
                Errno::BUSY | Errno::AGAIN | Errno::INTR => Next::Retry,
                Errno::NODEV | Errno::NOENT | Errno::NOSPC | Errno::INVAL => Next::Replan,
                _ => Next::Human,
            },
            Self::Read { .. } | Self::Changed { .. } | Self::Unproved { .. } => Next::Replan,
            Self::Stuck { .. } | Self::Unscanned { .. } | Self::Run { .. } => Next::Human,
        }
    }
}

/// What a refusal of the kernel means here.
fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::BUSY | Errno::AGAIN => {
            "something still uses the device: look for who, and try again"
        }
        Errno::NODEV | Errno::NOENT | Errno::NXIO => "the device or its driver changed: plan again",
        Errno::INVAL => "the driver does not know the value now: look at its types and plan again",
        Errno::NOSPC | Errno::NOMEM => {
            "the gpu has no room left: remove a vgpu or choose a smaller"
        }
        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            "run as root, and outside of containers: /sys is read-only there"
        }
        _ => "see the kernel's log for the driver's reason",
    }
}
