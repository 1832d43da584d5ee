//! What a worker is asked, and what it answers: one JSON request in, JSON lines out.
//!
//! The first line on standard input is a [`Request`]. With [`KeySource::Stdin`] the second line is the
//! repository's password. With [`Source::Stream`] the frames of [`crate::FeedWriter`] follow, with
//! [`Source::Image`] and [`Source::Images`] the extents of [`crate::ImageWriter`]. Each line on standard output is a [`Message`]; the last one is an [`Outcome`] or a [`Fault`]. Standard input
//! stays open until then: closing it cancels. Nothing here holds a secret.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::retention::Keep;

mod compare;

pub use compare::{Compare, Compared, DIFFERENCES_MAX, Difference};

/// One job for one worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Where the repository lies.
    pub target: Target,
    /// Where its password comes from.
    pub key: KeySource,
    /// A private folder of this host: locks between our own processes, what the repository held when
    /// it was last seen, and the cache of a remote repository. The same one for all jobs of a host.
    pub state: PathBuf,
    /// The id of the repository that should be there. Another one is a [`Fault::RepositoryOther`],
    /// before anything is written.
    #[serde(default)]
    pub repository: Option<String>,
    /// What the job may use.
    #[serde(default)]
    pub limits: Limits,
    /// What is to be done.
    pub action: Action,
}

/// Where a repository lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A folder of this host.
    Local {
        /// The repository's folder.
        path: PathBuf,
    },
    /// A server of restic's REST protocol, such as rest-server.
    Rest {
        /// Its URL, without user and password.
        url: String,
        /// A private file with one line `user:password`.
        #[serde(default)]
        credentials: Option<PathBuf>,
        /// Certificates (PEM) to trust besides the public ones.
        #[serde(default)]
        ca: Option<PathBuf>,
    },
    /// Whatever rclone reaches, such as SFTP, through `rclone serve restic`.
    Rclone {
        /// rclone's name of the place, such as `:sftp,host=h,user=u,key_file=/k:path`.
        remote: String,
        /// rclone's private configuration; without it rclone's own default.
        #[serde(default)]
        config: Option<PathBuf>,
    },
    /// A folder of an SFTP server, through `rclone serve restic`.
    Sftp {
        /// The server's name or address.
        host: String,
        /// Its port; 22 without it.
        #[serde(default)]
        port: Option<u16>,
        /// Who to log in as.
        user: String,
        /// The folder there.
        path: String,
        /// A private file with an SSH key that has no passphrase.
        identity: PathBuf,
        /// The keys of the server, each as `type base64`; a server with another one gets nothing.
        host_keys: Vec<String>,
    },
    /// A bucket of a service that speaks S3, through `rclone serve restic`.
    S3 {
        /// The URL of the service.
        endpoint: String,
        /// Its region, where it has such.
        #[serde(default)]
        region: Option<String>,
        /// The bucket, which has to be there.
        bucket: String,
        /// Where in it; all of it without one.
        #[serde(default)]
        prefix: Option<String>,
        /// A private file with one line `access key id:secret access key`.
        credentials: PathBuf,
        /// Certificates (PEM) to trust instead of the public ones.
        #[serde(default)]
        ca: Option<PathBuf>,
    },
}

/// Where the repository's password comes from. Never arguments or the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeySource {
    /// The first line of a file that only its owner may read.
    File {
        /// The file.
        path: PathBuf,
    },
    /// The second line of the worker's standard input.
    Stdin,
}

