//! The fold, as far as it is about one resource.
//!
//! It never knows of another resource, nor of the plan.

use jiff::Timestamp;

use super::backup::BackupState;
use super::cluster::ClusterState;
use super::release::ReleaseState;
use super::types::{Failure, HEALS_KEPT_MAX, InFlight, LostData, ResourceState};
use super::way_back::{InsideSnapshot, keep};
use crate::event::Event;
use crate::event::body::{Claim, ReleaseObserved, StepFailed, StepStarted, StepSucceeded};
use crate::model::{Digest, Fault, Resource, RunId};
use crate::plan::{Action, Reason};

impl ResourceState {
    /// Whether something on the machine is ours for this resource, or may be.
    pub fn is_ours(&self) -> bool {
        self.applied.is_some() || self.claim.is_some() || self.in_flight.is_some()
    }

    /// What flapped under another wish need not flap under this one: it may be the one that mends it.
    pub(super) fn ask_for(&mut self, wish: Digest) {
        if self.wish.replace(wish) != Some(wish) {
            self.heals.clear();
            self.flapping_until = None;
        }
    }

    /// What was wrong was wrong by the wish: without one, nothing is.
    pub(super) fn give_up_wish(&mut self) {
        self.wish = None;
        self.drift = None;
        self.failure = None;
        self.heals.clear();
        self.flapping_until = None;
    }

    /// What is known of its snapshots.
    pub(super) fn backup(&mut self) -> &mut BackupState {
        self.backup.get_or_insert_default()
    }

    /// Ends the wait for another try: who asks has seen to what was in the way, or wants to know.
    pub(super) fn try_again(&mut self) {
        if let Some(failure) = &mut self.failure {
            failure.retry_at = None;
        }
    }

    /// Its data was lost with the machine.
    pub(super) fn lose_data(&mut self, since: Timestamp) {
        let held_besides = match &self.lost_data {
            // It waited already, and was held for that alone.
            Some(before) if !before.held_besides => {
                self.hold = None;
                false
            }
            _ => self.hold.is_some(),
        };
        self.lost_data = Some(Box::new(LostData { since, held_besides }));
    }

    /// It is about to be held. What is held already while its data is awaited is held for both.
    pub(super) fn note_another_hold(&mut self) {
        let held = self.hold.is_some();
        if let Some(lost_data) = &mut self.lost_data {
            lost_data.held_besides |= held;
        }
    }

    /// Its data is back: what it was held for alone is over.
    pub(super) fn data_is_back(&mut self) {
        if self.lost_data.take().is_some_and(|lost_data| !lost_data.held_besides) {
            self.hold = None;
        }
    }

    /// Its data did not come back, which is why it is held now.
    pub(super) fn data_is_not_back(&mut self, why: &str) {
        let alone = self.lost_data.as_ref().is_some_and(|lost_data| !lost_data.held_besides);
        if let Some(hold) = self.hold.as_mut().filter(|_| alone) {
            why.clone_into(&mut hold.reason);
        }
    }

    /// What is known of its nodes and queues.
    pub(super) fn cluster(&mut self) -> &mut ClusterState {
        self.cluster.get_or_insert_default()
    }

    /// How its objects do.
    pub(super) fn observe_release(&mut self, seen: &ReleaseObserved, seq: u64, at: Timestamp) {
        let after = ReleaseState::after(self.release.as_deref(), seen, seq, at);
        self.release = Some(Box::new(after));
    }

    pub(super) fn start(&mut self, started: &StepStarted, seq: u64) {
        let claim_before = self.claim.clone();
        let backup_before = started.claim.as_ref().and_then(|claim| self.claim_now(claim));
        self.in_flight = Some(InFlight {
            plan: started.plan,
            step: started.step,
            seq,
            verb: started.verb.clone(),
            wish: started.wish,
            heals: started.reason == Reason::Drifted,
            claim_before,
            backup_before,
            cancelled: false,
        });
    }

    /// What is ours from now on; what was known of a repository in another place, which says nothing
    /// of this one.
    pub(super) fn claim_now(&mut self, claim: &Claim) -> Option<Box<BackupState>> {
        let before = self.claim.replace(claim.clone());
        let moved = match (repository(before.as_ref()), repository(Some(claim))) {
            (Some(before), Some(now)) => before != now,
            _ => false,
        };
        let known = self.backup.take_if(|_| moved);
        if let Some(known) = &known {
            // Its own repository may be given back to it, and the ways back that are in there.
            let (asked, pinned) = (known.asked, known.pinned.clone());
            let fresh = self.backup();
            (fresh.asked, fresh.pinned) = (asked, pinned);
        }
        known
    }

