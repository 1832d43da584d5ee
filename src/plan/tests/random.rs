//! Random commits, machines and accidents: every plan is judged, every order and every crash leads to
//! the same end.

use std::collections::BTreeSet;

use fastrand::Rng;
use proptest::prelude::*;

use super::super::fixture::*;
use super::super::{Action, Plan, SkipReason};
use crate::model::resource::*;
use crate::model::{Kind, Ownership, Resource};

/// Most passes a machine may need: a pass tidies what the one before left behind.
const PASSES_MAX: usize = 6;

/// Fills the commit with a valid random wish.
fn commit(machine: &mut Machine, rng: &mut Rng) {
    machine.desired.resources.clear();
    if rng.u8(..10) == 0 {
        return;
    }
    machine.want("pool/main", pool());
    let mut ranges = ["10.7.0.1/24", "10.8.0.1/24", "10.9.0.1/24"];
    rng.shuffle(&mut ranges);
    let mut networks = Vec::new();
    for (at, range) in ["lan", "dmz", "net"].into_iter().zip(ranges) {
        if rng.bool() {
            networks.push(at);
            machine.want(&format!("network/{at}"), network(range));
            let mtu = rng.bool().then_some(9000);
            machine.edit_network(&format!("network/{at}"), |it| it.mtu = mtu);
        }
    }
    let content = *rng.choice(&["v1", "v2"]).unwrap();
    let images = rng.bool();
    if images {
        machine.want("image/debian", image(content));
    }
    let mut free = Vec::new();
    for at in ["d0", "d1", "d2"] {
        if rng.bool() {
            free.push(at);
            let backing = (images && rng.bool()).then_some(content);
            machine.want(&format!("disk/{at}"), disk(at, rng.u64(10..12), backing));
            let replace = rng.bool();
            let protect = rng.u8(..5) == 0;
            machine.edit(&format!("disk/{at}"), |wish| {
                wish.lifecycle.prevent_destroy = protect;
                if let (Resource::Disk(disk), true) = (&mut wish.resource, replace) {
                    disk.on_image_change = Some(OnImageChange::Replace);
                }
            });
        }
    }
    for at in ["a", "b", "c"] {
        if rng.bool() {
            guest(machine, rng, at, &mut free, &networks);
        }
    }
    saved_first(machine, rng);
}

/// Has some of it saved before it is disturbed, by a backup that may be of one of the domains.
fn saved_first(machine: &mut Machine, rng: &mut Rng) {
    if rng.bool() {
        return;
    }
    machine.want("backup/safe", super::backup::backup("/srv/backup"));
    let way_back = Some(WayBack { backup: Some(name("safe")), keep_s: 60 });
    let all: Vec<_> = machine.desired.resources.keys().cloned().collect();
    for at in all {
        if rng.bool() {
            continue;
        }
        machine.edit(&at.to_string(), |wish| match &mut wish.resource {
            Resource::Disk(disk) => disk.way_back.clone_from(&way_back),
            // One that a crash left running on its way to be paused is interrupted by the pause, and
            // where its backup cannot be taken it goes on running: that is another end.
            Resource::VirtualMachine(vm) if vm.power != Power::Paused => {
                vm.way_back.clone_from(&way_back);
            }
            _ => {}
        });
        if at.kind == Kind::VirtualMachine {
            machine.edit("backup/safe", |wish| {
                wish.depends_on.insert(at);
            });
        }
    }
}

