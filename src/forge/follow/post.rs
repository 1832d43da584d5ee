//! Saying one thing on the forge.
//!
//! It decides nothing: what is to be said was found before, and what stands there already is not
//! said again.

use jiff::Timestamp;

use super::landing::{Course, Landing};
use super::report::Report;
use super::wanted::{Want, What};
use crate::event::body::PostTarget;
use crate::forge::ensure::{self, Pace};
use crate::forge::render::{Instance, drift_issue, escape, waiting};
use crate::model::Digest;
use crate::port::forge::{
    CheckReport, CheckState, CommitState, Conclusion, Forge, ForgeError, ForgeFault, Status,
};

/// Something that stands on the forge now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Said {
    /// The forge's id of it, where it has one.
    pub(super) id: Option<u64>,
    /// Its page for people, where a status may point at it.
    pub(super) url: Option<String>,
}

/// Where something is said, and what a status may point at.
pub(super) struct Place<'a> {
    pub(super) instance: &'a Instance,
    /// The page about the pull request of a head.
    pub(super) page: Option<String>,
    /// Whether somebody may approve by a comment.
    pub(super) approve_by_comment: bool,
    /// What was last said there.
    pub(super) said: Option<Digest>,
}

/// Says what is wanted. `report` is the content of [`What::Report`].
///
/// # Errors
/// The forge's; whatever was done until then is found by the next try.
pub(super) async fn say(
    forge: &dyn Forge,
    pace: &Pace<'_>,
    place: &Place<'_>,
    want: &Want,
    report: Option<&Report>,
) -> Result<Said, ForgeError> {
    let instance = place.instance;
    match (&want.target, report) {
        (PostTarget::Status(commit), _) => {
            let status = status_of(place, &want.what, report);
            ensure::status(forge, pace, commit, &status).await?;
            if let What::Landing { landing, course } = &want.what {
                tell_of_the_wait(forge, pace, place, landing, course).await?;
            }
            Ok(Said::default())
        }
        (PostTarget::Comment(number), Some(report)) => {
            let marker = instance.marker();
            let body = comment_of(&want.what, &report.comment);
            let said = ensure::comment(forge, pace, *number, &marker, &body).await?;
            Ok(Said { id: Some(said.0.id.0), url: web_address(&said.0.url) })
        }
        (PostTarget::Check(commit), Some(report)) => {
            let check = check_of(place, want, report);
            let (seen, _) = ensure::check(forge, pace, commit, &check).await?;
            Ok(Said { id: Some(seen.id.0), url: None })
        }
        (PostTarget::Check(commit), None) => {
            let (What::Outdated, Some(said)) = (&want.what, place.said) else {
                return Ok(Said::default());
            };
            let name = instance.context();
            let seen = ensure::take_back(forge, pace, commit, &name, &said.to_string()).await?;
            Ok(Said { id: seen.map(|seen| seen.id.0), url: None })
        }
        (PostTarget::Issue, _) => {
            let What::Drift(drifts) = &want.what else { return Ok(Said::default()) };
            let page = drift_issue(instance, drifts);
            let wanted = page.open.then_some((page.title.as_str(), page.text.body.as_str()));
            let marker = instance.drift_marker();
            let said = ensure::issue(forge, pace, &marker, wanted).await?;
            Ok(Said { id: said.0.map(|issue| issue.number), url: None })
        }
        (PostTarget::Comment(_), None) => Ok(Said::default()),
    }
}

/// Says on the pull request of a merge that waits what to write so that it goes on; and there, once it
/// does not wait any more, what became of it.
async fn tell_of_the_wait(
    forge: &dyn Forge,
    pace: &Pace<'_>,
    place: &Place<'_>,
    landing: &Landing,
    course: &Course,
) -> Result<(), ForgeError> {
    let Some(number) = course.number else { return Ok(()) };
    let marker = place.instance.waiting_marker();
    let said = async {
        let text = match landing {
            Landing::Pending => return Ok(()),
            Landing::Held { reasons, plan } => waiting(reasons, *plan, place.approve_by_comment),
            // There is something to put right only where it waited before.
            Landing::Applied { .. }
            | Landing::Failed(_)
            | Landing::Rejected { .. }
            | Landing::Refused(_)
            | Landing::Superseded { .. } => {
                if forge.find_comment(number, &marker).await?.is_none() {
                    return Ok(());
                }
                let (_, now) = landed(landing, course);
                format!("The merge waits no more: {}\n", escape(&now))
            }
        };
        let body = format!("{marker}\n{text}");
        ensure::comment(forge, pace, number, &marker, &body).await.map(drop)
    };
    match said.await {
        // The status says the most of it: where comments are not taken, it has to do.
        Err(error) if !error.passes() && error.fault != ForgeFault::Unauthorised => {
            tracing::warn!(number, %error, "what a merge waits for cannot be said on its pull request");
            Ok(())
        }
        said => said,
    }
}

