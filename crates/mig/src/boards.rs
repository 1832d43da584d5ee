//! Boards to simulate and to test with. **Never for a real GPU**: there, the driver is asked.
//!
//! `fixtures/boards.json` is cut from NVIDIA's MIG user guide (its tables of supported profiles) and
//! from published captures of `nvidia-smi mig -lgip` and `-lgipp`; each board says which
//! (`evidence`: captured or documented). The starts of compute instances are assumed, as no capture
//! of them was found.

use serde::{Deserialize, Serialize};

use crate::board::{Board, BoardError, Profile};

/// The fixture.
pub const BOARDS_JSON: &str = include_str!("../fixtures/boards.json");

/// A board of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// What it is called here: `a100-40gb`.
    pub key: String,
    /// What it is called by its maker.
    pub title: String,
    /// `ampere`, `hopper`, `blackwell`.
    pub architecture: String,
    /// `captured` or `documented`.
    pub evidence: String,
    /// Whether switching MIG on or off needs a reset of the GPU.
    pub mode_change_needs_reset: bool,
    /// Its profiles.
    pub profiles: Board,
}

impl Sample {
    /// The board.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.profiles
    }
}

/// All boards of the table.
///
/// # Errors
/// The table is no longer what it should be.
pub fn samples() -> Result<Vec<Sample>, serde_json::Error> {
    serde_json::from_str(BOARDS_JSON)
}

/// A board reduced to the profiles of these shapes, as studies of partitioning use them.
///
/// # Errors
/// As [`Board::new`].
pub fn only(board: &Board, shapes: &[&str]) -> Result<Board, BoardError> {
    let both = board.profiles().iter().zip(board.shapes());
    let kept = both.filter(|(_, shape)| shapes.contains(&shape.as_str()));
    let profiles: Vec<Profile> = kept.map(|(profile, _)| profile.clone()).collect();
    Board::new(profiles)
}
