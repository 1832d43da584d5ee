//! GPM: the utilisation of one instance, from two samples.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlGpmMetricId_t_NVML_GPM_METRIC_SM_UTIL, nvmlGpmMetricsGet_t, nvmlGpmSample_t,
    nvmlGpmSupport_t,
};

use super::nvml;
use crate::code::Code;
use crate::entry::{get, put};
use crate::handle::{Kind, make, open};

nvml! {
    fn nvmlGpmQueryDeviceSupport(device: nvmlDevice_t, support: *mut nvmlGpmSupport_t) read |state, _local| {
        // SAFETY: the contract of the function.
        let asked = unsafe { get(support) }?;
        let there = state.gpu(device)?.health.gpm.is_some();
        let told = nvmlGpmSupport_t { version: asked.version, isSupportedDevice: there.into() };
        // SAFETY: the contract of the function.
        unsafe { put(support, told) }
    }

    fn nvmlGpmSampleAlloc(sample: *mut nvmlGpmSample_t) read |_state, local| {
        let serial = local.next();
        local.samples.insert(serial, None);
        // SAFETY: the contract of the function.
        unsafe { put(sample, make(Kind::Sample, 0, serial)) }
    }

    fn nvmlGpmSampleFree(sample: nvmlGpmSample_t) read |_state, local| {
        let (_, serial) = open(Kind::Sample, sample)?;
        local.samples.remove(&serial).map(drop).ok_or(Code::INVALID_ARGUMENT)
    }

    fn nvmlGpmMigSampleGet(device: nvmlDevice_t, instance: c_uint, sample: nvmlGpmSample_t) read |state, local| {
        let gpu = state.gpu(device)?;
        let (_, serial) = open(Kind::Sample, sample)?;
        let figures = gpu.health.gpm.as_ref().ok_or(Code::NOT_SUPPORTED)?;
        let start = gpu.instances.iter().find(|one| one.id == instance).ok_or(Code::INVALID_ARGUMENT)?.start;
        let slot = local.samples.get_mut(&serial).ok_or(Code::INVALID_ARGUMENT)?;
        *slot = Some(figures.get(&start).copied().unwrap_or(0.0));
        Ok(())
    }

    fn nvmlGpmMetricsGet(metrics: *mut nvmlGpmMetricsGet_t) read |_state, local| {
        if metrics.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: not null, and the contract of the function says that it is the caller's to fill.
        let asked = unsafe { &mut *metrics };
        let (_, first) = open(Kind::Sample, asked.sample1)?;
        let (_, second) = open(Kind::Sample, asked.sample2)?;
        let taken = |serial| local.samples.get(&serial).copied().flatten();
        let (Some(_), Some(newest)) = (taken(first), taken(second)) else {
            return Err(Code::INVALID_ARGUMENT);
        };
        for metric in asked.metrics.iter_mut().take(asked.numMetrics as usize) {
            let known = metric.metricId == nvmlGpmMetricId_t_NVML_GPM_METRIC_SM_UTIL;
            metric.nvmlReturn = if known { 0 } else { Code::NOT_SUPPORTED.0 };
            metric.value = newest;
        }
        Ok(())
    }
}
