//! What a commit that is not in force would do: for pull requests.
//!
//! Nothing is appended and nothing is done; the machine is only looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::load::Load;
use super::pass::{Outlook, Reconciler};
use super::render::{LoadSetup, Unread, rendered};
use crate::event::chain::Head;
use crate::model::{CommitId, Fault, Observed, ResourceId};
use crate::plan::promise::{PROMISE_BYTES_MAX, Promise};
use crate::plan::{Plan, SkipReason};
use crate::policy::Verdicts;
use crate::spec::{self, Diagnostic, Loaded, Origin, ParseCache, RepoFiles, Select, Severity};
use crate::state::{Approved, State};

/// What a commit would do.
#[derive(Debug, Clone)]
pub struct Foresight {
    /// The plan against the machine as it is.
    pub plan: Plan,
    /// What it promises: all of it, or as much of its beginning as can be kept.
    pub promise: Promise,
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
    /// What could not be looked at beyond the plan's own resources, in sentences.
    pub unobserved: Vec<String>,
    /// How many of the resources that it changes cannot be looked at: of these the plan says nothing.
    pub blind: usize,
    /// Where the log stood at the look.
    pub log: Head,
}

impl Reconciler {
    /// What `files`, which are those of `commit`, would do if they were in force now.
    ///
    /// # Errors
    /// The mistakes in them, or why they cannot be read now.
    pub async fn foresee(
        &self,
        commit: &CommitId,
        files: &RepoFiles,
        cache: &mut ParseCache,
    ) -> Result<Foresight, Unread> {
        let loader = self.loader.lock().await;
        let rulebook = loader.rulebook_for(files);
        let (select, setup) = (loader.select().clone(), loader.setup().clone());
        drop(loader);
        let loaded = read(files, select, cache, &setup).await?;
        let load = Load::of(commit, loaded, rulebook);
        let busy = self.busy(&load);
        let log = self.ledger.head();
        let (scope, observed) = self.observe(&load, false).await;
        // What a schedule does goes on whether it is merged or not.
        let outlook = Outlook { retry_now: false, due: false };
        let mut round = self.round(&load, scope, observed, outlook, &BTreeSet::new(), busy);
        round.verdicts = self.ask_rules(&load.rulebook, &round, Some(files.clone())).await;
        let sorted = self.sorted(&round, &BTreeSet::new());
        let may_be_approved = sorted.waits.as_ref().is_some_and(|waits| waits.may_be_approved);
        let mut held = sorted.held();
        let (promise, left_out) = Promise::of(&round.plan).within(PROMISE_BYTES_MAX);
        if left_out > 0 {
            held.push(format!(
                "it is too large to be promised whole: after the merge its last {left_out} steps wait \
                 for an approval on the host"
            ));
        }
        let origins = load.desired.resources.iter();
        let origins = origins.map(|(id, wish)| (id.clone(), wish.origin.clone())).collect();
        let unobserved = unobserved(&round.observed, &round.plan);
        let blind = self.ledger.read(|state| blind(&round.plan, &load, state));
        let (plan, verdicts) = (round.plan, round.verdicts);
        let approved = None;
        Ok(Foresight {
            plan,
            promise,
            held,
            may_be_approved,
            approved,
            origins,
            verdicts,
            unobserved,
            blind,
            log,
        })
    }
}

impl Reconciler {
    /// The mistakes in `files`, as if they were a commit.
    ///
    /// # Errors
    /// Why that cannot be said now.
    pub async fn mistakes(
        &self,
        files: &RepoFiles,
        cache: &mut ParseCache,
    ) -> Result<Vec<Diagnostic>, Fault> {
        let loader = self.loader.lock().await;
        let (select, setup) = (loader.select().clone(), loader.setup().clone());
        drop(loader);
        match read(files, select, cache, &setup).await {
            Ok(_) => Ok(Vec::new()),
            Err(Unread::Mistakes(mistakes)) => Ok(mistakes),
            Err(Unread::Fault(fault)) => Err(fault),
        }
    }
}

/// Reads files, rendered where they have to be.
async fn read(
    files: &RepoFiles,
    select: Select,
    cache: &mut ParseCache,
    setup: &LoadSetup,
) -> Result<Loaded, Unread> {
    cache.seal(setup.key.as_ref());
    let loaded = read_once(files, select.clone(), cache).await;
    let wanted = cache.wanted();
    let Some(renderer) = setup.renderer.as_deref().filter(|_| !wanted.is_empty()) else {
        return loaded.map_err(Unread::Mistakes);
    };
    for (request, outcome) in rendered(renderer, wanted).await.map_err(Unread::Fault)? {
        cache.rendered(&request, &outcome);
    }
    read_once(files, select, cache).await.map_err(Unread::Mistakes)
}

/// Reads files on a thread of its own, so that a caller can stop waiting for it: the cache is lost then.
async fn read_once(
    files: &RepoFiles,
    select: Select,
    cache: &mut ParseCache,
) -> Result<Loaded, Vec<Diagnostic>> {
    let (files, mut own) = (files.clone(), std::mem::take(cache));
    let reading = tokio::task::spawn_blocking(move || {
        let loaded = spec::load(&files, &select, &mut own);
        (loaded, own)
    });
    match reading.await {
        Ok((loaded, own)) => {
            *cache = own;
            loaded
        }
        Err(error) => Err(vec![unread(&error.to_string())]),
    }
}

/// The mistake of a tree that cannot be read at all.
fn unread(why: &str) -> Diagnostic {
    Diagnostic {
        code: "spec/unread".into(),
        severity: Severity::Error,
        path: String::new(),
        line: 0,
        column: 0,
        end_column: None,
        message: format!("reading it ended without a result: {why}"),
        hint: None,
        related: Vec::new(),
    }
}

/// How many of the resources that a commit changes cannot be looked at.
fn blind(plan: &Plan, load: &Load, state: &State) -> usize {
    let unseen =
        plan.skipped.iter().filter(|skipped| matches!(skipped.why, SkipReason::Unobservable(_)));
    let changes = |id: &ResourceId| {
        let wish = load.desired.resources.get(id).map(|wish| wish.digest);
        wish != state.resources.get(id).and_then(|known| known.wish)
    };
    unseen.filter(|skipped| changes(&skipped.resource)).count()
}

/// What could not be looked at and stands in no line of the plan: kinds as a whole, and things that
/// the commit does not name.
fn unobserved(observed: &Observed, plan: &Plan) -> Vec<String> {
    let told = |id: &ResourceId| plan.skipped.iter().any(|skipped| skipped.resource == *id);
    let kinds = observed.unobservable.iter();
    let kinds = kinds.map(|(kind, why)| format!("every {}: {why}", kind.short()));
    let single = observed.unreadable.iter().filter(|(id, _)| !told(id));
    kinds.chain(single.map(|(id, why)| format!("{id}: {why}"))).collect()
}
