//! Interfaces of a virtual machine.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::kinds::Spec;
use super::super::kinds::machine::NicSpec;
use super::super::scalar;
use super::{Cx, Lease, subnets};
use crate::model::resource::{NetworkMode, Nic, NicSource};
use crate::model::{Kind, Name, ResourceId, mac_for};

/// Most interfaces of one machine: slots of its PCI bus, less those of disks and channels.
pub(crate) const NICS_MAX: usize = 16;

/// Longest name of a device model, bytes: twice what QEMU's longest takes.
pub(crate) const MODEL_MAX: usize = 64;

/// An interface, with what cloud-init is told about it.
#[derive(Debug, Clone)]
pub(crate) struct NicPlan {
    pub(crate) nic: Nic,
    /// Its static address with the prefix length.
    pub(crate) address: Option<IpNet>,
    /// Router towards the world.
    pub(crate) gateway: Option<IpAddr>,
    /// Name servers.
    pub(crate) nameservers: Vec<IpAddr>,
    /// DNS domain of its network.
    pub(crate) domain: Option<String>,
}

/// The MAC address of an interface: as written, else derived from the names.
pub(super) fn mac_of(
    environment: &Name,
    machine: &Name,
    index: usize,
    written: Option<&str>,
) -> Result<String, String> {
    match written {
        Some(text) => scalar::mac(text),
        None => {
            let id = ResourceId::new(Kind::VirtualMachine, machine.clone());
            Ok(mac_for(environment, &id, index))
        }
    }
}

/// Resolves every interface, in the order they are written.
pub(super) fn resolve(cx: &mut Cx<'_>, nics: &[NicSpec]) -> Vec<NicPlan> {
    if nics.len() > NICS_MAX {
        let message = format!("{} interfaces; at most {NICS_MAX} fit", nics.len());
        cx.err("spec/too-many", "/spec/nics", message);
        return Vec::new();
    }
    let mut plans = Vec::new();
    for (n, nic) in nics.iter().enumerate() {
        plans.extend(one(cx, n, nic));
    }
    plans
}

fn one(cx: &mut Cx<'_>, index: usize, spec: &NicSpec) -> Option<NicPlan> {
    let pointer = format!("/spec/nics/{index}");
    let name = cx.id.name.clone();
    let read = mac_of(cx.settings.first_name(), &name, index, spec.mac.as_deref());
    let mac = cx.check(format!("{pointer}/mac"), read);
    if !(1..=MODEL_MAX).contains(&spec.model.len())
        || !spec.model.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    {
        let shown: String = spec.model.chars().take(MODEL_MAX).collect();
        let message = format!("`{}` is not a device model", shown.escape_debug());
        cx.err("spec/wrong-value", format!("{pointer}/model"), message);
    }
    let given = [spec.network.is_some(), spec.bridge.is_some(), spec.user];
    if given.iter().filter(|g| **g).count() != 1 {
        cx.err(
            "spec/conflict",
            pointer,
            "an interface is on one of `network`, `bridge` and `user`",
        );
        return None;
    }
    let mut plan = NicPlan {
        nic: Nic {
            mac: mac.unwrap_or_default(),
            source: NicSource::User,
            model: spec.model.clone(),
            boot_order: spec.boot_order,
        },
        address: None,
        gateway: None,
        nameservers: Vec::new(),
        domain: None,
    };
    if let Some(network) = &spec.network {
        on_network(cx, index, spec, network, &mut plan);
    } else if let Some(bridge) = &spec.bridge {
        cx.check(format!("{pointer}/bridge"), scalar::device(bridge));
        plan.nic.source = NicSource::Bridge(bridge.clone());
        if let Some(text) = &spec.address {
            plan.address = cx.check(format!("{pointer}/address"), with_prefix(text));
        }
    } else if spec.address.is_some() {
        cx.err(
            "spec/conflict",
            format!("{pointer}/address"),
            "QEMU's user-mode network gives the address itself",
        )
        .hint("remove `address`, or put the interface on a `network`");
    }
    if !plan.nic.mac.is_empty() {
        cx.macs.push((plan.nic.mac.clone(), index));
    }
    Some(plan)
}

fn with_prefix(text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| {
        format!(
            "`{}` is not an address with its prefix length: write `10.7.0.10/24`",
            text.escape_debug()
        )
    })
}

fn on_network(
    cx: &mut Cx<'_>,
    index: usize,
    spec: &NicSpec,
    network: &str,
    plan: &mut NicPlan,
) -> Option<()> {
    // `None` ends it early; the plan is then as whole as it can be.
    let pointer = format!("/spec/nics/{index}");
    let doc = cx.look_up(&format!("{pointer}/network"), Kind::Network, network)?;
    let Spec::Network(net) = &doc.spec else {
        return None;
    };
    let name = Name::new(network).ok()?;
    cx.need(ResourceId::new(Kind::Network, name.clone()));
    plan.nic.source = NicSource::Network(network.to_owned());
    plan.domain = net.domain.as_ref().map(|d| d.name.clone());
    let text = spec.address.as_deref()?;
    let place = format!("{pointer}/address");
    let nets = subnets(net);
    if net.mode == NetworkMode::Bridge || (nets.is_empty() && text.contains('/')) {
        plan.address = cx.check(place, with_prefix(text));
        return Some(());
    }
    let bare = text.split_once('/').map_or(text, |(address, _)| address);
    let ip = cx.ip(place.clone(), bare)?;
    let within = nets.iter().find(|n| n.contains(&ip));
    let edge = |n: &IpNet| matches!(n, IpNet::V4(_)) && (ip == n.network() || ip == n.broadcast());
    let Some(within) = within.filter(|n| !edge(n)) else {
        let ranges: Vec<_> = nets.iter().map(|n| n.trunc().to_string()).collect();
        let message = format!("{ip} is not an address of a guest on `network/{network}`");
        let hint = match ranges.is_empty() {
            true => {
                "that network has no `cidr`: write the address with its prefix length".to_owned()
            }
            false => format!("the network is {}", ranges.join(", ")),
        };
        cx.err("spec/outside", place, message).hint(hint);
        return None;
    };
    plan.address = IpNet::new(ip, within.prefix_len()).ok();
    plan.gateway = (net.mode != NetworkMode::Isolated).then(|| within.addr());
    plan.nameservers = vec![within.addr()];
    cx.leases.push(Lease {
        network: name,
        mac: plan.nic.mac.clone(),
        ip,
        name: Some(cx.id.name.to_string()),
        reserve: spec.dhcp_reservation,
        machine: cx.id.name.clone(),
        nic: index,
    });
    Some(())
}
