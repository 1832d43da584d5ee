//! The provider: what it is made from, and the port it answers to.

use std::path::PathBuf;
use std::sync::Arc;

use trueup_libvirt::{Client, EventReceiver};

use super::{act, observe};
use crate::model::resource::Accelerator;
use crate::model::{Fault, Kind, Observed};
use crate::plan::Step;
use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope};

/// What the provider has to know beside what it is asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether a probe has shown that guests really execute under KVM here.
    pub kvm: bool,
    /// Where the kernel shows network devices: `/sys/class/net`.
    pub net_devices: PathBuf,
}

impl Settings {
    /// The usual settings.
    pub fn new(kvm: bool) -> Self {
        Self { kvm, net_devices: PathBuf::from("/sys/class/net") }
    }

    /// What executes guests best here.
    pub(super) fn accelerator(&self) -> Accelerator {
        if self.kvm { Accelerator::Kvm } else { Accelerator::Tcg }
    }
}

/// Observes and changes the pools, networks, disks and domains of one libvirt.
#[derive(Debug, Clone)]
pub struct LibvirtProvider {
    pub(super) client: Client,
    pub(super) settings: Settings,
    pub(super) memory: Arc<observe::Memory>,
    /// Held while a network is defined.
    pub(super) defining: Arc<tokio::sync::Mutex<()>>,
    /// Held while a volume is made or removed: meanwhile libvirt lets nobody look into its pool.
    pub(super) making: Arc<tokio::sync::Mutex<()>>,
}

impl LibvirtProvider {
    /// A provider on a client, which need not be connected yet.
    pub fn new(client: Client, settings: Settings) -> Self {
        Self {
            client,
            settings,
            memory: Arc::default(),
            defining: Arc::default(),
            making: Arc::default(),
        }
    }

    /// What executes guests best here.
    #[must_use]
    pub fn accelerator(&self) -> Accelerator {
        self.settings.accelerator()
    }

    /// The client that it works with.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Wakes for everything libvirt reports from now on. It also keeps the connection open, so that
    /// a libvirt that comes back is noticed.
    pub fn events(&self) -> WakeSource {
        WakeSource { receiver: self.client.events() }
    }
}

/// Tells that something happened, and on purpose not what: whoever wakes looks at everything.
#[derive(Debug)]
pub struct WakeSource {
    receiver: EventReceiver,
}

impl WakeSource {
    /// Waits for the next happening; `None` once the client is gone. Dropping the future loses none.
    pub async fn next(&mut self) -> Option<()> {
        self.receiver.next().await.map(drop)
    }
}

impl Provider for LibvirtProvider {
    fn name(&self) -> &'static str {
        "libvirt"
    }

    fn kinds(&self) -> &[Kind] {
        &[Kind::StoragePool, Kind::Network, Kind::Disk, Kind::VirtualMachine]
    }

    fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
        Box::pin(observe::observe(self, scope))
    }

    fn perform<'a>(
        &'a self,
        step: &'a Step,
        scope: &'a Scope,
        progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        Box::pin(act::perform(self, step, scope, progress))
    }
}
