//! How GPUs are: what becomes an event, what the view says, and how a trouble ends.

use serde_json::json;
use trueup::plan::SkipReason;
use trueup::view::{self, HealthWord};
use trueup_fake_nvml::{Edit, State};

use super::lab::{FIRST, Lab, layout, uuid, why};

/// Types of the events about how GPUs are, in order; how they are cut is another story.
fn told(lab: &Lab) -> Vec<String> {
    let events = lab.world.log.events();
    let types = events.iter().map(|event| event.entry.event.type_name());
    let health = |name: &&str| name.starts_with("gpu.") && *name != "gpu.observed";
    types.filter(health).map(str::to_owned).collect()
}

fn health(lab: &Lab) -> (HealthWord, Vec<String>) {
    let rows = view::gpu_health(&lab.world.state());
    let row = rows.into_iter().find(|row| row.gpu == uuid(0)).unwrap();
    (row.health, row.why)
}

async fn settled() -> Lab {
    let lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    lab
}

#[tokio::test]
async fn a_gpu_is_told_of_once_with_its_driver_and_firmware() {
    let mut lab = settled().await;
    assert_eq!(told(&lab), ["gpu.found"]);
    lab.edit(&Edit::Gpu {
        gpu: 0,
        patch: json!({ "health": { "temperature": 88, "power": 399_000, "utilization": [99, 80] } }),
    });
    lab.pass().await;
    assert_eq!(told(&lab), ["gpu.found"], "a reading became an event");
    lab.edit(&Edit::DriverReload { driver: Some("590.11".to_owned()) });
    lab.settle().await;
    assert_eq!(told(&lab), ["gpu.found"; 2]);
    let state = lab.world.state();
    let identity = state.gpus[&uuid(0)].identity.clone().unwrap();
    assert_eq!(
        (identity.driver.as_str(), identity.vbios.as_deref()),
        ("590.11", Some("96.00.5E.00.01"))
    );
    assert_eq!(health(&lab), (HealthWord::Healthy, Vec::new()));
    lab.world.check_invariants();
}

/// Row 48: what is over counts as over.
#[tokio::test]
async fn memory_errors_degrade_a_gpu_until_it_is_reset() {
    let mut lab = settled().await;
    let patch =
        json!({ "health": { "ecc_volatile": [0, 1], "remapped_rows": [0, 1, true, false] } });
    lab.edit(&Edit::Gpu { gpu: 0, patch });
    lab.pass().await;
    lab.edit(&Edit::Gpu { gpu: 0, patch: json!({ "health": { "ecc_volatile": [5, 2] } }) });
    lab.pass().await;
    assert_eq!(told(&lab), ["gpu.found", "gpu.degraded"], "each count became an event");
    let (word, why) = health(&lab);
    assert_eq!(word, HealthWord::Degraded);
    assert!(why[0].contains("uncorrected") && why[1].contains("remapped"), "{why:?}");
    let state = lab.world.state();
    let summary = view::summary(&state, &view::rows(&state, &[], &[]));
    assert_eq!(summary.gpus.len(), 1, "`status` says nothing");
    assert!(lab.known("gpu/big").applied.is_some(), "how it is cut has nothing to do with it");
    lab.edit(&Edit::Reset { gpu: 0 });
    lab.settle().await;
    assert_eq!(told(&lab), ["gpu.found", "gpu.degraded", "gpu.recovered"]);
    assert_eq!(health(&lab).0, HealthWord::Healthy);
    lab.world.check_invariants();
}

#[tokio::test]
async fn what_the_driver_advises_is_followed_to_its_end() {
    let mut lab = settled().await;
    lab.edit(&Edit::Xid { gpu: 0, xid: 119, start: Some(4) });
    lab.reported("Xid 119").await;
    lab.edit(&Edit::Gpu { gpu: 0, patch: json!({ "health": { "recovery": 1 } }) });
    lab.pass().await;
    let (_, why) = health(&lab);
    assert!(why[0].contains("a reset of the GPU") && why[1].contains("Xid 119"), "{why:?}");
    lab.edit(&Edit::Gpu { gpu: 0, patch: json!({ "health": { "recovery": 0 } }) });
    lab.pass().await;
    let all = ["gpu.found", "gpu.xid", "gpu.degraded", "gpu.degraded", "gpu.recovered"];
    assert_eq!(told(&lab), all);
    let state = lab.world.state();
    let last = state.gpus[&uuid(0)].xids.last().unwrap();
    assert_eq!(
        (last.instance.as_deref(), last.partition.as_deref()),
        (Some("3g@4"), Some("train"))
    );
}

