//! GPUs of NVIDIA: who has them, the driver, the display, and what holds them.

use crate::preflight::catalogue::Check;
use crate::preflight::facts::{Facts, Gpu, Pci};
use crate::preflight::finding::Finding;

/// Class of NVSwitches: a bridge of another kind (PCI Code and ID Assignment).
const NVSWITCH: u32 = 0x0680;

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    if facts.gpus().next().is_none() {
        let read = "no GPU of NVIDIA is on the PCI bus";
        found.push(Finding::ok(Check::GpuPresent, "host", read));
        return;
    }
    for (pci, gpu) in facts.gpus() {
        found.push(Finding::ok(Check::GpuPresent, &pci.address, shown(pci, gpu)));
        driver(facts, pci, gpu, found);
        display(facts, pci, found);
        sriov(facts, pci, gpu, found);
    }
    if facts.driven().next().is_some() {
        driven(facts, found);
    }
}

fn shown(pci: &Pci, gpu: &Gpu) -> String {
    let id = format!("{:04x}:{:04x}", pci.vendor, pci.device);
    let model = gpu.model.as_ref().map_or(id.clone(), |model| format!("{model} ({id})"));
    let driver = pci.driver.as_deref().map_or("no driver".to_owned(), |d| format!("driver {d}"));
    match pci.group {
        Some(group) => format!("{model}, {driver}, IOMMU group {group}"),
        None => format!("{model}, {driver}"),
    }
}

/// One finding for one cause: who has nouveau needs no word about a missing driver.
fn driver(facts: &Facts, pci: &Pci, gpu: &Gpu, found: &mut Vec<Finding>) {
    let subject = pci.address.as_str();
    match pci.driver.as_deref() {
        Some("nouveau") => {
            found.push(Finding::error(Check::GpuNouveau, subject, "nouveau has it"));
        }
        Some("nvidia") => {
            let version = facts.nvidia.module.as_deref().unwrap_or("of an unknown version");
            found.push(Finding::ok(Check::GpuDriver, subject, format!("nvidia {version}")));
        }
        Some(other) => {
            found.push(Finding::ok(Check::GpuDriver, subject, format!("{other} has it")));
        }
        // A driver was asked for by name: vfio.orphan tells of it.
        None if gpu.driver_override.is_some() => {}
        None => found.push(undriven(facts, subject)),
    }
}

fn undriven(facts: &Facts, subject: &str) -> Finding {
    let loaded = facts.modules.contains_key("nvidia") || facts.nvidia.module.is_some();
    let names = ["nvidia", "nvidia-current"];
    let installed = facts.module_files.as_ref();
    let installed = installed.is_some_and(|files| names.iter().any(|name| files.contains(*name)));
    if loaded {
        let read = "nvidia is loaded, and did not take this one";
        return Finding::error(Check::GpuDriver, subject, read).remedy(
            "dmesg | grep -i nvrm: the board may be too new for this driver, or be lost on the bus",
        );
    }
    if installed && facts.system.secure_boot == Some(true) {
        let read = "nvidia is installed and not loaded; Secure Boot is on";
        return Finding::error(Check::GpuSecureBoot, subject, read);
    }
    let finding = Finding::error(Check::GpuDriver, subject, "no driver has it");
    match installed {
        true => {
            finding.remedy("modprobe nvidia, and see `dmesg | grep -i nvidia` where it refuses")
        }
        false if facts.has_apt() => finding,
        false => finding.remedy("install NVIDIA's driver with this system's package manager"),
    }
}

fn display(facts: &Facts, pci: &Pci, found: &mut Vec<Finding>) {
    let outputs = facts.outputs.iter().filter(|out| out.card == pci.address && out.connected);
    let shown: Vec<_> = outputs
        .map(|out| {
            let state = if out.enabled { "connected, enabled" } else { "connected" };
            format!("{} {state}", out.connector)
        })
        .collect();
    if !shown.is_empty() {
        found.push(Finding::warning(Check::GpuDisplay, &pci.address, shown.join("; ")));
    }
}

fn sriov(facts: &Facts, pci: &Pci, gpu: &Gpu, found: &mut Vec<Finding>) {
    if gpu.vfs > 0 && !facts.is_vgpu_host() {
        let read = format!("{} virtual functions are up, and this is no host of vGPUs", gpu.vfs);
        found.push(Finding::warning(Check::GpuSriov, &pci.address, read));
    }
}

/// What matters once NVIDIA's driver has a GPU.
fn driven(facts: &Facts, found: &mut Vec<Finding>) {
    let blacklist = |word: &String| word.contains("blacklist") && word.contains("nouveau");
    let kept_off = facts.modprobe.blacklist.contains("nouveau")
        || facts.cmdline.iter().any(blacklist)
        || facts.cmdline.iter().any(|word| word == "nouveau.modeset=0");
    if !kept_off {
        found.push(Finding::note(Check::GpuNouveauBlacklist, "host", "nouveau is not kept off"));
    }
    library(facts, found);
    let socket = facts.marks.contains("run/nvidia-persistenced/socket");
    found.push(match socket || facts.runs("nvidia-persistenced") {
        true => Finding::ok(Check::GpuPersistence, "host", "nvidia-persistenced runs"),
        false => {
            Finding::warning(Check::GpuPersistence, "host", "nvidia-persistenced does not run")
        }
    });
    let switches =
        |pci: &&crate::preflight::facts::Pci| pci.vendor == 0x10de && pci.class >> 8 == NVSWITCH;
    let switches = facts.pci.iter().filter(switches).count();
    if switches > 0 {
        let read = |runs: &str| format!("{switches} NVSwitches; nv-fabricmanager {runs}");
        found.push(match facts.runs("nv-fabricmanager") {
            true => Finding::ok(Check::GpuFabric, "host", read("runs")),
            false => Finding::error(Check::GpuFabric, "host", read("does not run")),
        });
    }
    found.push(match facts.nvidia.mig_config {
        true => Finding::ok(Check::MigCapabilities, "host", "the driver offers it"),
        false => Finding::warning(Check::MigCapabilities, "host", "the driver does not offer it"),
    });
    if facts.cpu.guest {
        let product = facts.system.product.as_deref().unwrap_or("an unknown machine");
        let read = format!("this is a virtual machine ({product})");
        found.push(Finding::note(Check::MigGuest, "host", read));
    }
    let uses = facts.modules.get("nvidia_drm").copied().unwrap_or_default();
    if uses > 0 {
        let read = format!("nvidia_drm is used {uses} times");
        found.push(Finding::warning(Check::GpuDrm, "nvidia_drm", read));
    }
}

fn library(facts: &Facts, found: &mut Vec<Finding>) {
    let check = Check::GpuLibrary;
    let Some((path, version)) = &facts.nvidia.library else {
        let remedy =
            facts.install("libnvidia-ml1", "NVIDIA's user-space driver (libnvidia-ml.so.1)");
        let read = "libnvidia-ml.so.1 is not installed";
        found.push(Finding::error(check, "libnvidia-ml.so.1", read).remedy(remedy));
        return;
    };
    found.push(match (version, &facts.nvidia.module) {
        (Some(library), Some(module)) if library != module => {
            let read = format!("{path} is {library}, the loaded module {module}");
            Finding::error(check, "libnvidia-ml.so.1", read)
        }
        (Some(library), _) => Finding::ok(check, "libnvidia-ml.so.1", format!("{path}, {library}")),
        (None, _) => Finding::ok(check, "libnvidia-ml.so.1", path),
    });
}
