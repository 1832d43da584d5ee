//! One pass: fetch, read, look at everything, decide, append, perform, and look again.
//!
//! It never believes that a step did what it should: a round that acted is followed by another
//! look, and only that look says that the machine is in sync.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::assess::{events_of_look, farewells, moves, repeated};
use super::backoff::{RETRY_MAX_S, flapping};
use super::backups::{events_of_backups, next_due};
use super::clusters::{events_of_clusters, next_end};
use super::fetch::Fetch;
use super::flight::Flights;
use super::gpus::events_of_gpus;
use super::health::events_of_health;
use super::hold::{judge, minute_of_week};
use super::known::{awaited, claims, known_at, next_retry, ours};
use super::ledger::{Ledger, LedgerError};
use super::load::{Load, Loader};
use super::look::{observe, sight_events};
use super::pull::events_of_poll;
use super::pulse::Pulse;
use super::releases::events_of_releases;
use crate::event::body::{Flapping, StepInterrupted};
use crate::event::{Entry, Event};
use crate::model::{CommitId, Digest, Fault, Observed, ResourceId, RunId};
use crate::plan::{self, Disruption, Guards, Known, Plan, Reason, SkipReason, Skipped};
use crate::policy::Verdicts;
use crate::port::{Clock, Crash, Head, JournalFault, ProgressUpdate, Provider, Scope, Source};

/// Most rounds of one pass: act, look, act on what only then could be seen, look again.
const ROUNDS_MAX: usize = 4;
/// How long a pass waits for the repository before it goes on with the last good commit: far more
/// than a repository on this machine takes, and no longer than a drift may go unnoticed for it.
const PULL_GRACE: Duration = Duration::from_secs(1);

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
    /// What goes on between passes.
    pub under_way: UnderWay,
}

/// What goes on between passes: steps, the question to the repository; and the loop's pulse.
#[derive(Default)]
pub struct UnderWay {
    pub(super) flights: Flights,
    pub(super) fetch: Fetch,
    pub(super) pulse: Pulse,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // What is under way must not act for a loop that is gone.
        self.flights.abort();
    }
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
    /// What the rules say of it.
    pub verdicts: Verdicts,
    /// Steps that succeeded.
    pub succeeded: u64,
    /// Steps that failed.
    pub failed: u64,
    /// Steps that could not start.
    pub blocked: u64,
    /// When something is to be tried again.
    pub next_retry: Option<Timestamp>,
    /// When something becomes due next; nothing has to be tried again for it.
    pub next_due: Option<Timestamp>,
    /// What is still worked on: steps that were started, by this pass or an earlier one, and have
    /// not ended, and what comes after them.
    pub under_way: BTreeSet<ResourceId>,
}

impl PassReport {
    /// Whether the last look found nothing to do, and nothing waits to be done.
    pub fn is_at_rest(&self) -> bool {
        let planned = self.plan.as_ref().is_some_and(|plan| !plan.is_empty());
        !planned && self.under_way.is_empty() && self.next_retry.is_none()
    }
}

