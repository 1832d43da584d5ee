//! `trueup run`: the daemon.
//!
//! It never forks and never changes its user: systemd does both. Whatever happens, it ends with the
//! log closed, so that the next start is a fast one.

use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::context::Context;
use super::control;
use super::desk::DaemonDesk;
use super::exit::{CliError, CliResult, Done, ErrorKind};
use super::wire::{self, CLOSING, Engine, LEFTOVERS, Wakes};
use crate::config::{Config, ForgeSettings, Limits};
use crate::forge::{
    self,
    follow::{Follower, Memory, follow},
    webhook,
};
use crate::journal::Blobs;
use crate::port::{Clock, Source};
use crate::reconcile::{Daemon, Handle, Heartbeat, Pace, PassError};
use crate::source::{GitSource, MirrorConfig, PullSettings, Watch};

/// How often free memory is given back to the kernel: a convergence that needed much is over within
/// minutes, and looking for nothing costs a millisecond.
const GIVE_BACK: Duration = Duration::from_secs(30);
/// How often a watch on a local repository that broke is set up again.
const REWATCH: Duration = Duration::from_secs(30);

/// Run the daemon: follow the repository and keep the machine true to it
///
/// Meant for systemd (`Type=notify`, with a watchdog); it also runs on a terminal. SIGTERM and
/// Ctrl-C end it, within the config's `limits.stopTimeout` even in the middle of a pass. SIGHUP
/// reads the config again; one with mistakes is refused and the old one stays.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup run\n  \
    trueup run --config ./config.yaml -v\n  \
    trueup status                     # meanwhile, elsewhere")]
pub(super) struct Run {}

/// What comes after one life of the loop.
enum Next {
    Stop,
    Reload(Box<Config>),
}

impl Run {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let config = context.settings()?.config;
        trueup_malloc::one_arena();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(CliError::machine)?;
        let ended = runtime.block_on(lives(context, config));
        runtime.shutdown_timeout(LEFTOVERS);
        ended
    }
}

async fn lives(context: &Context, mut config: Config) -> CliResult {
    let mut signals = Signals::new()?;
    let (pulse, heartbeat) = watch::channel(None);
    let _watchdog = watchdog(heartbeat);
    // The config before a reload, until the new one has proved itself.
    let mut before: Option<Config> = None;
    loop {
        let born = match birth(&config, &context.config_path()).await {
            Ok(born) => born,
            Err(error) => {
                let Some(old) = before.take() else { return Err(error) };
                let why = error.chain().join(": ");
                tracing::error!(why, "nothing runs under the new config; the old one stays");
                config = old;
                continue;
            }
        };
        match live(context, &config, born, &mut signals, &pulse).await? {
            Next::Stop => return Ok(Done::Fine),
            Next::Reload(new) => before = Some(std::mem::replace(&mut config, *new)),
        }
    }
}

/// Everything of a life that can fail before it begins.
struct Born {
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
    listener: UnixListener,
    hooks: Option<webhook::Bound>,
    engine: Engine,
}

async fn birth(config: &Config, config_path: &Path) -> Result<Born, CliError> {
    let (stop, stopped) = watch::channel(false);
    let listener = control::bind(&config.socket())?;
    let hooks = match config.forge.as_ref().and_then(|forge| forge.webhook.as_ref()) {
        Some(settings) => Some(webhook::bind(settings).await.map_err(CliError::machine)?),
        None => None,
    };
    let engine = wire::engine(config, config_path, None, stopped.clone()).await?;
    Ok(Born { stop, stopped, listener, hooks, engine })
}

