//! The canonical form of a backup: what is saved, where to, when, and what is promised.
//!
//! It names its key and never holds it.

use serde::{Deserialize, Serialize};
use trueup_backup::objective::Objectives;
use trueup_backup::retention::Keep;
use trueup_backup::schedule::Schedule;

use super::{Probe, VolumeFormat};
use crate::model::{Kind, Name, ResourceId};

/// A series of snapshots of one source in one repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// What is saved.
    pub source: BackupSource,
    /// The folder of the repository, in restic's format; or where else it lies, as restic names it.
    pub repository: String,
    /// How it is reached where it is not a folder of this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<BackupRemote>,
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
    /// What is run before and after a snapshot.
    #[serde(default, skip_serializing_if = "BackupHooks::is_empty")]
    pub hooks: BackupHooks,
}

/// Programs that are run before and after a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupHooks {
    /// Before it, in this order; one that fails ends it.
    pub before: Vec<BackupHook>,
    /// After it, in this order, whatever came of it.
    pub after: Vec<BackupHook>,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupHook {
    /// The program, by its absolute path, and its arguments.
    pub argv: Vec<String>,
    /// How long it may run, seconds.
    pub timeout_s: u64,
}

impl BackupHooks {
    /// Whether nothing is run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &BackupHook> {
        self.before.iter().chain(&self.after)
    }
}

/// A place that is not a folder of this host. Secrets are files of this host, by their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum BackupRemote {
    /// A server of restic's REST protocol.
    Rest {
        /// Its URL, without a slash at its end.
        url: String,
        /// The secret with `user:password`.
        credentials: Option<Name>,
        /// A file with certificates to trust besides the public ones.
        ca: Option<String>,
    },
    /// A folder of an SFTP server.
    Sftp {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
        /// Who to log in as.
        user: String,
        /// The folder.
        path: String,
        /// The secret that is the SSH key.
        identity: Name,
        /// The keys of the server, `type base64` each.
        host_keys: Vec<String>,
    },
    /// A bucket of a service that speaks S3.
    S3 {
        /// The URL of the service, without a slash at its end.
        endpoint: String,
        /// Its region.
        region: Option<String>,
        /// The bucket.
        bucket: String,
        /// Where in it.
        prefix: Option<String>,
        /// The secret with `access key id:secret access key`.
        credentials: Name,
        /// A file with certificates to trust instead of the public ones.
        ca: Option<String>,
    },
}

impl BackupRemote {
    /// The place as restic names it, which tells it from all others.
    #[must_use]
    pub fn location(&self) -> String {
        match self {
            Self::Rest { url, .. } => format!("rest:{url}"),
            Self::Sftp { host, port, user, path, .. } => {
                format!("sftp://{user}@{host}:{port}{path}")
            }
            Self::S3 { endpoint, bucket, prefix, .. } => match prefix {
                Some(prefix) => format!("s3:{endpoint}/{bucket}/{prefix}"),
                None => format!("s3:{endpoint}/{bucket}"),
            },
        }
    }

    /// The host and port that answer where it is in reach; `None`: its URL names none.
    #[must_use]
    pub fn peer(&self) -> Option<(String, u16)> {
        let url = match self {
            Self::Sftp { host, port, .. } => return Some((bare(host), *port)),
            Self::Rest { url, .. } => url,
            Self::S3 { endpoint, .. } => endpoint,
        };
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split('/').next()?;
        let standard = if scheme == "https" { 443 } else { 80 };
        match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => Some((bare(host), port.parse().ok()?)),
            _ => Some((bare(authority), standard)),
        }
    }
}

/// An address of IPv6 without its brackets.
fn bare(host: &str) -> String {
    host.trim_matches(['[', ']']).to_owned()
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
    /// A cluster of PostgreSQL.
    Postgresql(BackupPostgresql),
    /// The disks of a guest, or one of them, as they are at one moment.
    Guest(BackupGuest),
    /// What an object is defined as.
    Definition(BackupDefinition),
}

/// The disks of a guest, or one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupGuest {
    /// Which.
    pub part: GuestPart,
    /// Whether a running guest's agent makes its file systems whole for the moment.
    pub quiesce: bool,
    /// After how many seconds everything is read anew, and not only what changed.
    pub read_all_s: u64,
}

/// What of a guest is saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum GuestPart {
    /// All disks that the virtual machine writes to, and its definition.
    Machine {
        /// The virtual machine.
        name: Name,
    },
    /// One disk, whoever has it.
    Disk {
        /// The disk.
        name: Name,
        /// Absolute path of its file.
        path: String,
        /// Format of its file.
        format: VolumeFormat,
    },
}

impl GuestPart {
    /// Which resource it is.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        match self {
            Self::Machine { name } => ResourceId::new(Kind::VirtualMachine, name.clone()),
            Self::Disk { name, .. } => ResourceId::new(Kind::Disk, name.clone()),
        }
    }
}

/// What an object is defined as: libvirt's XML, or for a GPU's layout what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BackupDefinition {
    /// Which.
    #[schemars(with = "String")]
    pub of: ResourceId,
    /// The name of the file in the snapshot.
    pub file: String,
}

