//! JSON Schemas from the document types, and every mismatch of a document with them at once.
//!
//! Nothing is fetched: the schemas are whole in themselves, and validators are made on first need.

use std::sync::OnceLock;

use jsonschema::Validator;
use jsonschema::error::{ValidationError, ValidationErrorKind};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::diag::did_you_mean;
use super::kinds::{
    API_VERSION, BackupSpec, ClusterSpec, DiskSpec, DocKind, Document, EnvironmentSpec,
    GpuLayoutSpec, ImageSpec, MachineSpec, NetworkSpec, PolicySpec, ReleaseSpec, RepositorySpec,
};
use super::yaml::{At, push_token};

/// Longest value quoted in a message, characters.
const QUOTE_MAX: usize = 60;

/// Fields that were once known, and what to do instead.
const MOVED: &[(&str, &str)] = &[
    (
        "requireSignatures",
        "remove it: a commit cannot say whose signature it needs; set repository.signatures.required \
         in the config of each host",
    ),
    (
        "place",
        "remove it: a commit cannot say which folder and which programs of the host are used as root; say \
         folder, programs, slurmctld and slurmrestd under clusters.NAME in the config of the host",
    ),
];

/// Name of the file that holds the schema of `kind`.
pub fn schema_file(kind: DocKind) -> &'static str {
    match kind {
        DocKind::Repository => "repository.json",
        DocKind::Environment => "environment.json",
        DocKind::Network => "network.json",
        DocKind::Image => "image.json",
        DocKind::Disk => "disk.json",
        DocKind::GpuLayout => "gpu-layout.json",
        DocKind::VirtualMachine => "virtual-machine.json",
        DocKind::Backup => "backup.json",
        DocKind::Cluster => "cluster.json",
        DocKind::Release => "release.json",
        DocKind::Policy => "policy.json",
    }
}

/// Every schema file of `schemas/`: one for each kind, and `trueup.json` for any of them.
pub fn schemas() -> Vec<(String, Value)> {
    let mut files: Vec<_> =
        DocKind::ALL.iter().map(|&kind| (schema_file(kind).to_owned(), schema_of(kind))).collect();
    let refs: Vec<_> =
        DocKind::ALL.iter().map(|&kind| json!({ "$ref": schema_file(kind) })).collect();
    files.push((
        "trueup.json".to_owned(),
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "trueup",
            "description": "Any document of a trueup environment repository.",
            "anyOf": refs,
        }),
    ));
    files
}

/// The schema of one kind.
pub fn schema_of(kind: DocKind) -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let schema = match kind {
        DocKind::Repository => generator.into_root_schema_for::<Document<RepositorySpec>>(),
        DocKind::Environment => generator.into_root_schema_for::<Document<EnvironmentSpec>>(),
        DocKind::Network => generator.into_root_schema_for::<Document<NetworkSpec>>(),
        DocKind::Image => generator.into_root_schema_for::<Document<ImageSpec>>(),
        DocKind::Disk => generator.into_root_schema_for::<Document<DiskSpec>>(),
        DocKind::GpuLayout => generator.into_root_schema_for::<Document<GpuLayoutSpec>>(),
        DocKind::VirtualMachine => generator.into_root_schema_for::<Document<MachineSpec>>(),
        DocKind::Backup => generator.into_root_schema_for::<Document<BackupSpec>>(),
        DocKind::Cluster => generator.into_root_schema_for::<Document<ClusterSpec>>(),
        DocKind::Release => generator.into_root_schema_for::<Document<ReleaseSpec>>(),
        DocKind::Policy => generator.into_root_schema_for::<Document<PolicySpec>>(),
    };
    let mut schema = schema.to_value();
    schema["title"] = json!(kind.word());
    if let Some(about) = schema.pointer("/$defs").and_then(|defs| about(kind, defs)) {
        schema["description"] = about;
    }
    schema["properties"]["kind"]["const"] = json!(kind.word());
    schema["properties"]["apiVersion"]["const"] = json!(API_VERSION);
    schema
}

