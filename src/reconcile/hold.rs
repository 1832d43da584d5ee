//! What of a plan runs now and what waits, and the events that say so.
//!
//! A plan that has to wait holds back only what it waits for: drift elsewhere is put right beside it.
//! A rule holds the steps of what it names; one that names nothing holds what the commit asks for.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::pass::{PassError, PassOptions, Reconciler, Round};
use super::ruled::{HeldSteps, held_by_rules};
use super::sentences::Sentences;
use crate::event::body::{
    PlanApproved, PlanHeld, PlanMade, PlanSurprised, PlanWithdrawn, SoftHold, StepSummary,
};
use crate::event::{Entry, Event, Spilled};
use crate::model::{Digest, RunId, listed};
use crate::plan::promise::{Kept, Surprise};
use crate::plan::{self, Destroyed, Disruption, HoldReason, Parts, Plan};
use crate::state::APPROVE_DIGITS_MIN;

/// Steps named in a `plan.made` event; the rest is counted, so that the event stays small.
const STEPS_NAMED_MAX: usize = 200;

/// How a reason ends that is about the time, not about the plan.
pub(super) const OUTSIDE_WINDOW: &str = "outside of sync.windows";

/// A plan, sorted into what may run and what has to wait.
pub(super) struct Sorted {
    /// What may run now.
    pub(super) ready: Plan,
    /// What waits; `None`: nothing.
    pub(super) waits: Option<Waiting>,
    /// What the commit's pull request did not say.
    pub(super) surprised: Option<PlanSurprised>,
    /// A plan that was approved and comes next, when what may run now is done.
    next: Option<Digest>,
    /// Whether what may run now was approved.
    pub(super) approved: bool,
}

/// A plan that waits.
pub(super) struct Waiting {
    /// The plan.
    pub(super) plan: Plan,
    /// For what, in sentences.
    pub(super) reasons: Vec<String>,
    /// What an approval lets through for good.
    soft: Vec<SoftHold>,
    /// Whether an approval lets it through: none does while changes are stopped, the commit is not
    /// accepted, or a hard rule says no.
    pub(super) may_be_approved: bool,
}

impl Sorted {
    /// Its plan waits for what no approval ends.
    fn firmly(mut self) -> Self {
        if let Some(waits) = &mut self.waits {
            waits.may_be_approved = false;
        }
        self
    }

    /// What the plan waits for; empty: nothing.
    pub(super) fn held(&self) -> Vec<String> {
        self.waits.as_ref().map(|waits| waits.reasons.clone()).unwrap_or_default()
    }
}

impl Reconciler {
    /// Sorts a plan. `destroyed`: what this run has destroyed before.
    pub(super) fn sorted(&self, round: &Round, destroyed: &BTreeSet<Destroyed>) -> Sorted {
        let whole = &round.plan;
        if whole.is_empty() {
            return ready(whole.clone());
        }
        let ground = self.ground(round, destroyed);
        if let Some(firm) = ground.firm {
            return waits(whole.clone(), none_of(whole), firm, Vec::new()).firmly();
        }
        let approved = self.is_approved(whole);
        if let Some(surprised) = self.surprise(round).filter(|_| !approved) {
            let number = surprised.number;
            let more =
                surprised.extra.iter().map(|extra| format!("#{number} did not say: {extra}"));
            let words = ground.hard.reasons.into_iter().chain(more).chain(ground.words);
            let waits = waits(whole.clone(), none_of(whole), words.collect(), ground.soft.holds);
            return Sorted { surprised: Some(surprised), ..waits };
        }
        let (hard, soft) = (ground.hard, ground.soft);
        if hard.causes.is_empty() && soft.causes.is_empty() {
            return ready(whole.clone());
        }
        let either = hard.causes.union(&soft.causes).copied().collect();
        let Parts { waits: part, rest } = plan::part(whole, &either);
        if !approved && !self.is_approved(&part) {
            let words = hard.reasons.into_iter().chain(soft.reasons).chain(ground.words);
            let waits = waits(part, rest, words.collect(), soft.holds);
            return if hard.causes.is_empty() { waits } else { waits.firmly() };
        }
        // No approval stands in for a hard rule: what it is about waits all the same.
        let free = plan::part(whole, &hard.causes).rest;
        let first = !approved && !rest.is_empty() && free.steps.len() > rest.steps.len();
        if first {
            // It may build on the rest, so it is planned anew after that.
            return Sorted { next: Some(part.digest()), ..ready(rest) };
        }
        let cleared = match hard.causes.is_empty() {
            true => ready(whole.clone()),
            // The plan that waits keeps its name, under which it was approved.
            false => {
                let named = if approved { whole.clone() } else { part };
                waits(named, free, hard.reasons, Vec::new()).firmly()
            }
        };
        Sorted { approved: true, ..cleared }
    }

