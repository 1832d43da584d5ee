//! From what is to what is wanted: the plan, or why there is none.
//!
//! A pure function: the same board, observation and target give the same steps. It never plans to
//! destroy what is in use.

use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::compute::Change;
use crate::fit::{self, Misfit};
use crate::layout::{ComputePart, Layout, Part, Placed};
use crate::nearest;
use crate::observe::{Holder, Instance};
use crate::search::{self, Best, Cost, Exhausted, SEARCH_MAX};
use crate::step::{self, Step, StepError};
use crate::target::{Slot, Target};

/// A change that leads to the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How the GPU was found: what a rollback leads to.
    pub before: Layout,
    /// How it will be cut, with names.
    pub after: Layout,
    /// For each slot of the target, in its order, where it stands.
    pub seats: Vec<Seating>,
    /// What it costs.
    pub cost: Cost,
    /// Declared clients to stop before the first step and to start after the last.
    pub stops: Vec<Holder>,
    /// The steps: compute instances and then GPU instances destroyed, then the same created. Every
    /// prefix leaves a valid layout.
    pub steps: Vec<Step>,
}

/// Where a slot of the target stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seating {
    /// Position of the slot.
    pub slot: usize,
    /// Where it stands.
    pub placed: Placed,
    /// Whether a GPU instance that was there stays for it.
    pub kept: bool,
}

/// Why an instance in use stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Obstacle {
    /// The target has it, elsewhere: it would have to move there.
    Move {
        /// Where to.
        to: Placed,
    },
    /// The target has no place for it.
    Surplus,
    /// It stays, but compute instances in use within it would go.
    Compute,
    /// It stays, but it would be what another name stands for.
    Rename {
        /// The name that the target has for it.
        to: String,
    },
}

/// An instance in use that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Which.
    pub instance: Placed,
    /// Its name.
    pub name: Option<String>,
    /// What it would have to do.
    pub obstacle: Obstacle,
    /// Who uses it.
    pub holders: Vec<Holder>,
}

/// The nearest layout that can be had without touching what is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    /// Positions of the slots of the target that it lacks.
    pub missing: Vec<usize>,
    /// Instances in use that stay although the target has no place for them.
    pub extra: Vec<Placed>,
    /// The way to it.
    pub plan: Plan,
}

/// What came of planning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It can be done. Without steps there is nothing to do.
    Ready(Plan),
    /// It fits, but not without destroying something in use.
    Blocked {
        /// Who is in the way, in the arrangement that needs the fewest of them gone.
        needs: Vec<Need>,
        /// How the GPU would be cut then.
        wanted: Layout,
        /// The nearest layout that can be had now.
        nearest: Option<Box<Nearest>>,
    },
    /// It does not fit on this GPU, however empty.
    Unplaceable {
        /// Why.
        why: Misfit,
        /// The nearest layout that can be had now.
        nearest: Option<Box<Nearest>>,
    },
}

impl Outcome {
    /// The plan, if there is one.
    #[must_use]
    pub fn ready(&self) -> Option<&Plan> {
        match self {
            Self::Ready(plan) => Some(plan),
            Self::Blocked { .. } | Self::Unplaceable { .. } => None,
        }
    }
}

/// Why nothing can be said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// What was observed cannot stand on this board: its description is not that of the GPU, as
    /// after a driver update that changed the profiles.
    #[error("the instances found do not go with the profiles that the driver tells of")]
    Observation {
        /// What does not go together.
        #[source]
        why: Misfit,
    },
    /// The board allows so much that the search was given up.
    #[error("more than {SEARCH_MAX} arrangements; give the instances starts")]
    TooManyArrangements,
    /// The plan failed its own check: a mistake of this crate.
    #[error("step {at} of the plan is impossible")]
    Unsound {
        /// Position of the step.
        at: usize,
        /// Why.
        #[source]
        why: StepError,
    },
}

impl From<Exhausted> for PlanError {
    fn from(_: Exhausted) -> Self {
        Self::TooManyArrangements
    }
}

