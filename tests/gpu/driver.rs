//! What a driver does that nobody asked for: it says what is not so, comes back in the middle of a
//! change, wants a reset, calls things by other names.

use trueup::model::Fault as Said;
use trueup::plan::SkipReason;
use trueup::view;
use trueup_fake_nvml::{Edit, Fault, Mode, State};

use super::lab::{FIRST, Lab, layout, shown, why};

/// What the tests change to: the three of 1g go for one of 4g.
const SECOND: &str = "  partitions:\n    - { name: train, shape: 3g, start: 4 }\n    - { name: huge, \
                      shape: 4g }\n";
const AFTER: [(u32, u32, usize); 2] = [(5, 0, 1), (9, 4, 1)];

async fn settled() -> Lab {
    let lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    lab
}

/// Row 49: a call that succeeds and does nothing is found out, told, and made again.
#[tokio::test]
async fn a_success_without_effect_is_found_out() {
    let mut lab = Lab::with(&["h100-80gb"]).await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.fault("nvmlDeviceSetMigMode", Fault { nth: 1, code: Some(0), ..Fault::default() });
    let report = lab.pass_once().await;
    assert_eq!(report.failed, 1, "{}", lab.world.log.tail(20));
    assert!(lab.failure("gpu/big").contains("and it is not"), "{}", lab.failure("gpu/big"));
    lab.settle().await;
    assert_eq!(lab.stands(0).len(), 4);

    for function in [
        "nvmlComputeInstanceDestroy",
        "nvmlGpuInstanceDestroy",
        "nvmlDeviceCreateGpuInstanceWithPlacement",
        "nvmlGpuInstanceCreateComputeInstance",
    ] {
        let mut lab = settled().await;
        lab.commit(&[layout("big", 0, "mig", SECOND)]);
        lab.fault(function, Fault { nth: 1, code: Some(0), ..Fault::default() });
        let report = lab.pass_once().await;
        assert!(report.failed > 0, "{function}: {}", lab.world.log.tail(20));
        assert!(!lab.failure("gpu/big").is_empty(), "{function}: nothing is said");
        assert!(lab.stands(0).contains(&(9, 4, 1)), "{function}: `train` was touched");
        lab.settle().await;
        assert_eq!(lab.stands(0), AFTER, "{function}");
        lab.world.check_invariants();
    }
}

#[tokio::test]
async fn a_reset_that_the_driver_wants_first_is_asked_for() {
    for function in ["nvmlComputeInstanceDestroy", "nvmlDeviceCreateGpuInstanceWithPlacement"] {
        let mut lab = settled().await;
        lab.commit(&[layout("big", 0, "mig", SECOND)]);
        lab.fault(function, Fault { nth: 1, code: Some(16), ..Fault::default() });
        lab.pass_once().await;
        let failure = lab.known("gpu/big").failure.unwrap();
        assert!(matches!(failure.fault, Said::NeedsHuman { .. }), "{function}: {failure:?}");
        assert!(lab.failure("gpu/big").contains("--gpu-reset"), "{}", lab.failure("gpu/big"));
        assert!(lab.stands(0).contains(&(9, 4, 1)), "{function}: `train` was touched");
        // The reset takes everything with it.
        lab.edit(&Edit::Reset { gpu: 0 });
        lab.settle().await;
        assert_eq!(lab.stands(0), AFTER, "{function}");
    }
}

/// The driver goes and comes in the middle of a change, with all that stood.
#[tokio::test]
async fn a_driver_loaded_anew_in_the_middle_of_a_change_is_survived() {
    for function in [
        "nvmlComputeInstanceDestroy",
        "nvmlGpuInstanceDestroy",
        "nvmlDeviceCreateGpuInstanceWithPlacement",
        "nvmlGpuInstanceCreateComputeInstance",
    ] {
        let mut lab = settled().await;
        lab.commit(&[layout("big", 0, "mig", SECOND)]);
        let edit = vec![Edit::DriverReload { driver: None }];
        lab.fault(function, Fault { nth: 1, edit, ..Fault::default() });
        lab.pass().await;
        lab.settle().await;
        assert_eq!(lab.stands(0), AFTER, "{function}: {}", lab.world.log.tail(20));
        lab.world.check_invariants();
    }
}

