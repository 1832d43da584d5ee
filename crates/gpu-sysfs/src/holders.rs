//! Processes that hold a GPU open, found by their file descriptors.
//!
//! NVML lists processes that compute; monitors, leaked handles and virtual machines are not on its
//! list and still block every change. The table of open files of every process is therefore read, as
//! root and in the host's PID namespace. A process that goes away meanwhile is no error; one that may
//! not be looked into is reported, since "nobody seen" is then not "nobody there". Never reads a
//! command line (secrets stand in them) and never opens what a descriptor refers to.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address::PciAddress;
use crate::observe::{Eye, minors};
use crate::root::{Root, absent, last_word, link_in, names_in};

/// What a process holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// A whole GPU, by `/dev/nvidiaN`. Who uses a GPU instance holds this one too.
    Gpu(PciAddress),
    /// A GPU instance, by its capability file.
    Instance {
        /// The GPU.
        gpu: PciAddress,
        /// The GPU instance's id.
        gpu_instance: u32,
        /// The compute instance's id, where the handle is of one.
        compute_instance: Option<u32>,
    },
    /// A PCI function: a virtual machine has it, or a display server draws on it.
    Function(PciAddress),
    /// A mediated device.
    Mediated(Uuid),
    /// Everything in an IOMMU group.
    Group {
        /// The group.
        group: u32,
        /// Its PCI functions.
        functions: Vec<PciAddress>,
        /// Its mediated devices.
        mediated: Vec<Uuid>,
    },
    /// A device node of NVIDIA's or of VFIO's of which it cannot be told what it stands for; taken
    /// for a hold on everything.
    Unresolved,
}

/// One process, and one thing it holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// The process id.
    pub pid: u32,
    /// Its name (`comm`), escaped.
    pub command: String,
    /// The innermost systemd unit it runs in, escaped.
    pub unit: Option<String>,
    /// The device node, as the process sees it.
    pub node: String,
    /// What that is.
    pub holds: Held,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, command, unit, node, .. } = self;
        write!(f, "{command} (pid {pid}")?;
        if let Some(unit) = unit {
            write!(f, ", {unit}")?;
        }
        write!(f, ", {node})")
    }
}

/// Who holds what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holders {
    /// Each process once per thing it holds, by process id.
    pub all: Vec<Holder>,
    /// Processes that could not be looked into; what they hold is not known.
    pub unread: Vec<u32>,
}

impl Holders {
    /// Who holds any of these functions or mediated devices, or something that cannot be told.
    #[must_use]
    pub fn of(&self, functions: &[PciAddress], mediated: &[Uuid]) -> Vec<&Holder> {
        let held = |holder: &&Holder| match &holder.holds {
            Held::Gpu(at) | Held::Function(at) | Held::Instance { gpu: at, .. } => {
                functions.contains(at)
            }
            Held::Mediated(uuid) => mediated.contains(uuid),
            Held::Group { functions: members, mediated: uuids, .. } => {
                members.iter().any(|at| functions.contains(at))
                    || uuids.iter().any(|uuid| mediated.contains(uuid))
            }
            Held::Unresolved => true,
        };
        self.all.iter().filter(held).collect()
    }

    /// Who holds a GPU instance or one of its compute instances.
    #[must_use]
    pub fn of_instance(&self, gpu: PciAddress, instance: u32) -> Vec<&Holder> {
        let held = |holder: &&Holder| match &holder.holds {
            Held::Instance { gpu: at, gpu_instance, .. } => (*at, *gpu_instance) == (gpu, instance),
            Held::Unresolved => true,
            _ => false,
        };
        self.all.iter().filter(held).collect()
    }
}

/// Reads the open files of every process.
///
/// # Errors
/// Where `/proc` itself cannot be read, or is not there.
pub fn scan(root: &Root) -> Result<Holders, Errno> {
    let nodes = Nodes::read(root);
    let names = root.names("/proc")?.ok_or(Errno::NOENT)?;
    let mut found = Holders::default();
    for pid in names.iter().filter_map(|name| name.parse::<u32>().ok()) {
        match absent(process(root, &nodes, pid)) {
            Ok(Some(mut holds)) => found.all.append(&mut holds),
            // It went away.
            Ok(None) => {}
            Err(_) => found.unread.push(pid),
        }
    }
    found.all.sort_unstable();
    found.all.dedup();
    found.unread.sort_unstable();
    Ok(found)
}

