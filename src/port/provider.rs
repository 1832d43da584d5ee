//! The port to the machine: observe and perform.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::BoxFuture;
use crate::model::backup::BackupNews;
use crate::model::{Fault, Kind, Observed, Resource, ResourceId};
use crate::plan::Step;
use crate::spec::Desired;

/// What an observation is about.
#[derive(Debug, Clone)]
pub struct Scope {
    /// What is asked for; tells where content-addressed files are looked for.
    pub desired: Arc<Desired>,
    /// Resources that the log says are ours, whether or not they are still asked for.
    pub known: Arc<BTreeSet<ResourceId>>,
    /// What the log remembers of files: where ours may lie although nothing asks for them any more.
    pub claims: Arc<BTreeMap<ResourceId, Resource>>,
    /// Disks that are held until their data is back: what is made ready for them is left alone.
    pub awaited: Arc<BTreeSet<ResourceId>>,
    /// Somebody waits for what is so now: what was kept of an earlier look is asked for anew.
    pub fresh: bool,
}

/// What a step that succeeded has to tell.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Whether the machine was already as the step would have made it.
    pub already: bool,
    /// Facts worth keeping: digests of a build's log, seconds to readiness. Never a secret.
    pub facts: BTreeMap<String, String>,
    /// What came of work on a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupNews>,
}

/// Where a long step tells how far it is.
pub type Progress = Arc<dyn Fn(ProgressUpdate) + Send + Sync>;

/// How far a long step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressUpdate {
    /// What is going on, in a few words.
    pub what: String,
    /// How much is done, in the unit of `total`.
    pub done: u64,
    /// How much there is to do; `None`: not known.
    pub total: Option<u64>,
}

/// A backend that observes and changes one part of the machine.
///
/// Both calls keep their own time limits and never block the executor's thread.
pub trait Provider: Send + Sync {
    /// A short name for logs: `libvirt`.
    fn name(&self) -> &'static str;

    /// The kinds it answers for. Every kind has exactly one provider.
    fn kinds(&self) -> &[Kind];

    /// Looks at everything of its kinds, ours or not.
    ///
    /// # Errors
    /// `Fault::Unobservable` where the peer does not answer; the caller then marks every kind of
    /// this provider as unobservable.
    fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>>;

    /// Performs one step. Performing it again must be safe, also after a crash half-way.
    ///
    /// # Errors
    /// A [`Fault`] that says what to do next.
    fn perform<'a>(
        &'a self,
        step: &'a Step,
        scope: &'a Scope,
        progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>>;

    /// Lets go of what is kept on this host for resources that are neither asked for nor known any more. Only
    /// whoever writes the log calls this, after it was written that they are gone, with what it knows then;
    /// a crash before it is made up for by the next pass.
    fn let_go<'a>(&'a self, _scope: &'a Scope) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Resolves once nothing is under way any more that takes away what steps made which were ended in
    /// the middle. What it leaves where nobody waits is a leftover for the next look.
    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The fault of a step that was handed to a provider that cannot do it.
#[must_use]
pub fn misdirected(provider: &str, step: &Step) -> Fault {
    Fault::permanent(format!(
        "{} was handed to the {provider} provider, which cannot {}: this is a mistake of trueup, please \
         report it",
        step.resource,
        step.action.verb()
    ))
}
