//! Trees that behave like the kernel, and what is asked of this crate on them.

mod holders;
mod kernel;
mod live;
mod observe;
mod passthrough;
mod tree;
mod vgpu;

use crate::error::Error;
use crate::exec::{Executor, Outcome};
use crate::plan::Plan;
use kernel::{Kernel, patience};
use tree::Tree;

/// Performs a plan's steps by new hands; as a journaling executor would, but without a journal.
#[track_caller]
fn perform(tree: &Tree, plan: &Plan, kernel: Kernel) -> Result<Vec<Outcome>, Error> {
    let text = serde_json::to_string(plan).unwrap();
    assert_eq!(&serde_json::from_str::<Plan>(&text).unwrap(), plan, "a journal gives steps back");
    let mut executor = Executor::new(tree.root(), kernel, patience());
    plan.steps.iter().map(|step| executor.perform(step)).collect()
}

/// Performs a plan, which succeeds.
#[track_caller]
fn done(tree: &Tree, plan: &Plan) -> Vec<String> {
    let kernel = Kernel::new(tree.folder());
    let log = kernel.log.clone();
    perform(tree, plan, kernel).unwrap();
    log.take()
}