/// What one process holds.
fn process(root: &Root, nodes: &Nodes<'_>, pid: u32) -> Result<Vec<Holder>, Errno> {
    let dir = root.folder(&format!("/proc/{pid}/fd"))?;
    let mut held: Vec<(String, Held)> = Vec::new();
    for name in names_in(dir.as_fd())? {
        // A descriptor may be closed while the table is read.
        let Some(target) = absent(link_in(dir.as_fd(), &name))? else { continue };
        let Some(node) = device_node(dir.as_fd(), &name, &target) else { continue };
        if let Some(holds) = nodes.resolve(node) {
            held.push((node.to_owned(), holds));
        }
    }
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let comm = root.text(&format!("/proc/{pid}/comm"))?.unwrap_or_default();
    let command = comm.escape_debug().to_string();
    let unit = root.text(&format!("/proc/{pid}/cgroup"))?.and_then(|text| unit(&text));
    let holder =
        |(node, holds)| Holder { pid, command: command.clone(), unit: unit.clone(), node, holds };
    Ok(held.into_iter().map(holder).collect())
}

/// The innermost systemd unit of a process, by its cgroups: that of version 2, or systemd's own
/// hierarchy of version 1.
fn unit(text: &str) -> Option<String> {
    let path = text.lines().find_map(|line| {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        ((id, controllers) == ("0", "") || controllers == "name=systemd").then_some(path)
    })?;
    let is_unit = |name: &&str| name.ends_with(".service") || name.ends_with(".scope");
    path.rsplit('/').find(is_unit).map(|name| name.escape_debug().to_string())
}

/// The path below `/dev` that an open file has. In a chroot it has more before it; then only a
/// character device counts, so that nobody can block a change with a file of that name.
fn device_node<'t>(dir: BorrowedFd<'_>, name: &str, target: &'t str) -> Option<&'t str> {
    // A container's node may have been removed under it.
    let target = target.strip_suffix(" (deleted)").unwrap_or(target);
    let at = target.rfind("/dev/")?;
    let node = &target[at..];
    if at == 0 || kind(node).is_none() {
        return (at == 0).then_some(node);
    }
    let stat = statat(dir, name, AtFlags::empty()).ok()?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    is_device.then_some(node)
}

/// What a device node is by its name.
#[derive(Clone, Copy)]
enum Kind<'a> {
    Gpu(u32),
    Capability(u32),
    VfioDevice(u32),
    VfioGroup(u32),
    Graphics(&'a str),
}

fn kind(node: &str) -> Option<Kind<'_>> {
    let name = node.strip_prefix("/dev/")?;
    if let Some(name) = name.strip_prefix("nvidia-caps/nvidia-cap") {
        return name.parse().ok().map(Kind::Capability);
    }
    if let Some(name) = name.strip_prefix("vfio/devices/vfio") {
        return name.parse().ok().map(Kind::VfioDevice);
    }
    if let Some(name) = name.strip_prefix("vfio/") {
        return name.trim_start_matches("noiommu-").parse().ok().map(Kind::VfioGroup);
    }
    if let Some(name) = name.strip_prefix("dri/") {
        return Some(Kind::Graphics(name));
    }
    name.strip_prefix("nvidia").and_then(|name| name.parse().ok()).map(Kind::Gpu)
}

/// What a capability file stands for.
#[derive(Clone, Copy)]
enum Capability {
    /// Nothing of one GPU: to configure or watch MIG, or to manage the fabric.
    General,
    Instance {
        minor: u32,
        gpu_instance: u32,
        compute_instance: Option<u32>,
    },
}

/// What device nodes stand for.
struct Nodes<'a> {
    eye: Eye<'a>,
    gpus: BTreeMap<u32, PciAddress>,
    capabilities: BTreeMap<u32, Capability>,
}

impl<'a> Nodes<'a> {
    fn read(root: &'a Root) -> Self {
        let eye = Eye::new(root);
        let gpus = minors(&eye);
        let capabilities = capabilities(&eye, gpus.keys().copied());
        Self { eye, gpus, capabilities }
    }

