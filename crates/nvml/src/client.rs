//! The handle: opening the library, finding a GPU, and the operations on it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::error::{Code, Error};
use crate::raw::{self, Compute, Device, Instance, Sample};
use crate::record::{
    ComputeInstance, ComputeInstanceId, ComputeProfileId, ComputeSlot, GpuInstanceId, Identity,
    ModeChange, Placement, ProfileId, Slot,
};
use crate::watch::Watcher;

/// The library that a driver brings.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// A GPU instance that was just made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its id at present.
    pub id: GpuInstanceId,
    /// Where it lies.
    pub placement: Placement,
}

/// NVML, initialised. Every call blocks, for seconds at worst: keep it off threads that must not.
///
/// After an [`Error::Unobservable`] the client is of no more use; open another one.
pub struct Client {
    pub(crate) nvml: Arc<Nvml>,
    cache: Mutex<Cache>,
}

/// What is known for as long as the driver stays loaded.
#[derive(Default)]
pub(crate) struct Cache {
    /// Handles by UUID: finding one by NVML's own search has taken seconds.
    pub(crate) devices: HashMap<String, Device>,
    /// Which GPU answered at this index, for when it no longer does.
    pub(crate) identities: HashMap<u32, Identity>,
    /// The newest GPM sample of an instance, by GPU and instance id.
    pub(crate) samples: HashMap<(String, GpuInstanceId), Sample>,
}

impl Client {
    /// Loads the library at `path`, or [`LIBRARY`] from where the system has it, and initialises
    /// it.
    ///
    /// # Errors
    ///
    /// [`Error::Unobservable`] whatever is missing: never to be taken for a machine without GPUs.
    pub fn open(path: Option<&Path>) -> Result<Self, Error> {
        let mut builder = Nvml::builder();
        let library = path.map_or(LIBRARY.as_ref(), Path::as_os_str);
        let opened = builder.lib_path(library).init();
        let nvml = opened
            .map_err(|error| Error::Unobservable { why: reason(library.as_ref(), &error) })?;
        if nvml.lib().nvmlShutdown.is_err() {
            // The wrapper would panic while closing it.
            std::mem::forget(nvml);
            let why = format!("{} has no nvmlShutdown", library.display());
            return Err(Error::Unobservable { why });
        }
        Ok(Self { nvml: Arc::new(nvml), cache: Mutex::default() })
    }

    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a MIG mode.
    ///
    /// # Errors
    ///
    /// NVML refuses, or there is no such GPU. A mode that is accepted but not in force is no error:
    /// the answer says what it waits for.
    pub fn set_mig_mode(&self, gpu: &str, on: bool) -> Result<ModeChange, Error> {
        let status = raw::set_mig_mode(&self.nvml, self.device(gpu)?, on)?;
        if status == 0 {
            return Ok(ModeChange::Active);
        }
        Ok(match Code::of(status) {
            Code::ResetRequired => ModeChange::NeedsReset,
            Code::InUse => ModeChange::InUse,
            other => ModeChange::Waits(other),
        })
    }

    /// Makes a GPU instance at `placement`, or where the firmware likes.
    ///
    /// # Errors
    ///
    /// [`Code::InsufficientResources`] for no room of whatever kind: taken, too many of the
    /// profile, or an engine exhausted.
    pub fn create_gpu_instance(
        &self,
        gpu: &str,
        profile: ProfileId,
        placement: Option<Placement>,
    ) -> Result<Made, Error> {
        let made = raw::create_instance(&self.nvml, self.device(gpu)?, profile, placement)?;
        let info = raw::instance_info(&self.nvml, made)?;
        let placement = Placement { start: info.placement.start, size: info.placement.size };
        Ok(Made { id: GpuInstanceId(info.id), placement })
    }

    /// Destroys a GPU instance, whose compute instances are gone.
    ///
    /// # Errors
    ///
    /// [`Code::InUse`] also for a moment after its last compute instance went: try again.
    pub fn destroy_gpu_instance(&self, gpu: &str, slot: Slot) -> Result<(), Error> {
        raw::destroy_instance(&self.nvml, self.instance(gpu, slot)?)
    }

