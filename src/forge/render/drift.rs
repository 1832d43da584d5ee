//! The one issue that tells of an environment's drift which is not healed by itself.

use super::Instance;
use super::escape::{code, cut, escape, fence, fenced};
use super::page::Page;
use super::status::many;
use super::{COMMENT_BYTES_MAX, Comment};
use crate::model::Digest;
use crate::plan::render::value;
use crate::view::DriftRow;

/// Longest title, in characters: GitHub takes 256.
pub const DRIFT_TITLE_CHARS_MAX: usize = 200;
/// Fields shown of one resource; more are counted.
const FIELDS_MAX: usize = 40;

/// The issue to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftIssue {
    /// Its title: the same for as long as the environment has its name.
    pub title: String,
    /// Its text and the digest of that; while the digest is the same nothing need be written.
    pub text: Comment,
    /// Whether it should be open: closed when nothing drifts any more.
    pub open: bool,
}

/// The issue for the drift there is now; an empty list closes it.
#[must_use]
pub fn drift_issue(instance: &Instance, drifts: &[DriftRow]) -> DriftIssue {
    let title = format!("Drift: {} on {}", instance.environment, instance.host);
    let digest = Digest::of(body(instance, drifts, None));
    DriftIssue {
        title: cut(&title, DRIFT_TITLE_CHARS_MAX),
        text: Comment { body: body(instance, drifts, Some(digest)), digest },
        open: !drifts.is_empty(),
    }
}

fn body(instance: &Instance, drifts: &[DriftRow], digest: Option<Digest>) -> String {
    let end = "\n---\nTo accept it, `trueup drift --as-patch` on the host prints the change to these \
               files. To put it right, revert it there or set `selfHeal: auto`.\n";
    let mut page = Page::new(COMMENT_BYTES_MAX, end.len());
    page.add(&format!("{}\n", instance.drift_marker()));
    if let Some(digest) = digest {
        page.add(&format!("<!-- trueup-digest:{digest} -->\n"));
    }
    let (environment, host) = (code(instance.environment.as_str()), code(&instance.host));
    if drifts.is_empty() {
        page.add(&format!("Nothing of {environment} on {host} drifts any more.\n"));
        return page.close("");
    }
    let count = many(drifts.len(), "resource");
    page.add(&format!(
        "{count} of {environment} on {host} no longer as the repository asks, and left so.\n\n"
    ));
    let share = page.room();
    let items = drifts.iter().map(item);
    page.fill(share, ("", ""), items, |left| format!("\n… and {left} more\n"));
    page.close(end)
}

fn item(drift: &DriftRow) -> String {
    let since = drift.since.strftime("%Y-%m-%d %H:%M UTC");
    let head = code(&drift.resource.to_string());
    let mut item = format!("- {head} since {since}: {}\n", escape(&drift.what));
    let mut lines = String::new();
    for change in drift.changes.iter().take(FIELDS_MAX) {
        let path = fenced(&change.path);
        let side = |sign: &str, side: &Option<serde_json::Value>| {
            side.as_ref().map_or_else(String::new, |it| {
                format!("{sign} {path}: {}\n", fenced(&value(&change.path, it)))
            })
        };
        // What the repository asks for is taken away, what the machine has is there instead.
        lines += &side("-", &change.to);
        lines += &side("+", &change.from);
    }
    let unstored = drift.more.as_ref().map_or(0, |more| more.left_out);
    let left = drift.changes.len().saturating_sub(FIELDS_MAX) as u64 + unstored;
    if left > 0 {
        lines += &format!("# … and {left} more fields\n");
    }
    if !lines.is_empty() {
        let fence = fence(&lines);
        item += &format!("\n{fence}diff\n{lines}{fence}\n\n");
    }
    item
}
