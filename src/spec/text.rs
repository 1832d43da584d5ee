//! From bytes to the texts of single YAML documents, with the traps of bytes refused.
//!
//! It knows of YAML only the document marker: `---` at the start of a line ends a document wherever
//! it stands (YAML 1.2.2, 9.1.3), so that one broken document does not hide the others.

use super::diag::{ContentError, Spot};

/// Largest file, bytes: a hundred times what a person writes, and small enough to hold thousands.
pub(crate) const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Most documents of one file.
pub(crate) const DOCUMENTS_MAX: usize = 1_000;

/// The text of one document within its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// Its text, from its `---` if it has one.
    pub(crate) text: &'a str,
    /// Lines of the file above it.
    pub(crate) above: u32,
    /// Line of the file its first key stands on, from 1.
    pub(crate) first: u32,
}

/// Checks the bytes of a file and takes them as text.
pub(crate) fn decode(bytes: &[u8]) -> Result<&str, ContentError> {
    if bytes.len() > FILE_BYTES_MAX {
        let message =
            format!("the file has {} bytes; at most {FILE_BYTES_MAX} are read", bytes.len());
        return Err(ContentError::new("spec/file-too-large", Spot::default(), message)
            .hint("split it: any number of files is read"));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let good = std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default();
        ContentError::new("spec/not-utf8", spot_after(good), "the text is not UTF-8 from here on")
            .hint("save the file as UTF-8 without a byte order mark")
    })?;
    if text.starts_with('\u{feff}') {
        let spot = Spot { line: 1, column: 1, len: 1 };
        return Err(ContentError::new(
            "spec/byte-order-mark",
            spot,
            "a byte order mark opens the file",
        )
        .hint("save the file as UTF-8 without a byte order mark"));
    }
    if let Some(at) = text.find('\0') {
        return Err(ContentError::new(
            "spec/nul",
            spot_after(&text[..at]),
            "a NUL character stands in the text",
        )
        .hint("this is no text file, or it was damaged: write it anew"));
    }
    Ok(text)
}

/// The spot right after `text`.
fn spot_after(text: &str) -> Spot {
    let line = text.bytes().filter(|&b| b == b'\n').count();
    let last = text.rsplit('\n').next().unwrap_or_default();
    Spot {
        line: u32::try_from(line + 1).unwrap_or(u32::MAX),
        column: u32::try_from(last.chars().count() + 1).unwrap_or(u32::MAX),
        len: 1,
    }
}

/// Splits a file into its documents; those of nothing but comments are left out.
pub(crate) fn split(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut start, mut above, mut line, mut first) = (0, 0, 0, None);
    let mut at = 0;
    for raw in text.split_inclusive('\n') {
        if is_marker(raw) && (first.is_some() || at > start) {
            push(&mut parts, &text[start..at], above, first.take());
            (start, above) = (at, line);
        }
        line += 1;
        let content = raw.strip_prefix("---").unwrap_or(raw).trim();
        if first.is_none() && !content.is_empty() && !content.starts_with(['#', '%']) {
            first = Some(line);
        }
        at += raw.len();
    }
    push(&mut parts, &text[start..], above, first);
    parts
}

fn push<'a>(parts: &mut Vec<Part<'a>>, text: &'a str, above: u32, first: Option<u32>) {
    if let Some(first) = first {
        parts.push(Part { text, above, first });
    }
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<(u32, u32)> {
        split(text).iter().map(|p| (p.above, p.first)).collect()
    }

    #[test]
    fn splits_at_markers_and_drops_comments() {
        assert_eq!(places("a: 1\n---\nb: 2\n"), [(0, 1), (1, 3)]);
        assert_eq!(places("# only\n---\n# here\n\nb: 2"), [(1, 5)]);
        assert_eq!(places("---\na: 1\n---\n---\nb: 1"), [(0, 2), (3, 5)]);
        assert_eq!(places("a: |\n  ---\n  x\n"), [(0, 1)]);
        assert_eq!(places("--- {a: 1}\n"), [(0, 1)]);
        assert_eq!(places(""), []);
    }

    #[test]
    fn refuses_bytes_that_lie() {
        fn code(bytes: &[u8]) -> Result<&str, (&'static str, u32, u32)> {
            decode(bytes).map_err(|e| (e.code, e.spot.line, e.spot.column))
        }
        assert_eq!(code(b"a: 1\nb\0"), Err(("spec/nul", 2, 2)));
        assert_eq!(code(b"a: \xff"), Err(("spec/not-utf8", 1, 4)));
        assert_eq!(code(b"\xef\xbb\xbfa: 1"), Err(("spec/byte-order-mark", 1, 1)));
        assert_eq!(code(&vec![b' '; FILE_BYTES_MAX + 1]), Err(("spec/file-too-large", 0, 0)));
        assert_eq!(code(b"a: 1"), Ok("a: 1"));
    }
}
