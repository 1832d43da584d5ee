//! A `Cluster` with `machines` to the documents of its virtual machines and their disks, as if somebody had
//! written them. Pure; what they mean is checked where such documents are resolved, and what is wrong with
//! one is told at the place of the cluster's document that it follows from.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use trueup_slurm::hostlist;

use super::cache::ParseCache;
use super::environment::Gathered;
use super::kinds::cluster::{
    ClusterAccountingSpec, ClusterHostSpec, ClusterPoolSpec, ClusterSpec, SlurmClusterSpec,
};
use super::kinds::cluster_kubernetes::{
    KubernetesClusterSpec, KubernetesHostSpec, KubernetesNodeSpec,
};
use super::kinds::cluster_machine::ClusterMachineSpec;
use super::kinds::disk::DiskSpec;
use super::kinds::machine::{
    CloudInitSpec, ConsoleLog, CpusSpec, DiskUse, MachineSpec, MemorySpec, NicSpec, ReadinessSpec,
};
use super::kinds::{Doc, LifecycleSpec, Metadata, Spec};
use super::resolve::{Draft, Member, Place};
use super::scalar::{self, SizeText};
use crate::model::resource::{DiskBus, OnImageChange, Power, SnapshotPolicy, VolumeFormat};
use crate::model::{Kind, Name, ResourceId};

/// Where the machine of the database is said.
const DATABASE: &str = "/spec/accounting/host";
/// How long a machine may take until its agent answers, when nothing is said: an emulated one that boots
/// for the first time beside others takes some minutes.
const READY_WITHIN: &str = "15m";
/// What a guest's kernel keeps of its memory, at most: this, and a sixteenth.
const KERNEL_BYTES: u64 = 64 << 20;
/// The size of the disk of a database, when nothing is said; and of that of a control plane, where etcd has 2 GiB
/// at most when nothing else is said (etcd, `--quota-backend-bytes`), and half as much again beside it.
const DATABASE_SIZE: &str = "10GiB";
const CONTROL_SIZE: &str = "8GiB";
/// Where the machine of the control plane is said.
const CONTROL: &str = "/spec/controlPlane/";
/// Most machines of one cluster: more than one host has.
pub(crate) const MACHINES_MAX: usize = 1024;

/// A document made of a cluster's.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) id: ResourceId,
    pub(crate) doc: Arc<Doc>,
    pub(crate) from: Arc<MadeFrom>,
}

