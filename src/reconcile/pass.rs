//! One pass: fetch, read, look at everything, decide, append, perform, and look again.
//!
//! It never believes that a step did what it should: a round that acted is followed by another
//! look, and only that look says that the machine is in sync.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::assess::{events_of_look, farewells, repeated};
use super::backoff::{RETRY_MAX_S, flapping};
use super::known::{claims, known_at, next_retry, ours};
use super::ledger::Ledger;
use super::load::{Load, Loader};
use super::look::{observe, sight_events};
use super::pull::events_of_poll;
use crate::event::body::{Flapping, PlanHeld, PlanMade, StepInterrupted, StepSummary};
use crate::event::{Entry, Event};
use crate::model::{CommitId, Digest, Kind, Observed, ResourceId, RunId};
use crate::plan::{self, Guards, HoldReason, Plan, Reason};
use crate::port::{Clock, Crash, JournalFault, ProgressUpdate, Provider, Scope, Source};

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
#[derive(Debug, Clone, Copy, Default)]
pub struct PassOptions {
    /// Try again at once what backs off.
    pub retry_now: bool,
    /// Run a plan that only waits for an approval: the operator gave it with the command.
    pub approved: bool,
}

/// What is asked for and what was seen, for one round.
struct Round {
    commit: CommitId,
    scope: Scope,
    guards: Guards,
    observed: Observed,
    plan: Plan,
}

