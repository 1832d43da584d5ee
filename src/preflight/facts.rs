//! What was read of a host, as plain data: all that checks know.

use std::collections::{BTreeMap, BTreeSet};

use super::probe::Probes;
use super::root::Unread;

/// What was read of a host.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub(super) system: System,
    pub(super) cpu: Cpu,
    pub(super) memory: Memory,
    /// The kernel's command line, by words.
    pub(super) cmdline: Vec<String>,
    /// Loaded modules and how often each is used.
    pub(super) modules: BTreeMap<String, u32>,
    /// Modules of interest that the running kernel has as files, or built in; none where that cannot
    /// be read.
    pub(super) module_files: Option<BTreeSet<String>>,
    pub(super) modprobe: Modprobe,
    /// IOMMU groups with their members' addresses.
    pub(super) iommu: BTreeMap<u32, Vec<String>>,
    /// Whether the firmware describes an IOMMU (ACPI's DMAR or IVRS); none where ACPI is not seen.
    pub(super) acpi_iommu: Option<bool>,
    pub(super) pci: Vec<Pci>,
    pub(super) outputs: Vec<Output>,
    pub(super) nvidia: Nvidia,
    pub(super) processes: Vec<Process>,
    /// Units of systemd that matter here, by name.
    pub(super) units: BTreeMap<String, Unit>,
    /// Files whose being there is all they say, by path.
    pub(super) marks: BTreeSet<&'static str>,
    /// Installed packages that matter here, with their versions (Debian's database).
    pub(super) packages: BTreeMap<String, String>,
    /// Programs by name, with where they are.
    pub(super) programs: BTreeMap<&'static str, String>,
    pub(super) accounts: Accounts,
    pub(super) probes: Probes,
    pub(super) unread: Vec<Unread>,
}

/// The system itself.
#[derive(Debug, Clone, Default)]
pub(super) struct System {
    /// `PRETTY_NAME` of os-release(5).
    pub(super) name: Option<String>,
    /// `ID` and `ID_LIKE`.
    pub(super) ids: Vec<String>,
    pub(super) kernel: Option<String>,
    /// The machine's model, as its firmware says.
    pub(super) product: Option<String>,
    /// UEFI Secure Boot; none without UEFI.
    pub(super) secure_boot: Option<bool>,
}

/// The processor.
#[derive(Debug, Clone, Default)]
pub(super) struct Cpu {
    /// Whether its flags are there to be read (they are on x86).
    pub(super) has_flags: bool,
    /// `vmx` (Intel) or `svm` (AMD).
    pub(super) virtualisation: Option<&'static str>,
    pub(super) vendor: Option<String>,
    /// Whether a hypervisor is below.
    pub(super) guest: bool,
}

/// Memory, in bytes but for counts of pages.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub(super) total: Option<u64>,
    pub(super) available: Option<u64>,
    pub(super) huge_total: u64,
    pub(super) huge_free: u64,
    pub(super) huge_size: u64,
    /// The chosen word of `transparent_hugepage/enabled`.
    pub(super) transparent: Option<String>,
}

/// What modprobe.d(5) says.
#[derive(Debug, Clone, Default)]
pub(super) struct Modprobe {
    pub(super) blacklist: BTreeSet<String>,
    /// `vendor:device` given to vfio-pci, and by which file.
    pub(super) vfio_ids: Vec<(String, String)>,
}

/// A PCI function.
#[derive(Debug, Clone, Default)]
pub(super) struct Pci {
    /// `0000:65:00.0`
    pub(super) address: String,
    pub(super) class: u32,
    pub(super) vendor: u16,
    pub(super) device: u16,
    pub(super) driver: Option<String>,
    pub(super) group: Option<u32>,
    /// The physical function this is a virtual one of.
    pub(super) physical: Option<String>,
    /// Of a GPU alone.
    pub(super) gpu: Option<Gpu>,
}

