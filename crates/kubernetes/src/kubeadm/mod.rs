//! What kubeadm is told, where a cluster is built: the configuration of the first control plane and of a
//! machine that joins, in the form that its release reads; and when a control plane may be made again. Pure.
//!
//! A bootstrap token is in what a machine joins with, and in the Secret that the cluster knows it by. It has no
//! `Debug`, and is in nothing else.

pub mod again;
pub mod join;

use serde_json::{Value, json};

use crate::node::skew::Version;

/// The port of API servers.
pub const API_PORT: u16 = 6443;
/// Where containerd is asked, which is the only container runtime here.
pub const CONTAINERD: &str = "unix:///run/containerd/containerd.sock";
/// The label on a node that says which virtual machine of ours it is.
pub const MACHINE: &str = "trueup.io/machine";
/// How long kubeadm waits for a control plane. Emulated machines need far more than its own four minutes.
const HEALTHY: &str = "30m0s";
/// How long the programs of a control plane may take to say that they are at work still, and how often they do.
/// There is one control plane, so nobody else waits to take over. Each that is late by its own measure, as a slow
/// disk or a busy host makes it after some seconds, ends itself, and is started anew only to be late again.
const LEADS: [(&str, &str); 3] = [
    ("leader-elect-lease-duration", "60s"),
    ("leader-elect-renew-deadline", "45s"),
    ("leader-elect-retry-period", "5s"),
];
/// The oldest minor release that is known here.
const OLDEST: u32 = 20;

/// The version of kubeadm's configuration (kubernetes.io/docs, kubeadm-config).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    V1beta2,
    V1beta3,
    V1beta4,
}

impl Form {
    /// The newest one that a release reads.
    fn of(kubeadm: Version) -> Self {
        match kubeadm.minor {
            ..22 => Self::V1beta2,
            22..31 => Self::V1beta3,
            _ => Self::V1beta4,
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::V1beta2 => "kubeadm.k8s.io/v1beta2",
            Self::V1beta3 => "kubeadm.k8s.io/v1beta3",
            Self::V1beta4 => "kubeadm.k8s.io/v1beta4",
        }
    }

    /// Arguments of a program.
    fn arguments(self, all: &[(&str, &str)]) -> Value {
        match self {
            Self::V1beta2 | Self::V1beta3 => {
                all.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
            }
            Self::V1beta4 => {
                all.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
            }
        }
    }
}

/// A machine of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine<'a> {
    /// What the node is called.
    pub node: &'a str,
    /// What its virtual machine is called.
    pub name: &'a str,
    /// Its address.
    pub address: &'a str,
}

impl Machine<'_> {
    fn registration(&self, form: Form) -> Value {
        let labels = format!("{MACHINE}={}", self.name);
        let arguments = form.arguments(&[("node-ip", self.address), ("node-labels", &labels)]);
        // Old ones take the path alone.
        let socket = match form {
            Form::V1beta2 => CONTAINERD.trim_start_matches("unix://"),
            Form::V1beta3 | Form::V1beta4 => CONTAINERD,
        };
        json!({"name": self.node, "criSocket": socket, "kubeletExtraArgs": arguments})
    }
}

/// A cluster that is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewCluster<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its control plane.
    pub machine: Machine<'a>,
    /// Addresses of pods.
    pub pods: &'a str,
    /// Addresses of services.
    pub services: &'a str,
    /// Where the images of its own programs are; `None`: where kubeadm looks for them.
    pub images: Option<&'a str>,
}

/// Whether a kubeadm of this release is one that this module knows how to speak to.
///
/// # Errors
/// It is not, in words.
pub fn known(kubeadm: Version) -> Result<(), String> {
    match kubeadm.major == 1 && kubeadm.minor >= OLDEST {
        true => Ok(()),
        false => Err(format!("kubeadm {kubeadm} is not known here: 1.{OLDEST} is the oldest")),
    }
}

