//! What must be true before and after a step, and how it is looked up.
//!
//! Plain data, so that a step can be written to a journal and looked at again after a crash. Looking
//! changes nothing.

use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address::PciAddress;
use crate::error::Error;
use crate::holders::{Holder, Holders, scan};
use crate::observe;
use crate::root::Root;

/// Something that can be looked up in the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The last word of a symbolic link; none: there is no link.
    Link {
        /// The link.
        path: String,
        /// Its last word.
        is: Option<String>,
    },
    /// There is no link, or its last word is another one.
    LinkIsNot {
        /// The link.
        path: String,
        /// The word.
        not: String,
    },
    /// A file's text, without blanks at its ends and with `(null)` for nothing.
    Text {
        /// The file.
        path: String,
        /// Its text.
        is: String,
    },
    /// A file is there and has another text.
    TextIsNot {
        /// The file.
        path: String,
        /// The text.
        not: String,
    },
    /// A file is there and holds at least this number.
    AtLeast {
        /// The file.
        path: String,
        /// The number.
        number: u32,
    },
    /// A list of vGPU types has this one.
    Lists {
        /// The file.
        path: String,
        /// The type's number.
        id: u32,
    },
    /// Something is there.
    There {
        /// Its path.
        path: String,
    },
    /// Nothing is there.
    Absent {
        /// Its path.
        path: String,
    },
    /// No process has any of these open, and every process could be looked into.
    Free {
        /// PCI functions.
        functions: Vec<PciAddress>,
        /// Mediated devices.
        mediated: Vec<Uuid>,
    },
}

/// Why a condition does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fails {
    /// Something else was found.
    Found(String),
    /// Somebody has it open.
    Held(Vec<Holder>),
    /// These processes could not be looked into.
    Unscanned(Vec<u32>),
}

impl fmt::Display for Fails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(found) => f.write_str(found),
            Self::Held(holders) => write!(f, "held by {}", list(holders)),
            Self::Unscanned(pids) => write!(f, "processes {pids:?} could not be looked into"),
        }
    }
}

/// Things one after the other, with commas.
pub(crate) fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link { path, is: Some(is) } => write!(f, "{path} leads to `{is}`"),
            Self::Link { path, is: None } | Self::Absent { path } => {
                write!(f, "there is no {path}")
            }
            Self::LinkIsNot { path, not } => write!(f, "{path} does not lead to `{not}`"),
            Self::Text { path, is } => write!(f, "{path} reads `{is}`"),
            Self::TextIsNot { path, not } => write!(f, "{path} reads something else than `{not}`"),
            Self::AtLeast { path, number } => write!(f, "{path} reads at least {number}"),
            Self::Lists { path, id } => write!(f, "{path} lists type {id}"),
            Self::There { path } => write!(f, "there is {path}"),
            Self::Free { functions, mediated } => {
                let mut names: Vec<String> = functions.iter().map(ToString::to_string).collect();
                names.extend(mediated.iter().map(ToString::to_string));
                write!(f, "nobody has {} open", names.join(", "))
            }
        }
    }
}

impl Condition {
    /// The file or folder it is about; none for open handles, which are about many.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Link { path, .. }
            | Self::LinkIsNot { path, .. }
            | Self::Text { path, .. }
            | Self::TextIsNot { path, .. }
            | Self::AtLeast { path, .. }
            | Self::Lists { path, .. }
            | Self::There { path }
            | Self::Absent { path } => Some(path),
            Self::Free { .. } => None,
        }
    }

    /// Looks whether it holds now; none: it does.
    ///
    /// # Errors
    /// Where it cannot be looked up at all.
    pub fn check(&self, root: &Root) -> Result<Option<Fails>, Error> {
        if let Self::Free { functions, mediated } = self {
            let holders = scan(root).map_err(|errno| Error::read("/proc", errno))?;
            return Ok(free(&holders, functions, mediated));
        }
        let failed = |errno| Error::read(self.path().unwrap_or_default(), errno);
        self.look(root).map_err(failed).map(|found| found.map(Fails::Found))
    }

    /// What was found in its place; none where it holds.
    fn look(&self, root: &Root) -> Result<Option<String>, Errno> {
        let nothing = || "nothing there".to_owned();
        let wrong = |holds: bool, found: Option<String>| {
            (!holds)
                .then(|| found.map_or_else(nothing, |text| format!("`{}`", text.escape_debug())))
        };
        Ok(match self {
            Self::Link { path, is } => {
                let found = root.link_name(path)?;
                wrong(found == *is, found)
            }
            Self::LinkIsNot { path, not } => {
                let found = root.link_name(path)?;
                wrong(found.as_ref() != Some(not), found)
            }
            Self::Text { path, is } => {
                let found = root.text(path)?.map(plain);
                wrong(found.as_ref() == Some(is), found)
            }
            Self::TextIsNot { path, not } => {
                let found = root.text(path)?.map(plain);
                wrong(found.as_ref().is_some_and(|text| text != not), found)
            }
            Self::AtLeast { path, number } => {
                let found = root.text(path)?;
                let value = found.as_ref().and_then(|text| text.parse::<u32>().ok());
                wrong(value.is_some_and(|value| value >= *number), found)
            }
            Self::Lists { path, id } => {
                let found = root.text(path)?;
                let kinds = found.as_deref().map(observe::kinds).unwrap_or_default();
                wrong(kinds.iter().any(|kind| kind.id == *id), found)
            }
            Self::There { path } => wrong(root.exists(path)?, None),
            Self::Absent { path } => wrong(!root.exists(path)?, Some("something there".to_owned())),
            Self::Free { .. } => None,
        })
    }
}

fn plain(text: String) -> String {
    if text == "(null)" { String::new() } else { text }
}

fn free(holders: &Holders, functions: &[PciAddress], mediated: &[Uuid]) -> Option<Fails> {
    let held: Vec<Holder> = holders.of(functions, mediated).into_iter().cloned().collect();
    if !held.is_empty() {
        return Some(Fails::Held(held));
    }
    (!holders.unread.is_empty()).then(|| Fails::Unscanned(holders.unread.clone()))
}
