//! `Cluster` of type `kubernetes`: one that is there, taken over by the kubeconfig that the host's config
//! names, or one that is built of virtual machines.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::cluster_machine::ClusterMachineSpec;
use crate::spec::scalar::SizeText;

/// A cluster that Kubernetes runs. Which kubeconfig leads to one that is there is in the host's config, under
/// `clusters`: a commit chooses no credentials. With `machines` it is built, by kubeadm.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesClusterSpec {
    /// What runs it.
    pub r#type: KubernetesType,
    /// The minor release that its API server has to be of: `'1.33'`. It is compared and told; nothing is
    /// upgraded. With `machines` it is needed, kubeadm in the image of the control plane has to be of it, and the
    /// next one is an upgrade.
    pub version: Option<String>,
    /// Builds it of virtual machines, one for the control plane and one for each node, called CLUSTER-NODE.
    /// Each needs an `address`. A cluster that is there already has none.
    pub machines: Option<Box<ClusterMachineSpec>>,
    /// The machine of the control plane; with `machines` only, and one. It is made anew with another image where
    /// its own `machine` says `onImageChange: replace`, which is how it gets another release.
    #[serde(default)]
    pub control_plane: Vec<KubernetesHostSpec>,
    /// Addresses of pods: `10.244.0.0/16`, the default. Each node has 256 of them. With `machines` only.
    pub pod_cidr: Option<String>,
    /// Addresses of services: `10.96.0.0/12`, the default. With `machines` only.
    pub service_cidr: Option<String>,
    /// What connects pods: `bridge`, the default, or `none`, where a release does. With `machines` only.
    pub cni: Option<PodNetworkSpec>,
    /// Whether the cluster has names for services (CoreDNS): `true`, the default. With `machines` only.
    pub dns: Option<bool>,
    /// Where the images of the control plane are, if not where kubeadm looks for them: `registry.example.org/k8s`.
    /// With `machines` only.
    pub image_repository: Option<String>,
    /// Nodes, pool by pool: those of a pool are alike, and change one after another. Nodes of no pool are
    /// left alone.
    #[serde(default)]
    pub pools: Vec<KubernetesPoolSpec>,
    /// How long pods may take to leave a node that is taken out: `30m`, the default.
    pub drain_timeout: Option<String>,
    /// How many nodes of a pool may be out of use at once, whoever took them out.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub max_unavailable: u32,
    /// What may be done to pods that would not come back as they are.
    #[serde(default)]
    pub evict: KubernetesEvictSpec,
    /// Namespaces, with what is around them. What is not named here is left alone.
    #[serde(default)]
    pub namespaces: Vec<KubernetesNamespaceSpec>,
    /// When certificates are told of, and when they are renewed.
    #[serde(default)]
    pub certificates: KubernetesCertificatesSpec,
}

fn one() -> u32 {
    1
}

/// That Kubernetes runs a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum KubernetesType {
    /// Kubernetes.
    Kubernetes,
}

/// Nodes that are alike.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesPoolSpec {
    /// Its name.
    pub name: String,
    /// Its nodes, as `kubectl get nodes` calls them; one entry may be several: `gpu[1-16]`. Of a cluster that is
    /// built each has an address: `{name: "gpu[1-16]", address: 10.0.0.11}`.
    pub nodes: Vec<KubernetesNodeSpec>,
    /// Labels of each node. What is no longer said here goes; what others set stays.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints of each node. One that keeps pods away is only set on a node that is empty.
    #[serde(default)]
    pub taints: Vec<KubernetesTaintSpec>,
    /// What the device plugin has to offer on each node.
    pub gpus: Option<KubernetesGpusSpec>,
    /// The minor release that its kubelets have to be of, where it is behind the API server's: `1.32`.
    pub version: Option<String>,
    /// What their virtual machines have otherwise; with `machines` only.
    pub machine: Option<Box<ClusterMachineSpec>>,
}

/// Nodes of a pool: their names, or with `machines` their machines.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum KubernetesNodeSpec {
    /// What they are called.
    Name(String),
    /// What they are called, and where their machines are.
    Host(KubernetesHostSpec),
}

impl KubernetesNodeSpec {
    /// What they are called.
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Host(host) => &host.name,
        }
    }

    /// Where the name stands in it.
    pub fn name_at(&self) -> &'static str {
        match self {
            Self::Name(_) => "",
            Self::Host(_) => "/name",
        }
    }
}

impl<'de> Deserialize<'de> for KubernetesNodeSpec {
    /// By its shape, and not by trying: what is wrong is then told of the one that was meant.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(name) => Ok(Self::Name(name)),
            host => serde_json::from_value(host).map(Self::Host).map_err(de::Error::custom),
        }
    }
}

/// A machine of a cluster that is built.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesHostSpec {
    /// What its node is called. Nodes of a pool may be several: `n[1-16]`.
    pub name: String,
    /// Its address on the machines' network; of several, that of the first one, which the others follow.
    pub address: Option<String>,
    /// What its virtual machine has otherwise.
    pub machine: Option<Box<ClusterMachineSpec>>,
    /// The size of the disk on which the control plane has what the cluster knows, and which stays when its machine
    /// is made anew: `8GiB`, the default. It may grow. Of the control plane only.
    pub data_disk: Option<SizeText>,
}

