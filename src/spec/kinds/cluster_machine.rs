//! The virtual machines that a `Cluster` is built of: a template for all of them, and what some of them
//! have otherwise.

use schemars::JsonSchema;
use serde::Deserialize;
use trueup_slurm::{Protocol, wish};

use super::machine::{
    AcceleratorSpec, BootSpec, CloudInitSpec, CpusSpec, HostDeviceSpec, MemorySpec, StopSpec,
};
use crate::model::resource::{Firmware, OnImageChange};
use crate::spec::scalar::SizeText;

/// Virtual machines of a cluster. What is not given here is taken from the next one above: a machine's own,
/// its pool's, the cluster's. Fields are those of `VirtualMachine` and `Disk`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterMachineSpec {
    /// The image that its disk starts from. It has the guest agent in it, and Slurm and munge, or containerd,
    /// kubelet and kubeadm.
    pub image: Option<String>,
    /// The size of its disk: `20GiB`; that of the image when not given.
    pub disk: Option<SizeText>,
    /// What to do with the disk when the image changes: `keep`, the default, or `replace`, which makes a
    /// node anew once it is empty. The disk of any other machine is kept unless its own `machine` says
    /// otherwise; a control plane of Kubernetes comes back with all that it knew.
    pub on_image_change: Option<OnImageChange>,
    /// The storage pool of the disk; the environment's first one when not given.
    pub storage_pool: Option<String>,
    /// The network on which the machines have their addresses.
    pub network: Option<String>,
    /// Processors: 1 when not given; of a control plane of Kubernetes 2. A node of Slurm has those of its pool.
    pub cpus: Option<CpusSpec>,
    /// Memory. A node of Slurm needs more than its pool's `memory`, which is for jobs.
    pub memory: Option<MemorySpec>,
    /// What executes the guest.
    pub accelerator: Option<AcceleratorSpec>,
    /// Machine type: `q35`.
    pub machine: Option<String>,
    /// Firmware.
    pub firmware: Option<Firmware>,
    /// Boots a kernel directly: `{image: …}` for an image that is built here.
    pub boot: Option<BootSpec>,
    /// GPUs given to it by their layouts; of one machine only.
    pub gpus: Option<Vec<String>>,
    /// Devices of the host given to it; of one machine only.
    pub host_devices: Option<Vec<HostDeviceSpec>>,
    /// cloud-init media: users, keys, user data. The host name and the address are the cluster's.
    pub cloud_init: Option<CloudInitSpec>,
    /// Keeps what the serial console says.
    pub console_log: Option<bool>,
    /// How it is stopped.
    pub stop: Option<StopSpec>,
    /// How long it may take from its start until its guest agent answers: `15m`, the default.
    pub ready_within: Option<String>,
}

/// Which munge key a cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterKeySpec {
    /// Counted up, it makes a new key, which every machine gets.
    #[schemars(range(min = 1))]
    pub generation: u32,
}

/// What the machines of a cluster accept. From each other that is what Slurm and its jobs need; a login
/// machine lets in ssh, and others ssh from login machines.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterFirewallSpec {
    /// Whether there are rules; `false` takes trueup's away.
    pub enabled: bool,
    /// Networks from which login machines are reached by ssh: everywhere when not given. Without a login
    /// machine they are for all machines, and there is no way when not given.
    pub ssh: Option<Vec<String>>,
    /// What else is let in.
    pub open: Vec<ClusterOpeningSpec>,
}

impl Default for ClusterFirewallSpec {
    fn default() -> Self {
        Self { enabled: true, ssh: None, open: Vec::new() }
    }
}

/// Ports that somebody is let in on.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterOpeningSpec {
    /// Which machines: all of them when not given.
    #[serde(default)]
    pub to: Vec<ClusterRoleSpec>,
    /// Ports and ranges of them: `9100`, `8000-8010`.
    pub ports: Vec<String>,
    /// What is spoken there: `tcp`, the default, or `udp`.
    #[serde(default)]
    pub protocol: ClusterProtocolSpec,
    /// Networks from which: `10.0.0.0/8`.
    pub from: Vec<String>,
}

/// What a machine is to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ClusterRoleSpec {
    /// Controllers.
    Controller,
    /// The machine of the accounting database.
    Database,
    /// Login machines.
    Login,
    /// Nodes.
    Node,
}

impl From<ClusterRoleSpec> for wish::Role {
    fn from(role: ClusterRoleSpec) -> Self {
        match role {
            ClusterRoleSpec::Controller => Self::Controller,
            ClusterRoleSpec::Database => Self::Database,
            ClusterRoleSpec::Login => Self::Login,
            ClusterRoleSpec::Node => Self::Node,
        }
    }
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ClusterProtocolSpec {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl From<ClusterProtocolSpec> for Protocol {
    fn from(protocol: ClusterProtocolSpec) -> Self {
        match protocol {
            ClusterProtocolSpec::Tcp => Self::Tcp,
            ClusterProtocolSpec::Udp => Self::Udp,
        }
    }
}
