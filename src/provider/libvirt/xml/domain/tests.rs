//! Domains round-trip: through our own writing, and through what a real libvirt 9.0 made of it.
//!
//! The fixtures are recorded by `tests/libvirt/record-fixtures`.

use std::collections::BTreeMap;

use expect_test::expect_file;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::model::resource::{
    Accelerator, Boot, Cpus, DiskAttachment, DiskBus, Firmware, GpuUse, HostDevice, Memory, Nic,
    NicSource, Power, Topology, VolumeFormat,
};
use crate::model::{Digest, Name};
use crate::provider::libvirt::xml::{Mark, XmlError, tree};

const UUID: Uuid = Uuid::from_u128(0x4ec9_3a5e_8e4f_5d0b_9c53_6f0a_2f8d_1b11);
const DEFAULTS: Defaults = Defaults { accelerator: Accelerator::Tcg };

fn mark() -> Mark {
    Mark {
        environment: Name::new("lab").unwrap(),
        id: "vm/web".parse().unwrap(),
        digest: Some(Digest::of("web")),
        memory: Some(131_072),
    }
}

#[track_caller]
fn merged(current: Option<&str>, vm: &VirtualMachine) -> String {
    merge(current, vm, "web", UUID, &mark(), DEFAULTS).unwrap()
}

/// A machine that says no more than it must.
fn small() -> VirtualMachine {
    VirtualMachine {
        accelerator: None,
        machine: None,
        firmware: Firmware::Bios,
        boot: Boot::Devices,
        cpus: Cpus { count: 1, max: 1, mode: None, topology: None, pinning: BTreeMap::new() },
        memory: Memory { current: 131_072, max: 131_072, hugepages: None },
        disks: vec![disk("vda", DiskBus::Virtio, Some("/srv/vm/web.qcow2"))],
        nics: vec![nic("52:54:00:aa:00:01", NicSource::Network("lab".to_owned()))],
        host_devices: Vec::new(),
        gpus: Vec::new(),
        console_log: Some("/srv/vm/web.log".to_owned()),
        guest_agent: true,
        autostart: false,
        power: Power::Off,
        stop: None,
        readiness: None,
        snapshot: None,
        way_back: None,
    }
}

/// A machine that says everything there is.
fn full() -> VirtualMachine {
    let mut vm = small();
    vm.accelerator = Some(Accelerator::Tcg);
    vm.machine = Some("q35".to_owned());
    vm.firmware = Firmware::Efi;
    vm.cpus = Cpus {
        count: 2,
        max: 4,
        mode: Some(CpuMode::Custom("Nehalem".to_owned())),
        topology: Some(Topology { sockets: 1, cores: 2, threads: 2 }),
        pinning: BTreeMap::from([(0, "0".to_owned()), (1, "0-1".to_owned())]),
    };
    vm.memory = Memory { current: 131_072, max: 262_144, hugepages: Some(2048) };
    let mut seed = disk("sda", DiskBus::Scsi, Some("/srv/vm/seed-web-1.iso"));
    (seed.device, seed.format, seed.read_only) = (DiskDevice::Cdrom, VolumeFormat::Raw, true);
    let mut empty = disk("sdb", DiskBus::Sata, None);
    (empty.device, empty.format, empty.read_only) = (DiskDevice::Cdrom, VolumeFormat::Raw, true);
    vm.disks[0].boot_order = Some(1);
    vm.disks.insert(0, seed);
    vm.disks.insert(1, empty);
    vm.disks.push(disk("vdb", DiskBus::Virtio, Some("/srv/vm/data & more.qcow2")));
    vm.nics[0].boot_order = Some(2);
    vm.nics.push(nic("52:54:00:aa:00:02", NicSource::User));
    vm.nics.push(nic("52:54:00:aa:00:03", NicSource::Bridge("br9".to_owned())));
    vm.host_devices = vec![
        HostDevice::Pci("0000:65:00.1".to_owned()),
        HostDevice::Mdev("c8a5b6a0-3d6c-4a34-8b53-0a8f51f4c7a1".to_owned()),
    ];
    vm
}

