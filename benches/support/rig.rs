//! A mirror of a repository, put together as the program does it, for a benchmark that looks at the
//! way from a fetch to a plan.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use trueup::port::{BoxFuture, Clock};
use trueup::source::{GitSource, Mirror, MirrorConfig, PollSchedule, TreeLimits};

/// The machine's clocks.
struct HostClock(Instant);

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A mirror of `url` below `state`, behind the port; it asks only when hurried.
pub fn source(url: &str, state: &Path) -> GitSource {
    let mirror = Mirror::open_or_create(MirrorConfig::new(url, "main", state)).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(HostClock(Instant::now()));
    let schedule = PollSchedule::new(Duration::from_secs(3600), 1, clock.monotonic());
    GitSource::new(mirror, TreeLimits::default(), None, clock, schedule)
}

/// A runtime like the daemon's.
pub fn runtime() -> tokio::runtime::Runtime {
    let builder = &mut tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}
