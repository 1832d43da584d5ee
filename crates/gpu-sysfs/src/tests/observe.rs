//! What is seen on a host, and that nothing outside of the root is.

use super::kernel::creatable;
use super::tree::{Tree, at};
use crate::address::PciAddress;
use crate::observe::Backend;

#[test]
fn addresses_of_nvml_and_sysfs_are_one() {
    let one = at("0000:07:00.0");
    for text in ["00000000:07:00.0", "07:00.0", "0000:07:00.0"] {
        assert_eq!(at(text), one, "{text}");
    }
    assert_eq!(at("0001:AF:1F.7"), at("00000001:af:1f.7"));
    assert_eq!((one.to_string(), one.nvml()), ("0000:07:00.0".into(), "00000000:07:00.0".into()));
    assert_eq!(at("00010000:e1:00.0").to_string(), "10000:e1:00.0", "domains of VMD have 5 digits");
    for text in ["", "07:00", "7:0:0.0.", "0000:07:20.0", "0000:07:00.8", "+1:07:00.0", "0:0:7:0.0"]
    {
        assert!(text.parse::<PciAddress>().is_err(), "{text}");
    }
}

#[test]
fn boards_are_seen_with_all_that_goes_with_them() {
    let tree = Tree::with_gpu();
    tree.board("0000:08:00", 6, 1);
    tree.function("0000:00:01.0", "0x8086", "0x1901", "0x060400", Some(5), Some("pcieport"));
    tree.function("0000:00:1f.0", "0x8086", "0x0001", "0x060100", Some(9), None);
    tree.file("/proc/cmdline", "quiet vfio-pci.ids=10de:20b0,10de:1AEF");
    tree.file("/proc/driver/nvidia/capabilities/gpu1/mig/gi3/access", "DeviceFileMinor: 30");
    tree.file("/sys/class/drm/card1-DP-1/status", "connected");
    tree.file("/sys/class/drm/card1-DP-2/status", "disconnected");
    tree.link("/sys/class/drm/card1/device", "../../../0000:08:00.0");
    let host = tree.host();
    let seen: Vec<String> = host.functions.keys().map(ToString::to_string).collect();
    let wanted = ["0000:00:01.0", "0000:07:00.0", "0000:07:00.1", "0000:08:00.0", "0000:08:00.1"];
    assert_eq!(seen, wanted, "the bridge is in the group, the other device is nobody's business");
    let gpus: Vec<PciAddress> = host.gpus().map(|gpu| gpu.address).collect();
    assert_eq!(gpus, [at("07:00.0"), at("08:00.0")]);
    let gpu = &host.functions[&at("08:00.0")];
    assert_eq!(gpu.driver.as_deref(), Some("nvidia"));
    assert_eq!(
        (gpu.driver_override.clone(), gpu.boot_vga, gpu.group),
        (None, Some(false), Some(6))
    );
    assert_eq!(gpu.reset_methods.as_deref(), Some(&["flr".to_owned(), "bus".to_owned()][..]));
    assert_eq!(gpu.group_members.len(), 2);
    assert_eq!(gpu.connected, ["DP-1"]);
    assert_eq!(host.instances[&at("08:00.0")].iter().copied().collect::<Vec<_>>(), [3]);
    assert!(host.vfio_ids.contains(&gpu.model()) && host.vfio_ids.contains("10de:1aef"));
    assert_eq!((host.groups, host.boot.as_str(), host.unread.len()), (3, "boot-one", 0));
}

#[test]
fn the_way_to_make_vgpus_is_told_by_what_is_there() {
    let tree = Tree::with_gpu();
    assert_eq!(tree.host().backend(at("07:00.0")), Backend::None);
    tree.file("/sys/bus/pci/devices/0000:07:00.0/sriov_totalvfs", "4");
    tree.file("/sys/bus/pci/devices/0000:07:00.0/sriov_numvfs", "0");
    assert_eq!(tree.host().backend(at("07:00.0")), Backend::None, "without the vendor's tool");
    tree.file("/usr/lib/nvidia/sriov-manage", "#!/bin/bash");
    assert_eq!(tree.host().backend(at("07:00.0")), Backend::Down);
    tree.vendor_function("0000:07:00.0", 0, "0000:07:00.4", &creatable(48));
    let host = tree.host();
    assert_eq!(host.backend(at("07:00.0")), Backend::Vendor);
    let vendor = host.functions[&at("07:00.4")].vendor.clone().unwrap();
    let names: Vec<&str> = vendor.creatable.iter().map(|kind| kind.name.as_str()).collect();
    assert_eq!(names, ["NVIDIA A40-24Q", "NVIDIA A40-8Q"], "the heading is none");
    assert_eq!((vendor.current, vendor.gpu_instance, vendor.placement), (None, None, None));
    assert_eq!(host.board(at("07:00.0")).count(), 2, "virtual functions are not the board's");

    let tree = Tree::with_gpu();
    tree.mdev_types("0000:07:00.0", &[("nvidia-558", "GRID A40-8Q", 6)]);
    assert_eq!(tree.host().backend(at("07:00.0")), Backend::Mdev);
}

#[test]
fn no_link_leads_out_of_the_root() {
    let tree = Tree::new();
    tree.link("/sys/absolute", "/etc/hostname");
    tree.link("/sys/upward", "../../../../../../../../etc/hostname");
    let root = tree.root();
    assert_eq!(root.text("/sys/absolute").unwrap(), None);
    assert_eq!(root.text("/sys/upward").unwrap(), None);
    tree.file("/etc/hostname", "inside");
    assert_eq!(root.text("/sys/absolute").unwrap().as_deref(), Some("inside"));
    assert!(!root.is_live());
}

#[test]
fn what_cannot_be_read_hides_nothing_else() {
    let tree = Tree::with_gpu();
    tree.board("0000:08:00", 6, 1);
    tree.remove("/sys/devices/pci0000:00/0000:07:00.0/reset_method");
    tree.file("/sys/devices/pci0000:00/0000:07:00.0/reset_method/folder", "");
    let host = tree.host();
    assert_eq!(host.gpus().count(), 2);
    let paths: Vec<&str> = host.unread.iter().map(|unread| unread.path.as_str()).collect();
    assert_eq!(paths, ["/sys/bus/pci/devices/0000:07:00.0/reset_method"]);
}
