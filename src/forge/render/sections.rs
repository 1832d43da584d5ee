//! The parts of a comment, each within its share of the page.

use trueup_mig::picture::Charset;

use super::comment::older_line;
use super::escape::{code, escape, fence, fenced};
use super::page::Page;
use super::rows::{Row, word};
use super::status::many;
use super::{Older, Ruling, Show};
use crate::plan::render::{detail, skip_reason, value};
use crate::plan::{Disruption, FieldChange, Plan, SkipReason, Skipped};
use crate::spec::Diagnostic;

/// Kept for the rest of the page when there is more to destroy than it can name, bytes.
const REST_BYTES: usize = 4_000;
/// Most bytes of what the rules say: a rule that fires for every resource must not be all there is.
const RULINGS_BYTES: usize = 12_000;
/// Most bytes of the table, so that the worst have room for their fields.
const TABLE_BYTES: usize = 24_000;
/// Most bytes of what could not be observed.
const UNOBSERVED_BYTES: usize = 5_000;
/// Most bytes of pictures of GPUs, a kilobyte each.
const PICTURES_BYTES: usize = 8_000;
/// Resources named in one cell; more are counted.
const NAMES_MAX: usize = 6;
/// Fields shown of one resource; more are counted.
const FIELDS_MAX: usize = 40;

