//! Questions about the rest of the world that the arms ask, answered from indexes made when first
//! needed: a plan with nothing to do makes none of them.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::input::{Input, KnownBackup, KnownCluster, KnownResource, window_open};
use super::kind::backup::lies_in;
use super::kind::{Draft, Handed, Verdict};
use super::own::Needed;
use super::{Action, SkipReason, refs};
use crate::model::resource::{
    GpuKernel, GpuMemory, GpuUse, HostDevice, Network, NicSource, Power, VirtualMachine,
};
use crate::model::{Kind, Name, Observation, Observed, Ownership, Resource, ResourceId};
use crate::spec::{Desired, DesiredResource};

/// The world as one pass sees it.
pub(super) struct Facts<'a> {
    input: &'a Input<'a>,
    /// Whether disruptive steps may run now.
    pub(super) window_open: bool,
    /// Files of disks that are made anew in this plan.
    replaced: BTreeSet<String>,
    /// Those disks.
    replacing: BTreeSet<ResourceId>,
    /// What guests have of GPUs after this plan, by layout, where it changes that.
    handed: BTreeMap<ResourceId, Handed>,
    /// What guests lose of GPUs in this plan.
    taken: BTreeSet<HostDevice>,
    /// Networks that are started in this plan.
    starting: BTreeSet<Name>,
    /// Domains that are stopped in this plan, to be started again.
    stopping: BTreeSet<ResourceId>,
    networks: OnceCell<Vec<(&'a ResourceId, &'a Observation, &'a Network)>>,
    domains: OnceCell<Domains<'a>>,
    dependants: OnceCell<HashMap<&'a ResourceId, Vec<&'a ResourceId>>>,
    own: OnceCell<Needed<'a>>,
    owners: OnceCell<HashMap<&'a str, &'a ResourceId>>,
    wishers: OnceCell<HashMap<&'a str, &'a ResourceId>>,
}

/// Observed domains by what they hold.
#[derive(Default)]
struct Domains<'a> {
    /// Running domains by network.
    on_network: HashMap<&'a str, BTreeSet<&'a ResourceId>>,
    /// Running domains, and the target device, by file.
    running_file: HashMap<&'a str, BTreeMap<&'a ResourceId, &'a str>>,
    /// All domains that name a file, in what runs or in their configuration.
    file: HashMap<&'a str, BTreeSet<&'a ResourceId>>,
    /// All domains that are plugged into a network, in what runs or in their configuration.
    network: HashMap<&'a str, BTreeSet<&'a ResourceId>>,
    /// All domains that have a MAC address.
    mac: HashMap<&'a str, BTreeSet<&'a ResourceId>>,
    /// All domains that name a device of the host, in what runs or in their configuration.
    device: HashMap<&'a HostDevice, BTreeSet<&'a ResourceId>>,
    /// Running domains that have a device of the host.
    running_device: HashMap<&'a HostDevice, BTreeSet<&'a ResourceId>>,
    /// Disks by the file below them.
    backed: HashMap<&'a str, BTreeSet<&'a ResourceId>>,
}

impl<'a> Facts<'a> {
    /// Facts of one pass.
    pub(super) fn new(input: &'a Input<'a>) -> Self {
        let windows = &input.desired.sync.windows;
        Self {
            input,
            window_open: window_open(windows, input.now_minute_of_week),
            replaced: BTreeSet::new(),
            replacing: BTreeSet::new(),
            handed: BTreeMap::new(),
            taken: BTreeSet::new(),
            starting: BTreeSet::new(),
            stopping: BTreeSet::new(),
            networks: OnceCell::new(),
            domains: OnceCell::new(),
            dependants: OnceCell::new(),
            own: OnceCell::new(),
            owners: OnceCell::new(),
            wishers: OnceCell::new(),
        }
    }

    /// Remembers what a verdict means for the kinds decided later.
    pub(super) fn note(&mut self, id: &ResourceId, verdict: &Verdict) {
        if let Some(handed) = &verdict.handed {
            self.taken.extend(handed.takes.iter().cloned());
            self.handed.insert(id.clone(), handed.clone());
        }
        for draft in &verdict.drafts {
            match &draft.action {
                Action::DiskDelete { path, .. } => {
                    self.replaced.insert(path.clone());
                    self.replacing.insert(id.clone());
                }
                Action::VmStop { .. } => {
                    self.stopping.insert(id.clone());
                }
                Action::NetworkStart { .. } => {
                    self.starting.insert(id.name.clone());
                }
                _ => {}
            }
        }
    }

