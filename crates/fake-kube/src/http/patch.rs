//! Patches: server-side apply and merge patches, for real and as a try.

use serde_json::{Value, json};

use super::{Answer, Asked, read};
use crate::world::{Refusal, Served, Spot, World, mistyped};
use crate::{Shared, minor, ssa};

/// Patches an object, or the part of it that has a path of its own.
pub(super) fn patch(
    shared: &Shared,
    world: &mut World,
    (of, spot): (&Served, &Spot),
    part: &str,
    asked: &Asked,
) -> Result<Answer, Refusal> {
    let dry_run = match asked.params.get("dryRun").map(String::as_str) {
        None => false,
        Some("All") => true,
        Some(other) => {
            return Err(Refusal::new(400, "BadRequest", format!("invalid dryRun: {other}")));
        }
    };
    let body = read(asked)?;
    let before = world.objects.get(spot).cloned();
    let object = match asked.content.as_str() {
        "application/apply-patch+yaml" => {
            if let Some(words) = mistyped(&body) {
                let words = format!(
                    "failed to create typed patch object{}: {words}",
                    named(shared, of, spot)
                );
                return Err(Refusal::new(500, "", words));
            }
            applied(of, spot, before.as_ref(), &body, asked)?
        }
        "application/merge-patch+json" => merged(world, spot, part, &body, asked)?,
        other => {
            let words = format!("the body of the request was in an unknown format - {other}");
            return Err(Refusal::new(415, "UnsupportedMediaType", words));
        }
    };
    let code = if before.is_none() { 201 } else { 200 };
    if !dry_run {
        return world.write(of, before, object).map(|object| Answer::Value(code, object));
    }
    // As it would be, and nothing of it kept.
    let (version, changes, tell) = (world.version, world.changes.len(), world.tell.clone());
    world.tell = tokio::sync::watch::channel(0).0;
    let done = world.write(of, before.clone(), object);
    match before {
        Some(before) => drop(world.objects.insert(spot.clone(), before)),
        None => drop(world.objects.remove(spot)),
    }
    world.version = version;
    world.changes.truncate(changes);
    world.tell = tell;
    done.map(|object| Answer::Value(code, object))
}

/// Newer ones say which object it is.
fn named(shared: &Shared, of: &Served, spot: &Spot) -> String {
    match minor(&shared.release) >= 24 {
        true => format!(
            " ({}/{}; {}/{}, Kind={})",
            spot.namespace, spot.name, of.group, of.version, of.kind
        ),
        false => String::new(),
    }
}

fn applied(
    of: &Served,
    spot: &Spot,
    before: Option<&Value>,
    body: &Value,
    asked: &Asked,
) -> Result<Value, Refusal> {
    let bad = |words: &str| Err(Refusal::new(400, "BadRequest", words));
    let Some(manager) = asked.params.get("fieldManager").filter(|m| !m.is_empty()) else {
        return Err(Refusal::new(
            422,
            "Invalid",
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ));
    };
    let text = |path: &str| body.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let api = of.api_version();
    if text("/apiVersion") != api || text("/kind") != of.kind {
        return bad("the API version or the kind in the data does not match the expected one");
    }
    if text("/metadata/name") != spot.name {
        return bad("the name of the object does not match the name on the URL");
    }
    if text("/metadata/namespace") != spot.namespace {
        return bad(
            "the namespace of the provided object does not match the namespace sent on the request",
        );
    }
    if body.pointer("/metadata/managedFields").is_some() {
        return bad("metadata.managedFields must be nil");
    }
    let force = match asked.params.get("force").map(String::as_str) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return bad("force is no boolean"),
    };
    let empty = json!({"metadata": {}});
    let live = before.unwrap_or(&empty);
    ssa::apply(live, body, manager, force).map_err(|clashes| {
        let named = |c: &ssa::Clash| match c.operation.as_str() {
            "Update" => format!("conflict with \"{}\" using {api}", c.manager),
            _ => format!("conflict with \"{}\"", c.manager),
        };
        let causes: Vec<Value> = clashes
            .iter()
            .map(|c| json!({"reason": "FieldManagerConflict", "message": named(c), "field": ssa::shown(&c.path)}))
            .collect();
        let words = format!("Apply failed with {} conflicts: {}: {}", clashes.len(), named(&clashes[0]), ssa::shown(&clashes[0].path));
        Refusal(409, "Conflict", words, json!({"causes": causes}))
    })
}

fn merged(
    world: &World,
    spot: &Spot,
    part: &str,
    body: &Value,
    asked: &Asked,
) -> Result<Value, Refusal> {
    let live = world.find(spot)?.clone();
    if let Some(version) = body.pointer("/metadata/resourceVersion").and_then(Value::as_str)
        && live["metadata"]["resourceVersion"] != version
    {
        let words = "the object has been modified; please apply your changes to the latest version and try again";
        return Err(Refusal::new(409, "Conflict", words));
    }
    let mut object = live.clone();
    let mut body = body.clone();
    // Each half of an object is written by its own way.
    match part {
        "status" => body = json!({"status": body["status"]}),
        _ => drop(body.as_object_mut().unwrap().remove("status")),
    }
    ssa::merge_patch(&mut object, &body);
    let agent = asked.agent.split('/').next().unwrap_or_default();
    let manager = asked.params.get("fieldManager").map_or(agent, String::as_str);
    ssa::update(&live, &mut object, manager, part);
    Ok(object)
}
