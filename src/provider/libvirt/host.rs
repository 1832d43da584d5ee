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

/// The host's memory, KiB, as the kernel says it; `None`: it does not say.
pub(super) fn memory_kib() -> Option<u64> {
    total_of(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// The host's memory that can be had without swapping, KiB, as the kernel estimates it; `None`: it does
/// not say.
pub(super) fn available_kib() -> Option<u64> {
    number_of("MemAvailable:", &std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// `MemTotal:  16384 kB` (`proc_meminfo(5)`).
fn total_of(meminfo: &str) -> Option<u64> {
    number_of("MemTotal:", meminfo)
}

fn number_of(key: &str, meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// The processors that are online, by the kernel's list; `None`: it does not say.
pub(super) fn cpus() -> Option<u32> {
    count_of(std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?.trim())
}

/// How many a list like `0-3,8` names (`Documentation/admin-guide/cputopology.rst`).
fn count_of(list: &str) -> Option<u32> {
    list.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            (last.checked_sub(first)?).checked_add(1)
        })
        .try_fold(0u32, |sum, count| sum.checked_add(count?))
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
    fn the_kernels_words_for_memory_and_processors_are_read() {
        assert_eq!(total_of("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16_384));
        assert_eq!(total_of("MemFree: 1 kB\n"), None);
        assert_eq!((count_of("0-3,8"), count_of("0"), count_of("x")), (Some(5), Some(1), None));
    }

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
