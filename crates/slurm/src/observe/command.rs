//! The programs of Slurm, asked one by one. They only read.

use std::path::PathBuf;
use std::time::Duration;

use super::accounting::{ACCOUNT_FORMAT, Accounts, association_format, qos_format};
use super::error::ObserveError;
use super::{json, text};
use crate::release::{Release, Shape};
use crate::run::{Argv, RunError};

/// How to ask a cluster by its own programs.
#[derive(Debug, Clone)]
pub struct Commands {
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
        self.program(name).args(arguments).ask(self.limit).map_err(told)
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

    /// Accounts, users and qualities of service of a cluster. Dear: a question is 0.3 to 1.1 s.
    ///
    /// # Errors
    /// [`ObserveError`].
    pub fn accounts(&self, cluster: &str) -> Result<Accounts, ObserveError> {
        let show = |what: &str, format: &str, more: &[String]| {
            let mut arguments = vec!["-nP", "show", what, format];
            arguments.extend(more.iter().map(String::as_str));
            self.text("sacctmgr", &arguments)
        };
        Accounts::parse(
            &show("account", ACCOUNT_FORMAT, &[])?,
            &show("assoc", &association_format(), &[format!("cluster={cluster}")])?,
            &show("qos", &qos_format(), &[])?,
        )
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