/// Row 47: off the bus in the middle of a change; what was begun is finished when it is back.
#[tokio::test]
async fn a_gpu_lost_in_the_middle_of_a_change_is_finished_later() {
    for function in ["nvmlGpuInstanceDestroy", "nvmlDeviceCreateGpuInstanceWithPlacement"] {
        let mut lab = settled().await;
        lab.commit(&[layout("big", 0, "mig", SECOND)]);
        let edit = vec![Edit::Lose { gpu: 0 }];
        lab.fault(function, Fault { nth: 1, edit, ..Fault::default() });
        lab.pass().await;
        let plan = lab.pass().await.plan.unwrap();
        assert!(matches!(why(&plan, "gpu/big"), SkipReason::Unobservable(_)), "{}", shown(&plan));
        lab.edit(&Edit::Return { gpu: 0 });
        lab.settle().await;
        assert_eq!(lab.stands(0), AFTER, "{function}");
        lab.world.check_invariants();
    }
}

/// Row 50: what waits for a reset keeps nothing else waiting.
#[tokio::test]
async fn a_gpu_that_waits_for_a_reset_delays_no_other() {
    let mut state = State::with_boards(&["a100-80gb", "h100-80gb"]).unwrap();
    state.gpus[1].mig = Some(Mode { current: true, pending: true });
    let mut lab = Lab::of(state).await;
    let both = |second: &str| [layout("old", 0, "mig", FIRST), layout("new", 1, "mig", second)];
    lab.commit(&both(FIRST));
    let plan = lab.pass().await.plan.unwrap();
    assert!(matches!(why(&plan, "gpu/old"), SkipReason::NeedsReset(_)), "{}", shown(&plan));
    assert_eq!(lab.stands(1).len(), 4, "the other one waited");
    let plan = lab.pass().await.plan.unwrap();
    let rows = view::rows(&lab.world.state(), &plan.skipped, &plan.notes);
    let row = rows.iter().find(|row| row.resource.to_string() == "gpu/old").unwrap();
    assert_eq!(row.status.word(), "Held", "{row:?}");
    assert!(row.status.detail().contains("reset"), "{row:?}");
    lab.commit(&both(SECOND));
    lab.pass().await;
    assert_eq!(lab.stands(1), AFTER, "a later change waited");
    // Somebody does it by hand: it is switched, and reset.
    lab.edit(&Edit::Gpu {
        gpu: 0,
        patch: serde_json::json!({ "mig": { "current": true, "pending": true } }),
    });
    lab.settle().await;
    assert_eq!(lab.stands(0).len(), 4);
}

/// A driver update that gives a profile of the first board another name.
fn rename(lab: &mut Lab) {
    let rename = |state: &mut State| {
        let key = state.gpus[0].board.clone();
        let board = state.boards.get_mut(&key).unwrap();
        board.profiles.iter_mut().find(|it| it.name == "1g.10gb").unwrap().name = "1g.11gb".into();
    };
    lab.store.change(rename).unwrap();
}

