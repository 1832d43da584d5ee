//! What is observed: inventory, profiles, health, losses, and a machine without a driver.

use std::path::Path;

use serde_json::json;
use trueup_fake_nvml::{Edit, Process, ProcessKind, State};
use trueup_nvml::{
    Architecture, Client, Code, Error, Gpu, MigMode, ProfileId, ProfileIndex, Recovery,
    Virtualization, pci_address,
};

use crate::support::{Machine, slot, uuid};

#[test]
fn the_inventory_is_read() {
    let machine = Machine::with(&["a100-40gb", "h100-80gb"]);
    let observed = machine.client.observe().unwrap();
    assert_eq!(observed.driver, "580.95.05");
    let first = machine.gpu(0);
    assert_eq!(first.identity.uuid, uuid(0));
    assert_eq!(first.identity.serial.as_deref(), Some("1650000000000"));
    assert_eq!(first.identity.pci, "0000:07:00.0", "four digits of domain, as sysfs has it");
    assert_eq!(first.pci_device, 0x20b0_10de);
    assert_eq!(first.architecture, Architecture::Ampere);
    assert_eq!(first.vbios.as_deref(), Some("96.00.5E.00.01"));
    assert_eq!(first.memory.unwrap().total, 40_320 << 20);
    assert_eq!(first.mig, Some(MigMode { current: false, pending: false }));
    assert_eq!(first.virtualization, Some(Virtualization::None));
    assert_eq!(first.persistence, Some(true));
    assert!(first.unread.is_empty(), "{:?}", first.unread);
    assert_eq!(machine.gpu(1).architecture, Architecture::Hopper);
    let text = serde_json::to_string(&observed).unwrap();
    assert_eq!(serde_json::from_str::<trueup_nvml::Observation>(&text).unwrap(), observed);
}

#[test]
fn an_unknown_architecture_is_no_error() {
    let mut state = State::with_boards(&["b200-180gb"]).unwrap();
    state.boards.get_mut("b200-180gb").unwrap().architecture = "rubin".to_owned();
    let machine = Machine::of(state);
    assert_eq!(machine.gpu(0).architecture, Architecture::Unknown(Some(77)));
}

#[test]
fn profiles_come_with_placements_names_and_engines() {
    let machine = Machine::cut("rtx-pro-6000-blackwell-96gb");
    let profiles = machine.gpu(0).profiles;
    assert_eq!(profiles.len(), 11, "holes are skipped");
    let plain = profiles.iter().find(|profile| profile.id == ProfileId(14)).unwrap();
    assert_eq!(plain.index, ProfileIndex(0), "two numberings");
    assert_eq!(plain.name.as_deref(), Some("1g.24gb"));
    let starts: Vec<u32> = plain.placements.iter().map(|at| at.start).collect();
    assert_eq!(starts, [0, 3, 6, 9], "twelve units");
    assert!(plain.placements.iter().all(|at| at.size == 3));
    let last = profiles.iter().find(|profile| profile.id == ProfileId(64)).unwrap();
    assert_eq!((last.index, last.engines.decoders, last.engines.ofa), (ProfileIndex(16), 4, 1));
}

#[test]
fn a_longer_enumeration_than_the_bindings_know_is_read_to_its_end() {
    let mut state = State::with_boards(&["h100-80gb"]).unwrap();
    state.profile_indices = 40;
    state.boards.get_mut("h100-80gb").unwrap().profiles[0].index = 33;
    let machine = Machine::of(state);
    assert!(machine.gpu(0).profiles.iter().any(|profile| profile.index == ProfileIndex(33)));
}

#[test]
fn profiles_are_told_without_mig_from_hopper_on() {
    let machine = Machine::with(&["a100-40gb", "h100-80gb"]);
    assert!(machine.gpu(0).profiles.is_empty());
    assert_eq!(machine.gpu(1).profiles.len(), 7);
}

