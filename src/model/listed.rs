//! Names in a sentence.

use std::fmt::{Display, Write as _};

/// Names said in one sentence: more than a person reads, and far below what one event holds.
const NAMED_MAX: usize = 50;

/// `disk/a, disk/b`; where there are very many, the first and how many more.
pub fn listed<T: Display>(names: impl IntoIterator<Item = T>) -> String {
    let mut names = names.into_iter();
    let mut text = String::new();
    for name in names.by_ref().take(NAMED_MAX) {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a text cannot fail.
        if write!(text, "{comma}{name}").is_err() {
            return text;
        }
    }
    match names.count() {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_are_counted() {
        assert_eq!(listed(["a", "b"]), "a, b");
        assert!(listed(0..NAMED_MAX).ends_with(", 49"));
        assert!(listed(0..NAMED_MAX + 3).ends_with(", 49 and 3 more"));
    }
}
