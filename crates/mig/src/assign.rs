//! Several equal GPUs and targets that may be exchanged among them: who gets which.
//!
//! Exact: every GPU is planned against every target, and the cheapest assignment is found by dynamic
//! programming over sets of targets. Assigning is all it does; each GPU's plan is that of
//! [`crate::plan()`].

use crate::board::Board;
use crate::observe::Instance;
use crate::plan::{Outcome, PlanError, plan};
use crate::search::Cost;
use crate::target::Target;

/// GPUs, and targets, of one assignment: a server of 2026 has 8, and 2^16 sets are searched at once.
pub const GPUS_MAX: usize = 16;

/// What one GPU gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Position of the target.
    pub target: usize,
    /// What came of planning it.
    pub outcome: Outcome,
}

/// Why nothing was assigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssignError {
    /// More GPUs than [`GPUS_MAX`].
    #[error("{gpus} GPUs in one group; {GPUS_MAX} are the limit")]
    TooManyGpus {
        /// How many there are.
        gpus: usize,
    },
    /// More targets than GPUs.
    #[error("{targets} layouts for {gpus} GPUs")]
    TooManyTargets {
        /// How many layouts.
        targets: usize,
        /// How many GPUs.
        gpus: usize,
    },
    /// One GPU could not be planned.
    #[error("GPU {gpu} of the group cannot be planned")]
    Plan {
        /// Position of the GPU.
        gpu: usize,
        /// Why.
        #[source]
        why: PlanError,
    },
}

/// Targets that cannot be had, then what the others cost.
type Price = (u32, Cost);

/// A price, and the target that a GPU takes for it.
type Choice = (Price, Option<usize>);

/// Gives each target a GPU of its own so that as many as possible can be had, at the least cost in
/// all; of equal assignments the one with lower targets on lower GPUs. By GPU; none for a GPU that
/// is left alone.
///
/// # Errors
/// [`AssignError`].
pub fn assign(
    board: &Board,
    gpus: &[&[Instance]],
    targets: &[Target],
) -> Result<Vec<Option<Given>>, AssignError> {
    if gpus.len() > GPUS_MAX {
        return Err(AssignError::TooManyGpus { gpus: gpus.len() });
    }
    if targets.len() > gpus.len() {
        return Err(AssignError::TooManyTargets { targets: targets.len(), gpus: gpus.len() });
    }
    let mut outcomes: Vec<Vec<Outcome>> = Vec::with_capacity(gpus.len());
    for (gpu, observed) in gpus.iter().enumerate() {
        let mut row: Vec<Outcome> = Vec::with_capacity(targets.len());
        for (at, target) in targets.iter().enumerate() {
            // Equal GPUs and equal targets give equal plans, and are the rule.
            let alike = gpus[..gpu].iter().position(|other| other == observed);
            let same = targets[..at].iter().position(|other| other == target);
            row.push(match (alike, same) {
                (_, Some(same)) => row[same].clone(),
                (Some(other), None) => outcomes[other][at].clone(),
                (None, None) => {
                    plan(board, observed, target).map_err(|why| AssignError::Plan { gpu, why })?
                }
            });
        }
        outcomes.push(row);
    }
    let prices: Vec<Vec<Price>> =
        outcomes.iter().map(|row| row.iter().map(price).collect()).collect();
    let chosen = cheapest(&prices, targets.len());
    let rows = outcomes.into_iter().zip(chosen);
    Ok(rows
        .map(|(mut row, target)| {
            target.map(|target| Given { target, outcome: row.swap_remove(target) })
        })
        .collect())
}

fn price(outcome: &Outcome) -> Price {
    match outcome {
        Outcome::Ready(plan) => (0, plan.cost),
        Outcome::Blocked { .. } | Outcome::Unplaceable { .. } => (1, Cost::default()),
    }
}

/// By GPU, the target it gets in the cheapest assignment of all targets.
fn cheapest(prices: &[Vec<Price>], targets: usize) -> Vec<Option<usize>> {
    let all = (1_usize << targets) - 1;
    // By GPUs left over, from the last on, and set of targets given out: the price of the rest, and
    // what this GPU takes.
    let mut table: Vec<Vec<Option<Choice>>> = vec![vec![None; all + 1]; prices.len() + 1];
    table[prices.len()][all] = Some(((0, Cost::default()), None));
    for gpu in (0..prices.len()).rev() {
        for given in 0..=all {
            let skip = table[gpu + 1][given].map(|(rest, _)| (rest, None));
            let take =
                (0..targets).filter(|target| given >> target & 1 == 0).filter_map(|target| {
                    let (rest, _) = table[gpu + 1][given | 1 << target]?;
                    let (missed, cost) = prices[gpu][target];
                    Some(((rest.0 + missed, rest.1.plus(cost)), Some(target)))
                });
            // The first of equal ones: lower targets on lower GPUs, and rather one than none.
            let mut best: Option<Choice> = None;
            for option in take.chain(skip) {
                if best.is_none_or(|(price, _)| option.0 < price) {
                    best = Some(option);
                }
            }
            table[gpu][given] = best;
        }
    }
    let mut given = 0;
    let mut chosen = Vec::with_capacity(prices.len());
    for row in &table[..prices.len()] {
        let target = row[given].and_then(|(_, target)| target);
        given |= target.map_or(0, |target| 1 << target);
        chosen.push(target);
    }
    chosen
}
