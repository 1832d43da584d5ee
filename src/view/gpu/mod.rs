//! GPUs: what there is, how it is cut, who uses what, how it is, and how it was.
//!
//! Now: the machine as it was looked at, with what the log knows of it. Then: the log alone. It looks
//! at nothing itself.

mod health;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trueup_mig::picture::{Cell, Mark, Picture, Row};
use trueup_mig::{Holder, Instance};
use trueup_nvml::Health;

pub use health::{Grade, Symptom, symptoms};

use super::status::{self, Status};
use crate::model::resource::{
    GpuLayout, GpuMatch, GpuMemory, GpuMigState, GpuSeen, GpuState, HostDevice, SeenPart,
    VgpuClaim, mark_stoppable,
};
use crate::model::{FoundGpu, GpuCard, GpuInventory, Kind, Resource, ResourceId};
use crate::plan::{FieldChange, Skipped};
use crate::state::{ResourceState, State};

/// The GPUs of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gpus {
    /// The last event this is from; 0: the log says nothing.
    pub seq: u64,
    /// When that was.
    pub at: Option<Timestamp>,
    /// Whether the machine itself was looked at. Otherwise this is what the log says: who uses what
    /// and how a GPU is are not in it.
    pub live: bool,
    /// Why the machine could not be looked at; `None`: it could, or was not to be.
    pub unobservable: Option<String>,
    /// The driver's version.
    pub driver: Option<String>,
    /// One row a GPU, in the driver's order; then layouts whose GPU is not there.
    pub gpus: Vec<GpuRow>,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuRow {
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its PCI address.
    pub pci: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// The product.
    pub product: Option<String>,
    /// Its architecture.
    pub architecture: Option<String>,
    /// Its vBIOS.
    pub vbios: Option<String>,
    /// Memory, MiB: all of it, and what of it is used.
    pub memory_mib: Option<(u64, u64)>,
    /// `whole`, `mig`, `vgpu` or `passthrough`; with what it will be after a reset where that differs.
    pub mode: Option<String>,
    /// The layout that is for it.
    pub layout: Option<ResourceId>,
    /// What that is in.
    pub status: Option<Status>,
    /// Since when it is known to be cut as the log says.
    pub cut_since: Option<Timestamp>,
    /// Its instances, by start.
    pub parts: Vec<PartRow>,
    /// The vGPUs of ours on it, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vgpus: Vec<VgpuRow>,
    /// Who uses the GPU as a whole.
    pub users: Vec<Holder>,
    /// Programs on this machine that cut GPUs too.
    pub co_owners: Vec<String>,
    /// What is wrong with it.
    pub symptoms: Vec<Symptom>,
    /// Sensors and counters.
    pub sensors: Option<Health>,
    /// What is no longer as trueup made it.
    pub drift: Vec<FieldChange>,
    /// Its slices.
    pub picture: Option<Picture>,
    /// Why it cannot be looked at.
    pub failed: Option<String>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartRow {
    /// `3g@4`.
    pub label: String,
    /// The driver's name of its profile.
    pub profile: String,
    /// What other resources call it; `None`: trueup did not make it.
    pub name: Option<String>,
    /// Its first memory slice.
    pub start: u32,
    /// Its memory slices.
    pub size: u32,
    /// Its compute instances; empty where there are none, and where one takes all of it.
    pub compute: Vec<String>,
    /// What programs choose it by: `MIG-…`.
    pub devices: Vec<String>,
    /// Percent of its multiprocessors in use, where the GPU tells.
    pub utilization: Option<f64>,
    /// Who uses it.
    pub users: Vec<Holder>,
}

/// One vGPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VgpuRow {
    /// What other resources call it.
    pub name: String,
    /// Its type: its name, or `nvidia-556` where that is not known.
    #[serde(rename = "type")]
    pub kind: String,
    /// What its guest gets: a UUID, or a PCI address.
    pub device: String,
}

/// A layout, as far as the log knows it.
struct Known<'a> {
    id: &'a ResourceId,
    state: &'a ResourceState,
    layout: Option<&'a GpuLayout>,
}

