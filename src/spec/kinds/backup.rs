//! `Backup`: snapshots of one source in one repository, and what is promised about them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::environment::Day;
use crate::spec::scalar::SizeText;

/// Snapshots of one source, in a repository of restic's format: plain `restic` restores them. A backup
/// counts once its repository was checked, not once it was uploaded.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupSpec {
    /// What is saved: exactly one of these.
    pub source: BackupSourceSpec,
    /// Where it is saved.
    pub repository: BackupRepositorySpec,
    /// The name of the secret that holds the repository's password: a file of this name in the
    /// folder that `backup.secrets` of the host's config names.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub key: String,
    /// When a snapshot is taken; only with `trueup backup run` when not given.
    pub schedule: Option<BackupScheduleSpec>,
    /// When the repository is checked: every day, its structure only, when not given.
    pub verify: Option<BackupVerifySpec>,
    /// When and how the last complete snapshot is restored into a scratch folder, compared with what
    /// it should be, timed, and removed again; only with `trueup backup drill` when not given.
    pub drill: Option<BackupDrillSpec>,
    /// What stays; everything when not given.
    pub retention: Option<BackupRetentionSpec>,
    /// What is promised. A promise that is not kept is drift.
    #[serde(default)]
    pub objectives: BackupObjectivesSpec,
    /// What it may use.
    #[serde(default)]
    pub limits: BackupLimitsSpec,
}

/// What is saved: exactly one of these.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackupSourceSpec {
    /// Files and folders of the host, by their absolute paths.
    pub paths: Option<Vec<String>>,
    /// Of `paths`: patterns of what is left out, as in a `.gitignore`.
    pub exclude: Vec<String>,
    /// Of `paths`: leave out other file systems below them.
    pub one_file_system: bool,
    /// The output of a program, kept as one file.
    pub command: Option<BackupCommandSpec>,
    /// trueup's own state on this host: its log, its config and its mirror.
    pub state: bool,
}

/// The output of a program, kept as one file. It counts only if the program ends with success.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupCommandSpec {
    /// The program, by its absolute path, and its arguments; no shell. The program has to be one that
    /// `backup.programs` of the host's config names.
    pub argv: Vec<String>,
    /// The name of the file in the snapshot: `all.sql`.
    pub file: String,
    /// How long the program may run: `1h`, the default.
    pub timeout: Option<String>,
}

/// Where a repository lies.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupRepositorySpec {
    /// A folder of the host, whose parent has to be there: an absolute path.
    pub local: String,
    /// The repository's own id, or at least the first 8 digits of it, as `trueup backup` and
    /// `restic cat config` show it. Only needed to take another repository for this backup than the
    /// one that trueup knows in its place: one that was put there on purpose.
    #[schemars(regex(pattern = r"^[0-9a-f]{8,64}$"))]
    pub id: Option<String>,
}

/// When something is done: `every` or `calendar`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackupScheduleSpec {
    /// Time between two runs: `6h`.
    pub every: Option<String>,
    /// The five fields of `crontab(5)`: `0 2 * * *`.
    pub calendar: Option<String>,
    /// The IANA time zone of `calendar` and `windows`; UTC when not given.
    pub time_zone: Option<String>,
    /// A run starts up to so much late, so that many do not start together: `10m`.
    pub jitter: Option<String>,
    /// Parts of the day in which runs may start; any time when not given.
    pub windows: Vec<BackupWindowSpec>,
}

/// A part of the day in which runs may start.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupWindowSpec {
    /// From this time of the day: `22:00`.
    pub from: String,
    /// Up to this one; where that is not later it is of the next day.
    pub to: String,
    /// The days it begins on: `mon` to `sun`; every day when not given.
    #[serde(default)]
    pub days: Vec<Day>,
}

/// When and how deep the repository is checked.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackupVerifySpec {
    /// When; every day when not given.
    pub schedule: Option<BackupScheduleSpec>,
    /// Read the data too, one of so many parts with each check: 1 reads all of it each time. The
    /// structure only when not given.
    #[schemars(range(min = 1, max = 1000))]
    pub read_parts: Option<u32>,
}

/// When and how a snapshot is restored to prove that it can be.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupDrillSpec {
    /// When.
    pub schedule: BackupScheduleSpec,
    /// A program that looks at what was restored: its absolute path and its arguments; no shell. It
    /// is started in the folder in which the snapshot's paths lie (`/etc` as `etc`), and has to end
    /// with success. It has to be one that `backup.programs` of the host's config names.
    #[serde(default)]
    pub check: Vec<String>,
    /// How long that program may run: `10m`, the default.
    pub timeout: Option<String>,
}

/// What stays in the repository.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackupRetentionSpec {
    /// What stays.
    pub keep: BackupKeepSpec,
    /// Time between two removals of the rest: `1d`, the default.
    pub every: Option<String>,
}

/// How many snapshots stay. Rules add up: one stays if any of them keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackupKeepSpec {
    /// Of the newest.
    pub last: u32,
    /// The newest of each of so many hours that have one.
    pub hourly: u32,
    /// The newest of each of so many days that have one.
    pub daily: u32,
    /// The newest of each of so many weeks that have one.
    pub weekly: u32,
    /// The newest of each of so many months that have one.
    pub monthly: u32,
    /// The newest of each of so many years that have one.
    pub yearly: u32,
}

/// What is promised.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackupObjectivesSpec {
    /// At most so much work may be lost: the last complete snapshot is no older. `24h`.
    pub rpo: Option<String>,
    /// A restore takes no longer, as the last drill measured it: `15m`.
    pub rto: Option<String>,
    /// The last check is no older: `7d`.
    pub verified: Option<String>,
    /// The last drill is no older: `30d`.
    pub drilled: Option<String>,
}

/// What it may use.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackupLimitsSpec {
    /// Most that is read from the source in a second: `50MiB`.
    pub read: Option<SizeText>,
    /// Most that is written to the repository in a second: `20MiB`.
    pub write: Option<SizeText>,
    /// How long one snapshot, check or removal may take before it is ended and tried again later:
    /// `1d`, the default.
    pub time: Option<String>,
}
