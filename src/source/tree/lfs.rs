//! Knows a Git LFS pointer when it sees one.
//!
//! It never fetches what the pointer stands for.

/// A pointer must be shorter than this (git-lfs, docs/spec.md, "The Pointer").
pub(crate) const POINTER_BYTES_MAX: u64 = 1_024;
/// Longer pointers exist only with extensions, which hardly anybody has; [`super::super::Mirror`]
/// refuses those when the blob is read. Up to here blobs are looked into while listing.
pub(crate) const LISTED_BYTES_MAX: u64 = 256;
/// A version line, an oid line and a size line have at least this many bytes.
pub(crate) const POINTER_BYTES_MIN: u64 = 100;

/// Whether the content is a pointer in place of the file.
pub(crate) fn is_pointer(content: &[u8]) -> bool {
    const VERSIONS: [&[u8]; 2] = [
        b"version https://git-lfs.github.com/spec/v1\n",
        b"version https://hawser.github.com/spec/v1\n",
    ];
    (content.len() as u64) < POINTER_BYTES_MAX
        && VERSIONS.iter().any(|version| content.starts_with(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_told_from_a_file_about_pointers() {
        let pointer = "version https://git-lfs.github.com/spec/v1\n\
                       oid sha256:0000000000000000000000000000000000000000000000000000000000000000\n\
                       size 12345\n";
        assert!(is_pointer(pointer.as_bytes()));
        assert!((POINTER_BYTES_MIN..LISTED_BYTES_MAX).contains(&(pointer.len() as u64)));
        assert!(!is_pointer(format!("# {pointer}").as_bytes()));
        assert!(!is_pointer(format!("{pointer}{}", "x".repeat(2_000)).as_bytes()));
    }
}
