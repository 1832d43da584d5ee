//! A Slurm cluster as somebody wants it: controllers, pools, partitions, accounts and limits. Plain
//! data without a secret: the munge key and the database's password have no place here.

mod check;
mod roles;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub(crate) use check::DBD_PORT;
pub use check::{WishFault, check};
pub use roles::Role;

/// A whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// `ClusterName`.
    pub name: String,
    /// The controller, and a backup after it.
    pub controllers: Vec<Host>,
    /// Machines from which jobs are submitted: they get the files and run no daemon.
    #[serde(default)]
    pub login: Vec<Host>,
    /// The accounting database's daemon, where there is one.
    #[serde(default)]
    pub accounting: Option<Accounting>,
    /// Nodes, pool by pool.
    pub pools: Vec<Pool>,
    /// Queues.
    pub partitions: Vec<Partition>,
    /// Accounts; need `accounting`.
    #[serde(default)]
    pub accounts: Vec<Account>,
    /// Qualities of service; need `accounting`.
    #[serde(default)]
    pub qos: Vec<Qos>,
    /// Users who may change other people's jobs and accounts; need `accounting`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub admins: BTreeMap<String, AdminLevel>,
    /// Programs around jobs.
    #[serde(default)]
    pub hooks: Hooks,
    /// Parameters of `slurm.conf` by name, over our defaults; none that follows from a field here.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Whole lines for `slurm.conf`: `NodeSet=…`, `DownNodes=…`.
    #[serde(default)]
    pub lines: Vec<String>,
    /// Whole lines for `gres.conf`: `AutoDetect=nvml`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gres_lines: Vec<String>,
}

/// A machine with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Host {
    /// What `hostname -s` says there.
    pub name: String,
    /// Where it is reached, if its name does not resolve.
    #[serde(default)]
    pub address: Option<String>,
    /// The daemon's port, if not the cluster's: for several nodes on one machine.
    #[serde(default)]
    pub port: Option<u16>,
}

/// Nodes that are alike, and change one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pool {
    /// Its name; partitions name pools.
    pub name: String,
    /// The nodes.
    pub nodes: Vec<Host>,
    /// Processors of each node, as jobs see them.
    pub cpus: u32,
    /// Processors by their place; Slurm takes one socket a processor where it is not said.
    #[serde(default)]
    pub topology: Option<Topology>,
    /// Memory for jobs, MiB (`RealMemory`).
    pub memory_mib: u64,
    /// What jobs ask for by name.
    #[serde(default)]
    pub gres: Vec<Gres>,
    /// Features that jobs may require.
    #[serde(default)]
    pub features: BTreeSet<String>,
    /// Nodes of low weight are given out first (`Weight`).
    #[serde(default = "one")]
    pub weight: u32,
    /// Other fields of its line in `slurm.conf` by name: `TmpDisk: 100000`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

/// How a node's processors lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// `Sockets`.
    pub sockets: u32,
    /// `CoresPerSocket`.
    pub cores: u32,
    /// `ThreadsPerCore`.
    pub threads: u32,
}

/// A generic resource of each node of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gres {
    /// `gpu`, nearly always.
    pub name: String,
    /// What kind: `a100`, or a MIG profile as `3g.40gb`.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// How many a node has.
    pub count: u32,
    /// The device files of each one: one file for a whole GPU, several for a MIG instance. Empty where
    /// there are none, else `count` entries.
    #[serde(default)]
    pub devices: Vec<Vec<String>>,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// The pools whose nodes it has.
    pub pools: Vec<String>,
    /// Whether jobs that name none come here; for one partition at most.
    #[serde(default)]
    pub default: bool,
    /// The longest a job may run, minutes; without it there is no limit.
    #[serde(default)]
    pub max_minutes: Option<u32>,
    /// How long a job runs that does not say, minutes.
    #[serde(default)]
    pub default_minutes: Option<u32>,
    /// Jobs of a higher tier go first.
    #[serde(default = "one")]
    pub priority_tier: u32,
    /// Who may submit, by account; everybody, if none is named.
    #[serde(default)]
    pub accounts: BTreeSet<String>,
    /// With which quality of service; any, if none is named.
    #[serde(default)]
    pub qos: BTreeSet<String>,
    /// Who may submit, by group of the controller's machine (`AllowGroups`); everybody, if none is named.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// Whether jobs are taken (`State=UP` or `DOWN`).
    #[serde(default = "yes")]
    pub up: bool,
    /// Other fields of its line in `slurm.conf` by name: `OverSubscribe: FORCE:2`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

