//! Canonical form of a libvirt domain.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::super::Name;
use super::{VolumeFormat, WayBack};

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachine {
    /// KVM or TCG. `None`: not owned (an existing domain keeps its own; a new one takes what works).
    pub accelerator: Option<Accelerator>,
    /// Machine type as the user says it: `q35`. `None`: not owned.
    pub machine: Option<String>,
    /// Firmware.
    pub firmware: Firmware,
    /// What it boots.
    pub boot: Boot,
    /// Processors.
    pub cpus: Cpus,
    /// Memory.
    pub memory: Memory,
    /// Disks, sorted by target device.
    pub disks: Vec<DiskAttachment>,
    /// Network interfaces, sorted by MAC.
    pub nics: Vec<Nic>,
    /// Host devices passed through, sorted.
    pub host_devices: Vec<HostDevice>,
    /// GPUs that layouts give to it, sorted. Empty in an observation, where what they are on this
    /// host is among the host devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuUse>,
    /// Absolute path of the file that the serial console is written to; `None`: not owned.
    pub console_log: Option<String>,
    /// Whether the channel of the QEMU guest agent is there.
    pub guest_agent: bool,
    /// Started with libvirt.
    pub autostart: bool,
    /// The wished power state; in an observation, the actual one.
    pub power: Power,
    /// How it is stopped; `None` in an observation.
    pub stop: Option<StopPolicy>,
    /// What proves that it is up and gates its dependants; `None`: running is enough.
    pub readiness: Option<Readiness>,
    /// Whether a snapshot is taken before a disruptive change; `None` in an observation.
    pub snapshot: Option<SnapshotPolicy>,
    /// What else is kept to go back from a disruptive change, and how long; `None`: nothing else, for
    /// [`WayBack::KEEP_S`], or in an observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_back: Option<WayBack>,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's emulation: works everywhere, slowly.
    Tcg,
}

impl Accelerator {
    /// Under this name the step that makes a guest tells what was chosen for it.
    pub const FACT: &str = "accelerator";

    /// The word for it, in specs and in facts.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Firmware of a domain.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// SeaBIOS.
    #[default]
    Bios,
    /// UEFI (OVMF).
    Efi,
}

/// What a domain boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum Boot {
    /// From its devices, in `boot_order`.
    Devices,
    /// A kernel given by the host.
    Kernel {
        /// Absolute path of the kernel.
        kernel: String,
        /// Absolute path of the initial RAM disk.
        initrd: Option<String>,
        /// Kernel command line.
        cmdline: Option<String>,
    },
}

/// Processors of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cpus {
    /// Virtual processors the guest starts with.
    pub count: u32,
    /// Most processors it can be given while running.
    pub max: u32,
    /// CPU model. `None`: not owned.
    pub mode: Option<CpuMode>,
    /// Topology; `None`: not owned.
    pub topology: Option<Topology>,
    /// Host processors each virtual processor may run on, in libvirt's list form; empty: anywhere.
    pub pinning: BTreeMap<u32, String>,
}

/// CPU model of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CpuMode {
    /// The host's processor as it is.
    HostPassthrough,
    /// The nearest named model to the host's.
    HostModel,
    /// Everything the accelerator can do.
    Maximum,
    /// A named QEMU model.
    Custom(String),
}

/// CPU topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Topology {
    /// Sockets.
    pub sockets: u32,
    /// Cores in a socket.
    pub cores: u32,
    /// Threads of a core.
    pub threads: u32,
}

/// Memory of a domain, in KiB (libvirt's unit).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// What the guest has now, KiB.
    pub current: u64,
    /// What it can grow to while running, KiB.
    pub max: u64,
    /// Size of the huge pages it is backed by, KiB; `None`: ordinary pages.
    pub hugepages: Option<u64>,
}

