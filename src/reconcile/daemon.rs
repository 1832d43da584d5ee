//! The daemon's loop: wait for any reason, make a pass, tell how long to wait.
//!
//! Reasons are coalesced: however many wake-ups come during a pass, one more pass follows.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::ledger::LedgerError;
use super::pass::{PassError, PassOptions, PassReport, Reconciler};
use crate::port::JournalFault;
use crate::state::{Command, Refusal, decide};

/// Wait after a pass that the log refused for want of space, before it is tried again.
const FULL_WAIT: Duration = Duration::from_secs(30);

/// How long a burst of happenings may go on before it is looked at: far below what a person
/// notices, far above what one `virsh` command takes.
const SETTLE: Duration = Duration::from_millis(100);

/// Asks the loop for things. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    wake: Arc<Notify>,
    asks: mpsc::Sender<Ask>,
    reconciler: Arc<Reconciler>,
    reports: watch::Receiver<Option<Arc<PassReport>>>,
}

/// Something that is answered by the loop itself, between passes.
enum Ask {
    Pass(PassOptions, oneshot::Sender<Result<PassReport, AskError>>),
    Preview(oneshot::Sender<Result<PassReport, AskError>>),
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
    poll: Duration,
}

impl Daemon {
    /// A loop over `reconciler` that makes a pass at least every `poll`.
    pub fn new(reconciler: Arc<Reconciler>, poll: Duration) -> (Self, Handle) {
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
        (Self { reconciler, wake, asks, reports, poll }, handle)
    }

    /// Runs until the program is asked to stop.
    ///
    /// # Errors
    /// When the log can no longer be trusted: going on would be acting without a record.
    pub async fn run(mut self) -> Result<(), PassError> {
        // A moment, not a wait: asking often must not put off what is due.
        let mut due = self.reconciler.clock.monotonic();
        loop {
            let stop = self.reconciler.stop_requested();
            let clock = Arc::clone(&self.reconciler.clock);
            let wait = due.saturating_sub(clock.monotonic());
            let next = tokio::select! {
                biased;
                () = stop => return Ok(()),
                () = clock.sleep(wait) => Some(self.turn(PassOptions::default()).await?),
                Some(ask) = self.asks.recv() => self.answer(ask).await?,
                () = self.wake.notified() => {
                    // A burst of happenings is one reason to look.
                    clock.sleep(SETTLE).await;
                    Some(self.turn(PassOptions::default()).await?)
                }
            };
            if let Some(wait) = next {
                due = self.reconciler.clock.monotonic() + wait;
            }
        }
    }

    /// One pass, and how long to wait for the next.
    async fn turn(&self, options: PassOptions) -> Result<Duration, PassError> {
        match self.reconciler.pass(options).await {
            Ok(report) => {
                let wait = self.wait_after(&report);
                self.reports.send_replace(Some(Arc::new(report)));
                Ok(wait)
            }
            Err(error) => self.survive(error),
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
                Ok(self.poll)
            }
            PassError::Journal(JournalFault::Broken { .. }) | PassError::Crashed => Err(error),
        }
    }

    fn wait_after(&self, report: &PassReport) -> Duration {
        let now = self.reconciler.clock.now();
        let retry = report
            .next_retry
            .map(|at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
        retry.map_or(self.poll, |retry| retry.min(self.poll))
    }

    /// Answers; after a pass also when the next one is due.
    async fn answer(&self, ask: Ask) -> Result<Option<Duration>, PassError> {
        let (result, reply, passed) = match ask {
            Ask::Pass(options, reply) => (self.reconciler.pass(options).await, reply, true),
            Ask::Preview(reply) => (self.reconciler.preview().await, reply, false),
        };
        let (answer, next) = match result {
            Ok(report) => {
                let wait = self.wait_after(&report);
                self.reports.send_replace(Some(Arc::new(report.clone())));
                (Ok(report), Ok(passed.then_some(wait)))
            }
            Err(error) => {
                let failed = AskError::Failed { message: error.to_string() };
                (Err(failed), self.survive(error).map(Some))
            }
        };
        if reply.send(answer).is_err() {
            tracing::debug!("whoever asked for this pass did not wait for its end");
        }
        next
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

    /// What the loop knows and does.
    pub fn reconciler(&self) -> &Reconciler {
        &self.reconciler
    }

    /// Makes a pass now and waits for its end.
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
        self.reconciler.ledger.decide(|state| decide(state, command, actor)).await?;
        self.wake();
        Ok(())
    }
}
