//! The capacity calculator: what would still go onto a GPU, and what would have to move or go for
//! it.
//!
//! It answers questions; it plans nothing. What is in use is moved in an answer only where there is
//! no other way, and is then named with who uses it.

use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::fit::{self, Misfit, Room};
use crate::id::ProfileId;
use crate::layout::{Layout, Part, Placed};
use crate::observe::{Holder, Instance};
use crate::plan::{Outcome, PlanError, plan};
use crate::search;
use crate::target::{Slot, Target};

/// Instances whose subsets are tried for removal. The largest board of 2026 holds 7.
const SUBSETS_MAX: usize = 12;

/// How many more of one profile would go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// The profile.
    pub profile: ProfileId,
    /// Beside everything as it stands.
    pub now: u32,
    /// If instances that nobody uses are moved.
    pub after_moves: u32,
    /// If instances that nobody uses are destroyed.
    pub after_clearing: u32,
}

/// An instance that is in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Displaced {
    /// Which.
    pub instance: Placed,
    /// Its name.
    pub name: Option<String>,
    /// Where it would move; none: it would go.
    pub to: Option<Placed>,
    /// Who uses it and may not be stopped; empty: nobody.
    pub holders: Vec<Holder>,
}

/// Whether instances would go in beside what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fits {
    /// Yes, and nothing has to change.
    Now {
        /// Where each would stand, in the order asked.
        at: Vec<Placed>,
        /// How the GPU would be cut.
        after: Layout,
    },
    /// Yes, once these have moved or gone: the least that has to.
    After {
        /// Which, by start.
        displaced: Vec<Displaced>,
        /// How the GPU would be cut.
        after: Layout,
    },
    /// No, not even on an empty GPU.
    Never {
        /// Why.
        why: Misfit,
    },
}

/// How many more of each profile would go in, in the board's order.
///
/// # Errors
/// As [`crate::plan()`].
pub fn capacity(board: &Board, observed: &[Instance]) -> Result<Vec<Capacity>, PlanError> {
    let placed: Vec<Placed> = observed.iter().map(|instance| instance.placed).collect();
    fit::check(board, &placed).map_err(|why| PlanError::Observation { why })?;
    let busy = observed.iter().filter(|instance| instance.is_busy()).map(|it| it.placed);
    let busy: Vec<Placed> = busy.collect();
    let mut all = Vec::with_capacity(board.profiles().len());
    for profile in board.profiles() {
        let now = beside(board, &placed, profile.id);
        let after_clearing = beside(board, &busy, profile.id);
        // Moving is at least as good as leaving, and clearing at least as good as moving.
        let mut after_moves = now;
        while after_moves < after_clearing {
            let mut slots = existing(observed, |instance| instance.is_busy());
            slots.extend((0..=after_moves).map(|_| bare(profile.id)));
            let found = search::best(board, observed, &slots)?;
            if found.is_none_or(|best| best.cost.busy > 0) {
                break;
            }
            after_moves += 1;
        }
        all.push(Capacity { profile: profile.id, now, after_moves, after_clearing });
    }
    Ok(all)
}

/// How many of a profile go in beside these. Its placements are of one size, so taking the lowest
/// free one each time is exact.
fn beside(board: &Board, placed: &[Placed], profile: ProfileId) -> u32 {
    let mut room = Room::new(board);
    for one in placed {
        if let Some((index, place)) = locate(board, *one) {
            room.add(index, place);
        }
    }
    let Some(index) = board.index(profile) else { return 0 };
    let places = 0..board.profiles()[index].placements.len();
    let added = places.filter(|place| room.add(index, *place)).count();
    u32::try_from(added).unwrap_or(u32::MAX)
}

fn locate(board: &Board, placed: Placed) -> Option<(usize, usize)> {
    let index = board.index(placed.profile)?;
    Some((index, board.profiles()[index].place(placed.start)?))
}

/// What is there as slots; those that `stays` tells stay where they are.
fn existing(observed: &[Instance], stays: impl Fn(&Instance) -> bool) -> Vec<Slot> {
    let mut slots = Target::exactly(&Layout::of(observed)).slots;
    for slot in &mut slots {
        let here = |it: &&Instance| {
            it.placed.profile == slot.profile && Some(it.placed.start) == slot.start
        };
        if !observed.iter().find(here).is_some_and(&stays) {
            slot.start = None;
        }
    }
    slots
}

fn bare(profile: ProfileId) -> Slot {
    Slot { wish: 0, profile, start: None, compute: Vec::new(), name: None }
}