impl<'a> Known<'a> {
    fn all(state: &'a State) -> Vec<Self> {
        let known = state.resources.iter().filter(|(id, known)| {
            id.kind == Kind::GpuLayout && (known.wish.is_some() || known.is_ours())
        });
        let of = |(id, state): (&'a ResourceId, &'a ResourceState)| {
            let claim = state.claim.as_ref().and_then(|claim| claim.resource.as_ref());
            let layout = match claim {
                Some(Resource::GpuLayout(layout)) => Some(layout.as_ref()),
                _ => None,
            };
            Self { id, state, layout }
        };
        known.map(of).collect()
    }

    /// What is remembered of it.
    fn memory(&self) -> Option<&'a GpuMemory> {
        self.layout?.memory.as_deref()
    }

    /// The mode, where guests have the GPU or share it.
    fn guests(&self) -> Option<String> {
        let memory = self.memory()?;
        let given = memory.handover.as_ref().map(|_| "passthrough");
        given.or(memory.share.as_ref().map(|_| "vgpu")).map(str::to_owned)
    }

    /// The vGPUs of ours.
    fn vgpus(&self) -> Vec<VgpuRow> {
        let Some(share) = self.memory().and_then(|memory| memory.share.as_ref()) else {
            return Vec::new();
        };
        let row = |it: &VgpuClaim| VgpuRow {
            name: it.name.clone(),
            kind: share.kind(it),
            device: match it.device() {
                HostDevice::Pci(device) | HostDevice::Mdev(device) => device,
            },
        };
        share.claims.iter().map(row).collect()
    }

    fn is_of(&self, gpu: &GpuState) -> bool {
        if let Some(last) = &self.state.gpu {
            return last.seen.uuid == gpu.uuid;
        }
        self.layout.is_some_and(|layout| match &layout.gpu {
            GpuMatch::Uuid(uuid) => uuid.eq_ignore_ascii_case(&gpu.uuid),
            GpuMatch::PciAddress(pci) => *pci == gpu.pci,
            GpuMatch::Serial(serial) => gpu.serial.as_ref() == Some(serial),
            GpuMatch::Product(_) => {
                self.memory().is_some_and(|memory| memory.gpu.as_ref() == Some(&gpu.uuid))
            }
        })
    }
}

/// The GPUs now: what was found, or why nothing was, with what is known of it. `skipped` is what the
/// newest plan leaves alone, where there is one at hand.
#[must_use]
pub fn gpus(state: &State, skipped: &[Skipped], found: Result<&GpuInventory, &str>) -> Gpus {
    let statuses = statuses(state, skipped);
    let known = Known::all(state);
    let mut told: BTreeSet<&ResourceId> = BTreeSet::new();
    let mut rows: Vec<GpuRow> = Vec::new();
    for gpu in found.map(|found| found.gpus.as_slice()).unwrap_or_default() {
        rows.push(match gpu {
            FoundGpu::Present(card) => {
                let layout = known.iter().find(|it| it.is_of(&card.state));
                told.extend(layout.map(|it| it.id));
                present(card, layout)
            }
            FoundGpu::Failed(failed) => {
                let uuid = |it: &&Known<'_>| {
                    it.state.gpu.as_ref().map(|last| &last.seen.uuid) == failed.uuid.as_ref()
                };
                let layout = known.iter().find(|it| failed.uuid.is_some() && uuid(it));
                told.extend(layout.map(|it| it.id));
                let row = layout.map(from_log).unwrap_or_default();
                GpuRow {
                    uuid: failed.uuid.clone(),
                    pci: failed.pci.clone(),
                    failed: Some(failed.why.clone()),
                    ..row
                }
            }
        });
    }
    for layout in known.iter().filter(|it| !told.contains(it.id)) {
        // What a guest has, the host's driver does not see.
        let given = layout.memory().is_some_and(|memory| memory.handover.is_some());
        let gone = (found.is_ok() && !given)
            .then(|| "it is not among the GPUs of this machine".to_owned());
        let failed = layout.state.unobservable.clone().or(gone);
        rows.push(GpuRow { failed, ..from_log(layout) });
    }
    let driver = found.ok().map(|found| found.driver.clone()).or_else(|| driver_of(&known));
    let unobservable = found.err().map(str::to_owned);
    whole(state, statuses, rows, (found.is_ok(), unobservable, driver))
}

