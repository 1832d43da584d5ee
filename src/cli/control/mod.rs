//! Talking to the daemon over its Unix socket: one JSON line each way.
//!
//! A request never carries a path, a command line or a secret: only what an operator may decide.
//! Who asks is what the kernel says of the socket's other end, never what the request says.

mod accounts;
mod client;
mod past;
mod server;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trueup_kubernetes::namespace::Role;

use super::exit::ErrorKind;
use super::wire::Until;
use crate::event::body::Problem;
use crate::model::{CommitId, Digest, GpuInventory, ResourceId};
use crate::plan::{Note, Plan, SkipReason, Skipped, render};
use crate::state::{Command, Refused, Rejected, State};

pub use client::{AskError, ask};
pub use past::{LogQuery, PAGE_BYTES_MAX, PAGE_EVENTS_MAX, PAGE_SCAN_MAX, Page, Told};
pub use server::{BindError, Desk, bind, serve};

/// Longest request in bytes: a command with a reason is far below it.
pub const REQUEST_BYTES_MAX: u64 = 64 * 1024;
/// Longest reply in bytes: a plan of 10,000 steps, rendered three times.
pub const REPLY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What is asked of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum Request {
    /// Decide on an operator's command.
    Command(Command),
    /// Look and plan, and do nothing.
    Plan(Look),
    /// Give somebody access to a namespace of a cluster for a while.
    Kubeconfig(AccessAsk),
    /// Make a pass now.
    #[serde(rename_all = "camelCase")]
    Apply {
        /// How to render what was planned.
        look: Look,
        /// Digest of a plan that is approved with it, at least its first digits.
        approve: Option<String>,
    },
    /// Everything the daemon knows.
    Known,
    /// The GPUs of the machine, looked at now.
    Gpus,
    /// A page of the log.
    Log(LogQuery),
    /// The events behind what a resource is in.
    Why(ResourceId),
    /// Everything that was known at a point of the log.
    StateAt(Until),
}

/// Who is to get which access, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessAsk {
    /// To which cluster.
    pub resource: ResourceId,
    /// Who.
    pub user: String,
    /// To which of its namespaces.
    pub namespace: String,
    /// What they may do there.
    pub role: Role,
    /// For how long, seconds.
    pub seconds: u64,
}

/// A kubeconfig, handed to whoever asked for it and to nobody else: it shows itself nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// The file.
    pub kubeconfig: String,
    /// What the access is called by.
    pub number: u64,
    /// Until when it is.
    pub until: Timestamp,
}

impl std::fmt::Debug for Handed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a kubeconfig until {}", self.until)
    }
}

/// How to render a plan as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// With ANSI colours.
    pub color: bool,
    /// Columns.
    pub width: usize,
}

/// What the daemon says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum Reply {
    /// It is still at work; another line follows.
    Working,
    /// The command was granted.
    Done,
    /// What a pass came to.
    Report(Box<Report>),
    /// Everything the daemon knows, or knew at the point that was asked for.
    Known(Box<Known>),
    /// The GPUs of the machine.
    Gpus(Box<GpuInventory>),
    /// Access for somebody.
    Kubeconfig(Box<Handed>),
    /// A page of the log.
    Page(Box<Page>),
    /// The events behind what a resource is in.
    Told(Box<Told>),
    /// It did not work out.
    Failed {
        /// What kind of failure it is.
        kind: ErrorKind,
        /// Why, in sentences.
        message: String,
    },
}

/// Everything the daemon knows: what the log folds to, and what only its newest plan says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// The state directory it is from.
    pub directory: PathBuf,
    /// The state.
    pub state: State,
    /// What the newest plan leaves alone.
    pub skipped: Vec<Skipped>,
    /// What the newest plan says beside.
    #[serde(default)]
    pub notes: Vec<Note>,
}

/// How the repository and its specs stand, beside a plan: carried with it, because whoever may ask
/// for a plan need not be able to read the log.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Standing {
    /// A head that is refused.
    pub refused: Option<Refused>,
    /// A newer commit that has mistakes.
    pub rejected: Option<Rejected>,
    /// Since when the repository does not answer, and why.
    pub unreachable: Option<(Timestamp, String)>,
    /// Since when the mirror cannot be read, and why.
    pub unreadable: Option<(Timestamp, String)>,
    /// What somebody should look at in the commit in force.
    pub warnings: Vec<Problem>,
}

impl Standing {
    /// How they stand in `state`.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let (source, spec) = (&state.source, &state.spec);
        Self {
            refused: source.refused.clone(),
            rejected: spec.rejected.clone(),
            unreachable: source.unreachable.clone(),
            unreadable: spec.unreadable.clone(),
            warnings: spec.warnings.clone(),
        }
    }
}

/// What a pass came to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How the repository and its specs stand.
    #[serde(default)]
    pub standing: Standing,
    /// The commit the machine is brought to.
    pub commit: Option<CommitId>,
    /// The plan.
    pub plan: Option<PlanView>,
    /// What the plan waits for.
    pub held: Vec<String>,
    /// What the rules say of it.
    #[serde(default)]
    pub verdicts: crate::policy::Verdicts,
    /// Steps that succeeded.
    pub succeeded: u64,
    /// Steps that failed.
    pub failed: u64,
    /// Steps that could not start.
    pub blocked: u64,
    /// When something is tried again.
    pub next_retry: Option<Timestamp>,
}

/// A plan, rendered where it was made: what crosses the socket is what may be seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// Its digest.
    pub digest: Digest,
    /// How many steps it has.
    pub steps: usize,
    /// What could not be looked at, so that nothing is known of it.
    pub unobservable: Vec<String>,
    /// For people.
    pub text: String,
    /// For a comment.
    pub markdown: String,
    /// As data.
    pub json: serde_json::Value,
}

/// Most bytes of a plan's Markdown: what a forge takes in one comment (65,536 characters).
const MARKDOWN_BYTES_MAX: usize = 60_000;

impl PlanView {
    /// Renders `plan`.
    #[must_use]
    pub fn of(plan: &Plan, look: Look) -> Self {
        let style = render::Style { color: look.color, width: look.width };
        Self {
            digest: plan.digest(),
            steps: plan.steps.len(),
            unobservable: plan
                .skipped
                .iter()
                .filter(|skip| matches!(skip.why, SkipReason::Unobservable(_)))
                .map(|skip| skip.resource.to_string())
                .collect(),
            text: render::text(plan, style),
            markdown: render::markdown(plan, MARKDOWN_BYTES_MAX),
            json: render::json(plan),
        }
    }
}

/// Who runs this process, as the log has it.
pub(super) fn operator_here() -> String {
    accounts::operator(rustix::process::getuid().as_raw())
}

#[cfg(test)]
mod tests;
