//! Whose a cut is: what somebody else made is left alone, unless it is to be taken over.

use trueup::plan::SkipReason;
use trueup_fake_nvml::{Edit, GpuInstance, State};

use super::lab::{FIRST, Lab, layout, shown, why};

/// Somebody's instance of 2g, in the way of nobody.
fn foreign(state: &mut State) {
    let serial = state.next_serial();
    state.gpus[0].instances.push(GpuInstance {
        serial,
        id: 5,
        profile: 14,
        start: 2,
        compute: Vec::new(),
        refusals: 0,
    });
}

#[tokio::test]
async fn what_somebody_else_cut_is_left_alone() {
    let mut lab = Lab::cut().await;
    lab.store.change(foreign).unwrap();
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    let plan = lab.pass().await.plan.unwrap();
    assert_eq!(*why(&plan, "gpu/big"), SkipReason::Foreign, "{}", shown(&plan));
    assert!(lab.calls().is_empty());
    lab.commit(&[layout("big", 0, "mig", &format!("{FIRST}  takeover: true\n"))]);
    lab.settle().await;
    assert_eq!(lab.stands(0), [(19, 0, 1), (19, 1, 1), (19, 2, 1), (9, 4, 1)]);
    assert!(lab.world.log.tail(60).contains("resource.adopted"), "{}", lab.world.log.tail(60));
}

/// The same layout, found and not made: taken over without touching anything.
#[tokio::test]
async fn what_is_right_already_is_taken_over_as_it_is() {
    let mut lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    let state = (*lab.store.read().unwrap()).clone();
    let other = Lab::of(state).await;
    let text = layout("big", 0, "mig", &format!("{FIRST}  takeover: true\n"));
    other.commit(&[text]);
    let plan = other.plan().await;
    let ours = plan.steps.iter().filter(|step| step.resource.to_string() == "gpu/big");
    assert_eq!(ours.count(), 1, "{}", shown(&plan));
    other.settle().await;
    assert!(other.calls().is_empty(), "{:?}", other.calls());
    assert!(other.known("gpu/big").is_ours());
}

/// An instance that somebody adds to a layout of ours is drift.
#[tokio::test]
async fn what_is_added_to_ours_goes_when_it_is_idle() {
    let mut lab = Lab::cut().await;
    let partitions = "  partitions: [{ name: train, shape: 3g, start: 4 }]\n";
    lab.commit(&[layout("big", 0, "mig", partitions)]);
    lab.settle().await;
    lab.store.change(foreign).unwrap();
    lab.process(9, 2);
    let plan = lab.pass().await.plan.unwrap();
    assert!(matches!(why(&plan, "gpu/big"), SkipReason::Busy(_)), "{}", shown(&plan));
    lab.edit(&Edit::RemoveProcess { pid: 9 });
    lab.settle().await;
    assert_eq!(lab.stands(0), [(9, 4, 1)]);
}

#[tokio::test]
async fn another_manager_of_gpus_is_not_fought() {
    let mut lab = Lab::cut().await;
    let link = "etc/systemd/system/multi-user.target.wants/nvidia-mig-manager.service";
    lab.file(link, "");
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Conflict(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("nvidia-mig-manager.service"), "{text}");
    assert!(lab.stands(0).is_empty());
}

/// A manager in a container: nothing of it is on the machine but its process.
#[tokio::test]
async fn a_manager_in_a_container_is_known_by_its_process() {
    let mut lab = Lab::cut().await;
    lab.file("proc/900/comm", "nvidia-mig-mana\n");
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Conflict(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("mig-manager (pid 900)") && text.contains("takeover"), "{text}");
    assert!(lab.stands(0).is_empty());
    lab.closes(900);
    lab.settle().await;
    assert_eq!(lab.stands(0).len(), 4);
}

/// Another manager that comes to a machine with a layout of ours: from then on nothing is changed,
/// and what it does is not undone.
#[tokio::test]
async fn a_manager_that_comes_later_is_not_fought_either() {
    let mut lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    let calls = lab.calls().len();
    lab.file("var/lib/kubelet/plugins/gpu.nvidia.com/checkpoint", "");
    lab.store.change(|state| state.gpus[0].instances.retain(|it| it.start >= 2)).unwrap();
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Conflict(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("DRA driver") && text.contains("takeover"), "{text}");
    assert_eq!(lab.calls().len(), calls, "it was fought");
    lab.commit(&[layout("big", 0, "mig", &format!("{FIRST}  takeover: true\n"))]);
    lab.settle().await;
    assert_eq!(lab.stands(0), [(19, 0, 1), (19, 1, 1), (19, 2, 1), (9, 4, 1)]);
}

/// A layout under another name is the same layout.
#[tokio::test]
async fn a_new_name_of_a_layout_touches_nothing() {
    let mut lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    let before = lab.calls().len();
    lab.commit(&[layout("large", 0, "mig", FIRST)]);
    lab.settle().await;
    assert_eq!(lab.calls().len(), before, "{:?}", lab.calls());
    assert_eq!(lab.stands(0).len(), 4);
    assert!(lab.known("gpu/large").is_ours());
}
