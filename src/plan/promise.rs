//! The promise: what a pull request showed is what its merge may do.
//!
//! A [`Promise`] is kept with the digest that was posted. After the merge the plan against the machine
//! as it is then is compared with it, step by step. The same or less may run; anything more, and
//! anything that disturbs more, is told exactly and waits. It decides nothing about who may let it
//! through, and holds no value of a field, only digests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use trueup_kubernetes::release::Step as ReleaseStep;

use super::{Action, Disruption, LiveChange, Plan, Reason, Step, StepIndex};
use crate::model::resource::KubernetesNodeStep;
use crate::model::{Digest, ResourceId, digest_of, listed};

/// What was shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Promise {
    /// Its steps.
    pub steps: Vec<PromisedStep>,
}

/// One step that was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromisedStep {
    /// What it is done to.
    pub resource: ResourceId,
    /// What is done.
    pub deed: Deed,
    /// Digest of what it makes, as far as the commit says it: for a definition the whole of it.
    pub wish: Option<Digest>,
    /// How much it disturbs.
    pub disruption: Disruption,
    /// What it interrupts.
    pub interrupts: BTreeSet<ResourceId>,
    /// What it changes: each with a digest of what it becomes. `from` is no part of it: a machine
    /// that was further off than shown comes to the same end.
    pub parts: BTreeMap<String, Digest>,
}

/// What is done, told apart from everything else that can be done to the same resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deed {
    /// The action's kind: `vmDefine`.
    pub kind: String,
    /// The file, where one of several is meant.
    pub path: Option<String>,
}

/// How the plan of now stands to what was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is the same.
    Equal,
    /// It is part of what was shown; the rest is done already or no longer needed.
    Smaller {
        /// Shown steps that are not there any more.
        missing: Vec<PromisedStep>,
        /// Shown parts of steps (fields, changes) that are not there any more.
        fewer: usize,
    },
    /// It does more, or disturbs more: it has to wait.
    Surprised {
        /// Exactly what, in the plan's order; at least one.
        surprises: Vec<Surprise>,
    },
}

/// One step that goes beyond what was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surprise {
    /// Its place in the plan of now.
    pub step: StepIndex,
    /// What it is done to.
    pub resource: ResourceId,
    /// The verb.
    pub verb: &'static str,
    /// How much it disturbs.
    pub disruption: Disruption,
    /// Why it is done; a [`Reason::Drifted`] one puts right what somebody changed meanwhile.
    pub reason: Reason,
    /// What about it was not shown.
    pub beyond: Beyond,
}

/// What was not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beyond {
    /// The step as a whole.
    Step,
    /// How much it disturbs.
    Disruption {
        /// What was shown.
        shown: Disruption,
    },
    /// What it interrupts.
    Interrupts(BTreeSet<ResourceId>),
    /// What it changes.
    Parts(BTreeSet<String>),
    /// What it makes.
    Wish,
}

impl fmt::Display for Surprise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = format!("{:?}", self.disruption).to_lowercase();
        write!(f, "{} {}", self.verb, self.resource)?;
        match &self.beyond {
            Beyond::Step => write!(f, " ({word}) was not shown"),
            Beyond::Disruption { shown } => {
                write!(f, ": {word}, {} was shown", format!("{shown:?}").to_lowercase())
            }
            Beyond::Interrupts(others) => {
                write!(f, " also interrupts {}", listed(others))
            }
            Beyond::Parts(parts) => {
                write!(f, " also changes {}", listed(parts))
            }
            Beyond::Wish => write!(f, " makes something else than was shown"),
        }
    }
}

/// Most bytes of a promise as JSON. It is part of an event, whose line has a limit of a mebibyte; some
/// five thousand steps fit.
pub const PROMISE_BYTES_MAX: usize = 768 * 1024;

impl Promise {
    /// As much of it, from its beginning, as `bytes` of JSON hold, and how many steps are left out. What
    /// is left out was not promised: a plan that does it goes beyond.
    #[must_use]
    pub fn within(mut self, bytes: usize) -> (Self, usize) {
        let mut room = bytes;
        let fits = self.steps.iter().take_while(|step| {
            let size = serde_json::to_vec(step).map_or(usize::MAX, |text| text.len() + 1);
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        });
        let kept = fits.count();
        let left_out = self.steps.len() - kept;
        self.steps.truncate(kept);
        (self, left_out)
    }