#[test]
fn processes_are_told_with_their_instance() {
    let mut machine = Machine::cut("a100-40gb");
    let made = machine.make(9, 4, 4).unwrap();
    machine.compute(slot(9, 4), 2).unwrap();
    let process = Process {
        pid: 4242,
        kind: ProcessKind::Compute,
        memory: Some(1 << 30),
        start: Some(4),
        compute: 0,
    };
    machine.edit(&Edit::AddProcess { gpu: 0, process });
    let whole = Process { pid: 7, kind: ProcessKind::Graphics, ..Process::default() };
    machine.edit(&Edit::AddProcess { gpu: 0, process: whole });
    let seen = machine.gpu(0).processes;
    assert_eq!((seen[0].pid, seen[0].memory, seen[0].gpu_instance), (7, None, None));
    assert_eq!((seen[1].pid, seen[1].gpu_instance), (4242, Some(made.id)));
    assert_eq!(seen[1].memory, Some(1 << 30));
}

#[test]
fn more_processes_than_first_asked_for_are_all_told() {
    let mut machine = Machine::with(&["h100-80gb"]);
    for pid in 1..=50 {
        machine.edit(&Edit::AddProcess { gpu: 0, process: Process { pid, ..Process::default() } });
    }
    assert_eq!(machine.gpu(0).processes.len(), 50);
}

#[test]
fn health_is_read_and_what_is_not_supported_is_none() {
    let mut machine = Machine::with(&["a100-40gb"]);
    machine.patch(
        0,
        json!({"health": {
            "ecc_volatile": [3, 1], "retired_pages": [[1, 2], [3]], "retirement_pending": true,
            "remapped_rows": [1, 2, true, false], "temperature": 77, "utilization": [55, 20],
            "power": null, "nvlinks": [{"active": true, "errors": [5, 6, 7, 8]}, {"active": false}],
        }}),
    );
    let gpu = machine.gpu(0);
    let health = gpu.health;
    let volatile = health.ecc_volatile.unwrap();
    assert_eq!((volatile.corrected, volatile.uncorrected), (3, 1));
    assert_eq!(health.retired_pages, Some((2, 1)));
    assert_eq!(health.retirement_pending, Some(true));
    assert!(health.remapped_rows.unwrap().pending);
    assert_eq!((health.temperature, health.power), (Some(77), None));
    assert_eq!((health.utilization, health.memory_utilization), (Some(55), Some(20)));
    assert_eq!((health.sm_clock, health.memory_clock), (Some(1410), Some(1593)));
    assert_eq!(health.nvlinks.len(), 2);
    assert_eq!((health.nvlinks[0].active, health.nvlinks[0].crc_errors), (true, Some(7)));
    assert!(gpu.unread.is_empty(), "{:?}", gpu.unread);
}

#[test]
fn what_has_to_be_done_is_read_where_the_driver_says_it() {
    let mut machine = Machine::with(&["h100-80gb"]);
    assert_eq!(machine.gpu(0).health.recovery, None, "an older driver");
    for (number, meant) in [(0, Recovery::None), (2, Recovery::Reboot), (9, Recovery::Unknown(9))] {
        machine.patch(0, json!({"health": {"recovery": number}}));
        let gpu = machine.gpu(0);
        assert_eq!(gpu.health.recovery, Some(meant));
        assert!(gpu.unread.is_empty(), "{:?}", gpu.unread);
    }
    machine.edit(&trueup_fake_nvml::Edit::Reset { gpu: 0 });
    assert_eq!(machine.gpu(0).health.recovery, Some(Recovery::None));
}

#[test]
fn heat_and_the_power_brake_are_troubles_and_a_cap_is_none() {
    let mut machine = Machine::with(&["h100-80gb"]);
    for (bits, thermal, power_brake) in [
        (1, false, false),
        (4, false, false),
        (32, true, false),
        (64 | 8, true, false),
        (128, false, true),
    ] {
        machine.patch(0, json!({"health": {"clock_reasons": bits}}));
        let seen = machine.gpu(0).health.slowdown();
        assert_eq!((seen.thermal, seen.power_brake), (thermal, power_brake), "{bits}");
    }
}

