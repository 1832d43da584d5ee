//! From a virtual machine to a domain's XML, over what is there already.

use uuid::Uuid;
use xmltree::Element;

use super::super::tree::{self, Ext, new};
use super::super::{Mark, XmlError};
use super::parse::{self, WHAT};
use super::{AGENT_CHANNEL, device};
use crate::model::resource::{
    Accelerator, Boot, CpuMode, DiskBus, Firmware, HostDevice, Topology, VirtualMachine,
};

/// PCIe ports a new `q35` domain gets beyond those its first devices take: a device plugged in later
/// needs a free one, and ports cannot be added while it runs.
const SPARE_PORTS: usize = 4;

/// The processor that libvirt writes down for an emulated domain that names none: QEMU's own default,
/// as recorded in `tests/libvirt/fixtures/domain-small.inactive.xml`.
const QEMU_CPU_DEFAULT: &str = "qemu64";

/// PCIe ports taken by what every domain has: random numbers, balloon, serial bus, USB, SCSI.
const COMMON_PORTS: usize = 5;

/// What a new domain gets where its spec says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// What executes it.
    pub accelerator: Accelerator,
}

/// The XML that makes a domain what `desired` says.
///
/// `current` is the domain's inactive XML, security information included, if there is one. What
/// `desired` does not own stays as it is there; devices keep their addresses.
///
/// # Errors
/// `current` is no domain's XML, or `desired` holds what can only be observed.
pub fn merge(
    current: Option<&str>,
    desired: &VirtualMachine,
    name: &str,
    uuid: Uuid,
    mark: &Mark,
    defaults: Defaults,
) -> Result<String, XmlError> {
    let root = shape(current, desired, name, uuid, |root| mark.put(root), defaults)?;
    tree::write(&root, WHAT)
}

/// The same as a tree; `mark` puts a mark on it.
pub(in super::super) fn shape(
    current: Option<&str>,
    desired: &VirtualMachine,
    name: &str,
    uuid: Uuid,
    mark: impl FnOnce(&mut Element),
    defaults: Defaults,
) -> Result<Element, XmlError> {
    let fresh = current.is_none();
    let mut root = match current {
        Some(xml) => tree::parse(xml, WHAT)?,
        None => skeleton(desired, defaults),
    };
    root.make("name").set_text(name);
    root.make("uuid").set_text(&uuid.to_string());
    mark(&mut root);
    accelerator(&mut root, desired);
    memory(&mut root, desired);
    cpus(&mut root, desired);
    os(&mut root, desired);
    let devices = root.make("devices");
    disks(devices, desired);
    nics(devices, desired)?;
    host_devices(devices, desired)?;
    console(devices, desired);
    agent(devices, desired);
    if fresh && root.at(&["os", "type"]).and_then(|t| t.attr("machine")) == Some("q35") {
        ports(root.make("devices"), desired);
    }
    Ok(root)
}

