//! Who asks, and whether they may: tokens, and a GitHub App whose statements are verified.

use std::collections::BTreeSet;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use super::http::{Request, Response};
use super::routes::refusal;
use super::state::{State, now};

/// The app.
pub(crate) const APP: u64 = 1234;
pub(crate) const APP_SLUG: &str = "trueup-lab";
pub(crate) const INSTALLATION: u64 = 77;
/// Its private key; made for these tests, good for nothing else.
pub(crate) const APP_KEY: &str = include_str!("../fixtures/app-key.pem");
const APP_PUBLIC_KEY: &str = include_str!("../fixtures/app-key.pub.pem");
/// A token with every permission a token can have.
pub(crate) const TOKEN: &str = "ghp_CanaryCanaryCanary0123456789abcdef";
/// How every token that the app is given begins.
pub(crate) const MINTED: &str = "ghs_CanaryMinted";

/// Who a call is from.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub login: String,
    /// `None`: all.
    pub permissions: Option<BTreeSet<String>>,
    /// The app itself, which may only ask about itself.
    pub is_app: bool,
    /// An installation, which alone may write checks.
    pub installed: bool,
    /// Seconds since 1970.
    pub until: Option<i64>,
}

impl Who {
    pub(crate) fn person(login: &str, permissions: Option<&[&str]>) -> Self {
        let permissions = permissions.map(|all| all.iter().map(|one| (*one).to_owned()).collect());
        Self { login: login.to_owned(), permissions, is_app: false, installed: false, until: None }
    }

    pub(crate) fn installation() -> Self {
        let login = format!("{APP_SLUG}[bot]");
        let until = Some(now().as_second() + 3600);
        Self { installed: true, until, ..Self::person(&login, None) }
    }
}

/// Where a login stands that it does not belong: it may be in the one header for it, and in no other
/// byte of a request.
pub(crate) fn leaks(state: &State, request: &Request) -> Vec<String> {
    let (logins, rest) = split(request);
    let mut leaks = Vec::new();
    if logins.len() > 1 {
        leaks.push(format!("it has {} headers with a login", logins.len()));
    }
    let shown = logins.iter().map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
    let key = APP_KEY.lines().filter(|line| !line.starts_with("-----"));
    let known = state.tokens.keys().map(String::as_str);
    for secret in shown.chain(known).chain(key).filter(|secret| !secret.is_empty()) {
        if rest.contains(secret) {
            leaks.push("it has a login outside of the header for it".to_owned());
        }
    }
    leaks
}

/// The values of the headers with a login, and every other byte.
pub(crate) fn split(request: &Request) -> (Vec<String>, String) {
    let raw = String::from_utf8_lossy(&request.raw).into_owned();
    let (head, body) = raw.split_once("\r\n\r\n").unwrap_or((&raw, ""));
    let login = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("authorization").then(|| value.trim().to_owned())
    };
    let logins = head.lines().filter_map(login).collect();
    let rest: Vec<&str> = head.lines().filter(|line| login(line).is_none()).collect();
    (logins, format!("{}\n{body}", rest.join("\n")))
}

/// Whether the call may be made.
pub(crate) fn check(state: &mut State, request: &Request, path: &str) -> Result<Who, Response> {
    if state.remaining == 0 {
        return Err(refusal(403, "API rate limit exceeded for user ID 1."));
    }
    state.remaining -= 1;
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let Some(token) = token else {
        return Err(refusal(401, "Requires authentication"));
    };
    let who = if token.starts_with("ey") {
        statement(token)?
    } else {
        let who = state.tokens.get(token).cloned();
        let good = who.filter(|who| who.until.is_none_or(|until| until > now().as_second()));
        good.ok_or_else(|| refusal(401, "Bad credentials"))?
    };
    let own = path == "/app" || path.starts_with("/app/");
    if who.is_app != own {
        return Err(refusal(401, "A JSON web token could not be decoded"));
    }
    let needs = needs(&request.method, path);
    if needs.starts_with("checks=write") && !who.installed {
        return Err(refusal(403, "You must authenticate via a GitHub App."));
    }
    if who.permissions.as_ref().is_some_and(|have| !needs.is_empty() && !has(have, needs)) {
        let mut refused = refusal(403, "Resource not accessible by personal access token");
        refused.headers.push(("x-accepted-github-permissions".to_owned(), needs.to_owned()));
        return Err(refused);
    }
    Ok(who)
}

fn has(have: &BTreeSet<String>, needs: &str) -> bool {
    have.contains(needs) || have.contains(&needs.replace("=read", "=write"))
}

fn needs(method: &str, path: &str) -> &'static str {
    let write = method != "GET";
    let has = |part: &str| path.contains(part);
    match () {
        () if has("/check-runs") => {
            if write {
                "checks=write"
            } else {
                "checks=read"
            }
        }
        () if has("/statuses/") || has("/status") => {
            if write {
                "statuses=write"
            } else {
                "statuses=read"
            }
        }
        () if has("/pulls") => "pull_requests=read",
        () if has("/comments") => {
            if write {
                "pull_requests=write"
            } else {
                "pull_requests=read"
            }
        }
        () if has("/collaborators/") => "metadata=read",
        () if has("/issues/") && has("/events") => "pull_requests=read",
        () if has("/issues") => {
            if write {
                "issues=write"
            } else {
                "issues=read"
            }
        }
        () if has("/teams/") => "members=read",
        () => "",
    }
}

/// Checks a statement of the app: its signature, its time and who it says it is.
fn statement(token: &str) -> Result<Who, Response> {
    let key = DecodingKey::from_rsa_pem(APP_PUBLIC_KEY.as_bytes()).unwrap();
    let claims = jsonwebtoken::decode::<Value>(token, &key, &Validation::new(Algorithm::RS256))
        .map_err(|_| refusal(401, "A JSON web token could not be decoded"))?
        .claims;
    let (from, until) = (claims["iat"].as_i64(), claims["exp"].as_i64());
    let span = until.zip(from).map(|(until, from)| until - from);
    if claims["iss"] != APP || span.is_none_or(|span| span > 660) {
        return Err(refusal(401, "'Issuer' claim ('iss') or 'Expiration time' claim is wrong"));
    }
    Ok(Who { is_app: true, ..Who::person(APP_SLUG, None) })
}
