//! Clusters behind `port::Provider`.

use trueup_slurm::observe::ObserveError;
use trueup_slurm::{ControlError, ProveError, SwitchError};

use super::ClusterProvider;
use super::act::Job;
use super::database::{Known, Setup};
use super::hooks::Hooks;
use crate::model::resource::NodeStep;
use crate::model::{Fault, Kind, Name, Observed, ResourceId};
use crate::plan::{Action, Step};
use crate::port::{AgentFault, BoxFuture, Outcome, Progress, Provider, Scope, misdirected};
use crate::provider::files::blocking;
use crate::provider::guest::Waiting;

impl Provider for ClusterProvider {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn kinds(&self) -> &[Kind] {
        &[Kind::Cluster]
    }

    fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
        let (provider, scope) = (self.clone(), scope.clone());
        Box::pin(blocking("look at clusters", move || Ok(provider.look(&scope))))
    }

    fn perform<'a>(
        &'a self,
        step: &'a Step,
        scope: &'a Scope,
        progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        Box::pin(async move {
            let foreign = |name: &&Name| {
                let id = ResourceId::new(Kind::VirtualMachine, (*name).clone());
                !scope.known.contains(&id)
            };
            if let Some(name) = machines(&step.action).into_iter().find(foreign) {
                let why = AgentFault::Foreign(name.to_string());
                return Err(Fault::transient(format!("{}: {why}", step.resource)));
            }
            // Gone with this future, also where it is dropped while its thread is at work.
            let waiting = Waiting::default();
            let own = self.within(scope, &waiting);
            let job = |place| Job::new(&own, &step.resource, place, &progress);
            let hooks = || Hooks::of(scope, &step.resource);
            match &step.action {
                Action::ClusterAdopt { place, name } => job(place).adopt(name.clone()).await,
                Action::ClusterRecover { place } => job(place).recover().await,
                Action::ClusterPrepare { place, machines, key, shared } => {
                    job(place).prepare(machines.clone(), *key, shared.clone()).await
                }
                Action::ClusterDatabase {
                    place,
                    machine,
                    guest,
                    disk,
                    conf,
                    statements,
                    cluster,
                    client,
                } => {
                    let setup = Setup::new(conf.clone(), *disk);
                    let known = Known { statements, cluster, client };
                    job(place).database(machine, guest, setup, known).await
                }
                Action::ClusterCopy { place, machines, controllers } => {
                    job(place).copy(machines.clone(), controllers.clone()).await
                }
                Action::ClusterFirewall { place, machines, rules, wish: _ } => {
                    job(place).firewall(machines.clone(), rules.clone()).await
                }
                Action::ClusterProve { place, files, wish: _ } => {
                    job(place).have(hooks()).await?;
                    job(place).prove(files.clone()).await
                }
                Action::ClusterConfigure { place, files, controller, nodes, wish: _ } => {
                    // Machines may have been made anew since the proof, while jobs were waited for.
                    job(place).have(hooks()).await?;
                    job(place).configure(files.clone(), *controller, nodes).await
                }
                Action::ClusterReconfigure { place } => job(place).reconfigure().await,
                Action::ClusterNode { place, node, step, token } => {
                    if matches!(step, NodeStep::Join { .. }) {
                        job(place).have(hooks().on(node)).await?;
                    }
                    job(place).node(node, step, token).await
                }
                Action::ClusterAccount { place, arguments } => {
                    job(place).account(arguments.clone()).await
                }
                _ => Err(misdirected(self.name(), step)),
            }
        })
    }

    fn let_go<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, ()> {
        let (provider, scope) = (self.clone(), scope.clone());
        let forget = move || {
            let kept = |id: &ResourceId| {
                scope.desired.resources.contains_key(id) || scope.known.contains(id)
            };
            let forgot = provider.forget(&kept, &scope.known);
            forgot.map_err(|error| Fault::transient(error.to_string()))
        };
        Box::pin(async move {
            if let Err(fault) = blocking("remove keys of clusters that are gone", forget).await {
                tracing::warn!(%fault, "a key of a cluster that is gone cannot be removed yet");
            }
        })
    }
}

/// The machines that a step works in, where they are trueup's to make. One that only has the name of one of them
/// gets nothing.
fn machines(action: &Action) -> Vec<&Name> {
    let (place, own): (_, Vec<&Name>) = match action {
        Action::ClusterPrepare { place, machines, shared, .. } => {
            (place, machines.values().chain(shared.iter().map(|it| &it.with)).collect())
        }
        Action::ClusterDatabase { place, guest, .. }
        | Action::ClusterNode { place, step: NodeStep::Join { guest, .. }, .. } => {
            (place, vec![guest])
        }
        Action::ClusterCopy { place, machines, .. }
        | Action::ClusterFirewall { place, machines, .. } => (place, machines.values().collect()),
        Action::ClusterAdopt { place, .. }
        | Action::ClusterRecover { place }
        | Action::ClusterProve { place, .. }
        | Action::ClusterConfigure { place, .. }
        | Action::ClusterReconfigure { place }
        | Action::ClusterNode { place, .. }
        | Action::ClusterAccount { place, .. } => (place, Vec::new()),
        _ => return Vec::new(),
    };
    place.guest.iter().chain(own).collect()
}

/// A failed question as a fault about `what`.
pub(super) fn unanswered(what: &str, error: &ObserveError) -> Fault {
    let message = format!("{what}: {error}");
    if error.is_passing() { Fault::transient(message) } else { Fault::permanent(message) }
}

pub(super) fn uncontrolled(what: &str, error: &ControlError) -> Fault {
    match error {
        ControlError::Slurm(error) => unanswered(what, error),
        // Somebody was quicker: the next plan leaves the node to them.
        ControlError::NotOurs { .. } => Fault::transient(format!("{what}: {error}")),
    }
}

pub(super) fn unproved(what: &str, error: &ProveError) -> Fault {
    let message = format!("{what}: {error}");
    match error {
        ProveError::Refused(_) | ProveError::Files(_) => Fault::needs_human(
            message,
            "nothing was changed: mend the spec; these are the words of Slurm's own programs",
        ),
        ProveError::Paths(_) => Fault::needs_human(
            message,
            "nothing was changed: name their folder in `allowedPaths` of this cluster in the host's \
             config, or leave them out of the spec",
        ),
        ProveError::Run(_)
        | ProveError::Folder { .. }
        | ProveError::Beside { .. }
        | ProveError::Port { .. }
        | ProveError::Silent { .. } => Fault::transient(message),
    }
}

pub(super) fn unswitched(what: &str, error: &SwitchError) -> Fault {
    let message = format!("{what}: {error}");
    match error {
        SwitchError::File { .. } => Fault::transient(message),
        SwitchError::Mark { .. } => Fault::needs_human(message, "then nothing is in the way"),
        SwitchError::Down { .. } => {
            Fault::needs_human(message, "start the controller by hand; the old files are in place")
        }
    }
}
