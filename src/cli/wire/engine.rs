//! The loop with everything it works with, put together from the settings.
//!
//! It is built the same for the daemon and for one pass, so that both do the same.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::timeout;

use super::providers::{self, Wakes};
use super::{CLOSING, HostClock, LEFTOVERS, Memory, Written, crash, key};
use crate::cli::exit::CliError;
use crate::config::{Config, CredentialSettings};
use crate::journal::{Journal, layout};
use crate::plan::Own;
use crate::port::{Clock, Renderer, Source};
use crate::reconcile::{Ledger, LoadSetup, Loader, Reconciler, Settings, StepProgress, UnderWay};
use crate::source::{
    Credentials, GitSource, Mirror, MirrorConfig, PollSchedule, SignaturePolicy, SshOptions,
    TreeLimits,
};
use crate::spec::Select;

/// The loop and what belongs to it.
pub(in super::super) struct Engine {
    /// The loop's passes.
    pub(in super::super) reconciler: Arc<Reconciler>,
    /// The repository, to be hurried.
    pub(in super::super) source: Arc<GitSource>,
    /// What wakes the loop beside the clock and the repository.
    pub(in super::super) wakes: Option<Wakes>,
    /// The log; to be closed at the end.
    journal: Journal,
    memory: Memory,
}

impl Engine {
    /// Ends every step that is under way, and waits a while until what only such a step watches is
    /// taken away: what is left after that is left to the next start.
    pub(in super::super) async fn cut_off(&self) {
        if timeout(LEFTOVERS, self.reconciler.cut_off()).await.is_err() {
            tracing::error!("a step cannot be cut off; it is left to the kernel");
        }
        if timeout(CLOSING, self.reconciler.settled()).await.is_err() {
            tracing::warn!("what a backup has in a guest is taken away at the next start");
        }
    }
}

/// Puts the loop together. It takes the log's lock.
pub(in super::super) async fn engine(
    config: &Config,
    config_path: &Path,
    progress: Option<StepProgress>,
    stop: watch::Receiver<bool>,
) -> Result<Engine, CliError> {
    let dir = config.state_directory();
    let clock: Arc<dyn Clock> = Arc::new(HostClock::default());
    let Written { journal, port, urgent, state, memory } =
        super::open_log(&dir, &config.host(), Arc::clone(&clock)).await?;
    let built = source(config, Arc::clone(&clock));
    let source = match built {
        Ok(source) => Arc::new(source),
        Err(error) => {
            drop((port, urgent));
            journal.close();
            return Err(error);
        }
    };
    let own = own(config, &source);
    let setup = match key::digest_key(&dir) {
        Ok(key) => {
            let renderer: Arc<dyn Renderer> = Arc::new(providers::renderer(config));
            LoadSetup { renderer: Some(renderer), key: Some(key) }
        }
        Err(error) => {
            drop((port, urgent));
            journal.close();
            return Err(CliError::machine(error));
        }
    };
    let log = match super::log_mark(&dir) {
        Ok(log) => log,
        Err(error) => {
            drop((port, urgent));
            journal.close();
            return Err(error);
        }
    };
    let (providers, wakes) = providers::all(config, config_path, &log).await;
    let reconciler = Reconciler {
        ledger: Arc::new(Ledger::new(port, urgent, state)),
        source: Arc::clone(&source) as Arc<dyn Source>,
        providers,
        clock,
        crash: crash::asked_for(),
        settings: Settings {
            observe_limit: config.limits.observe_timeout.duration(),
            parallel: usize::from(config.limits.parallelism),
            progress,
            own,
        },
        stop,
        loader: tokio::sync::Mutex::new(Loader::with(select(config), setup)),
        under_way: UnderWay::default(),
    };
    let reconciler = Arc::new(reconciler);
    Ok(Engine { reconciler, source, wakes: Some(wakes), journal, memory })
}

impl Engine {
    /// Keeps what is known for a faster start and closes the log.
    pub(in super::super) fn close(self) {
        let Self { reconciler, source, wakes, journal, memory } = self;
        let kept = reconciler.ledger.read(Clone::clone);
        drop((reconciler, source, wakes));
        journal.close();
        memory.keep(&kept);
    }
}

/// What this daemon itself needs on the machine it looks after.
fn own(config: &Config, source: &GitSource) -> Own {
    let dir = config.state_directory();
    let ours = [layout::log_dir(&dir), dir.join("blobs"), dir.join("index")];
    let ours = ours.into_iter().chain([source.directory().to_owned()]);
    Own {
        resources: config.protect.iter().cloned().collect(),
        // Under their real path too: a pool may be known by either.
        folders: ours
            .flat_map(|path| [path.canonicalize().unwrap_or_else(|_| path.clone()), path])
            .map(|path| path.to_string_lossy().into_owned())
            .collect(),
        addresses: source.host_address().into_iter().collect(),
    }
}

fn select(config: &Config) -> Select {
    match &config.environment {
        Some(name) => Select::Environment(name.clone()),
        None => Select::Host(config.host()),
    }
}

/// The repository, without asking the remote anything.
pub(in super::super) fn source(
    config: &Config,
    clock: Arc<dyn Clock>,
) -> Result<GitSource, CliError> {
    let repository = &config.repository;
    let mut mirror =
        MirrorConfig::new(&repository.url, &repository.branch, &config.state_directory());
    mirror.deadline = repository.poll.timeout.duration();
    mirror.credentials = credentials(&repository.credentials);
    mirror.fetch_max = repository.fetch_max.bytes();
    mirror.ca_file.clone_from(&repository.ca_file);
    mirror.ssh = SshOptions {
        identity: repository.ssh.identity_file.clone(),
        known_hosts: repository.ssh.known_hosts.clone(),
    };
    let mirror = Mirror::open_or_create(mirror).map_err(|error| {
        let kind = if error.is_transient() { CliError::machine } else { CliError::input };
        kind(error)
    })?;
    // Hosts that start together must not ask together: the seed is the host's name and the time.
    let seed = crate::model::digest_of(&(config.host(), clock.now().as_nanosecond() as u64));
    let seed = seed.bytes().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    let interval = repository.poll.interval.duration();
    let schedule = PollSchedule::new(interval, seed, clock.monotonic());
    let signatures = &repository.signatures;
    let policy = signatures.required.then(|| SignaturePolicy {
        ssh_allowed_signers: signatures.ssh.as_ref().map(|ssh| ssh.allowed_signers.clone()),
        openpgp_keyring: signatures.openpgp.as_ref().map(|openpgp| openpgp.keyring.clone()),
        match_committer: signatures.match_committer,
    });
    Ok(GitSource::new(mirror, TreeLimits::default(), policy, clock, schedule))
}

fn credentials(settings: &CredentialSettings) -> Credentials {
    let username = settings.username().to_owned();
    if let Some(path) = settings.token_file.clone() {
        Credentials::File { username, path }
    } else if let Some(name) = settings.credential.clone() {
        Credentials::Systemd { username, name }
    } else if settings.helper {
        Credentials::Helper
    } else {
        Credentials::None
    }
}
