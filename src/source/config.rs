//! What the daemon's own config says about the repository to follow.
//!
//! Nothing here is ever taken from the repository itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::SourceError;

/// The repository to follow and where to keep its mirror.
#[derive(Debug, Clone)]
pub struct MirrorConfig {
    /// A path, `file://`, `http(s)://`, `ssh://` or `user@host:path` URL, without a password.
    pub url: String,
    /// The branch to follow, without `refs/heads/`.
    pub branch: String,
    /// The bare mirror. It and its parent belong to trueup alone.
    pub directory: PathBuf,
    /// Short-lived files; what an earlier run left there is removed.
    pub temp: PathBuf,
    /// The most one whole conversation with the remote may take.
    pub deadline: Duration,
    /// How to authenticate over https.
    pub credentials: Credentials,
    /// Extra certificate authorities for https (PEM), beside the machine's own.
    pub ca_file: Option<PathBuf>,
    /// How to authenticate over ssh.
    pub ssh: SshOptions,
    /// Packs (one a fetch) the mirror may gather before they are merged into one.
    pub packs_max: usize,
    /// The most one fetch may bring, bytes.
    pub fetch_max: u64,
}

impl MirrorConfig {
    /// Packs tolerated by default: reads stay fast at twice this (measured at 61 packs), and the
    /// object store's table, sized by `PACK_SLOTS`, never fills.
    pub const PACKS_MAX: usize = 50;
    /// The default time limit of one conversation: a first clone of a large repository over a slow
    /// line fits, a stalled server is noticed well within a poll's back-off.
    pub const DEADLINE: Duration = Duration::from_secs(300);

    /// The most one fetch may bring by default: a thousand times a large environment repository.
    pub const FETCH_MAX: u64 = 2 << 30;

    /// A config with defaults for everything but the repository and its place under `state`.
    #[must_use]
    pub fn new(url: impl Into<String>, branch: impl Into<String>, state: &Path) -> Self {
        Self {
            url: url.into(),
            branch: branch.into(),
            directory: state.join("mirror.git"),
            temp: state.join("tmp"),
            deadline: Self::DEADLINE,
            credentials: Credentials::None,
            ca_file: None,
            ssh: SshOptions::default(),
            packs_max: Self::PACKS_MAX,
            fetch_max: Self::FETCH_MAX,
        }
    }

    /// The URL as it may be shown: without a password.
    #[must_use]
    pub fn shown_url(&self) -> String {
        match gix::url::parse(self.url.as_str()) {
            Ok(mut url) => {
                url.set_password(None);
                url.to_bstring().to_string()
            }
            Err(_) => "(unparsable URL)".to_owned(),
        }
    }

    /// The parsed URL.
    ///
    /// # Errors
    /// [`SourceError::Url`] for a URL that cannot be parsed, is of another scheme, or carries a
    /// password (it would end up in logs and process lists), or for an impossible branch name.
    pub(crate) fn parsed_url(&self) -> Result<gix::Url, SourceError> {
        let refuse = |why: &str| SourceError::Url { url: self.shown_url(), why: why.to_owned() };
        let url = gix::url::parse(self.url.as_str())
            .map_err(|error| refuse(&super::error::chain(&error)))?;
        if url.password().is_some() {
            return Err(refuse(
                "it carries a password; put the password in a file and name that under credentials",
            ));
        }
        match url.scheme {
            gix::url::Scheme::File
            | gix::url::Scheme::Http
            | gix::url::Scheme::Https
            | gix::url::Scheme::Ssh => {}
            _ => return Err(refuse("its scheme is not one of file, http, https and ssh")),
        }
        if url.scheme == gix::url::Scheme::Http && !matches!(self.credentials, Credentials::None) {
            return Err(refuse(
                "credentials are only sent over https; write https:// or drop them",
            ));
        }
        let full = format!("refs/heads/{}", self.branch);
        if gix::validate::reference::name(full.as_str().into()).is_err() {
            return Err(refuse(&format!("{:?} is not a branch name", self.branch)));
        }
        Ok(url)
    }

    /// The address of the repository's host, where the URL says it. A name is not looked up: who
    /// answers may depend on the very machine that is asked about.
    #[must_use]
    pub fn host_address(&self) -> Option<std::net::IpAddr> {
        let url = gix::url::parse(self.url.as_str()).ok()?;
        url.host()?.trim_matches(['[', ']']).parse().ok()
    }

    /// The repository's directory when it is on this machine.
    #[must_use]
    pub fn local_path(&self) -> Option<PathBuf> {
        let url = gix::url::parse(self.url.as_str()).ok()?;
        (url.scheme == gix::url::Scheme::File)
            .then(|| gix::path::from_bstr(&url.path).ok().map(|path| path.into_owned()))
            .flatten()
    }
}

/// Where the password or token for https comes from. Read anew for every conversation, so that a
/// rotated token needs no restart.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// None; a remote that asks for one is an error.
    None,
    /// A file whose first line is the token.
    File {
        /// Sent as the user; forges accept any, or `x-access-token`.
        username: String,
        /// Must not be readable by others.
        path: PathBuf,
    },
    /// A systemd credential (`LoadCredential=`), found under `$CREDENTIALS_DIRECTORY`.
    Systemd {
        /// Sent as the user.
        username: String,
        /// The credential's name.
        name: String,
    },
    /// The user's own `git credential` helpers, never with a prompt.
    Helper,
}

/// How `ssh` is called. It never prompts and never accepts an unknown host key.
#[derive(Debug, Clone, Default)]
pub struct SshOptions {
    /// The private key; without one, ssh's own choice (agent, default files).
    pub identity: Option<PathBuf>,
    /// The known hosts; without one, ssh's own files.
    pub known_hosts: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> MirrorConfig {
        MirrorConfig::new(url, "main", Path::new("state"))
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_shown() {
        let error = config("https://u:hunter2@host/r.git").parsed_url().unwrap_err().to_string();
        assert!(error.contains("credentials") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn schemes_and_branches_are_checked() {
        assert!(config("git://host/r").parsed_url().is_err());
        for good in
            ["/srv/r.git", "file:///srv/r.git", "ssh://git@h:22/r", "git@h:r.git", "https://h/r"]
        {
            config(good).parsed_url().unwrap();
        }
        let mut bad = config("https://h/r");
        bad.branch = "a..b".into();
        assert!(bad.parsed_url().is_err());
        let mut clear = config("http://h/r");
        clear.credentials = Credentials::Helper;
        assert!(clear.parsed_url().unwrap_err().to_string().contains("https"));
    }

    #[test]
    fn an_address_in_the_url_is_found() {
        let of = |url: &str| config(url).host_address().map(|address| address.to_string());
        assert_eq!(of("https://10.7.0.2:8443/r.git").as_deref(), Some("10.7.0.2"));
        assert_eq!(of("ssh://git@[fd00::2]/r.git").as_deref(), Some("fd00::2"));
        assert_eq!(of("git@192.0.2.7:r.git").as_deref(), Some("192.0.2.7"));
        assert_eq!(of("https://forge.example.org/r.git"), None);
        assert_eq!(of("/srv/r.git"), None);
    }

    #[test]
    fn a_local_repository_is_known_as_such() {
        assert_eq!(config("file:///srv/r.git").local_path(), Some("/srv/r.git".into()));
        assert_eq!(config("/srv/r.git").local_path(), Some("/srv/r.git".into()));
        assert_eq!(config("https://h/r").local_path(), None);
    }
}
