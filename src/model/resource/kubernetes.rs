//! The canonical form of a Kubernetes cluster: which of its nodes belong together, what they have to bear,
//! and which namespaces there have to be.
//!
//! Where the API server of one that is there is, and by which credentials it is asked, is the host's config:
//! neither is part of it. It holds no secret, and of one that is built no credentials: those are kept in the
//! state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trueup_kubernetes::cert::Certificate;
use trueup_kubernetes::grant::Found;
use trueup_kubernetes::namespace::{Namespace, Role};
use trueup_kubernetes::node::{ClusterView, DrainRules, NodeWish};
use trueup_kubernetes::{AboutCluster, Overview, release};
use trueup_slurm::hostlist;

use super::super::Name;

/// A Kubernetes cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[cfg_attr(test, derive(Default))]
#[serde(rename_all = "camelCase")]
pub struct KubernetesCluster {
    /// The minor release that its API server has to be of, as `1.33`; `None`: whichever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its nodes, pool by pool.
    pub pools: Vec<KubernetesPool>,
    /// Namespaces, with what is around them.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub namespaces: Vec<Namespace>,
    /// How long pods may take to leave a node that is taken out, seconds.
    pub drain_timeout_s: u64,
    /// What may be done to pods that would not come back as they are.
    #[schemars(with = "serde_json::Value")]
    pub evicts: DrainRules,
    /// How many nodes of a pool may be out of use at once, whoever took them out.
    pub max_unavailable: u32,
    /// How long before its end a certificate is told of, seconds.
    pub warn_before_s: u64,
    /// The machines that trueup makes for it; `None`: it is there already, and is taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<KubernetesBuilt>,
    /// Who may be given access for a while, and to what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kubeconfigs: Vec<KubeconfigRule>,
    /// What was seen of it; in observations only.
    #[serde(skip)]
    pub seen: Option<Arc<KubernetesSeen>>,
    /// What was lost of it, so that nothing else can be seen; it is no cluster that never was. In observations
    /// only.
    #[serde(skip)]
    pub lost: Option<KubernetesLost>,
}

/// What was lost of a Kubernetes cluster that is built. Nobody knows its nodes then, and pods may run on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubernetesLost {
    /// Its control plane's machine was made anew, and is none yet: nothing answers, and what the cluster knows is
    /// on a disk beside it.
    ControlPlane,
    /// The credentials that were kept for it. Its control plane is there, and has them.
    Credentials,
    /// The credentials, and the mark of its control plane; the disk beside it is not mounted, so that nobody can
    /// say what is on it.
    Unknown,
}

/// A Kubernetes cluster of virtual machines of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesBuilt {
    /// Its machines, by the names of their nodes.
    pub machines: BTreeMap<String, KubernetesMachine>,
    /// The node of the control plane.
    pub control_plane: String,
    /// The minor release that it is built of, as `1.33`.
    pub version: String,
    /// Addresses of pods.
    pub pods: String,
    /// Addresses of services.
    pub services: String,
    /// Whether the plugin `bridge` and routes connect pods; otherwise nothing of trueup's does.
    pub bridge: bool,
    /// Whether it has names for services.
    pub dns: bool,
    /// Where the images of its own programs are; `None`: where kubeadm looks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// How long before their end its certificates are renewed, seconds; `None`: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before_s: Option<u64>,
    /// The disk of what the cluster knows, which stays when the control plane's machine is made anew; `None`: it
    /// was built before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Name>,
}

/// A machine of a Kubernetes cluster that is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KubernetesMachine {
    /// The virtual machine.
    pub guest: Name,
    /// Its address.
    pub address: Ipv4Addr,
}

impl KubernetesBuilt {
    /// The machine of the control plane.
    #[must_use]
    pub fn control(&self) -> Option<&KubernetesMachine> {
        self.machines.get(&self.control_plane)
    }

    /// The node on whose machine what the cluster knows has a disk of its own.
    #[must_use]
    pub fn data_on(&self) -> Option<String> {
        self.data.as_ref().map(|_| self.control_plane.clone())
    }

    /// The virtual machines, by the names of their nodes.
    #[must_use]
    pub fn guests(&self) -> BTreeMap<String, Name> {
        self.machines.iter().map(|(node, it)| (node.clone(), it.guest.clone())).collect()
    }
}

/// What a look at one machine of a Kubernetes cluster that is built found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KubernetesMachineSeen {
    /// Whether it is set up to be a node.
    pub prepared: bool,
    /// Whether it was made the control plane, or has joined.
    pub joined: bool,
    /// Whether its pods are connected with those of all other nodes.
    pub connected: bool,
    /// Where what the cluster knows is, on the control plane's.
    pub data: KubernetesData,
}

/// Where what a cluster knows is: its authorities, and its etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KubernetesData {
    /// It is no matter of this machine.
    #[default]
    Elsewhere,
    /// On a disk of its own, which stays when the machine is made anew.
    Apart,
    /// The disk of its own has to be set up, or has to be marked as this cluster's.
    Unset,
    /// On the machine's first disk, as in clusters that were built before there was another one.
    OnRoot,
}

