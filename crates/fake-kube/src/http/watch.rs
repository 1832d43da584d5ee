//! Watches: what happened since, one line each, until the time is over or the past is gone.

use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::Response;
use futures_util::stream;
use serde_json::{Value, json};

use super::Params;
use super::list::{expired, selected};
use crate::Shared;
use crate::world::{Change, Served};

/// One that runs.
pub(super) struct Watch {
    pub(super) of: Served,
    pub(super) namespace: Option<String>,
    pub(super) params: Params,
    pub(super) from: u64,
}

/// One line each, until the time is over.
pub(super) fn watched(shared: Shared, watch: Watch) -> Response {
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
            if over && lines.is_empty() {
                return None;
            }
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
    // Nobody serves a kind whose definition is gone.
    (lines, !world.kinds.contains(&watch.of))
}
