//! An event in a sentence, for people.
//!
//! It never adds anything the event does not say.

#![deny(clippy::wildcard_enum_match_arm)]

use crate::event::body::{ForgeApproval, GpuXid, MoreChanges, PostTarget, PullOutcome};
use crate::event::{Event, Spilled};
use crate::model::resource::{Accelerator, Chore, GpuSeen, SeenPart};
use crate::model::{Kind, Resource};
use crate::plan::{FieldChange, Reason, render};

/// What `event` says, without its subject, its actor and its time.
#[must_use]
pub fn describe(event: &Event) -> String {
    match event {
        Event::RefusalEnded(_) => "the refused head is no longer the branch's".to_owned(),
        Event::SourceRekeyed(rekeyed) => {
            format!("{} is followed from here on, not {}", rekeyed.repository, rekeyed.previous)
        }
        Event::Moved(moved) => format!("{} until now; nothing of it was touched", moved.from),
        Event::SpecWished(wished) => format!(
            "{} changed, {} removed, and more to come",
            wished.changed.len(),
            wished.removed.len()
        ),
        Event::PlanBegun(begun) => format!(
            "plan {}: its approval stands for {} step(s) until they are done",
            begun.plan.short(),
            begun.steps.len()
        ),
        Event::PlanLapsed(lapsed) => {
            format!("plan {}: what is left of it is not needed any more", lapsed.plan.short())
        }
        Event::PlanWithdrawn(withdrawn) => {
            format!("plan {}: nothing of it is needed any more", withdrawn.plan.short())
        }
        Event::Claimed(claimed) => match claimed.claim.prevent_destroy {
            false if matches!(claimed.claim.resource, Some(Resource::Cluster(_))) => {
                "how it may be destroyed, or who may be given access to it, has changed".to_owned()
            }
            true => "it may no longer be destroyed".to_owned(),
            false => "how it may be destroyed has changed".to_owned(),
        },
        Event::LogOpened(opened) => {
            format!("opened by trueup {} on {}", opened.version, opened.host)
        }
        Event::LogRecovered(recovered) => {
            let pools = recovered.held.iter().filter(|id| id.kind == Kind::StoragePool).count();
            let mut held = match recovered.held.len() - pools {
                0 => String::new(),
                1 => "; 1 disk is held until its data is back".to_owned(),
                count => format!("; {count} disks are held until their data is back"),
            };
            if pools > 0 {
                held += &format!("; {pools} pool(s) until the folder is there");
            }
            format!(
                "brought back from snapshot {} of {}, begun {}: what happened after event {} is lost{held}",
                short(&recovered.snapshot),
                recovered.host,
                recovered.taken.strftime("%Y-%m-%d %H:%M:%S UTC"),
                recovered.last
            )
        }
        Event::Restoring(restoring) => format!(
            "{} out of snapshot {} of {} goes to {}",
            restoring.file,
            short(&restoring.snapshot),
            restoring.backup,
            restoring.path
        ),
        Event::Restored(restored) => super::backup::restored(restored),
        Event::RestoreFailed(failed) => failed.why.clone(),
        Event::LogTailCut(cut) => {
            format!("{} bytes of an unfinished line cut off, kept in {}", cut.bytes, cut.kept_in)
        }
        Event::CommitObserved(commit) => format!("{}: {}", commit.author, commit.subject),
        Event::RewriteRefused(refused) => {
            let offered = refused.offered.short();
            format!("head {offered} refused ({}), {} stays", refused.relation, refused.have.short())
        }
        Event::RewriteAccepted(accepted) => {
            format!("head {} let through", accepted.offered.short())
        }
        Event::SourceUnreachable(unreachable) => unreachable.error.clone(),
        Event::SourceReachable(_) => "the repository answers again".to_owned(),
        Event::SignatureRejected(rejected) => rejected.why.clone(),
        Event::SpecAccepted(spec) => {
            let (changed, removed) = (spec.changed.len(), spec.removed.len());
            format!("environment {}: {changed} changed, {removed} removed", spec.environment)
        }
        Event::SpecRejected(rejected) => match rejected.problems.first() {
            Some(first) => format!(
                "{} mistake(s), the first at {}:{}:{}: {}{}",
                rejected.errors,
                first.path,
                first.line,
                first.column,
                first.message,
                rest(&rejected.more)
            ),
            None => format!("{} mistake(s)", rejected.errors),
        },
        Event::SpecWarned(warned) => match warned.warnings.first() {
            Some(first) => format!(
                "{} warning(s), the first at {}:{}:{}: {}",
                warned.count, first.path, first.line, first.column, first.message
            ),
            None => "nothing is left to be warned of".to_owned(),
        },
        Event::SpecUnreadable(unreadable) => unreadable.error.clone(),
        Event::SpecReadable(_) => "the mirror can be read again".to_owned(),
        Event::PlanMade(made) => {
            format!("plan {}: {} step(s){}", made.plan.short(), made.total, rest(&made.more))
        }
        Event::PlanHeld(held) => {
            let reasons = held.reasons.join("; ");
            format!("plan {}: {reasons}{}", held.plan.short(), rest(&held.more))
        }
        Event::PlanApproved(approved) => {
            let via = approved.via.as_ref().map(|via| format!(" {}", by(via))).unwrap_or_default();
            let as_shown = approved.shown.map_or(String::new(), |shown| {
                format!(", which does no more than the approved plan {}", shown.short())
            });
            format!("plan {}{via}{as_shown}", approved.plan.short())
        }
        Event::PlanFinished(done) => format!(
            "plan {}: {} succeeded, {} failed, {} blocked",
            done.plan.short(),
            done.succeeded,
            done.failed,
            done.blocked
        ),
        Event::StepStarted(step) => {
            let changes = match changes(&step.changes, step.more.as_ref()) {
                none if none.is_empty() => none,
                some => format!(": {some}"),
            };
            format!("{} ({}){changes}", step.verb, reason(step.reason))
        }
        Event::StepSucceeded(step) if step.already => "it was so already".to_owned(),
        Event::StepSucceeded(step) => {
            let chosen = step.facts.get(Accelerator::FACT);
            let emulated = chosen.is_some_and(|word| word == Accelerator::Tcg.word());
            let emulated = if emulated { ", emulated" } else { "" };
            let hooks = step.facts.get("hooks").map(|said| format!("; {said}"));
            format!("{}{emulated}{}", after(step.elapsed_ms), hooks.unwrap_or_default())
        }
        Event::StepFailed(step) => {
            format!("try {}: {}{}", step.attempt, step.fault, rest(&step.more))
        }
        Event::StepInterrupted(_) => "trueup ended during it; looked at anew".to_owned(),
        Event::Synced(_) => "the machine is what the commit asks for".to_owned(),
        Event::Drifted(drifted) => {
            let healed = if drifted.heal { "" } else { " (reported only)" };
            match changes(&drifted.changes, drifted.more.as_ref()) {
                none if none.is_empty() => format!("{}{healed}", drifted.what),
                some => format!("{}: {some}{healed}", drifted.what),
            }
        }
        Event::Recovered(_) => "the drift is gone".to_owned(),
        Event::Flapping(flapping) => {
            let until = flapping.retry_at.strftime("%H:%M:%S UTC");
            format!("put right {} times, left alone until {until}", flapping.heals)
        }
        Event::Adopted(_) => "taken over".to_owned(),
        Event::Unobservable(unobservable) => unobservable.why.clone(),
        Event::Observable(_) => "it can be seen again".to_owned(),
        Event::Pruned(_) => "gone from the commit and from the machine".to_owned(),
        Event::GpuObserved(observed) => cut(&observed.gpu),
        Event::BackupOpened(opened) => {
            let how = if opened.made { "made" } else { "found" };
            format!("repository {} {how}", short(&opened.repository))
        }
        Event::BackupTaken(taken) => super::backup::taken(taken),
        Event::BackupVerified(verified) => {
            format!(
                "{} snapshot(s) checked, {} of data read, {}",
                verified.snapshots,
                super::backup::bytes(verified.read),
                after(verified.elapsed_ms)
            ) + &super::backup::noticed(&verified.notices)
        }
        Event::BackupDrilled(drilled) => super::backup::drilled(drilled),
        Event::BackupFailed(failed) => {
            let where_ = match failed.during {
                Chore::Drill => "what a drill restored",
                Chore::Run | Chore::Verify | Chore::Forget => "the repository",
            };
            format!("{} error(s) in {where_}, the first: {}", failed.errors, failed.why)
                + &super::backup::last_words(&failed.console)
        }
        Event::BackupForgotten(forgotten) => {
            let released = match forgotten.released.len() {
                0 => String::new(),
                count => format!("; {count} stood as a way back until now"),
            };
            format!(
                "{} snapshot(s) removed, {} stay, {} freed{released}",
                forgotten.removed_count,
                forgotten.kept,
                super::backup::bytes(forgotten.freed)
            ) + &super::backup::noticed(&forgotten.notices)
        }
        Event::BackupMissed(missed) => {
            let rpo = super::backup::span(missed.rpo_s);
            match missed.last_good {
                Some(at) => format!(
                    "the last complete snapshot is of {}, older than {rpo}",
                    at.strftime("%Y-%m-%d %H:%M:%S UTC")
                ),
                None => format!("there is no complete snapshot, and {rpo} is promised"),
            }
        }
        Event::ClusterObserved(observed) => super::cluster::observed(observed),
        Event::KubernetesObserved(observed) => super::cluster::observed_kubernetes(observed),
        Event::ReleaseObserved(observed) => super::release::observed(observed),
        Event::NodeDrained(drained) => format!(
            "{} is taken out until {}: {}",
            drained.node,
            drained.until.strftime("%Y-%m-%d %H:%M:%S"),
            drained.reason
        ),
        Event::NodeResumed(resumed) => format!("{} is given back", resumed.node),
        Event::AccessGiven(given) => format!(
            "{} may {} {} until {}",
            given.user,
            given.role.as_str(),
            given.namespace,
            given.until.strftime("%Y-%m-%d %H:%M:%S")
        ),
        Event::AccessTaken(taken) => {
            format!(
                "{} may not use access {} to {} any more",
                taken.user, taken.number, taken.namespace
            )
        }
        Event::BackupAsked(_) => "a snapshot is wanted now".to_owned(),
        Event::DrillAsked(_) => "a drill is wanted now".to_owned(),
        Event::BackupCancelled(_) => "what is being done for it is ended".to_owned(),
        Event::PolicyViolated(found) => {
            format!("{} ({}): {}", found.rule, found.level.word(), found.message)
        }
        Event::PolicyExempted(found) => format!(
            "{}: {}; {} answers for it until {}: {}",
            found.rule, found.message, found.owner, found.until, found.reason
        ),
        Event::GpuFound(found) => {
            let it = &found.identity;
            let vbios = it.vbios.as_ref().map(|it| format!(", vBIOS {it}")).unwrap_or_default();
            format!("{} at {}: {}, driver {}{vbios}", found.gpu, it.pci, it.product, it.driver)
        }
        Event::GpuGone(gone) => format!("{}: {}", gone.gpu, gone.why),
        Event::GpuLost(lost) => {
            format!("{} at {} does not answer: {}", lost.gpu, lost.pci, lost.why)
        }
        Event::GpuReturned(returned) => format!("{} answers again", returned.gpu),
        Event::GpuXid(reported) => xid(reported),
        Event::GpuDegraded(degraded) => {
            let problems: Vec<_> = degraded.problems.iter().map(ToString::to_string).collect();
            format!("{} at {}: {}", degraded.gpu, degraded.pci, problems.join("; "))
        }
        Event::GpuRecovered(recovered) => format!("nothing is wrong with {} now", recovered.gpu),
        Event::PolicyCleared(cleared) => format!("{}: no longer so", cleared.rule),
        Event::PlanSurprised(surprised) => format!(
            "plan {} does more than #{} said: {}{}",
            surprised.plan.short(),
            surprised.number,
            surprised.extra.join("; "),
            rest(&surprised.more)
        ),
        Event::PullObserved(pull) => {
            let fork = if pull.fork { ", from a fork" } else { "" };
            format!("#{} by {}: {}{fork}", pull.number, pull.author, pull.head.short())
        }
        Event::PullPlanned(pull) => format!("#{}: {}", pull.number, outcome(&pull.outcome)),
        Event::PullApproved(pull) => format!(
            "#{}: plan {} for {} {}",
            pull.number,
            pull.plan.short(),
            pull.head.short(),
            by(&pull.via)
        ),
        Event::PullApprovalWithdrawn(pull) => {
            format!("#{}: plan {}: {}", pull.number, pull.plan.short(), pull.why)
        }
        Event::PullClosed(pull) => format!("#{}", pull.number),
        Event::ForgePosted(posted) => place(&posted.target),
        Event::ForgeRefused(refused) => format!("{}: {}", place(&refused.target), refused.why),
        Event::ForgeUnavailable(unavailable) => unavailable.error.clone(),
        Event::ForgeAvailable(_) => "the forge answers again".to_owned(),
        Event::OperatorPaused(paused) => paused.reason.clone(),
        Event::OperatorResumed(_) => "changes go on".to_owned(),
        Event::OperatorHeld(held) => held.reason.clone(),
        Event::OperatorReleased(_) => "changes to it go on".to_owned(),
    }
}

