//! Repositories of backups as users of restic write them: `rest:https://host/path`.
//!
//! Only text is read. What would send a password in the clear, or holds one, is refused.

use std::path::PathBuf;

use super::resolve::repository::{
    bucket, host, host_and_port, host_key, inside, is_private, url, user,
};
use super::scalar::absolute_path;

/// The port of SFTP.
const SSH_PORT: u16 = 22;

/// Where a repository lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultPlace {
    /// A folder of this host.
    Local(PathBuf),
    /// A server of restic's REST protocol.
    Rest {
        /// Its URL, without a slash at its end.
        url: String,
    },
    /// A folder of an SFTP server.
    Sftp {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
        /// Who to log in as.
        user: String,
        /// The folder.
        path: String,
    },
    /// A bucket of a service that speaks S3.
    S3 {
        /// The URL of the service.
        endpoint: String,
        /// The bucket.
        bucket: String,
        /// Where in it.
        prefix: Option<String>,
    },
}

impl VaultPlace {
    /// Whether what is logged in with stays on the host or is encrypted on its way.
    #[must_use]
    pub fn is_private(&self) -> bool {
        match self {
            Self::Local(_) | Self::Sftp { .. } => true,
            Self::Rest { url } => is_private(url),
            Self::S3 { endpoint, .. } => is_private(endpoint),
        }
    }
}

/// Reads a place: a path, or what restic calls it.
///
/// # Errors
/// A sentence that says what is wrong with it, and how to write it. No part of it that may be a password
/// is repeated.
pub fn vault_place(text: &str) -> Result<VaultPlace, String> {
    let Some((scheme, rest)) = text.split_once(':') else { return local(text) };
    match scheme {
        "local" => local(rest),
        "rest" => Ok(VaultPlace::Rest { url: url(rest)? }),
        "sftp" => sftp(rest),
        "s3" => s3(rest),
        "azure" | "b2" | "gs" | "rclone" | "swift" => Err(format!(
            "trueup does not reach repositories at `{scheme}:`: copy it to a folder of this host \
             (`restic copy`), and name that"
        )),
        "http" | "https" => Err("write `rest:` in front of the URL of a rest-server, `s3:` in \
                                 front of that of a bucket"
            .to_owned()),
        _ => local(text),
    }
}

fn local(text: &str) -> Result<VaultPlace, String> {
    if text.is_empty() {
        return Err("it names no folder".to_owned());
    }
    Ok(VaultPlace::Local(PathBuf::from(text)))
}

/// `user@host:/path`, or `//user@host:port//path`.
fn sftp(rest: &str) -> Result<VaultPlace, String> {
    let how = || {
        "write `sftp:USER@HOST:/PATH` or `sftp://USER@HOST:PORT//PATH`, with the whole path from \
         the server's root"
            .to_owned()
    };
    let (authority, path, port) = match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_once('/').ok_or_else(how)?;
            let (login, address) = authority.rsplit_once('@').ok_or_else(how)?;
            let (name, port) = host_and_port(address);
            let port = match port {
                None => SSH_PORT,
                Some(port) => port.parse().map_err(|_| how())?,
            };
            ((login, name), format!("/{}", path.trim_start_matches('/')), port)
        }
        None => {
            let (login, rest) = rest.split_once('@').ok_or_else(how)?;
            let (name, path) = match rest.find("]:") {
                Some(at) => (&rest[..=at], &rest[at + 2..]),
                None => rest.split_once(':').ok_or_else(how)?,
            };
            ((login, name), path.to_owned(), SSH_PORT)
        }
    };
    let (login, name) = authority;
    if !path.starts_with('/') {
        return Err(how());
    }
    Ok(VaultPlace::Sftp {
        host: host(name)?,
        port,
        user: user(login).map_err(|why| format!("{why}; {}", how()))?,
        path: absolute_path(&path)?,
    })
}

/// `https://host/bucket/prefix`, or the same without `https://`.
fn s3(rest: &str) -> Result<VaultPlace, String> {
    let how = || "write `s3:https://HOST/BUCKET/PREFIX`".to_owned();
    let (scheme, rest) = match rest.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => ("https", rest),
    };
    let (authority, rest) = rest.split_once('/').ok_or_else(how)?;
    let rest = rest.trim_end_matches('/');
    let (name, prefix) = match rest.split_once('/') {
        Some((name, prefix)) => (name, Some(inside(prefix)?)),
        None => (rest, None),
    };
    Ok(VaultPlace::S3 {
        endpoint: url(&format!("{scheme}://{authority}"))?,
        bucket: bucket(name).map_err(|why| format!("{why}; {}", how()))?,
        prefix,
    })
}

