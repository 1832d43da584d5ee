//! The fold, as far as it is about one resource.
//!
//! It never knows of another resource, nor of the plan.

use jiff::Timestamp;

use super::backup::BackupState;
use super::cluster::ClusterState;
use super::types::{Failure, HEALS_KEPT_MAX, InFlight, ResourceState};
use crate::event::body::{StepFailed, StepStarted};
use crate::model::{Digest, Fault, RunId};
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

    /// What is known of its nodes and queues.
    pub(super) fn cluster(&mut self) -> &mut ClusterState {
        self.cluster.get_or_insert_default()
    }

    pub(super) fn start(&mut self, started: &StepStarted, seq: u64) {
        let claim_before = self.claim.clone();
        if started.claim.is_some() {
            self.claim.clone_from(&started.claim);
        }
        self.in_flight = Some(InFlight {
            plan: started.plan,
            step: started.step,
            seq,
            verb: started.verb.clone(),
            wish: started.wish,
            heals: started.reason == Reason::Drifted,
            claim_before,
        });
    }

    pub(super) fn succeed(&mut self, at: Timestamp, run: Option<RunId>) {
        let Some(step) = self.in_flight.take() else { return };
        if self.failure.as_ref().is_some_and(|failure| failure.verb == step.verb) {
            self.failure = None;
        }
        if step.heals && (run.is_none() || self.healed_by != run) {
            self.healed_by = run;
            if self.heals.len() == HEALS_KEPT_MAX {
                self.heals.remove(0);
            }
            self.heals.push(at);
        }
    }

    pub(super) fn fail(&mut self, failed: &StepFailed, at: Timestamp) {
        let Some(step) = self.in_flight.take() else { return };
        if step.verb == Action::BACKUP_RUN
            && let Some(backup) = &mut self.backup
        {
            backup.fail_run(at);
        }
        // A person is needed because something that is not ours is in the way: it does not become
        // ours by having been in the way. Any other failure may have happened half-way.
        if matches!(failed.fault, Fault::NeedsHuman { .. }) {
            self.claim = step.claim_before;
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
