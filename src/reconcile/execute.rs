//! Performing a plan: write the intent, act, write the outcome.
//!
//! Independent steps run side by side; a failure blocks only what comes after it. It never acts on
//! anything whose intent is not durable, and never decides: every value is in the step.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::assess::{signature, storable_changes};
use super::backoff::retry_at;
use super::claim::{claim_before, makes_ours};
use super::pass::{PassError, Reconciler, StepProgress, minute_of_week, never_refused};
use crate::event::body::{Adopted, PlanFinished, StepFailed, StepStarted, StepSucceeded};
use crate::event::{Entry, Event, Spilled};
use crate::model::{CommitId, Digest, Fault, ResourceId, RunId};
use crate::plan::{Disruption, Plan, Reason, Step, StepIndex, window_open};
use crate::port::{CrashPoint, Outcome, Progress, Scope};
use crate::state::State;

/// Bytes of a failure's message in its event: what a person reads; a program's whole output is kept
/// beside the log.
const FAULT_BYTES_MAX: usize = 4_096;

/// How the steps of a plan ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Steps that succeeded, by resource and what they did.
    pub(super) done: BTreeSet<(ResourceId, String)>,
    /// Steps that succeeded.
    pub(super) succeeded: u64,
    /// Steps that failed.
    pub(super) failed: u64,
    /// Steps not started because one before them failed, or because the program is stopping.
    pub(super) blocked: u64,
}

/// A step that ended, and how.
struct Ended {
    index: StepIndex,
    result: Result<Outcome, Fault>,
    elapsed: Duration,
}

/// The performance of one plan.
struct Performance<'a> {
    reconciler: &'a Reconciler,
    plan: &'a Plan,
    digest: Digest,
    scope: Scope,
    run: RunId,
    running: JoinSet<Ended>,
    // JoinSet forgets which step a panicked task was: this remembers.
    tasks: BTreeMap<tokio::task::Id, (StepIndex, u64)>,
    waiting: BTreeSet<StepIndex>,
    succeeded: BTreeSet<StepIndex>,
    // An operator approved the plan: the environment's windows do not bind it.
    approved: bool,
    tally: Tally,
}

impl Reconciler {
    /// Performs `plan` to its end, or until the program is asked to stop.
    pub(super) async fn perform(
        &self,
        plan: &Plan,
        scope: &Scope,
        run: RunId,
        approved: bool,
    ) -> Result<Tally, PassError> {
        let mut performance = Performance {
            reconciler: self,
            plan,
            digest: plan.digest(),
            scope: scope.clone(),
            run,
            running: JoinSet::new(),
            tasks: BTreeMap::new(),
            waiting: (0..plan.steps.len()).collect(),
            succeeded: BTreeSet::new(),
            approved,
            tally: Tally::default(),
        };
        match performance.run_all().await {
            Ok(()) => Ok(performance.tally),
            // As a kill would: nothing more is done or written.
            Err(PassError::Crashed) => Err(PassError::Crashed),
            Err(error) => {
                performance.drain().await;
                Err(error)
            }
        }
    }
}

