//! GPUs that guests share: every change converges and is judged sound, and a judge that sees a bad
//! plan says so.

use std::collections::BTreeSet;

use trueup_gpu_sysfs::MdevType;

use super::guests::{gpu, layout, machine, order, rules};
use crate::model::Resource;
use crate::model::resource::{GpuLayout, GpuMode, GpuUse, HostDevice, Vgpu};
use crate::plan::fixture::{Machine, id, name, vm};
use crate::plan::{SkipReason, check};

/// A layout of vGPUs by name and type.
fn want(machine: &mut Machine, vgpus: &[(&str, &str)]) {
    let one =
        |(name, kind): &(&str, &str)| Vgpu { name: (*name).to_owned(), kind: (*kind).to_owned() };
    let vgpus = vgpus.iter().map(one).collect();
    let layout = GpuLayout { vgpus, ..layout(GpuMode::Vgpu) };
    machine.want("gpu/card", Resource::GpuLayout(Box::new(layout)));
}

/// A host whose driver makes mediated devices of two types.
fn host() -> Machine {
    let mut machine = machine();
    let kernel = gpu(&mut machine);
    let kind =
        |id: &str, name: &str| MdevType { id: id.to_owned(), name: name.to_owned(), available: 4 };
    let types = vec![kind("nvidia-556", "NVIDIA A40-8Q"), kind("nvidia-558", "NVIDIA A40-24Q")];
    kernel.host.functions.get_mut(&kernel.pci).unwrap().mdev_types = types;
    machine
}

/// A domain with the vGPU of that name, or without any.
fn guest(machine: &mut Machine, partition: Option<&str>) {
    let Resource::VirtualMachine(mut vm) = vm("a", &[], &[]) else { panic!("no domain") };
    let one = |partition: &str| GpuUse {
        layout: name("card"),
        partition: Some(partition.to_owned()),
        devices: Vec::new(),
    };
    vm.gpus = partition.map(one).into_iter().collect();
    let wish = machine.want("vm/a", Resource::VirtualMachine(vm));
    let needs = partition.map(|_| id("gpu/card"));
    wish.depends_on = needs.into_iter().collect::<BTreeSet<_>>();
}

fn given() -> Machine {
    let mut machine = host();
    want(&mut machine, &[("desk", "A40-8Q"), ("spare", "A40-8Q")]);
    guest(&mut machine, Some("desk"));
    let last = machine.converge();
    assert!(last.is_empty() && last.skipped.is_empty(), "{last:#?}");
    assert_eq!(gpu(&mut machine).host.mediated.len(), 2);
    machine
}

fn has(machine: &mut Machine) -> Vec<HostDevice> {
    let Resource::VirtualMachine(vm) = &machine.seen("vm/a").config else { panic!("no domain") };
    vm.host_devices.clone()
}

#[test]
fn a_vgpu_comes_before_its_guest_and_goes_after_it() {
    let mut machine = given();
    let devices = has(&mut machine);
    assert!(matches!(devices.as_slice(), [HostDevice::Mdev(_)]), "{devices:?}");

    // What nobody uses goes without anybody noticing.
    want(&mut machine, &[("desk", "A40-8Q")]);
    let plan = machine.plan();
    assert_eq!((order(&plan, "gpu/card", "take").len(), plan.steps.len()), (1, 2), "{plan:#?}");
    machine.converge();
    assert_eq!(has(&mut machine), devices);

    machine.drop("gpu/card");
    guest(&mut machine, None);
    let plan = machine.plan();
    let (stop, take) = (order(&plan, "vm/a", "stop"), order(&plan, "gpu/card", "take"));
    assert!(stop[0] < take[0], "{plan:#?}");
    assert!(plan.steps[take[0]].interrupts.contains(&id("vm/a")), "{plan:#?}");
    machine.converge();
    assert!(!machine.observed.resources.contains_key(&id("gpu/card")));
    assert!(has(&mut machine).is_empty() && machine.seen("vm/a").active);
}

