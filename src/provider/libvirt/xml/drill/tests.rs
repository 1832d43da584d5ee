//! A copy has the guest's hardware and nothing of the host.

use super::*;
use crate::model::resource::{DiskBus, GpuUse, HostDevice, Topology};
use crate::provider::libvirt::xml::domain::parse;

const UUID: Uuid = Uuid::from_u128(0x4ec9_3a5e_8e4f_5d0b_9c53_6f0a_2f8d_1b11);

fn disk(target: &str, path: &str, read_only: bool) -> DiskAttachment {
    DiskAttachment {
        target: target.into(),
        bus: DiskBus::Virtio,
        device: DiskDevice::Disk,
        path: Some(path.into()),
        format: VolumeFormat::Qcow2,
        read_only,
        boot_order: None,
    }
}

/// A guest with everything that a copy must not have.
fn guest() -> VirtualMachine {
    let nic = |last: u8, source| Nic {
        mac: format!("52:54:00:aa:00:0{last}"),
        source,
        model: "virtio".into(),
        boot_order: Some(2),
    };
    let mut root = disk("vda", "/pool/web.qcow2", false);
    root.boot_order = Some(1);
    let mut drive = disk("sda", "/pool/tools.iso", true);
    drive.device = DiskDevice::Cdrom;
    VirtualMachine {
        accelerator: Some(Accelerator::Kvm),
        machine: Some("q35".into()),
        firmware: Firmware::Efi,
        boot: Boot::Devices,
        cpus: Cpus {
            count: 2,
            max: 4,
            mode: Some(CpuMode::HostPassthrough),
            topology: Some(Topology { sockets: 1, cores: 4, threads: 1 }),
            pinning: BTreeMap::from([(0, "0".into())]),
        },
        memory: Memory { current: 131_072, max: 262_144, hugepages: Some(2048) },
        disks: vec![drive, root, disk("vdb", "/pool/seed.img", true), disk("vdc", "/d", false)],
        nics: vec![
            nic(1, NicSource::Network("lab".into())),
            nic(2, NicSource::Bridge("br0".into())),
            nic(3, NicSource::User),
        ],
        host_devices: vec![HostDevice::Pci("0000:65:00.0".into())],
        gpus: vec![GpuUse {
            layout: Name::new("card").unwrap(),
            partition: None,
            devices: vec![HostDevice::Pci("0000:07:00.0".into())],
        }],
        console_log: Some("/pool/web.console.log".into()),
        guest_agent: false,
        autostart: true,
        power: Power::Off,
        stop: None,
        readiness: None,
        snapshot: None,
        way_back: None,
    }
}

fn mark() -> DrillMark {
    DrillMark { backup: Name::new("web").unwrap(), of: "/var/lib/trueup/backup/guests".into() }
}

fn restored() -> BTreeMap<String, PathBuf> {
    [("vda", "/s/vda.raw"), ("vdc", "/s/vdc.raw")]
        .map(|(target, path)| (target.to_owned(), path.into()))
        .into()
}

/// What is lent to a copy for as long as the test runs.
fn kept<T>(thing: T) -> &'static T {
    Box::leak(Box::new(thing))
}

