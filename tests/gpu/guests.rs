//! GPUs that go to guests and come back: a tree of the kernel's files beside the simulated NVML.

use trueup::model::{Fault as Said, Resource};
use trueup::plan::{Disruption, SkipReason};
use trueup_fake_nvml::Fault;

use super::kernel::{AUDIO, GPU, Kernel, NEIGHBOUR};
use super::lab::{FIRST, Lab, layout, shown, why};

/// A virtual machine with that GPU.
pub(super) fn vm(name: &str, gpus: &str) -> String {
    format!(
        "apiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {{ name: {name} }}\nspec:\n  cpus: \
         1\n  memory: 1GiB\n  gpus: [{gpus}]\n"
    )
}

/// One GPU that the host has, uncut, and what the kernel says of it.
async fn watched() -> (Lab, Kernel) {
    let mut lab = Lab::with(&["h100-80gb"]).await;
    let kernel = lab.kernel().await;
    (lab, kernel)
}

/// The same with a driver that reports no events: nothing has to be waited for before a handover.
async fn lab() -> (Lab, Kernel) {
    let (mut lab, kernel) = watched().await;
    let unsupported = Fault { nth: 1, code: Some(3), sticky: true, ..Fault::default() };
    lab.fault("nvmlEventSetCreate", unsupported);
    (lab, kernel)
}

fn drivers(gpu: &str, audio: &str) -> [Option<String>; 2] {
    [Some(gpu.to_owned()), Some(audio.to_owned())]
}

/// What the virtual machine has of the host.
pub(super) fn devices(lab: &Lab, id: &str) -> Vec<String> {
    let machine = lab.world.host.machine();
    let Resource::VirtualMachine(vm) = &machine.resources[&id.parse().unwrap()].config else {
        panic!("no machine");
    };
    let json = serde_json::to_value(&vm.host_devices).unwrap();
    json.as_array().unwrap().iter().map(|it| it["value"].as_str().unwrap().to_owned()).collect()
}

pub(super) fn runs(lab: &Lab, id: &str) -> bool {
    lab.world.host.machine().resources.get(&id.parse().unwrap()).is_some_and(|it| it.active)
}

#[tokio::test]
async fn a_gpu_goes_to_its_guest_and_comes_back() {
    let (lab, kernel) = watched().await;
    lab.commit(&[layout("big", 0, "passthrough", ""), vm("trainer", "gpu/big")]);
    let plan = lab.plan().await;
    let at = |id: &str| plan.steps.iter().position(|step| step.resource.to_string() == id);
    assert!(at("gpu/big") < at("vm/trainer"), "{}", shown(&plan));
    let settled = plan.steps.iter().position(|step| step.action.verb() == "settle").unwrap();
    let define = &plan.steps[at("vm/trainer").unwrap()];
    assert!(define.after.contains(&settled), "it is not waited for the GPU: {}", shown(&plan));
    lab.settle().await;
    assert_eq!(kernel.drivers(), drivers("vfio-pci", "vfio-pci"));
    assert_eq!(devices(&lab, "vm/trainer"), [GPU, AUDIO]);
    assert!(runs(&lab, "vm/trainer"));
    // NVML does not see it any more, and it is known all the same.
    assert!(lab.known("gpu/big").unobservable.is_none());
    lab.world.check_invariants();

    // The guest gives up its GPU in the same commit that gives it back: it stops first.
    kernel.writes();
    lab.commit(&[layout("big", 0, "whole", ""), vm("trainer", "")]);
    let plan = lab.plan().await;
    let taking = plan.steps.iter().find(|step| step.action.verb() == "take").unwrap();
    let guest = "vm/trainer".parse().unwrap();
    assert!(taking.interrupts.contains(&guest), "{}", shown(&plan));
    assert_eq!(plan.disruption(), Disruption::Restart);
    let stop = plan.steps.iter().position(|step| step.action.verb() == "stop").unwrap();
    let first = plan.steps.iter().position(|step| step.action.verb() == "take").unwrap();
    assert!(stop < first, "{}", shown(&plan));
    lab.settle().await;
    assert_eq!(kernel.drivers(), drivers("nvidia", "snd_hda_intel"));
    assert!(devices(&lab, "vm/trainer").is_empty());
    assert!(runs(&lab, "vm/trainer"));
    lab.world.check_invariants();
}

