//! A Kubernetes cluster that is built: where each of its machines is, and what it is built of.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use trueup_kubernetes::kubeadm;
use trueup_kubernetes::node::skew::Version;
use trueup_kubernetes::podnet::Subnet;
use trueup_slurm::hostlist;

use super::super::super::super::kinds::Spec;
use super::super::super::super::kinds::cluster_kubernetes::{
    KubernetesClusterSpec, KubernetesHostSpec, KubernetesNodeSpec, PodNetworkSpec,
};
use super::super::super::super::machines::{addresses, data_name, machine_name};
use super::super::super::super::scalar;
use super::super::super::Cx;
use super::{is_node, span};
use crate::model::resource::{KubernetesBuilt, KubernetesMachine};
use crate::model::{Kind, ResourceId};

/// Addresses of pods and services, when nothing is said: kubeadm's own, and what most networks of pods expect.
const PODS: &str = "10.244.0.0/16";
const SERVICES: &str = "10.96.0.0/12";
/// How many bits the addresses of the pods of one node have in common (kube-controller-manager,
/// `--node-cidr-mask-size`).
const OF_NODE: u8 = 24;
/// How long before their end certificates are renewed when nothing is said, seconds, and what says that they are not.
const RENEW_S: u64 = 30 * 24 * 3600;
const NEVER: &str = "never";
/// Longest time before their end at which certificates are renewed, seconds: kubeadm makes them for a year.
const RENEW_MAX_S: u64 = 300 * 24 * 3600;
/// Shortest and longest subnet of services that kubeadm takes.
const SERVICE_BITS: std::ops::RangeInclusive<u8> = 12..=28;

/// Fields of clusters that are built have no place in one that is taken over.
pub(super) fn refuse(cx: &mut Cx<'_>, spec: &KubernetesClusterSpec) {
    let mut refuse = |is_there: bool, pointer: &str| {
        if is_there {
            let field = pointer.rsplit('/').next().unwrap_or_default();
            let message =
                format!("`{field}` is for a cluster that is built, and this one is taken over");
            cx.err("spec/conflict", pointer, message)
                .hint("say `machines` to have it built of virtual machines");
        }
    };
    refuse(!spec.control_plane.is_empty(), "/spec/controlPlane");
    refuse(spec.pod_cidr.is_some(), "/spec/podCidr");
    refuse(spec.service_cidr.is_some(), "/spec/serviceCidr");
    refuse(spec.cni.is_some(), "/spec/cni");
    refuse(spec.dns.is_some(), "/spec/dns");
    refuse(spec.image_repository.is_some(), "/spec/imageRepository");
    refuse(spec.certificates.renew_before.is_some(), "/spec/certificates/renewBefore");
    for (p, pool) in spec.pools.iter().enumerate() {
        refuse(pool.machine.is_some(), &format!("/spec/pools/{p}/machine"));
        for (n, node) in pool.nodes.iter().enumerate() {
            let KubernetesNodeSpec::Host(host) = node else { continue };
            let at = format!("/spec/pools/{p}/nodes/{n}");
            refuse(host.machine.is_some(), &format!("{at}/machine"));
            refuse(host.address.is_some(), &format!("{at}/address"));
            refuse(host.data_disk.is_some(), &format!("{at}/dataDisk"));
        }
    }
}

/// What it is built of; `version` is that of the document.
pub(super) fn resolve(
    cx: &mut Cx<'_>,
    spec: &KubernetesClusterSpec,
    version: Option<&str>,
) -> Option<KubernetesBuilt> {
    not_yet(cx, spec);
    let version = release(cx, version);
    let subnets = subnets(cx, spec);
    let renew_before_s = match spec.certificates.renew_before.as_deref() {
        None => Some(Some(RENEW_S)),
        Some(NEVER) => Some(None),
        some => span(cx, "/spec/certificates/renewBefore", some).map(Some),
    };
    if renew_before_s.flatten().is_some_and(|before| before > RENEW_MAX_S) {
        let message = "they last a year, and would be renewed again and again: at most 300d";
        cx.err("spec/range", "/spec/certificates/renewBefore", message);
    }
    let images = spec.image_repository.as_deref().map(image_repository).transpose();
    let images = cx.check("/spec/imageRepository", images);
    let machines = machines(cx, spec)?;
    let Some(control) = spec.control_plane.first() else {
        let message = "field `controlPlane` is missing";
        cx.err("spec/missing-field", "/spec", message)
            .hint("the machine of the control plane: `[{name: ctl, address: 10.0.0.10}]`");
        return None;
    };
    for machine in machines.values() {
        cx.need(ResourceId::new(Kind::VirtualMachine, machine.guest.clone()));
    }
    let data = machines.get(&control.name).and_then(|it| data_name(&it.guest).ok());
    let (pods, services) = subnets?;
    Some(KubernetesBuilt {
        control_plane: control.name.clone(),
        machines,
        version: version?,
        pods: pods.to_string(),
        services: services.to_string(),
        bridge: spec.cni.unwrap_or_default() == PodNetworkSpec::Bridge,
        dns: spec.dns.unwrap_or(true),
        images: images?,
        renew_before_s: renew_before_s?,
        data,
    })
}

