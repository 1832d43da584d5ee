//! The agents of machines that trueup made, and of no others: what works on a cluster reaches no machine
//! that only has the name of one of its own. And only for as long as its step is waited for: a thread that nobody
//! could end must not go on beside the next life of the daemon.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::model::{Kind, Name, ResourceId};
use crate::port::{AgentFault, Agents, BoxFuture};

/// Held by whoever waits for a step.
#[derive(Debug, Default)]
pub(in crate::provider) struct Waiting(Arc<()>);

impl Waiting {
    /// Whether it is held still, for whoever works on the step.
    pub(in crate::provider) fn awaited(&self) -> Awaited {
        Awaited(Arc::downgrade(&self.0))
    }
}

/// Knows whether somebody waits for a step.
#[derive(Debug, Clone)]
pub(in crate::provider) struct Awaited(Weak<()>);

impl Awaited {
    /// Whether somebody does.
    pub(in crate::provider) fn is_so(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// Agents behind what the log knows.
#[derive(Debug)]
struct Own {
    agents: Arc<dyn Agents>,
    known: Arc<BTreeSet<ResourceId>>,
    awaited: Awaited,
}

/// The same agents, asked nothing in machines that are not `known`, and nothing any more once `waiting` is gone.
pub(in crate::provider) fn own(
    agents: &Arc<dyn Agents>,
    known: &Arc<BTreeSet<ResourceId>>,
    waiting: &Waiting,
) -> Arc<dyn Agents> {
    let (agents, known) = (Arc::clone(agents), Arc::clone(known));
    Arc::new(Own { agents, known, awaited: waiting.awaited() })
}

impl Agents for Own {
    fn ask<'a>(
        &'a self,
        machine: &'a str,
        command: String,
        limit: Duration,
    ) -> BoxFuture<'a, Result<String, AgentFault>> {
        if !self.awaited.is_so() {
            let words = format!("nobody waits for this step in {machine} any more");
            return Box::pin(ready(Err(AgentFault::Lost(words))));
        }
        let id = Name::new(machine).map(|name| ResourceId::new(Kind::VirtualMachine, name));
        match id.is_ok_and(|id| self.known.contains(&id)) {
            true => self.agents.ask(machine, command, limit),
            false => Box::pin(ready(Err(AgentFault::Foreign(machine.to_owned())))),
        }
    }
}
