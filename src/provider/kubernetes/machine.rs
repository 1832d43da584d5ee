//! What is written on the machines of a cluster that trueup builds, and what is found of it there. All of it
//! goes through the machine's agent, so that nothing of it is in an image or on cloud-init media, and no change
//! of it starts a machine anew.
//!
//! Each part has a mark, written last: whatever was cut off is as if it had not begun.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use trueup_kubernetes::podnet::PodNetwork;
use trueup_slurm::Machine as _;
use trueup_slurm::run::Argv;

use super::data;
use crate::model::resource::{KubernetesData, KubernetesMachineSeen};
use crate::provider::guest::Guest;

/// Longest that one question to a machine may take, which may be emulated.
const QUESTION: Duration = Duration::from_secs(90);
/// The same where nothing is done but looking: less than a look at a cluster may take, so that a machine on which
/// programs hang hides no other.
const GLANCE: Duration = Duration::from_secs(30);
/// The kernel's part in networks of pods, from each start on.
const MODULES: (&str, &str) =
    ("/etc/modules-load.d/trueup.conf", "# Written by trueup.\noverlay\nbr_netfilter\n");
const SYSCTLS: (&str, &str) = (
    "/etc/sysctl.d/90-trueup.conf",
    "# Written by trueup.\nnet.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\n\
     net.bridge.bridge-nf-call-ip6tables = 1\n",
);
const CONTAINERD: &str = "/etc/containerd/config.toml";
/// What kubeadm gives a kubelet before it starts it.
const KUBELET: &str = "/var/lib/kubelet/config.yaml";
/// Where plugins of networks are: Debian's package has them in the first, everybody else's in the second.
const PLUGINS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];
const PODS: &str = "/etc/cni/net.d/10-trueup.conflist";
/// What keeps systemd-networkd from the links of pods: told to configure every ethernet, as by many images, it
/// takes them off their bridge, and pods reach nobody.
const UNMANAGED: (&str, &str) = (
    "/etc/systemd/network/05-trueup-pods.network",
    "# Written by trueup.\n[Match]\nName=cni0 veth*\n\n[Link]\nUnmanaged=yes\n",
);
const NETWORKD: &str = "systemd-networkd.service";
const ROUTES: &str = "/etc/systemd/system/trueup-pods.service";
const ROUTES_UNIT: &str = "trueup-pods.service";
/// systemd reads all of its units with each `enable` otherwise, and an emulated machine does nothing else meanwhile:
/// a control plane was missed for that.
pub(super) const NO_RELOAD: &str = "--no-reload";
/// Where marks are. kubeadm clears its own folders.
const MARKS: &str = "/var/lib/trueup";
const PREPARED: &str = "/var/lib/trueup/prepared";
const JOINED: &str = "/var/lib/trueup/joined";
const CONNECTED: &str = "/var/lib/trueup/connected";

/// The control plane, in its own mark.
pub(super) const CONTROL_PLANE: &str = "control plane";

fn containerd(plugins: &str) -> String {
    const RUNTIME: &str = "plugins.\"io.containerd.grpc.v1.cri\"";
    format!(
        "# Written by trueup.\nversion = 2\n\n[{RUNTIME}.cni]\nbin_dir = \"{plugins}\"\n\n\
         [{RUNTIME}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\n\
         [{RUNTIME}.containerd.runtimes.runc.options]\nSystemdCgroup = true\n"
    )
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// What stands for all files of a machine that was set up, in its mark.
fn prepared(plugins: &str) -> String {
    digest(&[MODULES.1, SYSCTLS.1, &containerd(plugins)].concat())
}

fn connected(network: &PodNetwork) -> String {
    digest(&[network.plugins.as_str(), &network.routes, UNMANAGED.1].concat())
}

/// What is to be found on a machine.
pub(super) struct Wanted<'a> {
    /// What it is a node of: the digest of the cluster's authorities, or [`CONTROL_PLANE`].
    pub(super) of: &'a str,
    /// How its pods are connected; `None`: that is not ours, or not known yet.
    pub(super) network: Option<&'a PodNetwork>,
    /// Whether what the cluster knows has a disk of its own on it.
    pub(super) data: bool,
}

/// What a machine is marked with that is a node of the cluster with these authorities.
pub(super) fn node_of(authorities: &str) -> String {
    digest(authorities)
}

/// The digests of files, by path, as sha256sum(1) tells them.
struct Files(BTreeMap<String, String>);

impl Files {
    fn of(guest: &Guest, limit: Duration) -> Result<Self, String> {
        let all = [
            PREPARED,
            JOINED,
            CONNECTED,
            MODULES.0,
            SYSCTLS.0,
            CONTAINERD,
            PODS,
            ROUTES,
            UNMANAGED.0,
        ];
        // It ends with an error where one of them is not there, and tells of the others.
        let said = guest.run(&Argv::new("sha256sum").args(all), limit);
        let said = said.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let named = lines.map(|(digest, name)| {
            (name.trim_start_matches([' ', '*']).to_owned(), digest.to_owned())
        });
        Ok(Self(named.collect()))
    }

    fn has(&self, path: &str, text: &str) -> bool {
        self.0.get(path).is_some_and(|found| *found == digest(text))
    }

