//! Devices of a domain: read one, make one, change one in place.
//!
//! A device keeps its guest-visible place (its `<address>`) unless its bus changes, so that a change
//! to one device never moves another.

use xmltree::Element;

use super::super::XmlError;
use super::super::tree::{self, Ext, new};
use crate::model::resource::{
    DiskAttachment, DiskBus, DiskDevice, HostDevice, Nic, NicSource, VolumeFormat,
};

/// Attributes and elements that may hold the source of a disk, by libvirt's `type`.
const DISK_SOURCES: [&str; 5] = ["file", "dev", "dir", "volume", "name"];

/// A disk as it is in the XML; `None` for what is no disk or drive.
pub(super) fn disk(element: &Element) -> Option<DiskAttachment> {
    let target = element.get_child("target")?;
    let device = match element.attr("device").unwrap_or("disk") {
        "disk" | "lun" => DiskDevice::Disk,
        "cdrom" => DiskDevice::Cdrom,
        _ => return None,
    };
    let bus = match target.attr("bus").unwrap_or("") {
        "virtio" => DiskBus::Virtio,
        "scsi" => DiskBus::Scsi,
        // The closest word there is for foreign machines with other buses.
        _ => DiskBus::Sata,
    };
    let source = element.get_child("source");
    let path = source
        .and_then(|source| DISK_SOURCES.iter().find_map(|key| source.attr(key)))
        .map(str::to_owned);
    let driver = element.get_child("driver");
    Some(DiskAttachment {
        target: target.attr("dev")?.to_owned(),
        bus,
        device,
        path,
        format: match driver.and_then(|driver| driver.attr("type")) {
            Some("qcow2") => VolumeFormat::Qcow2,
            _ => VolumeFormat::Raw,
        },
        read_only: element.get_child("readonly").is_some() || device == DiskDevice::Cdrom,
        boot_order: boot_order(element),
    })
}

/// An interface as it is in the XML.
pub(super) fn nic(element: &Element) -> Option<Nic> {
    let mac = mac_of(element)?;
    let source = element.get_child("source");
    let attr = |key| source.and_then(|source| source.attr(key));
    let kind = element.attr("type").unwrap_or("");
    // A running domain on a network of mode `bridge` shows both the network and its bridge.
    let source = match (attr("network"), kind, attr("bridge")) {
        (Some(network), _, _) => NicSource::Network(network.to_owned()),
        (None, "bridge", Some(bridge)) => NicSource::Bridge(bridge.to_owned()),
        (None, "user", _) => NicSource::User,
        (None, other, _) => NicSource::Other(other.to_owned()),
    };
    let model = element.get_child("model").and_then(|m| m.attr("type"));
    Some(Nic {
        mac,
        source,
        model: model.unwrap_or_default().to_owned(),
        boot_order: boot_order(element),
    })
}

/// MAC and host device of a running domain's interface.
pub(super) fn tap(element: &Element) -> Option<(String, String)> {
    let device = element.get_child("target")?.attr("dev")?;
    Some((mac_of(element)?, device.to_owned()))
}

/// A host device as it is in the XML; `None` for what trueup has no word for.
pub(super) fn host(element: &Element) -> Option<HostDevice> {
    let address = element.at(&["source", "address"])?;
    match element.attr("type")? {
        "pci" => {
            let part = |key| {
                let text = address.attr(key)?;
                u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
            };
            Some(HostDevice::Pci(format!(
                "{:04x}:{:02x}:{:02x}.{:x}",
                part("domain").unwrap_or(0),
                part("bus")?,
                part("slot")?,
                part("function")?
            )))
        }
        "mdev" => Some(HostDevice::Mdev(address.attr("uuid")?.to_ascii_lowercase())),
        _ => None,
    }
}

pub(super) fn mac_of(element: &Element) -> Option<String> {
    let mac = element.get_child("mac")?.attr("address")?;
    Some(mac.to_ascii_lowercase())
}

