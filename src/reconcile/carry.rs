//! An approval of a pull request, carried over to the plan of its merge.
//!
//! It never lets through more than was approved: the plan of now has to be the approved one or part of
//! it. What the pull request did not say, what no approval mends and a time that was not approved go
//! on waiting.

use std::collections::BTreeSet;

use super::hold::{OUTSIDE_WINDOW, Sorted};
use super::pass::{PassError, Reconciler, Round};
use crate::event::body::PlanApproved;
use crate::event::{Entry, Event};
use crate::model::{Digest, RunId};
use crate::plan::promise::Kept;
use crate::plan::{Destroyed, Plan, Reason};
use crate::state::{Approved, Merged};

impl Reconciler {
    /// Sorts anew where the plan that waits was approved as part of its pull request.
    pub(super) async fn carry_over(
        &self,
        round: &Round,
        sorted: Sorted,
        destroyed: &BTreeSet<Destroyed>,
        run: RunId,
    ) -> Result<Sorted, PassError> {
        let Some((plan, approved)) = self.carried(round, &sorted) else { return Ok(sorted) };
        self.announce_soft(round, sorted, run).await?;
        let (via, shown) = (Some(approved.via), Some(approved.plan));
        let event = Event::PlanApproved(PlanApproved { plan, via, shown });
        let entry = Entry::new(event).by(approved.by).in_run(run);
        self.append_at(&round.commit, vec![entry]).await?;
        Ok(self.sorted(round, destroyed))
    }

    /// What of the plan that waits was approved: all that is to be done, or the part that waits.
    fn carried(&self, round: &Round, sorted: &Sorted) -> Option<(Digest, Approved)> {
        let waits = sorted.waits.as_ref().filter(|waits| waits.may_be_approved)?;
        if sorted.surprised.is_some() {
            return None;
        }
        let tree = round.tree.as_deref()?;
        let approved = self.ledger.read(|state| state.pulls.promise(tree))?.approved?;
        let lets = |plan: &&Plan| lets_through(&approved, plan, &waits.reasons);
        let plan = [&round.plan, &waits.plan].into_iter().find(lets)?;
        let plan = plan.digest();
        (!self.has_approval(&plan)).then_some((plan, approved))
    }

    /// The pull request that the commit in force is the merge of, as far as that is known.
    pub async fn came_from(&self) -> Option<Merged> {
        let commit = self.ledger.read(|state| state.spec.commit.clone())?;
        let tree = self.loader.lock().await.tree(&commit)?;
        self.ledger.read(|state| state.pulls.promise(&tree))
    }
}

/// Whether `plan`, which waits for `reasons`, does nothing beyond what was approved.
pub fn lets_through(approved: &Approved, plan: &Plan, reasons: &[String]) -> bool {
    // Nobody was shown what a schedule does.
    let due = !plan.is_empty() && plan.steps.iter().all(|step| step.reason == Reason::Due);
    !due && covers(approved, reasons)
        && !matches!(approved.promise.kept_by(plan), Kept::Surprised { .. })
}

/// Whether somebody who approved saw that it may happen at another time than usual.
fn covers(approved: &Approved, reasons: &[String]) -> bool {
    let late = |reasons: &[String]| reasons.iter().any(|reason| reason.ends_with(OUTSIDE_WINDOW));
    !late(reasons) || late(&approved.held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::body::{ApprovalMeans, ForgeApproval};
    use crate::plan::promise::Promise;

    fn approved(held: &[&str]) -> Approved {
        Approved {
            plan: Digest::of("plan"),
            promise: Promise::default(),
            held: held.iter().map(ToString::to_string).collect(),
            by: "github:ann".into(),
            via: ForgeApproval {
                login: "ann".into(),
                on: 1,
                means: ApprovalMeans::Comment,
                id: 2,
                url: None,
                at: None,
            },
            at: jiff::Timestamp::UNIX_EPOCH,
            more: Vec::new(),
        }
    }

    #[test]
    fn an_approval_in_its_window_is_none_outside_of_it() {
        let soft = "rule house.no: no".to_owned();
        let late = format!("it would interrupt vm/web {OUTSIDE_WINDOW}");
        assert!(covers(&approved(&[&soft]), std::slice::from_ref(&soft)));
        assert!(!covers(&approved(&[&soft]), &[soft.clone(), late.clone()]));
        assert!(covers(&approved(&[&late]), &[soft, late]));
    }
}
