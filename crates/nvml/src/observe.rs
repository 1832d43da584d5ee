//! Looking: every GPU by itself, so that one that is off the bus hides no other.

use nvml_wrapper::Device as Wrapped;
use nvml_wrapper::error::NvmlError;

use crate::client::Client;
use crate::error::{Code, Error};
use crate::health;
use crate::raw::{self, Device, Instance, Processes};
use crate::record::{
    Architecture, ComputeProfile, ComputeProfileId, Engines, FailedGpu, Gpu, GpuInstance,
    GpuInstanceId, GpuRecord, Identity, Memory, MigMode, Observation, Placement, Process,
    ProcessKind, Profile, ProfileId, ProfileIndex, Unread, Virtualization, pci_address,
};

/// How far profiles are enumerated: NVML ends the list by an error, and newer drivers have longer
/// lists than the bindings know; no driver has come near this.
pub const PROFILE_INDICES_MAX: u32 = 64;

/// Reads of one GPU, with what could not be read.
pub(crate) struct Reader<'a> {
    pub(crate) client: &'a Client,
    pub(crate) device: Device,
    pub(crate) unread: Vec<Unread>,
}

impl Client {
    /// Looks at everything.
    ///
    /// # Errors
    ///
    /// [`Error::Unobservable`], or a failure to count the GPUs. A GPU that fails is an entry.
    pub fn observe(&self) -> Result<Observation, Error> {
        let driver = self
            .nvml
            .sys_driver_version()
            .map_err(|error| Error::wrapped("nvmlSystemGetDriverVersion", error))?;
        let mut gpus = Vec::new();
        for index in 0..self.count()? {
            gpus.push(match self.observe_gpu(index) {
                Ok(record) => Gpu::Present(Box::new(record)),
                Err(error @ Error::Unobservable { .. }) => return Err(error),
                Err(error) => Gpu::Failed(FailedGpu {
                    index,
                    identity: self.cache().identities.get(&index).cloned(),
                    code: error.code(),
                    error: error.to_string(),
                }),
            });
        }
        self.forget_samples(&gpus);
        Ok(Observation { driver, gpus })
    }

    fn observe_gpu(&self, index: u32) -> Result<GpuRecord, Error> {
        let device = raw::device_at(&self.nvml, index)?;
        let mut reader = Reader { client: self, device, unread: Vec::new() };
        reader.gpu(index)
    }

    /// Frees the samples of instances that are gone.
    fn forget_samples(&self, gpus: &[Gpu]) {
        let there = |uuid: &str, id: GpuInstanceId| {
            gpus.iter().any(|gpu| match gpu {
                Gpu::Present(record) => {
                    record.identity.uuid == uuid && record.instances.iter().any(|one| one.id == id)
                }
                Gpu::Failed(_) => false,
            })
        };
        let mut cache = self.cache();
        let gone = cache.samples.extract_if(|(uuid, id), _| !there(uuid, *id));
        let gone: Vec<_> = gone.map(|(_, sample)| sample).collect();
        drop(cache);
        for sample in gone {
            // A sample that cannot be freed is lost to us either way.
            drop(raw::free_sample(&self.nvml, sample));
        }
    }
}

