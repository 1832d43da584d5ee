//! Diagnostics: what is wrong with a repository, where, and what to write instead.
//!
//! Everything here is plain data; the looks of it are in [`super::render`]. A diagnostic never holds
//! the value of a field whose name says that it is secret.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Most diagnostics reported for one load: beyond it people read no further, and a pull-request
/// comment would not hold them.
pub const DIAGNOSTICS_MAX: usize = 1_000;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// What sort of mistake it is: `spec/unknown-field`. Stable: people filter by it.
    pub code: Cow<'static, str>,
    /// How bad it is.
    pub severity: Severity,
    /// Path in the repository; empty where the repository as a whole is meant.
    pub path: String,
    /// Line, from 1; 0 where there is no text to point at.
    pub line: u32,
    /// Column in characters, from 1; 0 where there is no text to point at.
    pub column: u32,
    /// Column one past the last character meant, on the same line.
    pub end_column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that belong to it.
    pub related: Vec<Related>,
}

/// Another place that belongs to a diagnostic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Related {
    /// Path in the repository.
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is there.
    pub message: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The commit is not applied.
    Error,
    /// The commit is applied; somebody should look.
    Warning,
}

impl Severity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A spot in one text: line and column from 1, length in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Spot {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) len: u32,
}

/// A mistake in the content of one file, wherever that file lies: cacheable with the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContentError {
    pub(crate) code: &'static str,
    pub(crate) spot: Spot,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) related: Option<(Spot, String)>,
}

impl ContentError {
    pub(crate) fn new(code: &'static str, spot: Spot, message: impl Into<String>) -> Self {
        Self { code, spot, message: message.into(), hint: None, related: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The diagnostic it is for the file at `path`.
    pub(crate) fn at(&self, path: &str) -> Diagnostic {
        let mut found =
            Diagnostic::located(self.code, Severity::Error, path, self.spot, self.message.clone());
        found.hint.clone_from(&self.hint);
        found.related = self
            .related
            .iter()
            .map(|(spot, message)| Related {
                path: path.to_owned(),
                line: spot.line,
                column: spot.column,
                message: message.clone(),
            })
            .collect();
        found
    }
}

impl Diagnostic {
    /// A diagnostic at `spot` of the file at `path`.
    pub(crate) fn located(
        code: &'static str,
        severity: Severity,
        path: &str,
        spot: Spot,
        message: impl Into<String>,
    ) -> Self {
        Self {
            code: Cow::Borrowed(code),
            severity,
            path: path.to_owned(),
            line: spot.line,
            column: spot.column,
            end_column: (spot.len > 0).then_some(spot.column + spot.len),
            message: message.into(),
            hint: None,
            related: Vec::new(),
        }
    }

    /// An error about the repository as a whole or a file that is not there.
    pub(crate) fn nowhere(code: &'static str, path: &str, message: impl Into<String>) -> Self {
        Self::located(code, Severity::Error, path, Spot::default(), message)
    }

    /// Adds what to do about it.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the commit is refused because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Sorts by place, drops repetitions, and cuts at [`DIAGNOSTICS_MAX`], saying so.
pub(crate) fn tidy(mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    found.sort_by(|a, b| {
        (&a.path, a.line, a.column, &a.code, &a.message)
            .cmp(&(&b.path, b.line, b.column, &b.code, &b.message))
    });
    found.dedup();
    if found.len() > DIAGNOSTICS_MAX {
        let more = found.len() - DIAGNOSTICS_MAX;
        found.truncate(DIAGNOSTICS_MAX);
        found.push(Diagnostic::nowhere(
            "spec/too-many",
            "",
            format!("{more} more mistakes are not shown"),
        ));
    }
    found
}

/// The nearest of `known` to `word`, if near enough to be a slip of the keyboard.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= (k.chars().count().max(lower.len()) / 3).max(1))
        .min()
        .map(|(_, k)| k)
}

/// `did you mean …`, where something is near.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(word, known).map(|k| format!("did you mean `{k}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        assert_eq!(nearest("adress", ["address", "mac"]), Some("address"));
        assert_eq!(nearest("hostDevice", ["hostDevices"]), Some("hostDevices"));
        assert_eq!(nearest("weather", ["address", "mac"]), None);
    }

    #[test]
    fn cuts_with_a_word() {
        let many = (0..DIAGNOSTICS_MAX + 5)
            .map(|n| Diagnostic::nowhere("spec/x", &n.to_string(), "x"))
            .collect();
        let kept = tidy(many);
        assert_eq!(kept.len(), DIAGNOSTICS_MAX + 1);
        assert_eq!(kept[DIAGNOSTICS_MAX].message, "5 more mistakes are not shown");
    }
}
