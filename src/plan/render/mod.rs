//! How a plan is shown: as text for a terminal, as Markdown for a pull request, as JSON for programs.
//!
//! Nothing here shows the content of a file that a resource writes; long values are cut.

pub mod escape;
mod json;
mod markdown;
mod text;
mod words;

use std::collections::BTreeSet;

use trueup_kubernetes::release::Step as ReleaseStep;

use super::{Action, Disruption, Plan, Reason, Step};
use crate::model::ResourceId;

pub use json::json;
pub use markdown::markdown;
pub use text::{Style, text};
pub use words::{
    backup_trouble, detail, disruption, field, reason, remark, repository_gone, skip_reason, value,
};

/// How many resources a plan does what to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Resources that are made.
    pub create: usize,
    /// Resources that are changed in place.
    pub change: usize,
    /// Of those, how many are interrupted for it.
    pub restart: usize,
    /// Resources that are destroyed and made anew.
    pub replace: usize,
    /// Resources that are destroyed.
    pub destroy: usize,
    /// Files left behind that are tidied away.
    pub tidy: usize,
    /// Differences that are left alone.
    pub left_alone: usize,
}

/// Counts a plan by resource; each counts once, as the worst that happens to it.
pub fn summary(plan: &Plan) -> Summary {
    let of = |wanted: &dyn Fn(&Step) -> bool| -> BTreeSet<&ResourceId> {
        let steps = plan.steps.iter().filter(|step| wanted(step));
        steps.map(|step| &step.resource).collect()
    };
    let destroyed = of(&|step| step.disruption == Disruption::Destroy);
    let replaced = of(&|step| step.disruption == Disruption::Replace);
    let created = of(&creates);
    let tidied = of(&|step| step.action.removes() && step.disruption == Disruption::None);
    let touched = of(&|step| !step.action.removes() && !idle(step));
    let restarted = of(&|step| step.disruption == Disruption::Restart);
    let only = |set: &BTreeSet<&ResourceId>, without: &[&BTreeSet<&ResourceId>]| {
        set.iter().filter(|id| !without.iter().any(|other| other.contains(**id))).count()
    };
    Summary {
        create: only(&created, &[&destroyed, &replaced]),
        change: only(&touched, &[&destroyed, &replaced, &created]),
        restart: only(&restarted, &[&destroyed, &replaced, &created]),
        replace: replaced.len(),
        destroy: destroyed.len(),
        tidy: only(&tidied, &[&destroyed, &replaced, &created, &touched]),
        left_alone: plan.skipped.len(),
    }
}

/// Whether a step makes its resource, as far as the plan alone tells: a definition with nothing to
/// compare with is one of something absent.
fn creates(step: &Step) -> bool {
    let makes = match &step.action {
        Action::ImageCreate { .. }
        | Action::SeedCreate { .. }
        | Action::DiskCreate { .. }
        | Action::BackupOpen { .. } => true,
        Action::PoolDefine { .. } | Action::NetworkDefine { .. } | Action::VmDefine { .. } => {
            step.changes.is_empty()
        }
        // What it makes is noted first.
        Action::Release { step: part, .. } => {
            step.reason == Reason::Missing
                && matches!(**part, ReleaseStep::Record { complete: false, .. })
        }
        _ => false,
    };
    // Of a release the note says what was rendered for it.
    let compares = !step.changes.is_empty() && !matches!(step.action, Action::Release { .. });
    makes && matches!(step.reason, Reason::Missing | Reason::Drifted) && !compares
}

/// Whether a step changes nothing.
fn idle(step: &Step) -> bool {
    matches!(step.action, Action::VmAwaitReady { .. } | Action::BackupRun { .. })
        || step.reason == Reason::Due
}

/// `Plan: 2 to create, 1 to change (1 restart), 0 to destroy · digest 0123456789ab`.
pub fn summary_line(plan: &Plan) -> String {
    let it = summary(plan);
    if plan.is_empty() {
        return match it.left_alone {
            0 => "Nothing to do: the machine is as the commit asks.".to_owned(),
            left => format!("Nothing to do; {left} left alone."),
        };
    }
    let mut line = format!("Plan: {} to create, {} to change", it.create, it.change);
    if it.restart > 0 {
        line += &format!(" ({} restart)", it.restart);
    }
    if it.replace > 0 {
        line += &format!(", {} to replace", it.replace);
    }
    line += &format!(", {} to destroy", it.destroy);
    if it.tidy > 0 {
        line += &format!(", {} to tidy", it.tidy);
    }
    if it.left_alone > 0 {
        line += &format!(", {} left alone", it.left_alone);
    }
    line + " · digest " + &plan.digest().short()
}

#[cfg(test)]
mod tests;
