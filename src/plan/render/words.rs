//! The words for reasons, disruptions and values; one place, so that every form says the same.

use std::borrow::Cow;

use serde_json::Value;
use trueup_backup::objective;
use trueup_kubernetes::release::Step as ReleaseStep;

use super::super::{Action, Disruption, FieldChange, LiveChange, Reason, Remark, SkipReason, Step};
use crate::model::listed;
use crate::model::resource::ReleasePlace;

/// Longest value shown, in characters; longer ones are cut, so that a key or a blob stays short.
const VALUE_MAX: usize = 60;

/// How much a step disturbs, as one word; empty where nobody notices.
pub fn disruption(disruption: Disruption) -> &'static str {
    match disruption {
        Disruption::None => "",
        Disruption::Live => "live",
        Disruption::Restart => "RESTART",
        Disruption::Replace => "REPLACE",
        Disruption::Destroy => "DESTROY",
    }
}

/// Why a step is done.
pub fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Missing => "missing",
        Reason::Changed => "changed",
        Reason::Drifted => "drifted",
        Reason::Gone => "gone from the commit",
        Reason::Adopted => "adopted",
        Reason::Needed => "needed",
        Reason::Due => "due",
    }
}

/// Why a difference is left alone, and what to do about it.
pub fn skip_reason(why: &SkipReason) -> Cow<'static, str> {
    Cow::Borrowed(match why {
        SkipReason::Unobservable(why) => return format!("could not be observed: {why}").into(),
        SkipReason::Blocked(by) => return format!("waits for {by}").into(),
        SkipReason::OtherEnvironment(name) => {
            return format!(
                "belongs to the environment `{name}`: name that under `formerly` if it is this one"
            )
            .into();
        }
        SkipReason::OwnNeed(why) => return format!("trueup itself needs it: {why}").into(),
        SkipReason::InUse(by) => return format!("still used by {by}").into(),
        SkipReason::Immutable(why) => return format!("cannot be changed in place: {why}").into(),
        SkipReason::Conflict(why) => return format!("conflict: {why}").into(),
        SkipReason::Busy(why) => return format!("in use, nothing is done: {why}").into(),
        SkipReason::BusyWaits(why) => return format!("waits until it is free: {why}").into(),
        SkipReason::NeedsReset(why) => return format!("reset or reboot required: {why}").into(),
        SkipReason::Unprotected(why) => return format!("not protected: {why}").into(),
        SkipReason::Unsaved(why) => return format!("not before it is saved: {why}").into(),
        SkipReason::Unplaceable(why) => return format!("cannot be had: {why}").into(),
        SkipReason::Unlike(why) => return format!("not as asked for: {why}").into(),
        SkipReason::Foreign => "not ours: set lifecycle.adopt to take it over",
        SkipReason::PreventDestroy => "protected by lifecycle.preventDestroy",
        SkipReason::PruneOff => "gone from the commit, but pruning is off for this pass",
        SkipReason::ReportOnly => "drifted; selfHeal: report leaves it so",
        SkipReason::ImageKept => "keeps the image it was made from (onImageChange: keep)",
        SkipReason::ShrinkRefused => "a disk is never shrunk",
        SkipReason::RestartNeeded => "takes effect at the next restart or window",
        SkipReason::BackingOff => "failed before; waits for its next try",
        SkipReason::Paused => "paused by an operator",
        SkipReason::InProgress => "in progress; looked at anew when that has ended",
        SkipReason::Orphaned => "gone from the commit and left as it is (lifecycle.orphan)",
    })
}

/// That the repository of a backup is not where it was, and what can be done about it.
pub fn repository_gone(repository: &str) -> String {
    format!(
        "its repository in {repository} is gone: mount what should be there, or name another folder to \
         begin anew"
    )
}

/// What is promised of a backup and not so, and what can be done about it.
pub fn backup_trouble(reason: objective::Reason) -> &'static str {
    match reason {
        objective::Reason::NeverTaken => "no complete snapshot was ever taken",
        objective::Reason::TooOld => "the last complete snapshot is older than its `rpo`",
        objective::Reason::TryFailed => "the last try at a snapshot failed",
        objective::Reason::TooSlow => {
            "the last drill took longer than its `rto`: restore from a faster place, or promise less"
        }
        objective::Reason::CheckFailed => {
            "the last check found the repository damaged: repair it with restic, or begin another one"
        }
        objective::Reason::DrillFailed => "the last drill did not bring everything back",
        objective::Reason::NotChecked => "it was not checked for too long",
        objective::Reason::NotDrilled => "it was not restored for too long",
    }
}

