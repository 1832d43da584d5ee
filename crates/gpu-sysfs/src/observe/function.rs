//! PCI functions: NVIDIA's, and those that have to go where NVIDIA's go.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::vgpu::{self, MdevType, VendorFunction};
use super::{Eye, NVIDIA};
use crate::address::PciAddress;

/// How far virtual functions are turned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sriov {
    /// How many are there now. Not the number of vGPUs: the vendor's tool turns all of them on.
    pub enabled: u32,
    /// How many there can be.
    pub total: u32,
}

/// One PCI function, as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Where it is.
    pub address: PciAddress,
    /// The vendor's id; `0x10de` is NVIDIA.
    pub vendor_id: u32,
    /// The model's id.
    pub device_id: u32,
    /// The class, 24 bits: `0x030200` is a 3D controller.
    pub class: u32,
    /// The driver that has it.
    pub driver: Option<String>,
    /// The only driver that may have it, where one was set.
    pub driver_override: Option<String>,
    /// Whether the firmware's console is on it; none for what is no display.
    pub boot_vga: Option<bool>,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// Every function in its group, itself included.
    pub group_members: BTreeSet<PciAddress>,
    /// Ways to reset it, best first, as the kernel orders them; none on kernels before 5.15.
    pub reset_methods: Option<Vec<String>>,
    /// Its virtual functions, where it can have them.
    pub sriov: Option<Sriov>,
    /// The function it is a virtual function of.
    pub physical: Option<PciAddress>,
    /// Outputs of its card with a monitor on it.
    pub connected: Vec<String>,
    /// Types of mediated devices that can be made on it.
    pub mdev_types: Vec<MdevType>,
    /// What the vendor's VFIO driver says of it, for virtual functions that can be vGPUs.
    pub vendor: Option<VendorFunction>,
}

impl Function {
    /// Whether it is NVIDIA's.
    #[must_use]
    pub fn is_nvidia(&self) -> bool {
        self.vendor_id == NVIDIA
    }

    /// Whether it is a GPU of NVIDIA: a display controller of any kind.
    #[must_use]
    pub fn is_gpu(&self) -> bool {
        self.is_nvidia() && self.class >> 16 == 0x03
    }

    /// Whether it is a bridge between PCI buses, which stays with the host in every group.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.class >> 8 == 0x0604
    }

    /// The model as `vfio-pci.ids=` writes it.
    #[must_use]
    pub fn model(&self) -> String {
        format!("{:04x}:{:04x}", self.vendor_id, self.device_id)
    }
}

/// All functions of interest.
pub(super) fn all(eye: &Eye<'_>) -> BTreeMap<PciAddress, Function> {
    let names = eye.names("/sys/bus/pci/devices");
    let there: Vec<PciAddress> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let is_nvidia = |at: &PciAddress| eye.number(&at.file("vendor")) == Some(NVIDIA);
    let ours: Vec<PciAddress> = there.iter().copied().filter(is_nvidia).collect();
    let mut wanted: BTreeSet<PciAddress> = ours.iter().copied().collect();
    for at in &ours {
        wanted.extend(members(eye, *at));
        wanted.extend(there.iter().filter(|other| other.same_slot(*at)));
    }
    let outputs = connected(eye);
    let mut found = BTreeMap::new();
    for at in wanted {
        if let Some(mut function) = one(eye, at) {
            function.connected = outputs.get(&at).cloned().unwrap_or_default();
            found.insert(at, function);
        }
    }
    found
}

/// One function; none where it went away.
fn one(eye: &Eye<'_>, address: PciAddress) -> Option<Function> {
    let text = |name: &str| eye.text(&address.file(name));
    let number = |name: &str| eye.number(&address.file(name));
    let total = number("sriov_totalvfs");
    let enabled = number("sriov_numvfs");
    let group = eye.link_name(&address.file("iommu_group"));
    let physical = eye.link_name(&address.file("physfn")).and_then(|name| name.parse().ok());
    let methods = text("reset_method");
    Some(Function {
        address,
        vendor_id: number("vendor")?,
        device_id: number("device")?,
        class: number("class")?,
        driver: eye.link_name(&address.file("driver")),
        driver_override: text("driver_override").and_then(|text| set(&text)),
        boot_vga: number("boot_vga").map(|value| value != 0),
        group: group.and_then(|name| name.parse().ok()),
        group_members: members(eye, address),
        reset_methods: methods.map(|text| text.split_whitespace().map(ToOwned::to_owned).collect()),
        sriov: total.map(|total| Sriov { enabled: enabled.unwrap_or(0), total }),
        physical,
        connected: Vec::new(),
        mdev_types: vgpu::mdev_types(eye, address),
        vendor: vgpu::vendor(eye, address),
    })
}

/// `driver_override` reads `(null)` where none is set.
pub(crate) fn set(text: &str) -> Option<String> {
    (!text.is_empty() && text != "(null)").then(|| text.to_owned())
}

fn members(eye: &Eye<'_>, address: PciAddress) -> BTreeSet<PciAddress> {
    let names = eye.names(&address.file("iommu_group/devices"));
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// Outputs that have a monitor, by the function of their card: `card1-DP-1` belongs to `card1`.
fn connected(eye: &Eye<'_>) -> BTreeMap<PciAddress, Vec<String>> {
    let mut found: BTreeMap<PciAddress, Vec<String>> = BTreeMap::new();
    for name in eye.names("/sys/class/drm") {
        let Some((card, output)) = name.split_once('-') else { continue };
        if eye.text(&format!("/sys/class/drm/{name}/status")).as_deref() != Some("connected") {
            continue;
        }
        let device = eye.link_name(&format!("/sys/class/drm/{card}/device"));
        if let Some(address) = device.and_then(|device| device.parse().ok()) {
            found.entry(address).or_default().push(output.to_owned());
        }
    }
    found
}