/// The release that it is built of.
fn release(cx: &mut Cx<'_>, version: Option<&str>) -> Option<String> {
    let Some(version) = version else {
        let message = "field `version` is missing: a cluster is built of one release";
        cx.err("spec/missing-field", "/spec", message).hint("that of kubeadm in the image: '1.33'");
        return None;
    };
    // One that is none was told.
    let read: Version = version.parse().ok()?;
    cx.check("/spec/version", kubeadm::known(read))?;
    Some(version.to_owned())
}

/// Addresses of pods and services.
fn subnets(cx: &mut Cx<'_>, spec: &KubernetesClusterSpec) -> Option<(Subnet, Subnet)> {
    let mut read = |field: &str, text: Option<&str>, usual: &str| {
        cx.check(format!("/spec/{field}"), Subnet::read(text.unwrap_or(usual)))
    };
    let pods = read("podCidr", spec.pod_cidr.as_deref(), PODS);
    let services = read("serviceCidr", spec.service_cidr.as_deref(), SERVICES);
    let (pods, services) = (pods?, services?);
    if pods.bits() > OF_NODE {
        let message = format!("each node gets a /{OF_NODE} of it, and there is none in {pods}");
        cx.err("spec/range", "/spec/podCidr", message);
    }
    if !SERVICE_BITS.contains(&services.bits()) {
        let message = format!(
            "kubeadm takes a /{} to /{} for services, not {services}",
            SERVICE_BITS.start(),
            SERVICE_BITS.end()
        );
        cx.err("spec/range", "/spec/serviceCidr", message);
    }
    if pods.overlaps(services) {
        let message = format!("{services} of services and {pods} of pods have addresses in common");
        cx.err("spec/conflict", "/spec/serviceCidr", message).hint("choose other ones");
    }
    let networks = networks(cx, spec);
    for (field, subnet) in [("podCidr", pods), ("serviceCidr", services)] {
        for (network, of) in &networks {
            if subnet.overlaps(*of) {
                let message =
                    format!("{subnet} has addresses of the machines' own network {network} ({of})");
                cx.err("spec/conflict", format!("/spec/{field}"), message)
                    .hint("choose another one");
            }
        }
    }
    Some((pods, services))
}

/// The addresses of the networks of all machines, by name. What is wrong with one is told at its own place.
fn networks(cx: &mut Cx<'_>, spec: &KubernetesClusterSpec) -> BTreeMap<String, Subnet> {
    let layers = spec.machines.as_deref().into_iter();
    let layers = layers.chain(spec.control_plane.iter().filter_map(|it| it.machine.as_deref()));
    let layers = layers.chain(spec.pools.iter().filter_map(|it| it.machine.as_deref()));
    let named: Vec<String> = layers.filter_map(|it| it.network.clone()).collect();
    let mut found = BTreeMap::new();
    for name in named {
        let there = crate::model::Name::new(name.as_str())
            .is_ok_and(|of| cx.world.by_id.contains_key(&ResourceId::new(Kind::Network, of)));
        let doc = match there {
            true => cx.look_up("/spec/machines/network", Kind::Network, &name),
            false => None,
        };
        let Some(Spec::Network(network)) = doc.as_deref().map(|doc| &doc.spec) else { continue };
        found.extend(network.cidr.as_deref().and_then(around).map(|subnet| (name, subnet)));
    }
    found
}

/// The subnet of an address with its bits: `10.0.0.1/24` is of 10.0.0.0/24.
fn around(text: &str) -> Option<Subnet> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits): (Ipv4Addr, u32) = (address.parse().ok()?, bits.parse().ok()?);
    let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits)?).unwrap_or(0);
    Subnet::read(&format!("{}/{bits}", Ipv4Addr::from(address.to_bits() & mask))).ok()
}

