//! The fold: one event changes what is known.
//!
//! Applying never fails and never looks anywhere but at the event and the state.

#![deny(clippy::wildcard_enum_match_arm)]

use jiff::Timestamp;

use super::types::{
    Applied, Drift, Hold, LastLook, Paused, PlanState, PolicyFinding, Refused, Rejected,
    ResourceState, State,
};
use crate::event::body::SoftHold;
use crate::event::{Event, Recorded};
use crate::model::{CommitId, Digest, Kind, ResourceId};

impl State {
    /// Takes one event in. Events come in the order of the log, each once.
    pub fn apply(&mut self, recorded: &Recorded) {
        self.seq = recorded.seq;
        self.at = Some(recorded.at);
        let entry = &recorded.entry;
        let (at, actor) = (recorded.at, entry.actor.as_str());
        let commit = entry.commit.as_ref();
        if let Some(subject) = &entry.subject {
            self.apply_to_resource(subject, recorded);
            // What runs on a cluster changes all the time, and no plan with it.
            let load = matches!(&entry.event, Event::ClusterObserved(seen) if seen.load_only)
                || matches!(&entry.event, Event::KubernetesObserved(seen) if seen.load_only);
            if !load {
                self.pulls.machine = recorded.seq;
            }
        }
        match &entry.event {
            Event::LogOpened(opened) => self.epoch = opened.epoch,
            Event::LogRecovered(recovered) => {
                for disk in &recovered.held {
                    self.resources.entry(disk.clone()).or_default().lose_data(at);
                }
            }
            Event::CommitObserved(observed) => {
                self.source.head = commit.cloned();
                if observed.repository.is_some() {
                    self.source.repository.clone_from(&observed.repository);
                }
                self.source.refused = None;
                self.source.allowed = None;
            }
            Event::RewriteRefused(refused) => {
                let why = match refused.relation.as_str() {
                    "behind" => "it is older than the commit in force",
                    _ => "the branch was rewritten: it does not contain the commit in force",
                };
                self.refuse(&refused.offered, why, false, at);
            }
            Event::RewriteAccepted(accepted) => {
                self.source.allowed = Some(accepted.offered.clone());
            }
            Event::SourceUnreachable(unreachable) => {
                self.source.unreachable = Some((at, unreachable.error.clone()));
            }
            Event::SourceReachable(_) => self.source.unreachable = None,
            Event::SignatureRejected(rejected) => {
                // Whatever was let through was let through for its history.
                self.source.allowed = None;
                if let Some(commit) = commit {
                    self.refuse(commit, &rejected.why, true, at);
                }
            }
            Event::RefusalEnded(_) => self.source.refused = None,
            // What was refused or let through there says nothing about this one.
            Event::SourceRekeyed(rekeyed) => {
                self.source.repository = Some(rekeyed.repository.clone());
                self.source.refused = None;
                self.source.allowed = None;
            }
            Event::SpecWished(wished) => {
                self.note_landing(commit);
                self.wish(&wished.changed, &wished.removed);
            }
            Event::SpecAccepted(accepted) => {
                self.note_landing(commit);
                let before = self.spec.environment.replace(accepted.environment.clone());
                if self.spec.commit.as_ref() != commit
                    || self.spec.desired != Some(accepted.desired)
                {
                    self.begun.clear();
                    self.granted = None;
                }
                self.spec.commit = commit.cloned();
                self.spec.seq = recorded.seq;
                self.spec.since = Some(at);
                self.spec.settled = None;
                self.spec.tree.clone_from(&accepted.tree);
                self.pulls.surprised = None;
                self.spec.desired = Some(accepted.desired);
                self.spec.rejected = None;
                self.spec.warnings.clear();
                self.wish(&accepted.changed, &accepted.removed);
                if before.is_some_and(|before| before != accepted.environment) {
                    self.orphan();
                }
            }
            Event::SpecRejected(rejected) => {
                self.spec.rejected = commit.map(|commit| Rejected {
                    commit: commit.clone(),
                    errors: rejected.errors,
                    problems: rejected.problems.clone(),
                });
            }
            Event::SpecWarned(warned) => self.spec.warnings.clone_from(&warned.warnings),
            Event::SpecUnreadable(unreadable) => {
                self.spec.unreadable = Some((at, unreadable.error.clone()));
            }
            Event::SpecReadable(_) => self.spec.unreadable = None,
            // The plan that waits goes on waiting, and can still be approved.
            Event::PlanMade(made) if made.beside.is_some() => {}
            Event::PlanMade(made) => {
                self.plan = Some(PlanState {
                    plan: made.plan,
                    seq: recorded.seq,
                    made_at: at,
                    total: made.total,
                    held: Vec::new(),
                    soft: Vec::new(),
                    firm: false,
                    finished: false,
                    succeeded: 0,
                    failed: 0,
                });
                self.approvals.retain(|plan, _| *plan == made.plan);
                let granted = self.granted.as_ref().map(|granted| granted.plan);
                if let Some(other) = granted.filter(|it| *it != made.plan)
                    && !self.begun.contains_key(&other)
                {
                    self.ungrant(other);
                }
            }
            Event::PlanHeld(held) => {
                if let Some(plan) = self.plan.as_mut().filter(|plan| plan.plan == held.plan) {
                    plan.held.clone_from(&held.reasons);
                    plan.soft.clone_from(&held.soft);
                    plan.firm = held.firm;
                }
            }
            Event::PlanSurprised(surprised) => self.pulls.surprised = Some(surprised.plan),
            Event::PlanApproved(approved) => {
                let surprised = self.pulls.surprised.take().is_some();
                self.pulls.carry(approved);
                self.approvals.insert(approved.plan, actor.to_owned());
                let waiting = self.plan.as_mut().filter(|plan| plan.plan == approved.plan);
                let soft = waiting.map(|plan| {
                    plan.held.clear();
                    std::mem::take(&mut plan.soft)
                });
                let soft = soft.unwrap_or_default();
                self.grant(approved, actor, &soft, surprised, at);
                self.let_through(soft);
            }
            Event::PlanWithdrawn(withdrawn) => {
                self.pulls.surprised = None;
                self.pulls.spend(withdrawn.plan);
                self.ungrant(withdrawn.plan);
                self.approvals.remove(&withdrawn.plan);
                if let Some(plan) = self.plan.as_mut().filter(|plan| plan.plan == withdrawn.plan) {
                    plan.finished = true;
                    plan.held.clear();
                }
            }
            Event::PlanBegun(begun) => self.begin(begun),
            Event::PlanLapsed(lapsed) => {
                self.begun.remove(&lapsed.plan);
                self.ungrant(lapsed.plan);
            }
            Event::PlanFinished(finished) => {
                if finished.failed == 0 && finished.blocked == 0 {
                    self.pulls.spend(finished.plan);
                }
                self.approvals.remove(&finished.plan);
                if finished.failed == 0 && finished.blocked == 0 {
                    self.begun.remove(&finished.plan);
                    self.ungrant(finished.plan);
                }
                if let Some(plan) = self.plan.as_mut().filter(|plan| plan.plan == finished.plan) {
                    plan.finished = true;
                    plan.held.clear();
                }
            }
            Event::OperatorPaused(paused) => {
                let (by, reason) = (actor.to_owned(), paused.reason.clone());
                self.paused = Some(Paused { by, reason });
            }
            Event::OperatorResumed(_) => {
                self.paused = None;
                if let Some(plan) = self.plan.as_mut() {
                    plan.held.clear();
                }
            }
            Event::PullObserved(observed) => self.pulls.observe(observed, at),
            Event::PullPlanned(planned) => {
                let merging = self.is_merging();
                self.pulls.plan(planned, (recorded.seq, at), merging, self.spec.tree.as_deref());
            }
            Event::PullApproved(approved) => self.pulls.approve(approved, actor, at),
            Event::PullApprovalWithdrawn(withdrawn) => {
                self.pulls.disapprove(withdrawn);
                self.revoke(withdrawn, recorded.seq);
            }
            Event::PullClosed(closed) => self.pulls.close(closed, self.spec.tree.as_deref()),
            Event::ForgePosted(posted) => {
                let merging = self.is_merging();
                self.pulls.posted(posted, at, merging, self.spec.tree.as_deref());
            }
            Event::ForgeRefused(refused) => self.pulls.refused(refused),
            Event::ForgeUnavailable(unavailable) => {
                self.pulls.unavailable = Some((at, unavailable.error.clone()));
            }
            Event::ForgeAvailable(_) => self.pulls.unavailable = None,
            Event::PolicyViolated(found) => {
                let finding = PolicyFinding {
                    rule: found.rule.clone(),
                    resource: found.resource.clone(),
                    level: Some(found.level),
                    message: found.message.clone(),
                    owner: None,
                    since: at,
                };
                self.policy.insert(found.key, finding);
            }
            Event::PolicyExempted(found) => {
                let finding = PolicyFinding {
                    rule: found.rule.clone(),
                    resource: found.resource.clone(),
                    level: None,
                    message: found.message.clone(),
                    owner: Some(found.owner.clone()),
                    since: at,
                };
                self.policy.insert(found.key, finding);
            }
            Event::PolicyCleared(cleared) => {
                self.policy.remove(&cleared.key);
            }
            Event::GpuFound(found) => self.gpu_found(found),
            Event::GpuGone(gone) => {
                self.gpus.remove(&gone.gpu);
            }
            Event::GpuLost(lost) => self.gpu_lost(lost, at),
            Event::GpuReturned(returned) => self.gpu_returned(&returned.gpu),
            Event::GpuXid(reported) => self.gpu_xid(reported),
            Event::GpuDegraded(degraded) => self.gpu_degraded(degraded, at),
            Event::GpuRecovered(recovered) => self.gpu_recovered(&recovered.gpu),
            Event::StepSucceeded(step) => self.count_step(step.plan, |plan| plan.succeeded += 1),
            Event::StepFailed(step) => self.count_step(step.plan, |plan| plan.failed += 1),
            Event::Synced(_) | Event::Pruned(_) => {
                if commit.is_some() && self.spec.commit.as_ref() == commit {
                    self.spec.settled = Some(at);
                }
            }
            // About single resources (or the log itself): taken in above.
            Event::LogTailCut(_)
            | Event::Restoring(_)
            | Event::Restored(_)
            | Event::RestoreFailed(_)
            | Event::StepStarted(_)
            | Event::StepInterrupted(_)
            | Event::Claimed(_)
            | Event::Drifted(_)
            | Event::Recovered(_)
            | Event::Flapping(_)
            | Event::Adopted(_)
            | Event::Moved(_)
            | Event::Unobservable(_)
            | Event::Observable(_)
            | Event::GpuObserved(_)
            | Event::BackupOpened(_)
            | Event::BackupTaken(_)
            | Event::BackupVerified(_)
            | Event::BackupDrilled(_)
            | Event::BackupFailed(_)
            | Event::BackupForgotten(_)
            | Event::BackupMissed(_)
            | Event::BackupAsked(_)
            | Event::DrillAsked(_)
            | Event::BackupCancelled(_)
            | Event::ClusterObserved(_)
            | Event::KubernetesObserved(_)
            | Event::ReleaseObserved(_)
            | Event::NodeDrained(_)
            | Event::NodeResumed(_)
            | Event::AccessGiven(_)
            | Event::AccessTaken(_)
            | Event::OperatorHeld(_)
            | Event::OperatorReleased(_) => {}
        }
    }