fn about(kind: DocKind, defs: &Value) -> Option<Value> {
    let name = match kind {
        DocKind::VirtualMachine => "MachineSpec".to_owned(),
        other => format!("{}Spec", other.word()),
    };
    defs.get(name)?.get("description").cloned()
}

/// The code of a value that is a text, a number, a list or a mapping where something else is asked for.
pub(crate) const WRONG_TYPE: &str = "spec/wrong-type";

/// One mismatch with a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) code: &'static str,
    pub(crate) pointer: String,
    pub(crate) at: At,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Every mismatch of `value` with the schema of `kind`.
pub(crate) fn mismatches(kind: DocKind, value: &Value) -> Vec<Mismatch> {
    static COMPILED: [OnceLock<Option<(Value, Validator)>>; DocKind::ALL.len()] =
        [const { OnceLock::new() }; DocKind::ALL.len()];
    let compiled = COMPILED[kind as usize].get_or_init(|| {
        let schema = schema_of(kind);
        let validator = jsonschema::validator_for(&schema).ok()?;
        Some((schema, validator))
    });
    let mut found = Vec::new();
    if let Some((schema, validator)) = compiled {
        for error in validator.iter_errors(value) {
            explain(&error, schema, &mut found);
        }
    }
    found
}

fn explain(error: &ValidationError<'_>, schema: &Value, found: &mut Vec<Mismatch>) {
    let mut add = |code, pointer: String, at, message: String, hint| {
        found.push(Mismatch { code, pointer, at, message, hint });
    };
    let here = error.instance_path().as_str().to_owned();
    let shown = quote(&here, error.instance());
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = known_properties(error, schema);
            for name in unexpected {
                let mut pointer = here.clone();
                push_token(&mut pointer, name);
                let moved = MOVED.iter().find(|(field, _)| *field == name.as_str());
                let moved = moved.map(|(_, hint)| (*hint).to_owned());
                let hint =
                    moved.or_else(|| did_you_mean(name, known.iter().map(String::as_str))).or_else(
                        || (!known.is_empty()).then(|| format!("known here: {}", known.join(", "))),
                    );
                add(
                    "spec/unknown-field",
                    pointer,
                    At::Key,
                    format!("unknown field `{name}`"),
                    hint,
                );
            }
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            add("spec/missing-field", here, At::Key, format!("field `{name}` is missing"), None);
        }
        ValidationErrorKind::Type { .. } => {
            let expected = keyword(error, schema).map(words).unwrap_or_default();
            let (message, hint) = wrong_type(&expected, error.instance(), &shown);
            let hint = hint.or_else(|| as_name(error, schema));
            add(WRONG_TYPE, here, At::Value, message, hint);
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            explain_choice(error, context, schema, found);
        }
        ValidationErrorKind::Constant { expected_value } => {
            let message =
                format!("{shown} is not `{}`", expected_value.as_str().unwrap_or_default());
            add("spec/wrong-value", here, At::Value, message, None);
        }
        ValidationErrorKind::Enum { options } => {
            let known = strings(options);
            let (message, hint) = wrong_choice(&known, error.instance(), &shown);
            add("spec/wrong-value", here, At::Value, message, hint);
        }
        ValidationErrorKind::Pattern { .. } => {
            let hint = description(error, schema);
            add(
                "spec/wrong-value",
                here,
                At::Value,
                format!("{shown} does not have the form that is asked for here"),
                hint,
            );
        }
        other => {
            let rule = keyword(error, schema).map(Value::to_string).unwrap_or_default();
            let message = format!("{shown} is not allowed here: {} is {rule}", other.keyword());
            add("spec/wrong-value", here, At::Value, message, None);
        }
    }
}