#[test]
fn another_type_is_made_while_its_guest_is_stopped() {
    let mut machine = given();
    let devices = has(&mut machine);
    want(&mut machine, &[("desk", "nvidia-558"), ("spare", "nvidia-558")]);
    let plan = machine.plan();
    let (stop, take) = (order(&plan, "vm/a", "stop"), order(&plan, "gpu/card", "take"));
    assert_eq!((stop.len(), take.len()), (1, 2), "{plan:#?}");
    assert!(stop[0] < take[0] && order(&plan, "vm/a", "start").is_empty(), "{plan:#?}");
    machine.converge();
    assert!(gpu(&mut machine).host.mediated.values().all(|it| it.kind == "nvidia-558"));
    // It bears the same UUID, so that the guest's configuration stays as it is.
    assert_eq!(has(&mut machine), devices);
    assert!(machine.seen("vm/a").active);
}

#[test]
fn what_a_guest_of_somebody_else_has_is_not_taken() {
    let mut machine = given();
    let mut other = machine.seen("vm/a").clone();
    other.ownership = crate::model::Ownership::Foreign;
    machine.drop("vm/a");
    machine.observed.resources.remove(&id("vm/a"));
    machine.known.resources.remove(&id("vm/a"));
    machine.observed.resources.insert(id("vm/theirs"), other);
    want(&mut machine, &[("spare", "A40-8Q")]);
    let plan = machine.plan();
    assert!(plan.is_empty(), "{plan:#?}");
    let skipped = plan.skipped.iter().find(|it| it.resource == id("gpu/card")).unwrap();
    assert_eq!(skipped.why, SkipReason::InUse("vm/theirs".to_owned()));
}

#[test]
fn a_judge_sees_a_vgpu_taken_that_should_stay() {
    // From a guest that runs.
    let mut machine = given();
    want(&mut machine, &[("spare", "A40-8Q")]);
    guest(&mut machine, None);
    let mut plan = machine.plan();
    let stop = order(&plan, "vm/a", "stop")[0];
    for at in order(&plan, "gpu/card", "take") {
        plan.steps[at].after.remove(&stop);
        plan.steps[at].interrupts.remove(&id("vm/a"));
    }
    let said = rules(&machine, &plan);
    assert!(said.contains("which runs") && said.contains("without saying so"), "{said}");

    // One that is asked for as it is, and one that is not ours.
    let plan = machine.plan();
    assert!(check::check(&plan, &machine.input()).is_ok());
    want(&mut machine, &[("desk", "nvidia-556"), ("spare", "A40-8Q")]);
    assert!(rules(&machine, &plan).contains("as it is asked for"), "{}", rules(&machine, &plan));
    want(&mut machine, &[("spare", "A40-8Q")]);
    let Resource::GpuLayout(seen) = &mut machine.seen("gpu/card").config else { panic!() };
    seen.memory.as_mut().unwrap().share.as_mut().unwrap().claims.clear();
    assert!(rules(&machine, &plan).contains("not ours"), "{}", rules(&machine, &plan));
}

#[test]
fn a_judge_sees_a_vgpu_made_unasked() {
    let mut machine = host();
    want(&mut machine, &[("desk", "A40-8Q")]);
    let mut plan = machine.plan();
    assert!(check::check(&plan, &machine.input()).is_ok());
    want(&mut machine, &[("spare", "A40-8Q")]);
    assert!(rules(&machine, &plan).contains("nobody asks for"), "{}", rules(&machine, &plan));
    want(&mut machine, &[("desk", "A40-8Q")]);
    for step in &mut plan.steps {
        if let crate::plan::Action::GpuHandover { change, .. } = &mut step.action {
            change.memory.share.as_mut().unwrap().claims.clear();
        }
    }
    assert!(rules(&machine, &plan).contains("not written down"), "{}", rules(&machine, &plan));
}