    /// What showing `plan` promises.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        Self { steps: plan.steps.iter().filter(|it| counts(it)).map(PromisedStep::of).collect() }
    }

    /// Compares `live`, a plan of now, with what was shown.
    #[must_use]
    pub fn kept_by(&self, live: &Plan) -> Kept {
        let now = live.steps.iter().enumerate().filter(|(_, step)| counts(step));
        let now: Vec<(StepIndex, &Step, PromisedStep)> =
            now.map(|(at, step)| (at, step, PromisedStep::of(step))).collect();
        let mut shown: BTreeMap<(&ResourceId, &Deed), Vec<&PromisedStep>> = BTreeMap::new();
        for step in self.steps.iter().rev() {
            shown.entry((&step.resource, &step.deed)).or_default().push(step);
        }
        // A plan that was begun does the rest in fewer steps: what a field becomes was shown for the
        // resource, whichever step brings it there.
        let mut parts: BTreeMap<&ResourceId, BTreeSet<(&String, &Digest)>> = BTreeMap::new();
        for step in &self.steps {
            parts.entry(&step.resource).or_default().extend(&step.parts);
        }
        let (mut surprises, mut fewer) = (Vec::new(), 0);
        for (at, step, now) in &now {
            let beyond = match shown.get_mut(&(&now.resource, &now.deed)).and_then(Vec::pop) {
                Some(then) => {
                    fewer +=
                        then.parts.keys().filter(|part| !now.parts.contains_key(*part)).count();
                    now.beyond(then, parts.get(&now.resource))
                }
                None => vec![Beyond::Step],
            };
            surprises.extend(beyond.into_iter().map(|beyond| Surprise {
                step: *at,
                resource: step.resource.clone(),
                verb: step.action.verb(),
                disruption: step.disruption,
                reason: step.reason,
                beyond,
            }));
        }
        if !surprises.is_empty() {
            return Kept::Surprised { surprises };
        }
        let left: BTreeSet<*const PromisedStep> =
            shown.values().flatten().map(|step| std::ptr::from_ref(*step)).collect();
        let missing: Vec<PromisedStep> = self
            .steps
            .iter()
            .filter(|step| left.contains(&std::ptr::from_ref(*step)))
            .cloned()
            .collect();
        match (missing.is_empty(), fewer) {
            (true, 0) => Kept::Equal,
            _ => Kept::Smaller { missing, fewer },
        }
    }
}

/// Whether a step is part of what a commit does: what a schedule does has its own time, and nobody
/// was shown it.
fn counts(step: &Step) -> bool {
    step.reason != Reason::Due
}

impl PromisedStep {
    fn of(step: &Step) -> Self {
        let mut parts: BTreeMap<String, Digest> = step
            .changes
            .iter()
            .map(|change| (change.path.clone(), digest_of(&change.to)))
            .collect();
        let (path, wish) = wish(&step.action, &mut parts);
        Self {
            resource: step.resource.clone(),
            deed: Deed { kind: kind(&step.action), path },
            wish,
            disruption: step.disruption,
            interrupts: step.interrupts.clone(),
            parts,
        }
    }

    /// What `self` does beyond `then`; `shown`: what was shown to become of the resource's fields.
    fn beyond(&self, then: &Self, shown: Option<&BTreeSet<(&String, &Digest)>>) -> Vec<Beyond> {
        let mut beyond = Vec::new();
        if self.disruption > then.disruption {
            beyond.push(Beyond::Disruption { shown: then.disruption });
        }
        let more: BTreeSet<ResourceId> =
            self.interrupts.difference(&then.interrupts).cloned().collect();
        if !more.is_empty() {
            beyond.push(Beyond::Interrupts(more));
        }
        let shown = |part: &(&String, &Digest)| shown.is_some_and(|shown| shown.contains(part));
        let parts = self.parts.iter().filter(|part| !shown(part));
        let parts: BTreeSet<String> = parts.map(|(part, _)| part.clone()).collect();
        if !parts.is_empty() {
            beyond.push(Beyond::Parts(parts));
        }
        if self.wish != then.wish {
            beyond.push(Beyond::Wish);
        }
        beyond
    }
}

