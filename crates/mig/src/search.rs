//! The exact search: of all layouts that meet a target, the one that is reached with the least loss.
//!
//! It walks over the choices of starts for each profile of the target (a few hundred at most on the
//! boards of 2026) and prices each leaf; nothing is estimated. Being exact, it never depends on the
//! order in which a target is written.

use std::cmp::Reverse;

use crate::board::Board;
use crate::compute::{self, Change};
use crate::fit::Room;
use crate::layout::Placed;
use crate::observe::Instance;
use crate::target::Slot;

/// Steps of one search. The worst target of the boards of 2026 takes some thousand; the limit makes
/// a board that nobody has seen yet an error and not a hang.
pub const SEARCH_MAX: u32 = 5_000_000;

/// Slots of one profile that are matched to instances exactly; the largest count in 2026 is 7.
const MATCH_MAX: usize = 10;

/// What a change costs, the dearest first: two are compared field by field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// Instances and compute instances destroyed that are in use, and instances in use whose name
    /// goes to somebody else. A plan that runs has none.
    pub busy: u32,
    /// The same of those whose declared clients are stopped for it.
    pub stopped: u32,
    /// GPU instances destroyed.
    pub destroyed: u32,
    /// Their memory slices.
    pub memory: u32,
    /// Compute instances destroyed within GPU instances that stay.
    pub compute: u32,
    /// Names that move to another instance.
    pub renamed: u32,
    /// What can still be placed afterwards, as the sum of the sizes of all open placements: more is
    /// better.
    pub open: Reverse<u32>,
}

impl Cost {
    /// The sum of two, for several GPUs.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            busy: self.busy + other.busy,
            stopped: self.stopped + other.stopped,
            destroyed: self.destroyed + other.destroyed,
            memory: self.memory + other.memory,
            compute: self.compute + other.compute,
            renamed: self.renamed + other.renamed,
            open: Reverse(self.open.0 + other.open.0),
        }
    }
}

/// A slot at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Position of the slot.
    pub(crate) slot: usize,
    /// Where it stands.
    pub(crate) placed: Placed,
    /// Position of the observed instance that is kept for it.
    pub(crate) instance: Option<usize>,
}

/// The best layout.
#[derive(Debug, Clone)]
pub(crate) struct Best {
    pub(crate) cost: Cost,
    pub(crate) seats: Vec<Seat>,
}

/// The search took more than [`SEARCH_MAX`] steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// The slots of one profile.
struct Group {
    profile: usize,
    slots: Vec<usize>,
    /// Placements that fixed starts name, ascending.
    fixed: Vec<usize>,
    /// Whether it matters which slot gets which place.
    distinct: bool,
}

struct Search<'a> {
    board: &'a Board,
    observed: &'a [Instance],
    slots: &'a [Slot],
    groups: Vec<Group>,
    /// By profile and placement: the observed instance.
    present: Vec<Vec<Option<usize>>>,
    /// By slot and observed instance of its profile: what changes within; none if it cannot.
    changes: Vec<Vec<Option<Change>>>,
    room: Room<'a>,
    chosen: Vec<Vec<usize>>,
    best: Option<Best>,
    steps: u32,
}

/// The best layout for the slots; none if they do not fit at all.
pub(crate) fn best(
    board: &Board,
    observed: &[Instance],
    slots: &[Slot],
) -> Result<Option<Best>, Exhausted> {
    if slots.iter().any(|slot| board.index(slot.profile).is_none()) {
        return Ok(None);
    }
    let groups = groups(board, observed, slots);
    let mut present: Vec<Vec<Option<usize>>> =
        board.profiles().iter().map(|profile| vec![None; profile.placements.len()]).collect();
    for (at, instance) in observed.iter().enumerate() {
        let Some(index) = board.index(instance.placed.profile) else { continue };
        if let Some(place) = board.profiles()[index].place(instance.placed.start) {
            present[index][place] = Some(at);
        }
    }
    let chosen = vec![Vec::new(); groups.len()];
    let changes = changes(board, observed, slots);
    let room = Room::new(board);
    let mut search = Search {
        board,
        observed,
        slots,
        groups,
        present,
        changes,
        room,
        chosen,
        best: None,
        steps: 0,
    };
    search.descend(0)?;
    Ok(search.best)
}

/// What changes within an instance when a slot takes it over.
pub(crate) fn change_of(board: &Board, instance: &Instance, slot: &Slot) -> Option<Change> {
    let profile = board.profile(slot.profile)?;
    (instance.placed.profile == slot.profile)
        .then(|| compute::change(profile, instance, &slot.compute))?
}

