//! From the library's many small steps to a line now and then.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustic_core::{ProgressType, RusticProgress};

use crate::protocol::Progress;

/// Between two lines, where a request does not say; quick enough for a terminal.
const PAUSE_MS: u64 = 200;

/// Says how far a job is, but not too often.
pub(crate) struct Reporter {
    started: Instant,
    pause_ms: u64,
    /// When the last line was said, milliseconds since the start.
    said: AtomicU64,
    say: Box<dyn Fn(Progress) + Send + Sync>,
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter").field("pause_ms", &self.pause_ms).finish_non_exhaustive()
    }
}

impl Reporter {
    pub(crate) fn new(
        pause_ms: Option<u64>,
        say: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let pause_ms = pause_ms.unwrap_or(PAUSE_MS);
        let said = AtomicU64::new(0);
        Arc::new(Reporter { started: Instant::now(), pause_ms, said, say: Box::new(say) })
    }

    /// Says it, unless something was said a moment ago.
    fn report(&self, progress: impl FnOnce(u64) -> Progress) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.said.load(Ordering::Relaxed);
        if now < last.saturating_add(self.pause_ms) {
            return;
        }
        // Of several threads one says it.
        if self.said.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            (self.say)(progress(now));
        }
    }

    pub(crate) fn bar(self: &Arc<Self>, phase: &str, bytes: bool) -> Bar {
        Bar {
            reporter: Arc::clone(self),
            phase: Mutex::new(phase.to_owned()),
            bytes,
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
        }
    }
}

/// One phase of a job.
#[derive(Debug)]
pub(crate) struct Bar {
    reporter: Arc<Reporter>,
    phase: Mutex<String>,
    bytes: bool,
    done: AtomicU64,
    /// Zero as long as nobody knows.
    total: AtomicU64,
}

impl RusticProgress for Bar {
    fn is_hidden(&self) -> bool {
        false
    }

    fn set_length(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn set_title(&self, title: &str) {
        title.clone_into(&mut self.phase.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn inc(&self, more: u64) {
        let done = self.done.fetch_add(more, Ordering::Relaxed) + more;
        self.reporter.report(|elapsed_ms| {
            let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
            let total = self.total.load(Ordering::Relaxed);
            Progress {
                phase: phase.trim_end_matches('.').to_owned(),
                done,
                total: (total > 0).then_some(total),
                bytes: self.bytes,
                elapsed_ms,
            }
        });
    }

    fn finish(&self) {}
}

/// Makes bars for the library.
#[derive(Debug)]
pub(crate) struct Bars(pub(crate) Arc<Reporter>);

impl rustic_core::ProgressBars for Bars {
    fn progress(&self, kind: ProgressType, phase: &str) -> rustic_core::Progress {
        if phase.is_empty() {
            return rustic_core::Progress::hidden();
        }
        let bytes = matches!(kind, ProgressType::Bytes);
        rustic_core::Progress::new(self.0.bar(phase, bytes))
    }
}
