//! `VirtualMachine`: a libvirt domain and its cloud-init media.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::environment::yes;
use super::image::UserDoc;
use crate::model::resource::{CpuMode, DiskBus, Firmware, Power, SnapshotPolicy, Topology};
use crate::spec::scalar::SizeText;

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineSpec {
    /// Machine type: `q35`; the hypervisor's choice when not given.
    pub machine: Option<String>,
    /// Firmware.
    #[serde(default)]
    pub firmware: Firmware,
    /// What executes the guest: `auto` takes KVM where it works when the guest is made. It keeps what
    /// it got then; `kvm` moves an emulated one over, with a restart.
    #[serde(default)]
    pub accelerator: AcceleratorSpec,
    /// Processors: a number, or more about them.
    pub cpus: CpusSpec,
    /// Memory: `2GiB`, or more about it.
    pub memory: MemorySpec,
    /// Disks, in order; targets (`vda`, `vdb` …) follow from it where none is given.
    #[serde(default)]
    pub disks: Vec<DiskUse>,
    /// Network interfaces, in order.
    #[serde(default)]
    pub nics: Vec<NicSpec>,
    /// Boots a kernel directly; from its devices when not given.
    pub boot: Option<BootSpec>,
    /// cloud-init media for it.
    pub cloud_init: Option<CloudInitSpec>,
    /// Keeps what the serial console says: `true` in `<pool>/<name>.console.log`, a path there.
    #[serde(default)]
    pub console_log: ConsoleLog,
    /// Devices of the host given to it.
    #[serde(default)]
    pub host_devices: Vec<HostDeviceSpec>,
    /// GPUs given to it by their layouts: `gpu/<layout>` is a whole GPU, of mode `passthrough`;
    /// `gpu/<layout>/<partition>` a part of one.
    #[serde(default)]
    pub gpus: Vec<String>,
    /// Gives it the channel of the QEMU guest agent.
    #[serde(default)]
    pub guest_agent: bool,
    /// Start it with libvirt.
    #[serde(default = "yes")]
    pub autostart: bool,
    /// Power state it is kept in.
    #[serde(default)]
    pub power: Power,
    /// How it is stopped.
    #[serde(default)]
    pub stop: StopSpec,
    /// Whether a snapshot is taken before a change that restarts it.
    #[serde(default)]
    pub snapshot: SnapshotPolicy,
    /// The name of a `Backup` that saves its disks: it takes a snapshot before a change that restarts
    /// or stops it, and without that it goes on as it is.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub backup_before: Option<String>,
    /// Of `snapshot` and `backupBefore`: how long the change has to have been good before what was
    /// taken may go: `1d`, the default.
    pub keep_for: Option<String>,
    /// What proves that it is up; its dependants wait for it.
    pub readiness: Option<ReadinessSpec>,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorSpec {
    /// KVM where it works, else emulation.
    #[default]
    Auto,
    /// Hardware virtualisation.
    Kvm,
    /// Emulation: works everywhere, slowly.
    Tcg,
}

/// Processors: a number, or more about them.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CpusSpec {
    /// How many.
    Count(#[schemars(range(min = 1, max = 4096))] u32),
    /// More about them.
    Detail(CpuDetail),
}

/// Processors of a virtual machine.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CpuDetail {
    /// How many it starts with.
    #[schemars(range(min = 1, max = 4096))]
    pub count: u32,
    /// Most it can be given while running; `count` when not given.
    pub max: Option<u32>,
    /// Processor model: `host-passthrough`, `host-model`, `maximum` or `custom: <name>`.
    pub mode: Option<CpuMode>,
    /// Sockets, cores and threads; their product is `max`.
    pub topology: Option<Topology>,
    /// Host processors that a virtual one may run on, by its number: `"0": "2-3"`.
    #[serde(default)]
    pub pinning: BTreeMap<String, String>,
}

/// Memory: a size, or more about it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MemorySpec {
    /// How much.
    Size(SizeText),
    /// More about it.
    Detail(MemoryDetail),
}

/// Memory of a virtual machine.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemoryDetail {
    /// What it starts with.
    pub current: SizeText,
    /// What it can grow to while running; `current` when not given.
    pub max: Option<SizeText>,
    /// Size of the huge pages it is backed by: `2MiB`, `1GiB`.
    pub hugepages: Option<SizeText>,
}

