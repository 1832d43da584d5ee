//! Domains: parse, and merge a desired virtual machine into an existing domain's XML.
//!
//! Runtime-assigned values (ids, aliases, `vnetN`, backing chains, labels) never reach a parsed
//! [`VirtualMachine`], so they can never be a difference.

mod device;
mod merge;
mod parse;
#[cfg(test)]
mod tests;

pub use device::{DeviceKey, detour_xml, device_xml, replugged_xml};
pub(super) use merge::shape;
pub use merge::{Defaults, merge};
pub(super) use parse::disks_of;
pub use parse::{ParsedDomain, machine_alias, parse};

use xmltree::Element;

use super::XmlError;
use super::tree::{self, Ext, new};
use crate::model::resource::{CpuMode, DiskDevice, HostDevice, VirtualMachine};

/// The channel name of the QEMU guest agent.
const AGENT_CHANNEL: &str = "org.qemu.guest_agent.0";

/// `observed` with everything taken out that `desired` does not own, for comparing the two.
///
/// Power, stop, readiness and snapshot settings are not part of a domain's XML and are taken from
/// `desired`.
pub fn owned(desired: &VirtualMachine, observed: &VirtualMachine) -> VirtualMachine {
    let mut seen = observed.clone();
    if desired.accelerator.is_none() {
        seen.accelerator = None;
    }
    if desired.machine.is_none() {
        seen.machine = None;
    }
    if desired.cpus.mode.is_none() {
        seen.cpus.mode = None;
    }
    if desired.cpus.topology.is_none() {
        seen.cpus.topology = None;
    }
    if desired.console_log.is_none() {
        seen.console_log = None;
    }
    for disk in &mut seen.disks {
        let wanted = desired.disks.iter().find(|d| d.target == disk.target);
        // An empty drive has no file that could have a format.
        if let (None, DiskDevice::Cdrom, Some(wanted)) = (&disk.path, disk.device, wanted) {
            disk.format = wanted.format;
        }
    }
    let given = |device: &HostDevice| {
        let gpus = desired.gpus.iter().flat_map(|gpu| &gpu.devices);
        !desired.host_devices.contains(device) && gpus.into_iter().any(|it| it == device)
    };
    if desired.devices().iter().all(|device| seen.host_devices.contains(device)) {
        seen.host_devices.retain(|device| !given(device));
        seen.gpus.clone_from(&desired.gpus);
    }
    seen.autostart = desired.autostart;
    seen.power = desired.power;
    seen.stop = desired.stop;
    seen.readiness.clone_from(&desired.readiness);
    seen.snapshot = desired.snapshot;
    seen.way_back.clone_from(&desired.way_back);
    seen
}

/// The XML of a snapshot kept inside the disks that are written to, and nowhere else.
///
/// # Errors
/// It cannot be written.
pub fn snapshot_xml(name: &str, vm: &VirtualMachine) -> Result<String, XmlError> {
    let mut disks = Element::new("disks");
    for disk in &vm.disks {
        let kept = if disk.read_only { "no" } else { "internal" };
        disks.add(new("disk", &[("name", &disk.target), ("snapshot", kept)]));
    }
    let root = Element::new("domainsnapshot")
        .with(Element::new("name").with_text(name))
        .with(Element::new("description").with_text("taken by trueup before a disruptive change"))
        .with(disks);
    tree::write(&root, "domainsnapshot")
}

/// What runs, told in the words of what was configured where the two only look different.
///
/// A running domain shows what libvirt made of its configuration: a host model as a named one, and
/// the memory that the guest's balloon has reached so far instead of what it was told.
pub fn settle(live: &mut ParsedDomain, config: &ParsedDomain) {
    if let Some(told) = live.mark.as_ref().and_then(|mark| mark.memory) {
        live.vm.memory.current = told;
    }
    let expanded = matches!(live.vm.cpus.mode, Some(CpuMode::Custom(_)));
    if config.vm.cpus.mode == Some(CpuMode::HostModel) && expanded {
        live.vm.cpus.mode = Some(CpuMode::HostModel);
    }
    live.vm.autostart = config.vm.autostart;
}
