//! The one comment of a pull request, found by its hidden marker and changed only with its digest.
//!
//! Its parts stand in the order of what a reviewer must not miss; each takes what room is left, and
//! the end (which plan, for which commits, and the log's checkpoint) is always there.

use super::escape::code;
use super::page::Page;
use super::sections;
use super::status::{Tone, counted, many, status, unseen};
use super::{Checkpoint, Finding, Older, PullView, Show};
use crate::model::Digest;
use crate::plan::render::summary;

/// Longest comment, bytes. GitHub takes 65,536 characters; the rest is for what a proxy or another
/// forge may count differently.
pub const COMMENT_BYTES_MAX: usize = 60_000;

/// Opens the hidden line with the comment's digest.
const DIGEST_OPENS: &str = "<!-- trueup-digest:";

/// A comment to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Its Markdown; at most [`COMMENT_BYTES_MAX`] bytes.
    pub body: String,
    /// Digest of all it says but the log's checkpoint and earlier plans: while it is the same, the
    /// comment that is there need not be touched.
    pub digest: Digest,
}

/// The comment for what was found.
#[must_use]
pub fn comment(view: &PullView<'_>) -> Comment {
    let still = PullView { checkpoint: None, older: &[], ..view.clone() };
    let digest = Digest::of(body(&still, None));
    Comment { body: body(view, Some(digest)), digest }
}

/// The digest that a comment of ours carries.
#[must_use]
pub fn digest_in(body: &str) -> Option<Digest> {
    let rest = body.lines().take(3).find_map(|line| line.strip_prefix(DIGEST_OPENS))?;
    rest.strip_suffix(" -->")?.parse().ok()
}

fn body(view: &PullView<'_>, digest: Option<Digest>) -> String {
    let end = end(view);
    let mut page = Page::new(COMMENT_BYTES_MAX, end.len());
    page.add(&format!("{}\n", view.instance.marker()));
    if let Some(digest) = digest {
        page.add(&format!("{DIGEST_OPENS}{digest} -->\n"));
    }
    let environment = code(view.instance.environment.as_str());
    page.add(&format!("### trueup: {environment} on {}\n\n", code(&view.instance.host)));
    page.add(&format!("**{}**\n\n", headline(view)));
    if view.show == Show::Redacted {
        page.add("Values observed on the machine are not shown: the head is from a fork.\n\n");
    }
    match &view.finding {
        Finding::Planned { plan, holds } => {
            let rows = super::rows(plan);
            sections::destroyed(&mut page, &rows);
            sections::holds(&mut page, holds);
            if !holds.is_empty() && !plan.is_empty() {
                page.add(&view.approving.in_words(plan.digest()));
            }
            sections::rulings(&mut page, view.rulings);
            sections::table(&mut page, &rows);
            sections::pictures(&mut page, plan, view.show);
            sections::unobserved(&mut page, plan, view.unobserved, view.show);
            sections::fields(&mut page, &rows, view.show);
            sections::left_alone(&mut page, plan, view.show);
        }
        Finding::Rejected { diagnostics } => sections::diagnostics(&mut page, diagnostics),
        Finding::Conflict { paths, more } => sections::conflicts(&mut page, paths, *more),
        Finding::Pending | Finding::Skipped { .. } | Finding::Failed { .. } => {}
    }
    sections::older(&mut page, view.older);
    page.close(&end)
}

fn headline(view: &PullView<'_>) -> String {
    match &view.finding {
        Finding::Planned { plan, .. } => {
            let mut line = counted(&summary(plan)) + &unseen(view, plan);
            let blocking = view.rulings.iter().filter(|ruling| ruling.blocks()).count();
            if blocking > 0 {
                line += &format!("; {} in the way", many(blocking, "rule"));
            }
            line
        }
        _ => {
            let status = status(view);
            let sign = if status.tone == Tone::Error { "⚠ " } else { "" };
            format!("{sign}{}", super::escape(&status.description))
        }
    }
}

/// The last lines: which plan this is, and what it was made from.
fn end(view: &PullView<'_>) -> String {
    let mut end = String::from("\n---\n");
    if let Finding::Planned { plan, .. } = &view.finding {
        end += &format!("Plan `{}`\n", plan.digest());
    }
    end += &format!("for base `{}` and head `{}`", view.base, view.head);
    if let Some(Checkpoint { seq, hash }) = view.checkpoint {
        end += &format!("; log checkpoint `{seq} {hash}`");
    }
    end += "\n";
    end
}

/// A line about an earlier plan.
pub(super) fn older_line(older: &Older) -> String {
    format!(
        "- {} for `{}`: {} (plan `{}`)\n",
        older.at.strftime("%Y-%m-%d %H:%M UTC"),
        older.head.short(),
        super::escape(&older.summary),
        older.plan.short(),
    )
}
