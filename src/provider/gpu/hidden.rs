//! Processes that have a GPU or a part of it open and stand on no list of NVML's: monitors, leaked
//! handles, and processes of containers whose ids the driver does not see.
//!
//! It only reads. Nobody seen is not nobody there where a process may not be looked into; the driver
//! has the last word in any case.

use std::collections::BTreeSet;

use trueup_gpu_sysfs::{Held, Holders, PciAddress, Root};
use trueup_mig::Holder;
use trueup_nvml::{ComputeInstanceId, GpuInstanceId, GpuRecord};

use super::host::Host;

/// Processes named in one message.
const NAMED_MAX: usize = 8;

/// Programs that hold every GPU for as long as they run, by the 15 characters that the kernel keeps
/// of a name. Whether they are in the way of a change of mode is left to the driver: some of its
/// versions change the mode under them.
const STANDING: [&str; 2] = ["nvidia-persiste", "nv-fabricmanage"];

/// Who has what open, at one moment.
#[derive(Debug, Default)]
pub(super) struct Hidden(Holders);

/// From what it is told who uses a GPU, at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Users<'a> {
    pub(super) host: &'a Host,
    pub(super) hidden: &'a Hidden,
}

impl Host {
    /// Everybody who has a device of a GPU open, but this program.
    pub(super) fn hidden(&self) -> Hidden {
        let root = Root::open(self.root()).map_err(|error| error.to_string());
        let found =
            root.and_then(|root| trueup_gpu_sysfs::scan(&root).map_err(|error| error.to_string()));
        let mut found = found.unwrap_or_else(|error| {
            tracing::warn!(error, "who has GPUs open cannot be seen");
            Holders::default()
        });
        let own = std::process::id();
        found.all.retain(|holder| holder.pid != own);
        Hidden(found)
    }
}

impl Hidden {
    /// Who holds a compute instance without standing on NVML's list for its GPU instance.
    pub(super) fn of_compute(
        &self,
        record: &GpuRecord,
        instance: GpuInstanceId,
        compute: ComputeInstanceId,
    ) -> Vec<Holder> {
        let is = |held: &Held| matches!(held, Held::Instance { compute_instance: Some(at), .. } if *at == compute.0);
        self.beside(record, Some(instance), is)
    }

    /// Who holds a GPU instance, and none of its compute instances, in the same way. One of whom it
    /// cannot be told what he holds may hold this.
    pub(super) fn of_instance(&self, record: &GpuRecord, instance: GpuInstanceId) -> Vec<Holder> {
        let within: BTreeSet<u32> = self
            .0
            .all
            .iter()
            .filter(|holder| match &holder.holds {
                Held::Instance { gpu_instance, compute_instance: Some(_), gpu } => {
                    *gpu_instance == instance.0 && Some(*gpu) == address(record)
                }
                _ => false,
            })
            .map(|holder| holder.pid)
            .collect();
        let is = |held: &Held| match held {
            Held::Instance { compute_instance, .. } => compute_instance.is_none(),
            Held::Unresolved => true,
            _ => false,
        };
        let mut found = self.beside(record, Some(instance), is);
        found.retain(|holder| holder.pid.is_none_or(|pid| !within.contains(&pid)));
        found
    }

    /// Who holds the GPU as a whole and no instance, in the same way.
    pub(super) fn of_gpu(&self, record: &GpuRecord) -> Vec<Holder> {
        let here = address(record);
        let parts: BTreeSet<u32> = self
            .0
            .all
            .iter()
            .filter(|it| matches!(it.holds, Held::Instance { gpu, .. } if Some(gpu) == here))
            .map(|holder| holder.pid)
            .collect();
        let is = |held: &Held| matches!(held, Held::Gpu(_) | Held::Unresolved);
        let mut found = self.beside(record, None, is);
        found.retain(|holder| {
            !STANDING.contains(&holder.who.as_str())
                && holder.pid.is_none_or(|pid| !parts.contains(&pid))
        });
        found
    }

    /// Everybody who has a GPU open, each once, for people to look at; at most [`NAMED_MAX`].
    pub(super) fn openers(&self) -> Vec<String> {
        let opens =
            |held: &Held| matches!(held, Held::Gpu(_) | Held::Instance { .. } | Held::Unresolved);
        let all = self.0.all.iter().filter(|holder| opens(&holder.holds)).map(known);
        let mut named: Vec<String> = Vec::new();
        for holder in all.map(|holder| holder.to_string()) {
            if !named.contains(&holder) && named.len() < NAMED_MAX {
                named.push(holder);
            }
        }
        if !self.0.unread.is_empty() {
            named.push(format!("{} that may not be looked into", self.0.unread.len()));
        }
        named
    }

    /// Who holds something of this GPU that `is` what is meant, and stands on no list of NVML's:
    /// for one instance, none for that instance.
    fn beside(
        &self,
        record: &GpuRecord,
        instance: Option<GpuInstanceId>,
        is: impl Fn(&Held) -> bool,
    ) -> Vec<Holder> {
        let gpu = address(record);
        let here = |held: &Held| match held {
            Held::Gpu(at) => Some(*at) == gpu,
            Held::Instance { gpu: at, gpu_instance, .. } => {
                Some(*at) == gpu && instance.is_none_or(|it| it.0 == *gpu_instance)
            }
            _ => true,
        };
        let listed = |pid: u32| {
            record.processes.iter().any(|process| {
                process.pid == pid && instance.is_none_or(|it| process.gpu_instance == Some(it))
            })
        };
        let mut found: Vec<Holder> = Vec::new();
        let all = self.0.all.iter();
        for holder in all.filter(|it| here(&it.holds) && is(&it.holds) && !listed(it.pid)) {
            // Each process once, however many handles it has.
            if !found.iter().any(|it| it.pid == Some(holder.pid)) {
                found.push(known(holder));
            }
        }
        found
    }
}

fn address(record: &GpuRecord) -> Option<PciAddress> {
    record.identity.pci.parse().ok()
}

fn known(holder: &trueup_gpu_sysfs::Holder) -> Holder {
    let who = match holder.command.as_str() {
        "" => "a process".to_owned(),
        command => command.to_owned(),
    };
    Holder { who, pid: Some(holder.pid), unit: holder.unit.clone(), stoppable: false }
}

#[cfg(test)]
mod tests;
