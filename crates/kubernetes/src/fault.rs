//! What can go wrong between us and an API server, told apart. Pure.
//!
//! The server's words are kept, except about Secrets: a refusal may quote the value that it refuses.

use std::error::Error as _;

use kube::core::Status;

use crate::key::Kind;
use crate::release::Conflict;

/// Longest words of others in an error, in bytes: enough for a person, short enough for a line.
pub const WORDS_MAX: usize = 2_000;

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nobody answers.
    #[error(
        "cannot reach the API server {server} to {what} ({words}): check that it runs, and the network to it"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// What was to be done.
        what: String,
        /// Why.
        words: String,
    },
    /// No answer in time.
    #[error(
        "the API server {server} did not {what} within {seconds} s: it is overloaded or hangs; it is asked again later"
    )]
    TimedOut {
        /// Its address.
        server: String,
        /// What was to be done.
        what: String,
        /// The limit.
        seconds: u64,
    },
    /// Its certificate, or ours, is not accepted.
    #[error("no trust between us and the API server {server}: {words}; {}", certificate_advice(*.expired))]
    Certificate {
        /// Its address.
        server: String,
        /// Why.
        words: String,
        /// Whether because the time of a certificate is over.
        expired: bool,
    },
    /// It does not know who we are.
    #[error(
        "the API server {server} does not accept our credentials ({words}): renew the token or the certificate in the kubeconfig"
    )]
    Unauthorized {
        /// Its address.
        server: String,
        /// Its words.
        words: String,
    },
    /// We may not.
    #[error("not allowed to {what} ({words}): give the account of the kubeconfig that right")]
    Forbidden {
        /// What was to be done.
        what: String,
        /// Its words.
        words: String,
    },
    /// It is not there.
    #[error("cannot {what}: {words}")]
    NotFound {
        /// What was to be done.
        what: String,
        /// Its words.
        words: String,
    },
    /// The kind is not there.
    #[error(
        "the cluster has no kind {kind}: install its definition, or mend `apiVersion` and `kind`"
    )]
    UnknownKind {
        /// The kind.
        kind: Kind,
    },
    /// Somebody else was first, or owns it.
    #[error("cannot {what}: {words}")]
    Conflict {
        /// What was to be done.
        what: String,
        /// Its words.
        words: String,
        /// The fields that others own, where that is why.
        fields: Vec<Conflict>,
    },
    /// The object is refused.
    #[error("the cluster refuses to {what}: {words}")]
    Invalid {
        /// What was to be done.
        what: String,
        /// Its words.
        words: String,
        /// Whether because a field cannot change on an object that lives.
        immutable: bool,
    },
    /// It is overloaded, or fails, each time it was asked.
    #[error(
        "the API server {server} failed to {what}, {attempts} times ({code}: {words}): it is asked again later"
    )]
    Busy {
        /// Its address.
        server: String,
        /// What was to be done.
        what: String,
        /// How often it was asked.
        attempts: u32,
        /// The HTTP status.
        code: u16,
        /// Its words.
        words: String,
        /// After how many seconds it wants to be asked again; 0: it does not say.
        after: u32,
    },
    /// Anything else that it refuses.
    #[error("the API server refused to {what} ({code}): {words}")]
    Refused {
        /// What was to be done.
        what: String,
        /// The HTTP status.
        code: u16,
        /// Its words.
        words: String,
    },
    /// It answered what nobody can read.
    #[error(
        "the API server {server} answered something unreadable when asked to {what} ({words}): is this a Kubernetes API server?"
    )]
    Unreadable {
        /// Its address.
        server: String,
        /// What was to be done.
        what: String,
        /// Why, without the answer itself.
        words: String,
    },
}

/// How a server begins that cannot read an applied object: a field that its schema does not have, or of
/// another type. It says so with a status of 500.
const MISTYPED: &str = "failed to create typed patch object";

fn certificate_advice(expired: bool) -> &'static str {
    if expired {
        "renew the certificate (`kubeadm certs renew`), and check the clocks of both"
    } else {
        "check the authority and the address in the kubeconfig"
    }
}

impl Fault {
    /// Whether the same may work later, with nothing changed by anybody.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Busy { .. })
    }

    /// Whether the object, or its kind, is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::UnknownKind { .. })
    }
}

/// What a request was about, for its errors.
pub(crate) struct About<'a> {
    pub(crate) server: &'a str,
    pub(crate) what: &'a str,
    pub(crate) hide: bool,
}

/// Says what an error of the client means.
pub(crate) fn explain(error: &kube::Error, about: &About<'_>) -> Fault {
    let (server, what) = (about.server.to_owned(), about.what.to_owned());
    match error {
        kube::Error::Api(status) => refusal(status, about),
        kube::Error::HyperError(_) | kube::Error::Service(_) => transport(error, about),
        kube::Error::Auth(_) => Fault::Unauthorized { server, words: chain(error) },
        _ => Fault::Unreadable { server, what, words: chain(error) },
    }
}

