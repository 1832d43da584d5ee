//! How a plan that waits is let through, in words: in a line, and as a paragraph.
//!
//! Where nobody may approve on the forge it says so, and where no approval would help it asks for none.

use super::escape::code;
use super::{Finding, PullView};
use crate::model::Digest;

/// How a plan that waits is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Approving<'a> {
    /// No approval lets it through: changes are stopped, or a hard rule says no.
    pub never: bool,
    /// Somebody may by a comment.
    pub comment: bool,
    /// Somebody may by a review.
    pub review: bool,
    /// Somebody may by putting this label on.
    pub label: Option<&'a str>,
}

impl Approving<'_> {
    /// The end of a status of a plan that waits; beginning with its separator.
    pub(super) fn in_a_line(&self) -> &'static str {
        if self.never {
            "; no approval ends that"
        } else if self.on_the_forge() {
            "; to approve it, see the comment"
        } else {
            "; after the merge: trueup approve"
        }
    }

    /// What to do, as a paragraph of Markdown.
    pub(super) fn in_words(&self, plan: Digest) -> String {
        if self.never {
            return "No approval ends that: what it waits for has to be mended first.\n\n"
                .to_owned();
        }
        const ON_HOST: &str = "with `trueup approve` on the host and the digest that `trueup plan` \
                               shows there";
        let comment = self.comment.then(|| format!("a comment `/trueup approve {plan}`"));
        let review = self.review.then(|| "an approving review of this head".to_owned());
        let label = self.label.map(|label| format!("the label {}", code(label)));
        let ways: Vec<String> = [comment, review, label].into_iter().flatten().collect();
        match ways.as_slice() {
            [] => format!(
                "To let it through: after the merge, {ON_HOST}. Nobody may approve here \
                 (`forge.approvals` in the host's config).\n\n"
            ),
            ways => format!(
                "To let it through: {}, by somebody who may; or after the merge, {ON_HOST}.\n\n",
                ways.join(", or ")
            ),
        }
    }

    fn on_the_forge(&self) -> bool {
        self.comment || self.review || self.label.is_some()
    }
}

/// What a status of this view ends with: how its plan is let through, where it waits.
pub(super) fn ending(view: &PullView<'_>) -> &'static str {
    match &view.finding {
        Finding::Planned { plan, holds } if !plan.is_empty() && !holds.is_empty() => {
            view.approving.in_a_line()
        }
        _ => "",
    }
}

/// What stands on the pull request of a merge that waits.
#[must_use]
pub fn waiting(reasons: &[String], plan: Option<Digest>, on_the_forge: bool) -> String {
    const SHOWN_MAX: usize = 20;
    let mut text = String::from("### The merge waits\n\n");
    for why in reasons.iter().take(SHOWN_MAX) {
        text += &format!("- {}\n", super::escape(why));
    }
    if reasons.len() > SHOWN_MAX {
        text += &format!("- … and {} more; `trueup status` names all\n", reasons.len() - SHOWN_MAX);
    }
    text += "\n";
    text += &match plan {
        None => "No approval ends that: what it waits for has to be mended first.\n".to_owned(),
        Some(plan) => {
            let here = match on_the_forge {
                true => format!("a comment `/trueup approve {plan}` by somebody who may, or "),
                false => String::new(),
            };
            format!(
                "To let it through: {here}`trueup approve {}` on the host. `trueup plan` there shows \
                 what would be done.\n",
                plan.short()
            )
        }
    };
    text
}
