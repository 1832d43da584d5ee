//! Profiles, instances and compute instances: told, listed, made and destroyed.
//!
//! GPU instances and compute instances go by different types and functions of the same shape.

use std::ffi::{c_char, c_uint};
use std::ptr;

use nvml_wrapper::Nvml;
use nvml_wrapper_sys::bindings as sys;

use super::{Compute, Device, Instance, text};
use crate::error::{Code, Error};
use crate::record::{Placement, ProfileId, ProfileIndex};

/// Instances asked for at a time: twice what any board has.
const INSTANCES_MAX: usize = 32;
/// Placements of one profile asked for at a time: more than any board has units.
const PLACEMENTS_MAX: usize = 64;

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

fn profile_name(chars: &[c_char]) -> Option<String> {
    let name = text(chars);
    let name = name.strip_prefix("MIG ").unwrap_or(&name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// The version that NVML wants in a structure: its size and its number.
fn version<T>(number: u32) -> c_uint {
    c_uint::try_from(size_of::<T>()).unwrap_or(0) | number << 24
}

/// A list that NVML fills, with its length, into room for `MAX` items.
fn listed<T: Copy, const MAX: usize>(
    function: &'static str,
    none: T,
    read: impl FnOnce(*mut T, *mut c_uint) -> Result<(), Error>,
) -> Result<Vec<T>, Error> {
    let mut list = [none; MAX];
    let mut count = c_uint::try_from(MAX).unwrap_or(c_uint::MAX);
    read(list.as_mut_ptr(), &raw mut count)?;
    let found = usize::try_from(count).ok().and_then(|len| list.get(..len));
    let what = || format!("{count} of at most {MAX} items");
    Ok(found.ok_or_else(|| Error::Garbled { function, what: what() })?.to_vec())
}

/// The handle of something that NVML makes.
fn made<T>(make: impl FnOnce(*mut *mut T) -> Result<(), Error>) -> Result<*mut T, Error> {
    let mut made = ptr::null_mut();
    make(&raw mut made)?;
    Ok(made)
}

/// The members that both versions of NVML's structure have.
macro_rules! profile_of {
    ($info:expr, $name:expr) => {
        ProfileInfo {
            id: ProfileId($info.id),
            name: $name,
            slices: $info.sliceCount,
            max: $info.instanceCount,
            multiprocessors: $info.multiprocessorCount,
            memory_mib: $info.memorySizeMB,
            copy: $info.copyEngineCount,
            decoders: $info.decoderCount,
            encoders: $info.encoderCount,
            jpeg: $info.jpegCount,
            ofa: $info.ofaCount,
        }
    };
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
    Ok(profile_of!(info, profile_name(&info.name)))
}

fn plain_profile_info(
    nvml: &Nvml,
    device: Device,
    index: ProfileIndex,
) -> Result<ProfileInfo, Error> {
    // SAFETY: numbers, for which zeroes are values.
    let mut info: sys::nvmlGpuInstanceProfileInfo_t = unsafe { std::mem::zeroed() };
    call!(nvml, nvmlDeviceGetGpuInstanceProfileInfo(device.0, index.0, &raw mut info))?;
    Ok(profile_of!(info, None))
}

/// Where instances of a profile may lie on an empty board. The safe wrapper of 0.13.0 always gives
/// an empty list.
pub(crate) fn placements(
    nvml: &Nvml,
    device: Device,
    profile: ProfileId,
) -> Result<Vec<Placement>, Error> {
    let none = sys::nvmlGpuInstancePlacement_t { start: 0, size: 0 };
    let name = "nvmlDeviceGetGpuInstancePossiblePlacements_v2";
    let list = listed::<_, PLACEMENTS_MAX>(name, none, |at, len| {
        call!(nvml, nvmlDeviceGetGpuInstancePossiblePlacements_v2(device.0, profile.0, at, len))
    })?;
    Ok(list.iter().map(|one| Placement { start: one.start, size: one.size }).collect())
}

pub(crate) fn instances(
    nvml: &Nvml,
    device: Device,
    profile: ProfileId,
) -> Result<Vec<Instance>, Error> {
    let none = ptr::null_mut();
    let list = listed::<_, INSTANCES_MAX>("nvmlDeviceGetGpuInstances", none, |at, len| {
        call!(nvml, nvmlDeviceGetGpuInstances(device.0, profile.0, at, len))
    })?;
    Ok(list.into_iter().map(Instance).collect())
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
    let at =
        placement.map(|Placement { start, size }| sys::nvmlGpuInstancePlacement_t { start, size });
    let made = made(|into| match &at {
        None => call!(nvml, nvmlDeviceCreateGpuInstance(device.0, profile.0, into)),
        Some(at) => {
            let at = ptr::from_ref(at);
            call!(nvml, nvmlDeviceCreateGpuInstanceWithPlacement(device.0, profile.0, at, into))
        }
    });
    made.map(Instance)
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
    let none = sys::nvmlComputeInstancePlacement_t { start: 0, size: 0 };
    let name = "nvmlGpuInstanceGetComputeInstancePossiblePlacements";
    let list = listed::<_, PLACEMENTS_MAX>(name, none, |at, len| {
        let of = instance.0;
        call!(nvml, nvmlGpuInstanceGetComputeInstancePossiblePlacements(of, profile, at, len))
    })?;
    Ok(list.iter().map(|one| Placement { start: one.start, size: one.size }).collect())
}

pub(crate) fn computes(
    nvml: &Nvml,
    instance: Instance,
    profile: u32,
) -> Result<Vec<Compute>, Error> {
    let none = ptr::null_mut();
    let list =
        listed::<_, INSTANCES_MAX>("nvmlGpuInstanceGetComputeInstances", none, |at, len| {
            call!(nvml, nvmlGpuInstanceGetComputeInstances(instance.0, profile, at, len))
        })?;
    Ok(list.into_iter().map(Compute).collect())
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
    let of = instance.0;
    let at = placement
        .map(|Placement { start, size }| sys::nvmlComputeInstancePlacement_t { start, size });
    let made = made(|into| match &at {
        None => call!(nvml, nvmlGpuInstanceCreateComputeInstance(of, profile, into)),
        Some(at) => {
            let at = ptr::from_ref(at);
            call!(nvml, nvmlGpuInstanceCreateComputeInstanceWithPlacement(of, profile, at, into))
        }
    });
    made.map(Compute)
}

pub(crate) fn destroy_compute(nvml: &Nvml, compute: Compute) -> Result<(), Error> {
    call!(nvml, nvmlComputeInstanceDestroy(compute.0))
}
