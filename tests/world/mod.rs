//! A deterministic world: fake host, clock, repository and log behind the real ports.
//!
//! The loop under test is the real one; only what lies behind `port` is made here. One script gives
//! one transcript, always the same.

mod clock;
mod daemon;
mod forge;
mod host;
mod log;
mod pulls;
mod remote;
mod scenarios;
mod script;
mod stale;
mod sweep;
mod withdrawn;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use trueup::model::Name;
use trueup::plan::Own;
use trueup::port::{Clock, Crash, CrashPoint, Provider};
use trueup::reconcile::{
    Ledger, Loader, PassError, PassOptions, PassReport, Reconciler, Settings, UnderWay,
};
use trueup::spec::Select;
use trueup::state::State;

pub(crate) use clock::FakeClock;
pub(crate) use host::FakeHost;
pub(crate) use log::{MemoryLog, Reserve};
pub(crate) use remote::FakeRemote;

/// The environment every scenario is about.
pub(crate) const ENVIRONMENT: &str = "lab";

/// Ends a pass at the n-th point at which it could crash.
#[derive(Default)]
pub(crate) struct CrashAt {
    seen: AtomicUsize,
    at: Mutex<Option<usize>>,
}

impl CrashAt {
    /// Crashes at point `n` from here, counted from 0.
    pub(crate) fn arm(&self, n: usize) {
        self.seen.store(0, Ordering::SeqCst);
        *self.at.lock().unwrap() = Some(n);
    }

    /// Points passed since it was armed or made.
    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

impl Crash for CrashAt {
    fn here(&self, _point: CrashPoint) -> bool {
        let n = self.seen.fetch_add(1, Ordering::SeqCst);
        let mut at = self.at.lock().unwrap();
        let crash = *at == Some(n);
        if crash {
            *at = None;
        }
        crash
    }
}

/// Everything that outlives the program: the machine, the remote, the log and the time.
pub(crate) struct World {
    pub(crate) host: Arc<FakeHost>,
    pub(crate) remote: Arc<FakeRemote>,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) crash: Arc<CrashAt>,
    pub(crate) program: Arc<Reconciler>,
    // The fake host, and before it what answers for some kinds in its place.
    providers: Vec<Arc<dyn Provider>>,
    // Steps side by side.
    parallel: usize,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_parallel(1).await
    }

    /// A world in which this many steps run side by side.
    pub(crate) async fn with_parallel(parallel: usize) -> Self {
        let clock = Arc::new(FakeClock::new());
        let log = Arc::new(MemoryLog::new(Arc::clone(&clock)));
        let host = Arc::new(FakeHost::new(Name::new(ENVIRONMENT).unwrap()));
        let remote = Arc::new(FakeRemote::default());
        let crash = Arc::new(CrashAt::default());
        log.open().await;
        let providers: Vec<Arc<dyn Provider>> = vec![host.clone()];
        let program = program(&providers, &remote, &log, &clock, &crash, parallel, never());
        program.recover().await.unwrap();
        Self { host, remote, log, clock, crash, program, providers, parallel }
    }

    /// Starts the program anew, with a provider that answers for its kinds in the host's place.
    pub(crate) async fn hand_over_to(&mut self, provider: Arc<dyn Provider>) {
        self.providers = vec![provider, self.host.clone()];
        self.restart().await;
    }

    /// Starts the program anew, so that it can be asked to stop.
    pub(crate) fn stoppable(&mut self) -> watch::Sender<bool> {
        let (sender, stop) = watch::channel(false);
        let Self { providers, remote, log, clock, crash, .. } = self;
        self.program = program(providers, remote, log, clock, crash, self.parallel, stop);
        sender
    }

    /// How passes run from now on.
    pub(crate) fn settings(&mut self) -> &mut Settings {
        let program = Arc::get_mut(&mut self.program).expect("no daemon runs");
        &mut program.settings
    }

    /// As many steps side by side from now on.
    pub(crate) fn set_parallel(&mut self, parallel: usize) {
        self.parallel = parallel;
        self.settings().parallel = parallel;
    }

    /// Starts the program anew, knowing nothing but its log.
    pub(crate) async fn restart(&mut self) {
        // A program that ended does nothing more.
        self.program.cut_off().await;
        self.log.open().await;
        let own = std::mem::take(&mut self.settings().own);
        self.program = program(
            &self.providers,
            &self.remote,
            &self.log,
            &self.clock,
            &self.crash,
            self.parallel,
            never(),
        );
        self.settings().own = own;
        self.program.recover().await.unwrap();
    }

    pub(crate) async fn pass(&self) -> Result<PassReport, PassError> {
        self.program.pass(PassOptions::default()).await
    }

    /// Passes until nothing is left to do, as the daemon would, waiting for retries.
    ///
    /// # Panics
    /// When it does not settle within a day of the world's time: liveness (I11).
    pub(crate) async fn settle(&mut self) -> PassReport {
        for _ in 0..64 {
            match self.pass().await {
                Ok(report) if !report.under_way.is_empty() => self.program.news().await,
                Ok(report) => match report.next_retry {
                    Some(at) if report.held.is_empty() => {
                        let wait = at.duration_since(self.clock.now());
                        let wait = Duration::try_from(wait).unwrap_or(Duration::ZERO);
                        self.clock.sleep(wait + Duration::from_secs(1)).await;
                    }
                    _ => return report,
                },
                Err(PassError::Crashed) => self.restart().await,
                Err(error) => panic!("a pass ended with: {error}"),
            }
        }
        panic!("it does not settle; the log ends with\n{}", self.log.tail(30));
    }

    /// What the program knows.
    pub(crate) fn state(&self) -> State {
        self.program.ledger.read(State::clone)
    }

    /// Requires what holds at every moment: the log is whole and its replay is what is known.
    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.log.replay(), self.state(), "replay differs from what is known (I4)");
    }
}

/// Nobody asks the program to stop.
fn never() -> watch::Receiver<bool> {
    watch::channel(false).1
}

fn program(
    providers: &[Arc<dyn Provider>],
    remote: &Arc<FakeRemote>,
    log: &Arc<MemoryLog>,
    clock: &Arc<FakeClock>,
    crash: &Arc<CrashAt>,
    parallel: usize,
    stop: watch::Receiver<bool>,
) -> Arc<Reconciler> {
    Arc::new(Reconciler {
        ledger: Arc::new(Ledger::new(log.clone(), Arc::new(Reserve(log.clone())), log.replay())),
        source: remote.clone(),
        providers: providers.to_vec(),
        clock: clock.clone(),
        crash: crash.clone(),
        settings: Settings {
            observe_limit: Duration::from_secs(30),
            parallel,
            progress: None,
            own: Own::default(),
        },
        stop,
        loader: tokio::sync::Mutex::new(Loader::new(Select::Environment(
            Name::new(ENVIRONMENT).unwrap(),
        ))),
        under_way: UnderWay::default(),
    })
}
