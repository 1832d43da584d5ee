//! Backups: a worker process for each job on a repository, and what is saved fed to it.
//!
//! The engine is a crate of its own that runs in a child process (`trueup backup-worker`), so that a
//! job can be cancelled by killing it. Keys go by its standard input alone; what is saved never
//! touches a disk on its way. A repository is never deleted, and none is made over another.

mod act;
mod behind_port;
mod boot;
mod bring;
mod convert;
mod drill;
#[cfg(test)]
pub(crate) mod fixture;
mod guest;
mod held;
mod hooks;
mod job;
mod nbd;
mod open;
mod own_state;
mod reach;
mod ready;
mod recover;
mod room;
mod scratch;
mod worker;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::time::timeout;

pub use bring::{Brought, DiskFile, DisksFound, LostDisk};
pub use convert::to_qcow2;
pub use job::{Forgetting, Wanted, Which};
pub use recover::{Fetched, OwnState, Vault};
pub use trueup_backup::protocol;

use crate::model::{Fault, Name, ResourceId};
use crate::port::Guests;
use reach::Reach;

/// The command of ours that does one job on a repository: `trueup backup-worker`.
pub const WORKER_COMMAND: &str = "backup-worker";

/// How long a job that has to be alone at a repository waits for others. It takes a slot meanwhile, and
/// everybody else at that repository waits behind it.
const ALONE_MAX: Duration = Duration::from_secs(60);

/// Tells a secret of this host, or why it cannot; never what it holds.
pub type Secrets = Arc<dyn Fn(&Name) -> Result<String, String> + Send + Sync>;

/// Says what is proved of the log in a state directory, or what is wrong with it.
pub type LogProof = Arc<dyn Fn(&Path) -> Result<String, String> + Send + Sync>;

/// What backups work with.
#[derive(Clone)]
pub struct BackupSetup {
    /// The path of `trueup`, which the worker is a command of.
    pub program: PathBuf,
    /// A private folder: locks between jobs, what repositories held, and the state made ready.
    pub folder: PathBuf,
    /// Where drills restore to: a folder of each in it, and only those are ever removed.
    pub scratch: PathBuf,
    /// The same for drills that boot guests, which QEMU has to be able to reach.
    pub scratch_of_guests: PathBuf,
    /// The host that snapshots are filed under.
    pub host: String,
    /// Programs that may be run.
    pub programs: Vec<Allowed>,
    /// Where trueup's own state is.
    pub own: OwnPlaces,
    /// The secrets of this host.
    pub secrets: Secrets,
    /// The folder of these secrets: workers read by themselves what they log in with.
    pub secrets_folder: PathBuf,
    /// Proves a log that was restored.
    pub prove_log: LogProof,
}

/// A program that may be run for a backup, as the host's config says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// With exactly these arguments, the program first.
    Exactly(Vec<String>),
    /// With any arguments, which a commit chooses.
    AnyArguments(PathBuf),
}

impl Allowed {
    fn allows(&self, argv: &[String]) -> bool {
        match self {
            Self::Exactly(allowed) => !argv.is_empty() && allowed == argv,
            Self::AnyArguments(program) => argv.first().is_some_and(|it| program == Path::new(it)),
        }
    }
}

/// Where trueup's own state is.
#[derive(Debug, Clone)]
pub struct OwnPlaces {
    /// The state directory, which holds the log and what it names.
    pub state: PathBuf,
    /// The folder of the log's segments.
    pub log: PathBuf,
    /// The config, if there is one.
    pub config: Option<PathBuf>,
    /// The mirror of the repository of environments.
    pub mirror: PathBuf,
}

/// Backups of this host. Cheap to clone.
#[derive(Clone)]
pub struct BackupProvider {
    setup: Arc<BackupSetup>,
    guests: Option<Arc<dyn Guests>>,
    turns: Arc<Mutex<HashMap<String, Arc<RwLock<()>>>>>,
    reach: Reach,
    /// What of guests is being let go of although the step that held it was ended.
    closing: held::Closing,
    hooks: Arc<Mutex<HashMap<Name, Arc<tokio::sync::Mutex<()>>>>>,
    /// Whose drill may boot a machine: one at a time, so that each sees what room and what memory the
    /// one before took.
    boots: Arc<tokio::sync::Mutex<()>>,
    /// Whether what drills of another process left is gone; locked while it is being removed.
    swept: Arc<tokio::sync::Mutex<bool>>,
}

