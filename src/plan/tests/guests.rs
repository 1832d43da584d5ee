//! GPUs that go to guests: every change converges and is judged sound, and a judge that sees a bad
//! plan says so.

use std::collections::{BTreeMap, BTreeSet};

use trueup_gpu_sysfs::{Function, Host, PciAddress};

use super::super::{Plan, SkipReason, check};
use crate::model::resource::{
    GpuGuest, GpuKernel, GpuLayout, GpuMatch, GpuMode, GpuUse, HostDevice, OnBusy,
};
use crate::model::{Observation, Ownership, Resource};
use crate::plan::fixture::{Machine, id, name, vm};

pub(super) const GPU: &str = "0000:07:00.0";
const AUDIO: &str = "0000:07:00.1";

pub(super) fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

pub(super) fn function(at: &str, class: u32, driver: &str) -> Function {
    Function {
        address: address(at),
        vendor_id: 0x10de,
        device_id: 0x20b0,
        class,
        driver: Some(driver.to_owned()),
        driver_override: None,
        boot_vga: None,
        group: Some(5),
        group_members: BTreeSet::from([address(GPU), address(AUDIO)]),
        reset_methods: None,
        sriov: None,
        physical: None,
        connected: Vec::new(),
        mdev_types: Vec::new(),
        vendor: None,
    }
}

pub(super) fn kernel() -> GpuKernel {
    let both = [function(GPU, 0x03_02_00, "nvidia"), function(AUDIO, 0x04_03_00, "snd_hda_intel")];
    let drivers = ["nvidia", "snd_hda_intel", "vfio-pci"].map(str::to_owned);
    let host = Host {
        functions: BTreeMap::from(both.map(|it| (it.address, it))),
        groups: 9,
        drivers: BTreeSet::from(drivers),
        ..Host::default()
    };
    GpuKernel {
        pci: address(GPU),
        host,
        uuid: Some("GPU-1".to_owned()),
        holders: trueup_gpu_sysfs::Holders::default(),
        mig: None,
        persistence: None,
    }
}

pub(super) fn layout(mode: GpuMode) -> GpuLayout {
    GpuLayout {
        gpu: GpuMatch::PciAddress(GPU.to_owned()),
        mode,
        partitions: Vec::new(),
        vgpus: Vec::new(),
        mixed_sizes: false,
        allow_reset: Some(false),
        on_busy: Some(OnBusy::Refuse),
        clients: Vec::new(),
        takeover: Some(false),
        guest: (mode == GpuMode::Passthrough).then(GpuGuest::default),
        memory: None,
        state: None,
        kernel: None,
    }
}

/// A host that has its GPU, as the files say.
pub(super) fn machine() -> Machine {
    let mut machine = Machine::new();
    let seen = GpuLayout { kernel: Some(Box::new(kernel())), ..layout(GpuMode::Whole) };
    let seen = Observation {
        ownership: Ownership::Ours { environment: name("lab") },
        config: Resource::GpuLayout(Box::new(seen)),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    };
    machine.observed.resources.insert(id("gpu/card"), seen);
    machine
}

pub(super) fn want(machine: &mut Machine, mode: GpuMode) {
    machine.want("gpu/card", Resource::GpuLayout(Box::new(layout(mode))));
}

/// A domain with that GPU, or without.
fn guest(machine: &mut Machine, with: bool) {
    let Resource::VirtualMachine(mut vm) = vm("a", &[], &[]) else { panic!("no domain") };
    if with {
        let gpu = GpuUse { layout: name("card"), partition: None, devices: Vec::new() };
        vm.gpus = vec![gpu];
    }
    let wish = machine.want("vm/a", Resource::VirtualMachine(vm));
    wish.depends_on = if with { BTreeSet::from([id("gpu/card")]) } else { BTreeSet::new() };
}

fn given() -> Machine {
    let mut machine = machine();
    want(&mut machine, GpuMode::Passthrough);
    guest(&mut machine, true);
    let last = machine.converge();
    assert!(last.is_empty() && last.skipped.is_empty(), "{last:#?}");
    machine
}

pub(super) fn gpu(machine: &mut Machine) -> &mut GpuKernel {
    match &mut machine.seen("gpu/card").config {
        Resource::GpuLayout(layout) => layout.kernel.as_mut().unwrap(),
        _ => panic!("no layout"),
    }
}

pub(super) fn order(plan: &Plan, at: &str, verb: &str) -> Vec<usize> {
    let steps = plan.steps.iter().enumerate();
    let named = steps.filter(|(_, it)| it.resource == id(at) && it.action.verb() == verb);
    named.map(|(n, _)| n).collect()
}

pub(super) fn rules(machine: &Machine, plan: &Plan) -> String {
    let found = check::check(plan, &machine.input()).unwrap_err();
    found.into_iter().map(|it| it.rule).collect::<Vec<_>>().join("; ")
}

