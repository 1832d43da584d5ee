//! What goes wrong: somebody uses it, the driver refuses, the program is killed, a GPU is gone.

use trueup::model::{Fault as Said, Kind};
use trueup::plan::SkipReason;
use trueup_fake_nvml::{Edit, Fault, Process};

use super::lab::{FIRST, Lab, layout, shown, uuid, why};

/// What the tests change to: the three of 1g go for one of 4g.
const SECOND: &str = "  partitions:\n    - { name: train, shape: 3g, start: 4 }\n    - { name: huge, \
                      shape: 4g }\n";

async fn settled() -> Lab {
    let lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    lab
}

#[tokio::test]
async fn what_is_in_use_stays_and_who_uses_it_is_named() {
    let mut lab = settled().await;
    lab.file("proc/4242/comm", "python\n");
    lab.file("proc/4242/cgroup", "0::/system.slice/notebook.service\n");
    lab.process(4242, 1);
    let before = lab.calls().len();
    lab.commit(&[layout("big", 0, "mig", SECOND)]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Busy(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("python (pid 4242, notebook.service)"), "{text}");
    assert!(text.contains("`infer-1` (1g@1)") && text.contains("nearest"), "{text}");
    assert_eq!(lab.calls().len(), before, "something was touched");
    assert!(shown(&plan).contains("before"), "no picture: {}", shown(&plan));
    lab.edit(&Edit::RemoveProcess { pid: 4242 });
    lab.settle().await;
    assert_eq!(lab.stands(0), [(5, 0, 1), (9, 4, 1)]);
}

#[tokio::test]
async fn a_change_may_wait_for_what_is_in_use() {
    let mut lab = settled().await;
    lab.process(4242, 1);
    lab.commit(&[layout("big", 0, "mig", &format!("{SECOND}  onBusy: wait\n"))]);
    let plan = lab.pass().await.plan.unwrap();
    assert!(matches!(why(&plan, "gpu/big"), SkipReason::BusyWaits(_)), "{}", shown(&plan));
    lab.edit(&Edit::RemoveProcess { pid: 4242 });
    lab.settle().await;
    assert_eq!(lab.stands(0), [(5, 0, 1), (9, 4, 1)]);
}

#[tokio::test]
async fn a_holder_that_came_after_the_plan_is_not_harmed() {
    let mut lab = settled().await;
    lab.commit(&[layout("big", 0, "mig", SECOND)]);
    // The first list of processes is that of the plan, the second that of the first step.
    let process = Process { pid: 7, start: Some(0), ..Process::default() };
    let edit = vec![Edit::AddProcess { gpu: 0, process }];
    let fault = Fault { nth: 2, edit, ..Fault::default() };
    lab.fault("nvmlDeviceGetComputeRunningProcesses_v3", fault);
    let report = lab.pass().await;
    assert_eq!(report.failed, 1, "{}", lab.world.log.tail(20));
    assert!(lab.failure("gpu/big").contains("(pid 7)"), "{}", lab.failure("gpu/big"));
    let failure = lab.known("gpu/big").failure.unwrap();
    assert!(matches!(failure.fault, Said::NeedsHuman { .. }), "{failure:?}");
    assert!(lab.stands(0).contains(&(19, 0, 1)), "it was destroyed");
    lab.no_more_faults();
    lab.edit(&Edit::RemoveProcess { pid: 7 });
    lab.settle().await;
    assert_eq!(lab.stands(0), [(5, 0, 1), (9, 4, 1)]);
}

/// A monitor has an instance open and stands on no list of NVML's: the plan names it and waits.
#[tokio::test]
async fn a_hidden_holder_is_named_by_the_plan() {
    let mut lab = settled().await;
    lab.opens(55, "nv-hostengine", "dcgm.service", &["/dev/nvidia-caps/nvidia-cap31"]);
    lab.edit(&Edit::Hold { gpu: 0, start: 0, holders: 1 });
    let before = lab.calls().len();
    for (more, waits) in [("", false), ("  onBusy: wait\n", true)] {
        lab.commit(&[layout("big", 0, "mig", &format!("{SECOND}{more}"))]);
        let plan = lab.pass().await.plan.unwrap();
        let text = match why(&plan, "gpu/big") {
            SkipReason::Busy(text) if !waits => text,
            SkipReason::BusyWaits(text) if waits => text,
            other => panic!("{other:?}"),
        };
        assert!(text.contains("nv-hostengine (pid 55, dcgm.service)"), "{text}");
        assert!(text.contains("`infer-0` (1g@0)") && !text.contains("infer-1` (1g@1)"), "{text}");
    }
    assert_eq!(lab.calls().len(), before, "something was touched");
    lab.edit(&Edit::Hold { gpu: 0, start: 0, holders: 0 });
    lab.closes(55);
    lab.settle().await;
    assert_eq!(lab.stands(0), [(5, 0, 1), (9, 4, 1)]);
}

/// A handle that no process is seen with: the driver refuses, and the step waits for it.
#[tokio::test]
async fn a_holder_that_nobody_sees_is_not_harmed() {
    let mut lab = settled().await;
    lab.edit(&Edit::Hold { gpu: 0, start: 0, holders: 1 });
    lab.commit(&[layout("big", 0, "mig", SECOND)]);
    lab.pass().await;
    assert!(lab.failure("gpu/big").contains("by nobody it lists"), "{}", lab.failure("gpu/big"));
    assert!(lab.stands(0).contains(&(19, 0, 1)), "it was destroyed");
    lab.edit(&Edit::Hold { gpu: 0, start: 0, holders: 0 });
    lab.settle().await;
    assert_eq!(lab.stands(0), [(5, 0, 1), (9, 4, 1)]);
}

/// Programs that only watch, or configure, hold no instance.
#[tokio::test]
async fn who_only_watches_is_in_nobodys_way() {
    let mut lab = settled().await;
    lab.opens(
        56,
        "nv-hostengine",
        "dcgm.service",
        &["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap2"],
    );
    lab.commit(&[layout("big", 0, "mig", SECOND)]);
    lab.settle().await;
    assert_eq!(lab.stands(0), [(5, 0, 1), (9, 4, 1)]);
}

/// A change of mode disturbs everybody on the GPU, but for the driver's own daemon.
#[tokio::test]
async fn who_has_the_whole_gpu_open_keeps_its_mode() {
    let mut lab = Lab::with(&["h100-80gb"]).await;
    lab.opens(57, "nvidia-persiste", "nvidia-persistenced.service", &["/dev/nvidia0"]);
    lab.opens(58, "Xorg", "gdm.service", &["/dev/nvidia0"]);
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Busy(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("Xorg (pid 58, gdm.service)") && !text.contains("pid 57"), "{text}");
    assert!(lab.calls().is_empty());
    lab.closes(58);
    lab.settle().await;
    assert_eq!(lab.stands(0).len(), 4);
}

#[tokio::test]
async fn a_refusal_that_passes_is_waited_for() {
    let mut lab = settled().await;
    lab.edit(&Edit::Gpu { gpu: 0, patch: serde_json::json!({ "destroy_refusals": 3 }) });
    lab.commit(&[layout("big", 0, "mig", SECOND)]);
    let report = lab.pass().await;
    assert_eq!(report.failed, 0, "{}", lab.world.log.tail(20));
    assert_eq!(lab.stands(0), [(5, 0, 1), (9, 4, 1)]);
}

#[tokio::test]
async fn what_cannot_be_made_gives_back_what_stood_before() {
    let mut lab = settled().await;
    lab.commit(&[layout("big", 0, "mig", SECOND)]);
    let function = "nvmlDeviceCreateGpuInstanceWithPlacement";
    lab.fault(function, Fault { nth: 1, code: Some(23), ..Fault::default() });
    let report = lab.pass_once().await;
    assert_eq!(report.failed, 1);
    assert!(lab.failure("gpu/big").contains("was put back"), "{}", lab.failure("gpu/big"));
    assert_eq!(lab.stands(0), [(19, 0, 1), (19, 1, 1), (19, 2, 1), (9, 4, 1)]);
    lab.settle().await;
    assert_eq!(lab.stands(0), [(5, 0, 1), (9, 4, 1)]);
}

#[tokio::test]
async fn an_instance_left_without_its_compute_instance_is_completed() {
    for function in [
        "nvmlGpuInstanceCreateComputeInstance",
        "nvmlGpuInstanceCreateComputeInstanceWithPlacement",
    ] {
        let mut lab = settled().await;
        lab.commit(&[layout("big", 0, "mig", SECOND)]);
        lab.fault(function, Fault { nth: 1, code: Some(10), ..Fault::default() });
        lab.pass().await;
        let calls = lab.calls();
        lab.settle().await;
        assert_eq!(lab.stands(0), [(5, 0, 1), (9, 4, 1)], "{function}: {calls:?}");
    }
}

#[tokio::test]
async fn a_compute_instance_that_cannot_be_made_gives_back_what_stood_before() {
    let mut lab = settled().await;
    lab.commit(&[layout("big", 0, "mig", SECOND)]);
    let fault = Fault { nth: 1, code: Some(23), ..Fault::default() };
    lab.fault("nvmlGpuInstanceCreateComputeInstance", fault);
    let report = lab.pass_once().await;
    assert_eq!(report.failed, 1);
    assert!(lab.failure("gpu/big").contains("was put back"), "{}", lab.failure("gpu/big"));
    lab.no_more_faults();
    lab.settle().await;
    assert_eq!(lab.stands(0), [(5, 0, 1), (9, 4, 1)]);
}

/// The first cut switches the mode: where it cannot be made, the GPU is whole again.
#[tokio::test]
async fn a_first_cut_that_cannot_be_made_leaves_the_gpu_whole() {
    for (function, nth) in [
        ("nvmlDeviceCreateGpuInstanceWithPlacement", 3),
        ("nvmlGpuInstanceCreateComputeInstance", 1),
    ] {
        let mut lab = Lab::with(&["h100-80gb"]).await;
        lab.commit(&[layout("big", 0, "mig", FIRST)]);
        lab.fault(function, Fault { nth, code: Some(23), ..Fault::default() });
        let report = lab.pass_once().await;
        assert_eq!(report.failed, 1, "{}", lab.world.log.tail(20));
        let failure = lab.failure("gpu/big");
        assert!(failure.contains("MIG mode is off again"), "{failure}");
        assert_eq!(lab.stands(0), []);
        let mode = lab.store.read().unwrap().gpus[0].mig.unwrap();
        assert_eq!((mode.current, mode.pending), (false, false));
        lab.no_more_faults();
        lab.settle().await;
        assert_eq!(lab.stands(0).len(), 4);
        lab.world.check_invariants();
    }
}

/// Where the mode cannot be switched back, that is said, with why.
#[tokio::test]
async fn a_mode_that_cannot_be_switched_back_is_told() {
    let mut lab = Lab::with(&["h100-80gb"]).await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    // From here on somebody has the GPU open whom the driver does not list.
    let edit = vec![Edit::Gpu { gpu: 0, patch: serde_json::json!({ "hidden_holders": 1 }) }];
    let function = "nvmlDeviceCreateGpuInstanceWithPlacement";
    lab.fault(function, Fault { nth: 1, code: Some(23), edit, ..Fault::default() });
    lab.pass_once().await;
    let failure = lab.failure("gpu/big");
    assert!(failure.contains("MIG mode is left on") && failure.contains("in use"), "{failure}");
    let mode = lab.store.read().unwrap().gpus[0].mig.unwrap();
    assert_eq!((mode.current, mode.pending), (true, true), "a mode that waits for a reset");
    lab.no_more_faults();
    lab.edit(&Edit::Gpu { gpu: 0, patch: serde_json::json!({ "hidden_holders": 0 }) });
    lab.settle().await;
    assert_eq!(lab.stands(0).len(), 4);
}

/// Before Hopper profiles are told only with the mode on: switching it is a change of its own, which
/// stands when the cut after it cannot be made.
#[tokio::test]
async fn a_mode_that_was_on_before_the_cut_is_told() {
    let mut state = trueup_fake_nvml::State::with_boards(&["a100-80gb"]).unwrap();
    state.gpus[0].resets_itself = true;
    let mut lab = Lab::of(state).await;
    let first = "  allowReset: true\n  partitions: [{ name: train, shape: 3g, start: 4 }]\n";
    lab.commit(&[layout("big", 0, "mig", first)]);
    let function = "nvmlDeviceCreateGpuInstanceWithPlacement";
    lab.fault(function, Fault { nth: 1, code: Some(23), ..Fault::default() });
    lab.pass_once().await;
    lab.pass_once().await;
    let failure = lab.failure("gpu/big");
    assert!(failure.contains("MIG mode is left on: it was on before"), "{failure}");
    lab.no_more_faults();
    lab.settle().await;
    assert_eq!(lab.stands(0), [(9, 4, 1)]);
}

/// The way back fails as well: what is left is told, and finished by the next try, to whatever the
/// commit asks for by then.
#[tokio::test]
async fn a_way_back_that_fails_too_is_finished_later() {
    let after: [(&str, &[_]); 2] = [
        (SECOND, &[(5, 0, 1), (9, 4, 1)]),
        (FIRST, &[(19, 0, 1), (19, 1, 1), (19, 2, 1), (9, 4, 1)]),
    ];
    for (next, stands) in after {
        let mut lab = settled().await;
        lab.commit(&[layout("big", 0, "mig", SECOND)]);
        let fault = Fault { nth: 1, code: Some(23), sticky: true, ..Fault::default() };
        lab.fault("nvmlDeviceCreateGpuInstanceWithPlacement", fault);
        let report = lab.pass_once().await;
        assert_eq!(report.failed, 1, "{}", lab.world.log.tail(20));
        let failure = lab.failure("gpu/big");
        assert!(failure.contains("could not be put back"), "{failure}");
        assert_eq!(lab.stands(0), [(9, 4, 1)], "`train` was touched");
        lab.no_more_faults();
        lab.commit(&[layout("big", 0, "mig", next)]);
        lab.settle().await;
        assert_eq!(lab.stands(0), stands);
        lab.world.check_invariants();
    }
}

/// Somebody opens the GPU between the plan and the switch of its mode.
#[tokio::test]
async fn a_mode_is_not_switched_below_a_holder_that_came_after_the_plan() {
    let mut lab = Lab::with(&["h100-80gb"]).await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    let process = Process { pid: 7, ..Process::default() };
    let edit = vec![Edit::AddProcess { gpu: 0, process }];
    let fault = Fault { nth: 2, edit, ..Fault::default() };
    lab.fault("nvmlDeviceGetComputeRunningProcesses_v3", fault);
    let report = lab.pass_once().await;
    assert_eq!(report.failed, 1, "{}", lab.world.log.tail(20));
    assert!(lab.failure("gpu/big").contains("(pid 7)"), "{}", lab.failure("gpu/big"));
    assert!(lab.calls().is_empty(), "{:?}", lab.calls());
    lab.edit(&Edit::RemoveProcess { pid: 7 });
    lab.settle().await;
    assert_eq!(lab.stands(0).len(), 4);
}

/// Killed at each point of the change to `layout`, the next start ends where it would have ended. How
/// many points there were.
async fn killed_everywhere(mode: &str, more: &str, stands: &[(u32, u32, usize)]) -> usize {
    let mut n = 0;
    loop {
        // From whole to cut begins with a GPU whose mode has to be switched.
        let mut lab = match mode {
            "first" => Lab::with(&["h100-80gb"]).await,
            _ => settled().await,
        };
        let mode = if mode == "first" { "mig" } else { mode };
        lab.commit(&[layout("big", 0, mode, more)]);
        let killed = lab.pass_killed_at(n).await;
        lab.settle().await;
        assert_eq!(lab.stands(0), stands, "killed at point {n}");
        let memory = lab.known("gpu/big").claim.unwrap().resource.unwrap();
        let memory = serde_json::to_value(&memory).unwrap();
        assert_eq!(memory["spec"]["memory"]["before"], serde_json::Value::Null, "{memory:#}");
        let cut = lab.store.read().unwrap().gpus[0].mig.unwrap();
        assert_eq!((cut.current, cut.pending), (mode == "mig", mode == "mig"), "point {n}");
        lab.world.check_invariants();
        if !killed {
            return n;
        }
        n += 1;
    }
}

#[tokio::test]
async fn a_kill_at_any_point_ends_well() {
    let points = killed_everywhere("mig", SECOND, &[(5, 0, 1), (9, 4, 1)]).await;
    assert!(points > 20, "the change has only {points} points to be killed at");
}

#[tokio::test]
async fn a_kill_at_any_point_of_a_first_cut_ends_well() {
    let points = killed_everywhere("first", SECOND, &[(5, 0, 1), (9, 4, 1)]).await;
    assert!(points > 15, "the change has only {points} points to be killed at");
}

#[tokio::test]
async fn a_kill_at_any_point_on_the_way_to_a_whole_gpu_ends_well() {
    let points = killed_everywhere("whole", "", &[]).await;
    assert!(points > 20, "the change has only {points} points to be killed at");
}

#[tokio::test]
async fn a_lost_gpu_is_not_gone_and_hides_no_other() {
    let mut lab = Lab::with(&["h100-80gb", "h100-80gb"]).await;
    let both = [layout("big", 0, "mig", FIRST), layout("other", 1, "mig", FIRST)];
    lab.commit(&both);
    lab.settle().await;
    lab.edit(&Edit::Lose { gpu: 0 });
    let second = [layout("big", 0, "mig", SECOND), layout("other", 1, "mig", SECOND)];
    lab.commit(&second);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Unobservable(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("lost"), "{text}");
    assert_eq!(lab.stands(1), [(5, 0, 1), (9, 4, 1)], "the other one waited");
    assert!(lab.known("gpu/big").unobservable.is_some());
    lab.edit(&Edit::Return { gpu: 0 });
    lab.settle().await;
    assert_eq!(lab.stands(0), [(5, 0, 1), (9, 4, 1)]);
    assert!(lab.known("gpu/big").unobservable.is_none());
}

#[tokio::test]
async fn a_layout_that_matches_nothing_lists_what_there_is() {
    let mut lab = Lab::with(&["h100-80gb", "a30-24gb"]).await;
    lab.commit(&[layout("big", 7, "mig", FIRST), layout("other", 0, "mig", FIRST)]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Unobservable(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains(&uuid(0)) && text.contains(&uuid(1)), "{text}");
    assert_eq!(lab.stands(0).len(), 4, "the good one was not made");
}

/// A profile that the board, or a newer driver, does not have.
#[tokio::test]
async fn an_unknown_profile_lists_those_there_are() {
    let lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", "  partitions: [{ name: a, profile: 3g.41gb }]\n")]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Unplaceable(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("3g.41gb") && text.contains("3g (3g.40gb)"), "{text}");
    assert!(lab.calls().is_empty());
    lab.commit(&[layout("big", 0, "mig", "  partitions: [{ name: a, shape: 4g, count: 2 }]\n")]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Unplaceable(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("nearest"), "{text}");
}

/// Without a driver nothing is known, which is not the same as that there is nothing.
#[tokio::test]
async fn no_driver_is_not_no_gpu() {
    let mut lab = settled().await;
    lab.edit(&Edit::DriverUnload);
    let plan = lab.pass().await.plan.unwrap();
    assert!(matches!(why(&plan, "gpu/big"), SkipReason::Unobservable(_)), "{}", shown(&plan));
    assert!(lab.known("gpu/big").is_ours());
    lab.edit(&Edit::DriverReload { driver: None });
    lab.settle().await;
    assert_eq!(lab.stands(0).len(), 4);
    assert!(lab.known("gpu/big").unobservable.is_none());
    assert_eq!(Kind::GpuLayout.short(), "gpu");
}

#[tokio::test]
async fn an_unknown_architecture_is_cut_but_not_switched() {
    let mut lab = Lab::with(&["h100-80gb"]).await;
    let unknown = |state: &mut trueup_fake_nvml::State| {
        let key = state.gpus[0].board.clone();
        state.boards.get_mut(&key).unwrap().architecture = "rubin".to_owned();
    };
    lab.store.change(unknown).unwrap();
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::NeedsReset(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("unknown architecture"), "{text}");
    lab.commit(&[layout("big", 0, "mig", &format!("{FIRST}  allowReset: true\n"))]);
    lab.settle().await;
    assert_eq!(lab.stands(0).len(), 4);
}
