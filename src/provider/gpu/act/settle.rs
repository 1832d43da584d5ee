//! The ends of a change: clients stopped before it; the proof, the containers' view and the clients
//! after it.

use std::collections::BTreeMap;

use super::super::behind_port::Inner;
use super::super::hidden::Hidden;
use super::super::look;
use super::super::tools::Ran;
use super::{Trouble, fault, handover, record, told, within};
use crate::model::{Fault, ResourceId};
use crate::plan::{GpuChange, Reason, Step};
use crate::port::Outcome;

/// Where there is no systemd, clients are somebody else's.
const NO_SYSTEMD: &str = "left alone: systemd does not run this machine";

/// Stops the clients that the change names.
pub(super) async fn stop_clients(
    inner: &Inner,
    id: &ResourceId,
    change: &GpuChange,
) -> Result<Outcome, Fault> {
    let mut facts = BTreeMap::new();
    if !inner.host.has_systemd() {
        facts.insert("clients".to_owned(), NO_SYSTEMD.to_owned());
        return Ok(Outcome { already: true, facts, ..Outcome::default() });
    }
    for unit in &change.memory.stopped {
        match inner.tools.service("stop", unit).await {
            Ran::Well => drop(facts.insert(unit.clone(), "stopped".to_owned())),
            Ran::Absent => {
                let message = format!("{unit}, a client of {id}, cannot be stopped");
                return Err(Fault::needs_human(message, "put systemctl where trueup finds it"));
            }
            Ran::Badly(why) => {
                let message = format!("{unit}, a client of {id}, does not stop: {why}");
                return Err(Fault::transient(message));
            }
        }
    }
    Ok(Outcome { already: false, facts, ..Outcome::default() })
}

/// Starts units; the first that does not start is told, the others are started all the same.
pub(super) async fn start_clients(inner: &Inner, units: &[String]) -> Result<(), String> {
    if !inner.host.has_systemd() {
        return Ok(());
    }
    let mut failed = None;
    for unit in units {
        match inner.tools.service("start", unit).await {
            Ran::Well => {}
            Ran::Absent => drop(failed.get_or_insert("systemctl is not there".to_owned())),
            Ran::Badly(why) => drop(failed.get_or_insert(format!("{unit}: {why}"))),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Proves that the GPU is cut as planned, tells containers, starts clients.
pub(super) async fn settle(
    inner: &Inner,
    step: &Step,
    start: &[String],
    change: &GpuChange,
) -> Result<Outcome, Fault> {
    let id = &step.resource;
    let devices = match (&change.memory.handover, &change.memory.share) {
        // NVML does not see what guests have.
        (Some(handover), _) => {
            handover::prove(inner, id, handover).await?;
            Devices::new()
        }
        (None, Some(share)) => {
            handover::prove_shared(inner, id, share).await?;
            Devices::new()
        }
        (None, None) => prove(inner, id, change).await?,
    };
    let mut facts = identities(&change.memory.devices, &devices);
    match told(inner.tools.refresh_cdi().await) {
        Some(Ok(())) => drop(facts.insert("cdi".to_owned(), "refreshed".to_owned())),
        // The GPU is as it should be all the same, and nothing would make this step run again.
        Some(Err(why)) => {
            tracing::warn!(resource = %id, why, "the CDI description was not refreshed");
            facts.insert("cdi".to_owned(), format!("not refreshed: {why}"));
        }
        None => {}
    }
    if !start.is_empty() {
        let started = match inner.host.has_systemd() {
            true => start.join(", "),
            false => NO_SYSTEMD.to_owned(),
        };
        let failed = start_clients(inner, start).await.err();
        if let (Some(why), Reason::Gone) = (&failed, step.reason) {
            // Its partition may be what it needs, and nobody asks for that any more.
            tracing::warn!(resource = %id, why, "a client was not started again");
            facts.insert("clients".to_owned(), format!("not all started: {why}"));
        } else if let Some(why) = failed {
            let message = format!("{id} is cut as planned, but a client does not start: {why}");
            return Err(Fault::transient(message));
        }
        facts.entry("clients".to_owned()).or_insert(started);
    }
    let already = step.reason == Reason::Adopted;
    Ok(Outcome { already, facts, ..Outcome::default() })
}

/// UUIDs of the MIG devices there are now, by the name of the partition.
type Devices = BTreeMap<String, Vec<String>>;

/// Looks once more: what stands is what the plan leads to.
async fn prove(inner: &Inner, id: &ResourceId, change: &GpuChange) -> Result<Devices, Fault> {
    let (gpu, memory, host) = (change.gpu.clone(), change.memory.clone(), inner.host.clone());
    let proof = inner.worker.ask(move |session| {
        within(session, |client| {
            let found = record(client, &gpu)?;
            // Who uses what is no part of the proof.
            let nobody = Hidden::default();
            let instances = look::instances(&found, Some(&memory), &host, &nobody);
            if !memory.layout.is_met_by(&instances) {
                let there: Vec<String> = instances
                    .iter()
                    .map(|it| format!("#{}@{}", it.placed.profile, it.placed.start))
                    .collect();
                let why = format!("what stands is not what was made: [{}]", there.join(", "));
                return Err(Trouble::Other(why));
            }
            Ok(look::devices(&found, &instances))
        })
    });
    proof.await?.map_err(|trouble| fault(&format!("proving {id}"), trouble, change))
}

/// Which devices there are now, and which of those before the change are no more: whoever names them
/// by UUID has to know.
fn identities(before: &Devices, now: &Devices) -> BTreeMap<String, String> {
    let there = |uuid: &String| now.values().flatten().any(|it| it == uuid);
    let gone = before.iter().filter_map(|(name, old)| {
        let gone: Vec<String> = old.iter().filter(|uuid| !there(uuid)).cloned().collect();
        (!gone.is_empty()).then_some((name, gone))
    });
    let gone: BTreeMap<&String, Vec<String>> = gone.collect();
    let mut facts = BTreeMap::new();
    for (name, old) in &gone {
        let new = now.get(*name).map_or("none".to_owned(), |new| new.join(" "));
        facts.insert(format!("mig.{name}"), format!("{} -> {new}", old.join(" ")));
    }
    for (name, new) in now.iter().filter(|(name, _)| !gone.contains_key(*name)) {
        facts.insert(format!("mig.{name}"), new.join(" "));
    }
    facts
}