/// What is asked of NVIDIA GPUs alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Gpu {
    pub(super) boot_vga: bool,
    pub(super) driver_override: Option<String>,
    /// Ways to reset it; none where the kernel does not tell.
    pub(super) reset: Option<Vec<String>>,
    pub(super) vfs_total: u32,
    pub(super) vfs: u32,
    /// Virtual functions that take a vGPU type (vendor-specific VFIO).
    pub(super) typed_vfs: u32,
    /// Whether it, or a virtual function of it, takes mediated devices.
    pub(super) mdev: bool,
    pub(super) model: Option<String>,
    /// N of `/dev/nvidiaN`.
    pub(super) minor: Option<u32>,
}

/// An output of a graphics card.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) connector: String,
    pub(super) card: String,
    pub(super) connected: bool,
    pub(super) enabled: bool,
}

/// NVIDIA's driver.
#[derive(Debug, Clone, Default)]
pub(super) struct Nvidia {
    /// The version of the loaded module.
    pub(super) module: Option<String>,
    /// Where `libnvidia-ml.so.1` is, and its version where its name tells.
    pub(super) library: Option<(String, Option<String>)>,
    /// Whether the driver offers the right to change MIG (`capabilities/mig/config`).
    pub(super) mig_config: bool,
}

/// A process that matters here.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// The first 15 letters of its name.
    pub(super) comm: String,
    /// Its unit or scope of systemd.
    pub(super) unit: Option<String>,
    /// NVIDIA's device files that it has open.
    pub(super) holds: BTreeSet<String>,
}

/// A unit of systemd.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub(super) path: String,
    pub(super) enabled: bool,
}

/// Accounts, from passwd(5) and group(5).
#[derive(Debug, Clone, Default)]
pub(super) struct Accounts {
    pub(super) users: Vec<User>,
    pub(super) groups: BTreeMap<String, Group>,
}

#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) gid: u32,
    pub(super) members: Vec<String>,
}

impl Facts {
    /// What the running machine answered, or the recorded answers.
    #[must_use]
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// The GPUs of NVIDIA, without virtual functions.
    pub(super) fn gpus(&self) -> impl Iterator<Item = (&Pci, &Gpu)> {
        self.pci.iter().filter_map(|pci| Some((pci, pci.gpu.as_ref()?)))
    }

    /// Those that NVIDIA's driver has.
    pub(super) fn driven(&self) -> impl Iterator<Item = (&Pci, &Gpu)> {
        self.gpus().filter(|(pci, _)| pci.driver.as_deref() == Some("nvidia"))
    }

    /// Whether a process of that name runs; the kernel keeps 15 letters of it.
    pub(super) fn runs(&self, name: &str) -> bool {
        self.processes.iter().any(|process| process.is(name))
    }

    /// Whether this is a host of vGPUs.
    pub(super) fn is_vgpu_host(&self) -> bool {
        self.modules.contains_key("nvidia_vgpu_vfio")
            || self.units.contains_key("nvidia-vgpu-mgr.service")
            || self.programs.contains_key("nvidia-vgpud")
    }

    /// Whether packages come from Debian or something made from it.
    pub(super) fn has_apt(&self) -> bool {
        self.system.ids.iter().any(|id| id == "debian" || id == "ubuntu")
    }

    /// How to install something here.
    pub(super) fn install(&self, debian: &str, other: &str) -> String {
        match self.has_apt() || self.system.ids.is_empty() {
            true => format!("apt-get install {debian}"),
            false => format!("install {other} with this system's package manager"),
        }
    }
}

impl Process {
    /// Whether it has this name, of which the kernel keeps 15 letters.
    pub(super) fn is(&self, name: &str) -> bool {
        self.comm == name.get(..15).unwrap_or(name)
    }

    /// As it is told of.
    pub(super) fn shown(&self) -> String {
        match &self.unit {
            Some(unit) => format!("{} (pid {}, {unit})", self.comm, self.pid),
            None => format!("{} (pid {})", self.comm, self.pid),
        }
    }
}

impl Accounts {
    /// Whether a user is in a group, by its entry or as its first group.
    pub(super) fn is_in(&self, user: &User, group: &str) -> bool {
        self.groups
            .get(group)
            .is_some_and(|group| group.gid == user.gid || group.members.contains(&user.name))
    }

    pub(super) fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// People, as Debian numbers them.
    pub(super) fn people(&self) -> impl Iterator<Item = &User> {
        self.users.iter().filter(|user| (1000..60000).contains(&user.uid))
    }
}
