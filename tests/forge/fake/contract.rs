//! What GitHub says of itself: its OpenAPI description, cut (see `../cut-openapi`), as a judge of
//! requests and replies.
//!
//! It also fills replies up with what the description requires and the fake does not care about.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::{Registry, Validator};
use serde_json::{Map, Value, json};

pub(crate) const CUT: &str = include_str!("../fixtures/github-openapi.json");
const HOME: &str = "https://github.test/openapi";

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(CUT).unwrap());
static REGISTRY: LazyLock<Registry<'static>> =
    LazyLock::new(|| Registry::new().add(HOME, DOCUMENT.clone()).unwrap().prepare().unwrap());
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// One operation of the description.
#[derive(Clone, Copy)]
pub(crate) struct Operation(usize);

/// The operation of a request; `path` is below the base.
pub(crate) fn operation(method: &str, path: &str) -> Option<Operation> {
    let operations = DOCUMENT["operations"].as_array().unwrap();
    let fits = |template: &str| {
        let (have, want): (Vec<_>, Vec<_>) =
            (path.split('/').collect(), template.split('/').collect());
        let fits = have.len() == want.len()
            && have.iter().zip(&want).all(|(have, want)| want.starts_with('{') || have == want);
        fits.then(|| want.iter().filter(|part| part.starts_with('{')).count())
    };
    operations
        .iter()
        .enumerate()
        .filter(|(_, operation)| operation["method"] == method)
        .filter_map(|(at, operation)| Some((fits(operation["path"].as_str().unwrap())?, at)))
        // `issues/comments` before `issues/{number}`.
        .min()
        .map(|(_, at)| Operation(at))
}

impl Operation {
    fn part(self, part: &str) -> (&'static Value, String) {
        let pointer = format!("/operations/{}/{part}", self.0);
        (DOCUMENT.pointer(&pointer).unwrap_or(&Value::Null), format!("{HOME}#{pointer}"))
    }

    /// What is wrong with a request.
    pub(crate) fn judge_request(self, query: &[(String, String)], body: &[u8]) -> Vec<String> {
        let mut wrong = Vec::new();
        let (known, _) = self.part("query");
        for (name, text) in query {
            let Some(at) = known.as_array().unwrap().iter().position(|p| p["name"] == **name)
            else {
                wrong.push(format!("there is no parameter {name:?}"));
                continue;
            };
            let (schema, uri) = self.part(&format!("query/{at}/schema"));
            let value = match schema["type"].as_str() {
                Some("integer") => text.parse::<i64>().map_or(json!(text), |n| json!(n)),
                Some("boolean") => text.parse::<bool>().map_or(json!(text), |b| json!(b)),
                _ => json!(text),
            };
            wrong.extend(judge(&uri, &value).into_iter().map(|why| format!("{name}: {why}")));
        }
        let (schema, uri) = self.part("request");
        if schema.is_null() {
            if !body.is_empty() {
                wrong.push("a body where none belongs".to_owned());
            }
        } else if !body.is_empty() {
            match serde_json::from_slice(body) {
                Ok(value) => wrong.extend(judge(&uri, &value)),
                Err(error) => wrong.push(format!("the body is no JSON: {error}")),
            }
        }
        wrong
    }

    /// What is wrong with a reply.
    pub(crate) fn judge_reply(self, status: u16, body: &[u8]) -> Vec<String> {
        let (schema, uri) = self.part(&format!("responses/{status}"));
        let uri = match (schema.is_null(), status) {
            (false, _) => uri,
            (true, 204 | 304) => return Vec::new(),
            // Not every refusal is described for every operation.
            (true, 400..) => format!("{HOME}#/components/schemas/basic-error"),
            (true, _) => return vec![format!("{status} is no answer to this")],
        };
        match serde_json::from_slice(body) {
            Ok(value) => judge(&uri, &value),
            Err(error) => vec![format!("the reply is no JSON: {error}")],
        }
    }

    /// The reply with everything that is required and missing.
    pub(crate) fn complete(self, status: u16, value: Value) -> Value {
        let (schema, _) = self.part(&format!("responses/{status}"));
        if schema.is_null() { value } else { fill(schema, value) }
    }
}

fn judge(uri: &str, value: &Value) -> Vec<String> {
    let validator = {
        let mut validators = VALIDATORS.lock().unwrap();
        let made = validators.entry(uri.to_owned()).or_insert_with(|| {
            let schema = json!({ "$ref": uri });
            Arc::new(jsonschema::options().with_registry(&REGISTRY).build(&schema).unwrap())
        });
        made.clone()
    };
    let short = |text: String| text.chars().take(300).collect::<String>();
    validator
        .iter_errors(value)
        .map(|error| format!("{}: {}", error.instance_path().as_str(), short(error.to_string())))
        .collect()
}

fn resolve(schema: &Value) -> &Value {
    match schema["$ref"].as_str().and_then(|to| to.strip_prefix('#')) {
        Some(pointer) => resolve(DOCUMENT.pointer(pointer).unwrap()),
        None => schema,
    }
}

fn takes_null(schema: &Value) -> bool {
    let schema = resolve(schema);
    let null = |kind: &Value| kind == "null";
    null(&schema["type"])
        || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(null))
        || ["anyOf", "oneOf"]
            .iter()
            .any(|key| schema[*key].as_array().is_some_and(|all| all.iter().any(takes_null)))
}

fn is_object(schema: &Value) -> bool {
    let schema = resolve(schema);
    schema.get("properties").is_some()
        || ["allOf", "anyOf", "oneOf"]
            .iter()
            .any(|key| schema[*key].as_array().is_some_and(|all| all.iter().any(is_object)))
}

fn fill(schema: &Value, value: Value) -> Value {
    let schema = resolve(schema);
    match value {
        Value::Array(items) => {
            let inner = &schema["items"];
            Value::Array(items.into_iter().map(|item| fill(inner, item)).collect())
        }
        Value::Object(map) => Value::Object(fill_object(schema, map)),
        other => other,
    }
}

fn fill_object(schema: &Value, mut map: Map<String, Value>) -> Map<String, Value> {
    let schema = resolve(schema);
    for part in schema["allOf"].as_array().into_iter().flatten() {
        map = fill_object(part, map);
    }
    for key in ["anyOf", "oneOf"] {
        let branches = schema[key].as_array().into_iter().flatten();
        if let Some(branch) = branches.into_iter().find(|branch| is_object(branch)) {
            map = fill_object(branch, map);
        }
    }
    let properties = &schema["properties"];
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap();
        if !map.contains_key(name) {
            map.insert(name.to_owned(), invent(&properties[name]));
        }
    }
    for (name, value) in &mut map {
        if let Some(inner) = properties.get(name) {
            *value = fill(inner, value.take());
        }
    }
    map
}

/// The plainest value of a schema.
fn invent(schema: &Value) -> Value {
    let schema = resolve(schema);
    if takes_null(schema) {
        return Value::Null;
    }
    if let Some(first) = schema["enum"].as_array().and_then(|all| all.first()) {
        return first.clone();
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(first) = schema[key].as_array().and_then(|all| all.first()) {
            return invent(first);
        }
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("string"), Some("uri")) => json!("https://github.test/"),
        (Some("string"), Some("date-time")) => json!("2026-01-01T00:00:00Z"),
        (Some("string"), _) => json!("x"),
        (Some("integer" | "number"), _) => json!(1),
        (Some("boolean"), _) => json!(false),
        (Some("array"), _) => json!([]),
        _ => Value::Object(fill_object(schema, Map::new())),
    }
}