/// Every machine, by the name of its node.
fn machines(
    cx: &mut Cx<'_>,
    spec: &KubernetesClusterSpec,
) -> Option<BTreeMap<String, KubernetesMachine>> {
    let of = |at: String, host| (at, host);
    let control = spec.control_plane.iter().enumerate();
    let control = control.map(|(n, host)| of(format!("/spec/controlPlane/{n}"), host));
    let nodes = spec.pools.iter().enumerate().flat_map(|(p, pool)| {
        pool.nodes.iter().enumerate().filter_map(move |(n, node)| match node {
            KubernetesNodeSpec::Host(host) => Some((format!("/spec/pools/{p}/nodes/{n}"), host)),
            KubernetesNodeSpec::Name(_) => None,
        })
    });
    let mut all: BTreeMap<String, KubernetesMachine> = BTreeMap::new();
    for (at, host) in control.chain(nodes).collect::<Vec<_>>() {
        for (node, machine) in entry(cx, &at, host)? {
            if all.insert(node.clone(), machine).is_some() && at.starts_with("/spec/pools") {
                // Twice in the pools was told with them.
                let is_control = spec.control_plane.iter().any(|it| it.name == node);
                if is_control {
                    let message = format!("`{node}` is the control plane, which is of no pool");
                    cx.err("spec/conflict", format!("{at}/name"), message);
                }
            }
        }
    }
    Some(all)
}

/// The machines of one entry. What is wrong with names of machines was told with the machines.
fn entry(
    cx: &mut Cx<'_>,
    at: &str,
    host: &KubernetesHostSpec,
) -> Option<Vec<(String, KubernetesMachine)>> {
    // Those of pools were told with the pools.
    let names = match at.starts_with("/spec/controlPlane") {
        false => hostlist::expand(&host.name).ok()?,
        true => {
            let names = hostlist::expand(&host.name).map_err(|error| error.to_string());
            let names = names.and_then(|names| match names.iter().find(|name| !is_node(name)) {
                None => Ok(names),
                Some(name) => Err(format!("`{}` is no name of a node", name.escape_debug())),
            });
            cx.check(format!("{at}/name"), names)?
        }
    };
    let found = addresses(host.address.as_deref()?, names.len()).ok()?;
    let mut all = Vec::with_capacity(names.len());
    for (node, address) in names.into_iter().zip(found) {
        let Ok(IpAddr::V4(address)) = address.parse() else {
            let message = "a cluster that is built has addresses of IPv4";
            cx.err("spec/wrong-value", format!("{at}/address"), message);
            return None;
        };
        let guest = machine_name(&cx.id.name, &node).ok()?;
        all.push((node, KubernetesMachine { guest, address }));
    }
    Some(all)
}

/// Where images are: `registry.example.org/k8s`.
fn image_repository(text: &str) -> Result<String, String> {
    let text = scalar::line(text, 255)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':');
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text),
        false => Err("is no place of images, as registry.example.org/k8s is".to_owned()),
    }
}

/// What can be said of a cluster that is taken over, and not yet of one that is built.
fn not_yet(cx: &mut Cx<'_>, spec: &KubernetesClusterSpec) {
    for n in 1..spec.control_plane.len() {
        let message = "a cluster that is built has one control plane: several need an address that moves \
                       between them, which is not made here";
        cx.err("spec/conflict", format!("/spec/controlPlane/{n}"), message);
    }
    for (n, host) in spec.control_plane.iter().enumerate() {
        if hostlist::expand(&host.name).is_ok_and(|names| names.len() > 1) {
            let message = "a cluster that is built has one control plane";
            cx.err("spec/conflict", format!("/spec/controlPlane/{n}/name"), message);
        }
    }
    for (p, pool) in spec.pools.iter().enumerate() {
        for (n, node) in pool.nodes.iter().enumerate() {
            let KubernetesNodeSpec::Host(KubernetesHostSpec { data_disk: Some(_), .. }) = node
            else {
                continue;
            };
            let message = "is for the control plane: a node has nothing that has to outlive it";
            cx.err("spec/conflict", format!("/spec/pools/{p}/nodes/{n}/dataDisk"), message);
        }
    }
    if cx.world.members[cx.member].doc.lifecycle.adopt {
        let message = "a cluster is built or taken over, not both";
        cx.err("spec/conflict", "/lifecycle/adopt", message)
            .hint("leave out `adopt`, or `machines`");
    }
}
