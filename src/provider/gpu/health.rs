//! From what NVML tells to how a GPU is: what is wrong with it, and what may be.
//!
//! Pure but for the memory of since when a GPU is slowed down. It judges each look by itself; what
//! is news is for the loop to say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use trueup_mig::Placed;
use trueup_nvml::{Gpu, GpuRecord, Recovery};

use super::host::Host;
use super::look::architecture;
use super::watch::Report;
use crate::model::resource::GpuLayout;
use crate::model::{
    GpuCondition, GpuIdentity, GpuProblem, GpuProblemKind, GpuReport, ResourceId, xid,
};

/// How long a GPU has to be slowed down before it counts as a trouble: a burst of work heats every
/// board, and its fans need a few minutes.
pub(super) const SLOWDOWN_LASTS: Duration = Duration::from_secs(300);

/// Since when each GPU has been seen slowed down, look by look.
#[derive(Debug, Default)]
pub(super) struct Slowdowns {
    since: BTreeMap<(String, GpuProblemKind), Instant>,
}

impl Slowdowns {
    /// How long this slowdown has been there, now that it is seen or not.
    fn lasts(
        &mut self,
        gpu: &str,
        kind: GpuProblemKind,
        seen: bool,
        now: Instant,
    ) -> Option<Duration> {
        let key = (gpu.to_owned(), kind);
        if !seen {
            self.since.remove(&key);
            return None;
        }
        Some(now.saturating_duration_since(*self.since.entry(key).or_insert(now)))
    }
}

/// What belongs to a look, beside what NVML told.
pub(super) struct Circumstances<'a> {
    /// What was reported lately.
    pub(super) reports: &'a [Report],
    /// Whether the driver was loaded anew since the look before.
    pub(super) reloaded: bool,
    pub(super) now: Instant,
    pub(super) host: &'a Host,
}

/// How every GPU is that is known by its UUID. `layouts`: what is observed of the layouts.
pub(super) fn see<'a>(
    seen: &trueup_nvml::Observation,
    around: &Circumstances<'_>,
    slowdowns: &mut Slowdowns,
    layouts: impl Iterator<Item = (&'a ResourceId, &'a GpuLayout)> + Clone,
) -> BTreeMap<String, GpuCondition> {
    let boot = around.host.boot();
    let mut gpus = BTreeMap::new();
    for gpu in &seen.gpus {
        let (identity, answers) = match gpu {
            Gpu::Present(record) => (&record.identity, Ok(&**record)),
            Gpu::Failed(failed) => match &failed.identity {
                Some(identity) => (identity, Err(failed)),
                // Which one it is, nobody knows: `Observed::nameless_gpus` tells of it.
                None => continue,
            },
        };
        let given = |layout: &GpuLayout| {
            let kernel = layout.kernel.as_deref();
            kernel.is_some_and(|it| it.is_given() && it.pci.to_string() == identity.pci)
        };
        if layouts.clone().any(|(_, layout)| given(layout)) {
            // A guest has it: what a stale handle of NVML says of it means nothing.
            continue;
        }
        let layout = layouts.clone().find(|(_, layout)| {
            layout.state.as_ref().is_some_and(|state| state.uuid == identity.uuid)
        });
        let mut whole = GpuCondition {
            pci: identity.pci.clone(),
            identity: None,
            lost: None,
            problems: Vec::new(),
            suspected: Vec::new(),
            cleared: around.reloaded,
            reports: reports(around.reports, &identity.uuid, answers.ok(), layout),
            boot: boot.clone(),
            layout: layout.map(|(id, _)| id.clone()),
        };
        match answers {
            Ok(record) => {
                whole.identity = Some(identity_of(record, &seen.driver));
                whole.cleared |= record.health.recovery == Some(Recovery::None);
                whole.problems = problems(record);
                slowed(record, around.now, slowdowns, &mut whole);
            }
            Err(failed) => whole.lost = Some(failed.error.clone()),
        }
        gpus.insert(identity.uuid.clone(), whole);
    }
    gpus
}

fn identity_of(record: &GpuRecord, driver: &str) -> GpuIdentity {
    GpuIdentity {
        pci: record.identity.pci.clone(),
        serial: record.identity.serial.clone(),
        product: record.name.clone(),
        architecture: architecture(record.architecture),
        driver: driver.to_owned(),
        vbios: record.vbios.clone(),
    }
}

