//! The line of a commit status: at most 140 characters, plain text.

use super::approving::ending;
use super::escape::cut;
use super::{Finding, PullView, Ruling, Show};
use crate::plan::render::{Summary, summary};
use crate::plan::{Plan, SkipReason, Skipped};

/// Longest description GitHub takes; longer ones are refused, not cut (known of the API, not in its
/// description). Counted in UTF-16 units, the strictest way a forge may count.
pub const DESCRIPTION_CHARS_MAX: usize = 140;

/// What a forge shows beside a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The colour.
    pub tone: Tone,
    /// The words; at most [`DESCRIPTION_CHARS_MAX`].
    pub description: String,
}

/// The colour of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Not known yet.
    Pending,
    /// As it should be.
    Success,
    /// Somebody has to change something.
    Failure,
    /// It could not be found out.
    Error,
}

/// The status of a pull request's head.
#[must_use]
pub fn status(view: &PullView<'_>) -> Status {
    let (tone, text) = match &view.finding {
        Finding::Pending => (Tone::Pending, "looking at what merging would do".to_owned()),
        Finding::Planned { plan, holds } => {
            let counts = summary(plan);
            let blocking: Vec<&Ruling> = blocking(view.rulings);
            let words = format!("{}{}", counted(&counts), unseen(view, plan));
            match (blocking.first(), holds.first()) {
                (Some(worst), _) => {
                    let more = more(blocking.len() - 1);
                    (Tone::Failure, format!("{}: {}{more}; {words}", worst.rule, worst.message))
                }
                (None, Some(why)) => {
                    (Tone::Success, format!("{words}; held: {why}{}", more(holds.len() - 1)))
                }
                (None, None) => (Tone::Success, words),
            }
        }
        Finding::Rejected { diagnostics } => {
            let first = diagnostics.iter().find(|found| found.is_error()).or(diagnostics.first());
            let first = first.map_or_else(String::new, |found| {
                format!(": {}:{} {}", found.path, found.line, found.message)
            });
            (Tone::Failure, format!("{}{first}", many(diagnostics.len(), "mistake")))
        }
        Finding::Conflict { paths, more } => {
            let first = paths.first().map_or("", String::as_str);
            let rest = (paths.len() + more).saturating_sub(1);
            (Tone::Failure, format!("conflicts with the base in {first}{}", self::more(rest)))
        }
        Finding::Skipped { why } => (Tone::Error, format!("not planned: {why}")),
        Finding::Failed { why } => {
            let why = if view.show == Show::Redacted { "the machine does not answer" } else { why };
            (Tone::Error, format!("could not be planned: {why}"))
        }
    };
    Status { tone, description: described(&text, ending(view)) }
}

/// What could not be looked at: a plan that knows nothing of it is no word about all.
pub(super) fn unseen(view: &PullView<'_>, plan: &Plan) -> String {
    let unobservable = |it: &&Skipped| matches!(it.why, SkipReason::Unobservable(_));
    let own = plan.skipped.iter().filter(unobservable).count();
    match own.max(view.unobserved.len()) {
        0 => String::new(),
        count => format!("; {count} not observed"),
    }
}

/// `1 to destroy, 2 to change, 1 restart`; the worst first. `no changes` where there are none.
pub(super) fn counted(it: &Summary) -> String {
    let parts = [
        (it.destroy, "to destroy"),
        (it.replace, "to replace"),
        (it.create, "to create"),
        (it.change, "to change"),
        (it.restart, if it.restart == 1 { "restart" } else { "restarts" }),
        (it.tidy, "to tidy"),
    ];
    let told: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if told.is_empty() { "no changes".to_owned() } else { told.join(", ") }
}

/// Rulings that stand in the way, the most binding first.
pub(super) fn blocking(rulings: &[Ruling]) -> Vec<&Ruling> {
    let mut found: Vec<&Ruling> = rulings.iter().filter(|ruling| ruling.blocks()).collect();
    found.sort_by_key(|ruling| std::cmp::Reverse(ruling.level));
    found
}

/// `1 mistake`, `2 mistakes`.
pub(super) fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" (+{count})") }
}

/// `text`, cut so that `ending` fits behind it: what to do is not what is cut.
fn described(text: &str, ending: &str) -> String {
    let mut max = DESCRIPTION_CHARS_MAX - ending.len();
    loop {
        let short = cut(text, max) + ending;
        let over = short.encode_utf16().count().saturating_sub(DESCRIPTION_CHARS_MAX);
        if over == 0 {
            return short;
        }
        max -= over.div_ceil(2).max(1);
    }
}