#[track_caller]
fn copied(change: impl FnOnce(&mut Copy<'static>)) -> (String, VirtualMachine) {
    let mut copy = Copy {
        name: "trueup-drill-web",
        uuid: UUID,
        mark: kept(mark()),
        of: kept(guest()),
        machine: None,
        accelerator: Accelerator::Tcg,
        boot: &Boot::Devices,
        disks: kept(restored()),
        folder: Path::new("/s"),
        memory_kib: None,
        network: None,
        agent: false,
    };
    change(&mut copy);
    let xml = domain(&copy).unwrap();
    let read = parse(&xml).unwrap();
    assert_eq!((read.name.as_str(), read.uuid), (copy.name, UUID));
    assert_eq!(read.mark, None, "it is nobody's resource");
    (xml, read.vm)
}

#[test]
fn a_copy_has_the_restored_disks_in_their_places_and_no_other_file() {
    let (xml, vm) = copied(|_| ());
    let paths: Vec<_> = vm
        .disks
        .iter()
        .map(|disk| (disk.target.as_str(), disk.path.as_deref(), disk.read_only, disk.format))
        .collect();
    let raw = VolumeFormat::Raw;
    assert_eq!(
        paths,
        [
            ("sda", None, true, raw),
            ("vda", Some("/s/vda.raw"), false, raw),
            ("vdb", Some("/s/.empty.raw"), true, raw),
            ("vdc", Some("/s/vdc.raw"), false, raw),
        ]
    );
    assert_eq!(vm.disks[1].boot_order, Some(1));
    assert!(!xml.contains("/pool/"), "{xml}");
    assert!(xml.contains("<nvram>/s/uefi/variables.fd</nvram>"), "{xml}");
    assert_eq!(vm.console_log.as_deref(), Some("/s/console.log"));
}

/// libvirt refuses a disk there that may only be read.
#[test]
fn where_no_disk_may_only_be_read_each_empty_one_has_a_file_of_its_own() {
    let mut of = guest();
    for (target, read_only) in [("sdb", false), ("sdc", true)] {
        let path = format!("/pool/{target}.qcow2");
        of.disks.push(DiskAttachment { bus: DiskBus::Sata, ..disk(target, &path, read_only) });
    }
    of.disks.push(DiskAttachment { bus: DiskBus::Scsi, ..disk("sdd", "/pool/sdd.qcow2", false) });
    let files = stand_ins(&of, &restored());
    assert_eq!(files.iter().collect::<Vec<_>>(), [".empty-4.raw", ".empty-5.raw", ".empty.raw"]);
    let of = kept(of);
    let (_, vm) = copied(|copy| copy.of = of);
    let paths = vm.disks[1..4].iter().map(|disk| (disk.path.as_deref().unwrap(), disk.read_only));
    let expected =
        [("/s/.empty-4.raw", false), ("/s/.empty-5.raw", false), ("/s/.empty.raw", true)];
    assert_eq!(paths.collect::<Vec<_>>(), expected);
}

#[test]
fn a_copy_has_nothing_of_the_host_and_disturbs_nobody() {
    let (xml, vm) = copied(|_| ());
    assert!(vm.nics.is_empty() && vm.host_devices.is_empty() && vm.gpus.is_empty());
    for absent in ["hostdev", "<interface", "filesystem", "hugepages", "vcpupin", "graphics"] {
        assert!(!xml.contains(absent), "{absent} in {xml}");
    }
    assert_eq!((vm.accelerator, &vm.cpus.mode), (Some(Accelerator::Tcg), &None));
    assert_eq!((vm.cpus.count, vm.cpus.max, vm.cpus.topology), (2, 2, None));
    assert_eq!((vm.memory.current, vm.memory.max), (131_072, 131_072));
    let (_, vm) = copied(|copy| {
        (copy.accelerator, copy.memory_kib) = (Accelerator::Kvm, Some(65_536));
    });
    assert_eq!(vm.accelerator, Some(Accelerator::Kvm));
    assert_eq!((vm.cpus.mode, vm.memory.max), (Some(CpuMode::HostPassthrough), 65_536));
}

#[test]
fn on_an_isolated_network_it_has_its_interfaces_on_that_one_only() {
    let (_, vm) = copied(|copy| copy.network = Some("trueup-drill-web"));
    assert_eq!(vm.nics.len(), 3);
    for (nic, of) in vm.nics.iter().zip(guest().nics) {
        assert_eq!(nic.source, NicSource::Network("trueup-drill-web".into()));
        assert_eq!((&nic.mac, nic.boot_order), (&of.mac, None));
    }
    let xml = network("trueup-drill-web", UUID, "tudr-1", &mark()).unwrap();
    assert!(!xml.contains("<ip") && !xml.contains("forward") && !xml.contains("dhcp"), "{xml}");
    assert_eq!(DrillMark::of_network(&xml).unwrap(), Some(mark()));
    assert_eq!(bridge_of(&xml).unwrap().as_deref(), Some("tudr-1"));
}

#[test]
fn a_kernel_is_the_one_that_the_host_gives_today() {
    let theirs = Boot::Kernel { kernel: "/etc/shadow".into(), initrd: None, cmdline: None };
    let ours = Boot::Kernel { kernel: "/boot/vmlinuz".into(), initrd: None, cmdline: None };
    let (of, ours) = (kept(VirtualMachine { boot: theirs, ..guest() }), kept(ours));
    let (xml, vm) = copied(|copy| (copy.of, copy.boot) = (of, ours));
    assert_eq!(vm.boot, *ours);
    assert!(!xml.contains("shadow"));
    let (_, vm) = copied(|copy| copy.boot = ours);
    assert_eq!(vm.boot, Boot::Devices, "it booted from its disks");
}

#[test]
fn the_agent_is_there_where_somebody_wants_to_speak_with_it() {
    assert!(!copied(|_| ()).1.guest_agent);
    assert!(copied(|copy| copy.agent = true).1.guest_agent);
}

#[test]
fn a_copy_is_known_by_its_mark_alone() {
    let (xml, _) = copied(|_| ());
    assert_eq!(DrillMark::of_domain(&xml).unwrap(), Some(mark()));
    assert!(is_drills(&xml) && !is_drills("<domain><name>drill</name></domain>"));
    let plain = "<domain><metadata><drill backup='web' of='x'/></metadata></domain>";
    assert_eq!(DrillMark::of_domain(plain).unwrap(), None, "another namespace");
    assert!(DrillMark::of_domain("<network/>").is_err());
}

#[test]
fn libvirt_says_whom_qemu_runs_as() {
    let with = |label: &str| {
        format!(
            "<capabilities><host><secmodel><model>apparmor</model></secmodel><secmodel><model>dac\
             </model><baselabel type='kvm'>{label}</baselabel></secmodel></host></capabilities>"
        )
    };
    assert_eq!(qemu_user(&with("+64055:+109")).unwrap(), Some((64_055, 109)));
    assert_eq!(qemu_user(&with("nobody")).unwrap(), None);
    assert_eq!(qemu_user("<capabilities/>").unwrap(), None);
}
