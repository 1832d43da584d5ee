//! The daemon's loop: wait for any reason, make a pass, tell how long to wait.
//!
//! Reasons are coalesced: however many wake-ups come during a pass, one more pass follows.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::ledger::LedgerError;
use super::pass::{PassError, PassOptions, PassReport, Reconciler};
use super::pulse::Heartbeat;
use crate::port::JournalFault;
use crate::state::{Command, Refusal, decide};

/// Wait after a pass that the log refused for want of space, before it is tried again.
const FULL_WAIT: Duration = Duration::from_secs(30);

/// How long a burst of happenings may go on before it is looked at: far below what a person
/// notices, far above what one `virsh` command takes.
const SETTLE: Duration = Duration::from_millis(100);

/// The longest the loop sleeps without a sign of life.
const BEAT: Duration = Duration::from_secs(5);

/// Asks the loop for things. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    wake: Arc<Notify>,
    asks: mpsc::Sender<Ask>,
    reconciler: Arc<Reconciler>,
    reports: watch::Receiver<Option<Arc<PassReport>>>,
}

type Reply = oneshot::Sender<Result<PassReport, AskError>>;

/// Something that is answered by the loop itself, between passes.
enum Ask {
    Pass(PassOptions, Reply),
    Preview(Reply),
}

/// Why an ask was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
    /// The pass ended early.
    #[error("{message}")]
    Failed {
        /// Why.
        message: String,
    },
}

/// The loop.
pub struct Daemon {
    reconciler: Arc<Reconciler>,
    wake: Arc<Notify>,
    asks: mpsc::Receiver<Ask>,
    reports: watch::Sender<Option<Arc<PassReport>>>,
    pace: Pace,
    // When the machine is looked at again though nothing happened; `None`: it is not at rest.
    look: Option<Duration>,
    // Asks about the newest commit, while the repository has not answered.
    unanswered: Vec<Ask>,
    // Passes that were asked for and made, while what they began is under way.
    unfinished: Vec<(PassReport, Reply)>,
}

/// How often a loop does something while nothing wakes it.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Asks the repository.
    pub poll: Duration,
    /// Looks at a machine at rest: what libvirt tells of by itself wakes the loop at once.
    pub look: Duration,
}

impl Daemon {
    /// A loop over `reconciler`.
    pub fn new(reconciler: Arc<Reconciler>, pace: Pace) -> (Self, Handle) {
        let wake = Arc::new(Notify::new());
        // Operators ask one thing at a time; a full queue makes them wait, not fail.
        let (sender, asks) = mpsc::channel(16);
        let (reports, seen) = watch::channel(None);
        let handle = Handle {
            wake: Arc::clone(&wake),
            asks: sender,
            reconciler: Arc::clone(&reconciler),
            reports: seen,
        };
        let (unanswered, unfinished) = (Vec::new(), Vec::new());
        let look = None;
        (Self { reconciler, wake, asks, reports, pace, look, unanswered, unfinished }, handle)
    }

    /// Runs until the program is asked to stop, and then until every step under way has ended.
    ///
    /// # Errors
    /// When the log can no longer be trusted: going on would be acting without a record.
    pub async fn run(mut self) -> Result<(), PassError> {
        let reconciler = Arc::clone(&self.reconciler);
        let clock = Arc::clone(&reconciler.clock);
        // A moment, not a wait: asking often must not put off what is due.
        let mut due = clock.monotonic();
        loop {
            reconciler.beat();
            let wait = due.saturating_sub(clock.monotonic());
            let next = tokio::select! {
                biased;
                () = reconciler.stop_requested() => break,
                () = clock.sleep(wait.min(BEAT)) => {
                    if wait > BEAT {
                        continue;
                    }
                    Some(self.tick().await?)
                }
                Some(ask) = self.asks.recv() => self.answer(ask).await?,
                () = reconciler.news() => Some(self.tick().await?),
                () = self.wake.notified() => {
                    // A burst of happenings is one reason to look.
                    clock.sleep(SETTLE).await;
                    Some(self.turn().await?)
                }
            };
            if let Some(wait) = next {
                due = clock.monotonic() + wait;
            }
        }
        reconciler.landed().await;
        reconciler.fault()
    }

    /// Asks the repository; a machine at rest is looked at only when it is time to, or when there is
    /// news. Looking costs more than asking: libvirt is asked about every object.
    async fn tick(&mut self) -> Result<Duration, PassError> {
        let now = self.reconciler.clock.monotonic();
        let rests = self.look.is_some_and(|look| now < look) && self.unanswered.is_empty();
        if rests {
            match self.reconciler.nothing_new().await {
                Ok(true) => return Ok(self.pace.poll),
                Ok(false) => {}
                Err(error) => {
                    self.give_up(&error);
                    return self.survive(error);
                }
            }
        }
        self.turn().await
    }

    /// One pass, and how long to wait for the next.
    async fn turn(&mut self) -> Result<Duration, PassError> {
        self.look = None;
        let mut wait = match self.reconciler.pass(PassOptions::default()).await {
            Ok(report) => self.note(&report),
            Err(error) => {
                self.give_up(&error);
                self.survive(error)?
            }
        };
        if !self.reconciler.is_asking() {
            for ask in std::mem::take(&mut self.unanswered) {
                wait = self.serve(ask).await?.unwrap_or(wait);
            }
        }
        Ok(wait)
    }

    /// Tells everybody what a pass came to; how long to wait for the next.
    fn note(&mut self, report: &PassReport) -> Duration {
        self.reports.send_replace(Some(Arc::new(report.clone())));
        let due = self.until(report.next_due);
        let look = due.map_or(self.pace.look, |due| due.min(self.pace.look));
        self.look = report.is_at_rest().then(|| self.reconciler.clock.monotonic() + look);
        for (whole, reply) in std::mem::take(&mut self.unfinished) {
            let whole = PassReport {
                succeeded: whole.succeeded + report.succeeded,
                failed: whole.failed + report.failed,
                blocked: whole.blocked + report.blocked,
                ..report.clone()
            };
            self.finish(whole, reply);
        }
        self.wait_after(report)
    }

