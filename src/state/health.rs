//! The fold, as far as it is about how GPUs are.
//!
//! A GPU is not a resource: it is there whether anybody asks for it or not.

use jiff::Timestamp;

use super::types::{GpuHealth, State, XIDS_KEPT_MAX};
use crate::event::body::{GpuDegraded, GpuFound, GpuLost, GpuXid};

impl State {
    pub(super) fn gpu_found(&mut self, found: &GpuFound) {
        let known = self.gpus.entry(found.gpu.clone()).or_default();
        known.pci.clone_from(&found.identity.pci);
        known.identity = Some(found.identity.clone());
    }

    pub(super) fn gpu_lost(&mut self, lost: &GpuLost, at: Timestamp) {
        let known = self.gpus.entry(lost.gpu.clone()).or_default();
        known.pci.clone_from(&lost.pci);
        known.lost = Some((at, lost.why.clone()));
    }

    pub(super) fn gpu_returned(&mut self, gpu: &str) {
        if let Some(known) = self.gpus.get_mut(gpu) {
            known.lost = None;
        }
    }

    pub(super) fn gpu_xid(&mut self, reported: &GpuXid) {
        let known = self.gpus.entry(reported.gpu.clone()).or_default();
        known.pci.clone_from(&reported.pci);
        known.xids.push(reported.report.clone());
        let surplus = known.xids.len().saturating_sub(XIDS_KEPT_MAX);
        known.xids.drain(..surplus);
    }

    pub(super) fn gpu_degraded(&mut self, degraded: &GpuDegraded, at: Timestamp) {
        let known = self.gpus.entry(degraded.gpu.clone()).or_default();
        known.pci.clone_from(&degraded.pci);
        known.degraded.get_or_insert(at);
        known.problems.clone_from(&degraded.problems);
        known.boot.clone_from(&degraded.boot);
    }

    pub(super) fn gpu_recovered(&mut self, gpu: &str) {
        if let Some(known) = self.gpus.get_mut(gpu) {
            known.degraded = None;
            known.problems.clear();
        }
    }
}

impl GpuHealth {
    /// Whether it answers and nothing is wrong with it.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.lost.is_none() && self.problems.is_empty()
    }
}
