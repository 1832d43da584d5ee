//! Programs around jobs in the machines of a cluster that trueup makes: whether they are there, which is asked
//! before any file that names them is in force, and before a machine becomes a node. A node on which such a
//! program fails takes no more jobs (slurm.conf(5), `Prolog`).
//!
//! They come with a machine's image or its cloud-init media, and never from here. Of a machine that does not
//! answer nothing is known, and nothing waits for it: it is asked when it joins.

use std::collections::{BTreeMap, BTreeSet};

use trueup_slurm::Machine as _;
use trueup_slurm::run::Argv;
use trueup_slurm::wish::Pool;

use super::act::Job;
use super::{ClusterProvider, GUEST_QUESTION};
use crate::model::resource::SlurmCluster;
use crate::model::{Fault, Kind, Name, Resource, ResourceId};
use crate::port::Scope;
use crate::provider::files::blocking;
use crate::provider::guest::Guest;

/// What cloud-init has written as soon as it began, and once it is through (its documentation, "Data, logs and
/// configuration"). Until then files that it is to write may not be there yet.
const BEGUN: &str = "/run/cloud-init/status.json";
const THROUGH: &str = "/run/cloud-init/result.json";
/// Words of find(1) for what can be executed, and for any other plain file.
const PROGRAM: &str = "program";
const FILE: &str = "file";
/// Programs that are named in one fault; the rest is counted.
const NAMED_MAX: usize = 5;

/// The programs of a cluster's machines, by their name in the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hooks(BTreeMap<String, (Name, BTreeSet<String>)>);

impl Hooks {
    /// Those of a cluster that is asked for, as far as its machines are trueup's.
    pub(super) fn of(scope: &Scope, id: &ResourceId) -> Self {
        let wish = scope.desired.resources.get(id);
        let slurm = wish.and_then(|wish| match &wish.resource {
            Resource::Cluster(cluster) => cluster.slurm(),
            _ => None,
        });
        let mut all = slurm.map(Self::wished).unwrap_or_default();
        all.0.retain(|_, (machine, _)| {
            scope.known.contains(&ResourceId::new(Kind::VirtualMachine, machine.clone()))
        });
        all
    }

    fn wished(slurm: &SlurmCluster) -> Self {
        let Some(built) = &slurm.built else { return Self::default() };
        let hooks = &slurm.wish.hooks;
        let nodes = slurm.wish.pools.iter().flat_map(Pool::names);
        let controllers = slurm.wish.controllers.iter().map(|it| it.name.as_str());
        let of_nodes = [&hooks.prolog, &hooks.epilog];
        let of_controllers = [&hooks.controller_prolog, &hooks.controller_epilog];
        let nodes = nodes.map(|name| (name, of_nodes));
        let mut all = Self::default();
        for (name, programs) in nodes.chain(controllers.map(|name| (name, of_controllers))) {
            let programs = programs.into_iter().flatten().filter(|path| !is_pattern(path));
            let Some(machine) = built.machines.get(name) else { continue };
            for program in programs {
                let own = all.0.entry(name.to_owned());
                let (_, own) = own.or_insert_with(|| (machine.clone(), BTreeSet::new()));
                own.insert(program.clone());
            }
        }
        all
    }

    /// Those of one machine.
    pub(super) fn on(self, name: &str) -> Self {
        Self(self.0.into_iter().filter(|(own, _)| own == name).collect())
    }
}

/// Whether Slurm takes it for the names of several programs (slurm.conf(5): "A glob pattern"), of which nobody says
/// how many there have to be.
fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// Asks which of these are programs, and which other plain files, links followed.
fn question(programs: &BTreeSet<String>) -> Argv {
    let asked = programs.iter().map(String::as_str).chain([BEGUN, THROUGH]);
    let (program, file) = (format!("{PROGRAM} %p\\n"), format!("{FILE} %p\\n"));
    let words = ["-maxdepth", "0", "-type", "f", "(", "-perm", "/111", "-printf", &program];
    let others = ["-o", "-printf", &file, ")"];
    Argv::new("find").args(["-L"]).args(asked).args(words).args(others)
}