fn boot_order(element: &Element) -> Option<u32> {
    element.get_child("boot")?.attr("order")?.parse().ok()
}

fn set_boot_order(element: &mut Element, order: Option<u32>) {
    match order {
        Some(order) => element.make("boot").set("order", &order.to_string()),
        None => element.drop_all("boot"),
    }
}

fn bus_word(bus: DiskBus) -> &'static str {
    match bus {
        DiskBus::Virtio => "virtio",
        DiskBus::Scsi => "scsi",
        DiskBus::Sata => "sata",
    }
}

/// A new `<disk>`.
pub(super) fn new_disk(want: &DiskAttachment) -> Element {
    let mut element = new("disk", &[("type", "file")]);
    let driver = element.make("driver");
    driver.set("name", "qemu");
    driver.set("type", want.format.as_str());
    if want.device == DiskDevice::Disk && !want.read_only {
        // What the guest frees is given back to the host.
        driver.set("discard", "unmap");
    }
    change_disk(&mut element, want);
    element
}

/// Makes an existing `<disk>` what it has to be.
pub(super) fn change_disk(element: &mut Element, want: &DiskAttachment) {
    let seen = disk(element);
    if seen.as_ref().is_some_and(|seen| seen == want) {
        return;
    }
    element.set(
        "device",
        match want.device {
            DiskDevice::Disk => "disk",
            DiskDevice::Cdrom => "cdrom",
        },
    );
    if seen.as_ref().is_none_or(|seen| seen.path != want.path) {
        element.set("type", "file");
        // The chain of the file before says nothing about the file now.
        element.drop_all("backingStore");
        element.drop_all("source");
        if let Some(path) = &want.path {
            element.add(new("source", &[("file", path)]));
        }
    }
    let driver = element.make("driver");
    driver.set("name", "qemu");
    driver.set("type", want.format.as_str());
    if seen.as_ref().is_some_and(|seen| seen.bus != want.bus) {
        element.drop_all("address");
    }
    let target = element.make("target");
    target.set("dev", &want.target);
    target.set("bus", bus_word(want.bus));
    if want.read_only || want.device == DiskDevice::Cdrom {
        element.make("readonly");
    } else {
        element.drop_all("readonly");
    }
    set_boot_order(element, want.boot_order);
}

/// A new `<interface>`.
pub(super) fn new_nic(want: &Nic) -> Result<Element, XmlError> {
    let mut element = Element::new("interface");
    element.add(new("mac", &[("address", &want.mac)]));
    change_nic(&mut element, want)?;
    Ok(element)
}

/// Makes an existing `<interface>` what it has to be.
pub(super) fn change_nic(element: &mut Element, want: &Nic) -> Result<(), XmlError> {
    let seen = nic(element);
    if seen.as_ref().is_some_and(|seen| seen == want) {
        return Ok(());
    }
    if seen.as_ref().is_none_or(|seen| seen.source != want.source) {
        let (kind, key, value) = match &want.source {
            NicSource::Network(name) => ("network", "network", name.as_str()),
            NicSource::Bridge(device) => ("bridge", "bridge", device.as_str()),
            NicSource::User => ("user", "", ""),
            NicSource::Other(kind) => {
                return Err(XmlError::Value {
                    what: "domain",
                    part: "interface/@type",
                    value: kind.clone(),
                });
            }
        };
        element.set("type", kind);
        for stale in ["source", "virtualport", "portForward", "backend"] {
            element.drop_all(stale);
        }
        if !key.is_empty() {
            element.add(new("source", &[(key, value)]));
        }
    }
    if !want.model.is_empty() {
        element.make("model").set("type", &want.model);
    }
    set_boot_order(element, want.boot_order);
    Ok(())
}

