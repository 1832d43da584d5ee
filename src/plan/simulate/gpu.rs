//! What a step does to a GPU that was observed.

use trueup_gpu_sysfs::{Action as Does, Mediated, PciAddress};
use trueup_mig::{ComputeInstance, ComputeInstanceId, Instance, InstanceId, Step as Mig};

use super::super::{Action, Reason, Step};
use crate::model::resource::{GpuKernel, GpuLayout, GpuMigState, GpuMode, GpuState, Partition};
use crate::model::{Observed, Ownership, Resource};

/// Does to `observed` what performing `step` would do to its GPU.
pub(super) fn apply(observed: &mut Observed, step: &Step) {
    let Some(seen) = observed.resources.get_mut(&step.resource) else { return };
    let Resource::GpuLayout(layout) = &mut seen.config else { return };
    seen.ownership = Ownership::Unmarked;
    if let (Some((_, does)), Some(kernel)) = (step.action.handover(), &mut layout.kernel) {
        write(kernel, does);
        vgpu(kernel, does);
    }
    if let Some(change) = step.action.gpu_change() {
        let mut memory = change.memory.clone();
        if matches!(step.action, Action::GpuSettle { .. }) && step.reason != Reason::Gone {
            memory.close();
        }
        layout.memory = Some(Box::new(memory));
    }
    let share = layout.memory.as_ref().and_then(|memory| memory.share.as_ref());
    if let (Some(share), Some(kernel)) = (share, &layout.kernel) {
        layout.vgpus = share.found(kernel);
        layout.mode = GpuMode::Vgpu;
    } else if layout.mode == GpuMode::Vgpu {
        layout.vgpus.clear();
        layout.mode = GpuMode::Whole;
    }
    if layout.kernel.as_ref().is_some_and(|kernel| kernel.is_given()) {
        layout.mode = GpuMode::Passthrough;
        // NVML does not see what the host's driver does not have.
        layout.state = None;
    } else if layout.mode == GpuMode::Passthrough {
        layout.mode = GpuMode::Whole;
    }
    let Some(state) = &mut layout.state else {
        let home = layout
            .memory
            .as_ref()
            .is_some_and(|memory| memory.handover.is_none() && memory.share.is_none());
        if home && step.reason == Reason::Gone {
            observed.resources.remove(&step.resource);
        }
        return;
    };
    match &step.action {
        Action::GpuStopClients { change } => {
            let units = &change.memory.stopped;
            state.running.retain(|unit| !units.contains(unit));
            let stays = |holder: &trueup_mig::Holder| {
                holder.unit.as_ref().is_none_or(|unit| !units.contains(unit))
            };
            state.holders.retain(stays);
            for instance in &mut state.instances {
                instance.holders.retain(stays);
                instance.compute.iter_mut().for_each(|it| it.holders.retain(stays));
            }
        }
        Action::GpuMigMode { on, .. } => {
            state.mig = Some(GpuMigState { current: *on, pending: *on });
        }
        Action::GpuSettle { start, .. } => {
            state.running.extend(start.iter().cloned());
            state.running.sort();
            state.running.dedup();
        }
        action => {
            if let Some(does) = action.mig_step() {
                cut(state, &does);
            }
        }
    }
    if let Some(change) = step.action.gpu_change() {
        for instance in &mut state.instances {
            instance.name = change.memory.name(instance.placed).map(str::to_owned);
        }
    }
    let empty = state.instances.is_empty();
    tell(layout);
    if empty && step.reason == Reason::Gone {
        observed.resources.remove(&step.resource);
    }
}

