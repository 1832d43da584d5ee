//! What a step would do: the effect of every action on an observation, and on the log's memory.
//!
//! It is the machine of the tests and of the deterministic world; it never refuses, so a plan in a
//! wrong order is for [`super::check`] to find.

mod gpu;

use std::collections::BTreeMap;

use super::{Action, Known, KnownResource, LiveChange, Plan, Step};
use crate::model::resource::{
    Accelerator, Disk, Image, Network, Nic, NicSource, Power, Seed, VirtualMachine,
};
use crate::model::{Kind, Name, Observation, Observed, Ownership, Resource, ResourceId, Stale};
use crate::spec::Desired;

/// Does to `observed` what performing `step` would do to the machine.
pub fn apply(observed: &mut Observed, step: &Step, environment: &Name) {
    let id = &step.resource;
    match &step.action {
        Action::PoolDefine { pool, uuid } => {
            let config = Resource::StoragePool(pool.clone());
            put(observed, id, Ownership::Unmarked, config, Some(*uuid)).active = true;
        }
        Action::NetworkDefine { network, uuid } => {
            define_network(observed, id, environment, network, *uuid);
        }
        Action::NetworkUpdateLive { network } => change(observed, id, |seen| {
            if let Some(Resource::Network(live)) = &mut seen.live {
                live.addresses.clone_from(&network.addresses);
                live.dns.clone_from(&network.dns);
            }
        }),
        Action::PoolStart => change(observed, id, |seen| seen.active = true),
        Action::NetworkStart { reconnect } => start_network(observed, id, reconnect),
        Action::NetworkStop => stop_network(observed, id),
        Action::PoolUndefine | Action::NetworkUndefine | Action::VmUndefine => {
            observed.resources.remove(id);
        }
        Action::ImageCreate { image } => create_image(observed, id, image),
        Action::SeedCreate { seed } => create_seed(observed, id, seed),
        Action::DiskCreate { disk } => create_disk(observed, id, disk),
        Action::ImageDelete { path }
        | Action::SeedDelete { path }
        | Action::DiskDelete { path, .. } => delete(observed, path),
        Action::DiskGrow { size, .. } => change(observed, id, |seen| {
            if let Resource::Disk(disk) = &mut seen.config {
                disk.size = disk.size.max(*size);
            }
        }),
        Action::VmDefine { vm, uuid } => define_vm(observed, id, environment, vm, *uuid),
        Action::VmUpdateLive { changes } => change(observed, id, |seen| {
            let Some(Resource::VirtualMachine(live)) = &mut seen.live else {
                return;
            };
            for change in changes {
                update(live, change, &mut seen.unplugged);
            }
        }),
        Action::VmStart => change(observed, id, start_vm),
        Action::VmPause => change(observed, id, |seen| set_power(seen, Power::Paused)),
        Action::VmStop { .. } => change(observed, id, |seen| {
            seen.active = false;
            seen.live = None;
            seen.unplugged.clear();
            set_power(seen, Power::Off);
        }),
        Action::VmSnapshot { .. }
        | Action::VmForget { .. }
        | Action::VmAwaitReady { .. }
        | Action::BackupRun { .. }
        | Action::BackupVerify { .. }
        | Action::BackupDrill { .. }
        | Action::BackupForget { .. } => {}
        // What a cluster becomes only its controller knows.
        Action::ClusterAdopt { .. }
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
        | Action::KubernetesAccess { .. } => {}
        // Nor what a release's objects become anybody but its server.
        Action::Release { .. } => {}
        Action::BackupClear { .. } => {
            observed.leftovers.remove(id);
        }
        Action::BackupOpen { backup } => {
            let config = Resource::Backup(backup.clone());
            put(observed, id, Ownership::Unmarked, config, None).active = true;
        }
        Action::GpuStopClients { .. }
        | Action::GpuMigMode { .. }
        | Action::GpuDestroyCompute { .. }
        | Action::GpuDestroyInstance { .. }
        | Action::GpuCreateInstance { .. }
        | Action::GpuCreateCompute { .. }
        | Action::GpuHandover { .. }
        | Action::GpuSettle { .. } => gpu::apply(observed, step),
    }
}

