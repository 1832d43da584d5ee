//! Annotations: what is to be said, on the lines of the pull request that say it.
//!
//! Mistakes and resources stand in the merged text; a forge counts the head's lines. It never points
//! at a line that is not there, and gives columns only where a forge takes them.

use std::collections::BTreeMap;

use super::escape::cut;
use super::rows::{rows, word};
use super::{Level, Ruling};
use crate::model::ResourceId;
use crate::plan::{Disruption, Plan};
use crate::port::PullLines;
use crate::spec::{Diagnostic, Origin, Severity};

/// Longest message, in characters: GitHub takes 64 KB, people read a few lines.
const MESSAGE_CHARS_MAX: usize = 2_000;
/// Longest title GitHub takes, in characters (docs.github.com, "Create a check run").
const TITLE_CHARS_MAX: usize = 255;

/// One annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Path in the repository.
    pub path: String,
    /// First line, from 1, of the head's text.
    pub start_line: u32,
    /// Last line.
    pub end_line: u32,
    /// Columns from 1, first and last; only where it is one line.
    pub columns: Option<(u32, u32)>,
    /// How bad.
    pub level: AnnotationLevel,
    /// What sort: a code, a rule.
    pub title: String,
    /// What is to be said; plain text.
    pub message: String,
    /// Whether the line is part of the pull request's diff, so that a forge shows it there.
    pub in_diff: bool,
}

/// How bad an annotation is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnnotationLevel {
    /// It has to change.
    Failure,
    /// Somebody should look.
    Warning,
    /// To know.
    Notice,
}

/// What annotations are made from.
#[derive(Debug, Clone, Copy)]
pub struct Annotations<'a> {
    /// The mistakes of the merged tree.
    pub diagnostics: &'a [Diagnostic],
    /// What the rules say.
    pub rulings: &'a [Ruling],
    /// The plan, where there is one.
    pub plan: Option<&'a Plan>,
    /// Where each resource is written in the merged tree.
    pub origins: &'a BTreeMap<ResourceId, Origin>,
    /// The lines of the files that the pull request changes.
    pub lines: &'a BTreeMap<String, PullLines>,
}

/// Every annotation, the worst first, at each level those in the diff first. What has no place in a
/// file is left to the comment.
#[must_use]
pub fn annotations(from: &Annotations<'_>) -> Vec<Annotation> {
    let mut all: Vec<Annotation> = Vec::new();
    for found in from.diagnostics {
        let level = match found.severity {
            Severity::Error => AnnotationLevel::Failure,
            Severity::Warning => AnnotationLevel::Warning,
        };
        let message = match &found.hint {
            Some(hint) => format!("{}\n{hint}", found.message),
            None => found.message.clone(),
        };
        let end = found.end_column.map(|end| end.saturating_sub(1)).unwrap_or(found.column);
        let columns = (found.column > 0).then_some((found.column, end.max(found.column)));
        let at = (found.path.as_str(), found.line, columns);
        all.extend(place(from, at, level, &found.code, &message));
    }
    for ruling in from.rulings {
        let origin = ruling.resource.as_ref().and_then(|id| from.origins.get(id));
        let Some(origin) = ruling.place.as_ref().or(origin) else { continue };
        let level = match (ruling.exempt.is_some(), ruling.level) {
            (true, _) => AnnotationLevel::Notice,
            (false, Level::Advisory) => AnnotationLevel::Warning,
            (false, Level::Soft | Level::Hard) => AnnotationLevel::Failure,
        };
        let at = (origin.path.as_str(), origin.line, None);
        all.extend(place(from, at, level, &ruling.rule, &ruling.message));
    }
    for row in from.plan.map(rows).unwrap_or_default() {
        let Some(origin) = from.origins.get(row.resource) else { continue };
        if row.disruption < Disruption::Restart {
            continue;
        }
        let others: Vec<String> = row.interrupts.iter().map(ToString::to_string).collect();
        let mut message = format!("{}: {}", row.resource, row.verbs());
        if !others.is_empty() {
            message += &format!("; also interrupts {}", others.join(", "));
        }
        let level = match row.disruption {
            Disruption::Restart => AnnotationLevel::Notice,
            _ => AnnotationLevel::Warning,
        };
        let at = (origin.path.as_str(), origin.line, None);
        all.extend(place(from, at, level, &format!("plan: {}", word(row.disruption)), &message));
    }
    all.sort_by(|a, b| {
        let key = |it: &Annotation| (it.level, !it.in_diff);
        key(a)
            .cmp(&key(b))
            .then_with(|| (&a.path, a.start_line, &a.title).cmp(&(&b.path, b.start_line, &b.title)))
    });
    all.dedup();
    all
}

fn place(
    from: &Annotations<'_>,
    (path, merged, columns): (&str, u32, Option<(u32, u32)>),
    level: AnnotationLevel,
    title: &str,
    message: &str,
) -> Option<Annotation> {
    if path.is_empty() {
        return None;
    }
    let lines = from.lines.get(path);
    let exact = match lines {
        Some(lines) => lines.head_line(merged.max(1)),
        None => Some(merged.max(1)),
    };
    // A line of the base's: the nearest one above it that the head has.
    let above =
        || lines.and_then(|lines| (1..merged.max(1)).rev().find_map(|line| lines.head_line(line)));
    let line = exact.or_else(above).unwrap_or(1);
    Some(Annotation {
        path: path.to_owned(),
        start_line: line,
        end_line: line,
        columns: columns.filter(|_| exact.is_some()),
        level,
        title: cut(title, TITLE_CHARS_MAX),
        message: plain(message),
        in_diff: lines.is_some_and(|lines| lines.shows(line)),
    })
}

/// Text without controls, line by line, and not too long.
fn plain(text: &str) -> String {
    let mut room = MESSAGE_CHARS_MAX;
    let mut lines = Vec::new();
    for line in text.lines() {
        if room == 0 {
            break;
        }
        let line = cut(line, room);
        room = room.saturating_sub(line.chars().count() + 1);
        lines.push(line);
    }
    lines.join("\n")
}
