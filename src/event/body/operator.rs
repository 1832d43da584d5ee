//! Events about the log itself and about what operators ask for.

use serde::{Deserialize, Serialize};

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
