//! One GPU as NVML and the kernel's files show it together.
//!
//! Which of the two is believed depends on who has the GPU: what is not with the host's driver, NVML
//! does not see, and what is with it, only NVML knows how it is used.

use trueup_gpu_sysfs::VFIO;
use trueup_nvml::GpuRecord;

use super::hidden::Hidden;
use super::host::Host;
use super::kernel::Files;
use super::look::{Wanted, found, state};
use crate::model::resource::{GpuClient, GpuHandover, GpuKernel, GpuMemory, GpuShare, GpuState};

/// Everything that was looked at.
pub(super) struct Sight<'a> {
    pub(super) nvml: Result<&'a trueup_nvml::Observation, &'a String>,
    pub(super) files: Option<&'a Result<Files, String>>,
    pub(super) host: &'a Host,
    pub(super) hidden: &'a Hidden,
    pub(super) co_owners: Vec<String>,
}

/// A GPU as it was found: by NVML, by the kernel's files, or by both.
pub(super) struct Found<'a> {
    pub(super) record: Option<&'a GpuRecord>,
    pub(super) kernel: Option<GpuKernel>,
}

impl Found<'_> {
    /// Where it is.
    pub(super) fn pci(&self) -> Option<String> {
        let kernel = self.kernel.as_ref().map(|kernel| kernel.pci.to_string());
        kernel.or_else(|| Some(self.record?.identity.pci.clone()))
    }

    /// What people know it by.
    pub(super) fn name(&self) -> String {
        let uuid = self.record.map(|record| record.identity.uuid.clone());
        uuid.or_else(|| self.pci()).unwrap_or_default()
    }
}

impl<'a> Sight<'a> {
    /// The one GPU that a layout means.
    ///
    /// # Errors
    /// Why it is not known which, or what of it.
    pub(super) fn find(&self, it: &Wanted) -> Result<Found<'a>, String> {
        let meant = it.meant.as_ref().map_err(Clone::clone)?;
        let record = match self.nvml {
            Ok(seen) => found(meant, &seen.gpus),
            Err(why) => Err(why.clone()),
        };
        if !it.is_for_guests() {
            return record.map(|record| Found { record: Some(record), kernel: None });
        }
        let files = match self.files {
            Some(Ok(files)) => files,
            Some(Err(why)) => return Err(why.clone()),
            None => return Err("the kernel's files were not looked at".to_owned()),
        };
        let seen = record.as_ref().ok().copied();
        let Some(pci) = files.address(meant, seen, it.handover(), it.share()) else {
            let why = record.err().unwrap_or_default();
            return Err(format!("{why}; {}", files.listed()));
        };
        let Some(kernel) = files.of(pci, seen) else {
            return Err(format!("no GPU of NVIDIA is at {pci}; {}", files.listed()));
        };
        if let Some(before) = it.handover().filter(|before| before.pci != pci) {
            let same = before.uuid.is_some() && before.uuid == kernel.uuid;
            if !same && it.desired {
                return Err(format!(
                    "guests have the GPU at {}, and now the one at {pci} is meant: remove this \
                     layout, and add one of another name for the other GPU",
                    before.pci
                ));
            }
        }
        match (record, kernel.driver()) {
            // Whether it is cut, and who uses it, only NVML knows while the host's driver has it.
            (Err(why), Some(driver)) if driver != VFIO => Err(why),
            // What a stale handle of NVML says of it means nothing.
            (_, Some(VFIO)) => Ok(Found { record: None, kernel: Some(kernel) }),
            (record, _) => Ok(Found { record: record.ok(), kernel: Some(kernel) }),
        }
    }

    /// Whether what nobody asks for is no longer on this machine at all.
    pub(super) fn is_gone(&self, it: &Wanted) -> bool {
        let lost = |handover: &GpuHandover| match self.files {
            Some(Ok(files)) => !files.is_left(handover) && files.of(handover.pci, None).is_none(),
            _ => false,
        };
        let pulled = |share: &GpuShare| match self.files {
            Some(Ok(files)) => files.of(share.pci, None).is_none(),
            _ => false,
        };
        !it.desired
            && (it.meant.is_err()
                || it.handover().is_some_and(lost)
                || it.share().is_some_and(pulled))
    }

    /// Whether a GPU still has to be given back, or to be shared no more.
    pub(super) fn is_left(&self, gpu: &Found<'_>, memory: Option<&GpuMemory>) -> bool {
        let share = memory.and_then(|memory| memory.share.as_ref());
        if let (Some(share), Some(kernel)) = (share, &gpu.kernel) {
            let host = &kernel.host;
            let gpu = host.functions.get(&kernel.pci);
            let on = gpu.and_then(|it| it.sriov).is_some_and(|sriov| sriov.enabled > 0);
            let adrift = gpu.is_some_and(trueup_gpu_sysfs::Function::is_adrift);
            return share.standing(host).next().is_some() || (share.functions && (on || adrift));
        }
        let handover = memory.and_then(|memory| memory.handover.as_ref());
        match (self.files, handover) {
            (Some(Ok(files)), Some(handover)) => files.is_left(handover),
            _ => false,
        }
    }

    /// What NVML tells of it; `None`: it does not see it.
    pub(super) fn state(
        &self,
        gpu: &Found<'_>,
        memory: Option<&GpuMemory>,
        clients: &[GpuClient],
    ) -> Result<Option<GpuState>, String> {
        let (Some(record), Ok(seen)) = (gpu.record, self.nvml) else { return Ok(None) };
        let (hidden, co_owners) = (self.hidden, &self.co_owners);
        state(record, seen, memory, clients, self.host, hidden, co_owners).map(Some)
    }
}
