//! From what NVML tells to one observation a layout.
//!
//! Pure but for the files that say who a process is. A GPU that does not answer hides no other.

use std::collections::BTreeMap;

use trueup_mig::{
    Board, ComputeInstance, ComputeInstanceId, ComputeProfile, ComputeProfileId, Engines, Holder,
    Instance, InstanceId, Placed, Placement, Profile, ProfileId, ProfileIndex,
};
use trueup_nvml::{Architecture, Gpu, GpuInstance, GpuRecord, Identity, Virtualization};

use super::hidden::{Hidden, Users};
use super::host::Host;
use super::kernel::Files;
use super::sight::{Found, Sight};
use crate::model::resource::{
    GpuClient, GpuHandover, GpuKernel, GpuLayout, GpuMatch, GpuMemory, GpuMigState, GpuMode,
    GpuShare, GpuState, Partition,
};
use crate::model::{Kind, Observation, Observed, Ownership, Resource, ResourceId};
use crate::port::Scope;

/// A layout to look for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) id: ResourceId,
    pub(super) gpu: GpuMatch,
    /// Which GPU that is; where it names a product, the one it has or gets.
    pub(super) meant: Result<GpuMatch, String>,
    clients: Vec<GpuClient>,
    pub(super) memory: Option<GpuMemory>,
    /// Whether a guest is to have it.
    given: bool,
    /// Whether what is remembered is that of a layout which had another name.
    inherits: bool,
    /// Whether the commit asks for it.
    pub(super) desired: bool,
    /// Whether the log says that it is ours.
    known: bool,
}

impl Wanted {
    /// Whether guests have it or share it, or are to.
    pub(super) fn is_for_guests(&self) -> bool {
        self.given || self.handover().is_some() || self.share().is_some()
    }

    /// What is remembered of a GPU that guests share.
    pub(super) fn share(&self) -> Option<&GpuShare> {
        self.memory.as_ref()?.share.as_ref()
    }

    /// What is remembered of a GPU that guests have.
    pub(super) fn handover(&self) -> Option<&GpuHandover> {
        self.memory.as_ref()?.handover.as_ref()
    }
}

/// Every layout that is asked for or remembered.
pub(super) fn wanted(scope: &Scope) -> Vec<Wanted> {
    let remembered = |id: &ResourceId| match scope.claims.get(id) {
        Some(Resource::GpuLayout(layout)) => layout.memory.as_deref().cloned(),
        _ => None,
    };
    let mut gone = Vec::new();
    for (id, claim) in scope.claims.iter().filter(|(id, _)| id.kind == Kind::GpuLayout) {
        let Resource::GpuLayout(layout) = claim else { continue };
        if !scope.desired.resources.contains_key(id) {
            gone.push(Wanted {
                id: id.clone(),
                gpu: layout.gpu.clone(),
                meant: Ok(layout.gpu.clone()),
                clients: layout.clients.clone(),
                memory: layout.memory.as_deref().cloned(),
                given: false,
                inherits: false,
                desired: false,
                known: true,
            });
        }
    }
    let mut all = Vec::new();
    let mut inherited_from: Vec<ResourceId> = Vec::new();
    for (id, wish) in &scope.desired.resources {
        let Resource::GpuLayout(layout) = &wish.resource else { continue };
        // A layout under a new name: a GPU that guests have is found by what the old one knows.
        let heir = |it: &&Wanted| {
            it.gpu == layout.gpu && it.is_for_guests() && !inherited_from.contains(&it.id)
        };
        let own = remembered(id);
        let old = gone.iter().find(heir).filter(|_| own.is_none());
        let inherited = old.and_then(|old| old.memory.clone());
        inherited_from.extend(old.map(|old| old.id.clone()));
        all.push(Wanted {
            id: id.clone(),
            gpu: layout.gpu.clone(),
            meant: Ok(layout.gpu.clone()),
            clients: layout.clients.clone(),
            inherits: inherited.is_some(),
            memory: own.or(inherited),
            given: matches!(layout.mode, GpuMode::Passthrough | GpuMode::Vgpu),
            desired: true,
            known: scope.known.contains(id),
        });
    }
    all.extend(gone);
    all
}

