//! Clusters that are there: looked at and changed by Slurm's own programs on the host of the controller.
//!
//! Which programs start daemons anew is what the host's config says, never a commit. Files are written
//! by the exchange of `trueup-slurm` alone, and only what a controller of its own has started with.

mod act;
mod behind_port;
mod look;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use trueup_slurm::observe::{Commands, Observer, Rest};
use trueup_slurm::run::Argv;
use trueup_slurm::{Control, Live, Prover};

use crate::model::resource::SlurmPlace;
use crate::model::{Name, ResourceId};

/// Longest that one question to the controller may take. A dead one is waited for 9 s by the programs.
const QUESTION: Duration = Duration::from_secs(30);
/// Longest that a trial of files may take; one takes 0.2 s on a machine at rest.
const TRIAL: Duration = Duration::from_secs(60);
/// Longest that a controller may take to answer after it was started, or to be started.
const START: Duration = Duration::from_secs(90);

/// What clusters work with.
#[derive(Debug, Clone)]
pub struct ClusterSetup {
    /// A private folder, for trials.
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
        Self { setup: Arc::new(setup), observers: Arc::default(), before: Arc::default() }
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
        let observer = Arc::new(Mutex::new(Observer::new(commands(place), rest)));
        let kept = Kept { place: place.clone(), observer: Arc::clone(&observer) };
        all.insert(id.clone(), kept);
        observer
    }

    fn control(&self, cluster: &Name, place: &SlurmPlace) -> Option<Control> {
        let (program, arguments) = self.restarts(cluster).controller.split_first()?;
        Some(Control::new(commands(place), Argv::new(program).args(arguments), START))
    }
}

fn commands(place: &SlurmPlace) -> Commands {
    Commands {
        folder: place.programs.as_ref().map(PathBuf::from),
        conf: Some(Path::new(&place.folder).join("slurm.conf")),
        limit: QUESTION,
    }
}

fn prover(place: &SlurmPlace) -> Prover {
    Prover {
        bin: place.programs.as_ref().map(PathBuf::from),
        slurmctld: PathBuf::from(&place.slurmctld),
        limit: TRIAL,
    }
}

fn live(place: &SlurmPlace) -> Live {
    Live { folder: PathBuf::from(&place.folder) }
}