    fn is_prepared(&self) -> bool {
        let with = |plugins: &&str| {
            self.has(CONTAINERD, &containerd(plugins)) && self.has(PREPARED, &prepared(plugins))
        };
        [MODULES, SYSCTLS].iter().all(|(path, text)| self.has(path, text))
            && PLUGINS.iter().any(with)
    }

    fn is_connected(&self, network: &PodNetwork) -> bool {
        self.has(PODS, &network.plugins)
            && self.has(ROUTES, &network.routes)
            && self.has(UNMANAGED.0, UNMANAGED.1)
            && self.has(CONNECTED, &connected(network))
    }
}

/// How a machine is.
///
/// # Errors
/// It does not say, in words.
pub(super) fn look(guest: &Guest, wanted: &Wanted<'_>) -> Result<KubernetesMachineSeen, String> {
    let files = Files::of(guest, GLANCE)?;
    Ok(KubernetesMachineSeen {
        prepared: files.is_prepared(),
        joined: files.has(JOINED, wanted.of),
        connected: wanted.network.is_none_or(|network| files.is_connected(network)),
        data: match wanted.data {
            true => data::look(guest).map_err(|error| error.to_string())?,
            false => KubernetesData::Elsewhere,
        },
    })
}

/// Whether a machine was marked as what `of` says.
///
/// # Errors
/// It does not say.
pub(super) fn is(guest: &Guest, of: &str) -> io::Result<bool> {
    let found = guest.read(Path::new(JOINED))?;
    Ok(found.is_some_and(|found| found == of.as_bytes()))
}

/// Marks a machine as what it was made.
///
/// # Errors
/// The mark cannot be written.
pub(super) fn mark(guest: &Guest, of: &str) -> io::Result<()> {
    guest.replace(Path::new(JOINED), of.as_bytes())
}

/// Takes that mark away.
///
/// # Errors
/// It cannot be removed.
pub(super) fn unmark(guest: &Guest) -> io::Result<()> {
    guest.remove(Path::new(JOINED))
}

/// Sets a machine up to be a node; whether it was not yet.
///
/// # Errors
/// It cannot be.
pub(super) fn prepare(guest: &Guest) -> io::Result<bool> {
    if Files::of(guest, QUESTION).map_err(io::Error::other)?.is_prepared() {
        return Ok(false);
    }
    guest.must(&[
        "mkdir",
        "-p",
        MARKS,
        "/etc/containerd",
        "/etc/modules-load.d",
        "/etc/sysctl.d",
    ])?;
    guest.remove(Path::new(PREPARED))?;
    let plugins = plugins(guest)?;
    for (path, text) in [MODULES, SYSCTLS] {
        guest.replace(Path::new(path), text.as_bytes())?;
    }
    guest.replace(Path::new(CONTAINERD), containerd(plugins).as_bytes())?;
    // In this order: some of the settings are of the modules.
    guest.must(&["systemctl", "restart", "systemd-modules-load.service"])?;
    guest.must(&["systemctl", "restart", "systemd-sysctl.service"])?;
    guest.must(&["systemctl", "enable", NO_RELOAD, "containerd.service", "kubelet.service"])?;
    guest.must(&["systemctl", "restart", "containerd.service"])?;
    if !guest.says_yes(&["test", "-e", KUBELET])? {
        // Else it would end over and over until kubeadm starts it, which keeps an emulated machine busy.
        guest.must(&["systemctl", "stop", "kubelet.service"])?;
    }
    guest.replace(Path::new(PREPARED), prepared(plugins).as_bytes())?;
    Ok(true)
}

/// Where a machine has plugins of networks.
fn plugins(guest: &Guest) -> io::Result<&'static str> {
    for folder in PLUGINS {
        let argv = Argv::new("test").args(["-x", &format!("{folder}/loopback")]);
        let said = guest.run(&argv, QUESTION).map_err(io::Error::other)?;
        if said.status.success() {
            return Ok(folder);
        }
    }
    let words = format!(
        "its image has no plugins of networks in {}: it needs containernetworking-plugins, or \
         kubernetes-cni",
        PLUGINS.join(" or ")
    );
    Err(io::Error::other(words))
}

/// Connects the pods of a machine with all others; whether they were not yet.
///
/// # Errors
/// They cannot be.
pub(super) fn connect(guest: &Guest, network: &PodNetwork) -> io::Result<bool> {
    if Files::of(guest, QUESTION).map_err(io::Error::other)?.is_connected(network) {
        return Ok(false);
    }
    guest.remove(Path::new(CONNECTED))?;
    guest.must(&["mkdir", "-p", "/etc/cni/net.d", "/etc/systemd/network"])?;
    guest.replace(Path::new(UNMANAGED.0), UNMANAGED.1.as_bytes())?;
    if guest.says_yes(&["systemctl", "is-active", "--quiet", NETWORKD])? {
        guest.must(&["networkctl", "reload"])?;
    }
    guest.replace(Path::new(ROUTES), network.routes.as_bytes())?;
    guest.must(&["systemctl", "enable", NO_RELOAD, ROUTES_UNIT])?;
    guest.must(&["systemctl", "daemon-reload"])?;
    guest.must(&["systemctl", "restart", ROUTES_UNIT])?;
    // Last: by it the node is told to be well.
    guest.replace(Path::new(PODS), network.plugins.as_bytes())?;
    guest.replace(Path::new(CONNECTED), connected(network).as_bytes())?;
    Ok(true)
}