/// Where jobs are accounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Accounting {
    /// The machine of slurmdbd.
    pub host: Host,
    /// The database behind it. Its password is put into `slurmdbd.conf` by who holds it.
    pub database: Database,
    /// What holds a job back: `associations`, `limits`, `qos`, `safe`.
    #[serde(default)]
    pub enforce: BTreeSet<Enforce>,
}

/// Where slurmdbd keeps its tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Database {
    /// The machine.
    pub host: String,
    /// The name of the database.
    pub name: String,
    /// As whom slurmdbd logs in.
    pub user: String,
}

/// A check at submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Enforce {
    /// Who has no account submits nothing.
    Associations,
    /// Limits of associations hold.
    Limits,
    /// Limits of qualities of service hold.
    Qos,
    /// A job starts only if it can end within its limits.
    Safe,
}

/// An account and who uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Account {
    /// Its name, in lower case as Slurm keeps it.
    pub name: String,
    /// The account above; `root` where none is named.
    #[serde(default)]
    pub parent: Option<String>,
    /// Said of it in reports.
    #[serde(default)]
    pub description: Option<String>,
    /// Its share among its siblings.
    #[serde(default)]
    pub fairshare: Option<u32>,
    /// Qualities of service that it may ask for; none named is the cluster's default.
    #[serde(default)]
    pub qos: BTreeSet<String>,
    /// The one of them that jobs get which ask for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_qos: Option<String>,
    /// Limits of all its jobs together or of each.
    #[serde(default)]
    pub limits: BTreeMap<Limit, String>,
    /// Users, in lower case as Slurm keeps them.
    #[serde(default)]
    pub users: BTreeSet<String>,
    /// Users who may change its users and limits, and those of the accounts below it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub coordinators: BTreeSet<String>,
}

/// What a user may do to other people's jobs and accounts (sacctmgr(1), `AdminLevel`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AdminLevel {
    /// Everything that concerns jobs and accounts; not the cluster itself.
    Operator,
    /// Everything that Slurm's own user may.
    Administrator,
}

impl AdminLevel {
    /// As `sacctmgr` spells it, both ways.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Operator => "Operator",
            Self::Administrator => "Administrator",
        }
    }
}

/// A quality of service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Qos {
    /// Its name, in lower case as Slurm keeps it.
    pub name: String,
    /// Added to a job's priority.
    #[serde(default)]
    pub priority: u32,
    /// Limits; `grpTresMins: gres/gpu=100` is a budget of GPU minutes that Slurm enforces.
    #[serde(default)]
    pub limits: BTreeMap<Limit, String>,
}

/// A limit by sacctmgr's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Limit {
    /// Running jobs together.
    GrpJobs,
    /// Resources in use together.
    GrpTres,
    /// Resource minutes ever used together.
    GrpTresMins,
    /// The longest job.
    MaxWall,
    /// Running jobs of a user (of each user, on a quality of service).
    MaxJobs,
    /// Submitted jobs of a user.
    MaxSubmitJobs,
    /// Resources of one job.
    MaxTresPerJob,
    /// Resources of one user; on a quality of service only.
    MaxTresPerUser,
    /// Submitted jobs together.
    GrpSubmitJobs,
    /// Wall time ever used together.
    GrpWall,
    /// Resource minutes of one job.
    MaxTresMinsPerJob,
    /// Resources of one job on each node.
    MaxTresPerNode,
}

/// Programs around jobs, by absolute path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hooks {
    /// On each node, before a job (`Prolog`).
    #[serde(default)]
    pub prolog: Option<String>,
    /// On each node, after it (`Epilog`).
    #[serde(default)]
    pub epilog: Option<String>,
    /// On the controller, before (`PrologSlurmctld`).
    #[serde(default)]
    pub controller_prolog: Option<String>,
    /// On the controller, after (`EpilogSlurmctld`).
    #[serde(default)]
    pub controller_epilog: Option<String>,
}

impl Cluster {
    /// The names of generic resources, as `GresTypes` has them.
    #[must_use]
    pub fn gres_types(&self) -> BTreeSet<&str> {
        self.pools.iter().flat_map(|pool| &pool.gres).map(|gres| gres.name.as_str()).collect()
    }
}

impl Pool {
    /// The names of its nodes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.name.as_str())
    }
}
