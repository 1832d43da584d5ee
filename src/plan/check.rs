//! The second judge: does a plan keep the promises, whoever made it?
//!
//! It shares no code with the planner, so that one mistake would have to be made twice. It judges
//! what must never happen, not whether the plan is the best one.

mod backup;
mod cluster;
mod gpu;
mod own;
mod release;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Action, Disruption, Input, Plan, Reason, Step};
use crate::model::resource::{Boot, NicSource, OnImageChange, Power, VirtualMachine};
use crate::model::{Kind, Observation, Ownership, Resource, ResourceId};

/// A promise that a plan breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step {step} ({resource}): {rule}")]
pub struct Violation {
    /// The step, from 0.
    pub step: usize,
    /// What it acts on.
    pub resource: ResourceId,
    /// What it breaks.
    pub rule: String,
}

/// Judges a plan against the input it was made from.
///
/// # Errors
/// Every violation found.
pub fn check(plan: &Plan, input: &Input<'_>) -> Result<(), Vec<Violation>> {
    let mut judge = Judge::new(plan, input);
    for (at, step) in plan.steps.iter().enumerate() {
        judge.order(at, step);
        judge.mandate(at, step);
        judge.destruction(at, step);
        judge.needs(at, step);
        judge.ends(at, step);
        judge.disturbance(at, step);
    }
    judge.paths();
    judge.restarts();
    judge.gpus();
    judge.backups();
    judge.clusters();
    judge.releases();
    if judge.found.is_empty() { Ok(()) } else { Err(judge.found) }
}

/// What the judge knows.
struct Judge<'a> {
    plan: &'a Plan,
    input: &'a Input<'a>,
    found: Vec<Violation>,
    /// Steps of each resource, in order.
    steps_of: HashMap<&'a ResourceId, Vec<usize>>,
    /// The step that makes a file.
    made: HashMap<&'a str, usize>,
    /// Files that desired resources are or need.
    wished: BTreeMap<&'a str, &'a ResourceId>,
    /// Observed domains by file and by network, in their configuration or running.
    holders: HashMap<&'a str, BTreeSet<&'a ResourceId>>,
    plugged: HashMap<&'a str, BTreeSet<&'a ResourceId>>,
    /// Observed disks by the file below them.
    above: HashMap<&'a str, BTreeSet<&'a ResourceId>>,
}

/// The files and networks a domain names.
fn of_vm(vm: &VirtualMachine) -> (Vec<&str>, Vec<&str>) {
    let mut files: Vec<&str> = vm.disks.iter().filter_map(|it| it.path.as_deref()).collect();
    if let Boot::Kernel { kernel, initrd, .. } = &vm.boot {
        files.push(kernel);
        files.extend(initrd.as_deref());
    }
    let networks = vm.nics.iter().filter_map(|nic| match &nic.source {
        NicSource::Network(name) => Some(name.as_str()),
        NicSource::Bridge(_) | NicSource::User | NicSource::Other(_) => None,
    });
    (files, networks.collect())
}

/// The files a resource is, and the files it needs.
fn of_resource(resource: &Resource) -> (Vec<&str>, Vec<&str>) {
    match resource {
        Resource::Disk(disk) => {
            (vec![&disk.path], disk.backing.iter().map(|it| it.path.as_str()).collect())
        }
        Resource::Seed(seed) => (vec![&seed.path], Vec::new()),
        Resource::Image(image) => {
            let mut files = vec![image.path.as_str()];
            if let Some(boot) = &image.boot_files {
                files.extend([boot.kernel.as_str(), boot.initrd.as_str()]);
            }
            (files, Vec::new())
        }
        Resource::VirtualMachine(vm) => (Vec::new(), of_vm(vm).0),
        Resource::Network(_)
        | Resource::StoragePool(_)
        | Resource::Backup(_)
        | Resource::Cluster(_)
        | Resource::Release(_)
        | Resource::GpuLayout(_) => (Vec::new(), Vec::new()),
    }
}

