//! Performing a plan: write the intent, act, write the outcome.
//!
//! Independent steps run side by side; a failure blocks only what comes after it. It never acts on
//! anything whose intent is not durable, and never decides: every value is in the step.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::Ledger;
use super::assess::{StoredChanges, signature, storable_changes};
use super::backoff::retry_at;
use super::backups::may_forget;
use super::claim::{claim_before, known_after, makes_ours};
use super::flight::{Flights, Place};
use super::hold::minute_of_week;
use super::pass::{PassError, Reconciler, Settings, StepProgress, never_refused, stop_of};
use crate::event::body::{
    Adopted, BackupNews, PlanFinished, StepFailed, StepInterrupted, StepStarted, StepSucceeded,
};
use crate::event::{Entry, Event, Spilled};
use crate::model::{CommitId, Digest, Fault, Kind, ResourceId, RunId, listed};
use crate::plan::{Action, Disruption, Plan, Reason, Step, StepIndex, window_open};
use crate::port::{Clock, Crash, CrashPoint, Outcome, Progress, Provider, Scope};
use crate::state::State;

/// Bytes of a failure's message in its event: what a person reads; a program's whole output is kept
/// beside the log.
const FAULT_BYTES_MAX: usize = 4_096;

/// How long a pass waits for the plan it began, before it goes on without it: as long as a drift
/// elsewhere may go unnoticed for it.
const GRACE: Duration = Duration::from_secs(1);

/// What a plan is performed with: all of it outlives the pass.
#[derive(Clone)]
struct Hand {
    ledger: Arc<Ledger>,
    providers: Vec<Arc<dyn Provider>>,
    clock: Arc<dyn Clock>,
    crash: Arc<dyn Crash>,
    settings: Settings,
    stop: watch::Receiver<bool>,
}

/// A step that ended, and how.
struct Ended {
    index: StepIndex,
    result: Result<Outcome, Fault>,
    elapsed: Duration,
}

/// A step that is under way.
struct Running {
    index: StepIndex,
    /// The event of its start, and when that was.
    seq: u64,
    since: Timestamp,
    /// Ends it.
    task: AbortHandle,
}

/// The performance of one plan.
struct Performance {
    hand: Hand,
    place: Place,
    plan: Plan,
    digest: Digest,
    scope: Scope,
    run: RunId,
    tasks: JoinSet<Ended>,
    // JoinSet forgets which step a panicked task was: this remembers.
    running: BTreeMap<tokio::task::Id, Running>,
    waiting: BTreeSet<StepIndex>,
    succeeded: BTreeSet<StepIndex>,
    // Somebody approved the plan: the environment's windows do not bind it. Where the log stood
    // before that was asked: an approval taken back since then ends it.
    approved: Option<u64>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    succeeded: u64,
    failed: u64,
    blocked: u64,
}

impl Reconciler {
    /// Begins to perform `plan`, and waits for its end: with `wait` however long it takes, else a
    /// moment. What goes on after that is in [`Flights`]. `approved`: it was, and where the log stood
    /// before that was asked.
    pub(super) async fn perform(
        &self,
        plan: &Plan,
        scope: &Scope,
        run: RunId,
        approved: Option<u64>,
        wait: bool,
    ) -> Result<(), PassError> {
        let hand = Hand {
            ledger: Arc::clone(&self.ledger),
            providers: self.providers.clone(),
            clock: Arc::clone(&self.clock),
            crash: Arc::clone(&self.crash),
            settings: self.settings.clone(),
            stop: self.stop.clone(),
        };
        let flights: &Flights = &self.under_way.flights;
        let (id, mut ended) = flights.launch(plan, |place| {
            let performance = Performance {
                hand,
                place,
                plan: plan.clone(),
                digest: plan.digest(),
                scope: scope.clone(),
                run,
                tasks: JoinSet::new(),
                running: BTreeMap::new(),
                waiting: (0..plan.steps.len()).collect(),
                succeeded: BTreeSet::new(),
                approved,
                counts: Counts::default(),
            };
            performance.perform()
        });
        tokio::select! {
            biased;
            // Its sender goes when the plan has ended, in whatever way.
            _ = ended.changed() => {}
            () = self.clock.sleep(GRACE), if !wait => flights.outlive(id),
        }
        self.fault()
    }
}