/// `train 3g@4, infer-0 1g@0 on GPU-…`.
fn cut(gpu: &GpuSeen) -> String {
    let part = |part: &SeenPart| match &part.name {
        Some(name) => format!("{name} {}", part.label()),
        None => part.label(),
    };
    let parts: Vec<String> = gpu.parts.iter().map(part).collect();
    let what = match (gpu.mig, parts.is_empty()) {
        (None, _) => "whole, cannot be cut".to_owned(),
        (Some(mig), _) if !mig.current => "whole".to_owned(),
        (Some(_), true) => "cut, with nothing on it".to_owned(),
        (Some(_), false) => parts.join(", "),
    };
    let pending = gpu.mig.filter(|mig| mig.current != mig.pending);
    let pending = pending.map_or("", |_| "; another mode waits for a reset");
    format!("{what} on {}{pending}", gpu.uuid)
}

/// `GPU-… at 0000:07:00.0 (3g@4, train): Xid 79, GPU has fallen off the bus: reboot the machine`.
fn xid(reported: &GpuXid) -> String {
    let GpuXid { gpu, pci, report } = reported;
    let within: Vec<&str> =
        [&report.instance, &report.partition].into_iter().flatten().map(String::as_str).collect();
    let within = match within.is_empty() {
        true => String::new(),
        false => format!(" ({})", within.join(", ")),
    };
    let often = match report.count {
        0 | 1 => String::new(),
        count => format!(", {count} times"),
    };
    let (xid, meaning, advice) = (report.xid, &report.meaning, report.class.advice());
    format!("{gpu} at {pci}{within}: Xid {xid}{often}, {meaning}: {advice}")
}

