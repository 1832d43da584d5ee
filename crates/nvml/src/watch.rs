//! What NVML reports by itself: Xids, memory errors, a GPU that is gone.

use std::sync::Arc;
use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper_sys::bindings as sys;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::raw::{self, Device, EventSet};
use crate::record::GpuInstanceId;

/// What is worth waking for: not the changes of clocks and performance states, which come all the
/// time.
const WANTED: u64 = sys::nvmlEventTypeSingleBitEccError as u64
    | sys::nvmlEventTypeDoubleBitEccError as u64
    | sys::nvmlEventTypeXidCriticalError as u64
    | sys::nvmlEventTypePowerSourceChange as u64
    | sys::nvmlEventTypeSingleBitEccErrorStorm as u64
    | sys::nvmlEventTypeDramRetirementEvent as u64
    | sys::nvmlEventTypeDramRetirementFailure as u64
    | sys::nvmlEventTypeNonFatalPoisonError as u64
    | sys::nvmlEventTypeFatalPoisonError as u64
    | sys::nvmlEventTypeGpuUnavailableError as u64
    | sys::nvmlEventTypeGpuRecoveryAction as u64;

/// What was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A critical error, with NVIDIA's number of it.
    Xid(u64),
    /// A memory error that was corrected.
    EccCorrected,
    /// A memory error that was not.
    EccUncorrected,
    /// Many corrected memory errors at once.
    EccStorm,
    /// A piece of memory was retired.
    MemoryRetired,
    /// A piece of memory could not be retired.
    MemoryRetirementFailed,
    /// Poisoned data were met and contained.
    Poison,
    /// Poisoned data were met and not contained.
    FatalPoison,
    /// Power comes from another source.
    PowerSource,
    /// The GPU is not available.
    Unavailable,
    /// What is needed for the GPU's recovery changed.
    RecoveryAction,
    /// A kind that this program does not know.
    Other(u64),
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The UUID of the GPU; `None` if it is none that is watched.
    pub gpu: Option<String>,
    /// What.
    pub kind: EventKind,
    /// The GPU instance concerned.
    pub gpu_instance: Option<GpuInstanceId>,
}

/// A registration for events of every GPU that answered when it was made.
pub struct Watcher {
    nvml: Arc<Nvml>,
    set: EventSet,
    gpus: Vec<(Device, String)>,
    unwatched: Vec<Unwatched>,
}

/// A GPU that is not watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwatched {
    /// Its index at that moment.
    pub index: u32,
    /// Its UUID; `None`: it did not answer at all.
    pub gpu: Option<String>,
    /// Why.
    pub error: Error,
}

impl Watcher {
    pub(crate) fn new(nvml: &Arc<Nvml>, count: u32) -> Result<Self, Error> {
        let set = raw::event_set(nvml)?;
        let (gpus, unwatched) = (Vec::new(), Vec::new());
        let mut watcher = Self { nvml: Arc::clone(nvml), set, gpus, unwatched };
        for index in 0..count {
            watcher.add(index);
        }
        Ok(watcher)
    }

    fn add(&mut self, index: u32) {
        let found = raw::device_at(&self.nvml, index)
            .and_then(|device| Ok((device, raw::uuid(&self.nvml, device)?)));
        let (gpu, error) = match found {
            Ok((device, uuid)) => match raw::register(&self.nvml, device, WANTED, self.set) {
                Ok(()) => return self.gpus.push((device, uuid)),
                Err(error) => (Some(uuid), error),
            },
            Err(error) => (None, error),
        };
        self.unwatched.push(Unwatched { index, gpu, error });
    }

    /// The GPUs that are not watched.
    pub fn unwatched(&self) -> &[Unwatched] {
        &self.unwatched
    }

    /// The UUIDs of all GPUs that answered when it was made, whether they report events or not.
    pub fn tried(&self) -> impl Iterator<Item = &str> {
        let watched = self.gpus.iter().map(|(_, uuid)| uuid.as_str());
        watched.chain(self.unwatched.iter().filter_map(|one| one.gpu.as_deref()))
    }

    /// Blocks until something is reported or `limit` has passed, which gives `None`.
    ///
    /// # Errors
    ///
    /// NVML fails; after [`Error::Unobservable`] the watcher is of no more use.
    pub fn wait(&self, limit: Duration) -> Result<Option<Event>, Error> {
        let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let Some(data) = raw::wait(&self.nvml, self.set, millis)? else { return Ok(None) };
        let gpu = self.gpus.iter().find(|(device, _)| device.0 == data.device);
        Ok(Some(Event {
            gpu: gpu.map(|(_, uuid)| uuid.clone()),
            kind: kind(data.eventType, data.eventData),
            gpu_instance: (data.gpuInstanceId != u32::MAX)
                .then_some(GpuInstanceId(data.gpuInstanceId)),
        }))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // With a driver that is gone there is nothing left to free.
        drop(raw::free_event_set(&self.nvml, self.set));
    }
}

fn kind(bits: u64, data: u64) -> EventKind {
    match u32::try_from(bits) {
        Ok(sys::nvmlEventTypeXidCriticalError) => EventKind::Xid(data),
        Ok(sys::nvmlEventTypeSingleBitEccError) => EventKind::EccCorrected,
        Ok(sys::nvmlEventTypeDoubleBitEccError) => EventKind::EccUncorrected,
        Ok(sys::nvmlEventTypeSingleBitEccErrorStorm) => EventKind::EccStorm,
        Ok(sys::nvmlEventTypeDramRetirementEvent) => EventKind::MemoryRetired,
        Ok(sys::nvmlEventTypeDramRetirementFailure) => EventKind::MemoryRetirementFailed,
        Ok(sys::nvmlEventTypeNonFatalPoisonError) => EventKind::Poison,
        Ok(sys::nvmlEventTypeFatalPoisonError) => EventKind::FatalPoison,
        Ok(sys::nvmlEventTypePowerSourceChange) => EventKind::PowerSource,
        Ok(sys::nvmlEventTypeGpuUnavailableError) => EventKind::Unavailable,
        Ok(sys::nvmlEventTypeGpuRecoveryAction) => EventKind::RecoveryAction,
        Ok(_) | Err(_) => EventKind::Other(bits),
    }
}