/// Whether the slots of `add` would go in beside what is there.
///
/// # Errors
/// As [`crate::plan()`].
pub fn fits(board: &Board, observed: &[Instance], add: &Target) -> Result<Fits, PlanError> {
    // Alone first: what does not fit onto an empty GPU never does.
    if let Outcome::Unplaceable { why, .. } = plan(board, &[], add)? {
        return Ok(Fits::Never { why });
    }
    let beside = |slots: Vec<Slot>| Target { slots: [slots, add.slots.clone()].concat() };
    if let Outcome::Ready(plan) = plan(board, observed, &beside(existing(observed, |_| true)))? {
        let seats = plan.seats.iter().filter(|seat| seat.slot >= observed.len());
        return Ok(Fits::Now { at: seats.map(|seat| seat.placed).collect(), after: plan.after });
    }
    let moved = beside(existing(observed, Instance::is_busy));
    if let Outcome::Ready(plan) = plan(board, observed, &moved)? {
        let own = plan.seats.iter().filter(|seat| seat.slot < observed.len());
        let own: Vec<Placed> = own.map(|seat| seat.placed).collect();
        let displaced = displaced(observed, observed, own);
        return Ok(Fits::After { displaced, after: plan.after });
    }
    clearing(board, observed, add)
}

/// In use and displaced, gone, displaced: the least is the best.
type Loss = (usize, u32, usize);

/// The fewest that have to go so that the rest, moved where it must be, leaves room.
fn clearing(board: &Board, observed: &[Instance], add: &Target) -> Result<Fits, PlanError> {
    let count = observed.len().min(SUBSETS_MAX);
    let mut subsets: Vec<u32> = (0..1_u32 << count).collect();
    let gone = |subset: u32| {
        observed.iter().enumerate().filter(move |(at, _)| subset >> at & 1 == 1).map(|(_, it)| it)
    };
    subsets.sort_by_key(|&subset| {
        let busy = gone(subset).filter(|it| it.is_busy()).count();
        let memory = gone(subset).map(|it| board.placement(it.placed).map_or(0, |at| at.size));
        (busy, subset.count_ones(), memory.sum::<u32>(), subset)
    });
    let mut best: Option<(Loss, Layout, Vec<Displaced>)> = None;
    for subset in subsets {
        let stay: Vec<Instance> =
            observed.iter().filter(|it| !gone(subset).any(|other| other == *it)).cloned().collect();
        let mut slots = existing(&stay, |_| false);
        slots.extend(add.slots.iter().cloned());
        let Some(found) = search::best(board, &stay, &slots)? else { continue };
        let parts = found.seats.iter().map(|seat| Part {
            placed: seat.placed,
            name: slots[seat.slot].name.clone(),
            compute: slots[seat.slot].compute.clone(),
        });
        let after = Layout::new(parts.collect());
        let own = found.seats.iter().filter(|seat| seat.slot < stay.len());
        let displaced = displaced(observed, &stay, own.map(|seat| seat.placed).collect());
        let busy = displaced.iter().filter(|it| !it.holders.is_empty()).count();
        let key = (busy, subset.count_ones(), displaced.len());
        if best.as_ref().is_none_or(|(least, ..)| key < *least) {
            best = Some((key, after, displaced));
        }
    }
    let Some((_, after, displaced)) = best else {
        let why = Misfit::Arrangement {
            shapes: add.slots.iter().map(|slot| board.shape(slot.profile)).collect(),
            total: board.units(),
        };
        return Ok(Fits::Never { why });
    };
    Ok(Fits::After { displaced, after })
}

/// Who of those found is not where it was. `own` are the places of those that stay; that the new
/// ones take over a place of one of them counts as displacing it.
fn displaced(observed: &[Instance], stay: &[Instance], own: Vec<Placed>) -> Vec<Displaced> {
    let (kept, mut free): (Vec<Placed>, Vec<Placed>) =
        own.into_iter().partition(|placed| stay.iter().any(|it| it.placed == *placed));
    free.sort_unstable();
    let mut all = Vec::new();
    for instance in observed {
        let stays = stay.contains(instance);
        if stays && kept.contains(&instance.placed) {
            continue;
        }
        let next = free.iter().position(|to| stays && to.profile == instance.placed.profile);
        all.push(Displaced {
            instance: instance.placed,
            name: instance.name.clone(),
            to: next.map(|at| free.remove(at)),
            holders: instance.all_holders().filter(|it| !it.stoppable).cloned().collect(),
        });
    }
    all.sort_by_key(|it| it.instance);
    all
}