/// A domain with nothing but what a headless server wants and its spec cannot say.
fn skeleton(desired: &VirtualMachine, defaults: Defaults) -> Element {
    let accelerator = desired.accelerator.unwrap_or(defaults.accelerator);
    let mut root = new("domain", &[("type", domain_type(accelerator))]);
    for name in ["name", "uuid", "metadata", "memory", "currentMemory", "vcpu"] {
        root.make(name);
    }
    let machine = desired.machine.as_deref().unwrap_or("q35");
    root.make("os").add(new("type", &[("arch", "x86_64"), ("machine", machine)]).with_text("hvm"));
    let features = root.make("features");
    features.make("acpi");
    features.make("apic");
    if desired.cpus.mode.is_none() && accelerator == Accelerator::Kvm {
        // QEMU's own default lacks what current distributions are built for (x86-64-v2).
        root.add(new("cpu", &[("mode", "host-passthrough")]));
    }
    root.add(new("clock", &[("offset", "utc")]));
    for (event, action) in
        [("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "restart")]
    {
        root.make(event).set_text(action);
    }
    let devices = root.make("devices");
    if desired.console_log.is_none() {
        devices.add(new("serial", &[("type", "pty")]));
    }
    devices.add(
        new("rng", &[("model", "virtio")])
            .with(new("backend", &[("model", "random")]).with_text("/dev/urandom")),
    );
    root
}

fn domain_type(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "qemu",
    }
}

fn accelerator(root: &mut Element, desired: &VirtualMachine) {
    let Some(want) = desired.accelerator else {
        return;
    };
    if root.attr("type") == Some(domain_type(want)) {
        return;
    }
    root.set("type", domain_type(want));
    let mode = root.get_child("cpu").and_then(parse::mode);
    let host_only = matches!(mode, Some(CpuMode::HostPassthrough | CpuMode::HostModel));
    if want == Accelerator::Tcg && host_only && desired.cpus.mode.is_none() {
        // Emulation has no host processor to pass through.
        root.drop_all("cpu");
    }
    let default = match &mode {
        None => true,
        Some(CpuMode::Custom(model)) => model == QEMU_CPU_DEFAULT,
        Some(_) => false,
    };
    if want == Accelerator::Kvm && default && desired.cpus.mode.is_none() {
        // What a new one would get, and not what it had to make do with when it was emulated.
        host_passthrough(root.make("cpu"));
    }
}

/// Makes a processor the host's own; its topology stays.
fn host_passthrough(cpu: &mut Element) {
    forget_model(cpu);
    cpu.set("mode", "host-passthrough");
}

/// Settings of one processor mode mean nothing in another.
fn forget_model(cpu: &mut Element) {
    for stale in ["match", "check", "migratable"] {
        cpu.unset(stale);
    }
    for stale in ["model", "vendor", "feature"] {
        cpu.drop_all(stale);
    }
}

fn memory(root: &mut Element, desired: &VirtualMachine) {
    let sizes = [("memory", desired.memory.max), ("currentMemory", desired.memory.current)];
    for (name, kib) in sizes {
        let element = root.make(name);
        element.set("unit", "KiB");
        element.set_text(&kib.to_string());
    }
    if parse::hugepages(root) == desired.memory.hugepages {
        return;
    }
    let backing = root.make("memoryBacking");
    backing.drop_all("hugepages");
    if let Some(kib) = desired.memory.hugepages {
        let page = new("page", &[("size", &kib.to_string()), ("unit", "KiB")]);
        backing.add(Element::new("hugepages").with(page));
    }
    root.drop_empty("memoryBacking");
}

fn cpus(root: &mut Element, desired: &VirtualMachine) {
    let want = &desired.cpus;
    let vcpu = root.make("vcpu");
    let (count, max) = (want.count.to_string(), want.max.to_string());
    let seen = vcpu.attr("current").map_or_else(|| vcpu.text(), str::to_owned);
    let changed = vcpu.text() != max || seen != count;
    vcpu.set_text(&max);
    if want.count == want.max {
        vcpu.unset("current");
    } else {
        vcpu.set("current", &count);
    }
    if changed {
        // The list of single processors says which are there; libvirt makes it anew.
        root.drop_all("vcpus");
    }
    pinning(root, desired);
    cpu(root, desired);
}

fn pinning(root: &mut Element, desired: &VirtualMachine) {
    let tune = root.make("cputune");
    let pins = &desired.cpus.pinning;
    let vcpu_of = |pin: &Element| pin.attr("vcpu").and_then(|text| text.parse::<u32>().ok());
    tune.keep("vcpupin", |pin| vcpu_of(pin).is_some_and(|vcpu| pins.contains_key(&vcpu)));
    for (vcpu, set) in pins {
        let found = tune.all_mut("vcpupin").find(|pin| vcpu_of(pin) == Some(*vcpu));
        match found {
            Some(pin) => pin.set("cpuset", set),
            None => {
                let pin = [("vcpu", vcpu.to_string()), ("cpuset", set.clone())];
                let pin = pin.each_ref().map(|(key, value)| (*key, value.as_str()));
                tune.add(new("vcpupin", &pin));
            }
        }
    }
    root.drop_empty("cputune");
}

fn cpu(root: &mut Element, desired: &VirtualMachine) {
    let want = &desired.cpus;
    if let Some(mode) = &want.mode
        && root.get_child("cpu").and_then(parse::mode).as_ref() != Some(mode)
    {
        let cpu = root.make("cpu");
        forget_model(cpu);
        match mode {
            CpuMode::HostPassthrough => cpu.set("mode", "host-passthrough"),
            CpuMode::HostModel => cpu.set("mode", "host-model"),
            CpuMode::Maximum => cpu.set("mode", "maximum"),
            CpuMode::Custom(model) => {
                cpu.set("mode", "custom");
                cpu.set("match", "exact");
                cpu.add(new("model", &[("fallback", "forbid")]).with_text(model));
            }
        }
    }
    if let Some(topology) = want.topology
        && root.get_child("cpu").and_then(parse::topology) != Some(topology)
    {
        let Topology { sockets, cores, threads } = topology;
        let element = root.make("cpu").make("topology");
        // Dies multiply too; what the spec says is the whole.
        element.unset("dies");
        for (key, value) in [("sockets", sockets), ("cores", cores), ("threads", threads)] {
            element.set(key, &value.to_string());
        }
    }
}

fn os(root: &mut Element, desired: &VirtualMachine) {
    let firmware = parse::firmware(root);
    let boot = parse::boot(root);
    let by_device = desired.disks.iter().any(|disk| disk.boot_order.is_some())
        || desired.nics.iter().any(|nic| nic.boot_order.is_some());
    let os = root.make("os");
    if let Some(want) = &desired.machine {
        let kind = os.make("type");
        let seen = kind.attr("machine").unwrap_or_default();
        // The version that libvirt pinned when it was defined stays: a newer one would be new hardware.
        if seen != want && parse::machine_alias(seen) != want {
            kind.set("machine", want);
        }
    }
    if by_device {
        // libvirt refuses to hear the order twice.
        os.drop_all("boot");
    }
    if firmware != desired.firmware {
        for stale in ["firmware", "loader", "nvram"] {
            os.drop_all(stale);
        }
        match desired.firmware {
            Firmware::Bios => os.unset("firmware"),
            Firmware::Efi => {
                os.set("firmware", "efi");
                let feature = [("enabled", "no"), ("name", "secure-boot")];
                os.make("firmware").add(new("feature", &feature));
            }
        }
    }
    if boot != desired.boot {
        let parts = match &desired.boot {
            Boot::Devices => [("kernel", None), ("initrd", None), ("cmdline", None)],
            Boot::Kernel { kernel, initrd, cmdline } => [
                ("kernel", Some(kernel)),
                ("initrd", initrd.as_ref()),
                ("cmdline", cmdline.as_ref()),
            ],
        };
        for (name, text) in parts {
            match text {
                Some(text) => os.make(name).set_text(text),
                None => os.drop_all(name),
            }
        }
    }
}

fn disks(devices: &mut Element, desired: &VirtualMachine) {
    devices.keep("disk", |element| {
        // What trueup has no word for (floppies) is not part of the list it owns.
        device::disk(element)
            .is_none_or(|seen| desired.disks.iter().any(|want| want.target == seen.target))
    });
    for want in &desired.disks {
        let found = devices.all_mut("disk").find(|element| {
            element.get_child("target").and_then(|t| t.attr("dev")) == Some(want.target.as_str())
        });
        match found {
            Some(element) => device::change_disk(element, want),
            None => {
                devices.add(device::new_disk(want));
            }
        }
    }
    let scsi = desired.disks.iter().any(|disk| disk.bus == DiskBus::Scsi);
    let there = devices.all("controller").any(|controller| controller.attr("type") == Some("scsi"));
    if scsi && !there {
        let model = [("type", "scsi"), ("index", "0"), ("model", "virtio-scsi")];
        devices.add(new("controller", &model));
    }
}

fn nics(devices: &mut Element, desired: &VirtualMachine) -> Result<(), XmlError> {
    devices.keep("interface", |element| {
        device::mac_of(element).is_some_and(|mac| desired.nics.iter().any(|want| want.mac == mac))
    });
    for want in &desired.nics {
        let found = devices
            .all_mut("interface")
            .find(|element| device::mac_of(element).as_ref() == Some(&want.mac));
        match found {
            Some(element) => device::change_nic(element, want)?,
            None => {
                devices.add(device::new_nic(want)?);
            }
        }
    }
    Ok(())
}

fn host_devices(devices: &mut Element, desired: &VirtualMachine) -> Result<(), XmlError> {
    let wanted = desired.devices();
    devices.keep("hostdev", |element| {
        device::host(element).is_none_or(|seen| wanted.contains(&&seen))
    });
    for want in wanted {
        let ours = matches!(want, HostDevice::Pci(_))
            && desired.gpus.iter().any(|gpu| gpu.devices.contains(want));
        let is = |element: &Element| device::host(element).as_ref() == Some(want);
        if !devices.all("hostdev").any(is) {
            devices.add(device::new_host(want)?);
        }
        if ours && let Some(element) = devices.all_mut("hostdev").find(|element| is(element)) {
            // A layout has it: libvirt must not give it back to the host when the guest stops.
            element.set("managed", "no");
        }
    }
    Ok(())
}

fn console(devices: &mut Element, desired: &VirtualMachine) {
    let Some(path) = &desired.console_log else {
        return;
    };
    if parse::console(devices).as_ref() == Some(path) {
        return;
    }
    let serial = devices.make("serial");
    serial.set("type", "file");
    serial.drop_all("source");
    // Started anew with every start, so that what stands in it is about this start.
    serial.add(new("source", &[("path", path), ("append", "off")]));
    // libvirt shows the first serial port a second time as the first console, and makes it itself.
    devices.keep("console", |console| {
        console.get_child("target").and_then(|t| t.attr("type")) != Some("serial")
    });
}

fn agent(devices: &mut Element, desired: &VirtualMachine) {
    let there = devices.all("channel").any(parse::is_agent);
    if desired.guest_agent && !there {
        let target = [("type", "virtio"), ("name", AGENT_CHANNEL)];
        devices.add(new("channel", &[("type", "unix")]).with(new("target", &target)));
    } else if !desired.guest_agent && there {
        devices.keep("channel", |channel| !parse::is_agent(channel));
    }
}

fn ports(devices: &mut Element, desired: &VirtualMachine) {
    // Named, or libvirt would number the first port as the root itself.
    let root = [("type", "pci"), ("index", "0"), ("model", "pcie-root")];
    devices.add(new("controller", &root));
    let taken = desired.disks.len() + desired.nics.len() + desired.devices().len();
    for _ in 0..COMMON_PORTS + taken + SPARE_PORTS {
        devices.add(new("controller", &[("type", "pci"), ("model", "pcie-root-port")]));
    }
}
