//! Kubernetes clusters: looked at and changed through their API server, by the connections that the host's
//! config says.
//!
//! A server that does not answer is no empty cluster. No program that a kubeconfig names is started, and no
//! credential is in an error, a step or a line.

mod act;
mod behind_port;
mod give;
mod link;
mod look;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use trueup_kubernetes::{Connections, Fault as KubeFault, chain};

use self::link::Link;
use crate::model::Name;

/// Kubernetes clusters. Cheap to clone.
#[derive(Clone)]
pub struct KubernetesProvider {
    connections: Connections,
    links: Arc<Mutex<HashMap<Name, Arc<Link>>>>,
}

impl KubernetesProvider {
    /// A provider that has not looked at anything yet.
    #[must_use]
    pub fn new(connections: Connections) -> Self {
        Self { connections, links: Arc::default() }
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
        let link = Arc::new(Link::new(cluster, connection));
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
