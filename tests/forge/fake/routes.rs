//! What the fake GitHub answers.
//!
//! Only what a client can rely on is written down; the rest of each reply comes from the description.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Value, json};

use super::http::{Request, Response, decode};
use super::login::{APP, APP_SLUG, INSTALLATION, MINTED, Who};
use super::state::{Check, Comment, STATUSES_MAX, State, Status, Thing, now};
use super::{BASE, REPOSITORY};

/// Longest comment, in characters.
const COMMENT_CHARS_MAX: usize = 65_536;
const ANNOTATIONS_MAX: usize = 50;

/// Status, headers and body.
pub(crate) type Done = (u16, Vec<(String, String)>, Value);

pub(crate) fn refusal(status: u16, message: &str) -> Response {
    let body = json!({ "message": message, "documentation_url": "https://docs.github.test/rest" });
    Response { status, headers: Vec::new(), body: body.to_string().into_bytes() }
}

fn invalid(message: &str) -> Response {
    let body = json!({
        "message": "Validation Failed", "documentation_url": "https://docs.github.test/rest",
        "errors": [{ "resource": "X", "code": "custom", "field": "body", "message": message }],
    });
    Response { status: 422, headers: Vec::new(), body: body.to_string().into_bytes() }
}

fn missing() -> Response {
    refusal(404, "Not Found")
}

/// With what is left of the budget; a call that costs nothing gives its share back.
pub(crate) fn with_budget(state: &mut State, mut response: Response, costs: bool) -> Response {
    if !costs {
        state.remaining += 1;
    }
    let reset = now().as_second() + 3600;
    let date = state.clock().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if !response.body.is_empty() {
        let json = ("content-type".to_owned(), "application/json; charset=utf-8".to_owned());
        response.headers.push(json);
    }
    for (name, value) in [
        ("date", date),
        ("x-ratelimit-limit", state.limit.to_string()),
        ("x-ratelimit-remaining", state.remaining.to_string()),
        ("x-ratelimit-reset", reset.to_string()),
    ] {
        response.headers.push((name.to_owned(), value));
    }
    response
}

pub(crate) fn etag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}

