//! The steps on a cluster. Each may be repeated; those on one node are in `node`.

mod node;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use trueup_slurm::conf::Conf;
use trueup_slurm::observe::{Node, Observed, Observer, Pass};
use trueup_slurm::plan::accounts::Write;
use trueup_slurm::plan::config::Action as How;
use trueup_slurm::{Control, Controller as _, Switched, is_cut_off, recover, switch};

use self::node::jobs_on;
use super::behind_port::{unanswered, uncontrolled, unproved, unswitched};
use super::{ClusterProvider, trials};
use crate::model::resource::SlurmPlace;
use crate::model::{Fault, ResourceId};
use crate::port::{Outcome, Progress};
use crate::provider::files::blocking;

/// Work on one cluster.
pub(super) struct Job<'a> {
    pub(super) provider: &'a ClusterProvider,
    pub(super) id: &'a ResourceId,
    pub(super) place: &'a SlurmPlace,
    progress: &'a Progress,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        provider: &'a ClusterProvider,
        id: &'a ResourceId,
        place: &'a SlurmPlace,
        progress: &'a Progress,
    ) -> Self {
        Self { provider, id, place, progress }
    }

    pub(super) async fn adopt(&self, name: String) -> Result<Outcome, Fault> {
        let (commands, id) = (self.provider.commands(&self.id.name, self.place), self.id.clone());
        let answers = move || {
            let config = commands.config();
            let config = config.map_err(|error| unanswered(&id.to_string(), &error))?;
            match config.get("clustername") {
                Some(own) if *own == name => Ok(()),
                own => Err(Fault::needs_human(
                    format!(
                        "{id}: the controller calls its cluster `{}`, not `{name}`",
                        own.map(String::as_str).unwrap_or_default()
                    ),
                    "name it so in `spec.name`",
                )),
            }
        };
        blocking("ask a controller", answers).await?;
        Ok(Outcome { already: true, ..Outcome::default() })
    }

    pub(super) async fn recover(&self) -> Result<Outcome, Fault> {
        let (id, mut control) = (self.id.clone(), self.control()?);
        let live = self.provider.live(&self.id.name, self.place);
        let put_back = move || {
            let done = recover(&live, &mut control);
            done.map_err(|error| unswitched(&id.to_string(), &error))
        };
        let done = blocking("put files back", put_back).await?;
        Ok(Outcome { already: done.is_none(), ..Outcome::default() })
    }

    pub(super) async fn prove(&self, files: BTreeMap<String, String>) -> Result<Outcome, Fault> {
        let (prover, id) = (self.provider.prover(&self.id.name, self.place), self.id.clone());
        let (folder, work) = (self.provider.setup.folder.clone(), self.provider.work(self.place));
        let prove = move || {
            let _lock = taken(&folder, &id)?;
            let proof = prover.prove(&files, &work);
            proof.map_err(|error| unproved(&id.to_string(), &error))
        };
        let proof = blocking("try files", prove).await?;
        let mut outcome = Outcome::default();
        if !proof.noted().is_empty() {
            outcome.facts.insert("noted".to_owned(), proof.noted().join("; "));
        }
        Ok(outcome)
    }

    pub(super) async fn configure(
        &self,
        files: BTreeMap<String, String>,
        how: How,
        nodes: &[String],
    ) -> Result<Outcome, Fault> {
        self.still_empty(nodes, &files).await?;
        let (id, mut control) = (self.id.clone(), self.control()?);
        let (prover, live) = (
            self.provider.prover(&self.id.name, self.place),
            self.provider.live(&self.id.name, self.place),
        );
        let (folder, work) = (self.provider.setup.folder.clone(), self.provider.work(self.place));
        let exchange = move || {
            let _lock = taken(&folder, &id)?;
            let what = id.to_string();
            let cut_off = is_cut_off(&live).map_err(|error| unswitched(&what, &error))?;
            if cut_off {
                return Err(Fault::transient(format!(
                    "{what}: an exchange of its files was cut off; the files before it come first"
                )));
            }
            let proof = prover.prove(&files, &work);
            let proof = proof.map_err(|error| unproved(&what, &error))?;
            let done = switch(&proof, &live, how, &mut control);
            match done.map_err(|error| unswitched(&what, &error))? {
                Switched::AlreadySo => Ok(true),
                Switched::InForce => Ok(false),
                Switched::PutBack { words } => Err(Fault::needs_human(
                    format!(
                        "{what}: the controller did not take the new files ({words}); the old ones \
                         are in force again"
                    ),
                    "mend the spec, or look at the controller's log",
                )),
            }
        };
        let already = blocking("exchange files", exchange).await?;
        Ok(Outcome { already, ..Outcome::default() })
    }

    /// Nodes from which files take something away have to be out of use and empty still: while another was
    /// waited for, for hours maybe, somebody may have given one of them back.
    async fn still_empty(
        &self,
        nodes: &[String],
        files: &BTreeMap<String, String>,
    ) -> Result<(), Fault> {
        let going = self.going(files).await?;
        if nodes.is_empty() && going.is_empty() {
            return Ok(());
        }
        let pass = self.pass().await?;
        for name in nodes.iter().chain(&going) {
            let Some(seen) = pass.observed.nodes.get(name) else { continue };
            let jobs = jobs_on(&pass.observed, name);
            if !seen.is_drained() || seen.is_busy() || !jobs.is_empty() {
                return Err(Fault::transient(format!(
                    "{}: {name} is in use again, so no file that takes something from it is written",
                    self.id
                )));
            }
        }
        Ok(())
    }

    /// Nodes that the new files do not have, of a cluster that trueup builds: it has emptied them. Those of
    /// another one go as they are, which its plan says.
    async fn going(&self, files: &BTreeMap<String, String>) -> Result<Vec<String>, Fault> {
        const MAIN: &str = "slurm.conf";
        let Some(next) = files.get(MAIN).filter(|_| self.place.guest.is_some()) else {
            return Ok(Vec::new());
        };
        let (live, id, next) =
            (self.provider.live(&self.id.name, self.place), self.id.clone(), next.clone());
        let read = move || {
            let wrong = |error: &dyn std::fmt::Display| {
                Fault::transient(format!("{id}: {MAIN} cannot be read: {error}"))
            };
            let there =
                live.machine.read(&live.folder.join(MAIN)).map_err(|error| wrong(&error))?;
            let Some(there) = there else { return Ok(Vec::new()) };
            let there =
                Conf::parse(&String::from_utf8_lossy(&there)).map_err(|error| wrong(&error))?;
            let next = Conf::parse(&next).map_err(|error| wrong(&error))?;
            let going = there.nodes.into_keys().filter(|name| !next.nodes.contains_key(name));
            Ok(going.collect())
        };
        blocking("read files", read).await
    }

    pub(super) async fn reconfigure(&self) -> Result<Outcome, Fault> {
        let (id, mut control) = (self.id.clone(), self.control()?);
        let read = move || {
            let read = control.apply(How::Reconfigure).and_then(|()| control.await_up());
            read.map_err(|words| Fault::transient(format!("{id}: reconfigure: {words}")))
        };
        blocking("make a controller read its files", read).await?;
        Ok(Outcome::default())
    }

    pub(super) async fn account(&self, arguments: Vec<String>) -> Result<Outcome, Fault> {
        let (id, control) = (self.id.clone(), self.control()?);
        let provider = self.provider.clone();
        let write = move || {
            let written = control.account(&Write(arguments));
            provider.wrote_accounts(&id);
            written.map_err(|error| uncontrolled(&id.to_string(), &error))
        };
        blocking("write accounts", write).await?;
        Ok(Outcome::default())
    }

    async fn pass(&self) -> Result<Pass, Fault> {
        let observer: Arc<Mutex<Observer>> = self.provider.observer(self.id, self.place);
        let id = self.id.clone();
        let look = move || {
            let pass = observer.lock().unwrap_or_else(PoisonError::into_inner).pass();
            pass.map_err(|error| unanswered(&id.to_string(), &error))
        };
        blocking("look at a cluster", look).await
    }

    fn seen<'o>(&self, observed: &'o Observed, node: &str) -> Result<&'o Node, Fault> {
        observed.nodes.get(node).ok_or_else(|| {
            Fault::transient(format!("{}: the controller knows of no node {node}", self.id))
        })
    }

    fn control(&self) -> Result<Control, Fault> {
        self.provider.control(&self.id.name, self.place).ok_or_else(|| {
            Fault::needs_human(
                format!("{}: nothing says how its controller is started anew", self.id),
                format!(
                    "say it in `clusters.{}.restartController` of the host's config",
                    self.id.name
                ),
            )
        })
    }
}

/// The folder for trials, for as long as one lasts.
fn taken(folder: &Path, id: &ResourceId) -> Result<File, Fault> {
    trials::take(folder).map_err(|error| Fault::transient(format!("{id}: {error}")))
}
