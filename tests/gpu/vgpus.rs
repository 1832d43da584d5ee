//! GPUs that guests share, by both of the driver's ways: made and given, taken back, made again.

use trueup::plan::SkipReason;
use trueup_fake_nvml::{Edit, Fault};

use super::guests::{devices, runs, vm};
use super::kernel::{GPU, Kernel, function};
use super::lab::{FIRST, Lab, layout, shown, why};

/// Which way the driver makes vGPUs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Mediated,
    Functions,
}

const BOTH: [Way; 2] = [Way::Mediated, Way::Functions];

/// Two small vGPUs.
const TWO: &str = "  partitions: [{ name: desk, type: A40-8Q, count: 2 }]\n";
/// The first of them alone.
const ONE: &str = "  partitions: [{ name: desk-0, type: nvidia-556 }]\n";
/// Two that fill the GPU, under the names of the small ones.
const FULL: &str = "  partitions: [{ name: desk, type: NVIDIA A40-24Q, count: 2 }]\n";

async fn lab(way: Way) -> (Lab, Kernel) {
    let mut lab = Lab::with(&["h100-80gb"]).await;
    let kernel = lab.kernel().await;
    match way {
        Way::Mediated => kernel.mdev(),
        Way::Functions => kernel.vendor(),
    }
    // Nothing has to be waited for before a handover.
    let unsupported = Fault { nth: 1, code: Some(3), sticky: true, ..Fault::default() };
    lab.fault("nvmlEventSetCreate", unsupported);
    (lab, kernel)
}

fn two(partitions: &str) -> [String; 3] {
    let layout = layout("big", 0, "vgpu", partitions);
    [layout, vm("first", "gpu/big/desk-0"), vm("second", "gpu/big/desk-1")]
}

fn one() -> [String; 2] {
    [layout("big", 0, "vgpu", ONE), vm("first", "gpu/big/desk-0")]
}

/// The types of what stands.
fn kinds(kernel: &Kernel) -> Vec<u32> {
    kernel.vgpus().into_iter().map(|(_, kind)| kind).collect()
}

/// Two guests, each with its vGPU.
async fn settled(way: Way) -> (Lab, Kernel) {
    let (lab, kernel) = lab(way).await;
    lab.commit(&two(TWO));
    lab.settle().await;
    assert_eq!(kinds(&kernel), [556, 556], "{way:?}");
    for guest in ["vm/first", "vm/second"] {
        assert!(runs(&lab, guest), "{way:?}: {guest}; {}", lab.world.log.tail(30));
    }
    lab.world.check_invariants();
    (lab, kernel)
}

#[tokio::test]
async fn guests_get_their_vgpus_and_nobody_else_is_disturbed() {
    for way in BOTH {
        let (lab, kernel) = settled(way).await;
        let places: Vec<String> = kernel.vgpus().into_iter().map(|(place, _)| place).collect();
        let mut given = devices(&lab, "vm/first");
        given.extend(devices(&lab, "vm/second"));
        given.sort();
        assert_eq!(given, places, "{way:?}");
        if way == Way::Functions {
            assert_eq!(places, [function(0), function(1)]);
        }
        let row = trueup::view::gpu::gpus_then(&lab.world.state()).gpus.remove(0);
        assert_eq!(row.mode.as_deref(), Some("vgpu"));
        let names: Vec<_> = row.vgpus.iter().map(|it| (&*it.name, &*it.kind)).collect();
        assert_eq!(names, [("desk-0", "NVIDIA A40-8Q"), ("desk-1", "NVIDIA A40-8Q")], "{way:?}");
        kernel.writes();
        lab.settle().await;
        assert!(kernel.writes().is_empty(), "{way:?}");

        // One goes, with its guest before it; the other runs on.
        lab.commit(&one());
        let plan = lab.plan().await;
        let at = |verb: &str| plan.steps.iter().position(|step| step.action.verb() == verb);
        assert!(at("stop").is_some() && at("stop") < at("take"), "{}", shown(&plan));
        let taking = &plan.steps[at("take").unwrap()];
        assert!(taking.interrupts.contains(&"vm/second".parse().unwrap()), "{}", shown(&plan));
        assert!(!taking.interrupts.contains(&"vm/first".parse().unwrap()), "{}", shown(&plan));
        lab.settle().await;
        assert_eq!(kinds(&kernel), [556], "{way:?}");
        assert_eq!(devices(&lab, "vm/first"), [kernel.vgpus()[0].0.clone()]);
        assert!(runs(&lab, "vm/first") && !runs(&lab, "vm/second"));
        assert_eq!(kernel.writes().len(), 1, "{way:?}");

        // Nothing of ours is left behind.
        lab.commit(&[vm("other", "")]);
        lab.settle().await;
        assert!(kernel.vgpus().is_empty(), "{way:?}");
        let off = format!("/usr/lib/nvidia/sriov-manage -d {GPU}");
        assert_eq!(kernel.writes().contains(&off), way == Way::Functions);
        lab.world.check_invariants();
    }
}

