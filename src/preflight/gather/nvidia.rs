//! NVIDIA's driver as its files show it. NVML is not called: it would wake a GPU.

use std::collections::BTreeMap;

use crate::preflight::facts::{Nvidia, Pci};
use crate::preflight::root::Root;

/// Where NVIDIA's and the distributions' packages put the library.
const LIBRARY_FOLDERS: &[&str] = &[
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/local/nvidia/lib64",
];
/// The name NVML is loaded by.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// Links between that name and the file: Debian's alternatives need three.
const HOPS_MAX: usize = 8;

pub(super) fn driver(root: &Root) -> Nvidia {
    Nvidia {
        module: root.text("sys/module/nvidia/version"),
        library: LIBRARY_FOLDERS.iter().find_map(|folder| library(root, folder)),
        mig_config: root.exists("proc/driver/nvidia/capabilities/mig/config"),
    }
}

fn library(root: &Root, folder: &str) -> Option<(String, Option<String>)> {
    let first = format!("{folder}/{LIBRARY}");
    if !root.exists(&first) {
        return None;
    }
    let mut path = first.clone();
    for _ in 0..HOPS_MAX {
        let Some(target) = root.link(&path) else { break };
        path = match target.strip_prefix('/') {
            Some(absolute) => absolute.to_owned(),
            None => format!("{}/{target}", path.rsplit_once('/').map_or("", |(above, _)| above)),
        };
    }
    let version = path.rsplit_once(".so.").map(|(_, version)| version.to_owned());
    // `.so.1` alone tells no version.
    Some((format!("/{first}"), version.filter(|version| version.contains('.'))))
}

/// The device file of each GPU, and the GPU's address.
pub(super) fn nodes(pci: &[Pci]) -> BTreeMap<String, String> {
    let node = |pci: &Pci| {
        let minor = pci.gpu.as_ref()?.minor?;
        Some((format!("/dev/nvidia{minor}"), pci.address.clone()))
    };
    pci.iter().filter_map(node).collect()
}