/// Plans the change from what was observed to the target.
///
/// Of all layouts that meet the target it takes the one with the least [`Cost`], and of equal ones
/// the one with the lowest starts.
///
/// # Errors
/// [`PlanError`]. That it cannot be done is no error but an [`Outcome`].
pub fn plan(board: &Board, observed: &[Instance], target: &Target) -> Result<Outcome, PlanError> {
    let placed: Vec<Placed> = observed.iter().map(|instance| instance.placed).collect();
    fit::check(board, &placed).map_err(|why| PlanError::Observation { why })?;
    match search::best(board, observed, &target.slots)? {
        Some(best) if best.cost.busy == 0 => {
            build(board, observed, &target.slots, best).map(Outcome::Ready)
        }
        Some(best) => Ok(Outcome::Blocked {
            needs: needs(board, observed, &target.slots, &best),
            wanted: after(board, observed, &target.slots, &best),
            nearest: nearest::nearest(board, observed, target)?.map(Box::new),
        }),
        None => Ok(Outcome::Unplaceable {
            why: misfit(board, &target.slots),
            nearest: nearest::nearest(board, observed, target)?.map(Box::new),
        }),
    }
}

/// The steps that bring back what stood `before`, from whatever a change left behind. Names come
/// back with it; MIG UUIDs do not: the driver gives new ones.
///
/// # Errors
/// As [`plan`].
pub fn rollback(
    board: &Board,
    before: &Layout,
    observed: &[Instance],
) -> Result<Outcome, PlanError> {
    plan(board, observed, &Target::exactly(before))
}

/// The plan for seats that were found, checked by replaying it.
fn build(
    board: &Board,
    observed: &[Instance],
    slots: &[Slot],
    best: Best,
) -> Result<Plan, PlanError> {
    let before = Layout::of(observed);
    let after = after(board, observed, slots, &best);
    let mut work = Work::default();
    let kept = |at: usize| best.seats.iter().find(|seat| seat.instance == Some(at));
    for (at, instance) in observed.iter().enumerate() {
        match kept(at) {
            Some(seat) => {
                let slot = &slots[seat.slot];
                let change = search::change_of(board, instance, slot);
                work.change(instance, &change.unwrap_or_default());
                if search::renames(instance, slot) {
                    work.stop(instance.all_holders());
                }
            }
            None => work.remove(instance),
        }
    }
    for seat in best.seats.iter().filter(|seat| seat.instance.is_none()) {
        let compute = after.part(seat.placed).map(|part| part.compute.clone());
        work.create(seat.placed, &compute.unwrap_or_default());
    }
    let (steps, stops) = work.finish();
    step::replay(board, &before, &steps).map_err(|(at, why)| PlanError::Unsound { at, why })?;
    let mut seats: Vec<Seating> = best
        .seats
        .iter()
        .map(|it| Seating { slot: it.slot, placed: it.placed, kept: it.instance.is_some() })
        .collect();
    seats.sort_by_key(|seat| seat.slot);
    Ok(Plan { before, after, seats, cost: best.cost, stops, steps })
}

/// Steps in the making, one list a phase.
#[derive(Default)]
struct Work {
    compute_off: Vec<Step>,
    off: Vec<Step>,
    on: Vec<Step>,
    compute_on: Vec<Step>,
    stops: Vec<Holder>,
}

impl Work {
    fn change(&mut self, instance: &Instance, change: &Change) {
        let placed = instance.placed;
        for compute in change.destroy.iter().map(|at| &instance.compute[*at]) {
            self.compute_off.push(Step::DestroyCompute {
                instance: placed,
                profile: compute.profile,
                start: Some(compute.start),
            });
            self.stop(compute.holders.iter());
        }
        self.make(placed, &change.create);
    }

    fn remove(&mut self, instance: &Instance) {
        let all: Vec<usize> = (0..instance.compute.len()).collect();
        self.change(instance, &Change { destroy: all, ..Change::default() });
        self.stop(instance.holders.iter());
        self.off.push(Step::DestroyInstance { instance: instance.placed });
    }

    fn create(&mut self, placed: Placed, compute: &[ComputePart]) {
        self.on.push(Step::CreateInstance { instance: placed });
        self.make(placed, compute);
    }

    fn make(&mut self, instance: Placed, compute: &[ComputePart]) {
        self.compute_on.extend(compute.iter().map(|it| Step::CreateCompute {
            instance,
            profile: it.profile,
            start: it.start,
        }));
    }

