//! The fold, as far as it is about one backup.
//!
//! What is known of one repository says nothing about another one: a backup that gets another
//! repository begins anew.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trueup_backup::objective::Facts;

use super::State;
use super::way_back::{Pinned, keep};
use crate::event::body::{
    BackupDrilled, BackupFailed, BackupForgotten, BackupOpened, BackupTaken, BackupVerified,
};
use crate::model::ResourceId;
use crate::model::resource::Chore;
use crate::plan::Action;

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupState {
    /// The id of its repository; `None`: there was none yet.
    pub repository: Option<String>,
    /// What its health follows from.
    pub facts: Facts,
    /// The newest snapshot, complete or not.
    pub last: Option<LastSnapshot>,
    /// Bytes of the snapshot before that one.
    pub bytes_before: Option<u64>,
    /// The last complete snapshot.
    pub good: Option<GoodSnapshot>,
    /// The newest complete snapshot that a check or a drill found right, and nothing found wrong since.
    pub proved: Option<GoodSnapshot>,
    /// When the newest snapshot was begun: the schedule goes on from there.
    pub run_at: Option<Timestamp>,
    /// When the repository was checked last, whatever came of it.
    pub checked_at: Option<Timestamp>,
    /// How many checks found nothing: the next part to be read follows from it.
    pub checks: u32,
    /// When a snapshot was last restored to prove that it can be, whatever came of it.
    pub drilled_at: Option<Timestamp>,
    /// When snapshots were last removed from it.
    pub forgotten_at: Option<Timestamp>,
    /// What the last check found, where that was damage.
    pub damage: Option<String>,
    /// What the last drill found, where something was wrong.
    pub drill_damage: Option<String>,
    /// How long the last good drill took, part by part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came_back: Option<CameBack>,
    /// Since when the last complete snapshot is older than promised.
    pub missed: Option<Timestamp>,
    /// An operator wants a snapshot now.
    pub asked: bool,
    /// A snapshot was being taken when the program ended: what its hooks stopped may still stand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// What went wrong with programs that were run before or after the newest snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<String>,
    /// An operator wants a drill now.
    pub drill_asked: bool,
    /// What was noticed about its repository since the last check without a notice, such as that
    /// somebody else removed things from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noticed: Option<Noticed>,
    /// Somebody else removed things from its repository, and no check has looked since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recheck: bool,
    /// Snapshots that were taken before changes, as the ways back, and were not let go of; the oldest
    /// first, bounded by [`WAYS_KEPT_MAX`](super::WAYS_KEPT_MAX).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pinned: Vec<Pinned>,
}

/// How long a drill took to bring everything back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CameBack {
    /// Up to the last byte on the disk, milliseconds.
    pub restore_ms: u64,
    /// From the start of the guest until it was up, milliseconds; `None`: it was not booted.
    pub boot_ms: Option<u64>,
}

/// Something noticed beside a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Noticed {
    /// When it was last noticed.
    pub at: Timestamp,
    /// In sentences.
    pub what: Vec<String>,
}

/// A snapshot that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastSnapshot {
    /// Its id.
    pub id: String,
    /// When it was begun.
    pub at: Timestamp,
    /// Files in it.
    pub files: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Bytes it added to the repository.
    pub added: u64,
    /// How many things are missing from it.
    pub missing: u64,
    /// How long it took, milliseconds.
    pub elapsed_ms: u64,
}

/// A complete snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GoodSnapshot {
    /// Its id.
    pub id: String,
    /// When it was begun.
    pub at: Timestamp,
    /// The disks in it.
    pub of: Vec<ResourceId>,
}

impl State {
    /// What is known of the backup `id`. A repository that is damaged is so for every backup in it,
    /// whichever one's check found it.
    #[must_use]
    pub fn backup(&self, id: &ResourceId) -> BackupState {
        let own = self.resources.get(id).and_then(|known| known.backup.as_deref());
        let mut own = own.cloned().unwrap_or_default();
        let mut all = self.resources.values().filter_map(|known| known.backup.as_deref());
        let damaged = all.find(|other| other.damage.is_some() && other.is_beside(&own));
        if let Some(other) = damaged.filter(|_| own.damage.is_none()) {
            own.damage.clone_from(&other.damage);
            own.facts.verified = None;
            own.proved = None;
            own.facts.verify_failed = other.facts.verify_failed;
        }
        own
    }
}