fn refusal(status: &Status, about: &About<'_>) -> Fault {
    let (server, what) = (about.server.to_owned(), about.what.to_owned());
    let words = words(status, about.hide);
    let details = status.details.as_ref();
    match status.code {
        401 => Fault::Unauthorized { server, words },
        403 => Fault::Forbidden { what, words },
        404 => Fault::NotFound { what, words },
        409 => {
            let causes = details.map(|d| d.causes.as_slice()).unwrap_or_default();
            let fields = causes
                .iter()
                .filter(|cause| cause.reason == "FieldManagerConflict")
                .map(|cause| Conflict { field: cause.field.clone(), words: cause.message.clone() });
            Fault::Conflict { what, words, fields: fields.collect() }
        }
        422 => {
            let immutable = ["immutable", "may not be changed", "updates to", "is forbidden"];
            let immutable = immutable.iter().any(|word| status.message.contains(word))
                || status.message.contains("may not change");
            Fault::Invalid { what, words, immutable }
        }
        // It is the object: no attempt more would help, whatever the status says.
        500 if status.message.starts_with(MISTYPED) => {
            let words = if words.is_empty() { MISTYPED.to_owned() } else { words };
            Fault::Invalid { what, words, immutable: false }
        }
        code @ (429 | 500 | 502 | 503 | 504) => {
            let after = details.map_or(0, |d| d.retry_after_seconds);
            Fault::Busy { server, what, attempts: 1, code, words, after }
        }
        code => Fault::Refused { what, code, words },
    }
}

/// The server's words; about a Secret only the fields that it names.
fn words(status: &Status, hide: bool) -> String {
    if !hide {
        return match status.message.as_str() {
            "" => status.reason.clone(),
            message => cut(message),
        };
    }
    let mut text = status.reason.clone();
    for cause in status.details.iter().flat_map(|d| &d.causes).filter(|c| !c.field.is_empty()) {
        text.push_str(&format!(", {}", cause.field));
    }
    text
}

fn transport(error: &kube::Error, about: &About<'_>) -> Fault {
    let (server, what) = (about.server.to_owned(), about.what.to_owned());
    let words = chain(error);
    let mut at: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(one) = at {
        if let Some(tls) = unwrapped(one).downcast_ref::<rustls::Error>() {
            let expired = is_expired(tls);
            if expired || is_about_trust(tls) {
                return Fault::Certificate { server, words: tls.to_string(), expired };
            }
        }
        at = one.source();
    }
    Fault::Unreachable { server, what, words }
}

/// What an I/O error was made of, which it does not give as its source.
fn unwrapped<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> &'e (dyn std::error::Error + 'static) {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    inner.map_or(error, |inner| unwrapped(inner))
}

fn is_expired(error: &rustls::Error) -> bool {
    use rustls::{AlertDescription, CertificateError as C, Error as E};
    matches!(
        error,
        E::InvalidCertificate(C::Expired | C::ExpiredContext { .. } | C::NotValidYet)
            | E::InvalidCertificate(C::NotValidYetContext { .. })
            | E::AlertReceived(AlertDescription::CertificateExpired)
    )
}

fn is_about_trust(error: &rustls::Error) -> bool {
    use rustls::{AlertDescription as A, Error as E};
    matches!(
        error,
        E::InvalidCertificate(_)
            | E::AlertReceived(
                A::BadCertificate
                    | A::CertificateUnknown
                    | A::UnknownCA
                    | A::CertificateRevoked
                    | A::UnsupportedCertificate
                    | A::CertificateRequired
            )
    )
}

/// An error with what is behind it, in one line of at most [`WORDS_MAX`] bytes.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(one) = at {
        let more = one.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        at = one.source();
    }
    cut(&text)
}

/// At most [`WORDS_MAX`] bytes of a text, in one line.
pub(crate) fn cut(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() <= WORDS_MAX {
        return line;
    }
    let end = (0..=WORDS_MAX).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &line[..end])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(status: serde_json::Value, hide: bool) -> Fault {
        let status: Status = serde_json::from_value(status).unwrap();
        let about = About { server: "https://kube", what: "apply ConfigMap shop/a", hide };
        explain(&kube::Error::Api(Box::new(status)), &about)
    }

    #[test]
    fn refusals_are_told_apart() {
        let conflict = of(
            json!({"code": 409, "message": "Apply failed with 1 conflict: conflict with \"x\": .data.a",
                "reason": "Conflict", "details": {"causes": [{"reason": "FieldManagerConflict",
                    "message": "conflict with \"x\"", "field": ".data.a"}]}}),
            false,
        );
        let Fault::Conflict { fields, .. } = &conflict else { panic!("{conflict}") };
        assert_eq!(fields[0].field, ".data.a");
        let busy = of(
            json!({"code": 429, "message": "slow down", "details": {"retryAfterSeconds": 3}}),
            false,
        );
        assert!(busy.is_transient());
        let invalid = of(
            json!({"code": 422, "message": "spec.selector: Invalid value: field is immutable"}),
            false,
        );
        assert!(matches!(invalid, Fault::Invalid { immutable: true, .. }));
        let mistyped =
            "failed to create typed patch object: .data.x: expected string, got 'hunter2'";
        let mistyped = of(json!({"code": 500, "message": mistyped}), true);
        assert!(matches!(mistyped, Fault::Invalid { immutable: false, .. }), "{mistyped}");
        assert!(!mistyped.is_transient() && !mistyped.to_string().contains("hunter2"));
        assert!(of(json!({"code": 404, "message": "no"}), false).is_absent());
        assert!(
            of(json!({"code": 401, "message": "no"}), false)
                .to_string()
                .contains("renew the token")
        );
    }

    #[test]
    fn what_a_secret_holds_is_not_repeated() {
        let status = json!({"code": 422, "reason": "Invalid", "message": "Secret \"a\" is invalid: data[p]: Invalid value: \"hunter2\"",
            "details": {"causes": [{"field": "data[p]", "message": "Invalid value: \"hunter2\""}]}});
        let shown = of(status, true).to_string();
        assert!(shown.contains("Invalid, data[p]") && !shown.contains("hunter2"), "{shown}");
    }
}