    /// The program ended in the middle of a step.
    pub(super) fn interrupt(&mut self) {
        if self.in_flight.take().is_some_and(|step| step.verb == Action::BACKUP_RUN) {
            self.backup().interrupted = true;
        }
    }

    pub(super) fn succeed(&mut self, succeeded: &StepSucceeded, at: Timestamp, run: Option<RunId>) {
        let Some(step) = self.in_flight.take() else { return };
        if let Some(name) = succeeded.facts.get(Action::VM_SNAPSHOT_FACT) {
            self.snapshots.retain(|there| there.name != *name);
            if step.verb == Action::VM_SNAPSHOT {
                keep(&mut self.snapshots, InsideSnapshot { name: name.clone(), at });
            }
        }
        if self.failure.as_ref().is_some_and(|failure| failure.verb == step.verb) {
            self.failure = None;
        }
        if step.verb == Action::GPU_SETTLE {
            self.gpu_settled();
        }
        if step.heals && (run.is_none() || self.healed_by != run) {
            self.healed_by = run;
            if self.heals.len() == HEALS_KEPT_MAX {
                self.heals.remove(0);
            }
            self.heals.push(at);
        }
    }

    /// Remembers when something was last done to it, or it was seen to be otherwise than before.
    pub(super) fn touch(&mut self, event: &Event, at: Timestamp) {
        let forgets = self.in_flight.as_ref().is_some_and(|step| step.verb == Action::VM_FORGET);
        let counts = match event {
            // That a way back goes is no change that there has to be one from.
            Event::StepSucceeded(_) => !forgets,
            event => matches!(
                event,
                Event::StepFailed(_)
                    | Event::StepInterrupted(_)
                    | Event::Synced(_)
                    | Event::Drifted(_)
                    | Event::Recovered(_)
            ),
        };
        if counts {
            self.touched = Some(at);
        }
    }

    /// A change of a GPU is proved: what was only needed on its way is over. One that takes a layout
    /// away keeps what tells ours from what stands beside it.
    fn gpu_settled(&mut self) {
        let resource = self.claim.as_mut().and_then(|claim| claim.resource.as_mut());
        let Some(Resource::GpuLayout(layout)) = resource else { return };
        let Some(memory) = &mut layout.memory else { return };
        match self.wish {
            Some(_) => memory.close(),
            None => memory.stopped.clear(),
        }
    }

    pub(super) fn fail(&mut self, failed: &StepFailed, at: Timestamp) {
        let Some(step) = self.in_flight.take() else { return };
        if step.verb == Action::BACKUP_RUN
            && let Some(backup) = &mut self.backup
        {
            backup.fail_run(at);
        }
        if step.cancelled
            && let Some(backup) = &mut self.backup
        {
            backup.put_off(&step.verb, at);
        }
        // A person is needed because something that is not ours is in the way: it does not become
        // ours by having been in the way. Any other failure may have happened half-way.
        if matches!(failed.fault, Fault::NeedsHuman { .. }) {
            self.claim = step.claim_before;
            if step.backup_before.is_some() {
                self.backup = step.backup_before;
            }
        }
        // It served a wish that went meanwhile: nobody tries it again.
        if self.wish.is_none() && step.wish.is_some() {
            return;
        }
        self.failure = Some(Failure {
            at,
            fault: failed.fault.clone(),
            verb: step.verb,
            attempts: failed.attempt,
            retry_at: failed.retry_at,
            wish: step.wish,
        });
    }
}