impl Reader<'_> {
    /// The wrapper's view of the GPU, for what it does well.
    pub(crate) fn wrapped(&self) -> Wrapped<'_> {
        // SAFETY: the handle is of this library, and what is given lives no longer than the client.
        unsafe { Wrapped::new(self.device.0, &self.client.nvml) }
    }

    /// `None` for what is not supported and for what failed, which is noted.
    ///
    /// # Errors
    ///
    /// The GPU or the driver is gone.
    pub(crate) fn optional<T>(&mut self, read: Result<T, Error>) -> Result<Option<T>, Error> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.ends_gpu() => Err(error),
            Err(error) => {
                if !error.is_unsupported() {
                    self.unread.push(Unread::from(&error));
                }
                Ok(None)
            }
        }
    }

    /// As [`Reader::optional`], of the wrapper.
    pub(crate) fn maybe<T>(
        &mut self,
        function: &'static str,
        read: impl FnOnce(&Wrapped<'_>) -> Result<T, NvmlError>,
    ) -> Result<Option<T>, Error> {
        let result = read(&self.wrapped()).map_err(|error| Error::wrapped(function, error));
        self.optional(result)
    }

    fn gpu(&mut self, index: u32) -> Result<GpuRecord, Error> {
        let nvml = &self.client.nvml;
        let wrong = |function| move |error| Error::wrapped(function, error);
        let uuid = raw::uuid(nvml, self.device)?;
        let pci = self.wrapped().pci_info().map_err(wrong("nvmlDeviceGetPciInfo_v3"))?;
        let address = pci_address(&pci.bus_id).ok_or_else(|| Error::Garbled {
            function: "nvmlDeviceGetPciInfo_v3",
            what: format!("the address `{}`", pci.bus_id),
        })?;
        let name = self.wrapped().name().map_err(wrong("nvmlDeviceGetName"))?;
        let serial = self.maybe("nvmlDeviceGetSerial", |gpu| gpu.serial())?;
        let identity = Identity { uuid: uuid.clone(), serial, pci: address };
        self.remember(index, &identity);

        let architecture = self.optional(raw::architecture(nvml, self.device))?;
        let memory = self.maybe("nvmlDeviceGetMemoryInfo_v2", |gpu| gpu.memory_info())?;
        let mig = self.maybe("nvmlDeviceGetMigMode", |gpu| gpu.mig_mode())?;
        let mig =
            mig.map(|mode| MigMode { current: mode.current != 0, pending: mode.pending != 0 });
        let profiles = if mig.is_some() { self.profiles()? } else { Vec::new() };
        let cut = mig.is_some_and(|mode| mode.current);
        let instances = if cut { self.instances(&uuid, &profiles)? } else { Vec::new() };
        let virtualization = self.optional(raw::virtualization(nvml, self.device))?;
        Ok(GpuRecord {
            index,
            identity,
            minor: self.maybe("nvmlDeviceGetMinorNumber", |gpu| gpu.minor_number())?,
            pci_device: pci.pci_device_id,
            name,
            architecture: architecture.map_or(Architecture::Unknown(None), Architecture::of),
            vbios: self.maybe("nvmlDeviceGetVbiosVersion", |gpu| gpu.vbios_version())?,
            memory: memory.map(|memory| Memory {
                total: memory.total,
                reserved: memory.reserved,
                used: memory.used,
                free: memory.free,
            }),
            mig,
            virtualization: virtualization.map(Virtualization::of),
            persistence: self.optional(raw::persistence(nvml, self.device))?,
            display_active: self
                .maybe("nvmlDeviceGetDisplayActive", |gpu| gpu.is_display_active())?,
            profiles,
            instances,
            processes: self.processes()?,
            health: health::read(self)?,
            unread: std::mem::take(&mut self.unread),
        })
    }

    fn remember(&self, index: u32, identity: &Identity) {
        let mut cache = self.client.cache();
        cache.devices.insert(identity.uuid.clone(), self.device);
        cache.identities.insert(index, identity.clone());
    }

    /// Upward until the driver says that there are no more; holes are skipped.
    fn profiles(&mut self) -> Result<Vec<Profile>, Error> {
        let nvml = &self.client.nvml;
        let mut profiles = Vec::new();
        for index in (0..PROFILE_INDICES_MAX).map(ProfileIndex) {
            let info = raw::profile_info(nvml, self.device, index);
            if info.as_ref().is_err_and(|error| error.code() == Some(Code::InvalidArgument)) {
                break;
            }
            let Some(info) = self.optional(info)? else { continue };
            let placements = raw::placements(nvml, self.device, info.id);
            profiles.push(Profile {
                index,
                id: info.id,
                name: info.name,
                slices: info.slices,
                max: info.max,
                multiprocessors: info.multiprocessors,
                memory_mib: info.memory_mib,
                engines: Engines {
                    copy: info.copy,
                    decoders: info.decoders,
                    encoders: info.encoders,
                    jpeg: info.jpeg,
                    ofa: info.ofa,
                },
                placements: self.optional(placements)?.unwrap_or_default(),
            });
        }
        Ok(profiles)
    }

    /// A list that cannot be read is a failure: a layout with instances missing would be believed.
    fn instances(&mut self, uuid: &str, profiles: &[Profile]) -> Result<Vec<GpuInstance>, Error> {
        let nvml = &self.client.nvml;
        let supported = self.optional(raw::gpm_supported(nvml, self.device))?;
        let mut instances = Vec::new();
        for profile in profiles {
            for handle in raw::instances(nvml, self.device, profile.id)? {
                let mut instance = self.instance(handle)?;
                if supported == Some(true) {
                    instance.utilization = self.utilization(uuid, instance.id)?;
                }
                instances.push(instance);
            }
        }
        instances.sort_by_key(|instance| (instance.placement, instance.profile));
        Ok(instances)
    }

    fn instance(&mut self, handle: Instance) -> Result<GpuInstance, Error> {
        let nvml = &self.client.nvml;
        let info = raw::instance_info(nvml, handle)?;
        let mut compute = Vec::new();
        let mut compute_profiles = Vec::new();
        for index in 0..PROFILE_INDICES_MAX {
            let profile = raw::compute_profile(nvml, handle, index);
            if profile.as_ref().is_err_and(|error| error.code() == Some(Code::InvalidArgument)) {
                break;
            }
            let Some((id, name, slices, max)) = self.optional(profile)? else { continue };
            let placements = self.optional(raw::compute_placements(nvml, handle, id))?;
            for one in raw::computes(nvml, handle, id)? {
                compute.push(self.client.compute_record(one)?);
            }
            let placements = placements.unwrap_or_default();
            let id = ComputeProfileId(id);
            compute_profiles.push(ComputeProfile { id, name, slices, max, placements });
        }
        compute.sort_by_key(|one| (one.placement, one.profile));
        Ok(GpuInstance {
            id: GpuInstanceId(info.id),
            profile: ProfileId(info.profileId),
            placement: Placement { start: info.placement.start, size: info.placement.size },
            compute,
            compute_profiles,
            utilization: None,
        })
    }

    /// Since the sample before, if there is one.
    fn utilization(&mut self, uuid: &str, id: GpuInstanceId) -> Result<Option<f64>, Error> {
        let nvml = &self.client.nvml;
        let sample = raw::sample(nvml, self.device, id.0);
        let Some(newest) = self.optional(sample)? else { return Ok(None) };
        let before = self.client.cache().samples.insert((uuid.to_owned(), id), newest);
        let Some(before) = before else { return Ok(None) };
        let figure = raw::sm_utilization(nvml, before, newest);
        let freed = raw::free_sample(nvml, before);
        self.optional(freed)?;
        Ok(self.optional(figure)?.flatten())
    }

    fn processes(&mut self) -> Result<Vec<Process>, Error> {
        let lists = [
            (Processes::Compute, ProcessKind::Compute),
            (Processes::Graphics, ProcessKind::Graphics),
            (Processes::Mps, ProcessKind::Mps),
        ];
        let mut processes = Vec::new();
        for (list, kind) in lists {
            let rows = raw::processes(&self.client.nvml, self.device, list);
            for row in self.optional(rows)?.unwrap_or_default() {
                let known = |id: u32| (id != u32::MAX).then_some(id);
                processes.push(Process {
                    pid: row.pid,
                    kind,
                    memory: (row.usedGpuMemory != u64::MAX).then_some(row.usedGpuMemory),
                    gpu_instance: known(row.gpuInstanceId).map(GpuInstanceId),
                    compute_instance: known(row.computeInstanceId)
                        .map(crate::record::ComputeInstanceId),
                });
            }
        }
        processes.sort_by_key(|process| (process.pid, process.kind, process.gpu_instance));
        Ok(processes)
    }
}
