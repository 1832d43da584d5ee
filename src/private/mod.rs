//! Reading what only root may know: tokens and keys, from a file or from a credential of systemd.
//!
//! It never shows what it read, and never reads a file that every user of the machine may read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Largest token or key, in bytes: a wrong path must not pull a large file into memory.
pub const PRIVATE_BYTES_MAX: u64 = 16 << 10;

/// Why a file or credential is not read. Its path is for the caller to name.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFault {
    /// It cannot be read, or is no text.
    #[error("{}", .0.kind())]
    Unreadable(io::Error),
    /// Others may read it.
    #[error("every user of this machine may read it; chmod o= it")]
    Open,
    /// It is no token and no key.
    #[error("it is larger than {PRIVATE_BYTES_MAX} bytes")]
    TooLarge,
    /// The name of a credential leads elsewhere.
    #[error("the name of a credential must be a plain file name")]
    Name,
    /// systemd gave the program no credentials.
    #[error("CREDENTIALS_DIRECTORY is not set: add LoadCredential= to the unit")]
    NoCredentials,
}

/// The text of a file that not every user may read.
///
/// # Errors
/// A [`PrivateFault`].
pub fn read(path: &Path) -> Result<String, PrivateFault> {
    let file = File::open(path).map_err(PrivateFault::Unreadable)?;
    let metadata = file.metadata().map_err(PrivateFault::Unreadable)?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(PrivateFault::Open);
    }
    let mut text = String::new();
    let mut limited = file.take(PRIVATE_BYTES_MAX + 1);
    limited.read_to_string(&mut text).map_err(PrivateFault::Unreadable)?;
    if text.len() as u64 > PRIVATE_BYTES_MAX {
        return Err(PrivateFault::TooLarge);
    }
    Ok(text)
}

/// Where systemd puts the credential `name` (systemd.exec, `LoadCredential=`).
///
/// # Errors
/// A [`PrivateFault`].
pub fn credential(name: &str) -> Result<PathBuf, PrivateFault> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(PrivateFault::Name);
    }
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(PrivateFault::NoCredentials)?;
    Ok(PathBuf::from(folder).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_when_it_is_private_and_small() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read_as = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read(&path)
        };
        assert_eq!(read_as("canary\n", 0o640).unwrap(), "canary\n");
        let open = read_as("canary", 0o644).unwrap_err().to_string();
        assert!(open.contains("chmod") && !open.contains("canary"), "{open}");
        let large = "x".repeat(PRIVATE_BYTES_MAX as usize + 1);
        assert!(matches!(read_as(&large, 0o600), Err(PrivateFault::TooLarge)));
        assert!(matches!(read(&folder.path().join("none")), Err(PrivateFault::Unreadable(_))));
        assert!(matches!(credential("../etc/shadow"), Err(PrivateFault::Name)));
    }
}
