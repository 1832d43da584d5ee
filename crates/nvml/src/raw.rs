//! The calls that the safe wrapper does not have, or has with a defect, as safe functions.
//!
//! Symbols are taken from the fields of the table, never from its methods of the same name: those
//! panic where a driver is too old. Handles never leave the crate.

use std::ffi::{c_char, c_uint, c_ulonglong};
use std::ptr;

use nvml_wrapper::Nvml;
use nvml_wrapper_sys::bindings as sys;

use crate::error::{Code, Error};

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

/// Calls a function of the table; private to this module and those within it, whose functions pass
/// handles of the same library and pointers to variables of their own.
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

mod instance;

pub(crate) use instance::{
    compute_info, compute_placements, compute_profile, computes, create_compute, create_instance,
    destroy_compute, destroy_instance, instance_info, instances, placements, profile_info,
};

pub(crate) fn text(chars: &[c_char]) -> String {
    let bytes: Vec<u8> =
        chars.iter().map(|one| one.cast_unsigned()).take_while(|one| *one != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
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

/// What the driver says has to be done; `None` where it does not know the question.
pub(crate) fn recovery_action(nvml: &Nvml, device: Device) -> Result<Option<u32>, Error> {
    // SAFETY: numbers and a union of numbers, for which zeroes are values.
    let mut field: sys::nvmlFieldValue_t = unsafe { std::mem::zeroed() };
    // Of those fields that have one number with all drivers.
    field.fieldId = sys::field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION;
    call!(nvml, nvmlDeviceGetFieldValues(device.0, 1, &raw mut field))?;
    if field.nvmlReturn != 0 {
        let error = Error::coded("nvmlDeviceGetFieldValues", field.nvmlReturn);
        return if error.ends_gpu() { Err(error) } else { Ok(None) };
    }
    // SAFETY: every member of the union is a number, and all of its bytes were set above.
    Ok(Some(unsafe { field.value.uiVal }))
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