pub(crate) fn route(
    state: &mut State,
    request: &Request,
    path: &str,
    who: &Who,
) -> Result<Done, Response> {
    let sent: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let below = path.strip_prefix(&format!("/repos/{REPOSITORY}/"));
    let parts: Vec<String> =
        below.unwrap_or(path.trim_start_matches('/')).split('/').map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let ok = |value: Value| Ok((200, Vec::new(), value));
    let made = |value: Value| Ok((201, Vec::new(), value));
    let number = |text: &str| text.parse::<u64>().map_err(|_| missing());
    if below.is_none() {
        return elsewhere(state, request, &parts, who);
    }
    match (request.method.as_str(), &parts[..]) {
        ("GET", ["pulls"]) => {
            let open = state.things.values().filter(|thing| thing.pull.is_some() && thing.open);
            let all: Vec<Thing> = open.cloned().collect();
            let all = all.iter().map(|thing| pull(state, thing)).collect();
            page(request, all)
        }
        ("GET", ["pulls", n]) => {
            let found = state.things.get(&number(n)?).filter(|thing| thing.pull.is_some());
            let thing = found.cloned().ok_or_else(missing)?;
            ok(pull(state, &thing))
        }
        ("GET", ["pulls", n, "reviews"]) => {
            let n = number(n)?;
            let on = state.reviews.clone().into_iter().filter(|review| review.number == n);
            let all = on.map(|review| {
                json!({
                    "id": review.id, "user": state.account(&review.author), "state": review.state,
                    "commit_id": review.commit, "submitted_at": review.at.to_string(), "body": "",
                })
            });
            let all = all.collect();
            page(request, all)
        }
        ("POST", ["statuses", sha]) => add_status(state, sha, &sent).and_then(made),
        ("GET", ["commits", sha, "status"]) => combined(state, request, sha),
        ("GET", ["commits", sha, "check-runs"]) => check_runs(state, request, sha),
        ("POST", ["check-runs"]) => {
            let id = state.fresh_id();
            let sha = sent["head_sha"].as_str().unwrap_or_default().to_owned();
            state.checks.push(Check {
                id,
                sha,
                name: String::new(),
                external_id: None,
                status: "queued".to_owned(),
                conclusion: None,
                output: json!({}),
                annotations: Vec::new(),
            });
            change_check(state, id, &sent).and_then(made)
        }
        ("PATCH", ["check-runs", id]) => change_check(state, number(id)?, &sent).and_then(ok),
        ("GET", ["issues", "comments"]) => {
            let since = request.query("since").and_then(|at| at.parse::<jiff::Timestamp>().ok());
            let mut all = state.comments.clone();
            all.retain(|comment| since.is_none_or(|since| comment.updated >= since));
            all.sort_by_key(|comment| (comment.updated, comment.id));
            page(request, all.iter().map(|one| comment(state, one)).collect())
        }
        ("PATCH", ["issues", "comments", id]) => {
            let (id, at) = (number(id)?, state.clock());
            let body = text(&sent, "body")?;
            let found = state.comments.iter_mut().find(|comment| comment.id == id);
            let found = found.ok_or_else(missing)?;
            (found.body, found.updated) = (body, at);
            found.edits += 1;
            let found = found.clone();
            ok(comment(state, &found))
        }
        ("DELETE", ["issues", "comments", id]) => {
            let (id, before) = (number(id)?, state.comments.len());
            state.comments.retain(|comment| comment.id != id);
            if state.comments.len() == before {
                return Err(missing());
            }
            Ok((204, Vec::new(), Value::Null))
        }
        ("GET", ["issues", n, "comments"]) => {
            let n = number(n)?;
            state.things.get(&n).ok_or_else(missing)?;
            let on = state.comments.clone().into_iter().filter(|comment| comment.number == n);
            let all = on.map(|one| comment(state, &one)).collect();
            page(request, all)
        }
        ("POST", ["issues", n, "comments"]) => {
            let n = number(n)?;
            state.things.get(&n).ok_or_else(missing)?;
            let body = text(&sent, "body")?;
            let id = state.comment(n, &who.login, &body);
            let found = state.comments.iter().find(|comment| comment.id == id).unwrap().clone();
            made(comment(state, &found))
        }
        ("GET", ["issues", n, "events"]) => {
            let n = number(n)?;
            let on = state.labels.clone().into_iter().filter(|event| event.number == n);
            let all = on.map(|event| {
                json!({
                    "id": event.id, "event": if event.added { "labeled" } else { "unlabeled" },
                    "actor": state.account(&event.actor), "created_at": event.at.to_string(),
                    "label": { "name": event.label, "color": "ededed" },
                })
            });
            let all = all.collect();
            page(request, all)
        }
        ("GET", ["issues"]) => {
            let creator = request.query("creator").unwrap_or_default();
            let all = request.query("state") == Some("all");
            let fits = |thing: &&Thing| {
                (creator.is_empty() || thing.author == creator) && (all || thing.open)
            };
            let mut found: Vec<Thing> = state.things.values().filter(fits).cloned().collect();
            found.reverse();
            page(request, found.iter().map(|thing| issue(state, thing)).collect())
        }
        ("POST", ["issues"]) => {
            let (title, body) = (text(&sent, "title")?, text(&sent, "body")?);
            let number = state.add_thing(&who.login, &title, &body);
            let thing = state.things[&number].clone();
            made(issue(state, &thing))
        }
        ("PATCH", ["issues", n]) => {
            let n = number(n)?;
            state.things.get(&n).ok_or_else(missing)?;
            if sent["body"].is_string() {
                text(&sent, "body")?;
            }
            state.change(n, |thing| {
                if let Some(title) = sent["title"].as_str() {
                    thing.title = title.to_owned();
                }
                if let Some(body) = sent["body"].as_str() {
                    thing.body = body.to_owned();
                }
                if let Some(state) = sent["state"].as_str() {
                    thing.open = state == "open";
                }
            });
            let thing = state.things[&n].clone();
            ok(issue(state, &thing))
        }
        ("GET", ["collaborators", login, "permission"]) => {
            let role = state.roles.get(*login).cloned().ok_or_else(missing)?;
            let coarse = match role.as_str() {
                "maintain" => "write",
                "triage" => "read",
                other => other,
            };
            ok(json!({ "permission": coarse, "role_name": role, "user": state.account(login) }))
        }
        _ => Err(missing()),
    }
}

