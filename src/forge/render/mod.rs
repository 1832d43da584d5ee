//! What a pull request shows: a line of status, one comment, annotations, an issue about drift.
//!
//! Everything that comes from Git, from a fork or from the machine is text without meaning here: it
//! cannot close a fence, open a tag, mention anybody, refer to an issue or hide what stands beside
//! it. No rendering is longer than its limit, however large the plan, and what is cut is counted.
//! Nothing here posts, asks or looks at a clock.

mod annotation;
mod approving;
mod comment;
mod drift;
mod page;
mod rows;
mod sections;
mod status;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::model::{CommitId, Digest, Name, ResourceId};
use crate::plan::Plan;
use crate::plan::render::escape;
use crate::spec::{Diagnostic, Origin};

pub use crate::plan::render::escape::{code, escape};
pub use annotation::{Annotation, AnnotationLevel, Annotations, annotations};
pub use approving::{Approving, waiting};
pub use comment::{COMMENT_BYTES_MAX, Comment, comment, digest_in};
pub use drift::{DRIFT_TITLE_CHARS_MAX, DriftIssue, drift_issue};
pub use rows::{Row, rows};
pub use status::{DESCRIPTION_CHARS_MAX, Status, Tone, status};

/// The trueup that speaks: several may look after one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The host it runs on.
    pub host: String,
    /// The environment it keeps.
    pub environment: Name,
}

impl Instance {
    /// The context of its commit statuses: `trueup/<host>/<environment>`.
    #[must_use]
    pub fn context(&self) -> String {
        format!("trueup/{}/{}", plain_host(&self.host), self.environment)
    }

    /// The hidden line by which its comment is found: `<!-- trueup:<host>/<environment> -->`.
    #[must_use]
    pub fn marker(&self) -> String {
        format!("<!-- trueup:{}/{} -->", plain_host(&self.host), self.environment)
    }

    /// The hidden line by which its comment about a merge that waits is found.
    #[must_use]
    pub fn waiting_marker(&self) -> String {
        format!("<!-- trueup-waits:{}/{} -->", plain_host(&self.host), self.environment)
    }

    /// The hidden line by which its issue about drift is found.
    #[must_use]
    pub fn drift_marker(&self) -> String {
        format!("<!-- trueup-drift:{}/{} -->", plain_host(&self.host), self.environment)
    }
}

/// A host's name with all but letters, digits, dots and single dashes percent-encoded: different
/// hosts stay different, and none can end the comment that it stands in.
fn plain_host(host: &str) -> String {
    let mut out = String::with_capacity(host.len());
    for byte in host.bytes() {
        let plain = byte.is_ascii_alphanumeric()
            || byte == b'.'
            || (byte == b'-' && !out.ends_with('-') && !out.is_empty());
        if plain {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

/// What merging a pull request would do, or why that cannot be said.
#[derive(Debug, Clone)]
pub struct PullView<'a> {
    /// Who speaks.
    pub instance: &'a Instance,
    /// The commit merged into.
    pub base: &'a CommitId,
    /// The commit merged.
    pub head: &'a CommitId,
    /// What was found.
    pub finding: Finding<'a>,
    /// What the rules say.
    pub rulings: &'a [Ruling],
    /// What could not be looked at beyond the plan's own resources: a backend that does not answer.
    pub unobserved: &'a [String],
    /// The newest checkpoint of the log.
    pub checkpoint: Option<Checkpoint>,
    /// Earlier plans of this pull request, newest first.
    pub older: &'a [Older],
    /// How much may be shown.
    pub show: Show,
    /// How a plan that waits is let through.
    pub approving: Approving<'a>,
}

/// What was found about a merge.
#[derive(Debug, Clone)]
pub enum Finding<'a> {
    /// It is being looked at.
    Pending,
    /// There is a plan.
    Planned {
        /// The plan, made against the machine as it is.
        plan: &'a Plan,
        /// Why it would not run by itself after the merge, one sentence each.
        holds: &'a [String],
    },
    /// The merged tree has mistakes and would not be applied.
    Rejected {
        /// The mistakes.
        diagnostics: &'a [Diagnostic],
    },
    /// Head and base do not merge.
    Conflict {
        /// The paths.
        paths: &'a [String],
        /// How many more.
        more: usize,
    },
    /// It is not planned: forks are off, a limit is met.
    Skipped {
        /// Why, in a sentence.
        why: &'a str,
    },
    /// It could not be planned: the machine does not answer.
    Failed {
        /// Why, in a sentence.
        why: &'a str,
    },
}

/// How much a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Everything but secrets.
    All,
    /// Nothing that was observed: for heads from forks.
    Redacted,
}

/// What one rule says of the merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// How binding it is.
    pub level: Level,
    /// The rule: `disk/backup-before-destroy`.
    pub rule: String,
    /// What it says.
    pub message: String,
    /// What it is about.
    pub resource: Option<ResourceId>,
    /// Where that is written, in the merged tree.
    pub place: Option<Origin>,
    /// Who lifted it, if somebody did.
    pub exempt: Option<Exemption>,
}

/// How binding a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Told, and no more.
    Advisory,
    /// An approval overrides it.
    Soft,
    /// Nothing overrides it but an exemption.
    Hard,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Advisory => "advisory",
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

impl Ruling {
    /// Whether it stands in the way of the merge being applied.
    #[must_use]
    pub fn blocks(&self) -> bool {
        self.exempt.is_none() && self.level > Level::Advisory
    }
}

/// An exemption in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exemption {
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Option<Timestamp>,
}

/// A place in the log that the forge keeps a copy of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The event.
    pub seq: u64,
    /// The hash of its line, which holds that of the one before, and so on.
    pub hash: Digest,
}

/// A plan that was shown before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Older {
    /// Its digest.
    pub plan: Digest,
    /// The head it was for.
    pub head: CommitId,
    /// What it would have done, in a line.
    pub summary: String,
    /// When it was made.
    pub at: Timestamp,
}
