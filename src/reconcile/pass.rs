//! One pass: fetch, read, look at everything, decide, append, perform, and look again.
//!
//! It never believes that a step did what it should: a round that acted is followed by another
//! look, and only that look says that the machine is in sync.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::assess::{events_of_look, farewells, moves, repeated};
use super::backoff::{RETRY_MAX_S, flapping};
use super::known::{claims, known_at, next_retry, ours};
use super::ledger::{Ledger, LedgerError};
use super::load::{Load, Loader};
use super::look::{observe, sight_events};
use super::pull::events_of_poll;
use crate::event::body::{
    Flapping, PlanApproved, PlanHeld, PlanMade, PlanWithdrawn, StepInterrupted, StepSummary,
};
use crate::event::{Entry, Event, Spilled};
use crate::model::{CommitId, Digest, Kind, Observed, ResourceId, RunId};
use crate::plan::{self, Guards, HoldReason, Known, Plan, Reason, SkipReason};
use crate::port::{Clock, Crash, JournalFault, ProgressUpdate, Provider, Scope, Source};
use crate::state::APPROVE_DIGITS_MIN;

/// Most rounds of one pass: act, look, act on what only then could be seen, look again.
const ROUNDS_MAX: usize = 4;
/// Steps named in a `plan.made` event; the rest is counted, so that the event stays small.
const STEPS_NAMED_MAX: usize = 200;

/// Told of the progress of long steps.
pub type StepProgress = Arc<dyn Fn(&ResourceId, ProgressUpdate) + Send + Sync>;

/// How passes run.
#[derive(Clone)]
pub struct Settings {
    /// Time limit for looking at the machine.
    pub observe_limit: Duration,
    /// Steps that run side by side.
    pub parallel: usize,
    /// Told of the progress of long steps.
    pub progress: Option<StepProgress>,
    /// What trueup itself needs to go on.
    pub own: plan::Own,
}

/// Everything a pass works with.
pub struct Reconciler {
    /// What is known.
    pub ledger: Arc<Ledger>,
    /// The repository.
    pub source: Arc<dyn Source>,
    /// The machine; every kind has one provider.
    pub providers: Vec<Arc<dyn Provider>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where tests break things.
    pub crash: Arc<dyn Crash>,
    /// How passes run.
    pub settings: Settings,
    /// Becomes true when the program is asked to stop.
    pub stop: watch::Receiver<bool>,
    /// Reads desired states, and remembers what it has read.
    pub loader: tokio::sync::Mutex<Loader>,
}

/// Why a pass ended early. The next pass starts from the log.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The log could not be written.
    #[error(transparent)]
    Journal(#[from] JournalFault),
    /// The independent check found the plan wrong: nothing was done.
    #[error("the plan {plan} breaks its own rules, nothing was done: {violations}")]
    Judged {
        /// Digest of the plan.
        plan: Digest,
        /// What is wrong with it.
        violations: String,
    },
    /// A test asked for a crash.
    #[error("crashed on purpose")]
    Crashed,
}

/// What a pass came to.
#[derive(Debug, Clone, Default)]
pub struct PassReport {
    /// The commit the machine is brought to.
    pub commit: Option<CommitId>,
    /// The last plan, whether it ran or was held.
    pub plan: Option<Plan>,
    /// What the plan waits for; empty: nothing.
    pub held: Vec<String>,
    /// Steps that succeeded.
    pub succeeded: u64,
    /// Steps that failed.
    pub failed: u64,
    /// Steps that could not start.
    pub blocked: u64,
    /// When something is to be tried again.
    pub next_retry: Option<Timestamp>,
}

/// What a pass may do beyond looking.
#[derive(Debug, Clone, Default)]
pub struct PassOptions {
    /// Try again at once what backs off.
    pub retry_now: bool,
    /// An approval given with the command; it counts for that one plan.
    pub approve: Option<Approval>,
}

