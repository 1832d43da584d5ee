//! What is known of pull requests and of what was said about them.
//!
//! It is bounded: what was promised is kept for the last merges only, and what was posted for the
//! commits and pull requests that can still change.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::granted::{Given, TakenBack};
use crate::event::body::{
    ApprovalMeans, ForgeApproval, ForgePosted, ForgeRefused, PlanApproved, PostTarget,
    PullApprovalWithdrawn, PullApproved, PullClosed, PullObserved, PullOutcome, PullPlan,
    PullPlanned,
};
use crate::model::{CommitId, Digest};
use crate::plan::promise::Promise;

/// Promises kept after their pull requests were closed: far more than are merged between two looks.
pub const PROMISES_KEPT_MAX: usize = 64;

/// Earlier plans of a pull request that are remembered: what a reviewer may still want to look back
/// at, and a small part of a comment.
pub const OLDER_KEPT_MAX: usize = 10;

/// Posts remembered: a status, a comment and a check for some 300 pull requests.
pub const POSTS_KEPT_MAX: usize = 1_000;

/// Approvals taken back that are remembered: far more than one log of a forge is read again for.
const VOID_KEPT_MAX: usize = 1_000;

/// Everything about pull requests.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullsState {
    /// The open ones, by number.
    pub open: BTreeMap<u64, PullState>,
    /// What closed ones promised, oldest first.
    pub promises: VecDeque<Merged>,
    /// What was said, oldest first.
    pub posted: VecDeque<Post>,
    /// Posts that the forge does not take, and why.
    #[serde(with = "refusals")]
    pub refusals: BTreeMap<PostTarget, String>,
    /// The plan in force that does more than its pull request said, and was not approved.
    pub surprised: Option<Digest>,
    /// A plan that runs because a pull request was approved, and what was approved.
    #[serde(default)]
    pub carried: Option<Carried>,
    /// What somebody did to approve and what was taken back, oldest first: heard again, it counts no more.
    #[serde(default)]
    pub void: VecDeque<(ApprovalMeans, u64)>,
    /// Comments that took approvals back, oldest first: what was said before them counts no more.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub taken_back: VecDeque<TakenBack>,
    /// The last event that said something new about the machine: plans made before it are stale.
    pub machine: u64,
    /// Since when the forge does not answer, and why.
    pub unavailable: Option<(Timestamp, String)>,
}

/// One open pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullState {
    /// The commit it offers.
    pub head: CommitId,
    /// Who opened it.
    pub author: String,
    /// Whether it comes from another repository.
    pub fork: bool,
    /// When this head was first seen: a label put on later is meant for it.
    pub since: Timestamp,
    /// What was last found of it.
    pub planned: Option<Planned>,
    /// What people were last told that it does.
    pub shown: Option<Merged>,
    /// What was last to be shown of it before it was merged: it may stand on the forge although that
    /// was not taken note of any more.
    #[serde(default)]
    pub meant: Option<Merged>,
    /// Plans that were made for it before, newest first.
    #[serde(default)]
    pub older: VecDeque<OlderPlan>,
    /// When they were first told that: a review handed in later is about it.
    #[serde(default)]
    pub shown_at: Option<Timestamp>,
    /// Who let through what was shown; for this head only.
    #[serde(default)]
    pub approved: Option<Approved>,
}

/// A plan of a pull request that another one took the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OlderPlan {
    /// Its digest.
    pub plan: Digest,
    /// The head it was for.
    pub head: CommitId,
    /// What it would have done, in a line.
    pub summary: String,
    /// When it was made.
    pub at: Timestamp,
}

/// What somebody approved of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approved {
    /// The plan that was shown.
    pub plan: Digest,
    /// What it may not exceed.
    pub promise: Promise,
    /// What it would have waited for.
    pub held: Vec<String>,
    /// Who, as in the log: `github:ann`.
    pub by: String,
    /// How.
    pub via: ForgeApproval,
    /// When that was taken note of.
    pub at: Timestamp,
    /// Who else approved the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Given>,
}

/// A plan that runs because a pull request was approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The plan.
    pub plan: Digest,
    /// The pull request's plan that was approved.
    pub shown: Digest,
}

