//! The hands: which provider answers for which kind.
//!
//! A kind that this build has no hand for is unobservable, never absent.

use std::sync::Arc;

use crate::config::Config;
use crate::model::{Fault, Kind, Observed};
use crate::plan::Step;
use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope};

/// Every provider of this build, for `config`. Every kind has exactly one.
pub(in super::super) fn all(config: &Config) -> Vec<Arc<dyn Provider>> {
    let uri = config.libvirt.uri.clone();
    vec![Arc::new(Absent { kinds: Kind::ALL.to_vec(), uri })]
}

/// Answers for kinds that this build cannot look at.
struct Absent {
    kinds: Vec<Kind>,
    uri: String,
}

impl Absent {
    fn fault(&self) -> Fault {
        Fault::unobservable(format!(
            "this trueup was built without libvirt, so {} cannot be looked at: install a build \
             with it",
            self.uri
        ))
    }
}

impl Provider for Absent {
    fn name(&self) -> &'static str {
        "absent"
    }

    fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    fn observe<'a>(&'a self, _scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
        Box::pin(async { Err(self.fault()) })
    }

    fn perform<'a>(
        &'a self,
        _step: &'a Step,
        _scope: &'a Scope,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        Box::pin(async { Err(self.fault()) })
    }
}