/// A machine that boots a kernel of its host.
fn kernel() -> VirtualMachine {
    let mut vm = small();
    vm.machine = Some("pc".to_owned());
    vm.boot = Boot::Kernel {
        kernel: "/srv/vm/vmlinuz".to_owned(),
        initrd: Some("/srv/vm/initrd".to_owned()),
        cmdline: Some("console=ttyS0 panic=-1".to_owned()),
    };
    vm.cpus.mode = Some(CpuMode::Maximum);
    vm
}

fn disk(target: &str, bus: DiskBus, path: Option<&str>) -> DiskAttachment {
    DiskAttachment {
        target: target.to_owned(),
        bus,
        device: DiskDevice::Disk,
        path: path.map(str::to_owned),
        format: VolumeFormat::Qcow2,
        read_only: false,
        boot_order: None,
    }
}

fn nic(mac: &str, source: NicSource) -> Nic {
    Nic { mac: mac.to_owned(), source, model: "virtio".to_owned(), boot_order: None }
}

/// What `desired` looks like when it was observed.
#[track_caller]
fn assert_same(desired: &VirtualMachine, xml: &str) {
    let seen = parse(xml).unwrap();
    assert_eq!(owned(desired, &seen.vm), *desired, "{xml}");
    assert_eq!(seen.mark, Some(mark()));
    assert_eq!((seen.name.as_str(), seen.uuid), ("web", UUID));
}

#[test]
fn what_is_defined_is_reviewed() {
    for (name, vm) in [("small", small()), ("full", full()), ("kernel", kernel())] {
        let xml = merged(None, &vm);
        assert_same(&vm, &xml);
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/libvirt/fixtures");
        expect_file![format!("{fixtures}/domain-{name}.define.xml")].assert_eq(&xml);
    }
}

/// What libvirt 9.0 made of what was defined: (desired, inactive XML).
fn recorded() -> [(VirtualMachine, &'static str); 3] {
    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/libvirt/fixtures/domain-",
                $name,
                ".inactive.xml"
            ))
        };
    }
    [(small(), fixture!("small")), (full(), fixture!("full")), (kernel(), fixture!("kernel"))]
}

#[test]
fn libvirt_reads_it_as_it_was_meant() {
    for (vm, xml) in recorded() {
        assert_same(&vm, xml);
    }
}

#[test]
fn merging_what_is_there_already_changes_nothing() {
    for (vm, xml) in recorded() {
        let root = tree::parse(xml, "domain").unwrap();
        assert_eq!(merged(Some(xml), &vm), tree::write(&root, "domain").unwrap());
    }
}

/// The GPU of a layout is given by trueup: libvirt neither takes it nor gives it back by itself.
#[test]
fn a_gpu_of_a_layout_is_not_managed_by_libvirt() {
    let pci = |slot: u8| HostDevice::Pci(format!("0000:{slot:02x}:00.0"));
    let mut vm = small();
    vm.host_devices = vec![pci(9)];
    vm.gpus =
        vec![GpuUse { layout: Name::new("card").unwrap(), partition: None, devices: vec![pci(7)] }];
    let xml = merged(None, &vm);
    assert_same(&vm, &xml);
    assert_eq!(parse(&xml).unwrap().vm.host_devices, [pci(7), pci(9)]);
    let managed = |value: &str| xml.matches(&format!("managed=\"{value}\"")).count();
    assert_eq!((managed("no"), managed("yes")), (1, 1), "{xml}");
    // One that was named by its address before, and is the layout's now.
    let before = VirtualMachine { host_devices: vec![pci(7), pci(9)], gpus: Vec::new(), ..small() };
    assert_eq!(merged(Some(&merged(None, &before)), &vm).matches("managed=\"no\"").count(), 1);
}