/// What connects the pods of a cluster that is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PodNetworkSpec {
    /// The plugin `bridge` on each machine, and routes between machines, which are on one network. It knows no
    /// network policies.
    #[default]
    Bridge,
    /// Nothing of trueup's: a release has to bring it, and nodes are not waited for.
    None,
}

/// A taint.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesTaintSpec {
    /// Its key: `nvidia.com/gpu`.
    pub key: String,
    /// Its value; none when not given.
    #[serde(default)]
    pub value: String,
    /// What it does to pods that do not tolerate it.
    pub effect: TaintEffect,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// None comes.
    NoSchedule,
    /// None comes if there is another place.
    PreferNoSchedule,
    /// None comes, and those that are there go.
    NoExecute,
}

impl TaintEffect {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// GPUs of each node of a pool, as NVIDIA's device plugin offers them.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesGpusSpec {
    /// How the plugin names parts of GPUs (`MIG_STRATEGY`).
    #[serde(default)]
    pub strategy: MigStrategy,
    /// How many `nvidia.com/gpu` a node offers: whole GPUs, and with `single` the parts of them.
    pub count: Option<u64>,
    /// How many parts of each MIG profile a node offers: `1g.10gb: 7`. With `mixed` only.
    #[serde(default)]
    pub partitions: BTreeMap<String, u64>,
}

/// How NVIDIA's device plugin names parts of GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MigStrategy {
    /// There are none: `nvidia.com/gpu` is a whole one.
    #[default]
    None,
    /// All GPUs of a node are cut into the same parts, and each is an `nvidia.com/gpu`.
    Single,
    /// Each profile has a name of its own: `nvidia.com/mig-1g.10gb`.
    Mixed,
}

/// What may be done to pods that would not come back as they are. Without either, a node with such a pod
/// is not drained, and the pod is told.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KubernetesEvictSpec {
    /// Pods that nobody makes anew may be evicted.
    pub bare_pods: bool,
    /// Data in a pod's own folders (`emptyDir`) may be lost.
    pub local_data: bool,
}

/// A namespace, with what is around it. When it goes from the document, the namespace and all in it stay;
/// what was put around it goes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesNamespaceSpec {
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What all in it may ask for together (`ResourceQuota`): `requests.nvidia.com/gpu: '4'`.
    #[serde(default)]
    pub quota: BTreeMap<String, String>,
    /// What one container gets that says nothing, and may say (`LimitRange`).
    #[serde(default)]
    pub limits: KubernetesLimitsSpec,
    /// Who may do what in it (`RoleBinding`).
    #[serde(default)]
    pub access: Vec<KubernetesAccessSpec>,
    /// Who may be given a kubeconfig for it for a while, with `trueup cluster access kubeconfig`.
    #[serde(default)]
    pub kubeconfigs: Vec<KubernetesKubeconfigSpec>,
    /// Who reaches its pods (`NetworkPolicy`).
    #[serde(default)]
    pub network_policy: NetworkPolicySpec,
}

/// What one container gets that says nothing, and may say: by resource, `cpu: 500m`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KubernetesLimitsSpec {
    /// Its limits, where it has none.
    pub default: BTreeMap<String, String>,
    /// What it asks for, where it does not say.
    pub default_request: BTreeMap<String, String>,
    /// The most that it may say.
    pub max: BTreeMap<String, String>,
    /// The least.
    pub min: BTreeMap<String, String>,
}

/// Who may do what. Either a group or a user.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesAccessSpec {
    /// All of a group, as whoever authenticates them says.
    pub group: Option<String>,
    /// One.
    pub user: Option<String>,
    /// What they may do.
    pub role: AccessRole,
}

/// Somebody who may be given a kubeconfig for a while. It is made when an operator asks for it, and gives
/// no more than this.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesKubeconfigSpec {
    /// Who.
    pub user: String,
    /// What they may do at most.
    pub role: KubeconfigRole,
    /// For how long at most: `8h`, the default; between `10m` and `7d`.
    pub at_most: Option<String>,
}

/// What a kubeconfig for a while lets somebody do in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum KubeconfigRole {
    /// Look, but not at Secrets.
    View,
    /// Change what runs.
    Edit,
}

/// What somebody may do in a namespace: each is the cluster's own role of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AccessRole {
    /// Look, but not at Secrets.
    View,
    /// Change what runs.
    Edit,
    /// That, and give others rights in the namespace.
    Admin,
}

/// Who reaches the pods of a namespace. A cluster network that knows no policies reaches all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NetworkPolicySpec {
    /// Everybody.
    #[default]
    Open,
    /// Pods of the same namespace.
    SameNamespace,
    /// Nobody, and they reach nobody, not even the DNS.
    DenyAll,
}

/// When certificates are told of, and when they are renewed.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KubernetesCertificatesSpec {
    /// How long before its end: `30d`, the default.
    pub warn_before: Option<String>,
    /// How long before their end those of the control plane are renewed: `30d`, the default; `never`: trueup does not
    /// renew them. With `machines` only.
    pub renew_before: Option<String>,
}
