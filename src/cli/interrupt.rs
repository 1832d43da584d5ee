//! Ctrl-C and SIGTERM of a command that acts in its own process.
//!
//! The first one asks for an end in good order; it never has to be waited for: a second one, or too
//! long a wait, cuts off what is under way, which the next pass looks at anew.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use super::exit::CliError;
use super::ui::Ui;

/// The signals that end a command.
pub(super) struct Interrupt {
    int: Signal,
    term: Signal,
}

/// Why work was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CutOff {
    /// It was asked for twice.
    #[error("cut off in the middle of a pass, as was asked for")]
    Again,
    /// It took too long to end.
    #[error("cut off in the middle of a pass: {limit_s} s were not enough to end it")]
    Late {
        /// The limit, seconds.
        limit_s: u64,
    },
}

impl From<CutOff> for CliError {
    fn from(error: CutOff) -> Self {
        Self::machine(error).hint(
            "what was under way is looked at anew by the next pass: trueup plan, or start the daemon",
        )
    }
}

impl Interrupt {
    /// Listens from now on.
    pub(super) fn new() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(CliError::machine);
        Ok(Self { int: listen(SignalKind::interrupt())?, term: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }

    /// Does `work`. The first signal sets `stop`; from then on it has until `limit` or the next one.
    pub(super) async fn bound<T>(
        &mut self,
        work: impl Future<Output = T>,
        stop: &watch::Sender<bool>,
        limit: Duration,
        ui: Ui,
    ) -> Result<T, CutOff> {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return Ok(done),
            () = self.next() => {}
        }
        stop.send_replace(true);
        let limit_s = limit.as_secs();
        ui.say(&format!(
            "ending what is under way, for at most {limit_s} s; once more to cut it off"
        ));
        tokio::select! {
            done = timeout(limit, &mut work) => done.map_err(|_| CutOff::Late { limit_s }),
            () = self.next() => Err(CutOff::Again),
        }
    }
}
