//! What a GPU is: names, addresses, memory, modes and processes.

use std::ffi::{c_char, c_uint};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlDeviceArchitecture_t, nvmlDeviceAttributes_t, nvmlEnableState_t,
    nvmlGpuVirtualizationMode_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_t, nvmlReturn_t,
};

use super::nvml;
use crate::code::{Code, Outcome};
use crate::entry::{fixed, get, put, put_list, put_text};
use crate::handle::Device;
use crate::state::{Gpu, GpuInstance, Process, ProcessKind, State};

/// NVML's value of an id or of an amount that is not there.
const NONE: c_uint = c_uint::MAX;

nvml! {
    fn nvmlDeviceGetName(device: nvmlDevice_t, name: *mut c_char, length: c_uint) read |state, _local| {
        let title = match state.device(device)? {
            Device::Gpu(gpu) => format!("NVIDIA {}", state.board(gpu)?.title),
            Device::Mig(_, gpu, instance, _) => {
                let board = state.board(gpu)?;
                let profile = board.profile(instance.profile).ok_or(Code::UNKNOWN)?;
                format!("NVIDIA {} MIG {}", board.title, profile.name)
            }
        };
        // SAFETY: the contract of the function.
        unsafe { put_text(name, length, &title) }
    }

    fn nvmlDeviceGetUUID(device: nvmlDevice_t, uuid: *mut c_char, length: c_uint) read |state, _local| {
        let text = match state.device(device)? {
            Device::Gpu(gpu) => &gpu.uuid,
            Device::Mig(.., one) => &one.uuid,
        };
        // SAFETY: the contract of the function.
        unsafe { put_text(uuid, length, text) }
    }

    fn nvmlDeviceGetSerial(device: nvmlDevice_t, serial: *mut c_char, length: c_uint) read |state, _local| {
        let text = state.gpu(device)?.serial.as_ref().ok_or(Code::NOT_SUPPORTED)?;
        // SAFETY: the contract of the function.
        unsafe { put_text(serial, length, text) }
    }

    fn nvmlDeviceGetVbiosVersion(device: nvmlDevice_t, version: *mut c_char, length: c_uint) read |state, _local| {
        // SAFETY: the contract of the function.
        unsafe { put_text(version, length, &state.gpu(device)?.vbios) }
    }

    fn nvmlDeviceGetArchitecture(device: nvmlDevice_t, arch: *mut nvmlDeviceArchitecture_t) read |state, _local| {
        let code = state.board(state.gpu(device)?)?.architecture_code();
        // SAFETY: the contract of the function.
        unsafe { put(arch, code) }
    }

    fn nvmlDeviceGetPciInfo_v3(device: nvmlDevice_t, pci: *mut nvmlPciInfo_t) read |state, _local| {
        let gpu = state.gpu(device)?;
        let info = pci_info(gpu, state.board(gpu)?.pci_device_id)?;
        // SAFETY: the contract of the function.
        unsafe { put(pci, info) }
    }

    fn nvmlDeviceGetMemoryInfo_v2(device: nvmlDevice_t, memory: *mut nvmlMemory_v2_t) read |state, _local| {
        // SAFETY: the contract of the function.
        let asked = unsafe { get(memory) }?;
        if asked.version >> 24 != 2 {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        let gpu = state.gpu(device)?;
        let total = state.board(gpu)?.memory_bytes();
        let used = gpu.processes.iter().filter_map(|process| process.memory).sum::<u64>();
        let free = total.saturating_sub(used);
        // SAFETY: the contract of the function.
        unsafe { put(memory, nvmlMemory_v2_t { version: asked.version, total, reserved: 0, free, used }) }
    }

    fn nvmlDeviceGetMinorNumber(device: nvmlDevice_t, minor: *mut c_uint) read |state, _local| {
        // SAFETY: the contract of the function.
        unsafe { put(minor, state.gpu(device)?.minor) }
    }

    fn nvmlDeviceGetIndex(device: nvmlDevice_t, index: *mut c_uint) read |state, _local| {
        let found = state.gpu_index(device)?;
        // SAFETY: the contract of the function.
        unsafe { put(index, c_uint::try_from(found).map_err(|_| Code::UNKNOWN)?) }
    }

    fn nvmlDeviceGetMigMode(device: nvmlDevice_t, current: *mut c_uint, pending: *mut c_uint) read |state, _local| {
        let mode = state.gpu(device)?.mig.ok_or(Code::NOT_SUPPORTED)?;
        // SAFETY: the contract of the function.
        unsafe {
            put(current, mode.current.into())?;
            put(pending, mode.pending.into())
        }
    }

    fn nvmlDeviceSetMigMode(device: nvmlDevice_t, mode: c_uint, status: *mut nvmlReturn_t) write |state, local| {
        let gpu = state.gpu_index(device)?;
        local.note = format!("gpu={gpu} mode={mode}");
        let on = match mode {
            0 => false,
            1 => true,
            _ => return Err(Code::INVALID_ARGUMENT),
        };
        let activation = state.set_mode(gpu, on)?;
        local.note = format!("gpu={gpu} mode={mode} status={activation}");
        // SAFETY: the contract of the function.
        unsafe { put(status, activation) }
    }

    fn nvmlDeviceGetVirtualizationMode(device: nvmlDevice_t, mode: *mut nvmlGpuVirtualizationMode_t) read |state, _local| {
        // SAFETY: the contract of the function.
        unsafe { put(mode, state.gpu(device)?.virtualization) }
    }

    fn nvmlDeviceGetPersistenceMode(device: nvmlDevice_t, mode: *mut nvmlEnableState_t) read |state, _local| {
        // SAFETY: the contract of the function.
        unsafe { put(mode, state.gpu(device)?.persistence.into()) }
    }

    fn nvmlDeviceGetDisplayActive(device: nvmlDevice_t, active: *mut nvmlEnableState_t) read |state, _local| {
        // SAFETY: the contract of the function.
        unsafe { put(active, state.gpu(device)?.display_active.into()) }
    }

    fn nvmlDeviceIsMigDeviceHandle(device: nvmlDevice_t, answer: *mut c_uint) read |state, _local| {
        let mig = matches!(state.device(device)?, Device::Mig(..));
        // SAFETY: the contract of the function.
        unsafe { put(answer, mig.into()) }
    }

    fn nvmlDeviceGetAttributes_v2(device: nvmlDevice_t, attributes: *mut nvmlDeviceAttributes_t) read |state, _local| {
        let Device::Mig(_, gpu, instance, one) = state.device(device)? else {
            return Err(Code::NOT_SUPPORTED);
        };
        let profile = state.board(gpu)?.profile(instance.profile).ok_or(Code::UNKNOWN)?;
        let found = nvmlDeviceAttributes_t {
            multiprocessorCount: profile.sm * one.size / profile.slices.max(1),
            sharedCopyEngineCount: profile.ce,
            sharedDecoderCount: profile.engines.dec,
            sharedEncoderCount: profile.engines.enc,
            sharedJpegCount: profile.engines.jpeg,
            sharedOfaCount: profile.engines.ofa,
            gpuInstanceSliceCount: profile.slices,
            computeInstanceSliceCount: one.size,
            memorySizeMB: profile.memory_mib,
        };
        // SAFETY: the contract of the function.
        unsafe { put(attributes, found) }
    }

    fn nvmlDeviceGetComputeRunningProcesses_v3(device: nvmlDevice_t, count: *mut c_uint, infos: *mut nvmlProcessInfo_t) read |state, _local| {
        let rows = processes(state, device, ProcessKind::Compute)?;
        // SAFETY: the contract of the function.
        unsafe { put_processes(count, infos, &rows) }
    }

    fn nvmlDeviceGetGraphicsRunningProcesses_v3(device: nvmlDevice_t, count: *mut c_uint, infos: *mut nvmlProcessInfo_t) read |state, _local| {
        let rows = processes(state, device, ProcessKind::Graphics)?;
        // SAFETY: the contract of the function.
        unsafe { put_processes(count, infos, &rows) }
    }

    fn nvmlDeviceGetMPSComputeRunningProcesses_v3(device: nvmlDevice_t, count: *mut c_uint, infos: *mut nvmlProcessInfo_t) read |state, _local| {
        let rows = processes(state, device, ProcessKind::Mps)?;
        // SAFETY: the contract of the function.
        unsafe { put_processes(count, infos, &rows) }
    }
}

/// A list without room is told the number and that it is too small, even when it is not there.
///
/// # Safety
///
/// As [`put_list`].
unsafe fn put_processes(
    count: *mut c_uint,
    infos: *mut nvmlProcessInfo_t,
    rows: &[nvmlProcessInfo_t],
) -> Outcome {
    // SAFETY: as the caller promises.
    unsafe { put_list(count, infos, rows) }?;
    if infos.is_null() && !rows.is_empty() { Err(Code::INSUFFICIENT_SIZE) } else { Ok(()) }
}

fn processes(
    state: &State,
    device: nvmlDevice_t,
    kind: ProcessKind,
) -> Outcome<Vec<nvmlProcessInfo_t>> {
    let device = state.device(device)?;
    let (gpu, only) = match device {
        Device::Gpu(gpu) => (gpu, None),
        Device::Mig(_, gpu, instance, one) => (gpu, Some((instance.start, one.id))),
    };
    let listed = gpu.processes.iter().filter(|process| process.kind == kind);
    let listed = listed.filter(|process| {
        only.is_none_or(|(start, id)| process.start == Some(start) && process.compute == id)
    });
    Ok(listed.map(|process| row(gpu, process)).collect())
}

fn row(gpu: &Gpu, process: &Process) -> nvmlProcessInfo_t {
    let at = |instance: &&GpuInstance| Some(instance.start) == process.start;
    let instance = gpu.instances.iter().find(at);
    nvmlProcessInfo_t {
        pid: process.pid,
        usedGpuMemory: process.memory.unwrap_or(u64::MAX),
        gpuInstanceId: instance.map_or(NONE, |instance| instance.id),
        computeInstanceId: instance.map_or(NONE, |_| process.compute),
    }
}

/// NVML prints a domain of eight digits.
fn pci_info(gpu: &Gpu, device_id: u32) -> Outcome<nvmlPciInfo_t> {
    let part = |text: Option<&str>| {
        text.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or(Code::UNKNOWN)
    };
    let mut parts = gpu.pci.split([':', '.']);
    let (domain, bus, slot) = (part(parts.next())?, part(parts.next())?, part(parts.next())?);
    Ok(nvmlPciInfo_t {
        busIdLegacy: fixed(&gpu.pci.to_uppercase()),
        domain,
        bus,
        device: slot,
        pciDeviceId: device_id << 16 | 0x10de,
        pciSubSystemId: 0x1450_10de,
        busId: fixed(&format!("0000{}", gpu.pci.to_uppercase())),
    })
}
