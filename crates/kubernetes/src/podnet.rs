//! The network of pods of a cluster that is built: the plugin `bridge` on each machine, and routes to the
//! pods of the others, which are all on one network. It needs nothing but containernetworking-plugins. Pure.
//!
//! What a cluster says of addresses becomes files of root on machines, so only what is an address is taken.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::{Value, json};

/// Addresses of pods: the first one, and how many bits are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet {
    first: Ipv4Addr,
    bits: u8,
}

impl Subnet {
    /// `10.244.1.0/24`.
    ///
    /// # Errors
    /// It is none, in words.
    pub fn read(text: &str) -> Result<Self, String> {
        let bad = || format!("`{}` is no subnet, as 10.244.0.0/16 is", text.escape_debug());
        let (first, bits) = text.split_once('/').ok_or_else(bad)?;
        let first: Ipv4Addr = first.parse().map_err(|_| bad())?;
        let bits: u8 = bits.parse().ok().filter(|bits| *bits <= 32).ok_or_else(bad)?;
        let read = Self { first, bits };
        match read.first.to_bits() & !read.mask() {
            0 => Ok(read),
            _ => Err(format!(
                "`{text}` has bits after its first {bits}: {}/{bits} is meant, or another",
                Ipv4Addr::from_bits(read.first.to_bits() & read.mask())
            )),
        }
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0)
    }

    /// How many bits of an address are the same for all.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Whether all addresses of the other are in it.
    pub fn holds(self, other: Self) -> bool {
        other.bits >= self.bits && other.first.to_bits() & self.mask() == self.first.to_bits()
    }

    /// Whether two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        let mask = self.mask() & other.mask();
        self.first.to_bits() & mask == other.first.to_bits() & mask
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// Which pods each node has, as far as the cluster has given that out of `all`. A kubelet may say of its own node
/// what it likes when it makes it: other addresses would become ways on all machines.
pub fn pods_of(all: Subnet, nodes: &BTreeMap<String, Arc<Value>>) -> BTreeMap<&str, Subnet> {
    let read = |node: &Value| {
        let own = Subnet::read(node.pointer("/spec/podCIDR")?.as_str()?).ok();
        own.filter(|own| all.holds(*own))
    };
    nodes.iter().filter_map(|(name, node)| Some((name.as_str(), read(node)?))).collect()
}

/// Where a node says that it is (`InternalIP` among `status.addresses`).
pub fn address_of(node: &Value) -> Option<Ipv4Addr> {
    let all = node.pointer("/status/addresses").and_then(Value::as_array);
    let own = all.into_iter().flatten().find(|it| it["type"] == "InternalIP")?;
    own["address"].as_str()?.parse().ok()
}

/// What is written on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNetwork {
    /// How pods get their addresses (a list of CNI plugins).
    pub plugins: String,
    /// The unit of systemd that sets the routes to all other pods.
    pub routes: String,
}

/// The network on the machine of `node`; `None`: the cluster has given it no pods yet. `addresses`: where
/// machines are, by node.
pub fn network(
    node: &str,
    all: Subnet,
    pods: &BTreeMap<&str, Subnet>,
    addresses: &BTreeMap<String, Ipv4Addr>,
) -> Option<PodNetwork> {
    let own = pods.get(node)?;
    let plugins = json!({
        "cniVersion": "0.4.0",
        "name": "trueup",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": own.to_string()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    let others = pods.iter().filter(|(other, _)| **other != node);
    let routes: String = others
        .filter_map(|(other, subnet)| {
            let via = addresses.get(*other)?;
            Some(format!("ExecStart=ip route replace {subnet} via {via} proto {PROTOCOL}\n"))
        })
        .collect();
    // Who leaves the pods' own addresses leaves as the machine: nobody knows the way back otherwise.
    let rule = format!("POSTROUTING -s {all} ! -d {all} -j MASQUERADE");
    Some(PodNetwork {
        plugins: format!("{plugins:#}\n"),
        routes: format!(
            "# Written by trueup.\n[Unit]\nDescription=Ways to the pods of other nodes\n\
             Wants=network-online.target\nAfter=network-online.target\n\n[Service]\nType=oneshot\n\
             RemainAfterExit=yes\nExecStart=-ip route flush proto {PROTOCOL}\n{routes}\
             ExecStart=-iptables -t nat -D {rule}\nExecStart=iptables -t nat -A {rule}\n\
             ExecStart=iptables -P FORWARD ACCEPT\n\n[Install]\nWantedBy=multi-user.target\n"
        ),
    })
}

/// What marks our routes (ip-route(8), `RTPROTO`): a number that nobody else is known to have.
const PROTOCOL: u8 = 214;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_one() {
        assert_eq!(Subnet::read("10.244.0.0/16").unwrap().to_string(), "10.244.0.0/16");
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "a/8", "10.0.0.0/8\nExecStart=x", "fd00::/8"] {
            assert!(Subnet::read(wrong).unwrap_err().contains("no subnet"), "{wrong}");
        }
        let why = Subnet::read("10.244.3.0/16").unwrap_err();
        assert!(why.contains("10.244.0.0/16 is meant"), "{why}");
        let read = |text| Subnet::read(text).unwrap();
        assert!(read("10.0.0.0/8").overlaps(read("10.9.0.0/24")));
        assert!(!read("10.8.0.0/24").overlaps(read("10.9.0.0/24")));
        assert!(read("0.0.0.0/0").overlaps(read("10.9.0.0/24")));
    }

    #[test]
    fn each_machine_knows_the_way_to_the_pods_of_all_others() {
        let node = |cidr: &str| Arc::new(json!({"spec": {"podCIDR": cidr}}));
        let nodes = BTreeMap::from([
            ("ctl".to_owned(), node("10.244.0.0/24")),
            ("n1".to_owned(), node("10.244.1.0/24")),
            ("n2".to_owned(), Arc::new(json!({"spec": {}}))),
            ("evil".to_owned(), node("10.244.9.0/24\nExecStart=rm")),
            ("greedy".to_owned(), node("10.9.0.0/25")),
            ("all".to_owned(), node("10.0.0.0/8")),
        ]);
        let all = Subnet::read("10.244.0.0/16").unwrap();
        let pods = pods_of(all, &nodes);
        assert_eq!(pods.keys().copied().collect::<Vec<_>>(), ["ctl", "n1"]);
        let address = |text: &str| text.parse().unwrap();
        let addresses = BTreeMap::from([
            ("ctl".to_owned(), address("10.9.0.10")),
            ("n1".to_owned(), address("10.9.0.11")),
        ]);
        let of = |node| network(node, all, &pods, &addresses);
        let ctl = of("ctl").unwrap();
        assert!(ctl.plugins.contains("\"10.244.0.0/24\""), "{}", ctl.plugins);
        let way = "ExecStart=ip route replace 10.244.1.0/24 via 10.9.0.11 proto 214\n";
        assert!(ctl.routes.contains(way), "{}", ctl.routes);
        assert!(!ctl.routes.contains("10.244.0.0/24 via"), "the way to its own pods is the bridge");
        assert!(of("n2").is_none());
    }
}