/// Whether an instance that a slot takes over loses its name by that. A name is a promise to whoever
/// refers to it: what is in use under one name must not become what another name stands for. A slot
/// without a name promises nothing.
pub(crate) fn renames(instance: &Instance, slot: &Slot) -> bool {
    let both = instance.name.as_ref().zip(slot.name.as_ref());
    both.is_some_and(|(has, gets)| has != gets)
}

fn changes(board: &Board, observed: &[Instance], slots: &[Slot]) -> Vec<Vec<Option<Change>>> {
    let mut all: Vec<Vec<Option<Change>>> = Vec::with_capacity(slots.len());
    for (at, slot) in slots.iter().enumerate() {
        let alike = |other: &Slot| other.profile == slot.profile && other.compute == slot.compute;
        // Most slots repeat the one before them.
        let row = match slots[..at].iter().position(alike) {
            Some(same) => all[same].clone(),
            None => observed.iter().map(|instance| change_of(board, instance, slot)).collect(),
        };
        all.push(row);
    }
    all
}

/// Slots by profile; the largest first, as they have the fewest places.
fn groups(board: &Board, observed: &[Instance], slots: &[Slot]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (at, slot) in slots.iter().enumerate() {
        let Some(profile) = board.index(slot.profile) else { continue };
        match groups.iter_mut().find(|group| group.profile == profile) {
            Some(group) => group.slots.push(at),
            None => {
                groups.push(Group { profile, slots: vec![at], fixed: Vec::new(), distinct: false })
            }
        }
    }
    let named = observed.iter().any(|instance| instance.name.is_some());
    for group in &mut groups {
        let first = &slots[group.slots[0]];
        let places = |slot: &usize| slots[*slot].start;
        let profile = &board.profiles()[group.profile];
        group.fixed =
            group.slots.iter().filter_map(places).filter_map(|at| profile.place(at)).collect();
        group.fixed.sort_unstable();
        group.distinct = group.slots.iter().any(|at| {
            let slot = &slots[*at];
            slot.start.is_some() || slot.compute != first.compute || (named && slot.name.is_some())
        });
    }
    groups.sort_by_key(|group| {
        let profile = &board.profiles()[group.profile];
        (Reverse(profile.units()), group.profile)
    });
    groups
}