    pub(super) fn environment(&self) -> &'a Name {
        &self.input.desired.environment
    }

    pub(super) fn desired(&self) -> &'a Desired {
        self.input.desired
    }

    pub(super) fn observed(&self) -> &'a Observed {
        self.input.observed
    }

    /// Why steps are not done: they would harm a running domain, had nobody seen it.
    pub(super) fn unseen_user(&self, drafts: &[Draft]) -> Option<SkipReason> {
        let harmful = drafts.iter().any(|draft| {
            draft.action.removes()
                || matches!(draft.action, Action::DiskGrow { .. } | Action::NetworkStop)
        });
        let why = self.blind().filter(|_| harmful)?;
        Some(SkipReason::Unobservable(format!("who uses it: {why}")))
    }

    /// Why it is not known who uses what: some domain could not be observed.
    fn blind(&self) -> Option<String> {
        let observed = self.observed();
        let whole = observed.unobservable.get(&Kind::VirtualMachine).cloned();
        let one = || {
            let mut vms = observed.unreadable.iter();
            let (id, why) = vms.find(|(id, _)| id.kind == Kind::VirtualMachine)?;
            Some(format!("{id}: {why}"))
        };
        whole.or_else(one)
    }

    /// Why steps on `id` are not done: they would take away what trueup itself needs.
    pub(super) fn own_need(&self, id: &ResourceId, drafts: &[Draft]) -> Option<SkipReason> {
        let own = self.own.get_or_init(|| Needed::of(self.input));
        let why = drafts.iter().find_map(|draft| own.why_not(id, &draft.action))?;
        Some(SkipReason::OwnNeed(why))
    }

    /// Whether its last proof of being up failed.
    pub(super) fn unready(&self, id: &ResourceId) -> bool {
        self.input.known.resources.get(id).is_some_and(|known| known.unready)
    }

    /// What the log says we made of it.
    pub(super) fn claimed(&self, id: &ResourceId) -> Option<&'a Resource> {
        self.input.known.resources.get(id)?.claimed.as_ref()
    }

    /// What the log remembers of a GPU under this very name.
    pub(super) fn remembered(&self, id: &ResourceId) -> Option<&'a GpuMemory> {
        match self.claimed(id)? {
            Resource::GpuLayout(claimed) => claimed.memory.as_deref(),
            _ => None,
        }
    }

    /// The guests in which a backup has what nothing needs any more.
    pub(super) fn leftovers(&self, id: &ResourceId) -> Option<&'a Vec<String>> {
        self.input.observed.leftovers.get(id)
    }

    /// What the log says about a backup.
    pub(super) fn backup(&self, id: &ResourceId) -> Option<&'a KnownBackup> {
        self.input.known.backups.get(id)
    }

    /// Snapshots inside the disks of a domain that nothing needs any more.
    pub(super) fn over(&self, id: &ResourceId) -> &'a [String] {
        self.input.known.over.get(id).map_or(&[][..], Vec::as_slice)
    }

    /// What the log says about a cluster; `None` where nothing is due.
    pub(super) fn cluster(&self, id: &ResourceId) -> Option<&'a KnownCluster> {
        self.input.known.clusters.get(id)
    }

    /// The folder of trueup's own in which `path` lies.
    pub(super) fn own_folder_around(&self, path: &str) -> Option<&'a str> {
        let folders = self.input.known.own.folders.iter().map(String::as_str);
        folders.into_iter().find(|folder| lies_in(path, folder))
    }

    /// Whether a disk of this domain is made anew in this plan.
    pub(super) fn loses_a_disk(&self, vm: &VirtualMachine) -> bool {
        !self.replaced.is_empty()
            && vm
                .disks
                .iter()
                .filter_map(|disk| disk.path.as_deref())
                .any(|path| self.replaced.contains(path))
    }

    /// Whether this disk is made anew in this plan.
    pub(super) fn is_replaced(&self, disk: &ResourceId) -> bool {
        self.replacing.contains(disk)
    }

    /// Whether this plan starts the network of that name.
    pub(super) fn network_starts(&self, name: &str) -> bool {
        self.starting.iter().any(|starting| starting.as_str() == name)
    }

    /// Whether this plan stops a domain that stays.
    pub(super) fn stops(&self, vm: &ResourceId) -> bool {
        self.stopping.contains(vm)
    }

    /// Running domains on a network, ours or not.
    pub(super) fn running_on(&self, network: &Name) -> impl Iterator<Item = &'a ResourceId> {
        let found = self.domains().on_network.get(network.as_str());
        found.into_iter().flatten().copied()
    }

    /// Running domains that have a file open.
    pub(super) fn running_with_file(&self, path: &str) -> impl Iterator<Item = &'a ResourceId> {
        let found = self.domains().running_file.get(path);
        found.into_iter().flat_map(|vms| vms.keys()).copied()
    }

    /// A running domain that has a disk, and the target device it has there.
    pub(super) fn live_target(&self, path: &str) -> Option<(Name, String)> {
        let found = self.domains().running_file.get(path)?.iter().next();
        found.map(|(vm, target)| (vm.name.clone(), (*target).to_owned()))
    }

    /// Every domain and disk that needs a file, ours or not, running or not.
    pub(super) fn users_of_file(&self, path: &str) -> BTreeSet<&'a ResourceId> {
        let domains = self.domains();
        let found = [domains.file.get(path), domains.backed.get(path)];
        found.into_iter().flatten().flatten().copied().collect()
    }

    /// Every domain that is plugged into a network, ours or not, running or not.
    pub(super) fn users_of_network(&self, name: &Name) -> BTreeSet<&'a ResourceId> {
        let found = self.domains().network.get(name.as_str());
        found.into_iter().flatten().copied().collect()
    }

    /// Every domain with this MAC address.
    pub(super) fn holders_of_mac(&self, mac: &str) -> BTreeSet<&'a ResourceId> {
        self.domains().mac.get(mac).into_iter().flatten().copied().collect()
    }

    /// Every domain that names one of these devices, ours or not, running or not.
    pub(super) fn users_of_devices(&self, devices: &[HostDevice]) -> BTreeSet<&'a ResourceId> {
        let index = &self.domains().device;
        devices.iter().filter_map(|device| index.get(device)).flatten().copied().collect()
    }

    /// Every running domain that has one of these devices, ours or not.
    pub(super) fn running_with_devices(&self, devices: &[HostDevice]) -> BTreeSet<&'a ResourceId> {
        let index = &self.domains().running_device;
        devices.iter().filter_map(|device| index.get(device)).flatten().copied().collect()
    }

    /// What the kernel's files say of the GPU of a layout.
    pub(super) fn gpu_kernel(&self, layout: &ResourceId) -> Option<&'a GpuKernel> {
        match &self.observed().resources.get(layout)?.config {
            Resource::GpuLayout(layout) => layout.kernel.as_deref(),
            _ => None,
        }
    }

    /// What a guest gets of the host for one of its GPUs; `None`: that is not known (yet).
    pub(super) fn gpu_devices(&self, gpu: &GpuUse) -> Option<Vec<HostDevice>> {
        let id = ResourceId::new(Kind::GpuLayout, gpu.layout.clone());
        let planned = self.handed.get(&id);
        let Some(name) = &gpu.partition else {
            // What guests do not have yet is none of theirs to start with.
            let given = || Some(self.gpu_kernel(&id).filter(|it| it.is_given())?.devices());
            return planned
                .map(|it| it.whole.clone())
                .map_or_else(given, Some)
                .filter(|it| !it.is_empty());
        };
        if let Some(planned) = planned {
            return planned.gives.get(name).map(|device| vec![device.clone()]);
        }
        let Resource::GpuLayout(layout) = &self.observed().resources.get(&id)?.config else {
            return None;
        };
        let share = layout.memory.as_ref()?.share.as_ref()?;
        let mut standing = share.standing(&layout.kernel.as_ref()?.host);
        standing.find(|it| it.name == *name).map(|it| vec![it.device()])
    }

    /// Whether this plan removes a vGPU that a domain has.
    pub(super) fn loses_a_gpu(&self, vm: &VirtualMachine) -> bool {
        vm.devices().into_iter().any(|device| self.taken.contains(device))
    }

    /// The same domain with what its GPUs are on this host.
    ///
    /// # Errors
    /// The layout of which that is not known.
    pub(super) fn with_gpus<'v>(
        &self,
        vm: &'v VirtualMachine,
    ) -> Result<Cow<'v, VirtualMachine>, ResourceId> {
        if vm.gpus.is_empty() {
            return Ok(Cow::Borrowed(vm));
        }
        let mut vm = vm.clone();
        for gpu in &mut vm.gpus {
            let devices = self.gpu_devices(gpu);
            gpu.devices =
                devices.ok_or_else(|| ResourceId::new(Kind::GpuLayout, gpu.layout.clone()))?;
        }
        Ok(Cow::Owned(vm))
    }

    /// Every observed network, ours or not.
    pub(super) fn networks(&self) -> &[(&'a ResourceId, &'a Observation, &'a Network)] {
        self.networks.get_or_init(|| {
            let all = self.observed().resources.iter();
            all.filter_map(|(id, seen)| match &seen.config {
                Resource::Network(network) => Some((id, seen, network)),
                _ => None,
            })
            .collect()
        })
    }

    /// A running domain and everything running that depends on it.
    pub(super) fn interrupted_with(&self, vm: &ResourceId) -> BTreeSet<ResourceId> {
        let dependants = self.dependants.get_or_init(|| {
            let mut index: HashMap<_, Vec<_>> = HashMap::new();
            for (id, wish) in &self.desired().resources {
                for on in &wish.depends_on {
                    index.entry(on).or_default().push(id);
                }
            }
            index
        });
        let mut found = BTreeSet::from([vm.clone()]);
        let mut open = vec![vm];
        while let Some(id) = open.pop() {
            for &next in dependants.get(id).into_iter().flatten() {
                let seen = self.observed().resources.get(next);
                let runs = next.kind == Kind::VirtualMachine && seen.is_some_and(|it| it.active);
                if runs && found.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        found
    }

    /// The desired resource that a file belongs to.
    pub(super) fn owner_of_file(&self, path: &str) -> Option<&'a ResourceId> {
        let owners = self.owners.get_or_init(|| {
            let mut index = HashMap::new();
            for (id, wish) in &self.desired().resources {
                index.extend(refs::own_files(&wish.resource).into_iter().map(|path| (path, id)));
            }
            index
        });
        owners.get(path).copied()
    }

    /// A desired resource that needs a file of another one.
    pub(super) fn wishes_file(&self, path: &str) -> Option<&'a ResourceId> {
        let wishers = self.wishers.get_or_init(|| {
            let mut index = HashMap::new();
            for (id, wish) in &self.desired().resources {
                index.extend(refs::used_files(&wish.resource).into_iter().map(|path| (path, id)));
            }
            index
        });
        wishers.get(path).copied()
    }

    /// Everything a resource needs: what it says, and what its own fields name.
    pub(super) fn needs(&self, id: &ResourceId, wish: &DesiredResource) -> BTreeSet<ResourceId> {
        let files = refs::used_files(&wish.resource);
        let owners = files.into_iter().filter_map(|path| self.owner_of_file(path).cloned());
        let mut all: BTreeSet<ResourceId> = wish.depends_on.iter().cloned().collect();
        all.extend(owners);
        all.extend(refs::named(&wish.resource));
        all.remove(id);
        all
    }

    /// Whether an observed object is ours, by its mark or, where it can carry none, by the log.
    pub(super) fn ours(&self, id: &ResourceId, seen: &Observation) -> bool {
        self.ours_by(seen, || self.input.known.resources.get(id))
    }

    /// Whether an observed object of this id is ours.
    pub(super) fn ours_now(&self, id: &ResourceId) -> bool {
        let seen = self.observed().resources.get(id);
        seen.is_some_and(|seen| self.ours(id, seen))
    }

    /// Whether something of this id is there and is not ours.
    pub(super) fn foreign(&self, id: &ResourceId) -> bool {
        self.observed().resources.get(id).is_some_and(|seen| !self.ours(id, seen))
    }

    /// As [`Self::ours`], where the log's record is at hand.
    pub(super) fn ours_by<'k>(
        &self,
        seen: &Observation,
        known: impl FnOnce() -> Option<&'k KnownResource>,
    ) -> bool {
        match &seen.ownership {
            Ownership::Ours { environment } => environment == self.environment(),
            Ownership::Other { .. } | Ownership::Foreign => false,
            Ownership::Unmarked => match (&seen.config, known()) {
                (_, None) => false,
                (Resource::Disk(disk), Some(known)) => match &known.claimed {
                    Some(Resource::Disk(ours)) => disk.path == ours.path,
                    _ => true,
                },
                // In another place than ours is: somebody's, whatever is claimed elsewhere.
                (Resource::Backup(backup), Some(known)) => match &known.claimed {
                    Some(Resource::Backup(ours)) => backup.repository == ours.repository,
                    _ => true,
                },
                (_, Some(_)) => true,
            },
        }
    }

    /// Whether what is there can serve those that depend on it, just as it is.
    ///
    /// A foreign network or pool serves; a foreign file does not, because nobody verified it and a
    /// guest would write to it.
    pub(super) fn usable(&self, id: &ResourceId) -> bool {
        let Some(seen) = self.observed().resources.get(id) else {
            return false;
        };
        let wish = self.desired().resources.get(id).map(|wish| &wish.resource);
        match (&seen.config, wish) {
            (Resource::StoragePool(_) | Resource::Network(_), _) => seen.active,
            (Resource::Image(seen_image), Some(Resource::Image(image))) => {
                seen_image.path == image.path && self.ours(id, seen)
            }
            (Resource::Seed(seen_seed), Some(Resource::Seed(seed))) => {
                seen_seed.path == seed.path && self.ours(id, seen)
            }
            (Resource::Disk(disk), Some(Resource::Disk(wish))) => {
                disk.path == wish.path && self.ours(id, seen)
            }
            (Resource::Disk(_), _) => self.ours(id, seen),
            (Resource::GpuLayout(seen_layout), Some(Resource::GpuLayout(wish))) => {
                let parts =
                    |name: &String| seen_layout.partitions.iter().any(|it| it.name == *name);
                let vgpus = |name: &String| seen_layout.vgpus.iter().any(|it| it.name == *name);
                seen_layout.mode == wish.mode
                    && wish.partitions.iter().all(|it| parts(&it.name))
                    && wish.vgpus.iter().all(|it| vgpus(&it.name))
                    && self.ours(id, seen)
            }
            (Resource::VirtualMachine(vm), Some(Resource::VirtualMachine(wish))) => {
                let power = if seen.active { vm.power } else { Power::Off };
                power == wish.power && !self.unready(id)
            }
            _ => true,
        }
    }

    fn domains(&self) -> &Domains<'a> {
        self.domains.get_or_init(|| {
            let mut index = Domains::default();
            for (id, seen) in &self.observed().resources {
                index.add(id, seen);
            }
            index
        })
    }
}

