//! Which snapshots a policy keeps. Pure: no clock, no repository.
//!
//! The rules are those of restic 0.14 (`restic forget`): each rule walks from the newest snapshot to
//! the oldest and keeps the newest one of each hour, day, ISO week, month or year until its count is
//! used up; hours and days are those of the clock that made the snapshot. Snapshots are taken as one
//! group: whoever wants groups asks with a filter for each.

use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};

use crate::protocol::Snapshot;

/// What stays. Zero means that the rule keeps nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// So many of the newest.
    pub last: u32,
    /// The newest of each of the last so many hours that have one.
    pub hourly: u32,
    /// The newest of each of the last so many days that have one.
    pub daily: u32,
    /// The newest of each of the last so many ISO weeks that have one.
    pub weekly: u32,
    /// The newest of each of the last so many months that have one.
    pub monthly: u32,
    /// The newest of each of the last so many years that have one.
    pub yearly: u32,
    /// All with one of these tags.
    pub tags: Vec<String>,
    /// All with one of these ids, whatever else they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
}

impl Keep {
    /// Whether it would keep nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Keep::default()
    }
}

/// A snapshot's fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate<'a> {
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// The rules that keep it, in the words of restic; it goes when there are none.
    pub reasons: Vec<String>,
}

/// One rule while snapshots pass by.
struct Rule {
    left: u32,
    last: Option<i64>,
    bucket: fn(DateTime, i64) -> i64,
    reason: &'static str,
}

fn rules(keep: &Keep) -> [Rule; 6] {
    let rule = |left, reason, bucket| Rule { left, last: None, bucket, reason };
    [
        rule(keep.last, "last snapshot", |_, nth| nth),
        rule(keep.hourly, "hourly snapshot", |time, _| day(time) * 24 + i64::from(time.hour())),
        rule(keep.daily, "daily snapshot", |time, _| day(time)),
        rule(keep.weekly, "weekly snapshot", |time, _| {
            let week = time.date().iso_week_date();
            i64::from(week.year()) * 100 + i64::from(week.week())
        }),
        rule(keep.monthly, "monthly snapshot", |time, _| {
            i64::from(time.year()) * 100 + i64::from(time.month())
        }),
        rule(keep.yearly, "yearly snapshot", |time, _| i64::from(time.year())),
    ]
}

/// A number for each day, in order.
fn day(time: DateTime) -> i64 {
    (i64::from(time.year()) * 100 + i64::from(time.month())) * 100 + i64::from(time.day())
}

/// The time a snapshot's own clock showed.
fn civil(snapshot: &Snapshot) -> DateTime {
    // An offset out of range cannot come from a clock; UTC then.
    let offset = Offset::from_seconds(snapshot.offset).unwrap_or(Offset::UTC);
    offset.to_datetime(snapshot.time)
}

