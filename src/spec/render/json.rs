//! JSON: the diagnostics as they are, with counts.

use serde_json::{Value, json};

use super::super::diag::{Diagnostic, Severity};

/// Renders to a JSON document: `{ "errors", "warnings", "diagnostics" }`.
pub fn json(found: &[Diagnostic]) -> Value {
    let count = |severity| found.iter().filter(|d| d.severity == severity).count();
    json!({
        "errors": count(Severity::Error),
        "warnings": count(Severity::Warning),
        "diagnostics": found,
    })
}
