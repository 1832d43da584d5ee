//! The HTTP side of the fake server: paths, content types, parameters, pages and watches.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use serde_json::{Value, json};

use super::world::{Change, Refusal, Served, Spot, World};
use super::{Shared, TOKEN, Trouble, ssa};

/// What the real one takes by default.
const BODY_MAX: usize = 3 * 1024 * 1024;

pub(crate) fn router(shared: Shared) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

type Params = BTreeMap<String, String>;

/// A request, read.
struct Asked {
    method: Method,
    path: String,
    params: Params,
    content: String,
    agent: String,
    body: Bytes,
}

fn said(code: u16, value: &Value) -> Response {
    Response::builder()
        .status(StatusCode::from_u16(code).unwrap())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(value.to_string()))
        .unwrap()
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let text = |name: header::HeaderName| {
        parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    let query = parts.uri.query().unwrap_or_default();
    let params = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), decoded(value))
    });
    let asked = Asked {
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        params: params.collect(),
        content: text(header::CONTENT_TYPE),
        agent: text(header::USER_AGENT),
        body: to_bytes(body, BODY_MAX).await.unwrap_or_default(),
    };
    let trouble = {
        let mut book = shared.book.lock().unwrap();
        book.requests.push(format!("{} {}?{query}", asked.method, asked.path));
        let matches = |plan: &&mut super::Plan| {
            plan.times > 0 && plan.method == asked.method.as_str() && asked.path.contains(plan.path)
        };
        book.plans.iter_mut().find(matches).map(|plan| {
            plan.times -= 1;
            plan.trouble
        })
    };
    match trouble {
        Some(Trouble::Status(code, after)) => {
            let refusal = Refusal(
                code,
                "Injected",
                "injected trouble".to_owned(),
                json!({"retryAfterSeconds": after}),
            );
            return said(code, &refusal.status());
        }
        Some(Trouble::Silence) => return std::future::pending().await,
        Some(Trouble::Nonsense) => return said(200, &json!("<html>")),
        None => {}
    }
    if text(header::AUTHORIZATION) != format!("Bearer {TOKEN}") {
        return said(401, &Refusal::new(401, "Unauthorized", "Unauthorized").status());
    }
    match route(&shared, &asked) {
        Ok(Answer::Value(code, value)) => said(code, &value),
        Ok(Answer::Watch(watch)) => watched(shared, watch),
        Err(refusal) => said(refusal.0, &refusal.status()),
    }
}

/// `%2C` and its like.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap()
}

enum Answer {
    Value(u16, Value),
    Watch(Watch),
}

struct Watch {
    of: Served,
    namespace: Option<String>,
    params: Params,
    from: u64,
}

fn route(shared: &Shared, asked: &Asked) -> Result<Answer, Refusal> {
    let lost = || Refusal::new(404, "NotFound", "the server could not find the requested resource");
    let path: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
    if path == ["version"] {
        return Ok(Answer::Value(
            200,
            json!({"major": "1", "minor": "33", "gitVersion": shared.release}),
        ));
    }
    let (group, version, rest) = match path.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Err(lost()),
    };
    let mut world = shared.world.lock().unwrap();
    if rest.is_empty() {
        let kinds: Vec<_> =
            world.kinds.iter().filter(|k| k.group == group && k.version == version).collect();
        if kinds.is_empty() {
            return Err(lost());
        }
        let all: Vec<Value> = kinds
            .iter()
            .map(|k| json!({"name": k.plural, "kind": k.kind, "namespaced": k.namespaced, "verbs": ["get", "list", "watch", "patch", "delete"]}))
            .collect();
        return Ok(Answer::Value(
            200,
            json!({"kind": "APIResourceList", "groupVersion": version, "resources": all}),
        ));
    }
    let (namespace, rest) = match rest {
        ["namespaces", name, tail @ ..] if !tail.is_empty() && tail[0] != "status" => {
            (Some((*name).to_owned()), tail)
        }
        rest => (None, rest),
    };
    let of = world.served(group, version, rest[0]).ok_or_else(lost)?;
    if namespace.is_some() && !of.namespaced {
        return Err(lost());
    }
    match rest {
        [_] if asked.method == Method::GET => list(&world, &of, namespace, &asked.params),
        [_, name, tail @ ..] => {
            let spot = World::spot(&of, namespace.as_deref().unwrap_or_default(), name);
            let wait = world.slow;
            let answer = one(shared, &mut world, &of, &spot, tail, asked)?;
            if of.kind == "CustomResourceDefinition"
                && asked.method == Method::PATCH
                && !asked.params.contains_key("dryRun")
            {
                drop(tokio::spawn(establish(shared.clone(), spot, wait)));
            }
            Ok(answer)
        }
        _ => Err(Refusal::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )),
    }
}

