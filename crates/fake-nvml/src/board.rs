//! The boards that can be simulated, from `boards.json`; no behaviour.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

const TABLE: &str = include_str!("../boards.json");

/// Counts of the engines that instances share out among themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engines {
    /// Video decoders.
    pub dec: u32,
    /// Video encoders.
    pub enc: u32,
    /// JPEG decoders.
    pub jpeg: u32,
    /// Optical flow accelerators.
    pub ofa: u32,
}

/// One GPU instance profile of a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// As the driver prints it, `1g.10gb`.
    pub name: String,
    /// The profile id, which creating and listing take.
    pub id: u32,
    /// The enum index, which only asking for profile information takes.
    pub index: u32,
    /// Compute slices.
    pub slices: u32,
    /// Where an instance may start, in placement units.
    pub starts: Vec<u32>,
    /// Placement units taken.
    pub size: u32,
    /// Most instances at a time.
    pub max: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Multiprocessors.
    pub sm: u32,
    /// Copy engines.
    pub ce: u32,
    /// The shared engines taken.
    #[serde(flatten)]
    pub engines: Engines,
}

/// A kind of GPU and how it may be cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// The name in this table.
    pub key: String,
    /// The product name.
    pub title: String,
    /// `ampere`, `hopper`, `blackwell`; anything else is reported as a number nobody knows.
    pub architecture: String,
    /// Where the rows come from.
    pub evidence: String,
    /// Placement units of the whole board.
    pub units: u32,
    /// Compute slices of the whole board.
    pub slices: u32,
    /// Shared engines of the whole board.
    pub engines: Engines,
    /// The PCI device id, without the vendor.
    pub pci_device_id: u32,
    /// Whether a change of the MIG mode needs a reset.
    pub needs_reset: bool,
    /// Whether the MIG mode outlives a reboot.
    pub mode_kept_by_reboot: bool,
    /// Whether the MIG mode outlives a reload of the driver.
    pub mode_kept_by_reload: bool,
    /// The profiles; an index without one is a hole (`NOT_SUPPORTED`).
    pub profiles: Vec<Profile>,
}

#[derive(Deserialize)]
struct Table {
    boards: Vec<Board>,
}

impl Board {
    /// The profile with this id.
    pub fn profile(&self, id: u32) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.id == id)
    }

    /// What NVML gives as the architecture.
    pub fn architecture_code(&self) -> u32 {
        match self.architecture.as_str() {
            "ampere" => 7,
            "hopper" => 9,
            "blackwell" => 10,
            _ => 77,
        }
    }

    /// The memory of the whole board in bytes, that of its largest profile.
    pub fn memory_bytes(&self) -> u64 {
        self.profiles.iter().map(|profile| profile.memory_mib).max().unwrap_or(0) << 20
    }
}

/// Every board of the table, by its key.
///
/// # Errors
///
/// The table is compiled in; an error means that it was edited and does not parse.
pub fn boards() -> Result<BTreeMap<String, Board>, serde_json::Error> {
    let table: Table = serde_json::from_str(TABLE)?;
    Ok(table.boards.into_iter().map(|board| (board.key.clone(), board)).collect())
}
