//! The judge's own view of backups: work on a repository comes after the repository, and only a
//! schedule's work is done because it is due.

use super::Judge;
use crate::model::Kind;
use crate::plan::{Action, Disruption, Reason};

impl Judge<'_> {
    /// Every step on a backup.
    pub(super) fn backups(&mut self) {
        let plan = self.plan;
        for (at, step) in plan.steps.iter().enumerate() {
            let works = matches!(
                step.action,
                Action::BackupRun { .. }
                    | Action::BackupVerify { .. }
                    | Action::BackupDrill { .. }
                    | Action::BackupForget { .. }
            );
            let due = step.reason == Reason::Due && step.resource.kind != Kind::Cluster;
            if works != due {
                self.blame(at, "is due, or is not, against its kind");
            }
            if step.resource.kind == Kind::Backup && step.disruption > Disruption::None {
                self.blame(at, "disturbs something although it only reads it");
            }
            let opens = |action: &Action| matches!(action, Action::BackupOpen { .. });
            let there = self.seen(&step.resource).is_some();
            if works && !there && !self.before(at, &step.resource, opens) {
                self.blame(at, "works on a repository that is not there");
            }
        }
    }
}