/// What a job may use. Without a number there is no limit but the engine's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most that is sent to the repository, KiB a second.
    pub upload_kib: Option<u64>,
    /// Most that is read from the repository, KiB a second.
    pub download_kib: Option<u64>,
    /// Most that is read from the source, KiB a second.
    pub read_kib: Option<u64>,
    /// Threads of a restore; the engine's choice without it.
    pub threads: Option<usize>,
    /// Least time between two lines of progress, milliseconds; 200 without it.
    pub progress_ms: Option<u64>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Makes a new repository. One that is there is a [`Fault::RepositoryExists`].
    Init {},
    /// Takes a backup.
    Backup(Backup),
    /// Lists snapshots.
    Snapshots {
        /// Which ones.
        #[serde(default)]
        filter: Filter,
    },
    /// Restores a snapshot, or a part of it.
    Restore(Restore),
    /// Compares a folder with the snapshot that was restored into it, by reading all of it.
    Compare(Compare),
    /// Checks the repository's structure, and its data as far as asked.
    Check {
        /// How much of the data is read and compared with its digests.
        #[serde(default)]
        read: ReadData,
    },
    /// Removes snapshots that the policy does not keep. Data stays until a prune.
    Forget {
        /// Which snapshots the policy is about.
        #[serde(default)]
        filter: Filter,
        /// What stays.
        keep: Keep,
        /// Only says what would be removed.
        #[serde(default)]
        dry_run: bool,
    },
    /// Removes data that no snapshot needs.
    Prune {
        /// Only says what would be removed.
        #[serde(default)]
        dry_run: bool,
        /// Share of unused data, in percent of the used, that may stay rather than be repacked; 5
        /// without it.
        #[serde(default)]
        max_unused_percent: Option<u8>,
    },
}

/// A backup to take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// What is saved.
    pub source: Source,
    /// The host it is filed under.
    pub host: String,
    /// Tags of the snapshot; none may hold a comma.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Patterns of paths that are left out, as in a `.gitignore`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Does not go into other file systems.
    #[serde(default)]
    pub one_file_system: bool,
    /// Reads every file anew, whatever the last snapshot says.
    #[serde(default)]
    pub force: bool,
    /// The time of the snapshot; the time of the start without it.
    #[serde(default)]
    pub time: Option<Timestamp>,
}

/// What a backup saves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// Files and folders, by absolute paths.
    Paths {
        /// At least one.
        paths: Vec<PathBuf>,
    },
    /// Bytes from the worker's standard input, kept as one file.
    Stream {
        /// The file's name, without a slash.
        name: String,
    },
    /// A disk's image from the worker's standard input, kept as one file. Only extents that differ
    /// from the base come, or, without a base, those that are not zeros; so a disk whose changes are
    /// known is read no further than they go.
    Image {
        /// The file's name, without a slash.
        name: String,
        /// Its size, bytes; the base may be larger or smaller.
        size: u64,
        /// The id of a snapshot that has the file, 64 hex digits.
        #[serde(default)]
        base: Option<String>,
    },
    /// Several images of one moment from the worker's standard input, kept side by side. Their
    /// extents come as those of one image in which each lies behind the one before.
    Images {
        /// The files, in the order in which they come; at least one.
        files: Vec<ImageFile>,
        /// The id of a snapshot that has those files that say so, 64 hex digits.
        #[serde(default)]
        base: Option<String>,
    },
}

/// One of several images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// The file's name, without a slash; no two are the same.
    pub name: String,
    /// Its size, bytes.
    pub size: u64,
    /// Whether only what differs from the base's file of this name comes; otherwise all that is not
    /// zeros does.
    #[serde(default)]
    pub based: bool,
}

/// Which snapshots: those for which all that is said holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Filed under this host.
    pub host: Option<String>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// Of exactly these paths.
    pub paths: Vec<PathBuf>,
}

/// A restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The snapshot's id, or the start of it, or `latest`.
    pub snapshot: String,
    /// What `latest` means.
    #[serde(default)]
    pub filter: Filter,
    /// A path within the snapshot; all of it without one.
    #[serde(default)]
    pub path: Option<String>,
    /// The folder to restore into. It is made where it is missing.
    pub to: PathBuf,
    /// Goes on in a folder in which this very restore was interrupted: files with the right size and
    /// time are left alone, and those that it was writing are written anew. Anything else that is in
    /// the way is somebody's, and a [`Fault::InTheWay`]. `latest` means what was the latest then.
    #[serde(default)]
    pub resume: bool,
    /// Waits until all is on the disk.
    #[serde(default)]
    pub sync: bool,
}

