//! What a cluster that trueup makes has beside its controller and its nodes: the accounting database, files
//! on machines that read their own, and firewall rules. None of it stops a machine or ends a job.

use std::collections::{BTreeMap, BTreeSet};

use trueup_slurm::{Database, Shape, render, wish};

use super::super::super::{Action, Disruption, FieldChange};
use super::super::{Draft, Verdict};
use super::{Files, Work, plain};
use crate::model::resource::{MachineSeen, SlurmCluster, StateFolder};
use crate::model::{Name, Resource, digest_of};

/// Where the state of all jobs is (slurm.conf(5)).
const STATE: &str = "StateSaveLocation";

/// The folder that the backup controller of a cluster shares with the first one.
pub(super) fn shared(to: &SlurmCluster) -> Option<StateFolder> {
    let with = to.backup()?.clone();
    let mut parameters = to.wish.parameters.iter();
    let (_, folder) = parameters.find(|(key, _)| key.eq_ignore_ascii_case(STATE))?;
    Some(StateFolder { folder: folder.clone(), with })
}

/// The step that sets up the database, where the cluster has one.
pub(super) fn database(to: &SlurmCluster, shape: Shape) -> Option<Action> {
    let (machine, guest) = to.database()?;
    let accounting = to.wish.accounting.as_ref()?;
    // One that cannot be written down was told as a mistake.
    let files = render(&to.wish, shape).ok()?;
    Some(Action::ClusterDatabase {
        place: to.place.clone(),
        machine: machine.clone(),
        guest: guest.clone(),
        disk: to.wish.database_host().is_some(),
        conf: files.slurmdbd?,
        statements: Database::statements(&accounting.database),
        cluster: to.wish.name.clone(),
        client: files.slurm,
    })
}

/// The step that gives these machines the controller's files; none where there are no such machines.
pub(super) fn copy(to: &SlurmCluster, machines: BTreeMap<String, Name>) -> Option<Action> {
    let backup = to.wish.backup().map(|host| host.name.clone());
    let controllers = backup.into_iter().filter(|name| machines.contains_key(name)).collect();
    let place = to.place.clone();
    (!machines.is_empty()).then_some(Action::ClusterCopy { place, machines, controllers })
}

/// The step that puts the rules of these machines into force, as they are to be where the files `in_force`
/// are; none where there are no such machines.
pub(super) fn firewall(
    to: &SlurmCluster,
    machines: BTreeMap<String, Name>,
    in_force: &wish::Cluster,
) -> Option<Action> {
    let built = to.built.as_ref()?;
    let rules = |in_force| {
        let rules = built.firewall.as_ref().map(|firewall| firewall.rules(&to.wish, in_force));
        rules.unwrap_or_default()
    };
    let wish = digest_of(&rules(&to.wish));
    let own = |(name, _): &(String, String)| machines.contains_key(name);
    let rules = rules(in_force).into_iter().filter(own).collect();
    let place = to.place.clone();
    (!machines.is_empty()).then_some(Action::ClusterFirewall { place, machines, rules, wish })
}

fn changes<'a>(names: impl Iterator<Item = &'a String>, what: &str) -> Vec<FieldChange> {
    names.map(|name| plain(&format!("machines/{name}"), what)).collect()
}

impl Work<'_, '_> {
    /// Machines that this cluster did not have yet, and that thus do not answer yet.
    pub(super) fn is_new(&self, machine: &str) -> bool {
        let claimed = match self.case.facts.claimed(self.case.id) {
            Some(Resource::Cluster(cluster)) => cluster.slurm().and_then(|it| it.built.as_ref()),
            _ => None,
        };
        !claimed.is_some_and(|built| built.machines.contains_key(machine))
    }

    /// Those of these machines that are new, or of which `lacks` says so as they are. One that is not new and
    /// does not answer is as nobody knows.
    pub(super) fn lacking(
        &self,
        machines: &BTreeMap<String, Name>,
        lacks: impl Fn(&MachineSeen) -> bool,
    ) -> BTreeMap<String, Name> {
        let lack =
            |name: &String| self.seen.machines.get(name).map_or_else(|| self.is_new(name), &lacks);
        let of = machines.iter().filter(|(name, _)| lack(name));
        of.map(|(name, domain)| (name.clone(), domain.clone())).collect()
    }

    /// The rules of machines whose rules are others.
    pub(super) fn firewall(&self, verdict: &mut Verdict) {
        let Some(built) = &self.to.built else { return };
        // A new machine without rules is as it should be.
        let wanted = built.firewall.is_some();
        let machines = self.lacking(&built.machines, |seen| !seen.firewall);
        let there = |name: &String| wanted || self.seen.machines.contains_key(name);
        let machines = machines.into_iter().filter(|(name, _)| there(name)).collect();
        if let Some(action) = firewall(self.to, machines, &self.live.wish) {
            self.rules(verdict, action);
        }
    }

    /// The rules of all machines that answer, where they are others once `files` are in force: nodes have left.
    pub(super) fn shut_out(&self, verdict: &mut Verdict, files: &Files) {
        // Rules of a thousand machines are long, and none are others where the nodes stay the same.
        let changes = files.wish.pools != self.live.wish.pools;
        let Some(built) = self.to.built.as_ref().filter(|_| changes) else { return };
        let of = |in_force| firewall(self.to, self.lacking(&built.machines, |_| true), in_force);
        let last = of(&files.wish);
        if let Some(action) = last.filter(|last| of(&self.live.wish).as_ref() != Some(last)) {
            self.rules(verdict, action);
        }
    }

    /// What becomes of rules on the way is the same change.
    fn rules(&self, verdict: &mut Verdict, action: Action) {
        let built = self.to.built.as_ref();
        let wanted = built.is_some_and(|built| built.firewall.is_some());
        self.live(verdict, action, if wanted { "firewall rules" } else { "no firewall rules" });
    }

    /// The database, where it is not there or does not run.
    pub(super) fn database(&self, verdict: &mut Verdict) {
        let Some((name, guest)) = self.to.database() else { return };
        let own = BTreeMap::from([(name.clone(), guest.clone())]);
        // The machine may have been there before it had a database.
        let before = self.live.wish.accounting.is_some();
        let lacks = self.lacking(&own, |seen| !seen.database);
        if lacks.is_empty() && (before || self.seen.machines.contains_key(name)) {
            return;
        }
        if let Some(action) = database(self.to, self.shape) {
            self.live(verdict, action, "the accounting database");
        }
    }

    /// Files of machines that have others than the controller, which stay as they are.
    pub(super) fn copies(&self, verdict: &mut Verdict) {
        let machines = self.lacking(&self.to.copies(), |seen| !seen.copied);
        if let Some(action) = copy(self.to, machines) {
            self.live(verdict, action, "the controller's files");
        }
    }

    /// The same after the controller got others: of all machines that answer, and of new ones.
    pub(super) fn copy_on(&self, verdict: &mut Verdict) {
        let machines = self.lacking(&self.to.copies(), |_| true);
        if let Some(action) = copy(self.to, machines) {
            self.live(verdict, action, "the controller's files");
        }
    }

    fn live(&self, verdict: &mut Verdict, action: Action, what: &str) {
        let changes = match &action {
            Action::ClusterDatabase { machine, .. } => changes([machine].into_iter(), what),
            Action::ClusterCopy { machines, .. } | Action::ClusterFirewall { machines, .. } => {
                changes(machines.keys(), what)
            }
            _ => Vec::new(),
        };
        let draft = Draft::quiet(action, self.case.reason, changes);
        verdict.step(draft.disturbing(Disruption::Live, BTreeSet::new()));
    }
}
