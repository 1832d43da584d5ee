//! Performs steps: each looks first, acts only if it has to, and looks again before it says done.
//!
//! Nothing is touched that is not marked as ours, except by a definition that adopts it, and the mark
//! is read again right before each call that changes something.

mod disk;
mod live;
mod network;
mod pool;
mod ready;
mod snapshot;
mod stop;
mod vm;

use std::fmt::Display;
use std::time::Duration;

pub(super) use ready::{ASK_LIMIT, words};

use trueup_libvirt::{Client, DomainRecord, Error, NetworkRecord};

use super::xml::{Mark, XmlError, domain, network as network_xml};
use super::{LibvirtProvider, fault};
use crate::model::{Fault, Kind, Ownership, ResourceId};
use crate::plan::{Action, Reason, Step};
use crate::port::{Outcome, Progress, Scope, misdirected};

/// Time limit of calls that move data: making a preallocated volume, saving a guest's memory.
const LONG_CALL: Duration = Duration::from_secs(15 * 60);

/// How often a state is looked at that nothing announces.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// One step being performed.
struct Act<'a> {
    provider: &'a LibvirtProvider,
    step: &'a Step,
    scope: &'a Scope,
    progress: Progress,
}

pub(super) async fn perform(
    provider: &LibvirtProvider,
    step: &Step,
    scope: &Scope,
    progress: Progress,
) -> Result<Outcome, Fault> {
    let act = Act { provider, step, scope, progress };
    match &step.action {
        Action::PoolDefine { pool, uuid } => act.define_pool(pool, *uuid).await,
        Action::PoolStart => act.start_pool().await,
        Action::PoolUndefine => act.undefine_pool().await,
        Action::NetworkDefine { network, uuid } => act.define_network(network, *uuid).await,
        Action::NetworkUpdateLive { network } => act.update_network(network).await,
        Action::NetworkStart { reconnect } => act.start_network(reconnect).await,
        Action::NetworkStop => act.stop_network().await,
        Action::NetworkUndefine => act.undefine_network().await,
        Action::DiskCreate { disk } => act.create_disk(disk).await,
        Action::DiskGrow { path, pool, size, live } => {
            act.grow_disk(pool, path, *size, live.as_ref()).await
        }
        Action::DiskDelete { pool, path } => act.delete_disk(pool, path).await,
        Action::VmDefine { vm, uuid } => act.define_vm(vm, *uuid).await,
        Action::VmUpdateLive { changes } => act.update_live(changes).await,
        Action::VmSnapshot { name } => act.snapshot(name).await,
        Action::VmForget { name } => act.forget_snapshot(name).await,
        Action::VmStart => act.start_vm().await,
        Action::VmPause => act.pause_vm().await,
        Action::VmStop { policy } => act.stop_vm(*policy).await,
        Action::VmAwaitReady { readiness, console_log } => {
            act.await_ready(readiness, console_log.as_deref()).await
        }
        Action::VmUndefine => act.undefine_vm().await,
        Action::GpuStopClients { .. }
        | Action::GpuMigMode { .. }
        | Action::GpuDestroyCompute { .. }
        | Action::GpuDestroyInstance { .. }
        | Action::GpuCreateInstance { .. }
        | Action::GpuCreateCompute { .. }
        | Action::GpuHandover { .. }
        | Action::GpuSettle { .. }
        | Action::BackupOpen { .. }
        | Action::BackupRun { .. }
        | Action::BackupClear { .. }
        | Action::BackupVerify { .. }
        | Action::BackupDrill { .. }
        | Action::BackupForget { .. }
        | Action::ClusterAdopt { .. }
        | Action::ClusterRecover { .. }
        | Action::ClusterPrepare { .. }
        | Action::ClusterDatabase { .. }
        | Action::ClusterCopy { .. }
        | Action::ClusterFirewall { .. }
        | Action::ClusterProve { .. }
        | Action::ClusterConfigure { .. }
        | Action::ClusterReconfigure { .. }
        | Action::ClusterNode { .. }
        | Action::ClusterAccount { .. }
        | Action::KubernetesAdopt
        | Action::KubernetesPrepare { .. }
        | Action::KubernetesInit { .. }
        | Action::KubernetesRestore { .. }
        | Action::KubernetesConnect { .. }
        | Action::KubernetesRenew { .. }
        | Action::KubernetesNode { .. }
        | Action::KubernetesNamespace { .. }
        | Action::KubernetesAccess { .. }
        | Action::Release { .. }
        | Action::ImageCreate { .. }
        | Action::ImageDelete { .. }
        | Action::SeedCreate { .. }
        | Action::SeedDelete { .. } => Err(misdirected("libvirt", step)),
    }
}

/// The outcome of a step that found everything done.
fn already() -> Outcome {
    Outcome { already: true, ..Outcome::default() }
}

/// The outcome of a step that did something.
fn done() -> Outcome {
    Outcome::default()
}

