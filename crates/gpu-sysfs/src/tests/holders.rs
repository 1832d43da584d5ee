//! Who is found to hold what.

use uuid::Uuid;

use super::tree::{Tree, at};
use crate::holders::Held;

const MDEV: Uuid = Uuid::from_u128(7);

#[test]
fn every_kind_of_node_is_traced_to_what_it_stands_for() {
    let tree = Tree::with_gpu();
    tree.vendor_function("0000:07:00.0", 0, "0000:07:00.4", "");
    tree.file(
        "/proc/driver/nvidia-caps/mig-minors",
        "config 1\nmonitor 2\ngpu0/gi3/access 30\ngpu0/gi3/ci1/access 32",
    );
    tree.file(
        "/proc/driver/nvidia/capabilities/gpu0/mig/gi4/access",
        "DeviceFileMinor: 40\nDeviceFileMode: 256",
    );
    tree.file(&format!("/sys/kernel/iommu_groups/90/devices/{MDEV}"), "");
    tree.link("/sys/class/drm/renderD128/device", "../../../0000:07:00.0");
    let nodes = [
        "/dev/nvidia0",
        "/dev/nvidiactl",
        "/dev/nvidia-caps/nvidia-cap2",
        "/dev/nvidia-caps/nvidia-cap30",
        "/dev/nvidia-caps/nvidia-cap32 (deleted)",
        "/dev/nvidia-caps/nvidia-cap40",
        "/dev/vfio/devices/vfio0",
        "/dev/vfio/5",
        "/dev/vfio/90",
        "/dev/vfio/vfio",
        "/dev/dri/renderD128",
        "/home/user/dev/nvidia0",
        "socket:[123]",
    ];
    tree.process(100, "python3", "train.service", &nodes);
    let found = tree.holders();
    let gpu = at("07:00.0");
    let instance =
        |gpu_instance, compute_instance| Held::Instance { gpu, gpu_instance, compute_instance };
    let mut wanted = vec![
        Held::Gpu(gpu),
        instance(3, None),
        instance(3, Some(1)),
        instance(4, None),
        Held::Function(at("07:00.4")),
        Held::Group { group: 5, functions: vec![gpu, at("07:00.1")], mediated: vec![] },
        Held::Group { group: 90, functions: vec![], mediated: vec![MDEV] },
        Held::Function(gpu),
    ];
    wanted.sort();
    let mut holds: Vec<Held> = found.all.iter().map(|holder| holder.holds.clone()).collect();
    holds.sort();
    assert_eq!(holds, wanted, "a plain file of such a name is none");
    assert_eq!(found.of(&[], &[MDEV]).len(), 1);
    assert_eq!(found.of(&[at("07:00.4")], &[]).len(), 1);
    assert_eq!(found.of_instance(gpu, 3).len(), 2);
    assert_eq!(found.of_instance(gpu, 5).len(), 0);
    let one = &found.of_instance(gpu, 4)[0];
    assert_eq!(one.to_string(), "python3 (pid 100, train.service, /dev/nvidia-caps/nvidia-cap40)");
}

#[test]
fn units_are_found_in_both_versions_of_cgroups() {
    let tree = Tree::with_gpu();
    tree.process(1, "a", "x", &["/dev/nvidia0"]);
    let unit = |text: &str| {
        tree.file("/proc/1/cgroup", text);
        tree.holders().all[0].unit.clone()
    };
    let scope = "0::/machine.slice/machine-qemu\\x2d1.scope/libvirt/emulator";
    assert_eq!(unit(scope).as_deref(), Some("machine-qemu\\\\x2d1.scope"));
    let old = "4:memory:/foo\n1:name=systemd:/system.slice/ssh.service\n";
    assert_eq!(unit(old).as_deref(), Some("ssh.service"));
    let inner = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/jupyter.service";
    assert_eq!(unit(inner).as_deref(), Some("jupyter.service"));
    assert_eq!(unit("0::/"), None);
}

#[test]
fn what_cannot_be_told_holds_everything() {
    let tree = Tree::with_gpu();
    tree.process(200, "odd\nname", "x.service", &["/dev/nvidia9", "/dev/vfio/devices/vfio8"]);
    let found = tree.holders();
    assert!(found.all.iter().all(|holder| holder.holds == Held::Unresolved));
    assert_eq!(found.of(&[at("07:00.0")], &[]).len(), 2);
    assert_eq!(found.all[0].command, "odd\\nname");
    assert_eq!(found.all.len(), 2);
}

#[test]
fn processes_that_go_away_are_no_error_and_closed_ones_are_told() {
    let tree = Tree::with_gpu();
    tree.process(300, "gone", "x.service", &["/dev/nvidia0"]);
    tree.remove("/proc/300/fd");
    tree.process(301, "closed", "x.service", &[]);
    tree.file("/proc/301/fd/7", "no link: reading it fails");
    let found = tree.holders();
    assert_eq!((found.all.len(), found.unread), (0, vec![301]));
}