/// What becomes of each snapshot, newest first.
#[must_use]
pub fn apply<'a>(keep: &Keep, snapshots: &'a [Snapshot]) -> Vec<Fate<'a>> {
    let mut newest_first: Vec<&Snapshot> = snapshots.iter().collect();
    // The id decides among equals, so that two runs agree.
    newest_first.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.id.cmp(&b.id)));
    let mut rules = rules(keep);
    let fate = |(nth, snapshot): (usize, &'a Snapshot)| {
        let mut reasons = Vec::new();
        for tag in keep.tags.iter().filter(|tag| snapshot.tags.contains(tag)) {
            reasons.push(format!("has tag {tag}"));
        }
        if keep.ids.contains(&snapshot.id) {
            reasons.push("way back from a change".to_owned());
        }
        for rule in rules.iter_mut().filter(|rule| rule.left > 0) {
            let bucket = (rule.bucket)(civil(snapshot), i64::try_from(nth).unwrap_or(i64::MAX));
            if rule.last != Some(bucket) {
                rule.last = Some(bucket);
                rule.left -= 1;
                reasons.push(rule.reason.to_owned());
            }
        }
        Fate { snapshot, reasons }
    };
    newest_first.into_iter().enumerate().map(fate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshot(id: usize, time: &str, tags: &[&str]) -> Snapshot {
        Snapshot {
            id: format!("{id:064x}"),
            time: time.parse().expect("a time"),
            offset: 0,
            host: "h".into(),
            paths: vec!["/a".into()],
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            tree: String::new(),
            bytes: None,
        }
    }

    #[track_caller]
    fn check(keep: &Keep, times: &[&str], kept: &[&str]) {
        let all: Vec<_> = times.iter().enumerate().map(|(n, t)| snapshot(n, t, &[])).collect();
        let fates = apply(keep, &all);
        let left: Vec<_> = fates.iter().filter(|fate| !fate.reasons.is_empty()).collect();
        let left: Vec<_> = left.iter().map(|fate| fate.snapshot.time.to_string()).collect();
        assert_eq!(left, kept);
    }

    #[test]
    fn what_is_named_stays_beside_what_the_rules_keep() {
        let all: Vec<_> =
            (1..4).map(|day| snapshot(day, &format!("2026-01-0{day}T00:00:00Z"), &[])).collect();
        let keep = Keep { last: 1, ids: vec![all[0].id.clone()], ..Keep::default() };
        let fates = apply(&keep, &all);
        let kept: Vec<_> = fates.iter().map(|fate| fate.reasons.join(", ")).collect();
        assert_eq!(kept, ["last snapshot", "", "way back from a change"]);
        let without = serde_json::to_string(&Keep { last: 1, ..Keep::default() }).unwrap();
        assert!(!without.contains("ids"), "digests of older wishes stay what they are");
    }

    #[test]
    fn the_newest_of_each_day_stays() {
        check(
            &Keep { daily: 2, ..Keep::default() },
            &["2025-01-01T09:00:00Z", "2025-01-02T09:30:00Z", "2025-01-02T09:45:00Z"],
            &["2025-01-02T09:45:00Z", "2025-01-01T09:00:00Z"],
        );
    }

    #[test]
    fn a_week_that_spans_two_years_is_one_week() {
        check(
            &Keep { weekly: 2, ..Keep::default() },
            &["2024-02-03T11:00:00Z", "2024-12-30T09:00:00Z", "2025-01-02T09:45:00Z"],
            &["2025-01-02T09:45:00Z", "2024-02-03T11:00:00Z"],
        );
    }

    #[test]
    fn days_are_those_of_the_clock_that_made_the_snapshot() {
        let mut late = snapshot(1, "2025-01-02T23:30:00Z", &[]);
        late.offset = 3600;
        let all = [snapshot(0, "2025-01-02T09:00:00Z", &[]), late];
        let keep = Keep { daily: 9, ..Keep::default() };
        assert!(apply(&keep, &all).iter().all(|fate| !fate.reasons.is_empty()));
    }

    #[test]
    fn a_tag_keeps_and_uses_up_no_count() {
        let all = [
            snapshot(0, "2025-01-01T09:00:00Z", &["gold"]),
            snapshot(1, "2025-01-02T09:00:00Z", &[]),
            snapshot(2, "2025-01-03T09:00:00Z", &[]),
        ];
        let keep = Keep { last: 1, tags: vec!["gold".into()], ..Keep::default() };
        let fates = apply(&keep, &all);
        let reasons: Vec<_> = fates.iter().map(|fate| fate.reasons.join("+")).collect();
        assert_eq!(reasons, ["last snapshot", "", "has tag gold"]);
    }

    proptest! {
        #[test]
        fn a_larger_policy_keeps_no_less(times in prop::collection::vec(0i64..200_000_000, 0..60),
                                         n in 0u32..10) {
            let all: Vec<_> = times.iter().enumerate().map(|(id, s)| Snapshot {
                time: jiff::Timestamp::from_second(1_700_000_000 + s).expect("in range"),
                ..snapshot(id, "2025-01-01T00:00:00Z", &[])
            }).collect();
            let kept = |n| {
                let keep = Keep { last: n, daily: n, weekly: n, monthly: n, yearly: n, ..Keep::default() };
                let fates = apply(&keep, &all);
                fates.iter().filter(|fate| !fate.reasons.is_empty())
                    .map(|fate| fate.snapshot.id.clone()).collect::<std::collections::BTreeSet<_>>()
            };
            prop_assert!(kept(n).is_subset(&kept(n + 1)));
            prop_assert_eq!(kept(1).is_empty(), all.is_empty());
        }
    }
}
