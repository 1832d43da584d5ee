//! The paths that a candidate `slurm.conf` names, held against those that the host lets it name.
//!
//! Slurm's daemons run programs, load plugins, ask sockets and write files that `slurm.conf` names, many of
//! them as root, and a trial does some of that too. Whoever may change the document must not choose them:
//! what a candidate names is in the live file already, or lies where the host allows it. Pure: whether there
//! is anything at a path, and whose, is not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::conf;
use crate::render::DEFAULTS;

/// Parameters that name programs or plugins, in lower case: where these lie in the folder of `slurm.conf`
/// itself, the host has put them there. What daemons write is not among them.
const PROGRAMS: &[&str] = &[
    "epilog",
    "epilogslurmctld",
    "healthcheckprogram",
    "mailprog",
    "plugindir",
    "plugstackconfig",
    "prolog",
    "prologslurmctld",
    "rebootprogram",
    "resumefailprogram",
    "resumeprogram",
    "resvepilog",
    "resvprolog",
    "slurmctldprimaryoffprog",
    "slurmctldprimaryonprog",
    "srunepilog",
    "srunprolog",
    "suspendprogram",
    "taskepilog",
    "taskprolog",
    "unkillablestepprogram",
];
/// As whom the controller runs, and whom its nodes believe.
const USER: &str = "slurmuser";
/// Who that is where nothing says so (slurm.conf(5)).
const USER_UNSAID: &str = "root";

/// Where munge is asked; slurmdbd is asked by the same socket (`render`).
const SOCKET: &str = "authinfo";
const SOCKET_OF_ACCOUNTING: &str = "accountingstoragepass";

/// Where a candidate may name paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Folders in which anything may be named.
    pub folders: Vec<PathBuf>,
    /// The folder of the live files: programs may be named there.
    pub own: PathBuf,
}

impl Allowed {
    /// What a candidate names that it may not, one line for each; empty where all is well.
    #[must_use]
    pub fn refused(&self, candidate: &str, live: &str) -> Vec<String> {
        let (next, live) = (Named::read(candidate), Named::read(live));
        let mut refused = Vec::new();
        for (key, values) in &next.values {
            for (line, value) in values {
                if live.has(key, value) || is_default(key, value) {
                    continue;
                }
                if let Some(why) = self.wrong(key, value, &live) {
                    refused.push(format!("line {line}: {why}"));
                }
            }
        }
        // Of a line that is read otherwise than meant nobody knows what it names.
        let known: BTreeSet<&str> =
            next.values.values().flatten().flat_map(|(_, value)| paths(value)).collect();
        for (number, line) in candidate.lines().enumerate() {
            let code = line.split('#').next().unwrap_or_default();
            for path in paths(code).filter(|path| !known.contains(path)) {
                refused.push(format!("line {}: {path} stands where no value is", number + 1));
            }
        }
        refused
    }

    /// Why a value is not let through.
    fn wrong(&self, key: &str, value: &str, live: &Named) -> Option<String> {
        if key == USER {
            let before = live.values.get(USER).and_then(|values| values.last());
            let same = before.is_none() && value == USER_UNSAID;
            return (!same).then(|| format!("SlurmUser={value} is not who it is now"));
        }
        // A password of the live file may be here as well.
        let shown = |path: &str| match key.ends_with("pass") {
            true => key.to_owned(),
            false => format!("{key}={path}"),
        };
        if value.split('/').any(|part| part == "..") {
            return Some(format!("{} has `..` in it", shown(value)));
        }
        let is_program = PROGRAMS.contains(&key);
        if is_program && words(value).any(|word| !word.starts_with('/')) {
            return Some(format!("{} is no absolute path", shown(value)));
        }
        let may = |path: &str| {
            self.folders.iter().any(|folder| Path::new(path).starts_with(folder))
                || is_program && Path::new(path).starts_with(&self.own)
                || live.names(key, path)
                || key == SOCKET_OF_ACCOUNTING && live.names(SOCKET, path)
        };
        let path = paths(value).find(|path| !may(path))?;
        Some(shown(path))
    }
}

/// What a file says, by key in lower case, with the line of each value.
struct Named {
    values: BTreeMap<String, Vec<(usize, String)>>,
}

impl Named {
    fn read(text: &str) -> Self {
        let mut values: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
        for line in conf::lines(text) {
            for (key, value) in line.pairs {
                values.entry(key.to_ascii_lowercase()).or_default().push((line.number, value));
            }
        }
        Self { values }
    }

    fn of<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.values.get(key).into_iter().flatten().map(|(_, value)| value.as_str())
    }

    fn has(&self, key: &str, value: &str) -> bool {
        self.of(key).any(|own| own == value)
    }

    fn names(&self, key: &str, path: &str) -> bool {
        self.of(key).flat_map(paths).any(|own| own == path)
    }
}

/// Whether it is what is written where a document says nothing.
fn is_default(key: &str, value: &str) -> bool {
    DEFAULTS.iter().any(|(name, own)| name.eq_ignore_ascii_case(key) && *own == value)
}

