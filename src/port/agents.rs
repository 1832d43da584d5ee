//! The port to what runs inside of guests: their agents.
//!
//! Questions and answers are the agent's own (QEMU's guest agent protocol, `qga/qapi-schema.json`). They
//! may hold secrets, so none of either is in a fault.

use std::fmt::Debug;
use std::time::Duration;

use super::BoxFuture;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentFault {
    /// There is no such machine.
    #[error("there is no machine {0}")]
    NoMachine(String),
    /// There is one, and trueup did not make it.
    #[error(
        "the machine {0} was not made by trueup, so nothing is done in it: rename or remove it, or call \
             the one in the document otherwise"
    )]
    Foreign(String),
    /// It is off, or its agent does not answer (yet).
    #[error(
        "the agent in {0} does not answer: the machine is off or on its way up, or \
             qemu-guest-agent does not run in it"
    )]
    Silent(String),
    /// The agent says no, in its words.
    #[error("{0}")]
    Refused(String),
    /// Nobody knows what came of it.
    #[error("{0}")]
    Lost(String),
}

/// The agents of the guests of this host.
pub trait Agents: Debug + Send + Sync {
    /// Gives the agent of the machine of that name a command as JSON; its answer as JSON.
    fn ask<'a>(
        &'a self,
        machine: &'a str,
        command: String,
        limit: Duration,
    ) -> BoxFuture<'a, Result<String, AgentFault>>;
}
