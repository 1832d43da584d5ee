//! Events about the log itself and about what operators ask for.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::ResourceId;

/// `log.opened`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOpened {
    /// Version of the program.
    pub version: String,
    /// Number of this writer; each opening has the next one.
    pub epoch: u64,
    /// Name of the host.
    pub host: String,
}

/// `log.recovered`: this log was brought back from a backup; who did it is the envelope's actor. What
/// happened after its last event before this one, on the machine that is lost, is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRecovered {
    /// The repository's own id, 64 hex digits.
    pub repository: String,
    /// The snapshot's id, 64 hex digits.
    pub snapshot: String,
    /// When it was begun.
    pub taken: Timestamp,
    /// The host that took it.
    pub host: String,
    /// The last event in it.
    pub last: u64,
    /// Disks that are held until somebody brings their data back, and their pools whose folders are not
    /// there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<ResourceId>,
}

/// `log.tail_cut`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTailCut {
    /// Segment that ended in an unfinished line.
    pub file: String,
    /// Byte at which it was cut.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
    /// File the cut bytes are kept in.
    pub kept_in: String,
}

/// `operator.paused`; who did it is the envelope's actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorPaused {
    /// Why, in the operator's words.
    pub reason: String,
}

/// `operator.resumed`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {}

/// `operator.held`; the resource is the envelope's subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorHeld {
    /// Why, in the operator's words.
    pub reason: String,
}

/// `operator.released`; the resource is the envelope's subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorReleased {}
