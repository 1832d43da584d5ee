//! Clusters: looked at and changed by Slurm's own programs where the controller is: on this host, or in a
//! virtual machine of it, which is reached through its agent.
//!
//! Where a cluster is on this host, which programs are run there and which start daemons anew is what the
//! host's config says, never a commit. Files are written by the exchange of `trueup-slurm` alone, and only what
//! a controller of its own has started with. No machine is asked anything that is not trueup's.

mod accounts;
mod act;
mod behind_port;
mod copy;
mod database;
mod firewall;
mod hooks;
mod host;
mod key;
mod look;
mod prepare;
mod trials;
mod ways;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use trueup_slurm::observe::{Commands, Observer, Rest};
use trueup_slurm::run::Argv;
use trueup_slurm::{Control, Live, Machine, Prover};

use self::accounts::Answers;
pub use self::host::ClusterHost;
use self::ways::Ways;
use crate::model::resource::SlurmPlace;
use crate::model::{Kind, Name, ResourceId};
use crate::port::{Agents, Scope};
use crate::provider::guest::{Guest, Waiting};

/// Longest that one question to the controller may take. A dead one is waited for 9 s by the programs.
const QUESTION: Duration = Duration::from_secs(30);
/// Longest that a trial of files may take; one takes 0.2 s on a machine at rest.
const TRIAL: Duration = Duration::from_secs(60);
/// Longest that a controller may take to answer after it was started, or to be started.
const START: Duration = Duration::from_secs(90);
/// Where trials are made in a guest.
const GUEST_WORK: &str = "/var/tmp";
/// The same for a guest, which may be emulated.
const GUEST_QUESTION: Duration = Duration::from_secs(90);
const GUEST_TRIAL: Duration = Duration::from_secs(180);
const GUEST_START: Duration = Duration::from_secs(240);

/// What clusters work with.
#[derive(Debug, Clone)]
pub struct ClusterSetup {
    /// A private folder, for trials, and for munge keys.
    pub folder: PathBuf,
    /// Where clusters are on this host, by the name of the `Cluster`.
    pub hosts: BTreeMap<Name, ClusterHost>,
    /// Where one is of which nothing is said.
    pub usual: ClusterHost,
}

/// Clusters of this host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClusterProvider {
    setup: Arc<ClusterSetup>,
    ways: Ways,
    /// Those of observers, which are there for longer than a step.
    lasting: Ways,
    observers: Arc<Mutex<HashMap<ResourceId, Kept>>>,
    answers: Arc<Mutex<Answers>>,
    /// When the daemons that were started anew here had been started before, by their node's own clock.
    before: Arc<Mutex<HashMap<(ResourceId, String), i64>>>,
    /// The machines on which what trials left was swept: a guest, or `None`, this host.
    swept: Arc<Mutex<HashSet<Option<Name>>>>,
}

/// An observer with where it looks.
#[derive(Debug, Clone)]
struct Kept {
    place: SlurmPlace,
    observer: Arc<Mutex<Observer>>,
}

impl ClusterProvider {
    /// A provider that has not looked at anything yet.
    #[must_use]
    pub fn new(setup: ClusterSetup) -> Self {
        Self {
            setup: Arc::new(setup),
            ways: Ways::default(),
            lasting: Ways::default(),
            observers: Arc::default(),
            answers: Arc::default(),
            before: Arc::default(),
            swept: Arc::default(),
        }
    }

    /// The same with the agents of this host's guests.
    #[must_use]
    pub fn with_agents(self, agents: Arc<dyn Agents>) -> Self {
        let ways = Ways::with(agents);
        Self { lasting: ways.clone(), ways, ..self }
    }

    /// The same for a step, as [`Ways::within`].
    fn within(&self, scope: &Scope, waiting: &Waiting) -> Self {
        Self { ways: self.lasting.within(scope, waiting), ..self.clone() }
    }

    /// The same for what is kept after a step.
    fn lasting(&self) -> Self {
        Self { ways: self.lasting.clone(), ..self.clone() }
    }

    /// A guest of this host.
    fn guest(&self, name: &Name) -> Guest {
        self.ways.guest(name)
    }

    /// Where the controller of a cluster is.
    fn machine(&self, place: &SlurmPlace) -> Arc<dyn Machine> {
        self.ways.machine(place.guest.as_ref())
    }

    /// What the host's config says of a cluster.
    fn host(&self, cluster: &Name) -> &ClusterHost {
        self.setup.hosts.get(cluster).unwrap_or(&self.setup.usual)
    }