    /// Answers, or remembers to when what is under way has ended.
    fn finish(&mut self, report: PassReport, reply: Reply) {
        if report.under_way.is_empty() {
            answer(reply, Ok(report));
        } else {
            self.unfinished.push((report, reply));
        }
    }

    fn give_up(&mut self, error: &PassError) {
        for (_, reply) in std::mem::take(&mut self.unfinished) {
            answer(reply, Err(AskError::Failed { message: error.to_string() }));
        }
    }

    /// Whether the loop goes on after `error`, and when.
    fn survive(&self, error: PassError) -> Result<Duration, PassError> {
        match error {
            PassError::Journal(JournalFault::Full { message }) => {
                tracing::error!(%message, "no space for the log: nothing is changed until there is");
                Ok(FULL_WAIT)
            }
            PassError::Judged { .. } | PassError::Journal(JournalFault::Rejected { .. }) => {
                tracing::error!(%error, "a bug of trueup: please report it");
                Ok(self.pace.poll)
            }
            PassError::Journal(JournalFault::Broken { .. }) | PassError::Crashed => Err(error),
        }
    }

    fn wait_after(&self, report: &PassReport) -> Duration {
        let times = [self.until(report.next_retry), self.until(report.next_due)];
        times.into_iter().flatten().fold(self.pace.poll, Duration::min)
    }

    /// How long it is until then; nothing where that is past.
    fn until(&self, at: Option<jiff::Timestamp>) -> Option<Duration> {
        let now = self.reconciler.clock.now();
        at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
    }

    /// Asks the repository, and answers when it has; a remote that is slow delays nothing else.
    async fn answer(&mut self, ask: Ask) -> Result<Option<Duration>, PassError> {
        if let Err(error) = self.reconciler.pull(false).await {
            answer(ask.reply(), Err(AskError::Failed { message: error.to_string() }));
            return self.survive(error).map(Some);
        }
        if self.reconciler.is_asking() {
            self.unanswered.push(ask);
            return Ok(None);
        }
        self.serve(ask).await
    }

    /// Answers; after a pass also when the next one is due.
    async fn serve(&mut self, ask: Ask) -> Result<Option<Duration>, PassError> {
        let (result, reply, passed) = match ask {
            Ask::Pass(options, reply) => {
                let options = PassOptions { wait: false, ..options };
                (self.reconciler.pass(options).await, reply, true)
            }
            Ask::Preview(reply) => (self.reconciler.preview(false).await, reply, false),
        };
        match result {
            Ok(report) if passed => {
                let wait = self.note(&report);
                self.finish(report, reply);
                Ok(Some(wait))
            }
            Ok(report) => {
                self.reports.send_replace(Some(Arc::new(report.clone())));
                answer(reply, Ok(report));
                Ok(None)
            }
            Err(error) => {
                answer(reply, Err(AskError::Failed { message: error.to_string() }));
                self.give_up(&error);
                self.survive(error).map(Some)
            }
        }
    }
}

impl Ask {
    fn reply(self) -> Reply {
        match self {
            Self::Pass(_, reply) | Self::Preview(reply) => reply,
        }
    }
}

fn answer(reply: Reply, answer: Result<PassReport, AskError>) {
    if reply.send(answer).is_err() {
        tracing::debug!("whoever asked for this pass did not wait for its end");
    }
}

impl Handle {
    /// Makes the loop look, for whatever reason.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The last pass.
    pub fn last_report(&self) -> Option<Arc<PassReport>> {
        self.reports.borrow().clone()
    }

    /// Tells whether the loop goes on.
    pub fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            pulse: self.reconciler.under_way.pulse.clone(),
            clock: Arc::clone(&self.reconciler.clock),
            observe_limit: self.reconciler.settings.observe_limit,
        }
    }

    /// What the loop knows and does.
    pub fn reconciler(&self) -> &Reconciler {
        &self.reconciler
    }

    /// Makes a pass now and waits until everything has ended that is under way after it.
    ///
    /// # Errors
    /// An [`AskError`].
    pub async fn pass(&self, options: PassOptions) -> Result<PassReport, AskError> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Pass(options, reply)).await.map_err(|_| AskError::Stopping)?;
        answer.await.map_err(|_| AskError::Stopping)?
    }

    /// Makes a plan now, without doing anything.
    ///
    /// # Errors
    /// An [`AskError`].
    pub async fn preview(&self) -> Result<PassReport, AskError> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Preview(reply)).await.map_err(|_| AskError::Stopping)?;
        answer.await.map_err(|_| AskError::Stopping)?
    }

    /// Decides on an operator's command at once, also in the middle of a pass, and wakes the loop.
    ///
    /// # Errors
    /// The refusal, or that the log cannot be written.
    pub async fn command(
        &self,
        command: &Command,
        actor: &str,
    ) -> Result<(), LedgerError<Refusal>> {
        self.decided(command, actor).await.map(drop)
    }

    /// The same, with the numbers of the events that grant it.
    ///
    /// # Errors
    /// The refusal, or that the log cannot be written.
    pub async fn decided(
        &self,
        command: &Command,
        actor: &str,
    ) -> Result<Vec<u64>, LedgerError<Refusal>> {
        let decided = self.reconciler.ledger.decide(|state| decide(state, command, actor)).await?;
        self.wake();
        Ok(decided.iter().map(|recorded| recorded.seq).collect())
    }
}