impl Search<'_> {
    fn descend(&mut self, group: usize) -> Result<(), Exhausted> {
        if group == self.groups.len() {
            self.leaf();
            return Ok(());
        }
        self.choose(group, 0)
    }

    /// Chooses the next place of a group, from `from` on.
    fn choose(&mut self, group: usize, from: usize) -> Result<(), Exhausted> {
        self.steps += 1;
        if self.steps > SEARCH_MAX {
            return Err(Exhausted);
        }
        let it = &self.groups[group];
        let (profile, taken) = (it.profile, self.chosen[group].len());
        let missing = it.slots.len() - taken;
        if missing == 0 {
            let complete = it.fixed.iter().all(|place| self.chosen[group].contains(place));
            return if complete { self.descend(group + 1) } else { Ok(()) };
        }
        let places = self.board.profiles()[profile].placements.len();
        for place in from..(places + 1).saturating_sub(missing) {
            if self.room.add(profile, place) {
                self.chosen[group].push(place);
                self.choose(group, place + 1)?;
                self.chosen[group].pop();
                self.room.remove(profile, place);
            }
            // A place that a slot insists on cannot be left out.
            if self.groups[group].fixed.contains(&place) {
                break;
            }
        }
        Ok(())
    }

    /// Prices a layout and keeps it if it is the best so far.
    fn leaf(&mut self) {
        let mut cost = Cost::default();
        let kept = |at: usize| {
            self.groups.iter().zip(&self.chosen).any(|(group, chosen)| {
                chosen.iter().any(|place| self.present[group.profile][*place] == Some(at))
            })
        };
        for (at, instance) in self.observed.iter().enumerate() {
            if !kept(at) {
                cost.destroyed += 1;
                cost.memory += self.board.placement(instance.placed).map_or(0, |it| it.size);
                cost.busy += u32::from(instance.is_busy());
                cost.stopped += u32::from(instance.has_clients());
            }
        }
        let ahead = |cost: &Cost, best: &Option<Best>| {
            best.as_ref()
                .is_none_or(|best| (cost.busy, cost.stopped, cost.destroyed) <= three(&best.cost))
        };
        if !ahead(&cost, &self.best) {
            return;
        }
        let mut seats = Vec::with_capacity(self.slots.len());
        for group in 0..self.groups.len() {
            let Some(price) = self.seat(group, &mut seats) else { return };
            cost = cost.plus(price);
        }
        cost.open = Reverse(self.room.open());
        let better = self.best.as_ref().is_none_or(|best| {
            cost < best.cost || (cost == best.cost && starts(&seats) < starts(&best.seats))
        });
        if better {
            self.best = Some(Best { cost, seats });
        }
    }

    /// Gives the slots of a group its chosen places; none if a fixed start cannot be met.
    fn seat(&self, group: usize, seats: &mut Vec<Seat>) -> Option<Cost> {
        let (it, places) = (&self.groups[group], &self.chosen[group]);
        let pairs = if it.distinct && it.slots.len() <= MATCH_MAX {
            self.matching(it, places)?
        } else {
            self.in_order(it, places)?
        };
        let mut cost = Cost::default();
        for (slot, place) in pairs {
            cost = cost.plus(self.price(it, slot, place)?);
            let profile = &self.board.profiles()[it.profile];
            let placed = Placed { profile: profile.id, start: profile.placements[place].start };
            seats.push(Seat { slot, placed, instance: self.present[it.profile][place] });
        }
        Some(cost)
    }

    /// Slots that are alike, or too many to match: those with a start at it, the others in order.
    fn in_order(&self, group: &Group, places: &[usize]) -> Option<Vec<(usize, usize)>> {
        let profile = &self.board.profiles()[group.profile];
        let mut free: Vec<usize> = places.to_vec();
        let mut pairs = Vec::with_capacity(group.slots.len());
        for &slot in group.slots.iter().filter(|slot| self.slots[**slot].start.is_some()) {
            let place = self.slots[slot].start.and_then(|start| profile.place(start))?;
            free.retain(|at| *at != place);
            pairs.push((slot, place));
        }
        let open = group.slots.iter().filter(|slot| self.slots[**slot].start.is_none());
        pairs.extend(open.copied().zip(free));
        (pairs.len() == group.slots.len()).then_some(pairs)
    }

    /// The cheapest matching of slots to places, by dynamic programming over sets of places.
    fn matching(&self, group: &Group, places: &[usize]) -> Option<Vec<(usize, usize)>> {
        let count = group.slots.len();
        // By set of places used: the price, and the place of the last slot.
        let mut table: Vec<Option<(Cost, usize)>> = vec![None; 1 << count];
        table[0] = Some((Cost::default(), 0));
        for used in 0..1_usize << count {
            let Some((so_far, _)) = table[used] else { continue };
            let next = used.count_ones() as usize;
            let Some(&slot) = group.slots.get(next) else { continue };
            for (at, &place) in places.iter().enumerate().filter(|(at, _)| used >> at & 1 == 0) {
                let Some(price) = self.price(group, slot, place) else { continue };
                let sum = so_far.plus(price);
                let entry = &mut table[used | 1 << at];
                if entry.is_none_or(|(cost, _)| sum < cost) {
                    *entry = Some((sum, at));
                }
            }
        }
        let mut pairs = Vec::with_capacity(count);
        let mut used = (1_usize << count) - 1;
        for &slot in group.slots.iter().rev() {
            let (_, at) = table[used]?;
            pairs.push((slot, places[at]));
            used &= !(1 << at);
        }
        pairs.reverse();
        Some(pairs)
    }

    /// What it costs to give a slot this place; none if it insists on another.
    fn price(&self, group: &Group, slot: usize, place: usize) -> Option<Cost> {
        let wish = &self.slots[slot];
        let start = self.board.profiles()[group.profile].placements[place].start;
        if wish.start.is_some_and(|wanted| wanted != start) {
            return None;
        }
        let instance = self.present[group.profile][place];
        let mut cost = Cost::default();
        if let Some(at) = instance {
            let change = self.changes[slot][at].as_ref()?;
            cost.busy = change.busy;
            cost.stopped = change.stops;
            cost.compute = u32::try_from(change.destroy.len()).unwrap_or(u32::MAX);
            let instance = &self.observed[at];
            if renames(instance, wish) {
                cost.busy += u32::from(instance.is_busy());
                cost.stopped += u32::from(instance.has_clients());
            }
        }
        let bearer = wish.name.as_ref().and_then(|name| {
            self.observed.iter().position(|instance| instance.name.as_ref() == Some(name))
        });
        cost.renamed = u32::from(bearer.is_some() && bearer != instance);
        Some(cost)
    }
}

fn three(cost: &Cost) -> (u32, u32, u32) {
    (cost.busy, cost.stopped, cost.destroyed)
}

fn starts(seats: &[Seat]) -> Vec<Placed> {
    let mut starts: Vec<Placed> = seats.iter().map(|seat| seat.placed).collect();
    starts.sort_unstable();
    starts
}
