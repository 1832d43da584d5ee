//! Answers the remote's question for a password, from where the config says, for this remote only.
//!
//! It never prompts, never stores a secret, and never answers for another host: a redirect must
//! not carry a token away.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gix::credentials::helper::Action;
use gix::credentials::protocol::{Context, Outcome};
use gix::sec::identity::Account;

use super::config::{Credentials, MirrorConfig};
use super::error::{SourceError, chain, scrub};
use super::process;
use crate::private;

/// Secrets handed out in one conversation, so that they can be taken out of its errors, and the
/// first reason why none could be had.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    secrets: Vec<String>,
    failure: Option<SourceError>,
}

impl Told {
    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The error text without the secrets.
    pub(crate) fn scrub(&self, text: &str) -> String {
        scrub(text, &self.record().secrets)
    }

    /// Why no credential could be had, if that happened.
    pub(crate) fn failure(&self) -> Option<SourceError> {
        self.record().failure.take()
    }
}

/// Answers one action of gix.
pub(crate) fn answer(
    config: &MirrorConfig,
    remote: &gix::Url,
    told: &Told,
    action: Action,
) -> gix::Result<Option<Outcome>> {
    let context = match action {
        Action::Get(context) => context,
        Action::Store(payload) => return report(config, "approve", payload.to_vec()),
        Action::Erase(payload) => return report(config, "reject", payload.to_vec()),
    };
    match get(config, remote, &context) {
        Ok(account) => {
            told.record().secrets.push(account.password.clone());
            let next = Context {
                username: Some(account.username.clone()),
                password: Some(account.password.clone()),
                ..context
            };
            Ok(Some(Outcome { identity: account, next: next.into() }))
        }
        Err(error) => {
            let text = error.to_string();
            told.record().failure = Some(error);
            Err(gix::Error::from_error(gix::error::unauthenticated(text)))
        }
    }
}

fn get(config: &MirrorConfig, remote: &gix::Url, asked: &Context) -> Result<Account, SourceError> {
    if !is_for(remote, asked) {
        return Err(SourceError::Denied {
            url: config.shown_url(),
            why: "it sends us to another host, which gets no credential; use that URL directly"
                .into(),
        });
    }
    match &config.credentials {
        Credentials::None => Err(SourceError::Denied {
            url: config.shown_url(),
            why: "it asks for a credential and none is configured".into(),
        }),
        Credentials::File { username, path } => {
            Ok(account(username, read(config, path, &path.display().to_string())?))
        }
        Credentials::Systemd { username, name } => {
            let from = format!("the systemd credential {name}");
            let path = private::credential(name);
            let path = path.map_err(|fault| unreadable(config, &from, fault.to_string()))?;
            Ok(account(username, read(config, &path, &from)?))
        }
        Credentials::Helper => ask_helper(config, remote),
    }
}

fn account(username: &str, password: String) -> Account {
    Account { username: username.to_owned(), password, oauth_refresh_token: None }
}

/// Whether the question is about the configured repository's own host.
fn is_for(remote: &gix::Url, asked: &Context) -> bool {
    let Some(url) = asked.url.as_ref() else {
        return false;
    };
    let Ok(url) = gix::url::parse(url) else {
        return false;
    };
    url.scheme == remote.scheme
        && url.host() == remote.host()
        && url.port_or_default() == remote.port_or_default()
}

/// The first line of a file that others may not read.
fn read(config: &MirrorConfig, path: &Path, from: &str) -> Result<String, SourceError> {
    let unreadable = |why: String| unreadable(config, from, why);
    let text = private::read(path).map_err(|fault| unreadable(fault.to_string()))?;
    match text.lines().next().map(str::trim) {
        Some(token) if !token.is_empty() => Ok(token.to_owned()),
        _ => Err(unreadable("its first line is empty".to_owned())),
    }
}

fn unreadable(config: &MirrorConfig, from: &str, why: String) -> SourceError {
    SourceError::Credential { url: config.shown_url(), from: from.to_owned(), why }
}

/// A helper that needs a person does not answer; others do at once.
const HELPER_LIMIT: Duration = Duration::from_secs(20);

fn git_credential(verb: &str, input: Vec<u8>) -> Result<process::Output, process::ProcessError> {
    let off = OsStr::new("0");
    let nothing = OsStr::new("");
    let env = [("GIT_TERMINAL_PROMPT", off), ("GIT_ASKPASS", nothing), ("SSH_ASKPASS", nothing)];
    process::run("git", &["credential", verb], &env, input, HELPER_LIMIT)
}

fn ask_helper(config: &MirrorConfig, remote: &gix::Url) -> Result<Account, SourceError> {
    const FROM: &str = "git credential fill";
    let url = remote.to_bstring();
    let output = git_credential("fill", format!("url={url}\n\n").into_bytes())
        .map_err(|error| unreadable(config, FROM, chain(&error)))?;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let field = |name: &str| {
        answer
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    match (output.status.success(), field("username"), field("password")) {
        (true, Some(username), Some(password)) => Ok(account(&username, password)),
        _ => {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(unreadable(config, FROM, format!("no helper has one ({})", scrub(&words, &[]))))
        }
    }
}

/// Tells the user's helpers how it went, so that they forget what no longer works.
fn report(config: &MirrorConfig, verb: &str, payload: Vec<u8>) -> gix::Result<Option<Outcome>> {
    if matches!(config.credentials, Credentials::Helper)
        && let Err(error) = git_credential(verb, payload)
    {
        // The conversation itself went its way; only the helper's memory is concerned.
        tracing::warn!(%error, verb, "a git credential helper did not take the outcome");
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_configured_host_gets_the_credential() {
        let remote = gix::url::parse("https://git.example/team/repo.git").unwrap();
        let asked = |url: &str| Context { url: Some(url.into()), ..Context::default() };
        assert!(is_for(&remote, &asked("https://git.example/team/repo.git/")));
        assert!(is_for(&remote, &asked("https://git.example:443/moved")));
        for other in
            ["https://evil.example/x", "http://git.example/x", "https://git.example:8443/x"]
        {
            assert!(!is_for(&remote, &asked(other)), "{other}");
        }
        assert!(!is_for(&remote, &Context::default()));
    }

    #[test]
    fn a_token_file_is_read_only_when_private_and_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let config = MirrorConfig::new("https://git.example/r", "main", dir.path());
        let set = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read(&config, &path, "the file")
        };
        assert_eq!(set("s3cret\nsecond line\n", 0o600).unwrap(), "s3cret");
        let open = set("s3cret\n", 0o644).unwrap_err().to_string();
        assert!(open.contains("chmod") && !open.contains("s3cret"), "{open}");
        assert!(set("\n", 0o600).is_err());
    }
}