/// One life of the loop, under one config.
async fn live(
    context: &Context,
    config: &Config,
    born: Born,
    signals: &mut Signals,
    pulse: &watch::Sender<Option<Heartbeat>>,
) -> Result<Next, CliError> {
    let Born { stop, stopped, listener, hooks, mut engine } = born;
    let look = config.limits.resync.duration();
    let pace = Pace { poll: config.repository.poll.interval.duration().min(look), look };
    let (daemon, handle) = Daemon::new(Arc::clone(&engine.reconciler), pace);
    let mut helpers = JoinSet::new();
    let desk =
        DaemonDesk::new(handle.clone(), Arc::clone(&engine.source), config.state_directory())
            .with_gpus(
                engine.wakes.as_ref().map(Wakes::gpus),
                config.limits.observe_timeout.duration(),
            )
            .with_kubernetes(engine.wakes.as_ref().map(Wakes::kubernetes));
    helpers.spawn(control::serve(listener, Arc::new(desk), stopped.clone()));
    helpers.spawn(repository_wakes(config.clone(), Arc::clone(&engine.source), handle.clone()));
    helpers.spawn(give_memory_back());
    if let Some(forge) = &config.forge {
        let hint = Arc::new(Notify::new());
        match following(config, forge, &engine, &handle, (Arc::clone(&hint), stopped.clone())) {
            Ok(following) => {
                drop(helpers.spawn(following));
                if let Some(hooks) = hooks {
                    let clock = Arc::clone(&engine.reconciler.clock);
                    let wake = wake_all(Arc::clone(&engine.source), handle.clone(), hint);
                    drop(helpers.spawn(hooked(hooks, forge.clone(), wake, clock, stopped.clone())));
                }
            }
            Err(error) => {
                helpers.shutdown().await;
                drop(daemon);
                finish(engine, handle, config);
                return Err(error);
            }
        }
    }
    if let Some(wakes) = engine.wakes.take() {
        let handle = handle.clone();
        helpers.spawn(wakes.each(move || handle.wake()));
    }
    let mut running = tokio::spawn(daemon.run());
    pulse.send_replace(Some(handle.heartbeat()));
    tell(&[NotifyState::Ready, NotifyState::Status("following the repository")]);
    tracing::info!(url = config.repository.url, host = config.host(), "started");
    let next = tokio::select! {
        ended = &mut running => Err(ended),
        next = signals.next(context) => Ok(next),
    };
    // What follows has limits of its own.
    pulse.send_replace(None);
    stop.send_replace(true);
    let outcome = match next {
        Err(ended) => Err(broken(ended)),
        Ok(next) => {
            match &next {
                // However long the config says: systemd must not kill what is ending in order.
                Next::Stop => tell(&[NotifyState::Stopping, extended(&config.limits)]),
                Next::Reload(_) => tell(&[NotifyState::Reloading]),
            }
            wind_down(&mut running, config.limits.stop_timeout.duration()).await;
            Ok(next)
        }
    };
    // Only then nothing is left that could touch the machine beside a next life.
    engine.cut_off().await;
    helpers.shutdown().await;
    finish(engine, handle, config);
    outcome
}

/// Pull requests, followed beside the loop.
fn following(
    config: &Config,
    settings: &ForgeSettings,
    engine: &Engine,
    handle: &Handle,
    (hint, stop): (Arc<Notify>, watch::Receiver<bool>),
) -> Result<impl Future<Output = ()> + Send + 'static, CliError> {
    let handle = handle.clone();
    let wake = Arc::new(move || handle.wake());
    let follower = Follower {
        forge: forge::connect(settings).map_err(CliError::input)?,
        pulls: Arc::new(engine.source.pulls(PullSettings::default()).map_err(CliError::input)?),
        source: Arc::clone(&engine.source) as Arc<dyn Source>,
        blobs: Arc::new(Blobs::open(&config.state_directory())),
        clock: Arc::clone(&engine.reconciler.clock),
        reconciler: Arc::clone(&engine.reconciler),
        host: config.host(),
        branch: config.repository.branch.clone(),
        forks: settings.forks.clone(),
        approvals: settings.approvals.clone(),
        wake,
        memory: Memory::default(),
    };
    let poll = settings.poll.duration();
    Ok(async move {
        if let Err(fault) = follow(follower, poll, hint, stop).await {
            tracing::error!(%fault, "pull requests are no longer followed");
        }
    })
}

/// What systemd is told of how long a stop takes (`EXTEND_TIMEOUT_USEC`, `sd_notify(3)`).
fn extended(limits: &Limits) -> NotifyState<'static> {
    // The loop, its steps and the threads that are left have `LEFTOVERS` each, and guests `CLOSING`;
    // then the log is closed.
    let most = limits.stop_timeout.duration() + CLOSING + 4 * LEFTOVERS;
    NotifyState::ExtendTimeoutUsec(u32::try_from(most.as_micros()).unwrap_or(u32::MAX))
}

/// Takes webhooks, as the settings say.
async fn hooked(
    bound: webhook::Bound,
    forge: ForgeSettings,
    wake: webhook::Wake,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
) {
    if let Some(settings) = &forge.webhook {
        webhook::serve(bound, settings, forge.repository.clone(), wake, clock, stop).await;
    }
}

/// Makes everything look that a webhook may be about.
fn wake_all(source: Arc<GitSource>, handle: Handle, hint: Arc<Notify>) -> webhook::Wake {
    Arc::new(move || {
        source.hurry();
        handle.wake();
        hint.notify_one();
    })
}

/// Waits for the loop to end what it is doing; what takes too long is cut off and looked at anew at
/// the next start.
async fn wind_down(running: &mut tokio::task::JoinHandle<Result<(), PassError>>, limit: Duration) {
    match timeout(limit, &mut *running).await {
        Ok(Ok(Ok(()))) => tracing::info!("stopped"),
        Ok(Ok(Err(error))) => tracing::error!(%error, "the last pass failed"),
        Ok(Err(error)) => tracing::error!(%error, "the loop panicked"),
        Err(_) => {
            tracing::warn!(limit_s = limit.as_secs(), "a pass was cut off");
            running.abort();
            // Only then nothing of it is left that could touch the machine beside a next life.
            match timeout(LEFTOVERS, running).await {
                Ok(Err(error)) if error.is_cancelled() => {}
                Ok(ended) => tracing::debug!(?ended, "the pass ended while it was cut off"),
                Err(_) => tracing::error!("the pass cannot be cut off; it is left to the kernel"),
            }
        }
    }
}