impl BackupState {
    /// Whether snapshots may be removed. Of a damaged repository, or one whose newest snapshot is
    /// incomplete or whose last complete one did not come back, nothing is: what is left may be all
    /// there is.
    pub(crate) fn may_forget(&self) -> bool {
        let sound = self.damage.is_none() && self.drill_damage.is_none();
        sound && self.last.as_ref().is_some_and(|last| last.missing == 0)
    }

    /// Whether both are in the same repository.
    fn is_beside(&self, other: &Self) -> bool {
        self.repository.is_some() && self.repository == other.repository
    }

    pub(super) fn open(&mut self, opened: &BackupOpened) {
        if self.repository.as_ref() != Some(&opened.repository) {
            let repository = Some(opened.repository.clone());
            let pinned = std::mem::take(&mut self.pinned);
            *self = Self { repository, asked: self.asked, pinned, ..Self::default() };
        }
    }

    pub(super) fn take(&mut self, taken: &BackupTaken, at: Timestamp) {
        self.open(&BackupOpened { repository: taken.repository.clone(), made: false });
        self.notice(&taken.notices, at);
        self.recheck |= taken.foreign;
        if let Some(before) = taken.before.clone().filter(|_| taken.missing == 0) {
            let (snapshot, repository) = (taken.snapshot.clone(), taken.repository.clone());
            keep(&mut self.pinned, Pinned { snapshot, repository, at, before });
        }
        self.bytes_before = self.last.as_ref().map(|last| last.bytes);
        self.last = Some(LastSnapshot {
            id: taken.snapshot.clone(),
            at: taken.begun,
            files: taken.files,
            bytes: taken.bytes,
            added: taken.added,
            missing: taken.missing,
            elapsed_ms: taken.elapsed_ms,
        });
        self.run_at = Some(taken.begun);
        self.asked = false;
        self.interrupted = false;
        self.hooks.clone_from(&taken.hooks);
        if taken.missing == 0 {
            self.facts.last_good = Some(taken.begun);
            let (id, of) = (taken.snapshot.clone(), taken.of.clone());
            self.good = Some(GoodSnapshot { id, at: taken.begun, of });
            self.missed = None;
            mended(&mut self.facts.last_bad, at);
        } else {
            self.facts.last_bad = Some(at);
        }
    }

    pub(super) fn verify(&mut self, verified: &BackupVerified, at: Timestamp) {
        self.noticed = None;
        self.notice(&verified.notices, at);
        // What this check noticed itself it has looked at too: no second one follows from it.
        self.recheck = false;
        self.checked_at = Some(at);
        self.checks = self.checks.wrapping_add(1);
        self.facts.verified = Some(at);
        mended(&mut self.facts.verify_failed, at);
        self.damage = None;
        if self.drill_damage.is_none() {
            self.proved.clone_from(&self.good);
        }
    }

    pub(super) fn drill(&mut self, drilled: &BackupDrilled, at: Timestamp) {
        self.recheck |= drilled.foreign;
        self.drilled_at = Some(at);
        self.drill_asked = false;
        self.facts.drilled = Some(at);
        mended(&mut self.facts.drill_failed, at);
        let boot_ms = drilled.boot.as_ref().map(|boot| boot.elapsed_ms);
        let whole_ms = drilled.elapsed_ms.saturating_add(boot_ms.unwrap_or(0));
        self.facts.measured_rto_s = Some(whole_ms.div_ceil(1000));
        self.came_back = Some(CameBack { restore_ms: drilled.elapsed_ms, boot_ms });
        self.drill_damage = None;
        let good = self.good.as_ref().filter(|good| good.id == drilled.snapshot);
        if let Some(good) = good.filter(|_| self.damage.is_none()) {
            self.proved = Some(good.clone());
        }
    }

    /// The same part is read again until it is whole: another one would say nothing of this damage.
    /// What a drill found is only mended by a drill.
    pub(super) fn find_damage(&mut self, failed: &BackupFailed, at: Timestamp) {
        self.proved = None;
        if failed.during == Chore::Drill {
            self.drilled_at = Some(at);
            self.drill_asked = false;
            self.facts.drill_failed = Some(at);
            self.drill_damage = Some(failed.why.clone());
            return;
        }
        self.recheck = false;
        self.checked_at = Some(at);
        self.facts.verify_failed = Some(at);
        self.damage = Some(failed.why.clone());
    }