#[test]
fn what_runs_is_no_different_from_its_configuration() {
    let live = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/libvirt/fixtures/domain-small.live.xml"
    ));
    let (vm, inactive) = recorded()[0].clone();
    let config = parse(inactive).unwrap();
    let mut live = parse(live).unwrap();
    settle(&mut live, &config);
    assert_eq!(owned(&vm, &live.vm), vm);
    assert_eq!(live.vm, config.vm);
    assert_eq!(live.taps.len(), 1);
    assert!(live.taps[0].1.starts_with("vnet"), "{:?}", live.taps);
}

/// Every `<address>` of the devices, by the device's identity.
fn addresses(xml: &str) -> BTreeMap<String, String> {
    use super::super::tree::Ext;
    let root = tree::parse(xml, "domain").unwrap();
    let devices = root.get_child("devices").unwrap();
    let places = devices.children.iter().filter_map(|node| {
        let element = node.as_element()?;
        let address = element.get_child("address")?;
        let source = element.at(&["source", "address"]);
        let identity = [
            element.attr("index").map(str::to_owned),
            element.at(&["mac"]).and_then(|e| e.attr("address")).map(str::to_owned),
            element.at(&["target"]).and_then(|e| e.attr("dev")).map(str::to_owned),
            source.map(|e| format!("{:?}", e.attributes)),
        ];
        let key = format!("{} {:?} {identity:?}", element.name, element.attr("type"));
        Some((key, format!("{:?}", address.attributes)))
    });
    places.collect()
}

#[test]
fn removing_a_device_moves_no_other() {
    let (mut vm, xml) = recorded()[1].clone();
    let before = addresses(xml);
    vm.disks.retain(|disk| disk.target != "vda");
    vm.nics.remove(0);
    let after = addresses(&merged(Some(xml), &vm));
    assert_eq!(after.len(), before.len() - 2);
    for (device, place) in after {
        assert_eq!(before.get(&device), Some(&place), "{device}");
    }
}

#[test]
fn changes_reach_every_part() {
    for (_, xml) in recorded() {
        for (vm, _) in recorded() {
            assert_same(&vm, &merged(Some(xml), &vm));
        }
    }
}

#[test]
fn what_is_not_owned_stays() {
    let (mut vm, xml) = recorded()[1].clone();
    let xml = xml.replace(
        "</devices>",
        "<graphics type='vnc' port='-1'/><disk type='file' device='floppy'><target dev='fda' bus='fdc'/></disk></devices>",
    );
    (vm.accelerator, vm.machine, vm.cpus.mode, vm.cpus.topology) = (None, None, None, None);
    vm.console_log = None;
    let merged = merged(Some(&xml), &vm);
    for kept in ["graphics", "floppy", "pc-q35-", "Nehalem", "<topology", "web.log"] {
        assert!(merged.contains(kept), "{kept}: {merged}");
    }
}

#[test]
fn a_pinned_machine_version_stays_until_another_type_is_asked_for() {
    let (mut vm, xml) = recorded()[1].clone();
    assert!(merged(Some(xml), &vm).contains("machine=\"pc-q35-"));
    vm.machine = Some("pc".to_owned());
    assert!(merged(Some(xml), &vm).contains("machine=\"pc\""));
}

#[test]
fn a_new_accelerated_domain_gets_the_hosts_processor() {
    let mut vm = small();
    vm.accelerator = Some(Accelerator::Kvm);
    let xml = merged(None, &vm);
    assert_eq!(parse(&xml).unwrap().vm.cpus.mode, Some(CpuMode::HostPassthrough));
    // Emulated, it could not start with it.
    vm.accelerator = Some(Accelerator::Tcg);
    let emulated = merged(Some(&xml), &vm);
    assert_eq!(parse(&emulated).unwrap().vm.cpus.mode, None);
    // And back: also over the model that libvirt writes down for an emulated one.
    let written = emulated.replace(
        "<devices>",
        "<cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model></cpu><devices>",
    );
    vm.accelerator = Some(Accelerator::Kvm);
    for emulated in [emulated, written] {
        let moved = parse(&merged(Some(&emulated), &vm)).unwrap().vm;
        assert_eq!(moved.cpus.mode, Some(CpuMode::HostPassthrough));
    }
}

