//! When the next run of something is due. Pure: the time comes in as an argument.
//!
//! A run that was missed is due at once, and only once however many were missed. Jitter is drawn from
//! a seed and the time of the run, so that it is the same whoever asks, however often.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// When something runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The times themselves.
    pub when: When,
    /// The IANA time zone of calendar and windows; UTC without one.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// A run starts up to so many seconds late, so that many hosts do not start together.
    #[serde(default)]
    pub jitter_s: u64,
    /// A run starts only within one of these; at any time without one.
    #[serde(default)]
    pub windows: Vec<Window>,
}

/// The times of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum When {
    /// The five fields of `crontab(5)`, without a time zone.
    Calendar(String),
    /// So many seconds after the start of the last run.
    Every(u64),
}

/// A part of the day in which runs may start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// From this time of day, `HH:MM`.
    pub from: Time,
    /// Up to this one; where it is not later than `from` it is of the next day.
    pub to: Time,
    /// The days it begins on, such as `sat`; every day without one.
    #[serde(default)]
    pub days: Vec<Day>,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the days of the week")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    fn weekday(self) -> Weekday {
        match self {
            Day::Mon => Weekday::Monday,
            Day::Tue => Weekday::Tuesday,
            Day::Wed => Weekday::Wednesday,
            Day::Thu => Weekday::Thursday,
            Day::Fri => Weekday::Friday,
            Day::Sat => Weekday::Saturday,
            Day::Sun => Weekday::Sunday,
        }
    }
}

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The crontab does not parse, or names a day that never comes.
    #[error("the calendar `{calendar}` is no crontab of five fields: {why}")]
    Calendar {
        /// As it is written.
        calendar: String,
        /// What about it.
        why: String,
    },
    /// There is no such time zone.
    #[error("there is no time zone `{name}`: {why}")]
    TimeZone {
        /// As it is written.
        name: String,
        /// What about it.
        why: String,
    },
    /// It would run all the time.
    #[error("an interval of zero seconds is none")]
    Interval,
    /// The time is beyond what can be counted.
    #[error("the next run is beyond what can be counted: {why}")]
    Range {
        /// What the calendar says.
        why: String,
    },
}

/// How far ahead of the clock a time may be that was noted by it: it is set in small steps.
const AHEAD_MAX: SignedDuration = SignedDuration::from_secs(60);

/// Whether `time` was noted by a clock that was ahead of the one that says `now`: it is known that
/// something happened, and not when.
#[must_use]
pub fn is_ahead(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now) > AHEAD_MAX
}

/// When the next run is due: at or before `now` if it is due already.
///
/// `last` is the start of the last run; one that never ran is due at once, and so is one whose last
/// run was noted by a clock that was ahead: waiting for that time could take years. `seed` tells hosts
/// and backups apart.
///
/// # Errors
/// The schedule makes no sense.
pub fn next_run(
    last: Option<Timestamp>,
    now: Timestamp,
    schedule: &Schedule,
    seed: u64,
) -> Result<Timestamp, ScheduleError> {
    let zone = zone(schedule)?;
    let due = match last.filter(|last| !is_ahead(*last, now)) {
        None => {
            // Said even where it would not be asked, so that a mistake shows before the second run.
            occurrence(&schedule.when, now, schedule.time_zone.as_deref())?;
            now
        }
        Some(last) => {
            let next = occurrence(&schedule.when, last.min(now), schedule.time_zone.as_deref())?;
            add(next, jitter(next, schedule.jitter_s, seed))?
        }
    };
    let from = due.max(now);
    match opening(&schedule.windows, from, &zone)? {
        Opening::Open => Ok(due),
        Opening::At { start, length_s } => {
            // Jitter must not carry it out at the other end.
            add(start, jitter(start, schedule.jitter_s.min(length_s / 2), seed))
        }
    }
}

fn zone(schedule: &Schedule) -> Result<TimeZone, ScheduleError> {
    let Some(name) = &schedule.time_zone else { return Ok(TimeZone::UTC) };
    TimeZone::get(name)
        .map_err(|source| ScheduleError::TimeZone { name: name.clone(), why: source.to_string() })
}

