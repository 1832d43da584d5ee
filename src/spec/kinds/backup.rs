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
    /// Programs that are run before and after a snapshot, so that it is one of a moment.
    #[serde(default)]
    pub hooks: BackupHooksSpec,
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
    /// A cluster of PostgreSQL on this host, while it runs.
    pub postgresql: Option<BackupPostgresqlSpec>,
    /// A `Disk`, by its name, as it is at one moment; a guest that has it goes on running.
    pub disk: Option<String>,
    /// A `VirtualMachine`, by its name: all disks that it writes to, of one moment, and its
    /// definition. It goes on running.
    pub virtual_machine: Option<String>,
    /// Of `disk` and `virtualMachine`: the guest's agent makes its file systems whole for the moment.
    pub quiesce: bool,
    /// Of `disk` and `virtualMachine`: after so long everything is read anew, and not only what
    /// changed: `30d`, the default.
    pub read_all: Option<String>,
    /// What an object is defined as.
    pub definition: Option<BackupDefinitionSpec>,
}

/// What an object is defined as: libvirt's XML, or for a GPU's layout what is asked for.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupDefinitionSpec {
    /// The kind of object.
    pub kind: BackupDefinitionKind,
    /// Its name.
    pub name: String,
}

/// Kinds whose definition can be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum BackupDefinitionKind {
    /// A domain, as libvirt has it, without its secrets.
    VirtualMachine,
    /// A network, as libvirt has it.
    Network,
    /// How a GPU is to be cut.
    GpuLayout,
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

/// A cluster of PostgreSQL on this host, reached by its socket as a user whom it knows (`peer`).
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackupPostgresqlSpec {
    /// `base`, the default: the whole cluster as `base.tar`, with the WAL it needs to start; with an
    /// archive of WAL saved beside it, it can be brought to any moment since. `dump`: `all.sql`.
    pub format: Option<PostgresqlFormatSpec>,
    /// The folder of the socket: `/var/run/postgresql`, the default.
    pub socket: Option<String>,
    /// The port in the socket's name: 5432, the default.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The role: `postgres`, the default. For `base` it needs `REPLICATION`.
    pub role: Option<String>,
    /// The user of the host, with a group of the same name, as whom it is done: `postgres`, the default.
    pub run_as: Option<String>,
    /// The folder of PostgreSQL's programs: `/usr/bin`, the default.
    pub programs: Option<String>,
    /// How long it may take: `6h`, the default.
    pub timeout: Option<String>,
}

/// How a cluster of PostgreSQL is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PostgresqlFormatSpec {
    /// Its files, by `pg_basebackup`.
    Base,
    /// Its content as SQL, by `pg_dumpall`.
    Dump,
}

/// Programs that are run before and after a snapshot, in their order. `backup.programs` of the host's
/// config has to name each.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackupHooksSpec {
    /// Before it. One that fails ends it, and no snapshot is taken.
    pub before: Vec<BackupHookSpec>,
    /// After it, whatever came of it or of the hooks before it, also at the next start after a crash:
    /// they may be run more than once.
    pub after: Vec<BackupHookSpec>,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupHookSpec {
    /// The program, by its absolute path, and its arguments; no shell.
    pub argv: Vec<String>,
    /// How long it may run: `1m`, the default.
    pub timeout: Option<String>,
}

/// Where a repository lies: exactly one of `local`, `rest`, `sftp` and `s3`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackupRepositorySpec {
    /// A folder of the host, whose parent has to be there: an absolute path.
    pub local: Option<String>,
    /// A server of restic's REST protocol, such as rest-server.
    pub rest: Option<BackupRestSpec>,
    /// A folder of an SFTP server. The host needs `rclone`.
    pub sftp: Option<BackupSftpSpec>,
    /// A bucket of a service that speaks S3. The host needs `rclone`.
    pub s3: Option<BackupS3Spec>,
    /// The repository's own id, or at least the first 8 digits of it, as `trueup backup` and
    /// `restic cat config` show it. Only needed to take another repository for this backup than the
    /// one that trueup knows in its place: one that was put there on purpose.
    #[schemars(regex(pattern = r"^[0-9a-f]{8,64}$"))]
    pub id: Option<String>,
}

/// A server of restic's REST protocol.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupRestSpec {
    /// The repository's URL, without user and password: `https://backup.example/host1`. `http://` only
    /// without `credentials`, or on the host itself.
    pub url: String,
    /// The name of the secret with one line `user:password`.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub credentials: Option<String>,
    /// A file of the host with certificates (PEM) to trust besides the public ones.
    pub ca: Option<String>,
}

/// A folder of an SFTP server.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupSftpSpec {
    /// The server's name or address.
    pub host: String,
    /// Its port: 22, the default.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Who to log in as.
    pub user: String,
    /// The folder there, by its absolute path.
    pub path: String,
    /// The name of the secret that is the SSH key to log in with, without a passphrase.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub identity: String,
    /// All keys of the server, as `ssh-keyscan` shows them without the name: `ssh-ed25519 AAAA…`. One
    /// with another key gets nothing.
    #[schemars(length(min = 1))]
    pub host_keys: Vec<String>,
}

/// A bucket of a service that speaks S3.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupS3Spec {
    /// The URL of the service: `https://s3.example`.
    pub endpoint: String,
    /// Its region, where it has such: `eu-central-1`.
    pub region: Option<String>,
    /// The bucket, which has to be there.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"))]
    pub bucket: String,
    /// Where in the bucket: `hosts/host1`; at its top when not given.
    pub prefix: Option<String>,
    /// The name of the secret with one line `access key id:secret access key`.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub credentials: String,
    /// A file of the host with certificates (PEM) to trust instead of the public ones.
    pub ca: Option<String>,
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
    /// Of `virtualMachine` and `disk`: boot what came back, as a machine of its own beside the guest,
    /// which goes on. `{}` waits for what the `VirtualMachine` gives as its `readiness`.
    pub boot: Option<BackupBootSpec>,
}

/// How what a drill brought back of a guest is booted. The copy has the guest's processors, firmware
/// and disks, and none of the host's devices.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackupBootSpec {
    /// Of `disk`: the `VirtualMachine` that it is booted as. Its other disks are empty.
    pub virtual_machine: Option<String>,
    /// What proves that the copy is up: the `readiness` of the `VirtualMachine` when not given.
    pub readiness: Option<BackupReadySpec>,
    /// How long that may take from the start: what the `readiness` of the `VirtualMachine` says, or
    /// `5m`, when not given.
    pub timeout: Option<String>,
    /// What the copy's network interfaces are plugged into.
    pub network: BootNetworkSpec,
    /// The copy's memory: as much as the guest had when not given.
    pub memory: Option<SizeText>,
    /// What is run inside of the copy once it is up, in this order, by its agent. Each has to end with
    /// success.
    pub commands: Vec<BackupHookSpec>,
}

/// What proves that a copy is up: one of these. Nothing is asked over the network, on which the guest
/// itself answers.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackupReadySpec {
    /// The guest agent answers.
    pub guest_agent: bool,
    /// This text appears on the serial console.
    pub console: Option<String>,
}

/// What a copy's network interfaces are plugged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BootNetworkSpec {
    /// The copy has none.
    #[default]
    None,
    /// A network of its own, on which nobody else is, without addresses: the interfaces keep their MAC
    /// addresses.
    Isolated,
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
