//! The fit rule: what may stand on a GPU together, and all there is that may.
//!
//! Placements do not overlap and each stands where its profile may; no profile is there more often
//! than its maximum; the media engines suffice. (Memory and processors follow from the placements.)

use crate::board::{Board, Engines, Placement};
use crate::id::ProfileId;
use crate::layout::Placed;

/// Layouts that [`layouts`] lists. The largest board of 2026 has 2,319; the limit keeps a board that
/// nobody has seen yet from taking all memory.
pub const LAYOUTS_MAX: usize = 100_000;

/// Why instances do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// The board has no such profile.
    #[error("the board has no profile with id {profile}")]
    UnknownProfile {
        /// The id.
        profile: ProfileId,
    },
    /// The profile does not start there.
    #[error("{shape} cannot start at slice {start}, only at {}", list(starts))]
    Start {
        /// The profile's shape.
        shape: String,
        /// The slice asked for.
        start: u32,
        /// Where it may start.
        starts: Vec<u32>,
    },
    /// Two take one slice.
    #[error("{one} and {other} overlap")]
    Overlap {
        /// One, as [`Board::label`] calls it.
        one: String,
        /// The other.
        other: String,
    },
    /// More of a profile than the GPU holds.
    #[error("{count} times {shape}, of which the GPU holds {max}")]
    TooMany {
        /// The profile's shape.
        shape: String,
        /// How many are wanted.
        count: u32,
        /// How many are possible.
        max: u32,
    },
    /// More media engines than there are.
    #[error("{wanted} {engine} engines, of which the GPU has {total}")]
    Engines {
        /// Which engine.
        engine: &'static str,
        /// How many are wanted.
        wanted: u32,
        /// How many there are.
        total: u32,
    },
    /// More memory slices than there are.
    #[error("{wanted} memory slices, of which the GPU has {total}")]
    Memory {
        /// How many are wanted.
        wanted: u32,
        /// How many there are.
        total: u32,
    },
    /// Each fits, and no arrangement holds all.
    #[error("no arrangement of {} on {total} memory slices", shapes.join(", "))]
    Arrangement {
        /// The shapes wanted.
        shapes: Vec<String>,
        /// Memory slices of the GPU.
        total: u32,
    },
}

fn list(starts: &[u32]) -> String {
    starts.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// Checks that these stand on the board together.
///
/// # Errors
/// [`Misfit`] names the first rule broken.
pub fn check(board: &Board, placed: &[Placed]) -> Result<(), Misfit> {
    let mut room = Room::new(board);
    for (at, &one) in placed.iter().enumerate() {
        let Some(index) = board.index(one.profile) else {
            return Err(Misfit::UnknownProfile { profile: one.profile });
        };
        let profile = &board.profiles()[index];
        let Some(place) = profile.place(one.start) else {
            let starts = profile.placements.iter().map(|place| place.start).collect();
            return Err(Misfit::Start {
                shape: board.shape(one.profile),
                start: one.start,
                starts,
            });
        };
        if !room.add(index, place) {
            return Err(reason(board, &room, one, &placed[..at]));
        }
    }
    Ok(())
}

/// Why `one` does not go beside the others.
fn reason(board: &Board, room: &Room<'_>, one: Placed, others: &[Placed]) -> Misfit {
    let mask = |placed: Placed| board.placement(placed).map_or(0, Placement::mask);
    if let Some(other) = others.iter().find(|other| mask(**other) & mask(one) != 0) {
        return Misfit::Overlap { one: board.label(*other), other: board.label(one) };
    }
    let Some(index) = board.index(one.profile) else {
        return Misfit::UnknownProfile { profile: one.profile };
    };
    let profile = &board.profiles()[index];
    if room.counts[index] >= profile.max {
        let (shape, max) = (board.shape(one.profile), profile.max);
        return Misfit::TooMany { shape, count: max + 1, max };
    }
    engines_missing(board, room.engines.zip(profile.engines, |a, b| a + b)).unwrap_or(
        Misfit::Arrangement { shapes: vec![board.shape(one.profile)], total: board.units() },
    )
}

/// The first engine of which the board has less than this.
pub(crate) fn engines_missing(board: &Board, wanted: Engines) -> Option<Misfit> {
    let both = wanted.named().into_iter().zip(board.engines().named());
    both.filter(|((_, wanted), (_, total))| wanted > total)
        .map(|((engine, wanted), (_, total))| Misfit::Engines { engine, wanted, total })
        .next()
}

/// A layout under construction, by index of profile and of placement.
#[derive(Debug, Clone)]
pub(crate) struct Room<'b> {
    board: &'b Board,
    taken: u64,
    counts: Vec<u32>,
    engines: Engines,
}

