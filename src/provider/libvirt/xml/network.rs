//! Networks: parse, and merge a desired network into an existing one's XML.
//!
//! It also tells which fixed leases and DNS records of a running network have to change, so that the
//! network need not be restarted for them.

use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;
use xmltree::Element;

use super::tree::{self, Ext, new};
use super::{Mark, XmlError};
use crate::model::resource::{
    AddressRange, Dhcp, DhcpHost, DnsRecord, Network, NetworkAddress, NetworkDomain, NetworkMode,
};

/// The word used in errors.
const WHAT: &str = "network";

/// A network as its XML tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedNetwork {
    /// Its name, which need not be a valid resource name.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// The mark of ours, if it carries one.
    pub mark: Option<Mark>,
    /// The network. `autostart` is not in the XML and holds `false`.
    pub network: Network,
}

/// Reads a network's XML, of its configuration or of what runs.
///
/// # Errors
/// The XML is no network's, or lacks what every network has.
pub fn parse(xml: &str) -> Result<ParsedNetwork, XmlError> {
    let root = tree::parse(xml, WHAT)?;
    let missing = |part| XmlError::Missing { what: WHAT, part };
    let name = root.get_child("name").ok_or(missing("name"))?.text();
    let uuid = root.get_child("uuid").ok_or(missing("uuid"))?.text();
    let uuid = Uuid::parse_str(&uuid).map_err(|_| XmlError::Value {
        what: WHAT,
        part: "uuid",
        value: uuid.chars().take(80).collect(),
    })?;
    let mut addresses: Vec<_> = root.all("ip").filter_map(address).collect();
    addresses.sort_by_key(|address| address.address);
    let attr = |name: &str, key| root.get_child(name).and_then(|e| e.attr(key));
    Ok(ParsedNetwork {
        name,
        uuid,
        mark: Mark::get(&root),
        network: Network {
            mode: mode(&root),
            bridge: attr("bridge", "name").map(str::to_owned),
            addresses,
            dns: Some(records(&root)),
            domain: attr("domain", "name").map(|name| NetworkDomain {
                name: name.to_owned(),
                local_only: attr("domain", "localOnly") == Some("yes"),
            }),
            mtu: attr("mtu", "size").and_then(|size| size.parse().ok()),
            autostart: false,
        },
    })
}

/// `observed` with everything taken out that `desired` does not own, for comparing the two.
pub fn owned(desired: &Network, observed: &Network) -> Network {
    let mut seen = observed.clone();
    if desired.bridge.is_none() {
        seen.bridge = None;
    }
    if desired.dns.is_none() {
        seen.dns = None;
    }
    if desired.domain.is_none() {
        seen.domain = None;
    }
    if desired.mtu.is_none() {
        seen.mtu = None;
    }
    seen
}

fn mode(root: &Element) -> NetworkMode {
    match root.get_child("forward") {
        None => NetworkMode::Isolated,
        Some(forward) => match forward.attr("mode").unwrap_or("nat") {
            "nat" => NetworkMode::Nat,
            "route" | "open" => NetworkMode::Routed,
            // The closest word there is for foreign networks on devices of the host.
            _ => NetworkMode::Bridge,
        },
    }
}

fn address(ip: &Element) -> Option<NetworkAddress> {
    let host: IpAddr = ip.attr("address")?.parse().ok()?;
    let address = match (ip.attr("prefix"), ip.attr("netmask")) {
        (Some(prefix), _) => IpNet::new(host, prefix.parse().ok()?).ok()?,
        (None, Some(mask)) => IpNet::with_netmask(host, mask.parse().ok()?).ok()?,
        (None, None) => IpNet::from(host),
    };
    let dhcp = ip.get_child("dhcp").map(|dhcp| {
        let mut ranges: Vec<_> = dhcp.all("range").filter_map(range).collect();
        let mut hosts: Vec<_> = dhcp.all("host").filter_map(host_of).collect();
        ranges.sort();
        hosts.sort();
        Dhcp { ranges, hosts }
    });
    Some(NetworkAddress { address, dhcp })
}

