//! Forges to test against: a GitHub that keeps what it is told, a smaller Gitea, and the faults a
//! network and a busy service have.
//!
//! The fake GitHub is stricter than the real one. Every request and every reply is held against
//! GitHub's own OpenAPI description; a test in which one does not fit fails when the fake is dropped.

#![allow(dead_code, reason = "it is the forge of several subjects' tests, which use parts of it")]

pub(crate) mod contract;
pub(crate) mod gitea;
pub(crate) mod http;
pub(crate) mod login;
pub(crate) mod routes;
pub(crate) mod state;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use trueup::config::ForgeSettings;

pub(crate) use http::{Delivery, Request, Response};
pub(crate) use state::{PullSpec, State};

/// The path of the API, as on GitHub Enterprise Server.
pub(crate) const BASE: &str = "/api/v3";
pub(crate) const REPOSITORY: &str = "team/machines";

/// A call and what was answered.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub request: Request,
    /// Below [`BASE`].
    pub path: String,
    pub status: u16,
    pub reply: Vec<u8>,
    pub delivery: Delivery,
}

impl Exchange {
    pub(crate) fn sent(&self) -> Value {
        serde_json::from_slice(&self.request.body).unwrap_or_default()
    }
}

/// What happens to calls that fit, before anything else.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// `GET`, or empty for all.
    pub method: &'static str,
    /// A part of the path, or empty for all.
    pub path: &'static str,
    /// How many calls it happens to.
    pub times: usize,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Answered with this, and not carried out.
    Refuse(u16, Vec<(&'static str, String)>, &'static str),
    /// Carried out, and the answer is delivered like this.
    Deliver(Delivery),
    /// Carried out, and answered with this status.
    DoneBut(u16),
    /// The connection is reset once the request was read; not carried out.
    Drop,
}

/// A running fake GitHub.
pub(crate) struct FakeGitHub {
    server: http::Server,
    inner: Arc<Mutex<Inner>>,
    folder: tempfile::TempDir,
}

pub(crate) struct Inner {
    pub state: State,
    pub faults: Vec<Fault>,
    pub exchanges: Vec<Exchange>,
    pub violations: Vec<String>,
}

impl FakeGitHub {
    pub(crate) fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            state: State::new(),
            faults: Vec::new(),
            exchanges: Vec::new(),
            violations: Vec::new(),
        }));
        let shared = inner.clone();
        let server = http::Server::start(Arc::new(move |request: &Request| {
            answer(&mut shared.lock().unwrap(), request)
        }));
        Self { server, inner, folder: tempfile::tempdir().unwrap() }
    }

    /// The root of its API.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{BASE}", self.server.address())
    }

    /// What it holds, to look at and to change, as a person at the web page would.
    pub(crate) fn state(&self) -> impl std::ops::DerefMut<Target = State> + '_ {
        struct Guard<'a>(MutexGuard<'a, Inner>);
        impl std::ops::Deref for Guard<'_> {
            type Target = State;
            fn deref(&self) -> &State {
                &self.0.state
            }
        }
        impl std::ops::DerefMut for Guard<'_> {
            fn deref_mut(&mut self) -> &mut State {
                &mut self.0.state
            }
        }
        Guard(self.inner.lock().unwrap())
    }

    pub(crate) fn inject(&self, fault: Fault) {
        self.inner.lock().unwrap().faults.push(fault);
    }

    /// Faults that did not happen yet.
    pub(crate) fn faults_left(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        let left = inner.faults.iter().filter(|fault| fault.times > 0);
        left.map(|it| format!("{} {} x{}", it.method, it.path, it.times)).collect()
    }

    /// Every call since the start or the last [`Self::forget_calls`].
    pub(crate) fn calls(&self) -> Vec<Exchange> {
        self.inner.lock().unwrap().exchanges.clone()
    }

    /// The calls as `METHOD path status`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line =
            |call: &Exchange| format!("{} {} {}", call.request.method, call.path, call.status);
        self.calls().iter().map(line).collect()
    }

    pub(crate) fn forget_calls(&self) {
        self.inner.lock().unwrap().exchanges.clear();
    }

    /// What did not fit GitHub's description; also checked when this is dropped.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.inner.lock().unwrap().violations.clone()
    }

    /// For a test that provokes them.
    pub(crate) fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.lock().unwrap().violations)
    }

    /// Nobody answers any more.
    pub(crate) fn down(&self) {
        self.server.down();
    }

    /// It answers again, with what it knew.
    pub(crate) fn up(&self) {
        self.server.up();
    }

    /// The settings of a client with this token.
    pub(crate) fn settings(&self, token: &str) -> ForgeSettings {
        let file = self.private_file("token", token);
        from_json(json!({
            "kind": "github", "url": self.url(), "repository": REPOSITORY,
            "token": { "file": file }, "timeout": "5s",
        }))
    }

    /// The settings of a client that is the app.
    pub(crate) fn app_settings(&self) -> ForgeSettings {
        let key = self.private_file("key", login::APP_KEY);
        from_json(json!({
            "kind": "github", "url": self.url(), "repository": REPOSITORY, "timeout": "5s",
            "app": { "id": login::APP, "installation": login::INSTALLATION, "key": { "file": key } },
        }))
    }

    fn private_file(&self, name: &str, text: &str) -> PathBuf {
        private_file(self.folder.path(), name, text)
    }
}