/// A disk of a virtual machine.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiskUse {
    /// Name of the disk.
    pub disk: String,
    /// Target device: `vda`; the next free one when not given.
    #[schemars(regex(pattern = r"^(vd|sd)[a-z]$"))]
    pub target: Option<String>,
    /// Bus.
    #[serde(default)]
    pub bus: DiskBus,
    /// The guest may not write to it.
    #[serde(default)]
    pub read_only: bool,
    /// Place in the boot order, from 1. When nothing has one, the first disk boots.
    #[schemars(range(min = 1))]
    pub boot_order: Option<u32>,
}

/// A network interface of a virtual machine: one of `network`, `bridge` and `user`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NicSpec {
    /// Name of the network it is on.
    pub network: Option<String>,
    /// Bridge device of the host it is on.
    pub bridge: Option<String>,
    /// QEMU's user-mode network: reaches out, is not reached.
    #[serde(default)]
    pub user: bool,
    /// MAC address; one that follows from the names when not given.
    #[schemars(regex(pattern = r"^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$"))]
    pub mac: Option<String>,
    /// Device model.
    #[serde(default = "virtio")]
    pub model: String,
    /// Static address, `10.7.0.10`; on a bridge with its prefix length, `10.7.0.10/24`.
    pub address: Option<String>,
    /// Reserve the static address in the network's DHCP service.
    #[serde(default = "yes")]
    pub dhcp_reservation: bool,
    /// Place in the boot order, from 1.
    #[schemars(range(min = 1))]
    pub boot_order: Option<u32>,
}

/// A kernel booted directly: `kernel`, or `image`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BootSpec {
    /// Absolute path of the kernel on the host.
    pub kernel: Option<String>,
    /// Absolute path of the initial RAM disk on the host.
    pub initrd: Option<String>,
    /// Built image whose kernel and initial RAM disk are booted.
    pub image: Option<String>,
    /// Kernel command line; with `image`, `root=/dev/vda console=ttyS0` when not given.
    pub cmdline: Option<String>,
}

/// cloud-init media (NoCloud) of a virtual machine.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CloudInitSpec {
    /// Host name; the machine's name when not given.
    pub hostname: Option<String>,
    /// SSH public keys of the default user.
    pub ssh_keys: Vec<String>,
    /// Users, by name.
    pub users: BTreeMap<String, UserDoc>,
    /// User data: a mapping that is merged with the fields above, or a text taken as it stands.
    #[schemars(schema_with = "text_or_mapping")]
    pub user_data: Option<Value>,
    /// Network configuration: `auto` follows from `nics`; a mapping (version 2); or a text taken as
    /// it stands.
    #[schemars(schema_with = "text_or_mapping")]
    pub network_config: Option<Value>,
}

fn text_or_mapping(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": ["string", "object", "null"] })
}

/// Whether and where the serial console is kept.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ConsoleLog {
    /// In the usual place, or not.
    Flag(bool),
    /// In the file of this absolute path.
    Path(String),
}

impl Default for ConsoleLog {
    fn default() -> Self {
        Self::Flag(false)
    }
}

/// A device of the host: one of `pci` and `mdev`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostDeviceSpec {
    /// PCI function: `0000:65:00.0`.
    #[schemars(regex(pattern = r"^[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]$"))]
    pub pci: Option<String>,
    /// Mediated device, by UUID.
    pub mdev: Option<String>,
}

/// How a virtual machine is stopped.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StopSpec {
    /// How long the guest may take to shut down: `60s`, `5m`.
    pub timeout: String,
    /// Power it off hard when it did not.
    pub force: bool,
}

impl Default for StopSpec {
    fn default() -> Self {
        Self { timeout: "60s".to_owned(), force: false }
    }
}

/// What proves that a guest is up: one of `guestAgent`, `tcp` and `console`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReadinessSpec {
    /// The guest agent answers.
    #[serde(default)]
    pub guest_agent: bool,
    /// A TCP port accepts a connection.
    pub tcp: Option<TcpProbe>,
    /// This text appears on the serial console.
    pub console: Option<String>,
    /// How long it may take from the start: `5m`.
    #[serde(default = "five_minutes")]
    pub timeout: String,
}

/// A TCP port that accepts a connection.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpProbe {
    /// The port.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The address; the first static one of `nics` when not given.
    pub address: Option<String>,
}

fn virtio() -> String {
    "virtio".to_owned()
}

fn five_minutes() -> String {
    "5m".to_owned()
}
