//! `Network` to its canonical form, with the leases that interfaces ask of it.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::kinds::Spec;
use super::super::kinds::network::{DhcpSpec, DnsSpec, LeaseSpec, NetworkSpec};
use super::super::scalar;
use super::nic::mac_of;
use super::{Cx, Lease, Place};
use crate::model::resource::{
    AddressRange, Dhcp, DhcpHost, DnsRecord, Network, NetworkAddress, NetworkDomain, NetworkMode,
};
use crate::model::{Kind, Name};

/// The host's own addresses on a network, as far as they can be read.
pub(crate) fn subnets(spec: &NetworkSpec) -> Vec<IpNet> {
    let single = spec.cidr.as_deref();
    let many = spec.addresses.iter().map(|a| a.cidr.as_str());
    single.into_iter().chain(many).filter_map(|text| host_address(text).ok()).collect()
}

/// Reads a range; its first address is the host's where the network's own is given.
fn host_address(text: &str) -> Result<IpNet, String> {
    let bad = || format!("`{}` is not an address range: write `10.7.0.0/24`", text.escape_debug());
    let net: IpNet = text.parse().map_err(|_| bad())?;
    let widest = match net {
        IpNet::V4(_) => 30,
        IpNet::V6(_) => 126,
    };
    if net.prefix_len() > widest || net.prefix_len() < 8 {
        return Err(format!("`{text}` has no room for a network: the prefix is /8 to /{widest}"));
    }
    let address = match net.addr() {
        addr if addr == net.network() => net.hosts().nth(match net {
            IpNet::V4(_) => 0,
            IpNet::V6(_) => 1,
        }),
        addr if addr == net.broadcast() && matches!(net, IpNet::V4(_)) => {
            return Err(format!("`{text}` is the broadcast address of its range"));
        }
        addr => Some(addr),
    };
    IpNet::new(address.ok_or_else(bad)?, net.prefix_len()).map_err(|_| bad())
}

pub(super) fn resolve(cx: &mut Cx<'_>, spec: &NetworkSpec, asked: &[Lease]) -> Option<Network> {
    mode_rules(cx, spec);
    let mut places: HashMap<IpAddr, (Place, String)> = HashMap::new();
    let mut addresses = Vec::new();
    if let Some(cidr) = &spec.cidr {
        let address = cx.check("/spec/cidr", host_address(cidr));
        addresses.push((address, spec.dhcp.as_ref(), "/spec".to_owned()));
    } else if spec.dhcp.is_some() && spec.addresses.is_empty() {
        cx.err("spec/missing-field", "/spec/dhcp", "DHCP needs a `cidr` to hand out from");
    }
    for (n, range) in spec.addresses.iter().enumerate() {
        let pointer = format!("/spec/addresses/{n}");
        let address = cx.check(format!("{pointer}/cidr"), host_address(&range.cidr));
        addresses.push((address, range.dhcp.as_ref(), pointer));
    }
    own_overlaps(cx, &addresses);
    for (address, _, pointer) in &addresses {
        if let Some(net) = address {
            let place = Place::value(cx.member, format!("{pointer}/cidr"));
            places.insert(net.addr(), (place, "the host's own address".to_owned()));
        }
    }
    let mut macs = HashMap::new();
    let mut resolved = Vec::new();
    for (address, dhcp, pointer) in addresses {
        let Some(net) = address else { continue };
        let mut service = dhcp.map(|d| service(cx, d, net, &pointer, &mut places, &mut macs));
        for lease in asked.iter().filter(|l| net.contains(&l.ip)) {
            add_asked(cx, lease, service.as_mut(), &mut places, &mut macs);
        }
        if let Some(service) = &mut service {
            service.hosts.sort();
            service.ranges.sort();
        }
        resolved.push(NetworkAddress { address: net, dhcp: service });
    }
    resolved.sort_by_key(|a| a.address);
    let dns = spec.dns.as_ref().map(|records| dns(cx, records));
    Some(Network {
        mode: spec.mode,
        bridge: spec.bridge.clone(),
        addresses: resolved,
        dns,
        domain: spec
            .domain
            .as_ref()
            .map(|d| NetworkDomain { name: d.name.clone(), local_only: d.local_only }),
        mtu: spec.mtu,
        autostart: spec.autostart,
    })
}