#[test]
fn a_running_guest_is_taken_at_what_it_was_told() {
    let (_, inactive) = recorded()[0].clone();
    let mut config = parse(inactive).unwrap();
    config.vm.cpus.mode = Some(CpuMode::HostModel);
    let mut live = config.clone();
    live.vm.memory.current = 99_999;
    live.vm.cpus.mode = Some(CpuMode::Custom("EPYC".to_owned()));
    settle(&mut live, &config);
    assert_eq!(live.vm, config.vm);
    live.mark.as_mut().unwrap().memory = Some(65_536);
    settle(&mut live, &config);
    assert_eq!(live.vm.memory.current, 65_536);
}

#[test]
fn other_peoples_machines_are_read_leniently() {
    let xml = "<domain type='xen'><name>Old Box</name><uuid>00000000-0000-0000-0000-000000000009</uuid>\
        <memory unit='MB'>1</memory><os><type>hvm</type></os><devices>\
        <disk type='network' device='disk'><driver type='vmdk'/><source protocol='rbd' name='p/i'/><target dev='hda' bus='ide'/></disk>\
        <interface type='direct'><mac address='52:54:00:AA:BB:CC'/><source dev='eth0'/></interface>\
        <hostdev mode='subsystem' type='usb'><source/></hostdev></devices></domain>";
    let seen = parse(xml).unwrap();
    assert_eq!((seen.name.as_str(), seen.mark), ("Old Box", None));
    assert_eq!(seen.vm.memory.max, 977);
    assert_eq!(seen.vm.disks[0].path.as_deref(), Some("p/i"));
    assert_eq!(seen.vm.nics[0].source, NicSource::Other("direct".to_owned()));
    assert_eq!(seen.vm.nics[0].mac, "52:54:00:aa:bb:cc");
    assert!(seen.vm.host_devices.is_empty());
    let nameless = xml.replace("<name>Old Box</name>", "");
    assert_eq!(parse(&nameless), Err(XmlError::Missing { what: "domain", part: "name" }));
}

fn any_disk() -> impl Strategy<Value = DiskAttachment> {
    let buses = prop_oneof![Just(DiskBus::Virtio), Just(DiskBus::Scsi), Just(DiskBus::Sata)];
    let formats = prop_oneof![Just(VolumeFormat::Qcow2), Just(VolumeFormat::Raw)];
    (
        "[a-z]{3}",
        buses,
        any::<bool>(),
        "/[a-z0-9<&\"' ]{0,9}[a-z]",
        formats,
        any::<bool>(),
        proptest::option::of(1..9_u32),
    )
        .prop_map(|(target, bus, cdrom, path, format, read_only, boot_order)| DiskAttachment {
            target,
            bus,
            device: if cdrom { DiskDevice::Cdrom } else { DiskDevice::Disk },
            path: Some(path),
            format,
            read_only: read_only || cdrom,
            boot_order,
        })
}

fn any_nic() -> impl Strategy<Value = Nic> {
    let source = prop_oneof![
        "[a-z]{1,8}".prop_map(NicSource::Network),
        "[a-z]{1,8}".prop_map(NicSource::Bridge),
        Just(NicSource::User)
    ];
    (any::<[u8; 3]>(), source, proptest::option::of(1..9_u32)).prop_map(
        |([a, b, c], source, boot_order)| Nic {
            mac: format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"),
            source,
            model: "virtio".to_owned(),
            boot_order,
        },
    )
}

