//! A look at every cluster that is asked for. A controller that does not answer is unreadable, never an
//! empty cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use trueup_slurm::conf::Conf;
use trueup_slurm::{adopt, is_cut_off};

use super::ClusterProvider;
use super::copy::Copies;
use crate::model::resource::{Cluster, SlurmBuilt, SlurmCluster, SlurmPlace, SlurmSeen};
use crate::model::{Kind, Name, Observation, Observed, Ownership, Resource, ResourceId};
use crate::port::{AgentFault, Scope};

/// What a controller with slurmdbd says (slurm.conf(5), `AccountingStorageType`).
const WITH_DATABASE: &str = "accounting_storage/slurmdbd";

impl ClusterProvider {
    /// Looks at every cluster of `scope`.
    pub(super) fn look(&self, scope: &Scope) -> Observed {
        let mut observed = Observed::default();
        self.sweep(&SlurmPlace::default());
        let known = Known { claims: &scope.claims, ours: &scope.known };
        let wished = || {
            let resources = scope.desired.resources.iter();
            resources.filter_map(|(id, wish)| match &wish.resource {
                Resource::Cluster(cluster) => Some((id, cluster.slurm()?)),
                _ => None,
            })
        };
        observed.unreadable = self.doubled(wished(), &scope.claims);
        for (id, slurm) in wished() {
            if observed.unreadable.contains_key(id) {
                continue;
            }
            match self.one(id, slurm, known, scope.fresh) {
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

    /// Clusters that are where another one is. Two documents would write their files over each other's; the
    /// one that has them already goes on.
    fn doubled<'a>(
        &self,
        wished: impl Iterator<Item = (&'a ResourceId, &'a SlurmCluster)>,
        claims: &BTreeMap<ResourceId, Resource>,
    ) -> BTreeMap<ResourceId, String> {
        let mut by_folder: BTreeMap<PathBuf, Vec<&ResourceId>> = BTreeMap::new();
        for (id, slurm) in wished.filter(|(_, slurm)| slurm.place.guest.is_none()) {
            let folder = self.at(&id.name, &slurm.place).folder;
            let real = fs::canonicalize(&folder).unwrap_or(folder);
            by_folder.entry(real).or_default().push(id);
        }
        let mut doubled = BTreeMap::new();
        for (folder, ids) in by_folder {
            let first = ids.iter().find(|id| claims.contains_key(**id)).unwrap_or(&ids[0]);
            for id in ids.iter().filter(|id| *id != first) {
                let why = format!(
                    "{} is the folder of {first} already: say its own in `clusters.{}.folder` of the host's \
                     config, or remove one of the two",
                    folder.display(),
                    id.name
                );
                doubled.insert((*id).clone(), why);
            }
        }
        doubled
    }

    fn one(
        &self,
        id: &ResourceId,
        slurm: &SlurmCluster,
        known: Known<'_>,
        fresh: bool,
    ) -> Result<Option<SlurmSeen>, String> {
        let claims = known.claims;
        let mut place = slurm.place.clone();
        let mut by_backup = false;
        if let Some(guest) = &slurm.place.guest {
            let asked = match known.has(guest) {
                true => self.guest(guest).ping(),
                false => Err(AgentFault::NoMachine(guest.to_string())),
            };
            match asked {
                Ok(()) => self.sweep(&place),
                // The backup has the same files and takes over: what it says is how the cluster is.
                Err(AgentFault::NoMachine(_) | AgentFault::Silent(_))
                    if claims.contains_key(id) && self.backup_answers(slurm, known) =>
                {
                    place.guest = slurm.backup().cloned();
                    by_backup = true;
                }
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
        let place = &place;
        let live = self.live(&id.name, place);
        let folder = live.folder.clone();
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
            folder: folder.display().to_string(),
            slurm: text,
            gres: read("gres.conf")?.unwrap_or_default(),
            cgroup: read("cgroup.conf")?.unwrap_or_default(),
            cut_off,
            now: now(),
            by_backup,
            ..SlurmSeen::default()
        };
        if cut_off {
            // Whether the controller is up, and with which files, is for the recovery.
            return Ok(Some(seen));
        }
        if let Some(built) = &slurm.built {
            let files = Copies::of([&seen.slurm, &seen.gres, &seen.cgroup]);
            let rules = rules(slurm, built, &seen);
            (seen.machines, seen.unwell) =
                self.machines(&id.name, slurm, built, known, (&files, rules.as_ref()))?;
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
        if answers_accounts(slurm, &seen) && (claimed || has_accounts(slurm)) {
            seen.accounts = Some(self.accounts(id, slurm, place, fresh)?);
        }
        Ok(Some(seen))
    }

    fn backup_answers(&self, slurm: &SlurmCluster, known: Known<'_>) -> bool {
        slurm.backup().is_some_and(|name| known.has(name) && self.guest(name).ping().is_ok())
    }
}

/// Whether somebody is there to be asked about accounts. A cluster that is to get a database has none
/// until then, and one whose database has to be set up anew none either: neither is a failure.
fn answers_accounts(slurm: &SlurmCluster, seen: &SlurmSeen) -> bool {
    if slurm.wish.accounting.is_none() {
        return false;
    }
    let Some((name, _)) = slurm.database() else { return true };
    let in_force = Conf::parse(&seen.slurm)
        .is_ok_and(|conf| conf.parameter("AccountingStorageType") == Some(WITH_DATABASE));
    in_force && seen.machines.get(name).is_none_or(|machine| machine.database)
}

/// The firewall rules of each machine as they are to be by the files in force. Where those cannot be read,
/// nothing is planned by what is found here.
fn rules(
    slurm: &SlurmCluster,
    built: &SlurmBuilt,
    seen: &SlurmSeen,
) -> Option<BTreeMap<String, String>> {
    let firewall = built.firewall.as_ref()?;
    let in_force = Conf::parse(&seen.slurm).ok().and_then(|conf| adopt(&conf, &seen.gres).ok());
    let in_force = in_force.map(|it| it.cluster);
    Some(firewall.rules(&slurm.wish, in_force.as_ref().unwrap_or(&slurm.wish)))
}

/// What the log knows.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// What it remembers of what is ours.
    pub(super) claims: &'a BTreeMap<ResourceId, Resource>,
    /// What is ours.
    pub(super) ours: &'a BTreeSet<ResourceId>,
}

impl Known<'_> {
    /// Whether trueup made that machine. One of its name that it did not make is somebody's, and is asked
    /// nothing.
    pub(super) fn has(&self, machine: &Name) -> bool {
        self.ours.contains(&ResourceId::new(Kind::VirtualMachine, machine.clone()))
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
mod tests;
