//! A machine in memory, stricter than a real one: it refuses whatever a real one might forgive.
//!
//! The effect of an action comes from `plan::simulate`; here is what must hold before it, what can
//! go wrong, and what a person can do to the machine behind trueup's back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trueup::model::backup::{
    BackupForgotten, BackupNews, BackupOpened, BackupTaken, BackupVerified,
};
use trueup::model::resource::{Accelerator, NicSource, Power};
use trueup::model::{Fault, HostFacts, Kind, Name, Observed, Ownership, Resource, ResourceId};
use trueup::plan::{Action, Disruption, Step, simulate};
use trueup::port::{BoxFuture, Outcome, Progress, Provider, Scope};

/// What goes wrong with the next matching step.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// It fails and nothing happens.
    Fail(Fault),
    /// It fails, and happened all the same.
    FailAfter(Fault),
    /// It says that it succeeded, and nothing happened.
    Lie,
    /// It panics.
    Panic,
    /// It takes this long, and then does what it should.
    Slow(Duration),
}

/// A machine in memory.
pub(crate) struct FakeHost {
    environment: Name,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    machine: Observed,
    down: Option<String>,
    hang: bool,
    troubles: BTreeMap<(ResourceId, String), VecDeque<Trouble>>,
    effects: Vec<String>,
    undo: BTreeMap<ResourceId, usize>,
    pace: Option<Duration>,
    /// How many snapshots were taken, and what they are the way back for.
    taken: u64,
    saved: BTreeSet<ResourceId>,
}