/// Explains the branch that was meant, if it can be told from the type of the value.
fn explain_choice(
    error: &ValidationError<'_>,
    context: &[Vec<ValidationError<'static>>],
    schema: &Value,
    found: &mut Vec<Mismatch>,
) {
    let here = error.instance_path().as_str();
    let same_place = |e: &ValidationError<'_>| e.instance_path().as_str() == here;
    let constants: Vec<String> = context
        .iter()
        .flatten()
        .filter(|e| same_place(e))
        .filter_map(|e| match e.kind() {
            ValidationErrorKind::Constant { expected_value } => Some(strings(expected_value)),
            ValidationErrorKind::Enum { options } => Some(strings(options)),
            _ => None,
        })
        .flatten()
        .collect();
    let shape_fits = |branch: &&Vec<ValidationError<'static>>| {
        !branch.iter().any(|e| {
            same_place(e)
                && matches!(
                    e.kind(),
                    ValidationErrorKind::Type { .. }
                        | ValidationErrorKind::Constant { .. }
                        | ValidationErrorKind::Enum { .. }
                )
        })
    };
    let fits: Vec<_> = context.iter().filter(shape_fits).collect();
    // Where several do, `type` says which is meant.
    let tag = format!("{here}/type");
    let other_type = |e: &ValidationError<'_>| e.instance_path().as_str() == tag;
    let one = fits.iter().find(|branch| !branch.iter().any(other_type));
    if let (None, [_, _, ..], Some(value)) = (one, &fits[..], error.instance().get("type")) {
        let wrong = fits.iter().flat_map(|branch| branch.iter().filter(|e| other_type(e)));
        let known: Vec<String> = wrong.flat_map(choices).collect();
        let (message, hint) = wrong_choice(&known, value, &quote(&tag, value));
        found.push(Mismatch {
            code: "spec/wrong-value",
            pointer: tag,
            at: At::Value,
            message,
            hint,
        });
        return;
    }
    let untold = |branch: &&Vec<ValidationError<'static>>| {
        let of_type = |e: &ValidationError<'_>| matches!(e.kind(), ValidationErrorKind::Required { property } if property == "type");
        branch.iter().any(|e| same_place(e) && of_type(e))
    };
    if fits.len() > 1 && fits.iter().all(untold) {
        found.push(Mismatch {
            code: "spec/missing-field",
            pointer: here.to_owned(),
            at: At::Key,
            message: "field `type` is missing, which says what else is asked for".to_owned(),
            hint: Some(format!("one of {}", types_of(error, schema).join(", "))),
        });
        return;
    }
    if let Some(branch) = one.or(fits.first()) {
        for inner in *branch {
            explain(inner, schema, found);
        }
        return;
    }
    let shown = quote(here, error.instance());
    let types: Vec<String> = context
        .iter()
        .flatten()
        .filter(|e| same_place(e) && matches!(e.kind(), ValidationErrorKind::Type { .. }))
        .filter_map(|e| keyword(e, schema).map(words))
        .filter(|t| !t.is_empty() && (constants.is_empty() || t != "string"))
        .collect();
    let (code, (message, hint)) = if constants.is_empty() {
        (WRONG_TYPE, wrong_type(&types.join(" or "), error.instance(), &shown))
    } else {
        ("spec/wrong-value", wrong_choice(&constants, error.instance(), &shown))
    };
    found.push(Mismatch { code, pointer: here.to_owned(), at: At::Value, message, hint });
}

/// The words that `type` may be where it tells branches apart.
fn types_of(error: &ValidationError<'_>, schema: &Value) -> Vec<String> {
    let branches = keyword(error, schema).and_then(Value::as_array);
    let types = branches.into_iter().flatten().filter_map(|branch| {
        let of_type = meant(schema, meant(schema, branch)?.pointer("/properties/type")?)?;
        let each = of_type.get("oneOf").and_then(Value::as_array)?;
        Some(each.iter().filter_map(|one| one.get("const")).flat_map(strings).collect::<Vec<_>>())
    });
    types.flatten().collect()
}

/// What a part of a schema refers to, or itself.
fn meant<'s>(schema: &'s Value, mut part: &'s Value) -> Option<&'s Value> {
    while let Some(other) = part.get("$ref").and_then(Value::as_str) {
        part = schema.pointer(other.trim_start_matches('#'))?;
    }
    Some(part)
}

