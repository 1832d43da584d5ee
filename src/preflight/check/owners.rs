//! Others who lay out GPUs, and those who hold them.

use crate::preflight::catalogue::Check;
use crate::preflight::facts::{Facts, Process};
use crate::preflight::finding::Finding;

/// Somebody who lays out GPUs, or hands them out.
struct Owner {
    name: &'static str,
    units: &'static [&'static str],
    processes: &'static [&'static str],
    /// Files and folders of its own; `gather` looks for them.
    marks: &'static [&'static str],
    /// Whether it changes layouts itself, rather than only handing out what there is.
    lays_out: bool,
    off: &'static str,
}

/// Those known, by what their own packages and charts put on a host.
const OWNERS: &[Owner] = &[
    Owner {
        name: "mig-manager",
        units: &["nvidia-mig-manager.service"],
        processes: &["nvidia-mig-manager", "nvidia-mig-parted"],
        marks: &[],
        lays_out: true,
        off: "systemctl disable --now nvidia-mig-manager (in a cluster: label the node nvidia.com/mig.config-)",
    },
    Owner {
        name: "NVIDIA DRA driver",
        units: &[],
        processes: &["gpu-kubelet-plugin"],
        marks: &[
            "var/lib/kubelet/plugins/gpu.nvidia.com",
            "var/lib/kubelet/plugins_registry/gpu.nvidia.com-reg.sock",
        ],
        lays_out: true,
        off: "take the DRA driver off this node, or leave the GPUs to it and out of the GpuLayout",
    },
    Owner {
        name: "vgpu-device-manager",
        units: &[],
        processes: &["nvidia-vgpu-dm", "nvidia-k8s-vgpu-dm"],
        marks: &[],
        lays_out: true,
        off: "take the vGPU device manager off this node: label it nvidia.com/gpu.deploy.vgpu-device-manager=false",
    },
    Owner {
        name: "HAMi",
        units: &[],
        processes: &["vGPUmonitor"],
        marks: &["usr/local/vgpu/libvgpu.so"],
        lays_out: false,
        off: "take HAMi's device plugin off this node, or leave the GPUs to it",
    },
    Owner {
        name: "NVIDIA device plugin",
        units: &[],
        processes: &["nvidia-device-plugin"],
        marks: &["var/lib/kubelet/device-plugins/nvidia-gpu.sock"],
        lays_out: false,
        off: "drain the node before a layout changes, and restart the plugin after: name its unit in `clients`",
    },
];

/// Clients of the driver that hold instances without a process that NVML lists.
const CLIENTS: &[&str] = &["nv-hostengine", "dcgm-exporter", "nvsm_core", "nvsm-core"];

/// Others whose names matter to a check.
const OTHERS: &[&str] = &[
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-persistenced",
    "nv-fabricmanager",
    "nvidia-vgpu-mgr",
    "chronyd",
    "ntpd",
    "ntpsec-ntpd",
    "ptp4l",
    "phc2sys",
];

/// Those who have GPUs open by their office, so that nothing is told of their holding them.
const OFFICIALS: &[&str] = &["nvidia-persistenced", "nv-fabricmanager", "nvidia-vgpu-mgr"];

/// The names of processes that a check asks for.
pub(in crate::preflight) fn known_processes() -> impl Iterator<Item = &'static str> {
    let owners = OWNERS.iter().flat_map(|owner| owner.processes);
    owners.chain(CLIENTS).chain(OTHERS).copied()
}

/// The files and folders by which an owner is known.
#[cfg(test)]
pub(super) fn marks() -> impl Iterator<Item = &'static str> {
    OWNERS.iter().flat_map(|owner| owner.marks).copied()
}

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    found.extend(OWNERS.iter().filter_map(|owner| co_owner(facts, owner)));
    let any = |process: &Process, names: &[&str]| names.iter().any(|name| process.is(name));
    let mps = ["nvidia-cuda-mps-control", "nvidia-cuda-mps-server"];
    for process in &facts.processes {
        let shown = process.shown();
        if any(process, CLIENTS) {
            found.push(Finding::note(Check::GpuClients, &process.comm, shown));
        } else if any(process, &mps) {
            found.push(Finding::warning(Check::GpuMps, &process.comm, shown));
        } else if !process.holds.is_empty() && !any(process, OFFICIALS) {
            let holds: Vec<_> = process.holds.iter().map(String::as_str).collect();
            let read = format!("{} has {} open", process.comm, holds.join(", "));
            let subject = process.unit.clone().unwrap_or_else(|| format!("pid {}", process.pid));
            let source = format!("/proc/{}/fd", process.pid);
            found.push(Finding::note(Check::GpuHolders, subject, read).from(source));
        }
    }
}

/// Who is at work is worse than who is only installed.
fn co_owner(facts: &Facts, owner: &Owner) -> Option<Finding> {
    let process =
        facts.processes.iter().find(|process| owner.processes.iter().any(|name| process.is(name)));
    let unit = owner.units.iter().find_map(|name| Some((name, facts.units.get(*name)?)));
    let mark = owner.marks.iter().find(|mark| facts.marks.contains(*mark));
    let (active, read, source) = match (process, unit, mark) {
        (Some(process), ..) => {
            (true, format!("{} runs", process.shown()), format!("/proc/{}/comm", process.pid))
        }
        (None, Some((name, unit)), _) => {
            let state = if unit.enabled { "enabled" } else { "installed, not enabled" };
            (unit.enabled, format!("{name} is {state}"), unit.path.clone())
        }
        (None, None, Some(mark)) => (true, format!("/{mark} is there"), format!("/{mark}")),
        (None, None, None) => return None,
    };
    let finding = match active && owner.lays_out {
        true => Finding::error(Check::GpuCoOwner, owner.name, read),
        false => Finding::warning(Check::GpuCoOwner, owner.name, read),
    };
    Some(finding.from(source).remedy(owner.off))
}
