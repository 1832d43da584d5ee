//! Names inside a tree: their order, which are refused, and how they are shown.
//!
//! Pure: bytes in, answers out. It repairs nothing.

use gix::bstr::BStr;

/// Git's order: as if every directory's name ended with a slash.
pub(super) fn ascending(last: (&BStr, bool), next: (&BStr, bool)) -> bool {
    fn key((name, tree): (&BStr, bool)) -> impl Iterator<Item = &u8> {
        name.iter().chain(tree.then_some(&b'/'))
    }
    last.0 != next.0 && key(last).lt(key(next))
}

/// What is wrong with one component of a path, if anything.
pub(super) fn unsafe_name(name: &str) -> Option<&'static str> {
    let plain = name.to_ascii_lowercase();
    if name.is_empty() || name == "." || name == ".." {
        Some("it is not a name")
    } else if plain == ".git" || plain == "git~1" {
        Some("it is a name of Git's own")
    } else if name.contains('/') || name.contains('\\') {
        Some("its name has a slash or backslash in it")
    } else if name.chars().any(char::is_control) {
        Some("its name has a control character in it")
    } else {
        None
    }
}

/// A name for people, with what is not UTF-8 or not printable escaped.
pub(super) fn escaped(name: &BStr) -> String {
    let mut text = String::new();
    for part in name.utf8_chunks() {
        text.extend(part.valid().chars().flat_map(|c| {
            let control = c.is_control();
            let plain = (!control).then_some(c);
            plain.into_iter().chain(c.escape_default().take(if control { 10 } else { 0 }))
        }));
        for byte in part.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use gix::bstr::ByteSlice;

    #[test]
    fn names_that_lead_out_are_unsafe() {
        for bad in ["", ".", "..", ".git", ".GIT", "git~1", "a/b", "a\\b", "a\nb", "a\u{1b}[2J"] {
            assert!(unsafe_name(bad).is_some(), "{bad:?}");
        }
        for good in ["a", "..a", ".gitkeep", "ä.yaml", "a b", "web-1.yaml"] {
            assert!(unsafe_name(good).is_none(), "{good:?}");
        }
    }

    #[test]
    fn order_is_that_of_paths() {
        let file = |name: &'static str| (name.into(), false);
        let folder = |name: &'static str| (name.into(), true);
        assert!(ascending(file("a-b"), folder("a")), "a-b comes before a/");
        assert!(!ascending(folder("a"), file("a-b")));
        assert!(!ascending(file("a"), folder("a")), "a name may be there once");
        assert!(ascending(file("a"), file("b")));
    }

    #[test]
    fn bytes_outside_utf8_can_be_read_by_people() {
        assert_eq!(escaped(b"w\xffb\n.yaml".as_bstr()), "w\\xffb\\n.yaml");
    }
}
