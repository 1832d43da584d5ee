//! How machines are reached: this one by itself, guests through their agents. For a step only as long as
//! somebody waits for it: its thread cannot be ended, and must begin nothing beside the next life of the daemon.
//! A program that is under way is waited for; what is refused after it is found by that life as after a crash.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trueup_slurm::run::{Argv, RunError, Said};
use trueup_slurm::{Heard, Here, Machine, Trial};

use crate::model::Name;
use crate::port::{Agents, Scope};
use crate::provider::guest::{self, Awaited, Guest, Waiting};

/// The ways to machines. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Ways {
    agents: Option<Arc<dyn Agents>>,
    /// Whether they lead anywhere still; `None`: always.
    awaited: Option<Awaited>,
}

impl Ways {
    /// With the agents of this host's guests.
    pub(super) fn with(agents: Arc<dyn Agents>) -> Self {
        Self { agents: Some(agents), awaited: None }
    }

    /// The same for a step: no guest that the log does not know as ours, and nothing any more once nobody waits.
    pub(super) fn within(&self, scope: &Scope, waiting: &Waiting) -> Self {
        let agents = self.agents.as_ref().map(|agents| guest::own(agents, &scope.known, waiting));
        Self { agents, awaited: Some(waiting.awaited()) }
    }

    /// A guest of this host.
    pub(super) fn guest(&self, name: &Name) -> Guest {
        Guest::new(self.agents.clone(), name.as_str())
    }

    /// That guest, or this host.
    pub(super) fn machine(&self, guest: Option<&Name>) -> Arc<dyn Machine> {
        let machine = match guest {
            Some(name) => Arc::new(self.guest(name)),
            None => Here::shared(),
        };
        match self.awaited.clone() {
            Some(awaited) => Arc::new(AwaitedMachine { machine, awaited }),
            None => machine,
        }
    }
}

/// A machine for as long as somebody waits.
#[derive(Debug)]
struct AwaitedMachine {
    machine: Arc<dyn Machine>,
    awaited: Awaited,
}

impl AwaitedMachine {
    fn file(&self) -> io::Result<&dyn Machine> {
        let refused = || io::Error::other("nobody waits for this step any more");
        self.is_awaited().then_some(&*self.machine).ok_or_else(refused)
    }

    fn program(&self) -> Result<&dyn Machine, RunError> {
        self.file().map_err(|error| RunError::Away {
            machine: "the controller's machine".to_owned(),
            words: error.to_string(),
        })
    }
}

impl Machine for AwaitedMachine {
    fn run(&self, argv: &Argv, limit: Duration) -> Result<Said, RunError> {
        self.program()?.run(argv, limit)
    }

    fn hear(&self, argv: &Argv, trial: &Trial<'_>) -> Result<Heard, RunError> {
        self.program()?.hear(argv, trial)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        self.file()?.read(path)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.file()?.replace(path, bytes)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.file()?.remove(path)
    }

    fn new_folder(&self, work: &Path) -> io::Result<PathBuf> {
        self.file()?.new_folder(work)
    }

    fn sub_folder(&self, path: &Path) -> io::Result<()> {
        self.file()?.sub_folder(path)
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.file()?.put(path, bytes)
    }

    /// Not refused: it takes away what a trial of this step made, and nobody else has.
    fn clear(&self, folder: &Path) -> io::Result<()> {
        self.machine.clear(folder)
    }

    fn sweep(&self, work: &Path) -> io::Result<usize> {
        self.file()?.sweep(work)
    }

    fn free_port(&self) -> io::Result<u16> {
        self.file()?.free_port()
    }

    fn user(&self) -> u32 {
        self.machine.user()
    }

    fn is_awaited(&self) -> bool {
        self.awaited.is_so()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::future::poll_fn;
    use std::process::Command;
    use std::task::Poll;

    use super::super::{ClusterHost, ClusterProvider, ClusterSetup};
    use crate::model::resource::SlurmPlace;
    use crate::plan::{Action, Disruption, Reason, Step};
    use crate::port::Provider as _;
    use crate::provider::files::tests::scope;

    /// Puts files back where the controller does not start, which a step that is dropped meanwhile may not.
    #[test]
    fn a_step_that_nobody_waits_for_any_more_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mark = r#"{"files":[{"name":"slurm.conf","was_there":true,"next":"new"}]}"#;
        fs::write(at(".slurm.conf.exchange"), mark).unwrap();
        fs::write(at("slurm.conf"), "new").unwrap();
        fs::write(at("slurm.conf.kept"), "old").unwrap();
        let (began, go) = (at("began"), at("go"));
        assert!(Command::new("mkfifo").args([&began, &go]).status().unwrap().success());
        let restart = r#"echo so >"$1"; read -r _ <"$2"; exit 1"#;
        let paths = [&began, &go].map(|path| path.display().to_string());
        let words = ["sh", "-c", restart, "restart"].map(str::to_owned).into_iter().chain(paths);
        let usual = ClusterHost {
            folder: folder.path().to_owned(),
            restart_controller: words.collect(),
            ..ClusterHost::default()
        };
        let setup = ClusterSetup { folder: at("own"), hosts: BTreeMap::new(), usual };
        let provider = ClusterProvider::new(setup);
        let step = Step {
            resource: "cluster/hpc".parse().unwrap(),
            action: Action::ClusterRecover { place: SlurmPlace { guest: None } },
            disruption: Disruption::None,
            reason: Reason::Missing,
            changes: Vec::new(),
            after: BTreeSet::new(),
            interrupts: BTreeSet::new(),
        };
        let scope = scope(BTreeMap::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut work = provider.perform(&step, &scope, std::sync::Arc::new(|_| ()));
            let first = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
            assert!(first.is_pending(), "{first:?}");
            assert_eq!(fs::read_to_string(&began).unwrap(), "so\n", "its thread is at work");
        });
        fs::write(&go, "\n").unwrap();
        // It waits for the thread.
        drop(runtime);
        assert_eq!(fs::read_to_string(at("slurm.conf")).unwrap(), "new");
        assert!(at(".slurm.conf.exchange").exists(), "the next life finds it cut off");
    }
}