/// How much data a check reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ReadData {
    /// None: index, trees, and the sizes of the packs only.
    #[default]
    None,
    /// All of it.
    All,
    /// The `part`-th of `of` parts, so that `of` checks in a row read everything.
    Part {
        /// From 1 to `of`.
        part: u32,
        /// At least 1.
        of: u32,
    },
    /// Packs taken at random until about so many bytes are read.
    Bytes {
        /// Bytes to read.
        bytes: u64,
    },
}

/// A line a worker writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Message {
    /// How far it is; at most one every [`Limits::progress_ms`].
    Progress(Progress),
    /// It is done. The last line.
    Outcome(Box<Outcome>),
    /// It failed. The last line.
    Fault(Fault),
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// What it is at, for people.
    pub phase: String,
    /// Bytes or things done.
    pub done: u64,
    /// Of so many, as far as known.
    #[serde(default)]
    pub total: Option<u64>,
    /// Whether `done` counts bytes.
    #[serde(default)]
    pub bytes: bool,
    /// Since the start, milliseconds.
    pub elapsed_ms: u64,
}

impl Progress {
    /// Time left if it goes on at the pace so far, milliseconds; none before a hundredth is done.
    #[must_use]
    pub fn eta_ms(&self) -> Option<u64> {
        let total = self.total.filter(|total| *total > 0 && self.done <= *total)?;
        let done = u128::from(self.done);
        (done * 100 >= u128::from(total)).then_some(())?;
        let left = u128::from(total) - done;
        u64::try_from(u128::from(self.elapsed_ms) * left / done.max(1)).ok()
    }
}

/// What a job came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The repository's id, 64 hex digits.
    pub repository: String,
    /// What was done.
    pub done: Done,
    /// What was noticed beside it.
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// Bytes read from the repository.
    pub fetched: u64,
    /// Bytes sent to the repository.
    pub stored: u64,
    /// Since the start, milliseconds.
    pub elapsed_ms: u64,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Done {
    /// There is a repository now.
    Init {},
    /// A snapshot was stored.
    Backup(Taken),
    /// The snapshots asked for, oldest first.
    Snapshots {
        /// The snapshots.
        snapshots: Vec<Snapshot>,
    },
    /// It was restored.
    Restore(Restored),
    /// It was compared. Whether it is the same is for `wrong_count` to say.
    Compare(Compared),
    /// It was checked. Whether it is whole is for `findings` to say.
    Check(Checked),
    /// Snapshots were removed, or would be.
    Forget {
        /// What stays and why, newest first.
        keep: Vec<Kept>,
        /// What was, or would be, removed, newest first.
        remove: Vec<Snapshot>,
        /// Whether it was only said.
        dry_run: bool,
    },
    /// Data was removed, or would be.
    Prune(Pruned),
}

/// A backup that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// The new snapshot.
    pub snapshot: Snapshot,
    /// Files that are new or changed since the last snapshot.
    pub files_changed: u64,
    /// Files in it.
    pub files: u64,
    /// Bytes of its files, about: those of links are counted or not.
    pub bytes: u64,
    /// How many things could not be read and are missing from it. It is good only at zero.
    pub missing_count: u64,
    /// The first of them.
    pub missing: Vec<Missing>,
}

/// The most missing things an outcome names: enough to see what is wrong, in a line that stays short.
pub const MISSING_MAX: usize = 50;

/// The most findings of a check an outcome names.
pub const FINDINGS_MAX: usize = 100;

/// Something of the source that is not in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// Which; empty where only the engine knows.
    pub path: PathBuf,
    /// Whether it was there when the folder was listed and is gone now.
    pub vanished: bool,
    /// Why, for people.
    pub why: String,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// 64 hex digits.
    pub id: String,
    /// Its time.
    pub time: Timestamp,
    /// The offset from UTC of the clock that made it, seconds; days and weeks of a policy are its.
    pub offset: i32,
    /// The host it is filed under.
    pub host: String,
    /// What was saved.
    pub paths: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The digest of its content: the id of its root tree. Equal digests are equal content.
    pub tree: String,
    /// Bytes of its files, where it says so.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// A snapshot that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The rules that keep it.
    pub reasons: Vec<String>,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// The snapshot's id.
    pub snapshot: String,
    /// Files that were written.
    pub files: u64,
    /// Files that were there already, by size and time.
    pub unchanged: u64,
    /// Folders.
    pub folders: u64,
    /// Bytes of the files written, holes counted.
    pub bytes: u64,
    /// How many owners, times and attributes could not be set.
    pub warning_count: u64,
    /// The first of them.
    pub warnings: Vec<String>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checked {
    /// Snapshots whose trees were followed.
    pub snapshots: u64,
    /// Bytes of data compared with their digests.
    pub read: u64,
    /// How many findings are errors. It is whole only at zero.
    pub error_count: u64,
    /// The first findings, errors before others.
    pub findings: Vec<Finding>,
}