impl Reconciler {
    /// Notes steps that had started when the program last ended. Call once, before the first pass.
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
        self.pull().await?;
        let mut report = PassReport::default();
        let Some(load) = self.load().await? else { return Ok(report) };
        report.commit = Some(load.commit.clone());
        let run = RunId(uuid::Uuid::new_v5(
            &uuid::Uuid::NAMESPACE_OID,
            format!("{}/{}", load.commit, self.ledger.read(|state| state.seq)).as_bytes(),
        ));
        let mut done = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            let round = self.look(&load, options).await?;
            let round = self.without_repeats(round, &load, &done, options).await?;
            report.plan = Some(round.plan.clone());
            report.held = self.hold(&round, options, run).await?;
            if round.plan.is_empty() || !report.held.is_empty() || self.stopping() {
                break;
            }
            let tally = self.perform(&round.plan, &round.scope, run).await?;
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
        let options = PassOptions::default();
        let (scope, observed) = self.observe(&load).await;
        let plan = self.plan(&load, &observed, options);
        let (commit, guards) = (load.commit.clone(), load.guards);
        let round = Round { commit, scope, guards, observed, plan };
        report.commit = Some(load.commit.clone());
        report.held = self.hold_reasons(&round, options);
        report.plan = Some(round.plan);
        Ok(report)
    }

    async fn pull(&self) -> Result<(), PassError> {
        let have = self.ledger.read(|state| state.source.head.clone());
        let polled = self.source.poll(have).await;
        if let Err(fault) = &polled {
            tracing::warn!(%fault, "the repository does not answer; keeping to the last good commit");
        }
        self.ledger
            .decide(|state| {
                Ok::<_, std::convert::Infallible>(events_of_poll(&state.source, &polled))
            })
            .await
            .map_err(|error| match error {
                super::ledger::LedgerError::Refused(never) => match never {},
                super::ledger::LedgerError::Journal(fault) => PassError::Journal(fault),
            })?;
        Ok(())
    }

    async fn load(&self) -> Result<Option<Load>, PassError> {
        let mut loader = self.loader.lock().await;
        let (load, entries) = loader.load(self.source.as_ref(), &self.ledger).await;
        self.ledger.append(entries).await?;
        Ok(load)
    }

    async fn look(&self, load: &Load, options: PassOptions) -> Result<Round, PassError> {
        let (scope, observed) = self.observe(load).await;
        let entries = self.ledger.read(|state| {
            let mut entries = sight_events(state, &observed);
            entries.extend(farewells(state, &scope.desired, &observed));
            entries
        });
        self.append_at(&load.commit, entries).await?;
        let plan = self.plan(load, &observed, options);
        let entries =
            self.ledger.read(|state| events_of_look(state, &scope.desired, &observed, &plan));
        self.append_at(&load.commit, entries).await?;
        let (commit, guards) = (load.commit.clone(), load.guards);
        Ok(Round { commit, scope, guards, observed, plan })
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

    fn plan(&self, load: &Load, observed: &Observed, options: PassOptions) -> Plan {
        let now = self.clock.now();
        let known = self.ledger.read(|state| known_at(state, now, options.retry_now));
        plan::plan(&plan::Input {
            commit: &load.commit,
            desired: &load.desired,
            observed,
            known: &known,
            guards: load.guards,
            now_minute_of_week: Some(minute_of_week(now)),
        })
    }

    /// A step that succeeded in this very pass and is asked for again does not last: something
    /// else undoes it, or it lied. The resource is left alone for a while.
    async fn without_repeats(
        &self,
        round: Round,
        load: &Load,
        done: &BTreeSet<(ResourceId, String)>,
        options: PassOptions,
    ) -> Result<Round, PassError> {
        let now = self.clock.now();
        let mut flaps: Vec<_> = repeated(&round.plan, done).into_iter().collect();
        flaps.extend(self.flapping_now(&round.plan, now));
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
        let options = PassOptions { retry_now: false, ..options };
        let plan = self.plan(load, &round.observed, options);
        Ok(Round { plan, ..round })
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

    /// Notes the plan, judges it, and says what it waits for.
    async fn hold(
        &self,
        round: &Round,
        options: PassOptions,
        run: RunId,
    ) -> Result<Vec<String>, PassError> {
        if round.plan.is_empty() {
            return Ok(Vec::new());
        }
        self.judge(round, options)?;
        let reasons = self.hold_reasons(round, options);
        let digest = round.plan.digest();
        let entries = self.ledger.read(|state| {
            let said = state.plan.as_ref().filter(|said| said.plan == digest && !said.finished);
            let mut entries = Vec::new();
            if said.is_none() {
                entries.push(Event::PlanMade(plan_made(&round.plan, digest)));
            }
            let held_before = said.map_or(&[][..], |said| &said.held);
            if held_before != reasons && !reasons.is_empty() {
                entries.push(Event::PlanHeld(PlanHeld { plan: digest, reasons: reasons.clone() }));
            }
            entries
        });
        let entries =
            entries.into_iter().map(|event| Entry::new(event).in_run(run).at_commit(&round.commit));
        self.ledger.append(entries.collect()).await?;
        Ok(reasons)
    }

    fn hold_reasons(&self, round: &Round, options: PassOptions) -> Vec<String> {
        let digest = round.plan.digest();
        let (approved, paused) =
            self.ledger.read(|state| (state.approvals.contains_key(&digest), state.paused.clone()));
        let mut reasons = Vec::new();
        if round.plan.is_empty() {
            return reasons;
        }
        if let Some(paused) = paused {
            reasons.push(format!("paused by {}: {}", paused.by, paused.reason));
        }
        let minute = Some(minute_of_week(self.clock.now()));
        let all = plan::hold_reasons(&round.plan, &round.scope.desired.sync, minute);
        let given = approved || options.approved;
        let open = all.into_iter().filter(|reason| !(given && can_be_approved(reason)));
        reasons.extend(open.map(|reason| hold_words(&reason)));
        reasons
    }

    fn judge(&self, round: &Round, options: PassOptions) -> Result<(), PassError> {
        let now = self.clock.now();
        let known = self.ledger.read(|state| known_at(state, now, options.retry_now));
        let input = plan::Input {
            commit: &round.commit,
            desired: &round.scope.desired,
            observed: &round.observed,
            known: &known,
            guards: round.guards,
            now_minute_of_week: Some(minute_of_week(now)),
        };
        plan::check::check(&round.plan, &input).map_err(|violations| {
            let list: Vec<_> = violations.iter().map(ToString::to_string).collect();
            PassError::Judged { plan: round.plan.digest(), violations: list.join("; ") }
        })
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

fn plan_made(plan: &Plan, digest: Digest) -> PlanMade {
    let steps = plan.steps.iter().take(STEPS_NAMED_MAX).map(|step| StepSummary {
        resource: step.resource.clone(),
        verb: step.action.verb().to_owned(),
        disruption: step.disruption,
        reason: step.reason,
    });
    PlanMade { plan: digest, total: plan.steps.len() as u64, steps: steps.collect() }
}

/// Minutes since Monday 00:00 UTC.
fn minute_of_week(now: Timestamp) -> u16 {
    let utc = now.to_zoned(jiff::tz::TimeZone::UTC);
    let day = utc.weekday().to_monday_zero_offset();
    let minute = i32::from(day) * 1_440 + i32::from(utc.hour()) * 60 + i32::from(utc.minute());
    u16::try_from(minute).unwrap_or(0)
}