/// What a pass may do beyond looking.
#[derive(Debug, Clone, Default)]
pub struct PassOptions {
    /// Try again at once what backs off.
    pub retry_now: bool,
    /// An approval given with the command; it counts for that one plan.
    pub approve: Option<Approval>,
    /// Wait for the repository's answer and for every step, however long they take: for a program
    /// that makes one pass only.
    pub wait: bool,
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outlook {
    /// Nothing backs off.
    pub(super) retry_now: bool,
    /// What is due is done: it is for the commit in force.
    pub(super) due: bool,
}

impl Outlook {
    /// For the commit in force.
    pub(super) fn now(retry_now: bool) -> Self {
        Self { retry_now, due: true }
    }
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
pub(super) struct Round {
    pub(super) commit: CommitId,
    pub(super) scope: Scope,
    pub(super) guards: Guards,
    pub(super) observed: Observed,
    pub(super) known: Known,
    pub(super) minute: u16,
    pub(super) plan: Plan,
    /// Why the commit's signature is not accepted.
    pub(super) distrusted: Option<String>,
    /// Id of the commit's tree.
    pub(super) tree: Option<String>,
    /// What the rules say of it.
    pub(super) verdicts: Verdicts,
    /// What was worked on when it was looked at.
    pub(super) busy: BTreeSet<ResourceId>,
}

impl Reconciler {
    /// Notes steps that had started, have no outcome, and are not under way: when the program last
    /// ended, or when the log could not be written. Every pass begins with it.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub async fn recover(&self) -> Result<(), PassError> {
        // Before the state is read: what ends in between has its outcome there.
        let running = self.under_way.flights.running();
        let entries = self.ledger.read(|state| {
            let left = state.resources.iter().filter(|(id, _)| !running.contains(*id));
            let in_flight = left.filter_map(|(id, resource)| {
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
        let flights = &self.under_way.flights;
        self.beat();
        self.fault()?;
        self.recover().await?;
        self.pull(options.wait).await?;
        let mut report = PassReport::default();
        if let Some(load) = self.load().await? {
            report.commit = Some(load.commit.clone());
            flights.nudge();
            self.rounds(&load, &options, &mut report).await?;
            report.under_way = flights.busy(&load.commit);
            let now = self.clock.now();
            report.next_due = self.ledger.read(|state| {
                [next_due(state, &load.desired, now), next_end(state, now)]
                    .into_iter()
                    .flatten()
                    .min()
            });
        }
        self.count(&mut report);
        let now = self.clock.now();
        report.next_retry = self.ledger.read(|state| next_retry(state, now));
        Ok(report)
    }

    /// Looks and acts until there is nothing left to do, or nothing that can be done now.
    async fn rounds(
        &self,
        load: &Load,
        options: &PassOptions,
        report: &mut PassReport,
    ) -> Result<(), PassError> {
        let run = RunId(uuid::Uuid::new_v5(
            &uuid::Uuid::NAMESPACE_OID,
            format!("{}/{}", load.commit, self.ledger.read(|state| state.seq)).as_bytes(),
        ));
        // What earlier passes began and what ended since says nothing about this one.
        self.count(report);
        let mut done = BTreeSet::new();
        // The limit counts over everything that is done together, whichever pass began it.
        let mut destroyed = self.under_way.flights.destroying();
        for _ in 0..ROUNDS_MAX {
            let round = self.look(load, options).await?;
            let mut round = self.without_repeats(round, load, &done, options).await?;
            self.heed_rules(&load.rulebook, &mut round).await?;
            if !round.plan.is_empty() {
                judge(&round, &round.plan)?;
            }
            self.lapse(&round, run).await?;
            let before_approval = self.ledger.read(|state| state.seq);
            self.approve(&round, options, &destroyed, run).await?;
            let sorted = self.sorted(&round, &destroyed);
            let sorted = self.carry_over(&round, sorted, &destroyed, run).await?;
            if !sorted.ready.is_empty() && sorted.ready != round.plan {
                judge(&round, &sorted.ready)?;
            }
            self.announce(&round, &sorted, run).await?;
            report.held = sorted.held();
            report.verdicts.clone_from(&round.verdicts);
            report.plan = Some(sorted.waits.map_or(round.plan, |waits| waits.plan));
            let ready = sorted.ready;
            if ready.is_empty() || self.stopping() {
                break;
            }
            destroyed.extend(plan::destroys(&ready));
            let approved = self.begin(&ready, sorted.approved, run).await?;
            let approved = approved.then_some(before_approval);
            let before = report.succeeded;
            self.perform(&ready, &round.scope, run, approved, options.wait).await?;
            self.beat();
            done.extend(self.count(report));
            if report.succeeded == before {
                break;
            }
        }
        Ok(())
    }

    /// Takes in what ended since it was last asked; what succeeded.
    fn count(&self, report: &mut PassReport) -> BTreeSet<(ResourceId, Digest)> {
        let tally = self.under_way.flights.take_tally();
        report.succeeded += tally.succeeded;
        report.failed += tally.failed;
        report.blocked += tally.blocked;
        tally.done
    }

    /// The plan for the machine as it is now, with nothing appended and nothing done.
    ///
    /// # Errors
    /// When the log cannot be written (a new commit is still taken in).
    pub async fn preview(&self, wait: bool) -> Result<PassReport, PassError> {
        self.pull(wait).await?;
        let mut report = PassReport::default();
        let Some(load) = self.load().await? else { return Ok(report) };
        let busy = self.busy(&load);
        let (scope, observed) = self.observe(&load, true).await;
        let outlook = Outlook::now(false);
        let mut round = self.round(&load, scope, observed, outlook, &BTreeSet::new(), busy);
        round.verdicts = self.ask_rules(&load.rulebook, &round, None).await;
        report.verdicts.clone_from(&round.verdicts);
        report.commit = Some(load.commit.clone());
        report.held = self.sorted(&round, &self.under_way.flights.destroying()).held();
        report.plan = Some(round.plan);
        report.under_way = self.under_way.flights.busy(&load.commit);
        Ok(report)
    }

    /// Asks the repository and takes in what it says: with `wait` however long it takes, else as far
    /// as it answers in a moment. A later answer wakes the loop.
    pub(super) async fn pull(&self, wait: bool) -> Result<(), PassError> {
        let fetch = &self.under_way.fetch;
        // An answer from before the news that this pass is about may be waiting already.
        if let Some((polled, again)) = fetch.take() {
            self.take_in(polled).await?;
            if !again {
                return Ok(());
            }
        }
        let have = self.ledger.read(|state| state.source.head.clone());
        let waited_for = !fetch.is_out();
        fetch.ask(&self.source, have, &self.under_way.flights);
        if wait || waited_for {
            tokio::select! {
                biased;
                () = fetch.arrived() => {}
                () = self.clock.sleep(PULL_GRACE), if !wait => fetch.leave(),
            }
        }
        if let Some((polled, _)) = fetch.take() {
            self.take_in(polled).await?;
        }
        self.beat();
        Ok(())
    }

    /// Asks the repository, and nothing else; whether the log is as it was after that.
    pub(super) async fn nothing_new(&self) -> Result<bool, PassError> {
        self.beat();
        self.fault()?;
        let before = self.ledger.read(|state| state.seq);
        self.pull(false).await?;
        Ok(self.ledger.read(|state| state.seq) == before)
    }

    async fn take_in(&self, polled: Result<Head, Fault>) -> Result<(), PassError> {
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
        // Before the look: what ends meanwhile may have been seen half-done.
        let busy = self.busy(load);
        let renamed = self.ledger.read(|state| moves(state, &load.desired, &busy));
        self.append_at(&load.commit, renamed).await?;
        let (scope, observed) = self.observe(load, options.retry_now).await;
        self.beat();
        let entries = self.ledger.read(|state| {
            let mut entries = sight_events(state, &observed);
            entries.extend(events_of_health(state, &observed));
            entries.extend(farewells(state, &scope.desired, &observed, &busy, self.clock.now()));
            entries.extend(events_of_gpus(state, &observed, &busy));
            entries.extend(events_of_backups(state, &scope.desired, self.clock.now()));
            entries.extend(events_of_clusters(state, &observed, self.clock.now()));
            entries.extend(events_of_releases(state, &observed, self.clock.now()));
            entries
        });
        self.append_at(&load.commit, entries).await?;
        let outlook = Outlook::now(options.retry_now);
        let round = self.round(load, scope, observed, outlook, &BTreeSet::new(), busy);
        let entries = self.ledger.read(|state| {
            let Round { scope, observed, plan, busy, .. } = &round;
            events_of_look(state, &scope.desired, observed, plan, busy)
        });
        self.append_at(&load.commit, entries).await?;
        self.let_go(&round.scope).await;
        Ok(round)
    }

    /// Tells the providers what is known now: what they keep for anything else may go.
    async fn let_go(&self, scope: &Scope) {
        let known = Arc::new(self.ledger.read(ours));
        let scope = Scope { known, ..scope.clone() };
        for provider in &self.providers {
            provider.let_go(&scope).await;
        }
    }

    pub(super) async fn append_at(
        &self,
        commit: &CommitId,
        entries: Vec<Entry>,
    ) -> Result<(), PassError> {
        let entries = entries.into_iter().map(|entry| entry.at_commit(commit)).collect();
        self.ledger.append(entries).await?;
        Ok(())
    }

    /// Looks at the machine; `fresh`: for somebody who waits for what is so now.
    pub(super) async fn observe(&self, load: &Load, fresh: bool) -> (Scope, Observed) {
        let (known, claims, awaited) =
            self.ledger.read(|state| (ours(state), claims(state), awaited(state)));
        let scope = Scope {
            desired: Arc::clone(&load.desired),
            known: Arc::new(known),
            claims: Arc::new(claims),
            awaited: Arc::new(awaited),
            fresh,
        };
        let limit = self.settings.observe_limit;
        let observed = observe(&self.providers, &self.clock, &scope, limit).await;
        (scope, observed)
    }

    /// What is being worked on, also under a name that it only gets by this commit.
    pub(super) fn busy(&self, load: &Load) -> BTreeSet<ResourceId> {
        let mut busy = self.under_way.flights.busy(&load.commit);
        let renamed = &load.desired.sync.renamed;
        let under_new_name =
            |to: &&ResourceId| renamed.former(to, |id| busy.contains(id)).is_some();
        let named: Vec<_> = renamed.moved.keys().filter(under_new_name).cloned().collect();
        busy.extend(named);
        busy
    }

    /// Plans what was seen. `alone`: resources that are left alone beyond what is known; `busy`:
    /// those that are being worked on.
    pub(super) fn round(
        &self,
        load: &Load,
        scope: Scope,
        observed: Observed,
        outlook: Outlook,
        alone: &BTreeSet<ResourceId>,
        busy: BTreeSet<ResourceId>,
    ) -> Round {
        let now = self.clock.now();
        let mut known = self.ledger.read(|state| known_at(state, &load.desired, now, outlook));
        known.rename(&load.desired);
        known.own.clone_from(&self.settings.own);
        known.suspended.extend(alone.iter().map(|id| (id.clone(), SkipReason::BackingOff)));
        known.suspended.extend(busy.iter().map(|id| (id.clone(), SkipReason::InProgress)));
        let minute = minute_of_week(now);
        let plan = plan::plan(&plan::Input {
            commit: &load.commit,
            desired: &load.desired,
            observed: &observed,
            known: &known,
            guards: load.guards,
            now_minute_of_week: Some(minute),
        });
        let plan = without_interrupting(plan, &busy);
        let (commit, guards) = (load.commit.clone(), load.guards);
        let (distrusted, tree) = (load.distrusted.clone(), load.tree.clone());
        let verdicts = Verdicts::default();
        Round {
            commit,
            scope,
            guards,
            observed,
            known,
            minute,
            plan,
            distrusted,
            tree,
            verdicts,
            busy,
        }
    }

    /// A step that succeeded in this very pass and is asked for again does not last: something
    /// else undoes it, or it lied. The resource is left alone for a while.
    async fn without_repeats(
        &self,
        round: Round,
        load: &Load,
        done: &BTreeSet<(ResourceId, Digest)>,
        options: &PassOptions,
    ) -> Result<Round, PassError> {
        let now = self.clock.now();
        let mut flaps = repeated(&round.plan, &load.desired, done);
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
        let Round { scope, observed, busy, .. } = round;
        let outlook = Outlook::now(options.retry_now);
        Ok(self.round(load, scope, observed, outlook, &flaps, busy))
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

    /// Whether the repository has been asked and has not answered.
    pub(super) fn is_asking(&self) -> bool {
        self.under_way.fetch.is_out()
    }

    /// Why something that is under way could not go on, said once.
    pub(super) fn fault(&self) -> Result<(), PassError> {
        self.under_way.flights.take_fault().map_or(Ok(()), Err)
    }

    pub(super) fn beat(&self) {
        self.under_way.pulse.beat(&self.clock);
    }

    /// Waits until every step that is under way has ended. Nothing new is started only where the
    /// program was asked to stop.
    pub async fn landed(&self) {
        self.under_way.flights.landed().await;
    }

    /// Resolves when something ended that no pass waited for: there is reason for another one.
    pub async fn news(&self) {
        self.under_way.flights.news().await;
    }

    /// Ends every step that is under way as a kill would, and waits until it has ended: the next
    /// start looks at them anew.
    pub async fn cut_off(&self) {
        self.under_way.flights.cut_off().await;
    }

    /// Waits until what such steps made, and nobody watches any more, is taken away.
    pub async fn settled(&self) {
        for provider in &self.providers {
            provider.settled().await;
        }
    }

    pub(super) fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Resolves when the program is asked to stop; never, when nobody can ask any more.
    pub(super) fn stop_requested(&self) -> impl Future<Output = ()> + use<> {
        stop_of(&self.stop)
    }
}

/// Resolves when `stop` becomes true; never, when nobody can make it so any more.
pub(super) fn stop_of(stop: &watch::Receiver<bool>) -> impl Future<Output = ()> + use<> {
    let mut stop = stop.clone();
    async move {
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Leaves out what would interrupt something that is being worked on.
fn without_interrupting(plan: Plan, busy: &BTreeSet<ResourceId>) -> Plan {
    let interrupted = |step: &plan::Step| {
        let disturbs = step.disruption >= Disruption::Restart;
        step.interrupts.iter().find(|id| disturbs && busy.contains(*id)).cloned()
    };
    let found = plan.steps.iter().enumerate();
    let causes: BTreeMap<_, _> =
        found.filter_map(|(at, step)| Some((at, interrupted(step)?))).collect();
    if causes.is_empty() {
        return plan;
    }
    let parts = plan::part(&plan, &causes.keys().copied().collect());
    let by = causes.into_values().next();
    let mut rest = parts.rest;
    for step in parts.waits.steps {
        let said = rest.skipped.iter().any(|skip| skip.resource == step.resource);
        if let Some(by) = by.clone().filter(|_| !said) {
            let (resource, changes) = (step.resource, step.changes);
            rest.skipped.push(Skipped { resource, why: SkipReason::Blocked(by), changes });
        }
    }
    rest.skipped.sort_by(|a, b| a.resource.cmp(&b.resource));
    rest
}

/// What deciding without the possibility of a refusal can still end in.
pub(super) fn never_refused(error: LedgerError<std::convert::Infallible>) -> PassError {
    match error {
        LedgerError::Refused(never) => match never {},
        LedgerError::Journal(fault) => PassError::Journal(fault),
    }
}