/// Something a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Whether data is lost or wrong; otherwise only space is wasted.
    pub error: bool,
    /// The engine's name of the kind of finding.
    pub kind: String,
    /// The pack it is in, 64 hex digits, where it is in one.
    #[serde(default)]
    pub pack: Option<String>,
    /// For people.
    pub what: String,
}

/// What a prune removed, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pruned {
    /// Packs that no snapshot needs.
    pub packs_unused: u64,
    /// Packs that are written anew without what no snapshot needs.
    pub packs_repacked: u64,
    /// Bytes that are, or would be, gone.
    pub bytes_removed: u64,
    /// Bytes that stay though nothing needs them.
    pub bytes_unused: u64,
    /// Whether it was only said.
    pub dry_run: bool,
}

/// Something noticed beside the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Notice {
    /// Index files that were there are gone, and not by this host: somebody else pruned or rebuilt.
    ForeignPrune {
        /// How many.
        indexes: u64,
    },
    /// Snapshots that were there are gone, and not by this host.
    ForeignForget {
        /// Their ids.
        snapshots: Vec<String>,
    },
    /// A lock was removed whose owner is dead.
    StaleLock {
        /// Whose it was.
        holder: Holder,
    },
    /// What the repository holds now could not be noted, so that the next job may take what this one
    /// removed for removed by somebody else.
    Unnoted {
        /// Why, for people.
        why: String,
    },
    /// The repository takes no lock, so nothing keeps others from pruning meanwhile.
    Unlocked {
        /// Why, for people.
        why: String,
    },
}

/// Who holds a lock in the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// The host, as it calls itself.
    pub host: String,
    /// Its process.
    pub pid: i64,
    /// Since when, or when it was last renewed.
    pub since: Option<Timestamp>,
    /// Whether it bears no other beside it.
    pub exclusive: bool,
}

