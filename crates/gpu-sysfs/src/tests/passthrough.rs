//! A GPU to vfio-pci and back, and everything that may come between.

use super::kernel::{Faults, Kernel};
use super::tree::{Tree, at};
use super::{done, perform};
use crate::error::{Error, Next};
use crate::plan::{Note, OnBusy, Passthrough, Plan, Release, bind, functions_down, release};
use crate::refusal::{Refusal, Refused};

const GPU: &str = "0000:07:00.0";

fn to_vfio(tree: &Tree) -> Result<Plan, Refused> {
    bind(&tree.host(), &tree.holders(), &Passthrough::of(at(GPU)))
}

fn to_host(tree: &Tree) -> Result<Plan, Refused> {
    release(&tree.host(), &tree.holders(), &Release::of(at(GPU)))
}

/// The drivers and overrides of the board.
fn drivers(tree: &Tree) -> Vec<(Option<String>, Option<String>)> {
    let host = tree.host();
    host.board(at(GPU)).map(|it| (it.driver.clone(), it.driver_override.clone())).collect()
}

fn both(driver: &str, audio: &str, fixed: Option<&str>) -> Vec<(Option<String>, Option<String>)> {
    let fixed = fixed.map(ToOwned::to_owned);
    vec![(Some(driver.to_owned()), fixed.clone()), (Some(audio.to_owned()), fixed)]
}

#[track_caller]
fn refused(tree: &Tree, wanted: Refusal) {
    let refused = to_vfio(tree).unwrap_err();
    assert_eq!(refused.reasons, [wanted], "{refused}");
}

#[test]
fn the_board_goes_and_comes_back_in_order() {
    let tree = Tree::with_gpu();
    let before = drivers(&tree);
    let log = done(&tree, &to_vfio(&tree).unwrap());
    let wanted = [
        "0000:07:00.0 > /sys/bus/pci/drivers/nvidia/unbind",
        "vfio-pci > /sys/bus/pci/devices/0000:07:00.0/driver_override",
        "0000:07:00.0 > /sys/bus/pci/drivers_probe",
        "0000:07:00.1 > /sys/bus/pci/drivers/snd_hda_intel/unbind",
        "vfio-pci > /sys/bus/pci/devices/0000:07:00.1/driver_override",
        "0000:07:00.1 > /sys/bus/pci/drivers_probe",
    ];
    assert_eq!(log, wanted);
    assert_eq!(drivers(&tree), both("vfio-pci", "vfio-pci", Some("vfio-pci")));
    assert_eq!(to_vfio(&tree).unwrap(), Plan::default(), "nothing is left to do");
    done(&tree, &to_host(&tree).unwrap());
    assert_eq!(drivers(&tree), before);
    assert_eq!(to_host(&tree).unwrap(), Plan::default());
}

#[test]
fn vfio_is_loaded_where_it_is_not() {
    let tree = Tree::with_gpu();
    tree.remove("/sys/bus/pci/drivers/vfio-pci");
    let log = done(&tree, &to_vfio(&tree).unwrap());
    assert_eq!(log[0], "/sbin/modprobe vfio-pci");
    assert_eq!(drivers(&tree), both("vfio-pci", "vfio-pci", Some("vfio-pci")));
}

#[test]
fn of_two_equal_boards_only_one_is_touched() {
    let tree = Tree::with_gpu();
    tree.board("0000:08:00", 6, 1);
    tree.file("/proc/cmdline", "vfio-pci.ids=10de:20b0");
    let plan = to_vfio(&tree).unwrap();
    assert!(plan.notes.contains(&Note::IdsMatch { model: "10de:20b0".into() }), "{:?}", plan.notes);
    let log = done(&tree, &plan);
    assert!(log.iter().all(|line| !line.contains("0000:08:00")), "{log:?}");
    let reasons = to_host(&tree).unwrap_err().reasons;
    assert_eq!(reasons, [Refusal::IdsClaim { model: "10de:20b0".into() }]);
}

