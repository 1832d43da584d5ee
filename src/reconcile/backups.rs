//! What is due for backups, and which promises are not kept: from the log, the wish and the time.
//!
//! Pure. Whoever looks at a plan for a commit that is not in force sees nothing as due.

use std::collections::BTreeMap;

use jiff::Timestamp;
use trueup_backup::objective::{self, Health};
use trueup_backup::schedule;

use super::pass::Outlook;
use crate::event::body::BackupMissed;
use crate::event::{Entry, Event};
use crate::model::resource::{Backup, Chore};
use crate::model::{Resource, ResourceId, digest_of};
use crate::plan::{Due, KnownBackup};
use crate::spec::Desired;
use crate::state::{BackupState, State, keep_s};

/// How every backup that is asked for stands at `now`.
pub(super) fn known_backups(
    state: &State,
    desired: &Desired,
    now: Timestamp,
    outlook: Outlook,
) -> BTreeMap<ResourceId, KnownBackup> {
    let known = backups(desired).map(|(id, backup)| {
        let of = &state.backup(id);
        let due = if outlook.due { due(id, backup, of, now) } else { Vec::new() };
        let (pinned, released) = state.pinned(id, now);
        let known = KnownBackup {
            repository: of.repository.clone(),
            newest: of.last.as_ref().map(|last| last.id.clone()),
            good: of.good.as_ref().map(|good| good.id.clone()),
            checks: of.checks,
            foreign: of.recheck,
            pinned,
            released,
            due,
            trouble: trouble(backup, of, now),
        };
        (id.clone(), known)
    });
    known.collect()
}

/// Whether snapshots may be removed: the check or the drill right before it may have found damage, the
/// run something it could not read; and since the plan was made a snapshot may have become a way back or
/// the proved one, or what one is the way back for may have turned out to be bad.
pub(super) fn may_forget(
    state: &State,
    id: &ResourceId,
    pinned: &[String],
    now: Timestamp,
) -> bool {
    let (held, _) = state.pinned(id, now);
    let of = state.backup(id);
    // Whatever the rules are, they keep the newest one.
    let newest = of.last.as_ref().map(|last| &last.id);
    let stays = |snapshot: &String| Some(snapshot) == newest || pinned.contains(snapshot);
    of.may_forget() && held.iter().all(stays)
}

/// The snapshots inside the disks of machines that nothing needs any more as a way back.
pub(super) fn ways_over(
    state: &State,
    desired: &Desired,
    now: Timestamp,
) -> BTreeMap<ResourceId, Vec<String>> {
    let over = inside(state, desired).filter(|(_, until)| *until <= now);
    let names = |id: &ResourceId| {
        let known = state.resources.get(id).into_iter().flat_map(|known| &known.snapshots);
        known.map(|snapshot| snapshot.name.clone()).collect()
    };
    over.map(|(id, _)| (id.clone(), names(id))).collect()
}

/// Every machine with snapshots inside its disks, and when they may go.
fn inside<'a>(
    state: &'a State,
    desired: &'a Desired,
) -> impl Iterator<Item = (&'a ResourceId, Timestamp)> {
    let with = state.resources.iter().filter(|(_, known)| !known.snapshots.is_empty());
    with.filter_map(|(id, _)| match &desired.resources.get(id)?.resource {
        Resource::VirtualMachine(vm) => {
            Some((id, state.inside_until(id, keep_s(vm.way_back.as_ref()))?))
        }
        _ => None,
    })
}

/// When something becomes due next.
pub(super) fn next_due(state: &State, desired: &Desired, now: Timestamp) -> Option<Timestamp> {
    let times = backups(desired).flat_map(|(id, backup)| {
        let of = &state.backup(id);
        let breaks = objective::standing(&of.facts, &backup.objectives, now).rpo_breaks;
        let chores = Chore::ALL.into_iter().filter_map(|chore| time(id, backup, of, chore, now));
        chores.chain(breaks).collect::<Vec<_>>()
    });
    times.chain(inside(state, desired).map(|(_, at)| at)).filter(|at| *at > now).min()
}

/// The events for snapshots that became older than promised.
pub(super) fn events_of_backups(state: &State, desired: &Desired, now: Timestamp) -> Vec<Entry> {
    let missed = backups(desired).filter_map(|(id, backup)| {
        let of = state.backup(id);
        let rpo_s = backup.objectives.rpo_s?;
        let standing = objective::standing(&of.facts, &backup.objectives, now);
        let late = standing.reasons.contains(&objective::Reason::TooOld);
        let event = BackupMissed { rpo_s, last_good: of.facts.last_good };
        (late && of.missed.is_none()).then(|| Entry::new(Event::BackupMissed(event)).about(id))
    });
    missed.collect()
}

