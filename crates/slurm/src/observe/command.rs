//! The programs of Slurm, asked one by one. They only read.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::accounting::{ACCOUNT_FORMAT, Accounts, USER_FORMAT, association_format, qos_format};
use super::error::ObserveError;
use super::{json, text};
use crate::machine::Machine;
use crate::release::{Release, Shape};
use crate::run::{Argv, RunError};

/// How to ask a cluster by its own programs.
#[derive(Debug, Clone)]
pub struct Commands {
    /// Where they run.
    pub machine: Arc<dyn Machine>,
    /// Where the programs are; the search path, if not said.
    pub folder: Option<PathBuf>,
    /// The `slurm.conf` to ask with; the system's, if not said.
    pub conf: Option<PathBuf>,
    /// Longest that one question may take. A dead controller is waited for 9 s by the programs.
    pub limit: Duration,
}

impl Commands {
    /// One of the programs, with our `slurm.conf`.
    #[must_use]
    pub fn program(&self, name: &str) -> Argv {
        let argv = match &self.folder {
            Some(folder) => Argv::new(folder.join(name)),
            None => Argv::new(name),
        };
        match &self.conf {
            Some(conf) => argv.env("SLURM_CONF", conf),
            None => argv,
        }
    }

    pub(crate) fn ask(&self, name: &str, arguments: &[&str]) -> Result<Vec<u8>, ObserveError> {
        let argv = self.program(name).args(arguments);
        argv.ask_on(&*self.machine, self.limit).map_err(told)
    }

    pub(crate) fn text(&self, name: &str, arguments: &[&str]) -> Result<String, ObserveError> {
        Ok(String::from_utf8_lossy(&self.ask(name, arguments)?).into_owned())
    }

    /// Whether the controller answers, without the 9 s that other questions wait for a dead one.
    ///
    /// # Errors
    /// [`ObserveError::Unreachable`] with `scontrol`'s words, or [`ObserveError::Run`].
    pub fn ping(&self) -> Result<(), ObserveError> {
        self.ask("scontrol", &["ping"]).map(drop)
    }

    /// The release of the programs here, which need not be the controller's.
    ///
    /// # Errors
    /// [`ObserveError`].
    pub fn release(&self) -> Result<Release, ObserveError> {
        self.text("scontrol", &["--version"])?.parse().map_err(ObserveError::NoRelease)
    }

    /// The JSON of nodes: 24.11's `sinfo` adds nodes up, so `scontrol` is asked there.
    pub(super) fn nodes(&self, shape: Shape) -> Result<Vec<u8>, ObserveError> {
        match shape {
            Shape::V22_05 => self.ask("sinfo", &["--json"]),
            Shape::V24_11 => self.ask("scontrol", &["--json", "show", "nodes"]),
        }
    }

    /// Accounts, users and qualities of service of a cluster. Dear: a question is 0.3 to 1.1 s, so all of
    /// them are asked side by side.
    ///
    /// # Errors
    /// [`ObserveError`].
    pub fn accounts(&self, cluster: &str) -> Result<Accounts, ObserveError> {
        let show = |words: &[&str]| self.text("sacctmgr", &[&["-nP", "show"], words].concat());
        let (associations, qos) = (association_format(), qos_format());
        let of_cluster = format!("cluster={cluster}");
        // Without `WOPLimits` a limit of an account is said of every account below it, too.
        let associations = ["assoc", "WOPLimits", &associations, &of_cluster];
        thread::scope(|scope| {
            let accounts = scope.spawn(|| show(&["account", "withcoord", ACCOUNT_FORMAT]));
            let users = scope.spawn(|| show(&["user", USER_FORMAT]));
            let qos = scope.spawn(|| show(&["qos", &qos]));
            let associations = show(&associations)?;
            let (accounts, users) = (joined(accounts.join())?, joined(users.join())?);
            Accounts::parse(&accounts, &associations, &joined(qos.join())?, &users)
        })
    }

    /// The configuration in force, by name in lower case.
    ///
    /// # Errors
    /// [`ObserveError`].
    pub fn config(&self) -> Result<std::collections::BTreeMap<String, String>, ObserveError> {
        Ok(text::config(&self.text("scontrol", &["show", "config"])?))
    }

    /// When the controller read its configuration, in its own words.
    pub(crate) fn read_at(&self) -> Result<Option<String>, ObserveError> {
        Ok(text::read_at(&self.text("scontrol", &["show", "config"])?))
    }

    /// The jobs.
    ///
    /// # Errors
    /// [`ObserveError`].
    pub fn jobs(&self) -> Result<Vec<super::Job>, ObserveError> {
        json::jobs(&self.ask("squeue", &["--json"])?)
    }
}

/// The answer of a question that was asked beside others.
pub(super) fn joined<T>(
    result: thread::Result<Result<T, ObserveError>>,
) -> Result<T, ObserveError> {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A controller that is away is told apart from a program that fails.
fn told(error: RunError) -> ObserveError {
    const AWAY: &[&str] = &["Unable to contact slurm controller", "is DOWN", "Connection refused"];
    match &error {
        RunError::Failed { words, .. } if AWAY.iter().any(|away| words.contains(away)) => {
            ObserveError::Unreachable { words: words.clone() }
        }
        _ => ObserveError::Run(error),
    }
}