fn mode_rules(cx: &mut Cx<'_>, spec: &NetworkSpec) {
    if let Some(bridge) = &spec.bridge {
        cx.check("/spec/bridge", scalar::device(bridge));
    }
    if let Some(domain) = &spec.domain {
        cx.check("/spec/domain/name", scalar::dns_name(&domain.name));
    }
    if let Some(mtu) = spec.mtu.filter(|m| !(68..=65_535).contains(m)) {
        cx.err(
            "spec/wrong-value",
            "/spec/mtu",
            format!("an MTU of {mtu} is not between 68 and 65535"),
        );
    }
    if spec.mode == NetworkMode::Bridge {
        if spec.bridge.is_none() {
            cx.err("spec/missing-field", "/spec", "mode `bridge` needs the host's `bridge` device");
        }
        for (given, name) in [
            (spec.cidr.is_some(), "cidr"),
            (spec.dhcp.is_some(), "dhcp"),
            (!spec.addresses.is_empty(), "addresses"),
            (spec.dns.is_some(), "dns"),
            (spec.domain.is_some(), "domain"),
        ] {
            if given {
                let message = format!("`{name}` has no meaning on a bridge of the host's own");
                cx.err("spec/conflict", format!("/spec/{name}"), message)
                    .hint("that network is served by somebody else: remove the field");
            }
        }
    }
    if spec.cidr.is_some() && !spec.addresses.is_empty() {
        cx.err("spec/conflict", "/spec/addresses", "`cidr` and `addresses` are both given")
            .hint("move `cidr` and `dhcp` into the list");
    }
}

fn own_overlaps(cx: &mut Cx<'_>, addresses: &[(Option<IpNet>, Option<&DhcpSpec>, String)]) {
    for (n, (one, _, pointer)) in addresses.iter().enumerate() {
        let Some(one) = one else { continue };
        let other = addresses[..n]
            .iter()
            .filter_map(|a| a.0)
            .find(|other| other.contains(&one.network()) || one.contains(&other.network()));
        if let Some(other) = other {
            let message =
                format!("`{}` overlaps `{}` of the same network", one.trunc(), other.trunc());
            cx.err("spec/overlap", format!("{pointer}/cidr"), message);
        }
    }
}

type Taken = HashMap<IpAddr, (Place, String)>;
type Macs = HashMap<String, Place>;

fn service(
    cx: &mut Cx<'_>,
    dhcp: &DhcpSpec,
    net: IpNet,
    pointer: &str,
    taken: &mut Taken,
    macs: &mut Macs,
) -> Dhcp {
    let pointer = format!("{pointer}/dhcp");
    let mut ranges = Vec::new();
    match (&dhcp.start, &dhcp.end) {
        (Some(start), Some(end)) => ranges.extend(range(cx, &pointer, start, end, net)),
        (None, None) if dhcp.ranges.is_empty() => ranges.extend(whole(net)),
        (None, None) => {}
        (Some(_), None) => {
            cx.err("spec/missing-field", pointer.clone(), "`start` is given without `end`");
        }
        (None, Some(_)) => {
            cx.err("spec/missing-field", pointer.clone(), "`end` is given without `start`");
        }
    }
    for (n, given) in dhcp.ranges.iter().enumerate() {
        let pointer = format!("{pointer}/ranges/{n}");
        ranges.extend(range(cx, &pointer, &given.start, &given.end, net));
    }
    let mut sorted = ranges.clone();
    sorted.sort();
    if sorted.windows(2).any(|w| w[1].start <= w[0].end) {
        cx.err("spec/overlap", pointer.clone(), "the DHCP ranges overlap");
    }
    let mut hosts = Vec::new();
    for (n, lease) in dhcp.hosts.iter().enumerate() {
        let pointer = format!("{pointer}/hosts/{n}");
        hosts.extend(fixed(cx, &pointer, lease, net, taken, macs));
    }
    Dhcp { ranges, hosts }
}