    pub(super) fn forget(&mut self, forgotten: &BackupForgotten, at: Timestamp) {
        self.notice(&forgotten.notices, at);
        self.recheck |= forgotten.foreign;
        self.pinned.retain(|pinned| !forgotten.released.contains(&pinned.snapshot));
        // One that was proved after the step was planned is not among those that had to stay.
        if self.proved.as_ref().is_some_and(|proved| forgotten.removed.contains(&proved.id)) {
            self.proved = None;
        }
        self.forgotten_at = Some(at);
    }

    fn notice(&mut self, what: &[String], at: Timestamp) {
        if !what.is_empty() {
            self.noticed = Some(Noticed { at, what: what.to_vec() });
        }
    }

    /// An operator ended it: the schedule goes on from there.
    pub(super) fn put_off(&mut self, verb: &str, at: Timestamp) {
        match verb {
            Action::BACKUP_RUN => {
                self.run_at = Some(at);
                self.asked = false;
            }
            Action::BACKUP_VERIFY => {
                self.checked_at = Some(at);
                self.recheck = false;
            }
            Action::BACKUP_DRILL => {
                self.drilled_at = Some(at);
                self.drill_asked = false;
            }
            Action::BACKUP_FORGET => self.forgotten_at = Some(at),
            _ => {}
        }
    }

    pub(super) fn miss(&mut self, at: Timestamp) {
        self.missed = Some(at);
    }

    pub(super) fn fail_run(&mut self, at: Timestamp) {
        self.interrupted = false;
        self.facts.last_bad = Some(at);
    }
}