/// The GPUs as the log has them, at the moment that `state` is of.
#[must_use]
pub fn gpus_then(state: &State) -> Gpus {
    let known = Known::all(state);
    let row = |layout: &Known<'_>| GpuRow {
        failed: layout.state.unobservable.clone(),
        ..from_log(layout)
    };
    let rows = known.iter().map(row).collect();
    whole(state, statuses(state, &[]), rows, (false, None, driver_of(&known)))
}

fn statuses(state: &State, skipped: &[Skipped]) -> BTreeMap<ResourceId, Status> {
    status::rows(state, skipped, &[]).into_iter().map(|row| (row.resource, row.status)).collect()
}

fn driver_of(known: &[Known<'_>]) -> Option<String> {
    let lasts = known.iter().filter_map(|it| it.state.gpu.as_ref());
    lasts.max_by_key(|last| last.seq).map(|last| last.seen.driver.clone())
}

fn whole(
    state: &State,
    mut statuses: BTreeMap<ResourceId, Status>,
    mut gpus: Vec<GpuRow>,
    (live, unobservable, driver): (bool, Option<String>, Option<String>),
) -> Gpus {
    for row in &mut gpus {
        let Some(id) = &row.layout else { continue };
        row.status = statuses.remove(id);
        let drift = state.resources.get(id).and_then(|known| known.drift.as_ref());
        row.drift = drift.map(|drift| drift.changes.clone()).unwrap_or_default();
    }
    Gpus { seq: state.seq, at: state.at, live, unobservable, driver, gpus }
}

/// A GPU that answers, with the names of its partitions.
fn present(card: &GpuCard, layout: Option<&Known<'_>>) -> GpuRow {
    let gpu = &card.state;
    let instances = named(gpu, layout.and_then(|it| it.layout));
    let seen = GpuSeen::of(&GpuState { instances: instances.clone(), ..gpu.clone() });
    let last = layout.and_then(|it| it.state.gpu.as_ref());
    let part = |instance: &Instance| {
        let device = card.devices.iter().find(|it| it.instance == instance.placed);
        let is = |it: &&SeenPart| {
            it.start == instance.placed.start && it.label() == gpu.label(instance.placed)
        };
        let mut row = match seen.parts.iter().find(is) {
            Some(part) => part_row(part),
            None => PartRow {
                label: gpu.label(instance.placed),
                profile: format!("#{}", instance.placed.profile),
                name: instance.name.clone(),
                start: instance.placed.start,
                size: 0,
                compute: Vec::new(),
                devices: Vec::new(),
                utilization: None,
                users: Vec::new(),
            },
        };
        row.devices = device.map(|it| it.uuids.clone()).unwrap_or_default();
        row.utilization = device.and_then(|it| it.utilization);
        row.users = instance.all_holders().cloned().collect();
        row
    };
    let mut parts: Vec<PartRow> = instances.iter().map(part).collect();
    parts.sort_by_key(|part| part.start);
    let cut = gpu.mig.is_some_and(|mig| mig.current);
    let board = gpu.board.as_ref().filter(|_| cut);
    GpuRow {
        vbios: card.vbios.clone(),
        memory_mib: card.memory_mib,
        layout: layout.map(|it| it.id.clone()),
        cut_since: last.filter(|last| last.seen.parts == seen.parts).map(|last| last.at),
        parts,
        users: gpu.holders.clone(),
        co_owners: gpu.co_owners.clone(),
        symptoms: symptoms(&card.health, &card.unread),
        sensors: Some(card.health.clone()),
        picture: board.map(|board| Picture::now(board, &instances)),
        vgpus: layout.map(Known::vgpus).unwrap_or_default(),
        mode: layout.and_then(Known::guests).filter(|_| !cut).or_else(|| Some(mode(gpu.mig))),
        ..identity(&seen)
    }
}

/// The instances of a GPU with what the log knows of them: their names, and who of their users may
/// be stopped.
#[must_use]
pub fn named(gpu: &GpuState, layout: Option<&GpuLayout>) -> Vec<Instance> {
    let mut instances = gpu.instances.clone();
    let Some(layout) = layout else { return instances };
    for instance in &mut instances {
        let name = layout.memory.as_ref().and_then(|memory| memory.name(instance.placed));
        instance.name = name.map(str::to_owned);
    }
    mark_stoppable(&mut instances, &layout.clients);
    instances
}

/// The layout that the log has for a GPU.
#[must_use]
pub fn layout_of<'a>(state: &'a State, gpu: &GpuState) -> Option<(&'a ResourceId, &'a GpuLayout)> {
    let known = Known::all(state).into_iter().find(|known| known.is_of(gpu))?;
    Some((known.id, known.layout?))
}

