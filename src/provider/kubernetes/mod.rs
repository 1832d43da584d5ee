//! Kubernetes clusters: looked at and changed through their API server, by the kubeconfig that the host's
//! config names for each.
//!
//! A server that does not answer is no empty cluster. No program that a kubeconfig names is started, and no
//! credential is in an error, a step or a line.

mod act;
mod behind_port;
mod link;
mod look;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use trueup_kubernetes::{Fault as KubeFault, KubeconfigRef, Limits, access, chain};

use self::link::{Link, Stamp};
use crate::model::Name;

/// How each cluster is reached.
#[derive(Debug, Clone, Default)]
pub struct KubernetesSetup {
    /// By the name of the `Cluster`.
    pub places: BTreeMap<Name, KubernetesPlace>,
}

/// How a cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesPlace {
    /// The kubeconfig.
    pub kubeconfig: PathBuf,
    /// The context in it; `None`: its current one.
    pub context: Option<String>,
}

/// Kubernetes clusters. Cheap to clone.
#[derive(Clone)]
pub struct KubernetesProvider {
    setup: Arc<KubernetesSetup>,
    links: Arc<Mutex<HashMap<Name, Arc<Link>>>>,
}

impl KubernetesProvider {
    /// A provider that has not looked at anything yet.
    #[must_use]
    pub fn new(setup: KubernetesSetup) -> Self {
        Self { setup: Arc::new(setup), links: Arc::default() }
    }

    /// The way to a cluster: the one that is open, unless its kubeconfig is another one by now.
    async fn link(&self, cluster: &Name) -> Result<Arc<Link>, String> {
        let place = self.setup.places.get(cluster).ok_or_else(|| {
            format!(
                "nothing says how it is reached: name its kubeconfig in \
                 `clusters.{cluster}.kubeconfig` of the host's config"
            )
        })?;
        let stamp = Stamp::of(&place.kubeconfig).await;
        let open = self.links().get(cluster).cloned();
        if let Some(open) = open.filter(|open| stamp.is_some() && open.stamp == stamp) {
            return Ok(open);
        }
        let (path, context) = (place.kubeconfig.clone(), place.context.clone());
        let which = KubeconfigRef { path, context, programs: false };
        let opened = access(&which, limits()).await.map_err(|error| chain(&error))?;
        let link = Arc::new(Link::new(opened, stamp));
        self.links().insert(cluster.clone(), Arc::clone(&link));
        Ok(link)
    }

    /// Opens the way anew with the next look where credentials or certificates are refused: the files that
    /// a kubeconfig names may be others by then.
    fn doubt(&self, cluster: &Name, fault: &KubeFault) {
        if matches!(fault, KubeFault::Unauthorized { .. } | KubeFault::Certificate { .. }) {
            self.links().remove(cluster);
        }
    }

    fn links(&self) -> std::sync::MutexGuard<'_, HashMap<Name, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shorter than those of the library: a look has to end before the whole pass gives up on it.
fn limits() -> Limits {
    Limits {
        connect: std::time::Duration::from_secs(5),
        request: std::time::Duration::from_secs(15),
        attempts: 2,
        ..Limits::default()
    }
}
