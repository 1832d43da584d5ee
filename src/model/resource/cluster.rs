//! The canonical form of a cluster: on which machine its controller is, what it has to be, and how much
//! of it may be out of use at once.
//!
//! It holds no secret: neither the munge key nor a password is part of it. It names no program and no folder
//! of the host: who may merge does not choose what root runs and writes there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trueup_slurm::observe::{Accounts, Observed};
use trueup_slurm::{Firewall, Shape, wish};

use super::super::Name;
use super::kubernetes::{KubernetesCluster, KubernetesSeen};

/// A cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
#[expect(clippy::large_enum_variant, reason = "a resource holds it in a box")]
pub enum Cluster {
    /// One that Slurm runs.
    Slurm(SlurmCluster),
    /// One that Kubernetes runs.
    Kubernetes(KubernetesCluster),
}

/// A Slurm cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlurmCluster {
    /// Where it is, as seen from this host.
    pub place: SlurmPlace,
    /// What it has to be.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub wish: wish::Cluster,
    /// How long jobs may take to end on a node that is taken out, seconds.
    pub drain_timeout_s: u64,
    /// How many nodes of a pool may be out of use at once, whoever took them out.
    pub max_unavailable: u32,
    /// The machines that trueup makes for it; `None`: it is there already, and is taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<SlurmBuilt>,
    /// What was seen of it; in observations only.
    #[serde(skip)]
    pub seen: Option<Arc<SlurmSeen>>,
}

/// A Slurm cluster of virtual machines of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlurmBuilt {
    /// The virtual machine of each host, by its name in the cluster.
    pub machines: BTreeMap<String, Name>,
    /// Which of its munge keys it has; the keys themselves are in the state directory.
    pub key: u32,
    /// Where nodes get their configuration: the controllers with their port, the first one first.
    pub server: String,
    /// The release of Slurm that its image has, as far as that is known before it runs.
    #[schemars(with = "String")]
    pub release: Shape,
    /// What its machines accept; `None`: there are no rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub firewall: Option<Firewall>,
}

/// On which machine the controller of a Slurm cluster is. Its folder and its programs there are no part of
/// it: those of this host are what the host's config says, never a commit; those of a machine that trueup
/// made are Debian's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlurmPlace {
    /// The virtual machine of this host, reached through its agent; `None`: this host itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Name>,
}

/// What a look at a Slurm cluster found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SlurmSeen {
    /// The folder of its files.
    pub folder: String,
    /// The text of `slurm.conf`.
    pub slurm: String,
    /// The text of `gres.conf`; empty where there is none.
    pub gres: String,
    /// The text of `cgroup.conf`; empty where there is none.
    pub cgroup: String,
    /// Whether an exchange of the files was cut off: then nothing else is known.
    pub cut_off: bool,
    /// Nodes, partitions and jobs; `None` only where an exchange was cut off.
    pub observed: Option<Arc<Observed>>,
    /// Accounts; `None` where the wish has none.
    pub accounts: Option<Arc<Accounts>>,
    /// The time, seconds since 1970 by the controller's clock.
    pub now: i64,
    /// Its machines that answer, by their name in the cluster, where trueup made them.
    pub machines: BTreeMap<String, MachineSeen>,
    /// Those of them that answer and cannot be looked at, and why.
    pub unwell: BTreeMap<String, String>,
    /// Whether the first controller's machine does not answer, and all of this is what the backup says.
    pub by_backup: bool,
}

/// What a look at one machine of a cluster found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MachineSeen {
    /// Whether it has the munge key that is wished, and its services are set up.
    pub prepared: bool,
    /// Whether its daemon asks the controller that is wished; of nodes.
    pub joined: bool,
    /// Whether it has the files that the controller has; of login machines, and of a backup controller,
    /// which was started with them.
    pub copied: bool,
    /// Whether the accounting database is set up as it is wished, and runs; of its machine.
    pub database: bool,
    /// Whether its firewall is as it is to be by the files in force, which may be that it has none.
    pub firewall: bool,
}