#[tokio::test]
async fn a_guest_starts_only_once_its_vgpu_is_made() {
    for way in BOTH {
        let (lab, kernel) = lab(way).await;
        lab.commit(&two(TWO));
        if way == Way::Functions {
            // Which type fits is told only by the functions: they come first.
            kernel.functions_on();
        }
        let plan = lab.plan().await;
        let made = plan.steps.iter().position(|step| step.action.verb() == "settle").unwrap();
        let id = "vm/first".parse().unwrap();
        let define = plan.steps.iter().find(|step| step.resource == id).unwrap();
        assert!(define.after.contains(&made), "{way:?}: {}", shown(&plan));
    }
}

#[tokio::test]
async fn after_a_reboot_they_are_made_again_where_they_were() {
    for way in BOTH {
        let (lab, kernel) = settled(way).await;
        let before = kernel.vgpus();
        kernel.reboot();
        assert!(kernel.vgpus().is_empty());
        for guest in ["vm/first", "vm/second"] {
            lab.world.host.stop(&guest.parse().unwrap());
        }
        lab.settle().await;
        assert_eq!(kernel.vgpus(), before, "{way:?}");
        assert!(runs(&lab, "vm/first") && runs(&lab, "vm/second"), "{way:?}");
        lab.world.check_invariants();
    }
}

/// A type that needs all the room there is, by a name that the full GPU does not list.
#[tokio::test]
async fn another_type_stops_its_guests_and_starts_them_again() {
    for way in BOTH {
        let (lab, kernel) = settled(way).await;
        for (partitions, kind) in [(FULL, 558), (TWO, 556)] {
            lab.commit(&two(partitions));
            lab.settle().await;
            assert_eq!(kinds(&kernel), [kind, kind], "{way:?}");
            assert!(runs(&lab, "vm/first") && runs(&lab, "vm/second"), "{way:?}");
            lab.world.check_invariants();
        }
    }
}