/// What is known of every layout in `wanted`; `files` are looked at where guests have or get a GPU.
pub(super) fn see(
    wanted: &[Wanted],
    scope: &Scope,
    nvml: Result<&trueup_nvml::Observation, &String>,
    files: Option<&Result<Files, String>>,
    Users { host, hidden }: Users<'_>,
) -> Observed {
    let co_owners = host.co_owners();
    let sight = Sight { nvml, files, host, hidden, co_owners };
    let mut observed = Observed::default();
    let found: Vec<Result<Found<'_>, String>> = wanted.iter().map(|it| sight.find(it)).collect();
    let same = |at: usize, other: usize| match (&found[at], &found[other]) {
        (Ok(one), Ok(two)) => at != other && one.pci() == two.pci(),
        _ => false,
    };
    for (at, it) in wanted.iter().enumerate() {
        let gpu = match &found[at] {
            Ok(gpu) => gpu,
            Err(why) => {
                if !sight.is_gone(it) {
                    observed.unreadable.insert(it.id.clone(), why.clone());
                }
                continue;
            }
        };
        let mut beside = wanted.iter().enumerate().filter(|(other, _)| same(at, *other));
        let rival = beside.clone().find(|(_, other)| other.desired);
        if let Some((_, rival)) = rival {
            // A layout that the commit gave another name is that of the new name.
            // What is known of a GPU that guests have is kept until that name has it too.
            if it.desired || rival.inherits {
                let why = format!("{} matches the same GPU, {}", rival.id, gpu.name());
                observed.unreadable.insert(it.id.clone(), why);
            }
            continue;
        }
        let heir = beside.find(|(_, other)| !other.desired).map(|(_, other)| other);
        let memory = it.memory.as_ref().or_else(|| heir?.memory.as_ref());
        match sight.state(gpu, memory, &it.clients) {
            Ok(state) => {
                let ours = scope.desired.environment.clone();
                let empty = state.as_ref().is_none_or(|state| state.instances.is_empty());
                let ownership = match (it.known, heir.is_some() || empty) {
                    (true, _) => Ownership::Unmarked,
                    (false, true) => Ownership::Ours { environment: ours },
                    (false, false) => Ownership::Foreign,
                };
                let left = sight.is_left(gpu, memory);
                if let Some(seen) = observation(it, gpu, state, memory, ownership, left) {
                    observed.resources.insert(it.id.clone(), seen);
                }
            }
            Err(why) => drop(observed.unreadable.insert(it.id.clone(), why)),
        }
    }
    observed
}

/// The observation of one layout; `None`: nothing of it is left.
fn observation(
    it: &Wanted,
    gpu: &Found<'_>,
    state: Option<GpuState>,
    memory: Option<&GpuMemory>,
    ownership: Ownership,
    left: bool,
) -> Option<Observation> {
    let stands = |memory: &GpuMemory| {
        let instances = state.iter().flat_map(|state| &state.instances);
        instances.into_iter().any(|instance| memory.knows(instance.placed))
    };
    // A client that was stopped is started again, also where nothing else is left to do.
    let asleep = |memory: &GpuMemory| {
        let runs = |unit| state.as_ref().is_none_or(|state| state.running.contains(unit));
        memory.stopped.iter().any(|unit| !runs(unit))
    };
    let rest = memory.is_some_and(|memory| stands(memory) || asleep(memory));
    if !it.desired && !left && !rest {
        return None;
    }
    let cut = state.as_ref().and_then(|state| state.mig).is_some_and(|mig| mig.current);
    let given = gpu.kernel.as_ref().is_some_and(GpuKernel::is_given);
    let share = memory.and_then(|memory| memory.share.as_ref());
    let shared = share.zip(gpu.kernel.as_ref());
    let layout = GpuLayout {
        gpu: it.gpu.clone(),
        mode: match (given, cut) {
            (true, _) => GpuMode::Passthrough,
            (false, true) => GpuMode::Mig,
            (false, false) if shared.is_some() => GpuMode::Vgpu,
            (false, false) => GpuMode::Whole,
        },
        vgpus: shared.map(|(share, kernel)| share.found(kernel)).unwrap_or_default(),
        mixed_sizes: false,
        partitions: state.as_ref().map(Partition::found).unwrap_or_default(),
        allow_reset: None,
        on_busy: None,
        clients: Vec::new(),
        takeover: None,
        guest: None,
        memory: memory.cloned().map(Box::new),
        state: state.map(Box::new),
        kernel: gpu.kernel.clone().map(Box::new),
    };
    Some(Observation {
        ownership,
        config: Resource::GpuLayout(Box::new(layout)),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    })
}

