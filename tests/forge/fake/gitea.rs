//! A smaller fake: Gitea, with its own words for the same things and pages of its own.
//!
//! No description judges it; it answers in the forms of Gitea's `/api/v1`.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use trueup::config::ForgeSettings;

use super::http::{self, Delivery, Request, Response, decode};
use super::state::{State, Thing};
use super::{Action, Fault, REPOSITORY, fault_of, from_json, private_file};

pub(crate) const TOKEN: &str = "gitea-Canary-0123456789abcdef";
const OWN: &str = "trueup-bot";
/// Its default `MAX_RESPONSE_ITEMS`.
const ITEMS_MAX: usize = 50;

struct Inner {
    state: State,
    faults: Vec<Fault>,
    lines: Vec<String>,
}

/// A running fake Gitea.
pub(crate) struct FakeGitea {
    server: http::Server,
    inner: Arc<Mutex<Inner>>,
    folder: tempfile::TempDir,
}

impl FakeGitea {
    pub(crate) fn start() -> Self {
        let inner = Inner { state: State::new(), faults: Vec::new(), lines: Vec::new() };
        let inner = Arc::new(Mutex::new(inner));
        let shared = inner.clone();
        let server = http::Server::start(Arc::new(move |request: &Request| {
            answer(&mut shared.lock().unwrap(), request)
        }));
        Self { server, inner, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn settings(&self) -> ForgeSettings {
        let file = private_file(self.folder.path(), "token", TOKEN);
        from_json(json!({
            "kind": "gitea", "url": format!("http://{}", self.server.address()),
            "repository": REPOSITORY, "token": { "file": file }, "timeout": "5s",
        }))
    }

    /// Looks at or changes what it holds.
    pub(crate) fn with<T>(&self, how: impl FnOnce(&mut State) -> T) -> T {
        how(&mut self.inner.lock().unwrap().state)
    }

    pub(crate) fn inject(&self, fault: Fault) {
        self.inner.lock().unwrap().faults.push(fault);
    }

    /// The calls as `METHOD path status`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.inner.lock().unwrap().lines.clone()
    }
}

fn answer(inner: &mut Inner, request: &Request) -> (Response, Delivery) {
    let path = request.path.strip_prefix("/api/v1").unwrap_or("/").to_owned();
    let action = fault_of(&mut inner.faults, &request.method, &path);
    let (done, delivery) = match action {
        Some(Action::Drop) => ((0, Value::Null), Delivery::Reset),
        Some(Action::Refuse(status, _, message)) => {
            ((status, json!({ "message": message })), Delivery::Whole)
        }
        Some(Action::Deliver(delivery)) => (route(&mut inner.state, request, &path), delivery),
        Some(Action::DoneBut(status)) => {
            route(&mut inner.state, request, &path);
            ((status, json!({})), Delivery::Whole)
        }
        None => (route(&mut inner.state, request, &path), Delivery::Whole),
    };
    let (status, value) = done;
    inner.lines.push(format!("{} {path} {status}", request.method));
    let (value, more) = page(request, &path, value);
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    if more {
        headers.push(("link".to_owned(), "<https://elsewhere.test/>; rel=\"next\"".to_owned()));
    }
    let body = if value.is_null() { Vec::new() } else { value.to_string().into_bytes() };
    (Response { status, headers, body }, delivery)
}

/// Lists come in pages, except the comments of one issue.
fn page(request: &Request, path: &str, value: Value) -> (Value, bool) {
    let whole =
        path.contains("/issues/") && path.ends_with("/comments") && path.split('/').count() > 6;
    let Value::Array(all) = value else { return (value, false) };
    if whole {
        return (Value::Array(all), false);
    }
    let number = |name| request.query(name).and_then(|n| n.parse::<usize>().ok());
    let size = number("limit").unwrap_or(30).clamp(1, ITEMS_MAX);
    let at = number("page").unwrap_or(1).max(1);
    let more = all.len() > at * size;
    (Value::Array(all.into_iter().skip((at - 1) * size).take(size).collect()), more)
}

fn route(state: &mut State, request: &Request, path: &str) -> (u16, Value) {
    let missing = || (404, json!({ "message": "not found" }));
    if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return (401, json!({ "message": "invalid username, password or token" }));
    }
    let sent: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let text = |name: &str| sent[name].as_str().unwrap_or_default().to_owned();
    let below = path.strip_prefix(&format!("/repos/{REPOSITORY}/"));
    let parts: Vec<String> =
        below.unwrap_or(path.trim_start_matches('/')).split('/').map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().unwrap_or_default();
    match (request.method.as_str(), &parts[..]) {
        ("GET", ["user"]) => (200, state.account(OWN)),
        ("GET", ["orgs", organisation, "teams", "search"]) => {
            let known = state.teams.keys().cloned().collect::<Vec<_>>();
            let teams: Vec<Value> = known
                .iter()
                .enumerate()
                .filter_map(|(at, name)| Some((at, name.split_once('/')?)))
                .filter(|(_, (of, _))| of == organisation)
                .map(|(at, (_, name))| json!({ "id": at, "name": name }))
                .collect();
            (200, json!({ "ok": true, "data": teams }))
        }
        ("GET", ["teams", id, "members", login]) => {
            let team = state.teams.values().nth(number(id) as usize);
            match team.is_some_and(|members| members.contains(*login)) {
                true => (200, state.account(login)),
                false => missing(),
            }
        }
        ("GET", ["pulls"]) => {
            let open = state.things.values().filter(|thing| thing.pull.is_some() && thing.open);
            let all: Vec<Thing> = open.cloned().collect();
            (200, all.iter().map(|thing| pull(state, thing)).collect())
        }
        ("GET", ["pulls", n]) => match state.things.get(&number(n)).cloned() {
            Some(thing) if thing.pull.is_some() => (200, pull(state, &thing)),
            _ => missing(),
        },
        ("GET", ["pulls", n, "reviews"]) => {
            let all = state.reviews.clone().into_iter().filter(|review| review.number == number(n));
            let all = all.map(|review| {
                json!({
                    "id": review.id, "user": state.account(&review.author), "state": review.state,
                    "commit_id": review.commit, "submitted_at": review.at.to_string(),
                    "dismissed": false, "body": "",
                })
            });
            (200, all.collect())
        }
        ("GET", ["commits", sha, "statuses"]) => {
            let all = state.statuses.iter().rev().filter(|status| status.sha == *sha);
            let all = all.map(|status| {
                json!({
                    "context": status.context, "status": status.state,
                    "description": status.description,
                    "target_url": status.url.clone().unwrap_or_default(),
                })
            });
            (200, all.collect())
        }
        ("POST", ["statuses", sha]) => {
            state.statuses.push(super::state::Status {
                sha: (*sha).to_owned(),
                context: text("context"),
                state: text("state"),
                description: text("description"),
                url: Some(text("target_url")).filter(|url| !url.is_empty()),
            });
            (201, json!({ "id": 1 }))
        }
        ("GET", ["issues", "comments"]) => {
            let all = state.comments.clone();
            (200, all.iter().map(|one| comment(state, one)).collect())
        }
        ("GET", ["issues", n, "comments"]) => {
            let mut all = state.comments.clone();
            all.retain(|comment| comment.number == number(n));
            (200, all.iter().map(|one| comment(state, one)).collect())
        }
        ("POST", ["issues", n, "comments"]) => {
            let id = state.comment(number(n), OWN, &text("body"));
            let made = state.comments.iter().find(|comment| comment.id == id).unwrap().clone();
            (201, comment(state, &made))
        }
        ("PATCH", ["issues", "comments", id]) => {
            let Some(found) = state.comments.iter_mut().find(|one| one.id == number(id)) else {
                return missing();
            };
            found.body = text("body");
            found.edits += 1;
            let found = found.clone();
            (200, comment(state, &found))
        }
        ("DELETE", ["issues", "comments", id]) => {
            let before = state.comments.len();
            state.comments.retain(|comment| comment.id != number(id));
            if state.comments.len() == before { missing() } else { (204, Value::Null) }
        }
        ("GET", ["issues", n, "timeline"]) => {
            let all = state.labels.clone().into_iter().filter(|event| event.number == number(n));
            let all = all.map(|event| {
                json!({
                    "id": event.id, "type": "label", "user": state.account(&event.actor),
                    "label": { "name": event.label }, "body": if event.added { "1" } else { "" },
                    "created_at": event.at.to_string(),
                })
            });
            (200, all.collect())
        }
        ("GET", ["collaborators", login, "permission"]) => match state.roles.get(*login) {
            Some(role) => (200, json!({ "permission": role, "role_name": role })),
            None => missing(),
        },
        ("GET", ["issues"]) => {
            let all: Vec<Thing> =
                state.things.values().filter(|thing| thing.pull.is_none()).cloned().collect();
            (200, all.iter().map(|thing| issue(state, thing)).collect())
        }
        ("POST", ["issues"]) => {
            let number = state.add_thing(OWN, &text("title"), &text("body"));
            let thing = state.things[&number].clone();
            (201, issue(state, &thing))
        }
        ("PATCH", ["issues", n]) => {
            state.change(number(n), |thing| {
                if sent["body"].is_string() {
                    thing.body = text("body");
                }
                if sent["title"].is_string() {
                    thing.title = text("title");
                }
                if sent["state"].is_string() {
                    thing.open = sent["state"] == "open";
                }
            });
            let thing = state.things[&number(n)].clone();
            (201, issue(state, &thing))
        }
        _ => missing(),
    }
}

