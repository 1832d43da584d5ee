//! `Cluster`: a Slurm cluster, taken over or built of virtual machines, declared whole and changed without
//! losing a job; or a Kubernetes cluster (`cluster_kubernetes`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::cluster_kubernetes::KubernetesClusterSpec;
use super::cluster_machine::{ClusterFirewallSpec, ClusterKeySpec, ClusterMachineSpec};
use crate::spec::scalar::SizeText;

/// A cluster: its nodes change one after another, drained first. One that exists is taken over by
/// `lifecycle: {adopt: true}`.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum ClusterSpec {
    /// One that Slurm runs.
    Slurm(Box<SlurmClusterSpec>),
    /// One that Kubernetes runs.
    Kubernetes(Box<KubernetesClusterSpec>),
}

impl ClusterSpec {
    /// It, where Slurm runs it.
    pub fn slurm(&self) -> Option<&SlurmClusterSpec> {
        match self {
            Self::Slurm(spec) => Some(spec),
            Self::Kubernetes(_) => None,
        }
    }

    /// What the machines of one that is built have.
    pub fn machines(&self) -> Option<&ClusterMachineSpec> {
        match self {
            Self::Slurm(spec) => spec.machines.as_deref(),
            Self::Kubernetes(spec) => spec.machines.as_deref(),
        }
    }
}

impl<'de> Deserialize<'de> for ClusterSpec {
    /// By `type`, and not by trying: what is wrong is then told of the one that was meant.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = match value.get("type").and_then(Value::as_str) {
            Some("kubernetes") => serde_json::from_value(value).map(Self::Kubernetes),
            _ => serde_json::from_value(value).map(Self::Slurm),
        };
        read.map_err(de::Error::custom)
    }
}

/// A cluster that Slurm runs: its files are proved before they are written. With `machines` it is built.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlurmClusterSpec {
    /// What runs it.
    pub r#type: SlurmType,
    /// `ClusterName`; the document's name when not given.
    pub name: Option<String>,
    /// Builds it of virtual machines, one for each controller, node and login machine and one for the
    /// accounting database, called CLUSTER-NODE. Each needs an `address`. A cluster that is there already
    /// has none.
    pub machines: Option<Box<ClusterMachineSpec>>,
    /// Which munge key it has; with `machines` only. It is made by trueup, and kept on this host.
    pub munge_key: Option<ClusterKeySpec>,
    /// A folder that both controllers see as one, where the state of all jobs is: a network file system that
    /// the image or `cloudInit` mounts; with `machines` only. A second controller needs it.
    pub state_folder: Option<String>,
    /// What the machines accept from outside of the cluster; with `machines` only. Without it, that is ssh
    /// on login machines alone.
    pub firewall: Option<ClusterFirewallSpec>,
    /// How long jobs may take to end on a node that is taken out: `24h`, the default.
    pub drain_timeout: Option<String>,
    /// How many nodes of a pool may be out of use at once, whoever took them out.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub max_unavailable: u32,
    /// The controller, and a backup after it.
    pub controllers: Vec<ClusterHostSpec>,
    /// Machines from which jobs are submitted. They run no daemon, and with `machines` they have the
    /// controller's files; ways to the nodes lead over the first.
    #[serde(default)]
    pub login: Vec<ClusterHostSpec>,
    /// The daemon in front of the accounting database, where there is one.
    pub accounting: Option<ClusterAccountingSpec>,
    /// Nodes, pool by pool: those of a pool are alike, and change one after another.
    pub pools: Vec<ClusterPoolSpec>,
    /// Queues.
    pub partitions: Vec<ClusterPartitionSpec>,
    /// Accounts and their users; need `accounting`. What is not named here is left alone.
    #[serde(default)]
    pub accounts: Vec<ClusterAccountSpec>,
    /// Qualities of service; need `accounting`. What is not named here is left alone.
    #[serde(default)]
    pub qos: Vec<ClusterQosSpec>,
    /// Users who may change other people's jobs and accounts: `operator` or `administrator`. Need
    /// `accounting`; whoever is not named here is left alone.
    #[serde(default)]
    pub admins: BTreeMap<String, String>,
    /// Programs around jobs.
    #[serde(default)]
    pub hooks: ClusterHooksSpec,
    /// Parameters of `slurm.conf` by name, over trueup's defaults; none that follows from a field here.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Whole lines for `slurm.conf`: `NodeSet=…`, `DownNodes=…`.
    #[serde(default)]
    pub lines: Vec<String>,
    /// Whole lines for `gres.conf` that are of no pool: `AutoDetect=nvml`.
    #[serde(default)]
    pub gres_lines: Vec<String>,
}

fn one() -> u32 {
    1
}

/// That Slurm runs a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SlurmType {
    /// Slurm, 22.05 or 24.11.
    Slurm,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterHostSpec {
    /// What `hostname -s` says there. Nodes may be several: `n[1-16]`.
    pub name: String,
    /// Where it is reached, if its name does not resolve; for one machine only. With `machines` it is
    /// needed, and of several machines it is that of the first one, which the others follow.
    pub address: Option<String>,
    /// The daemon's port, if not the cluster's; for one machine only.
    pub port: Option<u16>,
    /// What its virtual machine has otherwise; with `machines` only.
    pub machine: Option<Box<ClusterMachineSpec>>,
}