fn outcome(outcome: &PullOutcome) -> String {
    match outcome {
        PullOutcome::Planned(plan) => {
            format!("plan {} of {} step(s)", plan.plan.short(), plan.promise.steps.len())
        }
        PullOutcome::Conflict(paths) => format!("does not merge: {}", paths.join(", ")),
        PullOutcome::Rejected(errors, _) => format!("{errors} mistake(s)"),
        PullOutcome::Refused(why) => why.clone(),
    }
}

/// `by the comment 4711 of ann on #7`.
fn by(via: &ForgeApproval) -> String {
    format!("by the {} {} of {} on #{}", via.means.word(), via.id, via.login, via.on)
}

fn place(target: &PostTarget) -> String {
    match target {
        PostTarget::Status(commit) => format!("the status of {}", commit.short()),
        PostTarget::Comment(number) => format!("the comment on #{number}"),
        PostTarget::Check(commit) => format!("the check of {}", commit.short()),
        PostTarget::Issue => "the issue about drift".to_owned(),
    }
}

/// Changed fields, and how many are not among them.
fn changes(changes: &[FieldChange], more: Option<&MoreChanges>) -> String {
    let changes = changes.iter().map(change).chain(more.map(more_changes));
    changes.collect::<Vec<_>>().join(", ")
}