/// A cluster of PostgreSQL on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupPostgresql {
    /// As what it is saved.
    pub format: PostgresqlFormat,
    /// The folder of its socket.
    pub socket: String,
    /// The port in the socket's name.
    pub port: u16,
    /// The role that is logged in as.
    pub role: String,
    /// The user of the host as whom it is done.
    pub run_as: String,
    /// The folder of PostgreSQL's programs.
    pub programs: String,
    /// How long it may take, seconds.
    pub timeout_s: u64,
}

/// How a cluster of PostgreSQL is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PostgresqlFormat {
    /// Its files with the WAL they need, as `base.tar`.
    Base,
    /// Its content as SQL, as `all.sql`.
    Dump,
}

impl BackupPostgresql {
    /// The program whose output is saved. No shell, and no superuser but by the role.
    #[must_use]
    pub fn command(&self) -> BackupCommand {
        let mut argv: Vec<String> =
            ["/usr/bin/setpriv", "--reuid", &self.run_as, "--regid", &self.run_as]
                .map(str::to_owned)
                .to_vec();
        argv.extend(["--init-groups", "--"].map(str::to_owned));
        let (program, file, more): (_, _, &[&str]) = match self.format {
            PostgresqlFormat::Base => (
                "pg_basebackup",
                "base.tar",
                &["--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast"],
            ),
            PostgresqlFormat::Dump => ("pg_dumpall", "all.sql", &["--clean", "--if-exists"]),
        };
        argv.push(format!("{}/{program}", self.programs));
        argv.extend(more.iter().map(|it| (*it).to_owned()));
        argv.extend([
            "--no-password".to_owned(),
            format!("--host={}", self.socket),
            format!("--port={}", self.port),
            format!("--username={}", self.role),
        ]);
        BackupCommand { argv, file: file.to_owned(), timeout_s: self.timeout_s }
    }
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
    /// How what came back of a guest is booted; `None`: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BackupBoot>,
}

/// How what a drill brought back of a guest is booted, as a machine of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupBoot {
    /// The virtual machine that it is a copy of.
    pub machine: Name,
    /// What proves that it is up. Never something that is asked over a network.
    pub ready: Probe,
    /// How long that may take, seconds.
    pub timeout_s: u64,
    /// What its interfaces are plugged into.
    pub network: BootNetwork,
    /// Its memory, KiB; `None`: as much as the virtual machine had.
    pub memory_kib: Option<u64>,
    /// What is run inside of it once it is up, in this order.
    pub commands: Vec<BackupHook>,
}

/// What the interfaces of a copy are plugged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BootNetwork {
    /// It has none.
    None,
    /// A network that nobody else is on, the host neither.
    Isolated,
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

    /// Whether it saves all disks of a virtual machine, which are of one moment then.
    #[must_use]
    pub fn is_of_machine(&self) -> bool {
        let BackupSource::Guest(guest) = &self.source else { return false };
        matches!(guest.part, GuestPart::Machine { .. })
    }

    /// Takes out what may hold a secret: the arguments of a program.
    pub fn strip_texts(&mut self) {
        if let BackupSource::Command(command) = &mut self.source {
            command.argv.truncate(1);
        }
        for hook in self.hooks.before.iter_mut().chain(&mut self.hooks.after) {
            hook.argv.truncate(1);
        }
        if let Some(drill) = &mut self.drill {
            drill.check.truncate(1);
            let commands = drill.boot.iter_mut().flat_map(|boot| &mut boot.commands);
            commands.for_each(|command| command.argv.truncate(1));
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

#[cfg(test)]
impl Backup {
    /// One that saves `source` into a folder of this host when somebody asks, and promises nothing.
    pub(crate) fn plain(source: BackupSource) -> Self {
        Self {
            source,
            repository: "/vault".into(),
            remote: None,
            repository_id: None,
            key: Name::new("vault").expect("it is a name"),
            schedule: None,
            verify: None,
            drill: None,
            retention: None,
            objectives: Objectives::default(),
            limits: BackupLimits::default(),
            hooks: BackupHooks::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_as_restic_names_it_and_has_somebody_who_answers() {
        let rest = |url: &str| BackupRemote::Rest { url: url.into(), credentials: None, ca: None };
        let key = Name::new("key").unwrap();
        let sftp = BackupRemote::Sftp {
            host: "backup".into(),
            port: 2222,
            user: "me".into(),
            path: "/srv/a".into(),
            identity: key.clone(),
            host_keys: vec![],
        };
        let s3 = BackupRemote::S3 {
            endpoint: "https://s3.example".into(),
            region: None,
            bucket: "b".into(),
            prefix: Some("p/q".into()),
            credentials: key,
            ca: None,
        };
        for (remote, location, host, port) in [
            (rest("https://x/a"), "rest:https://x/a", "x", 443),
            (rest("http://[::1]:8000"), "rest:http://[::1]:8000", "::1", 8000),
            (rest("http://[::1]/a"), "rest:http://[::1]/a", "::1", 80),
            (sftp, "sftp://me@backup:2222/srv/a", "backup", 2222),
            (s3, "s3:https://s3.example/b/p/q", "s3.example", 443),
        ] {
            assert_eq!(remote.location(), location);
            assert_eq!(remote.peer(), Some((host.to_owned(), port)));
        }
    }
}