/// The one GPU that is meant.
pub(super) fn found<'g>(wanted: &GpuMatch, gpus: &'g [Gpu]) -> Result<&'g GpuRecord, String> {
    let is = |identity: &Identity| match wanted {
        GpuMatch::Uuid(uuid) => identity.uuid.eq_ignore_ascii_case(uuid),
        GpuMatch::PciAddress(address) => identity.pci == *address,
        GpuMatch::Serial(serial) => identity.serial.as_ref() == Some(serial),
        // One of them is chosen before it is looked for.
        GpuMatch::Product(_) => false,
    };
    let meant = |gpu: &&Gpu| match gpu {
        Gpu::Present(record) => is(&record.identity),
        Gpu::Failed(failed) => failed.identity.as_ref().is_some_and(is),
    };
    let mut all = gpus.iter().filter(meant);
    match (all.next(), all.next()) {
        (Some(Gpu::Present(record)), None) => Ok(record),
        (Some(Gpu::Failed(failed)), None) => Err(format!(
            "the GPU ({wanted}) does not answer: {}; look for Xid messages in the kernel's log, \
             reset it or reboot",
            failed.error
        )),
        (None, _) => Err(format!("no GPU has {wanted}; {}", listed(gpus))),
        (Some(_), Some(_)) => {
            Err(format!("{wanted} is that of several GPUs: match by UUID; {}", listed(gpus)))
        }
    }
}

/// The GPUs there are, for somebody who has to correct a spec.
fn listed(gpus: &[Gpu]) -> String {
    let one = |gpu: &Gpu| match gpu {
        Gpu::Present(record) => {
            let Identity { uuid, pci, serial } = &record.identity;
            let serial = serial.as_ref().map(|it| format!(", serial {it}")).unwrap_or_default();
            format!("{uuid} ({pci}{serial}, {})", record.name)
        }
        Gpu::Failed(failed) => match &failed.identity {
            Some(identity) => {
                format!("{} ({}, does not answer: {})", identity.uuid, identity.pci, failed.error)
            }
            None => format!("one that does not answer ({})", failed.error),
        },
    };
    match gpus {
        [] => "there are none".to_owned(),
        some => format!("there are {}", some.iter().map(one).collect::<Vec<_>>().join("; ")),
    }
}

/// One GPU as the planner needs it.
pub(super) fn state(
    record: &GpuRecord,
    seen: &trueup_nvml::Observation,
    memory: Option<&GpuMemory>,
    clients: &[GpuClient],
    host: &Host,
    hidden: &Hidden,
    co_owners: &[String],
) -> Result<GpuState, String> {
    let units = clients.iter().map(|client| &client.unit);
    let stopped = memory.into_iter().flat_map(|memory| &memory.stopped);
    let mut running: Vec<String> =
        units.chain(stopped).filter(|unit| host.runs(unit)).cloned().collect();
    running.sort();
    running.dedup();
    let instances = instances(record, memory, host, hidden);
    Ok(GpuState {
        uuid: record.identity.uuid.clone(),
        pci: record.identity.pci.clone(),
        serial: record.identity.serial.clone(),
        product: record.name.clone(),
        architecture: architecture(record.architecture),
        driver: seen.driver.clone(),
        mig: record.mig.map(|mig| GpuMigState { current: mig.current, pending: mig.pending }),
        hot: is_hot(record),
        board: board(record)?,
        devices: devices(record, &instances),
        instances,
        holders: whole_holders(record, host, hidden),
        running,
        co_owners: co_owners.to_vec(),
    })
}

/// UUIDs of MIG devices by the name of the partition; `instances` are those of `record`, in order.
pub(super) fn devices(record: &GpuRecord, instances: &[Instance]) -> BTreeMap<String, Vec<String>> {
    let named = record.instances.iter().zip(instances).filter_map(|(record, instance)| {
        let uuids = record.compute.iter().map(|it| it.uuid.clone()).collect();
        Some((instance.name.clone()?, uuids))
    });
    named.collect()
}

