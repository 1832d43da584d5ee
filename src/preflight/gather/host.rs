//! What is asked of every host: system, processor, memory, modules, programs, accounts.

use std::collections::{BTreeMap, BTreeSet};

use crate::preflight::facts::{Accounts, Cpu, Group, Memory, Modprobe, System, Unit, User};
use crate::preflight::root::Root;

/// Where programs are looked for, as in root's PATH on Debian.
const FOLDERS: &[&str] = &["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];

/// Programs that trueup, libvirt or a check needs to know of.
const PROGRAMS: &[&str] = &[
    "qemu-system-x86_64",
    "qemu-system-aarch64",
    "qemu-kvm",
    "qemu-img",
    "libvirtd",
    "virtqemud",
    "dnsmasq",
    "mmdebstrap",
    "mke2fs",
    "busctl",
    "nvidia-vgpud",
];

/// Modules whose presence as a file matters, by the name of the file.
const MODULES: &[&str] = &["vfio-pci", "nvidia", "nvidia-current", "kvm-intel", "kvm-amd"];

/// Files and folders whose being there is all they say.
pub(in crate::preflight) const MARKS: &[&str] = &[
    "dev/kvm",
    "dev/vfio/vfio",
    "dev/iommu",
    "run/systemd/system",
    "run/systemd/timesync",
    "run/systemd/timesync/synchronized",
    "run/chrony",
    "run/libvirt/libvirt-sock",
    "run/libvirt/virtqemud-sock",
    "run/nvidia-persistenced/socket",
    "usr/lib/nvidia/sriov-manage",
    // What is listed below belongs to others who manage GPUs.
    "var/lib/kubelet/plugins/gpu.nvidia.com",
    "var/lib/kubelet/plugins_registry/gpu.nvidia.com-reg.sock",
    "var/lib/kubelet/device-plugins/nvidia-gpu.sock",
    "usr/local/vgpu/libvgpu.so",
];

/// Units of systemd that matter.
const UNITS: &[&str] = &[
    "trueup.service",
    "libvirtd.service",
    "virtqemud.service",
    "nvidia-mig-manager.service",
    "nvidia-vgpu-mgr.service",
    "nvidia-persistenced.service",
    "nvidia-fabricmanager.service",
    "systemd-timesyncd.service",
    "chrony.service",
    "chronyd.service",
];

/// Where units lie, the administrator's first.
const UNIT_FOLDERS: &[&str] = &[
    "etc/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// Beginnings of the names of packages that matter.
const PACKAGES: &[&str] = &[
    "qemu-system-",
    "qemu-utils",
    "libvirt-daemon",
    "mmdebstrap",
    "e2fsprogs",
    "dnsmasq-base",
    "nvidia-",
    "datacenter-gpu-manager",
    "chrony",
    "ntpsec",
];

pub(super) fn system(root: &Root, kernel: Option<String>) -> System {
    let wanted =
        |line: &str| ["PRETTY_NAME=", "ID=", "ID_LIKE="].iter().any(|w| line.starts_with(w));
    let release = root
        .lines("etc/os-release", wanted)
        .or_else(|| root.lines("usr/lib/os-release", wanted))
        .unwrap_or_default();
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    let ids = [value("ID"), value("ID_LIKE")].into_iter().flatten();
    // The variable's name is fixed by UEFI; 4 bytes of attributes stand before its value.
    let secure =
        root.bytes("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c");
    System {
        name: value("PRETTY_NAME"),
        ids: ids.flat_map(|ids| ids.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect(),
        kernel,
        product: root.text("sys/class/dmi/id/product_name"),
        secure_boot: secure.map(|bytes| bytes.get(4) == Some(&1)),
    }
}

pub(super) fn cpu(root: &Root) -> Cpu {
    let key = |line: &str| line.split(':').next().unwrap_or_default().trim().to_owned();
    // All processors say the same: the first one's lines are enough.
    let mut seen = BTreeSet::new();
    let keep = |line: &str| {
        let key = key(line);
        ["vendor_id", "flags"].contains(&key.as_str()) && seen.insert(key)
    };
    let text = root.head("proc/cpuinfo", keep).unwrap_or_default();
    let first = |wanted: &str| {
        let line = text.lines().find(|line| key(line) == wanted)?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let flags = first("flags");
    let has = |flag: &str| flags.as_deref().is_some_and(|f| f.split(' ').any(|one| one == flag));
    Cpu {
        has_flags: flags.is_some(),
        virtualisation: ["vmx", "svm"].into_iter().find(|flag| has(flag)),
        vendor: first("vendor_id"),
        guest: has("hypervisor"),
    }
}

pub(super) fn memory(root: &Root) -> Memory {
    let keep = |line: &str| line.starts_with("Mem") || line.starts_with("Huge");
    let text = root.lines("proc/meminfo", keep).unwrap_or_default();
    let number = |key: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    let bytes = |key: &str| number(key).map(|kib| kib.saturating_mul(1024));
    let chosen = root.text("sys/kernel/mm/transparent_hugepage/enabled");
    let chosen =
        chosen.and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0.to_owned()));
    Memory {
        total: bytes("MemTotal"),
        available: bytes("MemAvailable"),
        huge_total: number("HugePages_Total").unwrap_or_default(),
        huge_free: number("HugePages_Free").unwrap_or_default(),
        huge_size: bytes("Hugepagesize").unwrap_or_default(),
        transparent: chosen,
    }
}

/// The words that matter of the kernel's command line; others may say more than is our business.
pub(super) fn cmdline(root: &Root) -> Vec<String> {
    let ours = |word: &&str| {
        let key = word.split('=').next().unwrap_or_default();
        key.contains("iommu")
            || key.contains("vfio")
            || key.contains("hugepage")
            || key.contains("blacklist")
            || key.starts_with("nouveau")
            || key.starts_with("nvidia")
            || key.starts_with("kvm")
            || ["pci", "nomodeset", "isolcpus"].contains(&key)
    };
    let text = root.pick("proc/cmdline", |text| {
        let words: Vec<_> = text.split_whitespace().filter(ours).collect();
        words.join(" ")
    });
    text.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

pub(super) fn modules(root: &Root) -> BTreeMap<String, u32> {
    let ours = |line: &str| {
        ["nvidia", "nouveau", "vfio", "kvm", "gpu"].iter().any(|word| line.starts_with(word))
    };
    let text = root.lines("proc/modules", ours).unwrap_or_default();
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        Some((name, words.nth(1)?.parse().unwrap_or_default()))
    };
    let mut loaded: BTreeMap<String, u32> = text.lines().filter_map(one).collect();
    // Built-in ones are not in that list.
    for name in ["vfio_pci", "kvm_intel", "kvm_amd", "kvm"] {
        if !loaded.contains_key(name) && root.exists(&format!("sys/module/{name}")) {
            loaded.insert(name.to_owned(), 0);
        }
    }
    loaded
}

pub(super) fn module_files(root: &Root, kernel: Option<&str>) -> Option<BTreeSet<String>> {
    let kernel = kernel?;
    let name_of = |line: &str| {
        let path = line.split(':').next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        file.split(".ko").next().unwrap_or_default().to_owned()
    };
    let ours = |line: &str| MODULES.contains(&name_of(line).as_str());
    let folders = [format!("lib/modules/{kernel}"), format!("usr/lib/modules/{kernel}")];
    let mut found = BTreeSet::new();
    let mut any = false;
    for folder in folders {
        for file in ["modules.dep", "modules.builtin"] {
            if let Some(text) = root.lines(&format!("{folder}/{file}"), ours) {
                any = true;
                found.extend(text.lines().map(name_of));
            }
        }
    }
    any.then_some(found)
}

pub(super) fn modprobe(root: &Root) -> Modprobe {
    let ours = |line: &str| {
        let line = line.trim_start();
        line.starts_with("blacklist") || line.starts_with("install") || line.contains("vfio-pci")
    };
    let mut said = Modprobe::default();
    for folder in ["etc/modprobe.d", "run/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d"] {
        for name in root.scan(folder).unwrap_or_default() {
            if !name.ends_with(".conf") {
                continue;
            }
            let path = format!("{folder}/{name}");
            let Some(text) = root.lines(&path, ours) else { continue };
            for line in text.lines() {
                let words: Vec<_> = line.split_whitespace().collect();
                match words.as_slice() {
                    ["blacklist", module, ..] => {
                        said.blacklist.insert((*module).to_owned());
                    }
                    ["install", module, "/bin/true" | "/bin/false", ..] => {
                        said.blacklist.insert((*module).to_owned());
                    }
                    ["options", "vfio-pci" | "vfio_pci", rest @ ..] => {
                        let ids = rest.iter().filter_map(|word| word.strip_prefix("ids="));
                        let ids = ids.flat_map(|ids| ids.split(','));
                        said.vfio_ids.extend(ids.map(|id| (id.to_owned(), format!("/{path}"))));
                    }
                    _ => {}
                }
            }
        }
    }
    said
}

pub(super) fn units(root: &Root) -> BTreeMap<String, Unit> {
    let mut wants = Vec::new();
    for name in root.scan("etc/systemd/system").unwrap_or_default() {
        if name.ends_with(".wants") || name.ends_with(".requires") {
            wants.push(format!("etc/systemd/system/{name}"));
        }
    }
    let mut found = BTreeMap::new();
    for name in UNITS {
        let paths = UNIT_FOLDERS.iter().map(|folder| format!("{folder}/{name}"));
        let Some(path) = paths.into_iter().find(|path| root.exists(path)) else { continue };
        if root.peek_link(&path).is_some_and(|target| target == "/dev/null") {
            continue;
        }
        let enabled = wants.iter().any(|folder| root.exists(&format!("{folder}/{name}")));
        found.insert((*name).to_owned(), Unit { path: format!("/{path}"), enabled });
    }
    found
}

pub(super) fn marks(root: &Root) -> BTreeSet<&'static str> {
    MARKS.iter().copied().filter(|path| root.exists(path)).collect()
}

pub(super) fn programs(root: &Root) -> BTreeMap<&'static str, String> {
    PROGRAMS.iter().filter_map(|name| Some((*name, program(root, name)?))).collect()
}