    /// Remembers what an approval let through, so that no soft rule holds it a second time.
    fn let_through(&mut self, soft: Vec<SoftHold>) {
        for hold in soft {
            let rules = self.exempt.entry(hold.resource).or_default();
            rules.entry(hold.rule).or_default().extend(hold.steps);
        }
    }

    /// Whether a commit is seen and not taken in yet: it may be anybody's merge.
    fn is_merging(&self) -> bool {
        let (spec, head) = (&self.spec, self.source.head.as_ref());
        let mistaken = spec.rejected.as_ref().map(|rejected| &rejected.commit);
        head != spec.commit.as_ref() && head != mistaken
    }

    fn refuse(&mut self, commit: &CommitId, why: &str, signature: bool, since: Timestamp) {
        let (commit, why) = (commit.clone(), why.to_owned());
        self.source.refused = Some(Refused { commit, why, signature, since });
    }

    /// A host that gets another environment, or whose environment gets another name, keeps what the
    /// first one made: a name is no wish to destroy. That is everything of ours that nobody asks for
    /// now, also what the first one had no longer asked for and not yet removed.
    fn orphan(&mut self) {
        for known in self.resources.values_mut().filter(|known| known.wish.is_none()) {
            let before = known.in_flight.as_mut().and_then(|step| step.claim_before.as_mut());
            for claim in known.claim.as_mut().into_iter().chain(before) {
                claim.orphan = true;
            }
        }
    }