    fn stop<'h>(&mut self, holders: impl Iterator<Item = &'h Holder>) {
        for holder in holders {
            if !self.stops.contains(holder) {
                self.stops.push(holder.clone());
            }
        }
    }

    fn finish(self) -> (Vec<Step>, Vec<Holder>) {
        let mut steps = Vec::new();
        for mut phase in [self.compute_off, self.off, self.on, self.compute_on] {
            // Stable: the compute instances of one GPU instance stay in their order.
            phase.sort_by_key(Step::instance);
            steps.append(&mut phase);
        }
        (steps, self.stops)
    }
}

/// The layout that these seats make.
fn after(board: &Board, observed: &[Instance], slots: &[Slot], best: &Best) -> Layout {
    let part = |seat: &search::Seat| {
        let slot = &slots[seat.slot];
        let compute = match seat.instance.map(|at| &observed[at]) {
            Some(instance) => {
                let change = search::change_of(board, instance, slot).unwrap_or_default();
                let stay = instance.compute.iter().enumerate();
                let stay = stay
                    .filter(|(at, _)| !change.destroy.contains(at))
                    .map(|(_, it)| ComputePart { profile: it.profile, start: Some(it.start) });
                stay.chain(change.create.iter().copied()).collect()
            }
            None => {
                let profile = board.profile(slot.profile);
                let arranged =
                    profile.and_then(|it| crate::compute::arrange(it, &[], &slot.compute));
                arranged.unwrap_or_else(|| slot.compute.clone())
            }
        };
        Part { placed: seat.placed, name: slot.name.clone(), compute }
    };
    Layout::new(best.seats.iter().map(part).collect())
}

/// Who is in the way of these seats.
fn needs(board: &Board, observed: &[Instance], slots: &[Slot], best: &Best) -> Vec<Need> {
    let mut free: Vec<Placed> =
        best.seats.iter().filter(|it| it.instance.is_none()).map(|seat| seat.placed).collect();
    free.sort_unstable();
    let mut needs = Vec::new();
    for (at, instance) in observed.iter().enumerate().filter(|(_, it)| it.is_busy()) {
        let seat = best.seats.iter().find(|seat| seat.instance == Some(at));
        let obstacle = match seat {
            Some(seat) => {
                let slot = &slots[seat.slot];
                let change = search::change_of(board, instance, slot);
                match slot.name.clone().filter(|_| search::renames(instance, slot)) {
                    _ if change.is_some_and(|change| change.busy > 0) => Obstacle::Compute,
                    Some(to) => Obstacle::Rename { to },
                    None => continue,
                }
            }
            None => {
                let same = |to: &Placed| to.profile == instance.placed.profile;
                match free.iter().position(same) {
                    Some(at) => Obstacle::Move { to: free.remove(at) },
                    None => Obstacle::Surplus,
                }
            }
        };
        needs.push(Need {
            instance: instance.placed,
            name: instance.name.clone(),
            obstacle,
            holders: instance.all_holders().filter(|holder| !holder.stoppable).cloned().collect(),
        });
    }
    needs
}

/// Why the slots do not fit on an empty GPU: the plainest reason that there is.
fn misfit(board: &Board, slots: &[Slot]) -> Misfit {
    let fixed: Vec<Placed> = slots
        .iter()
        .filter_map(|slot| Some(Placed { profile: slot.profile, start: slot.start? }))
        .collect();
    if let Err(why) = fit::check(board, &fixed) {
        return why;
    }
    for slot in slots {
        let Some(profile) = board.profile(slot.profile) else {
            return Misfit::UnknownProfile { profile: slot.profile };
        };
        let count = slots.iter().filter(|other| other.profile == slot.profile).count();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if count > profile.max {
            let (shape, max) = (board.shape(slot.profile), profile.max);
            return Misfit::TooMany { shape, count, max };
        }
    }
    let profiles = || slots.iter().filter_map(|slot| board.profile(slot.profile));
    let wanted: u32 = profiles().map(crate::board::Profile::units).sum();
    if wanted > board.units() {
        return Misfit::Memory { wanted, total: board.units() };
    }
    let engines = profiles()
        .fold(crate::board::Engines::default(), |sum, it| sum.zip(it.engines, |a, b| a + b));
    fit::engines_missing(board, engines).unwrap_or_else(|| Misfit::Arrangement {
        shapes: slots.iter().map(|slot| board.shape(slot.profile)).collect(),
        total: board.units(),
    })
}