/// What is to be the way back has to hold everything: else what it was taken for is not begun, and it
/// is taken anew.
fn incomplete(ended: &Ended, step: &Step) -> Option<Fault> {
    let of = step.action.way_back_for()?;
    let Ok(Outcome { backup: Some(BackupNews::Taken(taken)), .. }) = &ended.result else {
        return None;
    };
    let first = taken.first_missing.as_ref().map(|first| format!(", the first: {first}"));
    (taken.missing > 0).then(|| {
        Fault::transient(format!(
            "{}: {} thing(s) are missing from the snapshot{}: it is no way back for {}",
            step.resource,
            taken.missing,
            first.unwrap_or_default(),
            listed(of)
        ))
    })
}

/// The event that says what came of work on a backup.
fn event_of(news: &BackupNews) -> Event {
    match news.clone() {
        BackupNews::Opened(opened) => Event::BackupOpened(opened),
        BackupNews::Taken(taken) => Event::BackupTaken(taken),
        BackupNews::Verified(verified) => Event::BackupVerified(verified),
        BackupNews::Drilled(drilled) => Event::BackupDrilled(drilled),
        BackupNews::Failed(failed) => Event::BackupFailed(failed),
        BackupNews::Forgotten(forgotten) => Event::BackupForgotten(forgotten),
    }
}

impl Performance {
    async fn perform(mut self) {
        match self.run_all().await {
            Ok(()) => {}
            // As a kill would: nothing more is done or written.
            Err(PassError::Crashed) => self.place.fail(PassError::Crashed),
            Err(error) => {
                self.place.fail(error);
                self.drain().await;
            }
        }
    }