/// Where the repository of a claimed backup is.
fn repository(claim: Option<&Claim>) -> Option<&str> {
    match claim?.resource.as_ref()? {
        Resource::Backup(backup) => Some(&backup.repository),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::Hold;
    use super::*;
    use crate::event::body::BackupOpened;
    use crate::model::backup::Before;
    use crate::model::resource::{Backup, BackupSource};
    use crate::plan::Disruption;
    use crate::state::Pinned;
    use std::collections::BTreeMap;

    fn claim(repository: &str) -> Claim {
        let backup = Backup { repository: repository.into(), ..Backup::plain(BackupSource::State) };
        Claim {
            resource: Some(Resource::Backup(Box::new(backup))),
            prevent_destroy: false,
            orphan: false,
            depends_on: Default::default(),
        }
    }

    fn opening(repository: &str) -> StepStarted {
        StepStarted {
            plan: Digest::of("plan"),
            step: 0,
            verb: "open".into(),
            disruption: Disruption::None,
            reason: Reason::Missing,
            changes: vec![],
            more: None,
            wish: None,
            claim: Some(claim(repository)),
        }
    }

    /// With a repository that is known.
    fn opened() -> ResourceState {
        let mut known = ResourceState::default();
        known.start(&opening("/old"), 1);
        known.backup().open(&BackupOpened { repository: "1".repeat(64), made: true });
        known.succeed(&succeeded(BTreeMap::new()), Timestamp::UNIX_EPOCH, None);
        known
    }

    fn succeeded(facts: BTreeMap<String, String>) -> StepSucceeded {
        let plan = Digest::of("plan");
        StepSucceeded { plan, step: 0, already: false, facts, elapsed_ms: 0 }
    }

    #[test]
    fn snapshots_inside_a_machine_are_known_until_they_are_removed() {
        let mut known = ResourceState::default();
        let mut done = |verb: &str, name: &str| {
            known.start(&StepStarted { verb: verb.into(), claim: None, ..opening("/") }, 1);
            let facts = [(Action::VM_SNAPSHOT_FACT.to_owned(), name.to_owned())];
            known.succeed(&succeeded(facts.into()), Timestamp::UNIX_EPOCH, None);
            known.snapshots.iter().map(|it| it.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(done(Action::VM_SNAPSHOT, "a"), ["a"]);
        assert_eq!(done(Action::VM_SNAPSHOT, "b"), ["a", "b"]);
        assert_eq!(done(Action::VM_SNAPSHOT, "a"), ["b", "a"], "taken anew");
        assert_eq!(done("forget", "b"), ["a"]);
    }

    fn failed(fault: Fault) -> StepFailed {
        let plan = Digest::of("plan");
        StepFailed { plan, step: 0, fault, attempt: 1, retry_at: None, more: None }
    }

    #[test]
    fn what_is_known_of_one_repository_is_not_known_of_another() {
        let mut known = opened();
        known.backup().asked = true;
        let pinned = vec![Pinned {
            snapshot: "a".into(),
            repository: "1".repeat(64),
            at: Timestamp::UNIX_EPOCH,
            before: Before { of: Default::default(), keep_s: 1 },
        }];
        known.backup().pinned.clone_from(&pinned);
        known.start(&opening("/new"), 2);
        // The old one may be given back to it, with the ways back in it.
        let asked = BackupState { asked: true, pinned, ..BackupState::default() };
        assert_eq!(known.backup, Some(Box::new(asked.clone())));
        known.fail(&failed(Fault::transient("no space is left")), Timestamp::UNIX_EPOCH);
        assert_eq!(known.backup, Some(Box::new(asked)), "it may be half there: it is opened again");
        // The same place again is no news.
        let mut same = opened();
        same.start(&opening("/old"), 2);
        assert!(same.backup.unwrap().repository.is_some());
    }

    #[test]
    fn what_only_was_in_the_way_takes_nothing_of_what_is_known() {
        let mut known = opened();
        known.start(&opening("/new"), 2);
        let fault = Fault::needs_human("/new holds other files", "name another folder");
        known.fail(&failed(fault), Timestamp::UNIX_EPOCH);
        assert_eq!(known.backup.unwrap().repository, Some("1".repeat(64)));
        assert_eq!(known.claim, Some(claim("/old")));
    }

    #[test]
    fn a_disk_is_held_until_its_data_is_back_and_longer_where_somebody_else_holds_it() {
        let hold = |reason: &str| Some(Hold { by: "me".into(), reason: reason.into() });
        let hold_it = |disk: &mut ResourceState, reason: &str| {
            disk.note_another_hold();
            disk.hold = hold(reason);
        };
        let at = Timestamp::UNIX_EPOCH;
        let mut disk = ResourceState::default();
        disk.lose_data(at);
        hold_it(&mut disk, "its data");
        disk.data_is_not_back("the key is wrong");
        assert_eq!(disk.hold, hold("the key is wrong"));
        // The next machine is lost before it is back.
        disk.lose_data(at);
        hold_it(&mut disk, "its data");
        disk.data_is_back();
        assert_eq!((disk.hold, disk.lost_data), (None, None));

        let mut disk = ResourceState { hold: hold("moving"), ..ResourceState::default() };
        disk.lose_data(at);
        hold_it(&mut disk, "its data; and: moving");
        disk.data_is_not_back("the key is wrong");
        disk.data_is_back();
        assert_eq!((disk.hold, disk.lost_data), (hold("its data; and: moving"), None));

        let mut disk = ResourceState::default();
        disk.lose_data(at);
        hold_it(&mut disk, "its data");
        hold_it(&mut disk, "moving");
        disk.data_is_back();
        assert_eq!(disk.hold, hold("moving"), "that was said meanwhile");
    }
}
