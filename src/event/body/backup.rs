//! Events about backups; the backup is always the envelope's subject. What came of work on one is said
//! in the model's words ([`crate::model::backup`]).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::model::backup::{
    BackupBooted, BackupDrilled, BackupFailed, BackupForgotten, BackupNews, BackupOpened,
    BackupTaken, BackupVerified,
};

/// `backup.missed`: the last complete snapshot became older than promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupMissed {
    /// How old it may be, seconds.
    pub rpo_s: u64,
    /// When it was begun; `None`: there is none.
    pub last_good: Option<Timestamp>,
}

/// `operator.drill_asked`: somebody wants the last complete snapshot restored beside now; who is the
/// envelope's actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillAsked {}

/// `operator.backup_cancelled`: somebody ends what is being done for a backup; who is the envelope's
/// actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupCancelled {}

/// `operator.backup_asked`: somebody wants a snapshot now; who is the envelope's actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupAsked {}