fn status_of(place: &Place<'_>, what: &What, report: Option<&Report>) -> Status {
    let pending = |why: &str| (CommitState::Pending, why.to_owned(), place.page.clone());
    let (state, description, url) = match (what, report) {
        (What::Report(_), Some(report)) => {
            (report.state, report.description.clone(), place.page.clone())
        }
        (What::Landing { landing, course }, _) => {
            let (state, description) = landed(landing, course);
            (state, description, course.url.clone())
        }
        (What::Beyond(max), _) => {
            let why = format!("not planned: only the {max} open pull requests changed last are");
            (CommitState::Error, why, place.page.clone())
        }
        (What::Lapsed(max), _) => pending(&format!(
            "stale: base or machine moved, and only the {max} open pull requests changed last are \
             planned again"
        )),
        (What::Stale, _) => {
            pending("stale: the base moved; looking again at what merging would do")
        }
        (What::Moved, _) => {
            pending("stale: the machine moved; looking again at what merging would do")
        }
        (What::Full, _) => {
            let why = "the forge takes no more statuses for this commit: the comment goes on, and a \
                       push begins anew";
            (CommitState::Error, why.to_owned(), place.page.clone())
        }
        (What::Looking | What::Report(_) | What::Noted(_) | What::Outdated | What::Drift(_), _) => {
            pending("looking at what merging would do")
        }
    };
    Status { context: place.instance.context(), state, description, url }
}

/// The comment, with a note where the status beside it says nothing any more.
fn comment_of(what: &What, comment: &str) -> String {
    if !matches!(what, What::Noted(_)) {
        return comment.to_owned();
    }
    // The marker stays the first line.
    let (marker, rest) = comment.split_once('\n').unwrap_or((comment, ""));
    format!("{marker}\n{NOTE}\n\n{rest}")
}

/// What a comment says where its commit has as many statuses as the forge takes.
const NOTE: &str = "> [!WARNING]\n> The forge takes no more statuses for this commit: its status tells \
                    nothing any more, and this comment does. A push begins anew.";