#[tokio::test]
async fn what_nobody_asks_for_any_more_is_given_back() {
    let (lab, kernel) = lab().await;
    lab.commit(&[layout("big", 0, "passthrough", ""), vm("trainer", "gpu/big")]);
    lab.settle().await;
    lab.commit(&[vm("other", "")]);
    let plan = lab.plan().await;
    let verb = |verb| plan.steps.iter().position(|step| step.action.verb() == verb);
    assert!(verb("stop").is_some() && verb("stop") < verb("take"), "{}", shown(&plan));
    lab.settle().await;
    assert_eq!(kernel.drivers(), drivers("nvidia", "snd_hda_intel"));
    assert!(!runs(&lab, "vm/trainer"));
    let state = lab.world.state();
    let known = state.resources.get(&"gpu/big".parse().unwrap());
    assert!(known.is_none_or(|known| !known.is_ours()), "{known:?}");
}

/// The address is no part of the wish, and is only followed when it changed.
#[tokio::test]
async fn a_settled_machine_is_left_alone_also_after_a_reboot() {
    let (mut lab, kernel) = lab().await;
    lab.commit(&[layout("big", 0, "passthrough", ""), vm("trainer", "gpu/big")]);
    lab.settle().await;
    kernel.writes();
    lab.restart().await;
    lab.settle().await;
    assert!(kernel.writes().is_empty());
    kernel.reboot();
    lab.world.host.stop(&"vm/trainer".parse().unwrap());
    lab.settle().await;
    assert_eq!(kernel.drivers(), drivers("vfio-pci", "vfio-pci"));
    assert!(runs(&lab, "vm/trainer"));
}

#[tokio::test]
async fn a_gpu_that_is_cut_is_made_whole_first() {
    let (mut lab, kernel) = lab().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    assert_eq!(lab.stands(0).len(), 4);
    lab.commit(&[layout("big", 0, "passthrough", "")]);
    lab.settle().await;
    assert!(lab.stands(0).is_empty());
    assert_eq!(kernel.drivers(), drivers("vfio-pci", "vfio-pci"));
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    assert_eq!(kernel.drivers(), drivers("nvidia", "snd_hda_intel"));
    assert_eq!(lab.stands(0).len(), 4);
}

