//! What the kernel says about the GPUs of a host, all at once.
//!
//! Only reads. One function that cannot be read never hides the others: what failed is told by path
//! in [`Host::unread`], and planning refuses to touch a function of which something is unread.

mod function;
mod vgpu;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use function::{Function, Sriov};
pub(crate) use vgpu::kinds;
pub use vgpu::{Backend, MdevType, Mediated, VendorFunction, VgpuKind};

use crate::address::PciAddress;
use crate::root::Root;

/// A file or folder that is there and could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The path.
    pub path: String,
    /// What the system said.
    pub why: String,
}

/// The host as far as GPUs go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// NVIDIA's functions, their neighbours in the slot and the members of their IOMMU groups.
    pub functions: BTreeMap<PciAddress, Function>,
    /// The mediated devices there are, of whatever parent.
    pub mediated: BTreeMap<Uuid, Mediated>,
    /// GPU instances by the driver's capability files: MIG cuts are then in place.
    pub instances: BTreeMap<PciAddress, BTreeSet<u32>>,
    /// How many IOMMU groups there are; 0: there is no IOMMU, or it is off.
    pub groups: usize,
    /// PCI drivers that are loaded.
    pub drivers: BTreeSet<String>,
    /// `vfio-pci.ids=` of the kernel command line, as `10de:20b0`: every board of that model.
    pub vfio_ids: BTreeSet<String>,
    /// Whether the vendor's tool that turns virtual functions on is installed.
    pub sriov_manage: bool,
    /// The boot's id; what the driver was told before a reboot is gone.
    pub boot: String,
    /// What could not be read.
    pub unread: Vec<Unread>,
}

/// NVIDIA's PCI vendor id.
pub(crate) const NVIDIA: u32 = 0x10de;
/// Where the driver package puts the tool that turns virtual functions on.
pub(crate) const SRIOV_MANAGE: &str = "/usr/lib/nvidia/sriov-manage";