/// Where a program is.
pub(in crate::preflight) fn program(root: &Root, name: &str) -> Option<String> {
    let mut paths = FOLDERS.iter().map(|folder| format!("{folder}/{name}"));
    paths.find(|path| root.exists(path)).map(|path| format!("/{path}"))
}

/// Debian's database: stanzas of `Key: value`, parted by empty lines.
pub(super) fn packages(root: &Root) -> BTreeMap<String, String> {
    let field = |stanza: &str, key: &str| {
        let line = stanza.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))?;
        Some(line.to_owned())
    };
    let text = root.pick("var/lib/dpkg/status", |text| {
        let ours = text.split("\n\n").filter_map(|stanza| {
            let name = field(stanza, "Package")?;
            PACKAGES.iter().any(|start| name.starts_with(start)).then_some(())?;
            let status = field(stanza, "Status")?;
            let version = field(stanza, "Version").unwrap_or_default();
            Some(format!("Package: {name}\nStatus: {status}\nVersion: {version}\n\n"))
        });
        ours.collect()
    });
    let text = text.unwrap_or_default();
    let installed = text.split("\n\n").filter_map(|stanza| {
        let status = field(stanza, "Status")?;
        status.ends_with(" installed").then_some(())?;
        Some((field(stanza, "Package")?, field(stanza, "Version")?))
    });
    installed.collect()
}

