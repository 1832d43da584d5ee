//! `VirtualMachine` to its canonical form.

use std::collections::{BTreeMap, HashSet};

use super::super::kinds::machine::{
    AcceleratorSpec, BootSpec, ConsoleLog, CpuDetail, CpusSpec, DiskUse, HostDeviceSpec,
    MachineSpec, MemoryDetail, MemorySpec, ReadinessSpec,
};
use super::super::scalar;
use super::nic::{self, NicPlan};
use super::{Cx, Pool, gpus, seed, way_back};
use crate::model::resource::{
    Accelerator, Boot, CpuMode, Cpus, DiskAttachment, DiskBus, DiskDevice, HostDevice, Memory,
    Probe, Readiness, Resource, StopPolicy, VirtualMachine, VolumeFormat,
};
use crate::model::{Kind, Name};

/// Most disks of one machine: the letters of `vda` to `vdz`, the last one kept for cloud-init media.
pub(crate) const DISKS_MAX: usize = 25;
/// Most processors of one machine: what QEMU's `q35` takes.
pub(crate) const CPUS_MAX: u32 = 4096;
/// Kernel command line of a built image that is booted directly.
const CMDLINE_OF_IMAGE: &str = "root=/dev/vda console=ttyS0";
/// Longest kernel command line, bytes: `COMMAND_LINE_SIZE` of Linux on x86; what is beyond is cut off.
pub(crate) const CMDLINE_MAX: usize = 2048;
/// Longest machine type or processor model, bytes: twice what QEMU's longest takes.
pub(crate) const TYPE_MAX: usize = 64;
/// Longest list of processors, bytes: every second one of 200 written out.
pub(crate) const CPU_LIST_MAX: usize = 1024;
/// Longest text that a console is searched for, bytes: nobody prints a longer line to be found.
pub(crate) const CONSOLE_TEXT_MAX: usize = 1024;
/// Memory is given in steps of this, bytes: libvirt rounds it up to them on x86 anyway, and a value
/// it rounds would be drift for ever.
const MEMORY_STEP: u64 = 1 << 20;

pub(super) fn resolve(cx: &mut Cx<'_>, spec: &MachineSpec) -> Option<VirtualMachine> {
    let mut disks = disks(cx, &spec.disks);
    let pool = home(cx);
    let nics = nic::resolve(cx, &spec.nics);
    let boot = spec.boot.as_ref().map_or(Some(Boot::Devices), |b| boot(cx, b));
    let cpus = cpus(cx, &spec.cpus);
    let memory = memory(cx, &spec.memory);
    let host_devices = host_devices(cx, &spec.host_devices);
    let gpus = gpus::resolve(cx, &spec.gpus);
    let timeout = cx.check("/spec/stop/timeout", scalar::seconds(&spec.stop.timeout));
    let readiness = spec.readiness.as_ref().map(|r| readiness(cx, r, &nics));
    let waits_on_console = spec.readiness.as_ref().is_some_and(|r| r.console.is_some());
    let console_log = console(cx, &spec.console_log, waits_on_console, pool.as_ref());
    boot_orders(cx, spec);
    let way_back = way_back::of_machine(cx, spec);
    if let Some(machine) = &spec.machine
        && (!(1..=TYPE_MAX).contains(&machine.len())
            || !machine.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)))
    {
        let shown: String = machine.chars().take(TYPE_MAX).collect();
        let message = format!("`{}` is not a machine type", shown.escape_debug());
        cx.err("spec/wrong-value", "/spec/machine", message);
    }
    let pool = pool?;
    if let Some(cloud_init) = &spec.cloud_init {
        disks.extend(seed::resolve(cx, cloud_init, &nics, &pool, &disks));
    }
    // They are still in the order they are written in, cloud-init's last.
    if boot == Some(Boot::Devices)
        && nothing_boots(spec)
        && !spec.disks.is_empty()
        && let Some(first) = disks.first_mut()
    {
        first.boot_order = Some(1);
    }
    disks.sort_by(|a, b| a.target.cmp(&b.target));
    let mut nics: Vec<_> = nics.into_iter().map(|n| n.nic).collect();
    nics.sort_by(|a, b| a.mac.cmp(&b.mac));
    Some(VirtualMachine {
        accelerator: match spec.accelerator {
            AcceleratorSpec::Auto => None,
            AcceleratorSpec::Kvm => Some(Accelerator::Kvm),
            AcceleratorSpec::Tcg => Some(Accelerator::Tcg),
        },
        machine: spec.machine.clone(),
        firmware: spec.firmware,
        boot: boot?,
        cpus: cpus?,
        memory: memory?,
        disks,
        nics,
        host_devices,
        gpus,
        console_log: console_log?,
        guest_agent: spec.guest_agent || spec.readiness.as_ref().is_some_and(|r| r.guest_agent),
        autostart: spec.autostart,
        power: spec.power,
        stop: Some(StopPolicy { timeout_s: timeout?, force: spec.stop.force }),
        readiness: match readiness {
            None => None,
            Some(readiness) => Some(readiness?),
        },
        snapshot: Some(spec.snapshot),
        way_back: way_back?,
    })
}

