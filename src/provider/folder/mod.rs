//! Releases that are a folder on a file system that a Slurm cluster shares.
//!
//! Where a release may put its folder is what the host's config says, never a commit. The folder is a link to
//! a version of its own, which lies beside it, so that all of it is exchanged at once and what was begun with
//! an older one goes on:
//!
//! ```text
//! /shared/envs/torch -> .trueup-torch/0123456789ab
//! /shared/envs/.trueup-torch/inventory.json
//! /shared/envs/.trueup-torch/0123456789ab/...
//! ```
//!
//! Every folder on the way belongs to root and is written by nobody else; none is a link (`place`).

mod act;
mod inventory;
mod look;
mod place;
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use self::tree::Digests;
use crate::model::resource::{ReleasePlace, SharedFolder};
use crate::model::{Fault, Kind, Name, Observed, Resource};
use crate::plan::{Action, Step};
use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope, misdirected};

/// What folders work with.
#[derive(Debug, Clone, Default)]
pub struct FolderSetup {
    /// Where releases may put folders, by the name of the `Cluster`.
    pub shared: BTreeMap<Name, Vec<PathBuf>>,
    /// This host, as inventories name who keeps a folder.
    pub host: String,
}

/// Folders of this host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FolderProvider {
    setup: Arc<FolderSetup>,
    digests: Arc<Mutex<Digests>>,
}

/// One folder to be looked at or changed.
#[derive(Debug, Clone)]
struct Job {
    place: ReleasePlace,
    /// What is asked for; `None`: that it be gone.
    folder: Option<SharedFolder>,
    takes_over_from: Option<String>,
}

impl FolderProvider {
    /// A provider that has not looked at anything yet.
    #[must_use]
    pub fn new(setup: FolderSetup) -> Self {
        Self { setup: Arc::new(setup), digests: Arc::default() }
    }
}

impl Provider for FolderProvider {
    fn name(&self) -> &'static str {
        "folder"
    }

    fn kinds(&self) -> &[Kind] {
        &[Kind::Release]
    }

    fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
        Box::pin(self.look(scope))
    }

    fn perform<'a>(
        &'a self,
        step: &'a Step,
        scope: &'a Scope,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        Box::pin(async move {
            let Action::Release { place, step: part } = &step.action else {
                return Err(misdirected(self.name(), step));
            };
            let asked = scope.desired.resources.get(&step.resource).map(|it| &it.resource);
            let (folder, takes_over_from) = match asked {
                Some(Resource::Release(it)) => (it.folder.clone(), it.takes_over_from.clone()),
                _ => (None, None),
            };
            let folder = folder.map(|folder| *folder);
            let job = Job { place: place.clone(), folder, takes_over_from };
            self.act(step.resource.clone(), job, (**part).clone()).await
        })
    }
}
