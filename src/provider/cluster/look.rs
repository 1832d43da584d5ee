//! A look at every cluster that is asked for. A controller that does not answer is unreadable, never an
//! empty cluster.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use trueup_slurm::is_cut_off;

use super::ClusterProvider;
use crate::model::resource::{Cluster, SlurmCluster, SlurmSeen};
use crate::model::{Observation, Observed, Ownership, Resource, ResourceId};
use crate::port::{AgentFault, Scope};

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
        if let Some(guest) = &place.guest {
            match self.guest(guest).ping() {
                Ok(()) => {}
                Err(AgentFault::NoMachine(_)) => return Ok(None),
                // Until it was set up nobody is lost with it.
                Err(AgentFault::Silent(_)) if !scope.claims.contains_key(id) => return Ok(None),
                Err(fault) => return Err(format!("its controller: {fault}")),
            }
        }
        let (live, folder) = (self.live(place), Path::new(&place.folder));
        let read = |name: &str| {
            let path = folder.join(name);
            let bytes = live.machine.read(&path);
            let bytes =
                bytes.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            let text = bytes.map(String::from_utf8).transpose();
            text.map_err(|error| format!("{} is no text: {error}", path.display()))
        };
        let cut_off = is_cut_off(&live).map_err(|error| error.to_string())?;
        let text = read("slurm.conf")?;
        let Some(text) = text.or_else(|| cut_off.then(String::new)) else { return Ok(None) };
        let mut seen = SlurmSeen {
            slurm: text,
            gres: read("gres.conf")?.unwrap_or_default(),
            cgroup: read("cgroup.conf")?.unwrap_or_default(),
            cut_off,
            observed: None,
            accounts: None,
            now: now(),
            machines: BTreeMap::new(),
        };
        if cut_off {
            // Whether the controller is up, and with which files, is for the recovery.
            return Ok(Some(seen));
        }
        if let Some(built) = &slurm.built {
            seen.machines = self.machines(&id.name, built)?;
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
            let accounts = self.commands(place).accounts(&slurm.wish.name);
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
