//! Workflow commands of GitHub Actions: one line a diagnostic, shown beside the changed lines.
//!
//! Escaping as in GitHub's own toolkit (`actions/toolkit`, `packages/core/src/command.ts`): a file
//! name or a message can never open a command of its own.

use super::super::diag::Diagnostic;

/// Renders to workflow commands, one a line.
pub fn github(found: &[Diagnostic]) -> String {
    found.iter().map(command).collect()
}

fn command(found: &Diagnostic) -> String {
    let mut properties = Vec::new();
    if !found.path.is_empty() {
        properties.push(format!("file={}", property(&found.path)));
    }
    if found.line > 0 {
        properties.push(format!("line={}", found.line));
        properties.push(format!("endLine={}", found.line));
        properties.push(format!("col={}", found.column));
        if let Some(end) = found.end_column {
            properties.push(format!("endColumn={end}"));
        }
    }
    properties.push(format!("title={}", property(&found.code)));
    let message = match &found.hint {
        None => found.message.clone(),
        Some(hint) => format!("{}\n{hint}", found.message),
    };
    format!("::{} {}::{}\n", found.severity.as_str(), properties.join(","), data(&message))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