/// What `kubeadm init --config` reads.
pub fn init(cluster: &NewCluster<'_>, kubeadm: Version) -> String {
    let form = Form::of(kubeadm);
    let mut init = json!({
        "apiVersion": form.api_version(),
        "kind": "InitConfiguration",
        // Nobody joins by the token that kubeadm makes in any case: it is over at once.
        "bootstrapTokens": [{"ttl": "1s"}],
        "localAPIEndpoint": {"advertiseAddress": cluster.machine.address, "bindPort": API_PORT},
        "nodeRegistration": cluster.machine.registration(form),
    });
    let mut whole = json!({
        "apiVersion": form.api_version(),
        "kind": "ClusterConfiguration",
        "kubernetesVersion": kubeadm.to_string(),
        "clusterName": cluster.name,
        "networking": {"podSubnet": cluster.pods, "serviceSubnet": cluster.services},
        "controllerManager": {"extraArgs": form.arguments(&LEADS)},
        "scheduler": {"extraArgs": form.arguments(&LEADS)},
    });
    if let Some(images) = cluster.images {
        whole["imageRepository"] = images.into();
    }
    match form {
        Form::V1beta2 | Form::V1beta3 => {
            whole["apiServer"] = json!({"timeoutForControlPlane": HEALTHY});
        }
        Form::V1beta4 => {
            init["timeouts"] = json!({"controlPlaneComponentHealthCheck": HEALTHY});
        }
    }
    let kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        "rotateCertificates": true,
    });
    documents(&[init, whole, kubelet])
}

/// JSON is YAML, in which nothing has to be quoted by hand.
fn documents(all: &[Value]) -> String {
    let texts: Vec<String> = all.iter().map(Value::to_string).collect();
    format!("{}\n", texts.join("\n---\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CTL: Machine<'_> = Machine { node: "ctl", name: "cloud-ctl", address: "10.9.0.10" };

    fn cluster() -> NewCluster<'static> {
        NewCluster {
            name: "cloud",
            machine: CTL,
            pods: "10.244.0.0/16",
            services: "10.96.0.0/12",
            images: None,
        }
    }

    fn read(kubeadm: &str) -> Vec<Value> {
        let text = init(&cluster(), kubeadm.parse().unwrap());
        text.split("\n---\n").map(|one| serde_json::from_str(one).unwrap()).collect()
    }

    #[test]
    fn each_release_is_told_in_the_form_that_it_reads() {
        let [init, whole, kubelet] = &read("v1.20.2")[..] else { panic!() };
        assert_eq!(init["apiVersion"], "kubeadm.k8s.io/v1beta2");
        let node = &init["nodeRegistration"];
        assert_eq!(node["criSocket"], "/run/containerd/containerd.sock");
        assert_eq!(node["kubeletExtraArgs"]["node-labels"], "trueup.io/machine=cloud-ctl");
        assert_eq!(whole["apiServer"]["timeoutForControlPlane"], HEALTHY);
        assert_eq!(whole["kubernetesVersion"], "v1.20.2");
        assert_eq!(kubelet["cgroupDriver"], "systemd");
        assert!(whole.get("imageRepository").is_none());
        for program in ["controllerManager", "scheduler"] {
            let lease = &whole[program]["extraArgs"]["leader-elect-lease-duration"];
            assert_eq!(lease, "60s", "{program}");
        }
        let [init, whole, _] = &read("v1.30.4")[..] else { panic!() };
        assert_eq!(init["apiVersion"], "kubeadm.k8s.io/v1beta3");
        assert_eq!(init["nodeRegistration"]["criSocket"], CONTAINERD);
        assert_eq!(whole["apiServer"]["timeoutForControlPlane"], HEALTHY);
        let [init, whole, _] = &read("v1.33.1")[..] else { panic!() };
        assert_eq!(init["apiVersion"], "kubeadm.k8s.io/v1beta4");
        let arguments = &init["nodeRegistration"]["kubeletExtraArgs"];
        assert_eq!(arguments[0], json!({"name": "node-ip", "value": "10.9.0.10"}));
        assert_eq!(init["timeouts"]["controlPlaneComponentHealthCheck"], HEALTHY);
        assert!(whole.get("apiServer").is_none(), "1.31 and later refuse the old field");
        let leads = &whole["scheduler"]["extraArgs"][1];
        assert_eq!(*leads, json!({"name": "leader-elect-renew-deadline", "value": "45s"}));
    }

    #[test]
    fn a_kubeadm_that_nobody_tried_is_refused() {
        assert!(known("1.33.0".parse().unwrap()).is_ok());
        let why = known("1.19.4".parse().unwrap()).unwrap_err();
        assert_eq!(why, "kubeadm v1.19.4 is not known here: 1.20 is the oldest");
        assert!(known("2.0.0".parse().unwrap()).is_err());
    }
}