#[tokio::test]
async fn what_is_in_use_stays_and_who_uses_it_is_named() {
    let (lab, kernel) = lab().await;
    kernel.process(4242, "python", "notebook.service", "/dev/nvidia0");
    lab.commit(&[layout("big", 0, "passthrough", ""), vm("trainer", "gpu/big")]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Busy(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("python (pid 4242, notebook.service"), "{text}");
    let blocked = SkipReason::Blocked("gpu/big".parse().unwrap());
    assert_eq!(*why(&plan, "vm/trainer"), blocked, "{}", shown(&plan));
    assert!(kernel.writes().is_empty());
    lab.commit(&[layout("big", 0, "passthrough", "  onBusy: wait\n")]);
    let plan = lab.pass().await.plan.unwrap();
    assert!(matches!(why(&plan, "gpu/big"), SkipReason::BusyWaits(_)), "{}", shown(&plan));
    kernel.remove("/proc/4242");
    lab.settle().await;
    assert_eq!(kernel.drivers(), drivers("vfio-pci", "vfio-pci"));
}

/// A guest that trueup does not know has it: nobody is asked to stop, and nothing is taken.
#[tokio::test]
async fn a_guest_outside_of_libvirt_keeps_its_gpu() {
    let (lab, kernel) = lab().await;
    lab.commit(&[layout("big", 0, "passthrough", "")]);
    lab.settle().await;
    kernel.writes();
    kernel.process(77, "qemu-system-x86", "by-hand.service", "/dev/vfio/5");
    lab.commit(&[layout("big", 0, "whole", "")]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Busy(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("by-hand.service"), "{text}");
    assert!(kernel.writes().is_empty());
}

/// What speaks against it is said at once, each with what to do.
#[tokio::test]
async fn a_host_that_cannot_give_a_gpu_away_says_why() {
    let (lab, kernel) = lab().await;
    kernel.remove("/sys/kernel/iommu_groups");
    for function in [GPU, AUDIO] {
        std::fs::remove_file(
            lab.folder.path().join(format!("root/sys/bus/pci/devices/{function}/iommu_group")),
        )
        .unwrap();
    }
    lab.file(&format!("sys/bus/pci/devices/{GPU}/boot_vga"), "1\n");
    lab.commit(&[layout("big", 0, "passthrough", "")]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Conflict(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("there is no iommu") && text.contains("VT-d"), "{text}");
    assert!(text.contains("boot_vga"), "{text}");
    assert!(kernel.writes().is_empty());
    lab.commit(&[layout("big", 0, "passthrough", "  passthrough: { headless: true }\n")]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Conflict(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(!text.contains("boot_vga"), "{text}");
}

/// A holder that came after the plan was made.
#[tokio::test]
async fn a_holder_that_came_after_the_plan_is_not_harmed() {
    let (mut lab, kernel) = lab().await;
    lab.commit(&[layout("big", 0, "passthrough", "")]);
    let late = kernel.clone();
    lab.before_writes(move |_| late.process(7, "python", "late.service", "/dev/nvidia0")).await;
    // The first write of all is that of the tool that loads the driver.
    std::fs::remove_dir_all(lab.folder.path().join("root/sys/bus/pci/drivers/vfio-pci")).unwrap();
    let report = lab.pass().await;
    assert_eq!(report.failed, 1, "{}", lab.world.log.tail(20));
    assert!(lab.failure("gpu/big").contains("python (pid 7"), "{}", lab.failure("gpu/big"));
    assert_eq!(kernel.drivers(), drivers("nvidia", "snd_hda_intel"));
}

/// No driver takes it any more: what was taken for it is given back, and said.
#[tokio::test]
async fn what_cannot_be_given_away_goes_back() {
    for function in [GPU, AUDIO] {
        let (lab, kernel) = lab().await;
        kernel.trouble.lock().unwrap().no_vfio = Some(function.to_owned());
        lab.commit(&[layout("big", 0, "passthrough", "")]);
        let report = lab.pass_once().await;
        assert_eq!(report.failed, 1, "{}", lab.world.log.tail(20));
        let said = lab.failure("gpu/big");
        assert!(said.contains("was given back to nvidia"), "{said}");
        assert_eq!(kernel.drivers(), drivers("nvidia", "snd_hda_intel"), "{function}");
        kernel.trouble.lock().unwrap().no_vfio = None;
        lab.settle().await;
        assert_eq!(kernel.drivers(), drivers("vfio-pci", "vfio-pci"));
    }
}

/// Neither driver takes it: an orphan, which the next pass takes up from there.
#[tokio::test]
async fn an_orphan_is_taken_up_again() {
    let (lab, kernel) = lab().await;
    *kernel.trouble.lock().unwrap() = super::kernel::Trouble {
        no_vfio: Some(GPU.to_owned()),
        no_host: true,
        ..Default::default()
    };
    lab.commit(&[layout("big", 0, "passthrough", "")]);
    lab.pass_once().await;
    assert_eq!(kernel.drivers()[0], None);
    let failure = lab.known("gpu/big").failure.unwrap();
    assert!(matches!(failure.fault, Said::NeedsHuman { .. }), "{failure:?}");
    *kernel.trouble.lock().unwrap() = super::kernel::Trouble::default();
    lab.settle().await;
    assert_eq!(kernel.drivers(), drivers("vfio-pci", "vfio-pci"));
    // And the other way round: an orphan goes back to the host.
    kernel.bind(GPU, None);
    lab.commit(&[layout("big", 0, "whole", "")]);
    lab.settle().await;
    assert_eq!(kernel.drivers(), drivers("nvidia", "snd_hda_intel"));
}

/// Killed anywhere: the next start ends where it would have ended.
#[tokio::test]
async fn a_kill_at_any_point_on_the_way_there_ends_well() {
    killed_everywhere(false).await;
}

#[tokio::test]
async fn a_kill_at_any_point_on_the_way_back_ends_well() {
    killed_everywhere(true).await;
}

async fn killed_everywhere(back: bool) {
    let given = [layout("big", 0, "passthrough", ""), vm("trainer", "gpu/big")];
    let home = [layout("big", 0, "whole", ""), vm("trainer", "")];
    let mut n = 0;
    loop {
        let (mut lab, kernel) = lab().await;
        if back {
            lab.commit(&given);
            lab.settle().await;
        }
        lab.commit(if back { &home } else { &given });
        let killed = lab.pass_killed_at(n).await;
        lab.settle().await;
        let wanted = match back {
            true => drivers("nvidia", "snd_hda_intel"),
            false => drivers("vfio-pci", "vfio-pci"),
        };
        assert_eq!(kernel.drivers(), wanted, "killed at point {n}");
        assert!(runs(&lab, "vm/trainer"), "killed at point {n}");
        lab.world.check_invariants();
        if !killed {
            break;
        }
        n += 1;
    }
    assert!(n > 15, "the change has only {n} points to be killed at");
}

/// A layout under another name is the same layout, although NVML does not see its GPU.
#[tokio::test]
async fn a_new_name_of_a_layout_touches_nothing() {
    let (lab, kernel) = lab().await;
    lab.commit(&[layout("big", 0, "passthrough", "")]);
    lab.settle().await;
    kernel.writes();
    lab.commit(&[layout("large", 0, "passthrough", "")]);
    lab.settle().await;
    assert!(kernel.writes().is_empty());
    // The new name knows all that the old one did.
    lab.commit(&[layout("large", 0, "whole", "")]);
    lab.settle().await;
    assert_eq!(kernel.drivers(), drivers("nvidia", "snd_hda_intel"));
}

/// What went along with a GPU comes back with it, also where the commit named it no more meanwhile.
#[tokio::test]
async fn what_went_along_comes_back_also_when_nobody_names_it_any_more() {
    let (lab, kernel) = lab().await;
    kernel.neighbour();
    let with = format!("  passthrough: {{ with: [\"{NEIGHBOUR}\"] }}\n");
    lab.commit(&[layout("big", 0, "passthrough", &with)]);
    lab.settle().await;
    assert_eq!(kernel.driver(NEIGHBOUR).as_deref(), Some("vfio-pci"));
    // Somebody takes a function away, so that there is something to do with the new commit.
    kernel.bind(AUDIO, None);
    lab.commit(&[layout("big", 0, "passthrough", "")]);
    lab.settle().await;
    assert_eq!(kernel.drivers(), drivers("vfio-pci", "vfio-pci"));
    let network = "apiVersion: trueup/v1\nkind: Network\nmetadata: { name: lab }\nspec: { cidr: \
                   10.7.0.0/24 }\n";
    lab.world.remote.write("environments/lab/gpus.yaml", network);
    lab.world.remote.commit("no layout");
    lab.settle().await;
    assert_eq!(kernel.drivers(), drivers("nvidia", "snd_hda_intel"));
    assert_eq!(kernel.driver(NEIGHBOUR).as_deref(), Some("snd_hda_intel"));
    lab.world.check_invariants();
}

/// A machine that takes by its address what a layout names by the GPU's UUID: both are left alone, and
/// both are named.
#[tokio::test]
async fn what_a_layout_has_no_machine_takes_by_its_address() {
    let by_address = |device: &str| {
        format!(
            "apiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {{ name: first }}\nspec:\n  \
             cpus: 1\n  memory: 1GiB\n  hostDevices: [{{ pci: \"{device}\" }}]\n"
        )
    };
    for (mode, device) in [("passthrough", GPU), ("passthrough", AUDIO), ("mig", GPU)] {
        let (lab, kernel) = lab().await;
        lab.commit(&[layout("big", 0, mode, ""), by_address(device)]);
        let plan = lab.pass().await.plan.unwrap();
        for id in ["gpu/big", "vm/first"] {
            let SkipReason::Conflict(text) = why(&plan, id) else { panic!("{}", shown(&plan)) };
            assert!(text.contains("vm/first (/spec/hostDevices)"), "{text}");
            assert!(text.contains(device) && text.contains("gpu/big (/spec/match)"), "{text}");
        }
        assert_eq!(kernel.drivers(), drivers("nvidia", "snd_hda_intel"), "{mode}");
        assert!(lab.calls().is_empty());
        // The layout alone goes its way.
        lab.commit(&[layout("big", 0, mode, ""), vm("first", "")]);
        lab.settle().await;
        let given = mode == "passthrough";
        let wanted = if given { "vfio-pci" } else { "nvidia" };
        assert_eq!(kernel.drivers()[0].as_deref(), Some(wanted));
    }
}
