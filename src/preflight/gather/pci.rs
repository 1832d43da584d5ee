//! PCI functions, IOMMU groups and display outputs, from `/sys`.

use std::collections::BTreeMap;

use crate::preflight::facts::{Gpu, Output, Pci};
use crate::preflight::root::Root;

const DEVICES: &str = "sys/bus/pci/devices";
/// NVIDIA's number, of the PCI-SIG.
const NVIDIA: u16 = 0x10de;
/// The base class of display controllers (PCI Code and ID Assignment).
const DISPLAY: u32 = 0x03;

pub(super) fn functions(root: &Root) -> Vec<Pci> {
    let names = root.names(DEVICES);
    let mut all: Vec<Pci> = names.iter().map(|address| function(root, address)).collect();
    let gpus: Vec<usize> = (0..all.len())
        .filter(|at| {
            let pci = &all[*at];
            pci.vendor == NVIDIA && pci.class >> 16 == DISPLAY && pci.physical.is_none()
        })
        .collect();
    for at in gpus {
        let address = all[at].address.clone();
        let virtuals = all.iter().filter(|pci| pci.physical.as_deref() == Some(&*address));
        let virtuals: Vec<String> = virtuals.map(|pci| pci.address.clone()).collect();
        all[at].gpu = Some(gpu(root, &address, &virtuals));
    }
    all
}

fn function(root: &Root, address: &str) -> Pci {
    let at = |name: &str| format!("{DEVICES}/{address}/{name}");
    let number = |name: &str| {
        let text = root.text(&at(name))?;
        u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    };
    let short = |name: &str| number(name).and_then(|n| u16::try_from(n).ok()).unwrap_or_default();
    Pci {
        address: address.to_owned(),
        class: number("class").unwrap_or_default(),
        vendor: short("vendor"),
        device: short("device"),
        driver: root.link_name(&at("driver")),
        group: root.link_name(&at("iommu_group")).and_then(|name| name.parse().ok()),
        physical: root.link_name(&at("physfn")),
        gpu: None,
    }
}

fn gpu(root: &Root, address: &str, virtuals: &[String]) -> Gpu {
    let at = |name: &str| format!("{DEVICES}/{address}/{name}");
    let count = |name: &str| root.text(&at(name)).and_then(|text| text.parse().ok()).unwrap_or(0);
    let typed = |vf: &&String| root.exists(&format!("{DEVICES}/{vf}/nvidia/current_vgpu_type"));
    let takes_mdev = |address: &str| root.exists(&format!("sys/class/mdev_bus/{address}"));
    let said = root.text(&at("driver_override")).filter(|text| !text.is_empty());
    let information = root
        .lines(&format!("proc/driver/nvidia/gpus/{address}/information"), |line| {
            line.starts_with("Model:") || line.starts_with("Device Minor:")
        });
    let value = |key: &str| {
        let line = information.as_deref()?.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_start_matches(':').trim().to_owned())
    };
    Gpu {
        boot_vga: root.text(&at("boot_vga")).as_deref() == Some("1"),
        driver_override: said.filter(|text| text != "(null)"),
        reset: root
            .text(&at("reset_method"))
            .map(|text| text.split_whitespace().map(str::to_owned).collect()),
        vfs_total: count("sriov_totalvfs"),
        vfs: count("sriov_numvfs"),
        typed_vfs: u32::try_from(virtuals.iter().filter(typed).count()).unwrap_or(u32::MAX),
        mdev: takes_mdev(address) || virtuals.iter().any(|vf| takes_mdev(vf)),
        model: value("Model"),
        minor: value("Device Minor").and_then(|text| text.parse().ok()),
    }
}

pub(super) fn iommu_groups(root: &Root) -> BTreeMap<u32, Vec<String>> {
    let groups = root.names("sys/kernel/iommu_groups").into_iter();
    let group = |name: String| {
        let members = root.names(&format!("sys/kernel/iommu_groups/{name}/devices"));
        Some((name.parse().ok()?, members))
    };
    groups.filter_map(group).collect()
}

/// Whether the firmware describes an IOMMU: Intel's DMAR or AMD's IVRS.
pub(super) fn acpi_iommu(root: &Root) -> Option<bool> {
    let tables = "sys/firmware/acpi/tables";
    let names = root.scan(tables).ok().filter(|names| !names.is_empty())?;
    root.exists(&format!("{tables}/FACP"));
    let found = ["DMAR", "IVRS"].into_iter().filter(|name| names.iter().any(|one| one == name));
    Some(found.filter(|name| root.exists(&format!("{tables}/{name}"))).count() > 0)
}

/// The outputs of all cards: `card0-HDMI-A-1` beside `card0`.
pub(super) fn outputs(root: &Root) -> Vec<Output> {
    let mut found = Vec::new();
    for name in root.scan("sys/class/drm").unwrap_or_default() {
        let Some((card, connector)) = name.split_once('-') else { continue };
        let at = |file: &str| format!("sys/class/drm/{name}/{file}");
        let Some(status) = root.text(&at("status")) else { continue };
        let Some(address) = root.link_name(&format!("sys/class/drm/{card}/device")) else {
            continue;
        };
        found.push(Output {
            connector: connector.to_owned(),
            card: address,
            connected: status == "connected",
            enabled: root.text(&at("enabled")).as_deref() == Some("enabled"),
        });
    }
    found
}
