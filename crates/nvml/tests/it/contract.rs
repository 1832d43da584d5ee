//! The behaviours of a driver that the rest of the program relies on, one test each.
//!
//! They hold on the stand-in; what of them can be read without a change is compared with a real
//! GPU in `real`.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use trueup_fake_nvml::{Edit, Fault, Process, State, Store};
use trueup_nvml::{
    Code, ComputeProfileId, ComputeSlot, Error, EventKind, MigMode, ModeChange, Placement,
};

use crate::support::{Machine, slot, uuid};

const ON: MigMode = MigMode { current: true, pending: true };
const OFF: MigMode = MigMode { current: false, pending: false };
const AWAITED: MigMode = MigMode { current: false, pending: true };

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    result.unwrap_err().code().unwrap()
}

/// 1. The mode: pending and current, what a change waits for, and what outlives a restart.
#[test]
fn ampere_awaits_a_reset_and_keeps_its_mode() {
    let mut machine = Machine::with(&["a100-40gb"]);
    assert_eq!(machine.client.set_mig_mode(&uuid(0), true), Ok(ModeChange::NeedsReset));
    assert_eq!(machine.gpu(0).mig, Some(AWAITED));
    assert_eq!(code(machine.make(9, 0, 4)), Code::NotSupported);
    machine.edit(&Edit::Reset { gpu: 0 });
    assert_eq!(machine.gpu(0).mig, Some(ON));
    machine.edit(&Edit::DriverReload { driver: None });
    machine.reopen();
    assert_eq!(machine.gpu(0).mig, Some(ON));
    machine.edit(&Edit::Reboot);
    machine.reopen();
    assert_eq!(machine.gpu(0).mig, Some(ON));
}

#[test]
fn hopper_changes_at_once_and_forgets() {
    let mut machine = Machine::with(&["h100-80gb"]);
    assert_eq!(machine.client.set_mig_mode(&uuid(0), true), Ok(ModeChange::Active));
    assert_eq!(machine.gpu(0).mig, Some(ON));
    machine.edit(&Edit::DriverReload { driver: Some("590.10".to_owned()) });
    let stale = machine.client.observe().unwrap_err();
    assert!(matches!(stale, Error::Unobservable { .. }), "{stale:?}");
    machine.reopen();
    assert_eq!(machine.gpu(0).mig, Some(OFF));
    assert_eq!(machine.client.observe().unwrap().driver, "590.10");
}

#[test]
fn a_mode_change_waits_for_whoever_uses_the_gpu() {
    let mut machine = Machine::with(&["h100-80gb"]);
    machine.patch(0, json!({"hidden_holders": 1}));
    assert_eq!(machine.client.set_mig_mode(&uuid(0), true), Ok(ModeChange::InUse));
    assert_eq!(machine.gpu(0).mig, Some(AWAITED));
    machine.patch(0, json!({"hidden_holders": 0}));
    assert_eq!(machine.client.set_mig_mode(&uuid(0), true), Ok(ModeChange::Active));
}

#[test]
fn a_guest_cannot_reset_what_was_passed_through_to_it() {
    let mut machine = Machine::with(&["a100-40gb"]);
    machine.patch(0, json!({"resets_itself": true, "virtualization": 1}));
    assert_eq!(machine.client.set_mig_mode(&uuid(0), true), Ok(ModeChange::NeedsReset));
    machine.patch(0, json!({"virtualization": 0}));
    assert_eq!(machine.client.set_mig_mode(&uuid(0), true), Ok(ModeChange::Active));
}

#[test]
fn a_board_in_the_wrong_display_mode_has_no_mig() {
    let mut machine = Machine::with(&["rtx-pro-6000-blackwell-96gb"]);
    machine.patch(0, json!({"mig": null}));
    let gpu = machine.gpu(0);
    assert_eq!((gpu.mig, gpu.profiles.len()), (None, 0));
    assert_eq!(code(machine.client.set_mig_mode(&uuid(0), true)), Code::NotSupported);
}

/// 2. Somebody holds a compute instance and is listed nowhere.
#[test]
fn a_hidden_holder_refuses_without_a_process() {
    let mut machine = Machine::cut("a100-40gb");
    machine.make(9, 0, 4).unwrap();
    machine.compute(slot(9, 0), 2).unwrap();
    machine.edit(&Edit::Hold { gpu: 0, start: 0, holders: 1 });
    let compute = ComputeSlot { profile: ComputeProfileId(2), start: 0 };
    let destroy = || machine.client.destroy_compute_instance(&uuid(0), slot(9, 0), compute);
    assert_eq!(code(destroy()), Code::InUse);
    assert!(machine.gpu(0).processes.is_empty());
    Store::at(machine.store.path()).edit(&Edit::Hold { gpu: 0, start: 0, holders: 0 }).unwrap();
    destroy().unwrap();
}

