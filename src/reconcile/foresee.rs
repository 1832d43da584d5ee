//! What a commit that is not in force would do: for pull requests.
//!
//! Nothing is appended and nothing is done; the machine is only looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::load::Load;
use super::pass::Reconciler;
use crate::model::{CommitId, ResourceId};
use crate::plan::Plan;
use crate::policy::Verdicts;
use crate::spec::{self, Diagnostic, Origin, ParseCache, RepoFiles};

/// What a commit would do.
#[derive(Debug, Clone)]
pub struct Foresight {
    /// The plan against the machine as it is.
    pub plan: Plan,
    /// What it would wait for, in sentences.
    pub held: Vec<String>,
    /// What the rules of the commit in force say of it.
    pub verdicts: Verdicts,
    /// Where each resource is written.
    pub origins: BTreeMap<ResourceId, Origin>,
}

impl Reconciler {
    /// What `files`, which are those of `commit`, would do if they were in force now.
    ///
    /// # Errors
    /// The mistakes in them.
    pub async fn foresee(
        &self,
        commit: &CommitId,
        files: &RepoFiles,
        cache: &mut ParseCache,
    ) -> Result<Foresight, Vec<Diagnostic>> {
        let select = self.loader.lock().await.select().clone();
        let loaded = spec::load(files, &select, cache)?;
        let load = Load::of(commit, loaded);
        let busy = self.busy(&load);
        let (scope, observed) = self.observe(&load).await;
        let round = self.round(&load, scope, observed, false, &BTreeSet::new(), busy);
        // The rules are those of the commit in force: a pull request does not choose its judge.
        let rules = self.loader.lock().await.rules();
        let round = self.ruled(round, rules).await;
        let held = self.sorted(&round, &BTreeSet::new()).held();
        let origins = load.desired.resources.iter();
        let origins = origins.map(|(id, wish)| (id.clone(), wish.origin.clone())).collect();
        Ok(Foresight { plan: round.plan, held, verdicts: round.verdicts, origins })
    }
}