/// What the log has of a layout's GPU.
fn from_log(known: &Known<'_>) -> GpuRow {
    let Some(last) = &known.state.gpu else {
        let of = |which: &GpuMatch| match which {
            GpuMatch::Uuid(uuid) => (Some(uuid.clone()), None, None),
            GpuMatch::PciAddress(pci) => (None, Some(pci.clone()), None),
            GpuMatch::Serial(serial) => (None, None, Some(serial.clone())),
            GpuMatch::Product(_) => {
                (known.memory().and_then(|memory| memory.gpu.clone()), None, None)
            }
        };
        let (uuid, pci, serial) = known.layout.map(|it| of(&it.gpu)).unwrap_or_default();
        let layout = Some(known.id.clone());
        let (mode, vgpus) = (known.guests(), known.vgpus());
        return GpuRow { uuid, pci, serial, layout, mode, vgpus, ..GpuRow::default() };
    };
    let seen = &last.seen;
    GpuRow {
        layout: Some(known.id.clone()),
        cut_since: Some(last.at),
        parts: seen.parts.iter().map(part_row).collect(),
        picture: picture_of(seen),
        vgpus: known.vgpus(),
        mode: known.guests().or_else(|| Some(mode(seen.mig))),
        ..identity(seen)
    }
}

fn identity(seen: &GpuSeen) -> GpuRow {
    GpuRow {
        uuid: Some(seen.uuid.clone()),
        pci: Some(seen.pci.clone()),
        serial: seen.serial.clone(),
        product: Some(seen.product.clone()),
        architecture: Some(seen.architecture.clone()),
        mode: Some(mode(seen.mig)),
        ..GpuRow::default()
    }
}

/// `mig`, `whole (mig after a reset)`, `whole (cannot be cut)`.
fn mode(mig: Option<GpuMigState>) -> String {
    let word = |cut| if cut { "mig" } else { "whole" };
    match mig {
        None => "whole (cannot be cut)".to_owned(),
        Some(mig) if mig.current == mig.pending => word(mig.current).to_owned(),
        Some(mig) => format!("{} ({} after a reset)", word(mig.current), word(mig.pending)),
    }
}

fn part_row(part: &SeenPart) -> PartRow {
    PartRow {
        label: part.label(),
        profile: part.profile.clone(),
        name: part.name.clone(),
        start: part.start,
        size: part.size,
        compute: part.compute.clone(),
        devices: Vec::new(),
        utilization: None,
        users: Vec::new(),
    }
}

/// The slices of a GPU as the log has it; `None` where it is not cut.
#[must_use]
pub fn picture_of(seen: &GpuSeen) -> Option<Picture> {
    seen.mig.filter(|mig| mig.current && seen.units > 0)?;
    let cell = |part: &SeenPart| {
        let name = part.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let compute = match part.whole {
            true => String::new(),
            false => format!(" [{}]", part.compute.join(" ")),
        };
        let label = format!("{}{name}{compute}", part.shape);
        Cell { start: part.start, size: part.size, label, mark: Mark::Kept }
    };
    let cells = seen.parts.iter().map(cell).collect();
    Some(Picture { units: seen.units, rows: vec![Row { title: "cut".to_owned(), cells }] })
}