impl<'a> Domains<'a> {
    fn add(&mut self, id: &'a ResourceId, seen: &'a Observation) {
        match &seen.config {
            Resource::Disk(disk) => {
                if let Some(below) = &disk.backing {
                    self.backed.entry(&below.path).or_default().insert(id);
                }
            }
            Resource::VirtualMachine(config) => {
                let live = match &seen.live {
                    Some(Resource::VirtualMachine(live)) => live,
                    _ => config,
                };
                self.add_form(id, config);
                if seen.active {
                    self.add_form(id, live);
                    self.add_running(id, live);
                }
            }
            Resource::StoragePool(_)
            | Resource::Network(_)
            | Resource::Image(_)
            | Resource::GpuLayout(_)
            | Resource::Backup(_)
            | Resource::Cluster(_)
            | Resource::Release(_)
            | Resource::Seed(_) => {}
        }
    }

    fn add_form(&mut self, id: &'a ResourceId, vm: &'a VirtualMachine) {
        for path in refs::vm_files(vm) {
            self.file.entry(path).or_default().insert(id);
        }
        for device in vm.devices() {
            self.device.entry(device).or_default().insert(id);
        }
        for nic in &vm.nics {
            self.mac.entry(&nic.mac).or_default().insert(id);
            if let NicSource::Network(name) = &nic.source {
                self.network.entry(name).or_default().insert(id);
            }
        }
    }

    fn add_running(&mut self, id: &'a ResourceId, vm: &'a VirtualMachine) {
        for device in vm.devices() {
            self.running_device.entry(device).or_default().insert(id);
        }
        for disk in &vm.disks {
            if let Some(path) = &disk.path {
                self.running_file.entry(path).or_default().insert(id, &disk.target);
            }
        }
        for nic in &vm.nics {
            if let NicSource::Network(name) = &nic.source {
                self.on_network.entry(name).or_default().insert(id);
            }
        }
    }
}