    /// Everything that a plan may have to wait for.
    fn ground(&self, round: &Round, destroyed: &BTreeSet<Destroyed>) -> Ground {
        let reasons = hold_reasons(round, destroyed);
        let words: Vec<String> = reasons.iter().map(hold_words).collect();
        let paused = self.ledger.read(|state| state.paused.clone());
        let paused = paused.map(|paused| format!("paused by {}: {}", paused.by, paused.reason));
        // No approval stands in for a signature: who may give one stands in the host's config.
        let distrusted = round.distrusted.iter().map(|why| {
            format!("the commit in force, {}, is not accepted: {why}", round.commit.short())
        });
        let (hard, mut soft) = self.ledger.read(|state| held_by_rules(round, &state.exempt));
        let mut firm: Vec<String> = paused.into_iter().chain(distrusted).collect();
        match plan::causes(&round.plan, &reasons) {
            Some(causes) => soft.causes.extend(causes),
            // Paused in Git, which no approval ends.
            None if firm.is_empty() => firm.extend(soft.reasons.iter().cloned()),
            None => {}
        }
        let is_firm = !firm.is_empty() || reasons.contains(&HoldReason::Paused);
        firm.extend(hard.reasons.iter().chain(&words).cloned());
        Ground { firm: is_firm.then_some(firm), hard, soft, words }
    }

    /// What the plan does beyond what the pull request of its commit said it would. Once a plan kept
    /// the promise, what follows from it is no surprise, unless it interrupts or destroys something.
    fn surprise(&self, round: &Round) -> Option<PlanSurprised> {
        let tree = round.tree.as_deref()?;
        let (merged, first) = self.ledger.read(|state| {
            let first = state.pulls.surprised.is_some()
                || state.plan.as_ref().is_none_or(|plan| plan.seq < state.spec.seq);
            Some((state.pulls.promise(tree)?, first))
        })?;
        let Kept::Surprised { surprises } = merged.promise.kept_by(&round.plan) else {
            return None;
        };
        let counts = |it: &&Surprise| first || it.disruption >= Disruption::Restart;
        let extra: Vec<_> = surprises.iter().filter(counts).map(ToString::to_string).collect();
        let (plan, number, shown) = (round.plan.digest(), merged.number, merged.plan);
        let surprised = PlanSurprised { plan, number, shown, extra, more: None };
        (!surprised.extra.is_empty()).then_some(surprised)
    }

    /// Takes an approval that came with the command, where it is for this plan, or for that part of
    /// it that waits.
    pub(super) async fn approve(
        &self,
        round: &Round,
        options: &PassOptions,
        destroyed: &BTreeSet<Destroyed>,
        run: RunId,
    ) -> Result<(), PassError> {
        let Some(approval) = &options.approve else { return Ok(()) };
        if approval.plan.len() < APPROVE_DIGITS_MIN || round.plan.is_empty() {
            return Ok(());
        }
        let sorted = self.sorted(round, destroyed);
        let part = sorted.waits.as_ref().map(|waits| waits.plan.digest());
        let digests = std::iter::once(round.plan.digest()).chain(part);
        let plan = digests.into_iter().find(|it| it.to_string().starts_with(&approval.plan));
        if let Some(plan) = plan.filter(|plan| !self.has_approval(plan)) {
            self.announce_soft(round, sorted, run).await?;
            let event = Event::PlanApproved(PlanApproved::on_host(plan));
            let entry = Entry::new(event).by(&approval.actor).in_run(run);
            self.append_at(&round.commit, vec![entry]).await?;
        }
        Ok(())
    }