    /// Where the files and programs of a cluster are on the machine of its controller.
    fn at(&self, cluster: &Name, place: &SlurmPlace) -> ClusterHost {
        match &place.guest {
            Some(_) => ClusterHost::of_guest(),
            None => self.host(cluster).clone(),
        }
    }

    /// The observer of a cluster: it keeps what it saw, so that the next look is cheap.
    fn observer(&self, id: &ResourceId, place: &SlurmPlace) -> Arc<Mutex<Observer>> {
        let mut all = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = all.get(id).filter(|kept| kept.place == *place) {
            return Arc::clone(&kept.observer);
        }
        let rest = self.at(&id.name, place).slurmrestd.map(|socket| Rest::new(socket, QUESTION));
        let commands = self.lasting().commands(&id.name, place);
        let observer = Arc::new(Mutex::new(Observer::new(commands, rest)));
        let kept = Kept { place: place.clone(), observer: Arc::clone(&observer) };
        all.insert(id.clone(), kept);
        observer
    }

    fn control(&self, cluster: &Name, place: &SlurmPlace) -> Option<Control> {
        let (words, limit) = (self.at(cluster, place).restart_controller, start_limit(place));
        let (program, arguments) = words.split_first()?;
        let restart = Argv::new(program).args(arguments);
        Some(Control::new(self.commands(cluster, place), restart, limit))
    }

    fn commands(&self, cluster: &Name, place: &SlurmPlace) -> Commands {
        let at = self.at(cluster, place);
        let is_guest = place.guest.is_some();
        Commands {
            machine: self.machine(place),
            folder: (!is_guest).then(|| at.programs_here()),
            conf: Some(at.folder.join("slurm.conf")),
            limit: if is_guest { GUEST_QUESTION } else { QUESTION },
        }
    }

    fn prover(&self, cluster: &Name, place: &SlurmPlace) -> Prover {
        let at = self.at(cluster, place);
        let is_guest = place.guest.is_some();
        Prover {
            machine: self.machine(place),
            bin: (!is_guest).then(|| at.programs_here()),
            slurmctld: at.slurmctld,
            live: at.folder,
            limit: if is_guest { GUEST_TRIAL } else { TRIAL },
            // A guest is its cluster's alone.
            allowed: (!is_guest).then_some(at.allowed_paths),
        }
    }

    fn live(&self, cluster: &Name, place: &SlurmPlace) -> Live {
        Live { machine: self.machine(place), folder: self.at(cluster, place).folder }
    }

    /// Where trials are made, on the machine of the controller.
    fn work(&self, place: &SlurmPlace) -> PathBuf {
        match place.guest {
            Some(_) => PathBuf::from(GUEST_WORK),
            None => self.setup.folder.clone(),
        }
    }

    /// Removes the keys of clusters that are gone for good: neither asked for nor known, and without a machine
    /// that is ours still, which may have the key.
    fn forget(
        &self,
        kept: &dyn Fn(&ResourceId) -> bool,
        ours: &BTreeSet<ResourceId>,
    ) -> io::Result<()> {
        let folder = &self.setup.folder;
        for cluster in key::clusters(folder)? {
            let machine = format!("{cluster}-");
            let of_it = |id: &ResourceId| {
                id.kind == Kind::VirtualMachine && id.name.as_str().starts_with(&machine)
            };
            let id = ResourceId::new(Kind::Cluster, cluster.clone());
            if !kept(&id) && !ours.iter().any(of_it) {
                key::forget(folder, &cluster)?;
                tracing::info!(cluster = %id, "it is gone, and its munge key with it");
            }
        }
        let mut observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
        observers.retain(|id, _| kept(id));
        self.answers().retain(kept);
        Ok(())
    }

    /// Removes what trials of programs that were killed left on the machine of a controller, once. It only
    /// takes room: what cannot be removed is no reason to look at nothing.
    fn sweep(&self, place: &SlurmPlace) {
        let swept_on = || self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept_on().contains(&place.guest) {
            return;
        }
        let swept = trials::sweep(&self.setup.folder, &*self.machine(place), &self.work(place));
        match swept {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => tracing::warn!(%error, "what trials of files left cannot be removed"),
        }
        swept_on().insert(place.guest.clone());
    }
}

fn start_limit(place: &SlurmPlace) -> Duration {
    if place.guest.is_some() { GUEST_START } else { START }
}