/// A new driver calls a profile by another name: what stands is known by its shape and stays, what is
/// lost is made anew, and the plan says which name the commit should have.
#[tokio::test]
async fn a_profile_under_another_name_is_not_another_profile() {
    let mut lab = settled().await;
    let (stood, devices) = (lab.stands(0), lab.devices(0, 0));
    let calls = lab.calls().len();
    rename(&mut lab);
    let plan = lab.plan().await;
    assert!(plan.is_empty() && plan.skipped.is_empty(), "{}", shown(&plan));
    assert!(shown(&plan).contains("by another name than the commit"), "{}", shown(&plan));
    lab.settle().await;
    assert_eq!((lab.stands(0), lab.calls().len()), (stood.clone(), calls), "something was touched");
    assert_eq!(lab.devices(0, 0), devices);
    assert!(lab.known("gpu/big").drift.is_none());

    // What the old name stood for is known to every later start, and after every later change: a new
    // driver takes the cut with it.
    lab.restart().await;
    lab.edit(&Edit::DriverReload { driver: Some("590.10.01".to_owned()) });
    assert!(lab.stands(0).is_empty());
    lab.settle().await;
    assert_eq!(lab.stands(0), stood);
    assert_eq!(lab.failure("gpu/big"), "");
    let both = SECOND.replace("name: huge, shape: 4g", "name: infer, profile: 1g.10gb, count: 2");
    lab.commit(&[layout("big", 0, "mig", &both)]);
    lab.settle().await;
    assert_eq!(lab.stands(0).len(), 3);

    // Another name was never heard of, and is not guessed.
    lab.commit(&[layout("big", 0, "mig", &FIRST.replace("1g.10gb", "1g.12gb"))]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Unplaceable(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("`1g.12gb`") && text.contains("1g (1g.11gb)"), "{text}");
    assert_eq!(lab.stands(0).len(), 3, "something was touched");
}

/// A name that goes over to another profile: what stands keeps its meaning, and is not destroyed.
#[tokio::test]
async fn a_name_that_another_profile_has_by_now_stands_for_the_old_one() {
    let mut lab = settled().await;
    let (stood, calls) = (lab.stands(0), lab.calls().len());
    let swap = |state: &mut State| {
        let key = state.gpus[0].board.clone();
        for profile in &mut state.boards.get_mut(&key).unwrap().profiles {
            profile.name = match profile.name.as_str() {
                "1g.10gb" => "1g.11gb".into(),
                "1g.20gb" => "1g.10gb".into(),
                _ => continue,
            };
        }
    };
    lab.store.change(swap).unwrap();
    let plan = lab.plan().await;
    assert!(plan.is_empty() && plan.skipped.is_empty(), "{}", shown(&plan));
    assert!(shown(&plan).contains("by another name than the commit"), "{}", shown(&plan));
    lab.settle().await;
    assert_eq!((lab.stands(0), lab.calls().len()), (stood.clone(), calls), "something was touched");
    for _ in 0..2 {
        lab.edit(&Edit::DriverReload { driver: None });
        lab.settle().await;
        assert_eq!(lab.stands(0), stood);
    }
}

/// Who asks by the shape, or by the new name, does not notice a profile's new name at all.
#[tokio::test]
async fn a_shape_has_no_name_that_could_change() {
    for word in ["shape: 1g", "profile: 1g.11gb"] {
        let mut lab = settled().await;
        let (stood, calls) = (lab.stands(0), lab.calls().len());
        rename(&mut lab);
        lab.commit(&[layout("big", 0, "mig", &FIRST.replace("profile: 1g.10gb", word))]);
        let plan = lab.plan().await;
        assert!(plan.is_empty() && plan.notes.is_empty(), "{word}: {}", shown(&plan));
        lab.settle().await;
        assert_eq!((lab.stands(0), lab.calls().len()), (stood, calls), "{word}");
    }
}

/// A board with a profile that nobody here has heard of is cut like any other, and by that profile
/// where it is asked for by its name.
#[tokio::test]
async fn a_profile_that_nobody_knows_is_taken_as_the_driver_tells_it() {
    let mut lab = Lab::cut().await;
    let add = |state: &mut State| {
        let key = state.gpus[0].board.clone();
        let board = state.boards.get_mut(&key).unwrap();
        let mut new = board.profiles.iter().find(|it| it.name == "1g.10gb").unwrap().clone();
        new.index = (0..18).find(|at| board.profiles.iter().all(|it| it.index != *at)).unwrap();
        (new.name, new.id, new.max) = ("1g.10gb+quantum".to_owned(), 201, 1);
        board.profiles.push(new);
    };
    lab.store.change(add).unwrap();
    let partitions = "  partitions:\n    - { name: odd, profile: 1g.10gb+quantum }\n    - { name: \
                      train, shape: 3g, start: 4 }\n";
    lab.commit(&[layout("big", 0, "mig", partitions)]);
    lab.settle().await;
    assert!(matches!(lab.stands(0).as_slice(), [(201, _, 1), (9, 4, 1)]), "{:?}", lab.stands(0));
}