/// Hopper and later change their mode without a reset; a guest may not reset what it was given.
fn is_hot(record: &GpuRecord) -> bool {
    let hot = matches!(record.architecture, Architecture::Hopper | Architecture::Blackwell);
    hot && !matches!(
        record.virtualization,
        Some(Virtualization::Passthrough | Virtualization::VgpuGuest)
    )
}

pub(super) fn architecture(of: Architecture) -> String {
    match of {
        Architecture::Unknown(Some(number)) => format!("unknown architecture {number}"),
        Architecture::Unknown(None) => "unknown architecture".to_owned(),
        known => format!("{known:?}"),
    }
}

/// What the GPU can be cut into; `None`: the driver tells no profiles.
pub(super) fn board(record: &GpuRecord) -> Result<Option<Board>, String> {
    if record.profiles.is_empty() {
        return Ok(None);
    }
    let profiles = record.profiles.iter().map(|it| profile(it, &record.instances)).collect();
    let board = Board::new(profiles);
    board.map(Some).map_err(|error| format!("the driver's profiles make no sense: {error}"))
}

pub(super) fn profile(it: &trueup_nvml::Profile, instances: &[GpuInstance]) -> Profile {
    // The driver tells of compute instances only within an instance that is there.
    let example = instances.iter().find(|instance| instance.profile == it.id);
    let known = example.map(|example| example.compute_profiles.as_slice()).unwrap_or_default();
    Profile {
        id: ProfileId(it.id.0),
        index: ProfileIndex(it.index.0),
        name: it.name.clone().unwrap_or_default(),
        compute_slices: it.slices,
        memory_mib: it.memory_mib,
        max: it.max,
        engines: Engines {
            dec: it.engines.decoders,
            enc: it.engines.encoders,
            jpeg: it.engines.jpeg,
            ofa: it.engines.ofa,
        },
        placements: it
            .placements
            .iter()
            .map(|place| Placement { start: place.start, size: place.size })
            .collect(),
        compute: known
            .iter()
            .map(|compute| ComputeProfile {
                id: ComputeProfileId(compute.id.0),
                slices: compute.slices,
                max: compute.max,
                starts: compute.placements.iter().map(|place| place.start).collect(),
            })
            .collect(),
    }
}

/// What stands on the GPU, with names and holders.
pub(super) fn instances(
    record: &GpuRecord,
    memory: Option<&GpuMemory>,
    host: &Host,
    hidden: &Hidden,
) -> Vec<Instance> {
    let one = |it: &GpuInstance| {
        let placed = Placed { profile: ProfileId(it.profile.0), start: it.placement.start };
        let compute = it.compute.iter().map(|compute| ComputeInstance {
            id: ComputeInstanceId(compute.id.0),
            profile: ComputeProfileId(compute.profile.0),
            start: compute.placement.start,
            slices: compute.placement.size,
            holders: {
                let of = |process: &trueup_nvml::Process| {
                    process.gpu_instance == Some(it.id)
                        && process.compute_instance == Some(compute.id)
                };
                let hidden = hidden.of_compute(record, it.id, compute.id);
                holders(record, host, of).into_iter().chain(hidden).collect()
            },
        });
        let within = |process: &trueup_nvml::Process| {
            let known = it.compute.iter().any(|one| process.compute_instance == Some(one.id));
            process.gpu_instance == Some(it.id) && !known
        };
        Instance {
            id: InstanceId(it.id.0),
            placed,
            name: memory.and_then(|memory| memory.name(placed)).map(str::to_owned),
            compute: compute.collect(),
            holders: {
                let hidden = hidden.of_instance(record, it.id);
                holders(record, host, within).into_iter().chain(hidden).collect()
            },
        }
    };
    record.instances.iter().map(one).collect()
}

/// Who uses the GPU but no instance of it.
pub(super) fn whole_holders(record: &GpuRecord, host: &Host, hidden: &Hidden) -> Vec<Holder> {
    let listed = holders(record, host, |process| process.gpu_instance.is_none());
    listed.into_iter().chain(hidden.of_gpu(record)).collect()
}

/// Each process once, however many contexts it has.
fn holders(
    record: &GpuRecord,
    host: &Host,
    of: impl Fn(&trueup_nvml::Process) -> bool,
) -> Vec<Holder> {
    let mut pids: Vec<u32> = record.processes.iter().filter(|it| of(it)).map(|it| it.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter().map(|pid| host.holder(pid)).collect()
}
