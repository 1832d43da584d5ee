//! What is wanted of one GPU: from words of a spec to profiles of a board.

use serde::{Deserialize, Serialize};

use crate::board::{Board, ComputeProfile, Profile};
use crate::compute;
use crate::id::ProfileId;
use crate::layout::{ComputePart, Layout};

/// Instances of one wish, and of a target: more than any board holds.
pub const SLOTS_MAX: usize = 64;

/// How a profile is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Selector {
    /// By slices and suffix (`3g`, `1g+me`, `1g.2m`), which carries over to other boards.
    Shape(String),
    /// By the driver's name (`1g.10gb`), which does not.
    Profile(String),
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shape(word) | Self::Profile(word) => f.write_str(word),
        }
    }
}

/// Compute instances that are wanted within one GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeWish {
    /// `1c`, `2c` …: compute slices.
    pub shape: String,
    /// How many of them.
    #[serde(default = "one")]
    pub count: u32,
    /// First compute slice within the GPU instance; only with a count of 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
}

fn one() -> u32 {
    1
}

/// One line of a wanted layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Which profile.
    pub select: Selector,
    /// How many of them.
    #[serde(default = "one")]
    pub count: u32,
    /// First memory slice; only with a count of 1. Without it, whatever disturbs least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
    /// The compute instances; without them one that takes the whole instance. An empty list means
    /// none at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<Vec<ComputeWish>>,
    /// What other resources call it; only with a count of 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Wish {
    /// So many of a shape, anywhere.
    #[must_use]
    pub fn shape(shape: &str, count: u32) -> Self {
        let select = Selector::Shape(shape.to_owned());
        Self { select, count, start: None, compute: None, name: None }
    }

    /// So many of a profile by the driver's name, anywhere.
    #[must_use]
    pub fn profile(name: &str, count: u32) -> Self {
        let select = Selector::Profile(name.to_owned());
        Self { select, count, start: None, compute: None, name: None }
    }
}

/// One wanted GPU instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Position of the wish it comes from.
    pub wish: usize,
    /// The profile.
    pub profile: ProfileId,
    /// First memory slice, where it is fixed.
    pub start: Option<u32>,
    /// Its compute instances.
    pub compute: Vec<ComputePart>,
    /// What other resources call it.
    pub name: Option<String>,
}

/// All that is wanted of one GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The instances, in the order of the wishes.
    pub slots: Vec<Slot>,
}

impl Target {
    /// Exactly this layout: what a rollback leads to.
    #[must_use]
    pub fn exactly(layout: &Layout) -> Self {
        let slots = layout.parts.iter().enumerate().map(|(wish, part)| Slot {
            wish,
            profile: part.placed.profile,
            start: Some(part.placed.start),
            compute: part.compute.clone(),
            name: part.name.clone(),
        });
        Self { slots: slots.collect() }
    }
}

/// Why a wish means nothing on this board. Each carries the position of the wish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The board has no such profile.
    #[error("no profile `{asked}` on this GPU; it has {}", candidates.join(", "))]
    Unknown {
        /// Position of the wish.
        wish: usize,
        /// What was asked for.
        asked: String,
        /// What there is, as `1g+me (1g.10gb+me)`.
        candidates: Vec<String>,
    },
    /// More than one profile is called so.
    #[error("`{asked}` is more than one profile on this GPU: {}", candidates.join(", "))]
    Ambiguous {
        /// Position of the wish.
        wish: usize,
        /// What was asked for.
        asked: String,
        /// Which they are.
        candidates: Vec<String>,
    },
    /// It cannot start there.
    #[error("{asked} cannot start at slice {start}; it can at {starts:?}")]
    Start {
        /// Position of the wish.
        wish: usize,
        /// What was asked for.
        asked: String,
        /// The slice asked for.
        start: u32,
        /// Where it can.
        starts: Vec<u32>,
    },
    /// A start or a name, which only one instance can have, for more than one.
    #[error("{what} of {asked} is for one instance, and its count is {count}")]
    OnlyOne {
        /// Position of the wish.
        wish: usize,
        /// What was asked for.
        asked: String,
        /// `start` or `name`.
        what: &'static str,
        /// The count.
        count: u32,
    },
    /// A count of nothing, or of more than [`SLOTS_MAX`].
    #[error("count {count} of {asked} is not between 1 and {SLOTS_MAX}")]
    Count {
        /// Position of the wish.
        wish: usize,
        /// What was asked for.
        asked: String,
        /// The count.
        count: u32,
    },
    /// The instance has no such compute profile.
    #[error("no compute instance `{compute}` within {asked}; there is {}", candidates.join(", "))]
    UnknownCompute {
        /// Position of the wish.
        wish: usize,
        /// What was asked for.
        asked: String,
        /// The compute instance.
        compute: String,
        /// What there is.
        candidates: Vec<String>,
    },
    /// The compute instances do not go into it.
    #[error("the compute instances of {asked} do not fit into its {slices} compute slices")]
    ComputeMisfit {
        /// Position of the wish.
        wish: usize,
        /// What was asked for.
        asked: String,
        /// How many slices there are.
        slices: u32,
    },
    /// Two wishes with one name.
    #[error("two instances are called `{name}`")]
    DuplicateName {
        /// Position of the second wish.
        wish: usize,
        /// The name.
        name: String,
    },
}