#[test]
fn a_failed_sensor_is_named_and_the_rest_is_read() {
    let mut machine = Machine::with(&["a100-40gb"]);
    let fault = trueup_fake_nvml::Fault { nth: 1, code: Some(999), ..Default::default() };
    machine.fault("nvmlDeviceGetPowerUsage", fault);
    let gpu = machine.gpu(0);
    assert_eq!((gpu.health.power, gpu.health.temperature), (None, Some(41)));
    assert_eq!(gpu.unread.len(), 1);
    assert_eq!(gpu.unread[0].code, Some(Code::Unknown));
    assert!(gpu.unread[0].error.contains("nvmlDeviceGetPowerUsage"));
}

#[test]
fn utilization_of_an_instance_needs_two_looks() {
    let mut machine = Machine::cut("h100-80gb");
    machine.make(9, 0, 4).unwrap();
    assert_eq!(machine.gpu(0).instances[0].utilization, None, "gpm is not supported");
    machine.patch(0, json!({"health": {"gpm": {"0": 62.5}}}));
    assert_eq!(machine.gpu(0).instances[0].utilization, None);
    assert_eq!(machine.gpu(0).instances[0].utilization, Some(62.5));
}

#[test]
fn a_lost_gpu_is_an_entry_and_hides_no_other() {
    let mut machine = Machine::with(&["h100-80gb", "h100-80gb", "h100-80gb"]);
    let before = machine.gpu(1).identity;
    machine.edit(&Edit::Lose { gpu: 1 });
    let gpus = machine.client.observe().unwrap().gpus;
    assert_eq!(gpus.len(), 3);
    assert!(matches!((&gpus[0], &gpus[2]), (Gpu::Present(_), Gpu::Present(_))));
    let Gpu::Failed(failed) = &gpus[1] else { panic!("{:?}", gpus[1]) };
    assert_eq!((failed.index, failed.code), (1, Some(Code::GpuIsLost)));
    assert_eq!(failed.identity.as_ref(), Some(&before), "known from before");
    let error = machine.client.set_mig_mode(&uuid(1), true).unwrap_err();
    assert_eq!(error.code(), Some(Code::GpuIsLost));
    machine.edit(&Edit::Return { gpu: 1 });
    assert_eq!(machine.gpu(1).identity, before);
}

#[test]
fn a_gpu_lost_halfway_through_the_look_is_no_half_record() {
    let mut machine = Machine::with(&["h100-80gb", "h100-80gb"]);
    let edit = vec![Edit::Lose { gpu: 0 }];
    let fault = trueup_fake_nvml::Fault { nth: 1, edit, ..Default::default() };
    machine.fault("nvmlDeviceGetTemperature", fault);
    let gpus = machine.client.observe().unwrap().gpus;
    assert!(matches!(&gpus[0], Gpu::Failed(failed) if failed.code == Some(Code::GpuIsLost)));
    assert!(matches!(&gpus[1], Gpu::Present(_)));
}

#[test]
fn without_a_library_or_a_driver_nothing_can_be_observed() {
    let missing = Client::open(Some(Path::new("/nonexistent/libnvidia-ml.so.1"))).err().unwrap();
    assert!(matches!(&missing, Error::Unobservable { why } if why.contains("driver installed")));
    let other = Client::open(Some(Path::new("libc.so.6"))).err().unwrap();
    assert!(matches!(&other, Error::Unobservable { why } if why.contains("no NVML library")));
    let mut machine = Machine::with(&["h100-80gb"]);
    machine.edit(&Edit::DriverUnload);
    let gone = machine.client.observe().unwrap_err();
    assert!(matches!(gone, Error::Unobservable { .. }), "{gone:?}");
    let closed = Client::open(Some(&machine.library)).err().unwrap();
    assert!(matches!(&closed, Error::Unobservable { why } if why.contains("kernel module")));
}

#[test]
fn an_unknown_gpu_is_answered_with_those_there_are() {
    let machine = Machine::with(&["h100-80gb"]);
    let error = machine.client.set_mig_mode("GPU-nobody", true).unwrap_err();
    assert!(error.to_string().contains(&uuid(0)), "{error}");
}

#[test]
fn addresses_are_brought_into_one_form() {
    assert_eq!(pci_address("00000000:07:00.0").as_deref(), Some("0000:07:00.0"));
    assert_eq!(pci_address("0001:AF:1F.7").as_deref(), Some("0001:af:1f.7"));
    assert_eq!(pci_address("07:00.0"), None);
}