impl<'a> Judge<'a> {
    fn new(plan: &'a Plan, input: &'a Input<'a>) -> Self {
        let mut judge = Self {
            plan,
            input,
            found: Vec::new(),
            steps_of: HashMap::new(),
            made: HashMap::new(),
            wished: BTreeMap::new(),
            holders: HashMap::new(),
            plugged: HashMap::new(),
            above: HashMap::new(),
        };
        if plan.steps.is_empty() {
            return judge;
        }
        for (at, step) in plan.steps.iter().enumerate() {
            judge.steps_of.entry(&step.resource).or_default().push(at);
            for path in creates(&step.action) {
                judge.made.insert(path, at);
            }
        }
        for (id, wish) in &input.desired.resources {
            let (own, used) = of_resource(&wish.resource);
            judge.wished.extend(own.into_iter().chain(used).map(|path| (path, id)));
        }
        for (id, seen) in &input.observed.resources {
            for form in std::iter::once(&seen.config).chain(&seen.live) {
                match form {
                    Resource::VirtualMachine(vm) => {
                        let (files, networks) = of_vm(vm);
                        for file in files {
                            judge.holders.entry(file).or_default().insert(id);
                        }
                        for network in networks {
                            judge.plugged.entry(network).or_default().insert(id);
                        }
                    }
                    Resource::Disk(disk) => {
                        if let Some(below) = &disk.backing {
                            judge.above.entry(&below.path).or_default().insert(id);
                        }
                    }
                    _ => {}
                }
            }
        }
        judge
    }

    fn blame(&mut self, step: usize, rule: impl Into<String>) {
        self.found.push(Violation {
            step,
            resource: self.plan.steps[step].resource.clone(),
            rule: rule.into(),
        });
    }

