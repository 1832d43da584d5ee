//! Points in time as people type them: `2026-01-02T03:04:05Z`, `2026-01-02`, `1h` (ago).

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// The time `text` means at `now`. Without an offset it is UTC, as in the log.
pub(super) fn point(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(ago) = text.parse::<SignedDuration>() {
        return now.checked_sub(ago).map_err(|_| format!("`{text}` ago is before all time"));
    }
    let civil = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(DateTime::from));
    civil.and_then(|at| at.to_zoned(TimeZone::UTC)).map(|zoned| zoned.timestamp()).map_err(|_| {
        format!(
            "`{text}` is no time: write 2026-01-02T03:04:05Z, 2026-01-02, or `1h` for an hour ago"
        )
    })
}

/// A value parser for clap.
pub(super) fn parse(text: &str) -> Result<Timestamp, String> {
    point(text, Timestamp::now())
}

/// A time for people: seconds are enough, and everything is UTC.
pub(super) fn shown(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_type_them() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let read = |text| point(text, now).map(|at| at.to_string());
        assert_eq!(read("2026-01-01T00:00:00+01:00"), Ok("2025-12-31T23:00:00Z".into()));
        assert_eq!(read("2026-01-01"), Ok("2026-01-01T00:00:00Z".into()));
        assert_eq!(read("2026-01-01T10:00"), Ok("2026-01-01T10:00:00Z".into()));
        assert_eq!(read("1h"), Ok("2026-01-02T02:04:05Z".into()));
        assert!(read("yesterday").unwrap_err().contains("2026-01-02T03:04:05Z"));
    }
}
