//! Ends this very process as `kill -9` would, where a test asks for it: `TRUEUP_CRASH_AT=5` at the
//! fifth place between two effects.
//!
//! Not in a release build: there nothing reads the variable and nothing ever ends here.

use std::sync::Arc;

use crate::port::{Crash, NeverCrash};

/// The crash that the environment asks for.
#[cfg(debug_assertions)]
pub(super) fn asked_for() -> Arc<dyn Crash> {
    let at = std::env::var("TRUEUP_CRASH_AT").ok().and_then(|number| number.parse().ok());
    match at {
        Some(left) => Arc::new(armed::Kill::after(left)),
        None => Arc::new(NeverCrash),
    }
}

/// No crash.
#[cfg(not(debug_assertions))]
pub(super) fn asked_for() -> Arc<dyn Crash> {
    Arc::new(NeverCrash)
}

#[cfg(debug_assertions)]
mod armed {
    //! The crash itself.

    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use crate::port::{Crash, CrashPoint};

    /// Kills this process at one point.
    pub(super) struct Kill {
        left: AtomicU64,
    }

    impl Kill {
        /// At the `left`-th point from now, counted from 1.
        pub(super) fn after(left: u64) -> Self {
            Self { left: AtomicU64::new(left) }
        }
    }

    impl Crash for Kill {
        fn here(&self, point: CrashPoint) -> bool {
            if self.left.fetch_sub(1, Ordering::Relaxed) != 1 {
                return false;
            }
            tracing::warn!(?point, "killing this process, as was asked for");
            // Not to be caught, nothing is flushed, no destructor runs.
            let killed = kill_process(getpid(), Signal::KILL);
            unreachable!("this process outlived its own kill: {killed:?}")
        }
    }
}
