//! Between the words of `trueup_mig` and those of a plan.

use std::collections::BTreeSet;

use trueup_mig::{Board, ComputePart, Holder, Instance, Placed, Step};

use super::words;
use crate::model::resource::{self, GpuClient};
use crate::plan::{Action, GpuChange, GpuPart};

/// The instances, with those holders marked as stoppable that a declared client is.
pub(super) fn with_clients(instances: &[Instance], clients: &[GpuClient]) -> Vec<Instance> {
    let mut instances = instances.to_vec();
    resource::mark_stoppable(&mut instances, clients);
    instances
}

/// The units among holders, each once.
pub(super) fn units_of(holders: &[Holder]) -> Vec<String> {
    let units: BTreeSet<String> = holders.iter().filter_map(|it| it.unit.clone()).collect();
    units.into_iter().collect()
}

/// The action that one step of a way is.
pub(super) fn action(
    board: &Board,
    step: &Step,
    change: &GpuChange,
    name: &impl Fn(Placed) -> Option<String>,
) -> Action {
    let instance = step.instance();
    let change = Box::new(change.clone());
    let part = |compute: Option<ComputePart>| GpuPart {
        label: words::label(board, instance, compute),
        name: name(instance),
        instance,
        size: board.placement(instance).map_or(0, |place| place.size),
        compute,
    };
    match *step {
        Step::DestroyInstance { .. } => Action::GpuDestroyInstance { part: part(None), change },
        Step::CreateInstance { .. } => Action::GpuCreateInstance { part: part(None), change },
        Step::DestroyCompute { profile, start, .. } => {
            Action::GpuDestroyCompute { part: part(Some(ComputePart { profile, start })), change }
        }
        Step::CreateCompute { profile, start, .. } => {
            Action::GpuCreateCompute { part: part(Some(ComputePart { profile, start })), change }
        }
    }
}