/// Where a document that nobody wrote comes from.
#[derive(Debug)]
pub(crate) struct MadeFrom {
    /// The cluster.
    pub(crate) owner: ResourceId,
    /// The pointer of its entry in the cluster's document.
    entry: String,
    /// Pointers into the made document, each with the one in the cluster's that it follows from.
    pointers: Vec<(&'static str, String)>,
}

impl MadeFrom {
    /// Where a pointer into the made document leads to in the cluster's.
    pub(crate) fn pointer(&self, pointer: &str) -> String {
        let found = self.pointers.iter().find_map(|(own, of)| {
            let rest = pointer.strip_prefix(own)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{of}{rest}"))
        });
        found.unwrap_or_else(|| self.entry.clone())
    }
}

/// What a cluster's document came to.
#[derive(Debug, Default)]
pub(crate) struct Expansion {
    pub(crate) made: Vec<Made>,
    mistakes: Vec<Mistake>,
}

#[derive(Debug)]
struct Mistake {
    code: &'static str,
    pointer: String,
    message: String,
    hint: Option<&'static str>,
}

/// Adds the machines of every cluster that is built. A machine that is also written down is an error.
pub(crate) fn add(cache: &mut ParseCache, all: &mut Gathered) {
    let built = |member: &Member| match &member.doc.spec {
        Spec::Cluster(spec) => spec.machines().is_some() && member.id.is_some(),
        _ => false,
    };
    let clusters: Vec<usize> = (0..all.members.len()).filter(|&n| built(&all.members[n])).collect();
    for cluster in clusters {
        let Member { file, index, doc, id, patches, line, .. } = all.members[cluster].clone();
        let Some(id) = id else { continue };
        let expansion = cache.expanded(&id, &doc, || expand(&id, &doc));
        for mistake in &expansion.mistakes {
            let place = Place::value(cluster, mistake.pointer.clone());
            let mut draft = Draft::new(mistake.code, place, mistake.message.clone());
            draft.hint = mistake.hint.map(str::to_owned);
            all.drafts.push(draft);
        }
        let mut doubled: BTreeMap<&str, Vec<(&ResourceId, usize)>> = BTreeMap::new();
        for made in &expansion.made {
            if let Some(&first) = all.by_id.get(&made.id) {
                doubled.entry(&made.from.entry).or_default().push((&made.id, first));
                continue;
            }
            all.by_id.insert(made.id.clone(), all.members.len());
            all.members.push(Member {
                file,
                index,
                doc: Arc::clone(&made.doc),
                id: Some(made.id.clone()),
                patches: patches.clone(),
                line,
                from: Some(Arc::clone(&made.from)),
            });
        }
        for (entry, ids) in doubled {
            all.drafts.push(is_there(Place::value(cluster, entry), &ids));
        }
    }
}

/// Resources that an entry makes, and who has each of them already.
fn is_there(place: Place, ids: &[(&ResourceId, usize)]) -> Draft {
    let names: Vec<String> = ids.iter().map(|(id, _)| format!("`{id}`")).collect();
    let message = match &names[..] {
        [one] => format!("{one} is made of this, and is there already"),
        several => format!("{} are made of this, and are there already", several.join(", ")),
    };
    let mut draft = Draft::new("spec/duplicate-resource", place, message);
    for (_, first) in ids {
        draft.see(Place::value(*first, "/metadata/name"), "it is here");
    }
    draft.hint("rename one of the two; a machine of a cluster is called CLUSTER-NODE");
    draft
}

/// The name of the virtual machine of a host of a cluster.
///
/// # Errors
/// It would be none.
pub(crate) fn machine_name(cluster: &Name, host: &str) -> Result<Name, String> {
    Name::new(format!("{cluster}-{host}")).map_err(|error| {
        format!("its virtual machine would be called `{cluster}-{}`: {error}", host.escape_debug())
    })
}

/// The name of the disk of a database, or of a control plane, by that of its machine.
///
/// # Errors
/// It would be none.
pub(crate) fn data_name(machine: &Name) -> Result<Name, String> {
    Name::new(format!("{machine}-data"))
        .map_err(|error| format!("its disk would be called `{machine}-data`: {error}"))
}

/// The addresses of the machines of one entry, in order: the first is written, the others follow it.
///
/// # Errors
/// What is written is no address, or there are not so many after it.
pub(crate) fn addresses(first: &str, count: usize) -> Result<Vec<String>, String> {
    let address: IpAddr =
        first.parse().map_err(|_| format!("`{}` is not an IP address", first.escape_debug()))?;
    let too_many = || format!("there are not {count} addresses from {first} on");
    (0..count)
        .map(|n| match address {
            IpAddr::V4(v4) => {
                let n = u32::try_from(n).ok();
                let next = n.and_then(|n| u32::from(v4).checked_add(n)).ok_or_else(too_many)?;
                Ok(IpAddr::from(next.to_be_bytes()).to_string())
            }
            IpAddr::V6(v6) => {
                let next = u128::from(v6).checked_add(n as u128).ok_or_else(too_many)?;
                Ok(IpAddr::from(next.to_be_bytes()).to_string())
            }
        })
        .collect()
}

fn expand(id: &ResourceId, doc: &Doc) -> Expansion {
    let Spec::Cluster(spec) = &doc.spec else { return Expansion::default() };
    let spec = &**spec;
    let mut work = Expand {
        id,
        doc,
        all: spec.machines(),
        has: match spec {
            ClusterSpec::Slurm(_) => "an image with Slurm, munge and qemu-guest-agent in it",
            ClusterSpec::Kubernetes(_) => {
                "an image with containerd, kubelet, kubeadm and qemu-guest-agent in it"
            }
        },
        processors: match spec {
            ClusterSpec::Slurm(_) => 1,
            // kubeadm refuses fewer.
            ClusterSpec::Kubernetes(_) => 2,
        },
        found: Expansion::default(),
    };
    match spec {
        ClusterSpec::Slurm(spec) => slurm(&mut work, spec),
        ClusterSpec::Kubernetes(spec) => kubernetes(&mut work, spec),
    }
    work.found
}

/// The accounting database, where it has a machine of its own.
pub(crate) fn database(spec: &SlurmClusterSpec) -> Option<&ClusterAccountingSpec> {
    let accounting = spec.accounting.as_ref()?;
    let on_controller = spec.controllers.iter().any(|it| it.name == accounting.host.name);
    (!on_controller).then_some(accounting)
}

fn slurm<'a>(work: &mut Expand<'a>, spec: &'a SlurmClusterSpec) {
    for (n, host) in spec.controllers.iter().enumerate() {
        work.entry(&Entry::slurm(host), &format!("/spec/controllers/{n}"), None);
    }
    for (index, pool) in spec.pools.iter().enumerate() {
        for (n, host) in pool.nodes.iter().enumerate() {
            let at = format!("/spec/pools/{index}/nodes/{n}");
            work.entry(&Entry::slurm(host), &at, Some(Pool::slurm(pool, index)));
        }
    }
    for (n, host) in spec.login.iter().enumerate() {
        work.entry(&Entry::slurm(host), &format!("/spec/login/{n}"), None);
    }
    if let Some(accounting) = database(spec) {
        work.entry(&Entry::slurm(&accounting.host), DATABASE, None);
    }
}