/// That somebody may be given access for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeconfigRule {
    /// Where.
    pub namespace: String,
    /// Who.
    pub user: String,
    /// What they may do there at most.
    #[schemars(with = "String")]
    pub role: Role,
    /// For how long at most, seconds.
    pub at_most_s: u64,
}

impl KubeconfigRule {
    /// Whether it is about this, leaving aside for how long.
    #[must_use]
    pub fn lets(&self, user: &str, namespace: &str, role: Role) -> bool {
        self.user == user && self.namespace == namespace && role <= self.role
    }
}

/// Nodes that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesPool {
    /// Its name.
    pub name: String,
    /// The minor release that its kubelets have to be of; `None`: any that fits the API server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its nodes, in the order in which they change.
    pub nodes: Vec<String>,
    /// What each of them bears.
    #[schemars(with = "serde_json::Value")]
    pub wish: NodeWish,
    /// What each of them has to offer, by resource: `nvidia.com/mig-1g.10gb`.
    pub offers: BTreeMap<String, u64>,
}

/// What a look at a Kubernetes cluster found.
#[derive(Debug, Clone, PartialEq)]
pub struct KubernetesSeen {
    /// The release of its API server, as it says it: `v1.33.1`.
    pub release: String,
    /// Everything at a glance.
    pub view: ClusterView,
    /// Its nodes by name, as the server has them.
    pub nodes: BTreeMap<String, Arc<serde_json::Value>>,
    /// Its namespaces and what is around them.
    pub namespaces: release::Seen,
    /// The certificates by which it is reached, and of one that is built those in its control plane's machine.
    pub certificates: Vec<Certificate>,
    /// Which of them, by what they are called, are made by kubeadm of a cluster that trueup built, which thus renews
    /// them. Those of a kubeconfig that the host's config names are somebody's.
    pub renewable: BTreeSet<String>,
    /// Its machines that answer, by the names of their nodes, where trueup made them.
    pub machines: BTreeMap<String, KubernetesMachineSeen>,
    /// Those of them that answer and cannot be looked at, and why.
    pub unwell: BTreeMap<String, String>,
    /// What gives people access for a while.
    pub access: Vec<Found>,
    /// The time, seconds since 1970.
    pub now: i64,
}

impl KubernetesCluster {
    /// What was seen of it in a few numbers; `None`: nothing was.
    #[must_use]
    pub fn overview(&self) -> Option<Overview> {
        let seen = self.seen.as_deref()?;
        let nodes = self.pools.iter().flat_map(|pool| &pool.nodes);
        let control = self.built.iter().map(|built| &built.control_plane);
        let expected: BTreeSet<&str> = nodes.chain(control).map(String::as_str).collect();
        let about = AboutCluster {
            release: &seen.release,
            expected: &expected,
            certificates: &seen.certificates,
            access: &seen.access,
            named: hostlist::compress_within,
        };
        Some(Overview::of(&seen.view, about))
    }
}

/// What is done to one node, in the order in which it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum KubernetesNodeStep {
    /// It is taken out of service.
    #[serde(rename_all = "camelCase")]
    Cordon {
        /// The nodes beside it, whoever of them is out counts.
        pool: Vec<String>,
        /// How many of them may be out with it; `None`: any number, as an operator asks.
        at_most: Option<u32>,
    },
    /// Its pods are asked to go, as disruption budgets allow, and go.
    #[serde(rename_all = "camelCase")]
    Drain {
        /// For how long they may take, seconds.
        timeout_s: u64,
        /// What may be done to pods that would not come back as they are.
        #[schemars(with = "serde_json::Value")]
        evicts: DrainRules,
    },
    /// It bears the labels and taints that are wished.
    #[serde(rename_all = "camelCase")]
    Set {
        /// These.
        #[schemars(with = "serde_json::Value")]
        wish: NodeWish,
        /// Whether it has to be empty for that.
        empty: bool,
    },
    /// A machine that trueup made becomes a node.
    Join {
        /// The machine.
        machine: KubernetesMachine,
        /// The minor release that it has to be of; `None`: any that fits the API server's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
    /// It is no node of the cluster any more. Its pods have left it.
    Remove,
    /// Its kubelet answers, and it is as it should be.
    Check {
        /// What it has to offer by then, by resource.
        offers: BTreeMap<String, u64>,
    },
    /// It is given back, if it is still out by our mark.
    Uncordon,
}

impl KubernetesNodeStep {
    /// The verb shown to people.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Cordon { .. } => "cordon",
            Self::Drain { .. } => "drain",
            Self::Set { .. } => "label",
            Self::Join { .. } => "join",
            Self::Remove => "remove",
            Self::Check { .. } => "check",
            Self::Uncordon => "uncordon",
        }
    }
}
