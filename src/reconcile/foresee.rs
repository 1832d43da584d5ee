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
use crate::state::Approved;

/// What a commit would do.
#[derive(Debug, Clone)]
pub struct Foresight {
    /// The plan against the machine as it is.
    pub plan: Plan,
    /// What it would wait for, in sentences.
    pub held: Vec<String>,
    /// Whether an approval would let it through.
    pub may_be_approved: bool,
    /// Who let it through; never set here.
    pub approved: Option<Approved>,
    /// Where each resource is written.
    pub origins: BTreeMap<ResourceId, Origin>,
    /// What the rules in force say of it, each on its line.
    pub verdicts: Verdicts,
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
        let loader = self.loader.lock().await;
        let (select, rulebook) = (loader.select().clone(), loader.rulebook_for(files));
        drop(loader);
        let loaded = spec::load(files, &select, cache)?;
        let load = Load::of(commit, loaded, rulebook);
        let busy = self.busy(&load);
        let (scope, observed) = self.observe(&load).await;
        let mut round = self.round(&load, scope, observed, false, &BTreeSet::new(), busy);
        round.verdicts = self.ask_rules(&load.rulebook, &round, Some(files.clone())).await;
        let sorted = self.sorted(&round, &BTreeSet::new());
        let may_be_approved = sorted.waits.as_ref().is_some_and(|waits| waits.may_be_approved);
        let held = sorted.held();
        let origins = load.desired.resources.iter();
        let origins = origins.map(|(id, wish)| (id.clone(), wish.origin.clone())).collect();
        let verdicts = round.verdicts;
        Ok(Foresight { plan: round.plan, held, may_be_approved, approved: None, origins, verdicts })
    }
}