/// How many fields are not shown, and where all of them are.
#[must_use]
pub fn more_changes(more: &MoreChanges) -> String {
    format!("and {} more (all: trueup log blob {})", more.left_out, more.all.blob.short())
}

/// A changed field, in the words of a plan: `memory.current: 1 GiB → 2 GiB`.
#[must_use]
pub fn change(change: &FieldChange) -> String {
    let spilled = [&change.from, &change.to].map(|side| side.as_ref().and_then(Spilled::in_value));
    let Some(more) = spilled.into_iter().flatten().last() else { return render::field(change) };
    format!("{}: {} bytes (trueup log blob {})", change.path, more.bytes, more.blob.short())
}

/// Where the rest of an event's content is.
fn rest(more: &Option<Spilled>) -> String {
    let rest = |more: &Spilled| format!(" (whole: trueup log blob {})", more.blob.short());
    more.as_ref().map(rest).unwrap_or_default()
}

/// The first digits of a long id.
pub(super) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// `after 340 ms`, `after 28.0 s`.
pub(super) fn after(elapsed_ms: u64) -> String {
    match elapsed_ms {
        0..1000 => format!("after {elapsed_ms} ms"),
        _ => format!("after {}.{} s", elapsed_ms / 1000, elapsed_ms % 1000 / 100),
    }
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Missing => "missing",
        Reason::Changed => "changed",
        Reason::Drifted => "drifted",
        Reason::Gone => "gone from the commit",
        Reason::Adopted => "adopted",
        Reason::Needed => "needed by another step",
        Reason::Due => "due",
    }
}