/// As the real one: established after a moment, served after another.
async fn establish(shared: Shared, spot: Spot, wait: Duration) {
    tokio::time::sleep(wait).await;
    shared.world.lock().unwrap().establish(&spot);
    tokio::time::sleep(wait).await;
    shared.world.lock().unwrap().serve(&spot);
}

fn one(
    shared: &Shared,
    world: &mut World,
    of: &Served,
    spot: &Spot,
    tail: &[&str],
    asked: &Asked,
) -> Result<Answer, Refusal> {
    match (asked.method.as_str(), tail) {
        ("GET", []) => Ok(Answer::Value(200, world.get(spot)?.clone())),
        ("DELETE", []) => {
            json_only(asked)?;
            let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
            let uid = body.pointer("/preconditions/uid").and_then(Value::as_str);
            world.delete(of, spot, uid).map(|object| Answer::Value(200, object))
        }
        ("POST", ["eviction"]) if of.kind == "Pod" => {
            json_only(asked)?;
            let body = read(asked)?;
            let minor: u32 = shared.release.split('.').nth(1).unwrap().parse().unwrap();
            let known = if minor >= 22 { "policy/v1" } else { "policy/v1beta1" };
            if body["apiVersion"] != known || body["kind"] != "Eviction" {
                let words = format!(
                    "no kind \"Eviction\" is registered for version {}",
                    body["apiVersion"]
                );
                return Err(Refusal::new(400, "BadRequest", words));
            }
            let uid = body.pointer("/deleteOptions/preconditions/uid").and_then(Value::as_str);
            let object = world.evict(spot, uid)?;
            Ok(Answer::Value(
                201,
                json!({"kind": "Status", "status": "Success", "code": 201, "metadata": {}, "details": {"uid": object["metadata"]["uid"]}}),
            ))
        }
        ("PATCH", []) => patch(world, of, spot, "", asked),
        ("PATCH", ["status"]) => patch(world, of, spot, "status", asked),
        _ => Err(Refusal::new(405, "MethodNotAllowed", "method not allowed")),
    }
}

fn json_only(asked: &Asked) -> Result<(), Refusal> {
    if asked.body.is_empty() || asked.content == "application/json" {
        return Ok(());
    }
    let words = format!("the body of the request was in an unknown format - {}", asked.content);
    Err(Refusal::new(415, "UnsupportedMediaType", words))
}

fn read(asked: &Asked) -> Result<Value, Refusal> {
    let value: Result<Value, _> = serde_json::from_slice(&asked.body);
    let value = value.map_err(|error| Refusal::new(400, "BadRequest", error.to_string()))?;
    if !value.is_object() {
        return Err(Refusal::new(400, "BadRequest", "not an object"));
    }
    Ok(value)
}