    fn seen(&self, id: &ResourceId) -> Option<&'a Observation> {
        self.input.observed.resources.get(id)
    }

    /// Whether `earlier` has surely ended when `later` starts.
    fn precedes(&self, earlier: usize, later: usize) -> bool {
        let mut open = vec![later];
        let mut been = BTreeSet::new();
        while let Some(at) = open.pop() {
            for &before in &self.plan.steps[at].after {
                if before == earlier {
                    return true;
                }
                if before > earlier && before < at && been.insert(before) {
                    open.push(before);
                }
            }
        }
        false
    }

    /// Whether a step of `id` that `wanted` surely precedes `later`.
    fn before(&self, later: usize, id: &ResourceId, wanted: impl Fn(&Action) -> bool) -> bool {
        let steps = self.steps_of.get(id).into_iter().flatten();
        steps.copied().any(|at| wanted(&self.plan.steps[at].action) && self.precedes(at, later))
    }

    /// `after` points backwards, and the steps of one resource follow each other.
    fn order(&mut self, at: usize, step: &Step) {
        if step.after.iter().any(|&before| before >= at) {
            self.blame(at, "waits for a step that does not come before it");
        }
    }

    /// Only what is ours, seen and not held is touched.
    fn mandate(&mut self, at: usize, step: &Step) {
        let id = &step.resource;
        // It is about guests: what is unseen is the repository.
        let clears = matches!(step.action, Action::BackupClear { .. });
        if self.input.observed.why_unobservable(id).is_some() && !clears {
            self.blame(at, "touches what could not be observed");
        }
        if self.input.known.suspended.contains_key(id) {
            self.blame(at, "touches what is held or backing off");
        }
        if own::saws_off(self.input, step) {
            self.blame(at, "stops or removes what trueup itself needs");
        }
        let unseen = &self.input.observed;
        let whole = unseen.unobservable.keys().copied();
        let single = unseen.unreadable.keys().map(|it| it.kind);
        let harmful = step.action.removes()
            || matches!(step.action, Action::DiskGrow { .. } | Action::NetworkStop);
        if harmful && whole.chain(single).any(|kind| kind == Kind::VirtualMachine) {
            self.blame(at, "may harm a domain that could not be observed");
        }
        let known = self.input.known.resources.get(id);
        let ours = self.seen(id).is_none_or(|seen| match &seen.ownership {
            Ownership::Ours { environment } => *environment == self.input.desired.environment,
            Ownership::Unmarked => known.is_some(),
            Ownership::Other { .. } | Ownership::Foreign => false,
        });
        let wish = self.input.desired.resources.get(id);
        // Another environment's things are taken over by the environment's word alone.
        let (others, formerly) = match self.seen(id).map(|seen| &seen.ownership) {
            Some(Ownership::Other { environment }) => {
                (true, self.input.desired.sync.renamed.formerly.contains(environment))
            }
            _ => (false, false),
        };
        let takeover =
            |it: &Resource| matches!(it, Resource::GpuLayout(it) if it.takeover == Some(true));
        let may_adopt = wish
            .is_some_and(|it| (it.lifecycle.adopt || takeover(&it.resource)) && !others)
            || formerly;
        let adopted = step.reason == Reason::Adopted
            && (may_adopt || wish.is_some_and(|it| self.renamed(&it.resource)));
        let claimed = step.action.removes()
            && known.and_then(|it| it.claimed.as_ref()).is_some_and(|claimed| {
                let (own, _) = of_resource(claimed);
                own.iter().any(|path| deletes(&step.action) == Some(path))
            });
        let stale = self
            .input
            .observed
            .stale
            .iter()
            .any(|it| it.resource == *id && Some(it.path.as_str()) == deletes(&step.action));
        let chained = self.steps_of.get(id).is_some_and(|steps| {
            steps.iter().any(|&first| self.plan.steps[first].reason == Reason::Adopted)
        });
        if !(ours || adopted || claimed || stale || (chained && may_adopt)) {
            self.blame(at, "touches what is not ours");
        }
        // What people were given by a document that is gone is taken back, and destroys nothing.
        let takes = matches!(step.action, Action::KubernetesAccess { .. });
        if wish.is_none() && step.reason != Reason::Gone && !takes {
            self.blame(at, "acts on what the commit does not name");
        }
    }

    /// Whether the log has this file under a name that the commit no longer has.
    fn renamed(&self, resource: &Resource) -> bool {
        let Resource::Disk(disk) = resource else {
            return false;
        };
        self.input.known.resources.iter().any(|(id, known)| {
            !self.input.desired.resources.contains_key(id)
                && matches!(&known.claimed, Some(Resource::Disk(old)) if old.path == disk.path)
        })
    }

    /// Nothing is lost that the commit keeps, protects, or was not read whole for.
    fn destruction(&mut self, at: usize, step: &Step) {
        if !step.action.removes() {
            return;
        }
        let id = &step.resource;
        let wish = self.input.desired.resources.get(id);
        let known = self.input.known.resources.get(id);
        let replaced = matches!((&step.action, wish.map(|it| &it.resource)),
            (Action::DiskDelete { .. }, Some(Resource::Disk(disk)))
                if disk.on_image_change == Some(OnImageChange::Replace));
        if replaced {
            let again = self.steps_of[id].iter().any(|&later| {
                matches!(self.plan.steps[later].action, Action::DiskCreate { .. })
                    && self.precedes(at, later)
            });
            if !again {
                self.blame(at, "deletes a disk without making it anew");
            }
            if wish.is_some_and(|it| it.lifecycle.prevent_destroy) {
                self.blame(at, "replaces what preventDestroy protects");
            }
            return;
        }
        if !self.input.guards.prune || !self.input.desired.sync.prune {
            self.blame(at, "removes while pruning is off");
        }
        let leftover =
            matches!(step.action, Action::ImageDelete { .. } | Action::SeedDelete { .. });
        if wish.is_some() && !leftover {
            self.blame(at, "removes what the commit asks for");
        }
        if wish.is_none() && known.is_some_and(|it| it.prevent_destroy || it.orphan) {
            self.blame(at, "removes what is protected or orphaned");
        }
        if let Some(owner) = deletes(&step.action).and_then(|path| self.wished.get(path)) {
            self.blame(at, format!("deletes a file that {owner} asks for"));
        }
    }

    /// Everything a step needs is there, or made before.
    fn needs(&mut self, at: usize, step: &Step) {
        let files: Vec<&str> = match &step.action {
            Action::DiskCreate { disk } => disk.backing.iter().map(|it| &*it.path).collect(),
            Action::VmStart => {
                let wish = self.input.desired.resources.get(&step.resource);
                wish.map(|it| of_resource(&it.resource).1).unwrap_or_default()
            }
            _ => return,
        };
        for path in files {
            if self.made.get(path).is_some_and(|&maker| !self.precedes(maker, at)) {
                self.blame(at, format!("does not wait for {path} to be made"));
            }
        }
        let wish = self.input.desired.resources.get(&step.resource);
        let Some(Resource::VirtualMachine(vm)) = wish.map(|it| &it.resource) else {
            return;
        };
        for gpu in vm.gpus.iter().filter(|_| matches!(step.action, Action::VmStart)) {
            let layout = ResourceId::new(Kind::GpuLayout, gpu.layout.clone());
            let steps = self.steps_of.get(&layout).cloned().unwrap_or_default();
            if steps.iter().any(|&other| !self.precedes(other, at)) {
                self.blame(at, format!("starts before {layout} is as it should be"));
            }
        }
        for network in vm.networks() {
            let network = ResourceId::new(Kind::Network, network);
            let runs = self.seen(&network).is_some_and(|seen| seen.active);
            let starts = |action: &Action| matches!(action, Action::NetworkStart { .. });
            let planned = self.steps_of.get(&network).is_some_and(|steps| {
                steps.iter().any(|&other| starts(&self.plan.steps[other].action))
            });
            if (planned || !runs) && !self.before(at, &network, starts) {
                self.blame(at, format!("starts before {network} does"));
            }
        }
    }

    /// What is removed is no longer used, and stopped before.
    fn ends(&mut self, at: usize, step: &Step) {
        let active = self.seen(&step.resource).is_some_and(|seen| seen.active);
        let stopped = match &step.action {
            Action::VmUndefine if active => {
                self.before(at, &step.resource, |it| matches!(it, Action::VmStop { .. }))
            }
            Action::NetworkUndefine if active => {
                self.before(at, &step.resource, |it| matches!(it, Action::NetworkStop))
            }
            _ => true,
        };
        if !stopped {
            self.blame(at, "undefines what still runs");
        }
        let Some(path) = deletes(&step.action) else {
            return;
        };
        let lets_go = |action: &Action| {
            matches!(
                action,
                Action::VmUndefine
                    | Action::VmDefine { .. }
                    | Action::VmUpdateLive { .. }
                    | Action::VmStop { .. }
                    | Action::DiskDelete { .. }
            )
        };
        let users = [self.holders.get(path), self.above.get(path)];
        let users: Vec<&ResourceId> = users.into_iter().flatten().flatten().copied().collect();
        for user in users {
            let replaced = step.disruption == Disruption::Replace;
            let idle = self.seen(user).is_some_and(|seen| !seen.active);
            let kept = replaced && idle;
            if *user != step.resource && !kept && !self.before(at, user, lets_go) {
                self.blame(at, format!("deletes a file that {user} still uses"));
            }
        }
    }

    /// A step says how much it disturbs, and whom.
    fn disturbance(&mut self, at: usize, step: &Step) {
        let active = self.seen(&step.resource).is_some_and(|seen| seen.active);
        let least = match &step.action {
            Action::VmStop { .. } | Action::NetworkStop if active => Disruption::Restart,
            Action::VmUndefine | Action::NetworkUndefine => Disruption::Destroy,
            Action::GpuDestroyCompute { .. }
            | Action::GpuDestroyInstance { .. }
            | Action::GpuMigMode { .. }
            | Action::GpuStopClients { .. } => Disruption::Restart,
            Action::GpuHandover { step, .. } if takes(step) => Disruption::Restart,
            Action::DiskDelete { .. } => Disruption::Replace,
            Action::Release { step, .. } if deletes_object(step) => Disruption::Replace,
            _ => Disruption::None,
        };
        if step.disruption < least {
            self.blame(at, "disturbs more than it says");
        }
        if step.disruption >= Disruption::Restart && !step.interrupts.contains(&step.resource) {
            self.blame(at, "does not say that it interrupts its own resource");
        }
        if matches!(step.action, Action::NetworkStop) && active {
            let plugged = self.plugged.get(step.resource.name.as_str());
            let plugged: Vec<&ResourceId> = plugged.into_iter().flatten().copied().collect();
            for vm in plugged {
                let runs = self.seen(vm).is_some_and(|seen| {
                    let live = seen.live.as_ref().unwrap_or(&seen.config);
                    seen.active
                        && matches!(live, Resource::VirtualMachine(live)
                        if of_vm(live).1.contains(&step.resource.name.as_str()))
                });
                let left = self.before(at, vm, |_| true);
                if runs && !left && !step.interrupts.contains(vm) {
                    self.blame(at, format!("interrupts {vm} without saying so"));
                }
            }
        }
    }

    /// No file is written by two steps, but for one that is deleted and made anew.
    fn paths(&mut self) {
        let mut made: HashMap<&str, usize> = HashMap::new();
        let mut deleted: HashMap<&str, usize> = HashMap::new();
        let plan = self.plan;
        for (at, step) in plan.steps.iter().enumerate() {
            for path in creates(&step.action) {
                if made.insert(path, at).is_some() {
                    self.blame(at, format!("{path} is made twice"));
                }
            }
            if let Some(path) = deletes(&step.action)
                && deleted.insert(path, at).is_some()
            {
                self.blame(at, format!("{path} is deleted twice"));
            }
        }
        for (path, first) in deleted {
            if let Some(&then) = made.get(path)
                && !self.precedes(first, then)
            {
                self.blame(then, format!("{path} is made before it is deleted"));
            }
        }
    }

    /// What is stopped and shall run runs again, and is never stopped without a need. A domain that
    /// loses its GPU starts with the pass in which it has another one.
    fn restarts(&mut self) {
        let plan = self.plan;
        for (at, step) in plan.steps.iter().enumerate() {
            let Some(wish) = self.input.desired.resources.get(&step.resource) else {
                continue;
            };
            let (again, stop): (fn(&Action) -> bool, bool) = match (&step.action, &wish.resource) {
                (Action::VmStop { .. }, Resource::VirtualMachine(vm)) => {
                    (|it| matches!(it, Action::VmStart), vm.power != Power::Off)
                }
                (Action::NetworkStop, _) => (|it| matches!(it, Action::NetworkStart { .. }), true),
                _ => continue,
            };
            let steps = self.steps_of[&step.resource].clone();
            let restarted = steps
                .iter()
                .any(|&later| again(&plan.steps[later].action) && self.precedes(at, later));
            let taken = (at + 1..plan.steps.len())
                .chain(0..at)
                .any(|later| self.gpu_taken(later, &step.resource) && self.precedes(at, later));
            if stop && !restarted && !taken {
                self.blame(at, "stops what shall run and does not start it again");
            }
            let replaced = plan.steps.iter().enumerate().any(|(later, other)| {
                other.disruption == Disruption::Replace && self.precedes(at, later)
            });
            if step.changes.is_empty() && !replaced && !taken {
                self.blame(at, "stops without a need");
            }
        }
    }
}