impl SlurmCluster {
    /// Machines with files of their own that are to be as the controller's: a backup controller and login
    /// machines.
    #[must_use]
    pub fn copies(&self) -> BTreeMap<String, Name> {
        let hosts = self.wish.backup().into_iter().chain(&self.wish.login);
        let Some(built) = &self.built else { return BTreeMap::new() };
        let own = hosts.filter_map(|host| built.machines.get_key_value(&host.name));
        own.map(|(name, domain)| (name.clone(), domain.clone())).collect()
    }

    /// The machine of the accounting database, by its name in the cluster.
    #[must_use]
    pub fn database(&self) -> Option<(&String, &Name)> {
        let host = &self.wish.accounting.as_ref()?.host;
        self.built.as_ref()?.machines.get_key_value(&host.name)
    }

    /// The machine of the backup controller.
    #[must_use]
    pub fn backup(&self) -> Option<&Name> {
        self.built.as_ref()?.machines.get(&self.wish.backup()?.name)
    }
}

impl Cluster {
    /// Takes out what only a look finds, and what is of no use to find the cluster again: parameters,
    /// lines and programs around jobs.
    pub fn strip_texts(&mut self) {
        match self {
            Self::Slurm(slurm) => {
                slurm.seen = None;
                slurm.wish.parameters.clear();
                slurm.wish.lines.clear();
            }
            Self::Kubernetes(kubernetes) => kubernetes.seen = None,
        }
    }

    /// It, where Slurm runs it.
    #[must_use]
    pub fn slurm(&self) -> Option<&SlurmCluster> {
        match self {
            Self::Slurm(slurm) => Some(slurm),
            Self::Kubernetes(_) => None,
        }
    }

    /// It, where Kubernetes runs it.
    #[must_use]
    pub fn kubernetes(&self) -> Option<&KubernetesCluster> {
        match self {
            Self::Kubernetes(kubernetes) => Some(kubernetes),
            Self::Slurm(_) => None,
        }
    }

    /// What was seen of it, where Slurm runs it.
    #[must_use]
    pub fn seen(&self) -> Option<&SlurmSeen> {
        self.slurm()?.seen.as_deref()
    }

    /// What was seen of it, where Kubernetes runs it.
    #[must_use]
    pub fn kubernetes_seen(&self) -> Option<&KubernetesSeen> {
        self.kubernetes()?.seen.as_deref()
    }

    /// The nodes of its pools.
    pub fn nodes(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Slurm(slurm) => Box::new(slurm.wish.pools.iter().flat_map(wish::Pool::names)),
            Self::Kubernetes(kubernetes) => {
                Box::new(kubernetes.pools.iter().flat_map(|pool| &pool.nodes).map(String::as_str))
            }
        }
    }
}

/// A folder that two machines of a cluster have to see as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateFolder {
    /// The folder.
    pub folder: String,
    /// The virtual machine that has to see it as the first controller's does.
    pub with: Name,
}

/// What is done to one node, in the order in which it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum NodeStep {
    /// It is taken out of use.
    #[serde(rename_all = "camelCase")]
    Drain {
        /// The nodes of its pool: whoever of the others is out counts. One list for all of them, as a
        /// thousand lists of a thousand names are more than the rest of a plan.
        pool: Arc<[String]>,
        /// How many of them may be out with it; `None`: any number, as an operator asks.
        at_most: Option<u32>,
    },
    /// Jobs on it end by themselves.
    #[serde(rename_all = "camelCase")]
    Wait {
        /// For how long they may take, seconds since the drain.
        timeout_s: u64,
    },
    /// Its daemon is started anew.
    Restart,
    /// A machine that trueup made becomes a node: its daemon is told where the controller is, and started.
    #[serde(rename_all = "camelCase")]
    Join {
        /// The virtual machine.
        guest: Name,
        /// The controller, with its port.
        server: String,
    },
    /// Its daemon answers, and it is as it should be.
    Check,
    /// It is given back, if it is still out for our reason.
    Resume,
}

impl NodeStep {
    /// The verb shown to people.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Drain { .. } => "drain",
            Self::Wait { .. } => "wait",
            Self::Restart => "restart",
            Self::Join { .. } => "join",
            Self::Check => "check",
            Self::Resume => "resume",
        }
    }
}
