//! What is saved first: a snapshot by the backup that a spec names, before the first step that
//! interrupts or destroys, as part of the same plan.

use std::collections::BTreeSet;

use expect_test::expect;
use trueup_backup::objective;

use super::super::promise::{Kept, Promise};
use super::super::{Due, KnownBackup, Plan, Reason, SkipReason, check, hold_reasons, part};
use super::backup::backup;
use super::shows;
use crate::model::Resource;
use crate::model::backup::Before;
use crate::model::resource::{Chore, Firmware, OnImageChange, SnapshotPolicy, WayBack};
use crate::plan::fixture::*;
use crate::plan::{Action, render};
use crate::spec::SyncMode;

fn way_back() -> Option<WayBack> {
    Some(WayBack { backup: Some(name("safe")), keep_s: 3600 })
}

/// A machine, its disk, and a backup of them that is there.
fn saved() -> Machine {
    let mut machine = web();
    machine.want("backup/safe", backup("/srv/backup"));
    // As a backup of a machine's disks needs the machine.
    machine.edit("backup/safe", |wish| {
        wish.depends_on.insert(id("vm/web"));
    });
    machine.edit_vm("vm/web", |vm| vm.way_back = way_back());
    machine.converge();
    let known = KnownBackup { repository: Some("5".repeat(64)), ..KnownBackup::default() };
    machine.known.backups.insert(id("backup/safe"), known);
    machine
}

fn restarted() -> Machine {
    let mut machine = saved();
    machine.edit_vm("vm/web", |vm| vm.firmware = Firmware::Efi);
    machine
}

fn replaced() -> Machine {
    let mut machine = saved();
    machine.edit_vm("vm/web", |vm| vm.way_back = None);
    machine.converge();
    machine.edit_disk("disk/web", |disk| {
        disk.on_image_change = Some(OnImageChange::Replace);
        disk.way_back = way_back();
        disk.backing.as_mut().unwrap().path = image_path("v2");
    });
    machine.want("image/debian", image("v2"));
    machine
}

fn why_not(plan: &Plan, of: &str) -> String {
    assert!(plan.steps.iter().all(|step| step.resource != id(of)), "{plan:#?}");
    let skipped = plan.skipped.iter().find(|skipped| skipped.resource == id(of)).unwrap();
    assert!(matches!(skipped.why, SkipReason::Unsaved(_)), "{skipped:?}");
    render::skip_reason(&skipped.why).into_owned()
}

