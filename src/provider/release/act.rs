//! The steps on a release. Each may be repeated; waiting ends at once when it is dropped.

use std::sync::Arc;
use std::time::Duration;

use trueup_kubernetes::release::{Done, Engine, EngineError, Step, Waits, Wish};
use trueup_kubernetes::{Fault as KubeFault, chain};

use super::{ReleaseProvider, Trouble};
use crate::model::resource::ReleasePlace;
use crate::model::{Fault, Resource, ResourceId};
use crate::port::{Outcome, Progress, ProgressUpdate, Scope};

/// The fact of a deletion that was left alone: why.
const LEFT: &str = "left";

impl ReleaseProvider {
    /// Performs one step of the release `id`.
    pub(super) async fn act(
        &self,
        id: &ResourceId,
        place: &ReleasePlace,
        step: &Step,
        scope: &Scope,
        progress: &Progress,
    ) -> Result<Outcome, Fault> {
        let asked = scope.desired.resources.get(id).map(|asked| &asked.resource);
        let asked = match asked {
            Some(Resource::Release(release)) => Some(&**release),
            _ => None,
        };
        let waits = Waits {
            ready: asked.map_or(Waits::default().ready, |it| Duration::from_secs(it.timeout_s)),
            ..Waits::default()
        };
        // Not the engine of looks: waiting for an object must not hold these up.
        let connection = self.connections.to(place.cluster.as_str()).await;
        let connection =
            connection.map_err(|error| Fault::transient(format!("{id}: {}", chain(&error))))?;
        let mut engine = Engine::new(connection.api().clone(), waits);
        let wish = match asked {
            Some(release) => {
                let settled = self.settled(id, release, scope, &engine).await;
                settled.map_err(|trouble| untroubled(id, trouble))?
            }
            None => self.gone(id, place)?,
        };
        if let Some(what) = waits_for(step) {
            progress(ProgressUpdate { what, done: 0, total: None });
        }
        match engine.perform(&wish, step).await {
            Ok(Done::Done) => Ok(Outcome::default()),
            Ok(Done::Left(why)) => {
                let facts = [(LEFT.to_owned(), why)].into();
                Ok(Outcome { already: true, facts, ..Outcome::default() })
            }
            Err(error) => Err(failed(id, &error)),
        }
    }

    fn gone(&self, id: &ResourceId, place: &ReleasePlace) -> Result<Arc<Wish>, Fault> {
        let wish = self.farewell(place);
        wish.map(Arc::new).map_err(|words| Fault::permanent(format!("{id}: {words}")))
    }
}

/// What a step waits for, in a few words.
fn waits_for(step: &Step) -> Option<String> {
    match step {
        Step::AwaitReady { key } => Some(format!("waits until {key} is ready")),
        Step::AwaitGone { key, .. } => Some(format!("waits until {key} is gone")),
        _ => None,
    }
}

fn untroubled(id: &ResourceId, trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Engine(error) => failed(id, &error),
        Trouble::Words(words) => Fault::permanent(format!("{id}: {words}")),
    }
}

/// What a failure of the engine asks for.
fn failed(id: &ResourceId, error: &EngineError) -> Fault {
    let message = format!("{id}: {error}");
    match error {
        // A kind and an account's rights come by other hands.
        EngineError::Fault(
            KubeFault::Invalid { .. } | KubeFault::Conflict { .. } | KubeFault::Refused { .. },
        )
        | EngineError::Manifests { .. }
        | EngineError::Inventory(_)
        | EngineError::InventoryTaken { .. }
        | EngineError::Held { .. }
        | EngineError::Failed { .. } => Fault::permanent(message),
        EngineError::Fault(_)
        | EngineError::Stale(_)
        | EngineError::NotReady { .. }
        | EngineError::Stuck { .. } => Fault::transient(message),
    }
}