#[test]
fn what_speaks_against_it_is_said() {
    let tree = Tree::with_gpu();
    tree.file("/sys/bus/pci/devices/0000:07:00.0/boot_vga", "1");
    refused(&tree, Refusal::BootVga);
    let headless = Passthrough { headless: true, ..Passthrough::of(at(GPU)) };
    assert!(bind(&tree.host(), &tree.holders(), &headless).is_ok());

    let tree = Tree::with_gpu();
    tree.remove("/sys/kernel/iommu_groups");
    tree.file("/sys/kernel/iommu_groups/.keep", "");
    tree.remove("/sys/kernel/iommu_groups/.keep");
    refused(&tree, Refusal::NoIommu);

    let tree = Tree::with_gpu();
    tree.file("/proc/driver/nvidia/capabilities/gpu0/mig/gi3/access", "DeviceFileMinor: 30");
    refused(&tree, Refusal::Instances { ids: vec![3] });

    let tree = Tree::with_gpu();
    tree.bind(GPU, Some("nouveau"));
    refused(&tree, Refusal::Nouveau);

    let tree = Tree::with_gpu();
    tree.file("/sys/bus/pci/devices/0000:07:00.0/driver_override", "other");
    refused(&tree, Refusal::OtherOverride { function: at(GPU), to: "other".into() });

    let tree = Tree::with_gpu();
    tree.remove("/sys/devices/pci0000:00/0000:07:00.0/reset_method");
    tree.file("/sys/devices/pci0000:00/0000:07:00.0/reset_method/folder", "");
    assert!(matches!(to_vfio(&tree).unwrap_err().reasons[..], [Refusal::Unread { .. }]));

    let wish = Passthrough { mig: Some(true), persistence: Some(true), ..Passthrough::of(at(GPU)) };
    let tree = Tree::with_gpu();
    let reasons = bind(&tree.host(), &tree.holders(), &wish).unwrap_err().reasons;
    assert_eq!(reasons, [Refusal::MigOn, Refusal::Persistence], "all at once");
    let other = Passthrough::of(at("0000:99:00.0"));
    let reasons = bind(&tree.host(), &tree.holders(), &other).unwrap_err().reasons;
    assert_eq!(reasons, [Refusal::NotFound { found: vec![at(GPU)] }]);
}

#[test]
fn a_group_shared_with_the_host_is_not_torn_apart() {
    let tree = Tree::with_gpu();
    tree.function("0000:00:01.0", "0x8086", "0x1901", "0x060400", Some(5), Some("pcieport"));
    tree.function("0000:07:01.0", "0x8086", "0x1533", "0x020000", Some(5), Some("igb"));
    let driver = "igb".to_owned();
    refused(&tree, Refusal::GroupShared { group: 5, member: at("0000:07:01.0"), driver });
    let with = [at("0000:07:01.0")].into();
    let wish = Passthrough { with, ..Passthrough::of(at(GPU)) };
    tree.driver("igb");
    let log = done(&tree, &bind(&tree.host(), &tree.holders(), &wish).unwrap());
    assert_eq!(log.len(), 9, "{log:?}");
    tree.bind("0000:07:01.0", None);
    assert!(to_vfio(&tree).is_ok(), "one without a driver does no harm");
}

#[test]
fn holders_are_named_or_waited_for() {
    let tree = Tree::with_gpu();
    tree.process(42, "python3", "train.service", &["/dev/nvidia0"]);
    let refusal = to_vfio(&tree).unwrap_err();
    assert!(refusal.to_string().contains("python3 (pid 42, train.service"), "{refusal}");
    let wish = Passthrough { on_busy: OnBusy::Wait { seconds: 0 }, ..Passthrough::of(at(GPU)) };
    let plan = bind(&tree.host(), &tree.holders(), &wish).unwrap();
    let kernel = Kernel::new(tree.folder());
    let log = kernel.log.clone();
    let error = perform(&tree, &plan, kernel).unwrap_err();
    assert!(matches!(error, Error::Held { .. }), "{error}");
    assert_eq!((error.next(), log.borrow().len()), (Next::Retry, 0));
    tree.exit(42);
    done(&tree, &plan);
    tree.process(43, "qemu", "vm.service", &["/dev/vfio/5"]);
    let refusal = to_host(&tree).unwrap_err();
    assert!(refusal.to_string().contains("qemu (pid 43"), "{refusal}");
}

#[test]
fn a_holder_that_comes_after_the_plan_stops_it_before_the_first_write() {
    let tree = Tree::with_gpu();
    let plan = to_vfio(&tree).unwrap();
    tree.process(42, "late", "train.service", &["/dev/nvidia0"]);
    let kernel = Kernel::new(tree.folder());
    let log = kernel.log.clone();
    let error = perform(&tree, &plan, kernel).unwrap_err();
    assert!(matches!(&error, Error::Held { holders, .. } if holders[0].pid == 42), "{error}");
    assert!(log.borrow().is_empty());
    tree.exit(42);
    tree.process(44, "hidden", "x.service", &[]);
    tree.file("/proc/44/fd/9", "cannot be read as a link");
    let error = perform(&tree, &plan, Kernel::new(tree.folder())).unwrap_err();
    assert!(matches!(error, Error::Unscanned { .. }), "{error}");
}