fn backups(desired: &Desired) -> impl Iterator<Item = (&ResourceId, &Backup)> {
    desired.resources.iter().filter_map(|(id, wish)| match &wish.resource {
        Resource::Backup(backup) => Some((id, &**backup)),
        _ => None,
    })
}

fn due(id: &ResourceId, backup: &Backup, of: &BackupState, now: Timestamp) -> Vec<Due> {
    let mut all = Vec::new();
    for chore in Chore::ALL {
        // A drill is of the last complete snapshot, which a run is about to replace.
        if chore == Chore::Drill && all.iter().any(|due: &Due| due.chore == Chore::Run) {
            continue;
        }
        let since = time(id, backup, of, chore, now).filter(|at| *at <= now);
        let first = last(of, chore, now).is_none();
        // What its hooks stopped must not wait for the schedule.
        let owed = of.interrupted && !backup.hooks.after.is_empty();
        let asked = match chore {
            Chore::Run => of.asked || owed,
            Chore::Drill => of.drill_asked && of.good.is_some(),
            // Nobody waits for the day's check to know what somebody else left of it.
            Chore::Verify => of.recheck && of.last.is_some(),
            Chore::Forget => false,
        };
        if asked {
            all.push(Due { chore, since: None });
        } else if let Some(at) = since {
            all.push(Due { chore, since: Some(at).filter(|_| !first) });
        }
    }
    all
}

/// When `chore` is due, now or later; `None`: never by itself, or not before something else.
fn time(
    id: &ResourceId,
    backup: &Backup,
    of: &BackupState,
    chore: Chore,
    now: Timestamp,
) -> Option<Timestamp> {
    let schedule = backup.schedule_of(chore)?;
    let ready = match chore {
        Chore::Run => true,
        Chore::Verify => of.last.is_some(),
        Chore::Drill => of.good.is_some(),
        Chore::Forget => of.may_forget(),
    };
    if !ready {
        return None;
    }
    // Repositories have ids of their own, so that hosts with one spec do not start together.
    let seed = digest_of(&(&of.repository, id, chore));
    let seed = seed.bytes().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    // What makes no sense was refused with the spec; a time zone may be missing on this host.
    schedule::next_run(last(of, chore, now), now, &schedule, seed).ok()
}

/// When it was done last; `None` also where the clock was ahead then, so that nobody knows.
fn last(of: &BackupState, chore: Chore, now: Timestamp) -> Option<Timestamp> {
    let last = match chore {
        Chore::Run => of.run_at,
        Chore::Verify => of.checked_at,
        Chore::Drill => of.drilled_at,
        Chore::Forget => of.forgotten_at,
    };
    last.filter(|last| !schedule::is_ahead(*last, now))
}