impl FakeHost {
    pub(crate) fn new(environment: Name) -> Self {
        let mut inner = Inner::default();
        inner.machine.host =
            HostFacts { accelerator: Some(Accelerator::Tcg), ..HostFacts::default() };
        Self { environment, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A provider that panics, as a scenario asks, must not take the machine with it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the machine is now.
    pub(crate) fn machine(&self) -> Observed {
        self.lock().machine.clone()
    }

    /// Every effect so far, `verb resource`, in order.
    pub(crate) fn effects(&self) -> Vec<String> {
        self.lock().effects.clone()
    }

    pub(crate) fn set_down(&self, why: Option<&str>) {
        self.lock().down = why.map(str::to_owned);
    }

    /// What a probe at the start would show from now on.
    pub(crate) fn set_kvm(&self, works: bool) {
        let best = if works { Accelerator::Kvm } else { Accelerator::Tcg };
        self.lock().machine.host.accelerator = Some(best);
    }

    pub(crate) fn set_hang(&self, hang: bool) {
        self.lock().hang = hang;
    }

    pub(crate) fn trouble(&self, id: &ResourceId, verb: &str, trouble: Trouble) {
        let mut inner = self.lock();
        inner.troubles.entry((id.clone(), verb.to_owned())).or_default().push_back(trouble);
    }

    /// Every step takes this long from now on.
    pub(crate) fn set_pace(&self, pace: Duration) {
        self.lock().pace = Some(pace);
    }

    /// Something else undoes every change to this resource's autostart, `times` times.
    pub(crate) fn undo(&self, id: &ResourceId, times: usize) {
        self.lock().undo.insert(id.clone(), times);
    }

    /// Changes the machine behind trueup's back.
    pub(crate) fn by_hand(&self, change: impl FnOnce(&mut Observed)) {
        change(&mut self.lock().machine);
    }

    /// `virsh destroy`, `virsh net-destroy`, `virsh pool-destroy`.
    pub(crate) fn stop(&self, id: &ResourceId) {
        self.by_hand(|machine| {
            let seen = machine.resources.get_mut(id).unwrap_or_else(|| panic!("no {id}"));
            seen.active = false;
            seen.live = None;
            if let Resource::VirtualMachine(vm) = &mut seen.config {
                vm.power = Power::Off;
            }
        });
    }

    /// `virsh start`.
    pub(crate) fn start(&self, id: &ResourceId) {
        self.by_hand(|machine| {
            let seen = machine.resources.get_mut(id).unwrap_or_else(|| panic!("no {id}"));
            seen.active = true;
            seen.live = Some(seen.config.clone());
        });
    }

    /// Removes it by hand.
    pub(crate) fn remove(&self, id: &ResourceId) {
        self.by_hand(|machine| {
            assert!(machine.resources.remove(id).is_some(), "no {id}");
        });
    }

    /// Copies a resource of ours as a foreign one of another name (or the same, when it is gone).
    pub(crate) fn make_foreign(&self, id: &ResourceId) {
        self.by_hand(|machine| {
            let seen = machine.resources.get_mut(id).unwrap_or_else(|| panic!("no {id}"));
            seen.ownership = match id.kind {
                Kind::Network | Kind::VirtualMachine | Kind::StoragePool => Ownership::Foreign,
                Kind::Image
                | Kind::Disk
                | Kind::Seed
                | Kind::GpuLayout
                | Kind::Backup
                | Kind::Cluster
                | Kind::Release => Ownership::Unmarked,
            };
        });
    }

    /// Marks an object as made for another environment.
    pub(crate) fn make_others(&self, id: &ResourceId, environment: &str) {
        let environment = Name::new(environment).unwrap();
        self.by_hand(|machine| {
            let seen = machine.resources.get_mut(id).unwrap_or_else(|| panic!("no {id}"));
            seen.ownership = Ownership::Other { environment };
        });
    }

    /// Changes a field by hand: `/autostart` to a JSON value, in config and in what runs.
    pub(crate) fn set(&self, id: &ResourceId, pointer: &str, value: &serde_json::Value) {
        self.by_hand(|machine| {
            let seen = machine.resources.get_mut(id).unwrap_or_else(|| panic!("no {id}"));
            seen.config = changed(&seen.config, pointer, value);
            seen.live = seen.live.as_ref().map(|live| changed(live, pointer, value));
        });
    }
}

fn changed(resource: &Resource, pointer: &str, value: &serde_json::Value) -> Resource {
    let mut json = serde_json::to_value(resource).unwrap();
    let at = format!("/spec{pointer}");
    *json.pointer_mut(&at).unwrap_or_else(|| panic!("no {pointer}")) = value.clone();
    serde_json::from_value(json).unwrap()
}

impl Inner {
    /// How long the step takes, where it was asked to be slow.
    fn slow(&mut self, step: &Step) -> Option<Duration> {
        let key = (step.resource.clone(), step.action.verb().to_owned());
        let asked = self.troubles.get_mut(&key).and_then(|troubles| {
            let Some(Trouble::Slow(slow)) = troubles.front().cloned() else { return None };
            troubles.pop_front();
            Some(slow)
        });
        asked.or(self.pace)
    }

    fn act(&mut self, step: &Step, environment: &Name) -> Result<Outcome, Fault> {
        let key = (step.resource.clone(), step.action.verb().to_owned());
        let trouble = self.troubles.get_mut(&key).and_then(VecDeque::pop_front);
        match trouble {
            Some(Trouble::Fail(fault)) => return Err(fault),
            Some(Trouble::Lie) => return Ok(Outcome::default()),
            Some(Trouble::Panic) => panic!("a bug in a provider, on purpose"),
            Some(Trouble::FailAfter(fault)) => {
                self.effect(step, environment)?;
                return Err(fault);
            }
            Some(Trouble::Slow(_)) | None => {}
        }
        self.effect(step, environment)
    }

    fn effect(&mut self, step: &Step, environment: &Name) -> Result<Outcome, Fault> {
        self.require(step)?;
        let before = self.machine.clone();
        simulate::apply(&mut self.machine, step, environment);
        let already = before == self.machine;
        if !already {
            self.effects.push(format!("{} {}", step.action.verb(), step.resource));
        }
        if let Some(times) = self.undo.get_mut(&step.resource)
            && *times > 0
        {
            *times -= 1;
            self.machine = before;
        }
        let mut outcome = Outcome { already, ..Outcome::default() };
        if let Action::VmSnapshot { name } | Action::VmForget { name } = &step.action {
            outcome.facts.insert(Action::VM_SNAPSHOT_FACT.to_owned(), name.clone());
        }
        outcome.backup = self.backed_up(step);
        Ok(outcome)
    }

    /// What comes of work on a repository that is always there.
    fn backed_up(&mut self, step: &Step) -> Option<BackupNews> {
        let repository = "5".repeat(64);
        Some(match &step.action {
            Action::BackupOpen { .. } => {
                BackupNews::Opened(BackupOpened { repository, made: true })
            }
            Action::BackupRun { before, .. } => {
                self.taken += 1;
                self.saved.extend(before.iter().flat_map(|before| before.of.clone()));
                BackupNews::Taken(BackupTaken {
                    repository,
                    snapshot: format!("{:064x}", self.taken),
                    begun: jiff::Timestamp::UNIX_EPOCH,
                    tree: String::new(),
                    files: 1,
                    bytes: 1,
                    added: 1,
                    of: Vec::new(),
                    read: None,
                    missing: 0,
                    first_missing: None,
                    notices: Vec::new(),
                    foreign: false,
                    before: before.clone(),
                    hooks: Vec::new(),
                    elapsed_ms: 1,
                })
            }
            Action::BackupVerify { .. } => BackupNews::Verified(BackupVerified {
                snapshots: self.taken,
                read: 0,
                notices: Vec::new(),
                elapsed_ms: 1,
            }),
            Action::BackupForget { released, .. } => BackupNews::Forgotten(BackupForgotten {
                kept: self.taken,
                removed: Vec::new(),
                removed_count: 0,
                released: released.clone(),
                freed: 0,
                notices: Vec::new(),
                foreign: false,
            }),
            _ => return None,
        })
    }

    /// What is to be saved before it is disturbed was saved since it last was.
    fn require_saved(&mut self, step: &Step, scope: &Scope) -> Result<(), Fault> {
        let wish = scope.desired.resources.get(&step.resource).map(|wish| &wish.resource);
        let claim = scope.claims.get(&step.resource);
        let way_back = match wish.or(claim) {
            Some(Resource::VirtualMachine(vm)) => vm.way_back.as_ref(),
            Some(Resource::Disk(disk)) => disk.way_back.as_ref(),
            _ => None,
        };
        let asked = way_back.is_some_and(|it| it.backup.is_some());
        if !asked || step.disruption < Disruption::Restart {
            return Ok(());
        }
        match self.saved.remove(&step.resource) {
            true => Ok(()),
            false => Err(Fault::permanent(format!("{}: it was not saved first", step.resource))),
        }
    }

    /// What must hold on a real machine before the action can work.
    fn require(&self, step: &Step) -> Result<(), Fault> {
        let refuse = |why: String| Err(Fault::permanent(format!("{}: {why}", step.resource)));
        let seen = self.machine.resources.get(&step.resource);
        if let Some(seen) = seen
            && matches!(seen.ownership, Ownership::Foreign | Ownership::Other { .. })
            && step.reason != trueup::plan::Reason::Adopted
        {
            return refuse("it is foreign, and was touched".to_owned());
        }
        match &step.action {
            Action::DiskCreate { disk } => match &disk.backing {
                Some(backing) if !self.has_file(&backing.path) => {
                    refuse(format!("the backing file {} is not there", backing.path))
                }
                _ => Ok(()),
            },
            Action::DiskDelete { path, .. }
            | Action::ImageDelete { path }
            | Action::SeedDelete { path } => match self.user_of(path) {
                Some(user) => refuse(format!("{path} is in use by {user}")),
                None => Ok(()),
            },
            Action::NetworkStart { .. } | Action::PoolStart | Action::VmStart if seen.is_none() => {
                refuse("it is not defined".to_owned())
            }
            Action::VmStart => self.require_startable(step),
            Action::VmUndefine | Action::NetworkUndefine if seen.is_some_and(|s| s.active) => {
                refuse("it is still running".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn require_startable(&self, step: &Step) -> Result<(), Fault> {
        let refuse = |why: String| Err(Fault::permanent(format!("{}: {why}", step.resource)));
        let Some(Resource::VirtualMachine(vm)) =
            self.machine.resources.get(&step.resource).map(|seen| &seen.config)
        else {
            return refuse("it is not defined".to_owned());
        };
        for nic in &vm.nics {
            if let NicSource::Network(name) = &nic.source {
                let id: ResourceId = format!("network/{name}").parse().unwrap();
                if !self.machine.resources.get(&id).is_some_and(|network| network.active) {
                    return refuse(format!("network {name} is not active"));
                }
            }
        }
        let missing = vm.disks.iter().filter_map(|disk| disk.path.as_ref());
        match missing.into_iter().find(|path| !self.has_file(path)) {
            Some(path) => refuse(format!("the disk {path} is not there")),
            None => Ok(()),
        }
    }

    fn has_file(&self, path: &str) -> bool {
        let is = |resource: &Resource| match resource {
            Resource::Disk(disk) => disk.path == path,
            Resource::Image(image) => image.path == path,
            Resource::Seed(seed) => seed.path == path,
            Resource::StoragePool(_)
            | Resource::Network(_)
            | Resource::GpuLayout(_)
            | Resource::Backup(_)
            | Resource::Cluster(_)
            | Resource::Release(_)
            | Resource::VirtualMachine(_) => false,
        };
        self.machine.resources.values().any(|seen| is(&seen.config))
            || self.machine.stale.iter().any(|stale| stale.path == path)
    }

    /// Who needs the file: a defined domain that has it, or a disk on top of it.
    fn user_of(&self, path: &str) -> Option<ResourceId> {
        let uses = |resource: &Resource| match resource {
            Resource::VirtualMachine(vm) => {
                vm.disks.iter().any(|disk| disk.path.as_deref() == Some(path))
            }
            Resource::Disk(disk) => disk.backing.as_ref().is_some_and(|below| below.path == path),
            _ => false,
        };
        let user = self
            .machine
            .resources
            .iter()
            .find(|(_, seen)| uses(&seen.config) || seen.live.as_ref().is_some_and(uses));
        user.map(|(id, _)| id.clone())
    }
}

impl Provider for FakeHost {
    fn name(&self) -> &'static str {
        "host"
    }

    fn kinds(&self) -> &[Kind] {
        &Kind::ALL
    }

    fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
        let mut inner = self.lock();
        name_disks(&mut inner.machine, scope);
        let answer = match &inner.down {
            Some(why) => Err(Fault::unobservable(why.clone())),
            None => Ok(seen_under(&inner.machine, scope)),
        };
        let hang = inner.hang;
        drop(inner);
        Box::pin(async move {
            if hang {
                std::future::pending::<()>().await;
            }
            answer
        })
    }

    fn perform<'a>(
        &'a self,
        step: &'a Step,
        scope: &'a Scope,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        Box::pin(async move {
            let slow = self.lock().slow(step);
            if let Some(slow) = slow {
                tokio::time::sleep(slow).await;
            }
            self.lock().require_saved(step, scope)?;
            self.lock().act(step, &self.environment)
        })
    }
}

/// A file has no name but its own: it is the disk that asks for its path, else the one that was made
/// there, else the one of its name.
fn name_disks(machine: &mut Observed, scope: &Scope) {
    let disks: Vec<(ResourceId, String)> = machine
        .resources
        .iter()
        .filter_map(|(id, seen)| match &seen.config {
            Resource::Disk(disk) => Some((id.clone(), disk.path.clone())),
            _ => None,
        })
        .collect();
    for (id, path) in disks {
        let asks = |wish: &Resource| matches!(wish, Resource::Disk(disk) if disk.path == path);
        let wish = scope.desired.resources.iter().find(|(_, wish)| asks(&wish.resource));
        let made = scope
            .claims
            .iter()
            .find(|(id, claim)| asks(claim) && !scope.desired.resources.contains_key(*id));
        let made = made.map(|(id, _)| id.clone());
        let stem = path.rsplit('/').next().and_then(|file| file.split('.').next()).unwrap();
        let name = || ResourceId::new(Kind::Disk, Name::new(stem).unwrap());
        let now = wish.map(|(id, _)| id.clone()).or(made).unwrap_or_else(name);
        if now != id && !machine.resources.contains_key(&now) {
            let seen = machine.resources.remove(&id).unwrap();
            machine.resources.insert(now, seen);
        }
    }
}

/// Content-addressed files are what their resource asks for only under the path asked for; under
/// another path they are stale, as the real provider reports them.
fn seen_under(machine: &Observed, scope: &Scope) -> Observed {
    let mut seen = machine.clone();
    let path_of = |resource: &Resource| match resource {
        Resource::Image(image) => Some(image.path.clone()),
        Resource::Seed(seed) => Some(seed.path.clone()),
        _ => None,
    };
    for (id, observation) in &machine.resources {
        let Some(path) = path_of(&observation.config) else { continue };
        let wanted = scope.desired.resources.get(id).and_then(|wish| path_of(&wish.resource));
        if wanted.as_ref() != Some(&path) {
            seen.resources.remove(id);
            seen.stale.push(trueup::model::Stale { resource: id.clone(), path });
        }
    }
    for stale in &machine.stale {
        let Some(wish) = scope.desired.resources.get(&stale.resource) else { continue };
        if path_of(&wish.resource).as_ref() == Some(&stale.path) {
            seen.stale.retain(|other| other != stale);
        }
    }
    seen.stale.sort();
    seen
}