/// A disk of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskAttachment {
    /// Target device, the identity of the attachment: `vda`.
    pub target: String,
    /// Bus.
    pub bus: DiskBus,
    /// Disk or CD-ROM.
    pub device: DiskDevice,
    /// Absolute path of the file; `None`: an empty drive.
    pub path: Option<String>,
    /// Format of the file.
    pub format: VolumeFormat,
    /// Whether the guest may not write.
    pub read_only: bool,
    /// Place in the boot order, from 1; `None`: not booted from.
    pub boot_order: Option<u32>,
}

/// Bus of a disk.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// virtio-blk.
    #[default]
    Virtio,
    /// virtio-scsi.
    Scsi,
    /// AHCI.
    Sata,
}

/// What a disk looks like to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskDevice {
    /// A disk.
    Disk,
    /// A CD-ROM drive.
    Cdrom,
}

/// A network interface of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nic {
    /// MAC address, lower case with colons: the identity of the interface.
    pub mac: String,
    /// What it is plugged into.
    pub source: NicSource,
    /// Device model: `virtio`.
    pub model: String,
    /// Place in the boot order, from 1; `None`: not booted from.
    pub boot_order: Option<u32>,
}

/// What an interface is plugged into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum NicSource {
    /// A libvirt network, by name.
    Network(String),
    /// A bridge of the host, by device.
    Bridge(String),
    /// QEMU's user-mode network.
    User,
    /// Something trueup does not manage; only ever observed.
    Other(String),
}

/// A device of the host given to the guest.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum HostDevice {
    /// A PCI function, `0000:65:00.0`.
    Pci(String),
    /// A mediated device, by UUID.
    Mdev(String),
}

/// A GPU, or a part of one, that its layout gives to the guest.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct GpuUse {
    /// The layout.
    pub layout: Name,
    /// One of its partitions; `None`: the whole GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// What it is on this host. Empty in a wish: addresses are found on the machine, so that a GPU in
    /// another slot is no change of the wish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<HostDevice>,
}

impl std::fmt::Display for GpuUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gpu/{}", self.layout)?;
        self.partition.as_ref().map_or(Ok(()), |partition| write!(f, "/{partition}"))
    }
}

/// Power state of a domain.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// Executing.
    #[default]
    Running,
    /// Not executing, no state kept.
    Off,
    /// Present in memory, not executing.
    Paused,
}

/// How a domain is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StopPolicy {
    /// How long the guest may take to shut down, seconds.
    pub timeout_s: u64,
    /// Whether it is powered off hard when it did not.
    pub force: bool,
}

/// What proves that a guest is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// The proof.
    pub probe: Probe,
    /// How long it may take from the start, seconds.
    pub timeout_s: u64,
}

/// A proof that a guest is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum Probe {
    /// The guest agent answers a ping.
    GuestAgent,
    /// A TCP port accepts a connection.
    Tcp {
        /// Address of the guest.
        address: IpAddr,
        /// Port.
        port: u16,
    },
    /// A text appears on the serial console.
    Console {
        /// The text, taken literally.
        line: String,
    },
}

/// Whether a snapshot is taken before a disruptive change.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, Default,
)]
#[serde(rename_all = "camelCase")]
pub enum SnapshotPolicy {
    /// None is taken.
    #[default]
    Never,
    /// One is taken before a change that restarts the guest, and kept until that has been good for long
    /// enough (`keepFor`).
    BeforeDisruption,
}

impl VirtualMachine {
    /// Every device of the host that it has, those of its GPUs included, sorted, each once.
    pub fn devices(&self) -> Vec<&HostDevice> {
        let gpus = self.gpus.iter().flat_map(|gpu| &gpu.devices);
        let mut all: Vec<&HostDevice> = self.host_devices.iter().chain(gpus).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Names of the libvirt networks its interfaces are plugged into.
    pub fn networks(&self) -> impl Iterator<Item = Name> + '_ {
        self.nics.iter().filter_map(|nic| match &nic.source {
            NicSource::Network(name) => Name::new(name.clone()).ok(),
            NicSource::Bridge(_) | NicSource::User | NicSource::Other(_) => None,
        })
    }
}