/// What is not about the repository.
fn elsewhere(
    state: &mut State,
    request: &Request,
    parts: &[&str],
    who: &Who,
) -> Result<Done, Response> {
    let ok = |value: Value| Ok((200, Vec::new(), value));
    match (request.method.as_str(), parts) {
        ("GET", ["user"]) if who.installed => {
            Err(refusal(403, "Resource not accessible by integration"))
        }
        ("GET", ["user"]) => ok(state.account(&who.login)),
        ("GET", ["users", login]) => ok(state.account(login)),
        ("GET", ["app"]) => ok(json!({ "id": APP, "slug": APP_SLUG, "name": APP_SLUG })),
        ("POST", ["app", "installations", id, "access_tokens"]) => {
            if *id != INSTALLATION.to_string() {
                return Err(missing());
            }
            let token = format!("{MINTED}{}", state.fresh_id());
            let who = Who::installation();
            let until = jiff::Timestamp::from_second(who.until.unwrap()).unwrap();
            state.tokens.insert(token.clone(), who);
            Ok((201, Vec::new(), json!({ "token": token, "expires_at": until.to_string() })))
        }
        ("GET", ["orgs", organisation, "teams", team, "memberships", login]) => {
            let members = state.teams.get(&format!("{organisation}/{team}"));
            if members.is_some_and(|members| members.contains(*login)) {
                return ok(json!({ "state": "active", "role": "member" }));
            }
            Err(missing())
        }
        _ => Err(missing()),
    }
}

/// A required text of at most the length GitHub takes.
fn text(sent: &Value, field: &str) -> Result<String, Response> {
    let text = sent[field].as_str().unwrap_or_default();
    if text.is_empty() {
        return Err(invalid(&format!("{field} can't be blank")));
    }
    if text.chars().count() > COMMENT_CHARS_MAX {
        return Err(invalid(&format!("{field} is too long (maximum is 65536 characters)")));
    }
    Ok(text.to_owned())
}

/// One page, with a link to the next where there is one.
fn page(request: &Request, all: Vec<Value>) -> Result<Done, Response> {
    let (items, headers) = slice(request, all);
    Ok((200, headers, Value::Array(items)))
}

fn slice(request: &Request, all: Vec<Value>) -> (Vec<Value>, Vec<(String, String)>) {
    let number = |name| request.query(name).and_then(|n| n.parse::<usize>().ok());
    let size = number("per_page").unwrap_or(30).clamp(1, 100);
    let at = number("page").unwrap_or(1).max(1);
    let more = all.len() > at * size;
    let items = all.into_iter().skip((at - 1) * size).take(size).collect();
    // As the real one: an address in full, which a client must not follow blindly.
    let next = format!("<https://api.github.test{}?page={}>; rel=\"next\"", request.path, at + 1);
    let headers = more.then(|| ("link".to_owned(), next)).into_iter().collect();
    (items, headers)
}

fn pull(state: &mut State, thing: &Thing) -> Value {
    let pull = thing.pull.as_ref().unwrap();
    let at = thing.updated.to_string();
    let labels: Vec<Value> = thing.labels.iter().map(|name| json!({ "name": name })).collect();
    let (owner, _) = REPOSITORY.split_once('/').unwrap();
    let own = json!({ "id": 500 });
    let other = json!({ "id": 501 });
    json!({
        "number": thing.number, "id": thing.number, "title": thing.title,
        "state": if thing.open { "open" } else { "closed" }, "draft": pull.draft,
        "user": state.account(&thing.author), "labels": labels,
        "head": {
            "ref": pull.branch, "sha": pull.head, "repo": if pull.fork { other } else { own.clone() },
            "user": state.account(&thing.author), "label": format!("{owner}:{}", pull.branch),
        },
        "base": {
            "ref": pull.base_branch, "sha": pull.base, "repo": own,
            "user": state.account(owner), "label": format!("{owner}:{}", pull.base_branch),
        },
        "created_at": thing.created.to_string(), "updated_at": at,
        "closed_at": (!thing.open).then_some(&at), "merged_at": pull.merged.as_ref().map(|_| &at),
        "merge_commit_sha": pull.merged.as_deref().unwrap_or(&pull.base),
        "html_url": format!("https://github.test/{REPOSITORY}/pull/{}", thing.number),
    })
}

fn issue(state: &mut State, thing: &Thing) -> Value {
    let mut issue = json!({
        "number": thing.number, "id": thing.number, "title": thing.title, "body": thing.body,
        "state": if thing.open { "open" } else { "closed" },
        "user": state.account(&thing.author),
        "created_at": thing.created.to_string(), "updated_at": thing.updated.to_string(),
        "html_url": format!("https://github.test/{REPOSITORY}/issues/{}", thing.number),
    });
    if thing.pull.is_some() {
        issue["pull_request"] =
            json!({ "url": null, "html_url": null, "diff_url": null, "patch_url": null });
    }
    issue
}