fn broken(ended: Result<Result<(), PassError>, tokio::task::JoinError>) -> CliError {
    match ended {
        Ok(Err(error)) => error.into(),
        Ok(Ok(())) => CliError::new(ErrorKind::Bug, "the loop ended without being asked to"),
        Err(error) => CliError::new(ErrorKind::Bug, error),
    }
}

fn finish(engine: Engine, handle: Handle, config: &Config) {
    drop(handle);
    engine.close();
    if let Err(error) = std::fs::remove_file(config.socket()) {
        tracing::warn!(%error, "the socket could not be removed");
    }
}

/// Wakes the loop when somebody pushes to a repository on this machine. Never ends.
async fn repository_wakes(config: Config, source: Arc<GitSource>, handle: Handle) {
    let repository = &config.repository;
    let mirror = MirrorConfig::new(&repository.url, &repository.branch, &config.state_directory());
    let Some(path) = mirror.local_path() else { return pending().await };
    let pushed = Arc::new(Notify::new());
    let mut retries = interval(REWATCH);
    let mut watch: Option<Watch> = None;
    loop {
        tokio::select! {
            () = pushed.notified() => {
                source.hurry();
                handle.wake();
            }
            _ = retries.tick() => {
                if watch.as_ref().is_some_and(Watch::is_alive) {
                    continue;
                }
                watch = match Watch::start(&path, Arc::clone(&pushed)) {
                    Ok(watch) => Some(watch),
                    Err(error) => {
                        tracing::debug!(%error, "pushes are found by polling only");
                        None
                    }
                };
            }
        }
    }
}

/// Keeps what a busy pass needed from staying resident. Never ends.
async fn give_memory_back() {
    let mut ticks = interval(GIVE_BACK);
    loop {
        ticks.tick().await;
        let gave = tokio::task::spawn_blocking(trueup_malloc::give_back).await;
        let unmapped = tokio::task::spawn_blocking(trueup_malloc::unmap_code).await;
        tracing::trace!(?gave, ?unmapped, "memory that is not needed was looked for");
    }
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(CliError::machine);
        let (term, int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        Ok(Self { term, int, hup: listen(SignalKind::hangup())? })
    }

    /// Waits for a signal that ends this life.
    async fn next(&mut self, context: &Context) -> Next {
        loop {
            tokio::select! {
                _ = self.term.recv() => return Next::Stop,
                _ = self.int.recv() => return Next::Stop,
                _ = self.hup.recv() => {}
            }
            match context.settings() {
                Ok(found) => {
                    tracing::info!(config = %found.path.display(), "reloading");
                    return Next::Reload(Box::new(found.config));
                }
                Err(error) => {
                    let why = error.chain().join(": ");
                    tracing::error!(why, "the config was not reloaded; the old one stays");
                }
            }
        }
    }
}

/// Tells systemd; without one it does nothing.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// Tells systemd that the program is alive, twice in each of its intervals, as long as the loop goes
/// on: a runtime that lives while the loop hangs is no life. Between two lives there is no loop.
fn watchdog(heartbeat: watch::Receiver<Option<Heartbeat>>) -> Option<JoinSet<()>> {
    let every = sd_notify::watchdog_enabled()? / 2;
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut ticks = interval(every.max(Duration::from_millis(100)));
        loop {
            ticks.tick().await;
            let stuck = heartbeat.borrow().clone().filter(|loop_| !loop_.is_alive());
            match stuck {
                None => tell(&[NotifyState::Watchdog]),
                Some(stuck) => {
                    let silence_s = stuck.silence().as_secs();
                    tracing::error!(silence_s, "the loop hangs; leaving it to systemd's watchdog");
                }
            }
        }
    });
    Some(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Held(#[expect(dead_code, reason = "only its drop is looked at")] Arc<()>);

    #[tokio::test]
    async fn what_is_cut_off_is_gone_before_the_next_life() {
        let kept = Arc::new(());
        let held = Held(Arc::clone(&kept));
        let (began, begun) = tokio::sync::oneshot::channel();
        let mut running = tokio::spawn(async move {
            let _held = held;
            assert_eq!(began.send(()), Ok(()));
            pending().await
        });
        begun.await.unwrap();
        wind_down(&mut running, Duration::ZERO).await;
        assert_eq!(Arc::strong_count(&kept), 1, "a pass that was cut off still runs");
    }
}
