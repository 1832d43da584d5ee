//! The accounting database of a cluster: what MariaDB is told once, and the cluster made known to slurmdbd
//! before its controller starts, which would not start without an answer.
//!
//! There is no password: MariaDB asks the kernel who speaks to it (`unix_socket`), and slurmdbd is on its
//! machine. So there is none to keep, to lose or to tell.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::{Folder, Machine};
use crate::run::{Argv, RunError};
use crate::wish;

/// Pauses between two questions to slurmdbd while it starts: the first, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(2);

/// slurmdbd, as it is reached from the controller's machine.
#[derive(Debug, Clone)]
pub struct Database {
    /// The machine of the controller.
    pub machine: Arc<dyn Machine>,
    /// Where `sacctmgr` is; the search path, if not said.
    pub bin: Option<PathBuf>,
    /// Longest that one question may take.
    pub question: Duration,
    /// Longest that slurmdbd may take to answer after it was started: it makes its tables then.
    pub limit: Duration,
}

/// Why a cluster is not known to its database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It does not answer.
    #[error("slurmdbd does not answer within {seconds} s: {words}")]
    Silent {
        /// The limit.
        seconds: u64,
        /// What was said last.
        words: String,
    },
    /// It does not take the cluster.
    #[error(transparent)]
    Refused(RunError),
    /// The folder for the question fails.
    #[error("cannot ask slurmdbd from {folder}: {error}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Database {
    /// What MariaDB is told as its root: the database, and that slurmdbd's user has all of it. Told again it
    /// changes nothing.
    #[must_use]
    pub fn statements(of: &wish::Database) -> String {
        let (name, user) = (&of.name, &of.user);
        format!(
            "CREATE DATABASE IF NOT EXISTS `{name}`; \
             CREATE USER IF NOT EXISTS '{user}'@'localhost' IDENTIFIED VIA unix_socket; \
             ALTER USER '{user}'@'localhost' IDENTIFIED VIA unix_socket; \
             GRANT ALL ON `{name}`.* TO '{user}'@'localhost';"
        )
    }

    /// Waits until slurmdbd answers, and makes the cluster known to it; whether it was known already. `conf`
    /// is the `slurm.conf` that the cluster is to have, which is asked with from a folder below `work`.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn register(&self, cluster: &str, conf: &str, work: &Path) -> Result<bool, DatabaseError> {
        let failed = |error| DatabaseError::Folder { folder: work.to_owned(), error };
        let folder = Folder::new(&*self.machine, work).map_err(failed)?;
        let file = folder.path().join("slurm.conf");
        self.machine.put(&file, conf.as_bytes()).map_err(failed)?;
        let known = self.known(cluster, &file)?;
        if !known {
            let add = self.sacctmgr(&file).args(["-i", "add", "cluster", cluster]);
            add.ask_on(&*self.machine, self.question).map_err(DatabaseError::Refused)?;
        }
        folder.close().map_err(failed)?;
        Ok(known)
    }

    /// Whether it knows the cluster, as soon as it answers.
    fn known(&self, cluster: &str, file: &Path) -> Result<bool, DatabaseError> {
        let deadline = Instant::now() + self.limit;
        let mut pause = PAUSE_FIRST;
        loop {
            let ask = self.sacctmgr(file).args(["-nP", "show", "cluster", "format=Cluster"]);
            match ask.ask_on(&*self.machine, self.question) {
                Ok(said) => {
                    let said = String::from_utf8_lossy(&said);
                    return Ok(said.lines().any(|line| line.trim() == cluster));
                }
                Err(error) if Instant::now() >= deadline || !self.machine.is_awaited() => {
                    let (seconds, words) = (self.limit.as_secs(), error.to_string());
                    return Err(DatabaseError::Silent { seconds, words });
                }
                Err(_) => thread::sleep(pause),
            }
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }

    fn sacctmgr(&self, conf: &Path) -> Argv {
        let program = match &self.bin {
            Some(bin) => Argv::new(bin.join("sacctmgr")),
            None => Argv::new("sacctmgr"),
        };
        program.env("SLURM_CONF", conf)
    }
}