/// 3. Right after its compute instance a GPU instance may still be in use.
#[test]
fn a_gpu_instance_may_refuse_for_a_moment() {
    let mut machine = Machine::cut("a100-40gb");
    machine.patch(0, json!({"destroy_refusals": 2}));
    machine.make(9, 0, 4).unwrap();
    machine.compute(slot(9, 0), 2).unwrap();
    let destroy = || machine.client.destroy_gpu_instance(&uuid(0), slot(9, 0));
    assert_eq!(code(destroy()), Code::InUse, "a compute instance is in it");
    let compute = ComputeSlot { profile: ComputeProfileId(2), start: 0 };
    machine.client.destroy_compute_instance(&uuid(0), slot(9, 0), compute).unwrap();
    assert_eq!([code(destroy()), code(destroy())], [Code::InUse; 2]);
    destroy().unwrap();
    assert!(machine.gpu(0).instances.is_empty());
}

/// 4. A GPU instance is made and its compute instance is not.
#[test]
fn a_compute_instance_may_fail_and_leave_its_gpu_instance() {
    let mut machine = Machine::cut("a100-40gb");
    let fault = Fault { nth: 1, code: Some(999), ..Fault::default() };
    machine.fault("nvmlGpuInstanceCreateComputeInstance", fault);
    machine.make(14, 2, 2).unwrap();
    assert_eq!(code(machine.compute(slot(14, 2), 1)), Code::Unknown);
    let left = machine.gpu(0).instances;
    assert_eq!((left.len(), left[0].compute.len()), (1, 0));
    machine.compute(slot(14, 2), 1).unwrap();
}

/// 5. Equal boards number equal placements differently.
#[test]
fn ids_are_no_identity() {
    let mut machine = Machine::cut("a100-40gb");
    let ids = |machine: &Machine| {
        [(19, 2, 1), (14, 0, 2), (9, 4, 4)]
            .map(|(profile, start, size)| machine.make(profile, start, size).unwrap().id.0)
    };
    assert_eq!(ids(&machine), [9, 3, 2]);
    machine.patch(0, json!({"instances": [], "mirrored": true}));
    assert_eq!(ids(&machine), [13, 5, 1], "as published of the second of two equal boards");
}

/// 6. Where the firmware puts what nobody placed, and what does not fit.
#[test]
fn the_firmware_places_as_published() {
    let placed = |profiles: &[u32]| {
        let machine = Machine::cut("a100-40gb");
        let starts: Result<Vec<u32>, Error> =
            profiles.iter().map(|profile| machine.make_anywhere(*profile)).collect();
        starts
    };
    assert_eq!(placed(&[19; 7]).unwrap(), [6, 4, 5, 0, 1, 2, 3]);
    assert_eq!(placed(&[14, 19, 19, 19, 19, 19]).unwrap(), [4, 6, 0, 1, 2, 3]);
    assert_eq!(placed(&[9, 19, 14, 19]).unwrap(), [4, 0, 2, 1]);
    assert_eq!(placed(&[19, 14, 5]).unwrap(), [6, 4, 0]);
    assert_eq!(code(placed(&[19, 19, 14, 9])), Code::InsufficientResources);
}

#[test]
fn what_overlaps_or_exhausts_an_engine_has_no_room() {
    let machine = Machine::cut("a100-40gb");
    machine.make(9, 4, 4).unwrap();
    assert_eq!(code(machine.make(19, 5, 1)), Code::InsufficientResources, "overlapping");
    assert_eq!(code(machine.make(9, 4, 4)), Code::InsufficientResources, "there already");
    assert_eq!(code(machine.make(14, 1, 2)), Code::InvalidArgument, "no such start");
    machine.make(20, 0, 1).unwrap();
    assert_eq!(code(machine.make(20, 1, 1)), Code::InsufficientResources, "one with media engines");
    machine.make(19, 1, 1).unwrap();
}

#[test]
fn placed_instances_may_come_in_any_order() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let machine = Machine::cut("a100-40gb");
        let wanted = [(19, 6, 1), (14, 4, 2), (5, 0, 4)];
        for (profile, start, size) in order.map(|at: usize| wanted[at]) {
            machine.make(profile, start, size).unwrap();
        }
        let seen: Vec<_> = machine
            .gpu(0)
            .instances
            .iter()
            .map(|one| (one.profile.0, one.placement.start))
            .collect();
        assert_eq!(seen, [(5, 0), (14, 4), (19, 6)]);
    }
}

/// 7. Names and ids belong to the board and to the driver.
#[test]
fn a_driver_update_may_rename_a_profile() {
    let mut machine = Machine::with(&["b200-180gb"]);
    let name = |machine: &Machine| machine.gpu(0).profiles[0].name.clone().unwrap();
    let before = name(&machine);
    machine
        .store
        .change(|state| {
            let board = state.boards.get_mut("b200-180gb").unwrap();
            board.profiles[0].name = "1g.99gb".to_owned();
        })
        .unwrap();
    assert_ne!(name(&machine), before);
}