fn patch(
    world: &mut World,
    of: &Served,
    spot: &Spot,
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
        "application/apply-patch+yaml" => applied(of, spot, before.as_ref(), &body, asked)?,
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
    let api = if of.group.is_empty() {
        of.version.clone()
    } else {
        format!("{}/{}", of.group, of.version)
    };
    if text("/apiVersion") != api || text("/kind") != of.kind {
        return bad("the API version or the kind in the data does not match the expected one");
    }
    if text("/metadata/name") != spot.3 {
        return bad("the name of the object does not match the name on the URL");
    }
    if text("/metadata/namespace") != spot.2 {
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
    let live = world.get(spot)?.clone();
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

/// Whether an object is asked for.
fn selected(object: &Value, namespace: Option<&str>, params: &Params) -> Result<bool, Refusal> {
    let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    if namespace.is_some_and(|namespace| meta("namespace") != namespace) {
        return Ok(false);
    }
    let pairs = |name: &str| {
        let text = params.get(name).cloned().unwrap_or_default();
        text.split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    for pair in pairs("labelSelector") {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Refusal::new(400, "BadRequest", format!("unable to parse requirement: {pair}"))
        })?;
        if object["metadata"]["labels"].get(key).and_then(Value::as_str)
            != Some(value.trim_start_matches('='))
        {
            return Ok(false);
        }
    }
    for pair in pairs("fieldSelector") {
        let (key, value) = pair.split_once('=').unwrap_or((&pair, ""));
        let have = match (key, object["kind"].as_str().unwrap_or_default()) {
            ("metadata.name", _) => meta("name"),
            ("metadata.namespace", _) => meta("namespace"),
            ("spec.nodeName", "Pod") => object["spec"]["nodeName"].as_str().unwrap_or_default(),
            _ => {
                return Err(Refusal::new(
                    400,
                    "BadRequest",
                    format!("field label not supported: {key}"),
                ));
            }
        };
        if have != value.trim_start_matches('=') {
            return Ok(false);
        }
    }
    Ok(true)
}

fn expired(version: u64, compacted: u64) -> Refusal {
    Refusal::new(410, "Expired", format!("too old resource version: {version} ({compacted})"))
}

fn list(
    world: &World,
    of: &Served,
    namespace: Option<String>,
    params: &Params,
) -> Result<Answer, Refusal> {
    let flag = |name: &str| params.get(name).is_some_and(|value| value == "true");
    let number = |name: &str| -> Result<u64, Refusal> {
        let text = params.get(name).map_or("0", String::as_str);
        text.parse().map_err(|_| Refusal::new(400, "BadRequest", format!("{name}: {text}")))
    };
    if flag("watch") {
        let from = number("resourceVersion")?;
        let from = if from == 0 { world.version } else { from };
        return Ok(Answer::Watch(Watch {
            of: of.clone(),
            namespace,
            params: params.clone(),
            from,
        }));
    }
    // Where a page begins: the version of the first one, and after which name.
    let (version, after) = match params.get("continue").filter(|c| !c.is_empty()) {
        Some(token) => {
            let (version, after) = token
                .split_once('|')
                .ok_or_else(|| Refusal::new(400, "BadRequest", "continue key is not valid"))?;
            let version: u64 = version.parse().unwrap();
            if version < world.compacted {
                return Err(expired(version, world.compacted));
            }
            (version, Some(after.to_owned()))
        }
        None => (world.version, None),
    };
    let limit = usize::try_from(number("limit")?).unwrap();
    let (mut items, mut more) = (Vec::new(), None);
    for (spot, object) in world.objects.iter().filter(|(s, _)| s.0 == of.group && s.1 == of.plural)
    {
        let place = format!("{}/{}", spot.2, spot.3);
        if after.as_ref().is_some_and(|after| place <= *after)
            || !selected(object, namespace.as_deref(), params)?
        {
            continue;
        }
        if limit > 0 && items.len() == limit {
            let last: &Value = items.last().unwrap();
            let meta = |field: &str| last["metadata"][field].as_str().unwrap_or_default();
            more = Some(format!("{version}|{}/{}", meta("namespace"), meta("name")));
            break;
        }
        items.push(object.clone());
    }
    // Objects in lists do not say what they are.
    let bare = |mut item: Value| {
        item.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
        item
    };
    let items: Vec<Value> = items.into_iter().map(bare).collect();
    Ok(Answer::Value(
        200,
        json!({
        "kind": format!("{}List", of.kind), "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string(), "continue": more}, "items": items}),
    ))
}

/// One line each, until the time is over.
fn watched(shared: Shared, watch: Watch) -> Response {
    let seconds = watch.params.get("timeoutSeconds").and_then(|s| s.parse().ok()).unwrap_or(300);
    let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let news = shared.world.lock().unwrap().tell.subscribe();
    let begun = (shared, watch, news, until, false);
    let lines = stream::unfold(begun, |(shared, mut watch, mut news, until, ended)| async move {
        if ended {
            return None;
        }
        loop {
            news.mark_unchanged();
            let (lines, over) = since(&shared, &mut watch);
            if !lines.is_empty() {
                let line = Ok::<_, std::io::Error>(lines.concat());
                return Some((line, (shared, watch, news, until, over)));
            }
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep_until(until) => return None,
            }
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/json")];
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().extend(kind.map(|(k, v)| (k, v.parse().unwrap())));
    response
}

/// What happened since, and whether that was the last of it.
fn since(shared: &Shared, watch: &mut Watch) -> (Vec<String>, bool) {
    let world = shared.world.lock().unwrap();
    if watch.from < world.compacted {
        let status = expired(watch.from, world.compacted).status();
        return (vec![format!("{}\n", json!({"type": "ERROR", "object": status}))], true);
    }
    let mine = |c: &&Change| c.group == watch.of.group && c.plural == watch.of.plural;
    let mut lines = Vec::new();
    let is = |object: &Value| {
        selected(object, watch.namespace.as_deref(), &watch.params).unwrap_or(false)
    };
    let start = world.changes.partition_point(|change| change.version <= watch.from);
    for change in world.changes[start..].iter().filter(mine) {
        // An object that comes into a selection, or leaves it, is new or gone for who watches it.
        let was = change.before.as_ref().is_some_and(is);
        let what = match (was, is(&change.object) && change.what != "DELETED") {
            (true, true) => "MODIFIED",
            (false, true) => "ADDED",
            (true, false) => "DELETED",
            (false, false) => continue,
        };
        lines.push(format!("{}\n", json!({"type": what, "object": change.object})));
    }
    watch.from = world.version;
    (lines, false)
}