/// An operator's approval of one plan.
#[derive(Debug, Clone)]
pub struct Approval {
    /// First digits of the plan's digest, at least [`crate::state::APPROVE_DIGITS_MIN`].
    pub plan: String,
    /// Who gives it: `operator:alice`.
    pub actor: String,
}

/// What is asked for and what was seen, for one round.
struct Round {
    commit: CommitId,
    scope: Scope,
    guards: Guards,
    observed: Observed,
    known: Known,
    minute: u16,
    plan: Plan,
    /// Why the commit's signature is not accepted.
    distrusted: Option<String>,
}

impl Reconciler {
    /// Notes steps that had started and have no outcome: when the program last ended, or when the
    /// log could not be written. Every pass begins with it.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub async fn recover(&self) -> Result<(), PassError> {
        let entries = self.ledger.read(|state| {
            let in_flight = state.resources.iter().filter_map(|(id, resource)| {
                let step = resource.in_flight.as_ref()?;
                let event =
                    Event::StepInterrupted(StepInterrupted { plan: step.plan, step: step.step });
                Some(Entry::new(event).about(id).because(step.seq))
            });
            in_flight.collect::<Vec<_>>()
        });
        self.ledger.append(entries).await?;
        Ok(())
    }

    /// One pass.
    ///
    /// # Errors
    /// A [`PassError`]; everything that was done until then is in the log.
    pub async fn pass(&self, options: PassOptions) -> Result<PassReport, PassError> {
        self.recover().await?;
        self.pull().await?;
        let mut report = PassReport::default();
        let Some(load) = self.load().await? else { return Ok(report) };
        report.commit = Some(load.commit.clone());
        let run = RunId(uuid::Uuid::new_v5(
            &uuid::Uuid::NAMESPACE_OID,
            format!("{}/{}", load.commit, self.ledger.read(|state| state.seq)).as_bytes(),
        ));
        let mut done = BTreeSet::new();
        let mut destroyed = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            let round = self.look(&load, &options).await?;
            let round = self.without_repeats(round, &load, &done, &options).await?;
            report.plan = Some(round.plan.clone());
            let approved = self.approve(&round, &options, run).await?;
            report.held = self.hold(&round, approved, &destroyed, run).await?;
            if round.plan.is_empty() || !report.held.is_empty() || self.stopping() {
                break;
            }
            destroyed.extend(plan::destroys(&round.plan));
            let tally = self.perform(&round.plan, &round.scope, run, approved).await?;
            report.succeeded += tally.succeeded;
            report.failed += tally.failed;
            report.blocked = tally.blocked;
            done.extend(tally.done);
            if tally.succeeded == 0 {
                break;
            }
        }
        let now = self.clock.now();
        report.next_retry = self.ledger.read(|state| next_retry(state, now));
        Ok(report)
    }

    /// The plan for the machine as it is now, with nothing appended and nothing done.
    ///
    /// # Errors
    /// When the log cannot be written (a new commit is still taken in).
    pub async fn preview(&self) -> Result<PassReport, PassError> {
        self.pull().await?;
        let mut report = PassReport::default();
        let Some(load) = self.load().await? else { return Ok(report) };
        let (scope, observed) = self.observe(&load).await;
        let round = self.round(&load, scope, observed, false, &BTreeSet::new());
        report.commit = Some(load.commit.clone());
        let approved = self.is_approved(&round.plan.digest());
        report.held = self.hold_reasons(&round, approved, &BTreeSet::new());
        report.plan = Some(round.plan);
        Ok(report)
    }

    async fn pull(&self) -> Result<(), PassError> {
        let have = self.ledger.read(|state| state.source.head.clone());
        let polled = self.source.poll(have).await;
        if let Err(fault) = &polled {
            tracing::warn!(%fault, "the repository does not answer; keeping to the last good commit");
        }
        let decided = self.ledger.decide(|state| Ok(events_of_poll(&state.source, &polled)));
        decided.await.map_err(never_refused)?;
        Ok(())
    }

    async fn load(&self) -> Result<Option<Load>, PassError> {
        let mut loader = self.loader.lock().await;
        let (load, entries) = loader.load(self.source.as_ref(), &self.ledger).await;
        self.ledger.append(entries).await?;
        Ok(load)
    }

    async fn look(&self, load: &Load, options: &PassOptions) -> Result<Round, PassError> {
        let renamed = self.ledger.read(|state| moves(state, &load.desired));
        self.append_at(&load.commit, renamed).await?;
        let (scope, observed) = self.observe(load).await;
        let entries = self.ledger.read(|state| {
            let mut entries = sight_events(state, &observed);
            entries.extend(farewells(state, &scope.desired, &observed));
            entries
        });
        self.append_at(&load.commit, entries).await?;
        let round = self.round(load, scope, observed, options.retry_now, &BTreeSet::new());
        let entries = self.ledger.read(|state| {
            events_of_look(state, &round.scope.desired, &round.observed, &round.plan)
        });
        self.append_at(&load.commit, entries).await?;
        Ok(round)
    }

    async fn append_at(&self, commit: &CommitId, entries: Vec<Entry>) -> Result<(), PassError> {
        let entries = entries.into_iter().map(|entry| entry.at_commit(commit)).collect();
        self.ledger.append(entries).await?;
        Ok(())
    }

    async fn observe(&self, load: &Load) -> (Scope, Observed) {
        let (known, claims) = self.ledger.read(|state| (ours(state), claims(state)));
        let scope = Scope {
            desired: Arc::clone(&load.desired),
            known: Arc::new(known),
            claims: Arc::new(claims),
        };
        let limit = self.settings.observe_limit;
        let observed = observe(&self.providers, &self.clock, &scope, limit).await;
        (scope, observed)
    }

    /// Plans what was seen. `alone`: resources that are left alone beyond what is known.
    fn round(
        &self,
        load: &Load,
        scope: Scope,
        observed: Observed,
        retry_now: bool,
        alone: &BTreeSet<ResourceId>,
    ) -> Round {
        let now = self.clock.now();
        let mut known = self.ledger.read(|state| known_at(state, now, retry_now));
        known.rename(&load.desired);
        known.own.clone_from(&self.settings.own);
        known.suspended.extend(alone.iter().map(|id| (id.clone(), SkipReason::BackingOff)));
        let minute = minute_of_week(now);
        let plan = plan::plan(&plan::Input {
            commit: &load.commit,
            desired: &load.desired,
            observed: &observed,
            known: &known,
            guards: load.guards,
            now_minute_of_week: Some(minute),
        });
        let (commit, guards) = (load.commit.clone(), load.guards);
        let distrusted = load.distrusted.clone();
        Round { commit, scope, guards, observed, known, minute, plan, distrusted }
    }

    /// A step that succeeded in this very pass and is asked for again does not last: something
    /// else undoes it, or it lied. The resource is left alone for a while.
    async fn without_repeats(
        &self,
        round: Round,
        load: &Load,
        done: &BTreeSet<(ResourceId, String)>,
        options: &PassOptions,
    ) -> Result<Round, PassError> {
        let now = self.clock.now();
        let mut flaps = repeated(&round.plan, done);
        if !options.retry_now {
            flaps.extend(self.flapping_now(&round.plan, now));
        }
        if flaps.is_empty() {
            return Ok(round);
        }
        let retry_at = now + jiff::SignedDuration::from_secs(RETRY_MAX_S as i64);
        let entries = flaps.iter().map(|id| {
            tracing::warn!(resource = %id, "it does not stay as it was made; leaving it alone");
            let heals = self
                .ledger
                .read(|state| state.resources.get(id).map_or(0, |resource| resource.heals.len()));
            let flapping = Flapping { heals: heals as u32, retry_at };
            Entry::new(Event::Flapping(flapping)).about(id)
        });
        self.ledger.append(entries.collect()).await?;
        let Round { scope, observed, .. } = round;
        Ok(self.round(load, scope, observed, options.retry_now, &flaps))
    }

    fn flapping_now(&self, plan: &Plan, now: Timestamp) -> BTreeSet<ResourceId> {
        let healing = plan.steps.iter().filter(|step| step.reason == Reason::Drifted);
        self.ledger.read(|state| {
            let flaps = |id: &ResourceId| {
                let known = state.resources.get(id)?;
                let quiet = known.flapping_until.is_some_and(|until| {
                    // It was left alone once for these heals: they do not count again.
                    known.heals.last().is_some_and(|last| *last < until) && until <= now
                });
                if quiet { None } else { flapping(now, &known.heals) }
            };
            healing.map(|step| &step.resource).filter(|id| flaps(id).is_some()).cloned().collect()
        })
    }

    /// Takes an approval that came with the command, where it is for this plan; whether the plan
    /// is approved.
    async fn approve(
        &self,
        round: &Round,
        options: &PassOptions,
        run: RunId,
    ) -> Result<bool, PassError> {
        let digest = round.plan.digest();
        if let Some(approval) = &options.approve
            && approval.plan.len() >= APPROVE_DIGITS_MIN
            && digest.to_string().starts_with(&approval.plan)
            && !self.is_approved(&digest)
        {
            let event = Event::PlanApproved(PlanApproved { plan: digest });
            let entry = Entry::new(event).by(&approval.actor).in_run(run);
            self.append_at(&round.commit, vec![entry]).await?;
        }
        Ok(self.is_approved(&digest))
    }

    fn is_approved(&self, plan: &Digest) -> bool {
        self.ledger.read(|state| state.approvals.contains_key(plan))
    }

    /// Notes the plan, judges it, and says what it waits for.
    async fn hold(
        &self,
        round: &Round,
        approved: bool,
        destroyed: &BTreeSet<ResourceId>,
        run: RunId,
    ) -> Result<Vec<String>, PassError> {
        if round.plan.is_empty() {
            self.withdraw(round, run).await?;
            return Ok(Vec::new());
        }
        judge(round)?;
        let reasons = self.hold_reasons(round, approved, destroyed);
        let digest = round.plan.digest();
        let events = self.ledger.read(|state| {
            let said = state.plan.as_ref().filter(|said| said.plan == digest && !said.finished);
            let mut events = Vec::new();
            if said.is_none() {
                events.push(plan_made(&round.plan, digest));
            }
            let held_before = said.map_or(&[][..], |said| &said.held);
            if held_before != reasons && !reasons.is_empty() {
                let held = PlanHeld { plan: digest, reasons: reasons.clone() };
                events.push(Entry::new(Event::PlanHeld(held)));
            }
            events
        });
        let entries = events.into_iter().map(|entry: Entry| entry.in_run(run)).collect();
        self.append_at(&round.commit, entries).await?;
        Ok(reasons)
    }

    /// A plan that waited, and is no longer needed, can no longer be approved either.
    async fn withdraw(&self, round: &Round, run: RunId) -> Result<(), PassError> {
        let waiting = self
            .ledger
            .read(|state| state.plan.as_ref().filter(|plan| !plan.finished).map(|plan| plan.plan));
        let event = waiting.map(|plan| Event::PlanWithdrawn(PlanWithdrawn { plan }));
        let entries = event.into_iter().map(|event| Entry::new(event).in_run(run)).collect();
        self.append_at(&round.commit, entries).await
    }

    fn hold_reasons(
        &self,
        round: &Round,
        approved: bool,
        destroyed: &BTreeSet<ResourceId>,
    ) -> Vec<String> {
        if round.plan.is_empty() {
            return Vec::new();
        }
        let paused = self.ledger.read(|state| state.paused.clone());
        let paused = paused.map(|paused| format!("paused by {}: {}", paused.by, paused.reason));
        let sync = &round.scope.desired.sync;
        let mut all = plan::hold_reasons(&round.plan, sync, Some(round.minute));
        // The limit is one pass's, not one round's.
        let would: BTreeSet<_> = plan::destroys(&round.plan).union(destroyed).cloned().collect();
        let counted = all.iter().any(|reason| matches!(reason, HoldReason::MaxDestroy { .. }));
        if !destroyed.is_empty() && would.len() > sync.max_destroy as usize && !counted {
            all.push(HoldReason::MaxDestroy { would, allowed: sync.max_destroy });
        }
        // No approval stands in for a signature: who may give one stands in the host's config.
        let distrusted = round.distrusted.iter().map(|why| {
            format!("the commit in force, {}, is not accepted: {why}", round.commit.short())
        });
        let paused = paused.into_iter().chain(distrusted);
        let open = all.into_iter().filter(|reason| !(approved && can_be_approved(reason)));
        paused.chain(open.map(|reason| hold_words(&reason))).collect()
    }

    pub(super) fn provider_for(&self, kind: Kind) -> Option<Arc<dyn Provider>> {
        self.providers.iter().find(|provider| provider.kinds().contains(&kind)).map(Arc::clone)
    }

    pub(super) fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Resolves when the program is asked to stop; never, when nobody can ask any more.
    pub(super) fn stop_requested(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.stop.clone();
        async move {
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The independent check, on exactly what the plan was made from.
fn judge(round: &Round) -> Result<(), PassError> {
    let input = plan::Input {
        commit: &round.commit,
        desired: &round.scope.desired,
        observed: &round.observed,
        known: &round.known,
        guards: round.guards,
        now_minute_of_week: Some(round.minute),
    };
    plan::check::check(&round.plan, &input).map_err(|violations| {
        let list: Vec<_> = violations.iter().map(ToString::to_string).collect();
        PassError::Judged { plan: round.plan.digest(), violations: list.join("; ") }
    })
}

/// What deciding without the possibility of a refusal can still end in.
pub(super) fn never_refused(error: LedgerError<std::convert::Infallible>) -> PassError {
    match error {
        LedgerError::Refused(never) => match never {},
        LedgerError::Journal(fault) => PassError::Journal(fault),
    }
}

/// Whether an operator's approval of the plan overrides the reason. A pause is lifted in Git.
fn can_be_approved(reason: &HoldReason) -> bool {
    match reason {
        HoldReason::Paused => false,
        HoldReason::Manual | HoldReason::MaxDestroy { .. } | HoldReason::OutsideWindow { .. } => {
            true
        }
    }
}

fn hold_words(reason: &HoldReason) -> String {
    let list = |ids: &BTreeSet<ResourceId>| {
        ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    match reason {
        HoldReason::Paused => "the environment is paused in Git (sync.pause)".to_owned(),
        HoldReason::Manual => {
            "the environment is synchronised by hand (sync.mode: manual)".to_owned()
        }
        HoldReason::MaxDestroy { would, allowed } => format!(
            "it would destroy {} resources, sync.maxDestroy allows {allowed}: {}",
            would.len(),
            list(would)
        ),
        HoldReason::OutsideWindow { would } => {
            format!("it would interrupt {} outside of sync.windows", list(would))
        }
    }
}

fn plan_made(plan: &Plan, digest: Digest) -> Entry {
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
    let made = PlanMade { plan: digest, total, steps, more };
    Entry::new(Event::PlanMade(made)).bringing(content)
}

/// Minutes since Monday 00:00 UTC.
pub(super) fn minute_of_week(now: Timestamp) -> u16 {
    let utc = now.to_zoned(jiff::tz::TimeZone::UTC);
    let day = utc.weekday().to_monday_zero_offset();
    let minute = i32::from(day) * 1_440 + i32::from(utc.hour()) * 60 + i32::from(utc.minute());
    u16::try_from(minute).unwrap_or(0)
}