fn nothing_boots(spec: &MachineSpec) -> bool {
    spec.disks.iter().all(|d| d.boot_order.is_none())
        && spec.nics.iter().all(|n| n.boot_order.is_none())
}

/// The pool of the machine's own files: that of its first disk, else the first one.
fn home(cx: &mut Cx<'_>) -> Option<Pool> {
    let first = cx.disks.first().map(|(name, _, _)| name.clone());
    let of_disk = first.and_then(|name| {
        let id = crate::model::ResourceId::new(Kind::Disk, name);
        match cx.world.resolved_at(&id)?.own()? {
            Resource::Disk(disk) => Some(disk.pool.to_string()),
            _ => None,
        }
    });
    cx.pool("/spec", of_disk.as_deref())
}

fn disks(cx: &mut Cx<'_>, uses: &[DiskUse]) -> Vec<DiskAttachment> {
    if uses.len() > DISKS_MAX {
        let message = format!("{} disks; at most {DISKS_MAX} fit", uses.len());
        cx.err("spec/too-many", "/spec/disks", message);
        return Vec::new();
    }
    let mut taken = HashSet::new();
    for (n, used) in uses.iter().enumerate() {
        let Some(target) = &used.target else { continue };
        let good = target.len() == 3
            && target.starts_with(prefix(used.bus))
            && target.ends_with(|c: char| c.is_ascii_lowercase());
        let pointer = format!("/spec/disks/{n}/target");
        if !good {
            let message = format!("`{}` is not a target of this bus", target.escape_debug());
            cx.err("spec/wrong-value", pointer, message)
                .hint(format!("`{}a` to `{0}z`", prefix(used.bus)));
        } else if !taken.insert(target.clone()) {
            cx.err("spec/duplicate-target", pointer, format!("two disks are `{target}`"));
        }
    }
    let mut seen = HashSet::new();
    let mut attached = Vec::new();
    for (n, used) in uses.iter().enumerate() {
        let pointer = format!("/spec/disks/{n}/disk");
        if !seen.insert(used.disk.as_str()) {
            let message = format!("`disk/{}` is attached twice", used.disk.escape_debug());
            cx.err("spec/duplicate-disk", pointer, message);
            continue;
        }
        let target = match &used.target {
            Some(target) => Some(target.clone()),
            None => free_target(prefix(used.bus), &mut taken),
        };
        let found = cx.use_resolved(&pointer, Kind::Disk, &used.disk);
        let (Some(found), Some(target)) = (found, target) else {
            continue;
        };
        let Some(Resource::Disk(disk)) = found.own() else {
            continue;
        };
        if let Ok(name) = Name::new(used.disk.as_str()) {
            cx.disks.push((name, n, used.read_only));
        }
        attached.push(DiskAttachment {
            target,
            bus: used.bus,
            device: DiskDevice::Disk,
            path: Some(disk.path.clone()),
            format: disk.format,
            read_only: used.read_only,
            boot_order: used.boot_order,
        });
    }
    attached
}