#[test]
fn a_machine_is_saved_before_it_is_restarted() {
    let machine = restarted();
    shows(
        &machine,
        expect![[r#"
           1  define    vm/web       [changed]
                        firmware: bios → efi (restart)
           2  back up   backup/safe  to /srv/backup first, as the way back for vm/web [needed]
           3  stop      vm/web       within 60 s, never by force [changed] RESTART after 1, 2
           4  start     vm/web       [changed] after 3
        Plan: 0 to create, 1 to change (1 restart), 0 to destroy
    "#]],
    );
    let shown = render::markdown(&machine.plan(), 10_000);
    assert!(shown.contains("first, as the way back for vm/web"), "{shown}");
}

#[test]
fn nothing_is_saved_for_what_nobody_notices() {
    let mut machine = saved();
    machine.edit_vm("vm/web", |vm| vm.memory.current = 2 * GIB);
    let verbs: Vec<_> = machine.plan().steps.iter().map(|step| step.action.verb()).collect();
    assert_eq!(verbs, ["define", "update"]);
}

#[test]
fn it_comes_before_the_snapshot_inside_the_disks() {
    let mut machine = restarted();
    machine.edit_vm("vm/web", |vm| vm.snapshot = Some(SnapshotPolicy::BeforeDisruption));
    let plan = machine.plan();
    let verbs: Vec<_> = plan.steps.iter().map(|step| step.action.verb()).collect();
    assert_eq!(verbs, ["define", "back up", "snapshot", "stop", "start"]);
    assert!(plan.steps[2].after.contains(&1));
}

#[test]
fn a_disk_is_saved_while_its_machine_still_runs() {
    shows(
        &replaced(),
        expect![[r#"
           1  create    image/debian  [changed]
                        path: /vm/debian-3bfc269594ef.qcow2 → /vm/debian-fb04dcb6970e.qcow2
           2  back up   backup/safe   to /srv/backup first, as the way back for disk/web [needed]
           3  stop      vm/web        within 60 s, never by force [needed] RESTART after 1, 2
           4  delete    disk/web      /vm/web.qcow2 [changed] REPLACE interrupts vm/web after 3
                        backing: {"path":"/vm/debian-3bfc269594ef.qcow2","format":"qcow2"} → {"path":"/vm/debian-fb04dcb6970e.qcow2","format":"qcow2"} (replace)
           5  create    disk/web      10 GiB on /vm/debian-fb04dcb6970e.qcow2 [changed] after 4
           6  start     vm/web        [needed] after 5
        Plan: 0 to create, 2 to change (1 restart), 1 to replace, 0 to destroy
    "#]],
    );
}

#[test]
fn one_snapshot_is_taken_for_all_that_it_is_the_way_back_for() {
    let mut machine = replaced();
    machine.edit_vm("vm/web", |vm| {
        vm.way_back = Some(WayBack { keep_s: 7200, ..way_back().unwrap() });
        vm.firmware = Firmware::Efi;
    });
    let plan = machine.plan();
    let taken: Vec<_> = plan.steps.iter().filter_map(|step| step.action.way_back_for()).collect();
    assert_eq!(taken, [&BTreeSet::from([id("disk/web"), id("vm/web")])]);
    let longest = plan.steps.iter().any(|step| {
        matches!(&step.action, Action::BackupRun { before: Some(before), .. } if before.keep_s == 7200)
    });
    assert!(longest, "{plan:#?}");
    // What cannot be done is not saved either, and takes what is done for it with it.
    machine.edit("disk/web", |wish| wish.lifecycle.prevent_destroy = true);
    let plan = machine.plan();
    let taken: Vec<_> = plan.steps.iter().filter_map(|step| step.action.way_back_for()).collect();
    assert_eq!(taken, [&BTreeSet::from([id("vm/web")])]);
}

#[test]
fn what_a_backup_does_by_schedule_goes_on_beside() {
    let mut machine = restarted();
    let known = machine.known.backups.get_mut(&id("backup/safe")).unwrap();
    known.due = vec![Due { chore: Chore::Run, since: None }];
    known.trouble = vec![objective::Reason::TooOld];
    let plan = machine.plan();
    let runs: Vec<_> =
        plan.steps.iter().filter(|step| step.resource == id("backup/safe")).collect();
    let reasons: Vec<_> = runs.iter().map(|step| step.reason).collect();
    assert_eq!(reasons, [Reason::Needed, Reason::Due]);
    // Where the change has to wait, the snapshot for it waits with it, and nothing else.
    machine.desired.sync.mode = SyncMode::Manual;
    let held = hold_reasons(&plan, &machine.desired.sync, None);
    let parts = part(&plan, &super::super::causes(&plan, &held).unwrap());
    let verbs = |plan: &Plan| plan.steps.iter().map(|it| it.action.verb()).collect::<Vec<_>>();
    assert_eq!(verbs(&parts.waits), ["define", "back up", "stop", "start"]);
    assert_eq!(verbs(&parts.rest), ["back up"]);
    assert_eq!(parts.rest.steps[0].reason, Reason::Due);
    check::check(&parts.waits, &machine.input()).unwrap();
    check::check(&parts.rest, &machine.input()).unwrap();
}

#[test]
fn a_repository_that_is_not_made_yet_is_made_first() {
    let mut machine = restarted();
    machine.observed.resources.remove(&id("backup/safe"));
    machine.known.resources.remove(&id("backup/safe"));
    machine.known.backups.clear();
    let plan = machine.plan();
    let verbs: Vec<_> = plan.steps.iter().map(|step| step.action.verb()).collect();
    assert_eq!(verbs, ["define", "open", "back up", "stop", "start"]);
    assert!(plan.steps[2].after.contains(&1) && plan.steps[3].after.contains(&2), "{plan:#?}");
    // What an interrupted backup left is cleared before.
    let mut machine = restarted();
    machine.observed.leftovers.insert(id("backup/safe"), vec!["web".into()]);
    let plan = machine.plan();
    let verbs: Vec<_> = plan.steps.iter().map(|step| step.action.verb()).collect();
    assert_eq!(verbs, ["define", "clear", "back up", "stop", "start"]);
}

#[test]
fn without_the_snapshot_nothing_is_disturbed_and_it_is_said_why() {
    let mut machine = restarted();
    machine.observed.unreadable.insert(id("backup/safe"), "vault does not answer".into());
    let why = why_not(&machine.plan(), "vm/web");
    assert!(why.contains("backup/safe is out of reach: vault does not answer"), "{why}");

    let mut machine = restarted();
    machine.known.suspended.insert(id("backup/safe"), SkipReason::BackingOff);
    let plan = machine.plan();
    let why = why_not(&plan, "vm/web");
    assert!(why.contains("backup/safe failed before; waits for its next try"), "{why}");
    let told: Vec<_> = plan.skipped.iter().map(|skipped| skipped.resource.to_string()).collect();
    assert_eq!(told, ["vm/web", "backup/safe"], "it is not taken for mended");

    // Its repository was there and is gone: none is begun anew for it.
    let mut machine = restarted();
    machine.observed.resources.remove(&id("backup/safe"));
    let why = why_not(&machine.plan(), "vm/web");
    assert!(why.contains("mount what should be there"), "{why}");

    // The machine goes on running too where only its disk would be made anew.
    let mut machine = replaced();
    machine.observed.unreadable.insert(id("backup/safe"), "vault does not answer".into());
    let plan = machine.plan();
    why_not(&plan, "disk/web");
    assert!(plan.steps.iter().all(|step| step.resource != id("vm/web")), "{plan:#?}");
}

#[test]
fn a_disk_that_goes_together_with_its_backup_stays_until_its_spec_says_otherwise() {
    let mut machine = replaced();
    machine.edit_disk("disk/web", |disk| disk.backing.as_mut().unwrap().path = image_path("v1"));
    machine.want("image/debian", image("v1"));
    machine.converge();
    for gone in ["vm/web", "disk/web"] {
        machine.drop(gone);
    }
    // Saved as long as the backup is asked for.
    machine.edit("backup/safe", |wish| wish.depends_on.clear());
    let plan = machine.plan();
    let taken: Vec<_> = plan.steps.iter().filter_map(|step| step.action.way_back_for()).collect();
    assert_eq!(taken, [&BTreeSet::from([id("disk/web")])]);
    machine.drop("backup/safe");
    let why = why_not(&machine.plan(), "disk/web");
    assert!(why.contains("take `backupBefore` out in a commit before"), "{why}");
}

#[test]
fn it_is_part_of_the_digest_and_of_the_promise() {
    let machine = restarted();
    let plan = machine.plan();
    let promise = Promise::of(&plan);
    assert_eq!(promise.kept_by(&plan), Kept::Equal);
    let mut less = plan.clone();
    less.steps.retain(|step| step.action.way_back_for().is_none());
    assert_ne!(less.digest(), plan.digest());
    assert!(matches!(promise.kept_by(&less), Kept::Smaller { .. }));
    assert!(matches!(Promise::of(&less).kept_by(&plan), Kept::Surprised { .. }));
}

#[test]
fn snapshots_inside_the_disks_go_when_nothing_needs_them_and_nothing_is_done() {
    let mut machine = saved();
    machine.known.over.insert(id("vm/web"), vec!["trueup-1".into(), "trueup-2".into()]);
    shows(
        &machine,
        expect![[r#"
           1  forget    vm/web  its snapshot trueup-1 [due]
           2  forget    vm/web  its snapshot trueup-2 [due] after 1
        Plan: 0 to create, 0 to change, 0 to destroy
    "#]],
    );
    machine.edit_vm("vm/web", |vm| vm.firmware = Firmware::Efi);
    let verbs: Vec<_> = machine.plan().steps.iter().map(|step| step.action.verb()).collect();
    assert!(!verbs.contains(&"forget"), "{verbs:?}");
}

#[test]
fn the_judge_sees_what_is_not_saved_first() {
    let machine = restarted();
    let mut plan = machine.plan();
    let run = plan.steps.iter().position(|it| it.action.way_back_for().is_some()).unwrap();
    let blamed = |plan: &Plan| -> Vec<String> {
        let found = check::check(plan, &machine.input()).unwrap_err();
        found.into_iter().map(|it| it.rule).collect()
    };
    let stop = plan.steps.iter().position(|it| it.action.verb() == "stop").unwrap();
    plan.steps[stop].after.remove(&run);
    let rules = blamed(&plan);
    assert!(rules.iter().any(|it| it.contains("does not wait for a snapshot by")), "{rules:?}");
    assert!(rules.iter().any(|it| it.contains("to which nothing happens")), "{rules:?}");
    let mut plan = machine.plan();
    plan.steps[run].reason = Reason::Due;
    assert!(blamed(&plan).iter().any(|it| it.contains("against its kind")));
    let Action::BackupRun { before, .. } = &mut plan.steps[run].action else { unreachable!() };
    *before = Some(Before { of: BTreeSet::new(), keep_s: 1 });
    assert!(blamed(&plan).iter().any(|it| it.contains("the way back for nothing")));
    assert!(matches!(
        machine.desired.resources[&id("vm/web")].resource,
        Resource::VirtualMachine(_)
    ));
}
