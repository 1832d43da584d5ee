//! A length of time as people write it in the config: `15s`, `2m`, `1h 30m`.
//!
//! It never rounds: what was written is what is waited for.

use std::time::Duration;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest time anything in the config may ask for: a week. More is a mistake in the unit.
const SPAN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// A positive length of time, at most a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

impl Span {
    /// So many seconds; for defaults, which are known to be in range.
    pub(super) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The length.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match SignedDuration::try_from(self.0) {
            Ok(signed) => write!(f, "{signed:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let hint = "write it with its unit, like `15s`, `2m` or `1h 30m`";
        let signed: SignedDuration =
            text.parse().map_err(|_| format!("`{text}` is no length of time: {hint}"))?;
        let length = Duration::try_from(signed)
            .map_err(|_| format!("`{text}` is negative: a length of time is needed"))?;
        if length.is_zero() || length > SPAN_MAX {
            return Err(format!("`{text}` is out of range: more than nothing, at most 7 days"));
        }
        Ok(Self(length))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A length of time with its unit: 15s, 2m, 1h 30m.",
            "examples": ["15s", "2m", "1h 30m"],
        })
    }
}