fn prefix(bus: DiskBus) -> &'static str {
    match bus {
        DiskBus::Virtio => "vd",
        DiskBus::Scsi | DiskBus::Sata => "sd",
    }
}

/// The first target with this prefix that nothing has, now taken.
pub(super) fn free_target(prefix: &str, taken: &mut HashSet<String>) -> Option<String> {
    ('a'..='z')
        .map(|letter| format!("{prefix}{letter}"))
        .find(|target| taken.insert(target.clone()))
}

fn boot_orders(cx: &mut Cx<'_>, spec: &MachineSpec) {
    let disks = spec.disks.iter().map(|d| d.boot_order).enumerate();
    let nics = spec.nics.iter().map(|n| n.boot_order).enumerate();
    let all = disks
        .map(|(n, o)| (o, format!("/spec/disks/{n}/bootOrder")))
        .chain(nics.map(|(n, o)| (o, format!("/spec/nics/{n}/bootOrder"))));
    let mut seen = HashSet::new();
    for (order, pointer) in all {
        match order {
            Some(0) => {
                cx.err("spec/wrong-value", pointer, "boot order starts at 1");
            }
            Some(order) if !seen.insert(order) => {
                let message = format!("two devices are number {order} of the boot order");
                cx.err("spec/duplicate-boot-order", pointer, message);
            }
            _ => {}
        }
    }
}

fn boot(cx: &mut Cx<'_>, spec: &BootSpec) -> Option<Boot> {
    if let Some(cmdline) = &spec.cmdline {
        cx.check("/spec/boot/cmdline", scalar::line(cmdline, CMDLINE_MAX));
    }
    match (&spec.kernel, &spec.image) {
        (Some(kernel), None) => {
            let kernel = cx.check("/spec/boot/kernel", scalar::absolute_path(kernel));
            let initrd = match &spec.initrd {
                None => Some(None),
                Some(path) => cx.check("/spec/boot/initrd", scalar::absolute_path(path)).map(Some),
            };
            Some(Boot::Kernel { kernel: kernel?, initrd: initrd?, cmdline: spec.cmdline.clone() })
        }
        (None, Some(name)) => {
            if spec.initrd.is_some() {
                cx.err(
                    "spec/conflict",
                    "/spec/boot/initrd",
                    "the image brings its own initial RAM disk",
                );
            }
            let found = cx.use_resolved("/spec/boot/image", Kind::Image, name)?;
            let Some(Resource::Image(image)) = found.own() else {
                return None;
            };
            let Some(files) = image.boot_files.clone() else {
                let message =
                    format!("`image/{name}` is not built here, so its kernel is not known");
                cx.err("spec/conflict", "/spec/boot/image", message)
                    .hint("leave `boot` out: the machine then boots from its disk");
                return None;
            };
            let cmdline = spec.cmdline.clone();
            Some(Boot::Kernel {
                kernel: files.kernel,
                initrd: Some(files.initrd),
                cmdline: Some(cmdline.unwrap_or_else(|| CMDLINE_OF_IMAGE.to_owned())),
            })
        }
        _ => {
            cx.err("spec/conflict", "/spec/boot", "`boot` needs one of `kernel` and `image`");
            None
        }
    }
}

