//! The copy of a guest that a drill boots: its XML, that of its network, and the mark on both.
//!
//! A copy is made from what trueup has words for, never from XML as it came back: it has no device of
//! the host, no bridge, no shared folder, and no file but those named here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xmltree::{Element, Namespace, XMLNode};

use super::domain::{Defaults, shape};
use super::mark::NAMESPACE;
use super::tree::{self, Ext, new};
use super::{Mark, XmlError};
use crate::model::Name;
use crate::model::resource::{
    Accelerator, Boot, CpuMode, Cpus, DiskAttachment, DiskBus, DiskDevice, Firmware, Memory, Nic,
    NicSource, Power, VirtualMachine, VolumeFormat,
};

/// The words used in errors.
const DOMAIN: &str = "domain";
const NETWORK: &str = "network";
const CAPABILITIES: &str = "capabilities";

/// The element of the mark; that of a resource is another one.
const ELEMENT: &str = "drill";

/// Whose copy a domain is, or whose network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillMark {
    /// The backup that is drilled.
    pub backup: Name,
    /// The folder of whoever drills it, so that two on one host are told apart.
    pub of: String,
}

impl DrillMark {
    fn put(&self, root: &mut Element) {
        let mut element = new(ELEMENT, &[("backup", self.backup.as_str()), ("of", &self.of)]);
        element.prefix = Some(Mark::PREFIX.to_owned());
        element.namespace = Some(NAMESPACE.to_owned());
        let mut namespaces = Namespace::empty();
        namespaces.put(Mark::PREFIX, NAMESPACE);
        element.namespaces = Some(namespaces);
        root.make("metadata").add(element);
    }

    fn get(root: &Element) -> Option<Self> {
        let metadata = root.get_child("metadata")?;
        let element = metadata.children.iter().filter_map(XMLNode::as_element).find(|element| {
            element.name == ELEMENT && element.namespace.as_deref() == Some(NAMESPACE)
        })?;
        let backup = Name::new(element.attr("backup")?).ok()?;
        Some(Self { backup, of: element.attr("of")?.to_owned() })
    }

    /// The mark on a domain.
    ///
    /// # Errors
    /// The XML is no domain's.
    pub fn of_domain(xml: &str) -> Result<Option<Self>, XmlError> {
        Ok(Self::get(&tree::parse(xml, DOMAIN)?))
    }

    /// The mark on a network.
    ///
    /// # Errors
    /// The XML is no network's.
    pub fn of_network(xml: &str) -> Result<Option<Self>, XmlError> {
        Ok(Self::get(&tree::parse(xml, NETWORK)?))
    }
}

/// Whether a domain or a network is a drill's, of whomever: it is nobody's resource, and its MAC addresses
/// are a guest's.
#[must_use]
pub fn is_drills(xml: &str) -> bool {
    // Most are none, and reading XML costs.
    xml.contains(NAMESPACE)
        && xml.contains(ELEMENT)
        && (matches!(DrillMark::of_domain(xml), Ok(Some(_)))
            || matches!(DrillMark::of_network(xml), Ok(Some(_))))
}

/// What a copy is made from.
#[derive(Debug, Clone, Copy)]
pub struct Copy<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Its own UUID, which is nobody else's.
    pub uuid: Uuid,
    /// Whose it is.
    pub mark: &'a DrillMark,
    /// The guest.
    pub of: &'a VirtualMachine,
    /// The guest's machine type with its version, where that is known.
    pub machine: Option<&'a str>,
    /// What executes guests here.
    pub accelerator: Accelerator,
    /// What the host gives the guest to boot today.
    pub boot: &'a Boot,
    /// What was restored, by the guest's targets: raw images.
    pub disks: &'a BTreeMap<String, PathBuf>,
    /// The folder with these and with all [`stand_ins`], in which the copy has its own files.
    pub folder: &'a Path,
    /// Its memory, KiB; `None`: the guest's.
    pub memory_kib: Option<u64>,
    /// The network that its interfaces are plugged into; `None`: it has none.
    pub network: Option<&'a str>,
    /// Whether somebody wants to speak with its agent.
    pub agent: bool,
}

/// An empty image, in place of disks that no snapshot has, such as cloud-init media: the others keep
/// their places. No disk that was saved is called so.
const EMPTY: &str = ".empty.raw";
/// What it writes on its console.
pub const CONSOLE: &str = "console.log";
/// The folder of its UEFI variables, which libvirt makes as the user that QEMU runs as.
pub const VARIABLES: &str = "uefi";

