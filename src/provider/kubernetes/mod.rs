//! Kubernetes clusters: looked at and changed through their API server, by the connections that the host's
//! config says, or by the credentials that are kept of a cluster that trueup built; and those that it builds,
//! through the agents of their machines.
//!
//! A server that does not answer is no empty cluster. No program that a kubeconfig names is started, and no
//! credential is in an error, a step or a line.

mod act;
mod behind_port;
mod build;
mod certificates;
mod data;
mod give;
mod gone;
mod kept;
mod link;
mod look;
mod machine;
mod read;
mod renew;
mod restore;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use trueup_kubernetes::grant::Giver;
use trueup_kubernetes::{Connections, Fault as KubeFault, chain};

pub use self::kept::kept_kubeconfigs;
use self::link::Link;
use crate::model::Name;
use crate::port::{Agents, Scope};
use crate::provider::guest::{self, Guest, Waiting};

/// Kubernetes clusters. Cheap to clone.
#[derive(Clone)]
pub struct KubernetesProvider {
    connections: Connections,
    /// A private folder, for the credentials of those that are built.
    folder: PathBuf,
    /// What tells this host's log from all others.
    log: Arc<str>,
    agents: Option<Arc<dyn Agents>>,
    links: Arc<Mutex<HashMap<Name, Arc<Link>>>>,
}

impl KubernetesProvider {
    /// A provider that has not looked at anything yet. `log`: what tells this host's log from all others, in
    /// letters and digits.
    #[must_use]
    pub fn new(connections: Connections, folder: PathBuf, log: &str) -> Self {
        Self { connections, folder, log: log.into(), agents: None, links: Arc::default() }
    }

    /// The same with the agents of this host's guests.
    #[must_use]
    pub fn with_agents(self, agents: Arc<dyn Agents>) -> Self {
        Self { agents: Some(agents), ..self }
    }

    /// The same for a step: no machine is worked in that the log does not know as ours, whatever the step
    /// says, nor once nobody waits for it any more.
    fn within(&self, scope: &Scope, waiting: &Waiting) -> Self {
        let agents = self.agents.as_ref().map(|agents| guest::own(agents, &scope.known, waiting));
        Self { agents, ..self.clone() }
    }

    /// A guest of this host.
    fn guest(&self, name: &Name) -> Guest {
        Guest::new(self.agents.clone(), name.as_str())
    }

    /// The way to a cluster, with what is known from the last look where it is the same way still.
    async fn link(&self, cluster: &Name) -> Result<Arc<Link>, String> {
        let connection = self.connections.to(cluster.as_str()).await;
        let connection = connection.map_err(|error| chain(&error))?;
        let mut links = self.links();
        links.retain(|_, link| !link.connection.is_over());
        if let Some(link) = links.get(cluster).filter(|it| Arc::ptr_eq(&it.connection, &connection))
        {
            return Ok(Arc::clone(link));
        }
        let giver = Giver { cluster: cluster.to_string(), log: self.log.to_string() };
        let link = Arc::new(Link::new(giver, connection));
        links.insert(cluster.clone(), Arc::clone(&link));
        Ok(link)
    }

    /// Opens the way anew with the next look where credentials or certificates are refused.
    fn doubt(&self, cluster: &Name, fault: &KubeFault) {
        self.connections.doubt(cluster.as_str(), fault);
    }

    fn links(&self) -> std::sync::MutexGuard<'_, HashMap<Name, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
