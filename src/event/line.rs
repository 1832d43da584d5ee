//! One event as one line of JSON: writing it and reading it back, byte by byte.
//!
//! The members stand in one fixed order, those without a value are left out, and there is no white
//! space between them; `docs/log-format.md` draws it. Reading is strict: what this file could not
//! have written is not a line. It never allocates for a line without escapes.

use std::borrow::Cow;
use std::io::Write as _;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

use super::chain::{LineFault, LineHash};
use super::envelope::{Draft, EnvelopeError, LINE_BYTES_MAX, Record, is_commit, is_type};

/// Length of `,"hash":"` + 64 digits + `"}`: what stands after the hashed bytes, bar the brace.
const HASH_MEMBER: usize = 9 + 64 + 2;
/// Length of `,"prev":"` + 64 digits + `"`.
const PREV_MEMBER: usize = 9 + 64 + 1;
/// Length of `2026-01-02T03:04:05.123456Z`.
const TIME_BYTES: usize = 27;

static PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

/// Appends the line of `draft` and a newline to `out`; returns the line's hash.
pub(super) fn seal_into(
    draft: &Draft,
    seq: u64,
    at: Timestamp,
    prev: &LineHash,
    out: &mut Vec<u8>,
) -> Result<LineHash, EnvelopeError> {
    draft.check()?;
    let start = out.len();
    let written = write_members(draft, seq, at, prev, out);
    let result = written.and_then(|()| {
        let bytes = out.len() - start + HASH_MEMBER;
        if bytes > LINE_BYTES_MAX {
            return Err(EnvelopeError::TooLong { type_: draft.type_.to_string(), bytes });
        }
        let hash = LineHash::of(&[&out[start..], b"}"]);
        out.extend_from_slice(b",\"hash\":\"");
        out.extend_from_slice(&hash.hex());
        out.extend_from_slice(b"\"}\n");
        Ok(hash)
    });
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn write_members(
    draft: &Draft,
    seq: u64,
    at: Timestamp,
    prev: &LineHash,
    out: &mut Vec<u8>,
) -> Result<(), EnvelopeError> {
    let json = |error: serde_json::Error| EnvelopeError::Data { reason: error.to_string() };
    let io = |error: std::io::Error| EnvelopeError::Data { reason: error.to_string() };
    let mut time = String::with_capacity(TIME_BYTES);
    PRINTER.print_timestamp(&at, &mut time).map_err(|error| EnvelopeError::Data {
        reason: format!("time {at} cannot be written: {error}"),
    })?;
    if time.len() != TIME_BYTES {
        return Err(draft.refuse("at", &time, "a time in the years 0000 to 9999"));
    }
    write!(out, "{{\"seq\":{seq},\"at\":\"{time}\",\"type\":\"{}\",\"v\":{}", draft.type_, draft.v)
        .map_err(io)?;
    if let Some(subject) = &draft.subject {
        out.extend_from_slice(b",\"subject\":");
        serde_json::to_writer(&mut *out, subject).map_err(json)?;
    }
    out.extend_from_slice(b",\"actor\":");
    serde_json::to_writer(&mut *out, &draft.actor).map_err(json)?;
    if let Some(cause) = draft.cause {
        if cause == 0 || cause >= seq {
            return Err(draft.refuse("cause", &cause.to_string(), "the seq of an earlier event"));
        }
        write!(out, ",\"cause\":{cause}").map_err(io)?;
    }
    if let Some(run) = &draft.run {
        write!(out, ",\"run\":\"{run}\"").map_err(io)?;
    }
    if let Some(commit) = &draft.commit {
        write!(out, ",\"commit\":\"{commit}\"").map_err(io)?;
    }
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(draft.data.as_str().as_bytes());
    out.extend_from_slice(b",\"prev\":\"");
    out.extend_from_slice(&prev.hex());
    out.push(b'"');
    Ok(())
}

/// The hash of a line's content: everything before `,"hash":`, and the closing brace.
/// The line must have parsed.
pub(super) fn hash_of(text: &[u8]) -> LineHash {
    LineHash::of(&[&text[..text.len().saturating_sub(HASH_MEMBER)], b"}"])
}

/// Reads a line without its newline. The hash is read, not checked.
///
/// # Errors
/// [`LineFault::Format`] with the place where the bytes leave the format.
pub fn parse(text: &[u8]) -> Result<Record<'_>, LineFault> {
    if text.len() > LINE_BYTES_MAX {
        return Err(LineFault::Format { at: LINE_BYTES_MAX, expected: "the end of the line" });
    }
    let whole = std::str::from_utf8(text)
        .map_err(|error| LineFault::Format { at: error.valid_up_to(), expected: "UTF-8" })?;
    let (rest, prev, hash) = split_trailer(whole)?;
    let mut scan = Scan { text: rest, at: 0 };
    scan.literal("{\"seq\":", "{\"seq\":")?;
    let seq = scan.number()?;
    scan.literal(",\"at\":\"", ",\"at\":")?;
    let at = scan.time()?;
    scan.literal("\",\"type\":\"", ",\"type\":")?;
    let type_ = scan.plain("\"", "an event type", is_type)?;
    scan.literal("\"", "\"")?;
    scan.literal(",\"v\":", ",\"v\":")?;
    let v_at = scan.at;
    let v = u32::try_from(scan.number()?)
        .map_err(|_| LineFault::Format { at: v_at, expected: "a version below 2^32" })?;
    let subject = if scan.skip(",\"subject\":\"") { Some(scan.string()?) } else { None };
    scan.literal(",\"actor\":\"", ",\"actor\":")?;
    let actor = scan.string()?;
    let cause = if scan.skip(",\"cause\":") { Some(scan.number()?) } else { None };
    let run = if scan.skip(",\"run\":\"") { Some(scan.run()?) } else { None };
    let commit = if scan.skip(",\"commit\":\"") { Some(scan.commit()?) } else { None };
    scan.literal(",\"data\":", ",\"data\":")?;
    let data = &rest[scan.at..];
    if data.len() < 2 || !data.starts_with('{') || !data.ends_with('}') {
        return Err(scan.fault("a JSON object"));
    }
    Ok(Record { seq, at, type_, v, subject, actor, cause, run, commit, data, prev, hash })
}