/// A thing that is there, or none: absence is an answer, not a failure.
fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(thing) => Ok(Some(thing)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Act<'_> {
    fn client(&self) -> &Client {
        &self.provider.client
    }

    fn id(&self) -> &ResourceId {
        &self.step.resource
    }

    fn name(&self) -> &str {
        self.step.resource.name.as_str()
    }

    /// The fault of a call of this step.
    fn failed<D: Display>(&self, doing: D) -> impl FnOnce(Error) -> Fault + use<D> {
        let doing = format!("{doing} {}", self.id());
        move |error| fault::step(doing, &error)
    }

    /// The fault of XML that this step cannot read or write.
    fn bad_xml<D: Display>(&self, doing: D) -> impl FnOnce(XmlError) -> Fault + use<D> {
        let doing = format!("{doing} {}", self.id());
        move |error| fault::xml(doing, &error)
    }

    /// The fault of a call that succeeded and changed nothing.
    fn not_taken(&self, what: impl Display) -> Fault {
        Fault::transient(format!(
            "libvirt accepted the change to {}, but {what}; it is looked at again",
            self.id()
        ))
    }

    /// The mark for what this step defines.
    fn mark(&self, memory: Option<u64>) -> Mark {
        let wanted = self.scope.desired.resources.get(self.id());
        Mark {
            environment: self.scope.desired.environment.clone(),
            id: self.id().clone(),
            digest: wanted.map(|wanted| wanted.digest),
            memory,
        }
    }

    /// Whether the step may take over what is not marked as ours.
    fn adopts(&self) -> bool {
        let wanted = self.scope.desired.resources.get(self.id());
        self.step.reason == Reason::Adopted || wanted.is_some_and(|want| want.lifecycle.adopt)
    }

    /// Refuses to touch what is not ours.
    fn check_ours(&self, mark: Option<&Mark>, persistent: bool, adopt: bool) -> Result<(), Fault> {
        let mark = mark.filter(|_| persistent);
        match Mark::ownership(mark, self.id(), &self.scope.desired.environment) {
            Ownership::Ours { .. } => Ok(()),
            Ownership::Foreign | Ownership::Unmarked if adopt && persistent => Ok(()),
            Ownership::Foreign | Ownership::Unmarked => Err(Fault::needs_human(
                format!("{} exists, but trueup did not make it", self.id()),
                "remove or rename it, or set `lifecycle.adopt: true` to take it over",
            )),
            Ownership::Other { environment }
                if adopt && self.scope.desired.sync.renamed.formerly.contains(&environment) =>
            {
                Ok(())
            }
            Ownership::Other { environment } => Err(Fault::needs_human(
                format!("{} belongs to the environment `{environment}`", self.id()),
                "let only one environment of a host have a resource of this name; if this one was called \
                 so once, name that under `formerly` of its `Environment`",
            )),
        }
    }

    /// Refuses to touch an object that is another one than the plan saw.
    fn check_uuid(&self, seen: uuid::Uuid, planned: uuid::Uuid) -> Result<(), Fault> {
        if seen == planned {
            return Ok(());
        }
        Err(Fault::needs_human(
            format!("{} exists with the UUID {seen}, but {planned} was expected", self.id()),
            "remove or rename what is there, or set `lifecycle.adopt: true` to take it over",
        ))
    }

    /// The domain of this step, if there is one.
    async fn domain(&self) -> Result<Option<DomainRecord>, Fault> {
        found(self.client().domain(self.name()).await).map_err(self.failed("looking at"))
    }

    /// The domain of this step, which has to be there and ours.
    async fn our_domain(&self) -> Result<(DomainRecord, domain::ParsedDomain), Fault> {
        let Some(record) = self.domain().await? else {
            return Err(Fault::transient(format!("{} is gone; it is looked at again", self.id())));
        };
        let config = domain::parse(&record.inactive_xml).map_err(self.bad_xml("reading"))?;
        self.check_ours(config.mark.as_ref(), record.persistent, false)?;
        Ok((record, config))
    }

    /// The network of this step, if there is one.
    async fn network(&self) -> Result<Option<NetworkRecord>, Fault> {
        found(self.client().network(self.name()).await).map_err(self.failed("looking at"))
    }

    /// The network of this step, which has to be there and ours.
    async fn our_network(&self) -> Result<NetworkRecord, Fault> {
        let Some(record) = self.network().await? else {
            return Err(Fault::transient(format!("{} is gone; it is looked at again", self.id())));
        };
        let config = network_xml::parse(&record.inactive_xml).map_err(self.bad_xml("reading"))?;
        self.check_ours(config.mark.as_ref(), record.persistent, false)?;
        Ok(record)
    }
}

/// A resource id for messages about another object than the step's own.
fn other(kind: Kind, name: &str) -> String {
    format!("{}/{name}", kind.short())
}