/// Does to the log's memory what a started step does: from here on its resource is ours.
pub fn remember_started(known: &mut Known, step: &Step, desired: &Desired) {
    let Some(wish) = desired.resources.get(&step.resource) else {
        let record = known.resources.get_mut(&step.resource);
        if let (Some(Resource::GpuLayout(layout)), Some(change)) =
            (record.and_then(|it| it.claimed.as_mut()), step.action.gpu_change())
        {
            layout.memory = Some(Box::new(change.memory.clone()));
        }
        return;
    };
    let record = known.resources.entry(step.resource.clone()).or_default();
    // What a leftover file is removed for says nothing about the wish.
    if !step.action.removes() {
        record.claimed = Some(wish.resource.clone());
        if let (Some(Resource::GpuLayout(layout)), Some(change)) =
            (&mut record.claimed, step.action.gpu_change())
        {
            layout.memory = Some(Box::new(change.memory.clone()));
        }
    }
    record.prevent_destroy = wish.lifecycle.prevent_destroy;
    record.orphan = wish.lifecycle.orphan;
    record.depends_on.clone_from(&wish.depends_on);
}

/// Does to the log's memory what the end of a pass does: wishes of which nothing is left to do are
/// fulfilled, and what is neither wished, observed nor still to be removed is forgotten.
///
/// `next` is a plan made after the pass.
pub fn remember_settled(known: &mut Known, next: &Plan, desired: &Desired, observed: &Observed) {
    let open: std::collections::BTreeSet<&ResourceId> = next
        .steps
        .iter()
        .map(|step| &step.resource)
        .chain(next.skipped.iter().map(|skipped| &skipped.resource))
        .collect();
    for (id, wish) in &desired.resources {
        if !open.contains(id) && observed.resources.contains_key(id) {
            let record = known.resources.entry(id.clone()).or_default();
            let mut claimed = wish.resource.clone();
            if let (Resource::GpuLayout(layout), Some(Resource::GpuLayout(before))) =
                (&mut claimed, &record.claimed)
            {
                layout.memory = before.memory.clone();
            }
            *record = KnownResource {
                unready: false,
                applied: Some(wish.digest),
                claimed: Some(claimed),
                prevent_destroy: wish.lifecycle.prevent_destroy,
                orphan: wish.lifecycle.orphan,
                depends_on: wish.depends_on.clone(),
            };
        }
    }
    known.resources.retain(|id, _| {
        desired.resources.contains_key(id)
            || observed.resources.contains_key(id)
            || open.contains(id)
    });
}

/// Does to the log's memory what a removal that succeeded does.
pub fn remember_removed(known: &mut Known, step: &Step, desired: &Desired) {
    if step.action.removes() && !desired.resources.contains_key(&step.resource) {
        let files = known.resources.get(&step.resource).and_then(|it| it.claimed.as_ref());
        // An image has several files and is gone with the one it is named after.
        let last = match (&step.action, files) {
            (Action::ImageDelete { path }, Some(Resource::Image(image))) => *path == image.path,
            _ => true,
        };
        if last {
            known.resources.remove(&step.resource);
        }
    }
}

/// Changes an observation, if there is one.
fn change(observed: &mut Observed, id: &ResourceId, how: impl FnOnce(&mut Observation)) {
    if let Some(seen) = observed.resources.get_mut(id) {
        how(seen);
    }
}

/// Adds or overwrites an observation, keeping what runs.
fn put<'a>(
    observed: &'a mut Observed,
    id: &ResourceId,
    ownership: Ownership,
    config: Resource,
    uuid: Option<uuid::Uuid>,
) -> &'a mut Observation {
    let seen = observed.resources.entry(id.clone()).or_insert_with(|| Observation {
        ownership: ownership.clone(),
        config: config.clone(),
        live: None,
        active: false,
        uuid,
        unplugged: Vec::new(),
    });
    seen.ownership = ownership;
    seen.config = config;
    seen
}