fn landed(landing: &Landing, course: &Course) -> (CommitState, String) {
    let first = |reasons: &[String]| {
        let more = match reasons.len() {
            0 | 1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        format!("{}{more}", reasons.first().map_or("", String::as_str))
    };
    let times = times(course);
    match landing {
        Landing::Pending => (CommitState::Pending, format!("applying{times}")),
        Landing::Applied { resources } => {
            (CommitState::Success, format!("applied: {resources} resource(s) in sync{times}"))
        }
        Landing::Held { reasons, plan } => {
            let how = plan.map(|plan| format!("; trueup approve {}", plan.short()));
            let how = how.unwrap_or_default();
            let room = Status::DESCRIPTION_CHARS_MAX - how.len();
            let held = shortened(&format!("held: {}", first(reasons)), room) + &how;
            (CommitState::Failure, fitted(held, &times))
        }
        Landing::Failed(reasons) => {
            (CommitState::Failure, fitted(format!("failed: {}", first(reasons)), &times))
        }
        Landing::Rejected { errors, first } => {
            let first = first.as_deref().unwrap_or("see the daemon's log");
            (CommitState::Failure, format!("{errors} mistake(s), not applied: {first}"))
        }
        Landing::Refused(why) => (CommitState::Failure, format!("refused: {why}")),
        Landing::Superseded { by } => {
            let words = format!("not finished: {} took its place", by.short());
            (CommitState::Error, fitted(words, &times))
        }
    }
}

/// At most `max` characters of `words`, with a sign where they were cut.
fn shortened(words: &str, max: usize) -> String {
    if words.chars().count() <= max {
        return words.to_owned();
    }
    words.chars().take(max - 1).chain(std::iter::once('…')).collect()
}

/// `words` and the times, where both fit: what is wrong matters more than when it was seen.
fn fitted(words: String, times: &str) -> String {
    let fits = words.chars().count() + times.chars().count() <= Status::DESCRIPTION_CHARS_MAX;
    if fits { words + times } else { words }
}

/// ` (2026-01-02 03:04:05 to 03:04:17 UTC)`: from when a commit was taken in to what became of it.
fn times(course: &Course) -> String {
    const WHOLE: &str = "%Y-%m-%d %H:%M:%S";
    let whole = |at: Timestamp| at.strftime(WHOLE).to_string();
    match (course.started, course.ended) {
        (None, None) => String::new(),
        (Some(started), None) => format!(" (since {} UTC)", whole(started)),
        (None, Some(at)) => format!(" ({} UTC)", whole(at)),
        (Some(started), Some(ended)) => {
            let (first, last) = (whole(started), whole(ended));
            // The day is said once.
            let last = match first.split_once(' ').zip(last.split_once(' ')) {
                Some(((day, _), (same, time))) if day == same => time.to_owned(),
                _ => last,
            };
            format!(" ({first} to {last} UTC)")
        }
    }
}

/// Longest address of a page, in characters: far more than a comment's, and no forge refuses it.
const ADDRESS_CHARS_MAX: usize = 1_000;

/// `text` where it is an address that a status may point at: `http` or `https`, with a host and
/// without a login. A forge refuses a status for any other, and a page could mislead whoever follows.
pub(super) fn web_address(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = text.len() <= ADDRESS_CHARS_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    (plain && !host.is_empty() && !host.contains('@')).then(|| text.to_owned())
}

fn check_of(place: &Place<'_>, want: &Want, report: &Report) -> CheckReport {
    let conclusion = match report.state {
        CommitState::Success => Conclusion::Success,
        CommitState::Failure => Conclusion::Failure,
        CommitState::Pending | CommitState::Error => Conclusion::Neutral,
    };
    CheckReport {
        name: place.instance.context(),
        external_id: want.content.to_string(),
        state: CheckState::Completed(conclusion),
        title: report.description.clone(),
        summary: report.comment.clone(),
        text: None,
        url: place.page.clone(),
        annotations: report.annotations.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_landing_says_when_and_points_at_its_pull_request() {
        let at = |text: &str| Some(text.parse().unwrap());
        let instance =
            Instance { host: "box".into(), environment: crate::model::Name::new("lab").unwrap() };
        let place = Place { instance: &instance, page: None, approve_by_comment: true, said: None };
        let url = Some("https://forge.example/pull/7#c1".to_owned());
        let said = |landing: Landing, ended: Option<Timestamp>| {
            let started = at("2026-01-02T03:04:05Z");
            let course = Course { started, ended, url: url.clone(), number: Some(7) };
            let status = status_of(&place, &What::Landing { landing, course }, None);
            assert_eq!(status.url, url);
            (status.state, status.description)
        };
        assert_eq!(
            said(Landing::Pending, None),
            (CommitState::Pending, "applying (since 2026-01-02 03:04:05 UTC)".into())
        );
        assert_eq!(
            said(Landing::Applied { resources: 3 }, at("2026-01-02T03:04:17Z")).1,
            "applied: 3 resource(s) in sync (2026-01-02 03:04:05 to 03:04:17 UTC)"
        );
        let why = vec!["vm/web: no space".to_owned(), "vm/db: no space".to_owned()];
        assert_eq!(
            said(Landing::Failed(why), at("2026-01-03T00:00:01Z")).1,
            "failed: vm/web: no space (and 1 more) (2026-01-02 03:04:05 to 2026-01-03 00:00:01 UTC)"
        );
    }

    #[test]
    fn a_merge_that_waits_says_how_it_goes_on_however_long_the_reason() {
        let plan = crate::model::Digest::of("plan");
        let said = |reason: &str, plan| {
            let held = Landing::Held { reasons: vec![reason.to_owned(); 2], plan };
            landed(&held, &Course::default()).1
        };
        let how = format!("; trueup approve {}", plan.short());
        assert_eq!(said("it is late", Some(plan)), format!("held: it is late (and 1 more){how}"));
        let long = said(&"é".repeat(400), Some(plan));
        assert_eq!(long.chars().count(), Status::DESCRIPTION_CHARS_MAX);
        assert!(long.ends_with(&format!("…{how}")), "{long}");
        assert_eq!(said("a hard rule", None), "held: a hard rule (and 1 more)");
    }

    #[test]
    fn only_a_web_address_is_pointed_at() {
        for good in ["https://git.example/o/r/pulls/7#issuecomment-1", "http://127.0.0.1:3000/x"] {
            assert_eq!(web_address(good).as_deref(), Some(good));
        }
        let long = format!("https://git.example/{}", "x".repeat(ADDRESS_CHARS_MAX));
        for bad in ["", "javascript:alert(1)", "https:///x", "https://a@b/", "https://a b", &long] {
            assert_eq!(web_address(bad), None, "{bad}");
        }
    }
}
