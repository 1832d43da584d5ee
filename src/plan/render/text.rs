//! A plan for a terminal: words carry everything, colour only repeats it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use trueup_mig::picture::Charset;

use super::super::{Disruption, Plan, Step};
use super::{summary_line, words};
use crate::model::ResourceId;

/// How text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether ANSI colours repeat what the words say.
    pub color: bool,
    /// Width of the terminal in columns; longer lines are cut, never wrapped.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { color: false, width: usize::MAX }
    }
}

/// The plan as lines of text.
pub fn text(plan: &Plan, style: Style) -> String {
    let mut out = String::new();
    let names = plan.steps.iter().map(|step| step.resource.to_string().chars().count());
    let mut told = BTreeSet::new();
    let wide = names.max().unwrap_or(0);
    for (number, step) in plan.steps.iter().enumerate() {
        let verb = step.action.verb();
        let name = step.resource.to_string();
        let line = format!("{:>4}  {verb:<8}  {name:<wide$}  {}", number + 1, about(step));
        put(&mut out, line.trim_end(), style, step.disruption);
        for change in &step.changes {
            // A field is told once: a definition and the restart for it differ in the same.
            if !told.insert((&step.resource, &change.path)) {
                continue;
            }
            let line = format!("                {}", words::change(change));
            put(&mut out, &line, style, Disruption::None);
        }
    }
    if !plan.skipped.is_empty() {
        put(&mut out, "Left alone:", style, Disruption::None);
    }
    for skipped in &plan.skipped {
        let line = format!("      {}: {}", skipped.resource, words::skip_reason(&skipped.why));
        put(&mut out, &line, style, Disruption::None);
        for change in &skipped.changes {
            let line = format!("                {}", words::change(change));
            put(&mut out, &line, style, Disruption::None);
        }
    }
    for note in plan.notes.iter().filter(|note| note.what.asks_for_a_choice()) {
        let line = format!("Note: {} {}", note.resource, words::remark(note.what));
        put(&mut out, &line, style, Disruption::None);
    }
    for shown in &plan.pictures {
        put(&mut out, &format!("{}:", shown.resource), style, Disruption::None);
        for line in shown.picture.text(Charset::Unicode).lines() {
            put(&mut out, format!("    {line}").trim_end(), style, Disruption::None);
        }
    }
    put(&mut out, &summary_line(plan), style, Disruption::None);
    out
}

/// What a step does, why, what it disturbs and what it waits for.
fn about(step: &Step) -> String {
    let mut parts = vec![words::detail(step), format!("[{}]", words::reason(step.reason))];
    parts.push(words::disruption(step.disruption).to_owned());
    let others: BTreeSet<&ResourceId> =
        step.interrupts.iter().filter(|id| **id != step.resource).collect();
    if !others.is_empty() {
        let names: Vec<String> = others.into_iter().map(ToString::to_string).collect();
        parts.push(format!("interrupts {}", names.join(", ")));
    }
    if !step.after.is_empty() {
        let numbers: Vec<String> = step.after.iter().map(|at| (at + 1).to_string()).collect();
        parts.push(format!("after {}", numbers.join(", ")));
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" ")
}

/// Adds one line, cut to the width and coloured by what it disturbs.
fn put(out: &mut String, line: &str, style: Style, disruption: Disruption) {
    let mut line = line.to_owned();
    if line.chars().count() > style.width {
        line = line.chars().take(style.width.saturating_sub(1)).chain(['…']).collect();
    }
    let color = match disruption {
        Disruption::None => None,
        Disruption::Live => Some(anstyle::AnsiColor::Cyan),
        Disruption::Restart => Some(anstyle::AnsiColor::Yellow),
        Disruption::Replace | Disruption::Destroy => Some(anstyle::AnsiColor::Red),
    };
    let written = match color.filter(|_| style.color) {
        Some(color) => {
            let look = anstyle::Style::new().fg_color(Some(color.into()));
            writeln!(out, "{look}{line}{look:#}")
        }
        None => writeln!(out, "{line}"),
    };
    debug_assert!(written.is_ok(), "a string takes every line");
}
