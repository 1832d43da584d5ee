//! How healthy a backup is: what is known of it against what was promised. Pure.
//!
//! An upload proves little. Only a check and a restore show that there is a backup, so that a failed
//! one of those outweighs any number of uploads after it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::schedule::is_ahead;

/// What is promised, each in seconds; what is not said is not promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Objectives {
    /// At most so much work may be lost.
    pub rpo_s: Option<u64>,
    /// A restore takes at most so long.
    pub rto_s: Option<u64>,
    /// A check is at most so old.
    pub verify_s: Option<u64>,
    /// A restore drill is at most so old.
    pub drill_s: Option<u64>,
}

/// What is known of a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// The start of the last backup that is complete.
    pub last_good: Option<Timestamp>,
    /// The last try at a backup that failed or left things out.
    pub last_bad: Option<Timestamp>,
    /// The last check that found nothing.
    pub verified: Option<Timestamp>,
    /// The last check that found something.
    pub verify_failed: Option<Timestamp>,
    /// The last drill that brought everything back.
    pub drilled: Option<Timestamp>,
    /// The last drill that did not.
    pub drill_failed: Option<Timestamp>,
    /// How long the last good drill took, seconds.
    pub measured_rto_s: Option<u64>,
}

/// How healthy it is, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Taken, checked and restored, all in time.
    Good,
    /// Taken in time, but nobody knows whether it restores.
    Unverified,
    /// What was promised is not kept: too old, or too slow to restore.
    Missed,
    /// It is known not to restore.
    Failed,
}

/// Why it is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// There is no complete backup.
    NeverTaken,
    /// The last one is older than its objective.
    TooOld,
    /// The last tries failed; those before them are still good.
    TryFailed,
    /// The last drill took longer than its objective.
    TooSlow,
    /// The last check found damage.
    CheckFailed,
    /// The last drill failed.
    DrillFailed,
    /// It was never checked, or not for too long.
    NotChecked,
    /// It was never restored, or not for too long.
    NotDrilled,
}

impl Reason {
    /// How bad it is.
    #[must_use]
    pub fn health(self) -> Health {
        match self {
            Reason::TryFailed => Health::Good,
            Reason::NotChecked | Reason::NotDrilled => Health::Unverified,
            Reason::NeverTaken | Reason::TooOld | Reason::TooSlow => Health::Missed,
            Reason::CheckFailed | Reason::DrillFailed => Health::Failed,
        }
    }
}

/// How a backup stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The worst of the reasons.
    pub health: Health,
    /// Work that would be lost now, seconds; none where there is no backup, so that all would be.
    pub rpo_now_s: Option<u64>,
    /// When the promise of `rpo` breaks if nothing is done.
    pub rpo_breaks: Option<Timestamp>,
    /// Whether a disruptive step may rely on it: not failed, checked once at least, and within `rpo`.
    pub relied_on: bool,
    /// All that is not as it should be.
    pub reasons: Vec<Reason>,
}

