//! Where the repository of a `Backup` lies, to its canonical form.
//!
//! Secrets are named and never held; a place that would send them in the clear is refused.

use std::net::IpAddr;

use ssh_key::PublicKey;

use super::super::kinds::backup::{
    BackupRepositorySpec, BackupRestSpec, BackupS3Spec, BackupSftpSpec,
};
use super::super::scalar;
use super::Cx;
use crate::model::Name;
use crate::model::resource::BackupRemote;

/// Fewest digits that name a repository: as many as restic shows.
const ID_DIGITS_MIN: usize = 8;
/// Longest URL, user, region and prefix, bytes: a person writes far less.
const TEXT_MAX: usize = 1024;

/// A place.
pub(super) struct Place {
    /// It as restic names it; a folder of the host by its path.
    pub(super) location: String,
    /// How it is reached where it is not a folder of the host.
    pub(super) remote: Option<BackupRemote>,
    /// The id that it has to have, or the start of it.
    pub(super) id: Option<String>,
}

pub(super) fn resolve(cx: &mut Cx<'_>, spec: &BackupRepositorySpec) -> Option<Place> {
    let id = match &spec.id {
        None => Some(None),
        Some(id) => known_id(cx, id).map(Some),
    };
    let place = match (&spec.local, &spec.rest, &spec.sftp, &spec.s3) {
        (Some(path), None, None, None) => {
            let path = cx.check("/spec/repository/local", scalar::absolute_path(path))?;
            (path, None)
        }
        (None, Some(rest), None, None) => remote(self::rest(cx, rest)?),
        (None, None, Some(sftp), None) => remote(self::sftp(cx, sftp)?),
        (None, None, None, Some(s3)) => remote(self::s3(cx, s3)?),
        (None, None, None, None) => return wrong(cx, "it is not said where the repository lies"),
        _ => return wrong(cx, "several places are given, and a repository has one"),
    };
    let (location, remote) = place;
    Some(Place { location, remote, id: id? })
}

fn wrong(cx: &mut Cx<'_>, message: &str) -> Option<Place> {
    cx.err("spec/wrong-value", "/spec/repository", message)
        .hint("give one of `local`, `rest`, `sftp` and `s3`");
    None
}

fn remote(remote: BackupRemote) -> (String, Option<BackupRemote>) {
    (remote.location(), Some(remote))
}

/// A repository's id, or enough of its start.
fn known_id(cx: &mut Cx<'_>, id: &str) -> Option<String> {
    let digits = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if !(ID_DIGITS_MIN..=64).contains(&id.len()) || !id.chars().all(digits) {
        let message = "it is not the start of a repository's id: write 8 to 64 hexadecimal digits";
        cx.err("spec/wrong-value", "/spec/repository/id", message)
            .hint("`restic cat config` shows it, and so does the refusal of trueup");
        return None;
    }
    Some(id.to_owned())
}

fn rest(cx: &mut Cx<'_>, spec: &BackupRestSpec) -> Option<BackupRemote> {
    let at = "/spec/repository/rest";
    let url = cx.check(format!("{at}/url"), url(&spec.url));
    let credentials = spec.credentials.as_ref().map(|name| secret(cx, at, "credentials", name));
    let ca = spec.ca.as_ref().map(|path| file(cx, at, path));
    let url = url?;
    if credentials.is_some() && !is_private(&url) {
        let message = "the credentials would go over the network unencrypted";
        cx.err("spec/conflict", format!("{at}/url"), message).hint("use `https://`");
        return None;
    }
    Some(BackupRemote::Rest { url, credentials: optional(credentials)?, ca: optional(ca)? })
}

fn sftp(cx: &mut Cx<'_>, spec: &BackupSftpSpec) -> Option<BackupRemote> {
    let at = "/spec/repository/sftp";
    let host = cx.check(format!("{at}/host"), host(&spec.host));
    let user = cx.check(format!("{at}/user"), user(&spec.user));
    let path = cx.check(format!("{at}/path"), scalar::absolute_path(&spec.path));
    let identity = secret(cx, at, "identity", &spec.identity);
    if spec.host_keys.is_empty() {
        cx.err("spec/wrong-value", format!("{at}/hostKeys"), "no key of the server is given")
            .hint("without one, anybody could be the server: `ssh-keyscan HOST` shows them");
    }
    let keys = spec.host_keys.iter().enumerate();
    let keys: Vec<_> =
        keys.map(|(n, text)| cx.check(format!("{at}/hostKeys/{n}"), host_key(text))).collect();
    let host_keys = keys.into_iter().collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty())?;
    let (host, user, path, port) = (host?, user?, path?, spec.port.unwrap_or(22));
    Some(BackupRemote::Sftp { host, port, user, path, identity: identity?, host_keys })
}

fn s3(cx: &mut Cx<'_>, spec: &BackupS3Spec) -> Option<BackupRemote> {
    let at = "/spec/repository/s3";
    let endpoint = cx.check(format!("{at}/endpoint"), url(&spec.endpoint));
    let line = |text: &str| scalar::line(text, TEXT_MAX);
    let region = spec.region.as_deref().map(|text| cx.check(format!("{at}/region"), line(text)));
    let region = optional(region);
    let bucket = cx.check(format!("{at}/bucket"), bucket(&spec.bucket));
    let prefix = spec.prefix.as_deref().map(|text| cx.check(format!("{at}/prefix"), inside(text)));
    let prefix = optional(prefix);
    let credentials = secret(cx, at, "credentials", &spec.credentials);
    let ca = optional(spec.ca.as_ref().map(|path| file(cx, at, path)));
    let (endpoint, region, bucket) = (endpoint?, region?, bucket?);
    let (prefix, credentials, ca) = (prefix?, credentials?, ca?);
    Some(BackupRemote::S3 { endpoint, region, bucket, prefix, credentials, ca })
}

