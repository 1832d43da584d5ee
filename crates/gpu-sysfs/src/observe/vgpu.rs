//! vGPUs, in both ways the driver makes them.
//!
//! Mediated devices (older kernels): a folder of types below `/sys/class/mdev_bus/BDF`, where BDF is
//! the GPU or, with SR-IOV, one of its virtual functions. The vendor's own VFIO driver (kernel 6.8 and
//! later): each virtual function has a folder `nvidia/`, and is a vGPU once a type is written there.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Eye;
use crate::address::PciAddress;

/// How vGPUs are made on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// As mediated devices.
    Mdev,
    /// By writing a type to a virtual function of the vendor's VFIO driver.
    Vendor,
    /// Not to be told before the virtual functions are turned on.
    Down,
    /// Not at all: the driver is not one for vGPU hosts, or another driver has the GPU.
    None,
}

/// A type of mediated device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MdevType {
    /// The folder's name, as `nvidia-558`.
    pub id: String,
    /// The name for people, as `NVIDIA A40-8Q`.
    pub name: String,
    /// How many more can be made here.
    pub available: u32,
}

/// A mediated device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mediated {
    /// Its UUID, chosen by whoever made it.
    pub uuid: Uuid,
    /// The function it was made on.
    pub parent: PciAddress,
    /// Its type's folder name.
    pub kind: String,
}

/// A type of vGPU that a virtual function can become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VgpuKind {
    /// The number that is written.
    pub id: u32,
    /// The name for people.
    pub name: String,
}

/// A virtual function of the vendor's VFIO driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorFunction {
    /// The type it has; none: it is no vGPU now.
    pub current: Option<u32>,
    /// The types it can get now; the list shrinks as the GPU fills up.
    pub creatable: Vec<VgpuKind>,
    /// The GPU instance it is on, for GPUs that are cut.
    pub gpu_instance: Option<u32>,
    /// Its place among vGPUs of different sizes.
    pub placement: Option<u32>,
}

/// The largest id of a GPU instance: ids go up to 14; beyond are the driver's words for "none".
const GPU_INSTANCE_MAX: u32 = 255;

pub(super) fn vendor(eye: &Eye<'_>, address: PciAddress) -> Option<VendorFunction> {
    let file = |name: &str| address.file(&format!("nvidia/{name}"));
    let current = eye.number(&file("current_vgpu_type"))?;
    let creatable = eye.text(&file("creatable_vgpu_types")).unwrap_or_default();
    Some(VendorFunction {
        current: (current != 0).then_some(current),
        creatable: kinds(&creatable),
        gpu_instance: eye.number(&file("gpu_instance_id")).filter(|id| *id <= GPU_INSTANCE_MAX),
        placement: eye.number(&file("placement_id")).filter(|id| *id != u32::MAX),
    })
}

/// Lines like `1428 : NVIDIA H200X-141C`; a heading has no number.
pub(crate) fn kinds(text: &str) -> Vec<VgpuKind> {
    let one = |line: &str| {
        let (id, name) = line.split_once(':')?;
        Some(VgpuKind { id: id.trim().parse().ok()?, name: name.trim().to_owned() })
    };
    text.lines().filter_map(one).collect()
}

pub(super) fn mdev_types(eye: &Eye<'_>, address: PciAddress) -> Vec<MdevType> {
    let folder = format!("/sys/class/mdev_bus/{address}/mdev_supported_types");
    let mut types = Vec::new();
    for id in eye.names(&folder) {
        let name = eye.text(&format!("{folder}/{id}/name"));
        let available = eye.number(&format!("{folder}/{id}/available_instances"));
        let name = name.unwrap_or_else(|| id.clone());
        types.push(MdevType { name, available: available.unwrap_or(0), id });
    }
    types
}

pub(super) fn mediated(eye: &Eye<'_>) -> std::collections::BTreeMap<Uuid, Mediated> {
    let mut found = std::collections::BTreeMap::new();
    for name in eye.names("/sys/bus/mdev/devices") {
        let Ok(uuid) = Uuid::parse_str(&name) else { continue };
        let folder = format!("/sys/bus/mdev/devices/{name}");
        // The link leads to the device's folder, which lies in that of its parent.
        let target = eye.link(&folder).unwrap_or_default();
        let parent = target.rsplit('/').nth(1).and_then(|parent| parent.parse().ok());
        let kind = eye.link_name(&format!("{folder}/mdev_type"));
        if let (Some(parent), Some(kind)) = (parent, kind) {
            found.insert(uuid, Mediated { uuid, parent, kind });
        }
    }
    found
}