fn define_network(
    observed: &mut Observed,
    id: &ResourceId,
    environment: &Name,
    network: &Network,
    uuid: uuid::Uuid,
) {
    let mut network = network.clone();
    if let Some(Resource::Network(old)) = observed.resources.get(id).map(|seen| &seen.config) {
        network.bridge = network.bridge.or_else(|| old.bridge.clone());
        network.dns = network.dns.or_else(|| old.dns.clone());
        network.domain = network.domain.or_else(|| old.domain.clone());
        network.mtu = network.mtu.or(old.mtu);
    }
    let mark = Ownership::Ours { environment: environment.clone() };
    let autostart = network.autostart;
    let seen = put(observed, id, mark, Resource::Network(network), Some(uuid));
    if let Some(Resource::Network(live)) = &mut seen.live {
        live.autostart = autostart;
    }
}

fn start_network(observed: &mut Observed, id: &ResourceId, reconnect: &[Name]) {
    change(observed, id, |seen| {
        seen.active = true;
        seen.live = Some(seen.config.clone());
    });
    for name in reconnect {
        let vm = ResourceId::new(Kind::VirtualMachine, name.clone());
        let network = id.name.as_str();
        change(observed, &vm, |seen| {
            let live = seen.live.as_ref().unwrap_or(&seen.config);
            if let Resource::VirtualMachine(live) = live {
                let healed = |mac: &String| {
                    live.nics.iter().any(|nic| nic.mac == *mac && plugged_into(nic, network))
                };
                seen.unplugged.retain(|mac| !healed(mac));
            }
        });
    }
}

fn stop_network(observed: &mut Observed, id: &ResourceId) {
    change(observed, id, |seen| {
        seen.active = false;
        seen.live = None;
    });
    for seen in observed.resources.values_mut().filter(|seen| seen.active) {
        let live = seen.live.as_ref().unwrap_or(&seen.config);
        if let Resource::VirtualMachine(live) = live {
            let lost = live.nics.iter().filter(|nic| plugged_into(nic, id.name.as_str()));
            let lost: Vec<String> = lost.map(|nic| nic.mac.clone()).collect();
            seen.unplugged.extend(lost);
            seen.unplugged.sort();
            seen.unplugged.dedup();
        }
    }
}

fn plugged_into(nic: &Nic, network: &str) -> bool {
    matches!(&nic.source, NicSource::Network(name) if name == network)
}

/// Files of the resource under another path stay behind as stale.
fn create_image(observed: &mut Observed, id: &ResourceId, image: &Image) {
    let old = match observed.resources.get(id).map(|seen| &seen.config) {
        Some(Resource::Image(old)) if old.path != image.path => {
            let boot = old.boot_files.iter().flat_map(|it| [it.kernel.clone(), it.initrd.clone()]);
            std::iter::once(old.path.clone()).chain(boot).collect()
        }
        _ => Vec::new(),
    };
    leave_behind(observed, id, old);
    let mut image = image.clone();
    observed.stale.retain(|stale| stale.path != image.path);
    image.origin = None;
    put(observed, id, Ownership::Unmarked, Resource::Image(image), None).active = true;
}

fn create_seed(observed: &mut Observed, id: &ResourceId, seed: &Seed) {
    let old = match observed.resources.get(id).map(|seen| &seen.config) {
        Some(Resource::Seed(old)) if old.path != seed.path => vec![old.path.clone()],
        _ => Vec::new(),
    };
    leave_behind(observed, id, old);
    let seed = Seed { meta_data: None, user_data: None, network_config: None, ..seed.clone() };
    observed.stale.retain(|stale| stale.path != seed.path);
    put(observed, id, Ownership::Unmarked, Resource::Seed(seed), None).active = true;
}

fn leave_behind(observed: &mut Observed, id: &ResourceId, paths: Vec<String>) {
    observed.stale.extend(paths.into_iter().map(|path| Stale { resource: id.clone(), path }));
    observed.stale.sort();
    observed.stale.dedup();
}

