//! One step on a GPU: look again, act, say what became of it.
//!
//! Every step may be done twice. What turns out to be in use is left alone; where something cannot
//! be made although the plan says that it fits, what stood before is put back.

mod cut;
mod handover;
mod mode;
mod settle;
mod undo;

use std::collections::BTreeMap;

use trueup_nvml::{Client, Code, Error, Gpu, GpuRecord, Identity};

use super::behind_port::Inner;
use super::tools::Ran;
use crate::model::resource::OnBusy;
use crate::model::{Fault, ResourceId};
use crate::plan::{Action, GpuChange, GpuPart, Step};
use crate::port::{Outcome, misdirected};

/// Why a step was not done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Somebody uses what would have to go, or the driver says so.
    Busy(String),
    /// NVML refuses, or does not answer.
    Nvml(Error),
    /// What NVML says makes no sense with what the plan was made from.
    Other(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Nvml(error)
    }
}

impl Trouble {
    /// Whether trying the same again can only give the same.
    fn is_final(&self) -> bool {
        let code = match self {
            Self::Nvml(error) => error.code(),
            Self::Busy(_) | Self::Other(_) => None,
        };
        matches!(
            code,
            Some(Code::InsufficientResources | Code::InvalidArgument | Code::NotSupported)
        )
    }
}

/// What a step on a part does.
type Work = fn(&Client, &Place) -> Result<Done, Trouble>;

/// A part, where it is, and the machine it is on.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) gpu: String,
    pub(super) part: GpuPart,
    /// Compute instances of this profile that the plan leads to.
    pub(super) count: usize,
    pub(super) host: super::host::Host,
}

/// What a step on a part did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Whether it was so before.
    pub(super) already: bool,
    /// UUID of the MIG device that was made or destroyed.
    pub(super) uuid: Option<String>,
}

pub(super) async fn perform(inner: &Inner, step: &Step) -> Result<Outcome, Fault> {
    let id = &step.resource;
    let _held = match step.action.gpu_change() {
        Some(change) => {
            let (folder, gpu) = (inner.locks.clone(), change.gpu.clone());
            let held = tokio::task::spawn_blocking(move || super::lock::take(&folder, &gpu)).await;
            let held = held.map_err(|error| {
                Fault::transient(format!("the lock of the GPU of {id} was not taken: {error}"))
            });
            held??
        }
        None => None,
    };
    match &step.action {
        Action::GpuStopClients { change } => settle::stop_clients(inner, id, change).await,
        Action::GpuMigMode { on, reset, change } => {
            mode::switch(inner, id, change, *on, *reset).await
        }
        Action::GpuDestroyCompute { part, change } => {
            destroy(inner, id, part, change, cut::destroy_compute).await
        }
        Action::GpuDestroyInstance { part, change } => {
            destroy(inner, id, part, change, cut::destroy_instance).await
        }
        Action::GpuCreateInstance { part, change } => {
            create(inner, id, part, change, cut::create_instance).await
        }
        Action::GpuCreateCompute { part, change } => {
            create(inner, id, part, change, cut::create_compute).await
        }
        Action::GpuHandover { to, step, change } => {
            handover::perform(inner, id, *to, step, change).await
        }
        Action::GpuSettle { start, change } => settle::settle(inner, step, start, change).await,
        _ => Err(misdirected("gpu", step)),
    }
}

async fn destroy(
    inner: &Inner,
    id: &ResourceId,
    part: &GpuPart,
    change: &GpuChange,
    work: Work,
) -> Result<Outcome, Fault> {
    let done = on_part(inner, part, change, work).await?;
    let done =
        done.map_err(|trouble| fault(&format!("destroying {}", named(id, part)), trouble, change))?;
    Ok(outcome(part, "destroyed", done))
}

async fn create(
    inner: &Inner,
    id: &ResourceId,
    part: &GpuPart,
    change: &GpuChange,
    work: Work,
) -> Result<Outcome, Fault> {
    let trouble = match on_part(inner, part, change, work).await? {
        Ok(done) => return Ok(outcome(part, "created", done)),
        Err(trouble) => trouble,
    };
    let doing = format!("creating {}", named(id, part));
    if !trouble.is_final() {
        return Err(fault(&doing, trouble, change));
    }
    // The plan says that it fits and the driver that it does not: what was taken away for it is
    // worth more than half of what cannot be had.
    let back = undo::put_back(inner, id, change).await;
    let why = fault(&doing, trouble, change);
    Err(Fault::permanent(format!("{why}; {back}")))
}

