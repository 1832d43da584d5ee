//! What is not written at all, and in which words it is refused.

use serde_json::{Value, json};

use super::{Refusal, Served, Spot, World};

impl World {
    /// Whether it may be written at all.
    pub(crate) fn admit(
        &self,
        of: &Served,
        before: Option<&Value>,
        object: &Value,
    ) -> Result<(), Refusal> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        if of.namespaced && before.is_none() {
            let home = text("/metadata/namespace");
            let spot = Spot::new("", "namespaces", "", home);
            let namespace = self.find(&spot)?;
            if namespace.pointer("/metadata/deletionTimestamp").is_some() {
                let words = format!("namespace {home} is being terminated");
                return Err(Refusal::new(403, "Forbidden", words));
            }
        }
        let invalid = |field: &str, words: &str| {
            let shown =
                format!("{} \"{}\" is invalid: {field}: {words}", of.kind, text("/metadata/name"));
            let details = json!({"causes": [{"field": field, "message": words, "reason": "FieldValueInvalid"}]});
            Refusal(422, "Invalid", shown, details)
        };
        match of.kind.as_str() {
            "ConfigMap" | "Secret" => {
                let data = object.get("data").and_then(Value::as_object).into_iter().flatten();
                if let Some((key, _)) = data.into_iter().find(|(_, value)| !value.is_string()) {
                    // The real one cannot decode it, and says 400.
                    return Err(Refusal::new(
                        400,
                        "BadRequest",
                        format!("cannot unmarshal data.{key} into a string"),
                    ));
                }
            }
            "Deployment" | "StatefulSet" => {
                if object.pointer("/spec/selector/matchLabels").is_none() {
                    return Err(invalid("spec.selector", "Required value"));
                }
                if object.pointer("/spec/template/spec/containers").is_none() {
                    return Err(invalid("spec.template.spec.containers", "Required value"));
                }
                if before.is_some_and(|old| {
                    old.pointer("/spec/selector") != object.pointer("/spec/selector")
                }) {
                    let shown = format!(
                        "Invalid value: {}: field is immutable",
                        object["spec"]["selector"]
                    );
                    return Err(invalid("spec.selector", &shown));
                }
            }
            "Job"
                if before.is_some_and(|old| {
                    old.pointer("/spec/template") != object.pointer("/spec/template")
                }) =>
            {
                return Err(invalid("spec.template", "field is immutable"));
            }
            _ => {}
        }
        Ok(())
    }
}
