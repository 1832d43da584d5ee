//! What giving a whole GPU to a guest needs: an IOMMU, a group of its own, vfio-pci, a reset.

use crate::preflight::catalogue::Check;
use crate::preflight::facts::{Facts, Gpu, Pci};
use crate::preflight::finding::Finding;

/// Class of PCI-to-PCI bridges, which stay with the host (PCI Code and ID Assignment).
const BRIDGE: u32 = 0x0604;
/// Drivers under which the host does not use a device.
const PARKED: &[&str] = &["vfio-pci", "pci-stub"];

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    let enabled = !facts.iommu.is_empty();
    found.push(iommu(facts));
    for (pci, gpu) in facts.gpus() {
        if gpu.boot_vga {
            let read = "boot_vga is 1: the primary display";
            found.push(Finding::warning(Check::BootVga, &pci.address, read));
        }
        if enabled {
            group(facts, pci, found);
        }
        functions(facts, pci, found);
        orphan(pci, gpu, found);
        reset(pci, gpu, found);
    }
    if enabled {
        modules(facts, found);
    }
    ids(facts, found);
}

fn iommu(facts: &Facts) -> Finding {
    if !facts.iommu.is_empty() {
        return Finding::ok(Check::IommuEnabled, "host", format!("{} groups", facts.iommu.len()));
    }
    let off = ["iommu=off", "intel_iommu=off", "amd_iommu=off"];
    let off = facts.cmdline.iter().find(|word| off.contains(&word.as_str()));
    let warn = |read: String| Finding::warning(Check::IommuEnabled, "host", read);
    let grub = |words: &str| {
        format!(
            "add {words} to GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub, and reboot"
        )
    };
    if let Some(word) = off {
        return warn(format!("no IOMMU groups; the kernel was told {word}"))
            .remedy(format!("take {word} out of GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub, and reboot"));
    }
    if facts.acpi_iommu == Some(false) {
        let read = "no IOMMU groups; the firmware describes no IOMMU (ACPI DMAR, IVRS)";
        let remedy = match facts.cpu.guest {
            true => "give this virtual machine an IOMMU (QEMU: -device intel-iommu)",
            false => "switch on VT-d, or AMD-Vi (IOMMU), in the firmware's setup",
        };
        return warn(read.to_owned()).remedy(remedy);
    }
    match facts.cpu.vendor.as_deref() {
        Some("GenuineIntel") => warn("no IOMMU groups; intel_iommu=on is not set".to_owned())
            .remedy(grub("intel_iommu=on iommu=pt")),
        Some("AuthenticAMD") => warn("no IOMMU groups".to_owned())
            .remedy("switch on IOMMU (AMD-Vi) in the firmware's setup; `iommu=pt` makes it cheap"),
        _ => warn("no IOMMU groups".to_owned()),
    }
}

/// Whether two functions are of one device.
fn same_slot(a: &str, b: &str) -> bool {
    let slot = |address: &str| address.rsplit_once('.').map(|(slot, _)| slot.to_owned());
    slot(a).is_some() && slot(a) == slot(b)
}

fn group(facts: &Facts, pci: &Pci, found: &mut Vec<Finding>) {
    let check = Check::IommuGroup;
    let Some(group) = pci.group else {
        let read = "it is in no IOMMU group, though there are some";
        found.push(Finding::warning(check, &pci.address, read).remedy(
            "update the firmware: it leaves this slot out of its IOMMU tables (ACPI DMAR, IVRS)",
        ));
        return;
    };
    let members = facts.iommu.get(&group).map(Vec::as_slice).unwrap_or_default();
    let others = members
        .iter()
        .filter_map(|address| facts.pci.iter().find(|other| other.address == *address));
    let in_use = others.filter(|other| {
        other.class >> 8 != BRIDGE
            && !same_slot(&other.address, &pci.address)
            && other.driver.as_deref().is_some_and(|driver| !PARKED.contains(&driver))
    });
    let named: Vec<_> = in_use
        .map(|other| format!("{} ({})", other.address, other.driver.as_deref().unwrap_or_default()))
        .collect();
    found.push(match named.is_empty() {
        true => Finding::ok(check, &pci.address, format!("group {group} is its own")),
        false => {
            let read = format!("group {group} also holds {}", named.join(", "));
            Finding::warning(check, &pci.address, read)
        }
    });
}