/// Asks for one random domain.
fn guest(
    machine: &mut Machine,
    rng: &mut Rng,
    at: &str,
    free: &mut Vec<&'static str>,
    networks: &[&'static str],
) {
    let disks: Vec<&str> = free.drain(..rng.usize(..=free.len())).collect();
    let plugged: Vec<&str> =
        networks.iter().copied().filter(|_| rng.u8(..3) == 0).take(1).collect();
    machine.want(&format!("vm/{at}"), vm(at, &disks, &plugged));
    let seeded = rng.bool().then(|| if rng.bool() { "one" } else { "two" });
    if let Some(text) = seeded {
        machine.want(&format!("seed/{at}"), seed(at, text));
    }
    let (current, max) = (rng.u64(1..4) * GIB, rng.u64(4..6) * GIB);
    let power = *rng.choice(&[Power::Running, Power::Running, Power::Off, Power::Paused]).unwrap();
    machine.edit_vm(&format!("vm/{at}"), |vm| {
        (vm.memory.current, vm.memory.max, vm.power) = (current, max, power);
        vm.disks.extend(seeded.map(|text| seed_attachment(at, text)));
    });
    let earlier = format!("vm/{}", if at == "c" { "b" } else { "a" });
    let before = id(&earlier);
    if at != "a" && rng.bool() && machine.desired.resources.contains_key(&before) {
        machine.edit(&format!("vm/{at}"), |wish| {
            wish.depends_on.insert(before);
        });
    }
}

/// Something happens to the machine by itself or by hand.
fn accident(machine: &mut Machine, rng: &mut Rng) {
    let Some(at) = rng.choice(machine.observed.resources.keys().cloned()) else {
        return;
    };
    let text = at.to_string();
    let policy = StopPolicy { timeout_s: 0, force: true };
    match (at.kind, rng.u8(..5)) {
        (Kind::VirtualMachine, 0) => machine.by_hand(&text, Action::VmStop { policy }),
        (Kind::VirtualMachine, 1) if machine.seen(&text).active => {
            machine.by_hand(&text, Action::VmPause);
        }
        (Kind::VirtualMachine | Kind::Network, 2) => {
            machine.seen(&text).ownership = Ownership::Foreign;
        }
        (Kind::VirtualMachine, 3) => {
            machine.observed.unreadable.insert(at, "no answer".into());
        }
        (Kind::Network, 0 | 1) => machine.by_hand(&text, Action::NetworkStop),
        (Kind::StoragePool, _) => machine.seen(&text).active = false,
        (Kind::Disk, 0) => {
            let user = vm("stranger", &[at.name.as_str()], &[]);
            machine.foreign("vm/stranger", user, rng.bool());
        }
        (_, 4) => {
            machine.known.suspended.insert(at, SkipReason::BackingOff);
        }
        _ => {}
    }
}

/// One of the steps that may run next, at random.
fn next_of(plan: &Plan, done: &BTreeSet<usize>, rng: &mut Rng) -> Option<usize> {
    let ready: Vec<usize> = (0..plan.steps.len())
        .filter(|at| !done.contains(at) && plan.steps[*at].after.is_subset(done))
        .collect();
    rng.choice(ready)
}

/// Runs to the end in random orders, cut short at random if `crash`.
fn run(machine: &mut Machine, rng: &mut Rng, crash: bool) {
    for pass in 0..PASSES_MAX * 3 {
        let plan = machine.plan();
        let limit = if crash && pass < PASSES_MAX { rng.usize(..5) } else { usize::MAX };
        let mut done = BTreeSet::new();
        while done.len() < limit
            && let Some(at) = next_of(&plan, &done, rng)
        {
            machine.perform(&plan.steps[at]);
            done.insert(at);
        }
        if plan.is_empty() {
            return;
        }
    }
    panic!("does not come to an end:\n{}", machine.shown());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_is_sound_and_every_order_and_crash_ends_alike(seed: u64) {
        let mut rng = Rng::with_seed(seed);
        let mut machine = Machine::new();
        commit(&mut machine, &mut rng);
        machine.converge();
        for _ in 0..rng.usize(..4) {
            accident(&mut machine, &mut rng);
        }
        commit(&mut machine, &mut rng);
        prop_assert_eq!(machine.plan().digest(), machine.plan().digest());
        let mut straight = machine.clone();
        run(&mut straight, &mut rng, false);
        let mut crashed = machine.clone();
        run(&mut crashed, &mut rng, true);
        for (id, seen) in &straight.observed.resources {
            let shown = crashed.shown();
            prop_assert_eq!(Some(seen), crashed.observed.resources.get(id), "{}: {}", id, shown);
        }
        prop_assert_eq!(straight.observed, crashed.observed);
    }
}
