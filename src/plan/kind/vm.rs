//! Domains: what can change live changes live; the rest waits for a restart, and says so.

mod diff;

use std::collections::BTreeSet;

use diff::diff;

use super::super::{Action, Disruption, FieldChange, LiveChange, Reason, Remark, SkipReason};
use super::{Case, Draft, Verdict};
use crate::model::Observation;
use crate::model::resource::{
    Accelerator, NicSource, Power, SnapshotPolicy, StopPolicy, VirtualMachine,
};

/// How long a guest may take to shut down where nothing says otherwise, seconds: what libvirt's own
/// `libvirt-guests` service grants by default is 300; two minutes are enough for a guest that reacts
/// at all, and a guest that does not is never powered off without being asked for.
pub(in super::super) const STOP_DEFAULT: StopPolicy = StopPolicy { timeout_s: 120, force: false };

/// What has to be done for a domain.
pub(in super::super) fn decide(
    case: &Case<'_, '_>,
    to: &VirtualMachine,
    from: Option<&VirtualMachine>,
) -> Verdict {
    let mut verdict = Verdict::default();
    if let Some(why) = super::gpu::layout_of(case.facts, case.id, &to.host_devices) {
        verdict.skip(why, Vec::new());
        return verdict;
    }
    let to = match case.facts.with_gpus(to) {
        Ok(to) => to,
        Err(layout) => {
            // Which devices it gets is not known before its GPU was found, or its vGPU made anew: for
            // that it stops, and starts with the pass after.
            let live =
                case.live_vm().or(from).filter(|_| case.observation.is_some_and(|it| it.active));
            match live.is_some_and(|live| case.facts.loses_a_gpu(live) && case.facts.window_open) {
                true => {
                    snapshot(case, &mut verdict, to);
                    let mut stop = stop(case, to, Vec::new(), Disruption::Restart);
                    stop.reason = Reason::Needed;
                    verdict.step(stop);
                }
                false => verdict.skip(SkipReason::Blocked(layout), Vec::new()),
            }
            return verdict;
        }
    };
    let to = &*to;
    let (Some(from), Some(seen)) = (from, case.observation) else {
        let mut vm = to.clone();
        let best = case.facts.observed().host.accelerator;
        vm.accelerator = vm.accelerator.or(best).or(Some(Accelerator::Tcg));
        verdict.step(define(case, vm, Vec::new()));
        power_up(case, &mut verdict, to, Power::Off, Vec::new());
        return verdict;
    };
    verdict.remark = emulated(case, to, from);
    let config = diff(from, to, seen.active);
    if case.adopting() || !config.changes.is_empty() {
        verdict.step(define(case, to.clone(), config.changes));
    }
    match (seen.active, to.power) {
        (true, Power::Off) => {
            let why = power_change(from.power, to.power);
            snapshot(case, &mut verdict, to);
            verdict.step(stop(case, to, why, Disruption::Restart));
        }
        (true, Power::Running | Power::Paused) => running(case, &mut verdict, seen, from, to),
        (false, Power::Running | Power::Paused) => {
            let why = power_change(Power::Off, to.power);
            power_up(case, &mut verdict, to, Power::Off, why);
        }
        (false, Power::Off) => {}
    }
    if verdict.drafts.is_empty() {
        for name in case.facts.over(case.id) {
            let forget = Action::VmForget { name: name.clone() };
            verdict.step(Draft::quiet(forget, Reason::Due, Vec::new()));
        }
    }
    verdict
}

/// What executes a guest is chosen once, when it is made, where its spec leaves the choice: later
/// nobody is restarted for it, so it is said instead.
fn emulated(case: &Case<'_, '_>, to: &VirtualMachine, from: &VirtualMachine) -> Option<Remark> {
    if to.accelerator.is_some() || from.accelerator != Some(Accelerator::Tcg) {
        return None;
    }
    match case.facts.observed().host.accelerator? {
        Accelerator::Kvm => Some(Remark::EmulatedThoughKvmWorks),
        Accelerator::Tcg => Some(Remark::EmulatedWithoutKvm),
    }
}

