//! What is wrong with a rule file, with its place: from the engine's words to ours.

use crate::spec::TextPlace;

/// Longest message kept, characters: an engine may quote a whole value.
const MESSAGE_MAX: usize = 1_000;

/// Why a rule cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Where, where that is known.
    pub(super) place: Option<TextPlace>,
    /// What is wrong.
    pub(super) message: String,
}

impl Trouble {
    pub(super) fn at(place: TextPlace, message: impl Into<String>) -> Self {
        Self { place: Some(place), message: message.into() }
    }

    /// Reads the engine's error: `\n--> path:line:col`, the line quoted, then `error: what`.
    pub(super) fn of(error: &str) -> Self {
        let place = error.lines().find_map(|line| {
            let mut parts = line.trim_start().strip_prefix("--> ")?.rsplitn(3, ':');
            let column = parts.next()?.trim().parse().ok()?;
            let line = parts.next()?.parse().ok()?;
            Some(TextPlace { path: parts.next()?.to_owned(), line, column })
        });
        let said = error.lines().rev().find_map(|line| line.trim_start().strip_prefix("error: "));
        let plain = || {
            let lines = error.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.collect::<Vec<_>>().join(" ")
        };
        Self { place, message: said.map_or_else(plain, str::to_owned) }.short()
    }

    fn short(mut self) -> Self {
        self.message = cut(&self.message);
        self
    }
}

/// A text without control characters, cut where it is long.
pub(super) fn cut(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.trim().chars().take(MESSAGE_MAX).map(plain).collect();
    if text.trim().chars().count() > MESSAGE_MAX {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_give_place_and_message() {
        let trouble = Trouble::of("\n--> policies/a.rego:3:7\n  |\n3 | x y\n  |   ^\nerror: oh no");
        assert_eq!(trouble.message, "oh no");
        let place = TextPlace { path: "policies/a.rego".into(), line: 3, column: 7 };
        assert_eq!(trouble.place, Some(place));
        assert_eq!(Trouble::of("just\nwords").message, "just words");
        assert_eq!(Trouble::of(&"x".repeat(5_000)).message.chars().count(), MESSAGE_MAX + 1);
    }
}