/// The first time after `after` that is due, jitter aside.
fn occurrence(
    when: &When,
    after: Timestamp,
    zone: Option<&str>,
) -> Result<Timestamp, ScheduleError> {
    match when {
        When::Every(0) => Err(ScheduleError::Interval),
        When::Every(seconds) => add(after, *seconds),
        When::Calendar(calendar) => {
            let wrong = |why: String| ScheduleError::Calendar { calendar: calendar.clone(), why };
            if calendar.split_whitespace().count() != 5 {
                return Err(wrong("it has not five fields".into()));
            }
            let text = format!("{calendar} {}", zone.unwrap_or("UTC"));
            let crontab =
                cronexpr::parse_crontab(&text).map_err(|source| wrong(source.to_string()))?;
            let next = crontab.find_next(after).map_err(|source| wrong(source.to_string()))?;
            Ok(next.timestamp())
        }
    }
}

fn add(time: Timestamp, seconds: u64) -> Result<Timestamp, ScheduleError> {
    let range = |why: String| ScheduleError::Range { why };
    let seconds = i64::try_from(seconds).map_err(|source| range(source.to_string()))?;
    time.checked_add(SignedDuration::from_secs(seconds)).map_err(|why| range(why.to_string()))
}

/// Between nothing and `most` seconds, the same for the same run and seed.
fn jitter(run: Timestamp, most: u64, seed: u64) -> u64 {
    if most == 0 {
        return 0;
    }
    // splitmix64 (Steele, Lea, Flood 2014): neighbours in, strangers out.
    let mut x = seed ^ run.as_second().cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) % (most + 1)
}

/// Whether a window is open, or when the next one opens.
enum Opening {
    Open,
    At { start: Timestamp, length_s: u64 },
}

fn opening(windows: &[Window], from: Timestamp, zone: &TimeZone) -> Result<Opening, ScheduleError> {
    if windows.is_empty() {
        return Ok(Opening::Open);
    }
    let range = |source: jiff::Error| ScheduleError::Range { why: source.to_string() };
    let today = from.to_zoned(zone.clone()).date();
    let mut next: Option<(Timestamp, Timestamp)> = None;
    // From yesterday, whose window may reach into today, to the same day of next week.
    let mut day = today.yesterday().map_err(range)?;
    for _ in 0..10 {
        for window in windows {
            let of_day = |wanted: &Day| wanted.weekday() == day.weekday();
            if !window.days.is_empty() && !window.days.iter().any(of_day) {
                continue;
            }
            let (start, end) = span(window, day, zone)?;
            if start <= from && from < end {
                return Ok(Opening::Open);
            }
            if start > from && next.is_none_or(|(first, _)| start < first) {
                next = Some((start, end));
            }
        }
        day = day.tomorrow().map_err(range)?;
    }
    let (start, end) =
        next.ok_or_else(|| ScheduleError::Range { why: "no window opens within a week".into() })?;
    let length = end.duration_since(start).as_secs();
    Ok(Opening::At { start, length_s: u64::try_from(length).unwrap_or(0) })
}