/// Forgets a failure that was noted by a clock which was ahead, once something better came after it in
/// the log: by their times alone it would count for as long as the clock was ahead.
fn mended(failed: &mut Option<Timestamp>, at: Timestamp) {
    *failed = failed.filter(|failed| *failed <= at);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::body::BackupBooted;
    use crate::model::backup::Before;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn taken(repository: &str, begun: i64, missing: u64) -> BackupTaken {
        BackupTaken {
            repository: repository.into(),
            snapshot: format!("{begun}"),
            begun: at(begun),
            tree: String::new(),
            files: 1,
            bytes: 10 * begun.unsigned_abs(),
            added: 1,
            of: vec!["disk/db".parse().unwrap()],
            read: None,
            missing,
            first_missing: None,
            notices: Vec::new(),
            foreign: false,
            before: None,
            hooks: Vec::new(),
            elapsed_ms: 5,
        }
    }

    fn failed(why: &str) -> BackupFailed {
        let during = Chore::Verify;
        BackupFailed { during, errors: 1, why: why.into(), console: Vec::new() }
    }

    fn verified() -> BackupVerified {
        BackupVerified { snapshots: 1, read: 0, notices: Vec::new(), elapsed_ms: 1 }
    }

    fn forgotten() -> BackupForgotten {
        BackupForgotten {
            kept: 1,
            removed: vec![],
            removed_count: 0,
            released: vec![],
            freed: 0,
            notices: vec![],
            foreign: false,
        }
    }

    #[test]
    fn somebody_elses_removals_ask_for_one_check() {
        let mut of = BackupState::default();
        of.take(&BackupTaken { foreign: true, ..taken("one", 1, 0) }, at(2));
        of.take(&taken("one", 3, 0), at(4));
        assert!(of.recheck, "until one has looked");
        let notices = vec!["somebody else pruned the repository".to_owned()];
        of.verify(&BackupVerified { notices, ..verified() }, at(5));
        assert!(!of.recheck && of.noticed.is_some(), "what it noticed itself it has looked at");
        of.forget(&BackupForgotten { foreign: true, ..forgotten() }, at(6));
        assert!(of.recheck);
        let failed = failed("gone");
        of.find_damage(&failed, at(7));
        assert!(!of.recheck, "it has looked, and found something");
    }

    #[test]
    fn a_way_back_is_remembered_until_it_is_let_go_of() {
        let before = || Some(Before { of: ["vm/web".parse().unwrap()].into(), keep_s: 1 });
        let mut of = BackupState::default();
        of.take(&BackupTaken { before: before(), ..taken("one", 1, 0) }, at(2));
        of.take(&BackupTaken { before: before(), ..taken("one", 3, 1) }, at(4));
        let snapshots = |of: &BackupState| -> Vec<String> {
            of.pinned.iter().map(|pinned| pinned.snapshot.clone()).collect()
        };
        assert_eq!(snapshots(&of), ["1"], "what is not complete is no way back");
        of.forget(&forgotten(), at(5));
        assert_eq!(snapshots(&of), ["1"]);
        of.forget(&BackupForgotten { released: vec!["1".into()], ..forgotten() }, at(6));
        assert!(of.pinned.is_empty());
    }

    #[test]
    fn what_was_noticed_is_told_until_a_check_notices_nothing() {
        let mut of = BackupState::default();
        let notices = vec!["somebody else pruned the repository".to_owned()];
        of.take(&BackupTaken { notices: notices.clone(), ..taken("one", 1, 0) }, at(2));
        of.take(&taken("one", 3, 0), at(4));
        assert_eq!(of.noticed, Some(Noticed { at: at(2), what: notices.clone() }));
        of.verify(&BackupVerified { notices: notices.clone(), ..verified() }, at(5));
        assert_eq!(of.noticed.as_ref().map(|noticed| noticed.at), Some(at(5)));
        of.verify(&verified(), at(6));
        assert_eq!(of.noticed, None);
        of.forget(&BackupForgotten { notices, ..forgotten() }, at(7));
        assert!(of.noticed.is_some());
    }

    #[test]
    fn what_an_operator_ended_is_done_again_when_it_is_next_due() {
        let mut of = BackupState { asked: true, ..BackupState::default() };
        of.put_off(Action::BACKUP_RUN, at(9));
        of.put_off(Action::BACKUP_VERIFY, at(10));
        of.put_off(Action::BACKUP_FORGET, at(11));
        of.drill_asked = true;
        of.put_off(Action::BACKUP_DRILL, at(12));
        assert_eq!((of.drilled_at, of.drill_asked, of.facts.drilled), (Some(at(12)), false, None));
        assert_eq!((of.run_at, of.asked), (Some(at(9)), false));
        assert_eq!((of.checked_at, of.forgotten_at), (Some(at(10)), Some(at(11))));
        assert_eq!(of.facts.last_good, None, "it proves nothing");
    }

    #[test]
    fn only_a_complete_snapshot_is_a_good_one() {
        let mut of = BackupState { asked: true, ..BackupState::default() };
        of.take(&taken("one", 1, 0), at(2));
        of.miss(at(3));
        of.take(&taken("one", 4, 1), at(5));
        assert_eq!((of.facts.last_good, of.facts.last_bad), (Some(at(1)), Some(at(5))));
        assert_eq!((of.run_at, of.missed, of.asked), (Some(at(4)), Some(at(3)), false));
        assert_eq!((of.bytes_before, of.last.map(|last| last.bytes)), (Some(10), Some(40)));
    }

    #[test]
    fn damage_stays_until_a_check_finds_none() {
        let mut of = BackupState::default();
        of.find_damage(&failed("a pack is gone"), at(2));
        of.take(&taken("one", 3, 0), at(4));
        assert!(of.damage.is_none(), "that was another repository");
        of.find_damage(&failed("a pack is gone"), at(5));
        of.take(&taken("one", 6, 0), at(7));
        assert_eq!(of.damage.as_deref(), Some("a pack is gone"));
        of.verify(&verified(), at(8));
        assert_eq!((of.damage, of.facts.verified, of.checks), (None, Some(at(8)), 1));
    }

    #[test]
    fn a_failure_noted_by_a_clock_that_was_ahead_is_mended_like_any_other() {
        use trueup_backup::objective::{Health, Objectives, standing};
        let mut of = BackupState::default();
        of.take(&taken("one", 1, 0), at(2));
        for during in [Chore::Verify, Chore::Drill] {
            let failed = BackupFailed { during, ..failed("gone") };
            of.find_damage(&failed, at(900_000));
        }
        of.fail_run(at(900_000));
        of.take(&taken("one", 3, 0), at(4));
        of.verify(&verified(), at(5));
        let drilled = BackupDrilled {
            snapshot: "3".into(),
            files: 1,
            bytes: 1,
            elapsed_ms: 1,
            boot: None,
            proved: Vec::new(),
            notices: Vec::new(),
            foreign: false,
        };
        of.drill(&drilled, at(6));
        let standing = standing(&of.facts, &Objectives::default(), at(7));
        assert_eq!((standing.health, standing.reasons), (Health::Good, Vec::new()));
    }

    #[test]
    fn the_part_with_damage_is_read_until_it_is_whole() {
        let mut of = BackupState::default();
        of.take(&taken("one", 1, 0), at(2));
        of.verify(&verified(), at(3));
        let failed = failed("gone");
        of.find_damage(&failed, at(4));
        of.find_damage(&failed, at(5));
        assert_eq!((of.checks, of.checked_at, of.may_forget()), (1, Some(at(5)), false));
        of.verify(&verified(), at(6));
        assert_eq!((of.checks, of.checked_at, of.may_forget()), (2, Some(at(6)), true));
        of.take(&taken("one", 7, 1), at(8));
        assert!(!of.may_forget(), "the last snapshot is incomplete");
    }

    #[test]
    fn damage_is_everybodys_in_the_repository() {
        let mut state = State::default();
        let ids = ["backup/a", "backup/b", "backup/c"].map(|id| id.parse::<ResourceId>().unwrap());
        for (id, repository) in ids.iter().zip(["one", "one", "two"]) {
            let backup = state.resources.entry(id.clone()).or_default().backup();
            backup.take(&taken(repository, 1, 0), at(2));
            backup.verify(&verified(), at(3));
        }
        let failed = failed("gone");
        state.resources.get_mut(&ids[0]).unwrap().backup().find_damage(&failed, at(4));
        let damaged = ids.each_ref().map(|id| state.backup(id).damage.is_some());
        assert_eq!(damaged, [true, true, false]);
        // A shallower check through another one says nothing about it.
        state.resources.get_mut(&ids[1]).unwrap().backup().verify(&verified(), at(5));
        assert!(state.backup(&ids[1]).facts.verified.is_none());
        state.resources.get_mut(&ids[0]).unwrap().backup().verify(&verified(), at(6));
        assert_eq!(state.backup(&ids[1]).facts.verified, Some(at(5)));
    }

    #[test]
    fn only_a_drill_mends_what_a_drill_found() {
        let mut of = BackupState { drill_asked: true, ..BackupState::default() };
        of.take(&taken("one", 1, 0), at(2));
        of.drill_asked = true;
        of.take(&taken("one", 3, 1), at(4));
        let good = of.good.as_ref().map(|good| &*good.id);
        assert_eq!((good, &of.proved), (Some("1"), &None), "the newest one is not complete");
        of.take(&taken("one", 5, 0), at(6));
        let failed = BackupFailed {
            during: Chore::Drill,
            errors: 1,
            why: "a is gone".into(),
            console: vec![],
        };
        of.find_damage(&failed, at(7));
        assert_eq!((of.drilled_at, of.drill_asked, of.may_forget()), (Some(at(7)), false, false));
        of.verify(&verified(), at(8));
        of.take(&taken("one", 9, 0), at(10));
        assert_eq!(of.drill_damage.as_deref(), Some("a is gone"));
        assert!(of.facts.drill_failed > of.facts.drilled && of.proved.is_none());
        let drilled = BackupDrilled {
            snapshot: "9".into(),
            files: 1,
            bytes: 1,
            elapsed_ms: 1001,
            boot: None,
            proved: Vec::new(),
            notices: Vec::new(),
            foreign: false,
        };
        of.drill(&drilled, at(11));
        assert_eq!((of.facts.measured_rto_s, of.may_forget()), (Some(2), true));
        assert_eq!(of.came_back, Some(CameBack { restore_ms: 1001, boot_ms: None }));
        let boot = BackupBooted { elapsed_ms: 3999, ready: "`up`".into(), commands: 0 };
        of.drill(&BackupDrilled { boot: Some(boot), ..drilled }, at(11));
        assert_eq!(of.facts.measured_rto_s, Some(5), "what is not up is not back");
        assert_eq!(of.came_back, Some(CameBack { restore_ms: 1001, boot_ms: Some(3999) }));
        assert_eq!((of.drill_damage, of.facts.drilled), (None, Some(at(11))));
        assert_eq!(of.proved, of.good);
    }

    #[test]
    fn another_repository_begins_anew() {
        let mut of = BackupState::default();
        of.take(&taken("one", 1, 0), at(2));
        of.open(&BackupOpened { repository: "one".into(), made: false });
        assert!(of.last.is_some());
        of.open(&BackupOpened { repository: "two".into(), made: true });
        assert_eq!(of, BackupState { repository: Some("two".into()), ..BackupState::default() });
    }
}
