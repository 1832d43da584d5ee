//! When a target cannot be had: the nearest layout that can, with everything in use left as it is.
//!
//! Nearest is: the fewest instances of the target missing, then the least of its memory missing,
//! then the least [`crate::Cost`].

use std::cmp::Reverse;

use crate::board::Board;
use crate::fit::Room;
use crate::layout::{Layout, Placed};
use crate::observe::Instance;
use crate::plan::{Nearest, Outcome, PlanError, plan};
use crate::search::{self, SEARCH_MAX};
use crate::target::{Slot, Target};

/// Slots of a target that a layout meets, and their memory.
type Score = (u32, u32);

struct Walk<'a> {
    board: &'a Board,
    slots: &'a [Slot],
    room: Room<'a>,
    /// Slots not met yet, by profile.
    order: Vec<usize>,
    met: Vec<(usize, Placed)>,
    best: Vec<Vec<(usize, Placed)>>,
    score: Option<Score>,
    steps: u32,
}

/// Layouts of equal score that are priced; beyond it the first ones are good enough.
const EQUALS_MAX: usize = 64;

/// The nearest layout, and the way to it; none if not even leaving everything as it is can be
/// planned.
pub(crate) fn nearest(
    board: &Board,
    observed: &[Instance],
    target: &Target,
) -> Result<Option<Nearest>, PlanError> {
    let InUse { room, slots, spoken, held } = in_use(board, observed, target);
    let mut order: Vec<usize> = (0..slots.len()).filter(|at| !spoken[*at]).collect();
    order.sort_by_key(|at| {
        let units = board.profile(slots[*at].profile).map_or(0, crate::board::Profile::units);
        (slots[*at].start.is_none(), Reverse(units), slots[*at].profile, *at)
    });
    let mut walk = Walk {
        board,
        slots: &slots,
        room,
        order,
        met: Vec::new(),
        best: Vec::new(),
        score: None,
        steps: 0,
    };
    walk.descend(0, None);
    let extra: Vec<Placed> = held.iter().filter_map(place_of).collect();
    let mut found: Option<Nearest> = None;
    for met in std::mem::take(&mut walk.best) {
        let chosen = |at: &usize| spoken[*at] || met.iter().any(|(slot, _)| slot == at);
        let (mine, missing): (Vec<usize>, Vec<usize>) = (0..slots.len()).partition(chosen);
        let mut wanted: Vec<Slot> = mine.iter().map(|at| slots[*at].clone()).collect();
        for (slot, at) in wanted.iter_mut().zip(&mine) {
            if let Some((_, placed)) = met.iter().find(|(slot, _)| slot == at) {
                slot.start = Some(placed.start);
            }
        }
        wanted.extend(held.iter().cloned());
        // Its starts are fixed, so it is ready or impossible: this does not come back here.
        let outcome = fixed_plan(board, observed, &Target { slots: wanted })?;
        let Some(mut plan) = outcome else { continue };
        for seat in &mut plan.seats {
            // Positions are those of the target that was asked for.
            seat.slot = mine.get(seat.slot).copied().unwrap_or(usize::MAX);
        }
        plan.seats.retain(|seat| seat.slot != usize::MAX);
        if found.as_ref().is_none_or(|best| plan.cost < best.plan.cost) {
            found = Some(Nearest { missing, extra: extra.clone(), plan });
        }
    }
    Ok(found)
}

/// What is in use, and the slots that it meets.
struct InUse<'a> {
    room: Room<'a>,
    /// The slots; those met have the start of what meets them.
    slots: Vec<Slot>,
    /// By slot: whether it is met.
    spoken: Vec<bool>,
    /// Those in use that meet none.
    held: Vec<Slot>,
}