/// Nodes that are alike.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterPoolSpec {
    /// Its name; partitions name pools.
    pub name: String,
    /// The nodes.
    pub nodes: Vec<ClusterHostSpec>,
    /// Processors of each node, as jobs see them.
    #[schemars(range(min = 1))]
    pub cpus: u32,
    /// How they lie; Slurm takes one socket a processor when not given.
    pub topology: Option<ClusterTopologySpec>,
    /// Memory for jobs: `250GiB`.
    pub memory: SizeText,
    /// What jobs ask for by name: GPUs, nearly always.
    #[serde(default)]
    pub gres: Vec<ClusterGresSpec>,
    /// Features that jobs may require.
    #[serde(default)]
    pub features: Vec<String>,
    /// Nodes of low weight are given out first.
    #[serde(default = "one")]
    pub weight: u32,
    /// Other fields of its nodes in `slurm.conf` by name: `TmpDisk: '100000'`.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// What their virtual machines have otherwise; with `machines` only.
    pub machine: Option<Box<ClusterMachineSpec>>,
}

/// How the processors of a node lie.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterTopologySpec {
    /// Sockets.
    pub sockets: u32,
    /// Cores of each socket.
    pub cores: u32,
    /// Threads of each core.
    pub threads: u32,
}

/// A generic resource of each node of a pool.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterGresSpec {
    /// `gpu`, nearly always.
    #[serde(default = "gpu")]
    pub name: String,
    /// What kind: `a100`, or a MIG profile as `3g.40gb`.
    pub r#type: Option<String>,
    /// How many a node has.
    pub count: u32,
    /// The device files of each one: one for a whole GPU, several for a MIG instance.
    #[serde(default)]
    pub devices: Vec<Vec<String>>,
}

fn gpu() -> String {
    "gpu".to_owned()
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterPartitionSpec {
    /// Its name.
    pub name: String,
    /// The pools whose nodes it has.
    pub pools: Vec<String>,
    /// Whether jobs that name none come here.
    #[serde(default)]
    pub default: bool,
    /// The longest a job may run: `7d`; no limit when not given.
    pub max_time: Option<String>,
    /// How long a job runs that does not say: `1h`.
    pub default_time: Option<String>,
    /// Jobs of a higher tier go first.
    #[serde(default = "one")]
    pub priority_tier: u32,
    /// Who may submit, by account; everybody when not given.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// With which quality of service; any when not given.
    #[serde(default)]
    pub qos: Vec<String>,
    /// Who may submit, by group of the controller's machine; everybody when not given.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Whether jobs are taken.
    #[serde(default = "yes")]
    pub up: bool,
    /// Other fields of it in `slurm.conf` by name: `OverSubscribe: FORCE:2`.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

/// Where jobs are accounted. With `machines` the database is set up as well: on a machine of its own, or on
/// the controller's, where `host` names that. Of a cluster that is there, slurmdbd's own file, with its
/// password, is not trueup's.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterAccountingSpec {
    /// The machine of slurmdbd.
    pub host: ClusterHostSpec,
    /// The size of the disk for the database, which is kept when its machine is made anew: `10GiB`, the
    /// default; with `machines` only, and only where the database has a machine of its own.
    pub disk: Option<SizeText>,
    /// What holds a job back: `associations`, `limits`, `qos`, `safe`.
    #[serde(default)]
    pub enforce: Vec<String>,
}

/// An account and who uses it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterAccountSpec {
    /// Its name, in lower case.
    pub name: String,
    /// The account above; `root` when not given.
    pub parent: Option<String>,
    /// Said of it in reports.
    pub description: Option<String>,
    /// Its share among its siblings.
    pub fairshare: Option<u32>,
    /// Qualities of service that it may ask for.
    #[serde(default)]
    pub qos: Vec<String>,
    /// The one of them that jobs get which ask for none.
    pub default_qos: Option<String>,
    /// Limits by name: `grpTres: gres/gpu=4`. Known are `grpJobs`, `grpSubmitJobs`, `grpTres`,
    /// `grpTresMins`, `grpWall`, `maxJobs`, `maxSubmitJobs`, `maxTresMinsPerJob`, `maxTresPerJob`,
    /// `maxTresPerNode`, `maxWall`.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
    /// Users, in lower case.
    #[serde(default)]
    pub users: Vec<String>,
    /// Users who may change its users and limits, and those of the accounts below it.
    #[serde(default)]
    pub coordinators: Vec<String>,
}

/// A quality of service.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterQosSpec {
    /// Its name, in lower case.
    pub name: String,
    /// Added to a job's priority.
    #[serde(default)]
    pub priority: u32,
    /// Limits by name, as those of accounts, and `maxTresPerUser`. `grpTresMins: gres/gpu=100` is a
    /// budget of GPU minutes.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
}

/// Programs around jobs, by absolute path. They run as root. Of a cluster that is taken over, they lie in the
/// folder of `slurm.conf`, or where the host's config allows it (`clusters.NAME.allowedPaths`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterHooksSpec {
    /// On each node, before a job.
    pub prolog: Option<String>,
    /// On each node, after it.
    pub epilog: Option<String>,
    /// On the controller, before.
    pub controller_prolog: Option<String>,
    /// On the controller, after.
    pub controller_epilog: Option<String>,
}