fn comment(state: &mut State, comment: &Comment) -> Value {
    json!({
        "id": comment.id, "body": comment.body, "user": state.account(&comment.author),
        "created_at": comment.created.to_string(), "updated_at": comment.updated.to_string(),
        "issue_url": format!("https://github.test{BASE}/repos/{REPOSITORY}/issues/{}", comment.number),
        "html_url": format!("https://github.test/c/{}", comment.id),
    })
}

fn add_status(state: &mut State, sha: &str, sent: &Value) -> Result<Value, Response> {
    let word = |name: &str| sent[name].as_str().unwrap_or_default().to_owned();
    let (context, description) = (word("context"), word("description"));
    if description.chars().count() > 140 {
        return Err(invalid("description is too long (maximum is 140 characters)"));
    }
    let same = |status: &&Status| status.sha == sha && status.context == context;
    if state.statuses.iter().filter(same).count() >= STATUSES_MAX {
        return Err(invalid("This SHA and context has reached the maximum number of statuses."));
    }
    let status = Status {
        sha: sha.to_owned(),
        context,
        state: word("state"),
        description,
        url: sent["target_url"].as_str().map(str::to_owned),
    };
    state.statuses.push(status.clone());
    Ok(status_json(&status))
}

fn status_json(status: &Status) -> Value {
    json!({
        "context": status.context, "state": status.state, "description": status.description,
        "target_url": status.url, "id": 1, "url": "https://github.test/",
    })
}

/// The newest status of each context.
fn combined(state: &State, request: &Request, sha: &str) -> Result<Done, Response> {
    let mut newest: Vec<&Status> = Vec::new();
    for status in state.statuses.iter().rev().filter(|status| status.sha == sha) {
        if !newest.iter().any(|known| known.context == status.context) {
            newest.push(status);
        }
    }
    let (all, headers) = slice(request, newest.iter().map(|status| status_json(status)).collect());
    let total = newest.len();
    let worst = if newest.iter().all(|s| s.state == "success") { "success" } else { "pending" };
    Ok((200, headers, json!({ "sha": sha, "state": worst, "total_count": total, "statuses": all })))
}

fn check_json(check: &Check) -> Value {
    json!({
        "id": check.id, "head_sha": check.sha, "name": check.name,
        "external_id": check.external_id, "status": check.status, "conclusion": check.conclusion,
        "output": {
            "title": check.output["title"], "summary": check.output["summary"],
            "text": check.output["text"], "annotations_count": check.annotations.len(),
        },
        "html_url": format!("https://github.test/{REPOSITORY}/runs/{}", check.id),
    })
}

fn check_runs(state: &State, request: &Request, sha: &str) -> Result<Done, Response> {
    let name = request.query("check_name");
    let fits = |check: &&Check| check.sha == sha && name.is_none_or(|name| check.name == name);
    let all: Vec<Value> = state.checks.iter().filter(fits).map(check_json).collect();
    let total = all.len();
    let (all, headers) = slice(request, all);
    Ok((200, headers, json!({ "total_count": total, "check_runs": all })))
}

fn change_check(state: &mut State, id: u64, sent: &Value) -> Result<Value, Response> {
    let check = state.checks.iter_mut().find(|check| check.id == id).ok_or_else(missing)?;
    let annotations = sent["output"]["annotations"].as_array().cloned().unwrap_or_default();
    if annotations.len() > ANNOTATIONS_MAX {
        return Err(invalid("No more than 50 annotations"));
    }
    if sent["status"] == "completed" && !sent["conclusion"].is_string() {
        return Err(invalid("a completed check needs a conclusion"));
    }
    let word = |name: &str| sent[name].as_str().map(str::to_owned);
    check.name = word("name").unwrap_or(check.name.clone());
    check.external_id = word("external_id").or(check.external_id.clone());
    check.status = word("status").unwrap_or(check.status.clone());
    check.conclusion = word("conclusion").or(check.conclusion.clone());
    if sent["output"].is_object() {
        check.output = sent["output"].clone();
    }
    check.annotations.extend(annotations);
    Ok(check_json(check))
}
