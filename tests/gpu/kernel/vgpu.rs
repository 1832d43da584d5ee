//! vGPUs of the kernel of plain files, by both of the driver's ways: mediated devices, and virtual
//! functions of the vendor's VFIO driver. One memory is shared by all of them.

use std::fs;

use trueup_gpu_sysfs::Error;

use super::{GPU, Kernel};

/// Types by number: name, and memory in GB.
const TYPES: [(u32, &str, u32); 2] = [(558, "NVIDIA A40-24Q", 24), (556, "NVIDIA A40-8Q", 8)];
/// Memory of the GPU, GB.
const MEMORY: u32 = 48;
/// Virtual functions, once they are on: four from here.
const FIRST: u32 = 4;
/// The IOMMU group of the first one.
const GROUP: u32 = 40;
/// Errors of the kernel: no such device, file exists, busy, invalid argument, no space.
const EEXIST: i32 = 17;
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;

/// The name of a virtual function.
pub(in super::super) fn function(index: u32) -> String {
    format!("0000:07:00.{}", FIRST + index)
}

impl Kernel {
    /// A driver that makes mediated devices.
    pub(in super::super) fn mdev(&self) {
        for (number, name, size) in TYPES {
            let folder = types(number);
            self.file(&format!("{folder}/name"), name);
            self.file(&format!("{folder}/available_instances"), &(MEMORY / size).to_string());
            self.file(&format!("{folder}/create"), "");
        }
    }

    /// A driver that makes virtual functions to vGPUs; they are off.
    pub(in super::super) fn vendor(&self) {
        let folder = format!("/sys/bus/pci/devices/{GPU}");
        self.file(&format!("{folder}/sriov_totalvfs"), "4");
        self.file(&format!("{folder}/sriov_numvfs"), "0");
        self.file("/usr/lib/nvidia/sriov-manage", "#!/bin/bash");
    }

    /// What stands: where, or its UUID, and its type's number.
    pub(in super::super) fn vgpus(&self) -> Vec<(String, u32)> {
        let functions = (0..4).map(function).filter_map(|name| {
            let kind: u32 = self.text(&current(&name)).parse().ok()?;
            (kind != 0).then_some((name, kind))
        });
        let mut all: Vec<_> = functions.collect();
        all.extend(self.mediated());
        all.sort();
        all
    }

    fn mediated(&self) -> Vec<(String, u32)> {
        let Ok(found) = fs::read_dir(self.path("/sys/bus/mdev/devices")) else { return Vec::new() };
        let one = |name: String| {
            let kind = self.path(&format!("/sys/bus/mdev/devices/{name}/mdev_type"));
            let kind = fs::read_link(kind).unwrap();
            let number = kind.to_str().unwrap().rsplit_once('-').unwrap().1.parse().unwrap();
            (name, number)
        };
        found.map(|entry| one(entry.unwrap().file_name().into_string().unwrap())).collect()
    }

    /// Makes a mediated device, as somebody else would too.
    pub(in super::super) fn create(&self, kind: &str, uuid: &str) -> Result<(), i32> {
        let device = format!("/sys/devices/pci0000:00/{GPU}/{uuid}");
        if self.path(&device).exists() {
            return Err(EEXIST);
        }
        let number: u32 = kind.rsplit_once('-').unwrap().1.parse().unwrap();
        if size(number) > MEMORY - self.used() {
            return Err(ENOSPC);
        }
        self.file(&format!("{device}/remove"), "");
        self.link(&format!("{device}/mdev_type"), &format!("../mdev_supported_types/{kind}"));
        let link = format!("/sys/bus/mdev/devices/{uuid}");
        self.link(&link, &format!("../../../devices/pci0000:00/{GPU}/{uuid}"));
        self.room();
        Ok(())
    }

    pub(super) fn remove_mediated(&self, uuid: &str) {
        fs::remove_file(self.path(&format!("/sys/bus/mdev/devices/{uuid}"))).unwrap();
        fs::remove_dir_all(self.path(&format!("/sys/devices/pci0000:00/{GPU}/{uuid}"))).unwrap();
        self.room();
    }

