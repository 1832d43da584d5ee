//! The status of every resource, and of the whole.
//!
//! A status says what is, never what will be: when a failure is tried again is part of what is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::health::{GpuHealthRow, HealthWord, gpu_health};
use crate::event::body::{PostTarget, Problem};
use crate::model::{CommitId, Digest, Name, ResourceId};
use crate::plan::{Note, Remark, SkipReason, Skipped, render};
use crate::state::{Paused, Refused, Rejected, ResourceState, State};

/// What a resource is in. The words are the design's and stand in every output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "camelCase")]
pub enum Status {
    /// The machine is what the commit asks for.
    Synced,
    /// It is on the way: what is being done, or `waiting`.
    Progressing(String),
    /// It is no longer what trueup made it: what happened.
    Drifted(String),
    /// Somebody or something holds it back, and why.
    Held(String),
    /// It waits for another resource.
    Blocked(ResourceId),
    /// The last step on it failed.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// What went wrong.
        message: String,
        /// When it is tried again; `None`: when the spec or the machine has changed.
        retry_at: Option<Timestamp>,
    },
    /// It cannot be seen, and why.
    Unobservable(String),
    /// There is one of that name on the machine, and it is not ours.
    Foreign,
}

impl Status {
    /// The word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Synced => "Synced",
            Self::Progressing(_) => "Progressing",
            Self::Drifted(_) => "Drifted",
            Self::Held(_) => "Held",
            Self::Blocked(_) => "Blocked",
            Self::Failed { .. } => "Failed",
            Self::Unobservable(_) => "Unobservable",
            Self::Foreign => "Foreign",
        }
    }

    /// What there is to say beside the word.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Synced => String::new(),
            Self::Progressing(what) | Self::Drifted(what) => what.clone(),
            Self::Held(why) | Self::Unobservable(why) => why.clone(),
            Self::Blocked(by) => format!("waits for {by}"),
            Self::Failed { message, retry_at: Some(at) } => {
                format!("{message} (tried again at {})", at.strftime("%H:%M:%S UTC"))
            }
            Self::Failed { message, retry_at: None } => message.clone(),
            Self::Foreign => "not ours: set lifecycle.adopt to take it over".to_owned(),
        }
    }

    /// Whether nothing is wrong and nothing is to come.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        matches!(self, Self::Synced)
    }
}

/// One resource in the status table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusRow {
    /// Which.
    pub resource: ResourceId,
    /// What it is in.
    pub status: Status,
    /// Since when its last fulfilled wish is fulfilled.
    pub synced_at: Option<Timestamp>,
    /// The commit that asked for that wish.
    pub commit: Option<CommitId>,
    /// Whether the commit in force still asks for it.
    pub wanted: bool,
    /// What is worth knowing of it, in whatever status: that a guest runs emulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The whole at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The last event this is from.
    pub seq: u64,
    /// When that was.
    pub at: Option<Timestamp>,
    /// The environment in force.
    pub environment: Option<Name>,
    /// The commit in force.
    pub commit: Option<CommitId>,
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
    /// An operator's pause.
    pub paused: Option<Paused>,
    /// The plan that waits, and for what.
    pub waiting: Option<(Digest, Vec<String>)>,
    /// What keeps the forge from saying how things stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge: Option<ForgeTrouble>,
    /// GPUs that are not healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuHealthRow>,
    /// How many resources are in which status.
    pub counts: BTreeMap<String, u64>,
}

/// What keeps the forge from saying how things stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForgeTrouble {
    /// Since when it does not answer, and why.
    pub unavailable: Option<(Timestamp, String)>,
    /// How many posts it does not take, of those that still matter.
    pub refused: u64,
    /// Why it does not take the first of them.
    pub why: Option<String>,
}

fn forge_trouble(state: &State) -> Option<ForgeTrouble> {
    let pulls = &state.pulls;
    let head = |commit: &CommitId| pulls.open.values().any(|pull| pull.head == *commit);
    let in_force = |commit: &CommitId| state.spec.commit.as_ref() == Some(commit);
    let matters = |target: &PostTarget| match target {
        PostTarget::Status(commit) => in_force(commit) || head(commit),
        PostTarget::Check(commit) => head(commit),
        PostTarget::Comment(number) => pulls.open.contains_key(number),
        PostTarget::Issue => true,
    };
    let refused: Vec<&String> =
        pulls.refusals.iter().filter(|(target, _)| matters(target)).map(|(_, why)| why).collect();
    let trouble = ForgeTrouble {
        unavailable: pulls.unavailable.clone(),
        refused: refused.len() as u64,
        why: refused.first().map(ToString::to_string),
    };
    (trouble.unavailable.is_some() || trouble.refused > 0).then_some(trouble)
}