/// The action's kind as it is stored.
fn kind(action: &Action) -> String {
    let value = serde_json::to_value(action).unwrap_or_default();
    let tag = value.get("type").and_then(serde_json::Value::as_str);
    tag.unwrap_or_else(|| action.verb()).to_owned()
}

/// The object that a step of a release is about, and what it becomes. What stands in the inventory follows
/// from the objects.
fn release_step(verb: &str, step: &ReleaseStep) -> (Option<String>, Option<Digest>) {
    match step {
        ReleaseStep::Apply { key, digest } => {
            (Some(format!("{verb} {key}")), Some(digest_of(digest)))
        }
        ReleaseStep::AwaitReady { key }
        | ReleaseStep::Delete { key, .. }
        | ReleaseStep::AwaitGone { key, .. } => (Some(format!("{verb} {key}")), None),
        ReleaseStep::Record { .. } | ReleaseStep::Forget => (Some(verb.to_owned()), None),
    }
}

/// The file an action is about, where one of several may be meant, and what it makes. What it does to
/// several things one by one is added to `parts`.
fn wish(action: &Action, parts: &mut BTreeMap<String, Digest>) -> (Option<String>, Option<Digest>) {
    match action {
        Action::ImageDelete { path } | Action::SeedDelete { path } => (Some(path.clone()), None),
        Action::DiskDelete { pool, path } => (Some(path.clone()), Some(digest_of(pool))),
        // Whether a domain has it plugged in at the moment changes nothing about what becomes of it.
        Action::DiskGrow { path, pool, size, live: _ } => {
            (Some(path.clone()), Some(digest_of(&(pool, size))))
        }
        Action::NetworkStart { reconnect } => {
            parts
                .extend(reconnect.iter().map(|name| (format!("reconnect {name}"), digest_of(&()))));
            (None, None)
        }
        Action::VmUpdateLive { changes } => {
            parts.extend(changes.iter().map(|change| (live(change), digest_of(change))));
            (None, None)
        }
        // That it runs after its start is what a start is: it is a change only where it was stopped
        // before the plan, and none where the plan stops it.
        Action::PoolStart | Action::VmStart => {
            parts.remove("/power");
            (None, None)
        }
        Action::GpuStopClients { change } => {
            let units = change.memory.stopped.iter();
            parts.extend(units.map(|unit| (format!("stop {unit}"), digest_of(&()))));
            (None, None)
        }
        Action::GpuSettle { start, change: _ } => {
            parts.extend(start.iter().map(|unit| (format!("start {unit}"), digest_of(&()))));
            (None, None)
        }
        // What is written where tells one step of a handover from another.
        Action::GpuHandover { to: _, step, change: _ } => {
            (Some(step.what.clone()), Some(digest_of(&step.action)))
        }
        Action::GpuMigMode { on, reset, change: _ } => (None, Some(digest_of(&(on, reset)))),
        Action::GpuDestroyCompute { part, .. }
        | Action::GpuDestroyInstance { part, .. }
        | Action::GpuCreateInstance { part, .. }
        | Action::GpuCreateCompute { part, .. } => (Some(part.label.clone()), None),
        Action::BackupOpen { backup } => {
            (None, Some(digest_of(&(&backup.repository, &backup.key))))
        }
        Action::BackupRun { before: Some(before), .. } => {
            parts.extend(before.of.iter().map(|id| (format!("first {id}"), digest_of(&()))));
            (None, None)
        }
        Action::BackupRun { before: None, .. }
        | Action::BackupClear { .. }
        | Action::BackupVerify { .. }
        | Action::BackupDrill { .. }
        | Action::BackupForget { .. } => (None, None),
        // Which files there are on the way follows from what the cluster has at that time.
        Action::ClusterPrepare { machines, key, .. } => {
            parts.extend(machines.keys().map(|it| (format!("{key} {it}"), digest_of(&()))));
            (None, None)
        }
        Action::ClusterDatabase { machine, disk, conf, .. } => {
            (Some(machine.clone()), Some(digest_of(&(disk, conf))))
        }
        // Which files these are follows from those of the controller.
        Action::ClusterCopy { machines, .. } => {
            parts.extend(machines.keys().map(|it| (format!("copy {it}"), digest_of(&()))));
            (None, None)
        }
        // Who is let in until it has left follows from what is in force at that time.
        Action::ClusterFirewall { machines, wish, .. } => {
            parts.extend(machines.keys().map(|it| (format!("firewall {it}"), *wish)));
            (None, None)
        }
        Action::ClusterProve { wish, .. } => (None, Some(*wish)),
        Action::ClusterConfigure { nodes, wish, .. } => {
            let nodes = trueup_slurm::hostlist::compress(nodes.iter().map(String::as_str));
            (Some(nodes).filter(|nodes| !nodes.is_empty()), Some(*wish))
        }
        Action::ClusterNode { node, step, .. } => (Some(format!("{} {node}", step.verb())), None),
        Action::ClusterAccount { arguments, .. } => (Some(arguments.join(" ")), None),
        Action::Release { place: _, step } => release(step),
        Action::ClusterAdopt { .. }
        | Action::ClusterRecover { .. }
        | Action::ClusterReconfigure { .. }
        | Action::KubernetesRenew { .. }
        | Action::KubernetesAdopt => (None, None),
        // Where the data are follows from the cluster.
        Action::KubernetesPrepare { machines, data: _ } => {
            parts.extend(machines.keys().map(|it| (it.clone(), digest_of(&()))));
            (None, None)
        }
        // Whether it was made one before that broke off, only its machine knows.
        Action::KubernetesInit { cluster, again: _ } => (None, Some(digest_of(cluster))),
        // From which release is not known any more once it was begun.
        Action::KubernetesRestore { cluster, from: _ } => (None, Some(digest_of(cluster))),
        // Which machines lack something on the way follows from what there is at that time.
        Action::KubernetesConnect { .. } => (None, None),
        Action::KubernetesNode { node, step, .. } => {
            let wish = match step {
                KubernetesNodeStep::Set { wish, .. } => Some(digest_of(wish)),
                KubernetesNodeStep::Join { machine, .. } => Some(digest_of(machine)),
                _ => None,
            };
            (Some(format!("{} {node}", step.verb())), wish)
        }
        Action::KubernetesAccess { found } => (Some(format!("take {}", found.name)), None),
        Action::KubernetesNamespace { step } => release_step(action.verb(), step),
        // How a snapshot is called says nothing of what it does.
        Action::VmSnapshot { name: _ }
        | Action::VmForget { name: _ }
        | Action::PoolUndefine
        | Action::NetworkStop
        | Action::NetworkUndefine
        | Action::VmPause
        | Action::VmUndefine => (None, None),
        Action::PoolDefine { .. }
        | Action::NetworkDefine { .. }
        | Action::NetworkUpdateLive { .. }
        | Action::ImageCreate { .. }
        | Action::DiskCreate { .. }
        | Action::SeedCreate { .. }
        | Action::VmDefine { .. }
        | Action::VmStop { .. }
        | Action::VmAwaitReady { .. } => (None, Some(digest_of(action))),
    }
}