/// Looks at everything.
#[must_use]
pub fn observe(root: &Root) -> Host {
    let eye = Eye { root, unread: RefCell::default() };
    let functions = function::all(&eye);
    let mut host = Host {
        mediated: vgpu::mediated(&eye),
        instances: instances(&eye),
        groups: eye.names("/sys/kernel/iommu_groups").len(),
        drivers: eye.names("/sys/bus/pci/drivers").into_iter().collect(),
        vfio_ids: vfio_ids(&eye.text("/proc/cmdline").unwrap_or_default()),
        sriov_manage: eye.exists(SRIOV_MANAGE),
        boot: eye.text("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
        functions,
        unread: Vec::new(),
    };
    host.unread = eye.unread.into_inner();
    host
}

impl Host {
    /// The GPUs: physical functions that are display or 3D controllers.
    pub fn gpus(&self) -> impl Iterator<Item = &Function> {
        self.functions.values().filter(|it| it.is_gpu() && it.physical.is_none())
    }

    /// The functions of the board: the GPU and its audio, USB and other parts, without bridges and
    /// virtual functions.
    pub fn board(&self, gpu: PciAddress) -> impl Iterator<Item = &Function> {
        self.functions
            .values()
            .filter(move |it| it.address.same_slot(gpu) && !it.is_bridge() && it.physical.is_none())
    }

    /// The virtual functions of a GPU.
    pub fn virtual_functions(&self, gpu: PciAddress) -> impl Iterator<Item = &Function> {
        self.functions.values().filter(move |it| it.physical == Some(gpu))
    }

    /// The mediated devices of a GPU and of its virtual functions.
    pub fn mediated_of(&self, gpu: PciAddress) -> impl Iterator<Item = &Mediated> {
        self.mediated.values().filter(move |it| {
            it.parent == gpu
                || self.functions.get(&it.parent).is_some_and(|vf| vf.physical == Some(gpu))
        })
    }

    /// How vGPUs are made on a GPU.
    #[must_use]
    pub fn backend(&self, gpu: PciAddress) -> Backend {
        let Some(function) = self.functions.get(&gpu) else { return Backend::None };
        if self.virtual_functions(gpu).any(|it| it.vendor.is_some()) {
            return Backend::Vendor;
        }
        let parents = || self.virtual_functions(gpu).chain([function]);
        if parents().any(|it| !it.mdev_types.is_empty()) {
            return Backend::Mdev;
        }
        match function.sriov {
            Some(Sriov { enabled: 0, total: 1.. }) if self.sriov_manage => Backend::Down,
            _ => Backend::None,
        }
    }
}

/// GPU instances that the driver has capability files for, under
/// `/proc/driver/nvidia/capabilities/gpuN/mig/giX`; N is the minor number of `/dev/nvidiaN`.
fn instances(eye: &Eye<'_>) -> BTreeMap<PciAddress, BTreeSet<u32>> {
    let minors = minors(eye);
    let mut found: BTreeMap<PciAddress, BTreeSet<u32>> = BTreeMap::new();
    for (minor, address) in minors {
        let folder = format!("/proc/driver/nvidia/capabilities/gpu{minor}/mig");
        let ids =
            eye.names(&folder).into_iter().filter_map(|name| name.strip_prefix("gi")?.parse().ok());
        let ids: BTreeSet<u32> = ids.collect();
        if !ids.is_empty() {
            found.insert(address, ids);
        }
    }
    found
}

/// The GPU of each `/dev/nvidiaN`, from the driver's `gpus/BDF/information`.
pub(crate) fn minors(eye: &Eye<'_>) -> BTreeMap<u32, PciAddress> {
    let mut minors = BTreeMap::new();
    for name in eye.names("/proc/driver/nvidia/gpus") {
        let Ok(address) = name.parse::<PciAddress>() else { continue };
        let text = eye.text(&format!("/proc/driver/nvidia/gpus/{name}/information"));
        let text = text.unwrap_or_default();
        let minor = text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "Device Minor").then(|| value.trim().parse().ok()).flatten()
        });
        if let Some(minor) = minor {
            minors.insert(minor, address);
        }
    }
    minors
}

fn vfio_ids(cmdline: &str) -> BTreeSet<String> {
    let values = cmdline.split_whitespace().filter_map(|word| {
        // The kernel takes a dash for an underscore in parameter names.
        word.strip_prefix("vfio-pci.ids=").or_else(|| word.strip_prefix("vfio_pci.ids="))
    });
    let ids = values.flat_map(|value| value.trim_matches('"').split(','));
    ids.filter(|id| !id.is_empty()).map(str::to_ascii_lowercase).collect()
}

/// A reader that goes on where something cannot be read, and remembers what.
pub(crate) struct Eye<'a> {
    root: &'a Root,
    unread: RefCell<Vec<Unread>>,
}

impl<'a> Eye<'a> {
    pub(crate) fn new(root: &'a Root) -> Self {
        Self { root, unread: RefCell::default() }
    }

    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.noted(path, self.root.text(path))
    }

    pub(crate) fn number(&self, path: &str) -> Option<u32> {
        let text = self.text(path)?;
        match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    }

    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        self.noted(path, self.root.names(path)).unwrap_or_default()
    }

    pub(crate) fn link(&self, path: &str) -> Option<String> {
        self.noted(path, self.root.link(path))
    }

    pub(crate) fn link_name(&self, path: &str) -> Option<String> {
        self.noted(path, self.root.link_name(path))
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.noted(path, self.root.exists(path).map(Some)).unwrap_or_default()
    }

    fn noted<T>(&self, path: &str, result: Result<Option<T>, Errno>) -> Option<T> {
        result.unwrap_or_else(|error| {
            let why = std::io::Error::from(error).to_string();
            self.unread.borrow_mut().push(Unread { path: path.to_owned(), why });
            None
        })
    }
}