fn range(element: &Element) -> Option<AddressRange> {
    Some(AddressRange {
        start: element.attr("start")?.parse().ok()?,
        end: element.attr("end")?.parse().ok()?,
    })
}

/// A fixed lease; `None` for one that is not bound to a MAC, which trueup has no word for.
fn host_of(element: &Element) -> Option<DhcpHost> {
    Some(DhcpHost {
        mac: element.attr("mac")?.to_ascii_lowercase(),
        ip: element.attr("ip")?.parse().ok()?,
        name: element.attr("name").map(str::to_owned),
    })
}

fn record(element: &Element) -> Option<DnsRecord> {
    let mut names: Vec<_> = element.all("hostname").map(Ext::text).collect();
    names.sort();
    Some(DnsRecord { ip: element.attr("ip")?.parse().ok()?, names })
}

fn records(root: &Element) -> Vec<DnsRecord> {
    let dns = root.get_child("dns");
    let mut records: Vec<_> =
        dns.into_iter().flat_map(|dns| dns.all("host")).filter_map(record).collect();
    records.sort();
    records
}

/// The XML that makes a network what `desired` says.
///
/// `current` is the network's inactive XML, if there is one. What `desired` does not own stays.
///
/// # Errors
/// `current` is no network's XML.
pub fn merge(
    current: Option<&str>,
    desired: &Network,
    name: &str,
    uuid: Uuid,
    mark: &Mark,
) -> Result<String, XmlError> {
    let mut root = match current {
        Some(xml) => tree::parse(xml, WHAT)?,
        None => Element::new(WHAT),
    };
    root.make("name").set_text(name);
    root.make("uuid").set_text(&uuid.to_string());
    mark.put(&mut root);
    forward(&mut root, desired);
    if let Some(bridge) = &desired.bridge {
        root.make("bridge").set("name", bridge);
    }
    if let Some(mtu) = desired.mtu {
        root.make("mtu").set("size", &mtu.to_string());
    }
    if let Some(domain) = &desired.domain {
        let element = root.make("domain");
        element.set("name", &domain.name);
        if domain.local_only {
            element.set("localOnly", "yes");
        } else {
            element.unset("localOnly");
        }
    }
    if let Some(wanted) = &desired.dns
        && records(&root) != *wanted
    {
        let dns = root.make("dns");
        dns.drop_all("host");
        for want in wanted {
            dns.add(record_element(want));
        }
        root.drop_empty("dns");
    }
    addresses(&mut root, &desired.addresses);
    tree::write(&root, WHAT)
}

fn forward(root: &mut Element, desired: &Network) {
    if mode(root) == desired.mode {
        return;
    }
    root.drop_all("forward");
    let word = match desired.mode {
        NetworkMode::Isolated => return,
        NetworkMode::Nat => "nat",
        NetworkMode::Routed => "route",
        NetworkMode::Bridge => "bridge",
    };
    if desired.mode == NetworkMode::Bridge {
        // What libvirt's own bridge needs, the host's must not have.
        for own in ["bridge", "mac"] {
            root.drop_all(own);
        }
    }
    root.add(new("forward", &[("mode", word)]));
}

fn addresses(root: &mut Element, wanted: &[NetworkAddress]) {
    let same = |element: &Element, want: &NetworkAddress| {
        address(element).is_some_and(|seen| seen.address == want.address)
    };
    root.keep("ip", |element| wanted.iter().any(|want| same(element, want)));
    for want in wanted {
        let found = root.all_mut("ip").find(|element| same(element, want));
        match found {
            Some(element) => dhcp(element, want),
            None => {
                let family = if want.address.addr().is_ipv4() { "ipv4" } else { "ipv6" };
                let mut element = new("ip", &[("family", family)]);
                element.set("address", &want.address.addr().to_string());
                element.set("prefix", &want.address.prefix_len().to_string());
                dhcp(&mut element, want);
                root.add(element);
            }
        }
    }
}

