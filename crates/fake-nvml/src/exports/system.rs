//! Initialisation, and what belongs to the driver rather than to a GPU.

use std::ffi::{CStr, c_char, c_uint};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use super::nvml;
use crate::code::Code;
use crate::entry::{self, put, put_text};
use crate::handle::{Kind, make};

/// As the function of this name in NVML's reference.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    entry::init("nvmlInit_v2")
}

/// As the function of this name in NVML's reference; the flags make no difference.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> nvmlReturn_t {
    entry::init("nvmlInit_v2")
}

/// As the function of this name in NVML's reference.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    entry::shutdown()
}

nvml! {
    fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) read |state, _local| {
        // SAFETY: the contract of the function.
        unsafe { put_text(version, length, &state.driver) }
    }

    fn nvmlDeviceGetCount_v2(count: *mut c_uint) read |state, _local| {
        // SAFETY: the contract of the function.
        unsafe { put(count, c_uint::try_from(state.gpus.len()).map_err(|_| Code::UNKNOWN)?) }
    }

    fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut nvmlDevice_t) read |state, _local| {
        let gpu = state.gpus.get(index as usize).ok_or(Code::INVALID_ARGUMENT)?;
        if gpu.lost {
            return Err(Code::GPU_IS_LOST);
        }
        // SAFETY: the contract of the function.
        unsafe { put(device, make(Kind::Gpu, index as usize, state.epoch)) }
    }

    fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut nvmlDevice_t) read |state, _local| {
        if uuid.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: not null, and the contract of the function says that it is text with its end.
        let wanted = unsafe { CStr::from_ptr(uuid) }.to_string_lossy();
        let mut handle = None;
        for (index, gpu) in state.gpus.iter().enumerate().filter(|(_, gpu)| !gpu.lost) {
            if gpu.uuid == wanted {
                handle = Some(make(Kind::Gpu, index, state.epoch));
            }
            let compute = gpu.instances.iter().flat_map(|instance| &instance.compute);
            for one in compute.filter(|one| one.uuid == wanted) {
                handle = Some(make(Kind::Mig, index, one.serial));
            }
        }
        // SAFETY: the contract of the function.
        unsafe { put(device, handle.ok_or(Code::NOT_FOUND)?) }
    }

    fn nvmlDeviceGetHandleByPciBusId_v2(pci: *const c_char, device: *mut nvmlDevice_t) read |state, _local| {
        if pci.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: not null, and the contract of the function says that it is text with its end.
        let wanted = unsafe { CStr::from_ptr(pci) }.to_string_lossy().to_lowercase();
        let short = wanted.strip_prefix("0000").filter(|rest| rest.len() == 12).unwrap_or(&wanted);
        let index = state.gpus.iter().position(|gpu| gpu.pci == short).ok_or(Code::NOT_FOUND)?;
        if state.gpus[index].lost {
            return Err(Code::GPU_IS_LOST);
        }
        // SAFETY: the contract of the function.
        unsafe { put(device, make(Kind::Gpu, index, state.epoch)) }
    }
}