fn any_boot() -> impl Strategy<Value = Boot> {
    let text = || proptest::option::of("[a-z/=&<' ]{0,9}[a-z]".prop_map(|t| t.trim().to_owned()));
    prop_oneof![
        Just(Boot::Devices),
        ("/[a-z]{1,9}", text(), text()).prop_map(|(kernel, initrd, cmdline)| Boot::Kernel {
            kernel,
            initrd,
            cmdline
        })
    ]
}

prop_compose! {
    fn any_cpus()(
        count in 1..9_u32,
        more in 0..4_u32,
        mode in proptest::option::of(prop_oneof![
            Just(CpuMode::HostPassthrough),
            Just(CpuMode::HostModel),
            Just(CpuMode::Maximum),
            "[A-Z][a-z]{1,8}".prop_map(CpuMode::Custom),
        ]),
        topology in proptest::option::of((1..4_u32, 1..4_u32, 1..3_u32)),
        pinning in proptest::collection::btree_map(0..9_u32, "[0-9]", 0..3),
    ) -> Cpus {
        let topology = topology
            .map(|(sockets, cores, threads)| Topology { sockets, cores, threads });
        Cpus { count, max: count + more, mode, topology, pinning }
    }
}

prop_compose! {
    fn any_vm()(
        cpus in any_cpus(),
        boot in any_boot(),
        efi in any::<bool>(),
        machine in proptest::option::of(prop_oneof![Just("q35"), Just("pc")]),
        kvm in proptest::option::of(any::<bool>()),
        current in 1..1_000_000_u64,
        more in 0..1_000_u64,
        hugepages in proptest::option::of(prop_oneof![Just(2048_u64), Just(1_048_576)]),
        disks in proptest::collection::vec(any_disk(), 0..4),
        nics in proptest::collection::vec(any_nic(), 0..4),
        pci in proptest::collection::btree_set(0..255_u8, 0..3),
        console_log in proptest::option::of("/[a-z]{1,9}"),
        guest_agent in any::<bool>(),
    ) -> VirtualMachine {
        let mut vm = small();
        (vm.cpus, vm.boot, vm.console_log, vm.guest_agent) = (cpus, boot, console_log, guest_agent);
        vm.firmware = if efi { Firmware::Efi } else { Firmware::Bios };
        vm.machine = machine.map(str::to_owned);
        vm.accelerator = kvm.map(|kvm| if kvm { Accelerator::Kvm } else { Accelerator::Tcg });
        vm.memory = Memory { current, max: current + more, hugepages };
        let disks: BTreeMap<_, _> = disks.into_iter().map(|d| (d.target.clone(), d)).collect();
        vm.disks = disks.into_values().collect();
        let nics: BTreeMap<_, _> = nics.into_iter().map(|n| (n.mac.clone(), n)).collect();
        vm.nics = nics.into_values().collect();
        vm.host_devices = pci
            .into_iter()
            .map(|slot| HostDevice::Pci(format!("0000:{slot:02x}:00.0")))
            .collect();
        vm
    }
}

proptest! {
    #[test]
    fn parse_gives_back_what_merge_was_given(vm in any_vm()) {
        let xml = merged(None, &vm);
        prop_assert_eq!(owned(&vm, &parse(&xml).unwrap().vm), vm.clone());
        prop_assert_eq!(merged(Some(&xml), &vm), xml);
    }

    #[test]
    fn one_merge_reaches_any_other(from in any_vm(), to in any_vm()) {
        let there = merged(None, &from);
        let xml = merged(Some(&there), &to);
        prop_assert_eq!(owned(&to, &parse(&xml).unwrap().vm), to.clone());
        prop_assert_eq!(merged(Some(&xml), &to), xml);
    }

    #[test]
    fn hostile_text_is_an_error_and_no_panic(text in "(<[a-z/!?&; ]{0,12}>?|[a-z&;]{0,5}){0,40}") {
        let wrapped = format!("<domain>{text}</domain>");
        if let Err(error) = parse(&wrapped) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
