//! A board as NVML describes it: its profiles and where each may be placed.
//!
//! Everything is read at run time. Nothing here knows a board by its name, and no profile id, name
//! or start is assumed.

use serde::{Deserialize, Serialize};

use crate::id::{ComputeProfileId, ProfileId, ProfileIndex};
use crate::layout::Placed;
use crate::shape;

/// Memory slices of a board: the slices of a layout are the bits of a word.
pub const UNITS_MAX: u32 = 64;

/// Profiles of a board. NVML's enumeration had 18 in 2026; it is asked up to 64.
pub const PROFILES_MAX: usize = 64;

/// Compute profiles by slices and id, from the enumeration in `nvml.h`
/// (`NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE` = 0 …), whose values the driver uses as ids.
const COMPUTE_IDS: [(u32, u32); 7] = [(1, 0), (2, 1), (3, 2), (4, 3), (6, 6), (7, 4), (8, 5)];

/// A range of memory slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// First slice.
    pub start: u32,
    /// Number of slices.
    pub size: u32,
}

impl Placement {
    /// The slices as bits.
    pub(crate) fn mask(self) -> u64 {
        (u64::MAX >> (UNITS_MAX - self.size)) << self.start
    }
}

/// Media engines, which instances share out among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engines {
    /// Decoders.
    pub dec: u32,
    /// Encoders.
    pub enc: u32,
    /// JPEG engines.
    pub jpeg: u32,
    /// Optical-flow engines.
    pub ofa: u32,
}

impl Engines {
    /// Name and number of each.
    #[must_use]
    pub fn named(self) -> [(&'static str, u32); 4] {
        [("DEC", self.dec), ("ENC", self.enc), ("JPEG", self.jpeg), ("OFA", self.ofa)]
    }

    pub(crate) fn zip(self, other: Self, with: impl Fn(u32, u32) -> u32) -> Self {
        Self {
            dec: with(self.dec, other.dec),
            enc: with(self.enc, other.enc),
            jpeg: with(self.jpeg, other.jpeg),
            ofa: with(self.ofa, other.ofa),
        }
    }

    pub(crate) fn within(self, total: Self) -> bool {
        self.named().iter().zip(total.named()).all(|(part, whole)| part.1 <= whole.1)
    }
}

/// A kind of compute instance within one kind of GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeProfile {
    /// The id that creation takes.
    pub id: ComputeProfileId,
    /// Compute slices.
    pub slices: u32,
    /// How many of them a GPU instance holds at most.
    pub max: u32,
    /// Compute slices at which it may start. Empty: not known, the driver chooses.
    #[serde(default)]
    pub starts: Vec<u32>,
}

/// A kind of GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The id that placements, creation and listing take.
    pub id: ProfileId,
    /// The index that profile info takes.
    pub index: ProfileIndex,
    /// The driver's name (`1g.10gb+me`). Where it has none (an old driver) [`Board::new`] makes one.
    #[serde(default)]
    pub name: String,
    /// Compute slices.
    pub compute_slices: u32,
    /// Memory, MiB; 0 where it is not known. It varies with board, vBIOS, ECC and driver.
    pub memory_mib: u64,
    /// How many of them the GPU holds at most.
    pub max: u32,
    /// Media engines it takes.
    #[serde(default)]
    pub engines: Engines,
    /// Where it may stand, in memory slices.
    pub placements: Vec<Placement>,
    /// Its compute instances. The driver tells them of a living instance only; where this is empty,
    /// [`Board::new`] takes the ids of `nvml.h`, without starts.
    #[serde(default)]
    pub compute: Vec<ComputeProfile>,
}

impl Profile {
    /// Memory slices of its largest placement; 0 if it can stand nowhere.
    #[must_use]
    pub fn units(&self) -> u32 {
        self.placements.iter().map(|place| place.size).max().unwrap_or(0)
    }

    /// The compute profile that takes the whole of an instance.
    #[must_use]
    pub fn whole_compute(&self) -> Option<&ComputeProfile> {
        self.compute.iter().max_by_key(|compute| (compute.slices, std::cmp::Reverse(compute.id)))
    }

    /// Position of the placement that starts at `start`.
    pub(crate) fn place(&self, start: u32) -> Option<usize> {
        self.placements.iter().position(|place| place.start == start)
    }
}

/// Why a description is no board.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// More profiles than [`PROFILES_MAX`].
    #[error("{count} profiles; {PROFILES_MAX} are the limit")]
    TooManyProfiles {
        /// How many there are.
        count: usize,
    },
    /// One id twice.
    #[error("two profiles have the id {id}")]
    DuplicateProfile {
        /// The id.
        id: ProfileId,
    },
    /// A placement is empty, or ends after slice [`UNITS_MAX`].
    #[error("profile {id} has a placement at {start} of {size} slices; {UNITS_MAX} are the limit")]
    Placement {
        /// The profile.
        id: ProfileId,
        /// First slice.
        start: u32,
        /// Number of slices.
        size: u32,
    },
    /// Two placements of one profile start at one slice.
    #[error("profile {id} has two placements at {start}")]
    DuplicateStart {
        /// The profile.
        id: ProfileId,
        /// The slice.
        start: u32,
    },
}

