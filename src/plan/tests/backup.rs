//! Backups: what is due is done after the repository is there, and nothing is begun over what is gone.

use std::collections::BTreeSet;

use expect_test::expect;
use jiff::Timestamp;
use trueup_backup::objective;
use trueup_backup::retention::Keep;
use trueup_backup::schedule::{Schedule, When};

use super::super::promise::{Kept, Promise};
use super::super::{Due, KnownBackup, Reason, check, hold_reasons};
use super::shows;
use crate::model::resource::{
    Backup, BackupDrill, BackupGuest, BackupLimits, BackupPaths, BackupRetention, BackupSource,
    BackupVerify, Chore, GuestPart, VolumeFormat,
};
use crate::model::{Ownership, Resource, ResourceId};
use crate::plan::fixture::{Machine, disk, id, name, seed_attachment, vm};
use crate::plan::{Action, SkipReason};
use crate::spec::{SyncMode, saved_by, saved_in_part};

pub(super) fn backup(repository: &str) -> Resource {
    let every = |seconds| Schedule {
        when: When::Every(seconds),
        time_zone: None,
        jitter_s: 0,
        windows: Vec::new(),
    };
    Resource::Backup(Box::new(Backup {
        source: BackupSource::State,
        repository: repository.into(),
        remote: None,
        repository_id: None,
        key: name("key"),
        schedule: Some(every(3600)),
        verify: Some(BackupVerify { schedule: every(86_400), read_parts: Some(10) }),
        drill: Some(BackupDrill {
            schedule: every(86_400),
            check: Vec::new(),
            timeout_s: 600,
            boot: None,
        }),
        retention: Some(BackupRetention {
            keep: Keep { last: 3, ..Keep::default() },
            every_s: 86_400,
        }),
        objectives: objective::Objectives::default(),
        limits: BackupLimits::default(),
        hooks: Default::default(),
    }))
}

fn wished() -> Machine {
    let mut machine = Machine::new();
    machine.want("backup/own", backup("/srv/backup"));
    machine
}

fn know<'m>(machine: &'m mut Machine, chores: &[Chore]) -> &'m mut KnownBackup {
    let since = Some(Timestamp::UNIX_EPOCH);
    let due = chores.iter().map(|&chore| Due { chore, since }).collect();
    let known = KnownBackup { due, checks: 12, ..KnownBackup::default() };
    machine.known.backups.insert(id("backup/own"), known);
    machine.known.backups.get_mut(&id("backup/own")).unwrap()
}

/// The repository is made, and nothing is due.
fn made() -> Machine {
    let mut machine = wished();
    machine.converge();
    know(&mut machine, &[]).repository = Some("5".repeat(64));
    machine
}