/// How a backup stands at `now`.
#[must_use]
pub fn standing(facts: &Facts, promised: &Objectives, now: Timestamp) -> Standing {
    let age = |time: Timestamp| {
        // A little after now is new.
        u64::try_from(now.duration_since(time).as_secs()).unwrap_or(0)
    };
    // What a clock noted that was ahead is of an unknown age, and nothing relies on that.
    let known = |time: Option<Timestamp>| time.filter(|time| !is_ahead(*time, now));
    let taken = known(facts.last_good);
    let (verified, drilled) = (known(facts.verified), known(facts.drilled));
    let older = |time: Option<Timestamp>, than: Option<u64>| {
        than.is_some_and(|than| time.is_none_or(|time| age(time) > than))
    };
    // At the same moment the failure counts.
    let last_is = |bad: Option<Timestamp>, good: Option<Timestamp>| bad.is_some() && bad >= good;
    let rpo_now_s = taken.map(age);
    let slow = facts.measured_rto_s.zip(promised.rto_s).is_some_and(|(is, most)| is > most);
    let told = [
        (facts.last_good.is_none(), Reason::NeverTaken),
        (facts.last_good.is_some() && older(taken, promised.rpo_s), Reason::TooOld),
        (last_is(facts.last_bad, taken), Reason::TryFailed),
        (slow, Reason::TooSlow),
        (last_is(facts.verify_failed, verified), Reason::CheckFailed),
        (last_is(facts.drill_failed, drilled), Reason::DrillFailed),
        (verified.is_none() || older(verified, promised.verify_s), Reason::NotChecked),
        (drilled.is_none() || older(drilled, promised.drill_s), Reason::NotDrilled),
    ];
    let reasons: Vec<Reason> =
        told.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason).collect();
    let health = reasons.iter().map(|reason| reason.health()).max().unwrap_or(Health::Good);
    let breaks = taken.zip(promised.rpo_s).and_then(|(good, rpo)| {
        let rpo = jiff::SignedDuration::from_secs(i64::try_from(rpo).ok()?);
        good.checked_add(rpo).ok()
    });
    let in_time = taken.is_some() && !reasons.contains(&Reason::TooOld);
    let proven = verified.is_some() || drilled.is_some();
    let relied_on = in_time && proven && health != Health::Failed;
    Standing { health, rpo_now_s, rpo_breaks: breaks, relied_on, reasons }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).expect("in range"))
    }

    fn good() -> Facts {
        Facts { last_good: at(900), verified: at(950), drilled: at(960), ..Facts::default() }
    }

    const PROMISED: Objectives =
        Objectives { rpo_s: Some(200), rto_s: Some(60), verify_s: Some(500), drill_s: Some(500) };

    #[track_caller]
    fn check(facts: Facts, health: Health, reasons: &[Reason], relied_on: bool) {
        let standing = standing(&facts, &PROMISED, at(1000).expect("some"));
        assert_eq!((standing.health, &*standing.reasons), (health, reasons));
        assert_eq!(standing.relied_on, relied_on);
    }

    #[test]
    fn health_follows_from_the_last_good_checked_and_drilled() {
        check(good(), Health::Good, &[], true);
        let nothing = [Reason::NeverTaken, Reason::NotChecked, Reason::NotDrilled];
        check(Facts::default(), Health::Missed, &nothing, false);
        let unproved = Facts { verified: None, drilled: None, ..good() };
        let reasons = [Reason::NotChecked, Reason::NotDrilled];
        check(unproved, Health::Unverified, &reasons, false);
        let old = Facts { last_good: at(700), ..good() };
        check(old, Health::Missed, &[Reason::TooOld], false);
        let slow = Facts { measured_rto_s: Some(61), ..good() };
        check(slow, Health::Missed, &[Reason::TooSlow], true);
    }

    #[test]
    fn a_failed_drill_outweighs_the_uploads_after_it() {
        let failed = Facts { drill_failed: at(970), last_good: at(999), ..good() };
        check(failed, Health::Failed, &[Reason::DrillFailed], false);
        let mended = Facts { drill_failed: at(955), ..good() };
        check(mended, Health::Good, &[], true);
    }

    #[test]
    fn a_try_that_failed_leaves_what_was_good() {
        check(Facts { last_bad: at(990), ..good() }, Health::Good, &[Reason::TryFailed], true);
    }

    #[test]
    fn what_a_clock_noted_that_was_ahead_is_relied_on_by_nobody() {
        let old = [Reason::TooOld];
        let ahead = Facts { last_good: at(9000), ..good() };
        check(ahead.clone(), Health::Missed, &old, false);
        let unproved = Facts { verified: at(9000), drilled: at(9000), ..good() };
        let reasons = [Reason::NotChecked, Reason::NotDrilled];
        check(unproved, Health::Unverified, &reasons, false);
        // A check that found damage is no older than that one.
        let damaged = Facts { verified: at(9000), verify_failed: at(990), ..good() };
        check(damaged, Health::Failed, &[Reason::CheckFailed, Reason::NotChecked], false);
        let ahead = standing(&ahead, &PROMISED, at(1000).expect("some"));
        assert_eq!((ahead.rpo_now_s, ahead.rpo_breaks), (None, None));
        check(Facts { last_good: at(1060), ..good() }, Health::Good, &[], true);
    }

    #[test]
    fn it_says_when_the_promise_breaks() {
        let standing = standing(&good(), &PROMISED, at(1000).expect("some"));
        assert_eq!((standing.rpo_now_s, standing.rpo_breaks), (Some(100), at(1100)));
    }

    proptest! {
        #[test]
        fn time_alone_makes_nothing_better(good in 0i64..1000, checked in 0i64..1000,
                                           now in 1000i64..2000, later in 0i64..2000) {
            let facts = Facts { last_good: at(good), verified: at(checked), drilled: at(checked),
                                ..Facts::default() };
            let before = standing(&facts, &PROMISED, at(now).expect("some"));
            let after = standing(&facts, &PROMISED, at(now + later).expect("some"));
            prop_assert!(before.health <= after.health);
            prop_assert!(before.relied_on || !after.relied_on);
        }
    }
}
