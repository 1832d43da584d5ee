//! `Network`: a libvirt virtual network.

use schemars::JsonSchema;
use serde::Deserialize;

use super::environment::yes;
use crate::model::resource::NetworkMode;

/// A libvirt virtual network.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSpec {
    /// How guests reach the world.
    #[serde(default)]
    pub mode: NetworkMode,
    /// Bridge device: with mode `bridge`, the existing one of the host (required); else the name of
    /// the one that libvirt makes (`virbrN` when not given).
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,15}$"))]
    pub bridge: Option<String>,
    /// The network's addresses, `10.7.0.0/24`: the host takes the first one, or the one given
    /// (`10.7.0.254/24`).
    pub cidr: Option<String>,
    /// DHCP service on `cidr`; `{}` hands out all of it.
    pub dhcp: Option<DhcpSpec>,
    /// Several address ranges (IPv4 and IPv6) in place of `cidr` and `dhcp`.
    #[serde(default)]
    pub addresses: Vec<AddressSpec>,
    /// DNS records that guests on this network see.
    pub dns: Option<Vec<DnsSpec>>,
    /// DNS domain of the network.
    pub domain: Option<DomainSpec>,
    /// Maximum transmission unit, bytes.
    #[schemars(range(min = 68, max = 65535))]
    pub mtu: Option<u32>,
    /// Start it with libvirt.
    #[serde(default = "yes")]
    pub autostart: bool,
}

/// An address range of a network.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddressSpec {
    /// The range, `fd00:7::/64`: the host takes the first address, or the one given.
    pub cidr: String,
    /// DHCP service on it.
    pub dhcp: Option<DhcpSpec>,
}

/// DHCP service.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DhcpSpec {
    /// First address handed out.
    pub start: Option<String>,
    /// Last address handed out.
    pub end: Option<String>,
    /// Several ranges in place of `start` and `end`.
    pub ranges: Vec<RangeSpec>,
    /// Fixed leases. Interfaces of virtual machines with a static `address` are added by themselves.
    pub hosts: Vec<LeaseSpec>,
}

/// An inclusive range of addresses.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RangeSpec {
    /// First address.
    pub start: String,
    /// Last address.
    pub end: String,
}

/// A fixed lease.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaseSpec {
    /// MAC address it is for; or else `vm`.
    pub mac: Option<String>,
    /// Virtual machine it is for (its first interface on this network); or else `mac`.
    pub vm: Option<String>,
    /// Address always given.
    pub ip: String,
    /// Host name given with it; the machine's name when `vm` is given.
    pub name: Option<String>,
}

/// DNS names of one address.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsSpec {
    /// The address answered.
    pub ip: String,
    /// Its names.
    #[schemars(length(min = 1))]
    pub names: Vec<String>,
}

/// The DNS domain of a network.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DomainSpec {
    /// Its name: `lab.internal`.
    pub name: String,
    /// Never ask upstream for names of this domain.
    #[serde(default)]
    pub local_only: bool,
}
