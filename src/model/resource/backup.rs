//! The canonical form of a backup: what is saved, where to, when, and what is promised.
//!
//! It names its key and never holds it.

use serde::{Deserialize, Serialize};
use trueup_backup::objective::Objectives;
use trueup_backup::retention::Keep;
use trueup_backup::schedule::Schedule;

use crate::model::Name;

/// A series of snapshots of one source in one repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// What is saved.
    pub source: BackupSource,
    /// The folder of the repository, in restic's format.
    pub repository: String,
    /// The id that the repository has to have, or the start of it, where the wish says so: then
    /// another one than the log knows is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// The secret of this host that holds the repository's password.
    pub key: Name,
    /// When a snapshot is taken; `None`: only when an operator asks.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub schedule: Option<Schedule>,
    /// When and how deep the repository is checked.
    pub verify: Option<BackupVerify>,
    /// When and how the last complete snapshot is restored to prove that it can be; `None`: only when
    /// an operator asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<BackupDrill>,
    /// What stays in the repository, and how often the rest is removed; `None`: everything stays.
    pub retention: Option<BackupRetention>,
    /// What is promised.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub objectives: Objectives,
    /// What it may use.
    pub limits: BackupLimits,
}

/// What a backup saves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum BackupSource {
    /// Files and folders of the host.
    Paths(BackupPaths),
    /// What a program writes to its standard output.
    Command(BackupCommand),
    /// What trueup itself cannot be without: its log with what it names, its config and its mirror.
    State,
}

/// Files and folders of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupPaths {
    /// Absolute paths, sorted; at least one.
    pub paths: Vec<String>,
    /// What is left out, as in a `.gitignore`.
    pub exclude: Vec<String>,
    /// Whether other file systems below the paths are left out.
    pub one_file_system: bool,
}

/// A program whose output is saved as one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupCommand {
    /// The program, by its absolute path, and its arguments.
    pub argv: Vec<String>,
    /// The name of the file in the snapshot.
    pub file: String,
    /// How long it may run, seconds.
    pub timeout_s: u64,
}

/// When and how deep a repository is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupVerify {
    /// When.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub schedule: Schedule,
    /// Each check reads one of so many parts of the data, so that as many checks read all of it;
    /// `None`: the structure only.
    pub read_parts: Option<u32>,
}

/// When and how a snapshot is restored to prove that it can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupDrill {
    /// When.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub schedule: Schedule,
    /// A program that looks at what was restored, by its absolute path, and its arguments; empty:
    /// none.
    pub check: Vec<String>,
    /// How long that program may run, seconds.
    pub timeout_s: u64,
}

/// What stays in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupRetention {
    /// What stays.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub keep: Keep,
    /// Seconds between two removals of the rest.
    pub every_s: u64,
}

/// What a backup may use; without a number there is no limit.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct BackupLimits {
    /// Most that is read from the source, KiB a second.
    pub read_kib: Option<u64>,
    /// Most that is written to the repository, KiB a second.
    pub write_kib: Option<u64>,
    /// How long one job may take, seconds; `None`: [`Backup::TIME_S`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_s: Option<u64>,
}

impl Backup {
    /// How long one job may take when nothing is said, seconds: a day. Longer ones are few, and one
    /// that hangs must not do so for ever.
    pub const TIME_S: u64 = 24 * 3600;

    /// Whether the wish asks for another repository than `known`, in its place.
    #[must_use]
    pub fn asks_for_another(&self, known: &str) -> bool {
        self.repository_id.as_ref().is_some_and(|id| !known.starts_with(id.as_str()))
    }

    /// Takes out what may hold a secret: the arguments of a program.
    pub fn strip_texts(&mut self) {
        if let BackupSource::Command(command) = &mut self.source {
            command.argv.truncate(1);
        }
        if let Some(drill) = &mut self.drill {
            drill.check.truncate(1);
        }
    }

    /// The schedule of `chore`; `None`: it is never due by itself.
    #[must_use]
    pub fn schedule_of(&self, chore: Chore) -> Option<Schedule> {
        use trueup_backup::schedule::When;
        match chore {
            Chore::Run => self.schedule.clone(),
            Chore::Verify => self.verify.as_ref().map(|verify| verify.schedule.clone()),
            Chore::Drill => self.drill.as_ref().map(|drill| drill.schedule.clone()),
            Chore::Forget => self.retention.as_ref().map(|retention| Schedule {
                when: When::Every(retention.every_s),
                time_zone: None,
                jitter_s: 0,
                windows: Vec::new(),
            }),
        }
    }
}

/// What is done about a backup when its time has come, in the order in which it is done.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Chore {
    /// A snapshot is taken.
    Run,
    /// The repository is checked.
    Verify,
    /// The last complete snapshot is restored, compared and timed.
    Drill,
    /// Snapshots that need not stay are removed, with the data that nothing else needs.
    Forget,
}

impl Chore {
    /// All of them, in the order in which they are done.
    pub const ALL: [Self; 4] = [Self::Run, Self::Verify, Self::Drill, Self::Forget];
}