/// What is wrong, by what a single look shows.
fn problems(record: &GpuRecord) -> Vec<GpuProblem> {
    let health = &record.health;
    let mut problems = Vec::new();
    let mut say = |kind, detail: String| problems.push(GpuProblem { kind, detail });
    if let Some(counts) = health.ecc_volatile.filter(|counts| counts.uncorrected > 0) {
        let count = counts.uncorrected;
        say(
            GpuProblemKind::UncorrectedMemory,
            format!(
                "{count} uncorrected memory error(s) since the driver was loaded: reset the GPU"
            ),
        );
    }
    if health.retirement_pending == Some(true) {
        let why = "pages of memory wait to be retired: reset the GPU".to_owned();
        say(GpuProblemKind::RetirementPending, why);
    }
    if let Some(rows) = health.remapped_rows {
        if rows.pending {
            let why = "rows of memory wait to be remapped: reset the GPU".to_owned();
            say(GpuProblemKind::RemapPending, why);
        }
        if rows.failed {
            let why = "a row of memory could not be remapped: have the board replaced".to_owned();
            say(GpuProblemKind::RemapFailed, why);
        }
    }
    let recovery = match health.recovery {
        None | Some(Recovery::None) => None,
        Some(Recovery::Reset) => Some("a reset of the GPU"),
        Some(Recovery::Reboot) => Some("a reboot of the machine"),
        Some(Recovery::DrainPeers) => Some("an end of the work between GPUs, and a reset of all"),
        Some(Recovery::DrainAndReset) => Some("an end of the work on the GPU, and a reset of it"),
        Some(_) => Some("something that this version of trueup does not know"),
    };
    if let Some(what) = recovery {
        say(GpuProblemKind::Recovery, format!("the driver asks for {what}"));
    }
    problems
}

/// Slowdowns that last are problems, others are suspicions.
fn slowed(record: &GpuRecord, now: Instant, slowdowns: &mut Slowdowns, into: &mut GpuCondition) {
    let slowdown = record.health.slowdown();
    let degrees = record.health.temperature;
    let hot = degrees.map(|degrees| format!(" (now {degrees} °C)")).unwrap_or_default();
    let both = [
        (
            GpuProblemKind::ThermalSlowdown,
            slowdown.thermal,
            format!("it has been slowed down by heat for minutes{hot}: look at the cooling"),
        ),
        (
            GpuProblemKind::PowerBrake,
            slowdown.power_brake,
            "the power supply has been slowing it down for minutes: look at the power supplies"
                .to_owned(),
        ),
    ];
    for (kind, seen, detail) in both {
        match slowdowns.lasts(&record.identity.uuid, kind, seen, now) {
            None => {}
            Some(lasts) if lasts >= SLOWDOWN_LASTS => {
                into.problems.push(GpuProblem { kind, detail })
            }
            Some(_) => into.suspected.push(kind),
        }
    }
}

/// What was reported of one GPU, with the instance as people call it.
fn reports(
    all: &[Report],
    uuid: &str,
    record: Option<&GpuRecord>,
    layout: Option<(&ResourceId, &GpuLayout)>,
) -> Vec<GpuReport> {
    let state = layout.and_then(|(_, layout)| layout.state.as_deref());
    let of = all.iter().filter(|report| report.gpu == uuid);
    of.map(|report| {
        let instance = report.instance.and_then(|id| {
            let found = record?.instances.iter().find(|one| one.id == id)?;
            let profile = trueup_mig::ProfileId(found.profile.0);
            Some(Placed { profile, start: found.placement.start })
        });
        let partition = instance.and_then(|placed| {
            let found = state?.instances.iter().find(|one| one.placed == placed)?;
            found.name.clone()
        });
        let (meaning, class) = xid::meaning(report.xid);
        GpuReport {
            run: report.run.clone(),
            seq: report.seq,
            at: report.at,
            xid: report.xid,
            meaning: meaning.to_owned(),
            class,
            count: report.count,
            instance: instance.zip(state).map(|(placed, state)| state.label(placed)),
            partition,
        }
    })
    .collect()
}

#[cfg(test)]
mod tests;
