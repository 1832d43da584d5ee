//! What rclone is told of a place: never by its arguments, which everybody on the host may read.
//!
//! A remote is described by variables of rclone's own environment (rclone's "Config file" and
//! "Environment variables"), which only its owner may read. No file of rclone's is read or written.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::private_line;
use crate::protocol::{Fault, Target};
use crate::seal;

/// What the remote is called in rclone's environment.
const NAME: &str = "trueup";

/// A place that rclone reaches.
#[derive(Debug, Default)]
pub(super) struct Remote {
    /// The place, for people.
    pub(super) at: String,
    /// rclone's name of it.
    pub(super) name: String,
    /// More of rclone's arguments; no secret.
    pub(super) options: Vec<OsString>,
    /// rclone's environment.
    pub(super) environment: Vec<(String, OsString)>,
    /// What must be in nothing that is said.
    pub(super) secrets: Vec<String>,
}

impl Remote {
    /// The place of a target that is spelt out.
    pub(super) fn of(target: &Target, state: &Path) -> Result<Self, Fault> {
        let mut remote = Remote {
            // Whatever rclone is configured with on this host is for others.
            options: vec!["--config".into(), "".into()],
            ..Remote::default()
        };
        match target {
            Target::Sftp { host, port, user, path, identity, host_keys } => {
                let port = port.unwrap_or(22);
                remote.at = format!("sftp://{user}@{host}:{port}{path}");
                remote.name = format!("{NAME}:{path}");
                private(identity)?;
                let known = known_hosts(state, host, port, host_keys)?;
                remote.set("type", "sftp");
                remote.set("host", host);
                remote.set("port", port.to_string());
                remote.set("user", user);
                remote.set("key_file", identity);
                remote.set("known_hosts_file", known);
                // Nothing but SFTP is spoken: no command is run there.
                remote.set("shell_type", "none");
                remote.set("disable_hashcheck", "true");
                remote.set("set_modtime", "false");
            }
            Target::S3 { endpoint, region, bucket, prefix, credentials, ca } => {
                let inside = prefix.as_deref().unwrap_or_default().trim_matches('/');
                let inside = format!("{bucket}/{inside}");
                let inside = inside.trim_end_matches('/');
                remote.at = format!("s3:{}/{inside}", endpoint.trim_end_matches('/'));
                remote.name = format!("{NAME}:{inside}");
                let from = credentials.display().to_string();
                let unreadable = |why| Fault::KeyUnreadable { from: from.clone(), why };
                let line = private_line(credentials).map_err(unreadable)?;
                let (id, secret) = line.split_once(':').ok_or_else(|| {
                    unreadable("it is not `access key id:secret access key`".into())
                })?;
                remote.secrets = vec![secret.to_owned()];
                remote.set("type", "s3");
                remote.set("provider", "Other");
                remote.set("env_auth", "false");
                remote.set("endpoint", endpoint);
                remote.set("access_key_id", id);
                remote.set("secret_access_key", secret);
                remote.set("no_check_bucket", "true");
                if let Some(region) = region {
                    remote.set("region", region);
                }
                if let Some(ca) = ca {
                    remote.options.extend(["--ca-cert".into(), ca.as_os_str().to_owned()]);
                }
            }
            Target::Local { .. } | Target::Rest { .. } | Target::Rclone { .. } => {
                let what = "it is not reached by a remote of its own".to_owned();
                return Err(Fault::Invalid { what });
            }
        }
        Ok(remote)
    }

    fn set(&mut self, option: &str, value: impl Into<OsString>) {
        let name = format!("RCLONE_CONFIG_{}_{}", NAME.to_uppercase(), option.to_uppercase());
        self.environment.push((name, value.into()));
    }
}

/// That a key is there, and its owner's alone.
fn private(key: &Path) -> Result<(), Fault> {
    let from = key.display().to_string();
    let unreadable = |why: String| Fault::KeyUnreadable { from: from.clone(), why };
    let meta = fs::metadata(key).map_err(|error| unreadable(error.to_string()))?;
    match meta.mode() & 0o077 {
        0 => Ok(()),
        _ => Err(unreadable("others than its owner may read it: `chmod 600` it".into())),
    }
}

/// A file of known hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT") with the keys of one server.
fn known_hosts(state: &Path, host: &str, port: u16, keys: &[String]) -> Result<PathBuf, Fault> {
    let name = match port {
        22 => host.to_owned(),
        port => format!("[{host}]:{port}"),
    };
    let plain = |key: &String| key.lines().count() == 1;
    if keys.is_empty() || !keys.iter().all(plain) {
        return Err(Fault::Invalid { what: format!("no key of the host {host} is known") });
    }
    let text: String = keys.iter().map(|key| format!("{name} {key}\n")).collect();
    // By its content: jobs side by side write the same.
    let digest = seal::digest(text.as_bytes());
    let path = state.join(format!("known-hosts-{}", digest.get(..16).unwrap_or(&digest)));
    let fresh = path.with_extension(std::process::id().to_string());
    let mut options = OpenOptions::new();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(state);
    let written = made
        .and_then(|()| options.write(true).create(true).truncate(true).mode(0o600).open(&fresh))
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&fresh, &path));
    match written {
        Ok(()) => Ok(path),
        Err(error) => Err(Fault::Unwritable { path, why: error.to_string() }),
    }
}
