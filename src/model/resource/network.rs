//! Canonical form of a libvirt network.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A libvirt virtual network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// How guests reach the world.
    pub mode: NetworkMode,
    /// Bridge device: the host's own for mode `bridge`, else the one libvirt makes.
    pub bridge: Option<String>,
    /// The host's addresses on the network, each with its DHCP service; sorted by address.
    pub addresses: Vec<NetworkAddress>,
    /// DNS records that the network's dnsmasq answers; sorted by address. `None`: not owned.
    pub dns: Option<Vec<DnsRecord>>,
    /// DNS domain. `None`: not owned.
    pub domain: Option<NetworkDomain>,
    /// Maximum transmission unit in bytes. `None`: not owned.
    pub mtu: Option<u32>,
    /// Started with libvirt.
    pub autostart: bool,
}

/// How a network's guests reach the world.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Guests reach each other and the host only.
    Isolated,
    /// Guests reach the world through the host's address.
    #[default]
    Nat,
    /// Guests reach the world with their own addresses; routes are the user's business.
    Routed,
    /// Guests sit on an existing bridge of the host.
    Bridge,
}

/// One address of the host on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAddress {
    /// The host's own address with the prefix length: `10.7.0.1/24`.
    #[schemars(with = "String")]
    pub address: IpNet,
    /// DHCP service on this address; `None`: none.
    pub dhcp: Option<Dhcp>,
}

/// DHCP service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dhcp {
    /// Ranges handed out, sorted.
    pub ranges: Vec<AddressRange>,
    /// Fixed leases, sorted by MAC.
    pub hosts: Vec<DhcpHost>,
}

/// An inclusive range of addresses.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct AddressRange {
    /// First address.
    pub start: IpAddr,
    /// Last address.
    pub end: IpAddr,
}

/// A fixed lease.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct DhcpHost {
    /// MAC address, lower case with colons.
    pub mac: String,
    /// Address always given to it.
    pub ip: IpAddr,
    /// Host name given with it.
    pub name: Option<String>,
}

/// A DNS record: one address, its names.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct DnsRecord {
    /// The address answered.
    pub ip: IpAddr,
    /// The names, sorted.
    pub names: Vec<String>,
}

/// The DNS domain of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkDomain {
    /// The domain's name.
    pub name: String,
    /// Whether unknown names of the domain are answered here rather than asked upstream.
    pub local_only: bool,
}