fn kubernetes<'a>(work: &mut Expand<'a>, spec: &'a KubernetesClusterSpec) {
    for (n, host) in spec.control_plane.iter().enumerate() {
        work.entry(&Entry::kubernetes(host), &format!("/spec/controlPlane/{n}"), None);
    }
    for (index, pool) in spec.pools.iter().enumerate() {
        let of = Pool { index, machine: pool.machine.as_deref(), cpus: None, jobs: None };
        for (n, node) in pool.nodes.iter().enumerate() {
            let at = format!("/spec/pools/{index}/nodes/{n}");
            match node {
                KubernetesNodeSpec::Host(host) => {
                    work.entry(&Entry::kubernetes(host), &at, Some(of));
                }
                KubernetesNodeSpec::Name(_) => {
                    let message = "a machine is made for it, which needs an address";
                    let hint =
                        "write `{name: …, address: …}`; of an entry with several, the first one's";
                    work.mistake("spec/missing-field", &at, message, Some(hint));
                }
            }
        }
    }
}

struct Expand<'a> {
    id: &'a ResourceId,
    doc: &'a Doc,
    /// What all machines have.
    all: Option<&'a ClusterMachineSpec>,
    /// What their image needs.
    has: &'static str,
    /// Processors of a controller, where nothing says them.
    processors: u32,
    found: Expansion,
}

/// An entry of one machine, or several.
struct Entry<'a> {
    name: &'a str,
    address: Option<&'a str>,
    port: Option<u16>,
    machine: Option<&'a ClusterMachineSpec>,
}

impl<'a> Entry<'a> {
    fn slurm(host: &'a ClusterHostSpec) -> Self {
        Self {
            name: &host.name,
            address: host.address.as_deref(),
            port: host.port,
            machine: host.machine.as_deref(),
        }
    }

    fn kubernetes(host: &'a KubernetesHostSpec) -> Self {
        let (address, machine) = (host.address.as_deref(), host.machine.as_deref());
        Self { name: &host.name, address, port: None, machine }
    }
}

/// The pool of an entry.
#[derive(Clone, Copy)]
struct Pool<'a> {
    /// Its place.
    index: usize,
    machine: Option<&'a ClusterMachineSpec>,
    /// The processors of its nodes, where it says them.
    cpus: Option<u32>,
    /// What jobs get of the memory of its nodes, where it says that.
    jobs: Option<&'a SizeText>,
}