impl Drop for FakeGitHub {
    fn drop(&mut self) {
        let violations = self.violations();
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "not as GitHub has it:\n{}", violations.join("\n"));
        }
    }
}

/// A new file that only we may read.
pub(crate) fn private_file(folder: &std::path::Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let number = std::fs::read_dir(folder).unwrap().count();
    let path = folder.join(format!("{name}-{number}"));
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

pub(crate) fn from_json(settings: Value) -> ForgeSettings {
    serde_json::from_value(settings).unwrap()
}

/// Takes the first fault that fits, if its number is not used up.
pub(crate) fn fault_of(faults: &mut [Fault], method: &str, path: &str) -> Option<Action> {
    let fits = |fault: &&mut Fault| {
        fault.times > 0
            && (fault.method.is_empty() || fault.method == method)
            && path.contains(fault.path)
    };
    let fault = faults.iter_mut().find(fits)?;
    fault.times -= 1;
    Some(fault.action.clone())
}

fn answer(inner: &mut Inner, request: &Request) -> (Response, Delivery) {
    let path = request.path.strip_prefix(BASE).unwrap_or("/").to_owned();
    let operation = contract::operation(&request.method, &path);
    let violate = |violations: &mut Vec<String>, why: Vec<String>| {
        violations.extend(why.iter().map(|why| format!("{} {path}: {why}", request.method)));
    };
    match operation {
        Some(operation) => {
            violate(&mut inner.violations, operation.judge_request(&request.query, &request.body))
        }
        None => violate(&mut inner.violations, vec!["is not in the description".to_owned()]),
    }
    violate(&mut inner.violations, login::leaks(&inner.state, request));
    let action = fault_of(&mut inner.faults, &request.method, &path);
    let (response, delivery) = match action {
        Some(Action::Refuse(status, headers, message)) => {
            let mut response = routes::refusal(status, message);
            let own = headers.into_iter().map(|(name, value)| (name.to_owned(), value));
            response.headers.extend(own);
            (response, Delivery::Whole)
        }
        Some(Action::Drop) => (Response::default(), Delivery::Reset),
        Some(Action::Deliver(delivery)) => (perform(inner, request, &path, operation), delivery),
        Some(Action::DoneBut(status)) => {
            perform(inner, request, &path, operation);
            (routes::refusal(status, "Server Error"), Delivery::Whole)
        }
        None => (perform(inner, request, &path, operation), Delivery::Whole),
    };
    if let (Some(operation), true) = (operation, response.status != 0) {
        violate(&mut inner.violations, operation.judge_reply(response.status, &response.body));
    }
    inner.exchanges.push(Exchange {
        request: request.clone(),
        path,
        status: response.status,
        reply: response.body.clone(),
        delivery,
    });
    (response, delivery)
}

/// Login, budget, the route, what is required of its reply, and the entity tag.
fn perform(
    inner: &mut Inner,
    request: &Request,
    path: &str,
    operation: Option<contract::Operation>,
) -> Response {
    let state = &mut inner.state;
    let done = login::check(state, request, path)
        .and_then(|who| routes::route(state, request, path, &who));
    let (status, mut headers, value) = match done {
        Ok(done) => done,
        Err(refused) => return routes::with_budget(state, refused, true),
    };
    let completed = match operation {
        Some(operation) if !value.is_null() => operation.complete(status, value),
        _ => value,
    };
    let body = if completed.is_null() { Vec::new() } else { completed.to_string().into_bytes() };
    if request.method == "GET" {
        let etag = routes::etag(&body);
        headers.push(("etag".to_owned(), etag.clone()));
        if request.header("if-none-match") == Some(&etag) {
            let unchanged = Response { status: 304, headers, body: Vec::new() };
            // An unchanged reply costs nothing.
            return routes::with_budget(state, unchanged, false);
        }
    }
    routes::with_budget(state, Response { status, headers, body }, true)
}