fn functions(facts: &Facts, pci: &Pci, found: &mut Vec<Finding>) {
    let slot = facts.pci.iter().filter(|other| {
        other.address != pci.address
            && other.physical.is_none()
            && same_slot(&other.address, &pci.address)
    });
    let shown: Vec<_> = slot
        .map(|other| {
            let kind = match other.class >> 8 {
                0x0403 => "audio",
                0x0c03 => "USB",
                0x0c80 => "USB-C",
                _ => "other",
            };
            format!("{} ({kind})", other.address)
        })
        .collect();
    if !shown.is_empty() {
        let read = format!("{} go with it", shown.join(", "));
        found.push(Finding::ok(Check::IommuFunctions, &pci.address, read));
    }
}

fn orphan(pci: &Pci, gpu: &Gpu, found: &mut Vec<Finding>) {
    if let (None, Some(asked)) = (&pci.driver, &gpu.driver_override) {
        let read = format!("driver_override asks for {asked}, and no driver has it");
        found.push(Finding::error(Check::VfioOrphan, &pci.address, read));
    }
}

fn reset(pci: &Pci, gpu: &Gpu, found: &mut Vec<Finding>) {
    let check = Check::VfioReset;
    let Some(ways) = &gpu.reset else { return };
    let shown = ways.join(" ");
    found.push(if ways.is_empty() {
        Finding::warning(check, &pci.address, "the kernel knows no way to reset it").remedy(
            "echo flr > /sys/bus/pci/devices/BDF/reset_method, or do without passthrough"
                .replace("BDF", &pci.address),
        )
    } else if ways.iter().any(|way| way == "flr" || way == "bus") {
        Finding::ok(check, &pci.address, shown)
    } else {
        let read = format!("{shown} alone: neither flr nor bus");
        Finding::note(check, &pci.address, read)
    });
}

fn modules(facts: &Facts, found: &mut Vec<Finding>) {
    let loaded = facts.modules.contains_key("vfio_pci");
    let file = facts.module_files.as_ref().map(|files| files.contains("vfio-pci"));
    let device = ["dev/vfio/vfio", "dev/iommu"].iter().any(|path| facts.marks.contains(*path));
    let check = Check::VfioModules;
    found.push(match (loaded, file) {
        (true, _) if !device => {
            let read = "vfio-pci is loaded, but there is neither /dev/vfio/vfio nor /dev/iommu";
            Finding::warning(check, "vfio-pci", read)
                .remedy("modprobe vfio, and see that /dev is devtmpfs")
        }
        (true, _) => Finding::ok(check, "vfio-pci", "loaded"),
        (false, Some(true)) => Finding::ok(check, "vfio-pci", "there, loaded when it is needed"),
        (false, Some(false)) => {
            Finding::warning(check, "vfio-pci", "the running kernel does not have it")
        }
        (false, None) => {
            Finding::note(check, "vfio-pci", "not loaded; the kernel's modules are not readable")
                .remedy("modprobe vfio-pci")
        }
    });
}

/// Boards that are given to vfio-pci by their model, where there is more than one of it.
fn ids(facts: &Facts, found: &mut Vec<Finding>) {
    let command = facts.cmdline.iter().filter_map(|word| {
        word.strip_prefix("vfio-pci.ids=").or_else(|| word.strip_prefix("vfio_pci.ids="))
    });
    let command = command.flat_map(|ids| ids.split(','));
    let mut asked: Vec<(String, String)> =
        command.map(|id| (id.to_owned(), "/proc/cmdline".to_owned())).collect();
    asked.extend(facts.modprobe.vfio_ids.iter().cloned());
    asked.sort();
    asked.dedup_by(|a, b| a.0 == b.0);
    for (id, source) in asked {
        let model = |pci: &Pci| format!("{:04x}:{:04x}", pci.vendor, pci.device);
        let boards: Vec<_> = facts
            .gpus()
            .filter(|(pci, _)| id.eq_ignore_ascii_case(&model(pci)))
            .map(|(pci, _)| pci.address.as_str())
            .collect();
        if boards.len() > 1 {
            let read = format!("{id} stands for {}", boards.join(", "));
            found.push(Finding::warning(Check::VfioIds, &id, read).from(source));
        }
    }
}