fn pull(state: &mut State, thing: &Thing) -> Value {
    let pull = thing.pull.as_ref().unwrap();
    json!({
        "number": thing.number, "title": thing.title,
        "state": if thing.open { "open" } else { "closed" },
        "user": state.account(&thing.author), "draft": pull.draft,
        // Null where there is none, as Gitea has it.
        "labels": (!thing.labels.is_empty())
            .then(|| thing.labels.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>()),
        "head": { "ref": pull.branch, "sha": pull.head, "repo_id": if pull.fork { 2 } else { 1 } },
        "base": { "ref": pull.base_branch, "sha": pull.base, "repo_id": 1 },
        "merged": pull.merged.is_some(), "merge_commit_sha": pull.merged,
        "updated_at": thing.updated.to_string(), "html_url": "https://git.test/x",
    })
}

fn issue(state: &mut State, thing: &Thing) -> Value {
    json!({
        "number": thing.number, "title": thing.title, "body": thing.body,
        "state": if thing.open { "open" } else { "closed" },
        "user": state.account(&thing.author), "html_url": "https://git.test/x",
    })
}

fn comment(state: &mut State, comment: &super::state::Comment) -> Value {
    json!({
        "id": comment.id, "body": comment.body, "user": state.account(&comment.author),
        "created_at": comment.created.to_string(), "updated_at": comment.updated.to_string(),
        "issue_url": "", "html_url": "https://git.test/x",
        "pull_request_url": format!("https://git.test/{REPOSITORY}/pulls/{}", comment.number),
    })
}
