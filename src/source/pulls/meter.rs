//! Counts what a fetch receives, and stops it at a limit.
//!
//! gix tells progress by named counters; the one of the pack's bytes is listened to. It looks at
//! nothing else, and shows nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gix::progress::{Count, Id, MessageLevel, NestedProgress, Progress, Step, StepShared, Unit};

/// `gix_pack::bundle::write::ProgressId::ReadPackBytes`.
const PACK_BYTES: Id = *b"BWRB";

/// Stops a fetch that receives too much or takes too long.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    shared: Arc<Shared>,
    counts: bool,
    id: Id,
    step: StepShared,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    bytes: AtomicU64,
    bytes_max: u64,
    until: Instant,
}

impl Meter {
    pub(super) fn new(bytes_max: u64, limit: Duration) -> Self {
        let shared = Shared {
            stop: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            bytes_max,
            until: Instant::now() + limit,
        };
        Self { shared: Arc::new(shared), counts: false, id: *b"TRUP", step: StepShared::default() }
    }

    /// The flag to hand to gix.
    pub(super) fn stop(&self) -> &AtomicBool {
        &self.shared.stop
    }

    /// Whether more came than may.
    pub(super) fn exceeded(&self) -> bool {
        self.shared.bytes.load(Ordering::Acquire) > self.shared.bytes_max
    }

    fn child(&self, id: Id) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            counts: id == PACK_BYTES,
            id,
            step: Arc::new(AtomicUsize::new(0)),
        }
    }
}

impl Count for Meter {
    fn set(&self, step: Step) {
        self.step.store(step, Ordering::Relaxed);
    }

    fn step(&self) -> Step {
        self.step.load(Ordering::Relaxed)
    }

    fn inc_by(&self, step: Step) {
        self.step.fetch_add(step, Ordering::Relaxed);
        if self.counts {
            self.shared.bytes.fetch_add(step as u64, Ordering::AcqRel);
        }
        if self.exceeded() || Instant::now() > self.shared.until {
            self.shared.stop.store(true, Ordering::Release);
        }
    }

    fn counter(&self) -> StepShared {
        Arc::clone(&self.step)
    }
}

impl Progress for Meter {
    fn init(&mut self, _max: Option<Step>, _unit: Option<Unit>) {}

    fn set_name(&mut self, _name: String) {}

    fn name(&self) -> Option<String> {
        None
    }

    fn id(&self) -> Id {
        self.id
    }

    fn message(&self, _level: MessageLevel, _message: String) {}
}

impl NestedProgress for Meter {
    type SubProgress = Self;

    fn add_child(&mut self, _name: impl Into<String>) -> Self {
        self.child(gix::progress::UNKNOWN)
    }

    fn add_child_with_id(&mut self, _name: impl Into<String>, id: Id) -> Self {
        self.child(id)
    }
}
