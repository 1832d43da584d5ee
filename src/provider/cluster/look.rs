//! A look at every cluster that is asked for. A controller that does not answer is unreadable, never an
//! empty cluster.

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use trueup_slurm::is_cut_off;

use super::{ClusterProvider, commands, live};
use crate::model::resource::{Cluster, SlurmCluster, SlurmSeen};
use crate::model::{Observation, Observed, Ownership, Resource, ResourceId};
use crate::port::Scope;

impl ClusterProvider {
    /// Looks at every cluster of `scope`.
    pub(super) fn look(&self, scope: &Scope) -> Observed {
        let mut observed = Observed::default();
        for (id, wish) in &scope.desired.resources {
            let Resource::Cluster(cluster) = &wish.resource else { continue };
            let Cluster::Slurm(slurm) = &**cluster;
            match self.one(id, slurm, scope) {
                Ok(Some(seen)) => {
                    observed.resources.insert(id.clone(), observation(slurm, seen));
                }
                Ok(None) => {}
                Err(why) => {
                    observed.unreadable.insert(id.clone(), why);
                }
            }
        }
        observed
    }

    fn one(
        &self,
        id: &ResourceId,
        slurm: &SlurmCluster,
        scope: &Scope,
    ) -> Result<Option<SlurmSeen>, String> {
        let place = &slurm.place;
        let folder = Path::new(&place.folder);
        let cut_off = is_cut_off(&live(place)).map_err(|error| error.to_string())?;
        let text = read(folder, "slurm.conf")?;
        let Some(text) = text.or_else(|| cut_off.then(String::new)) else { return Ok(None) };
        let mut seen = SlurmSeen {
            slurm: text,
            gres: read(folder, "gres.conf")?.unwrap_or_default(),
            cgroup: read(folder, "cgroup.conf")?.unwrap_or_default(),
            cut_off,
            observed: None,
            accounts: None,
            now: now(),
        };
        if cut_off {
            // Whether the controller is up, and with which files, is for the recovery.
            return Ok(Some(seen));
        }
        let observer = self.observer(id, place);
        let pass = observer.lock().unwrap_or_else(PoisonError::into_inner).pass();
        let pass = pass.map_err(|error| error.to_string())?;
        seen.now = pass.clock.unwrap_or(seen.now);
        seen.observed = Some(pass.observed);
        let claimed = match scope.claims.get(id) {
            Some(Resource::Cluster(cluster)) => {
                let Cluster::Slurm(claimed) = &**cluster;
                has_accounts(claimed)
            }
            _ => false,
        };
        if slurm.wish.accounting.is_some() && (claimed || has_accounts(slurm)) {
            let accounts = commands(place).accounts(&slurm.wish.name);
            seen.accounts = Some(Arc::new(accounts.map_err(|error| error.to_string())?));
        }
        Ok(Some(seen))
    }
}

fn has_accounts(slurm: &SlurmCluster) -> bool {
    let wish = &slurm.wish;
    !(wish.accounts.is_empty() && wish.qos.is_empty() && wish.admins.is_empty())
}

fn observation(slurm: &SlurmCluster, seen: SlurmSeen) -> Observation {
    let seen = SlurmCluster { seen: Some(Arc::new(seen)), ..slurm.clone() };
    Observation {
        ownership: Ownership::Unmarked,
        config: Resource::Cluster(Box::new(Cluster::Slurm(seen))),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    }
}

/// The time, seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs());
    since.ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or_default()
}

fn read(folder: &Path, name: &str) -> Result<Option<String>, String> {
    let path = folder.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}
