//! The virtual machines that a `Cluster` is built of: a template for all of them, and what some of them
//! have otherwise.

use schemars::JsonSchema;
use serde::Deserialize;

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
    /// The image that its disk starts from; it has Slurm, munge and the guest agent in it.
    pub image: Option<String>,
    /// The size of its disk: `20GiB`; that of the image when not given.
    pub disk: Option<SizeText>,
    /// What to do with the disk when the image changes: `keep`, the default, or `replace`, which makes a
    /// node anew once it is empty. A controller's disk is kept unless its own `machine` says otherwise.
    pub on_image_change: Option<OnImageChange>,
    /// The storage pool of the disk; the environment's first one when not given.
    pub storage_pool: Option<String>,
    /// The network on which the machines have their addresses.
    pub network: Option<String>,
    /// Processors of a controller: 1 when not given. A node has those of its pool.
    pub cpus: Option<CpusSpec>,
    /// Memory. A node needs more than its pool's `memory`, which is for jobs.
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
