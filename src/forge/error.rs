//! From what happened on the line to what to do next.
//!
//! The one place that knows what a status means; no secret comes near it.

use std::time::Duration;

use jiff::Timestamp;
use trueup_github::{ClientError, Method, Rate};

use crate::port::forge::{ForgeError, ForgeFault};

/// How long to keep quiet where the forge says too much and not for how long: GitHub asks for at
/// least a minute.
const QUIET: Duration = Duration::from_secs(60);
/// The longest wait taken over from a reply; budgets are counted by the hour.
const QUIET_MAX: Duration = Duration::from_secs(2 * 3600);

/// The error of a call; `permission` is what the call needs where the forge does not say.
pub(super) fn explain(error: ClientError, permission: &str) -> ForgeError {
    let what = error.to_string();
    let (fault, next) = match &error {
        ClientError::Login { .. } => (ForgeFault::Unauthorised, LOGIN.to_owned()),
        ClientError::NotSent { .. } => (ForgeFault::Unavailable, AGAIN.to_owned()),
        ClientError::Unknown { method, .. } => unknown(*method),
        ClientError::Refused { status, method, rate, message, needs, path } => {
            // Exchanging the app's key for a token is logging in.
            let login = path.starts_with("/app/installations/");
            match status {
                429 => limited(*rate),
                403 if is_limit(*rate, message) => limited(*rate),
                401 => (ForgeFault::Unauthorised, LOGIN.to_owned()),
                403 | 404 if login => (ForgeFault::Unauthorised, LOGIN.to_owned()),
                403 => forbidden(needs.as_deref().unwrap_or(permission)),
                404 | 410 => (ForgeFault::NotFound, not_found(permission)),
                408 | 409 | 500.. => unknown(*method),
                300..=399 => (ForgeFault::Invalid, MOVED.to_owned()),
                422 if is_full(message) => (ForgeFault::Full, FULL.to_owned()),
                _ => (ForgeFault::Invalid, "sending the same again does not help".to_owned()),
            }
        }
    };
    ForgeError { fault, what, next }
}

const LOGIN: &str = "check forge.token or forge.app in the config: whether it is there, has not ended \
                     and is for this repository";
const FULL: &str = "push another commit: that one has as many statuses as the forge takes";
const AGAIN: &str = "it is tried again later";
const MOVED: &str = "the repository has another address now: change forge.repository in the config";

fn unknown(method: Method) -> (ForgeFault, String) {
    if method.is_idempotent() {
        (ForgeFault::Unavailable, AGAIN.to_owned())
    } else {
        (ForgeFault::Maybe, "it is looked for before it is sent again".to_owned())
    }
}

fn forbidden(permission: &str) -> (ForgeFault, String) {
    let next = format!("give the login of the forge the permission {permission}");
    (ForgeFault::Forbidden { permission: permission.to_owned() }, next)
}

fn not_found(permission: &str) -> String {
    format!("check that it exists and that the login may see it (needs {permission})")
}

/// GitHub answers 403, not 429, to most calls over a limit.
fn is_limit(rate: Rate, message: &str) -> bool {
    let words = message.to_ascii_lowercase();
    rate.remaining == Some(0)
        || rate.retry_after.is_some()
        || words.contains("rate limit")
        || words.contains("abuse detection")
}

/// GitHub's words where a commit has as many statuses of one context as it takes.
fn is_full(message: &str) -> bool {
    message.to_ascii_lowercase().contains("maximum number of statuses")
}

fn limited(rate: Rate) -> (ForgeFault, String) {
    let now = Timestamp::now();
    let until = match (rate.retry_after, rate.remaining, rate.reset) {
        (Some(wait), _, _) => now + wait.min(QUIET_MAX),
        (None, Some(0), Some(reset)) => reset.clamp(now, now + QUIET_MAX),
        _ => now + QUIET,
    };
    (ForgeFault::RateLimited { until }, format!("it goes on at {until}"))
}

/// Neither a token nor an app is configured.
pub(super) fn no_login() -> ForgeError {
    ForgeError {
        fault: ForgeFault::Unauthorised,
        what: "no login for the forge is configured".to_owned(),
        next: "give forge.token or forge.app in the config".to_owned(),
    }
}

/// The forge, or this login, cannot do that at all.
pub(super) fn unsupported(what: &str, next: &str) -> ForgeError {
    ForgeError { fault: ForgeFault::Unsupported, what: what.to_owned(), next: next.to_owned() }
}

/// There is more of it than is read.
pub(super) fn too_many(what: String) -> ForgeError {
    ForgeError {
        fault: ForgeFault::Unsupported,
        what: format!("{what} has more entries than are read"),
        next: "continue in a new one".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: Method, status: u16, rate: Rate) -> ForgeError {
        let error = ClientError::Refused {
            method,
            path: "/repos/o/r/statuses/x".into(),
            status,
            message: "no".into(),
            rate,
            needs: None,
        };
        explain(error, "statuses=write")
    }

    #[test]
    fn a_status_tells_what_to_do() {
        let fault = |method, status| refused(method, status, Rate::default()).fault;
        assert_eq!(fault(Method::Post, 502), ForgeFault::Maybe);
        assert_eq!(fault(Method::Patch, 502), ForgeFault::Unavailable);
        assert_eq!(fault(Method::Post, 422), ForgeFault::Invalid);
        assert_eq!(fault(Method::Get, 401), ForgeFault::Unauthorised);
        assert_eq!(fault(Method::Get, 404), ForgeFault::NotFound);
        let named = ForgeFault::Forbidden { permission: "statuses=write".into() };
        assert_eq!(fault(Method::Post, 403), named);
    }

    #[test]
    fn a_403_with_an_empty_budget_is_a_limit_until_the_reset() {
        let reset = Timestamp::now() + Duration::from_secs(900);
        let rate = Rate { remaining: Some(0), reset: Some(reset), ..Rate::default() };
        let error = refused(Method::Post, 403, rate);
        assert_eq!(error.fault, ForgeFault::RateLimited { until: reset });
        assert!(error.passes());
        let wait = Rate { retry_after: Some(Duration::from_secs(86_400 * 30)), ..rate };
        let ForgeFault::RateLimited { until } = refused(Method::Post, 429, wait).fault else {
            panic!("not a limit")
        };
        assert!(until <= Timestamp::now() + QUIET_MAX, "a wrong header must not silence us");
    }
}
