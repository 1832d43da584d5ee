//! Writes that may be tried again: each looks first, and does what is still missing.
//!
//! After a [`ForgeFault::Maybe`](crate::port::ForgeFault::Maybe), a crash or an outage the same call
//! is simply made again: what arrived is found and not repeated. Before each single write the caller
//! is asked to pace it; nothing here waits by itself.

use crate::model::CommitId;
use crate::port::BoxFuture;
use crate::port::forge::{
    Annotation, CheckReport, CheckSeen, CheckState, Comment, Conclusion, Forge, ForgeError, Issue,
    IssueChange, Status,
};

/// Waits until the next write may be made.
pub type Pace<'a> = dyn Fn() -> BoxFuture<'static, ()> + Send + Sync + 'a;

/// Whether something had to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The forge showed it already.
    Already,
    /// It was written now.
    Written,
}

/// Makes the newest status of a commit under this context say this.
///
/// # Errors
/// As the forge's.
pub async fn status(
    forge: &dyn Forge,
    pace: &Pace<'_>,
    commit: &CommitId,
    wanted: &Status,
) -> Result<Done, ForgeError> {
    let seen = forge.find_status(commit, &wanted.context).await?;
    if seen.is_some_and(|seen| seen.shows(wanted)) {
        return Ok(Done::Already);
    }
    pace().await;
    forge.set_status(commit, wanted).await?;
    Ok(Done::Written)
}

/// Makes our comment with this marker say this. `body` has the marker in it.
///
/// # Errors
/// As the forge's.
pub async fn comment(
    forge: &dyn Forge,
    pace: &Pace<'_>,
    number: u64,
    marker: &str,
    body: &str,
) -> Result<(Comment, Done), ForgeError> {
    let Some(seen) = forge.find_comment(number, marker).await? else {
        pace().await;
        return Ok((forge.create_comment(number, body).await?, Done::Written));
    };
    if same_text(&seen.body, body) {
        return Ok((seen, Done::Already));
    }
    pace().await;
    Ok((forge.update_comment(seen.id, body).await?, Done::Written))
}

/// Makes our check of this name and external id say this, with all its annotations, the worst first.
///
/// The same external id has to mean the same annotations: those that arrived are not compared, only
/// counted. Until the last batch has arrived the check stays under way, so that it is never green
/// early.
///
/// # Errors
/// As the forge's; [`ForgeFault::Unsupported`](crate::port::ForgeFault::Unsupported) where the login
/// may not write checks.
pub async fn check(
    forge: &dyn Forge,
    pace: &Pace<'_>,
    commit: &CommitId,
    wanted: &CheckReport,
) -> Result<(CheckSeen, Done), ForgeError> {
    let mut all: Vec<Annotation> = wanted.annotations.clone();
    all.sort_by_key(|annotation| annotation.level);
    let part = |from: usize| {
        let to = all.len().min(from + Annotation::BATCH_MAX);
        let state = if to == all.len() { wanted.state } else { CheckState::InProgress };
        let annotations = all[from.min(to)..to].to_vec();
        (to, CheckReport { annotations, state, ..wanted.clone() })
    };
    let (mut seen, mut sent, mut done) =
        match forge.find_check(commit, &wanted.name, &wanted.external_id).await? {
            Some(seen) => {
                let sent = seen.annotations;
                (seen, sent, Done::Already)
            }
            None => {
                let (sent, first) = part(0);
                pace().await;
                (forge.create_check(commit, &first).await?, sent, Done::Written)
            }
        };
    while sent < all.len() || seen.state != wanted.state {
        let (next, batch) = part(sent);
        pace().await;
        seen = forge.update_check(seen.id, &batch).await?;
        done = Done::Written;
        if next == sent && seen.state != wanted.state {
            // Nothing more to send, and the forge keeps another state: it said so, that is all.
            break;
        }
        sent = next.max(sent);
    }
    Ok((seen, done))
}

/// Makes our check of this name and external id neither green nor red: what it says is of a base or a
/// machine that is no more. `None`: there is none.
///
/// # Errors
/// As the forge's.
pub async fn take_back(
    forge: &dyn Forge,
    pace: &Pace<'_>,
    commit: &CommitId,
    name: &str,
    external_id: &str,
) -> Result<Option<CheckSeen>, ForgeError> {
    let state = CheckState::Completed(Conclusion::Neutral);
    let Some(seen) = forge.find_check(commit, name, external_id).await? else { return Ok(None) };
    if seen.state == state {
        return Ok(Some(seen));
    }
    let report = CheckReport {
        name: name.to_owned(),
        external_id: external_id.to_owned(),
        state,
        title: "stale: looking again".to_owned(),
        summary: "Base or machine moved since this was found.".to_owned(),
        text: None,
        url: None,
        annotations: Vec::new(),
    };
    pace().await;
    forge.update_check(seen.id, &report).await.map(Some)
}

/// Makes our issue with this marker say this and be open, or, with `None`, be closed.
///
/// # Errors
/// As the forge's.
pub async fn issue(
    forge: &dyn Forge,
    pace: &Pace<'_>,
    marker: &str,
    wanted: Option<(&str, &str)>,
) -> Result<(Option<Issue>, Done), ForgeError> {
    let seen = forge.find_issue(marker).await?;
    let (seen, change) = match (seen, wanted) {
        (None, None) => return Ok((None, Done::Already)),
        (None, Some((title, body))) => {
            pace().await;
            return Ok((Some(forge.create_issue(title, body).await?), Done::Written));
        }
        (Some(seen), None) => {
            let open = seen.open.then_some(false);
            (seen, IssueChange { open, ..IssueChange::default() })
        }
        (Some(seen), Some((title, body))) => {
            let change = IssueChange {
                title: (seen.title != title).then(|| title.to_owned()),
                body: (!same_text(&seen.body, body)).then(|| body.to_owned()),
                open: (!seen.open).then_some(true),
            };
            (seen, change)
        }
    };
    if change == IssueChange::default() {
        return Ok((Some(seen), Done::Already));
    }
    pace().await;
    Ok((Some(forge.update_issue(seen.number, &change).await?), Done::Written))
}

/// Whether a forge shows this text: it may change line ends, and drops white space around it.
fn same_text(seen: &str, wanted: &str) -> bool {
    seen.replace("\r\n", "\n").trim() == wanted.replace("\r\n", "\n").trim()
}
