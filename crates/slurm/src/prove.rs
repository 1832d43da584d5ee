//! A candidate configuration, tried before it is written: read by `scontrol`, then started by a
//! controller of its own in a private folder. The live files and the live controller are not touched,
//! and no node is spoken to: the copy says other ports and other folders, and every node is at a port of
//! this machine on which nothing but root's programs could listen.
//!
//! A trial is a controller that whoever reaches its port may speak to, and it may run as root: it takes
//! nobody's word for who they are, but asks munge, as the live one does.
//!
//! What a controller does not look at is not proved: whether programs named in it exist, and whether
//! the device files of `gres.conf` do. Those are of the nodes.

mod trial;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::trial::trial;
use crate::conf;
use crate::machine::{Folder, Heard, HeardEnd, Machine, Trial};
use crate::paths::Allowed;
use crate::run::{self, Argv, RunError};

/// The line of a controller that has read everything (controller.c).
const RUNNING: &str = "Running as primary controller";
/// How long a controller that has read everything has to go on: what loads late ends it some
/// milliseconds after that line (`PriorityType`, tried with 22.05).
const GOES_ON: Duration = Duration::from_millis(500);
/// Errors that a controller goes on with, and that take something away from jobs (facts: a `Gres` not
/// in `GresTypes` leaves a node without its GPUs, silently).
const GRAVE: &[&str] =
    &["Invalid GRES", "specified more than once", "invalid gres", "not valid and will"];
/// Complaints that are told; a file that is wrong for each of a thousand nodes is told of by a few.
const TOLD_MAX: usize = 20;
/// A port of the kernel's that was taken since it was chosen (strerror(3), `EADDRINUSE`).
const PORT_TAKEN: &str = "Address already in use";
/// Files that a controller reads beside those of a wish, and without which it does not start where they are
/// asked for (`TopologyPlugin`, `JobSubmitPlugins`, `NodeFeaturesPlugins`, `BurstBufferType`).
const BESIDE: &[&str] = &[
    "burst_buffer.conf",
    "burst_buffer.lua",
    "helpers.conf",
    "job_submit.lua",
    "topology.conf",
    "topology.yaml",
];
/// Words of the trial itself: it has no state, no mail and no nodes.
const OF_THE_TRIAL: &[&str] = &[
    "state file",
    "state save file",
    "MailProg",
    "pmix",
    "PMIx",
    "MPI:",
    "Reservations may be lost",
];

/// Tries candidates with the programs of one release.
#[derive(Debug, Clone)]
pub struct Prover {
    /// Where they are, and where a trial runs.
    pub machine: Arc<dyn Machine>,
    /// Where `scontrol` is; the search path, if not said.
    pub bin: Option<PathBuf>,
    /// `slurmctld`, of the release that the cluster's controller is.
    pub slurmctld: PathBuf,
    /// The folder of the live files: what the controller reads there besides those of a wish, a trial
    /// reads too.
    pub live: PathBuf,
    /// Longest that a trial may take.
    pub limit: Duration,
    /// In which folders a candidate may name programs and files that the live files do not name; `None`:
    /// anywhere, as there is nothing on the machine but its cluster.
    pub allowed: Option<Vec<PathBuf>>,
}

/// A candidate that a controller has started with. Only [`Prover::prove`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    files: BTreeMap<String, String>,
    noted: Vec<String>,
}

impl Proof {
    /// The files that were proved, by name.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<String, String> {
        &self.files
    }

    #[cfg(test)]
    pub(crate) fn of_test(files: BTreeMap<String, String>) -> Self {
        Self { files, noted: Vec::new() }
    }

    /// Errors that the controller went on with, in its own words.
    #[must_use]
    pub fn noted(&self) -> &[String] {
        &self.noted
    }
}

/// A candidate that would not work, in the words of Slurm's own programs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{program} refuses the configuration: {}", .words.join("; "))]
pub struct Refused {
    /// Who refuses.
    pub program: &'static str,
    /// Why, in its words.
    pub words: Vec<String>,
}

/// Why nothing was proved.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The candidate would not work: the live file stays as it is.
    #[error(transparent)]
    Refused(Refused),
    /// A name of a file that is none, or no `slurm.conf` among them.
    #[error("cannot try the configuration: {0}")]
    Files(String),
    /// It names what it may not.
    #[error("the configuration names what the host does not allow it: {}", .0.join("; "))]
    Paths(Vec<String>),
    /// A program could not be run.
    #[error(transparent)]
    Run(RunError),
    /// The private folder fails.
    #[error("cannot try the configuration in {folder}: {error}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file that the live controller reads could not be read.
    #[error("cannot read {path}, which a trial needs: {error}")]
    Beside {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Somebody else has its port.
    #[error("the trial controller has no port: {words}")]
    Port {
        /// Its words.
        words: String,
    },
    /// The trial neither started nor said why.
    #[error(
        "the trial controller neither started nor said why not, within {seconds} s; its last words: {words}"
    )]
    Silent {
        /// The limit.
        seconds: u64,
        /// What it said last.
        words: String,
    },
}