fn dhcp(ip: &mut Element, want: &NetworkAddress) {
    if address(ip).is_some_and(|seen| seen.dhcp == want.dhcp) {
        return;
    }
    let Some(want) = &want.dhcp else {
        ip.drop_all("dhcp");
        return;
    };
    let dhcp = ip.make("dhcp");
    // Leases in the range stay as they are where the range does.
    dhcp.keep("range", |element| range(element).is_some_and(|seen| want.ranges.contains(&seen)));
    for missing in &want.ranges {
        if !dhcp.all("range").any(|element| range(element).as_ref() == Some(missing)) {
            let (start, end) = (missing.start.to_string(), missing.end.to_string());
            dhcp.add(new("range", &[("start", &start), ("end", &end)]));
        }
    }
    dhcp.keep("host", |element| host_of(element).is_none_or(|seen| want.hosts.contains(&seen)));
    for missing in &want.hosts {
        if !dhcp.all("host").any(|element| host_of(element).as_ref() == Some(missing)) {
            dhcp.add(host_element(missing));
        }
    }
}

fn host_element(host: &DhcpHost) -> Element {
    let mut element = new("host", &[("mac", &host.mac)]);
    if let Some(name) = &host.name {
        element.set("name", name);
    }
    element.set("ip", &host.ip.to_string());
    element
}

fn record_element(record: &DnsRecord) -> Element {
    let mut element = new("host", &[("ip", &record.ip.to_string())]);
    for name in &record.names {
        element.add(Element::new("hostname").with_text(name));
    }
    element
}

/// One change to a running network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveEdit {
    /// Removes a fixed lease; the XML is that of the lease.
    RemoveHost {
        /// Place of its `<ip>` in the running network's XML.
        parent: i32,
        /// `<host mac= ip=>`.
        xml: String,
    },
    /// Adds a fixed lease.
    AddHost {
        /// Place of its `<ip>` in the running network's XML.
        parent: i32,
        /// `<host mac= ip=>`.
        xml: String,
    },
    /// Removes a DNS record.
    RemoveRecord {
        /// `<host ip=>`.
        xml: String,
    },
    /// Adds a DNS record.
    AddRecord {
        /// `<host ip=>`.
        xml: String,
    },
}

/// The edits that bring fixed leases and DNS records of the network in `xml` to those of `desired`,
/// removals first.
///
/// # Errors
/// `xml` is no network's, or lacks an address that `desired` has fixed leases on: that takes a
/// restart.
pub fn live_edits(xml: &str, desired: &Network) -> Result<Vec<LiveEdit>, XmlError> {
    let root = tree::parse(xml, WHAT)?;
    let mut removals = Vec::new();
    let mut additions = Vec::new();
    for want in &desired.addresses {
        let wanted = want.dhcp.as_ref().map(|dhcp| dhcp.hosts.as_slice());
        let wanted = wanted.unwrap_or_default();
        let place = root
            .all("ip")
            .position(|ip| address(ip).is_some_and(|seen| seen.address == want.address));
        let Some(place) = place else {
            if wanted.is_empty() {
                continue;
            }
            return Err(XmlError::Missing {
                what: WHAT,
                part: "address that fixed leases are wanted on",
            });
        };
        let seen = root.all("ip").nth(place).and_then(address);
        let seen = seen.and_then(|seen| seen.dhcp).unwrap_or_default().hosts;
        let parent = i32::try_from(place).unwrap_or(i32::MAX);
        for host in seen.iter().filter(|host| !wanted.contains(host)) {
            let xml = tree::write(&host_element(host), "host")?;
            removals.push(LiveEdit::RemoveHost { parent, xml });
        }
        for host in wanted.iter().filter(|host| !seen.contains(host)) {
            let xml = tree::write(&host_element(host), "host")?;
            additions.push(LiveEdit::AddHost { parent, xml });
        }
    }
    if let Some(wanted) = &desired.dns {
        let seen = records(&root);
        for record in seen.iter().filter(|record| !wanted.contains(record)) {
            let xml = tree::write(&record_element(record), "host")?;
            removals.push(LiveEdit::RemoveRecord { xml });
        }
        for record in wanted.iter().filter(|record| !seen.contains(record)) {
            let xml = tree::write(&record_element(record), "host")?;
            additions.push(LiveEdit::AddRecord { xml });
        }
    }
    removals.append(&mut additions);
    Ok(removals)
}

#[cfg(test)]
mod tests;