/// What is worth knowing of a resource, and what can be done about it.
pub fn remark(what: Remark) -> &'static str {
    match what {
        Remark::EmulatedThoughKvmWorks => {
            "runs emulated: KVM was not usable when it was made, and is now; `accelerator: kvm` in \
             its spec moves it there with a restart"
        }
        Remark::EmulatedWithoutKvm => {
            "runs emulated: KVM is not usable here (`trueup preflight --for vm` says why)"
        }
        Remark::ProfileRenamed => {
            "the driver calls a profile of it by another name than the commit: it stands for the \
             same, and `shape` in its spec means it with any driver (`trueup gpu` has the names)"
        }
        Remark::CertificateEnds => {
            "a certificate by which it is reached ends soon, or has ended: `trueup cluster` says which, and \
             when; renew it (`kubeadm certs renew`), and the kubeconfig with it"
        }
    }
}

/// `memory.current: 1 GiB → 2 GiB (live)`.
pub(super) fn change(change: &FieldChange) -> String {
    let word = disruption(change.disruption).to_lowercase();
    let word = if word.is_empty() { word } else { format!(" ({word})") };
    format!("{}{word}", field(change))
}

/// `memory.current: 1 GiB → 2 GiB`.
#[must_use]
pub fn field(change: &FieldChange) -> String {
    let side =
        |side: &Option<Value>| side.as_ref().map_or("nothing".into(), |it| value(&change.path, it));
    let path = change.path.trim_start_matches('/').replace('/', ".").replace("~1", "/");
    format!("{path}: {} → {}", side(&change.from), side(&change.to))
}

/// A value in the unit that people use.
pub fn value(path: &str, value: &Value) -> String {
    let unit = match path {
        "/memory/current" | "/memory/max" | "/memory/hugepages" => Some(1024),
        "/size" => Some(1),
        _ => None,
    };
    if let (Some(unit), Some(number)) = (unit, value.as_u64()) {
        return bytes(number.saturating_mul(unit));
    }
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    cut(&text)
}

/// A size, exact or not shown as rounder than it is.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let exact = UNITS.iter().find(|(_, unit)| number >= *unit && number.is_multiple_of(*unit));
    exact.map_or_else(|| format!("{number} B"), |(name, unit)| format!("{} {name}", number / unit))
}

/// A text without control characters, cut where it is long.
pub(super) fn cut(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().take(VALUE_MAX).map(plain).collect();
    let left = text.chars().count().saturating_sub(VALUE_MAX);
    if left > 0 {
        shown += &format!("… ({left} more)");
    }
    shown
}