    /// Notes what waits for rules that an approval lets through for good: it is remembered with what
    /// waits.
    pub(super) async fn announce_soft(
        &self,
        round: &Round,
        sorted: Sorted,
        run: RunId,
    ) -> Result<(), PassError> {
        if sorted.waits.as_ref().is_none_or(|waits| waits.soft.is_empty()) {
            return Ok(());
        }
        let sorted = Sorted { ready: none_of(&round.plan), ..sorted };
        self.announce(round, &sorted, run).await
    }

    /// Whether somebody approved exactly this plan.
    pub(super) fn has_approval(&self, plan: &Digest) -> bool {
        self.ledger.read(|state| state.approvals.contains_key(plan))
    }

    fn is_approved(&self, plan: &Plan) -> bool {
        self.ledger.read(|state| state.is_approved(plan))
    }

    /// Notes what waits and what is about to run, each once.
    pub(super) async fn announce(
        &self,
        round: &Round,
        sorted: &Sorted,
        run: RunId,
    ) -> Result<(), PassError> {
        if round.plan.is_empty() {
            return self.withdraw(round, run).await;
        }
        let mut events = Vec::new();
        if sorted.next.is_some() {
            let made = plan_made(&sorted.ready, sorted.ready.digest(), sorted.next);
            return self.append_at(&round.commit, vec![made.in_run(run)]).await;
        }
        let waits = sorted.waits.as_ref().map(|waits| (waits.plan.digest(), waits));
        let ready = sorted.ready.digest();
        self.ledger.read(|state| {
            let plan = waits.as_ref().map_or(ready, |(digest, _)| *digest);
            let said = state.plan.as_ref().filter(|said| said.plan == plan && !said.finished);
            if said.is_none() {
                let made = waits.as_ref().map_or(&sorted.ready, |(_, waits)| &waits.plan);
                events.push(plan_made(made, plan, None));
                let surprised = sorted.surprised.clone();
                events.extend(surprised.map(plan_surprised));
            }
            if let Some((plan, waits)) = &waits
                && let reasons = Sentences::of(waits.reasons.clone())
                && said.is_none_or(|said| said.held != reasons.said)
            {
                let Sentences { said: reasons, more } = reasons;
                let (more, content) = more.unzip();
                let (soft, firm) = (waits.soft.clone(), !waits.may_be_approved);
                let held = PlanHeld { plan: *plan, reasons, soft, more, firm };
                events.push(Entry::new(Event::PlanHeld(held)).bringing(content));
            }
        });
        if let Some((plan, _)) = waits
            && !sorted.ready.is_empty()
        {
            events.push(plan_made(&sorted.ready, ready, Some(plan)));
        }
        let entries = events.into_iter().map(|entry: Entry| entry.in_run(run)).collect();
        self.append_at(&round.commit, entries).await
    }

    /// A plan that waited, and is no longer needed, can no longer be approved either.
    async fn withdraw(&self, round: &Round, run: RunId) -> Result<(), PassError> {
        let waiting = self
            .ledger
            .read(|state| state.plan.as_ref().filter(|plan| !plan.finished).map(|plan| plan.plan));
        let waiting = waiting.filter(|plan| !self.under_way.flights.has(plan));
        let event = waiting.map(|plan| Event::PlanWithdrawn(PlanWithdrawn { plan }));
        let entries = event.into_iter().map(|event| Entry::new(event).in_run(run)).collect();
        self.append_at(&round.commit, entries).await
    }
}

/// Everything that a plan may have to wait for.
struct Ground {
    /// What all of it waits for, whoever approves it.
    firm: Option<Vec<String>>,
    /// What some steps wait for, whoever approves them.
    hard: HeldSteps,
    /// What some steps wait for until somebody approves them; the steps of `words` are among them.
    soft: HeldSteps,
    /// What the environment's settings say, in sentences.
    words: Vec<String>,
}