fn span(
    window: &Window,
    day: Date,
    zone: &TimeZone,
) -> Result<(Timestamp, Timestamp), ScheduleError> {
    let range = |source: jiff::Error| ScheduleError::Range { why: source.to_string() };
    let end_day = if window.to > window.from { day } else { day.tomorrow().map_err(range)? };
    let start = day.to_datetime(window.from).to_zoned(zone.clone()).map_err(range)?;
    let end = end_day.to_datetime(window.to).to_zoned(zone.clone()).map_err(range)?;
    Ok((start.timestamp(), end.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every(seconds: u64) -> Schedule {
        Schedule { when: When::Every(seconds), time_zone: None, jitter_s: 0, windows: vec![] }
    }

    fn calendar(text: &str) -> Schedule {
        Schedule { when: When::Calendar(text.into()), ..every(1) }
    }

    #[track_caller]
    fn check(schedule: &Schedule, last: Option<&str>, now: &str, due: &str) {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        let next = next_run(last.map(time), time(now), schedule, 7).expect("it makes sense");
        assert_eq!(next.to_string(), due);
    }

    #[test]
    fn what_never_ran_is_due_at_once() {
        check(&every(3600), None, "2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
        check(&calendar("0 2 * * *"), None, "2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
    }

    #[test]
    fn runs_that_were_missed_are_one_run() {
        let last = Some("2025-01-01T02:00:00Z");
        check(&calendar("0 2 * * *"), last, "2025-01-09T12:00:00Z", "2025-01-02T02:00:00Z");
        check(&every(60), last, "2025-01-09T12:00:00Z", "2025-01-01T02:01:00Z");
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_runs() {
        let last = Some("2031-01-01T00:00:00Z");
        // However often it is asked: each answer must not be later than the question.
        for now in ["2025-01-01T00:00:00Z", "2025-01-01T02:00:00Z", "2025-06-01T00:00:00Z"] {
            check(&every(60), last, now, now);
            check(&calendar("0 2 * * *"), last, now, now);
        }
        let night = Window {
            from: "22:00".parse().expect("a time"),
            to: "06:00".parse().expect("a time"),
            days: vec![],
        };
        let nightly = Schedule { windows: vec![night], ..every(60) };
        check(&nightly, last, "2025-01-01T12:00:00Z", "2025-01-01T22:00:00Z");
        check(&nightly, last, "2025-01-01T22:00:00Z", "2025-01-01T22:00:00Z");
        // A clock that is set in small steps is none that was wrong.
        let last = Some("2025-01-01T00:01:00Z");
        check(&every(60), last, "2025-01-01T00:00:00Z", "2025-01-01T00:01:00Z");
    }

    #[test]
    fn a_calendar_is_of_its_time_zone_also_when_clocks_change() {
        let berlin = Schedule { time_zone: Some("Europe/Berlin".into()), ..calendar("0 4 * * *") };
        let last = Some("2025-03-29T03:00:00Z");
        check(&berlin, last, "2025-03-29T12:00:00Z", "2025-03-30T02:00:00Z");
    }

    #[test]
    fn outside_of_its_windows_it_waits_for_the_next() {
        let night = Window {
            from: "22:00".parse().expect("a time"),
            to: "06:00".parse().expect("a time"),
            days: vec![Day::Sat],
        };
        let nightly = Schedule { windows: vec![night], ..every(60) };
        // 2025-01-04 is a Saturday.
        let last = Some("2025-01-01T00:00:00Z");
        check(&nightly, last, "2025-01-03T12:00:00Z", "2025-01-04T22:00:00Z");
        check(&nightly, last, "2025-01-05T05:59:00Z", "2025-01-01T00:01:00Z");
        check(&nightly, last, "2025-01-05T06:00:00Z", "2025-01-11T22:00:00Z");
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let now = Timestamp::UNIX_EPOCH;
        for wrong in [every(0), calendar("99 * * * *"), calendar("* * * * * UTC"), calendar("")] {
            assert!(next_run(None, now, &wrong, 0).is_err(), "{wrong:?}");
        }
        let nowhere = Schedule { time_zone: Some("Mars/Base".into()), ..every(1) };
        assert!(matches!(next_run(None, now, &nowhere, 0), Err(ScheduleError::TimeZone { .. })));
    }

    proptest! {
        #[test]
        fn a_next_run_is_after_the_last_within_jitter_and_in_a_window(
            last in 1_600_000_000i64..1_900_000_000, ahead in 0i64..10_000_000, seed: u64,
            every_s in 1u64..1_000_000, jitter_s in 0u64..10_000, hour in 0i8..24, length in 1i8..23,
        ) {
            let time = |s| Timestamp::from_second(s).expect("in range");
            let from = Time::constant(hour, 0, 0, 0);
            let to = Time::constant((hour + length) % 24, 0, 0, 0);
            let mut schedule = Schedule { jitter_s, ..every(every_s) };
            let next = next_run(Some(time(last)), time(last + ahead), &schedule, seed).expect("is");
            let plain = last + i64::try_from(every_s).expect("small");
            let late = next.as_second() - plain;
            prop_assert!((0..=i64::try_from(jitter_s).expect("small")).contains(&late));
            schedule.windows = vec![Window { from, to, days: vec![] }];
            let next = next_run(Some(time(last)), time(last + ahead), &schedule, seed).expect("is");
            let at = next.max(time(last + ahead)).to_zoned(TimeZone::UTC);
            let since = (i64::from(at.hour()) - i64::from(hour)).rem_euclid(24);
            prop_assert!(since < i64::from(length), "{at} is not {length} hours from {hour}");
        }
    }
}
