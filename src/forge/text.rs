//! Texts made to fit where they go: paths, and what the forge limits.
//!
//! It never cuts within a character.

use crate::port::forge::Annotation;

/// `text` as one segment of a path or one value of a query.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// At most `max` bytes of `text`, with a sign where it was cut.
pub(super) fn fit(text: &str, max: usize) -> String {
    const SIGN: &str = "…";
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub(SIGN.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{SIGN}", &text[..end])
}

/// An annotation's heading as it is sent.
pub(super) fn heading(text: &str) -> String {
    text.chars().take(Annotation::TITLE_CHARS_MAX).collect()
}

/// The number at the end of an address like `…/issues/12`.
pub(super) fn number_at_end(url: &str) -> Option<u64> {
    url.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_a_path_cannot_leave_it() {
        assert_eq!(encode("trueup[bot]"), "trueup%5Bbot%5D");
        assert_eq!(encode("../a?b=c&d#é"), "..%2Fa%3Fb%3Dc%26d%23%C3%A9");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "…");
        assert_eq!(fit("üüüü", 7), "üü…");
        assert_eq!(fit("üüüü", 6), "ü…");
    }
}
