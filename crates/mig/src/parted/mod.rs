//! The configuration format of NVIDIA's mig-parted (`version: v1`), into and out of this crate's
//! wishes.
//!
//! What that format cannot say (starts, names) is told when writing, never dropped in silence. It
//! names profiles as the driver prints them, and GPUs by index; whoever imports turns an index into
//! something lasting.

mod read;
mod write;

pub use read::read;
pub use write::{Lost, Written, write};

use serde::{Deserialize, Serialize};

use crate::target::Wish;

/// Bytes of a file that is read: NVIDIA's own, with all boards, has less than 40 KiB.
pub const BYTES_MAX: usize = 1 << 20;

/// Which GPUs an entry is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Devices {
    /// Each.
    All,
    /// Those with these indexes, as NVML counts them.
    Indexes(Vec<u32>),
}

/// A PCI device and vendor (`0x20B010DE`): the entry is for GPUs with this id only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceFilter(pub u32);

impl std::fmt::Display for DeviceFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0x{:08X}", self.0)
    }
}

/// How some GPUs are to be cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which GPUs.
    pub devices: Devices,
    /// Of these ids only; empty: of any.
    pub filter: Vec<DeviceFilter>,
    /// Whether MIG is on.
    pub enabled: bool,
    /// The instances.
    pub wishes: Vec<Wish>,
}

/// A named configuration: one entry for each kind of GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Its name: `all-1g.10gb`.
    pub name: String,
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// Why a file is no configuration, or a configuration cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartedError {
    /// It is too large.
    #[error("{bytes} bytes; {BYTES_MAX} are the limit")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is not YAML of this form.
    #[error("line {line}, column {column}: {message}")]
    Text {
        /// Line, from 1; 0 where it is not known.
        line: u64,
        /// Column, from 1; 0 where it is not known.
        column: u64,
        /// What the parser says.
        message: String,
    },
    /// It is of another version.
    #[error("version `{found}`; only `v1` is known")]
    Version {
        /// What it says.
        found: String,
    },
    /// A value means nothing.
    #[error("configuration `{config}`: {message}")]
    Value {
        /// The configuration.
        config: String,
        /// What is wrong with which value.
        message: String,
    },
}

/// Slices of a name such as `3g.20gb`.
pub(crate) fn slices(name: &str) -> Option<u32> {
    name.split_once('g')?.0.parse().ok()
}
