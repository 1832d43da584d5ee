//! The settings of the forge: where statuses and comments go, and with which login.
//!
//! Plain data: it never opens a file it names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::span::Span;

/// The forge that hosts the repository: pull requests are followed there and plans are posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForgeSettings {
    /// Which forge it is.
    #[serde(default)]
    pub kind: ForgeKind,
    /// Where it is: `https://host`. Default for GitHub: github.com. A login is only sent over https,
    /// except to this machine itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The repository there: `owner/name`.
    pub repository: String,
    /// Log in with a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretSettings>,
    /// Log in as an installation of a GitHub App, which alone may write checks with annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppSettings>,
    /// The most one call may take.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// How often pull requests are looked for.
    #[serde(default = "default_poll")]
    pub poll: Span,
    /// What becomes of pull requests from other repositories, whose writers are strangers.
    #[serde(default)]
    pub forks: ForkSettings,
    /// Who may approve on the forge, and how. Without it nobody may: plans are approved on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<ApprovalSettings>,
    /// Take webhooks, which make news known at once; without it they are found by polling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSettings>,
}

fn default_poll() -> Span {
    Span::seconds(30)
}

/// Who may approve on the forge, and how. Somebody may who is named, or is in one of the teams, or has
/// the permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalSettings {
    /// Accounts, by the names they have now: a name that is given up can be taken by somebody else.
    #[serde(default)]
    pub by: Vec<String>,
    /// Teams, as `organisation/team`.
    #[serde(default)]
    pub teams: Vec<String>,
    /// Everybody with at least this permission in the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<ApproverPermission>,
    /// By a comment `/trueup approve <digest>`, which names the plan.
    #[serde(default = "yes")]
    pub comment: bool,
    /// By an approving review, handed in after the plan was shown: it then also says that the plan
    /// may run.
    #[serde(default)]
    pub review: bool,
    /// By putting on this label, after the plan was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether whoever opened a pull request may approve it.
    #[serde(default, rename = "self")]
    pub own: bool,
}

fn yes() -> bool {
    true
}

/// What somebody has to be allowed in the repository to approve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApproverPermission {
    /// To push.
    Write,
    /// To push, and most settings (GitHub).
    Maintain,
    /// Everything.
    Admin,
}

/// Where webhooks are taken. They are hints: what they say is asked of the forge and the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookSettings {
    /// `address:port`, or `unix:/path` for a proxy on this machine. It is plain HTTP: let a proxy
    /// speak TLS. They come in at `/webhook`.
    pub listen: String,
    /// The secret they are signed with, the same as on the forge.
    pub secret: SecretSettings,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenOn {
    /// An address of this machine.
    Tcp(SocketAddr),
    /// A UNIX socket.
    Unix(PathBuf),
}

impl WebhookSettings {
    /// Where to listen; `None`: it is neither of the forms.
    #[must_use]
    pub fn listen_on(&self) -> Option<ListenOn> {
        match self.listen.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Some(ListenOn::Unix(PathBuf::from(path))),
            Some(_) => None,
            None => self.listen.parse().ok().map(ListenOn::Tcp),
        }
    }
}

/// What becomes of pull requests from other repositories.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForkSettings {
    /// Whether they are planned.
    #[serde(default)]
    pub plan: ForkPlans,
    /// With `plan: label`: the label that somebody has to put on, anew after each push.
    #[serde(default = "default_label")]
    pub label: String,
}

fn default_label() -> String {
    "trueup-plan".to_owned()
}

/// Whether pull requests from other repositories are planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForkPlans {
    /// Never.
    Off,
    /// Always, without a value that was read from the machine.
    #[default]
    Redacted,
    /// As `redacted`, once somebody who may put the label on has done so.
    Label,
}

fn default_timeout() -> Span {
    Span::seconds(30)
}

/// A kind of forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForgeKind {
    /// github.com or GitHub Enterprise Server.
    #[default]
    Github,
    /// Gitea or Forgejo.
    Gitea,
}

/// Where a secret comes from: exactly one of its forms. It is read anew for each use, so that a
/// rotated one needs no restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretSettings {
    /// A file that others may not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The name of a systemd credential (`LoadCredential=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The name of an environment variable of the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