fn cpus(cx: &mut Cx<'_>, spec: &CpusSpec) -> Option<Cpus> {
    let plain;
    let (detail, at) = match spec {
        CpusSpec::Detail(detail) => (detail, "/spec/cpus/count"),
        CpusSpec::Count(count) => {
            plain = CpuDetail {
                count: *count,
                max: None,
                mode: None,
                topology: None,
                pinning: BTreeMap::new(),
            };
            (&plain, "/spec/cpus")
        }
    };
    if let Some(CpuMode::Custom(model)) = &detail.mode {
        cx.check("/spec/cpus/mode", scalar::line(model, TYPE_MAX));
    }
    let max = detail.max.unwrap_or(detail.count);
    if !(1..=CPUS_MAX).contains(&detail.count) {
        let message = format!("{} processors: 1 to {CPUS_MAX} are possible", detail.count);
        cx.err("spec/wrong-value", at, message);
        return None;
    }
    if max < detail.count || max > CPUS_MAX {
        let message = format!("at most {max} processors, but {} to start with", detail.count);
        cx.err("spec/range", "/spec/cpus/max", message);
    }
    if let Some(t) = detail.topology {
        let product = [t.sockets, t.cores, t.threads].into_iter().try_fold(1u32, u32::checked_mul);
        if product != Some(max) {
            let message = format!(
                "{} sockets of {} cores of {} threads do not make {max} processors",
                t.sockets, t.cores, t.threads
            );
            cx.err("spec/range", "/spec/cpus/topology", message);
        }
    }
    let mut pinning = BTreeMap::new();
    for (cpu, list) in &detail.pinning {
        let pointer = format!("/spec/cpus/pinning/{cpu}");
        let good = (1..=CPU_LIST_MAX).contains(&list.len())
            && list.bytes().all(|b| b.is_ascii_digit() || b"-,^".contains(&b))
            && list.bytes().any(|b| b.is_ascii_digit());
        match cpu.parse::<u32>() {
            Ok(number) if number < max && good => {
                pinning.insert(number, list.clone());
            }
            Ok(number) if number < max => {
                let shown: String = list.chars().take(CPU_LIST_MAX).collect();
                let message = format!("`{}` is not a list of processors", shown.escape_debug());
                cx.err("spec/wrong-value", pointer, message).hint("write `0-3,^2`");
            }
            _ => {
                let message = format!("there is no virtual processor `{}`", cpu.escape_debug());
                cx.err("spec/range", pointer, message)
                    .hint(format!("they are numbered 0 to {}", max - 1));
            }
        }
    }
    Some(Cpus {
        count: detail.count,
        max,
        mode: detail.mode.clone(),
        topology: detail.topology,
        pinning,
    })
}

fn memory(cx: &mut Cx<'_>, spec: &MemorySpec) -> Option<Memory> {
    let mut kib = |pointer: &str, text: &str| {
        let bytes = cx.check(pointer, scalar::size(text))?;
        Some(bytes.div_ceil(MEMORY_STEP) * (MEMORY_STEP / 1024))
    };
    match spec {
        MemorySpec::Size(size) => {
            let current = kib("/spec/memory", &size.0)?;
            Some(Memory { current, max: current, hugepages: None })
        }
        MemorySpec::Detail(MemoryDetail { current, max, hugepages }) => {
            let current = kib("/spec/memory/current", &current.0);
            let max = match max {
                None => current,
                Some(max) => kib("/spec/memory/max", &max.0),
            };
            let hugepages = match hugepages {
                None => None,
                Some(size) => Some(kib("/spec/memory/hugepages", &size.0)?),
            };
            let (current, max) = (current?, max?);
            if max < current {
                cx.err(
                    "spec/range",
                    "/spec/memory/max",
                    "the most is less than the memory to start with",
                );
            }
            Some(Memory { current, max, hugepages })
        }
    }
}

fn host_devices(cx: &mut Cx<'_>, specs: &[HostDeviceSpec]) -> Vec<HostDevice> {
    let mut devices = Vec::new();
    for (n, spec) in specs.iter().enumerate() {
        let pointer = format!("/spec/hostDevices/{n}");
        let device = match (&spec.pci, &spec.mdev) {
            (Some(pci), None) => cx.check(format!("{pointer}/pci"), pci_function(pci)),
            (None, Some(mdev)) => {
                let read = uuid::Uuid::parse_str(mdev)
                    .map(|u| HostDevice::Mdev(u.to_string()))
                    .map_err(|_| format!("`{}` is not a UUID", mdev.escape_debug()));
                cx.check(format!("{pointer}/mdev"), read)
            }
            _ => {
                cx.err(
                    "spec/conflict",
                    pointer.clone(),
                    "a host device is one of `pci` and `mdev`",
                );
                None
            }
        };
        let Some(device) = device else { continue };
        if devices.contains(&device) {
            cx.err("spec/duplicate-device", pointer, "this device is in the list already");
        } else {
            devices.push(device);
        }
    }
    devices.sort();
    devices
}