/// What is promised and not so; of checks and drills only what an objective says.
fn trouble(backup: &Backup, of: &BackupState, now: Timestamp) -> Vec<objective::Reason> {
    let promised = &backup.objectives;
    let mut reasons = objective::standing(&of.facts, promised, now).reasons;
    reasons.retain(|reason| match reason {
        objective::Reason::NeverTaken => promised.rpo_s.is_some(),
        objective::Reason::NotDrilled => promised.drill_s.is_some() && of.good.is_some(),
        objective::Reason::NotChecked => promised.verify_s.is_some() && of.last.is_some(),
        other => other.health() >= Health::Missed,
    });
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resource::{BackupDrill, BackupRetention, BackupSource, BackupVerify};
    use trueup_backup::objective::Objectives;
    use trueup_backup::retention::Keep;
    use trueup_backup::schedule::{Schedule, When};

    use crate::model::Digest;
    use crate::model::backup::Before;
    use crate::state::{GoodSnapshot, Pinned, ResourceState};

    fn every(seconds: u64) -> Schedule {
        Schedule { when: When::Every(seconds), time_zone: None, jitter_s: 0, windows: Vec::new() }
    }

    fn backup() -> Backup {
        Backup {
            schedule: Some(every(100)),
            verify: Some(BackupVerify { schedule: every(1000), read_parts: None }),
            retention: Some(BackupRetention {
                keep: Keep { last: 1, ..Keep::default() },
                every_s: 500,
            }),
            objectives: Objectives { rpo_s: Some(150), ..Objectives::default() },
            ..Backup::plain(BackupSource::State)
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn id() -> ResourceId {
        "backup/etc".parse().unwrap()
    }

    fn chores(of: &BackupState, now: i64) -> Vec<(Chore, Option<i64>)> {
        let due = due(&id(), &backup(), of, at(now));
        due.into_iter().map(|due| (due.chore, due.since.map(|at| at.as_second()))).collect()
    }

    fn taken(second: i64) -> BackupState {
        let mut of = BackupState { run_at: Some(at(second)), ..BackupState::default() };
        of.facts.last_good = Some(at(second));
        of.last = Some(crate::state::LastSnapshot {
            id: "a".into(),
            at: at(second),
            files: 1,
            bytes: 1,
            added: 1,
            missing: 0,
            elapsed_ms: 1,
        });
        of
    }

    #[test]
    fn nothing_is_removed_that_has_to_stay_by_now() {
        let web: ResourceId = "vm/web".parse().unwrap();
        let before = Before { of: [web.clone()].into(), keep_s: 50 };
        let (snapshot, repository) = ("b".to_owned(), "one".into());
        let pinned = vec![Pinned { snapshot, repository, at: at(1000), before }];
        let of = BackupState { pinned, ..taken(1000) };
        let known = ResourceState { backup: Some(Box::new(of)), ..ResourceState::default() };
        let mut state = State::default();
        state.resources.insert(id(), known);
        let may = |state: &State| may_forget(state, &id(), &[], at(1050));
        assert!(may(&state), "what is gone has been good since then");
        // After the plan was made it was seen not to be good.
        let bad = ResourceState { wish: Some(Digest::of("web")), ..ResourceState::default() };
        state.resources.insert(web.clone(), bad);
        assert!(!may(&state) && may_forget(&state, &id(), &["b".into()], at(1050)));
        state.resources.remove(&web);
        let proved = |state: &mut State, snapshot: &str| {
            let of = state.resources.get_mut(&id()).unwrap().backup.as_mut().unwrap();
            of.proved = Some(GoodSnapshot { id: snapshot.into(), at: at(1000), of: Vec::new() });
        };
        proved(&mut state, "c");
        assert!(!may(&state) && may_forget(&state, &id(), &["c".into()], at(1050)));
        proved(&mut state, "a");
        assert!(may(&state), "it is the newest");
    }

    #[test]
    fn a_first_snapshot_comes_before_checks_and_removals() {
        assert_eq!(chores(&BackupState::default(), 1000), [(Chore::Run, None)]);
        let first = taken(1000);
        assert_eq!(chores(&first, 1001), [(Chore::Verify, None), (Chore::Forget, None)]);
    }

    #[test]
    fn each_chore_goes_on_from_its_own_last_time() {
        let of =
            BackupState { checked_at: Some(at(1000)), forgotten_at: Some(at(1000)), ..taken(1000) };
        assert_eq!(chores(&of, 1099), []);
        assert_eq!(chores(&of, 1100), [(Chore::Run, Some(1100))]);
        assert_eq!(chores(&of, 1700), [(Chore::Run, Some(1100)), (Chore::Forget, Some(1500))]);
        let asked = BackupState { asked: true, ..of };
        assert_eq!(chores(&asked, 1001), [(Chore::Run, None)]);
    }

    #[test]
    fn what_was_done_while_the_clock_was_ahead_is_due_and_the_promise_is_missed() {
        let ahead =
            BackupState { checked_at: Some(at(9000)), forgotten_at: Some(at(9000)), ..taken(9000) };
        for now in [1000, 2000, 8000] {
            let all = [(Chore::Run, None), (Chore::Verify, None), (Chore::Forget, None)];
            assert_eq!(chores(&ahead, now), all);
            assert_eq!(trouble(&backup(), &ahead, at(now)), [objective::Reason::TooOld]);
        }
    }

    #[test]
    fn what_an_interrupted_snapshot_stopped_does_not_wait_for_the_schedule() {
        let of = BackupState {
            interrupted: true,
            checked_at: Some(at(1000)),
            forgotten_at: Some(at(1000)),
            ..taken(1000)
        };
        assert_eq!(chores(&of, 1001), [], "without a hook there is nothing to be undone");
        let mut hooked = backup();
        let argv = vec!["/bin/true".to_owned()];
        hooked.hooks.after.push(crate::model::resource::BackupHook { argv, timeout_s: 1 });
        let due = due(&id(), &hooked, &of, at(1001));
        assert_eq!(due, [Due { chore: Chore::Run, since: None }]);
    }

    #[test]
    fn somebody_elses_removals_bring_the_check_forward_once() {
        let of = BackupState {
            recheck: true,
            checked_at: Some(at(1000)),
            forgotten_at: Some(at(1000)),
            ..taken(1000)
        };
        assert_eq!(chores(&of, 1001), [(Chore::Verify, None)]);
        let looked = BackupState { recheck: false, checked_at: Some(at(1002)), ..of };
        assert_eq!(chores(&looked, 1003), []);
    }

    /// A clock that was set forward by days, or a host that was off for as long: one run, not many.
    #[test]
    fn a_clock_that_jumps_over_many_times_makes_one_run() {
        let of =
            BackupState { checked_at: Some(at(1000)), forgotten_at: Some(at(1000)), ..taken(1000) };
        let jumped = 1000 + 50 * 100 + 7;
        let runs = |of: &BackupState, now| {
            chores(of, now).into_iter().filter(|(chore, _)| *chore == Chore::Run).count()
        };
        assert_eq!(runs(&of, jumped), 1);
        let after = BackupState { run_at: Some(at(jumped)), ..of.clone() };
        assert_eq!(runs(&after, jumped + 1), 0, "what was missed is not made up for");
        assert_eq!(runs(&after, jumped + 100), 1);
    }

    #[test]
    fn nothing_is_removed_from_a_damaged_repository() {
        let of = BackupState { damage: Some("a pack is gone".into()), ..taken(1000) };
        assert_eq!(chores(&of, 1001), [(Chore::Verify, None)]);
    }

    #[test]
    fn nothing_is_removed_while_the_last_snapshot_is_incomplete() {
        let mut of = taken(1000);
        of.last.as_mut().unwrap().missing = 1;
        assert_eq!(chores(&of, 1001), [(Chore::Verify, None)]);
    }

    #[test]
    fn a_drill_comes_after_the_first_complete_snapshot_and_whenever_somebody_asks() {
        let drill = BackupDrill { schedule: every(300), check: vec![], timeout_s: 1, boot: None };
        let drills = |drill: Option<BackupDrill>, of: &BackupState, now| {
            let due = due(&id(), &Backup { drill, ..backup() }, of, at(now));
            due.iter().any(|due| due.chore == Chore::Drill)
        };
        let mut of = taken(1000);
        assert!(!drills(Some(drill.clone()), &of, 1001), "the one there is is not complete");
        let good = GoodSnapshot { id: "a".into(), at: at(1000), of: Vec::new() };
        of.good = Some(good);
        assert!(drills(Some(drill.clone()), &of, 1001));
        assert!(!drills(Some(drill.clone()), &of, 1100), "not beside the next snapshot");
        (of.drilled_at, of.run_at) = (Some(at(1001)), Some(at(1299)));
        assert!(!drills(Some(drill.clone()), &of, 1300) && drills(Some(drill), &of, 1301));
        of.drill_asked = true;
        assert!(drills(None, &of, 1302), "also without a schedule");
        let promised = Objectives { rto_s: Some(5), drill_s: Some(100), ..Objectives::default() };
        let slow = Backup { objectives: promised, ..backup() };
        (of.facts.drilled, of.facts.measured_rto_s) = (Some(at(1001)), Some(6));
        use objective::Reason::{NotDrilled, TooSlow};
        assert_eq!(trouble(&slow, &of, at(1101)), [TooSlow]);
        assert_eq!(trouble(&slow, &of, at(1102)), [TooSlow, NotDrilled]);
    }

    #[test]
    fn only_what_is_promised_is_missed() {
        use objective::Reason::{CheckFailed, NeverTaken, TooOld};
        let plain = Backup { objectives: Objectives::default(), ..backup() };
        let never = BackupState::default();
        assert_eq!(trouble(&plain, &never, at(1000)), []);
        assert_eq!(trouble(&backup(), &never, at(1000)), [NeverTaken]);
        assert_eq!(trouble(&backup(), &taken(1000), at(1150)), []);
        assert_eq!(trouble(&backup(), &taken(1000), at(1151)), [TooOld]);
        let mut damaged = taken(1000);
        damaged.facts.verify_failed = Some(at(1001));
        assert_eq!(trouble(&plain, &damaged, at(1002)), [CheckFailed]);
    }
}