impl SecretSettings {
    fn path(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// How many of the forms are given.
    pub(super) fn forms(&self) -> usize {
        usize::from(self.file.is_some())
            + usize::from(self.credential.is_some())
            + usize::from(self.env.is_some())
    }
}

/// A GitHub App and the installation whose permissions are used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppSettings {
    /// The app's id.
    pub id: u64,
    /// The installation's id: the number at the end of its page's address.
    pub installation: u64,
    /// The app's private key (PEM).
    pub key: SecretSettings,
}

impl ForgeSettings {
    /// The files of secrets, each with its field.
    pub(super) fn files(&self) -> [(&'static str, Option<&Path>); 3] {
        [
            ("forge.token.file", self.token.as_ref().and_then(SecretSettings::path)),
            ("forge.app.key.file", self.app.as_ref().and_then(|app| app.key.path())),
            (
                "forge.webhook.secret.file",
                self.webhook.as_ref().and_then(|hook| hook.secret.path()),
            ),
        ]
    }

    /// What is wrong with the values, and with which: the first that cannot be used.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str)> {
        let parts: Vec<&str> = self.repository.split('/').collect();
        let plain = |part: &&str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if parts.len() != 2 || !parts.iter().all(plain) {
            return Some(("forge.repository", "must be `owner/name`"));
        }
        if let Some(url) = &self.url {
            let Some((scheme, rest)) = url.split_once("://") else {
                return Some(("forge.url", "must be a URL: `https://host`"));
            };
            let authority = rest.split('/').next().unwrap_or_default();
            let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
            let here = ["127.0.0.1", "localhost", "[::1]"].contains(&host);
            if authority.is_empty() || authority.contains('@') {
                return Some(("forge.url", "must be `https://host`, without a login in it"));
            }
            if scheme != "https" && !(scheme == "http" && here) {
                return Some(("forge.url", "must be https: a login is not sent in the clear"));
            }
        } else if self.kind == ForgeKind::Gitea {
            return Some(("forge.url", "is missing: say where the forge is"));
        }
        if let Some(fault) = self.approvals.as_ref().and_then(ApprovalSettings::fault) {
            return Some(fault);
        }
        if let Some(webhook) = &self.webhook {
            if webhook.listen_on().is_none() {
                return Some(("forge.webhook.listen", "must be `address:port` or `unix:/path`"));
            }
            if webhook.secret.forms() != 1 {
                return Some(("forge.webhook.secret", "give one of file, credential and env"));
            }
        }
        match (&self.token, &self.app) {
            (Some(token), None) if token.forms() == 1 => None,
            (Some(_), None) => Some(("forge.token", "give one of file, credential and env")),
            (None, Some(app)) if app.key.forms() != 1 => {
                Some(("forge.app.key", "give one of file, credential and env"))
            }
            (None, Some(_)) if self.kind == ForgeKind::Gitea => {
                Some(("forge.app", "is for GitHub only: give `token`"))
            }
            (None, Some(_)) => None,
            _ => Some(("forge", "give either `token` or `app`")),
        }
    }
}

impl ApprovalSettings {
    fn fault(&self) -> Option<(&'static str, &'static str)> {
        if self.by.is_empty() && self.teams.is_empty() && self.permission.is_none() {
            return Some(("forge.approvals", "say who may approve: by, teams or permission"));
        }
        if !self.comment && !self.review && self.label.is_none() {
            return Some(("forge.approvals", "say how to approve: comment, review or label"));
        }
        if self.by.iter().any(|login| login.trim().is_empty()) {
            return Some(("forge.approvals.by", "must be names of accounts"));
        }
        let team = |team: &String| {
            team.split_once('/').is_some_and(|(organisation, name)| {
                !organisation.is_empty() && !name.is_empty() && !name.contains('/')
            })
        };
        if !self.teams.iter().all(team) {
            return Some(("forge.approvals.teams", "must be `organisation/team` each"));
        }
        if self.label.as_ref().is_some_and(|label| label.trim().is_empty()) {
            return Some(("forge.approvals.label", "must be the name of a label"));
        }
        None
    }
}