fn pci_function(text: &str) -> Result<HostDevice, String> {
    let shape: String = text.chars().map(|c| if c.is_ascii_hexdigit() { 'x' } else { c }).collect();
    let function = text.ends_with(|c: char| ('0'..='7').contains(&c));
    if shape == "xxxx:xx:xx.x" && function {
        Ok(HostDevice::Pci(text.to_ascii_lowercase()))
    } else {
        Err(format!("`{}` is not a PCI function: write `0000:65:00.0`", text.escape_debug()))
    }
}

fn console(
    cx: &mut Cx<'_>,
    spec: &ConsoleLog,
    needed: bool,
    pool: Option<&Pool>,
) -> Option<Option<String>> {
    match spec {
        ConsoleLog::Path(path) => {
            let path = cx.check("/spec/consoleLog", scalar::absolute_path(path))?;
            // The guest decides what is written there, as root: it must not reach anything else.
            let beneath = |pool: &Pool| {
                let rest = path.strip_prefix(pool.path.as_str());
                rest.is_some_and(|rest| rest.starts_with('/') && rest.ends_with(".log"))
            };
            if cx.settings.pools.iter().any(beneath) {
                return Some(Some(path));
            }
            cx.err(
                "spec/console-outside-pool",
                "/spec/consoleLog",
                format!("`{path}` is not a `.log` file in the folder of a storage pool"),
            )
            .hint("write `consoleLog: true` to have it beside the disks");
            None
        }
        ConsoleLog::Flag(false) if !needed => Some(None),
        ConsoleLog::Flag(_) => Some(Some(format!("{}/{}.console.log", pool?.path, cx.id.name))),
    }
}

fn readiness(cx: &mut Cx<'_>, spec: &ReadinessSpec, nics: &[NicPlan]) -> Option<Readiness> {
    let timeout = cx.check("/spec/readiness/timeout", scalar::seconds(&spec.timeout));
    let probe = match (spec.guest_agent, &spec.tcp, &spec.console) {
        (true, None, None) => Some(Probe::GuestAgent),
        (false, None, Some(line)) if !line.trim().is_empty() => cx
            .check("/spec/readiness/console", scalar::line(line, CONSOLE_TEXT_MAX))
            .map(|line| Probe::Console { line }),
        (false, None, Some(_)) => {
            cx.err("spec/wrong-value", "/spec/readiness/console", "an empty text proves nothing");
            None
        }
        (false, Some(tcp), None) => {
            let address = match &tcp.address {
                Some(text) => cx.ip("/spec/readiness/tcp/address", text),
                None => nics.iter().find_map(|n| n.address).map(|a| a.addr()),
            };
            if address.is_none() && tcp.address.is_none() {
                cx.err(
                    "spec/missing-field",
                    "/spec/readiness/tcp",
                    "no interface has a static address to try",
                )
                .hint("give an interface an `address`, or the probe");
            }
            if tcp.port == 0 {
                cx.err("spec/wrong-value", "/spec/readiness/tcp/port", "there is no port 0");
            }
            address.map(|address| Probe::Tcp { address, port: tcp.port })
        }
        _ => {
            cx.err(
                "spec/conflict",
                "/spec/readiness",
                "`readiness` needs one of `guestAgent: true`, `tcp` and `console`",
            );
            None
        }
    };
    Some(Readiness { probe: probe?, timeout_s: timeout? })
}

/// The cloud-init media as a disk of the machine.
pub(super) fn seed_attachment(path: String, others: &[DiskAttachment]) -> Option<DiskAttachment> {
    let mut taken = others.iter().map(|d| d.target.clone()).collect();
    Some(DiskAttachment {
        target: free_target("vd", &mut taken)?,
        bus: DiskBus::Virtio,
        device: DiskDevice::Disk,
        path: Some(path),
        format: VolumeFormat::Raw,
        read_only: true,
        boot_order: None,
    })
}