#[test]
fn a_repository_is_made_before_the_first_snapshot() {
    let mut machine = wished();
    know(&mut machine, &[Chore::Run]);
    shows(
        &machine,
        expect![[r#"
           1  open      backup/own  /srv/backup [missing]
           2  back up   backup/own  to /srv/backup [due] after 1
        Plan: 1 to create, 0 to change, 0 to destroy
    "#]],
    );
}

#[test]
fn what_is_due_is_done_in_its_order_and_reads_the_next_part() {
    let mut machine = made();
    let known = know(&mut machine, &Chore::ALL);
    (known.repository, known.good) = (Some("5".repeat(64)), Some("a".repeat(64)));
    shows(
        &machine,
        expect![[r#"
           1  back up   backup/own  to /srv/backup [due]
           2  verify    backup/own  with part 3 of 10 of its data [due] after 1
           3  drill     backup/own  snapshot aaaaaaaa [due] after 2
           4  forget    backup/own  [due] after 3
        Plan: 0 to create, 0 to change, 0 to destroy
    "#]],
    );
}

#[test]
fn a_check_looks_for_the_complete_snapshot_too_where_the_newest_is_none() {
    let mut machine = made();
    let known = know(&mut machine, &[Chore::Verify]);
    known.repository = Some("5".repeat(64));
    let ids = |at: &str| Some(at.repeat(64));
    let looked_for = |newest: &str, good: &str| {
        let mut machine = machine.clone();
        let known = machine.known.backups.get_mut(&id("backup/own")).unwrap();
        (known.newest, known.good) = (ids(newest), ids(good));
        match &machine.plan().steps[0].action {
            Action::BackupVerify { snapshot, good, .. } => (snapshot.clone(), good.clone()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(looked_for("a", "a"), (ids("a"), None));
    assert_eq!(looked_for("b", "a"), (ids("b"), ids("a")));
}

#[test]
fn a_repository_that_is_gone_is_not_made_anew() {
    let mut machine = made();
    know(&mut machine, &[Chore::Run]).repository = Some("5".repeat(64));
    machine.observed.resources.clear();
    let plan = machine.plan();
    assert!(plan.is_empty(), "{plan:#?}");
    assert!(matches!(&plan.skipped[0].why, SkipReason::Unprotected(why) if why.contains("mount")));
    // In another place it begins anew, and no snapshot of the old one is asked for there.
    machine.want("backup/own", backup("/mnt/backup"));
    let plan = machine.plan();
    assert!(matches!(plan.steps[0].action, Action::BackupOpen { .. }));
    assert!(matches!(&plan.steps[1].action, Action::BackupRun { repository: None, .. }));
}

#[test]
fn a_repository_of_somebody_else_is_taken_over_only_where_that_is_asked_for() {
    let mut machine = wished();
    machine.foreign("backup/own", backup("/srv/backup"), true);
    assert_eq!(machine.plan().skipped[0].why, SkipReason::Foreign);
    machine.edit("backup/own", |wish| wish.lifecycle.adopt = true);
    know(&mut machine, &[Chore::Run]);
    let reasons: Vec<_> = machine.plan().steps.iter().map(|step| step.reason).collect();
    assert_eq!(reasons, [Reason::Adopted, Reason::Due]);
    // Another backup of ours made it.
    machine.edit("backup/own", |wish| wish.lifecycle.adopt = false);
    machine.seen("backup/own").ownership = Ownership::Ours { environment: name("lab") };
    let reasons: Vec<_> = machine.plan().steps.iter().map(|step| step.reason).collect();
    assert_eq!(reasons, [Reason::Due]);
}

/// What another one of ours holds is opened, and what is known of the old one is forgotten.
#[test]
fn a_repository_in_another_place_is_opened_first() {
    let mut machine = made();
    know(&mut machine, &[Chore::Run]).repository = Some("5".repeat(64));
    machine.want("backup/own", backup("/mnt/backup"));
    machine.seen("backup/own").config = backup("/mnt/backup");
    assert_eq!(machine.plan().skipped[0].why, SkipReason::Foreign);
    machine.seen("backup/own").ownership = Ownership::Ours { environment: name("lab") };
    let plan = machine.plan();
    assert!(matches!(plan.steps[0].action, Action::BackupOpen { .. }), "{plan:#?}");
    assert!(matches!(&plan.steps[1].action, Action::BackupRun { repository: None, .. }));
}

#[test]
fn another_repository_in_its_place_is_taken_where_the_wish_names_it() {
    let mut machine = made();
    know(&mut machine, &[Chore::Run]).repository = Some("5".repeat(64));
    let named = |id: &str| match backup("/srv/backup") {
        Resource::Backup(backup) => {
            Resource::Backup(Box::new(Backup { repository_id: Some(id.into()), ..*backup }))
        }
        other => other,
    };
    machine.want("backup/own", named("77777777"));
    let plan = machine.plan();
    assert!(matches!(plan.steps[0].action, Action::BackupOpen { .. }), "{plan:#?}");
    assert!(matches!(&plan.steps[1].action, Action::BackupRun { repository: None, .. }));
    machine.want("backup/own", named("55555555"));
    let plan = machine.plan();
    assert!(matches!(&plan.steps[0].action, Action::BackupRun { repository: Some(_), .. }));
}

#[test]
fn a_backup_that_goes_from_the_commit_leaves_its_repository() {
    let mut machine = made();
    machine.drop("backup/own");
    machine.observed.resources.clear();
    assert!(machine.plan().is_empty());
}

#[test]
fn a_promise_that_is_not_kept_is_told() {
    let mut machine = made();
    know(&mut machine, &[]).trouble = vec![objective::Reason::TooOld];
    let plan = machine.plan();
    assert!(matches!(&plan.skipped[0].why, SkipReason::Unprotected(why) if why.contains("rpo")));
    // That nothing was ever taken is said only where it is not about to be.
    let known = know(&mut machine, &[Chore::Run]);
    (known.repository, known.trouble) = (Some("5".repeat(64)), vec![objective::Reason::NeverTaken]);
    assert!(machine.plan().skipped.is_empty());
}

#[test]
fn a_repository_among_trueups_own_files_is_refused() {
    let mut machine = wished();
    machine.known.own.folders.insert("/srv".into());
    assert!(matches!(machine.plan().skipped[0].why, SkipReason::Conflict(_)));
}

#[test]
fn what_is_due_waits_for_nobody_and_is_part_of_no_promise() {
    let mut machine = made();
    know(&mut machine, &[Chore::Run]).repository = Some("5".repeat(64));
    machine.desired.sync.mode = SyncMode::Manual;
    let plan = machine.plan();
    let reasons = hold_reasons(&plan, &machine.desired.sync, None);
    assert!(super::super::causes(&plan, &reasons).unwrap().is_empty());
    assert_eq!(Promise::of(&plan), Promise::default());
    assert_eq!(Promise::default().kept_by(&plan), Kept::Equal);
    assert_eq!(serde_json::to_string(&Reason::Due).unwrap(), "\"due\"");
}

#[test]
fn the_judge_sees_work_on_a_repository_that_is_not_there() {
    let mut machine = made();
    know(&mut machine, &[Chore::Run]).repository = Some("5".repeat(64));
    let mut plan = machine.plan();
    machine.observed.resources.clear();
    let found = check::check(&plan, &machine.input()).unwrap_err();
    assert!(found[0].rule.contains("not there"), "{found:?}");
    plan.steps[0].reason = Reason::Changed;
    let found = check::check(&plan, &machine.input()).unwrap_err();
    assert!(found.iter().any(|it| it.rule.contains("due")), "{found:?}");
}

#[test]
fn what_an_interrupted_backup_left_is_cleared_before_anything_else() {
    let mut machine = made();
    know(&mut machine, &[Chore::Run]);
    machine.observed.leftovers.insert(id("backup/own"), vec!["web".into()]);
    shows(
        &machine,
        expect![[r#"
           1  clear     backup/own  up in web [needed]
           2  back up   backup/own  to /srv/backup [due] after 1
        Plan: 0 to create, 1 to change, 0 to destroy
    "#]],
    );
    // It is a backup of no guest: nothing of it is needed in one.
    let plan = machine.plan();
    assert!(matches!(plan.steps[0].action, Action::BackupClear { wholly: true, .. }));
}

#[test]
fn what_an_interrupted_backup_left_is_cleared_also_while_its_repository_is_out_of_reach() {
    let mut machine = made();
    know(&mut machine, &[Chore::Run]);
    machine.observed.resources.clear();
    machine.observed.unreadable.insert(id("backup/own"), "it does not answer".into());
    machine.observed.leftovers.insert(id("backup/own"), vec!["web".into()]);
    let plan = machine.plan();
    let verbs: Vec<_> = plan.steps.iter().map(|step| step.action.verb()).collect();
    assert_eq!(verbs, ["clear"], "{plan:#?}");
    assert!(matches!(plan.skipped[0].why, SkipReason::Unobservable(_)));
    check::check(&plan, &machine.input()).unwrap();
}

#[test]
fn what_a_backup_left_goes_with_it_whatever_is_said_of_pruning() {
    let mut machine = Machine::new();
    machine.desired.sync.prune = false;
    machine.observed.leftovers.insert(id("backup/gone"), vec!["web".into(), "db".into()]);
    shows(
        &machine,
        expect![[r#"
               1  clear     backup/gone  up in web, db [gone from the commit]
            Plan: 0 to create, 1 to change, 0 to destroy
        "#]],
    );
    let plan = machine.plan();
    check::check(&plan, &machine.input()).unwrap();
}

/// Rules protect a disk by the backups that are said to save it.
#[test]
fn a_backup_of_a_guest_saves_the_disks_that_the_guest_may_write_to() {
    let mut web = vm("web", &["web", "data"], &[]);
    if let Resource::VirtualMachine(web) = &mut web {
        web.disks[1].read_only = true;
        web.disks.push(seed_attachment("web", "text"));
    }
    let all = [
        (id("disk/web"), disk("web", 1, None)),
        (id("disk/data"), disk("data", 1, None)),
        (id("disk/db"), disk("db", 1, None)),
        (id("vm/web"), web),
    ];
    let saved = |part: GuestPart| -> Vec<String> {
        let Resource::Backup(mut backup) = backup("/srv/backup") else { unreachable!() };
        backup.source =
            BackupSource::Guest(BackupGuest { part, quiesce: false, read_all_s: 86_400 });
        let of = saved_by(&backup, all.iter().map(|(id, resource)| (id, resource)));
        of.iter().map(ToString::to_string).collect()
    };
    assert_eq!(saved(GuestPart::Machine { name: name("web") }), ["disk/web"]);
    assert_eq!(saved(GuestPart::Machine { name: name("db") }), [""; 0], "there is no such machine");
    let (path, format) = ("/vm/db.qcow2".to_owned(), VolumeFormat::Qcow2);
    assert_eq!(saved(GuestPart::Disk { name: name("db"), path, format }), ["disk/db"]);
}

/// The image may be another one by the time that the disk is back.
#[test]
fn a_backup_of_files_does_not_save_a_disk_that_lies_on_an_image() {
    let all = [(id("disk/db"), disk("db", 1, None)), (id("disk/web"), disk("web", 1, Some("v1")))];
    let Resource::Backup(mut backup) = backup("/srv/backup") else { unreachable!() };
    let text =
        |of: BTreeSet<ResourceId>| -> Vec<String> { of.iter().map(ToString::to_string).collect() };
    let each = || all.iter().map(|(id, resource)| (id, resource));
    for path in ["/vm", "/vm/web.qcow2"] {
        backup.source = BackupSource::Paths(BackupPaths {
            paths: vec![path.to_owned(), "/vm/db.qcow2".to_owned()],
            exclude: Vec::new(),
            one_file_system: false,
        });
        assert_eq!(text(saved_by(&backup, each())), ["disk/db"], "{path}");
        assert_eq!(text(saved_in_part(&backup, each())), ["disk/web"], "{path}");
    }
    let (path, format) = ("/vm/web.qcow2".to_owned(), VolumeFormat::Qcow2);
    let part = GuestPart::Disk { name: name("web"), path, format };
    backup.source = BackupSource::Guest(BackupGuest { part, quiesce: false, read_all_s: 86_400 });
    assert_eq!(
        text(saved_by(&backup, each())),
        ["disk/web"],
        "what is read through it is all of it"
    );
    assert!(saved_in_part(&backup, each()).is_empty());
}
