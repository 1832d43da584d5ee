//! Reading a login from where the settings say, anew for each use.
//!
//! It never shows what it read, and never reads a file that every user of the machine may read.

use std::path::Path;
use std::sync::Arc;

use trueup_github::{Secret, SecretSource};

use crate::config::SecretSettings;
use crate::private;

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
        (None, Some(name), _) => {
            let path = private::credential(name).map_err(|fault| fault.to_string())?;
            read_file(&path)?
        }
        (None, None, Some(name)) => std::env::var(name)
            .map_err(|_| format!("the environment variable {name} is not set, or is no text"))?,
        (None, None, None) => return Err("no place is named".to_owned()),
    };
    let text = text.trim();
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn read_file(path: &Path) -> Result<String, String> {
    private::read(path).map_err(|fault| format!("{}: {fault}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

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
