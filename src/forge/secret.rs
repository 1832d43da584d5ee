//! Reading a login from where the settings say, anew for each use.
//!
//! It never shows what it read, and never reads a file that every user of the machine may read.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trueup_github::{Secret, SecretSource};

use crate::config::SecretSettings;

/// Largest token or key, in bytes: a wrong path must not pull a large file into memory.
const SECRET_BYTES_MAX: u64 = 16 << 10;

/// The place a secret is read from; `field` names the setting in errors.
pub(super) fn source(field: &'static str, settings: &SecretSettings) -> SecretSource {
    let settings = settings.clone();
    Arc::new(move || {
        read(&settings).map(Secret::new).map_err(|why| format!("{field} cannot be used: {why}"))
    })
}

fn read(settings: &SecretSettings) -> Result<String, String> {
    let text = match (&settings.file, &settings.credential, &settings.env) {
        (Some(path), _, _) => read_file(path)?,
        (None, Some(name), _) => read_file(&credential(name)?)?,
        (None, None, Some(name)) => std::env::var(name)
            .map_err(|_| format!("the environment variable {name} is not set, or is no text"))?,
        (None, None, None) => return Err("no place is named".to_owned()),
    };
    let text = text.trim();
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn credential(name: &str) -> Result<PathBuf, String> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err("the name of a credential must be a plain file name".to_owned());
    }
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
        .ok_or("CREDENTIALS_DIRECTORY is not set: add LoadCredential= to the unit")?;
    Ok(PathBuf::from(directory).join(name))
}

fn read_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("{shown}: {}", error.kind());
    let file = fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(format!("{shown}: every user of this machine may read it; chmod o= it"));
    }
    let mut text = String::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("{shown}: it is larger than {SECRET_BYTES_MAX} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_and_only_when_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let settings = SecretSettings { file: Some(path.clone()), ..SecretSettings::default() };
        let read = source("forge.token", &settings);
        let set = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(read().unwrap_err().contains("forge.token"));
        set("canary-1\n", 0o600);
        assert_eq!(read().unwrap().reveal(), "canary-1");
        set("canary-2\n", 0o640);
        assert_eq!(read().unwrap().reveal(), "canary-2");
        set("canary-3\n", 0o644);
        let error = read().unwrap_err();
        assert!(error.contains("chmod") && !error.contains("canary"), "{error}");
        set(" \n", 0o600);
        assert!(read().unwrap_err().contains("empty"));
    }
}