#[tokio::test]
async fn a_programs_mistake_is_told_and_degrades_nothing() {
    let mut lab = settled().await;
    for _ in 0..20 {
        lab.edit(&Edit::Xid { gpu: 0, xid: 31, start: Some(0) });
    }
    lab.reported("Xid 31").await;
    lab.pass().await;
    assert_eq!(told(&lab), ["gpu.found", "gpu.xid"], "a storm became many events");
    assert_eq!(health(&lab).0, HealthWord::Healthy);
}

/// An Xid does not end with the program that saw it: the log knows it, and a reboot ends it.
#[tokio::test]
async fn a_fatal_xid_outlives_the_program_and_not_the_machines_run() {
    let mut lab = settled().await;
    lab.file("proc/sys/kernel/random/boot_id", "first\n");
    lab.pass().await;
    lab.edit(&Edit::Xid { gpu: 0, xid: 62, start: None });
    lab.reported("Xid 62").await;
    lab.restart().await;
    lab.pass().await;
    assert_eq!(health(&lab).0, HealthWord::Degraded);
    lab.file("proc/sys/kernel/random/boot_id", "second\n");
    lab.edit(&Edit::Reboot);
    lab.restart().await;
    lab.settle().await;
    assert_eq!(health(&lab).0, HealthWord::Healthy);
    lab.world.check_invariants();
}

/// Rows 47 and 48: off the bus, without a word of the driver, and back.
#[tokio::test]
async fn a_gpu_off_the_bus_is_lost_and_well_when_it_is_back() {
    let state = State::with_boards(&["h100-80gb", "h100-80gb"]).unwrap();
    let mut lab = Lab::of(state).await;
    lab.commit(&[layout("big", 0, "mig", FIRST), layout("other", 1, "mig", FIRST)]);
    lab.settle().await;
    lab.edit(&Edit::Lose { gpu: 0 });
    lab.pass().await;
    let (word, why) = health(&lab);
    assert_eq!(word, HealthWord::Lost);
    assert!(why[0].contains("lost"), "{why:?}");
    let others = view::gpu_health(&lab.world.state());
    assert_eq!(others.iter().filter(|row| row.health == HealthWord::Healthy).count(), 1);
    lab.edit(&Edit::Return { gpu: 0 });
    lab.settle().await;
    assert_eq!(told(&lab), ["gpu.found", "gpu.found", "gpu.lost", "gpu.returned"]);
    assert_eq!(health(&lab).0, HealthWord::Healthy);
}

/// What NVML knew of a GPU off the bus is forgotten with the program, or with the library while a
/// function is taken from its driver. It is lost all the same, and hides no other.
#[tokio::test]
async fn a_lost_gpu_is_not_gone_after_a_restart() {
    for looked in [false, true] {
        let state = State::with_boards(&["h100-80gb", "h100-80gb"]).unwrap();
        let mut lab = Lab::of(state).await;
        lab.commit(&[layout("big", 0, "mig", FIRST), layout("other", 1, "mig", FIRST)]);
        lab.settle().await;
        lab.edit(&Edit::Lose { gpu: 0 });
        if looked {
            lab.pass().await;
        }
        lab.restart().await;
        let smaller = "  partitions: [{ name: train, shape: 3g, start: 4 }]\n";
        lab.commit(&[layout("big", 0, "mig", FIRST), layout("other", 1, "mig", smaller)]);
        let plan = lab.pass().await.plan.unwrap();
        let SkipReason::Unobservable(text) = why(&plan, "gpu/big") else { panic!() };
        assert!(text.contains("one that does not answer"), "{text}");
        assert_eq!(health(&lab).0, HealthWord::Lost);
        assert_eq!(lab.stands(1), [(9, 4, 1)], "the other one was hidden");
        lab.edit(&Edit::Return { gpu: 0 });
        lab.settle().await;
        assert_eq!(told(&lab), ["gpu.found", "gpu.found", "gpu.lost", "gpu.returned"]);
        assert_eq!(lab.stands(0).len(), 4);
    }
}

#[tokio::test]
async fn without_a_driver_nothing_new_is_known() {
    let mut lab = settled().await;
    lab.edit(&Edit::DriverUnload);
    lab.pass().await;
    assert_eq!(told(&lab), ["gpu.found"]);
    assert_eq!(health(&lab).0, HealthWord::Healthy);
}

#[tokio::test]
async fn what_no_layout_is_about_any_more_is_not_remembered() {
    let lab = settled().await;
    let network = "apiVersion: trueup/v1\nkind: Network\nmetadata: { name: lab }\nspec: { cidr: \
                   10.7.0.0/24 }\n";
    lab.world.remote.write("environments/lab/gpus.yaml", network);
    lab.world.remote.commit("no layout");
    lab.settle().await;
    lab.pass().await;
    assert_eq!(told(&lab), ["gpu.found", "gpu.gone"]);
    assert!(lab.world.state().gpus.is_empty());
}