/// Why a job failed. What it says names what happened and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// No key of the repository opens with the password.
    #[error(
        "the password opens no key of the repository at {at}: give the one it was made with, or add a key with `restic key add`"
    )]
    KeyWrong {
        /// The repository.
        at: String,
    },
    /// The password cannot be read.
    #[error("the password cannot be read from {from}: {why}")]
    KeyUnreadable {
        /// Where it should come from.
        from: String,
        /// Why.
        why: String,
    },
    /// The place is there, but holds no repository.
    #[error("there is no repository at {at}: make one with `init`, or mount what should be there")]
    RepositoryMissing {
        /// The place.
        at: String,
    },
    /// The place holds another repository than it should.
    #[error("{at} holds the repository {found}, not {wanted}: mount or name the right place")]
    RepositoryOther {
        /// The place.
        at: String,
        /// The repository that should be there.
        wanted: String,
        /// The one that is there.
        found: String,
    },
    /// There is a repository where one should be made.
    #[error("there is a repository at {at} already: use it, or name another place")]
    RepositoryExists {
        /// The place.
        at: String,
    },
    /// The place cannot be reached. Worth another try later.
    #[error("the repository at {at} cannot be reached: {why}; it is tried again later")]
    RepositoryOffline {
        /// The repository.
        at: String,
        /// Why.
        why: String,
    },
    /// The place refuses what was asked.
    #[error("the repository at {at} refuses: {why}; check its permissions and credentials")]
    Refused {
        /// The repository.
        at: String,
        /// Why.
        why: String,
    },
    /// A program that the place is reached with is not installed.
    #[error("{program} is not installed, and {at} is reached with it: `apt-get install {package}`")]
    HelperMissing {
        /// The program.
        program: String,
        /// Debian's package of it.
        package: String,
        /// The repository.
        at: String,
    },
    /// The repository has no room.
    #[error("no space is left at {at}: make room there, or forget snapshots and prune")]
    DiskFullThere {
        /// The repository.
        at: String,
    },
    /// This host has no room.
    #[error("no space is left on this host for {path}: make room, or restore elsewhere")]
    DiskFullHere {
        /// What was being written.
        path: PathBuf,
    },
    /// A file of the repository is missing, short or not what it was.
    #[error(
        "{kind} {name} of the repository at {at} is damaged: {why}; run a check that reads data"
    )]
    Damaged {
        /// The repository.
        at: String,
        /// `pack`, `index`, `tree`, `snapshot`, `key`, `config` or `lock`.
        kind: String,
        /// Its name.
        name: String,
        /// How.
        why: String,
    },
    /// Somebody else works on the repository.
    #[error("the repository at {at} is in use by {}, process {}: wait until it is done, or run `restic unlock` if it is dead", holder.host, holder.pid)]
    Locked {
        /// The repository.
        at: String,
        /// Who.
        holder: Holder,
    },
    /// Our own lock was lost in mid-work, because it could not be renewed.
    #[error(
        "the lock on the repository at {at} could not be renewed: {why}; nothing more was written"
    )]
    LockLost {
        /// The repository.
        at: String,
        /// Why.
        why: String,
    },
    /// Somebody removed things while a backup ran, past our lock.
    #[error(
        "somebody else pruned the repository at {at} meanwhile; no snapshot was stored: let nobody but trueup prune it"
    )]
    PrunedMeanwhile {
        /// The repository.
        at: String,
    },
    /// What should be saved is gone, or a stream ended before its end mark. No snapshot was stored.
    #[error("the source {path} is not there or ended too early: {why}; no snapshot was stored")]
    SourceVanished {
        /// Which.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// There is no such snapshot, or nothing at the path in it.
    #[error("there is no snapshot {wanted} in the repository at {at}: list what there is")]
    SnapshotUnknown {
        /// The repository.
        at: String,
        /// What was asked for.
        wanted: String,
    },
    /// The folder to restore into has something in it.
    #[error("{path} is not empty: name an empty folder, or resume a restore that was interrupted")]
    TargetNotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Another restore, or none, was interrupted in the folder that one should go on in.
    #[error("no restore can go on in {path}: {why}; restore into an empty folder")]
    NotResumable {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Something is where a restore goes on, and is not what it wrote.
    #[error(
        "{path} is not what the restore left there: move it away, or restore into an empty folder"
    )]
    InTheWay {
        /// Which.
        path: PathBuf,
    },
    /// The job took longer than it may. Said by whoever started it, never by itself.
    #[error("it was ended because it took longer than {limit_s} s")]
    TooLong {
        /// How long it may take, seconds.
        limit_s: u64,
    },
    /// This host cannot write what is restored, or cannot keep its own state.
    #[error("{path} cannot be written: {why}")]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The worker was killed. Said by whoever started it, never by itself.
    #[error("the job was cancelled; run it again to go on")]
    Cancelled,
    /// The request makes no sense.
    #[error("the request cannot be done: {what}")]
    Invalid {
        /// What about it.
        what: String,
    },
    /// A mistake of the engine.
    #[error("the backup engine failed: {what}; please report this")]
    Internal {
        /// What.
        what: String,
    },
}

impl Fault {
    /// Whether the same job may succeed later without anybody doing anything.
    #[must_use]
    pub fn transient(&self) -> bool {
        matches!(
            self,
            Fault::RepositoryOffline { .. }
                | Fault::Locked { .. }
                | Fault::LockLost { .. }
                | Fault::PrunedMeanwhile { .. }
                | Fault::SourceVanished { .. }
                | Fault::TooLong { .. }
                | Fault::Cancelled
        )
    }
}