/// The whole, from the state and its rows.
#[must_use]
pub fn summary(state: &State, rows: &[StatusRow]) -> Summary {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row.status.word().to_owned()).or_default() += 1;
    }
    let waiting = state.plan.as_ref().filter(|plan| !plan.finished && !plan.held.is_empty());
    Summary {
        seq: state.seq,
        at: state.at,
        environment: state.spec.environment.clone(),
        commit: state.spec.commit.clone(),
        refused: state.source.refused.clone(),
        rejected: state.spec.rejected.clone(),
        unreachable: state.source.unreachable.clone(),
        unreadable: state.spec.unreadable.clone(),
        warnings: state.spec.warnings.clone(),
        paused: state.paused.clone(),
        waiting: waiting.map(|plan| (plan.plan, plan.held.clone())),
        forge: forge_trouble(state),
        gpus: gpu_health(state)
            .into_iter()
            .filter(|gpu| gpu.health != HealthWord::Healthy)
            .collect(),
        counts,
    }
}

/// A row for each resource that is asked for or ours, in the order of their ids. `skipped` is what
/// the newest plan leaves alone, and `notes` what it says beside, where there is one at hand: the log
/// alone does not say it.
#[must_use]
pub fn rows(state: &State, skipped: &[Skipped], notes: &[Note]) -> Vec<StatusRow> {
    let skips: BTreeMap<&ResourceId, &Skipped> =
        skipped.iter().map(|skip| (&skip.resource, skip)).collect();
    let notes: BTreeMap<&ResourceId, Remark> =
        notes.iter().map(|note| (&note.resource, note.what)).collect();
    let known = state.resources.iter().filter(|(_, known)| known.wish.is_some() || known.is_ours());
    let rows = known.map(|(id, known)| StatusRow {
        note: notes.get(id).map(|what| render::remark(*what).to_owned()),
        ..row(state, id, known, skips.get(id).copied())
    });
    rows.collect()
}

/// The row of one resource; `None` where it is neither asked for nor ours.
#[must_use]
pub fn row_of(state: &State, id: &ResourceId) -> Option<StatusRow> {
    state.resources.get(id).map(|known| row(state, id, known, None))
}

fn row(state: &State, id: &ResourceId, known: &ResourceState, skip: Option<&Skipped>) -> StatusRow {
    let applied = known.applied.as_ref();
    StatusRow {
        resource: id.clone(),
        status: status(state, known, skip),
        synced_at: applied.map(|applied| applied.at),
        commit: applied.and_then(|applied| applied.commit.clone()),
        wanted: known.wish.is_some(),
        note: None,
    }
}

/// The most telling thing first: what cannot be seen cannot be in any other status, what is being
/// done goes before why it was to be done, and a person's hold before the machine's trouble.
fn status(state: &State, known: &ResourceState, skip: Option<&Skipped>) -> Status {
    if let Some(why) = &known.unobservable {
        return Status::Unobservable(why.clone());
    }
    if let Some(step) = &known.in_flight {
        return Status::Progressing(step.verb.clone());
    }
    if let Some(hold) = &known.hold {
        return Status::Held(format!("by {}: {}", hold.by, hold.reason));
    }
    if let Some(failure) = &known.failure {
        let message = failure.fault.to_string();
        return Status::Failed { message, retry_at: failure.retry_at };
    }
    if let Some(drift) = &known.drift {
        return Status::Drifted(match known.flapping_until {
            Some(until) => format!(
                "{}; it keeps drifting, so it is left alone until {}",
                drift.what,
                until.strftime("%H:%M:%S UTC")
            ),
            None => drift.what.clone(),
        });
    }
    let fulfilled = known.applied.as_ref().map(|applied| applied.wish);
    if known.wish.is_some() && known.wish == fulfilled {
        return Status::Synced;
    }
    pending(state, known, skip)
}

/// Why something that is to be done is not done yet.
fn pending(state: &State, known: &ResourceState, skip: Option<&Skipped>) -> Status {
    match skip.map(|skip| &skip.why) {
        Some(SkipReason::Foreign) => return Status::Foreign,
        Some(SkipReason::Blocked(by)) => return Status::Blocked(by.clone()),
        Some(SkipReason::InProgress) => return Status::Progressing("waiting".to_owned()),
        Some(other) => return Status::Held(render::skip_reason(other).into_owned()),
        None => {}
    }
    if let Some(paused) = &state.paused {
        return Status::Held(format!("paused by {}: {}", paused.by, paused.reason));
    }
    let held = state.plan.as_ref().filter(|plan| !plan.finished).map(|plan| &plan.held);
    if let Some(reason) = held.and_then(|reasons| reasons.first()) {
        return Status::Held(reason.clone());
    }
    let what = if known.wish.is_some() { "waiting" } else { "to be removed" };
    Status::Progressing(what.to_owned())
}