    async fn run_all(&mut self) -> Result<(), PassError> {
        let mut moves = self.place.moves();
        loop {
            let stopping = *self.hand.stop.borrow();
            let no_room = if stopping { false } else { self.start_ready().await? };
            self.end_waits(stopping);
            if self.running.is_empty() && !no_room {
                break;
            }
            tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => self.finish(ended).await?,
                () = stop_of(&self.hand.stop), if !stopping => {}
                // An error would say that the table is gone, which this plan is in.
                _ = moves.changed() => self.heed_cancels(),
            }
        }
        self.give_up(self.waiting.clone());
        let finished = PlanFinished {
            plan: self.digest,
            succeeded: self.counts.succeeded,
            failed: self.counts.failed,
            blocked: self.counts.blocked,
        };
        let finished = self.entry(Event::PlanFinished(finished));
        self.hand.ledger.append_outcome(vec![finished]).await?;
        Ok(())
    }

    /// Ends what an operator wants ended: dropping a step's work kills what it started.
    fn heed_cancels(&self) {
        self.hand.ledger.read(|state| {
            for running in self.running.values() {
                let known = state.resources.get(&self.step(running).resource);
                let step = known.and_then(|known| known.in_flight.as_ref());
                if step.is_some_and(|step| step.cancelled && step.seq == running.seq) {
                    running.task.abort();
                }
            }
        });
    }

    /// Lets what is under way end: the next pass must not plan beside it. Outcomes that cannot be
    /// written are looked at anew.
    async fn drain(&mut self) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            if let Err(error) = self.finish(ended).await {
                tracing::error!(%error, "the outcome of a step could not be written");
            }
        }
    }

    /// Starts every step whose turn it is, their intents in one append. Whether one of them found
    /// no room.
    async fn start_ready(&mut self) -> Result<bool, PassError> {
        // A resource is never worked on from two sides, whatever the plan's edges say.
        let mut busy: BTreeSet<&ResourceId> =
            self.running.values().map(|running| &self.step(running).resource).collect();
        let mut ready = Vec::new();
        for index in &self.waiting {
            let step = &self.plan.steps[*index];
            let free = step.after.is_subset(&self.succeeded) && !busy.contains(&step.resource);
            if free {
                busy.insert(&step.resource);
                ready.push(*index);
            }
        }
        let parallel = self.hand.settings.parallel;
        // Backups have room of their own.
        let long = |index: &StepIndex| self.plan.steps[*index].resource.kind == Kind::Backup;
        let short = self.running.values().filter(|running| !long(&running.index));
        let full = short.count() >= parallel;
        if ready.is_empty() || (full && !ready.iter().any(long)) {
            return Ok(!ready.is_empty());
        }
        self.crash(CrashPoint::BeforeIntent)?;
        // Decided on the newest state: an operator's pause or hold counts from its event on, and so
        // does another commit. What is begun is in the table from the same moment on.
        let mut begun = Vec::new();
        let mut no_room = false;
        let recorded = self.hand.ledger.decide(|state| {
            ready.retain(|index| self.may_start(state, *index));
            let resource = |index: &StepIndex| &self.plan.steps[*index].resource;
            let resources = self.place.begin(ready.iter().map(resource), parallel);
            no_room = resources.len() < ready.len();
            ready.retain(|index| resources.contains(resource(index)));
            begun = ready;
            Ok::<_, Infallible>(begun.iter().map(|index| self.intent(state, *index)).collect())
        });
        let recorded = recorded.await.map_err(never_refused)?;
        self.crash(CrashPoint::AfterIntent)?;
        for (index, event) in begun.into_iter().zip(recorded) {
            self.waiting.remove(&index);
            self.spawn(index, event.seq);
        }
        Ok(no_room)
    }

    /// What a step goes by. A cluster is set up in machines that the same plan has made.
    fn scope_of(&self, step: &Step) -> Scope {
        let mut scope = self.scope.clone();
        // For every step of a plan of thousands that would be too dear.
        if step.resource.kind == Kind::Cluster {
            let done = self.succeeded.iter().map(|index| &self.plan.steps[*index]);
            known_after(&mut scope.known, done);
        }
        scope
    }

    /// Whether nothing that was said since the plan was made forbids the step.
    fn may_start(&self, state: &State, index: StepIndex) -> bool {
        let step = &self.plan.steps[index];
        let held = state.resources.get(&step.resource).is_some_and(|known| known.hold.is_some());
        let windows = &self.scope.desired.sync.windows;
        let minute = Some(minute_of_week(self.hand.clock.now()));
        let open = step.disruption < Disruption::Restart
            || self.approved.is_some()
            || window_open(windows, minute);
        let taken_back = self.approved.is_some_and(|since| state.revoked > since);
        let safe = match &step.action {
            Action::BackupForget { pinned, .. } => {
                may_forget(state, &step.resource, pinned, self.hand.clock.now())
            }
            _ => true,
        };
        state.paused.is_none() && !held && open && !taken_back && safe && self.in_force(state)
    }

    /// Ends waiting that is not for what is wanted now: it would hold that up for hours.
    fn end_waits(&self, stopping: bool) {
        let now = self.hand.clock.now();
        self.hand.ledger.read(|state| {
            for wait in self.running.values().filter(|it| self.step(it).action.only_waits()) {
                let known = state.resources.get(&self.step(wait).resource);
                let cluster = known.and_then(|known| known.cluster.as_ref());
                let asked = cluster.is_some_and(|it| it.asks_after(wait.seq, wait.since, now));
                if stopping || asked || !self.in_force(state) {
                    wait.task.abort();
                }
            }
        });
    }

    fn step(&self, running: &Running) -> &Step {
        &self.plan.steps[running.index]
    }

    /// Whether the plan's commit is still what the machine is brought to.
    fn in_force(&self, state: &State) -> bool {
        state.spec.commit.as_ref() == Some(&self.plan.commit)
    }

    /// These steps will never be started.
    fn give_up(&mut self, steps: BTreeSet<StepIndex>) {
        let in_force = self.hand.ledger.read(|state| self.in_force(state));
        let resources = steps.iter().map(|index| &self.plan.steps[*index].resource);
        self.place.given_up(resources, in_force);
        self.counts.blocked += steps.len() as u64;
        self.waiting.retain(|index| !steps.contains(index));
    }

    /// What waits for a step that failed will not be started by this plan; the next one is free to
    /// plan anew for it.
    fn give_up_after(&mut self, failed: StepIndex) {
        let mut dead = BTreeSet::from([failed]);
        for index in &self.waiting {
            if !self.plan.steps[*index].after.is_disjoint(&dead) {
                dead.insert(*index);
            }
        }
        dead.remove(&failed);
        self.give_up(dead);
    }

    fn intent(&self, state: &State, index: StepIndex) -> Entry {
        let step = &self.plan.steps[index];
        let known = state.resources.get(&step.resource).and_then(|known| known.claim.as_ref());
        let wish = self.scope.desired.resources.get(&step.resource);
        let all: Vec<_> = step.changes.iter().collect();
        let StoredChanges { changes, more, contents } = storable_changes(&all);
        let started = StepStarted {
            plan: self.digest,
            step: index as u64,
            verb: step.action.verb().to_owned(),
            disruption: step.disruption,
            reason: step.reason,
            changes,
            more,
            wish: wish.map(|wish| wish.digest),
            claim: claim_before(step, wish.map(Arc::as_ref), known),
        };
        self.entry(Event::StepStarted(started)).about(&step.resource).bringing(contents)
    }

    fn spawn(&mut self, index: StepIndex, seq: u64) {
        let step = self.plan.steps[index].clone();
        let scope = self.scope_of(&step);
        let clock = Arc::clone(&self.hand.clock);
        let provider = provider_for(&self.hand.providers, step.resource.kind);
        let progress = progress_of(&step, self.hand.settings.progress.clone());
        tracing::info!(resource = %step.resource, verb = step.action.verb(), "step started");
        let task = self.tasks.spawn(async move {
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
        let since = self.hand.clock.now();
        self.running.insert(task.id(), Running { index, seq, since, task });
    }

    async fn finish(
        &mut self,
        ended: Result<(tokio::task::Id, Ended), tokio::task::JoinError>,
    ) -> Result<(), PassError> {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, Ok(ended)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some(Running { index, seq, .. }) = self.running.remove(&id) else { return Ok(()) };
        let waited = self.plan.steps[index].action.only_waits();
        if waited && ended.as_ref().is_err_and(tokio::task::JoinError::is_cancelled) {
            return self.leave(index, seq).await;
        }
        let resource = &self.plan.steps[index].resource;
        let mut ended = ended.unwrap_or_else(|error| Ended {
            index,
            result: Err(match error.is_cancelled() {
                true => Fault::transient(format!(
                    "{resource}: an operator ended it; it is done again when it is next due"
                )),
                false => Fault::permanent(format!(
                    "{resource}: the step ended in a panic, which is a bug of trueup: please \
                     report it"
                )),
            }),
            elapsed: Duration::ZERO,
        });
        self.crash(CrashPoint::AfterEffect)?;
        let step = &self.plan.steps[index];
        let news = ended.result.as_ref().ok().and_then(|outcome| outcome.backup.clone());
        if let Some(fault) = incomplete(&ended, step) {
            ended.result = Err(fault);
        }
        let mut entries = vec![self.outcome(&ended).because(seq)];
        if let Some(news) = news {
            entries.push(self.entry(event_of(&news)).about(&step.resource).because(seq));
        }
        if ended.result.is_ok() && step.reason == Reason::Adopted && makes_ours(&step.action) {
            entries.push(self.entry(Event::Adopted(Adopted {})).about(&step.resource).because(seq));
        }
        self.hand.ledger.append_outcome(entries).await?;
        self.crash(CrashPoint::AfterOutcome)?;
        let slow = ended.elapsed >= GRACE;
        let step = &self.plan.steps[index];
        if ended.result.is_ok() {
            self.succeeded.insert(index);
            self.counts.succeeded += 1;
            let wish = self.scope.desired.resources.get(&step.resource).map(|wish| wish.digest);
            self.place.ended(&step.resource, slow, |tally| {
                tally.succeeded += 1;
                tally.done.insert((step.resource.clone(), signature(step, wish)));
            });
        } else {
            self.counts.failed += 1;
            // Also to know when it is tried again.
            self.place.ended(&step.resource, true, |tally| tally.failed += 1);
            self.give_up_after(index);
        }
        Ok(())
    }

    /// A step that only waited was ended: what it waited for is looked at anew.
    async fn leave(&mut self, index: StepIndex, seq: u64) -> Result<(), PassError> {
        let resource = self.plan.steps[index].resource.clone();
        let left = StepInterrupted { plan: self.digest, step: index as u64 };
        let entry = self.entry(Event::StepInterrupted(left)).about(&resource).because(seq);
        self.hand.ledger.append_outcome(vec![entry]).await?;
        self.place.ended(&resource, true, |_| {});
        self.give_up_after(index);
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
                let before = self.hand.ledger.read(|state| {
                    let failure = state.resources.get(resource)?.failure.as_ref()?;
                    Some(failure.attempts)
                });
                let attempt = before.unwrap_or(0).saturating_add(1);
                let now = self.hand.clock.now();
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
        if self.hand.crash.here(point) { Err(PassError::Crashed) } else { Ok(()) }
    }
}

fn provider_for(providers: &[Arc<dyn Provider>], kind: Kind) -> Option<Arc<dyn Provider>> {
    providers.iter().find(|provider| provider.kinds().contains(&kind)).map(Arc::clone)
}

fn progress_of(step: &Step, sink: Option<StepProgress>) -> Progress {
    let resource = step.resource.clone();
    Arc::new(move |update| {
        if let Some(sink) = &sink {
            sink(&resource, update);
        }
    })
}
