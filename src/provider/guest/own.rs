//! The agents of machines that trueup made, and of no others: what works on a cluster reaches no machine
//! that only has the name of one of its own.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Kind, Name, ResourceId};
use crate::port::{AgentFault, Agents, BoxFuture};

/// Agents behind what the log knows.
#[derive(Debug)]
struct Own {
    agents: Arc<dyn Agents>,
    known: Arc<BTreeSet<ResourceId>>,
}

/// The same agents, asked nothing in machines that are not `known`.
pub(in crate::provider) fn own(
    agents: &Arc<dyn Agents>,
    known: &Arc<BTreeSet<ResourceId>>,
) -> Arc<dyn Agents> {
    Arc::new(Own { agents: Arc::clone(agents), known: Arc::clone(known) })
}

impl Agents for Own {
    fn ask<'a>(
        &'a self,
        machine: &'a str,
        command: String,
        limit: Duration,
    ) -> BoxFuture<'a, Result<String, AgentFault>> {
        let id = Name::new(machine).map(|name| ResourceId::new(Kind::VirtualMachine, name));
        match id.is_ok_and(|id| self.known.contains(&id)) {
            true => self.agents.ask(machine, command, limit),
            false => Box::pin(ready(Err(AgentFault::Foreign(machine.to_owned())))),
        }
    }
}
