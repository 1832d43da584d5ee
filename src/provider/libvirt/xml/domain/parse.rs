//! From a domain's XML to a virtual machine.

use uuid::Uuid;
use xmltree::Element;

use super::super::tree::{self, Ext};
use super::super::{Mark, XmlError, unit};
use super::{AGENT_CHANNEL, device};
use crate::model::resource::{
    Accelerator, Boot, CpuMode, Cpus, DiskAttachment, Firmware, HostDevice, Memory, Power,
    Topology, VirtualMachine,
};

/// The word used in errors.
pub(super) const WHAT: &str = "domain";

/// Size of the huge pages taken where none is named: x86's ordinary huge page, KiB.
const HUGEPAGE_DEFAULT: u64 = 2048;

/// A domain as its XML tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedDomain {
    /// Its name, which need not be a valid resource name.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// The mark of ours, if it carries one.
    pub mark: Option<Mark>,
    /// Machine type as libvirt has it: `pc-q35-7.2`.
    pub machine: Option<String>,
    /// The virtual machine. `power` and `autostart` are not in the XML and hold their defaults.
    pub vm: VirtualMachine,
    /// Of a running domain: MAC and host device (`vnet0`) of every interface that has one.
    pub taps: Vec<(String, String)>,
}

/// Reads a domain's XML, of its configuration or of what runs.
///
/// What trueup has no word for is left out; it is kept by [`merge`](super::merge()).
///
/// # Errors
/// The XML is no domain's, or lacks what every domain has.
pub fn parse(xml: &str) -> Result<ParsedDomain, XmlError> {
    let root = tree::parse(xml, WHAT)?;
    read(&root)
}

/// The disks and drives of a domain, by their targets.
pub(in super::super) fn disks_of(root: &Element) -> Vec<DiskAttachment> {
    let devices = root.get_child("devices").into_iter();
    let mut disks: Vec<_> =
        devices.flat_map(|devices| devices.all("disk")).filter_map(device::disk).collect();
    disks.sort_by(|a, b| a.target.cmp(&b.target));
    disks
}

pub(super) fn read(root: &Element) -> Result<ParsedDomain, XmlError> {
    let missing = |part| XmlError::Missing { what: WHAT, part };
    let name = root.get_child("name").ok_or(missing("name"))?.text();
    let uuid = root.get_child("uuid").ok_or(missing("uuid"))?.text();
    let uuid = Uuid::parse_str(&uuid).map_err(|_| value("uuid", &uuid))?;
    let empty = Element::new("devices");
    let devices = root.get_child("devices").unwrap_or(&empty);
    let machine = root.at(&["os", "type"]).and_then(|os| os.attr("machine")).map(str::to_owned);
    let disks = disks_of(root);
    let mut nics: Vec<_> = devices.all("interface").filter_map(device::nic).collect();
    nics.sort_by(|a, b| a.mac.cmp(&b.mac));
    let mut host_devices: Vec<HostDevice> =
        devices.all("hostdev").filter_map(device::host).collect();
    host_devices.sort();
    let vm = VirtualMachine {
        accelerator: match root.attr("type") {
            Some("kvm") => Some(Accelerator::Kvm),
            Some("qemu") => Some(Accelerator::Tcg),
            _ => None,
        },
        machine: machine.as_deref().map(machine_alias).map(str::to_owned),
        firmware: firmware(root),
        boot: boot(root),
        cpus: cpus(root)?,
        memory: memory(root)?,
        disks,
        nics,
        host_devices,
        gpus: Vec::new(),
        console_log: console(devices),
        guest_agent: devices.all("channel").any(is_agent),
        autostart: false,
        power: Power::Off,
        stop: None,
        readiness: None,
        snapshot: None,
        way_back: None,
    };
    Ok(ParsedDomain {
        name,
        uuid,
        mark: Mark::get(root),
        machine,
        vm,
        taps: devices.all("interface").filter_map(device::tap).collect(),
    })
}

fn value(part: &'static str, value: &str) -> XmlError {
    // Whole documents may be hostile; an error shows no more than a line of one.
    const SHOWN_MAX: usize = 80;
    XmlError::Value { what: WHAT, part, value: value.chars().take(SHOWN_MAX).collect() }
}

