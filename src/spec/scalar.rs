//! Scalars that mean something: sizes, durations, times, MAC addresses, absolute paths.
//!
//! Each is kept as text in the document types and read here, so that a bad one is reported with its
//! place beside all the others.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// Largest size, bytes: 8 EiB less one is what libvirt and qemu can say.
pub const SIZE_MAX: u64 = i64::MAX as u64;
/// Longest duration, seconds: a week; longer is a mistake of units.
pub const DURATION_SECONDS_MAX: u64 = 7 * 24 * 3600;
/// Longest path, bytes: `PATH_MAX` of Linux less the terminator.
pub const PATH_BYTES_MAX: usize = 4095;

/// Longest name in the DNS, bytes, as text (RFC 1035, 2.3.4).
pub const DNS_NAME_MAX: usize = 253;
/// Longest name of a network device, bytes: `IFNAMSIZ` of Linux is 16 with the terminator.
pub const DEVICE_NAME_MAX: usize = 15;

/// A size as it is written: `20GiB`, or a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SizeText(pub String);

impl<'de> Deserialize<'de> for SizeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = SizeText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as 20GiB")
    }
    fn visit_str<E>(self, text: &str) -> Result<SizeText, E> {
        Ok(SizeText(text.to_owned()))
    }
    fn visit_u64<E>(self, bytes: u64) -> Result<SizeText, E> {
        Ok(SizeText(bytes.to_string()))
    }
}

impl JsonSchema for SizeText {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A size with its unit, `20GiB`, or a number of bytes.",
            "type": ["string", "integer"],
            "minimum": 1,
            "pattern": r"^[0-9]+(\.[0-9]+)? ?([kKMGTP]i?)?B?$"
        })
    }
}

/// Reads a size in bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let bytes = text
        .parse::<bytesize::ByteSize>()
        .map_err(|_| format!("`{text}` is not a size: write a number and a unit, `20GiB`"))?
        .as_u64();
    match bytes {
        0 => Err(format!("`{text}` is no size at all")),
        _ if bytes > SIZE_MAX => Err(format!("`{text}` is more than {SIZE_MAX} bytes")),
        _ => Ok(bytes),
    }
}

/// Reads a duration in seconds: `90s`, `5m`, `4h`, `1d`, or several together.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    seconds_up_to(text, DURATION_SECONDS_MAX, "a week")
}

/// Reads a duration in seconds, of at most `max`, which people call `called`.
pub(crate) fn seconds_up_to(text: &str, max: u64, called: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a duration: write `90s`, `5m`, `4h` or `1d`");
    let (mut total, mut number) = (0u64, None::<u64>);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            let sofar = number.unwrap_or(0).checked_mul(10).ok_or_else(bad)?;
            number = Some(sofar.checked_add(u64::from(digit)).ok_or_else(bad)?);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(bad()),
        };
        let amount = number.take().ok_or_else(bad)?;
        total = amount.checked_mul(unit).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
    }
    match (number, total) {
        (Some(_), _) | (None, 0) => Err(bad()),
        (None, n) if n > max => Err(format!("`{text}` is more than {called}")),
        (None, n) => Ok(n),
    }
}

/// Reads a time of the day as the minute of the day.
pub(crate) fn minute_of_day(text: &str) -> Result<u16, String> {
    let bad = || format!("`{text}` is not a time of the day: write `22:00`");
    let (hours, minutes) = text.split_once(':').ok_or_else(bad)?;
    let two = |t: &str, below: u16| {
        let digits = t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| t.parse::<u16>().ok()).flatten().filter(|n| *n < below)
    };
    let hours = two(hours, 24).ok_or_else(bad)?;
    Ok(hours * 60 + two(minutes, 60).ok_or_else(bad)?)
}

