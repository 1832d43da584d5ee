//! The host's own key for digests of Secrets: made once, and kept in the state directory for root alone.
//!
//! Whoever sees the log sees digests of what is applied. Without the key none of them tells whether a guess
//! at a Secret is right. Where the key is lost another one is made, and the releases with Secrets are
//! recorded once more.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use trueup_kubernetes::release::DigestKey;

use crate::private;

/// Its file in the state directory.
const FILE: &str = "digest.key";

/// The key, made where there is none yet.
///
/// # Errors
/// It cannot be read or made, or is not whole.
pub(super) fn digest_key(state: &Path) -> io::Result<DigestKey> {
    let path = state.join(FILE);
    let named =
        |error: &io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match fs::read(&path) {
        Ok(bytes) => {
            let own = bytes.as_slice().try_into().map_err(|_| {
                let words = format!(
                    "it has {} bytes and not {}: remove it, and another key is made",
                    bytes.len(),
                    DigestKey::BYTES
                );
                named(&io::Error::other(words))
            })?;
            return Ok(DigestKey::new(own));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(named(&error)),
    }
    let bytes = private::random::<{ DigestKey::BYTES }>()?;
    // Nobody but its owner may read what tempfile makes.
    let mut new = tempfile::NamedTempFile::new_in(state).map_err(|error| named(&error))?;
    new.write_all(&bytes)?;
    new.as_file().sync_all()?;
    new.persist_noclobber(&path).map_err(|error| named(&error.error))?;
    fs::File::open(state)?.sync_all()?;
    Ok(DigestKey::new(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let state = tempfile::tempdir().unwrap();
        let first = digest_key(state.path()).unwrap();
        assert!(first == digest_key(state.path()).unwrap());
        let path = state.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(&path).unwrap();
        assert!(first != digest_key(state.path()).unwrap());
        fs::write(&path, "half").unwrap();
        let error = digest_key(state.path()).unwrap_err().to_string();
        assert!(error.contains("digest.key: it has 4 bytes"), "{error}");
    }
}
