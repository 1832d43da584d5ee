//! The judge's own view of backups: work on a repository comes after the repository, only a schedule's
//! work is done because it is due, and what is to be saved before it is touched is saved before.

use super::Judge;
use crate::model::{Kind, Name, Resource};
use crate::plan::{Action, Disruption, Reason, Step};

impl Judge<'_> {
    /// Every step on a backup, and every one that needs one.
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
            let first = matches!(step.action, Action::BackupRun { before: Some(_), .. });
            let tidies = matches!(step.action, Action::VmForget { .. });
            let due = step.reason == Reason::Due && step.resource.kind != Kind::Cluster;
            if ((works && !first) || tidies) != due {
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
            self.saved_first(at, step);
            self.saves_for_something(at, step);
        }
    }

    /// What its spec says is saved before it is interrupted or destroyed is so.
    fn saved_first(&mut self, at: usize, step: &Step) {
        if step.disruption < Disruption::Restart {
            return;
        }
        let Some(backup) = self.asked_first(step) else { return };
        let id = crate::model::ResourceId::new(Kind::Backup, backup.clone());
        let saves = |action: &Action| {
            matches!(action, Action::BackupRun { before: Some(before), .. }
                if before.of.contains(&step.resource))
        };
        if !self.before(at, &id, saves) {
            self.blame(at, format!("does not wait for a snapshot by {id}"));
        }
    }

    /// The backup that has to come before a step on this resource.
    fn asked_first(&self, step: &Step) -> Option<&Name> {
        let wish = self.input.desired.resources.get(&step.resource).map(|wish| &wish.resource);
        let known = self.input.known.resources.get(&step.resource);
        match wish.or_else(|| known?.claimed.as_ref())? {
            Resource::VirtualMachine(vm) => vm.way_back.as_ref()?.backup.as_ref(),
            Resource::Disk(disk) => disk.way_back.as_ref()?.backup.as_ref(),
            _ => None,
        }
    }

    /// A snapshot that is taken first is taken for something that follows.
    fn saves_for_something(&mut self, at: usize, step: &Step) {
        let Action::BackupRun { before: Some(before), .. } = &step.action else { return };
        if step.reason != Reason::Needed {
            self.blame(at, "is taken as a way back, and not because something needs it");
        }
        for id in &before.of {
            let steps = self.steps_of.get(id).cloned().unwrap_or_default();
            let follows = |&later: &usize| {
                self.plan.steps[later].disruption >= Disruption::Restart && self.precedes(at, later)
            };
            if !steps.iter().any(follows) {
                self.blame(at, format!("is taken for {id}, to which nothing happens"));
            }
        }
        if before.of.is_empty() {
            self.blame(at, "is taken as the way back for nothing");
        }
    }
}
