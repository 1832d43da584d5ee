//! One step at the kernel's files, and the way back where it cannot be done.
//!
//! While a step runs, this program has no GPU open itself. What turns out to be held is left alone.

use std::collections::BTreeMap;

use trueup_gpu_sysfs::plan::{self, Passthrough, Release};
use trueup_gpu_sysfs::{Error, Holders, Next, Outcome as Ended, Step};

use super::super::behind_port::Inner;
use super::super::kernel::Kernel;
use super::Trouble;
use crate::model::resource::{GpuHandover, GpuShare};
use crate::model::{Fault, ResourceId};
use crate::plan::{GpuChange, GpuSide};
use crate::port::Outcome;

/// Performs one step towards guests or the host.
pub(super) async fn perform(
    inner: &Inner,
    id: &ResourceId,
    to: GpuSide,
    step: &Step,
    change: &GpuChange,
) -> Result<Outcome, Fault> {
    let what = step.clone();
    let error = match on_files(inner, move |kernel| kernel.perform(&what)).await? {
        Ok(ended) => {
            let facts = BTreeMap::from([("step".to_owned(), step.to_string())]);
            return Ok(Outcome { already: ended == Ended::AlreadySo, facts, ..Outcome::default() });
        }
        Err(error) => error,
    };
    let before = change.memory.handover.clone();
    let before = before.filter(|_| to == GpuSide::Guests && is_final(&error));
    let Some(before) = before else { return Err(fault(id, step, &error, change)) };
    let failed = format!("`{step}` for {id} failed: {error}");
    match on_files(inner, move |kernel| Ok(back(kernel, &before))).await? {
        Ok(back) => Err(Fault::permanent(format!("{failed}; {back}"))),
        Err(why) => Err(Fault::needs_human(
            format!("{failed}; it could not be given back to the host either: {why}"),
            "look into the kernel's log for why no driver takes it",
        )),
    }
}

/// Proves that guests can have the GPU.
pub(super) async fn prove(
    inner: &Inner,
    id: &ResourceId,
    handover: &GpuHandover,
) -> Result<(), Fault> {
    let wanted = handover.clone();
    let rest = on_files(inner, move |kernel| {
        let files = kernel.look()?;
        let gone = || format!("there is no GPU at {} any more", wanted.pci);
        let gpu = files.of(wanted.pci, None).ok_or_else(gone)?;
        let wish = Passthrough {
            with: wanted.with.clone(),
            headless: true,
            ..Passthrough::of(wanted.pci)
        };
        let rest = plan::bind(&gpu.host, &Holders::default(), &wish);
        let rest = rest.map_err(|refused| refused.to_string())?;
        Ok(rest.steps.iter().map(ToString::to_string).collect::<Vec<_>>())
    });
    match rest.await? {
        none if none.is_empty() => Ok(()),
        rest => {
            let message = format!("proving {id} failed: left to do is {}", rest.join(", "));
            Err(Fault::transient(message))
        }
    }
}

/// Proves that guests can have the vGPUs that were made for them. Where more is to be done first,
/// that is seen with the next look.
pub(super) async fn prove_shared(
    inner: &Inner,
    id: &ResourceId,
    share: &GpuShare,
) -> Result<(), Fault> {
    if share.open {
        return Ok(());
    }
    let wanted = share.clone();
    let missing = on_files(inner, move |kernel| {
        let files = kernel.look()?;
        let gone = || format!("there is no GPU at {} any more", wanted.pci);
        let gpu = files.of(wanted.pci, None).ok_or_else(gone)?;
        let missing = wanted.claims.iter().filter(|it| !it.claim.stands(&gpu.host));
        Ok(missing.map(|it| it.name.clone()).collect::<Vec<_>>())
    });
    match missing.await? {
        none if none.is_empty() => Ok(()),
        missing => {
            let message = format!("proving {id} failed: there is no {}", missing.join(", no "));
            Err(Fault::transient(message))
        }
    }
}

/// Does something at the files, with no GPU held open by this program.
async fn on_files<T: Send + 'static>(
    inner: &Inner,
    work: impl FnOnce(&Kernel) -> Result<T, String> + Send + 'static,
) -> Result<T, Fault> {
    let kernel = inner.kernel.clone();
    // Begins only once the library is closed.
    let work = async { tokio::task::spawn_blocking(move || work(&kernel)).await };
    match inner.worker.without(&inner.events, work).await? {
        Ok(done) => done.map_err(Fault::transient),
        Err(error) => Err(Fault::transient(format!("the step was not ended: {error}"))),
    }
}

/// Whether trying the same again can only give the same. A write that never returned is in the
/// kernel's hands: nothing is written after it.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Unproved { .. } | Error::Run { .. } => true,
        Error::Write { .. } => error.next() == Next::Human,
        _ => false,
    }
}

/// Gives the GPU back to the driver that had it; what was done, in words.
fn back(kernel: &Kernel, before: &GpuHandover) -> Result<String, String> {
    let Some(driver) = &before.driver else {
        return Ok("no driver had it before, and none has it now".to_owned());
    };
    let files = kernel.look()?;
    let gone = || format!("there is no GPU at {} any more", before.pci);
    let gpu = files.of(before.pci, None).ok_or_else(gone)?;
    let wish =
        Release { driver: driver.clone(), with: before.with.clone(), ..Release::of(before.pci) };
    let way = plan::release(&gpu.host, &gpu.holders, &wish).map_err(|error| error.to_string())?;
    for step in &way.steps {
        kernel.perform(step)?.map_err(|error| error.to_string())?;
    }
    Ok(match way.steps.is_empty() {
        true => format!("{driver} has it still"),
        false => format!("it was given back to {driver}"),
    })
}

/// What a step that was not done means for what is done next.
fn fault(id: &ResourceId, step: &Step, error: &Error, change: &GpuChange) -> Fault {
    let doing = format!("`{step}` for {id}");
    if let Error::Held { .. } = error {
        return super::fault(&doing, Trouble::Busy(error.to_string()), change);
    }
    let message = format!("{doing} failed: {error}");
    match error.next() {
        // What a program did before it failed is there: the GPU stays ours, and the next look shows what
        // is left to do.
        Next::Human if matches!(error, Error::Run { .. }) => Fault::transient(message),
        Next::Human if matches!(error, Error::Stuck { .. }) => Fault::permanent(message),
        Next::Retry | Next::Replan => Fault::transient(message),
        Next::Human => Fault::needs_human(message, "see to it; it is looked at anew after that"),
    }
}