impl<'b> Room<'b> {
    pub(crate) fn new(board: &'b Board) -> Self {
        let counts = vec![0; board.profiles().len()];
        Self { board, taken: 0, counts, engines: Engines::default() }
    }

    /// Whether this goes in beside what stands.
    pub(crate) fn admits(&self, profile: usize, place: usize) -> bool {
        let it = &self.board.profiles()[profile];
        self.taken & it.placements[place].mask() == 0
            && self.counts[profile] < it.max
            && self.engines.zip(it.engines, |a, b| a + b).within(self.board.engines())
    }

    /// Puts it in, if it goes in.
    pub(crate) fn add(&mut self, profile: usize, place: usize) -> bool {
        let admitted = self.admits(profile, place);
        if admitted {
            let it = &self.board.profiles()[profile];
            self.taken |= it.placements[place].mask();
            self.counts[profile] += 1;
            self.engines = self.engines.zip(it.engines, |a, b| a + b);
        }
        admitted
    }

    /// Takes out what [`Room::add`] put in.
    pub(crate) fn remove(&mut self, profile: usize, place: usize) {
        let it = &self.board.profiles()[profile];
        self.taken &= !it.placements[place].mask();
        self.counts[profile] -= 1;
        self.engines = self.engines.zip(it.engines, |a, b| a - b);
    }

    /// How much is still possible: the sum of the sizes of all placements that would go in.
    pub(crate) fn open(&self) -> u32 {
        let mut open = 0;
        for (index, profile) in self.board.profiles().iter().enumerate() {
            // Counts and engines are the same for all placements of a profile.
            let possible = self.counts[index] < profile.max
                && self.engines.zip(profile.engines, |a, b| a + b).within(self.board.engines());
            if possible {
                let free = profile.placements.iter().filter(|at| self.taken & at.mask() == 0);
                open += free.map(|at| at.size).sum::<u32>();
            }
        }
        open
    }
}

/// A board with more than [`LAYOUTS_MAX`] layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the board has more than {LAYOUTS_MAX} layouts")]
pub struct TooManyLayouts;

/// All layouts of a board, the empty one first; each by start.
///
/// # Errors
/// [`TooManyLayouts`].
pub fn layouts(board: &Board) -> Result<Vec<Vec<Placed>>, TooManyLayouts> {
    let mut found = Vec::new();
    let mut current = Vec::new();
    extend(board, &mut Room::new(board), (0, 0), &mut current, &mut found)?;
    Ok(found)
}

fn extend(
    board: &Board,
    room: &mut Room<'_>,
    from: (usize, usize),
    current: &mut Vec<Placed>,
    found: &mut Vec<Vec<Placed>>,
) -> Result<(), TooManyLayouts> {
    if found.len() == LAYOUTS_MAX {
        return Err(TooManyLayouts);
    }
    let mut layout = current.clone();
    layout.sort_unstable();
    found.push(layout);
    for (index, profile) in board.profiles().iter().enumerate().skip(from.0) {
        let first = if index == from.0 { from.1 } else { 0 };
        for (place, at) in profile.placements.iter().enumerate().skip(first) {
            if room.add(index, place) {
                current.push(Placed { profile: profile.id, start: at.start });
                extend(board, room, (index, place + 1), current, found)?;
                current.pop();
                room.remove(index, place);
            }
        }
    }
    Ok(())
}

/// The layouts to which nothing can be added.
///
/// # Errors
/// [`TooManyLayouts`].
pub fn maximal(board: &Board) -> Result<Vec<Vec<Placed>>, TooManyLayouts> {
    let mut all = layouts(board)?;
    all.retain(|layout| {
        let mut room = Room::new(board);
        for placed in layout {
            let index = board.index(placed.profile);
            if let Some((index, place)) =
                index.and_then(|index| Some((index, board.profiles()[index].place(placed.start)?)))
            {
                room.add(index, place);
            }
        }
        room.open() == 0
    });
    Ok(all)
}