/// Turns wishes into a target for this board. Whether they fit together is the planner's question.
///
/// # Errors
/// [`ResolveError`] of the first wish that means nothing here.
pub fn resolve(board: &Board, wishes: &[Wish]) -> Result<Target, ResolveError> {
    let mut slots: Vec<Slot> = Vec::new();
    for (wish, line) in wishes.iter().enumerate() {
        let asked = line.select.to_string();
        let profile = select(board, wish, &line.select)?;
        let sum = slots.len() + usize::try_from(line.count).unwrap_or(usize::MAX);
        if line.count == 0 || sum > SLOTS_MAX {
            return Err(ResolveError::Count { wish, asked, count: line.count });
        }
        let single = [("start", line.start.is_some()), ("name", line.name.is_some())];
        if let Some((what, _)) = single.iter().find(|(_, given)| *given && line.count > 1) {
            return Err(ResolveError::OnlyOne { wish, asked, what, count: line.count });
        }
        if let Some(start) = line.start.filter(|start| profile.place(*start).is_none()) {
            let starts = profile.placements.iter().map(|place| place.start).collect();
            return Err(ResolveError::Start { wish, asked, start, starts });
        }
        if let Some(name) = &line.name
            && slots.iter().any(|slot| slot.name.as_ref() == Some(name))
        {
            return Err(ResolveError::DuplicateName { wish, name: name.clone() });
        }
        let compute = compute_parts(profile, wish, line)?;
        for _ in 0..line.count {
            let (start, name) = (line.start, line.name.clone());
            slots.push(Slot { wish, profile: profile.id, start, compute: compute.clone(), name });
        }
    }
    Ok(Target { slots })
}

/// `1g+me (1g.10gb+me)` of each profile.
fn candidates<'p>(board: &Board, of: impl Iterator<Item = &'p Profile>) -> Vec<String> {
    of.map(|profile| match (board.shape(profile.id), &profile.name) {
        (shape, name) if shape == *name => shape,
        (shape, name) => format!("{shape} ({name})"),
    })
    .collect()
}

fn select<'b>(
    board: &'b Board,
    wish: usize,
    selector: &Selector,
) -> Result<&'b Profile, ResolveError> {
    let both = board.profiles().iter().zip(board.shapes());
    let found: Vec<&Profile> = both
        .filter(|(profile, shape)| match selector {
            Selector::Shape(word) => *shape == word,
            Selector::Profile(word) => profile.name == *word,
        })
        .map(|(profile, _)| profile)
        .collect();
    let asked = selector.to_string();
    match found.as_slice() {
        [profile] => Ok(profile),
        [] => {
            let candidates = candidates(board, board.profiles().iter());
            Err(ResolveError::Unknown { wish, asked, candidates })
        }
        several => {
            let ids = several.iter().map(|profile| format!("{} (id {})", profile.name, profile.id));
            Err(ResolveError::Ambiguous { wish, asked, candidates: ids.collect() })
        }
    }
}

fn compute_parts(
    profile: &Profile,
    wish: usize,
    line: &Wish,
) -> Result<Vec<ComputePart>, ResolveError> {
    let asked = line.select.to_string();
    let Some(wanted) = &line.compute else {
        let whole = profile.whole_compute().map(|it| ComputePart { profile: it.id, start: None });
        return Ok(whole.into_iter().collect());
    };
    let mut parts = Vec::new();
    for compute in wanted {
        if compute.count == 0 || compute.count > profile.compute_slices {
            let asked = format!("{} within {asked}", compute.shape);
            return Err(ResolveError::Count { wish, asked, count: compute.count });
        }
        if compute.start.is_some() && compute.count > 1 {
            let asked = format!("{} within {asked}", compute.shape);
            let (what, count) = ("start", compute.count);
            return Err(ResolveError::OnlyOne { wish, asked, what, count });
        }
        let word = |it: &ComputeProfile| format!("{}c", it.slices);
        // The first of equal slices: what follows are variants with other engines.
        let Some(found) = profile.compute.iter().find(|it| word(it) == compute.shape) else {
            let mut candidates: Vec<String> = profile.compute.iter().map(word).collect();
            candidates.dedup();
            let compute = compute.shape.clone();
            return Err(ResolveError::UnknownCompute { wish, asked, compute, candidates });
        };
        let part = ComputePart { profile: found.id, start: compute.start };
        parts.extend((0..compute.count).map(|_| part));
    }
    if compute::arrange(profile, &[], &parts).is_none() {
        let slices = profile.compute_slices;
        return Err(ResolveError::ComputeMisfit { wish, asked, slices });
    }
    Ok(parts)
}