/// The name a versioned machine type stands for: `q35` for `pc-q35-7.2`.
pub fn machine_alias(machine: &str) -> &str {
    if machine.starts_with("pc-q35-") {
        "q35"
    } else if machine.starts_with("pc-i440fx-") {
        "pc"
    } else {
        machine
    }
}

pub(super) fn firmware(root: &Element) -> Firmware {
    let os = root.get_child("os");
    let chosen = os.and_then(|os| os.attr("firmware"));
    let loader = root.at(&["os", "loader"]).and_then(|l| l.attr("type"));
    if chosen == Some("efi") || loader == Some("pflash") { Firmware::Efi } else { Firmware::Bios }
}

pub(super) fn boot(root: &Element) -> Boot {
    let text = |name| root.at(&["os", name]).map(Ext::text).filter(|text| !text.is_empty());
    match text("kernel") {
        Some(kernel) => Boot::Kernel { kernel, initrd: text("initrd"), cmdline: text("cmdline") },
        None => Boot::Devices,
    }
}

fn number(text: &str, part: &'static str) -> Result<u32, XmlError> {
    text.parse().map_err(|_| value(part, text))
}

fn cpus(root: &Element) -> Result<Cpus, XmlError> {
    // libvirt's default where there is no <vcpu>: one.
    let max = match root.get_child("vcpu") {
        Some(vcpu) => number(&vcpu.text(), "vcpu")?,
        None => 1,
    };
    let count = match root.get_child("vcpu").and_then(|vcpu| vcpu.attr("current")) {
        Some(current) => number(current, "vcpu/@current")?,
        None => max,
    };
    let pins = root.get_child("cputune");
    let pinning = pins
        .into_iter()
        .flat_map(|tune| tune.all("vcpupin"))
        .filter_map(|pin| {
            let vcpu = pin.attr("vcpu")?.parse().ok()?;
            Some((vcpu, pin.attr("cpuset")?.to_owned()))
        })
        .collect();
    let cpu = root.get_child("cpu");
    Ok(Cpus { count, max, mode: cpu.and_then(mode), topology: cpu.and_then(topology), pinning })
}

pub(super) fn mode(cpu: &Element) -> Option<CpuMode> {
    match cpu.attr("mode") {
        Some("host-passthrough") => Some(CpuMode::HostPassthrough),
        Some("host-model") => Some(CpuMode::HostModel),
        Some("maximum") => Some(CpuMode::Maximum),
        _ => cpu.get_child("model").map(|model| CpuMode::Custom(model.text())),
    }
}

pub(super) fn topology(cpu: &Element) -> Option<Topology> {
    let topology = cpu.get_child("topology")?;
    let part = |key| topology.attr(key)?.parse().ok();
    Some(Topology { sockets: part("sockets")?, cores: part("cores")?, threads: part("threads")? })
}

fn memory(root: &Element) -> Result<Memory, XmlError> {
    let size = |element: &Element, part| {
        let text = element.text();
        unit::kib(&text, element.attr("unit")).ok_or_else(|| value(part, &text))
    };
    let max = root.get_child("memory").ok_or(XmlError::Missing { what: WHAT, part: "memory" })?;
    let max = size(max, "memory")?;
    let current = match root.get_child("currentMemory") {
        Some(current) => size(current, "currentMemory")?,
        None => max,
    };
    Ok(Memory { current, max, hugepages: hugepages(root) })
}

pub(super) fn hugepages(root: &Element) -> Option<u64> {
    let pages = root.at(&["memoryBacking", "hugepages"])?;
    let size =
        pages.get_child("page").and_then(|page| unit::kib(page.attr("size")?, page.attr("unit")));
    Some(size.unwrap_or(HUGEPAGE_DEFAULT))
}

/// The file the first serial port is written to.
pub(super) fn console(devices: &Element) -> Option<String> {
    let serial = devices.get_child("serial")?;
    if serial.attr("type") != Some("file") {
        return None;
    }
    serial.get_child("source")?.attr("path").map(str::to_owned)
}

pub(super) fn is_agent(channel: &Element) -> bool {
    channel.get_child("target").is_some_and(|target| target.attr("name") == Some(AGENT_CHANNEL))
}
