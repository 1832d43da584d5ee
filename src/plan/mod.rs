//! `plan`: from desired and observed to an ordered, reasoned, digested list of steps.
//!
//! It never acts, waits or looks at a clock. [`plan`] makes it, [`check`] judges it with none of its
//! code, [`simulate`] says what a step would do to an observation, [`render`] shows it, [`promise`]
//! compares it with one that was shown before.

mod action;
mod build;
pub mod check;
mod diff;
mod facts;
mod first;
#[cfg(test)]
mod fixture;
mod gpu;
mod hold;
mod input;
mod kind;
mod link;
mod order;
mod own;
mod part;
pub mod promise;
mod refs;
mod remove;
pub mod render;
pub mod simulate;
#[cfg(test)]
mod tests;
mod types;
mod work;

use std::collections::BTreeMap;

pub use gpu::{GpuChange, GpuPart, GpuPicture, GpuSide};
pub use hold::{Destroyed, HoldReason, asked, causes, destroys, heals, hold_reasons};
pub use input::{
    Due, Guards, Input, Known, KnownAccess, KnownBackup, KnownCluster, KnownResource, NodeDrain,
    Own, window_open,
};
pub use part::{Parts, part};
pub use types::{
    Action, Disruption, FieldChange, LiveChange, Note, Plan, Reason, Remark, SkipReason, Skipped,
    Step, StepIndex,
};

/// Plans the way from what is to what should be. The same input gives the same plan.
///
/// What cannot be done is in [`Plan::skipped`] with its reason; there is no error.
pub fn plan(input: &Input<'_>) -> Plan {
    let mut refused = BTreeMap::new();
    loop {
        let mut work = work::Work::new(input, refused.clone());
        let unnamed = build::all(&mut work);
        remove::all(&mut work, &unnamed);
        link::all(&mut work);
        first::all(&mut work);
        work.settle();
        let steps = order::steps(&mut work);
        // A domain was to be stopped for a disk that cannot be made anew: once more without it. Each
        // round refuses another disk, so there are no more rounds than disks.
        let fallen = work.fallen_replacements();
        if !fallen.is_empty() {
            refused.extend(fallen);
            continue;
        }
        let mut skipped = work.skipped;
        skipped.sort_by(|a, b| a.resource.cmp(&b.resource));
        return Plan {
            commit: input.commit.clone(),
            environment: input.desired.environment.clone(),
            steps,
            skipped,
            pictures: work.pictures,
            notes: work.notes,
        };
    }
}