/// What is wrong with one program of a machine.
#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    path: String,
    why: &'static str,
}

/// What a machine says of its programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    wrong: Vec<Wrong>,
    /// Whether cloud-init has not come to its end.
    starts: bool,
}

impl Answer {
    /// Asks a machine; `None`: it does not answer.
    fn ask(guest: &Guest, programs: &BTreeSet<String>) -> Option<Self> {
        guest.ping().ok()?;
        // It ends with an error where one of them is not there, and tells of the others.
        match guest.run(&question(programs), GUEST_QUESTION) {
            Ok(said) => Some(Self::read(programs, &String::from_utf8_lossy(&said.stdout))),
            Err(error) => {
                tracing::warn!(machine = guest.name(), %error, "its programs around jobs are not known");
                None
            }
        }
    }

    fn read(programs: &BTreeSet<String>, text: &str) -> Self {
        let there: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(what, path)| (path, what))
            .collect();
        let wrong = programs.iter().filter_map(|path| {
            let why = match there.get(path.as_str()).copied() {
                Some(PROGRAM) => return None,
                Some(_) => "cannot be executed",
                None => "is no file",
            };
            Some(Wrong { path: path.clone(), why })
        });
        let starts = there.contains_key(BEGUN) && !there.contains_key(THROUGH);
        Self { wrong: wrong.collect(), starts }
    }
}

/// What machines said, as a fault; none where all is there.
fn fault(id: &ResourceId, answers: &[(String, Option<Answer>)]) -> Option<Fault> {
    let known = answers.iter().filter_map(|(machine, answer)| Some((machine, answer.as_ref()?)));
    let bad: Vec<_> = known.filter(|(_, answer)| !answer.wrong.is_empty()).collect();
    let all: Vec<String> = bad
        .iter()
        .flat_map(|(machine, it)| it.wrong.iter().map(move |wrong| (machine, wrong)))
        .map(|(machine, wrong)| format!("{} {} in {machine}", wrong.path, wrong.why))
        .collect();
    if all.is_empty() {
        return None;
    }
    let more = match all.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named: Vec<&str> = all.iter().take(NAMED_MAX).map(String::as_str).collect();
    let what = format!("{id}: `hooks` name what Slurm cannot run: {}{more}", named.join(", "));
    if bad.iter().all(|(_, answer)| answer.starts) {
        return Some(Fault::transient(format!("{what}; cloud-init is at work there still")));
    }
    Some(Fault::needs_human(
        what,
        "nothing was changed: leave it out of `hooks` until it is in the image of these machines, or until \
         `cloudInit` wrote it there (`write_files` with `permissions: '0755'`)",
    ))
}

impl ClusterProvider {
    /// Whether the programs are there.
    fn have(&self, id: &ResourceId, hooks: Hooks) -> Result<(), Fault> {
        let machines = hooks.0.iter().map(|(name, (machine, _))| (name.clone(), machine.clone()));
        let answers = self.each(&machines.collect(), |name, guest| {
            let answer = hooks.0.get(name).and_then(|(_, own)| Answer::ask(guest, own));
            (guest.name().to_owned(), answer)
        });
        let answers: Vec<_> = answers.into_iter().map(|(_, answer)| answer).collect();
        fault(id, &answers).map_or(Ok(()), Err)
    }
}

impl Job<'_> {
    /// Asks machines for the programs that their daemons are to run.
    pub(super) async fn have(&self, hooks: Hooks) -> Result<(), Fault> {
        if hooks == Hooks::default() {
            return Ok(());
        }
        let (provider, id) = (self.provider.clone(), self.id.clone());
        blocking("look for programs around jobs", move || provider.have(&id, hooks)).await
    }
}

#[cfg(test)]
mod tests;