/// Whether a step takes a PCI function from the driver that has it, or removes a vGPU.
fn takes(step: &trueup_gpu_sysfs::Step) -> bool {
    use trueup_gpu_sysfs::Action as Does;
    let Does::Write { path, value } = &step.action else { return false };
    path.ends_with("/unbind")
        || (path.contains("/mdev/devices/") && path.ends_with("/remove"))
        || (path.ends_with("/current_vgpu_type") && value == "0")
}

/// Whether a step of a release removes something.
fn deletes_object(step: &trueup_kubernetes::release::Step) -> bool {
    matches!(step, trueup_kubernetes::release::Step::Delete { .. })
}

/// The files a step makes.
fn creates(action: &Action) -> Vec<&str> {
    match action {
        Action::ImageCreate { image } => {
            let boot = image.boot_files.iter();
            let boot = boot.flat_map(|it| [it.kernel.as_str(), it.initrd.as_str()]);
            std::iter::once(image.path.as_str()).chain(boot).collect()
        }
        Action::DiskCreate { disk } => vec![&disk.path],
        Action::SeedCreate { seed } => vec![&seed.path],
        _ => Vec::new(),
    }
}

/// The file a step deletes.
fn deletes(action: &Action) -> Option<&str> {
    match action {
        Action::ImageDelete { path }
        | Action::SeedDelete { path }
        | Action::DiskDelete { path, .. } => Some(path),
        _ => None,
    }
}