/// Names everything that loses its data. Short lists stand in a box, long ones by kind.
pub(super) fn destroyed(page: &mut Page, rows: &[Row<'_>]) {
    for (disruption, verb) in
        [(Disruption::Destroy, "Destroys"), (Disruption::Replace, "Destroys and makes anew")]
    {
        let lost: Vec<&Row<'_>> = rows.iter().filter(|row| row.disruption == disruption).collect();
        if lost.is_empty() {
            continue;
        }
        let count = many(lost.len(), "resource");
        if lost.len() <= NAMES_MAX {
            let names: Vec<String> =
                lost.iter().map(|row| code(&row.resource.to_string())).collect();
            page.add(&format!("> [!CAUTION]\n> {verb} {count}: {}\n\n", names.join(", ")));
            continue;
        }
        let mut kind = None;
        let items = lost.iter().map(|row| {
            let new = kind != Some(row.resource.kind);
            kind = Some(row.resource.kind);
            match new {
                true => format!("\n{}: {}", row.resource.kind.short(), row.resource.name),
                false => format!(" {}", row.resource.name),
            }
        });
        let open = format!("> [!CAUTION]\n> {verb} {count}:\n\n```text");
        let share = page.room().saturating_sub(REST_BYTES);
        let note = |left| format!("\n… and {left} more; `trueup plan` on the host names all");
        if page.fill(share, (&open, "\n```\n\n"), items, note) == 0 {
            page.add(&format!(
                "> [!CAUTION]\n> {verb} {count}; `trueup plan` on the host names them\n\n"
            ));
        }
    }
}

/// How GPUs are cut, before and after. For a fork they say too much: they show who uses what.
pub(super) fn pictures(page: &mut Page, plan: &Plan, show: Show) {
    if show == Show::Redacted {
        return;
    }
    let items = plan.pictures.iter().map(|shown| {
        let text = shown.picture.text(Charset::Unicode);
        let lines: Vec<String> = text.lines().map(fenced).collect();
        let text = lines.join("\n");
        let fence = fence(&text);
        format!("{}\n\n{fence}text\n{text}\n{fence}\n\n", code(&shown.resource.to_string()))
    });
    let note = |left| format!("… and {left} more GPUs\n\n");
    page.fill(PICTURES_BYTES, ("", ""), items, note);
}

/// Why the plan would wait after the merge.
pub(super) fn holds(page: &mut Page, holds: &[String]) {
    let items = holds.iter().map(|why| format!("- {}\n", escape(why)));
    let open = "After the merge it would wait:\n\n";
    page.fill(RULINGS_BYTES, (open, "\n"), items, |left| format!("- … and {left} more\n"));
}

/// What the rules say, those in the way first.
pub(super) fn rulings(page: &mut Page, rulings: &[Ruling]) {
    let mut sorted: Vec<&Ruling> = rulings.iter().collect();
    sorted.sort_by_key(|ruling| {
        (ruling.exempt.is_some(), std::cmp::Reverse(ruling.level), ruling.rule.clone())
    });
    let items = sorted.into_iter().map(ruling);
    let open = "#### Rules\n\n";
    page.fill(RULINGS_BYTES, (open, "\n"), items, |left| format!("- … and {left} more\n"));
}

fn ruling(ruling: &Ruling) -> String {
    let mut line = format!("- **{}** {}", ruling.level.as_str(), code(&ruling.rule));
    if let Some(resource) = &ruling.resource {
        line += &format!(" {}", code(&resource.to_string()));
    }
    if let Some(place) = &ruling.place {
        line += &format!(" ({})", code(&format!("{}:{}", place.path, place.line)));
    }
    line += &format!(": {}", escape(&ruling.message));
    if let Some(exempt) = &ruling.exempt {
        let until = exempt
            .until
            .map_or_else(String::new, |until| format!(", until {}", until.strftime("%Y-%m-%d")));
        let (owner, reason) = (escape(&exempt.owner), escape(&exempt.reason));
        line += &format!(" — exempt by {owner}: {reason}{until}");
    }
    line + "\n"
}

/// One row a resource.
pub(super) fn table(page: &mut Page, rows: &[Row<'_>]) {
    let items = rows.iter().map(|row| {
        format!(
            "| {} | {} | {} | {} | {} |\n",
            code(&row.resource.to_string()),
            row.verbs(),
            row.reason(),
            if row.disruption >= Disruption::Restart {
                format!("**{}**", word(row.disruption))
            } else {
                word(row.disruption).to_owned()
            },
            names(row),
        )
    });
    let open =
        "| resource | action | why | disruption | also interrupts |\n|---|---|---|---|---|\n";
    let note = |left| format!("\n… and {left} more, no worse than the last\n");
    page.fill(TABLE_BYTES, (open, "\n"), items, note);
}

fn names(row: &Row<'_>) -> String {
    let mut names: Vec<String> =
        row.interrupts.iter().take(NAMES_MAX).map(|id| code(&id.to_string())).collect();
    let left = row.interrupts.len().saturating_sub(NAMES_MAX);
    if left > 0 {
        names.push(format!("{left} more"));
    }
    names.join(", ")
}

/// What could not be looked at: nothing is planned for it.
pub(super) fn unobserved(page: &mut Page, plan: &Plan, beyond: &[String], show: Show) {
    let own = plan.skipped.iter().filter_map(|skipped| match &skipped.why {
        SkipReason::Unobservable(why) => Some((skipped, why)),
        _ => None,
    });
    let own = own.map(|(skipped, why)| match show {
        Show::All => format!("- {}: {}\n", code(&skipped.resource.to_string()), escape(why)),
        Show::Redacted => format!("- {}\n", code(&skipped.resource.to_string())),
    });
    let beyond = beyond.iter().map(|why| match show {
        Show::All => format!("- {}\n", escape(why)),
        Show::Redacted => "- something that is not in the repository\n".to_owned(),
    });
    let open = "#### Not observed\n\nNothing is known or planned about these:\n\n";
    let note = |left| format!("- … and {left} more\n");
    page.fill(UNOBSERVED_BYTES, (open, "\n"), beyond.chain(own), note);
}

/// The fields that differ, folded by resource.
pub(super) fn fields(page: &mut Page, rows: &[Row<'_>], show: Show) {
    let share = page.room();
    let items = rows.iter().filter_map(|row| folded(row, show));
    let note = |left| format!("… and the fields of {} more\n", many(left, "resource"));
    page.fill(share, ("#### What differs\n\n", "\n"), items, note);
}

fn folded(row: &Row<'_>, show: Show) -> Option<String> {
    let (changes, mut lines) = (row.changes(), String::new());
    for change in changes.iter().take(FIELDS_MAX) {
        lines += &sides(change, show);
    }
    if changes.len() > FIELDS_MAX {
        lines += &format!("# … and {} more fields\n", changes.len() - FIELDS_MAX);
    }
    for step in &row.steps {
        // What a removal says of itself (a path on the machine) was observed.
        let words = detail(step);
        if !words.is_empty() && (show == Show::All || !step.action.removes()) {
            let sign = if step.action.removes() { '-' } else { '#' };
            lines += &format!("{sign} {} {}\n", step.action.verb(), fenced(&words));
        }
    }
    if lines.is_empty() {
        return None;
    }
    let (fence, count) = (fence(&lines), many(changes.len(), "field"));
    Some(format!(
        "<details><summary><code>{}</code>: {count}, {}</summary>\n\n{fence}diff\n{lines}{fence}\n\n</details>\n",
        row.resource,
        word(row.disruption),
    ))
}

/// A field before and after.
fn sides(change: &FieldChange, show: Show) -> String {
    let path = change.path.trim_start_matches('/').replace('/', ".").replace("~1", "/");
    let path = fenced(&path.replace("~0", "~"));
    let side = |sign: char, side: &Option<serde_json::Value>| match side {
        Some(it) => format!("{sign} {path}: {}\n", fenced(&value(&change.path, it))),
        None => String::new(),
    };
    let from = match show {
        Show::All => side('-', &change.from),
        Show::Redacted => format!("- {path}: (not shown)\n"),
    };
    from + &side('+', &change.to)
}

/// Differences that are left alone, and why.
pub(super) fn left_alone(page: &mut Page, plan: &Plan, show: Show) {
    let open = "<details><summary>Left alone</summary>\n\n";
    let note = |left| format!("- … and {left} more\n");
    let share = page.room();
    let skipped = |skipped: &&Skipped| !matches!(skipped.why, SkipReason::Unobservable(_));
    match show {
        Show::All => {
            let items = plan.skipped.iter().filter(skipped).map(|skipped| {
                let (id, why) = (code(&skipped.resource.to_string()), skip_reason(&skipped.why));
                let fields: Vec<String> =
                    skipped.changes.iter().take(NAMES_MAX).map(|it| code(&it.path)).collect();
                let fields = match fields.is_empty() {
                    true => String::new(),
                    false => format!(" ({})", fields.join(", ")),
                };
                format!("- {id}: {}{fields}\n", escape(&why))
            });
            page.fill(share, (open, "\n</details>\n"), items, note);
        }
        // What is not ours, and why something is in the way, is known from the machine only.
        Show::Redacted => {
            let (foreign, own): (Vec<_>, Vec<_>) = plan
                .skipped
                .iter()
                .filter(skipped)
                .partition(|skipped| skipped.why == SkipReason::Foreign);
            let own = own.iter().map(|skipped| match &skipped.why {
                SkipReason::InUse(_)
                | SkipReason::Conflict(_)
                | SkipReason::Immutable(_)
                | SkipReason::Unlike(_) => {
                    format!("- {}\n", code(&skipped.resource.to_string()))
                }
                why => {
                    let why = escape(&skip_reason(why));
                    format!("- {}: {why}\n", code(&skipped.resource.to_string()))
                }
            });
            let foreign = (!foreign.is_empty())
                .then(|| format!("- {} of others\n", many(foreign.len(), "thing")));
            page.fill(share, (open, "\n</details>\n"), foreign.into_iter().chain(own), note);
        }
    }
}

/// The mistakes of a merged tree.
pub(super) fn diagnostics(page: &mut Page, found: &[Diagnostic]) {
    let mut sorted: Vec<&Diagnostic> = found.iter().collect();
    sorted.sort_by_key(|found| found.severity);
    let items = sorted.into_iter().map(|found| {
        let hint = found.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
        format!(
            "| {} | {} | {} |\n",
            code(&format!("{}:{}", found.path, found.line)),
            code(&found.code),
            escape(&format!("{}{hint}", found.message)),
        )
    });
    let share = page.room();
    let open = "| where | what | |\n|---|---|---|\n";
    page.fill(share, (open, "\n"), items, |left| format!("\n… and {left} more\n"));
}

/// The paths in conflict.
pub(super) fn conflicts(page: &mut Page, paths: &[String], more: usize) {
    let items = paths.iter().map(|path| format!("- {}\n", code(path)));
    let close = if more > 0 { format!("- … and {more} more\n") } else { String::new() };
    let share = page.room();
    let open = "Head and base change the same; merge the base into the head to settle it:\n\n";
    page.fill(share, (open, &close), items, |left| format!("- … and {left} more\n"));
}

/// Plans that were shown before.
pub(super) fn older(page: &mut Page, older: &[Older]) {
    let open = format!("<details><summary>{}</summary>\n\n", many(older.len(), "earlier plan"));
    let share = page.room();
    let items = older.iter().map(older_line);
    let note = |left| format!("- … and {left} more\n");
    page.fill(share, (&open, "\n</details>\n"), items, note);
}
