//! The kernel's files of GPUs, for those that guests have or get: what they say, and steps on them.
//!
//! Everything goes through `trueup_gpu_sysfs`, below the machine's root. It decides nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use trueup_gpu_sysfs::{
    Error, Executor, Hands, Holders, Host, LiveHands, Outcome, Patience, PciAddress, Root, Step,
    observe, plan, scan,
};
use trueup_nvml::GpuRecord;

use crate::model::resource::{GpuHandover, GpuKernel, GpuMatch, GpuShare};

/// What writes to the kernel's files and runs its tools; one at a time, whoever asks.
#[derive(Clone)]
pub struct SharedHands(Arc<Mutex<dyn Hands + Send>>);

impl SharedHands {
    /// These hands, shared.
    pub fn new(hands: impl Hands + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(hands)))
    }
}

impl Default for SharedHands {
    /// The hands that touch the machine.
    fn default() -> Self {
        Self::new(LiveHands)
    }
}

impl fmt::Debug for SharedHands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedHands")
    }
}

impl Hands for SharedHands {
    fn write(
        &mut self,
        root: &Root,
        path: &str,
        value: &str,
        patience: &Patience,
    ) -> Result<(), Error> {
        let mut hands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hands.write(root, path, value, patience)
    }

    fn run(&mut self, root: &Root, argv: &[String], patience: &Patience) -> Result<(), Error> {
        let mut hands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hands.run(root, argv, patience)
    }
}

/// The kernel's files, and who changes them.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    pub(super) root: PathBuf,
    pub(super) hands: SharedHands,
    pub(super) patience: Patience,
}

/// What the files say, all at once.
#[derive(Debug)]
pub(super) struct Files {
    host: Host,
    holders: Holders,
}

impl Kernel {
    /// Looks at everything; blocks.
    ///
    /// # Errors
    /// The root, or who holds what, cannot be read.
    pub(super) fn look(&self) -> Result<Files, String> {
        let root = Root::open(&self.root).map_err(|error| error.to_string())?;
        let host = observe(&root);
        let unread = |error| format!("who has GPUs open cannot be read below /proc: {error}");
        let mut holders = scan(&root).map_err(unread)?;
        // What this very program has open for looking, it closes before anything is taken.
        let own = std::process::id();
        holders.all.retain(|holder| holder.pid != own);
        Ok(Files { host, holders })
    }

    /// Performs one step and proves it; blocks.
    ///
    /// # Errors
    /// What the step says; a root that cannot be opened.
    pub(super) fn perform(&self, step: &Step) -> Result<Result<Outcome, Error>, String> {
        let root = Root::open(&self.root).map_err(|error| error.to_string())?;
        Ok(Executor::new(root, self.hands.clone(), self.patience).perform(step))
    }
}

impl Files {
    /// Where the GPU is that is meant. What NVML sees comes first; what it does not see is where the
    /// log says that it was given away, or left without a driver while it is shared.
    pub(super) fn address(
        &self,
        gpu: &GpuMatch,
        record: Option<&GpuRecord>,
        handover: Option<&GpuHandover>,
        share: Option<&GpuShare>,
    ) -> Option<PciAddress> {
        let named = match gpu {
            GpuMatch::PciAddress(address) => address.parse().ok(),
            GpuMatch::Uuid(_) | GpuMatch::Serial(_) | GpuMatch::Product(_) => None,
        };
        let seen = || record.and_then(|record| record.identity.pci.parse().ok());
        let known = || {
            let handover = handover?;
            let there = self.host.functions.get(&handover.pci)?;
            (there.model() == handover.model).then_some(handover.pci)
        };
        let adrift = || {
            let pci = share?.pci;
            self.host.functions.get(&pci).filter(|it| it.is_gpu() && it.is_adrift()).map(|_| pci)
        };
        named.or_else(seen).or_else(known).or_else(adrift)
    }

    /// The GPUs there are, for somebody who has to correct a spec.
    pub(super) fn listed(&self) -> String {
        let all: Vec<String> =
            self.host.gpus().map(|it| format!("{} ({})", it.address, it.model())).collect();
        match all.as_slice() {
            [] => "the kernel knows no GPU of NVIDIA".to_owned(),
            all => format!("the kernel knows {}", all.join(", ")),
        }
    }

    /// What the files say of one GPU; `None`: it is not there.
    pub(super) fn of(&self, pci: PciAddress, record: Option<&GpuRecord>) -> Option<GpuKernel> {
        let gpu =
            self.host.functions.get(&pci).filter(|it| it.is_gpu() && it.physical.is_none())?;
        let mut kept: BTreeSet<PciAddress> = gpu.group_members.clone();
        for function in self.host.board(pci) {
            kept.insert(function.address);
            kept.extend(&function.group_members);
        }
        // With the virtual functions of neighbours: who has one of those, uses the neighbour.
        let parents = kept.clone();
        let of = parents.iter().flat_map(|parent| self.host.virtual_functions(*parent));
        kept.extend(of.map(|it| it.address));
        let mut host = self.host.clone();
        host.functions.retain(|address, _| kept.contains(address));
        let mediated: BTreeSet<_> = self.host.mediated_of(pci).map(|it| it.uuid).collect();
        // A GPU beside it, in its group, may go with it: what is on that one counts too.
        let divided: BTreeSet<_> =
            kept.iter().flat_map(|at| self.host.mediated_of(*at)).map(|it| it.uuid).collect();
        host.mediated.retain(|uuid, _| divided.contains(uuid));
        host.instances.retain(|address, _| kept.contains(address));
        let functions: Vec<PciAddress> = kept.into_iter().collect();
        let mediated: Vec<_> = mediated.into_iter().collect();
        let all = self.holders.of(&functions, &mediated).into_iter().cloned().collect();
        let holders = Holders { all, unread: self.holders.unread.clone() };
        let record = record.filter(|record| record.identity.pci == pci.to_string());
        Some(GpuKernel {
            pci,
            host,
            uuid: record.map(|record| record.identity.uuid.clone()),
            holders,
            mig: record.and_then(|record| record.mig).map(|mig| mig.current || mig.pending),
            persistence: record.and_then(|record| record.persistence),
        })
    }

    /// Whether a GPU that nobody asks for any more still has to be given back.
    pub(super) fn is_left(&self, handover: &GpuHandover) -> bool {
        let Some(driver) = &handover.driver else { return false };
        if self.host.unread.is_empty() && !self.host.functions.contains_key(&handover.pci) {
            return false;
        }
        let wish = plan::Release {
            driver: driver.clone(),
            with: handover.with.clone(),
            ..plan::Release::of(handover.pci)
        };
        // What is refused now is left all the same.
        let rest = plan::release(&self.host, &Holders::default(), &wish);
        rest.map_or(true, |rest| !rest.steps.is_empty())
    }
}
