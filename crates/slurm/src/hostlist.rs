//! Slurm's way to write many names: `n[1-3,07],login`. It never makes more names than [`NAMES_MAX`]:
//! the text may come from a repository.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// As many nodes as Slurm itself takes in one cluster (`MAX_SLURM_NODES`, slurm.h: 65,536).
pub const NAMES_MAX: usize = 65_536;

/// A text that is no list of names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostlistError {
    /// A bracket without its other half, or with nothing between.
    #[error("`{list}` has a bracket that does not close, or nothing in it")]
    Bracket {
        /// The text.
        list: String,
    },
    /// What stands between two brackets is no number or range.
    #[error("`{part}` in `{list}` is no number and no range of numbers")]
    Range {
        /// The part.
        part: String,
        /// The text.
        list: String,
    },
    /// More names than a cluster can have.
    #[error("`{list}` is more than {NAMES_MAX} names")]
    TooMany {
        /// The text.
        list: String,
    },
}

/// The names that a list stands for, in its order.
///
/// # Errors
/// [`HostlistError`].
pub fn expand(list: &str) -> Result<Vec<String>, HostlistError> {
    let mut names = Vec::new();
    for item in split(list) {
        if item.is_empty() {
            continue;
        }
        expand_item(item, list, &mut names)?;
    }
    Ok(names)
}

/// Cuts at the commas outside of brackets.
fn split(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    list.split(move |c| {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
}

fn expand_item(item: &str, list: &str, names: &mut Vec<String>) -> Result<(), HostlistError> {
    let before = names.len();
    let too_many = || HostlistError::TooMany { list: list.to_owned() };
    let mut heads = vec![String::new()];
    let mut rest = item;
    while let Some(open) = rest.find('[') {
        let close = rest.find(']').filter(|close| *close > open + 1);
        let Some(close) = close else {
            return Err(HostlistError::Bracket { list: list.to_owned() });
        };
        let numbers = ranges(&rest[open + 1..close], list)?;
        if before + heads.len().saturating_mul(numbers.len()) > NAMES_MAX {
            return Err(too_many());
        }
        heads = heads
            .iter()
            .flat_map(|head| numbers.iter().map(move |n| format!("{head}{}{n}", &rest[..open])))
            .collect();
        rest = &rest[close + 1..];
    }
    if rest.contains(']') {
        return Err(HostlistError::Bracket { list: list.to_owned() });
    }
    if before + heads.len() > NAMES_MAX {
        return Err(too_many());
    }
    names.extend(heads.into_iter().map(|head| head + rest));
    Ok(())
}

fn ranges(inner: &str, list: &str) -> Result<Vec<String>, HostlistError> {
    let mut numbers = Vec::new();
    for part in inner.split(',') {
        let wrong = || HostlistError::Range { part: part.to_owned(), list: list.to_owned() };
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let width = from.len();
        let (Ok(first), Ok(last)) = (from.parse::<u64>(), to.parse::<u64>()) else {
            return Err(wrong());
        };
        if last < first {
            return Err(wrong());
        }
        if last - first >= NAMES_MAX as u64 {
            return Err(HostlistError::TooMany { list: list.to_owned() });
        }
        numbers.extend((first..=last).map(|n| format!("{n:0width$}")));
    }
    Ok(numbers)
}

/// The shortest list for some names: sorted, runs of numbers in brackets. The same names give the
/// same text.
#[must_use]
pub fn compress<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut plain = std::collections::BTreeSet::new();
    let mut groups: BTreeMap<(&str, usize), std::collections::BTreeSet<u64>> = BTreeMap::new();
    for name in names {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (head, number) = name.split_at(name.len() - digits);
        match number.parse::<u64>() {
            // Without leading zeros all widths are one group; with them each width is its own.
            Ok(n) => {
                let width = if number.starts_with('0') && digits > 1 { digits } else { 0 };
                groups.entry((head, width)).or_default().insert(n);
            }
            Err(_) => {
                plain.insert(name);
            }
        }
    }
    let mut out: Vec<String> = plain.into_iter().map(str::to_owned).collect();
    // `n08` has a leading zero and `n10` has none, but they are one run of two digits.
    let padded: Vec<(&str, usize)> = groups.keys().copied().filter(|(_, w)| *w > 0).collect();
    for (head, width) in padded {
        let power = |n: usize| 10_u64.saturating_pow(u32::try_from(n).unwrap_or(u32::MAX));
        let limit = (power(width - 1), power(width));
        let Some(loose) = groups.get_mut(&(head, 0)) else { continue };
        let moved: Vec<u64> = loose.range(limit.0..limit.1).copied().collect();
        for n in &moved {
            loose.remove(n);
        }
        groups.entry((head, width)).or_default().extend(moved);
    }
    for ((head, width), numbers) in &groups {
        if !numbers.is_empty() {
            out.push(group(head, *width, numbers));
        }
    }
    out.join(",")
}

/// The shortest list for names, if it is of at most so many bytes; else one for the first of them, and how many
/// more there are.
#[must_use]
pub fn compress_within(names: &[&str], bytes: usize) -> (String, u64) {
    let mut first = names.len();
    loop {
        let list = compress(names[..first].iter().copied());
        if list.len() <= bytes || first <= 1 {
            return (list, (names.len() - first) as u64);
        }
        first /= 2;
    }
}

fn group(head: &str, width: usize, numbers: &std::collections::BTreeSet<u64>) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for n in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *n => *last = *n,
            _ => runs.push((*n, *n)),
        }
    }
    if let [(first, last)] = runs[..]
        && first == last
    {
        return format!("{head}{first:0width$}");
    }
    let mut text = format!("{head}[");
    for (at, (first, last)) in runs.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let written = if first == last {
            write!(text, "{comma}{first:0width$}")
        } else {
            write!(text, "{comma}{first:0width$}-{last:0width$}")
        };
        debug_assert!(written.is_ok(), "writing into a string does not fail");
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn there_and_back(list: &str, count: usize) {
        let names = expand(list).unwrap();
        assert_eq!(names.len(), count, "{names:?}");
        assert_eq!(compress(names.iter().map(String::as_str)), list);
    }

    #[test]
    fn lists_are_written_as_they_were_read() {
        there_and_back("n[1-3]", 3);
        there_and_back("n1", 1);
        there_and_back("login,n[1-3,9-11]", 7);
        there_and_back("f[0001-1000]", 1000);
        there_and_back("n[08-11]", 4);
        assert_eq!(expand("r[1-2]n[1-2]x").unwrap(), ["r1n1x", "r1n2x", "r2n1x", "r2n2x"]);
        assert_eq!(expand("").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_list_that_is_too_long_ends_and_says_how_many_more_there_are() {
        let names = ["n1", "n2", "a", "b", "c"];
        assert_eq!(compress_within(&names, 12), ("a,b,c,n[1-2]".to_owned(), 0));
        assert_eq!(compress_within(&names, 11), ("n[1-2]".to_owned(), 3));
        assert_eq!(compress_within(&["node"], 1), ("node".to_owned(), 0));
        assert_eq!(compress_within(&[], 1), (String::new(), 0));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for list in ["n[1-3", "n1]", "n[]", "n[3-1]", "n[a-b]", "n[1,,2]"] {
            assert!(expand(list).is_err(), "{list}");
        }
        let bomb = "n[0-9999][0-9999][0-9999]";
        assert!(matches!(expand(bomb), Err(HostlistError::TooMany { .. })));
        assert!(matches!(expand("n[1-99999999999]"), Err(HostlistError::TooMany { .. })));
    }
}