/// What was given and is right, or was not given; `None` where it is wrong.
fn optional<T>(given: Option<Option<T>>) -> Option<Option<T>> {
    given.map_or(Some(None), |given| given.map(Some))
}

fn secret(cx: &mut Cx<'_>, at: &str, field: &str, name: &str) -> Option<Name> {
    cx.check(format!("{at}/{field}"), Name::new(name).map_err(|error| error.to_string()))
}

fn file(cx: &mut Cx<'_>, at: &str, path: &str) -> Option<String> {
    cx.check(format!("{at}/ca"), scalar::absolute_path(path))
}

/// A URL of a server: a scheme, a host, perhaps a port and a path; nothing that may hold a secret.
pub(in crate::spec) fn url(text: &str) -> Result<String, String> {
    let bad = |why: &str| Err(format!("it is no URL of a server: {why}"));
    let Some((scheme @ ("http" | "https"), rest)) = text.split_once("://") else {
        return bad("start with `https://`");
    };
    let plain = |c: char| c.is_ascii_graphic();
    if text.len() > TEXT_MAX || !text.chars().all(plain) {
        return bad("leave out spaces and what is not ASCII");
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return bad("user and password do not belong in it; name a secret in `credentials`");
    }
    if text.contains(['?', '#']) {
        return bad("leave out `?` and `#`");
    }
    let (name, port) = host_and_port(authority);
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return bad("its port is no number");
    }
    host(name)?;
    let path = path.trim_end_matches('/');
    let slash = if path.is_empty() { "" } else { "/" };
    Ok(format!("{scheme}://{authority}{slash}{path}"))
}

/// The host of an authority, and its port as it is written.
pub(in crate::spec) fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Whether nobody reads along: it is encrypted, or stays on the host.
pub(in crate::spec) fn is_private(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, _) = host_and_port(authority);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    scheme == "https" || host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A name in the DNS or an address.
pub(in crate::spec) fn host(text: &str) -> Result<String, String> {
    let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let named = !text.is_empty()
        && text.len() <= scalar::DNS_NAME_MAX
        && text.chars().all(name)
        && !text.starts_with(['-', '.']);
    match named || address.parse::<IpAddr>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err(format!("`{}` is no host's name or address", text.escape_debug())),
    }
}

/// A user of a server.
pub(in crate::spec) fn user(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match !text.is_empty() && text.len() <= TEXT_MAX && text.chars().all(good) {
        true => Ok(text.to_owned()),
        false => Err("it is no user's name".to_owned()),
    }
}

/// A bucket of a service that speaks S3.
pub(in crate::spec) fn bucket(text: &str) -> Result<String, String> {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = (3..=63).contains(&text.len())
        && text.chars().all(|c| edge(c) || c == '.' || c == '-')
        && text.starts_with(edge)
        && text.ends_with(edge);
    if good { Ok(text.to_owned()) } else { Err("it is no bucket's name".to_owned()) }
}

/// Where in a bucket: names with single slashes between them.
pub(in crate::spec) fn inside(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let names = || text.split('/').all(|name| !name.is_empty() && name != "." && name != "..");
    match !text.is_empty() && text.len() <= TEXT_MAX && text.chars().all(good) && names() {
        true => Ok(text.to_owned()),
        false => Err("it is no place in a bucket: write names with `/` between them".to_owned()),
    }
}

/// A key of a server, without its comment.
pub(in crate::spec) fn host_key(text: &str) -> Result<String, String> {
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    let plain = words.join(" ");
    match PublicKey::from_openssh(&plain) {
        Ok(_) => Ok(plain),
        Err(error) => Err(format!(
            "it is no public key ({error}): write its type and the key, `ssh-ed25519 AAAA…`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_plain() {
        for (given, read) in [
            ("https://backup.example/host1/", "https://backup.example/host1"),
            ("https://backup.example", "https://backup.example"),
            ("http://[::1]:8000/a", "http://[::1]:8000/a"),
        ] {
            assert_eq!(url(given).unwrap(), read);
        }
        for bad in [
            "ftp://x",
            "https://",
            "https://u:p@x/",
            "https://x?key=1",
            "https://x y",
            "https://x:y",
        ] {
            let why = url(bad).unwrap_err();
            assert!(!why.contains("u:p"), "{why}");
        }
    }

    #[test]
    fn credentials_stay_on_the_host_or_are_encrypted() {
        for url in ["https://x/a", "http://localhost/a", "http://127.0.0.1:80", "http://[::1]:80/a"]
        {
            assert!(is_private(url), "{url}");
        }
        for url in ["http://backup.example/a", "http://10.0.0.1/a", "http://localhost.example"] {
            assert!(!is_private(url), "{url}");
        }
    }

    #[test]
    fn places_in_a_bucket_are_names() {
        assert!(inside("hosts/host1").is_ok());
        for bad in ["", "/a", "a/", "a//b", "../a", "a b"] {
            assert!(inside(bad).is_err(), "{bad}");
        }
    }
}
