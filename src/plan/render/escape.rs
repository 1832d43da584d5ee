//! Makes text safe to stand in a forge's Markdown.
//!
//! Forges look for `@name`, `#123`, `GH-123` and addresses in the text *after* entities are decoded, so
//! an entity alone does not disarm them: a zero-width space inside does. Characters that turn the
//! direction of text or have no width are dropped before, so that nobody else's survive.

/// Longest piece of prose that is shown, in characters.
const TEXT_CHARS_MAX: usize = 1_000;
/// Longest name or path, in characters: the longest path a tree may have, and a little.
const CODE_CHARS_MAX: usize = 520;
/// Breaks a word for a forge and not for a reader.
const BREAK: &str = "&#8203;";

/// `text` as prose: no markup, no mention, no link, one line.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    let mut word = String::new();
    for c in shown(text, TEXT_CHARS_MAX) {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '@' | '#' => {
                out += &format!("&#{};{BREAK}", u32::from(c));
            }
            // An address begins with `://` or `www.`; an issue may be written `GH-1`.
            ':' => out += &format!(":{BREAK}"),
            '.' if word.to_ascii_lowercase().ends_with("www") => out += &format!("{BREAK}."),
            '-' if word.eq_ignore_ascii_case("gh") => out += &format!("-{BREAK}"),
            '`' | '*' | '_' | '[' | ']' | '(' | ')' | '\\' | '|' | '~' | '!' | '$' | '{' | '}'
            | '^' | '=' => out += &format!("&#{};", u32::from(c)),
            c => out.push(c),
        }
        if c.is_alphanumeric() {
            word.push(c);
        } else {
            word.clear();
        }
    }
    out
}

/// `text` as a code span that nothing in it can end. Fit for a cell of a table.
#[must_use]
pub fn code(text: &str) -> String {
    // A bar would end a cell even inside of a code span, and the backslash that saves it there would
    // show everywhere else: another bar is shown for it.
    let text: String =
        shown(text, CODE_CHARS_MAX).map(|c| if c == '|' { '¦' } else { c }).collect();
    let fence = "`".repeat(longest_run(&text, '`') + 1);
    let padded = text.starts_with('`') || text.ends_with('`') || text.trim().is_empty();
    let pad = if padded { " " } else { "" };
    match text.is_empty() {
        true => "` `".to_owned(),
        false => format!("{fence}{pad}{text}{pad}{fence}"),
    }
}

/// One line of a fenced block: what could end the fence or the line is gone.
pub(crate) fn fenced(text: &str) -> String {
    shown(text, TEXT_CHARS_MAX).collect()
}

/// A fence that nothing in `content` can close.
pub(crate) fn fence(content: &str) -> String {
    "`".repeat(longest_run(content, '`').max(2) + 1)
}

/// The characters that may be shown, cut with a sign at `max`.
pub(crate) fn shown(text: &str, max: usize) -> impl Iterator<Item = char> + '_ {
    let mut visible = text.chars().filter(|c| !invisible(*c)).map(flat);
    let mut left = max;
    std::iter::from_fn(move || {
        let next = visible.next()?;
        match left {
            0 => None,
            1 => {
                left = 0;
                Some(if visible.next().is_some() { '…' } else { next })
            }
            _ => {
                left -= 1;
                Some(next)
            }
        }
    })
}

fn flat(c: char) -> char {
    if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c }
}

/// Characters without width, and those that turn the direction of text (Unicode 16, chapter 23).
fn invisible(c: char) -> bool {
    matches!(
        c,
        '\u{00ad}'
            | '\u{061c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

fn longest_run(text: &str, wanted: char) -> usize {
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c == wanted { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// `text` cut to `max` characters, with a sign where it was longer.
pub(crate) fn cut(text: &str, max: usize) -> String {
    shown(text, max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mentioned_closed_or_linked() {
        let text = escape("fixes #12, GH-3, @org/team see https://x.y/z www.x.y a@b.c <b> |x|");
        assert_eq!(
            text,
            "fixes &#35;&#8203;12, GH-&#8203;3, &#64;&#8203;org/team see https:&#8203;//x.y/z \
             www&#8203;.x.y a&#64;&#8203;b.c &lt;b&gt; &#124;x&#124;"
        );
        assert_eq!(escape("a\nb\u{202e}c\u{200b}"), "a bc");
    }

    #[test]
    fn code_spans_hold_backticks_and_bars() {
        assert_eq!(code("a|b"), "`a¦b`");
        assert_eq!(code("a`b"), "``a`b``");
        assert_eq!(code("``"), "``` `` ```");
        assert_eq!(code(""), "` `");
        assert_eq!(code("  "), "`    `");
    }

    #[test]
    fn long_text_is_cut_with_a_sign() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(escape(&"x".repeat(5_000)).chars().count(), TEXT_CHARS_MAX);
    }
}