fn ready(plan: Plan) -> Sorted {
    Sorted { ready: plan, waits: None, surprised: None, next: None, approved: false }
}

fn waits(plan: Plan, rest: Plan, reasons: Vec<String>, soft: Vec<SoftHold>) -> Sorted {
    Sorted { waits: Some(Waiting { plan, reasons, soft, may_be_approved: true }), ..ready(rest) }
}

fn none_of(plan: &Plan) -> Plan {
    Plan { steps: Vec::new(), ..plan.clone() }
}

fn hold_reasons(round: &Round, destroyed: &BTreeSet<Destroyed>) -> Vec<HoldReason> {
    let sync = &round.scope.desired.sync;
    let mut all = plan::hold_reasons(&round.plan, sync, Some(round.minute));
    // The limit is one run's, not one round's.
    let now = plan::destroys(&round.plan);
    let would: BTreeSet<_> = now.union(destroyed).cloned().collect();
    let counted = all.iter().any(|reason| matches!(reason, HoldReason::MaxDestroy { .. }));
    if !now.is_empty() && would.len() > sync.max_destroy as usize && !counted {
        all.push(HoldReason::MaxDestroy { would, allowed: sync.max_destroy });
    }
    all
}

/// The independent check, on exactly what the plan was made from.
pub(super) fn judge(round: &Round, plan: &Plan) -> Result<(), PassError> {
    let input = plan::Input {
        commit: &round.commit,
        desired: &round.scope.desired,
        observed: &round.observed,
        known: &round.known,
        guards: round.guards,
        now_minute_of_week: Some(round.minute),
    };
    plan::check::check(plan, &input).map_err(|violations| {
        let list: Vec<_> = violations.iter().map(ToString::to_string).collect();
        PassError::Judged { plan: plan.digest(), violations: list.join("; ") }
    })
}

fn hold_words(reason: &HoldReason) -> String {
    match reason {
        HoldReason::Paused => "the environment is paused in Git (sync.pause)".to_owned(),
        HoldReason::Manual => {
            "the environment is synchronised by hand (sync.mode: manual)".to_owned()
        }
        HoldReason::MaxDestroy { would, allowed } => format!(
            "it would destroy {} {}, sync.maxDestroy allows {allowed}: {}",
            would.len(),
            if would.iter().any(|it| it.part.is_some()) { "things" } else { "resources" },
            listed(would)
        ),
        HoldReason::OutsideWindow { would } => {
            format!("it would interrupt {} {OUTSIDE_WINDOW}", listed(would))
        }
    }
}

fn plan_surprised(surprised: PlanSurprised) -> Entry {
    let Sentences { said: extra, more } = Sentences::of(surprised.extra);
    let (more, content) = more.unzip();
    let surprised = PlanSurprised { extra, more, ..surprised };
    Entry::new(Event::PlanSurprised(surprised)).bringing(content)
}

fn plan_made(plan: &Plan, digest: Digest, beside: Option<Digest>) -> Entry {
    let summary = |step: &plan::Step| StepSummary {
        resource: step.resource.clone(),
        verb: step.action.verb().to_owned(),
        disruption: step.disruption,
        reason: step.reason,
    };
    let mut steps: Vec<_> = plan.steps.iter().map(summary).collect();
    let all = (steps.len() > STEPS_NAMED_MAX).then(|| Spilled::of_json(&steps)).flatten();
    let (more, content) = all.unzip();
    let total = steps.len() as u64;
    steps.truncate(STEPS_NAMED_MAX);
    let made = PlanMade { plan: digest, total, steps, more, beside };
    Entry::new(Event::PlanMade(made)).bringing(content)
}

/// Minutes since Monday 00:00 UTC.
pub(super) fn minute_of_week(now: Timestamp) -> u16 {
    let utc = now.to_zoned(jiff::tz::TimeZone::UTC);
    let day = utc.weekday().to_monday_zero_offset();
    let minute = i32::from(day) * 1_440 + i32::from(utc.hour()) * 60 + i32::from(utc.minute());
    u16::try_from(minute).unwrap_or(0)
}
