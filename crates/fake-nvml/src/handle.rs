//! Handles: small tagged numbers in place of pointers, checked on every call.
//!
//! A real driver trusts a handle; here one of something destroyed, or from before a reload, is
//! `INVALID_ARGUMENT`, which shows a use after destruction.

use crate::code::{Code, Outcome};
use crate::state::{ComputeInstance, Gpu, GpuInstance, State};

const KIND_SHIFT: u32 = 56;
const GPU_SHIFT: u32 = 48;
const SERIAL_MASK: u64 = (1 << GPU_SHIFT) - 1;

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Gpu = 0x51,
    Instance = 0x52,
    Compute = 0x53,
    Mig = 0x54,
    EventSet = 0x55,
    Sample = 0x56,
}

/// The pointer that stands for it.
pub(crate) fn make<T>(kind: Kind, gpu: usize, serial: u64) -> *mut T {
    let bits = (kind as u64) << KIND_SHIFT | (gpu as u64) << GPU_SHIFT | (serial & SERIAL_MASK);
    bits as usize as *mut T
}

/// The index of the GPU and the serial behind a handle of this kind.
pub(crate) fn open<T>(kind: Kind, handle: *mut T) -> Outcome<(usize, u64)> {
    let bits = handle as usize as u64;
    if bits >> KIND_SHIFT != kind as u64 {
        return Err(Code::INVALID_ARGUMENT);
    }
    let gpu = (bits >> GPU_SHIFT & 0xff) as usize;
    Ok((gpu, bits & SERIAL_MASK))
}

fn is<T>(kind: Kind, handle: *mut T) -> bool {
    handle as usize as u64 >> KIND_SHIFT == kind as u64
}

/// What a device handle stands for.
pub(crate) enum Device<'a> {
    Gpu(&'a Gpu),
    Mig(usize, &'a Gpu, &'a GpuInstance, &'a ComputeInstance),
}

impl State {
    /// The index of a whole GPU that is on the bus.
    pub(crate) fn gpu_index<T>(&self, handle: *mut T) -> Outcome<usize> {
        let (index, epoch) = open(Kind::Gpu, handle)?;
        let gpu = self.gpus.get(index).ok_or(Code::INVALID_ARGUMENT)?;
        if epoch != self.epoch {
            return Err(Code::INVALID_ARGUMENT);
        }
        if gpu.lost { Err(Code::GPU_IS_LOST) } else { Ok(index) }
    }

    pub(crate) fn gpu<T>(&self, handle: *mut T) -> Outcome<&Gpu> {
        self.gpu_index(handle).map(|index| &self.gpus[index])
    }

    /// A GPU or a MIG device.
    pub(crate) fn device<T>(&self, handle: *mut T) -> Outcome<Device<'_>> {
        if !is(Kind::Mig, handle) {
            return self.gpu_index(handle).map(|index| Device::Gpu(&self.gpus[index]));
        }
        let (index, serial) = open(Kind::Mig, handle)?;
        let gpu = self.gpus.get(index).ok_or(Code::INVALID_ARGUMENT)?;
        if gpu.lost {
            return Err(Code::GPU_IS_LOST);
        }
        let (instance, compute) = find_compute(gpu, serial)?;
        Ok(Device::Mig(
            index,
            gpu,
            &gpu.instances[instance],
            &gpu.instances[instance].compute[compute],
        ))
    }

    /// The places of a GPU and of one of its instances.
    pub(crate) fn instance<T>(&self, handle: *mut T) -> Outcome<(usize, usize)> {
        let (index, serial) = open(Kind::Instance, handle)?;
        let gpu = self.gpus.get(index).ok_or(Code::INVALID_ARGUMENT)?;
        if gpu.lost {
            return Err(Code::GPU_IS_LOST);
        }
        let place = gpu.instances.iter().position(|instance| instance.serial == serial);
        Ok((index, place.ok_or(Code::INVALID_ARGUMENT)?))
    }

    /// The places of a GPU, of one of its instances, and of a compute instance in that.
    pub(crate) fn compute<T>(&self, handle: *mut T) -> Outcome<(usize, usize, usize)> {
        let (index, serial) = open(Kind::Compute, handle)?;
        let gpu = self.gpus.get(index).ok_or(Code::INVALID_ARGUMENT)?;
        if gpu.lost {
            return Err(Code::GPU_IS_LOST);
        }
        find_compute(gpu, serial).map(|(instance, compute)| (index, instance, compute))
    }
}

fn find_compute(gpu: &Gpu, serial: u64) -> Outcome<(usize, usize)> {
    let places = gpu.instances.iter().enumerate();
    let mut found = places.flat_map(|(at, instance)| {
        instance.compute.iter().enumerate().map(move |(place, one)| (at, place, one.serial))
    });
    let found = found.find(|(.., one)| *one == serial);
    found.map(|(instance, place, _)| (instance, place)).ok_or(Code::INVALID_ARGUMENT)
}