    fn wish(&mut self, changed: &[(ResourceId, Digest)], removed: &[ResourceId]) {
        for (id, digest) in changed {
            // What was let through was let through for what the commit asked then.
            self.exempt.remove(id);
            self.resources.entry(id.clone()).or_default().ask_for(*digest);
        }
        for id in removed {
            self.forget_wish(id);
        }
    }

    /// A resource gone from the commit is forgotten at once where nothing of it was ever made.
    fn forget_wish(&mut self, id: &ResourceId) {
        self.exempt.remove(id);
        if let Some(resource) = self.resources.get_mut(id) {
            resource.give_up_wish();
            if !resource.is_ours() {
                self.resources.remove(id);
            }
        }
    }

    fn apply_to_resource(&mut self, id: &ResourceId, recorded: &Recorded) {
        let entry = &recorded.entry;
        let at = recorded.at;
        // A finding about something is no knowledge of that thing itself; neither is how its GPU is.
        if matches!(
            entry.event,
            Event::PolicyViolated(_)
                | Event::PolicyExempted(_)
                | Event::PolicyCleared(_)
                | Event::GpuFound(_)
                | Event::GpuGone(_)
                | Event::GpuLost(_)
                | Event::GpuReturned(_)
                | Event::GpuXid(_)
                | Event::GpuDegraded(_)
                | Event::GpuRecovered(_)
        ) {
            return;
        }
        if matches!(entry.event, Event::Synced(_) | Event::Recovered(_) | Event::Pruned(_)) {
            self.settle(id);
        }
        if matches!(entry.event, Event::Pruned(_)) {
            self.resources.remove(id);
            self.exempt.remove(id);
            return;
        }
        if let Event::Moved(moved) = &entry.event {
            self.rename(&moved.from, id);
            return;
        }
        let resource = self.resources.entry(id.clone()).or_default();
        if matches!(id.kind, Kind::VirtualMachine | Kind::Disk) {
            resource.touch(&entry.event, at);
        }
        match &entry.event {
            Event::StepStarted(started) => resource.start(started, recorded.seq),
            Event::StepSucceeded(succeeded) => {
                let cleared = resource.in_flight.as_ref().is_some_and(|step| step.wish.is_none());
                resource.succeed(succeeded, at, entry.run);
                // What a backup left in a guest is cleared away when the backup is forgotten already.
                if cleared && resource.wish.is_none() && !resource.is_ours() {
                    self.resources.remove(id);
                }
            }
            Event::StepFailed(failed) => resource.fail(failed, at),
            Event::StepInterrupted(_) => resource.interrupt(),
            Event::Synced(synced) => {
                let commit = entry.commit.clone();
                resource.applied = Some(Applied { wish: synced.wish, commit, at });
                drop(resource.claim_now(&synced.claim));
                resource.failure = None;
                resource.drift = None;
            }
            Event::Claimed(claimed) => drop(resource.claim_now(&claimed.claim)),
            Event::Drifted(drifted) => {
                let since = resource.drift.as_ref().map_or(at, |drift| drift.since);
                resource.drift = Some(Drift {
                    since,
                    what: drifted.what.clone(),
                    changes: drifted.changes.clone(),
                    more: drifted.more.clone(),
                });
            }
            Event::Recovered(_) => {
                resource.drift = None;
                resource.failure = None;
            }
            Event::Flapping(flapping) => resource.flapping_until = Some(flapping.retry_at),
            Event::Unobservable(unobservable) => {
                resource.unobservable = Some(unobservable.why.clone());
            }
            Event::Observable(_) => resource.unobservable = None,
            Event::GpuObserved(observed) => {
                let seen = observed.gpu.clone();
                resource.gpu = Some(Box::new(LastLook { seq: recorded.seq, at, seen }));
            }
            Event::BackupOpened(opened) => resource.backup().open(opened),
            Event::BackupTaken(taken) => resource.backup().take(taken, at),
            Event::BackupVerified(verified) => resource.backup().verify(verified, at),
            Event::BackupDrilled(drilled) => resource.backup().drill(drilled, at),
            Event::BackupFailed(failed) => resource.backup().find_damage(failed, at),
            Event::BackupForgotten(forgotten) => resource.backup().forget(forgotten, at),
            Event::BackupMissed(_) => resource.backup().miss(at),
            Event::BackupCancelled(_) => {
                if let Some(step) = &mut resource.in_flight {
                    step.cancelled = true;
                }
            }
            Event::BackupAsked(_) => {
                resource.backup().asked = true;
                resource.try_again();
            }
            Event::DrillAsked(_) => {
                resource.backup().drill_asked = true;
                resource.try_again();
            }
            Event::ClusterObserved(seen) => resource.cluster().observe(seen, recorded.seq, at),
            Event::KubernetesObserved(seen) => {
                let name = id.name.as_str();
                resource.cluster().observe_kubernetes(seen, name, recorded.seq, at);
            }
            Event::ReleaseObserved(seen) => resource.observe_release(seen, recorded.seq, at),
            Event::NodeDrained(drained) => {
                resource.cluster().drain(drained, &entry.actor, recorded.seq, at);
                resource.try_again();
            }
            Event::NodeResumed(resumed) => {
                resource.cluster().resume(&resumed.node, recorded.seq);
                resource.try_again();
            }
            Event::AccessGiven(given) => {
                resource.cluster().give_access(given, &entry.actor, recorded.seq, at);
            }
            Event::AccessTaken(taken) => {
                resource.cluster().take_access(taken.number, recorded.seq);
                resource.try_again();
            }
            Event::Restored(_) => resource.data_is_back(),
            Event::RestoreFailed(failed) => resource.data_is_not_back(&failed.why),
            Event::OperatorHeld(held) => {
                resource.note_another_hold();
                let (by, reason) = (entry.actor.clone(), held.reason.clone());
                resource.hold = Some(Hold { by, reason });
            }
            Event::OperatorReleased(_) => {
                resource.hold = None;
                resource.lost_data = None;
            }
            Event::Adopted(_) | Event::Moved(_) | Event::Pruned(_) | Event::Restoring(_) => {}
            // Never about one resource.
            Event::LogOpened(_)
            | Event::LogTailCut(_)
            | Event::LogRecovered(_)
            | Event::CommitObserved(_)
            | Event::RewriteRefused(_)
            | Event::RewriteAccepted(_)
            | Event::SourceUnreachable(_)
            | Event::SourceReachable(_)
            | Event::SignatureRejected(_)
            | Event::RefusalEnded(_)
            | Event::SourceRekeyed(_)
            | Event::SpecWished(_)
            | Event::SpecAccepted(_)
            | Event::SpecRejected(_)
            | Event::SpecWarned(_)
            | Event::SpecUnreadable(_)
            | Event::SpecReadable(_)
            | Event::PlanMade(_)
            | Event::PlanHeld(_)
            | Event::PlanApproved(_)
            | Event::PlanBegun(_)
            | Event::PlanLapsed(_)
            | Event::PlanWithdrawn(_)
            | Event::PlanFinished(_)
            | Event::PlanSurprised(_)
            | Event::PullObserved(_)
            | Event::PullPlanned(_)
            | Event::PullApproved(_)
            | Event::PullApprovalWithdrawn(_)
            | Event::PullClosed(_)
            | Event::ForgePosted(_)
            | Event::ForgeRefused(_)
            | Event::ForgeUnavailable(_)
            | Event::ForgeAvailable(_)
            | Event::PolicyViolated(_)
            | Event::PolicyExempted(_)
            | Event::PolicyCleared(_)
            | Event::GpuFound(_)
            | Event::GpuGone(_)
            | Event::GpuLost(_)
            | Event::GpuReturned(_)
            | Event::GpuXid(_)
            | Event::GpuDegraded(_)
            | Event::GpuRecovered(_)
            | Event::OperatorPaused(_)
            | Event::OperatorResumed(_) => {}
        }
    }

    /// Everything known of `from` is known of `to`; only the wish is that of the new name.
    fn rename(&mut self, from: &ResourceId, to: &ResourceId) {
        if let Some(known) = self.resources.remove(from) {
            let wish = self.resources.get(to).and_then(|named| named.wish);
            self.resources.insert(to.clone(), ResourceState { wish, ..known });
            let backups = self.resources.values_mut().filter_map(|known| known.backup.as_mut());
            for pinned in backups.flat_map(|of| &mut of.pinned) {
                if pinned.before.of.remove(from) {
                    pinned.before.of.insert(to.clone());
                }
            }
        }
        self.exempt.remove(from);
    }

    fn count_step(&mut self, of: Digest, count: impl FnOnce(&mut PlanState)) {
        if let Some(plan) = self.plan.as_mut().filter(|plan| plan.plan == of) {
            count(plan);
        }
    }
}