impl<'a> Pool<'a> {
    fn slurm(pool: &'a ClusterPoolSpec, index: usize) -> Self {
        let (machine, cpus) = (pool.machine.as_deref(), Some(pool.cpus));
        Self { index, machine, cpus, jobs: Some(&pool.memory) }
    }
}

/// Templates, the nearest first, each with its pointer.
type Layers<'a> = Vec<(String, &'a ClusterMachineSpec)>;
/// A part of a template, and where it is.
type Part<'a, T> = (&'a T, String);

/// A host of a cluster that a machine is made for.
struct Wanted<'a> {
    /// The pointer of its entry.
    at: &'a str,
    /// What the machine is called.
    name: Name,
    /// What the host is called in the cluster.
    node: &'a str,
    address: String,
    /// Its pool; none: no node.
    pool: Option<Pool<'a>>,
    /// Its processors, where nothing says them.
    processors: u32,
    layers: &'a Layers<'a>,
}

/// The nearest one that says it, and where.
fn pick<'a, T>(
    layers: &Layers<'a>,
    field: &str,
    get: impl Fn(&'a ClusterMachineSpec) -> Option<&'a T>,
) -> Option<(&'a T, String)> {
    layers.iter().find_map(|(at, layer)| Some((get(layer)?, format!("{at}/{field}"))))
}

impl<'a> Expand<'a> {
    fn mistake(
        &mut self,
        code: &'static str,
        pointer: &str,
        message: impl Into<String>,
        hint: Option<&'static str>,
    ) {
        let (pointer, message) = (pointer.to_owned(), message.into());
        // Once for all machines that it is wrong for.
        let told = |it: &Mistake| it.pointer == pointer && it.message == message;
        if !self.found.mistakes.iter().any(told) {
            self.found.mistakes.push(Mistake { code, pointer, message, hint });
        }
    }

    /// The machines of one entry.
    fn entry(&mut self, host: &Entry<'a>, at: &str, pool: Option<Pool<'a>>) {
        // A name that is none is told with the others of the cluster.
        let Ok(names) = hostlist::expand(host.name) else { return };
        let most = MACHINES_MAX.saturating_sub(self.found.made.len() / 2);
        if names.len() > most {
            let message = format!("a cluster has at most {MACHINES_MAX} machines here");
            return self.mistake("spec/too-many", &format!("{at}/name"), message, None);
        }
        let Some(first) = host.address else {
            let hint =
                "an address on the machines' network; of an entry with several, the first one";
            let message = "field `address` is missing";
            return self.mistake("spec/missing-field", at, message, Some(hint));
        };
        // slurmdbd's port is the only one that is its own.
        if host.port.is_some() && at != DATABASE {
            let message = "every machine has one daemon, on the usual port";
            self.mistake("spec/conflict", &format!("{at}/port"), message, None);
        }
        let addresses = match addresses(first, names.len()) {
            Ok(addresses) => addresses,
            Err(message) => {
                return self.mistake("spec/wrong-value", &format!("{at}/address"), message, None);
            }
        };
        let layers = &self.layers(host, at, pool);
        let processors = if pool.is_none() { self.processors } else { 1 };
        for (node, address) in names.iter().zip(addresses) {
            match machine_name(&self.id.name, node) {
                Ok(name) => {
                    let wanted = Wanted { at, name, node, address, pool, processors, layers };
                    self.machine(&wanted);
                }
                Err(message) => {
                    self.mistake("spec/wrong-value", &format!("{at}/name"), message, None);
                }
            }
        }
    }

