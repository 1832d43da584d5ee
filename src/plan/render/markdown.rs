//! A plan for a comment on a pull request: a table, details folded, within a size.

use std::collections::BTreeSet;

use trueup_mig::picture::Charset;

use super::super::{GpuPicture, Plan, Step};
use super::escape::escape;
use super::{summary_line, words};
use crate::model::ResourceId;

/// Room kept for the lines that say what was left out, in bytes.
const NOTE_ROOM: usize = 200;

/// The plan as Markdown of at most about `budget` bytes; what does not fit is counted, not shown.
pub fn markdown(plan: &Plan, budget: usize) -> String {
    let mut out = format!("**{}**\n", escape(&summary_line(plan)));
    let room = budget.saturating_sub(NOTE_ROOM);
    if !plan.steps.is_empty() {
        out += "\n| # | step | resource | why | disturbs |\n|--:|---|---|---|---|\n";
        let rows = plan.steps.iter().enumerate().map(|(number, step)| row(number, step));
        let left = fill(&mut out, rows, room);
        if left > 0 {
            out += &format!("\n… and {left} more steps.\n");
        }
    }
    let mut told = BTreeSet::new();
    let changes: Vec<String> =
        plan.steps.iter().filter_map(|step| fields(step, &mut told)).collect();
    fold(&mut out, "What differs", changes, room);
    let pictures = plan.pictures.iter().map(picture);
    let left = fill(&mut out, pictures, room);
    if left > 0 {
        out += &format!("\n… and {left} more pictures.\n");
    }
    let skipped = plan.skipped.iter().map(|skipped| {
        let mut line =
            format!("- `{}`: {}\n", skipped.resource, escape(&words::skip_reason(&skipped.why)));
        for change in &skipped.changes {
            line += &format!("  - {}\n", escape(&words::change(change)));
        }
        line
    });
    let title = format!("Left alone ({})", plan.skipped.len());
    fold(&mut out, &title, skipped.collect(), room);
    let notes = plan.notes.iter().filter(|note| note.what.asks_for_a_choice());
    let notes: Vec<String> = notes
        .map(|note| format!("- `{}` {}\n", note.resource, escape(words::remark(note.what))))
        .collect();
    fold(&mut out, &format!("Notes ({})", notes.len()), notes, room);
    out
}

/// A GPU before and after, as a block of text.
fn picture(shown: &GpuPicture) -> String {
    // Names of profiles come from the driver.
    let text = shown.picture.text(Charset::Unicode).replace('`', "'");
    format!("\n`{}`\n\n```text\n{text}```\n", shown.resource)
}

/// One row of the table.
fn row(number: usize, step: &Step) -> String {
    let interrupts: Vec<String> = step.interrupts.iter().map(|id| format!("`{id}`")).collect();
    format!(
        "| {} | {} {} | `{}` | {} | {} {} |\n",
        number + 1,
        step.action.verb(),
        escape(&words::detail(step)),
        step.resource,
        words::reason(step.reason),
        words::disruption(step.disruption),
        interrupts.join(", "),
    )
}

/// The field changes of one step that were not told with an earlier step of its resource.
fn fields<'a>(step: &'a Step, told: &mut BTreeSet<(&'a ResourceId, &'a str)>) -> Option<String> {
    let mut lines = String::new();
    for change in &step.changes {
        if told.insert((&step.resource, &change.path)) {
            lines += &format!("  - {}\n", escape(&words::change(change)));
        }
    }
    let title = format!("- `{}` ({})\n", step.resource, step.action.verb());
    (!lines.is_empty()).then(|| title + &lines)
}

/// A folded part, where there is anything in it.
fn fold(out: &mut String, title: &str, items: Vec<String>, room: usize) {
    if items.is_empty() {
        return;
    }
    *out += &format!("\n<details><summary>{title}</summary>\n\n");
    let left = fill(out, items.into_iter(), room);
    if left > 0 {
        *out += &format!("- … and {left} more\n");
    }
    *out += "\n</details>\n";
}

/// Adds items while there is room; gives how many were left out.
fn fill(out: &mut String, items: impl Iterator<Item = String>, room: usize) -> usize {
    let mut left = 0;
    for item in items {
        if left > 0 || out.len() + item.len() > room {
            left += 1;
        } else {
            *out += &item;
        }
    }
    left
}
