//! What an applied object must look like for the server to know its fields: a small part of the schemas.

use serde_json::Value;

/// The parts of the kinds that are checked, beside `apiVersion`, `kind` and `metadata`.
const PARTS: &[(&str, &[&str])] = &[
    ("ConfigMap", &["data", "binaryData", "immutable"]),
    ("Secret", &["data", "stringData", "type", "immutable"]),
    ("Deployment", &["spec", "status"]),
    ("StatefulSet", &["spec", "status"]),
    ("DaemonSet", &["spec", "status"]),
    ("Job", &["spec", "status"]),
    ("Pod", &["spec", "status"]),
    ("Node", &["spec", "status"]),
    ("Service", &["spec", "status"]),
    ("Namespace", &["spec", "status"]),
];

/// What does not fit, in the words of the real one. It says them with a status of 500, as if it were its
/// own fault.
pub(crate) fn mistyped(object: &Value) -> Option<String> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let (_, parts) = PARTS.iter().find(|(name, _)| *name == kind)?;
    let mut wrong = Vec::new();
    for (field, value) in object.as_object()? {
        let known = ["apiVersion", "kind", "metadata"].contains(&field.as_str());
        if !known && !parts.contains(&field.as_str()) {
            wrong.push(format!(".{field}: field not declared in schema"));
        }
        if matches!(field.as_str(), "data" | "stringData" | "binaryData") {
            let odd =
                value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_string());
            wrong.extend(odd.map(|(key, value)| {
                format!(
                    ".{field}.{key}: expected string, got &value.valueUnstructured{{Value:{value}}}"
                )
            }));
        }
    }
    if object.pointer("/spec/replicas").is_some_and(|replicas| !replicas.is_number()) {
        wrong.push(
            ".spec.replicas: expected numeric (int or float), got *value.valueUnstructured"
                .to_owned(),
        );
    }
    match wrong.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("errors:\n  {}", many.join("\n  "))),
    }
}