impl BackupProvider {
    /// A provider that has not looked at anything yet.
    #[must_use]
    pub fn new(setup: BackupSetup) -> Self {
        Self {
            setup: Arc::new(setup),
            guests: None,
            turns: Arc::default(),
            reach: Reach::of_this_host(),
            closing: held::Closing::default(),
            hooks: Arc::default(),
            boots: Arc::default(),
            swept: Arc::default(),
        }
    }

    /// Whose hooks may run for the backup of that name: one run's at a time.
    fn hooks_of(&self, name: &Name) -> Arc<tokio::sync::Mutex<()>> {
        let mut hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hooks.entry(name.clone()).or_default())
    }

    /// The same with a way to the disks of guests.
    #[must_use]
    pub fn with_guests(self, guests: Arc<dyn Guests>) -> Self {
        Self { guests: Some(guests), ..self }
    }

    fn guests(&self) -> Result<&Arc<dyn Guests>, Fault> {
        self.guests.as_ref().ok_or_else(|| {
            Fault::permanent(
                "this trueup was built without libvirt, so it cannot read the disks of guests: \
                 install a build with it",
            )
        })
    }

    /// Waits to be alone at a repository, as [`Self::turn`] says, for a while: those who come meanwhile
    /// wait behind it, and a snapshot may take a day.
    async fn alone(
        &self,
        id: &ResourceId,
        repository: &str,
    ) -> Result<OwnedRwLockWriteGuard<()>, Fault> {
        let turn = self.turn(repository);
        let alone = timeout(ALONE_MAX, turn.write_owned()).await;
        alone.map_err(|_| {
            Fault::transient(format!(
                "{id}: another job is at work in {repository}, and this one has to be alone there; it \
                 is tried again"
            ))
        })
    }

    /// Whose turn it is at a repository: whoever makes it or removes things from it is alone, all
    /// others work side by side.
    fn turn(&self, repository: &str) -> Arc<RwLock<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(repository.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> BackupProvider {
        BackupProvider::new(BackupSetup {
            program: "trueup".into(),
            folder: "/nowhere".into(),
            scratch: "/nowhere".into(),
            scratch_of_guests: "/nowhere".into(),
            host: "node1".into(),
            programs: Vec::new(),
            own: OwnPlaces {
                state: "/nowhere".into(),
                log: "/nowhere".into(),
                config: None,
                mirror: "/nowhere".into(),
            },
            secrets: Arc::new(|_| Ok(String::new())),
            secrets_folder: "/nowhere".into(),
            prove_log: Arc::new(|_| Ok(String::new())),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_to_be_alone_does_not_hold_up_everybody_else_for_a_day() {
        let (provider, id) = (provider(), "backup/b".parse().unwrap());
        let turn = provider.turn("/vault");
        let long = turn.read().await;
        let fault = provider.alone(&id, "/vault").await.unwrap_err();
        assert!(fault.is_transient() && fault.to_string().contains("backup/b"), "{fault}");
        // Those who came after it are let in.
        drop(turn.read().await);
        drop(long);
        drop(provider.alone(&id, "/vault").await.unwrap());
    }

    #[test]
    fn a_program_runs_with_the_arguments_that_the_host_allows() {
        let argv = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let exactly = Allowed::Exactly(argv("/usr/bin/pg_dumpall --clean"));
        assert!(exactly.allows(&argv("/usr/bin/pg_dumpall --clean")));
        for other in ["/usr/bin/pg_dumpall", "/usr/bin/pg_dumpall --clean -f/etc/passwd", ""] {
            assert!(!exactly.allows(&argv(other)), "{other}");
        }
        let any = Allowed::AnyArguments("/usr/bin/pg_dumpall".into());
        assert!(any.allows(&argv("/usr/bin/pg_dumpall --globals-only")));
        assert!(!any.allows(&argv("/usr/bin/pg_dump")) && !any.allows(&[]));
        assert!(!Allowed::Exactly(Vec::new()).allows(&[]));
    }
}