/// The accounts of people and of libvirt, without their passwords, names and homes.
pub(super) fn accounts(root: &Root) -> Accounts {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<u32>().ok());
    let passwd = root.pick("etc/passwd", |text| {
        let ours = text.lines().filter_map(|line| {
            let line = fields(line);
            let (name, uid) = (line.first()?, number(line.get(2))?);
            let login = !line.last()?.ends_with("/nologin") && !line.last()?.ends_with("/false");
            let person = (1000..60000).contains(&uid) && login;
            let wanted = person || ["libvirt-qemu", "qemu"].contains(&name.as_str());
            wanted.then(|| format!("{name}:x:{uid}:{}:::\n", line.get(3).map_or("", |g| g)))
        });
        ours.collect()
    });
    let groups = root.lines("etc/group", |line| {
        ["trueup", "libvirt", "kvm"].contains(&line.split(':').next().unwrap_or_default())
    });
    let user = |line: &str| {
        let line = fields(line);
        let (uid, gid) = (number(line.get(2))?, number(line.get(3))?);
        Some(User { name: line.first()?.clone(), uid, gid })
    };
    let group = |line: &str| {
        let line = fields(line);
        let members = line.get(3).map(|names| names.split(',').map(str::to_owned).collect());
        let group = Group { gid: number(line.get(2))?, members: members.unwrap_or_default() };
        Some((line.first()?.clone(), group))
    };
    Accounts {
        users: passwd.unwrap_or_default().lines().filter_map(user).collect(),
        groups: groups.unwrap_or_default().lines().filter_map(group).collect(),
    }
}