/// What was found of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// When.
    pub at: Timestamp,
    /// The head that was looked at.
    pub head: CommitId,
    /// The head of the branch, which it was merged into.
    pub base: CommitId,
    /// The tree that gave.
    pub tree: Option<String>,
    /// What came of it.
    pub outcome: PullOutcome,
    /// The blob that holds what is posted.
    pub report: Digest,
    /// Digest of what its comment says; `None`: an event of an earlier version did not say.
    pub says: Option<Digest>,
    /// It in a line.
    pub summary: Option<String>,
    /// The event that says so: what is new about the machine since then is not in it.
    #[serde(default)]
    pub seq: u64,
}

/// What the merge of a pull request was said to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Merged {
    /// The pull request.
    pub number: u64,
    /// Its head.
    pub head: CommitId,
    /// The tree that was looked at: a commit with this tree is the merge.
    pub tree: String,
    /// The plan that was shown.
    pub plan: Digest,
    /// What it may not exceed.
    pub promise: Promise,
    /// What it was said to wait for.
    #[serde(default)]
    pub held: Vec<String>,
    /// Who opened the pull request.
    #[serde(default)]
    pub author: String,
    /// Who let it through.
    #[serde(default)]
    pub approved: Option<Approved>,
    /// Whether it was merged; not, while it is open.
    #[serde(default)]
    pub merged: bool,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// Where.
    pub target: PostTarget,
    /// Digest of it.
    pub content: Digest,
    /// Its page for people.
    pub url: Option<String>,
    /// How often something was said there, as far as that is remembered.
    #[serde(default)]
    pub times: u64,
    /// Whether the forge takes nothing more there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
}

impl PullsState {
    /// What was last said at `target`.
    pub fn post(&self, target: &PostTarget) -> Option<&Post> {
        self.posted.iter().find(|post| post.target == *target)
    }

    /// What a commit with this tree was said to do: by the pull request that was merged, or one that is
    /// still open, or at last a closed one; a copy that somebody else offers goes before none of these.
    /// What may have been said counts where nothing is known to be: a merge that follows a crash does
    /// no more than that either.
    pub fn promise(&self, tree: &str) -> Option<Merged> {
        let open = |fork| self.open.values().filter(move |pull| pull.fork == fork);
        let open = || open(false).chain(open(true));
        let closed = |merged| self.promises.iter().rev().filter(move |it| it.merged == merged);
        let told = open().filter_map(PullState::told);
        let told = closed(true).cloned().chain(told).chain(closed(false).cloned());
        let meant = open().filter_map(|pull| pull.meant.clone());
        told.chain(meant).find(|promise| promise.tree == tree)
    }

    /// Whether this very word was taken back.
    pub fn is_void(&self, via: &ForgeApproval) -> bool {
        self.void.contains(&(via.means, via.id))
    }

    /// It was taken back: heard again, it counts no more.
    pub(super) fn avoid(&mut self, via: &ForgeApproval) {
        if self.is_void(via) {
            return;
        }
        if self.void.len() == VOID_KEPT_MAX {
            self.void.pop_front();
        }
        self.void.push_back((via.means, via.id));
    }

    pub(super) fn observe(&mut self, observed: &PullObserved, at: Timestamp) {
        let fresh = PullState {
            head: observed.head.clone(),
            author: observed.author.clone(),
            fork: observed.fork,
            since: at,
            planned: None,
            shown: None,
            meant: None,
            older: VecDeque::new(),
            shown_at: None,
            approved: None,
        };
        let known = self.open.entry(observed.number).or_insert_with(|| fresh.clone());
        *known = PullState {
            planned: known.planned.take(),
            shown: known.shown.take(),
            meant: known.meant.take(),
            older: std::mem::take(&mut known.older),
            shown_at: known.shown_at,
            // An approval is for the head that was looked at.
            approved: known.approved.take().filter(|_| known.head == fresh.head),
            ..fresh
        };
    }