    /// Makes a compute instance at `placement`, or at the first place that is free.
    ///
    /// # Errors
    ///
    /// As [`Client::create_gpu_instance`].
    pub fn create_compute_instance(
        &self,
        gpu: &str,
        slot: Slot,
        profile: ComputeProfileId,
        placement: Option<Placement>,
    ) -> Result<ComputeInstance, Error> {
        let instance = self.instance(gpu, slot)?;
        let made = raw::create_compute(&self.nvml, instance, profile.0, placement)?;
        self.compute_record(made)
    }

    /// Destroys a compute instance.
    ///
    /// # Errors
    ///
    /// [`Code::InUse`] while anybody has it open, also one that NVML lists nowhere.
    pub fn destroy_compute_instance(
        &self,
        gpu: &str,
        slot: Slot,
        compute: ComputeSlot,
    ) -> Result<(), Error> {
        let instance = self.instance(gpu, slot)?;
        for handle in raw::computes(&self.nvml, instance, compute.profile.0)? {
            if raw::compute_info(&self.nvml, handle)?.placement.start == compute.start {
                return raw::destroy_compute(&self.nvml, handle);
            }
        }
        Err(Error::NoInstance {
            uuid: gpu.to_owned(),
            kind: "compute instance",
            profile: compute.profile.0,
            start: compute.start,
        })
    }

    /// Registers for what NVML reports by itself. The watcher lives on its own: it may be moved to
    /// another thread, and waits there.
    ///
    /// # Errors
    ///
    /// No event set can be made. A GPU that cannot be watched is no error; the watcher names it.
    pub fn watch(&self) -> Result<Watcher, Error> {
        Watcher::new(&self.nvml, self.count()?)
    }

    pub(crate) fn count(&self) -> Result<u32, Error> {
        self.nvml.device_count().map_err(|error| Error::wrapped("nvmlDeviceGetCount_v2", error))
    }

    /// The handle of a GPU: from the cache, else by looking at every GPU that answers.
    fn device(&self, uuid: &str) -> Result<Device, Error> {
        if let Some(device) = self.cache().devices.get(uuid) {
            return Ok(*device);
        }
        let mut found = Vec::new();
        let mut failed = None;
        for index in 0..self.count()? {
            let device = raw::device_at(&self.nvml, index);
            match device.and_then(|device| Ok((raw::uuid(&self.nvml, device)?, device))) {
                Ok((uuid, device)) => {
                    self.cache().devices.insert(uuid.clone(), device);
                    found.push(uuid);
                }
                Err(error @ Error::Unobservable { .. }) => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(device) = self.cache().devices.get(uuid) {
            return Ok(*device);
        }
        // The GPU asked for may be the one that does not answer.
        Err(failed.unwrap_or_else(|| Error::NoGpu { uuid: uuid.to_owned(), found }))
    }

    /// The instance in a slot, looked up anew: an id may have passed to another one.
    fn instance(&self, gpu: &str, slot: Slot) -> Result<Instance, Error> {
        for handle in raw::instances(&self.nvml, self.device(gpu)?, slot.profile)? {
            if raw::instance_info(&self.nvml, handle)?.placement.start == slot.start {
                return Ok(handle);
            }
        }
        Err(Error::NoInstance {
            uuid: gpu.to_owned(),
            kind: "gpu instance",
            profile: slot.profile.0,
            start: slot.start,
        })
    }

    /// The MIG handle comes with the information, so that nothing searches for it by its UUID.
    pub(crate) fn compute_record(&self, compute: Compute) -> Result<ComputeInstance, Error> {
        let info = raw::compute_info(&self.nvml, compute)?;
        Ok(ComputeInstance {
            id: ComputeInstanceId(info.id),
            profile: ComputeProfileId(info.profileId),
            placement: Placement { start: info.placement.start, size: info.placement.size },
            uuid: raw::uuid(&self.nvml, Device(info.device))?,
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let samples: Vec<Sample> = self.cache().samples.drain().map(|(_, sample)| sample).collect();
        for sample in samples {
            // The library is about to be closed, which frees it in any case.
            drop(raw::free_sample(&self.nvml, sample));
        }
    }
}

fn reason(library: &Path, error: &NvmlError) -> String {
    let library = library.display();
    match error {
        NvmlError::LibloadingError(_) => {
            format!("{library} cannot be loaded: is the NVIDIA driver installed?")
        }
        NvmlError::FailedToLoadSymbol(_) => format!("{library} is no NVML library"),
        NvmlError::DriverNotLoaded => {
            format!("the kernel module is not loaded, says {library}")
        }
        other => format!("{library}: {other}"),
    }
}