impl Performance<'_> {
    async fn run_all(&mut self) -> Result<(), PassError> {
        loop {
            if !self.reconciler.stopping() {
                self.start_ready().await?;
            }
            let stopping = self.reconciler.stop_requested();
            tokio::select! {
                ended = self.running.join_next_with_id() => match ended {
                    None => break,
                    Some(ended) => self.finish(ended).await?,
                },
                () = stopping, if !self.reconciler.stopping() => {}
            }
        }
        self.tally.blocked = self.waiting.len() as u64;
        let finished = PlanFinished {
            plan: self.digest,
            succeeded: self.tally.succeeded,
            failed: self.tally.failed,
            blocked: self.tally.blocked,
        };
        let finished = self.entry(Event::PlanFinished(finished));
        self.reconciler.ledger.append_outcome(vec![finished]).await?;
        Ok(())
    }

    /// Lets what is under way end: the next pass must not plan beside it. Outcomes that cannot be
    /// written are looked at anew.
    async fn drain(&mut self) {
        while let Some(ended) = self.running.join_next_with_id().await {
            if let Err(error) = self.finish(ended).await {
                tracing::error!(%error, "the outcome of a step could not be written");
            }
        }
    }

    /// Starts every step whose turn it is, their intents in one append.
    async fn start_ready(&mut self) -> Result<(), PassError> {
        let room = self.reconciler.settings.parallel.saturating_sub(self.running.len());
        // A resource is never worked on from two sides, whatever the plan's edges say.
        let mut busy: BTreeSet<&ResourceId> =
            self.tasks.values().map(|(index, _)| &self.plan.steps[*index].resource).collect();
        let mut ready = Vec::new();
        for index in &self.waiting {
            let step = &self.plan.steps[*index];
            let free = step.after.is_subset(&self.succeeded) && !busy.contains(&step.resource);
            if free && ready.len() < room {
                busy.insert(&step.resource);
                ready.push(*index);
            }
        }
        if ready.is_empty() {
            return Ok(());
        }
        self.crash(CrashPoint::BeforeIntent)?;
        // Decided on the newest state: an operator's pause or hold counts from its event on.
        let mut allowed = Vec::new();
        let recorded = self.reconciler.ledger.decide(|state| {
            allowed = ready.into_iter().filter(|index| self.may_start(state, *index)).collect();
            Ok::<_, Infallible>(allowed.iter().map(|index| self.intent(*index)).collect())
        });
        let recorded = recorded.await.map_err(never_refused)?;
        self.crash(CrashPoint::AfterIntent)?;
        for (index, event) in allowed.into_iter().zip(recorded) {
            self.waiting.remove(&index);
            self.spawn(index, event.seq);
        }
        Ok(())
    }

    /// Whether nothing that was said since the plan was made forbids the step.
    fn may_start(&self, state: &State, index: StepIndex) -> bool {
        let step = &self.plan.steps[index];
        let held = state.resources.get(&step.resource).is_some_and(|known| known.hold.is_some());
        let windows = &self.scope.desired.sync.windows;
        let minute = Some(minute_of_week(self.reconciler.clock.now()));
        let open =
            step.disruption < Disruption::Restart || self.approved || window_open(windows, minute);
        state.paused.is_none() && !held && open
    }

    fn intent(&self, index: StepIndex) -> Entry {
        let step = &self.plan.steps[index];
        let wish = self.scope.desired.resources.get(&step.resource);
        let (changes, contents) = storable_changes(step);
        let started = StepStarted {
            plan: self.digest,
            step: index as u64,
            verb: step.action.verb().to_owned(),
            disruption: step.disruption,
            reason: step.reason,
            changes,
            wish: wish.map(|wish| wish.digest),
            claim: claim_before(step, wish.map(Arc::as_ref)),
        };
        self.entry(Event::StepStarted(started)).about(&step.resource).bringing(contents)
    }

    fn spawn(&mut self, index: StepIndex, seq: u64) {
        let step = self.plan.steps[index].clone();
        let scope = self.scope.clone();
        let clock = Arc::clone(&self.reconciler.clock);
        let provider = self.reconciler.provider_for(step.resource.kind);
        let progress = progress_of(&step, self.reconciler.settings.progress.clone());
        tracing::info!(resource = %step.resource, verb = step.action.verb(), "step started");
        let task = self.running.spawn(async move {
            let begin = clock.monotonic();
            let result = match provider {
                Some(provider) => provider.perform(&step, &scope, progress).await,
                None => Err(Fault::permanent(format!(
                    "{}: this build of trueup has no provider for it",
                    step.resource
                ))),
            };
            Ended { index, result, elapsed: clock.monotonic().saturating_sub(begin) }
        });
        self.tasks.insert(task.id(), (index, seq));
    }

    async fn finish(
        &mut self,
        ended: Result<(tokio::task::Id, Ended), tokio::task::JoinError>,
    ) -> Result<(), PassError> {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, Some(ended)),
            Err(error) => (error.id(), None),
        };
        let Some((index, seq)) = self.tasks.remove(&id) else { return Ok(()) };
        let ended = ended.unwrap_or_else(|| Ended {
            index,
            result: Err(Fault::permanent(format!(
                "{}: the step ended in a panic, which is a bug of trueup: please report it",
                self.plan.steps[index].resource
            ))),
            elapsed: Duration::ZERO,
        });
        self.crash(CrashPoint::AfterEffect)?;
        let step = &self.plan.steps[index];
        let mut entries = vec![self.outcome(&ended).because(seq)];
        if ended.result.is_ok() && step.reason == Reason::Adopted && makes_ours(&step.action) {
            entries.push(self.entry(Event::Adopted(Adopted {})).about(&step.resource).because(seq));
        }
        self.reconciler.ledger.append_outcome(entries).await?;
        self.crash(CrashPoint::AfterOutcome)?;
        if ended.result.is_ok() {
            self.succeeded.insert(index);
            self.tally.succeeded += 1;
            self.tally.done.insert((step.resource.clone(), signature(step)));
        } else {
            self.tally.failed += 1;
        }
        Ok(())
    }

    fn outcome(&self, ended: &Ended) -> Entry {
        let resource = &self.plan.steps[ended.index].resource;
        let (plan, step) = (self.digest, ended.index as u64);
        let mut content = None;
        let event = match &ended.result {
            Ok(outcome) => {
                let elapsed_ms = u64::try_from(ended.elapsed.as_millis()).unwrap_or(u64::MAX);
                tracing::info!(%resource, elapsed_ms, already = outcome.already, "step succeeded");
                Event::StepSucceeded(StepSucceeded {
                    plan,
                    step,
                    already: outcome.already,
                    facts: outcome.facts.clone(),
                    elapsed_ms,
                })
            }
            Err(fault) => {
                let before = self.reconciler.ledger.read(|state| {
                    let failure = state.resources.get(resource)?.failure.as_ref()?;
                    Some(failure.attempts)
                });
                let attempt = before.unwrap_or(0).saturating_add(1);
                let now = self.reconciler.clock.now();
                let retry_at = Some(retry_at(now, resource, fault, attempt));
                tracing::warn!(%resource, attempt, %fault, "step failed");
                let mut fault = fault.clone();
                let whole = fault.cut(FAULT_BYTES_MAX).map(|whole| Spilled::of(whole.into_bytes()));
                let more;
                (more, content) = whole.unzip();
                Event::StepFailed(StepFailed { plan, step, fault, attempt, retry_at, more })
            }
        };
        self.entry(event).about(resource).bringing(content)
    }

    fn entry(&self, event: Event) -> Entry {
        let commit: &CommitId = &self.plan.commit;
        Entry::new(event).in_run(self.run).at_commit(commit)
    }

    fn crash(&self, point: CrashPoint) -> Result<(), PassError> {
        if self.reconciler.crash.here(point) { Err(PassError::Crashed) } else { Ok(()) }
    }
}

fn progress_of(step: &Step, sink: Option<StepProgress>) -> Progress {
    let resource = step.resource.clone();
    Arc::new(move |update| {
        if let Some(sink) = &sink {
            sink(&resource, update);
        }
    })
}