    fn layers(&self, host: &Entry<'a>, at: &str, pool: Option<Pool<'a>>) -> Layers<'a> {
        let own = host.machine.map(|own| (format!("{at}/machine"), own));
        let of_pool = pool.and_then(|Pool { index, machine, .. }| {
            machine.map(|of| (format!("/spec/pools/{index}/machine"), of))
        });
        let all = self.all.map(|all| ("/spec/machines".to_owned(), all));
        own.into_iter().chain(of_pool).chain(all).collect()
    }

    fn machine(&mut self, host: &Wanted<'_>) {
        let (at, name, layers, has) = (host.at, &host.name, host.layers, self.has);
        let mut missing = |field: &str, hint| {
            let message = format!("field `{field}` of the machines is missing");
            self.mistake("spec/missing-field", "/spec/machines", message, Some(hint));
        };
        let image = pick(layers, "image", |it| it.image.as_ref());
        let network = pick(layers, "network", |it| it.network.as_ref());
        let memory = pick(layers, "memory", |it| it.memory.as_ref());
        if image.is_none() {
            missing("image", has);
        }
        if network.is_none() {
            missing("network", "the name of a `Network`");
        }
        if memory.is_none() {
            missing("memory", "memory of each machine: `2GiB`");
        }
        let (Some(image), Some(network), Some(memory)) = (image, network, memory) else { return };
        if let Some(Pool { index, jobs: Some(jobs), .. }) = host.pool {
            self.enough(jobs, index, memory.0);
        }
        self.disk(host, image);
        let data = self.data_size(at).and_then(|size| self.data_disk(host, size));
        let (spec, pointers) = vm(host, network, memory, data);
        self.push(Kind::VirtualMachine, name, at, pointers, Spec::VirtualMachine(Box::new(spec)));
    }

    /// Whether a machine has the memory that its pool gives to jobs.
    fn enough(&mut self, jobs: &SizeText, p: usize, memory: &MemorySpec) {
        let text = match memory {
            MemorySpec::Size(size) => size,
            MemorySpec::Detail(detail) => &detail.current,
        };
        // Sizes that are none are told where they are read.
        let (Ok(has), Ok(gives)) = (scalar::size(&text.0), scalar::size(&jobs.0)) else {
            return;
        };
        let left = has.saturating_sub(has / 16).saturating_sub(KERNEL_BYTES);
        let pointer = format!("/spec/pools/{p}/memory");
        let told = self.found.mistakes.iter().any(|it| it.pointer == pointer);
        if gives > left && !told {
            let message = format!(
                "jobs get {}, and a machine with {} has {} MiB for them at most",
                jobs.0,
                text.0,
                left >> 20
            );
            let hint = "the guest's kernel keeps 64 MiB and a sixteenth: give less to jobs, or the \
                        machines more";
            self.mistake("spec/range", &pointer, message, Some(hint));
        }
    }

    fn disk(&mut self, host: &Wanted<'_>, (image, image_at): Part<'_, String>) {
        let (at, name, layers) = (host.at, &host.name, host.layers);
        let size = pick(layers, "disk", |it| it.disk.as_ref());
        let pool = pick(layers, "storagePool", |it| it.storage_pool.as_ref());
        // The state of all jobs is on a controller's disk, and what people keep on a login machine's; and a
        // control plane that is made anew is away for some minutes.
        let of_own = layers.iter().filter(|(of, _)| host.pool.is_some() || of.starts_with(at));
        let change = of_own.filter_map(|(_, layer)| layer.on_image_change).next();
        let mut pointers = vec![("/spec/image", image_at)];
        pointers.extend(size.as_ref().map(|(_, at)| ("/spec/size", at.clone())));
        pointers.extend(pool.as_ref().map(|(_, at)| ("/spec/pool", at.clone())));
        let spec = DiskSpec {
            size: size.map(|(size, _)| size.clone()),
            format: VolumeFormat::default(),
            image: Some(image.clone()),
            on_image_change: change.unwrap_or(OnImageChange::Keep),
            pool: pool.map(|(pool, _)| pool.clone()),
            backup_before: None,
            keep_for: None,
        };
        self.push(Kind::Disk, name, at, pointers, Spec::Disk(spec));
    }

    /// The size of the disk on which a machine has what outlives it, and where that is said; `None`: it has none.
    fn data_size(&self, at: &str) -> Option<(SizeText, String)> {
        let Spec::Cluster(cluster) = &self.doc.spec else { return None };
        let (said, usual, pointer) = match &**cluster {
            ClusterSpec::Slurm(slurm) if at == DATABASE => {
                let said = slurm.accounting.as_ref().and_then(|it| it.disk.clone());
                (said, DATABASE_SIZE, "/spec/accounting/disk".to_owned())
            }
            ClusterSpec::Kubernetes(kubernetes) => {
                let place: usize = at.strip_prefix(CONTROL)?.parse().ok()?;
                let said = kubernetes.control_plane.get(place)?.data_disk.clone();
                (said, CONTROL_SIZE, format!("{at}/dataDisk"))
            }
            ClusterSpec::Slurm(_) => return None,
        };
        Some((said.unwrap_or_else(|| SizeText(usual.to_owned())), pointer))
    }

    /// A disk that is no part of the machine's own, so that it stays when that is made anew.
    fn data_disk(
        &mut self,
        host: &Wanted<'_>,
        (size, size_at): (SizeText, String),
    ) -> Option<Name> {
        let (at, layers) = (host.at, host.layers);
        let name = match data_name(&host.name) {
            Ok(name) => name,
            Err(message) => {
                self.mistake("spec/wrong-value", &format!("{at}/name"), message, None);
                return None;
            }
        };
        let pool = pick(layers, "storagePool", |it| it.storage_pool.as_ref());
        let mut pointers = vec![("/spec/size", size_at)];
        pointers.extend(pool.as_ref().map(|(_, at)| ("/spec/pool", at.clone())));
        let spec = DiskSpec {
            size: Some(size),
            format: VolumeFormat::default(),
            image: None,
            on_image_change: OnImageChange::Keep,
            pool: pool.map(|(pool, _)| pool.clone()),
            backup_before: None,
            keep_for: None,
        };
        self.push(Kind::Disk, &name, at, pointers, Spec::Disk(spec));
        Some(name)
    }

    fn push(
        &mut self,
        kind: Kind,
        name: &Name,
        entry: &str,
        pointers: Vec<(&'static str, String)>,
        spec: Spec,
    ) {
        let of = &self.doc.lifecycle;
        let lifecycle = LifecycleSpec {
            prevent_destroy: of.prevent_destroy,
            self_heal: of.self_heal,
            orphan: of.orphan,
            ..LifecycleSpec::default()
        };
        let doc = Doc {
            metadata: Metadata {
                name: name.to_string(),
                labels: self.doc.metadata.labels.clone(),
                annotations: BTreeMap::new(),
            },
            lifecycle,
            depends_on: Vec::new(),
            spec,
        };
        let from = MadeFrom { owner: self.id.clone(), entry: entry.to_owned(), pointers };
        let id = ResourceId::new(kind, name.clone());
        self.found.made.push(Made { id, doc: Arc::new(doc), from: Arc::new(from) });
    }
}

