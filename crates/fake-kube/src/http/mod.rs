//! The HTTP side of the fake server: paths, content types, parameters, pages and watches.

mod list;
mod patch;
mod watch;

use std::collections::BTreeMap;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::trouble::Trouble;
use crate::world::{Refusal, Served, Spot, World};
use crate::{Shared, TOKEN, minor};
use list::list;
use patch::patch;
use watch::{Watch, watched};

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
    /// The account that asks; `None`: whoever may do everything.
    account: Option<Spot>,
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
    let mut asked = Asked {
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        params: params.collect(),
        content: text(header::CONTENT_TYPE),
        agent: text(header::USER_AGENT),
        body: to_bytes(body, BODY_MAX).await.unwrap_or_default(),
        account: None,
    };
    let trouble = shared.book.lock().unwrap().met(asked.method.as_str(), &asked.path, query);
    match trouble {
        Some(Trouble::Status(code, after)) => {
            let details = json!({"retryAfterSeconds": after});
            let words = "injected trouble".to_owned();
            return said(code, &Refusal(code, Trouble::reason(code), words, details).status());
        }
        Some(Trouble::Slow(wait)) => tokio::time::sleep(wait).await,
        Some(Trouble::Silence) => return std::future::pending().await,
        Some(Trouble::Deaf) => {
            let nothing = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
            return Response::new(Body::from_stream(nothing));
        }
        Some(Trouble::Nonsense) => return said(200, &json!("<html>")),
        None => {}
    }
    let bearer = text(header::AUTHORIZATION);
    let token = bearer.strip_prefix("Bearer ").unwrap_or_default();
    if token != TOKEN {
        asked.account = shared.world.lock().unwrap().holder(token);
        if asked.account.is_none() {
            return said(401, &Refusal::new(401, "Unauthorized", "Unauthorized").status());
        }
    }
    match route(&shared, &asked) {
        Ok(Answer::Value(code, value)) => said(code, &value),
        Ok(Answer::Text(code, text)) => {
            let answer = Response::builder().status(StatusCode::from_u16(code).unwrap());
            answer.header(header::CONTENT_TYPE, "text/plain").body(Body::from(text)).unwrap()
        }
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
    Text(u16, &'static str),
    Watch(Watch),
}

fn route(shared: &Shared, asked: &Asked) -> Result<Answer, Refusal> {
    let lost = || Refusal::new(404, "NotFound", "the server could not find the requested resource");
    let path: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
    if matches!(path.as_slice(), ["readyz" | "livez" | "healthz"]) {
        return Ok(Answer::Text(200, "ok"));
    }
    if path == ["version"] {
        let minor = minor(&shared.release).to_string();
        let release = &*shared.release;
        return Ok(Answer::Value(
            200,
            json!({"major": "1", "minor": minor, "gitVersion": release}),
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
            // Nobody behind this path, so not even a status.
            return Ok(Answer::Text(404, "404 page not found\n"));
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
    if let Some(account) = &asked.account {
        let home = namespace.as_deref().unwrap_or_default();
        if !world.lets(account, asked.method.as_str(), &of, home) {
            let words = format!(
                "{} is forbidden: User \"system:serviceaccount:{}:{}\" cannot do this in the namespace \"{home}\"",
                of.plural, account.namespace, account.name
            );
            return Err(Refusal::new(403, "Forbidden", words));
        }
    }
    match rest {
        [_] if asked.method == Method::GET => list(&world, &of, namespace, &asked.params),
        [_, name, tail @ ..] => {
            let spot = of.spot(namespace.as_deref().unwrap_or_default(), name);
            one(shared, &mut world, &of, &spot, tail, asked)
        }
        _ => Err(Refusal::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )),
    }
}

/// Whatever else is part of a cluster, for as long as the server runs; first what was on its way when it
/// ended.
pub(crate) async fn moments(shared: Shared) {
    let mut news = shared.world.lock().unwrap().tell.subscribe();
    loop {
        let wait = {
            let mut world = shared.world.lock().unwrap();
            news.mark_unchanged();
            world.moment();
            world.slow
        };
        if news.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(wait).await;
    }
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
        ("GET", []) => {
            let mut object = world.find(spot)?.clone();
            object["apiVersion"] = json!(of.api_version());
            Ok(Answer::Value(200, object))
        }
        ("DELETE", []) => {
            json_only(asked)?;
            let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
            let uid = body.pointer("/preconditions/uid").and_then(Value::as_str);
            world.delete(of, spot, uid).map(|object| Answer::Value(200, object))
        }
        ("POST", ["eviction"]) if of.kind == "Pod" => {
            json_only(asked)?;
            let body = read(asked)?;
            let known = if minor(&shared.release) >= 22 { "policy/v1" } else { "policy/v1beta1" };
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
        ("POST", ["token"]) if of.kind == "ServiceAccount" => {
            json_only(asked)?;
            let request = read(asked)?;
            world.token(spot, &request).map(|answer| Answer::Value(201, answer))
        }
        ("PATCH", []) => patch(shared, world, (of, spot), "", asked),
        ("PATCH", ["status"]) => patch(shared, world, (of, spot), "status", asked),
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
