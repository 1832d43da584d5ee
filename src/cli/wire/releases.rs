//! Releases, whatever they are made of: one kind, and a hand for objects and one for folders.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Fault, Kind, Observed, Resource, ResourceId};
use crate::plan::Step;
use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope};

/// The hands of releases.
pub(super) struct Releases {
    objects: Arc<dyn Provider>,
    folders: Arc<dyn Provider>,
}

impl Releases {
    pub(super) fn new(objects: Arc<dyn Provider>, folders: Arc<dyn Provider>) -> Self {
        Self { objects, folders }
    }
}

fn is_folder(resource: &Resource) -> bool {
    matches!(resource, Resource::Release(release) if release.folder.is_some())
}

/// What one hand has to see: the same scope without the releases of the other.
fn part(scope: &Scope, folders: bool) -> Scope {
    let other = |id: &ResourceId, resource: &Resource| {
        id.kind == Kind::Release && is_folder(resource) != folders
    };
    let mut part = scope.clone();
    let strange = scope.desired.resources.iter().any(|(id, it)| other(id, &it.resource))
        || scope.claims.iter().any(|(id, it)| other(id, it));
    if strange {
        let mut desired = (*scope.desired).clone();
        desired.resources.retain(|id, it| !other(id, &it.resource));
        part.desired = Arc::new(desired);
        let claims = scope.claims.iter().filter(|(id, it)| {
            // What is asked for otherwise now is looked at by the hand that is asked.
            let now = scope.desired.resources.get(*id).map_or(*it, |wish| &wish.resource);
            !other(id, now)
        });
        let claims: BTreeMap<_, _> = claims.map(|(id, it)| (id.clone(), it.clone())).collect();
        part.claims = Arc::new(claims);
    }
    part
}

/// What one hand saw. What it did not see at all is unreadable, and nothing of the other's is.
fn seen(looked: Result<Observed, Fault>, scope: &Scope) -> Observed {
    looked.unwrap_or_else(|fault| {
        let mut observed = Observed::default();
        let asked = scope.desired.resources.keys().chain(scope.claims.keys());
        for id in asked.filter(|id| id.kind == Kind::Release) {
            observed.unreadable.insert(id.clone(), fault.to_string());
        }
        observed
    })
}

impl Provider for Releases {
    fn name(&self) -> &'static str {
        "release"
    }

    fn kinds(&self) -> &[Kind] {
        &[Kind::Release]
    }

    fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
        Box::pin(async move {
            let (objects, folders) = (part(scope, false), part(scope, true));
            let looks = (self.objects.observe(&objects), self.folders.observe(&folders));
            let looked = tokio::join!(looks.0, looks.1);
            let mut observed = seen(looked.0, &objects);
            observed.merge(seen(looked.1, &folders));
            Ok(observed)
        })
    }

    fn perform<'a>(
        &'a self,
        step: &'a Step,
        scope: &'a Scope,
        progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        let asked = scope.desired.resources.get(&step.resource).map(|wish| &wish.resource);
        let of = asked.or_else(|| scope.claims.get(&step.resource));
        match of.is_some_and(is_folder) {
            true => self.folders.perform(step, scope, progress),
            false => self.objects.perform(step, scope, progress),
        }
    }

    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            tokio::join!(self.objects.settled(), self.folders.settled());
        })
    }
}
