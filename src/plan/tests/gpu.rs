//! GPU layouts: every change converges and is judged sound, and a judge that sees a bad plan says so.

use std::collections::BTreeMap;

use trueup_mig::picture::Charset;
use trueup_mig::{Board, Holder, Selector, boards};

use super::super::{Action, Plan, SkipReason, check};
use crate::model::resource::{
    GpuClient, GpuLayout, GpuMatch, GpuMigState, GpuMode, GpuState, OnBusy, Partition,
};
use crate::model::{Observation, Ownership, Resource};
use crate::plan::fixture::{Machine, id, name};

fn board(key: &str) -> Board {
    let samples = boards::samples().unwrap();
    samples.into_iter().find(|sample| sample.key == key).unwrap().profiles
}

fn state(board: Board) -> GpuState {
    GpuState {
        uuid: "GPU-1".into(),
        pci: "0000:07:00.0".into(),
        serial: None,
        product: "a board".into(),
        architecture: "Hopper".into(),
        driver: "580".into(),
        mig: Some(GpuMigState { current: true, pending: true }),
        hot: true,
        board: Some(board),
        instances: Vec::new(),
        devices: BTreeMap::new(),
        holders: Vec::new(),
        running: Vec::new(),
        co_owners: Vec::new(),
    }
}

fn layout(partitions: &[(&str, &str)]) -> GpuLayout {
    let one = |(name, shape): &(&str, &str)| Partition {
        name: (*name).to_owned(),
        select: Selector::Shape((*shape).to_owned()),
        start: None,
        compute: None,
    };
    GpuLayout {
        gpu: GpuMatch::Uuid("GPU-1".into()),
        mode: GpuMode::Mig,
        partitions: partitions.iter().map(one).collect(),
        vgpus: Vec::new(),
        mixed_sizes: false,
        allow_reset: Some(false),
        on_busy: Some(OnBusy::Refuse),
        clients: Vec::new(),
        takeover: Some(false),
        guest: None,
        memory: None,
        state: None,
        kernel: None,
    }
}

fn want(machine: &mut Machine, layout: GpuLayout) {
    machine.want("gpu/big", Resource::GpuLayout(Box::new(layout)));
}

/// A machine with one GPU that is cut into nothing.
fn machine(key: &str) -> Machine {
    let mut machine = Machine::new();
    let seen = GpuLayout { state: Some(Box::new(state(board(key)))), ..layout(&[]) };
    let seen = Observation {
        ownership: Ownership::Ours { environment: name("lab") },
        config: Resource::GpuLayout(Box::new(seen)),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    };
    machine.observed.resources.insert(id("gpu/big"), seen);
    machine
}

fn gpu(machine: &mut Machine) -> &mut GpuState {
    match &mut machine.seen("gpu/big").config {
        Resource::GpuLayout(layout) => layout.state.as_mut().unwrap(),
        _ => panic!("no layout"),
    }
}

/// Somebody uses the instance of that name.
fn hold(machine: &mut Machine, partition: &str, unit: Option<&str>) {
    let unit = unit.map(str::to_owned);
    let holder = Holder { who: "python".into(), pid: Some(42), unit, stoppable: false };
    let instances = &mut gpu(machine).instances;
    let found = instances.iter_mut().find(|it| it.name.as_deref() == Some(partition)).unwrap();
    found.compute[0].holders.push(holder);
}

fn rules(machine: &Machine, plan: &Plan) -> String {
    let found = check::check(plan, &machine.input()).unwrap_err();
    found.into_iter().map(|it| it.rule).collect::<Vec<_>>().join("; ")
}

/// Every layout of shapes to every other one, on each board.
#[test]
fn every_change_converges_and_is_sound() {
    let wishes: [&[(&str, &str)]; 6] = [
        &[],
        &[("a", "1g"), ("b", "1g")],
        &[("a", "2g"), ("b", "1g"), ("c", "1g")],
        &[("c", "2g"), ("d", "2g")],
        &[("a", "4g")],
        &[("b", "1g+me"), ("a", "2g")],
    ];
    for key in ["a30-24gb", "h100-80gb", "rtx-pro-6000-blackwell-96gb"] {
        for from in wishes {
            for to in wishes {
                let mut machine = machine(key);
                want(&mut machine, layout(from));
                machine.converge();
                want(&mut machine, layout(to));
                let last = machine.converge();
                assert!(last.is_empty() && last.skipped.is_empty(), "{key}: {from:?} to {to:?}");
                let names: Vec<_> =
                    gpu(&mut machine).instances.iter().filter_map(|it| it.name.clone()).collect();
                assert_eq!(names.len(), to.len(), "{key}: {from:?} to {to:?}");
            }
        }
    }
}