/// Does what the kernel would: a function loses its driver, its choice of one changes, or it is
/// looked for one.
fn write(kernel: &mut GpuKernel, does: &trueup_gpu_sysfs::Step) {
    let Does::Write { path, value } = &does.action else { return };
    let named = |text: &str| text.parse::<PciAddress>().ok();
    let at = named(value).or_else(|| path.split('/').find_map(named));
    let Some(function) = at.and_then(|at| kernel.host.functions.get_mut(&at)) else { return };
    if path.ends_with("/unbind") {
        function.driver = None;
    } else if path.ends_with("/driver_override") {
        function.driver_override = Some(value.clone()).filter(|value| !value.is_empty());
    } else if path.ends_with("/drivers_probe") && function.driver.is_none() {
        let found = if function.is_gpu() { "nvidia" } else { "snd_hda_intel" };
        let chosen = function.driver_override.clone();
        function.driver = Some(chosen.unwrap_or_else(|| found.to_owned()));
    }
}

/// What a write does to vGPUs, with room for whatever is asked for.
fn vgpu(kernel: &mut GpuKernel, step: &trueup_gpu_sysfs::Step) {
    let Does::Write { path, value } = &step.action else { return };
    let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match words.as_slice() {
        ["sys", "class", "mdev_bus", parent, _, kind, "create"] => {
            let (Ok(uuid), Ok(parent)) = (value.parse(), parent.parse()) else { return };
            let kind = (*kind).to_owned();
            kernel.host.mediated.insert(uuid, Mediated { uuid, parent, kind });
        }
        ["sys", "bus", "mdev", "devices", uuid, "remove"] => {
            if let Ok(uuid) = uuid.parse() {
                kernel.host.mediated.remove(&uuid);
            }
        }
        [.., function, "nvidia", "current_vgpu_type"] => {
            let at = function.parse().ok();
            let found = at.and_then(|at| kernel.host.functions.get_mut(&at));
            if let Some(vendor) = found.and_then(|it| it.vendor.as_mut()) {
                vendor.current = value.parse().ok().filter(|kind| *kind != 0);
            }
        }
        _ => {}
    }
}

/// Does one step of a way.
fn cut(state: &mut GpuState, does: &Mig) {
    let placed = does.instance();
    let found = state.instances.iter_mut().find(|it| it.placed == placed);
    match *does {
        Mig::CreateInstance { .. } => {
            let id = state.instances.iter().map(|it| it.id.0 + 1).max().unwrap_or(1);
            let (compute, holders) = (Vec::new(), Vec::new());
            let id = InstanceId(id);
            state.instances.push(Instance { id, placed, name: None, compute, holders });
            state.instances.sort_by_key(|it| it.placed);
        }
        Mig::DestroyInstance { .. } => state.instances.retain(|it| it.placed != placed),
        Mig::DestroyCompute { profile, start, .. } => {
            let Some(instance) = found else { return };
            let at = instance.compute.iter().position(|it| {
                it.profile == profile && start.is_none_or(|start| start == it.start)
            });
            if let Some(at) = at {
                instance.compute.remove(at);
            }
        }
        Mig::CreateCompute { profile, start, .. } => {
            let Some(instance) = found else { return };
            let known = state.board.as_ref().and_then(|board| board.profile(placed.profile));
            let known = known.and_then(|it| it.compute.iter().find(|it| it.id == profile));
            let slices = known.map_or(1, |it| it.slices);
            // Where the driver would put it: behind what is there.
            let free = instance.compute.iter().map(|it| it.start + it.slices).max().unwrap_or(0);
            let id = instance.compute.iter().map(|it| it.id.0 + 1).max().unwrap_or(0);
            instance.compute.push(ComputeInstance {
                id: ComputeInstanceId(id),
                profile,
                start: start.unwrap_or(free),
                slices,
                holders: Vec::new(),
            });
        }
    }
}

/// Says in the canonical form what stands on the GPU.
fn tell(layout: &mut GpuLayout) {
    let Some(state) = &layout.state else { return };
    let cut = state.mig.is_some_and(|mig| mig.current);
    let shared = layout.memory.as_ref().is_some_and(|memory| memory.share.is_some());
    layout.mode = match (shared, cut) {
        (true, _) => GpuMode::Vgpu,
        (false, true) => GpuMode::Mig,
        (false, false) => GpuMode::Whole,
    };
    layout.partitions = Partition::found(state);
}