/// Reads a MAC address of a single interface, in lower case.
pub(crate) fn mac(text: &str) -> Result<String, String> {
    let bad = || format!("`{text}` is not a MAC address: write `52:54:00:12:34:56`");
    let mut first = None;
    let mut parts = 0;
    for part in text.split(':') {
        let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        if !digits {
            return Err(bad());
        }
        first = first.or_else(|| u8::from_str_radix(part, 16).ok());
        parts += 1;
    }
    match first {
        Some(byte) if parts == 6 && byte & 1 == 1 => Err(format!(
            "`{text}` is a group address: the first byte of an interface's own is even"
        )),
        Some(_) if parts == 6 => Ok(text.to_ascii_lowercase()),
        _ => Err(bad()),
    }
}

/// Checks an absolute path without tricks.
pub(crate) fn absolute_path(text: &str) -> Result<String, String> {
    let tricky = text.split('/').skip(1).any(|part| part.is_empty() || part == "." || part == "..");
    let odd = text.chars().any(char::is_control) || text.len() > PATH_BYTES_MAX;
    if text.starts_with('/') && !tricky && !odd {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{}` is not a plain absolute path: start with `/`, leave out `.`, `..` and `//`",
            text.escape_debug()
        ))
    }
}

/// Checks a text of one line: what a resource holds goes into the log, so it is neither endless nor
/// able to paint on the terminal of who reads it. It is not repeated in the error.
pub(crate) fn line(text: &str, max: usize) -> Result<String, String> {
    if text.len() > max {
        return Err(format!("the text has {} bytes: at most {max} are possible", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(
            "the text holds a control character: write it on one line, as plain text".into()
        );
    }
    Ok(text.to_owned())
}

/// Checks a name for the DNS.
pub(crate) fn dns_name(text: &str) -> Result<String, String> {
    let good = (1..=DNS_NAME_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let shown = || text.chars().take(DNS_NAME_MAX).collect::<String>().escape_debug().to_string();
    good.then(|| text.to_owned()).ok_or_else(|| format!("`{}` is not a DNS name", shown()))
}

/// Checks the name of a network device of the host.
pub(crate) fn device(text: &str) -> Result<String, String> {
    let good = (1..=DEVICE_NAME_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    let shown = || text.chars().take(DNS_NAME_MAX).collect::<String>().escape_debug().to_string();
    good.then(|| text.to_owned()).ok_or_else(|| format!("`{}` is not a device name", shown()))
}

/// Reads permission bits in octal.
pub(crate) fn mode_bits(text: &str) -> Result<u32, String> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    octal
        .then(|| u32::from_str_radix(text, 8).ok())
        .flatten()
        .ok_or_else(|| format!("`{text}` are no permission bits: write `\"0644\"`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes() {
        assert_eq!(size("20GiB"), Ok(20 << 30));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size("512MB"), Ok(512_000_000));
        assert_eq!(size("4096"), Ok(4096));
        for bad in ["", "0", "GiB", "-1G", "20XB", "99999999PB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_durations_and_times() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("1h30m"), Ok(5400));
        for bad in ["", "5", "m", "4w", "0s", "8d", "99999999999999999999s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(minute_of_day("22:30"), Ok(1350));
        for bad in ["24:00", "1:00", "12:60", "noon", "+1:00"] {
            assert!(minute_of_day(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_macs_and_paths() {
        assert_eq!(mac("52:54:00:AB:cd:01"), Ok("52:54:00:ab:cd:01".into()));
        for bad in ["", "52:54:00:ab:cd", "53:54:00:ab:cd:01", "52-54-00-ab-cd-01"] {
            assert!(mac(bad).is_err(), "{bad}");
        }
        assert!(absolute_path("/srv/a.img").is_ok());
        for bad in ["srv", "/a/../b", "/a//b", "/a/", "/a\n"] {
            assert!(absolute_path(bad).is_err(), "{bad}");
        }
        assert!(line("root=/dev/vda", 13).is_ok());
        for bad in ["root=/dev/vda ", "a\nb", "\u{1b}[2J"] {
            assert!(line(bad, 13).is_err(), "{bad:?}");
        }
        assert!(dns_name("a.example").is_ok() && device("br0").is_ok());
        assert!(dns_name(&"a".repeat(254)).is_err() && device("sixteen-letters-").is_err());
        assert_eq!(mode_bits("0644"), Ok(0o644));
        assert!(mode_bits("0999").is_err());
    }
}