    /// A virtual function becomes a vGPU, or ceases to be one.
    pub(super) fn retype(&self, name: &str, value: &str) -> Result<(), i32> {
        let number: u32 = value.parse().unwrap();
        if number != 0 {
            if self.text(&current(name)) != "0" {
                return Err(EBUSY);
            }
            let listed =
                self.text(&format!("/sys/bus/pci/devices/{name}/nvidia/creatable_vgpu_types"));
            if !listed.lines().any(|line| line.starts_with(&format!("{value} "))) {
                return Err(EINVAL);
            }
        }
        self.file(&current(name), value);
        self.room();
        Ok(())
    }

    /// Virtual functions on.
    pub(in super::super) fn functions_on(&self) {
        for index in 0..4 {
            let name = function(index);
            let folder = format!("/sys/bus/pci/devices/{name}");
            self.function_in(&name, "0x20b0", "0x030200", "nvidia", GROUP + index);
            self.link(&format!("{folder}/physfn"), &format!("../{GPU}"));
            self.link(&format!("/sys/bus/pci/devices/{GPU}/virtfn{index}"), &format!("../{name}"));
            self.file(&current(&name), "0");
            self.file(&format!("{folder}/nvidia/gpu_instance_id"), "4294967295");
            self.file(&format!("{folder}/nvidia/placement_id"), "4294967295");
            let device = format!("../../devices/pci0000:00/{name}/vfio-dev/vfio{index}");
            self.link(&format!("/sys/class/vfio-dev/vfio{index}"), &device);
        }
        self.file(&format!("/sys/bus/pci/devices/{GPU}/sriov_numvfs"), "4");
        self.room();
    }

    /// Virtual functions off, and all they were with them.
    pub(super) fn functions_off(&self) {
        for index in 0..4 {
            let name = function(index);
            self.remove(&format!("/sys/bus/pci/devices/{name}"));
            self.remove(&format!("/sys/kernel/iommu_groups/{}", GROUP + index));
            for link in [
                format!("/sys/bus/pci/devices/{GPU}/virtfn{index}"),
                format!("/sys/class/vfio-dev/vfio{index}"),
            ] {
                fs::remove_file(self.path(&link)).unwrap();
            }
        }
        self.file(&format!("/sys/bus/pci/devices/{GPU}/sriov_numvfs"), "0");
    }

    /// What a reboot leaves of vGPUs: nothing.
    pub(super) fn forget_vgpus(&self) {
        for (uuid, _) in self.mediated() {
            self.remove_mediated(&uuid);
        }
        if self.path(&format!("/sys/bus/pci/devices/{}", function(0))).exists() {
            self.functions_off();
        }
    }

    fn used(&self) -> u32 {
        self.vgpus().iter().map(|(_, number)| size(*number)).sum()
    }

    /// Tells what there is room for now.
    fn room(&self) {
        let left = MEMORY - self.used();
        for (number, _, size) in TYPES {
            let count = format!("{}/available_instances", types(number));
            if self.path(&count).exists() {
                self.file(&count, &(left / size).to_string());
            }
        }
        let fitting = TYPES.iter().filter(|(.., size)| *size <= left);
        let lines: Vec<String> = fitting.map(|(id, name, _)| format!("{id} : {name}")).collect();
        let listed = format!("ID    : vGPU Name\n{}", lines.join("\n"));
        for name in (0..4).map(function) {
            if self.path(&current(&name)).exists() {
                let free = self.text(&current(&name)) == "0";
                let list = format!("/sys/bus/pci/devices/{name}/nvidia/creatable_vgpu_types");
                self.file(&list, if free { &listed } else { "" });
            }
        }
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default().trim().to_owned()
    }
}

fn types(number: u32) -> String {
    format!("/sys/class/mdev_bus/{GPU}/mdev_supported_types/nvidia-{number}")
}

fn current(function: &str) -> String {
    format!("/sys/bus/pci/devices/{function}/nvidia/current_vgpu_type")
}

fn size(number: u32) -> u32 {
    TYPES.iter().find(|it| it.0 == number).map_or(0, |(.., size)| *size)
}

/// What the kernel says to a write that it does not take.
pub(super) fn refused(path: &str, value: &str, errno: i32) -> Error {
    let source = std::io::Error::from_raw_os_error(errno);
    let advice = "see the driver";
    Error::Write { path: path.to_owned(), value: value.to_owned(), errno, advice, source }
}
