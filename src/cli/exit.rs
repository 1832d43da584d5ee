//! From what happened to the exit code, in one table, and the one printer of errors.
//!
//! Scripts rely on the codes: they never change their meaning. Hints are data, not part of the
//! message.

use std::error::Error;
use std::process::ExitCode;

use serde::Serialize;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ErrorKind {
    /// What the user gave (a config, a spec) is wrong.
    Input,
    /// The command was called wrongly.
    Usage,
    /// Refused or held.
    Held,
    /// The machine or a peer failed.
    Machine,
    /// A bug of trueup.
    Bug,
}

/// How a command that did its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Done, or in sync.
    Fine,
    /// Changes or drift were found.
    Changes,
}

impl ErrorKind {
    /// The exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Input => 1,
            Self::Usage => 2,
            Self::Held => 4,
            Self::Machine => 5,
            Self::Bug => 70,
        }
    }
}

impl Done {
    /// The exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Changes => 3,
        }
    }
}

/// A failure of a command, with what to do about it.
#[derive(Debug)]
pub struct CliError {
    /// Its kind.
    pub kind: ErrorKind,
    /// What went wrong, with everything below it.
    pub source: Box<dyn Error + Send + Sync>,
    /// What to do next, one sentence each.
    pub hints: Vec<String>,
}

/// What a command comes to.
pub type CliResult = Result<Done, CliError>;

impl CliError {
    /// A failure of `kind`.
    pub fn new(kind: ErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: source.into(), hints: Vec::new() }
    }

    /// The machine or a peer failed.
    pub fn machine(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Machine, source)
    }

    /// What the user gave is wrong.
    pub fn input(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Input, source)
    }

    /// The same, with one more hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The message and everything below it; a layer that only repeats the one above it (because
    /// that quotes it) is left out.
    #[must_use]
    pub fn chain(&self) -> Vec<String> {
        let mut layers = vec![self.source.to_string()];
        let mut next = self.source.source();
        while let Some(error) = next {
            let text = error.to_string();
            if layers.last().is_none_or(|above| !above.contains(&text)) {
                layers.push(text);
            }
            next = error.source();
        }
        layers
    }
}

/// The code as the process gives it.
#[must_use]
pub fn exit_code(result: &CliResult) -> ExitCode {
    ExitCode::from(match result {
        Ok(done) => done.code(),
        Err(error) => error.kind.code(),
    })
}

impl From<crate::config::ConfigError> for CliError {
    fn from(error: crate::config::ConfigError) -> Self {
        use crate::config::ConfigError as E;
        let hint = match &error {
            E::Missing { .. } => Some("write one with `trueup init URL`, or name it with --config"),
            E::Read { .. } => Some(
                "it has to be readable by whoever runs trueup; it holds no secret, so chmod 0644 is right",
            ),
            E::TooLarge { .. } => None,
            E::Text { .. } | E::Value { .. } => {
                Some("`trueup schema config` prints what may stand in it")
            }
        };
        let error = Self::input(error);
        hint.into_iter().fold(error, Self::hint)
    }
}

impl From<crate::journal::JournalError> for CliError {
    fn from(error: crate::journal::JournalError) -> Self {
        use crate::journal::JournalError as E;
        let kind = match &error {
            E::Busy { .. } => ErrorKind::Held,
            E::Io { .. } | E::Damaged(_) | E::Unknown { .. } | E::Blob { .. } => ErrorKind::Machine,
            E::Option { .. } => ErrorKind::Bug,
        };
        let denied = matches!(&error, E::Io { source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied);
        let error = Self::new(kind, error);
        if !denied {
            return error;
        }
        error.hint(
            "the state directory is root's: run this as root, or start the daemon (systemctl start \
             trueup), which answers members of the group trueup; `replay`, `log verify` and `log \
             blob` read the log themselves and are root's in any case",
        )
    }
}

impl From<crate::event::OpenError> for CliError {
    fn from(error: crate::event::OpenError) -> Self {
        Self::machine(error).hint("a newer trueup may have written it: install that version")
    }
}

impl From<crate::state::Refusal> for CliError {
    fn from(error: crate::state::Refusal) -> Self {
        Self::new(ErrorKind::Held, error)
    }
}

impl From<crate::reconcile::PassError> for CliError {
    fn from(error: crate::reconcile::PassError) -> Self {
        use crate::reconcile::PassError as E;
        let kind = match &error {
            E::Journal(_) | E::Crashed => ErrorKind::Machine,
            E::Judged { .. } => ErrorKind::Bug,
        };
        Self::new(kind, error)
    }
}

impl From<super::control::BindError> for CliError {
    fn from(error: super::control::BindError) -> Self {
        use super::control::BindError as E;
        match &error {
            E::Taken { .. } => Self::new(ErrorKind::Held, error)
                .hint("one daemon runs on a host: systemctl status trueup"),
            E::Io { .. } => Self::machine(error),
        }
    }
}

impl From<crate::telemetry::TelemetryError> for CliError {
    fn from(error: crate::telemetry::TelemetryError) -> Self {
        use crate::telemetry::TelemetryError as E;
        let kind = match &error {
            E::Filter { .. } => ErrorKind::Usage,
            E::Again(_) => ErrorKind::Bug,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn the_codes_are_the_documented_ones() {
        let kinds = [ErrorKind::Input, ErrorKind::Usage, ErrorKind::Held, ErrorKind::Machine];
        assert_eq!(kinds.map(ErrorKind::code), [1, 2, 4, 5]);
        assert_eq!((Done::Fine.code(), Done::Changes.code(), ErrorKind::Bug.code()), (0, 3, 70));
    }

    #[test]
    fn a_chain_says_each_layer_once() {
        let bottom = Layer { text: "no route", source: None };
        let quoting = Layer { text: "cannot fetch: no route", source: Some(Box::new(bottom)) };
        let top = Layer { text: "cannot look", source: Some(Box::new(quoting)) };
        assert_eq!(CliError::machine(top).chain(), ["cannot look", "cannot fetch: no route"]);
    }
}
