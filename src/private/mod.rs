//! What only root may know: tokens and keys, read from a file or from a credential of systemd, and kept in
//! files.
//!
//! It never shows what it read, and never reads a file that every user of the machine may read.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
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

/// Keeps a secret in a file for its owner alone: whole or not at all, and durable before this returns. The
/// folder is there.
///
/// # Errors
/// It cannot be written.
pub fn keep(path: &Path, secret: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    // One that a crash left may have any mode, which it would keep.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut made = File::options().create_new(true).write(true).mode(0o600).open(&new)?;
    made.write_all(secret)?;
    made.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Random bytes of the kernel, good for keys.
///
/// # Errors
/// They cannot be read.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
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
    fn what_is_kept_is_its_owners_alone_whatever_a_crash_left() {
        let folder = tempfile::tempdir().unwrap();
        let (path, left) = (folder.path().join("munge.key"), folder.path().join("munge.new"));
        std::fs::write(&left, "half").unwrap();
        std::fs::set_permissions(&left, std::fs::Permissions::from_mode(0o666)).unwrap();
        for secret in ["first", "second"] {
            keep(&path, secret.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), secret);
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!((mode & 0o777, left.exists()), (0o600, false));
        }
        assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
    }

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