#[test]
fn a_layout_is_taken_off_with_its_wish() {
    let mut machine = machine("h100-80gb");
    want(&mut machine, layout(&[("a", "3g"), ("b", "1g")]));
    machine.converge();
    machine.drop("gpu/big");
    machine.converge();
    assert!(!machine.observed.resources.contains_key(&id("gpu/big")));
}

#[test]
fn pictures_are_shown_and_change_no_digest() {
    let mut machine = machine("h100-80gb");
    want(&mut machine, layout(&[("train", "3g")]));
    let plan = machine.plan();
    let text = plan.pictures[0].picture.text(Charset::Ascii);
    assert!(text.contains("+3g train"), "{text}");
    let markdown = super::super::render::markdown(&plan, 10_000);
    assert!(markdown.contains("```text") && markdown.contains("+3g train"), "{markdown}");
    let json = super::super::render::json(&plan);
    assert!(json["plan"]["pictures"][0]["picture"]["rows"].is_array(), "{json:#}");
    let bare = Plan { pictures: Vec::new(), ..plan.clone() };
    assert_eq!(bare.digest(), plan.digest());
}

#[test]
fn what_is_in_use_is_a_reason_to_do_nothing() {
    let mut machine = machine("h100-80gb");
    want(&mut machine, layout(&[("a", "3g"), ("b", "3g")]));
    machine.converge();
    hold(&mut machine, "b", None);
    want(&mut machine, layout(&[("a", "7g")]));
    let plan = machine.plan();
    assert!(plan.is_empty());
    let SkipReason::Busy(why) = &plan.skipped[0].why else { panic!("{plan:?}") };
    assert!(why.contains("python (pid 42)"), "{why}");
    assert!(!plan.pictures.is_empty(), "what was wanted is not shown");
}

#[test]
fn a_declared_client_is_stopped_and_started() {
    let mut machine = machine("h100-80gb");
    let with_client = |partitions: &[(&str, &str)]| GpuLayout {
        clients: vec![GpuClient { unit: "b.service".into(), uses: vec!["b".into()] }],
        ..layout(partitions)
    };
    want(&mut machine, with_client(&[("a", "4g"), ("b", "3g")]));
    machine.converge();
    gpu(&mut machine).running = vec!["b.service".into()];
    hold(&mut machine, "b", Some("b.service"));
    want(&mut machine, with_client(&[("a", "4g"), ("b", "2g")]));
    let plan = machine.plan();
    let verbs: Vec<&str> = plan.steps.iter().map(|step| step.action.verb()).collect();
    assert_eq!(verbs, ["stop", "destroy", "destroy", "create", "create", "settle"]);
    machine.converge();
    assert_eq!(gpu(&mut machine).running, ["b.service"]);
}

#[test]
fn the_judge_sees_what_a_planner_must_not_do() {
    let mut machine = machine("h100-80gb");
    want(&mut machine, layout(&[("a", "3g"), ("b", "3g")]));
    machine.converge();
    want(&mut machine, layout(&[("a", "7g")]));
    let sound = machine.plan();

    let mut short = sound.clone();
    short.steps.truncate(3);
    assert!(rules(&machine, &short).contains("without `a`"), "{}", rules(&machine, &short));

    let mut early = sound.clone();
    let create =
        |step: &super::super::Step| matches!(step.action, Action::GpuCreateInstance { .. });
    let at = early.steps.iter().position(create).unwrap();
    let (first, second) = (early.steps[0].action.clone(), early.steps[at].action.clone());
    (early.steps[0].action, early.steps[at].action) = (second, first);
    assert!(rules(&machine, &early).contains("impossible"), "{}", rules(&machine, &early));

    let mut beside = sound.clone();
    beside.steps[2].after.clear();
    assert!(rules(&machine, &beside).contains("beside"), "{}", rules(&machine, &beside));

    let mut quiet = sound.clone();
    quiet.steps[0].disruption = super::super::Disruption::None;
    assert!(rules(&machine, &quiet).contains("disturbs more"), "{}", rules(&machine, &quiet));

    hold(&mut machine, "a", None);
    assert!(rules(&machine, &sound).contains("python (pid 42)"), "{}", rules(&machine, &sound));
}

#[test]
fn the_judge_sees_a_mode_that_nobody_allowed() {
    let mut machine = machine("a30-24gb");
    gpu(&mut machine).mig = Some(GpuMigState { current: false, pending: false });
    want(&mut machine, layout(&[("a", "1g")]));
    let sound = machine.plan();
    assert!(matches!(sound.steps[0].action, Action::GpuMigMode { on: true, .. }));
    gpu(&mut machine).hot = false;
    assert!(rules(&machine, &sound).contains("not allowed"), "{}", rules(&machine, &sound));
    assert!(matches!(machine.plan().skipped[0].why, SkipReason::NeedsReset(_)));
}
