//! Plans by example: what is removed, what is left alone, and what waits.

use std::collections::BTreeSet;

use super::*;
use crate::plan::{Own, check};

#[test]
fn what_is_gone_from_the_commit_is_removed_in_reverse() {
    let mut machine = converged();
    machine.desired.resources.clear();
    shows(
        &machine,
        expect![[r#"
           1  stop      vm/web        within 60 s, never by force [gone from the commit] DESTROY
           2  undefine  vm/web        [gone from the commit] DESTROY after 1
           3  delete    disk/web      /vm/web.qcow2 [gone from the commit] DESTROY after 2
           4  delete    image/debian  /vm/debian-3bfc269594ef.qcow2 [gone from the commit] DESTROY after 3
           5  stop      network/lan   [gone from the commit] DESTROY after 2
           6  undefine  network/lan   [gone from the commit] DESTROY after 5
           7  undefine  pool/main     [gone from the commit] DESTROY after 4
        Plan: 0 to create, 0 to change, 5 to destroy
    "#]],
    );
    machine.converge();
    assert!(machine.observed.resources.is_empty() && machine.known.resources.is_empty());
}

#[test]
fn removal_has_guards() {
    let mut machine = converged();
    machine.desired.resources.clear();
    machine.guards.prune = false;
    shows(
        &machine,
        expect![[r#"
        Left alone:
              pool/main: gone from the commit, but pruning is off for this pass
              network/lan: gone from the commit, but pruning is off for this pass
              image/debian: gone from the commit, but pruning is off for this pass
              disk/web: gone from the commit, but pruning is off for this pass
              vm/web: gone from the commit, but pruning is off for this pass
        Nothing to do; 5 left alone.
    "#]],
    );
    let mut machine = web();
    machine.edit("vm/web", |wish| wish.lifecycle.prevent_destroy = true);
    machine.edit("network/lan", |wish| wish.lifecycle.orphan = true);
    machine.converge();
    machine.desired.resources.clear();
    shows(
        &machine,
        expect![[r#"
        Left alone:
              pool/main: still used by disk/web
              network/lan: gone from the commit and left as it is (lifecycle.orphan)
              image/debian: still used by disk/web
              disk/web: still used by vm/web
              vm/web: protected by lifecycle.preventDestroy
        Nothing to do; 5 left alone.
    "#]],
    );
}

#[test]
fn foreign_things_are_left_alone_and_adopted_without_being_recreated() {
    let mut machine = web();
    machine.foreign("vm/web", vm("web", &["web"], &["lan"]), true);
    machine.foreign("disk/web", disk("web", 10, None), true);
    shows(
        &machine,
        expect![[r#"
           1  define    pool/main     [missing]
           2  define    network/lan   [missing]
           3  start     network/lan   and plug in web [missing] after 2
           4  create    image/debian  [missing] after 1
        Left alone:
              disk/web: not ours: set lifecycle.adopt to take it over
              vm/web: not ours: set lifecycle.adopt to take it over
        Plan: 3 to create, 0 to change, 0 to destroy, 2 left alone
    "#]],
    );
    machine.edit("vm/web", |wish| wish.lifecycle.adopt = true);
    machine.edit("disk/web", |wish| wish.lifecycle.adopt = true);
    shows(
        &machine,
        expect![[r#"
           1  define    pool/main     [missing]
           2  define    network/lan   [missing]
           3  start     network/lan   and plug in web [missing] after 2
           4  create    image/debian  [missing] after 1
           5  create    disk/web      10 GiB on /vm/debian-3bfc269594ef.qcow2 [adopted] after 4
           6  define    vm/web        [adopted] after 3, 5
        Left alone:
              disk/web: keeps the image it was made from (onImageChange: keep)
                        backing: nothing → {"path":"/vm/debian-3bfc269594ef.qcow2","format":"qcow2"} (replace)
        Plan: 3 to create, 2 to change, 0 to destroy, 1 left alone
    "#]],
    );
    machine.converge();
}

#[test]
fn a_foreign_guest_keeps_its_network_and_its_disk() {
    let mut machine = converged();
    machine.foreign("vm/stranger", vm("stranger", &["web"], &["lan"]), true);
    machine.desired.resources.clear();
    shows(
        &machine,
        expect![[r#"
           1  stop      vm/web  within 60 s, never by force [gone from the commit] DESTROY
           2  undefine  vm/web  [gone from the commit] DESTROY after 1
        Left alone:
              pool/main: still used by disk/web
              network/lan: still used by vm/stranger
              image/debian: still used by disk/web
              disk/web: still used by vm/stranger
        Plan: 0 to create, 0 to change, 1 to destroy, 4 left alone
    "#]],
    );
}

#[test]
fn nothing_is_planned_on_what_cannot_be_seen() {
    let mut machine = converged();
    machine.observed.unobservable.insert(Kind::VirtualMachine, "libvirt does not answer".into());
    machine.observed.resources.remove(&id("vm/web"));
    shows(
        &machine,
        expect![[r#"
        Left alone:
              vm/web: could not be observed: libvirt does not answer
        Nothing to do; 1 left alone.
    "#]],
    );
    let mut machine = web();
    machine.observed.unreadable.insert(id("disk/web"), "i/o error".into());
    shows(
        &machine,
        expect![[r#"
           1  define    pool/main     [missing]
           2  define    network/lan   [missing]
           3  start     network/lan   [missing] after 2
           4  create    image/debian  [missing] after 1
        Left alone:
              disk/web: could not be observed: i/o error
              vm/web: waits for disk/web
        Plan: 3 to create, 0 to change, 0 to destroy, 2 left alone
    "#]],
    );
}

#[test]
fn dependants_of_what_cannot_be_made_wait() {
    let mut machine = web();
    machine.observed.host.addresses = vec!["10.7.0.0/16".parse().unwrap()];
    machine.want("vm/app", vm("app", &[], &[])).depends_on = [id("vm/web")].into();
    shows(
        &machine,
        expect![[r#"
           1  define    pool/main     [missing]
           2  create    image/debian  [missing] after 1
           3  create    disk/web      10 GiB on /vm/debian-3bfc269594ef.qcow2 [missing] after 2
        Left alone:
              network/lan: conflict: 10.7.0.1/24 overlaps with 10.7.0.0/16 of the host: choose another range
              vm/app: waits for vm/web
              vm/web: waits for network/lan
        Plan: 3 to create, 0 to change, 0 to destroy, 3 left alone
    "#]],
    );
}

#[test]
fn held_and_failing_resources_hold_only_their_dependants() {
    let mut machine = web();
    machine.want("vm/app", vm("app", &[], &["lan"]));
    machine.known.suspended.insert(id("image/debian"), SkipReason::BackingOff);
    shows(
        &machine,
        expect![[r#"
           1  define    pool/main    [missing]
           2  define    network/lan  [missing]
           3  start     network/lan  [missing] after 2
           4  define    vm/app       [missing] after 3
           5  start     vm/app       [missing] after 4
        Left alone:
              image/debian: failed before; waits for its next try
              disk/web: waits for image/debian
              vm/web: waits for disk/web
        Plan: 3 to create, 0 to change, 0 to destroy, 3 left alone
    "#]],
    );
}

#[test]
fn dependants_wait_until_a_guest_is_up() {
    let mut machine = web();
    machine.edit_vm("vm/web", |vm| {
        let probe = Probe::Console { line: "login:".into() };
        vm.readiness = Some(Readiness { probe, timeout_s: 90 });
    });
    machine.want("vm/app", vm("app", &[], &["lan"])).depends_on = [id("vm/web")].into();
    shows(
        &machine,
        expect![[r#"
           1  define    pool/main     [missing]
           2  define    network/lan   [missing]
           3  start     network/lan   [missing] after 2
           4  create    image/debian  [missing] after 1
           5  create    disk/web      10 GiB on /vm/debian-3bfc269594ef.qcow2 [missing] after 4
           6  define    vm/web        [missing] after 3, 5
           7  start     vm/web        [missing] after 6
           8  await     vm/web        within 90 s [needed] after 7
           9  define    vm/app        [missing] after 8
          10  start     vm/app        [missing] after 9
        Plan: 6 to create, 0 to change, 0 to destroy
    "#]],
    );
    machine.converge();
    machine.edit_vm("vm/app", |vm| vm.memory.max = 4 * GIB);
    shows(
        &machine,
        expect![[r#"
               1  await     vm/web  within 90 s [needed]
               2  define    vm/app  [changed] after 1
                            memory.max: 2 GiB → 4 GiB (restart)
               3  stop      vm/app  within 60 s, never by force [changed] RESTART after 2
               4  start     vm/app  [changed] after 3
            Plan: 0 to create, 1 to change (1 restart), 0 to destroy
        "#]],
    );
}

#[test]
fn a_renamed_network_frees_its_place_first() {
    let mut machine = converged();
    machine.drop("network/lan");
    machine.want("network/net", network("10.7.0.1/24"));
    machine.edit_vm("vm/web", |vm| vm.nics = vec![nic("web", "net")]);
    shows(
        &machine,
        expect![[r#"
               1  stop      network/lan  [gone from the commit] DESTROY interrupts vm/web
               2  undefine  network/lan  [gone from the commit] DESTROY after 1
               3  define    network/net  [missing] after 2
               4  start     network/net  [missing] after 3
               5  define    vm/web       [changed] after 4
                            nics.52:54:00:62:e8:3b.source: {"type":"network","value":"lan"} → {"type":"network","value":"net"} (live)
               6  update    vm/web       plug interface 52:54:00:62:e8:3b in again [changed] live after 5
            Plan: 1 to create, 1 to change, 1 to destroy
        "#]],
    );
    machine.converge();
}

#[test]
fn networks_may_swap_their_places() {
    let mut machine = converged();
    machine.want("network/dmz", network("10.8.0.1/24"));
    machine.converge();
    machine.want("network/dmz", network("10.7.0.1/24"));
    machine.want("network/lan", network("10.8.0.1/24"));
    shows(
        &machine,
        expect![[r#"
               1  define    network/dmz  [changed]
                            addresses.10.7.0.1/24: nothing → {"address":"10.7.0.1/24","dhcp":{"ranges":[],"hosts":[]}} (restart)
                            addresses.10.8.0.1/24: {"address":"10.8.0.1/24","dhcp":{"ranges":[],"hosts":[]}} → nothing (restart)
               2  stop      network/dmz  [changed] RESTART after 1
               3  define    network/lan  [changed]
                            addresses.10.7.0.1/24: {"address":"10.7.0.1/24","dhcp":{"ranges":[],"hosts":[]}} → nothing (restart)
                            addresses.10.8.0.1/24: nothing → {"address":"10.8.0.1/24","dhcp":{"ranges":[],"hosts":[]}} (restart)
               4  stop      network/lan  [changed] RESTART interrupts vm/web after 3
               5  start     network/dmz  [changed] after 2, 4
               6  start     network/lan  and plug in web [changed] after 2, 4
            Plan: 0 to create, 2 to change (2 restart), 0 to destroy
        "#]],
    );
    machine.converge();
}

#[test]
fn a_renamed_domain_gives_its_disk_to_the_new_one() {
    let mut machine = converged();
    machine.drop("vm/web");
    machine.want("vm/www", vm("www", &["web"], &["lan"]));
    shows(
        &machine,
        expect![[r#"
           1  stop      vm/web  within 60 s, never by force [gone from the commit] DESTROY
           2  undefine  vm/web  [gone from the commit] DESTROY after 1
           3  define    vm/www  [missing] after 2
           4  start     vm/www  [missing] after 3
        Plan: 1 to create, 0 to change, 1 to destroy
    "#]],
    );
    machine.converge();
}

#[test]
fn a_renamed_disk_keeps_its_data() {
    let mut machine = converged();
    machine.drop("disk/web");
    machine.want("disk/root", disk("web", 10, Some("v1")));
    let seen = machine.observed.resources.remove(&id("disk/web")).unwrap();
    machine.observed.resources.insert(id("disk/root"), seen);
    shows(
        &machine,
        expect![[r#"
           1  create    disk/root  10 GiB on /vm/debian-3bfc269594ef.qcow2 [adopted]
        Left alone:
              disk/web: still used by disk/root
        Plan: 0 to create, 1 to change, 0 to destroy, 1 left alone
    "#]],
    );
}

#[test]
fn snapshots_come_before_disruption() {
    let mut machine = converged();
    machine.edit_vm("vm/web", |vm| {
        vm.snapshot = Some(SnapshotPolicy::BeforeDisruption);
        vm.firmware = Firmware::Efi;
    });
    let verbs: Vec<&str> = machine.plan().steps.iter().map(|step| step.action.verb()).collect();
    assert_eq!(verbs, ["define", "snapshot", "stop", "start"]);
}

#[test]
fn another_environment_is_foreign() {
    let mut machine = converged();
    let environment = name("other");
    machine.seen("vm/web").ownership = Ownership::Other { environment };
    shows(
        &machine,
        expect![[r#"
        Left alone:
              vm/web: belongs to the environment `other`: name that under `formerly` if it is this one
        Nothing to do; 1 left alone.
    "#]],
    );
    machine.desired.resources.clear();
    assert!(machine.plan().steps.iter().all(|step| step.resource.kind != Kind::VirtualMachine));
}

#[test]
fn the_judge_finds_a_plan_that_takes_away_what_trueup_needs() {
    let mut machine = converged();
    machine.desired.resources.clear();
    let plan = machine.plan();
    assert!(plan.steps.iter().any(|step| step.resource == id("vm/web")));
    let mut blamed = |own: Own| {
        machine.known.own = own;
        let found = check::check(&plan, &machine.input()).expect_err("what is needed goes");
        let rule = "what trueup itself needs";
        let found = found.into_iter().filter(|it| it.rule.contains(rule)).map(|it| it.resource);
        found.collect::<BTreeSet<_>>()
    };
    let protected = Own { resources: [id("vm/web")].into(), ..Own::default() };
    let found = blamed(protected);
    assert!(found.contains(&id("vm/web")) && found.contains(&id("disk/web")), "{found:?}");
    assert!(found.contains(&id("network/lan")), "what it is plugged into: {found:?}");
    let folders = Own { folders: ["/vm/trueup/log".to_owned()].into(), ..Own::default() };
    assert_eq!(blamed(folders), [id("pool/main")].into());
    // And the planner makes no such plan.
    machine.known.own = Own { resources: [id("vm/web")].into(), ..Own::default() };
    let plan = machine.plan();
    check::check(&plan, &machine.input()).unwrap();
    assert!(plan.steps.iter().all(|step| step.resource != id("vm/web")), "{plan:?}");
}

#[test]
fn holding_has_reasons() {
    let mut machine = converged();
    machine.desired.resources.clear();
    let mut sync = machine.desired.sync.clone();
    sync.pause = true;
    sync.mode = SyncMode::Manual;
    sync.windows = vec![SyncWindow { days: vec![], start_minute: 0, minutes: 1 }];
    let reasons = hold_reasons(&machine.plan(), &sync, Some(5));
    expect![[r#"
        [
            Paused,
            Manual,
            MaxDestroy {
                would: {
                    pool/main,
                    network/lan,
                    image/debian,
                    disk/web,
                    vm/web,
                },
                allowed: 3,
            },
            OutsideWindow {
                would: {
                    pool/main,
                    network/lan,
                    image/debian,
                    disk/web,
                    vm/web,
                },
            },
        ]
    "#]]
    .assert_debug_eq(&reasons);
    assert!(hold_reasons(&converged().plan(), &sync, Some(5)).is_empty());
}