/// A new `<hostdev>`.
pub(super) fn new_host(want: &HostDevice) -> Result<Element, XmlError> {
    let bad =
        |text: &str| XmlError::Value { what: "domain", part: "hostdev", value: text.to_owned() };
    let mut element = new("hostdev", &[("mode", "subsystem")]);
    let address = match want {
        HostDevice::Pci(text) => {
            element.set("type", "pci");
            element.set("managed", "yes");
            let (domain, rest) = text.split_once(':').ok_or_else(|| bad(text))?;
            let (bus, rest) = rest.split_once(':').ok_or_else(|| bad(text))?;
            let (slot, function) = rest.split_once('.').ok_or_else(|| bad(text))?;
            let parts = [("domain", domain), ("bus", bus), ("slot", slot), ("function", function)];
            let mut address = Element::new("address");
            for (key, part) in parts {
                u32::from_str_radix(part, 16).map_err(|_| bad(text))?;
                address.set(key, &format!("0x{part}"));
            }
            address
        }
        HostDevice::Mdev(uuid) => {
            element.set("type", "mdev");
            element.set("model", "vfio-pci");
            new("address", &[("uuid", uuid)])
        }
    };
    element.add(Element::new("source").with(address));
    Ok(element)
}

/// Which device of a domain is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKey<'a> {
    /// The disk with this target device.
    Disk(&'a str),
    /// The interface with this MAC.
    Nic(&'a str),
}

/// The XML of one device as it stands in a domain's XML; `None` where the domain has none such.
///
/// Without its `place`, libvirt gives it a free one.
///
/// # Errors
/// `domain` is no domain's XML.
pub fn device_xml(
    domain: &str,
    key: DeviceKey<'_>,
    place: bool,
) -> Result<Option<String>, XmlError> {
    let Some(mut element) = find(domain, key)? else {
        return Ok(None);
    };
    if !place {
        element.drop_all("address");
    }
    tree::write(&element, "device").map(Some)
}

/// The XML of a running domain's interface, plugged into what `want` says.
///
/// # Errors
/// `domain` is no domain's XML, or `want` is of a type that trueup only observes.
pub fn replugged_xml(domain: &str, want: &Nic) -> Result<Option<String>, XmlError> {
    let Some(mut element) = find(domain, DeviceKey::Nic(&want.mac))? else {
        return Ok(None);
    };
    change_nic(&mut element, want)?;
    tree::write(&element, "interface").map(Some)
}

/// Two forms of a running domain's interface that, applied one after the other, plug its tap into the
/// network's `bridge` again after the network was stopped and started.
///
/// An interface that is "updated" to what it is already, libvirt leaves as it is, link or no link
/// (seen with 9.0). So it takes a detour: plugged into the bridge itself, then back into the network.
///
/// # Errors
/// `domain` is no domain's XML.
pub fn detour_xml(domain: &str, mac: &str, bridge: &str) -> Result<Option<[String; 2]>, XmlError> {
    let Some(mut back) = find(domain, DeviceKey::Nic(mac))? else {
        return Ok(None);
    };
    let source = back.make("source");
    // Of the network's earlier life; libvirt fills them in anew.
    source.unset("portid");
    source.unset("bridge");
    let mut away = back.clone();
    away.set("type", "bridge");
    away.drop_all("source");
    away.add(new("source", &[("bridge", bridge)]));
    Ok(Some([tree::write(&away, "interface")?, tree::write(&back, "interface")?]))
}

fn find(domain: &str, key: DeviceKey<'_>) -> Result<Option<Element>, XmlError> {
    let root = tree::parse(domain, "domain")?;
    let devices = root.get_child("devices");
    let found = devices.and_then(|devices| match key {
        DeviceKey::Disk(target) => devices.all("disk").find(|element| {
            element.get_child("target").and_then(|t| t.attr("dev")) == Some(target)
        }),
        DeviceKey::Nic(mac) => {
            devices.all("interface").find(|element| mac_of(element).as_deref() == Some(mac))
        }
    });
    Ok(found.cloned())
}
