//! Text for people: message, snippet with the place underlined, hint.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{
    AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str,
};

use super::super::diag::{Diagnostic, Severity};
use super::{Sources, summary};

/// Longest line that is shown whole, characters: beyond it the snippet would tell nothing.
const LINE_SHOWN_MAX: usize = 400;

/// Renders for a terminal; `colour` adds ANSI styles.
pub fn text(found: &[Diagnostic], sources: &dyn Sources, colour: bool) -> String {
    let renderer = match colour {
        true => Renderer::styled().decor_style(DecorStyle::Unicode),
        false => Renderer::plain(),
    };
    let mut shown = String::new();
    for diagnostic in found {
        shown.push_str(&one(diagnostic, sources, &renderer));
        shown.push_str("\n\n");
    }
    shown.push_str(&summary(found));
    shown.push('\n');
    shown
}

fn one(found: &Diagnostic, sources: &dyn Sources, renderer: &Renderer) -> String {
    let level = match found.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title =
        level.primary_title(normalize_untrusted_str(&found.message)).id(found.code.as_ref());
    let line = line_of(sources, &found.path, found.line);
    let mut group: Group<'_> = match &line {
        Some(line) => title.element(snippet(found, line)),
        None if found.path.is_empty() => Group::with_title(title),
        None => {
            let mut origin = Origin::path(found.path.as_str());
            if found.line > 0 {
                origin = origin.line(number(found.line)).char_column(number(found.column));
            }
            title.element(origin)
        }
    };
    for related in &found.related {
        let place = format!("{}:{}:{}", related.path, related.line, related.column);
        group = group.element(Level::NOTE.message(format!("{}: {place}", related.message)));
    }
    if let Some(hint) = &found.hint {
        group = group.element(Level::HELP.message(normalize_untrusted_str(hint)));
    }
    renderer.render(&[group])
}

fn snippet<'a>(
    found: &'a Diagnostic,
    line: &'a str,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let byte = |column: u32| {
        let skip = number(column).saturating_sub(1);
        line.char_indices().nth(skip).map_or(line.len(), |(at, _)| at)
    };
    let start = byte(found.column);
    let end = match found.end_column {
        Some(end) => byte(end).max(start),
        None => line.trim_end().len().max(start),
    };
    Snippet::source(line)
        .line_start(number(found.line))
        .path(found.path.as_str())
        .annotation(AnnotationKind::Primary.span(start..end))
}

fn line_of(sources: &dyn Sources, path: &str, line: u32) -> Option<String> {
    let index = number(line).checked_sub(1)?;
    let text = sources.source(path)?.lines().nth(index)?;
    let short = text.chars().take(LINE_SHOWN_MAX).collect::<String>();
    // A tab or a control character would move the underline.
    Some(short.replace(|c: char| c.is_control(), " "))
}

fn number(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