impl Prover {
    /// Tries a candidate: `slurm.conf` and whatever stands beside it, by name, in a new folder below
    /// `work`, which is removed afterwards.
    ///
    /// # Errors
    /// [`ProveError::Refused`] with the words of the controller; the others say that nothing is known.
    pub fn prove(
        &self,
        files: &BTreeMap<String, String>,
        work: &Path,
    ) -> Result<Proof, ProveError> {
        let folder = Folder::new(&*self.machine, work)
            .map_err(|error| ProveError::Folder { folder: work.to_owned(), error })?;
        let at = folder.path();
        let failed = |error| ProveError::Folder { folder: at.to_owned(), error };
        let candidate = files.get("slurm.conf").ok_or_else(|| {
            ProveError::Files("there is no slurm.conf among the files".to_owned())
        })?;
        for (name, text) in files {
            complete(name, text)?;
        }
        self.may_name(candidate)?;
        self.beside(files, at)?;
        self.syntax(files, at)?;
        let port = self.machine.free_port().map_err(failed)?;
        let trial = trial(candidate, at, port, self.machine.user());
        for folder in ["state", "spool"] {
            self.machine.sub_folder(&at.join(folder)).map_err(failed)?;
        }
        self.machine.put(&at.join("slurm.conf"), trial.as_bytes()).map_err(failed)?;
        let noted = self.start(at)?;
        unsaid(candidate)?;
        folder.close().map_err(|error| ProveError::Folder { folder: work.to_owned(), error })?;
        Ok(Proof { files: files.clone(), noted })
    }

    /// Before any program reads it: some of what it names would be loaded, or be trusted, by the trial itself.
    fn may_name(&self, candidate: &str) -> Result<(), ProveError> {
        let Some(folders) = &self.allowed else { return Ok(()) };
        let path = self.live.join("slurm.conf");
        let live = self.machine.read(&path);
        let live = live.map_err(|error| ProveError::Beside { path, error })?.unwrap_or_default();
        let allowed = Allowed { folders: folders.clone(), own: self.live.clone() };
        let refused = allowed.refused(candidate, &String::from_utf8_lossy(&live));
        if refused.is_empty() { Ok(()) } else { Err(ProveError::Paths(few(refused))) }
    }

    /// What stands beside the live files and is no part of a wish.
    fn beside(&self, files: &BTreeMap<String, String>, at: &Path) -> Result<(), ProveError> {
        for name in BESIDE.iter().filter(|name| !files.contains_key(**name)) {
            let path = self.live.join(name);
            let there = match self.machine.read(&path) {
                Ok(there) => there,
                Err(error) => return Err(ProveError::Beside { path, error }),
            };
            if let Some(bytes) = there {
                let put = self.machine.put(&at.join(name), &bytes);
                put.map_err(|error| ProveError::Folder { folder: at.to_owned(), error })?;
            }
        }
        Ok(())
    }

    /// The candidate as it is, read by a client: no daemon is needed and none is asked.
    fn syntax(&self, files: &BTreeMap<String, String>, at: &Path) -> Result<(), ProveError> {
        let failed = |error| ProveError::Folder { folder: at.to_owned(), error };
        for (name, text) in files {
            if name.contains('/') || name.starts_with('.') || name.is_empty() {
                return Err(ProveError::Files(format!("`{name}` is no name of a file")));
            }
            self.machine.put(&at.join(name), text.as_bytes()).map_err(failed)?;
        }
        let scontrol = match &self.bin {
            Some(bin) => Argv::new(bin.join("scontrol")),
            None => Argv::new("scontrol"),
        };
        let argv =
            scontrol.env("SLURM_CONF", at.join("slurm.conf")).args(["show", "hostnames", "x1"]);
        let said = self.machine.run(&argv, self.limit).map_err(ProveError::Run)?;
        if said.status.success() {
            return Ok(());
        }
        let words = said.stderr.lines().filter_map(|line| own_words(line, at)).collect();
        Err(ProveError::Refused(Refused { program: "scontrol", words: few(words) }))
    }