/// The virtual machine of a host, and where each part of it comes from.
fn vm(
    host: &Wanted<'_>,
    (network, network_at): Part<'_, String>,
    (memory, memory_at): Part<'_, MemorySpec>,
    data: Option<Name>,
) -> (MachineSpec, Vec<(&'static str, String)>) {
    let Wanted { at, name, node, address, layers, .. } = host;
    let (cpus, cpus_at) = cpus(host);
    let boot = pick(layers, "boot", |it| it.boot.as_ref());
    let gpus = pick(layers, "gpus", |it| it.gpus.as_ref());
    let devices = pick(layers, "hostDevices", |it| it.host_devices.as_ref());
    let cloud_init = pick(layers, "cloudInit", |it| it.cloud_init.as_ref());
    let stop = pick(layers, "stop", |it| it.stop.as_ref());
    let ready = pick(layers, "readyWithin", |it| it.ready_within.as_ref());
    let machine = pick(layers, "machine", |it| it.machine.as_ref());
    let mut pointers = vec![
        ("/metadata/name", format!("{at}/name")),
        ("/spec/nics/0/address", format!("{at}/address")),
        ("/spec/nics/0/network", network_at),
        ("/spec/memory", memory_at),
        ("/spec/cpus", cpus_at),
    ];
    let known = [
        ("/spec/boot", boot.as_ref().map(|it| &it.1)),
        ("/spec/gpus", gpus.as_ref().map(|it| &it.1)),
        ("/spec/hostDevices", devices.as_ref().map(|it| &it.1)),
        ("/spec/cloudInit", cloud_init.as_ref().map(|it| &it.1)),
        ("/spec/stop", stop.as_ref().map(|it| &it.1)),
        ("/spec/readiness/timeout", ready.as_ref().map(|it| &it.1)),
        ("/spec/machine", machine.as_ref().map(|it| &it.1)),
    ];
    pointers.extend(known.into_iter().filter_map(|(own, of)| Some((own, of?.clone()))));
    let cloud_init = CloudInitSpec {
        hostname: Some((*node).to_owned()),
        network_config: None,
        ..cloud_init.map(|it| it.0.clone()).unwrap_or_default()
    };
    let spec = MachineSpec {
        machine: machine.map(|it| it.0.clone()),
        firmware: pick(layers, "", |it| it.firmware.as_ref()).map(|it| *it.0).unwrap_or_default(),
        accelerator: pick(layers, "", |it| it.accelerator.as_ref())
            .map(|it| *it.0)
            .unwrap_or_default(),
        cpus,
        memory: memory.clone(),
        disks: [Some(name), data.as_ref()].into_iter().flatten().map(disk_of).collect(),
        nics: vec![nic_on(network, address.clone())],
        boot: boot.map(|it| it.0.clone()),
        cloud_init: Some(cloud_init),
        console_log: ConsoleLog::Flag(
            pick(layers, "", |it| it.console_log.as_ref()).is_none_or(|it| *it.0),
        ),
        host_devices: devices.map(|it| it.0.clone()).unwrap_or_default(),
        gpus: gpus.map(|it| it.0.clone()).unwrap_or_default(),
        guest_agent: true,
        autostart: true,
        power: Power::default(),
        stop: stop.map(|it| it.0.clone()).unwrap_or_default(),
        snapshot: SnapshotPolicy::default(),
        backup_before: None,
        keep_for: None,
        readiness: Some(answers_within(ready.map(|it| it.0.as_str()))),
    };
    (spec, pointers)
}

/// The processors of a host, and where they are said. Those of a node are its pool's, unless it is said
/// nearer than for all machines.
fn cpus(host: &Wanted<'_>) -> (CpusSpec, String) {
    let own = host.pool.is_some_and(|pool| pool.cpus.is_some());
    let near = |at: &String| !own || at != "/spec/machines";
    let near: Layers<'_> = host.layers.iter().filter(|(at, _)| near(at)).cloned().collect();
    match (pick(&near, "cpus", |it| it.cpus.as_ref()), host.pool) {
        (Some((cpus, at)), _) => (cpus.clone(), at),
        (None, Some(Pool { index, cpus: Some(cpus), .. })) => {
            (CpusSpec::Count(cpus), format!("/spec/pools/{index}/cpus"))
        }
        (None, _) => (CpusSpec::Count(host.processors), host.at.to_owned()),
    }
}

fn disk_of(name: &Name) -> DiskUse {
    DiskUse {
        disk: name.to_string(),
        target: None,
        bus: DiskBus::default(),
        read_only: false,
        boot_order: None,
    }
}

fn nic_on(network: &str, address: String) -> NicSpec {
    NicSpec {
        network: Some(network.to_owned()),
        bridge: None,
        user: false,
        mac: None,
        model: "virtio".to_owned(),
        address: Some(address),
        dhcp_reservation: true,
        boot_order: None,
    }
}

/// Its agent proves that it is up, as all that follows goes through it.
fn answers_within(timeout: Option<&str>) -> ReadinessSpec {
    ReadinessSpec {
        guest_agent: true,
        tcp: None,
        console: None,
        timeout: timeout.unwrap_or(READY_WITHIN).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_first_one() {
        assert_eq!(addresses("10.7.0.254", 3).unwrap(), ["10.7.0.254", "10.7.0.255", "10.7.1.0"]);
        assert_eq!(addresses("fd00::9", 2).unwrap(), ["fd00::9", "fd00::a"]);
        assert!(addresses("255.255.255.255", 2).unwrap_err().contains("not 2 addresses"));
        assert!(addresses("n1", 1).unwrap_err().contains("not an IP address"));
    }
}
