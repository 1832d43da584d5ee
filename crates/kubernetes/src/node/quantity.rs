//! Amounts as Kubernetes spells them: `100m`, `1Gi`, `2e3`. Pure.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount in thousandths, so that a tenth of a processor is a whole number of them.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Amount(i128);

/// A text that is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no amount, as 100m, 2, 1.5Gi or 1e3 are")]
pub struct BadQuantity(String);

impl Amount {
    /// Of whole units.
    pub fn units(count: i64) -> Self {
        Self(i128::from(count) * 1000)
    }

    /// In thousandths.
    pub fn milli(self) -> i128 {
        self.0
    }

    /// In whole units, rounded up, as Kubernetes does.
    pub fn whole(self) -> i128 {
        self.0.div_euclid(1000) + i128::from(self.0.rem_euclid(1000) != 0)
    }
}

impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// Suffixes and what they multiply by, in thousandths: (numerator, denominator).
const SUFFIXES: &[(&str, i128, i128)] = &[
    ("n", 1, 1_000_000),
    ("u", 1, 1_000),
    ("m", 1, 1),
    ("", 1_000, 1),
    ("k", 1_000_000, 1),
    ("M", 1_000_000_000, 1),
    ("G", 1_000_000_000_000, 1),
    ("T", 1_000_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000_000, 1),
    ("Ki", 1_000 << 10, 1),
    ("Mi", 1_000 << 20, 1),
    ("Gi", 1_000 << 30, 1),
    ("Ti", 1_000 << 40, 1),
    ("Pi", 1_000 << 50, 1),
    ("Ei", 1_000 << 60, 1),
];

impl FromStr for Amount {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        parse(text).map(Self).ok_or_else(|| BadQuantity(text.to_owned()))
    }
}

/// `<sign><digits>[.<digits>]<suffix or exponent>`, rounded up to a thousandth
/// (k8s.io/apimachinery/pkg/api/resource).
fn parse(text: &str) -> Option<i128> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    // Longer ones are no amounts of anything, and would not fit.
    if (whole.is_empty() && part.is_empty()) || whole.len() + part.len() > 27 || part.contains('.')
    {
        return None;
    }
    let digits: i128 = format!("{whole}{part}").parse().ok()?;
    let mut below = 10_i128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let mut above = match SUFFIXES.iter().find(|(name, _, _)| *name == suffix) {
        Some((_, above, under)) => {
            below = below.checked_mul(*under)?;
            *above
        }
        None => {
            let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let tens = 10_i128.checked_pow(power.unsigned_abs())?;
            if power < 0 {
                below = below.checked_mul(tens)?;
            }
            1_000_i128.checked_mul(if power < 0 { 1 } else { tens })?
        }
    };
    above = digits.checked_mul(above)?;
    Some(sign * (above.div_euclid(below) + i128::from(above.rem_euclid(below) != 0)))
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1000 {
            0 => write!(f, "{}", self.0 / 1000),
            _ => write!(f, "{}m", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_does() {
        let milli = |text: &str| text.parse::<Amount>().map(Amount::milli);
        assert_eq!(milli("100m"), Ok(100));
        assert_eq!(milli("2"), Ok(2_000));
        assert_eq!(milli("1.5"), Ok(1_500));
        assert_eq!(milli("0.0001"), Ok(1), "rounded up");
        assert_eq!(milli("250u"), Ok(1), "rounded up");
        assert_eq!(milli("1Gi"), Ok(1_073_741_824_000));
        assert_eq!(milli("1.5Ki"), Ok(1_536_000));
        assert_eq!(milli("2e3"), Ok(2_000_000));
        assert_eq!(milli("1E"), Ok(1_000_000_000_000_000_000_000));
        assert_eq!(milli("-1"), Ok(-1_000));
        for bad in ["", "x", "1x", "1.2.3", ".", "1ei", "1e99", "99999999999999999999999999999"] {
            assert!(milli(bad).is_err(), "{bad}");
        }
        assert_eq!("1500m".parse::<Amount>().unwrap().to_string(), "1500m");
        assert_eq!("1500m".parse::<Amount>().unwrap().whole(), 2);
        assert_eq!("2000m".parse::<Amount>().unwrap().to_string(), "2");
    }
}
