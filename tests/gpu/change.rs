//! Layouts that are made, changed, healed, removed: what is kept, and in which order things go.

use expect_test::expect;
use trueup::plan::SkipReason;
use trueup_fake_nvml::{Edit, Mode, State};

use super::lab::{FIRST, Lab, layout, shown, uuid, why};

#[tokio::test]
async fn a_whole_gpu_is_cut() {
    let mut lab = Lab::with(&["h100-80gb"]).await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    let plan = lab.plan().await;
    expect![[r#"
           1  define    pool/trueup  [missing]
           2  switch    gpu/big      to mig [changed] RESTART
                        mode: whole → mig (restart)
                        partitions.infer-0: nothing → 1g@0
                        partitions.infer-1: nothing → 1g@1
                        partitions.infer-2: nothing → 1g@2
                        partitions.train: nothing → 3g@4
           3  create    gpu/big      1g@0 (infer-0) [changed] after 2
           4  create    gpu/big      1g@1 (infer-1) [changed] after 3
           5  create    gpu/big      1g@2 (infer-2) [changed] after 4
           6  create    gpu/big      3g@4 (train) [changed] after 5
           7  create    gpu/big      1c in 1g@0 (infer-0) [changed] after 6
           8  create    gpu/big      1c in 1g@1 (infer-1) [changed] after 7
           9  create    gpu/big      1c in 1g@2 (infer-2) [changed] after 8
          10  create    gpu/big      3c in 3g@4 (train) [changed] after 9
          11  settle    gpu/big      [changed] after 10
        gpu/big:
                    0       1       2       3       4       5       6       7
            before │·······│·······│·······│·······│·······│·······│·······│·······│
            after  │+1g in~│+1g in~│+1g in~│·······│+3g train                      │
                    after 0: 1g infer-0
                    after 1: 1g infer-1
                    after 2: 1g infer-2
                    + created
        Plan: 1 to create, 1 to change (1 restart), 0 to destroy · digest 16b0c7da905f
    "#]]
    .assert_eq(&shown(&plan));
    let report = lab.pass().await;
    assert_eq!((report.failed, report.blocked), (0, 0), "{}", lab.world.log.tail(20));
    assert_eq!(lab.stands(0), [(19, 0, 1), (19, 1, 1), (19, 2, 1), (9, 4, 1)]);
    assert!(lab.known("gpu/big").applied.is_some(), "not synced");
    let calls = lab.calls();
    assert!(calls[0].starts_with("nvmlDeviceSetMigMode"), "{calls:?}");
    assert_eq!(calls.len(), 9, "{calls:?}");
    let again = lab.pass().await;
    assert!(again.plan.unwrap().is_empty());
    assert_eq!(lab.calls().len(), 9, "something was done twice");
    lab.world.check_invariants();
}

#[tokio::test]
async fn a_change_keeps_what_it_can() {
    let mut lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    let train = lab.devices(0, 4);
    let partitions = "  partitions:\n    - { name: train, shape: 3g }\n    - { name: infer, \
                      shape: 1g, count: 2 }\n    - { name: eval, shape: 2g }\n";
    lab.commit(&[layout("big", 0, "mig", partitions)]);
    let plan = lab.plan().await;
    expect![[r#"
           1  destroy   gpu/big  1c@0 in 1g@2 (infer-2) [changed] RESTART
                        partitions.eval: nothing → 2g@2
                        partitions.infer-2: 1g@2 → nothing (restart)
           2  destroy   gpu/big  1g@2 (infer-2) [changed] RESTART after 1
           3  create    gpu/big  2g@2 (eval) [changed] after 2
           4  create    gpu/big  2c in 2g@2 (eval) [changed] after 3
           5  settle    gpu/big  [changed] after 4
        gpu/big:
                    0       1       2       3       4       5       6       7
            before │ 1g in~│ 1g in~│-1g in~│·······│ 3g train                      │
            after  │ 1g in~│ 1g in~│+2g eval       │ 3g train                      │
                    before 0: 1g infer-0
                    before 1: 1g infer-1
                    before 2: 1g infer-2
                    after 0: 1g infer-0
                    after 1: 1g infer-1
                    - destroyed   + created
        Plan: 0 to create, 1 to change (1 restart), 0 to destroy · digest c2abe280722e
    "#]]
    .assert_eq(&shown(&plan));
    lab.settle().await;
    assert_eq!(lab.stands(0), [(19, 0, 1), (19, 1, 1), (14, 2, 1), (9, 4, 1)]);
    assert_eq!(lab.devices(0, 4), train, "train was made anew");
}

#[tokio::test]
async fn compute_instances_are_as_asked_for() {
    let mut lab = Lab::cut().await;
    let partitions = "  partitions:\n    - { name: a, shape: 3g, compute: [{ shape: 1c, count: 2 \
                      }] }\n";
    lab.commit(&[layout("big", 0, "mig", partitions)]);
    lab.settle().await;
    let stands = lab.stands(0);
    assert!(matches!(stands.as_slice(), [(9, _, 2)]), "{stands:?}");
}

#[tokio::test]
async fn drift_is_healed_and_told() {
    let mut lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    let lose_one = |state: &mut State| state.gpus[0].instances.retain(|it| it.start != 1);
    lab.store.change(lose_one).unwrap();
    lab.pass().await;
    assert_eq!(lab.stands(0), [(19, 0, 1), (19, 1, 1), (19, 2, 1), (9, 4, 1)]);
    let log = lab.world.log.tail(40);
    assert!(log.contains("resource.drifted") && log.contains("infer-1"), "{log}");
    assert!(lab.pass().await.plan.unwrap().is_empty());
    assert!(lab.known("gpu/big").drift.is_none(), "never said to be well again");
}

#[tokio::test]
async fn a_reboot_is_healed_with_the_mode() {
    let mut lab = Lab::with(&["h100-80gb"]).await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    lab.edit(&Edit::Reboot);
    assert!(lab.stands(0).is_empty());
    lab.restart().await;
    lab.settle().await;
    assert_eq!(lab.stands(0), [(19, 0, 1), (19, 1, 1), (19, 2, 1), (9, 4, 1)]);
}

/// Ampere keeps its mode over a reboot: only the instances are made anew, without a reset.
#[tokio::test]
async fn a_mode_that_outlives_a_reboot_is_not_switched_again() {
    let mut state = State::with_boards(&["a100-80gb"]).unwrap();
    state.gpus[0].mig = Some(Mode { current: true, pending: true });
    let mut lab = Lab::of(state).await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    lab.edit(&Edit::Reboot);
    assert!(lab.stands(0).is_empty());
    lab.restart().await;
    lab.settle().await;
    assert_eq!(lab.stands(0), [(19, 0, 1), (19, 1, 1), (19, 2, 1), (9, 4, 1)]);
    let calls = lab.calls();
    assert!(!calls.iter().any(|call| call.starts_with("nvmlDeviceSetMigMode")), "{calls:?}");
}

/// The driver is loaded anew beside the running program.
#[tokio::test]
async fn a_driver_reload_is_survived() {
    let mut lab = Lab::with(&["h100-80gb"]).await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    lab.edit(&Edit::DriverReload { driver: None });
    lab.settle().await;
    assert_eq!(lab.stands(0), [(19, 0, 1), (19, 1, 1), (19, 2, 1), (9, 4, 1)]);
}

#[tokio::test]
async fn a_gpu_becomes_whole_again() {
    let mut lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    lab.commit(&[layout("big", 0, "whole", "")]);
    lab.settle().await;
    assert!(lab.stands(0).is_empty());
    let mode = lab.store.read().unwrap().gpus[0].mig;
    assert_eq!(mode, Some(Mode { current: false, pending: false }));
}

#[tokio::test]
async fn a_layout_gone_from_the_commit_is_taken_off() {
    let mut lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    // An environment without anything in it never removes anything.
    let network = "apiVersion: trueup/v1\nkind: Network\nmetadata: { name: lab }\nspec: { cidr: \
                   10.7.0.0/24 }\n";
    lab.world.remote.write("environments/lab/gpus.yaml", network);
    lab.world.remote.commit("no layout");
    lab.settle().await;
    assert!(lab.stands(0).is_empty());
    lab.pass().await;
    let id = "gpu/big".parse().unwrap();
    let state = lab.world.state();
    assert!(state.resources.get(&id).is_none_or(|known| !known.is_ours()), "still ours");
}

#[tokio::test]
async fn an_older_gpu_is_not_reset_without_a_word() {
    let mut state = State::with_boards(&["a100-80gb"]).unwrap();
    state.gpus[0].resets_itself = true;
    let mut lab = Lab::of(state).await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    let report = lab.pass().await;
    let plan = report.plan.unwrap();
    assert!(matches!(why(&plan, "gpu/big"), SkipReason::NeedsReset(_)), "{}", shown(&plan));
    assert!(lab.calls().is_empty());
    lab.commit(&[layout("big", 0, "mig", &format!("{FIRST}  allowReset: true\n"))]);
    lab.settle().await;
    assert_eq!(lab.stands(0).len(), 4);
}

#[tokio::test]
async fn a_mode_that_waits_for_a_reset_is_said() {
    let mut state = State::with_boards(&["a100-80gb"]).unwrap();
    state.gpus[0].mig = Some(Mode { current: false, pending: true });
    let mut lab = Lab::of(state).await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::NeedsReset(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("after a reset"), "{text}");
    lab.edit(&Edit::Reboot);
    lab.settle().await;
    assert_eq!(lab.stands(0).len(), 4);
}

/// What a reset does to the file of the simulated machine, from a program.
fn resets(lab: &Lab) -> String {
    let state = lab.folder.path().join("state.json");
    let shown = r#"s/"current": false/"current": true/"#;
    format!("grep -q '\"pending\": true' {0} && sed -i '{shown}' {0}", state.display())
}

/// Before Hopper a mode comes with a reset, which is done where it is allowed, by the driver's own
/// program and with nothing of ours open.
#[tokio::test]
async fn an_older_gpu_is_reset_where_that_is_allowed() {
    for pending in [false, true] {
        let mut state = State::with_boards(&["a100-80gb"]).unwrap();
        state.gpus[0].mig = Some(Mode { current: false, pending });
        let mut lab = Lab::of(state).await;
        lab.tool("nvidia-smi", &resets(&lab));
        lab.commit(&[layout("big", 0, "mig", &format!("{FIRST}  allowReset: true\n"))]);
        lab.settle().await;
        assert_eq!(lab.stands(0).len(), 4, "{}", lab.world.log.tail(20));
        assert_eq!(lab.tool_calls(), [format!("nvidia-smi --gpu-reset -i {}", uuid(0))]);
        lab.world.check_invariants();
    }
}

/// A reset that is refused, that does nothing, or for which there is no program: said, with what is left
/// to do, and taken up once somebody did it.
#[tokio::test]
async fn a_reset_that_does_not_come_about_is_left_to_a_person() {
    let cases = [
        (Some("echo GPU is in use by another client; exit 3"), "GPU is in use by another client"),
        (Some("exit 0"), "did not come with a reset"),
        (None, "nvidia-smi is not installed"),
    ];
    for (program, said) in cases {
        let state = State::with_boards(&["a100-80gb"]).unwrap();
        let mut lab = Lab::of(state).await;
        if let Some(program) = program {
            lab.tool("nvidia-smi", program);
        }
        lab.commit(&[layout("big", 0, "mig", &format!("{FIRST}  allowReset: true\n"))]);
        let report = lab.pass_once().await;
        assert_eq!(report.failed, 1, "{}", lab.world.log.tail(20));
        let failure = lab.failure("gpu/big");
        assert!(failure.contains(said) && failure.contains("reboot"), "{failure}");
        assert!(lab.stands(0).is_empty());
        lab.edit(&Edit::Reset { gpu: 0 });
        lab.settle().await;
        assert_eq!(lab.stands(0).len(), 4);
    }
}