/// Cuts `,"prev":"…","hash":"…"}` off the end, where it always stands.
fn split_trailer(whole: &str) -> Result<(&str, LineHash, LineHash), LineFault> {
    let bytes = whole.as_bytes();
    let fault = |at, expected| LineFault::Format { at, expected };
    let data_end = bytes
        .len()
        .checked_sub(HASH_MEMBER + PREV_MEMBER)
        .ok_or_else(|| fault(bytes.len(), "a whole line"))?;
    let hash_start = data_end + PREV_MEMBER;
    let prev = bytes[data_end..hash_start]
        .strip_prefix(b",\"prev\":\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .and_then(LineHash::parse)
        .ok_or_else(|| fault(data_end, ",\"prev\": and 64 hex digits"))?;
    let hash = bytes[hash_start..]
        .strip_prefix(b",\"hash\":\"")
        .and_then(|rest| rest.strip_suffix(b"\"}"))
        .and_then(LineHash::parse)
        .ok_or_else(|| fault(hash_start, ",\"hash\": and 64 hex digits"))?;
    // What was matched is ASCII, so this is a character boundary.
    Ok((&whole[..data_end], prev, hash))
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn fault(&self, expected: &'static str) -> LineFault {
        LineFault::Format { at: self.at, expected }
    }

    fn skip(&mut self, literal: &str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(literal.as_bytes());
        if found {
            self.at += literal.len();
        }
        found
    }

    fn literal(&mut self, literal: &str, expected: &'static str) -> Result<(), LineFault> {
        if self.skip(literal) { Ok(()) } else { Err(self.fault(expected)) }
    }

    /// A number as this file writes it: no sign, no leading zero.
    fn number(&mut self) -> Result<u64, LineFault> {
        let rest = &self.text.as_bytes()[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || (digits > 1 && rest[0] == b'0') {
            return Err(self.fault("a number"));
        }
        let value = rest[..digits].iter().try_fold(0_u64, |value, digit| {
            value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        });
        let value = value.ok_or_else(|| self.fault("a number below 2^64"))?;
        self.at += digits;
        Ok(value)
    }

    fn time(&mut self) -> Result<Timestamp, LineFault> {
        let text = self.text.as_bytes().get(self.at..self.at + TIME_BYTES);
        let micros = text.and_then(parse_micros);
        let at = micros.and_then(|micros| Timestamp::from_microsecond(micros).ok());
        let at = at.ok_or_else(|| self.fault("a time like 2026-01-02T03:04:05.123456Z"))?;
        self.at += TIME_BYTES;
        Ok(at)
    }

    /// Text up to the next quote, which is left standing.
    fn plain(
        &mut self,
        end: &str,
        expected: &'static str,
        allowed: impl Fn(&str) -> bool,
    ) -> Result<&'a str, LineFault> {
        let rest = &self.text[self.at..];
        let text = rest.find(end).map(|length| &rest[..length]).filter(|text| allowed(text));
        let text = text.ok_or_else(|| self.fault(expected))?;
        self.at += text.len();
        Ok(text)
    }

    /// The inside of a JSON string and its closing quote.
    fn string(&mut self) -> Result<Cow<'a, str>, LineFault> {
        let rest = self.text.as_bytes();
        let start = self.at;
        let mut at = start;
        let mut escaped = false;
        loop {
            match rest.get(at) {
                None => return Err(self.fault("a closing quote")),
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += 2;
                }
                Some(_) => at += 1,
            }
        }
        let text = if escaped {
            // Between two quotes, so both ends are character boundaries.
            let owned = serde_json::from_str(&self.text[start - 1..=at]);
            Cow::Owned(owned.map_err(|_| self.fault("a JSON string"))?)
        } else {
            Cow::Borrowed(&self.text[start..at])
        };
        self.at = at + 1;
        Ok(text)
    }

    fn run(&mut self) -> Result<&'a str, LineFault> {
        let is_run = |text: &str| {
            text.len() == 36 && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
        };
        let run = self.plain("\"", "a UUID", is_run)?;
        self.at += 1;
        Ok(run)
    }

    fn commit(&mut self) -> Result<&'a str, LineFault> {
        let commit = self.plain("\"", "40 or 64 hex digits", |text| is_commit(text.as_bytes()))?;
        self.at += 1;
        Ok(commit)
    }
}

/// Microseconds since 1970 of `YYYY-MM-DDThh:mm:ss.ffffffZ`. A general parser takes several times
/// as long, and this runs once a line in every replay.
fn parse_micros(text: &[u8]) -> Option<i64> {
    let shape = b"0000-00-00T00:00:00.000000Z";
    let fits = |(byte, mask): (&u8, &u8)| match mask {
        b'0' => byte.is_ascii_digit(),
        _ => byte == mask,
    };
    if text.len() != TIME_BYTES || !text.iter().zip(shape).all(fits) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        text[range].iter().fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (hour, minute, second) = (number(11..13), number(14..16), number(17..19));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if !(1..=month_days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days from civil: the year starts in March, so that the leap day is its last.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + number(20..26))
}

#[cfg(test)]
mod tests;
