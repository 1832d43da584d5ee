//! Agents of guests, reached through libvirt: no network and no key of ours is in the guest.
//!
//! Only a machine that bears trueup's mark, under its own name, is asked anything: one of that name that
//! somebody else made is as one that is not there. What is asked and answered may be a secret: neither is in a
//! fault.

use std::time::Duration;

use trueup_libvirt::{Client, Code, Error};

use super::xml::{Mark, NAMESPACE};
use crate::model::{Kind, Name, ResourceId};
use crate::port::{AgentFault, Agents, BoxFuture};

/// Longest of what an agent says that is kept, characters.
const SAID_MAX: usize = 240;

/// The agents of one libvirt's guests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LibvirtAgents {
    client: Client,
}

impl LibvirtAgents {
    /// On a client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Agents for LibvirtAgents {
    fn ask<'a>(
        &'a self,
        machine: &'a str,
        command: String,
        limit: Duration,
    ) -> BoxFuture<'a, Result<String, AgentFault>> {
        Box::pin(async move {
            let none = || AgentFault::NoMachine(machine.to_owned());
            let name = Name::new(machine).map_err(|_| none())?;
            let id = ResourceId::new(Kind::VirtualMachine, name);
            let ours = move |element: &str| is_of(element, &id);
            let asked =
                self.client.agent_command_if(machine, NAMESPACE, ours, &command, limit).await;
            asked.map_err(|error| fault(machine, &error))?.ok_or_else(none)
        })
    }
}

/// Whether a mark is that of a machine that is called so; a copy bears the one of its original.
fn is_of(element: &str, id: &ResourceId) -> bool {
    Mark::of_metadata(element).is_some_and(|mark| mark.id == *id)
}

fn fault(machine: &str, error: &Error) -> AgentFault {
    match error.code {
        _ if error.is_absent() => AgentFault::NoMachine(machine.to_owned()),
        // A domain that does not run has no agent; neither has one without its channel.
        Code::AgentUnresponsive | Code::OperationInvalid => AgentFault::Silent(machine.to_owned()),
        Code::ConnectionLost | Code::Timeout | Code::Closed => AgentFault::Lost(format!(
            "libvirt gave no answer about {machine} ({})",
            shortened(&error.message)
        )),
        _ => AgentFault::Refused(shortened(&error.message)),
    }
}

fn shortened(message: &str) -> String {
    message.chars().filter(|c| !c.is_control()).take(SAID_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_somebody_else_made_is_not_asked() {
        let id: ResourceId = "vm/hpc-ctl".parse().unwrap();
        let element = |of: &str| format!("<resource environment='lab' id='{of}'/>");
        assert!(is_of(&element("vm/hpc-ctl"), &id));
        assert!(!is_of(&element("vm/web"), &id), "a copy of another one");
        for foreign in ["", "<resource/>", "<other id='vm/hpc-ctl' environment='lab'/>"] {
            assert!(!is_of(foreign, &id), "{foreign}");
        }
    }

    #[test]
    fn a_machine_that_is_not_there_is_told_from_one_that_says_nothing() {
        let error = |code| Error {
            code,
            number: 1,
            domain: 10,
            call: "agent_command",
            object: "hpc-ctl".to_owned(),
            message: "failed to open file\n".to_owned(),
        };
        let of = |code| fault("hpc-ctl", &error(code));
        assert_eq!(of(Code::NoDomain), AgentFault::NoMachine("hpc-ctl".into()));
        assert_eq!(of(Code::OperationInvalid), AgentFault::Silent("hpc-ctl".into()));
        assert_eq!(of(Code::AgentUnresponsive), AgentFault::Silent("hpc-ctl".into()));
        assert!(matches!(of(Code::Timeout), AgentFault::Lost(_)));
        assert_eq!(of(Code::Other(1)), AgentFault::Refused("failed to open file".into()));
    }
}