/// The words that would have been right at the place of an error.
fn choices(error: &ValidationError<'_>) -> Vec<String> {
    match error.kind() {
        ValidationErrorKind::Constant { expected_value } => strings(expected_value),
        ValidationErrorKind::Enum { options } => strings(options),
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            context.iter().flatten().flat_map(choices).collect()
        }
        _ => Vec::new(),
    }
}

fn wrong_type(expected: &str, value: &Value, shown: &str) -> (String, Option<String>) {
    let actual = match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) => format!("the boolean {shown}"),
        Value::Number(_) => format!("the number {shown}"),
        Value::String(_) => format!("the text {shown}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    };
    let wants = |t: &str| expected.split(" or ").any(|e| e == t);
    let hint = match value {
        Value::Null => Some("give it a value, or remove the line".to_owned()),
        // `1.30` is read as 1.3: what is written there is not known here.
        Value::Number(number) if wants("string") && number.is_f64() => {
            Some("put quotes around it".to_owned())
        }
        Value::Bool(_) | Value::Number(_) if wants("string") => {
            Some(format!("quote it: \"{value}\""))
        }
        Value::String(_) if wants("boolean") => Some("write `true` or `false`".to_owned()),
        Value::String(t) if wants("integer") && t.parse::<i64>().is_ok() => {
            Some("remove the quotes".to_owned())
        }
        Value::String(_) | Value::Object(_) if wants("array") => {
            Some("make it a list: `- ` before each item".to_owned())
        }
        _ => None,
    };
    let expected = expected.replace("object", "mapping").replace("array", "list");
    (format!("expected {expected}, found {actual}"), hint)
}

/// What to write for a text that stands where a mapping is asked for, of which a name is all that it needs.
fn as_name(error: &ValidationError<'_>, schema: &Value) -> Option<String> {
    let text = error.instance().as_str()?;
    let of = parent(error, schema)?;
    let needs_name = of.get("required")? == &Value::from(vec!["name"]);
    needs_name.then(|| format!("write `{{name: {}}}`", Value::from(text)))
}

fn wrong_choice(known: &[String], value: &Value, shown: &str) -> (String, Option<String>) {
    let message = format!("{shown} is not one of {}", known.join(", "));
    let hint = value.as_str().and_then(|word| did_you_mean(word, known.iter().map(String::as_str)));
    (message, hint)
}

/// The value of the keyword that failed.
fn keyword<'s>(error: &ValidationError<'_>, schema: &'s Value) -> Option<&'s Value> {
    schema.pointer(error.schema_path().as_str())
}

/// The schema that the failed keyword belongs to.
fn parent<'s>(error: &ValidationError<'_>, schema: &'s Value) -> Option<&'s Value> {
    let path = error.schema_path().as_str();
    schema.pointer(&path[..path.rfind('/')?])
}

fn known_properties(error: &ValidationError<'_>, schema: &Value) -> Vec<String> {
    parent(error, schema)
        .and_then(|s| s.get("properties")?.as_object())
        .map(|m| m.keys().cloned().collect())
        .unwrap_or_default()
}

fn description(error: &ValidationError<'_>, schema: &Value) -> Option<String> {
    let text = parent(error, schema)?.get("description")?.as_str()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn words(types: &Value) -> String {
    strings(types).into_iter().filter(|t| t != "null").collect::<Vec<_>>().join(" or ")
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Null => Vec::new(),
        other => vec![other.to_string()],
    }
}

/// The value in backquotes, short; what may be secret is not shown.
fn quote(pointer: &str, value: &Value) -> String {
    if pointer.starts_with("/spec/cloudInit") || pointer.starts_with("/spec/build/files") {
        return "what stands here".to_owned();
    }
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(_) => return "the list".to_owned(),
        Value::Object(_) => return "the mapping".to_owned(),
        other => other.to_string(),
    };
    let short: String = text.chars().take(QUOTE_MAX).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("`{}{dots}`", short.escape_debug())
}