/// Does something to a part on the library's thread.
async fn on_part(
    inner: &Inner,
    part: &GpuPart,
    change: &GpuChange,
    work: Work,
) -> Result<Result<Done, Trouble>, Fault> {
    let count = part.compute.map_or(0, |wish| {
        let whole = change.memory.layout.part(part.instance);
        let all = whole.map(|whole| whole.compute.as_slice()).unwrap_or_default();
        all.iter().filter(|it| it.profile == wish.profile).count()
    });
    let place =
        Place { gpu: change.gpu.clone(), part: part.clone(), count, host: inner.host.clone() };
    inner.worker.ask(move |session| within(session, |client| work(client, &place))).await
}

/// As `Session::with`, for what may fail otherwise than by NVML.
fn within<T>(
    session: &mut super::session::Session,
    work: impl Fn(&Client) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let done = session.with(|client| match work(client) {
        Err(Trouble::Nvml(error @ Error::Unobservable { .. })) => Err(error),
        done => Ok(done),
    });
    done.map_err(Trouble::Nvml).and_then(|done| done)
}

fn outcome(part: &GpuPart, what: &str, done: Done) -> Outcome {
    let mut facts = BTreeMap::from([("instance".to_owned(), part.label.clone())]);
    if let Some(name) = &part.name {
        facts.insert("partition".to_owned(), name.clone());
    }
    if let Some(uuid) = done.uuid {
        facts.insert(what.to_owned(), uuid);
    }
    Outcome { already: done.already, facts, ..Outcome::default() }
}

fn named(id: &ResourceId, part: &GpuPart) -> String {
    match &part.name {
        Some(name) => format!("{} (`{name}`) of {id}", part.label),
        None => format!("{} of {id}", part.label),
    }
}

/// What a step that was not done means for what is done next.
pub(super) fn fault(doing: &str, trouble: Trouble, change: &GpuChange) -> Fault {
    let error = match trouble {
        Trouble::Busy(why) => {
            let message = format!("{doing} was not done: {why}");
            return match change.on_busy {
                OnBusy::Wait => Fault::transient(format!("{message}; it is tried again")),
                OnBusy::Refuse => Fault::needs_human(
                    message,
                    "end what uses it, name its unit under `clients`, or set `onBusy: wait`",
                ),
            };
        }
        Trouble::Other(why) => return Fault::transient(format!("{doing} failed: {why}")),
        Trouble::Nvml(error) => error,
    };
    let message = format!("{doing} failed: {error}");
    match (&error, error.code()) {
        (Error::Unobservable { .. }, _) => Fault::unobservable(message),
        (_, Some(Code::NoPermission)) => {
            Fault::needs_human(message, "run trueup as root, outside of a container")
        }
        (_, Some(Code::ResetRequired)) => Fault::needs_human(
            message,
            format!("reset the GPU (`nvidia-smi --gpu-reset -i {}`) or reboot", change.gpu),
        ),
        (_, Some(Code::InvalidArgument | Code::NotSupported | Code::InsufficientResources)) => {
            Fault::permanent(format!("{message}, although the driver's own profiles allow it"))
        }
        _ => Fault::transient(message),
    }
}

/// The GPU as it is now, by its UUID, or by its PCI address where it never had one.
pub(super) fn record(client: &Client, uuid: &str) -> Result<GpuRecord, Trouble> {
    let seen = client.observe()?;
    let is = |identity: &Identity| identity.uuid == uuid || identity.pci == uuid;
    for gpu in seen.gpus {
        match gpu {
            Gpu::Present(record) if is(&record.identity) => return Ok(*record),
            Gpu::Failed(failed) if failed.identity.as_ref().is_some_and(is) => {
                return Err(Trouble::Other(format!("the GPU does not answer: {}", failed.error)));
            }
            Gpu::Present(_) | Gpu::Failed(_) => {}
        }
    }
    Err(Trouble::Other(format!("there is no GPU {uuid} any more")))
}

/// What came of a program, for the facts of an outcome; `None`: it is not installed.
fn told(ran: Ran) -> Option<Result<(), String>> {
    match ran {
        Ran::Well => Some(Ok(())),
        Ran::Absent => None,
        Ran::Badly(why) => Some(Err(why)),
    }
}
