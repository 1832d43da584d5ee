//! Sensors and counters: what the state does not have is `NOT_SUPPORTED`.

use std::ffi::{c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    field_id, nvmlClockType_t, nvmlDevice_t, nvmlEccCounterType_t, nvmlEnableState_t,
    nvmlFieldValue_t, nvmlMemoryErrorType_t, nvmlNvLinkErrorCounter_t, nvmlPageRetirementCause_t,
    nvmlTemperatureSensors_t, nvmlUtilization_t,
};

use super::nvml;
use crate::code::{Code, Outcome};
use crate::entry::{put, put_list};
use crate::state::{Gpu, NvLink};

nvml! {
    fn nvmlDeviceGetEccMode(device: nvmlDevice_t, current: *mut nvmlEnableState_t, pending: *mut nvmlEnableState_t) read |state, _local| {
        let (now, then) = state.gpu(device)?.health.ecc_mode.ok_or(Code::NOT_SUPPORTED)?;
        // SAFETY: the contract of the function.
        unsafe {
            put(current, now.into())?;
            put(pending, then.into())
        }
    }

    fn nvmlDeviceGetTotalEccErrors(device: nvmlDevice_t, error: nvmlMemoryErrorType_t, counter: nvmlEccCounterType_t, count: *mut c_ulonglong) read |state, _local| {
        let health = &state.gpu(device)?.health;
        let counts = if counter == 0 { health.ecc_volatile } else { health.ecc_aggregate };
        let (corrected, uncorrected) = counts.ok_or(Code::NOT_SUPPORTED)?;
        // SAFETY: the contract of the function.
        unsafe { put(count, if error == 0 { corrected } else { uncorrected }) }
    }

    fn nvmlDeviceGetRetiredPages_v2(device: nvmlDevice_t, cause: nvmlPageRetirementCause_t, count: *mut c_uint, addresses: *mut c_ulonglong, timestamps: *mut c_ulonglong) read |state, _local| {
        let pages = retired(state.gpu(device)?, cause)?;
        // SAFETY: the contract of the function.
        unsafe { put_list(count, addresses, pages) }?;
        if timestamps.is_null() {
            return Ok(());
        }
        for place in 0..pages.len() {
            // SAFETY: as many times as addresses, which the caller has room for.
            unsafe { put(timestamps.add(place), 0) }?;
        }
        Ok(())
    }

    fn nvmlDeviceGetRetiredPagesPendingStatus(device: nvmlDevice_t, pending: *mut nvmlEnableState_t) read |state, _local| {
        let waiting = state.gpu(device)?.health.retirement_pending.ok_or(Code::NOT_SUPPORTED)?;
        // SAFETY: the contract of the function.
        unsafe { put(pending, waiting.into()) }
    }

    fn nvmlDeviceGetRemappedRows(device: nvmlDevice_t, corrected: *mut c_uint, uncorrected: *mut c_uint, pending: *mut c_uint, failure: *mut c_uint) read |state, _local| {
        let rows = state.gpu(device)?.health.remapped_rows.ok_or(Code::NOT_SUPPORTED)?;
        // SAFETY: the contract of the function.
        unsafe {
            put(corrected, rows.0)?;
            put(uncorrected, rows.1)?;
            put(pending, rows.2.into())?;
            put(failure, rows.3.into())
        }
    }

    fn nvmlDeviceGetTemperature(device: nvmlDevice_t, _sensor: nvmlTemperatureSensors_t, degrees: *mut c_uint) read |state, _local| {
        let found = state.gpu(device)?.health.temperature.ok_or(Code::NOT_SUPPORTED)?;
        // SAFETY: the contract of the function.
        unsafe { put(degrees, found) }
    }

    fn nvmlDeviceGetPowerUsage(device: nvmlDevice_t, power: *mut c_uint) read |state, _local| {
        let found = state.gpu(device)?.health.power.ok_or(Code::NOT_SUPPORTED)?;
        // SAFETY: the contract of the function.
        unsafe { put(power, found) }
    }

    fn nvmlDeviceGetEnforcedPowerLimit(device: nvmlDevice_t, limit: *mut c_uint) read |state, _local| {
        let found = state.gpu(device)?.health.power_limit.ok_or(Code::NOT_SUPPORTED)?;
        // SAFETY: the contract of the function.
        unsafe { put(limit, found) }
    }

    fn nvmlDeviceGetClockInfo(device: nvmlDevice_t, kind: nvmlClockType_t, clock: *mut c_uint) read |state, _local| {
        let clocks = state.gpu(device)?.health.clocks.ok_or(Code::NOT_SUPPORTED)?;
        // SAFETY: the contract of the function.
        unsafe { put(clock, *clocks.get(kind as usize).ok_or(Code::INVALID_ARGUMENT)?) }
    }

    fn nvmlDeviceGetCurrentClocksEventReasons(device: nvmlDevice_t, reasons: *mut c_ulonglong) read |state, _local| {
        let found = state.gpu(device)?.health.clock_reasons.ok_or(Code::NOT_SUPPORTED)?;
        // SAFETY: the contract of the function.
        unsafe { put(reasons, found) }
    }

    fn nvmlDeviceGetUtilizationRates(device: nvmlDevice_t, utilization: *mut nvmlUtilization_t) read |state, _local| {
        let gpu = state.gpu(device)?;
        // With MIG on, NVML gives no figure for the whole GPU.
        let on = gpu.mig.is_some_and(|mode| mode.current);
        let found = gpu.health.utilization.filter(|_| !on);
        let (gpu, memory) = found.ok_or(Code::NOT_SUPPORTED)?;
        // SAFETY: the contract of the function.
        unsafe { put(utilization, nvmlUtilization_t { gpu, memory }) }
    }

    fn nvmlDeviceGetFieldValues(device: nvmlDevice_t, count: c_int, values: *mut nvmlFieldValue_t) read |state, _local| {
        let health = &state.gpu(device)?.health;
        if values.is_null() || count < 1 {
            return Err(Code::INVALID_ARGUMENT);
        }
        for place in 0..usize::try_from(count).map_err(|_| Code::INVALID_ARGUMENT)? {
            // SAFETY: as many values as are said, which are the caller's to be filled.
            let field = unsafe { &mut *values.add(place) };
            // A field that is not known fails by itself, and the call as a whole does not.
            let known = field.fieldId == field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION;
            let found = health.recovery.filter(|_| known);
            field.nvmlReturn = if found.is_some() { 0 } else { Code::NOT_SUPPORTED.0 };
            field.value.uiVal = found.unwrap_or(0);
        }
        Ok(())
    }

    fn nvmlDeviceGetNvLinkState(device: nvmlDevice_t, link: c_uint, active: *mut nvmlEnableState_t) read |state, _local| {
        let found = nvlink(state.gpu(device)?, link)?;
        // SAFETY: the contract of the function.
        unsafe { put(active, found.active.into()) }
    }

    fn nvmlDeviceGetNvLinkErrorCounter(device: nvmlDevice_t, link: c_uint, counter: nvmlNvLinkErrorCounter_t, count: *mut c_ulonglong) read |state, _local| {
        let errors = nvlink(state.gpu(device)?, link)?.errors;
        // SAFETY: the contract of the function.
        unsafe { put(count, *errors.get(counter as usize).ok_or(Code::NOT_SUPPORTED)?) }
    }
}

fn retired(gpu: &Gpu, cause: nvmlPageRetirementCause_t) -> Outcome<&[u64]> {
    let (single, double) = gpu.health.retired_pages.as_ref().ok_or(Code::NOT_SUPPORTED)?;
    match cause {
        0 => Ok(single),
        1 => Ok(double),
        _ => Err(Code::INVALID_ARGUMENT),
    }
}

fn nvlink(gpu: &Gpu, link: c_uint) -> Outcome<&NvLink> {
    if gpu.health.nvlinks.is_empty() {
        return Err(Code::NOT_SUPPORTED);
    }
    gpu.health.nvlinks.get(link as usize).ok_or(Code::INVALID_ARGUMENT)
}
