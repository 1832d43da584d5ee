//! Saying one thing on the forge.
//!
//! It decides nothing: what is to be said was found before, and what stands there already is not
//! said again.

use super::report::Report;
use super::wanted::{Landing, Want, What};
use crate::event::body::PostTarget;
use crate::forge::ensure::{self, Pace};
use crate::forge::render::{Instance, drift_issue};
use crate::port::forge::{
    CheckReport, CheckState, CommitState, Conclusion, Forge, ForgeError, Status,
};

/// Says what is wanted; the forge's id of it, where it has one. `report` is the content of
/// [`What::Report`].
///
/// # Errors
/// The forge's; whatever was done until then is found by the next try.
pub(super) async fn say(
    forge: &dyn Forge,
    pace: &Pace<'_>,
    instance: &Instance,
    want: &Want,
    report: Option<&Report>,
) -> Result<Option<u64>, ForgeError> {
    match (&want.target, report) {
        (PostTarget::Status(commit), _) => {
            let status = status_of(instance, &want.what, report);
            ensure::status(forge, pace, commit, &status).await?;
            Ok(None)
        }
        (PostTarget::Comment(number), Some(report)) => {
            let marker = instance.marker();
            let said = ensure::comment(forge, pace, *number, &marker, &report.comment).await?;
            Ok(Some(said.0.id.0))
        }
        (PostTarget::Check(commit), Some(report)) => {
            let check = check_of(instance, want, report);
            Ok(Some(ensure::check(forge, pace, commit, &check).await?.0.id.0))
        }
        (PostTarget::Issue, _) => {
            let What::Drift(drifts) = &want.what else { return Ok(None) };
            let page = drift_issue(instance, drifts);
            let wanted = page.open.then_some((page.title.as_str(), page.text.body.as_str()));
            let marker = instance.drift_marker();
            let said = ensure::issue(forge, pace, &marker, wanted).await?;
            Ok(said.0.map(|issue| issue.number))
        }
        (PostTarget::Comment(_) | PostTarget::Check(_), None) => Ok(None),
    }
}

fn status_of(instance: &Instance, what: &What, report: Option<&Report>) -> Status {
    let (state, description) = match (what, report) {
        (What::Report(_), Some(report)) => (report.state, report.description.clone()),
        (What::Landing(landing), _) => landed(landing),
        (What::Looking | What::Report(_) | What::Drift(_), _) => {
            (CommitState::Pending, "looking at what merging would do".to_owned())
        }
    };
    Status { context: instance.context(), state, description, url: None }
}

fn landed(landing: &Landing) -> (CommitState, String) {
    let first = |reasons: &[String]| {
        let more = match reasons.len() {
            0 | 1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        format!("{}{more}", reasons.first().map_or("", String::as_str))
    };
    match landing {
        Landing::Pending => (CommitState::Pending, "bringing the machine to it".to_owned()),
        Landing::Applied { resources } => {
            (CommitState::Success, format!("applied: {resources} resource(s) in sync"))
        }
        Landing::Held(reasons) => (CommitState::Failure, format!("held: {}", first(reasons))),
        Landing::Failed(reasons) => (CommitState::Failure, format!("failed: {}", first(reasons))),
        Landing::Rejected { errors, first } => {
            let first = first.as_deref().unwrap_or("see the daemon's log");
            (CommitState::Failure, format!("{errors} mistake(s), not applied: {first}"))
        }
        Landing::Refused(why) => (CommitState::Failure, format!("refused: {why}")),
    }
}

fn check_of(instance: &Instance, want: &Want, report: &Report) -> CheckReport {
    let conclusion = match report.state {
        CommitState::Success => Conclusion::Success,
        CommitState::Failure => Conclusion::Failure,
        CommitState::Pending | CommitState::Error => Conclusion::Neutral,
    };
    CheckReport {
        name: instance.context(),
        external_id: want.content.to_string(),
        state: CheckState::Completed(conclusion),
        title: report.description.clone(),
        summary: report.comment.clone(),
        text: None,
        url: None,
        annotations: report.annotations.clone(),
    }
}
