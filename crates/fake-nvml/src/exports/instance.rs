//! GPU instances and compute instances: profiles, placements, listing, making and destroying.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t,
    nvmlComputeInstanceProfileInfo_v2_t, nvmlDevice_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t,
    nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_t, nvmlGpuInstanceProfileInfo_v2_t,
};

use super::nvml;
use crate::board::Profile;
use crate::code::{Code, Outcome};
use crate::entry::{fixed, get, put, put_all, put_list};
use crate::handle::{Device, Kind, make};
use crate::mig::{compute_size, compute_starts};
use crate::state::State;

/// Compute instance profiles that this driver numbers.
const COMPUTE_INDICES: c_uint = 8;

nvml! {
    fn nvmlDeviceGetMaxMigDeviceCount(device: nvmlDevice_t, count: *mut c_uint) read |state, _local| {
        let slices = state.board(state.gpu(device)?)?.slices;
        // SAFETY: the contract of the function.
        unsafe { put(count, slices) }
    }

    fn nvmlDeviceGetMigDeviceHandleByIndex(device: nvmlDevice_t, index: c_uint, mig: *mut nvmlDevice_t) read |state, _local| {
        let gpu = state.gpu_index(device)?;
        let mut all = state.gpus[gpu].instances.iter().flat_map(|instance| &instance.compute);
        let one = all.nth(index as usize).ok_or(Code::NOT_FOUND)?;
        // SAFETY: the contract of the function.
        unsafe { put(mig, make(Kind::Mig, gpu, one.serial)) }
    }

    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig: nvmlDevice_t, device: *mut nvmlDevice_t) read |state, _local| {
        let Device::Mig(gpu, ..) = state.device(mig)? else { return Err(Code::INVALID_ARGUMENT) };
        // SAFETY: the contract of the function.
        unsafe { put(device, make(Kind::Gpu, gpu, state.epoch)) }
    }

    fn nvmlDeviceGetGpuInstanceId(device: nvmlDevice_t, id: *mut c_uint) read |state, _local| {
        let Device::Mig(_, _, instance, _) = state.device(device)? else { return Err(Code::INVALID_ARGUMENT) };
        // SAFETY: the contract of the function.
        unsafe { put(id, instance.id) }
    }

    fn nvmlDeviceGetComputeInstanceId(device: nvmlDevice_t, id: *mut c_uint) read |state, _local| {
        let Device::Mig(.., one) = state.device(device)? else { return Err(Code::INVALID_ARGUMENT) };
        // SAFETY: the contract of the function.
        unsafe { put(id, one.id) }
    }

    fn nvmlDeviceGetGpuInstanceProfileInfo(device: nvmlDevice_t, profile: c_uint, info: *mut nvmlGpuInstanceProfileInfo_t) read |state, _local| {
        let found = profile_at(state, device, profile)?;
        let plain = nvmlGpuInstanceProfileInfo_t {
            id: found.id,
            isP2pSupported: 0,
            sliceCount: found.slices,
            instanceCount: found.max,
            multiprocessorCount: found.sm,
            copyEngineCount: found.ce,
            decoderCount: found.engines.dec,
            encoderCount: found.engines.enc,
            jpegCount: found.engines.jpeg,
            ofaCount: found.engines.ofa,
            memorySizeMB: found.memory_mib,
        };
        // SAFETY: the contract of the function.
        unsafe { put(info, plain) }
    }

    fn nvmlDeviceGetGpuInstanceProfileInfoV(device: nvmlDevice_t, profile: c_uint, info: *mut nvmlGpuInstanceProfileInfo_v2_t) read |state, _local| {
        // SAFETY: the contract of the function; the version stands first in every version.
        let version = unsafe { get(info.cast::<c_uint>()) }?;
        expect_v2::<nvmlGpuInstanceProfileInfo_v2_t>(version)?;
        let found = profile_at(state, device, profile)?;
        let named = nvmlGpuInstanceProfileInfo_v2_t {
            version,
            id: found.id,
            isP2pSupported: 0,
            sliceCount: found.slices,
            instanceCount: found.max,
            multiprocessorCount: found.sm,
            copyEngineCount: found.ce,
            decoderCount: found.engines.dec,
            encoderCount: found.engines.enc,
            jpegCount: found.engines.jpeg,
            ofaCount: found.engines.ofa,
            memorySizeMB: found.memory_mib,
            name: fixed(&format!("MIG {}", found.name)),
        };
        // SAFETY: the contract of the function, and the version says that it is this structure.
        unsafe { put(info, named) }
    }

    fn nvmlDeviceGetGpuInstancePossiblePlacements_v2(device: nvmlDevice_t, profile: c_uint, placements: *mut nvmlGpuInstancePlacement_t, count: *mut c_uint) read |state, _local| {
        let found = profile_with(state, device, profile)?;
        let all: Vec<_> = found.starts.iter()
            .map(|start| nvmlGpuInstancePlacement_t { start: *start, size: found.size })
            .collect();
        // SAFETY: the contract of the function.
        unsafe { put_list(count, placements, &all) }
    }

    fn nvmlDeviceGetGpuInstanceRemainingCapacity(device: nvmlDevice_t, profile: c_uint, count: *mut c_uint) read |state, _local| {
        let left = state.remaining(state.gpu(device)?, profile_with(state, device, profile)?)?;
        // SAFETY: the contract of the function.
        unsafe { put(count, left) }
    }

    fn nvmlDeviceCreateGpuInstance(device: nvmlDevice_t, profile: c_uint, instance: *mut nvmlGpuInstance_t) write |state, local| {
        let gpu = state.gpu_index(device)?;
        local.note = format!("gpu={gpu} profile={profile}");
        let serial = state.create_instance(gpu, profile, None)?;
        // SAFETY: the contract of the function.
        unsafe { put(instance, make(Kind::Instance, gpu, serial)) }
    }

    fn nvmlDeviceCreateGpuInstanceWithPlacement(device: nvmlDevice_t, profile: c_uint, placement: *const nvmlGpuInstancePlacement_t, instance: *mut nvmlGpuInstance_t) write |state, local| {
        let gpu = state.gpu_index(device)?;
        // SAFETY: the contract of the function.
        let at = unsafe { get(placement) }?;
        local.note = format!("gpu={gpu} profile={profile} start={} size={}", at.start, at.size);
        let serial = state.create_instance(gpu, profile, Some((at.start, at.size)))?;
        // SAFETY: the contract of the function.
        unsafe { put(instance, make(Kind::Instance, gpu, serial)) }
    }

    fn nvmlDeviceGetGpuInstances(device: nvmlDevice_t, profile: c_uint, instances: *mut nvmlGpuInstance_t, count: *mut c_uint) read |state, _local| {
        let gpu = state.gpu_index(device)?;
        if !state.gpus[gpu].mig.is_some_and(|mode| mode.current) {
            return Err(Code::NOT_SUPPORTED);
        }
        profile_with(state, device, profile)?;
        let alike = state.gpus[gpu].instances.iter().filter(|instance| instance.profile == profile);
        let all: Vec<_> = alike.map(|instance| make(Kind::Instance, gpu, instance.serial)).collect();
        // SAFETY: the contract of the function.
        unsafe { put_all(count, instances, &all) }
    }

    fn nvmlDeviceGetGpuInstanceById(device: nvmlDevice_t, id: c_uint, instance: *mut nvmlGpuInstance_t) read |state, _local| {
        let gpu = state.gpu_index(device)?;
        let found = state.gpus[gpu].instances.iter().find(|instance| instance.id == id);
        // SAFETY: the contract of the function.
        unsafe { put(instance, make(Kind::Instance, gpu, found.ok_or(Code::NOT_FOUND)?.serial)) }
    }

    fn nvmlGpuInstanceGetInfo(instance: nvmlGpuInstance_t, info: *mut nvmlGpuInstanceInfo_t) read |state, _local| {
        let (gpu, place) = state.instance(instance)?;
        let found = &state.gpus[gpu].instances[place];
        let size = state.board(&state.gpus[gpu])?.profile(found.profile).map_or(0, |one| one.size);
        let told = nvmlGpuInstanceInfo_t {
            device: make(Kind::Gpu, gpu, state.epoch),
            id: found.id,
            profileId: found.profile,
            placement: nvmlGpuInstancePlacement_t { start: found.start, size },
        };
        // SAFETY: the contract of the function.
        unsafe { put(info, told) }
    }

    fn nvmlGpuInstanceDestroy(instance: nvmlGpuInstance_t) write |state, local| {
        let (gpu, place) = state.instance(instance)?;
        let found = &state.gpus[gpu].instances[place];
        local.note = format!("gpu={gpu} profile={} start={}", found.profile, found.start);
        state.destroy_instance(gpu, place)
    }

    fn nvmlGpuInstanceGetComputeInstanceProfileInfoV(instance: nvmlGpuInstance_t, profile: c_uint, engine: c_uint, info: *mut nvmlComputeInstanceProfileInfo_v2_t) read |state, _local| {
        // SAFETY: the contract of the function; the version stands first in every version.
        let version = unsafe { get(info.cast::<c_uint>()) }?;
        expect_v2::<nvmlComputeInstanceProfileInfo_v2_t>(version)?;
        let (gpu, place) = state.instance(instance)?;
        if profile >= COMPUTE_INDICES || engine > 0 {
            return Err(Code::INVALID_ARGUMENT);
        }
        let slices = state.slices_of(gpu, place)?;
        let size = compute_size(profile, slices).ok_or(Code::NOT_SUPPORTED)?;
        let board = state.board(&state.gpus[gpu])?;
        let of = board.profile(state.gpus[gpu].instances[place].profile).ok_or(Code::UNKNOWN)?;
        let whole = size == slices;
        let name = if whole { format!("MIG {}", of.name) } else { format!("MIG {size}c.{}", of.name) };
        let told = nvmlComputeInstanceProfileInfo_v2_t {
            version,
            id: profile,
            sliceCount: size,
            instanceCount: c_uint::try_from(compute_starts(size, slices).len()).map_err(|_| Code::UNKNOWN)?,
            multiprocessorCount: of.sm * size / slices.max(1),
            sharedCopyEngineCount: of.ce,
            sharedDecoderCount: of.engines.dec,
            sharedEncoderCount: of.engines.enc,
            sharedJpegCount: of.engines.jpeg,
            sharedOfaCount: of.engines.ofa,
            name: fixed(&name),
        };
        // SAFETY: the contract of the function, and the version says that it is this structure.
        unsafe { put(info, told) }
    }

    fn nvmlGpuInstanceGetComputeInstancePossiblePlacements(instance: nvmlGpuInstance_t, profile: c_uint, placements: *mut nvmlComputeInstancePlacement_t, count: *mut c_uint) read |state, _local| {
        let (gpu, place) = state.instance(instance)?;
        let slices = state.slices_of(gpu, place)?;
        let size = compute_size(profile, slices).ok_or(Code::INVALID_ARGUMENT)?;
        let starts = compute_starts(size, slices).into_iter();
        let all: Vec<_> = starts.map(|start| nvmlComputeInstancePlacement_t { start, size }).collect();
        // SAFETY: the contract of the function.
        unsafe { put_list(count, placements, &all) }
    }

    fn nvmlGpuInstanceCreateComputeInstance(instance: nvmlGpuInstance_t, profile: c_uint, compute: *mut nvmlComputeInstance_t) write |state, local| {
        let (gpu, place) = state.instance(instance)?;
        local.note = format!("gpu={gpu} in={} profile={profile}", state.gpus[gpu].instances[place].start);
        let serial = state.create_compute(gpu, place, profile, None)?;
        // SAFETY: the contract of the function.
        unsafe { put(compute, make(Kind::Compute, gpu, serial)) }
    }

    fn nvmlGpuInstanceCreateComputeInstanceWithPlacement(instance: nvmlGpuInstance_t, profile: c_uint, placement: *const nvmlComputeInstancePlacement_t, compute: *mut nvmlComputeInstance_t) write |state, local| {
        let (gpu, place) = state.instance(instance)?;
        // SAFETY: the contract of the function.
        let at = unsafe { get(placement) }?;
        let within = state.gpus[gpu].instances[place].start;
        local.note = format!("gpu={gpu} in={within} profile={profile} start={} size={}", at.start, at.size);
        let serial = state.create_compute(gpu, place, profile, Some((at.start, at.size)))?;
        // SAFETY: the contract of the function.
        unsafe { put(compute, make(Kind::Compute, gpu, serial)) }
    }

    fn nvmlGpuInstanceGetComputeInstances(instance: nvmlGpuInstance_t, profile: c_uint, computes: *mut nvmlComputeInstance_t, count: *mut c_uint) read |state, _local| {
        let (gpu, place) = state.instance(instance)?;
        compute_size(profile, state.slices_of(gpu, place)?).ok_or(Code::INVALID_ARGUMENT)?;
        let alike = state.gpus[gpu].instances[place].compute.iter().filter(|one| one.profile == profile);
        let all: Vec<_> = alike.map(|one| make(Kind::Compute, gpu, one.serial)).collect();
        // SAFETY: the contract of the function.
        unsafe { put_all(count, computes, &all) }
    }

    fn nvmlGpuInstanceGetComputeInstanceById(instance: nvmlGpuInstance_t, id: c_uint, compute: *mut nvmlComputeInstance_t) read |state, _local| {
        let (gpu, place) = state.instance(instance)?;
        let found = state.gpus[gpu].instances[place].compute.iter().find(|one| one.id == id);
        // SAFETY: the contract of the function.
        unsafe { put(compute, make(Kind::Compute, gpu, found.ok_or(Code::NOT_FOUND)?.serial)) }
    }

    fn nvmlComputeInstanceGetInfo_v2(compute: nvmlComputeInstance_t, info: *mut nvmlComputeInstanceInfo_t) read |state, _local| {
        let (gpu, place, at) = state.compute(compute)?;
        let instance = &state.gpus[gpu].instances[place];
        let one = &instance.compute[at];
        let told = nvmlComputeInstanceInfo_t {
            device: make(Kind::Mig, gpu, one.serial),
            gpuInstance: make(Kind::Instance, gpu, instance.serial),
            id: one.id,
            profileId: one.profile,
            placement: nvmlComputeInstancePlacement_t { start: one.start, size: one.size },
        };
        // SAFETY: the contract of the function.
        unsafe { put(info, told) }
    }

    fn nvmlComputeInstanceDestroy(compute: nvmlComputeInstance_t) write |state, local| {
        let (gpu, place, at) = state.compute(compute)?;
        let within = state.gpus[gpu].instances[place].start;
        let one = &state.gpus[gpu].instances[place].compute[at];
        local.note = format!("gpu={gpu} in={within} profile={} start={}", one.profile, one.start);
        state.destroy_compute(gpu, place, at)
    }
}

/// The version that the caller has to have filled in: the size and a two.
fn expect_v2<T>(version: c_uint) -> Outcome {
    let wanted = size_of::<T>() | 2 << 24;
    if version as usize == wanted { Ok(()) } else { Err(Code::ARGUMENT_VERSION_MISMATCH) }
}

/// By enum index. Before Hopper the driver tells nothing while MIG is off.
fn profile_at(state: &State, device: nvmlDevice_t, index: c_uint) -> Outcome<&Profile> {
    let gpu = state.gpu(device)?;
    if index >= state.profile_indices {
        return Err(Code::INVALID_ARGUMENT);
    }
    let board = state.board(gpu)?;
    let told = gpu.mig.is_some_and(|mode| mode.current || board.architecture != "ampere");
    let found = board.profiles.iter().find(|profile| profile.index == index);
    found.filter(|_| told).ok_or(Code::NOT_SUPPORTED)
}

/// By profile id.
fn profile_with(state: &State, device: nvmlDevice_t, id: c_uint) -> Outcome<&Profile> {
    let gpu = state.gpu(device)?;
    gpu.mig.ok_or(Code::NOT_SUPPORTED)?;
    state.board(gpu)?.profile(id).ok_or(Code::INVALID_ARGUMENT)
}