/// The keys of the server `name` at `port` in a text: lines of `ssh-keyscan` or of a file of known hosts
/// (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), or keys without a name in front. Those of other servers, and
/// hashed names, are left out.
///
/// # Errors
/// None is found, or a line holds no key.
pub fn host_keys(text: &str, name: &str, port: u16) -> Result<Vec<String>, String> {
    let called = if port == SSH_PORT { name.to_owned() } else { format!("[{name}]:{port}") };
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '@', '|']) {
            continue;
        }
        let key = match line.split_once(char::is_whitespace) {
            Some((names, rest)) if !names.starts_with("ssh-") && !names.starts_with("ecdsa-") => {
                if !names.split(',').any(|one| one == called) {
                    continue;
                }
                rest
            }
            _ => line,
        };
        keys.push(host_key(key).map_err(|why| format!("line {}: {why}", number + 1))?);
    }
    match keys.is_empty() {
        true => Err(format!(
            "no key of {called} is in it: `ssh-keyscan -p {port} {name}` shows them; compare them by \
             another way first"
        )),
        false => Ok(keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_users_of_restic_write_them() {
        let sftp = |host: &str, port, path: &str| VaultPlace::Sftp {
            host: host.into(),
            port,
            user: "me".into(),
            path: path.into(),
        };
        let s3 = |endpoint: &str, prefix: Option<&str>| VaultPlace::S3 {
            endpoint: endpoint.into(),
            bucket: "vault".into(),
            prefix: prefix.map(Into::into),
        };
        for (text, place) in [
            ("/mnt/vault", VaultPlace::Local("/mnt/vault".into())),
            ("vault:1", VaultPlace::Local("vault:1".into())),
            ("local:/mnt/vault", VaultPlace::Local("/mnt/vault".into())),
            ("rest:https://h/a/", VaultPlace::Rest { url: "https://h/a".into() }),
            ("sftp:me@h:/srv/a", sftp("h", 22, "/srv/a")),
            ("sftp:me@[::1]:/srv/a", sftp("[::1]", 22, "/srv/a")),
            ("sftp://me@h:2222//srv/a", sftp("h", 2222, "/srv/a")),
            ("sftp://me@h/srv/a", sftp("h", 22, "/srv/a")),
            ("s3:https://h:9000/vault/host1", s3("https://h:9000", Some("host1"))),
            ("s3:s3.example.org/vault/", s3("https://s3.example.org", None)),
        ] {
            assert_eq!(vault_place(text).as_ref(), Ok(&place), "{text}");
        }
        for bad in [
            "",
            "rest:h/a",
            "rest:https://me:canary@h/a",
            "sftp:me@h:a",
            "sftp:h:/a",
            "sftp://me:canary@h//a",
            "sftp://me@h:x//a",
            "s3:https://h",
            "s3:https://h/B",
            "b2:bucket:a",
            "https://h/a",
        ] {
            let why = vault_place(bad).expect_err(bad);
            assert!(!why.contains("canary"), "{why}");
        }
        assert!(!vault_place("rest:http://h/a").unwrap().is_private());
        assert!(vault_place("rest:http://localhost/a").unwrap().is_private());
    }

    #[test]
    fn only_the_keys_of_the_server_itself_are_taken() {
        const KEY: &str = "ssh-ed25519 \
            AAAAC3NzaC1lZDI1NTE5AAAAIFR7KAIoS6pYl4DisPVNBrGFJsF8/IZsTKTQPXZgWEqp";
        let keys = |text: &str, port| host_keys(text, "h", port);
        let text = format!("# h:22\nother {KEY}\nh,10.0.0.1 {KEY} me\n|1|x|y {KEY}\n");
        assert_eq!(keys(&text, 22).unwrap(), [KEY]);
        assert!(keys(&text, 2222).unwrap_err().contains("[h]:2222"));
        assert_eq!(keys(&format!("[h]:2222 {KEY}"), 2222).unwrap(), [KEY]);
        assert_eq!(keys(KEY, 2222).unwrap(), [KEY]);
        assert!(keys("h ssh-ed25519 AAAA", 22).unwrap_err().starts_with("line 1"));
    }
}
