//! What a failed call means for what is done next.
//!
//! It never guesses that a call which got no answer did nothing.

use std::fmt::Display;

use trueup_libvirt::{Code, Error};

use super::xml::XmlError;
use crate::model::Fault;

/// The fault of a step: `doing` says what was done to which resource (`starting vm/web`).
pub(super) fn step(doing: impl Display, error: &Error) -> Fault {
    let message = format!("{doing} failed: {}", error.message);
    match error.code {
        Code::ConnectionLost | Code::Timeout | Code::Closed => Fault::transient(format!(
            "{doing} got no answer from libvirt ({}); it is looked at again and tried again",
            error.message
        )),
        Code::AccessDenied => Fault::needs_human(
            message,
            "let the user that trueup runs as manage libvirt (group `libvirt`, or polkit)",
        ),
        Code::NoSupport | Code::InvalidXml | Code::InvalidArgument => Fault::permanent(format!(
            "{message}; this libvirt refuses it, so change the spec or libvirt"
        )),
        Code::Exists => Fault::needs_human(
            message,
            "another object has this name, UUID or place: remove or rename it, or adopt it",
        ),
        Code::NoDomain
        | Code::NoNetwork
        | Code::NoPool
        | Code::NoVolume
        | Code::NoSnapshot
        | Code::NoCheckpoint
        | Code::NoBackup
        | Code::CheckpointInconsistent
        | Code::NoMetadata
        | Code::OperationInvalid => {
            Fault::transient(format!("{message}; it changed meanwhile, so it is looked at again"))
        }
        Code::AgentUnresponsive | Code::ResourceBusy | Code::OperationFailed | Code::Other(_) => {
            Fault::transient(format!("{message}; it is tried again later"))
        }
    }
}

/// The fault of an observation that got no answer.
pub(super) fn observation(error: &Error) -> Fault {
    Fault::unobservable(format!(
        "libvirt does not answer ({}); see that libvirtd runs and that its socket may be used",
        error.message
    ))
}

/// The fault of XML that cannot be read or written.
pub(super) fn xml(doing: impl Display, error: &XmlError) -> Fault {
    Fault::permanent(format!("{doing} failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: Code) -> Error {
        Error {
            code,
            number: 1,
            domain: 10,
            call: "start",
            object: "web".to_owned(),
            message: "said so".to_owned(),
        }
    }

    #[test]
    fn what_no_answer_was_given_to_is_tried_again_and_what_was_refused_is_not() {
        for (code, transient) in [
            (Code::Timeout, true),
            (Code::ConnectionLost, true),
            (Code::ResourceBusy, true),
            (Code::NoDomain, true),
            (Code::InvalidXml, false),
            (Code::NoSupport, false),
            (Code::AccessDenied, false),
            (Code::Exists, false),
        ] {
            let fault = step("starting vm/web", &error(code));
            assert_eq!(fault.is_transient(), transient, "{code:?}");
            let text = fault.to_string();
            assert!(text.contains("vm/web") && text.contains("said so"), "{text}");
        }
    }
}