/// A disk that is already there is left as it is, as a provider must.
fn create_disk(observed: &mut Observed, id: &ResourceId, disk: &Disk) {
    if !observed.resources.contains_key(id) {
        let disk = Disk { on_image_change: None, way_back: None, ..disk.clone() };
        put(observed, id, Ownership::Unmarked, Resource::Disk(disk), None).active = true;
    }
}

fn delete(observed: &mut Observed, path: &str) {
    observed.stale.retain(|stale| stale.path != path);
    observed.resources.retain(|_, seen| match &mut seen.config {
        Resource::Disk(disk) => disk.path != path,
        Resource::Seed(seed) => seed.path != path,
        Resource::Image(image) => {
            let boot = image.boot_files.as_ref();
            if boot.is_some_and(|boot| boot.kernel == path || boot.initrd == path) {
                image.boot_files = None;
            }
            image.path != path
        }
        Resource::StoragePool(_)
        | Resource::Network(_)
        | Resource::GpuLayout(_)
        | Resource::Backup(_)
        | Resource::Cluster(_)
        | Resource::Release(_)
        | Resource::VirtualMachine(_) => true,
    });
}

fn define_vm(
    observed: &mut Observed,
    id: &ResourceId,
    environment: &Name,
    vm: &VirtualMachine,
    uuid: uuid::Uuid,
) {
    let mut vm = vm.clone();
    vm.power = Power::Off;
    if let Some(Resource::VirtualMachine(old)) = observed.resources.get(id).map(|it| &it.config) {
        vm.accelerator = vm.accelerator.or(old.accelerator);
        vm.machine = vm.machine.or_else(|| old.machine.clone());
        vm.cpus.mode = vm.cpus.mode.or_else(|| old.cpus.mode.clone());
        vm.cpus.topology = vm.cpus.topology.or(old.cpus.topology);
        vm.console_log = vm.console_log.or_else(|| old.console_log.clone());
        vm.power = old.power;
    }
    vm.accelerator = vm.accelerator.or(Some(Accelerator::Tcg));
    (vm.stop, vm.readiness, vm.snapshot, vm.way_back) = (None, None, None, None);
    // As libvirt tells it: GPUs are devices like others.
    vm.host_devices = vm.devices().into_iter().cloned().collect();
    vm.gpus.clear();
    let mark = Ownership::Ours { environment: environment.clone() };
    put(observed, id, mark, Resource::VirtualMachine(Box::new(vm)), Some(uuid));
}

fn start_vm(seen: &mut Observation) {
    if !seen.active {
        seen.active = true;
        seen.live = Some(seen.config.clone());
    }
    set_power(seen, Power::Running);
}

fn set_power(seen: &mut Observation, power: Power) {
    for form in [Some(&mut seen.config), seen.live.as_mut()].into_iter().flatten() {
        if let Resource::VirtualMachine(vm) = form {
            vm.power = power;
        }
    }
}

fn update(live: &mut VirtualMachine, change: &LiveChange, unplugged: &mut Vec<String>) {
    let mut nics: BTreeMap<String, Nic> =
        live.nics.drain(..).map(|nic| (nic.mac.clone(), nic)).collect();
    match change {
        LiveChange::Memory(current) => live.memory.current = *current,
        LiveChange::Vcpus(count) => live.cpus.count = *count,
        LiveChange::AttachDisk(disk) => {
            live.disks.push(disk.clone());
            live.disks.sort_by(|a, b| a.target.cmp(&b.target));
        }
        LiveChange::DetachDisk(target) => live.disks.retain(|disk| disk.target != *target),
        LiveChange::AttachNic(nic) | LiveChange::ReplugNic(nic) => {
            unplugged.retain(|mac| *mac != nic.mac);
            nics.insert(nic.mac.clone(), nic.clone());
        }
        LiveChange::DetachNic(mac) => {
            unplugged.retain(|lost| lost != mac);
            nics.remove(mac);
        }
        LiveChange::Autostart(on) => live.autostart = *on,
    }
    live.nics = nics.into_values().collect();
}
