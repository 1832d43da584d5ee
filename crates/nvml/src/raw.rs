//! The calls that the safe wrapper does not have, or has with a defect, as safe functions.
//!
//! Symbols are taken from the fields of the table, never from its methods of the same name: those
//! panic where a driver is too old. Handles never leave the crate.

use std::ffi::{c_char, c_uint, c_ulonglong};
use std::ptr;

use nvml_wrapper::Nvml;
use nvml_wrapper_sys::bindings as sys;

use crate::error::{Code, Error};
use crate::record::{Placement, ProfileId, ProfileIndex};

/// Instances asked for at a time: twice what any board has.
const INSTANCES_MAX: usize = 32;
/// Placements of one profile asked for at a time: more than any board has units.
const PLACEMENTS_MAX: usize = 64;
/// How often a list of processes that grows while it is read is read again.
const TRIES_MAX: u32 = 5;

macro_rules! handle {
    ($($(#[$doc:meta])* $name:ident($raw:ty))*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) struct $name(pub(crate) $raw);

        // SAFETY: NVML is thread-safe, and a handle is a token that only NVML looks behind.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}
    )*};
}

handle! {
    /// A GPU or a MIG device.
    Device(sys::nvmlDevice_t)
    /// A GPU instance; void once it is destroyed.
    Instance(sys::nvmlGpuInstance_t)
    /// A compute instance; void once it is destroyed.
    Compute(sys::nvmlComputeInstance_t)
    /// An event set.
    EventSet(sys::nvmlEventSet_t)
    /// A GPM sample.
    Sample(sys::nvmlGpmSample_t)
}

/// Calls a function of the table; private to this module, whose functions pass handles of the same
/// library and pointers to variables of their own.
macro_rules! call {
    ($nvml:expr, $function:ident($($arg:expr),* $(,)?)) => {
        match $nvml.lib().$function.as_ref() {
            Err(_) => Err(Error::Missing { function: stringify!($function) }),
            Ok(function) => {
                // SAFETY: the symbol has the type that the bindings give it; handles come from this
                // library, which outlives them; every other pointer is to a variable that lives
                // through the call and has the length that is said.
                match unsafe { function($($arg),*) } {
                    0 => Ok(()),
                    number => Err(Error::coded(stringify!($function), number)),
                }
            }
        }
    };
}

/// What both versions of the profile information tell.
pub(crate) struct ProfileInfo {
    pub(crate) id: ProfileId,
    pub(crate) name: Option<String>,
    pub(crate) slices: u32,
    pub(crate) max: u32,
    pub(crate) multiprocessors: u32,
    pub(crate) memory_mib: u64,
    pub(crate) copy: u32,
    pub(crate) decoders: u32,
    pub(crate) encoders: u32,
    pub(crate) jpeg: u32,
    pub(crate) ofa: u32,
}

pub(crate) fn text(chars: &[c_char]) -> String {
    let bytes: Vec<u8> =
        chars.iter().map(|one| one.cast_unsigned()).take_while(|one| *one != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn profile_name(chars: &[c_char]) -> Option<String> {
    let name = text(chars);
    let name = name.strip_prefix("MIG ").unwrap_or(&name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// The version that NVML wants in a structure: its size and its number.
fn version<T>(number: u32) -> c_uint {
    c_uint::try_from(size_of::<T>()).unwrap_or(0) | number << 24
}

fn within(count: c_uint, function: &'static str, most: usize) -> Result<usize, Error> {
    let len = count as usize;
    if len > most {
        return Err(Error::Garbled { function, what: format!("{len} of at most {most} items") });
    }
    Ok(len)
}

pub(crate) fn device_at(nvml: &Nvml, index: u32) -> Result<Device, Error> {
    let mut device = ptr::null_mut();
    call!(nvml, nvmlDeviceGetHandleByIndex_v2(index, &raw mut device))?;
    Ok(Device(device))
}

pub(crate) fn architecture(nvml: &Nvml, device: Device) -> Result<u32, Error> {
    let mut number = 0;
    call!(nvml, nvmlDeviceGetArchitecture(device.0, &raw mut number))?;
    Ok(number)
}

pub(crate) fn virtualization(nvml: &Nvml, device: Device) -> Result<u32, Error> {
    let mut number = 0;
    call!(nvml, nvmlDeviceGetVirtualizationMode(device.0, &raw mut number))?;
    Ok(number)
}

pub(crate) fn persistence(nvml: &Nvml, device: Device) -> Result<bool, Error> {
    let mut mode = 0;
    call!(nvml, nvmlDeviceGetPersistenceMode(device.0, &raw mut mode))?;
    Ok(mode != 0)
}

pub(crate) fn remapped_rows(nvml: &Nvml, device: Device) -> Result<[u32; 4], Error> {
    let mut rows = [0; 4];
    let [corrected, uncorrected, pending, failed] = &mut rows;
    call!(nvml, nvmlDeviceGetRemappedRows(device.0, corrected, uncorrected, pending, failed))?;
    Ok(rows)
}

pub(crate) fn clock_reasons(nvml: &Nvml, device: Device) -> Result<u64, Error> {
    let mut reasons = 0;
    call!(nvml, nvmlDeviceGetCurrentClocksEventReasons(device.0, &raw mut reasons))?;
    Ok(reasons)
}

/// How many pages were retired for this cause (0 corrected, 1 uncorrected errors).
pub(crate) fn retired_pages(nvml: &Nvml, device: Device, cause: u32) -> Result<u32, Error> {
    let mut count = 0;
    let (addresses, times) = (ptr::null_mut(), ptr::null_mut());
    match call!(
        nvml,
        nvmlDeviceGetRetiredPages_v2(device.0, cause, &raw mut count, addresses, times)
    ) {
        Err(error) if error.code() == Some(Code::InsufficientSize) => Ok(count),
        other => other.map(|()| count),
    }
}

/// By enum index; the version with the name where the driver has it.
pub(crate) fn profile_info(
    nvml: &Nvml,
    device: Device,
    index: ProfileIndex,
) -> Result<ProfileInfo, Error> {
    // SAFETY: numbers and characters, for which zeroes are values.
    let mut info: sys::nvmlGpuInstanceProfileInfo_v2_t = unsafe { std::mem::zeroed() };
    info.version = version::<sys::nvmlGpuInstanceProfileInfo_v2_t>(2);
    match call!(nvml, nvmlDeviceGetGpuInstanceProfileInfoV(device.0, index.0, &raw mut info)) {
        Err(Error::Missing { .. }) => return plain_profile_info(nvml, device, index),
        Err(error) if error.code() == Some(Code::ArgumentVersion) => {
            return plain_profile_info(nvml, device, index);
        }
        other => other?,
    }
    Ok(ProfileInfo {
        id: ProfileId(info.id),
        name: profile_name(&info.name),
        slices: info.sliceCount,
        max: info.instanceCount,
        multiprocessors: info.multiprocessorCount,
        memory_mib: info.memorySizeMB,
        copy: info.copyEngineCount,
        decoders: info.decoderCount,
        encoders: info.encoderCount,
        jpeg: info.jpegCount,
        ofa: info.ofaCount,
    })
}

fn plain_profile_info(
    nvml: &Nvml,
    device: Device,
    index: ProfileIndex,
) -> Result<ProfileInfo, Error> {
    // SAFETY: numbers, for which zeroes are values.
    let mut info: sys::nvmlGpuInstanceProfileInfo_t = unsafe { std::mem::zeroed() };
    call!(nvml, nvmlDeviceGetGpuInstanceProfileInfo(device.0, index.0, &raw mut info))?;
    Ok(ProfileInfo {
        id: ProfileId(info.id),
        name: None,
        slices: info.sliceCount,
        max: info.instanceCount,
        multiprocessors: info.multiprocessorCount,
        memory_mib: info.memorySizeMB,
        copy: info.copyEngineCount,
        decoders: info.decoderCount,
        encoders: info.encoderCount,
        jpeg: info.jpegCount,
        ofa: info.ofaCount,
    })
}

/// Where instances of a profile may lie on an empty board. The safe wrapper of 0.13.0 always gives
/// an empty list.
pub(crate) fn placements(
    nvml: &Nvml,
    device: Device,
    profile: ProfileId,
) -> Result<Vec<Placement>, Error> {
    let mut list = [sys::nvmlGpuInstancePlacement_t { start: 0, size: 0 }; PLACEMENTS_MAX];
    let mut count = PLACEMENTS_MAX as c_uint;
    let (at, len) = (list.as_mut_ptr(), &raw mut count);
    call!(nvml, nvmlDeviceGetGpuInstancePossiblePlacements_v2(device.0, profile.0, at, len))?;
    let len = within(count, "nvmlDeviceGetGpuInstancePossiblePlacements_v2", PLACEMENTS_MAX)?;
    Ok(list[..len].iter().map(|one| Placement { start: one.start, size: one.size }).collect())
}

pub(crate) fn instances(
    nvml: &Nvml,
    device: Device,
    profile: ProfileId,
) -> Result<Vec<Instance>, Error> {
    let mut list = [ptr::null_mut(); INSTANCES_MAX];
    let mut count = INSTANCES_MAX as c_uint;
    call!(nvml, nvmlDeviceGetGpuInstances(device.0, profile.0, list.as_mut_ptr(), &raw mut count))?;
    let len = within(count, "nvmlDeviceGetGpuInstances", INSTANCES_MAX)?;
    Ok(list[..len].iter().map(|handle| Instance(*handle)).collect())
}

pub(crate) fn instance_info(
    nvml: &Nvml,
    instance: Instance,
) -> Result<sys::nvmlGpuInstanceInfo_t, Error> {
    // SAFETY: numbers and a pointer, for which zeroes are values.
    let mut info: sys::nvmlGpuInstanceInfo_t = unsafe { std::mem::zeroed() };
    call!(nvml, nvmlGpuInstanceGetInfo(instance.0, &raw mut info))?;
    Ok(info)
}

pub(crate) fn create_instance(
    nvml: &Nvml,
    device: Device,
    profile: ProfileId,
    placement: Option<Placement>,
) -> Result<Instance, Error> {
    let mut made = ptr::null_mut();
    let Some(Placement { start, size }) = placement else {
        call!(nvml, nvmlDeviceCreateGpuInstance(device.0, profile.0, &raw mut made))?;
        return Ok(Instance(made));
    };
    let at = sys::nvmlGpuInstancePlacement_t { start, size };
    call!(
        nvml,
        nvmlDeviceCreateGpuInstanceWithPlacement(device.0, profile.0, &raw const at, &raw mut made)
    )?;
    Ok(Instance(made))
}

pub(crate) fn destroy_instance(nvml: &Nvml, instance: Instance) -> Result<(), Error> {
    call!(nvml, nvmlGpuInstanceDestroy(instance.0))
}

/// By enum index, with all engines shared: the id, the name, the slices and the most there can be.
pub(crate) fn compute_profile(
    nvml: &Nvml,
    instance: Instance,
    index: u32,
) -> Result<(u32, Option<String>, u32, u32), Error> {
    // SAFETY: numbers and characters, for which zeroes are values.
    let mut info: sys::nvmlComputeInstanceProfileInfo_v2_t = unsafe { std::mem::zeroed() };
    info.version = version::<sys::nvmlComputeInstanceProfileInfo_v2_t>(2);
    match call!(
        nvml,
        nvmlGpuInstanceGetComputeInstanceProfileInfoV(instance.0, index, 0, &raw mut info)
    ) {
        Ok(()) => {
            return Ok((info.id, profile_name(&info.name), info.sliceCount, info.instanceCount));
        }
        Err(Error::Missing { .. }) => {}
        Err(error) if error.code() == Some(Code::ArgumentVersion) => {}
        Err(error) => return Err(error),
    }
    // SAFETY: numbers, for which zeroes are values.
    let mut info: sys::nvmlComputeInstanceProfileInfo_t = unsafe { std::mem::zeroed() };
    call!(nvml, nvmlGpuInstanceGetComputeInstanceProfileInfo(instance.0, index, 0, &raw mut info))?;
    Ok((info.id, None, info.sliceCount, info.instanceCount))
}

pub(crate) fn compute_placements(
    nvml: &Nvml,
    instance: Instance,
    profile: u32,
) -> Result<Vec<Placement>, Error> {
    let mut list = [sys::nvmlComputeInstancePlacement_t { start: 0, size: 0 }; PLACEMENTS_MAX];
    let mut count = PLACEMENTS_MAX as c_uint;
    let (at, len) = (list.as_mut_ptr(), &raw mut count);
    call!(nvml, nvmlGpuInstanceGetComputeInstancePossiblePlacements(instance.0, profile, at, len))?;
    let len = within(count, "nvmlGpuInstanceGetComputeInstancePossiblePlacements", PLACEMENTS_MAX)?;
    Ok(list[..len].iter().map(|one| Placement { start: one.start, size: one.size }).collect())
}

pub(crate) fn computes(
    nvml: &Nvml,
    instance: Instance,
    profile: u32,
) -> Result<Vec<Compute>, Error> {
    let mut list = [ptr::null_mut(); INSTANCES_MAX];
    let mut count = INSTANCES_MAX as c_uint;
    let (at, len) = (list.as_mut_ptr(), &raw mut count);
    call!(nvml, nvmlGpuInstanceGetComputeInstances(instance.0, profile, at, len))?;
    let len = within(count, "nvmlGpuInstanceGetComputeInstances", INSTANCES_MAX)?;
    Ok(list[..len].iter().map(|handle| Compute(*handle)).collect())
}

pub(crate) fn compute_info(
    nvml: &Nvml,
    compute: Compute,
) -> Result<sys::nvmlComputeInstanceInfo_t, Error> {
    // SAFETY: numbers and pointers, for which zeroes are values.
    let mut info: sys::nvmlComputeInstanceInfo_t = unsafe { std::mem::zeroed() };
    call!(nvml, nvmlComputeInstanceGetInfo_v2(compute.0, &raw mut info))?;
    Ok(info)
}

pub(crate) fn create_compute(
    nvml: &Nvml,
    instance: Instance,
    profile: u32,
    placement: Option<Placement>,
) -> Result<Compute, Error> {
    let mut made = ptr::null_mut();
    let Some(Placement { start, size }) = placement else {
        call!(nvml, nvmlGpuInstanceCreateComputeInstance(instance.0, profile, &raw mut made))?;
        return Ok(Compute(made));
    };
    let at = sys::nvmlComputeInstancePlacement_t { start, size };
    call!(
        nvml,
        nvmlGpuInstanceCreateComputeInstanceWithPlacement(
            instance.0,
            profile,
            &raw const at,
            &raw mut made
        )
    )?;
    Ok(Compute(made))
}

pub(crate) fn destroy_compute(nvml: &Nvml, compute: Compute) -> Result<(), Error> {
    call!(nvml, nvmlComputeInstanceDestroy(compute.0))
}

/// The UUID of a GPU or of a MIG device.
pub(crate) fn uuid(nvml: &Nvml, device: Device) -> Result<String, Error> {
    // NVML's own limit is 96.
    let mut chars = [0; 96];
    call!(nvml, nvmlDeviceGetUUID(device.0, chars.as_mut_ptr(), 96))?;
    Ok(text(&chars))
}

/// The activation status, which is not the return code.
pub(crate) fn set_mig_mode(nvml: &Nvml, device: Device, on: bool) -> Result<u32, Error> {
    let mut status = 0;
    call!(nvml, nvmlDeviceSetMigMode(device.0, on.into(), &raw mut status))?;
    Ok(status)
}

/// One of NVML's three lists of processes.
#[derive(Clone, Copy)]
pub(crate) enum Processes {
    Compute,
    Graphics,
    Mps,
}

pub(crate) fn processes(
    nvml: &Nvml,
    device: Device,
    list: Processes,
) -> Result<Vec<sys::nvmlProcessInfo_t>, Error> {
    let none =
        sys::nvmlProcessInfo_t { pid: 0, usedGpuMemory: 0, gpuInstanceId: 0, computeInstanceId: 0 };
    let mut rows = vec![none; 16];
    for _ in 0..TRIES_MAX {
        let mut count = c_uint::try_from(rows.len()).unwrap_or(c_uint::MAX);
        let (len, at) = (&raw mut count, rows.as_mut_ptr());
        let read = match list {
            Processes::Compute => {
                call!(nvml, nvmlDeviceGetComputeRunningProcesses_v3(device.0, len, at))
            }
            Processes::Graphics => {
                call!(nvml, nvmlDeviceGetGraphicsRunningProcesses_v3(device.0, len, at))
            }
            Processes::Mps => {
                call!(nvml, nvmlDeviceGetMPSComputeRunningProcesses_v3(device.0, len, at))
            }
        };
        match read {
            Err(error) if error.code() == Some(Code::InsufficientSize) => {
                rows.resize(count as usize + 16, none);
            }
            other => {
                other?;
                rows.truncate(count as usize);
                return Ok(rows);
            }
        }
    }
    Err(Error::Garbled { function: "running processes", what: "a list that never ends".to_owned() })
}

pub(crate) fn event_set(nvml: &Nvml) -> Result<EventSet, Error> {
    let mut set = ptr::null_mut();
    call!(nvml, nvmlEventSetCreate(&raw mut set))?;
    Ok(EventSet(set))
}

pub(crate) fn free_event_set(nvml: &Nvml, set: EventSet) -> Result<(), Error> {
    call!(nvml, nvmlEventSetFree(set.0))
}

/// Registers those of the wanted kinds that the GPU has.
pub(crate) fn register(
    nvml: &Nvml,
    device: Device,
    wanted: u64,
    set: EventSet,
) -> Result<(), Error> {
    let mut kinds: c_ulonglong = 0;
    call!(nvml, nvmlDeviceGetSupportedEventTypes(device.0, &raw mut kinds))?;
    call!(nvml, nvmlDeviceRegisterEvents(device.0, kinds & wanted, set.0))
}

/// `None` when the time ran out.
pub(crate) fn wait(
    nvml: &Nvml,
    set: EventSet,
    millis: u32,
) -> Result<Option<sys::nvmlEventData_t>, Error> {
    // SAFETY: numbers and a pointer, for which zeroes are values.
    let mut data: sys::nvmlEventData_t = unsafe { std::mem::zeroed() };
    match call!(nvml, nvmlEventSetWait_v2(set.0, &raw mut data, millis)) {
        Ok(()) => Ok(Some(data)),
        Err(error) if error.code() == Some(Code::Timeout) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn gpm_supported(nvml: &Nvml, device: Device) -> Result<bool, Error> {
    let mut support =
        sys::nvmlGpmSupport_t { version: sys::NVML_GPM_METRICS_GET_VERSION, isSupportedDevice: 0 };
    call!(nvml, nvmlGpmQueryDeviceSupport(device.0, &raw mut support))?;
    Ok(support.isSupportedDevice != 0)
}

/// A sample of one GPU instance, to be freed with [`free_sample`].
pub(crate) fn sample(nvml: &Nvml, device: Device, instance: u32) -> Result<Sample, Error> {
    let mut raw = ptr::null_mut();
    call!(nvml, nvmlGpmSampleAlloc(&raw mut raw))?;
    let taken = call!(nvml, nvmlGpmMigSampleGet(device.0, instance, raw));
    if let Err(error) = taken {
        free_sample(nvml, Sample(raw))?;
        return Err(error);
    }
    Ok(Sample(raw))
}

pub(crate) fn free_sample(nvml: &Nvml, sample: Sample) -> Result<(), Error> {
    call!(nvml, nvmlGpmSampleFree(sample.0))
}

/// Percent of multiprocessors in use between two samples.
pub(crate) fn sm_utilization(
    nvml: &Nvml,
    earlier: Sample,
    later: Sample,
) -> Result<Option<f64>, Error> {
    // SAFETY: numbers and pointers, for which zeroes are values.
    let mut metrics: Box<sys::nvmlGpmMetricsGet_t> = Box::new(unsafe { std::mem::zeroed() });
    metrics.version = sys::NVML_GPM_METRICS_GET_VERSION;
    metrics.numMetrics = 1;
    metrics.sample1 = earlier.0;
    metrics.sample2 = later.0;
    metrics.metrics[0].metricId = sys::nvmlGpmMetricId_t_NVML_GPM_METRIC_SM_UTIL;
    call!(nvml, nvmlGpmMetricsGet(&raw mut *metrics))?;
    let metric = metrics.metrics[0];
    Ok((metric.nvmlReturn == 0 && metric.value.is_finite()).then_some(metric.value))
}
