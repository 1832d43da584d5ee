//! A temporary tree that looks like `/sys` and `/proc` of a GPU host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::address::PciAddress;
use crate::holders::{Holders, scan};
use crate::observe::{Host, observe};
use crate::root::Root;

/// Reads an address that is right.
pub(super) fn at(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// The tree.
pub(super) struct Tree {
    dir: PathBuf,
    /// Removes the folder in the end; none for a second look at a standing tree.
    _kept: Option<TempDir>,
}

impl Tree {
    /// A host with an IOMMU, the nvidia driver and vfio-pci, and nothing in its slots.
    pub(super) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let tree = Self { dir: dir.path().to_owned(), _kept: Some(dir) };
        tree.file("/proc/cmdline", "root=/dev/sda1 quiet");
        tree.file("/proc/sys/kernel/random/boot_id", "boot-one");
        tree.file("/sys/bus/pci/drivers_probe", "");
        for driver in ["nvidia", "vfio-pci", "snd_hda_intel", "pcieport"] {
            tree.driver(driver);
        }
        for folder in ["/sys/bus/pci/devices", "/sys/kernel/iommu_groups"] {
            fs::create_dir_all(tree.path(folder)).unwrap();
        }
        tree
    }

    /// A tree that somebody else removes.
    pub(super) fn standing(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), _kept: None }
    }

    /// One board with audio, in group 5, on 0000:07:00, as `/dev/nvidia0`.
    pub(super) fn with_gpu() -> Self {
        let tree = Self::new();
        tree.board("0000:07:00", 5, 0);
        tree
    }

    /// A GPU and its audio function in a slot.
    pub(super) fn board(&self, slot: &str, group: u32, minor: u32) {
        let gpu = format!("{slot}.0");
        self.function(&gpu, "0x10de", "0x20b0", "0x030200", Some(group), Some("nvidia"));
        let audio = format!("{slot}.1");
        self.function(&audio, "0x10de", "0x1aef", "0x040300", Some(group), Some("snd_hda_intel"));
        let text = format!("Model: \t\t Simulated\nDevice Minor: \t {minor}\n");
        self.file(&format!("/proc/driver/nvidia/gpus/{gpu}/information"), &text);
    }

    /// Any function.
    pub(super) fn function(
        &self,
        name: &str,
        vendor: &str,
        device: &str,
        class: &str,
        group: Option<u32>,
        driver: Option<&str>,
    ) {
        let folder = format!("/sys/devices/pci0000:00/{name}");
        let texts = [
            ("vendor", vendor),
            ("device", device),
            ("class", class),
            ("driver_override", "(null)"),
            ("reset_method", "flr bus"),
        ];
        for (file, text) in texts {
            self.file(&format!("{folder}/{file}"), text);
        }
        if class.starts_with("0x03") {
            self.file(&format!("{folder}/boot_vga"), "0");
        }
        let target = format!("../../../devices/pci0000:00/{name}");
        self.link(&format!("/sys/bus/pci/devices/{name}"), &target);
        if let Some(group) = group {
            let devices = format!("/sys/kernel/iommu_groups/{group}/devices/{name}");
            self.link(&devices, &format!("../../../../devices/pci0000:00/{name}"));
            let target = format!("../../../kernel/iommu_groups/{group}");
            self.link(&format!("{folder}/iommu_group"), &target);
        }
        self.bind(name, driver);
    }

    /// A virtual function of a GPU, of the vendor's VFIO driver.
    pub(super) fn vendor_function(&self, gpu: &str, index: u32, name: &str, creatable: &str) {
        self.function(name, "0x10de", "0x20b0", "0x030200", Some(40 + index), Some("nvidia"));
        self.link(&format!("/sys/bus/pci/devices/{gpu}/virtfn{index}"), &format!("../{name}"));
        self.link(&format!("/sys/bus/pci/devices/{name}/physfn"), &format!("../{gpu}"));
        let folder = format!("/sys/bus/pci/devices/{name}/nvidia");
        self.file(&format!("{folder}/current_vgpu_type"), "0");
        self.file(&format!("{folder}/creatable_vgpu_types"), creatable);
        self.file(&format!("{folder}/gpu_instance_id"), "4294967295");
        self.file(&format!("{folder}/placement_id"), "4294967295");
        let target = format!("../../devices/pci0000:00/{name}/vfio-dev/vfio{index}");
        self.link(&format!("/sys/class/vfio-dev/vfio{index}"), &target);
    }

    /// Types of mediated devices on a GPU, with how many of each can be made.
    pub(super) fn mdev_types(&self, gpu: &str, types: &[(&str, &str, u32)]) {
        for (id, name, available) in types {
            let folder = format!("/sys/class/mdev_bus/{gpu}/mdev_supported_types/{id}");
            self.file(&format!("{folder}/name"), name);
            self.file(&format!("{folder}/available_instances"), &available.to_string());
            self.file(&format!("{folder}/create"), "");
        }
    }

    /// A process with open files.
    pub(super) fn process(&self, pid: u32, comm: &str, unit: &str, fds: &[&str]) {
        let folder = format!("/proc/{pid}");
        self.file(&format!("{folder}/comm"), comm);
        self.file(&format!("{folder}/cgroup"), &format!("0::/system.slice/{unit}\n"));
        self.link(&format!("{folder}/fd/0"), "/dev/null");
        for (index, target) in fds.iter().enumerate() {
            self.link(&format!("{folder}/fd/{}", index + 3), target);
        }
    }

    /// The process goes away.
    pub(super) fn exit(&self, pid: u32) {
        fs::remove_dir_all(self.path(&format!("/proc/{pid}"))).unwrap();
    }

    /// Sets the driver link.
    pub(super) fn bind(&self, name: &str, driver: Option<&str>) {
        let link = format!("/sys/bus/pci/devices/{name}/driver");
        if fs::symlink_metadata(self.path(&link)).is_ok() {
            fs::remove_file(self.path(&link)).unwrap();
        }
        if let Some(driver) = driver {
            self.link(&link, &format!("../../../bus/pci/drivers/{driver}"));
        }
    }

    /// A loaded driver.
    pub(super) fn driver(&self, name: &str) {
        self.file(&format!("/sys/bus/pci/drivers/{name}/unbind"), "");
    }

    pub(super) fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    pub(super) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap().trim().to_owned()
    }

    pub(super) fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_symlink() || path.is_file() {
            fs::remove_file(path).unwrap();
        } else {
            fs::remove_dir_all(path).unwrap();
        }
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.dir.join(path.trim_start_matches('/'))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.dir
    }

    pub(super) fn root(&self) -> Root {
        Root::open(&self.dir).unwrap()
    }

    pub(super) fn host(&self) -> Host {
        observe(&self.root())
    }

    pub(super) fn holders(&self) -> Holders {
        scan(&self.root()).unwrap()
    }
}