/// What a GPU can be cut into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Profile>", into = "Vec<Profile>")]
pub struct Board {
    profiles: Vec<Profile>,
    shapes: Vec<String>,
    units: u32,
    engines: Engines,
}

impl Board {
    /// A board of these profiles, in the order in which they are shown.
    ///
    /// A profile without placements is kept: it is known, and nothing of it fits.
    ///
    /// # Errors
    /// [`BoardError`] says which profile contradicts itself.
    pub fn new(mut profiles: Vec<Profile>) -> Result<Self, BoardError> {
        if profiles.len() > PROFILES_MAX {
            return Err(BoardError::TooManyProfiles { count: profiles.len() });
        }
        for at in 0..profiles.len() {
            let id = profiles[at].id;
            if profiles[..at].iter().any(|other| other.id == id) {
                return Err(BoardError::DuplicateProfile { id });
            }
            let profile = &mut profiles[at];
            complete(profile)?;
            profile.name = shape::name_of(profile);
        }
        let places = profiles.iter().flat_map(|profile| &profile.placements);
        let units = places.map(|place| place.start + place.size).max().unwrap_or(0);
        // The board's total is told by no call; the profile of the whole GPU has all of them.
        let engines = profiles
            .iter()
            .fold(Engines::default(), |sum, profile| sum.zip(profile.engines, u32::max));
        let shapes = shape::shapes_of(&profiles);
        Ok(Self { profiles, shapes, units, engines })
    }

    /// The profiles.
    #[must_use]
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// The profile with this id.
    #[must_use]
    pub fn profile(&self, id: ProfileId) -> Option<&Profile> {
        self.index(id).map(|index| &self.profiles[index])
    }

    /// Shape of a profile: slices and suffix, without memory (`3g`, `1g+me`, `1g.2m`), which means
    /// the same on boards of one family. Of an unknown profile `#99`.
    #[must_use]
    pub fn shape(&self, id: ProfileId) -> String {
        self.index(id).map_or_else(|| format!("#{id}"), |index| self.shapes[index].clone())
    }

    /// `3g@4`: how an instance is called towards people.
    #[must_use]
    pub fn label(&self, placed: Placed) -> String {
        format!("{}@{}", self.shape(placed.profile), placed.start)
    }

    /// Memory slices.
    #[must_use]
    pub fn units(&self) -> u32 {
        self.units
    }

    /// Media engines: the most that one profile has of each, as one of them is the whole GPU.
    #[must_use]
    pub fn engines(&self) -> Engines {
        self.engines
    }

    /// The slices of an instance, if it can stand there.
    #[must_use]
    pub fn placement(&self, placed: Placed) -> Option<Placement> {
        let profile = self.profile(placed.profile)?;
        profile.place(placed.start).map(|place| profile.placements[place])
    }

    pub(crate) fn index(&self, id: ProfileId) -> Option<usize> {
        self.profiles.iter().position(|profile| profile.id == id)
    }

    pub(crate) fn shapes(&self) -> &[String] {
        &self.shapes
    }
}

/// Orders and checks the placements, and fills in the compute profiles.
fn complete(profile: &mut Profile) -> Result<(), BoardError> {
    let id = profile.id;
    profile.placements.sort_unstable();
    for &Placement { start, size } in &profile.placements {
        if size == 0 || start.checked_add(size).is_none_or(|end| end > UNITS_MAX) {
            return Err(BoardError::Placement { id, start, size });
        }
    }
    if let Some(pair) = profile.placements.windows(2).find(|pair| pair[0].start == pair[1].start) {
        return Err(BoardError::DuplicateStart { id, start: pair[0].start });
    }
    if profile.compute.is_empty() {
        let slices = profile.compute_slices;
        let fitting = COMPUTE_IDS.iter().filter(|(size, _)| *size <= slices);
        profile.compute = fitting
            .map(|&(size, id)| ComputeProfile {
                id: ComputeProfileId(id),
                slices: size,
                max: slices / size,
                starts: Vec::new(),
            })
            .collect();
    }
    Ok(())
}

impl TryFrom<Vec<Profile>> for Board {
    type Error = BoardError;

    fn try_from(profiles: Vec<Profile>) -> Result<Self, BoardError> {
        Self::new(profiles)
    }
}

impl From<Board> for Vec<Profile> {
    fn from(board: Board) -> Self {
        board.profiles
    }
}