/// The machine that a copy is.
///
/// # Errors
/// A path is no text.
pub fn machine(copy: &Copy<'_>) -> Result<VirtualMachine, XmlError> {
    let of = copy.of;
    let emulated = copy.accelerator == Accelerator::Tcg;
    let memory = copy.memory_kib.unwrap_or(of.memory.current);
    // Emulation has no host processor to pass through.
    let of_the_host =
        |mode: &CpuMode| matches!(mode, CpuMode::HostPassthrough | CpuMode::HostModel);
    let nics = of.nics.iter().filter_map(|nic| {
        let source = NicSource::Network(copy.network?.to_owned());
        Some(Nic { source, boot_order: None, ..nic.clone() })
    });
    Ok(VirtualMachine {
        // Where nothing else works it is emulated, whatever executed the guest elsewhere.
        accelerator: if emulated { Some(Accelerator::Tcg) } else { of.accelerator },
        machine: copy.machine.map(str::to_owned).or_else(|| of.machine.clone()),
        firmware: of.firmware,
        boot: match of.boot {
            Boot::Devices => Boot::Devices,
            Boot::Kernel { .. } => copy.boot.clone(),
        },
        cpus: Cpus {
            count: of.cpus.count,
            max: of.cpus.count,
            mode: of.cpus.mode.clone().filter(|mode| !(emulated && of_the_host(mode))),
            // It multiplies to the most there can be.
            topology: of.cpus.topology.filter(|_| of.cpus.count == of.cpus.max),
            pinning: BTreeMap::new(),
        },
        memory: Memory { current: memory, max: memory, hugepages: None },
        disks: of
            .disks
            .iter()
            .enumerate()
            .map(|(place, disk)| attachment(copy, place, disk))
            .collect::<Result<_, _>>()?,
        nics: nics.collect(),
        host_devices: Vec::new(),
        gpus: Vec::new(),
        console_log: Some(text(&copy.folder.join(CONSOLE))?),
        guest_agent: of.guest_agent || copy.agent,
        autostart: false,
        power: Power::Running,
        stop: None,
        readiness: None,
        snapshot: None,
        way_back: None,
    })
}

/// What is in the place of a disk that was not restored: a file, and whether it may only be read.
fn stand_in(place: usize, disk: &DiskAttachment) -> Option<(String, bool)> {
    match (disk.device, disk.bus) {
        (DiskDevice::Cdrom, _) => None,
        (DiskDevice::Disk, DiskBus::Virtio | DiskBus::Scsi) => Some((EMPTY.to_owned(), true)),
        // libvirt has none there that may only be read ("readonly sata disks are not supported", 9.0), and
        // QEMU lets nobody else at one that is written to.
        (DiskDevice::Disk, DiskBus::Sata) => Some((format!(".empty-{place}.raw"), false)),
    }
}

/// The files in the places of disks that were not restored, which have to be there, empty.
#[must_use]
pub fn stand_ins(of: &VirtualMachine, restored: &BTreeMap<String, PathBuf>) -> BTreeSet<String> {
    let left = of.disks.iter().enumerate().filter(|(_, disk)| !restored.contains_key(&disk.target));
    left.filter_map(|(place, disk)| stand_in(place, disk)).map(|(file, _)| file).collect()
}

fn attachment(
    copy: &Copy<'_>,
    place: usize,
    disk: &DiskAttachment,
) -> Result<DiskAttachment, XmlError> {
    let (path, read_only) = match (copy.disks.get(&disk.target), stand_in(place, disk)) {
        (Some(path), _) => (Some(text(path)?), false),
        (None, Some((file, read_only))) => (Some(text(&copy.folder.join(file))?), read_only),
        (None, None) => (None, true),
    };
    Ok(DiskAttachment { path, format: VolumeFormat::Raw, read_only, ..disk.clone() })
}

/// The XML of a copy.
///
/// # Errors
/// It cannot be written, or a path is no text.
pub fn domain(copy: &Copy<'_>) -> Result<String, XmlError> {
    let vm = machine(copy)?;
    let defaults = Defaults { accelerator: copy.accelerator };
    let mut root = shape(None, &vm, copy.name, copy.uuid, |root| copy.mark.put(root), defaults)?;
    // It may start anew, as some do at their first start elsewhere; what crashed is over.
    root.make("on_crash").set_text("destroy");
    if vm.firmware == Firmware::Efi {
        let variables = text(&copy.folder.join(VARIABLES).join("variables.fd"))?;
        root.make("os").add(new("nvram", &[]).with_text(&variables));
    }
    tree::write(&root, DOMAIN)
}

/// A network without addresses and without a way to anywhere.
///
/// # Errors
/// It cannot be written.
pub fn network(name: &str, uuid: Uuid, bridge: &str, mark: &DrillMark) -> Result<String, XmlError> {
    let mut root = Element::new(NETWORK);
    root.make("name").set_text(name);
    root.make("uuid").set_text(&uuid.to_string());
    mark.put(&mut root);
    root.add(new("bridge", &[("name", bridge), ("stp", "off"), ("delay", "0")]));
    tree::write(&root, NETWORK)
}

/// The bridge that a network is on.
///
/// # Errors
/// The XML is no network's.
pub fn bridge_of(xml: &str) -> Result<Option<String>, XmlError> {
    let root = tree::parse(xml, NETWORK)?;
    Ok(root.get_child("bridge").and_then(|bridge| bridge.attr("name")).map(str::to_owned))
}

/// The user and the group that QEMU runs as, by the capabilities of a libvirt; `None`: it does not say.
///
/// # Errors
/// The XML is no capabilities'.
pub fn qemu_user(capabilities: &str) -> Result<Option<(u32, u32)>, XmlError> {
    let root = tree::parse(capabilities, CAPABILITIES)?;
    let Some(host) = root.get_child("host") else { return Ok(None) };
    let dac = host
        .all("secmodel")
        .find(|model| model.get_child("model").is_some_and(|model| model.text() == "dac"));
    let label = dac.and_then(|dac| dac.get_child("baselabel")).map(Ext::text);
    let numbers = label.as_deref().and_then(|label| {
        let (user, group) = label.split_once(':')?;
        let number = |text: &str| text.strip_prefix('+').unwrap_or(text).parse().ok();
        Some((number(user)?, number(group)?))
    });
    Ok(numbers)
}

fn text(path: &Path) -> Result<String, XmlError> {
    path.to_str().map(str::to_owned).ok_or_else(|| XmlError::Value {
        what: DOMAIN,
        part: "path",
        value: path.display().to_string(),
    })
}

#[cfg(test)]
mod tests;
