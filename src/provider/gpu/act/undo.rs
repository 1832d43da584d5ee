//! Putting back what stood before a change that cannot be made.
//!
//! It restores places, compute instances and whether the GPU is cut at all; the UUIDs of what was
//! destroyed are gone for good.

use trueup_mig::{Layout, Outcome, Step, rollback};
use trueup_nvml::Client;

use super::super::behind_port::Inner;
use super::super::host::Host;
use super::super::look;
use super::{Place, Trouble, cut, mode, record, settle, told, within};
use crate::model::ResourceId;
use crate::model::resource::GpuSwitch;
use crate::plan::{GpuChange, GpuPart};

/// Puts back what stood before `change`, starts what was stopped for it, and says what became of
/// that.
pub(super) async fn put_back(inner: &Inner, id: &ResourceId, change: &GpuChange) -> String {
    let Some(before) = change.memory.before.clone() else {
        return "nothing is known of what stood before".to_owned();
    };
    let (gpu, host) = (change.gpu.clone(), inner.host.clone());
    let back = inner.worker.ask(move |session| {
        within(session, |client| {
            let found = record(client, &gpu)?;
            // Without names: what stood where is put back, and is called as it was by the log.
            let instances = look::instances(&found, None, &host, &host.hidden());
            restore(client, &gpu, &host, &before, &found, &instances)
        })
    });
    let back = back.await;
    let is_back = matches!(back, Ok(Ok(_)));
    let mut said = match back {
        Ok(Ok(labels)) if labels.is_empty() => "what stood before stands still".to_owned(),
        Ok(Ok(labels)) => format!("what stood before was put back ({})", labels.join(", ")),
        Ok(Err(Trouble::Busy(why) | Trouble::Other(why))) => {
            format!("what stood before could not be put back: {why}")
        }
        Ok(Err(Trouble::Nvml(error))) => {
            format!("what stood before could not be put back: {error}")
        }
        Err(fault) => format!("what stood before could not be put back: {fault}"),
    };
    said += &mode_back(inner, id, change, is_back).await;
    // Clients that are containers see what stands now only with this.
    if let Some(Err(why)) = told(inner.tools.refresh_cdi().await) {
        said += &format!(", and the CDI description was not refreshed: {why}");
    }
    if !change.memory.stopped.is_empty() {
        match settle::start_clients(inner, &change.memory.stopped).await {
            Ok(()) => said += ", and its clients were started",
            Err(why) => said += &format!(", and its clients were not started: {why}"),
        }
    }
    said
}

/// Switches the mode back where the change had switched it; what became of that, in words.
async fn mode_back(inner: &Inner, id: &ResourceId, change: &GpuChange, is_back: bool) -> String {
    let word = |cut: bool| if cut { "on" } else { "off" };
    let Some(GpuSwitch { from, reset }) = change.memory.switched else {
        // What can be cut at all has the mode on. Before Hopper that is a change of its own, because
        // profiles are told only with it.
        let empty = change.memory.before.as_ref().is_some_and(|before| before.parts.is_empty());
        let word = ", and MIG mode is left on: it was on before this change";
        return if empty { word.to_owned() } else { String::new() };
    };
    let left = |why: &str| format!(", and MIG mode is left {}: {why}", word(!from));
    if !is_back {
        return left("what stands now is not what stood before");
    }
    match mode::switch(inner, id, change, from, reset).await {
        Ok(_) => format!(", and MIG mode is {} again", word(from)),
        Err(fault) => left(&fault.to_string()),
    }
}

/// Every step of the way back; what was done, in words.
fn restore(
    client: &Client,
    gpu: &str,
    host: &Host,
    before: &Layout,
    found: &trueup_nvml::GpuRecord,
    instances: &[trueup_mig::Instance],
) -> Result<Vec<String>, Trouble> {
    let board = look::board(found).map_err(Trouble::Other)?;
    let Some(board) = board else {
        return Err(Trouble::Other("the driver tells no profiles".to_owned()));
    };
    let way = rollback(&board, before, instances);
    let way = match way.map_err(|error| Trouble::Other(error.to_string()))? {
        Outcome::Ready(way) => way,
        Outcome::Blocked { .. } => {
            return Err(Trouble::Busy("what was made meanwhile is in use".to_owned()));
        }
        Outcome::Unplaceable { why, .. } => return Err(Trouble::Other(why.to_string())),
    };
    let mut said = Vec::new();
    for step in &way.steps {
        let instance = step.instance();
        let (compute, work): (_, super::Work) = match *step {
            Step::DestroyInstance { .. } => (None, cut::destroy_instance),
            Step::CreateInstance { .. } => (None, cut::create_instance),
            Step::DestroyCompute { profile, start, .. } => {
                (Some(trueup_mig::ComputePart { profile, start }), cut::destroy_compute)
            }
            Step::CreateCompute { profile, start, .. } => {
                (Some(trueup_mig::ComputePart { profile, start }), cut::create_compute)
            }
        };
        let count = way.after.part(instance).map_or(0, |part| {
            let alike = |it: &&trueup_mig::ComputePart| {
                compute.is_some_and(|wish| wish.profile == it.profile)
            };
            part.compute.iter().filter(alike).count()
        });
        let size = board.placement(instance).map_or(0, |place| place.size);
        let part = GpuPart { label: board.label(instance), name: None, instance, size, compute };
        let place = Place { gpu: gpu.to_owned(), part, count, host: host.clone() };
        work(client, &place)?;
        said.push(step.describe(&board));
    }
    Ok(said)
}