#[test]
fn an_unknown_profile_is_refused() {
    let machine = Machine::cut("a30-24gb");
    assert_eq!(code(machine.make(19, 0, 1)), Code::InvalidArgument, "an id of another board");
    let made = machine.make(14, 3, 1).unwrap();
    assert_eq!(made.placement, Placement { start: 3, size: 1 });
}

/// 8. Instances go with a reboot and with the driver.
#[test]
fn instances_do_not_outlive_a_reboot() {
    for edit in [Edit::Reboot, Edit::DriverReload { driver: None }] {
        let mut machine = Machine::cut("a100-40gb");
        machine.make(9, 0, 4).unwrap();
        machine.edit(&edit);
        machine.reopen();
        let gpu = machine.gpu(0);
        assert_eq!((gpu.mig, gpu.instances.len()), (Some(ON), 0));
    }
}

/// 9. An instance made again has another UUID.
#[test]
fn a_mig_uuid_is_never_seen_twice() {
    let machine = Machine::cut("a100-40gb");
    machine.make(19, 0, 1).unwrap();
    let first = machine.compute(slot(19, 0), 0).unwrap();
    assert!(first.starts_with("MIG-"));
    assert_eq!(machine.gpu(0).instances[0].compute[0].uuid, first);
    let compute = ComputeSlot { profile: ComputeProfileId(0), start: 0 };
    machine.client.destroy_compute_instance(&uuid(0), slot(19, 0), compute).unwrap();
    machine.client.destroy_gpu_instance(&uuid(0), slot(19, 0)).unwrap();
    machine.make(19, 0, 1).unwrap();
    assert_ne!(machine.compute(slot(19, 0), 0).unwrap(), first);
}

/// 10. The machine changes between a look and the step that relies on it.
#[test]
fn a_process_may_come_or_go_right_before_a_step() {
    let compute = ComputeSlot { profile: ComputeProfileId(2), start: 0 };
    let process = Process { pid: 99, start: Some(0), ..Process::default() };
    let coming = Edit::AddProcess { gpu: 0, process: process.clone() };
    let function = "nvmlComputeInstanceDestroy";

    let mut machine = Machine::cut("a100-40gb");
    machine.make(9, 0, 4).unwrap();
    machine.compute(slot(9, 0), 2).unwrap();
    assert!(machine.gpu(0).processes.is_empty());
    machine.fault(function, Fault { nth: 1, edit: vec![coming], ..Fault::default() });
    let destroyed = machine.client.destroy_compute_instance(&uuid(0), slot(9, 0), compute);
    assert_eq!(code(destroyed), Code::InUse);
    let going = Edit::RemoveProcess { pid: 99 };
    machine.fault(function, Fault { nth: 1, edit: vec![going], ..Fault::default() });
    machine.client.destroy_compute_instance(&uuid(0), slot(9, 0), compute).unwrap();
}

#[test]
fn a_gpu_instance_may_be_cut_into_compute_instances() {
    let machine = Machine::cut("h100-80gb");
    machine.make(5, 0, 4).unwrap();
    let place = |profile, start, size| {
        let at = Some(Placement { start, size });
        let profile = ComputeProfileId(profile);
        machine.client.create_compute_instance(&uuid(0), slot(5, 0), profile, at)
    };
    place(1, 2, 2).unwrap();
    place(0, 0, 1).unwrap();
    assert_eq!(code(place(1, 0, 2)), Code::InsufficientResources);
    let instance = &machine.gpu(0).instances[0];
    let cut: Vec<_> =
        instance.compute.iter().map(|one| (one.profile.0, one.placement.start)).collect();
    assert_eq!(cut, [(0, 0), (1, 2)]);
    let names: Vec<_> =
        instance.compute_profiles.iter().filter_map(|one| one.name.as_deref()).collect();
    assert_eq!(names, ["1c.4g.40gb", "2c.4g.40gb", "3c.4g.40gb", "4g.40gb"]);
}

#[test]
fn events_wake_whoever_waits() {
    let machine = Machine::with(&["h100-80gb", "h100-80gb"]);
    let watcher = machine.client.watch().unwrap();
    assert!(watcher.unwatched().is_empty());
    assert_eq!(watcher.wait(Duration::from_millis(5)), Ok(None));
    let waiting = thread::spawn(move || {
        let began = Instant::now();
        (watcher.wait(Duration::from_secs(20)), began.elapsed())
    });
    let event = Edit::Xid { gpu: 1, xid: 79, start: None };
    Store::at(machine.store.path()).edit(&event).unwrap();
    let (event, took) = waiting.join().unwrap();
    let event = event.unwrap().unwrap();
    assert_eq!((event.gpu, event.kind), (Some(uuid(1)), EventKind::Xid(79)));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn two_machines_do_not_meet() {
    let one = Machine::cut("a100-40gb");
    let mut state = State::with_boards(&["a30-24gb"]).unwrap();
    state.driver = "470.1".to_owned();
    let other = Machine::of(state);
    one.make(9, 0, 4).unwrap();
    assert_eq!(other.client.observe().unwrap().driver, "470.1");
    assert_eq!(one.gpu(0).instances.len(), 1);
}
