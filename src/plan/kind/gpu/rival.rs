//! A virtual machine that takes by its address what a layout has: both are left alone.
//!
//! Where the layout names its GPU by the address as well, the spec is refused. By UUID, serial or
//! product it only shows once the GPUs are looked at.

use trueup_gpu_sysfs::PciAddress;

use crate::model::resource::{GpuLayout, HostDevice};
use crate::model::{Kind, Resource, ResourceId};
use crate::plan::SkipReason;
use crate::plan::facts::Facts;

/// Why a machine is left alone, where it takes one of these devices from a layout.
pub(in crate::plan::kind) fn layout_of(
    facts: &Facts<'_>,
    machine: &ResourceId,
    devices: &[HostDevice],
) -> Option<SkipReason> {
    let layouts = || facts.desired().resources.keys().filter(|id| id.kind == Kind::GpuLayout);
    devices.iter().find_map(|device| {
        let layout = layouts().find(|layout| has(facts, layout, device))?;
        Some(conflict(machine, device, layout))
    })
}

/// Why a layout is left alone, where a machine takes its GPU, or a part of it, by the address.
pub(super) fn machine_of(facts: &Facts<'_>, layout: &ResourceId) -> Option<SkipReason> {
    facts.desired().resources.iter().find_map(|(id, wish)| {
        let Resource::VirtualMachine(machine) = &wish.resource else { return None };
        let device = machine.host_devices.iter().find(|device| has(facts, layout, device))?;
        Some(conflict(id, device, layout))
    })
}

fn conflict(machine: &ResourceId, device: &HostDevice, layout: &ResourceId) -> SkipReason {
    let what = match device {
        HostDevice::Pci(address) => format!("PCI function {address}"),
        HostDevice::Mdev(uuid) => format!("mediated device {uuid}"),
    };
    SkipReason::Conflict(format!(
        "{machine} (/spec/hostDevices) takes {what}, which is of the GPU of {layout} (/spec/match): \
         ask for it with `gpus: [{layout}]` in {machine}, or remove the layout"
    ))
}

/// Whether a device is of the GPU of a layout, as far as that was seen.
fn has(facts: &Facts<'_>, layout: &ResourceId, device: &HostDevice) -> bool {
    let Some(seen) = facts.observed().resources.get(layout) else { return false };
    let Resource::GpuLayout(seen) = &seen.config else { return false };
    match device {
        HostDevice::Pci(address) => {
            address.parse().is_ok_and(|address: PciAddress| has_function(seen, address))
        }
        HostDevice::Mdev(_) => {
            let share = seen.memory.as_ref().and_then(|memory| memory.share.as_ref());
            share.is_some_and(|share| share.claims.iter().any(|it| it.device() == *device))
        }
    }
}

fn has_function(seen: &GpuLayout, address: PciAddress) -> bool {
    let known = seen.state.as_ref().and_then(|state| state.pci.parse().ok());
    let kernel = seen.kernel.as_deref();
    let gpu: Option<PciAddress> = kernel.map(|kernel| kernel.pci).or(known);
    let virtual_function = |kernel: &crate::model::resource::GpuKernel| {
        kernel.host.virtual_functions(kernel.pci).any(|it| it.address == address)
    };
    gpu.is_some_and(|gpu| gpu.same_slot(address)) || kernel.is_some_and(virtual_function)
}
