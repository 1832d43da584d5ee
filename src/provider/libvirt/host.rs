//! The host's own side of the network: addresses, and which bridge a tap is plugged into.
//!
//! It only looks; nothing here changes a device.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use if_addrs::IfAddr;
use ipnet::IpNet;

/// The master that Open vSwitch gives all of its ports; the switch itself knows which bridge.
const OPEN_VSWITCH: &str = "ovs-system";

/// Networks of the host's interfaces, without loopback, link-local ones and those of `bridges`.
pub(super) fn addresses(bridges: &BTreeSet<String>) -> io::Result<Vec<IpNet>> {
    let mut found: Vec<IpNet> = if_addrs::get_if_addrs()?
        .into_iter()
        .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
        .filter(|interface| !bridges.contains(&interface.name))
        .filter_map(|interface| {
            let (ip, prefix) = match interface.addr {
                IfAddr::V4(v4) => (IpAddr::V4(v4.ip), v4.prefixlen),
                IfAddr::V6(v6) => (IpAddr::V6(v6.ip), v6.prefixlen),
            };
            IpNet::new(ip, prefix).ok()
        })
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// Whether the tap `device` is there and not plugged into `bridge`.
///
/// A device that is not shown (it belongs to another network namespace) tells nothing: `false`.
pub(super) fn is_unplugged(net_devices: &Path, device: &str, bridge: &str) -> bool {
    let device = net_devices.join(device);
    if !device.exists() {
        return false;
    }
    match std::fs::read_link(device.join("master")) {
        Ok(master) => {
            let master = master.file_name().map(|name| name.to_string_lossy());
            master.is_none_or(|master| master != bridge && master != OPEN_VSWITCH)
        }
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_is_plugged_in_where_its_master_says_so() {
        let sys = tempfile::tempdir().unwrap();
        for device in ["vnet0", "vnet1", "vnet2"] {
            std::fs::create_dir(sys.path().join(device)).unwrap();
        }
        let plug = |device: &str, bridge: &str| {
            let link = sys.path().join(device).join("master");
            std::os::unix::fs::symlink(format!("../{bridge}"), link).unwrap();
        };
        plug("vnet0", "virbr1");
        plug("vnet1", "ovs-system");
        let unplugged = |device, bridge| is_unplugged(sys.path(), device, bridge);
        assert!(!unplugged("vnet0", "virbr1"));
        assert!(unplugged("vnet0", "virbr2"));
        assert!(!unplugged("vnet1", "virbr1"));
        assert!(unplugged("vnet2", "virbr1"));
        assert!(!unplugged("vnet9", "virbr1"), "another namespace's");
    }
}
