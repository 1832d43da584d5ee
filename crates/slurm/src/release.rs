//! Which Slurm answers, and whether its ways were tried. It never guesses: a release that nobody
//! tried is said to be unknown, and nothing is planned on it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A release of Slurm: year, month and patch, as in `22.05.8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Release {
    /// Two digits of the year.
    pub year: u16,
    /// The month.
    pub month: u16,
    /// Counted from 0 within a month's release.
    pub patch: u16,
}

/// Releases that speak alike, by what was tried on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Shape {
    /// 22.05, of Debian 12: JSON of `openapi/v0.0.38`; a failed reconfigure ends the controller.
    #[serde(rename = "22.05")]
    V22_05,
    /// 24.11, of Debian 13: JSON of `data_parser/v0.0.42`; a reconfigure starts the controller anew
    /// and keeps the old one where that fails.
    #[serde(rename = "24.11")]
    V24_11,
}

impl Release {
    /// How this release speaks, where it was tried.
    #[must_use]
    pub fn shape(self) -> Option<Shape> {
        match (self.year, self.month) {
            (22, 5) => Some(Shape::V22_05),
            (24, 11) => Some(Shape::V24_11),
            _ => None,
        }
    }
}

impl Shape {
    /// The part of the paths of slurmrestd that names this release's API.
    #[must_use]
    pub fn api(self) -> &'static str {
        match self {
            Self::V22_05 => "v0.0.38",
            Self::V24_11 => "v0.0.42",
        }
    }
}

/// A text that names no release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no release of Slurm: it reads like 22.05.8")]
pub struct NoRelease(pub String);

impl FromStr for Release {
    type Err = NoRelease;

    /// Takes `22.05.8`, and what the programs say of themselves (`slurm-wlm 22.05.8`).
    fn from_str(text: &str) -> Result<Self, NoRelease> {
        let wrong = || NoRelease(text.trim().to_owned());
        let word = text.split_whitespace().last().ok_or_else(wrong)?;
        // `24.11.0-0rc1`: a candidate speaks like what it is a candidate for.
        let word = word.split('-').next().unwrap_or(word);
        let mut parts = word.split('.').map(str::parse::<u16>);
        let (Some(Ok(year)), Some(Ok(month))) = (parts.next(), parts.next()) else {
            return Err(wrong());
        };
        let patch = parts.next().unwrap_or(Ok(0)).map_err(|_| wrong())?;
        Ok(Self { year, month, patch })
    }
}

impl TryFrom<String> for Release {
    type Error = NoRelease;

    fn try_from(text: String) -> Result<Self, NoRelease> {
        text.parse()
    }
}

impl From<Release> for String {
    fn from(release: Release) -> Self {
        release.to_string()
    }
}

impl fmt::Display for Release {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}.{:02}.{}", self.year, self.month, self.patch)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::V22_05 => "22.05",
            Self::V24_11 => "24.11",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_the_programs_say_them() {
        let of = |text: &str| text.parse::<Release>().unwrap();
        assert_eq!(of("slurm-wlm 22.05.8\n").shape(), Some(Shape::V22_05));
        assert_eq!(of("24.11.5").shape(), Some(Shape::V24_11));
        assert_eq!(of("slurm 26.05.0-0rc1").shape(), None, "nobody tried it");
        assert_eq!(of("22.05.8").to_string(), "22.05.8");
        assert_eq!("".parse::<Release>(), Err(NoRelease(String::new())));
        assert!("unknown".parse::<Release>().is_err());
    }
}