/// All of a range but the host's own first address; IPv6 ranges are cut to the first 65,534.
fn whole(net: IpNet) -> Option<AddressRange> {
    let (first, last) = match net {
        IpNet::V4(net) => {
            let first = u32::from(net.network()) + 1;
            let last = u32::from(net.broadcast()) - 1;
            (u128::from(first), u128::from(last))
        }
        IpNet::V6(net) => {
            let first = u128::from(net.network());
            (first + 1, u128::from(net.broadcast()).min(first + 0xffff))
        }
    };
    let own = number(net.addr());
    // The host's own address splits the range in two: the larger part is handed out.
    let (start, end) = if own.saturating_sub(first) > last.saturating_sub(own) {
        (first, last.min(own - 1))
    } else {
        (own + 1, last)
    };
    (start <= end).then_some(AddressRange { start: address(net, start)?, end: address(net, end)? })
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

fn address(net: IpNet, number: u128) -> Option<IpAddr> {
    match net {
        IpNet::V4(_) => u32::try_from(number).ok().map(|n| IpAddr::from(n.to_be_bytes())),
        IpNet::V6(_) => Some(IpAddr::from(number.to_be_bytes())),
    }
}

fn range(
    cx: &mut Cx<'_>,
    pointer: &str,
    start: &str,
    end: &str,
    net: IpNet,
) -> Option<AddressRange> {
    let first = inside(cx, &format!("{pointer}/start"), start, net);
    let last = inside(cx, &format!("{pointer}/end"), end, net);
    let (start, end) = (first?, last?);
    if start > end {
        let message = format!("the range ends at {end}, before it starts at {start}");
        cx.err("spec/range", format!("{pointer}/end"), message).hint("swap `start` and `end`");
        return None;
    }
    if (start..=end).contains(&net.addr()) {
        let message = format!("the range holds the host's own address {}", net.addr());
        cx.err("spec/range", format!("{pointer}/start"), message)
            .hint("let it start after that address");
        return None;
    }
    Some(AddressRange { start, end })
}

fn inside(cx: &mut Cx<'_>, pointer: &str, text: &str, net: IpNet) -> Option<IpAddr> {
    let ip = cx.ip(pointer, text)?;
    let edge = matches!(net, IpNet::V4(_)) && (ip == net.network() || ip == net.broadcast());
    if net.contains(&ip) && !edge {
        return Some(ip);
    }
    let message = format!("{ip} is not an address of a guest in {}", net.trunc());
    cx.err("spec/outside", pointer, message)
        .hint("take an address inside the network, or change its `cidr`");
    None
}

fn fixed(
    cx: &mut Cx<'_>,
    pointer: &str,
    lease: &LeaseSpec,
    net: IpNet,
    taken: &mut Taken,
    macs: &mut Macs,
) -> Option<DhcpHost> {
    let ip = inside(cx, &format!("{pointer}/ip"), &lease.ip, net);
    let (mac, key) = match (&lease.mac, &lease.vm) {
        (Some(mac), None) => (cx.check(format!("{pointer}/mac"), scalar::mac(mac)), "mac"),
        (None, Some(vm)) => (mac_of_machine(cx, &format!("{pointer}/vm"), vm), "vm"),
        _ => {
            cx.err("spec/conflict", pointer, "a fixed lease is for one of `mac` and `vm`");
            (None, "mac")
        }
    };
    if let Some(name) = &lease.name {
        cx.check(format!("{pointer}/name"), scalar::dns_name(name));
    }
    let (ip, mac) = (ip?, mac?);
    let here = Place::value(cx.member, format!("{pointer}/{key}"));
    if let Some(other) = macs.insert(mac.clone(), here) {
        cx.err(
            "spec/duplicate-mac",
            format!("{pointer}/{key}"),
            format!("{mac} has a fixed lease already"),
        )
        .see(other, "the other one is here");
    }
    let at = format!("{pointer}/ip");
    take(cx, ip, Place::value(cx.member, at), "a fixed lease".to_owned(), taken);
    Some(DhcpHost { mac, ip, name: lease.name.clone().or_else(|| lease.vm.clone()) })
}

fn take(cx: &mut Cx<'_>, ip: IpAddr, place: Place, what: String, taken: &mut Taken) {
    if let Some((other, whose)) = taken.insert(ip, (place.clone(), what)) {
        let mut draft =
            super::Draft::new("spec/duplicate-address", place, format!("{ip} is taken by {whose}"));
        draft.see(other, "here");
        cx.drafts.push(draft);
    }
}

/// The MAC address of a machine's first interface on this network.
fn mac_of_machine(cx: &mut Cx<'_>, pointer: &str, vm: &str) -> Option<String> {
    let doc = cx.look_up(pointer, Kind::VirtualMachine, vm)?;
    let Spec::VirtualMachine(spec) = &doc.spec else {
        return None;
    };
    let own = cx.id.name.as_str();
    let nic = spec.nics.iter().position(|n| n.network.as_deref() == Some(own));
    let Some(nic) = nic else {
        cx.err(
            "spec/dangling-reference",
            pointer,
            format!("`vm/{vm}` has no interface on this network"),
        );
        return None;
    };
    let name = Name::new(vm).ok()?;
    mac_of(cx.settings.first_name(), &name, nic, spec.nics[nic].mac.as_deref()).ok()
}

/// Adds a lease that an interface asks for; one that is written out as well must agree with it.
fn add_asked(
    cx: &mut Cx<'_>,
    lease: &Lease,
    service: Option<&mut Dhcp>,
    taken: &mut Taken,
    macs: &mut Macs,
) {
    let machine = crate::model::ResourceId::new(Kind::VirtualMachine, lease.machine.clone());
    let member = cx.world.by_id.get(&machine).copied().unwrap_or(cx.member);
    let place = Place::value(member, format!("/spec/nics/{}/address", lease.nic));
    let written = service
        .as_ref()
        .is_some_and(|s| s.hosts.iter().any(|h| h.mac == lease.mac && h.ip == lease.ip));
    if written {
        return;
    }
    take(cx, lease.ip, place.clone(), format!("`vm/{}`", lease.machine), taken);
    let Some(service) = service.filter(|_| lease.reserve) else {
        return;
    };
    if let Some(other) = macs.insert(lease.mac.clone(), place.clone()) {
        if other.member != cx.member {
            // Two interfaces with one MAC address: reported once, where all interfaces are compared.
            return;
        }
        let message = format!("{} has a fixed lease with another address", lease.mac);
        let mut draft = super::Draft::new("spec/duplicate-mac", place, message);
        draft.see(other, "the other one is here");
        cx.drafts.push(draft);
        return;
    }
    service.hosts.push(DhcpHost { mac: lease.mac.clone(), ip: lease.ip, name: lease.name.clone() });
}

fn dns(cx: &mut Cx<'_>, records: &[DnsSpec]) -> Vec<DnsRecord> {
    let mut found: Vec<DnsRecord> = Vec::new();
    for (n, record) in records.iter().enumerate() {
        let pointer = format!("/spec/dns/{n}");
        let Some(ip) = cx.ip(format!("{pointer}/ip"), &record.ip) else {
            continue;
        };
        for (i, name) in record.names.iter().enumerate() {
            cx.check(format!("{pointer}/names/{i}"), scalar::dns_name(name));
        }
        if found.iter().any(|r| r.ip == ip) {
            cx.err(
                "spec/duplicate-address",
                format!("{pointer}/ip"),
                format!("{ip} has DNS names already"),
            )
            .hint("list all its names in one record");
            continue;
        }
        let mut names = record.names.clone();
        names.sort();
        names.dedup();
        found.push(DnsRecord { ip, names });
    }
    found.sort();
    found
}
