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
            let Some(slurm) = cluster.slurm() else { continue };
            match self.one(id, slurm, &scope.claims) {
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
        claims: &BTreeMap<ResourceId, Resource>,
    ) -> Result<Option<SlurmSeen>, String> {
        let place = &slurm.place;
        if let Some(guest) = &place.guest {
            match self.guest(guest).ping() {
                Ok(()) => {}
                // Until it was set up nobody is lost with it. Once it was, a cluster whose controller is
                // away is no cluster that is not there: its nodes may have jobs.
                Err(AgentFault::NoMachine(_) | AgentFault::Silent(_))
                    if !claims.contains_key(id) =>
                {
                    return Ok(None);
                }
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
            now: now(),
            ..SlurmSeen::default()
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
        let claimed = match claims.get(id) {
            Some(Resource::Cluster(cluster)) => cluster.slurm().is_some_and(has_accounts),
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

#[cfg(test)]
mod tests {
    use super::super::guest::fake::with;
    use super::super::{ClusterProvider, ClusterSetup, Restarts};
    use super::*;
    use crate::model::resource::{SlurmBuilt, SlurmPlace};

    fn built() -> SlurmCluster {
        let wish = serde_json::from_value(serde_json::json!({
            "name": "lab", "controllers": [], "pools": [], "partitions": []
        }));
        SlurmCluster {
            place: SlurmPlace {
                folder: "/etc/slurm".into(),
                programs: None,
                slurmctld: "/usr/sbin/slurmctld".into(),
                slurmrestd: None,
                guest: Some(crate::model::Name::new("hpc-ctl").unwrap()),
            },
            wish: wish.unwrap(),
            built: Some(SlurmBuilt {
                machines: BTreeMap::new(),
                key: 1,
                server: "10.7.0.10:6817".into(),
                release: trueup_slurm::Shape::V22_05,
            }),
            drain_timeout_s: 60,
            max_unavailable: 1,
            seen: None,
        }
    }

    #[test]
    fn a_cluster_whose_controller_is_gone_is_no_cluster_that_was_never_there() {
        with(&[], |_, fake| {
            let folder = tempfile::tempdir().unwrap();
            let setup = ClusterSetup {
                folder: folder.path().to_owned(),
                restarts: BTreeMap::new(),
                usual: Restarts::default(),
            };
            let agents = Arc::clone(fake) as Arc<dyn crate::port::Agents>;
            let provider = ClusterProvider::new(setup).with_agents(agents);
            let id: ResourceId = "cluster/hpc".parse().unwrap();
            let look = |claimed: bool| {
                let ours = Resource::Cluster(Box::new(Cluster::Slurm(built())));
                let claims = claimed.then(|| (id.clone(), ours)).into_iter().collect();
                provider.one(&id, &built(), &claims).map(|seen| seen.is_some())
            };
            for away in
                [AgentFault::NoMachine("hpc-ctl".into()), AgentFault::Silent("hpc-ctl".into())]
            {
                fake.is(Some(away));
                assert_eq!(look(false), Ok(false), "it is to be made");
                let why = look(true).unwrap_err();
                assert!(why.starts_with("its controller: ") && why.contains("hpc-ctl"), "{why}");
            }
            fake.is(None);
            assert_eq!(look(true), Ok(false), "an empty machine");
        });
    }
}
