//! Faults, the log of calls, and handles of what is gone: what tests above this crate rely on.

use nvml_wrapper::Nvml;
use nvml_wrapper_sys::bindings as sys;
use trueup_fake_nvml::{Edit, Fault};
use trueup_nvml::{Code, ComputeProfileId, ComputeSlot, Error};

use crate::support::{Machine, slot, uuid};

#[test]
fn changes_are_logged_in_order() {
    let machine = Machine::cut("a100-40gb");
    machine.make(9, 4, 4).unwrap();
    machine.compute(slot(9, 4), 2).unwrap();
    machine.gpu(0);
    let compute = ComputeSlot { profile: ComputeProfileId(2), start: 0 };
    machine.client.destroy_compute_instance(&uuid(0), slot(9, 4), compute).unwrap();
    machine.client.destroy_gpu_instance(&uuid(0), slot(9, 4)).unwrap();
    assert_eq!(
        machine.store.calls().unwrap(),
        [
            "nvmlDeviceCreateGpuInstanceWithPlacement gpu=0 profile=9 start=4 size=4 -> 0",
            "nvmlGpuInstanceCreateComputeInstance gpu=0 in=4 profile=2 -> 0",
            "nvmlComputeInstanceDestroy gpu=0 in=4 profile=2 start=0 -> 0",
            "nvmlGpuInstanceDestroy gpu=0 profile=9 start=4 -> 0",
        ]
    );
}

#[test]
fn a_fault_strikes_the_nth_call_or_all_from_it() {
    let mut machine = Machine::cut("a100-40gb");
    let function = "nvmlDeviceCreateGpuInstanceWithPlacement";
    machine.fault(function, Fault { nth: 2, code: Some(23), ..Fault::default() });
    machine.make(19, 0, 1).unwrap();
    assert_eq!(machine.make(19, 1, 1).unwrap_err().code(), Some(Code::InsufficientResources));
    machine.make(19, 1, 1).unwrap();
    machine.fault(function, Fault { nth: 1, code: Some(4), sticky: true, ..Fault::default() });
    for _ in 0..3 {
        assert_eq!(machine.make(19, 2, 1).unwrap_err().code(), Some(Code::NoPermission));
    }
    assert_eq!(machine.gpu(0).instances.len(), 2);
}

#[test]
fn a_call_may_take_effect_and_still_fail() {
    let mut machine = Machine::cut("a100-40gb");
    let fault = Fault { nth: 1, code: Some(10), after: true, ..Fault::default() };
    machine.fault("nvmlDeviceCreateGpuInstanceWithPlacement", fault);
    assert_eq!(machine.make(9, 0, 4).unwrap_err().code(), Some(Code::Timeout));
    assert_eq!(machine.gpu(0).instances.len(), 1);
}

#[test]
fn an_operation_never_reaches_another_instance() {
    let machine = Machine::cut("a100-40gb");
    machine.make(19, 0, 1).unwrap();
    let error = machine.client.destroy_gpu_instance(&uuid(0), slot(19, 1)).unwrap_err();
    assert!(matches!(error, Error::NoInstance { start: 1, .. }), "{error:?}");
    let error = machine.client.destroy_gpu_instance(&uuid(0), slot(14, 0)).unwrap_err();
    assert!(matches!(error, Error::NoInstance { profile: 14, .. }), "{error:?}");
    assert_eq!(machine.gpu(0).instances.len(), 1);
}

/// What the client never does, the stand-in would show.
#[test]
fn handles_of_what_is_gone_are_refused() {
    let mut machine = Machine::cut("a100-40gb");
    machine.make(19, 0, 1).unwrap();
    let nvml = Nvml::builder().lib_path(machine.library.as_os_str()).init().unwrap();
    let device = nvml.device_by_index(0).unwrap();
    let list = nvml.lib().nvmlDeviceGetGpuInstances.as_ref().unwrap();
    let destroy = nvml.lib().nvmlGpuInstanceDestroy.as_ref().unwrap();
    let info = nvml.lib().nvmlGpuInstanceGetInfo.as_ref().unwrap();
    let mut handles = [std::ptr::null_mut(); 8];
    let mut count = 8;
    // SAFETY: numbers and pointers, for which zeroes are values.
    let mut told: sys::nvmlGpuInstanceInfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the handles are of this library, and the list is as long as is said; the stand-in
    // reads no memory behind a handle, also when it stands for nothing any more.
    unsafe {
        assert_eq!(list(device.handle(), 19, handles.as_mut_ptr(), &raw mut count), 0);
        assert_eq!(count, 1);
        assert_eq!(info(handles[0], &raw mut told), 0);
        assert_eq!(destroy(handles[0]), 0);
        assert_eq!(info(handles[0], &raw mut told), 2);
        assert_eq!(destroy(handles[0]), 2);
        assert_eq!(info(std::ptr::null_mut(), &raw mut told), 2);
        assert_eq!(info(device.handle().cast(), &raw mut told), 2, "a handle of another kind");
    }
    machine.edit(&Edit::Reboot);
    assert!(device.name().is_err(), "a handle from before the reboot");
    std::mem::forget(nvml);
}

#[test]
fn the_codes_beyond_the_wrapper_have_names() {
    for number in 1..=30 {
        let code = Code::of(number);
        assert_eq!(code.number(), number);
        assert!(!matches!(code, Code::Other(_)), "{number}");
    }
    assert_eq!(Code::of(23), Code::InsufficientResources);
    assert_eq!(Code::of(31), Code::Other(31));
    assert_eq!(Code::of(999), Code::Unknown);
}