    /// `merging` and `tree` as in [`Self::posted`].
    pub(super) fn plan(
        &mut self,
        planned: &PullPlanned,
        (seq, at): (u64, Timestamp),
        merging: bool,
        tree: Option<&str>,
    ) {
        let Some(pull) = self.open.get_mut(&planned.number) else { return };
        pull.older = pull.older_than(plan_of(&planned.outcome).map(|plan| plan.plan));
        pull.planned = Some(Planned {
            at,
            head: planned.head.clone(),
            base: planned.base.clone(),
            tree: planned.tree.clone(),
            outcome: planned.outcome.clone(),
            report: planned.report.blob,
            says: planned.says,
            summary: planned.summary.clone(),
            seq,
        });
        if !merging && planned.tree.as_deref() != tree {
            pull.meant = pull.promise(planned.number).or_else(|| pull.meant.take());
        }
    }

    /// `tree` is the one in force: what its merge promised is kept for as long as it is.
    pub(super) fn close(&mut self, closed: &PullClosed, tree: Option<&str>) {
        let Some(pull) = self.open.remove(&closed.number) else { return };
        let told = pull.told();
        let unsaid =
            pull.meant.filter(|meant| told.as_ref().is_none_or(|it| it.tree != meant.tree));
        let all = unsaid.into_iter().chain(told);
        self.promises.extend(all.map(|it| Merged { merged: closed.merged, ..it }));
        while self.promises.len() > PROMISES_KEPT_MAX {
            let other = |it: &Merged| Some(it.tree.as_str()) != tree;
            let unmerged = self.promises.iter().position(|it| !it.merged && other(it));
            let oldest = unmerged.or_else(|| self.promises.iter().position(other));
            self.promises.remove(oldest.unwrap_or_default());
        }
    }

    pub(super) fn approve(&mut self, approved: &PullApproved, by: &str, at: Timestamp) {
        let of = |told: &Merged| {
            let fits = told.number == approved.number
                && told.head == approved.head
                && told.plan == approved.plan;
            fits.then(|| Approved {
                plan: told.plan,
                promise: told.promise.clone(),
                held: told.held.clone(),
                by: by.to_owned(),
                via: approved.via.clone(),
                at,
                more: Vec::new(),
            })
        };
        if let Some(pull) = self.open.get_mut(&approved.number) {
            let told = pull.shown.as_ref().filter(|told| told.head == pull.head);
            pull.approved = Approved::beside(pull.approved.take(), told.and_then(of));
        }
        for told in &mut self.promises {
            told.approved = Approved::beside(told.approved.take(), of(told));
        }
    }

    pub(super) fn disapprove(&mut self, withdrawn: &PullApprovalWithdrawn) {
        let open = self.open.get_mut(&withdrawn.number).map(|pull| &mut pull.approved);
        let closed = self.promises.iter_mut().filter(|told| told.number == withdrawn.number);
        let all = open.into_iter().chain(closed.map(|told| &mut told.approved));
        let mut gone = Vec::new();
        let mut left = false;
        for approved in all {
            let Some(known) = approved.take_if(|it| it.plan == withdrawn.plan) else { continue };
            let (rest, void) = known.without(withdrawn);
            *approved = rest;
            left |= approved.is_some();
            gone.extend(void);
        }
        for via in gone {
            self.avoid(&via);
        }
        self.take_back(withdrawn);
        if !left && self.carried.is_some_and(|carried| carried.shown == withdrawn.plan) {
            self.carried = None;
        }
    }

    /// An approval of a pull request lets a plan through.
    pub(super) fn carry(&mut self, approved: &PlanApproved) {
        if let Some(shown) = approved.shown {
            self.carried = Some(Carried { plan: approved.plan, shown });
        }
    }

    /// What was approved is done, or no longer needed: the same again needs another approval.
    pub(super) fn spend(&mut self, plan: Digest) {
        let Some(carried) = self.carried.filter(|carried| carried.plan == plan) else { return };
        self.carried = None;
        for pull in self.open.values_mut() {
            pull.approved = pull.approved.take().filter(|it| it.plan != carried.shown);
        }
        for told in self.promises.iter_mut().filter(|told| told.plan == carried.shown) {
            told.approved = None;
            // So that the same word, heard again, counts no more.
            told.held.clear();
        }
    }