fn in_use<'a>(board: &'a Board, observed: &[Instance], target: &Target) -> InUse<'a> {
    let mut room = Room::new(board);
    let (mut slots, mut spoken) = (target.slots.clone(), vec![false; target.slots.len()]);
    // What is in use stands. It meets a slot if nothing in use within it changes for it, and if it
    // keeps its name.
    let mut held: Vec<Slot> = Vec::new();
    for instance in observed.iter().filter(|instance| instance.is_busy()) {
        let Some(index) = board.index(instance.placed.profile) else { continue };
        if let Some(place) = board.profiles()[index].place(instance.placed.start) {
            room.add(index, place);
        }
        let serves = |at: &usize| {
            let slot = &target.slots[*at];
            let here = slot.start.is_none_or(|start| start == instance.placed.start);
            let change = search::change_of(board, instance, slot);
            let kept = change.is_some_and(|change| change.busy == 0);
            !spoken[*at] && here && kept && !search::renames(instance, slot)
        };
        let bearer = |at: &usize| {
            let slot = &target.slots[*at];
            (slot.name != instance.name, slot.start.is_none(), *at)
        };
        let found = (0..target.slots.len()).filter(serves).min_by_key(bearer);
        match found {
            Some(at) => {
                spoken[at] = true;
                slots[at].start = Some(instance.placed.start);
            }
            None => held.extend(as_it_is(instance)),
        }
    }
    InUse { room, slots, spoken, held }
}

/// The plan to exactly this, if it destroys nothing in use.
fn fixed_plan(
    board: &Board,
    observed: &[Instance],
    target: &Target,
) -> Result<Option<crate::plan::Plan>, PlanError> {
    let feasible = search::best(board, observed, &target.slots)?;
    if feasible.is_none_or(|best| best.cost.busy > 0) {
        return Ok(None);
    }
    Ok(match plan(board, observed, target)? {
        Outcome::Ready(plan) => Some(plan),
        Outcome::Blocked { .. } | Outcome::Unplaceable { .. } => None,
    })
}

/// An instance as a slot that asks for it as it is.
fn as_it_is(instance: &Instance) -> Option<Slot> {
    let layout = Layout::of(std::slice::from_ref(instance));
    Target::exactly(&layout).slots.into_iter().next()
}

fn place_of(slot: &Slot) -> Option<Placed> {
    slot.start.map(|start| Placed { profile: slot.profile, start })
}

impl Walk<'_> {
    /// Meets or leaves out the next slot. `last` is the place of the slot before it: equal slots
    /// take ascending places, so that no layout comes twice.
    fn descend(&mut self, at: usize, last: Option<usize>) {
        self.steps += 1;
        // As many as the search may take; what was found until then is near enough.
        if self.steps > SEARCH_MAX {
            return;
        }
        let (count, units) = self.sum(self.met.iter().map(|(slot, _)| *slot));
        let rest = self.sum(self.order[at..].iter().copied());
        let reach = (count + rest.0, units + rest.1);
        if self.score.is_some_and(|score| reach < score) {
            return;
        }
        let Some(&slot) = self.order.get(at) else { return self.leaf((count, units)) };
        let wish = &self.slots[slot];
        let alike = |other: usize| {
            let other = &self.slots[other];
            other.profile == wish.profile && other.start.is_none() && wish.start.is_none()
        };
        let follows = at > 0 && alike(self.order[at - 1]);
        let from = if follows { last.map_or(0, |place| place + 1) } else { 0 };
        let Some(index) = self.board.index(wish.profile) else {
            return self.descend(at + 1, None);
        };
        let profile = &self.board.profiles()[index];
        for (place, placement) in profile.placements.iter().enumerate().skip(from) {
            let start = placement.start;
            if wish.start.is_none_or(|wanted| wanted == start) && self.room.add(index, place) {
                self.met.push((slot, Placed { profile: profile.id, start }));
                self.descend(at + 1, Some(place));
                self.met.pop();
                self.room.remove(index, place);
            }
        }
        // Leaving one of equal slots out means leaving out all that follow it.
        let skip = self.order[at..].iter().take_while(|next| alike(**next)).count().max(1);
        self.descend(at + skip, None);
    }

    fn sum(&self, slots: impl Iterator<Item = usize>) -> Score {
        slots.fold((0, 0), |(count, sum), slot| {
            let profile = self.board.profile(self.slots[slot].profile);
            (count + 1, sum + profile.map_or(0, crate::board::Profile::units))
        })
    }

    fn leaf(&mut self, score: Score) {
        if self.score.is_none_or(|best| score > best) {
            self.score = Some(score);
            self.best.clear();
        }
        if self.score == Some(score) && self.best.len() < EQUALS_MAX {
            self.best.push(self.met.clone());
        }
    }
}
