//! Releases behind `port::Provider`.

use super::ReleaseProvider;
use crate::model::{Fault, Kind, Observed};
use crate::plan::{Action, Step};
use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope, misdirected};

impl Provider for ReleaseProvider {
    fn name(&self) -> &'static str {
        "release"
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
        progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        Box::pin(async move {
            match &step.action {
                Action::Release { place, step: part } => {
                    self.act(&step.resource, place, part, scope, &progress).await
                }
                _ => Err(misdirected(self.name(), step)),
            }
        })
    }
}