/// A guest that trueup does not know runs with one: nothing is taken, and it is named.
#[tokio::test]
async fn what_a_guest_runs_with_stays() {
    let (lab, kernel) = lab(Way::Functions).await;
    lab.commit(&[layout("big", 0, "vgpu", TWO)]);
    lab.settle().await;
    kernel.writes();
    kernel.process(77, "qemu-system-x86", "by-hand.service", "/dev/vfio/40");
    for wanted in [layout("big", 0, "whole", ""), layout("big", 0, "vgpu", FULL)] {
        lab.commit(&[wanted]);
        let plan = lab.pass().await.plan.unwrap();
        let SkipReason::Busy(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
        assert!(text.contains("qemu-system-x86 (pid 77, by-hand.service"), "{text}");
        assert!(kernel.writes().is_empty());
    }
    kernel.remove("/proc/77");
    lab.settle().await;
    assert_eq!(kinds(&kernel), [558, 558]);
}

/// One that came after the plan was made is seen right before the write.
#[tokio::test]
async fn a_guest_that_came_after_the_plan_is_not_harmed() {
    let (mut lab, kernel) = lab(Way::Functions).await;
    lab.commit(&[layout("big", 0, "vgpu", TWO)]);
    lab.settle().await;
    lab.commit(&[layout("big", 0, "vgpu", "")]);
    let late = kernel.clone();
    lab.before_writes(move |_| late.process(7, "qemu", "late.service", "/dev/vfio/41")).await;
    let report = lab.pass().await;
    assert_eq!(report.failed, 1, "{}", lab.world.log.tail(20));
    assert!(lab.failure("gpu/big").contains("qemu (pid 7"), "{}", lab.failure("gpu/big"));
    assert_eq!(kernel.vgpus(), [(function(1), 556)]);
}

/// Somebody else's vGPU is theirs, also where it takes the room of ours.
#[tokio::test]
async fn what_others_made_is_left_alone() {
    let (lab, kernel) = lab(Way::Mediated).await;
    let theirs = "11111111-2222-4333-8444-555555555555";
    kernel.create("nvidia-558", theirs).unwrap();
    lab.commit(&[layout("big", 0, "vgpu", FULL)]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Unplaceable(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("no room") && text.contains("NVIDIA A40-24Q"), "{text}");
    lab.commit(&[vm("other", "")]);
    lab.settle().await;
    assert_eq!(kernel.vgpus(), [(theirs.to_owned(), 558)]);
}

#[tokio::test]
async fn a_host_that_cannot_share_a_gpu_says_why() {
    let (lab, kernel) = lab(Way::Mediated).await;
    let unknown = "  partitions: [{ name: desk, type: A40-9Q }]\n";
    lab.commit(&[layout("big", 0, "vgpu", unknown)]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Unplaceable(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("A40-9Q") && text.contains("NVIDIA A40-8Q"), "{text}");

    let mixed = "  partitions: [{ name: a, type: A40-8Q }, { name: b, type: A40-24Q }]\n";
    lab.commit(&[layout("big", 0, "vgpu", mixed)]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Conflict(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("heterogeneous"), "{text}");
    lab.commit(&[layout("big", 0, "vgpu", &format!("{mixed}  vgpu: {{ mixedSizes: true }}\n"))]);
    lab.settle().await;
    assert_eq!(kinds(&kernel).len(), 2);

    let mut lab = Lab::with(&["h100-80gb"]).await;
    lab.kernel().await;
    lab.commit(&[layout("big", 0, "vgpu", TWO)]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Conflict(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("install the vgpu host driver"), "{text}");
}

/// The vendor's tool takes the GPU from its driver, and NVML with that, and is ended before it gave it
/// back: the next pass does.
#[tokio::test]
async fn a_tool_that_was_ended_half_way_leaves_no_gpu_without_a_driver() {
    let (mut lab, kernel) = lab(Way::Functions).await;
    kernel.trouble.lock().unwrap().tool_ends = true;
    lab.commit(&two(TWO));
    let report = lab.pass_once().await;
    assert!(report.failed > 0, "{}", lab.world.log.tail(20));
    assert_eq!(kernel.drivers()[0], None);
    lab.edit(&Edit::Lose { gpu: 0 });
    lab.restart().await;
    lab.pass().await;
    assert_eq!(kernel.drivers()[0].as_deref(), Some("nvidia"), "{}", lab.world.log.tail(20));
    lab.edit(&Edit::Return { gpu: 0 });
    lab.settle().await;
    assert_eq!(kinds(&kernel), [556, 556]);
    assert!(runs(&lab, "vm/first") && runs(&lab, "vm/second"));
    // The same on the way back, with the layout gone.
    kernel.trouble.lock().unwrap().tool_ends = true;
    lab.commit(&[vm("other", "")]);
    for _ in 0..3 {
        lab.pass().await;
    }
    lab.settle().await;
    assert_eq!(kernel.drivers()[0].as_deref(), Some("nvidia"), "{}", lab.world.log.tail(20));
    assert!(kernel.writes().iter().any(|it| it.contains("drivers_probe")));
    lab.world.check_invariants();
}

/// From one use of a GPU to the next, each ended before the other begins.
#[tokio::test]
async fn a_shared_gpu_becomes_another_one_and_comes_back() {
    for way in BOTH {
        let (mut lab, kernel) = settled(way).await;
        lab.commit(&[layout("big", 0, "passthrough", ""), vm("first", "gpu/big")]);
        lab.settle().await;
        assert!(kernel.vgpus().is_empty(), "{way:?}");
        assert_eq!(kernel.drivers()[0].as_deref(), Some("vfio-pci"), "{way:?}");
        assert!(runs(&lab, "vm/first"), "{way:?}");
        lab.commit(&two(TWO));
        lab.settle().await;
        assert_eq!(kinds(&kernel), [556, 556], "{way:?}");
        assert!(runs(&lab, "vm/first") && runs(&lab, "vm/second"), "{way:?}");
        lab.commit(&[layout("big", 0, "mig", FIRST)]);
        lab.settle().await;
        assert!(kernel.vgpus().is_empty(), "{way:?}");
        assert_eq!(lab.stands(0).len(), 4, "{way:?}");
        lab.commit(&two(TWO));
        lab.settle().await;
        assert!(lab.stands(0).is_empty(), "{way:?}");
        assert_eq!(kinds(&kernel), [556, 556], "{way:?}");
        lab.world.check_invariants();
    }
}

#[tokio::test]
async fn a_new_name_of_a_layout_disturbs_no_guest() {
    for way in BOTH {
        let (lab, kernel) = settled(way).await;
        let before = kernel.vgpus();
        kernel.writes();
        let guests = [vm("first", "gpu/large/desk-0"), vm("second", "gpu/large/desk-1")];
        let [first, second] = guests;
        lab.commit(&[layout("large", 0, "vgpu", TWO), first, second]);
        lab.settle().await;
        assert!(kernel.writes().is_empty(), "{way:?}");
        assert_eq!(kernel.vgpus(), before, "{way:?}");
        lab.commit(&[vm("other", "")]);
        lab.settle().await;
        assert!(kernel.vgpus().is_empty(), "{way:?}: what the new name took over is not known");
    }
}

/// Killed anywhere: the next start ends where it would have ended.
#[tokio::test]
async fn a_kill_at_any_point_ends_well() {
    for (way, back) in [(Way::Mediated, false), (Way::Functions, false), (Way::Functions, true)] {
        let mut n = 0;
        loop {
            let (mut lab, kernel) = lab(way).await;
            lab.commit(&two(TWO));
            if back {
                lab.settle().await;
                lab.commit(&one());
            }
            let killed = lab.pass_killed_at(n).await;
            lab.settle().await;
            let wanted: &[u32] = if back { &[556] } else { &[556, 556] };
            assert_eq!(kinds(&kernel), wanted, "{way:?}: killed at point {n}");
            assert!(runs(&lab, "vm/first"), "{way:?}: killed at point {n}");
            lab.world.check_invariants();
            if !killed {
                break;
            }
            n += 1;
        }
        assert!(n > 8, "{way:?}: the change has only {n} points to be killed at");
    }
}