fn words(value: &str) -> impl Iterator<Item = &str> {
    let between =
        |c: char| c.is_whitespace() || matches!(c, ',' | ';' | ':' | '=' | '"' | '\'' | '|');
    value.split(between).filter(|word| !word.is_empty())
}

/// The absolute paths in a value: `socket=/run/munge/munge.socket.2,ttl=60` has one.
fn paths(value: &str) -> impl Iterator<Item = &str> {
    words(value).filter(|word| word.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: &str = "ClusterName=lab\nSlurmUser=slurm\nAuthInfo=socket=/run/munge/s,ttl=60\n\
                        Prolog=/opt/site/prolog\nStateSaveLocation=/srv/state\n";

    #[track_caller]
    fn check(line: &str, wanted: &[&str]) {
        let allowed = Allowed { folders: vec!["/srv/hooks".into()], own: "/etc/slurm".into() };
        let refused = allowed.refused(&format!("ClusterName=lab\n{line}\n"), LIVE);
        assert_eq!(refused, wanted, "{line}");
    }

    #[test]
    fn what_the_host_has_or_allows_is_let_through() {
        check("Prolog=/opt/site/prolog", &[]);
        check("Epilog=/srv/hooks/epilog", &[]);
        check("Epilog=/etc/slurm/epilog", &[]);
        check("StateSaveLocation=/srv/hooks/state", &[]);
        // As it is where nothing is said, and the same socket for longer.
        check("SlurmctldPidFile=/run/slurmctld.pid", &[]);
        check("AuthInfo=ttl=90,socket=/run/munge/s", &[]);
        check("AccountingStoragePass=/run/munge/s", &[]);
        check("TaskPlugin=task/affinity,task/cgroup", &[]);
        check("SlurmUser=slurm", &[]);
        check("# Prolog=/home/mallory/x", &[]);
        check("NodeName=n1 CPUs=4\nPartitionName=a Nodes=n1", &[]);
    }

    #[test]
    fn a_commit_names_no_program_plugin_socket_or_file_of_its_own_choice() {
        check("Prolog=/home/mallory/x", &["line 2: prolog=/home/mallory/x"]);
        check("prologSLURMCTLD = /home/mallory/x", &["line 2: prologslurmctld=/home/mallory/x"]);
        check("Prolog+=/home/mallory/x", &["line 2: prolog=/home/mallory/x"]);
        check("PluginDir=/usr/lib/x:/tmp/p", &["line 2: plugindir=/usr/lib/x"]);
        check("PluginDir=plugins", &["line 2: plugindir=plugins is no absolute path"]);
        check("AuthInfo=socket=/tmp/munge", &["line 2: authinfo=/tmp/munge"]);
        check("AccountingStoragePass=/tmp/munge", &["line 2: accountingstoragepass"]);
        check("AuthAltParameters=jwt_key=/tmp/key", &["line 2: authaltparameters=/tmp/key"]);
        check("DebugFlags=gres Prolog=/tmp/x", &["line 2: prolog=/tmp/x"]);
        // A log would be written over a file that root trusts, even in the host's own folders.
        check("SlurmctldLogFile=/etc/cron.d/x", &["line 2: slurmctldlogfile=/etc/cron.d/x"]);
        check(
            "SlurmctldLogFile=/etc/slurm/plugstack.conf",
            &["line 2: slurmctldlogfile=/etc/slurm/plugstack.conf"],
        );
        // What is a folder of state is no folder of plugins.
        check("PluginDir=/srv/state", &["line 2: plugindir=/srv/state"]);
        check("SlurmUser=root", &["line 2: SlurmUser=root is not who it is now"]);
    }

    #[test]
    fn a_way_out_of_an_allowed_folder_is_none() {
        check(
            "Prolog=/srv/hooks/../../tmp/x",
            &["line 2: prolog=/srv/hooks/../../tmp/x has `..` in it"],
        );
        check(
            "Prolog=/srv/hooks/a=b/../../../tmp/x",
            &["line 2: prolog=/srv/hooks/a=b/../../../tmp/x has `..` in it"],
        );
        check("Prolog=/srv/hooksmore/x", &["line 2: prolog=/srv/hooksmore/x"]);
        check("/tmp/x", &["line 2: /tmp/x stands where no value is"]);
        check("Epilog=\"/tmp/a b\"", &["line 2: epilog=/tmp/a b is no absolute path"]);
    }

    #[test]
    fn a_controller_that_is_root_unsaid_may_say_so() {
        let allowed = Allowed { folders: Vec::new(), own: "/etc/slurm".into() };
        let live = "ClusterName=lab\n";
        assert_eq!(allowed.refused("SlurmUser=root\n", live), [""; 0]);
        assert_eq!(allowed.refused("SlurmUser=slurm\n", live), [""; 0]);
        assert_eq!(allowed.refused("SlurmUser=mallory\n", live).len(), 1);
    }
}