#[test]
fn a_busy_kernel_is_asked_again() {
    let tree = Tree::with_gpu();
    let plan = to_vfio(&tree).unwrap();
    let mut kernel = Kernel::new(tree.folder());
    kernel.faults = Faults { busy: 3, ..Faults::default() };
    perform(&tree, &plan, kernel).unwrap();
    let plan = to_host(&tree).unwrap();
    let mut kernel = Kernel::new(tree.folder());
    kernel.faults = Faults { busy: u32::MAX, ..Faults::default() };
    let error = perform(&tree, &plan, kernel).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("unbind does not take `0000:07:00.1`"), "{text}");
    assert!(text.contains("errno 16") && error.next() == Next::Retry, "{text}");
}

#[test]
fn a_probe_without_effect_is_repeated_and_an_orphan_recovered() {
    let tree = Tree::with_gpu();
    let before = drivers(&tree);
    let mut kernel = Kernel::new(tree.folder());
    kernel.faults = Faults { probe_nothing: 2, ..Faults::default() };
    perform(&tree, &to_vfio(&tree).unwrap(), kernel).unwrap();
    assert_eq!(drivers(&tree), both("vfio-pci", "vfio-pci", Some("vfio-pci")));
    done(&tree, &to_host(&tree).unwrap());

    let mut kernel = Kernel::new(tree.folder());
    kernel.faults = Faults { probe_nothing: 3, ..Faults::default() };
    let error = perform(&tree, &to_vfio(&tree).unwrap(), kernel).unwrap_err();
    assert!(matches!(error, Error::Unproved { tries: 3, .. }), "{error}");
    assert_eq!(error.next(), Next::Replan);
    assert_eq!(drivers(&tree)[0], (None, Some("vfio-pci".into())), "an orphan");
    let again = to_vfio(&tree).unwrap();
    assert_eq!(again.notes, [Note::Orphan { function: at(GPU) }]);
    assert_eq!(again.steps[0].what, "probe drivers for 0000:07:00.0", "only the rest");
    done(&tree, &to_host(&tree).unwrap());
    assert_eq!(drivers(&tree), before);
}

#[test]
fn another_board_in_the_slot_is_not_taken_for_it() {
    let tree = Tree::with_gpu();
    let plan = to_vfio(&tree).unwrap();
    tree.file("/sys/bus/pci/devices/0000:07:00.0/device", "0x2204");
    let error = perform(&tree, &plan, Kernel::new(tree.folder())).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }) && error.next() == Next::Replan, "{error}");
}

#[test]
fn wherever_it_breaks_off_the_rest_leads_to_the_same_end() {
    for back in [false, true] {
        let way = |tree: &Tree| if back { to_host(tree) } else { to_vfio(tree) };
        for actions in 1.. {
            let tree = Tree::with_gpu();
            if back {
                done(&tree, &to_vfio(&tree).unwrap());
            }
            let mut kernel = Kernel::new(tree.folder());
            kernel.faults = Faults { die_after: Some(actions), ..Faults::default() };
            let ended = perform(&tree, &way(&tree).unwrap(), kernel).is_ok();
            done(&tree, &way(&tree).unwrap());
            let wanted = if back {
                both("nvidia", "snd_hda_intel", None)
            } else {
                both("vfio-pci", "vfio-pci", Some("vfio-pci"))
            };
            assert_eq!(drivers(&tree), wanted, "broken off after action {actions}");
            if ended {
                assert_eq!(actions, 7, "six actions, each broken off after");
                break;
            }
        }
    }
}

#[test]
fn virtual_functions_go_down_before_the_gpu_goes() {
    let tree = Tree::with_gpu();
    tree.vendor_function(GPU, 0, "0000:07:00.4", "");
    tree.file("/sys/bus/pci/devices/0000:07:00.0/sriov_totalvfs", "4");
    tree.file("/sys/bus/pci/devices/0000:07:00.0/sriov_numvfs", "4");
    for index in 1..4 {
        tree.vendor_function(GPU, index, &format!("0000:07:00.{}", index + 4), "");
    }
    refused(&tree, Refusal::VirtualFunctions { enabled: 4 });
    let down = || functions_down(&tree.host(), &tree.holders(), at(GPU), OnBusy::Refuse);
    tree.file("/sys/bus/pci/devices/0000:07:00.5/nvidia/current_vgpu_type", "558");
    let reasons = down().unwrap_err().reasons;
    assert_eq!(reasons, [Refusal::Vgpus { which: vec!["0000:07:00.5".into()] }]);
    tree.file("/sys/bus/pci/devices/0000:07:00.5/nvidia/current_vgpu_type", "0");
    done(&tree, &down().unwrap());
    assert_eq!(down().unwrap(), Plan::default());
}