#[test]
fn the_gpu_comes_before_its_guest_and_goes_after_it() {
    let mut machine = given();
    let seen = machine.seen("vm/a").clone();
    let Resource::VirtualMachine(vm) = &seen.config else { panic!("no domain") };
    let wanted = [GPU, AUDIO].map(|at| HostDevice::Pci(at.to_owned()));
    assert_eq!(vm.host_devices, wanted);
    assert!(seen.active && gpu(&mut machine).is_given());

    machine.drop("gpu/card");
    guest(&mut machine, false);
    let plan = machine.plan();
    let (stop, take) = (order(&plan, "vm/a", "stop"), order(&plan, "gpu/card", "take"));
    assert!(stop[0] < take[0], "{plan:#?}");
    let taking = &plan.steps[take[0]];
    assert!(taking.interrupts.contains(&id("vm/a")), "{taking:?}");
    machine.converge();
    assert!(!machine.observed.resources.contains_key(&id("gpu/card")));
}

/// A domain that nobody stops keeps its GPU: that of somebody else, and one outside of a window.
#[test]
fn what_a_running_guest_has_is_not_taken() {
    let mut machine = given();
    let mut other = machine.seen("vm/a").clone();
    other.ownership = Ownership::Foreign;
    machine.drop("vm/a");
    machine.observed.resources.remove(&id("vm/a"));
    machine.known.resources.remove(&id("vm/a"));
    machine.observed.resources.insert(id("vm/theirs"), other);
    want(&mut machine, GpuMode::Whole);
    let plan = machine.plan();
    assert!(order(&plan, "gpu/card", "take").is_empty(), "{plan:#?}");
    let skipped = plan.skipped.iter().find(|it| it.resource == id("gpu/card")).unwrap();
    assert_eq!(skipped.why, SkipReason::InUse("vm/theirs".to_owned()));
}

/// The address is no part of the wish: another one is a change of the domain, and of nothing else.
#[test]
fn a_gpu_in_another_slot_changes_no_wish() {
    let machine = given();
    let wish = machine.desired.resources[&id("vm/a")].digest;
    let mut moved = given();
    let (from, to) = (address(GPU), address("0000:09:00.0"));
    let kernel = gpu(&mut moved);
    let mut function = kernel.host.functions.remove(&from).unwrap();
    kernel.host.functions.remove(&address(AUDIO));
    function.address = to;
    function.group_members = BTreeSet::from([to]);
    kernel.host.functions.insert(to, function);
    kernel.pci = to;
    assert_eq!(moved.desired.resources[&id("vm/a")].digest, wish);
    let plan = moved.plan();
    assert_eq!(order(&plan, "vm/a", "define").len(), 1, "{plan:#?}");
    let changes = &plan.steps[order(&plan, "vm/a", "define")[0]].changes;
    assert_eq!(changes[0].path, "/hostDevices");
}

#[test]
fn a_guest_without_its_gpu_is_left_alone() {
    let mut machine = given();
    machine.observed.resources.remove(&id("gpu/card"));
    machine.observed.unreadable.insert(id("gpu/card"), "off the bus".to_owned());
    let plan = machine.plan();
    assert!(plan.is_empty(), "{plan:#?}");
    let skipped = plan.skipped.iter().find(|it| it.resource == id("vm/a")).unwrap();
    assert_eq!(skipped.why, SkipReason::Blocked(id("gpu/card")));
}

#[test]
fn a_judge_sees_a_gpu_taken_from_a_running_guest() {
    let mut machine = given();
    want(&mut machine, GpuMode::Whole);
    guest(&mut machine, false);
    let mut plan = machine.plan();
    let stop = order(&plan, "vm/a", "stop")[0];
    for at in order(&plan, "gpu/card", "take") {
        plan.steps[at].after.remove(&stop);
    }
    assert!(rules(&machine, &plan).contains("which runs"), "{}", rules(&machine, &plan));
    let mut plan = machine.plan();
    let take = order(&plan, "gpu/card", "take")[0];
    plan.steps[take].interrupts.clear();
    assert!(rules(&machine, &plan).contains("without saying so"));
}

#[test]
fn a_judge_sees_a_gpu_handed_over_unasked() {
    let mut machine = machine();
    want(&mut machine, GpuMode::Passthrough);
    let plan = machine.plan();
    want(&mut machine, GpuMode::Whole);
    assert!(rules(&machine, &plan).contains("nobody asks for it"));
    want(&mut machine, GpuMode::Passthrough);
    let held = trueup_gpu_sysfs::Holder {
        pid: 7,
        command: "python".to_owned(),
        unit: None,
        node: "/dev/nvidia0".to_owned(),
        holds: trueup_gpu_sysfs::Held::Gpu(address(GPU)),
    };
    gpu(&mut machine).holders.all.push(held);
    assert!(rules(&machine, &plan).contains("which python"));
    let Some(SkipReason::Busy(why)) = machine.plan().skipped.pop().map(|it| it.why) else {
        panic!("{:#?}", machine.plan())
    };
    assert!(why.contains("python (pid 7"), "{why}");
}
