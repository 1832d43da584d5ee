//! Looks of diagnostics: text for people, JSON, SARIF and GitHub annotations for machines.
//!
//! Pure: the source texts for snippets are handed in, and nothing is printed.

mod github;
mod json;
mod sarif;
mod text;

pub use github::github;
pub use json::json;
pub use sarif::sarif;
pub use text::text;

use super::RepoFiles;
use super::diag::{Diagnostic, Severity};

/// Gives the text of a file for its snippet.
pub trait Sources {
    /// The text of the file at `path`, if it is known.
    fn source(&self, path: &str) -> Option<&str>;
}

impl Sources for RepoFiles {
    fn source(&self, path: &str) -> Option<&str> {
        let file = self.files.iter().find(|f| f.path == path)?;
        std::str::from_utf8(file.bytes.as_deref()?).ok()
    }
}

/// `2 errors, 1 warning`.
pub fn summary(found: &[Diagnostic]) -> String {
    let count = |severity| found.iter().filter(|d| d.severity == severity).count();
    let many = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => "no mistakes found".to_owned(),
        (e, 0) => many(e, "error"),
        (0, w) => many(w, "warning"),
        (e, w) => format!("{}, {}", many(e, "error"), many(w, "warning")),
    }
}

#[cfg(test)]
mod tests;
