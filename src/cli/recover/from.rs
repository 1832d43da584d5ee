//! Where the repository is that a machine comes back from, as the command line says it.
//!
//! No secret is an argument: what is logged in with is in files.

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::exit::CliError;
use super::super::wire;
use crate::provider::backup::Vault;
use crate::provider::backup::protocol::Target;
use crate::spec::{VaultPlace, host_keys, vault_place};

/// What a server is logged in to with, and known by.
#[derive(Debug, Args)]
pub(super) struct Login {
    /// Of `rest:` and `s3:`: a file that only you may read, with `user:password`, or `access key
    /// id:secret access key`
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
    /// Of `sftp:`: the SSH key to log in with, without a passphrase
    #[arg(long, value_name = "FILE")]
    identity_file: Option<PathBuf>,
    /// Of `sftp:`: the keys of the server, as `ssh-keyscan` prints them
    #[arg(long, value_name = "FILE")]
    host_keys_file: Option<PathBuf>,
    /// Of `rest:` and `s3:`: certificates (PEM) to trust
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Of `s3:`: the region
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
}

/// The repository at `from`. `scratch`: a private folder.
pub(super) fn vault(
    from: &str,
    login: &Login,
    password_file: &Path,
    scratch: &Path,
) -> Result<Vault, CliError> {
    let place = vault_place(from).map_err(|why| CliError::input(format!("--from: {why}")))?;
    let (target, at) = login.target(place).map_err(CliError::input)?;
    wire::vault(target, at, password_file, scratch).map_err(|why| {
        CliError::input(why).hint("chmod 600 it, with the password alone in its first line")
    })
}

impl Login {
    /// What the engine is told, and the place for people.
    fn target(&self, place: VaultPlace) -> Result<(Target, String), String> {
        self.fits(&place)?;
        let file = |path: &Option<PathBuf>| -> Result<Option<PathBuf>, String> {
            let Some(path) = path else { return Ok(None) };
            std::path::absolute(path).map(Some).map_err(|e| format!("{}: {e}", path.display()))
        };
        if self.credentials_file.is_some() && !place.is_private() {
            return Err(
                "the credentials would go over the network unencrypted: use `https://`".to_owned()
            );
        }
        let (credentials, ca) = (file(&self.credentials_file)?, file(&self.ca)?);
        Ok(match place {
            VaultPlace::Local(path) => {
                let path = std::path::absolute(&path).map_err(|error| error.to_string())?;
                let at = path.display().to_string();
                (Target::Local { path }, at)
            }
            VaultPlace::Rest { url } => {
                let at = format!("rest:{url}");
                (Target::Rest { url, credentials, ca }, at)
            }
            VaultPlace::Sftp { host, port, user, path } => {
                let at = format!("sftp://{user}@{host}:{port}/{path}");
                let identity = file(&self.identity_file)?.ok_or(
                    "name the SSH key that logs in there with --identity-file FILE; the password \
                     of a user is not asked for",
                )?;
                let keys = self.host_keys_file.as_ref().ok_or_else(|| {
                    format!(
                        "without its key, anybody could be {host}: put what `ssh-keyscan -p {port} \
                         {host}` shows into a file, compare it by another way, and name it with \
                         --host-keys-file FILE"
                    )
                })?;
                let named = |why: String| format!("{}: {why}", keys.display());
                let text = std::fs::read_to_string(keys).map_err(|e| named(e.to_string()))?;
                let host_keys = host_keys(&text, &host, port).map_err(named)?;
                let port = Some(port);
                (Target::Sftp { host, port, user, path, identity, host_keys }, at)
            }
            VaultPlace::S3 { endpoint, bucket, prefix } => {
                let inside = prefix.iter().map(|prefix| format!("/{prefix}")).collect::<String>();
                let at = format!("s3:{endpoint}/{bucket}{inside}");
                let credentials = credentials.ok_or(
                    "name a file with `access key id:secret access key` with --credentials-file \
                     FILE",
                )?;
                let region = self.region.clone();
                (Target::S3 { endpoint, region, bucket, prefix, credentials, ca }, at)
            }
        })
    }

    /// That nothing is said that says nothing about this place.
    fn fits(&self, place: &VaultPlace) -> Result<(), String> {
        let (rest, sftp, s3) = match place {
            VaultPlace::Local(_) => (false, false, false),
            VaultPlace::Rest { .. } => (true, false, false),
            VaultPlace::Sftp { .. } => (false, true, false),
            VaultPlace::S3 { .. } => (false, false, true),
        };
        let given = [
            ("--credentials-file", self.credentials_file.is_some(), rest || s3, "`rest:` or `s3:`"),
            ("--identity-file", self.identity_file.is_some(), sftp, "`sftp:`"),
            ("--host-keys-file", self.host_keys_file.is_some(), sftp, "`sftp:`"),
            ("--ca", self.ca.is_some(), rest || s3, "`rest:` or `s3:`"),
            ("--region", self.region.is_some(), s3, "`s3:`"),
        ];
        match given.iter().find(|(_, given, fits, _)| *given && !fits) {
            Some((flag, _, _, of)) => {
                Err(format!("{flag} is about a repository at {of}, which --from does not name"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login {
            credentials_file: None,
            identity_file: None,
            host_keys_file: None,
            ca: None,
            region: None,
        }
    }

    fn target(from: &str, login: &Login) -> Result<(Target, String), String> {
        login.target(vault_place(from)?)
    }

    #[test]
    fn what_is_needed_is_asked_for_and_what_is_of_no_use_is_refused() {
        let (_, at) = target("/mnt/vault", &login()).unwrap();
        assert_eq!(at, "/mnt/vault");
        let (_, at) = target("rest:https://h/a/", &login()).unwrap();
        assert_eq!(at, "rest:https://h/a");
        for (from, missing) in
            [("sftp:me@h:/a", "--identity-file"), ("s3:https://h/bucket", "--credentials-file")]
        {
            let why = target(from, &login()).unwrap_err();
            assert!(why.contains(missing), "{why}");
        }
        let file = || Some(PathBuf::from("/file"));
        let keyed = Login { identity_file: file(), ..login() };
        assert!(target("sftp:me@h:/a", &keyed).unwrap_err().contains("ssh-keyscan"));
        assert!(target("/mnt/vault", &keyed).unwrap_err().contains("is about a repository at"));
        let known = Login { credentials_file: file(), ..login() };
        assert!(target("rest:http://h/a", &known).unwrap_err().contains("unencrypted"));
        assert!(target("rest:http://127.0.0.1:8000/a", &known).is_ok());
        let (target, at) = target("s3:h/bucket/a", &known).unwrap();
        assert_eq!(at, "s3:https://h/bucket/a");
        assert!(matches!(target, Target::S3 { prefix: Some(_), .. }));
    }
}