/// Which object a step of a release is about, and what becomes of it. Which objects there are on the way
/// follows from what the cluster has at that time.
fn release(step: &ReleaseStep) -> (Option<String>, Option<Digest>) {
    match step {
        ReleaseStep::Apply { key, digest } => {
            (Some(format!("apply {key}")), Some(digest_of(digest)))
        }
        ReleaseStep::AwaitReady { key } => (Some(format!("await {key}")), None),
        ReleaseStep::Delete { key, .. } => (Some(format!("delete {key}")), None),
        ReleaseStep::AwaitGone { key, .. } => (Some(format!("await the end of {key}")), None),
        ReleaseStep::Record { .. } => (Some("record".to_owned()), None),
        ReleaseStep::Forget => (Some("forget".to_owned()), None),
    }
}

/// Names what a live change is about, so that two of one kind stay apart.
fn live(change: &LiveChange) -> String {
    match change {
        LiveChange::Memory(_) => "live memory".to_owned(),
        LiveChange::Vcpus(_) => "live processors".to_owned(),
        LiveChange::AttachDisk(disk) => format!("live attach {}", disk.target),
        LiveChange::DetachDisk(target) => format!("live detach {target}"),
        LiveChange::AttachNic(nic) => format!("live attach {}", nic.mac),
        LiveChange::DetachNic(mac) => format!("live detach {mac}"),
        LiveChange::ReplugNic(nic) => format!("live replug {}", nic.mac),
        LiveChange::Autostart(_) => "live autostart".to_owned(),
    }
}

#[cfg(test)]
mod tests;