/// What a step does beyond its verb.
pub fn detail(step: &Step) -> String {
    match &step.action {
        Action::ImageDelete { path }
        | Action::SeedDelete { path }
        | Action::DiskDelete { path, .. } => path.clone(),
        Action::DiskGrow { size, .. } => format!("to {}", bytes(*size)),
        Action::DiskCreate { disk } => match &disk.backing {
            Some(below) => format!("{} on {}", bytes(disk.size), below.path),
            None => bytes(disk.size),
        },
        Action::NetworkStart { reconnect } if !reconnect.is_empty() => {
            let names: Vec<&str> = reconnect.iter().map(|name| name.as_str()).collect();
            format!("and plug in {}", names.join(", "))
        }
        Action::VmUpdateLive { changes } => {
            let words: Vec<String> = changes.iter().map(live).collect();
            words.join(", ")
        }
        Action::VmStop { policy } => {
            let then = if policy.force { "then power off" } else { "never by force" };
            format!("within {} s, {then}", policy.timeout_s)
        }
        Action::VmSnapshot { name } => name.clone(),
        Action::VmForget { name } => format!("its snapshot {name}"),
        Action::GpuHandover { step, .. } => cut(&step.what),
        Action::GpuStopClients { change } => change.memory.stopped.join(", "),
        Action::GpuMigMode { on, .. } => format!("to {}", if *on { "mig" } else { "whole" }),
        Action::GpuDestroyCompute { part, .. }
        | Action::GpuDestroyInstance { part, .. }
        | Action::GpuCreateInstance { part, .. }
        | Action::GpuCreateCompute { part, .. } => match &part.name {
            Some(name) => format!("{} ({name})", part.label),
            None => part.label.clone(),
        },
        Action::GpuSettle { start, .. } if !start.is_empty() => {
            format!("and start {}", start.join(", "))
        }
        Action::BackupOpen { backup } => cut(&backup.repository),
        Action::BackupRun { backup, before: Some(before), .. } => format!(
            "to {} first, as the way back for {}",
            cut(&backup.repository),
            listed(&before.of)
        ),
        Action::BackupRun { backup, .. } => format!("to {}", cut(&backup.repository)),
        Action::BackupClear { guests, .. } => {
            let guests: Vec<&str> =
                guests.iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
            if guests.is_empty() { String::new() } else { format!("up in {}", guests.join(", ")) }
        }
        Action::BackupVerify { backup, part, foreign, .. } => {
            let of = backup.verify.as_ref().and_then(|verify| verify.read_parts).unwrap_or(1);
            let part = part.map(|part| format!("with part {part} of {of} of its data"));
            let why = foreign.then(|| "because somebody else removed things from it".to_owned());
            part.into_iter().chain(why).collect::<Vec<_>>().join(", ")
        }
        Action::BackupDrill { snapshot, .. } => {
            format!("snapshot {}", snapshot.get(..8).unwrap_or(snapshot))
        }
        Action::ClusterNode { node, .. } => node.clone(),
        Action::ClusterConfigure { nodes, .. } if !nodes.is_empty() => {
            cut(&trueup_slurm::hostlist::compress(nodes.iter().map(String::as_str)))
        }
        Action::ClusterDatabase { machine, .. } => machine.clone(),
        Action::ClusterPrepare { machines, .. }
        | Action::ClusterCopy { machines, .. }
        | Action::ClusterFirewall { machines, .. } => {
            cut(&trueup_slurm::hostlist::compress(machines.keys().map(String::as_str)))
        }
        Action::ClusterAccount { arguments, .. } => cut(&arguments.join(" ")),
        Action::KubernetesPrepare { machines, .. } => {
            cut(&trueup_slurm::hostlist::compress(machines.keys().map(String::as_str)))
        }
        Action::KubernetesConnect { nodes, .. } => {
            cut(&trueup_slurm::hostlist::compress(nodes.iter().map(String::as_str)))
        }
        Action::KubernetesInit { cluster, again: false } => cluster.control_plane.clone(),
        Action::KubernetesInit { cluster, again: true } => {
            format!("credentials of {}", cluster.control_plane)
        }
        Action::KubernetesRestore { cluster, from } => match from {
            Some(from) => {
                format!("{}, upgrade {from} -> {}", cluster.control_plane, cluster.version)
            }
            None => cluster.control_plane.clone(),
        },
        Action::KubernetesRenew { .. } => "certificates".to_owned(),
        Action::ClusterAdopt { name, .. } => cut(name),
        Action::KubernetesNode { node, .. } => node.clone(),
        Action::KubernetesAccess { found } => match &found.lets {
            Some((namespace, role)) => format!("{} ({} {namespace})", found.name, role.as_str()),
            None => found.name.clone(),
        },
        Action::KubernetesNamespace { step } => match step {
            ReleaseStep::Apply { key, .. }
            | ReleaseStep::AwaitReady { key }
            | ReleaseStep::Delete { key, .. }
            | ReleaseStep::AwaitGone { key, .. } => cut(&key.to_string()),
            ReleaseStep::Record { members, .. } => format!("{} object(s)", members.len()),
            ReleaseStep::Forget => "what was made".to_owned(),
        },
        Action::Release { place, step } => release(place, step),
        Action::VmAwaitReady { readiness, .. } => format!("within {} s", readiness.timeout_s),
        _ => String::new(),
    }
}

/// One step of a release.
fn release(place: &ReleasePlace, step: &ReleaseStep) -> String {
    match step {
        ReleaseStep::Apply { key, .. } | ReleaseStep::Delete { key, .. } => cut(&key.to_string()),
        ReleaseStep::AwaitReady { key } => cut(&format!("until {key} is ready")),
        ReleaseStep::AwaitGone { key, .. } => cut(&format!("until {key} is gone")),
        ReleaseStep::Record { members, complete: false, .. } => {
            format!("{} object(s) to be made or removed", members.len())
        }
        ReleaseStep::Record { members, complete: true, .. } => {
            format!("{} object(s) as they should be", members.len())
        }
        ReleaseStep::Forget => cut(&format!("from {}", place.cluster)),
    }
}

/// One live change in a few words.
fn live(change: &LiveChange) -> String {
    match change {
        LiveChange::Memory(kib) => format!("memory {}", bytes(kib.saturating_mul(1024))),
        LiveChange::Vcpus(count) => format!("{count} processors"),
        LiveChange::AttachDisk(disk) => format!("plug in disk {}", disk.target),
        LiveChange::DetachDisk(target) => format!("unplug disk {target}"),
        LiveChange::AttachNic(nic) => format!("plug in interface {}", nic.mac),
        LiveChange::DetachNic(mac) => format!("unplug interface {mac}"),
        LiveChange::ReplugNic(nic) => format!("plug interface {} in again", nic.mac),
        LiveChange::Autostart(on) => format!("autostart {on}"),
    }
}
