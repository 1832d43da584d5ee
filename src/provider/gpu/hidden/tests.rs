//! Trees with processes in them, and what is concluded from their open files.

use std::path::Path;

use super::*;

/// A GPU with one instance, on which NVML lists process 20.
fn record() -> GpuRecord {
    serde_json::from_value(serde_json::json!({
        "index": 0, "uuid": "GPU-1", "serial": null, "pci": "0000:07:00.0", "minor": 0,
        "pci_device": 0, "name": "H100", "architecture": "hopper", "vbios": null, "memory": null,
        "mig": {"current": true, "pending": true}, "virtualization": null, "persistence": true,
        "display_active": false, "profiles": [], "instances": [],
        "processes": [{
            "pid": 20, "kind": "compute", "memory": null, "gpu_instance": 7, "compute_instance": 0,
        }],
        "health": {"nvlinks": []}, "unread": [],
    }))
    .unwrap()
}

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.file("proc/driver/nvidia/gpus/0000:07:00.0/information", "Device Minor: \t 0\n");
        tree.file("proc/driver/nvidia/gpus/0000:08:00.0/information", "Device Minor: \t 1\n");
        let minors = "config 1\nmonitor 2\ngpu0/gi7/access 30\ngpu0/gi7/ci0/access 31\n\
                      gpu0/gi8/access 39\ngpu1/gi7/access 60\n";
        tree.file("proc/driver/nvidia-caps/mig-minors", minors);
        tree
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn process(&self, pid: u32, comm: &str, open: &[&str]) {
        self.file(&format!("proc/{pid}/comm"), &format!("{comm}\n"));
        self.file(&format!("proc/{pid}/cgroup"), "0::/system.slice/x.service\n");
        let folder = self.0.path().join(format!("proc/{pid}/fd"));
        std::fs::create_dir_all(&folder).unwrap();
        for (number, target) in open.iter().enumerate() {
            std::os::unix::fs::symlink(Path::new(target), folder.join(number.to_string())).unwrap();
        }
    }

    fn hidden(&self) -> Hidden {
        Host::at(self.0.path().to_owned()).hidden()
    }
}

fn pids(holders: &[Holder]) -> Vec<u32> {
    holders.iter().filter_map(|holder| holder.pid).collect()
}

const GI: GpuInstanceId = GpuInstanceId(7);
const CI: ComputeInstanceId = ComputeInstanceId(0);

#[test]
fn a_holder_is_told_of_what_it_holds() {
    let tree = Tree::new();
    let (gi, ci) = ("/dev/nvidia-caps/nvidia-cap30", "/dev/nvidia-caps/nvidia-cap31");
    tree.process(20, "python", &["/dev/nvidia0", gi, ci]);
    tree.process(21, "leaked", &["/dev/nvidia0", gi, ci]);
    tree.process(22, "watcher", &[gi]);
    tree.process(23, "other", &["/dev/nvidia-caps/nvidia-cap39", "/dev/nvidia-caps/nvidia-cap60"]);
    tree.process(24, "nv-hostengine", &["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap2"]);
    tree.process(25, "nvidia-persiste", &["/dev/nvidia0", "/dev/nvidia1"]);
    tree.process(26, "sh", &["/dev/null", "/dev/nvidiactl"]);
    let (hidden, record) = (tree.hidden(), record());
    let held = hidden.of_compute(&record, GI, CI);
    assert_eq!(pids(&held), [21], "20 stands on NVML's list");
    assert_eq!(held[0].to_string(), "leaked (pid 21, x.service)");
    assert_eq!(pids(&hidden.of_instance(&record, GI)), [22]);
    assert_eq!(pids(&hidden.of_instance(&record, GpuInstanceId(8))), [23]);
    assert_eq!(pids(&hidden.of_gpu(&record)), [24]);
    assert_eq!(hidden.openers().len(), 6);
}

/// A driver that does not say what a capability file stands for leaves nothing but caution.
#[test]
fn what_cannot_be_told_apart_is_held() {
    let tree = Tree::new();
    tree.process(30, "leaked", &["/dev/nvidia-caps/nvidia-cap99"]);
    let (hidden, record) = (tree.hidden(), record());
    assert_eq!(pids(&hidden.of_instance(&record, GI)), [30]);
    assert_eq!(pids(&hidden.of_gpu(&record)), [30]);
    assert_eq!(pids(&hidden.of_compute(&record, GI, CI)), [0; 0]);
}

#[test]
fn without_a_tree_nobody_is_seen() {
    let nowhere = Host::at("/nonexistent".into()).hidden();
    assert!(nowhere.openers().is_empty());
}
