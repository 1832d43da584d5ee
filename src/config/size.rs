//! A number of bytes as people write it in the config: `512MiB`, `2GiB`.
//!
//! It never rounds: what was written is the limit.

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Default of `fetchMax`: a thousand times what a large environment repository has, and little
/// beside the disk of a machine that holds images.
const FETCH_MAX_DEFAULT: u64 = 2 << 30;

/// A number of bytes, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// The number of bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl Default for Size {
    fn default() -> Self {
        Self(FETCH_MAX_DEFAULT)
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The exact number, in the largest unit that divides it.
        let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.iter().find(|(_, unit)| self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl std::str::FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: ByteSize = text.parse().map_err(|_| {
            format!("`{text}` is no size: write a number and a unit, like `512MiB` or `2GiB`")
        })?;
        match bytes.as_u64() {
            0 => Err(format!("`{text}` is nothing at all: at least one byte is needed")),
            bytes => Ok(Self(bytes)),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A number of bytes with its unit: 512MiB, 2GiB.",
            "examples": ["512MiB", "2GiB"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_meant() {
        for (text, bytes) in [("2GiB", 2 << 30), ("512MiB", 512 << 20), ("1000B", 1_000)] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.bytes(), bytes, "{text}");
            assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
        }
        assert_eq!(Size::default().to_string(), "2GiB");
        for bad in ["", "0", "much", "-1MiB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
