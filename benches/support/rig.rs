//! The real loop on a real log, a real mirror and a real libvirt client: what the program wires, for
//! a benchmark that looks at single passes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use trueup::journal::{Journal, LogPort, Options};
use trueup::port::{BoxFuture, Clock, NeverCrash, Source};
use trueup::provider::libvirt::{self, LibvirtProvider};
use trueup::reconcile::{Ledger, Loader, PassOptions, PassReport, Reconciler, Settings};
use trueup::source::{GitSource, Mirror, MirrorConfig, PollSchedule, TreeLimits};
use trueup::spec::Select;
use trueup::state::State;
use trueup_libvirt::Client;

/// A host of libvirt's `test` driver with nothing on it.
pub const NODE: &str = "<node><cpu><mhz>2000</mhz><model>x86_64</model><active>4</active>\
<nodes>1</nodes><sockets>1</sockets><cores>4</cores><threads>1</threads></cpu>\
<memory>8192000</memory></node>";

/// The machine's clocks.
pub struct HostClock(pub Instant);

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

/// The loop.
pub struct Rig {
    runtime: tokio::runtime::Runtime,
    reconciler: Reconciler,
    _stop: watch::Sender<bool>,
}

impl Rig {
    /// A loop that brings what `client` is connected to to what `url` says, with its log and mirror
    /// below `state`.
    pub fn new(url: &str, state: &Path, client: Client) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(HostClock(Instant::now()));
        let (journal, _) = Journal::open(state, &Options::default()).unwrap();
        let log = Arc::new(LogPort::new(journal, Arc::clone(&clock)));
        let provider = LibvirtProvider::new(client, libvirt::Settings::new(false));
        let (stop, stopped) = watch::channel(false);
        let reconciler = Reconciler {
            ledger: Arc::new(Ledger::new(log, State::default())),
            source: Arc::new(source(url, state)) as Arc<dyn Source>,
            providers: vec![Arc::new(provider)],
            clock,
            crash: Arc::new(NeverCrash),
            settings: Settings {
                observe_limit: Duration::from_secs(60),
                parallel: 4,
                progress: None,
            },
            stop: stopped,
            loader: tokio::sync::Mutex::new(Loader::new(Select::Host("here".to_owned()))),
        };
        Self { runtime: runtime(), reconciler, _stop: stop }
    }

    /// One pass.
    pub fn pass(&self) -> PassReport {
        self.runtime.block_on(self.reconciler.pass(PassOptions::default())).unwrap()
    }

    /// Runs something beside the loop.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}
