//! SARIF 2.1.0 (OASIS standard, 27 March 2020): what code-scanning tools read.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::diag::{Diagnostic, Related};

/// Renders to one SARIF run.
pub fn sarif(found: &[Diagnostic]) -> Value {
    let rules: BTreeSet<&str> = found.iter().map(|d| d.code.as_ref()).collect();
    let rules: Vec<Value> = rules.into_iter().map(|id| json!({ "id": id })).collect();
    let results: Vec<Value> = found.iter().map(result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "trueup",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(found: &Diagnostic) -> Value {
    let text = match &found.hint {
        None => found.message.clone(),
        Some(hint) => format!("{}\n{hint}", found.message),
    };
    let mut result = json!({
        "ruleId": found.code,
        "level": found.severity.as_str(),
        "message": { "text": text },
        "locations": [location(&found.path, found.line, found.column, found.end_column)],
    });
    if !found.related.is_empty() {
        let related: Vec<Value> = found.related.iter().map(related).collect();
        result["relatedLocations"] = Value::Array(related);
    }
    result
}

fn related(at: &Related) -> Value {
    let mut place = location(&at.path, at.line, at.column, None);
    place["message"] = json!({ "text": at.message });
    place
}

fn location(path: &str, line: u32, column: u32, end_column: Option<u32>) -> Value {
    let uri = if path.is_empty() { "." } else { path };
    let mut physical = json!({ "artifactLocation": { "uri": encode(uri) } });
    if line > 0 {
        physical["region"] = json!({ "startLine": line, "startColumn": column.max(1) });
        if let Some(end) = end_column {
            physical["region"]["endColumn"] = json!(end);
        }
    }
    json!({ "physicalLocation": physical })
}

/// Percent-encodes what a path may hold and a URI may not (RFC 3986, section 2.3).
fn encode(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}
