//! [`GpuProvider`]: GPUs behind `port::Provider`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use trueup_nvml::Gpu;

use trueup_gpu_sysfs::Patience;

use super::act;
use super::assign;
use super::health::{self, Circumstances, Slowdowns};
use super::hidden::Users;
use super::host::Host;
use super::kernel::{Kernel, SharedHands};
use super::lock;
use super::look;
use super::session::Worker;
use super::tools::Tools;
use super::watch::Events;
use crate::model::{Fault, GpuCondition, Kind, Observed, Resource};
use crate::plan::Step;
use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope};

/// What the provider works with.
#[derive(Debug, Clone)]
pub struct GpuSetup {
    /// NVML; `None`: `libnvidia-ml.so.1`, where the loader finds it.
    pub library: Option<PathBuf>,
    /// Below what the files of the machine are.
    pub root: PathBuf,
    /// Programs that are called.
    pub tools: Tools,
    /// What writes to the kernel's files.
    pub hands: SharedHands,
    /// How long such a write and its effect may take.
    pub patience: Patience,
}

impl Default for GpuSetup {
    fn default() -> Self {
        Self {
            library: None,
            root: "/".into(),
            tools: Tools::default(),
            hands: SharedHands::default(),
            patience: Patience::default(),
        }
    }
}

/// Observes GPUs and changes how they are cut. Nothing is loaded before a layout asks for it.
#[derive(Clone)]
pub struct GpuProvider {
    pub(super) inner: Arc<Inner>,
}

/// What all clones share.
pub(super) struct Inner {
    pub(super) worker: Worker,
    pub(super) host: Host,
    pub(super) kernel: Kernel,
    pub(super) tools: Tools,
    pub(super) events: Arc<Events>,
    /// Where the locks of GPUs are.
    pub(super) locks: PathBuf,
    slowdowns: Mutex<Slowdowns>,
    /// How often the driver had been lost at the look before.
    lost: AtomicU64,
}

impl Inner {
    /// How every GPU is, with what was reported since.
    fn health(
        &self,
        seen: &trueup_nvml::Observation,
        observed: &Observed,
        reloaded: bool,
    ) -> BTreeMap<String, GpuCondition> {
        let identities = seen.gpus.iter().filter_map(|gpu| match gpu {
            Gpu::Present(record) => Some(&record.identity),
            Gpu::Failed(failed) => failed.identity.as_ref(),
        });
        let listed: BTreeSet<&str> = identities.map(|identity| identity.uuid.as_str()).collect();
        // One that cannot tell which it is may be any that is not listed.
        let all_listed = nameless(seen).next().is_none();
        let around = Circumstances {
            reports: &self.events.reports(all_listed.then_some(&listed)),
            reloaded,
            now: Instant::now(),
            host: &self.host,
        };
        let layouts = observed.resources.iter().filter_map(|(id, seen)| match &seen.config {
            Resource::GpuLayout(layout) => Some((id, &**layout)),
            _ => None,
        });
        let mut slowdowns = self.slowdowns.lock().unwrap_or_else(PoisonError::into_inner);
        health::see(seen, &around, &mut slowdowns, layouts)
    }
}

/// What the driver says of GPUs that cannot tell which they are.
fn nameless(seen: &trueup_nvml::Observation) -> impl Iterator<Item = String> {
    seen.gpus.iter().filter_map(|gpu| match gpu {
        Gpu::Failed(failed) if failed.identity.is_none() => Some(failed.error.clone()),
        Gpu::Present(_) | Gpu::Failed(_) => None,
    })
}

impl GpuProvider {
    /// A provider that has not loaded anything yet.
    #[must_use]
    pub fn new(setup: GpuSetup) -> Self {
        let inner = Inner {
            locks: lock::folder(&setup.root, setup.library.as_deref()),
            worker: Worker::new(setup.library),
            kernel: Kernel {
                root: setup.root.clone(),
                hands: setup.hands,
                patience: setup.patience,
            },
            host: Host::at(setup.root),
            tools: setup.tools,
            events: Arc::default(),
            slowdowns: Mutex::default(),
            lost: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Calls `wake` for everything the driver reports by itself. Never ends.
    pub async fn each_event(self, wake: impl Fn()) {
        let events = Arc::clone(&self.inner.events);
        drop(self);
        events.each(wake).await;
    }

    async fn look(&self, scope: &Scope) -> Result<Observed, Fault> {
        let wanted = look::wanted(scope);
        if wanted.is_empty() {
            return Ok(Observed::default());
        }
        let events = Arc::clone(&self.inner.events);
        let seen = self.inner.worker.ask(move |session| {
            let seen = session.with(|client| {
                let seen = client.observe()?;
                let present = seen.gpus.iter().filter_map(|gpu| match gpu {
                    Gpu::Present(record) => Some(record.identity.uuid.as_str()),
                    Gpu::Failed(_) => None,
                });
                if let Err(error) = events.watch(client, present) {
                    tracing::debug!(%error, "events of the GPUs are not watched");
                }
                Ok(seen)
            });
            (seen, session.lost())
        });
        let (seen, lost) = seen.await?;
        let seen = seen.map_err(|error| error.to_string());
        let for_guests = wanted.iter().any(look::Wanted::is_for_guests);
        let seen = match seen {
            // A host whose GPUs are all with guests need not have a driver that answers.
            Err(why) if !for_guests => return Err(Fault::unobservable(why)),
            seen => seen,
        };
        let reloaded = seen.is_ok() && self.inner.lost.swap(lost, Ordering::AcqRel) != lost;
        let (scope, inner) = (scope.clone(), Arc::clone(&self.inner));
        let looked = tokio::task::spawn_blocking(move || {
            let files = for_guests.then(|| inner.kernel.look());
            let mut wanted = wanted;
            let users = Users { host: &inner.host, hidden: &inner.host.hidden() };
            assign::assign(&mut wanted, &scope, seen.as_ref(), users);
            let mut observed = look::see(&wanted, &scope, seen.as_ref(), files.as_ref(), users);
            observed.nameless_gpus = seen.iter().flat_map(nameless).collect();
            observed.gpus = seen.ok().map(|seen| inner.health(&seen, &observed, reloaded));
            observed
        });
        let looked = looked.await;
        looked.map_err(|error| Fault::unobservable(format!("the GPUs were not read: {error}")))
    }
}

impl Provider for GpuProvider {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn kinds(&self) -> &[Kind] {
        &[Kind::GpuLayout]
    }

    fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
        Box::pin(self.look(scope))
    }

    fn perform<'a>(
        &'a self,
        step: &'a Step,
        _scope: &'a Scope,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        Box::pin(act::perform(&self.inner, step))
    }
}