    /// `merging`: a commit was seen that is not in force yet; `tree` is the one that is.
    pub(super) fn posted(
        &mut self,
        posted: &ForgePosted,
        at: Timestamp,
        merging: bool,
        tree: Option<&str>,
    ) {
        self.remember(Post {
            target: posted.target.clone(),
            content: posted.content,
            url: posted.url.clone(),
            times: self.post(&posted.target).map_or(0, |post| post.times).saturating_add(1),
            full: false,
        });
        self.refusals.remove(&posted.target);
        // Only what stands on the forge was promised: a plan made since then was seen by nobody.
        for (number, pull) in &mut self.open {
            let told = match &posted.target {
                PostTarget::Status(commit) => pull.head == *commit,
                PostTarget::Comment(on) => on == number,
                PostTarget::Check(_) | PostTarget::Issue => false,
            };
            // What is said of a head that is merged already, nobody saw before they merged it.
            let late = pull.shown.as_ref().is_some_and(|shown| {
                shown.head == pull.head && (merging || Some(shown.tree.as_str()) == tree)
            });
            // Nor does one that would change nothing promise what the commit in force does.
            let copy = pull.planned.as_ref().and_then(|it| it.tree.as_deref());
            if late || (copy.is_some() && copy == tree) {
                continue;
            }
            if told && pull.planned.as_ref().is_some_and(|planned| planned.head == pull.head) {
                let before = pull.shown.take().map(|shown| (shown.head, shown.plan));
                pull.shown = pull.promise(*number);
                let now = pull.shown.as_ref().map(|shown| (shown.head.clone(), shown.plan));
                if now != before {
                    pull.shown_at = Some(at);
                }
            }
        }
    }

    pub(super) fn refused(&mut self, refused: &ForgeRefused) {
        if self.refusals.len() < POSTS_KEPT_MAX {
            self.refusals.insert(refused.target.clone(), refused.why.clone());
        }
        if refused.full {
            let known = self.post(&refused.target);
            let (url, times) = known.map_or((None, 0), |post| (post.url.clone(), post.times));
            let (target, content) = (refused.target.clone(), refused.content);
            self.remember(Post { target, content, url, times, full: true });
        }
    }

    fn remember(&mut self, post: Post) {
        self.posted.retain(|known| known.target != post.target);
        if self.posted.len() == POSTS_KEPT_MAX {
            self.posted.pop_front();
        }
        self.posted.push_back(post);
    }
}

impl PullState {
    /// The plans that were made before, newest first, once `plan` (`None`: none can be made) takes
    /// the place of the last one.
    pub fn older_than(&self, plan: Option<Digest>) -> VecDeque<OlderPlan> {
        let last = self.planned.as_ref().and_then(|planned| {
            Some(OlderPlan {
                plan: plan_of(&planned.outcome)?.plan,
                head: planned.head.clone(),
                summary: planned.summary.clone()?,
                at: planned.at,
            })
        });
        let mut older = self.older.clone();
        if let Some(last) = last {
            // A plan that came back is one, however often the machine went to and fro.
            older.retain(|known| known.plan != last.plan);
            older.push_front(last);
        }
        older.retain(|known| Some(known.plan) != plan);
        older.truncate(OLDER_KEPT_MAX);
        older
    }

    /// What people were told, with who let it through.
    fn told(&self) -> Option<Merged> {
        Some(Merged { approved: self.approved.clone(), ..self.shown.clone()? })
    }

    fn promise(&self, number: u64) -> Option<Merged> {
        let planned = self.planned.as_ref()?;
        let plan = plan_of(&planned.outcome)?;
        Some(Merged {
            number,
            head: planned.head.clone(),
            tree: planned.tree.clone()?,
            plan: plan.plan,
            promise: plan.promise.clone(),
            held: plan.held.clone(),
            author: self.author.clone(),
            approved: None,
            merged: false,
        })
    }
}

fn plan_of(outcome: &PullOutcome) -> Option<&PullPlan> {
    match outcome {
        PullOutcome::Planned(plan) => Some(plan),
        PullOutcome::Conflict(_) | PullOutcome::Rejected(..) | PullOutcome::Refused(_) => None,
    }
}

/// As a list of pairs: a place on the forge is no key of a JSON object.
mod refusals {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::event::body::PostTarget;

    type Refusals = BTreeMap<PostTarget, String>;

    pub(super) fn serialize<S: Serializer>(map: &Refusals, out: S) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Refusals, D::Error> {
        Ok(Vec::<(PostTarget, String)>::deserialize(from)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
