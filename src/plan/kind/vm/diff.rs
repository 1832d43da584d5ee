//! What differs between two forms of a domain, and which of it a running guest can take.

use super::super::super::diff::{Diff, pairs};
use super::super::super::{Disruption, LiveChange};
use crate::model::resource::{
    Cpus, DiskAttachment, DiskBus, DiskDevice, Memory, Nic, NicSource, VirtualMachine,
};

/// The fields that differ. On a stopped domain nothing disturbs.
///
/// Power, stop, readiness and snapshot are no part of the configuration and are not compared.
pub(super) fn diff(from: &VirtualMachine, to: &VirtualMachine, active: bool) -> Diff {
    let restart = if active { Disruption::Restart } else { Disruption::None };
    let mut diff = Diff::default();
    let it = &mut diff;
    it.owned(format_args!("/accelerator"), &from.accelerator, &to.accelerator, restart);
    it.owned(format_args!("/machine"), &from.machine, &to.machine, restart);
    it.field(format_args!("/firmware"), &from.firmware, &to.firmware, restart);
    it.field(format_args!("/boot"), &from.boot, &to.boot, restart);
    cpus(it, &from.cpus, &to.cpus, active, restart);
    memory(it, &from.memory, &to.memory, active, restart);
    if from.disks != to.disks {
        for (target, (from, to)) in pairs(&from.disks, &to.disks, |disk| disk.target.as_str()) {
            disk(it, target, from, to, active);
        }
    }
    if from.nics != to.nics {
        for (mac, (from, to)) in pairs(&from.nics, &to.nics, |nic| nic.mac.as_str()) {
            nic(it, mac, from, to, active);
        }
    }
    it.field(format_args!("/hostDevices"), &from.devices(), &to.devices(), restart);
    it.owned(format_args!("/consoleLog"), &from.console_log, &to.console_log, restart);
    it.field(format_args!("/guestAgent"), &from.guest_agent, &to.guest_agent, restart);
    it.field(format_args!("/autostart"), &from.autostart, &to.autostart, Disruption::None);
    diff
}

/// Processors: more of them up to the running maximum can be plugged in; none can be pulled out
/// without the guest's help.
fn cpus(diff: &mut Diff, from: &Cpus, to: &Cpus, active: bool, restart: Disruption) {
    if from.count != to.count {
        let live = active && to.count > from.count && to.count <= from.max;
        let disruption = if live { Disruption::Live } else { restart };
        diff.field(format_args!("/cpus/count"), &from.count, &to.count, disruption);
        if live {
            diff.live.push(LiveChange::Vcpus(to.count));
        }
    }
    diff.field(format_args!("/cpus/max"), &from.max, &to.max, restart);
    diff.owned(format_args!("/cpus/mode"), &from.mode, &to.mode, restart);
    diff.owned(format_args!("/cpus/topology"), &from.topology, &to.topology, restart);
    diff.field(format_args!("/cpus/pinning"), &from.pinning, &to.pinning, restart);
}

/// Memory: the balloon moves up to the running maximum.
fn memory(diff: &mut Diff, from: &Memory, to: &Memory, active: bool, restart: Disruption) {
    if from.current != to.current {
        let live = active && to.current <= from.max;
        let disruption = if live { Disruption::Live } else { restart };
        diff.field(format_args!("/memory/current"), &from.current, &to.current, disruption);
        if live {
            diff.live.push(LiveChange::Memory(to.current));
        }
    }
    diff.field(format_args!("/memory/max"), &from.max, &to.max, restart);
    diff.optional(format_args!("/memory/hugepages"), &from.hugepages, &to.hugepages, restart);
}

/// A disk: virtio disks come and go while the guest runs; nothing of an attachment changes in place.
fn disk(
    diff: &mut Diff,
    target: &str,
    from: Option<&DiskAttachment>,
    to: Option<&DiskAttachment>,
    active: bool,
) {
    let pluggable =
        |disk: &DiskAttachment| disk.bus == DiskBus::Virtio && disk.device == DiskDevice::Disk;
    let restart = if active { Disruption::Restart } else { Disruption::None };
    match (from, to) {
        (None, Some(new)) if active && pluggable(new) => {
            diff.push(format_args!("/disks/{target}"), from, to, Disruption::Live);
            diff.live.push(LiveChange::AttachDisk(new.clone()));
        }
        (Some(old), None) if active && pluggable(old) => {
            diff.push(format_args!("/disks/{target}"), from, to, Disruption::Live);
            diff.live.push(LiveChange::DetachDisk(target.to_owned()));
        }
        (Some(old), Some(new)) => {
            let at = format!("/disks/{target}");
            diff.field(format_args!("{at}/bus"), &old.bus, &new.bus, restart);
            diff.field(format_args!("{at}/device"), &old.device, &new.device, restart);
            diff.optional(format_args!("{at}/path"), &old.path, &new.path, restart);
            diff.field(format_args!("{at}/format"), &old.format, &new.format, restart);
            diff.field(format_args!("{at}/readOnly"), &old.read_only, &new.read_only, restart);
            diff.optional(
                format_args!("{at}/bootOrder"),
                &old.boot_order,
                &new.boot_order,
                restart,
            );
        }
        (None, Some(_)) | (Some(_), None) => {
            diff.push(format_args!("/disks/{target}"), from, to, restart);
        }
        (None, None) => {}
    }
}

/// An interface: virtio interfaces come and go while the guest runs, and move between networks.
fn nic(diff: &mut Diff, mac: &str, from: Option<&Nic>, to: Option<&Nic>, active: bool) {
    let pluggable = |nic: &Nic| nic.model == "virtio";
    let restart = if active { Disruption::Restart } else { Disruption::None };
    let at = format!("/nics/{mac}");
    match (from, to) {
        (None, Some(new)) if active && pluggable(new) => {
            diff.push(format_args!("{at}"), from, to, Disruption::Live);
            diff.live.push(LiveChange::AttachNic(new.clone()));
        }
        (Some(old), None) if active && pluggable(old) => {
            diff.push(format_args!("{at}"), from, to, Disruption::Live);
            diff.live.push(LiveChange::DetachNic(mac.to_owned()));
        }
        (Some(old), Some(new)) => {
            if old.source != new.source {
                let live = active && switchable(&old.source) && switchable(&new.source);
                let disruption = if live { Disruption::Live } else { restart };
                diff.field(format_args!("{at}/source"), &old.source, &new.source, disruption);
                if live {
                    diff.live.push(LiveChange::ReplugNic(new.clone()));
                }
            }
            diff.field(format_args!("{at}/model"), &old.model, &new.model, restart);
            diff.optional(
                format_args!("{at}/bootOrder"),
                &old.boot_order,
                &new.boot_order,
                restart,
            );
        }
        (None, Some(_)) | (Some(_), None) => {
            diff.push(format_args!("{at}"), from, to, restart);
        }
        (None, None) => {}
    }
}

/// Whether a running interface can be moved to or from it: both ends are bridges below.
fn switchable(source: &NicSource) -> bool {
    matches!(source, NicSource::Network(_) | NicSource::Bridge(_))
}
