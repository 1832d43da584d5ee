//! Clusters: looked at and changed by Slurm's own programs where the controller is: on this host, or in a
//! virtual machine of it, which is reached through its agent.
//!
//! Which programs start daemons anew is what the host's config says, never a commit. Files are written
//! by the exchange of `trueup-slurm` alone, and only what a controller of its own has started with.

mod act;
mod behind_port;
mod guest;
mod key;
mod look;
mod prepare;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use trueup_slurm::observe::{Commands, Observer, Rest};
use trueup_slurm::run::Argv;
use trueup_slurm::{Control, Here, Live, Machine, Prover};

use self::guest::Guest;
use crate::model::resource::SlurmPlace;
use crate::model::{Name, ResourceId};
use crate::port::Agents;

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
    /// How daemons are started anew, by the name of the `Cluster`.
    pub restarts: BTreeMap<Name, Restarts>,
    /// How they are where nothing is said.
    pub usual: Restarts,
}

/// How the daemons of a cluster are started anew: argument vectors.
#[derive(Debug, Clone, Default)]
pub struct Restarts {
    /// The controller.
    pub controller: Vec<String>,
    /// A node's daemon, with `{node}` for its name; empty: there is no way.
    pub node: Vec<String>,
}

/// Clusters of this host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClusterProvider {
    setup: Arc<ClusterSetup>,
    agents: Option<Arc<dyn Agents>>,
    observers: Arc<Mutex<HashMap<ResourceId, Kept>>>,
    /// When the daemons that were started anew here had been started before, by their node's own clock.
    before: Arc<Mutex<HashMap<(ResourceId, String), i64>>>,
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
            agents: None,
            observers: Arc::default(),
            before: Arc::default(),
        }
    }

    /// The same with the agents of this host's guests.
    #[must_use]
    pub fn with_agents(self, agents: Arc<dyn Agents>) -> Self {
        Self { agents: Some(agents), ..self }
    }

    /// A guest of this host.
    fn guest(&self, name: &Name) -> Guest {
        Guest::new(self.agents.clone(), name.as_str())
    }

    /// Where the controller of a cluster is.
    fn machine(&self, place: &SlurmPlace) -> Arc<dyn Machine> {
        match &place.guest {
            Some(name) => Arc::new(self.guest(name)),
            None => Here::shared(),
        }
    }

    fn restarts(&self, cluster: &Name) -> &Restarts {
        self.setup.restarts.get(cluster).unwrap_or(&self.setup.usual)
    }

    /// The observer of a cluster: it keeps what it saw, so that the next look is cheap.
    fn observer(&self, id: &ResourceId, place: &SlurmPlace) -> Arc<Mutex<Observer>> {
        let mut all = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = all.get(id).filter(|kept| kept.place == *place) {
            return Arc::clone(&kept.observer);
        }
        let rest = place.slurmrestd.as_ref().map(|socket| Rest::new(socket.into(), QUESTION));
        let observer = Arc::new(Mutex::new(Observer::new(self.commands(place), rest)));
        let kept = Kept { place: place.clone(), observer: Arc::clone(&observer) };
        all.insert(id.clone(), kept);
        observer
    }

    fn control(&self, cluster: &Name, place: &SlurmPlace) -> Option<Control> {
        if place.guest.is_some() {
            let restart = Argv::new("systemctl").args(["restart", "slurmctld.service"]);
            return Some(Control::new(self.commands(place), restart, GUEST_START));
        }
        let (program, arguments) = self.restarts(cluster).controller.split_first()?;
        Some(Control::new(self.commands(place), Argv::new(program).args(arguments), START))
    }

    fn commands(&self, place: &SlurmPlace) -> Commands {
        Commands {
            machine: self.machine(place),
            folder: place.programs.as_ref().map(PathBuf::from),
            conf: Some(Path::new(&place.folder).join("slurm.conf")),
            limit: if place.guest.is_some() { GUEST_QUESTION } else { QUESTION },
        }
    }

    fn prover(&self, place: &SlurmPlace) -> Prover {
        Prover {
            machine: self.machine(place),
            bin: place.programs.as_ref().map(PathBuf::from),
            slurmctld: PathBuf::from(&place.slurmctld),
            live: PathBuf::from(&place.folder),
            limit: if place.guest.is_some() { GUEST_TRIAL } else { TRIAL },
        }
    }

    fn live(&self, place: &SlurmPlace) -> Live {
        Live { machine: self.machine(place), folder: PathBuf::from(&place.folder) }
    }

    /// Where trials are made, on the machine of the controller.
    fn work(&self, place: &SlurmPlace) -> PathBuf {
        match place.guest {
            Some(_) => PathBuf::from(GUEST_WORK),
            None => self.setup.folder.clone(),
        }
    }
}