/// A domain that runs and shall go on running.
fn running(
    case: &Case<'_, '_>,
    verdict: &mut Verdict,
    seen: &Observation,
    from: &VirtualMachine,
    to: &VirtualMachine,
) {
    let mut live = diff(case.live_vm().unwrap_or(from), to, true);
    live.changes.retain(|change| change.disruption > Disruption::None);
    let replaced = case.facts.loses_a_disk(case.live_vm().unwrap_or(from));
    let restart = live.reaches(Disruption::Restart);
    if replaced || (restart && case.facts.window_open) {
        let first = verdict.drafts.len();
        snapshot(case, verdict, to);
        let needed = live.changes.is_empty();
        verdict.step(stop(case, to, live.changes, Disruption::Restart));
        power_up(case, verdict, to, Power::Off, Vec::new());
        if needed {
            // Nothing of the domain differs: it is restarted for its disk, which is no drift of it.
            let restart = verdict.drafts.iter_mut().skip(first);
            restart.for_each(|draft| draft.reason = Reason::Needed);
        }
        return;
    }
    let (waiting, now): (Vec<_>, Vec<_>) =
        live.changes.into_iter().partition(|change| change.disruption >= Disruption::Restart);
    replug(case, seen, to, &mut live.live);
    if !live.live.is_empty() {
        let update = Action::VmUpdateLive { changes: live.live };
        verdict.step(
            Draft::quiet(update, case.reason, now).disturbing(Disruption::Live, BTreeSet::new()),
        );
    }
    if !waiting.is_empty() {
        verdict.skip(SkipReason::RestartNeeded, waiting);
    }
    if from.power != to.power {
        let why = power_change(from.power, to.power);
        power_up(case, verdict, to, from.power, why);
    } else if to.power == Power::Running && case.facts.unready(case.id) {
        // It runs, but has not proved that it is up: it is asked again.
        if let Some(wait) = await_ready(to) {
            verdict.step(wait);
        }
    }
}

/// Interfaces whose link is broken are plugged in again, unless their network's start does it.
fn replug(
    case: &Case<'_, '_>,
    seen: &Observation,
    to: &VirtualMachine,
    changes: &mut Vec<LiveChange>,
) {
    for nic in to.nics.iter().filter(|nic| seen.unplugged.contains(&nic.mac)) {
        let restarted = match &nic.source {
            NicSource::Network(name) => case.facts.network_starts(name),
            NicSource::Bridge(_) | NicSource::User | NicSource::Other(_) => false,
        };
        let replug = LiveChange::ReplugNic(nic.clone());
        let attach = LiveChange::AttachNic(nic.clone());
        if !restarted && !changes.contains(&replug) && !changes.contains(&attach) {
            changes.push(replug);
        }
    }
}

/// Defines or redefines.
fn define(case: &Case<'_, '_>, vm: VirtualMachine, changes: Vec<FieldChange>) -> Draft {
    let action = Action::VmDefine { vm: Box::new(vm), uuid: case.uuid() };
    Draft::quiet(action, case.reason, changes)
}

/// Stops what runs.
fn stop(
    case: &Case<'_, '_>,
    to: &VirtualMachine,
    changes: Vec<FieldChange>,
    disruption: Disruption,
) -> Draft {
    let policy = to.stop.unwrap_or(STOP_DEFAULT);
    Draft::quiet(Action::VmStop { policy }, case.reason, changes)
        .disturbing(disruption, case.facts.interrupted_with(case.id))
}

/// Takes a snapshot where the policy asks for one.
fn snapshot(case: &Case<'_, '_>, verdict: &mut Verdict, to: &VirtualMachine) {
    if to.snapshot == Some(SnapshotPolicy::BeforeDisruption) {
        let name = format!("trueup-{}", case.desired.digest.short());
        let take = Action::VmSnapshot { name };
        verdict.step(Draft::quiet(take, Reason::Needed, Vec::new()));
    }
}

/// From `now` to the wished running or paused state, and until the guest is up.
fn power_up(
    case: &Case<'_, '_>,
    verdict: &mut Verdict,
    to: &VirtualMachine,
    now: Power,
    mut changes: Vec<FieldChange>,
) {
    if to.power == Power::Off {
        return;
    }
    if now != Power::Running {
        let why = std::mem::take(&mut changes);
        verdict.step(Draft::quiet(Action::VmStart, case.reason, why));
    }
    if to.power == Power::Paused {
        let mut pause = Draft::quiet(Action::VmPause, case.reason, changes);
        if now == Power::Running {
            pause = pause.disturbing(Disruption::Restart, case.facts.interrupted_with(case.id));
        }
        verdict.step(pause);
    } else if let Some(wait) = await_ready(to) {
        verdict.step(wait);
    }
}

/// Waits until the guest proves that it is up, where it can.
pub(in super::super) fn await_ready(vm: &VirtualMachine) -> Option<Draft> {
    let readiness = vm.readiness.clone()?;
    let action = Action::VmAwaitReady { readiness, console_log: vm.console_log.clone() };
    Some(Draft::quiet(action, Reason::Needed, Vec::new()))
}

/// The power state as a field change.
fn power_change(from: Power, to: Power) -> Vec<FieldChange> {
    let disruption = match to {
        Power::Running => Disruption::None,
        Power::Off | Power::Paused => Disruption::Restart,
    };
    let mut diff = super::super::diff::Diff::default();
    diff.field(format_args!("/power"), &from, &to, disruption);
    diff.changes
}