    /// What a node stands for; none where it is nothing of a GPU.
    fn resolve(&self, node: &str) -> Option<Held> {
        match kind(node)? {
            Kind::Gpu(minor) => {
                Some(self.gpus.get(&minor).map_or(Held::Unresolved, |at| Held::Gpu(*at)))
            }
            Kind::Capability(minor) => match self.capabilities.get(&minor) {
                None => Some(Held::Unresolved),
                Some(Capability::General) => None,
                Some(Capability::Instance { minor, gpu_instance, compute_instance }) => {
                    let held = |gpu: &PciAddress| Held::Instance {
                        gpu: *gpu,
                        gpu_instance: *gpu_instance,
                        compute_instance: *compute_instance,
                    };
                    Some(self.gpus.get(minor).map_or(Held::Unresolved, held))
                }
            },
            Kind::VfioDevice(index) => self.vfio_device(index),
            Kind::VfioGroup(group) => Some(self.group(group)),
            Kind::Graphics(name) => {
                let device = self.eye.link_name(&format!("/sys/class/drm/{name}/device"))?;
                device.parse().ok().map(Held::Function)
            }
        }
    }

    /// `/sys/class/vfio-dev/vfioN` leads into the folder of its device.
    fn vfio_device(&self, index: u32) -> Option<Held> {
        let Some(target) = self.eye.link(&format!("/sys/class/vfio-dev/vfio{index}")) else {
            return Some(Held::Unresolved);
        };
        let device = last_word(target.split("/vfio-dev/").next()?)?;
        let mediated = || Uuid::parse_str(&device).ok().map(Held::Mediated);
        // Neither: a device of another bus, and no GPU.
        device.parse().ok().map(Held::Function).or_else(mediated)
    }

    fn group(&self, group: u32) -> Held {
        let names = self.eye.names(&format!("/sys/kernel/iommu_groups/{group}/devices"));
        Held::Group {
            group,
            functions: names.iter().filter_map(|name| name.parse().ok()).collect(),
            mediated: names.iter().filter_map(|name| Uuid::parse_str(name).ok()).collect(),
        }
    }
}

/// Capability files by minor number: the driver's whole list (`mig-minors`: `gpu0/gi1/ci0/access 31`),
/// then the files of the instances that are there, which say more on drivers without that list.
fn capabilities(eye: &Eye<'_>, gpus: impl Iterator<Item = u32>) -> BTreeMap<u32, Capability> {
    let mut found = BTreeMap::new();
    for list in ["mig-minors", "sys-minors"] {
        let text = eye.text(&format!("/proc/driver/nvidia-caps/{list}")).unwrap_or_default();
        for line in text.lines() {
            let Some((path, minor)) = line.rsplit_once(' ') else { continue };
            let Ok(minor) = minor.trim().parse() else { continue };
            found.insert(minor, capability(path.trim()).unwrap_or(Capability::General));
        }
    }
    for gpu in gpus {
        let mig = format!("/proc/driver/nvidia/capabilities/gpu{gpu}/mig");
        let starting = |folder: &str, prefix: &str| {
            let names = eye.names(folder).into_iter();
            names.filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect::<Vec<u32>>()
        };
        for gpu_instance in starting(&mig, "gi") {
            let folder = format!("{mig}/gi{gpu_instance}");
            let compute = starting(&folder, "ci").into_iter().map(Some);
            for compute_instance in compute.chain([None]) {
                let within = compute_instance.map(|ci| format!("/ci{ci}")).unwrap_or_default();
                if let Some(minor) = access_minor(eye, &format!("{folder}{within}/access")) {
                    let held = Capability::Instance { minor: gpu, gpu_instance, compute_instance };
                    found.insert(minor, held);
                }
            }
        }
    }
    found
}

/// `DeviceFileMinor: 30` of an `access` file.
fn access_minor(eye: &Eye<'_>, path: &str) -> Option<u32> {
    let text = eye.text(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix("DeviceFileMinor:"))?;
    value.trim().parse().ok()
}

/// `gpu0/gi1/access` or `gpu0/gi1/ci0/access`.
fn capability(path: &str) -> Option<Capability> {
    let mut parts = path.split('/');
    let mut number = |prefix: &str| parts.next()?.strip_prefix(prefix)?.parse::<u32>().ok();
    let minor = number("gpu")?;
    let gpu_instance = number("gi")?;
    Some(Capability::Instance { minor, gpu_instance, compute_instance: number("ci") })
}