    /// Starts the trial, reads until it runs or ends, and ends it.
    fn start(&self, at: &Path) -> Result<Vec<String>, ProveError> {
        let file = at.join("slurm.conf");
        let argv = Argv::new(&self.slurmctld)
            .env("SLURM_CONF", &file)
            .args(["-D", "-c", "-f"])
            .args([&file]);
        let log = at.join("trial.log");
        let named = log.display().to_string();
        let trial = Trial {
            running: RUNNING,
            goes_on: GOES_ON,
            limit: self.limit,
            log: (&log, &["-L", &named]),
        };
        let heard = self.machine.hear(&argv, &trial).map_err(ProveError::Run)?;
        self.judge(heard, at)
    }

    fn judge(&self, heard: Heard, at: &Path) -> Result<Vec<String>, ProveError> {
        let refused = |words| Err(ProveError::Refused(Refused { program: "slurmctld", words }));
        let all: Vec<String> = heard
            .lines
            .iter()
            .filter(|line| line.contains("error:") || line.contains("fatal:"))
            .filter(|line| !OF_THE_TRIAL.iter().any(|own| line.contains(own)))
            .filter_map(|line| own_words(line, at))
            .collect();
        match heard.end {
            HeardEnd::Running => {
                let grave = |line: &&String| GRAVE.iter().any(|grave| line.contains(grave));
                let words: Vec<String> = all.iter().filter(grave).cloned().collect();
                if words.is_empty() { Ok(few(all)) } else { refused(few(words)) }
            }
            HeardEnd::Ended if all.iter().any(|line| line.contains(PORT_TAKEN)) => {
                Err(ProveError::Port { words: few(all).join("; ") })
            }
            HeardEnd::Ended if !all.is_empty() => refused(few(all)),
            HeardEnd::Ended | HeardEnd::Late => {
                let last: Vec<&str> =
                    heard.lines.iter().rev().take(3).rev().map(String::as_str).collect();
                let words = run::cut(&last.join("; "));
                Err(ProveError::Silent { seconds: self.limit.as_secs(), words })
            }
        }
    }
}

/// A line without the program's name, the severity and the private folder; none where it says no more
/// than that it failed.
fn own_words(line: &str, at: &Path) -> Option<String> {
    let mut words = line;
    for head in ["slurmctld:", "scontrol:", "error:", "fatal:"] {
        words = words.trim_start().strip_prefix(head).unwrap_or(words);
    }
    let words = words.trim().replace(&format!("{}/", at.display()), "");
    let empty = words.is_empty() || words == "Unable to process configuration file";
    (!empty).then(|| run::cut(&words))
}

/// The first of them, and how many there are more.
fn few(mut words: Vec<String>) -> Vec<String> {
    let more = words.len().saturating_sub(TOLD_MAX);
    if more > 0 {
        words.truncate(TOLD_MAX);
        words.push(format!("and {more} more"));
    }
    words
}

/// A file that another one is a part of would not be proved; and programs repeat lines that they cannot
/// read, of whichever file.
fn complete(name: &str, text: &str) -> Result<(), ProveError> {
    let lines = conf::lines(text);
    let includes = |line: &&conf::Line| line.pairs.iter().any(|(key, _)| is_include(key));
    match lines.iter().find(includes) {
        Some(line) => Err(ProveError::Files(format!(
            "line {} of {name} includes another file, which would not be proved",
            line.number
        ))),
        None => Ok(()),
    }
}

fn is_include(key: &str) -> bool {
    key.eq_ignore_ascii_case("include")
}

/// What the controller passes over without a word, tried with 22.05: resources of nodes where there is
/// no `GresTypes` at all. One that is missing from the list it does complain about.
fn unsaid(candidate: &str) -> Result<(), ProveError> {
    let conf =
        conf::Conf::parse(candidate).map_err(|error| ProveError::Files(error.to_string()))?;
    let with_some = conf.nodes.iter().find(|(_, fields)| fields.contains_key("gres"));
    match (with_some, conf.parameter("GresTypes")) {
        (Some((name, fields)), None) => Err(ProveError::Files(format!(
            "node {name} has Gres={}, and without GresTypes the controller leaves that out without a word: say GresTypes too",
            fields["gres"]
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_words_are_told_by_a_few() {
        let words = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(few(words(TOLD_MAX)), words(TOLD_MAX));
        let told = few(words(TOLD_MAX + 3));
        assert_eq!((told.len(), told.last().unwrap().as_str()), (TOLD_MAX + 1, "and 3 more"));
    }
}
