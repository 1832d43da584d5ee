//! `forge`: pull requests, and GitHub, Gitea and Forgejo behind the port.
//!
//! The clients decide nothing about what to post, never wait for a rate limit, never repeat a call
//! whose outcome is unknown, and never show a login. What is read was written by strangers.
//!
//! [`render`] turns plans into statuses, comments, annotations and issues; [`command`] reads what
//! people and webhooks say. Both are pure: no clock and no network. What was promised is compared
//! with what would be done by [`crate::plan::promise`]. [`connect`] makes a forge from the settings;
//! [`ensure`] writes so that it may be tried again; [`webhook`] takes hints to look sooner.

pub mod command;
pub mod ensure;
mod error;
pub mod follow;
mod gitea;
mod github;
pub mod render;
mod secret;
mod text;
pub mod webhook;

use std::sync::Arc;

use trueup_github::{AppLogin, Auth, Client, PageStyle, Settings};

use crate::config::{ForgeKind, ForgeSettings};
use crate::port::forge::{Forge, ForgeError};

/// The repository on the forge that the settings name. Nothing is sent yet. To be called within a
/// tokio runtime, which the forge then needs.
///
/// # Errors
/// A [`ForgeError`] when the settings cannot be used or TLS cannot be set up. A login that is not
/// there is only found by the first call, as it may come later.
pub fn connect(settings: &ForgeSettings) -> Result<Arc<dyn Forge>, ForgeError> {
    let auth = match (&settings.token, &settings.app) {
        (Some(token), _) => Auth::Token(secret::source("forge.token", token)),
        (None, Some(app)) => Auth::App(AppLogin {
            id: app.id,
            installation: app.installation,
            key: secret::source("forge.app.key", &app.key),
        }),
        (None, None) => return Err(error::no_login()),
    };
    let base = base_url(settings.kind, settings.url.as_deref());
    let timeout = settings.timeout.duration();
    let mut transport = Settings::new(base, auth);
    transport.deadline = timeout;
    transport.read_timeout = transport.read_timeout.min(timeout);
    // Shorter than the whole, so that a connection that never came about is known as one.
    transport.connect_timeout = transport.connect_timeout.min(timeout / 2);
    if settings.kind == ForgeKind::Gitea {
        transport.pages = PageStyle::GITEA;
    }
    let client = Client::new(transport).map_err(|cause| error::explain(cause, ""))?;
    let repository = settings.repository.clone();
    Ok(match settings.kind {
        ForgeKind::Github => Arc::new(github::GitHub::new(client, repository)),
        ForgeKind::Gitea => Arc::new(gitea::Gitea::new(client, repository)),
    })
}

/// The root of the API below a forge's address.
fn base_url(kind: ForgeKind, url: Option<&str>) -> String {
    const GITHUB: &str = "https://api.github.com";
    let Some(url) = url.map(|url| url.trim_end_matches('/')) else { return GITHUB.to_owned() };
    let bare = url.split_once("://").is_some_and(|(_, rest)| !rest.contains('/'));
    match kind {
        ForgeKind::Github if url.eq_ignore_ascii_case("https://github.com") => GITHUB.to_owned(),
        ForgeKind::Github if bare && !url.eq_ignore_ascii_case(GITHUB) => format!("{url}/api/v3"),
        ForgeKind::Github => url.to_owned(),
        ForgeKind::Gitea if url.ends_with("/api/v1") => url.to_owned(),
        ForgeKind::Gitea => format!("{url}/api/v1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_found_below_the_address() {
        let github = |url| base_url(ForgeKind::Github, url);
        assert_eq!(github(None), "https://api.github.com");
        assert_eq!(github(Some("https://github.com/")), "https://api.github.com");
        assert_eq!(github(Some("https://api.github.com")), "https://api.github.com");
        assert_eq!(github(Some("https://ghe.example")), "https://ghe.example/api/v3");
        assert_eq!(github(Some("https://ghe.example/api/v3/")), "https://ghe.example/api/v3");
        let gitea = |url| base_url(ForgeKind::Gitea, Some(url));
        assert_eq!(gitea("https://git.example/sub"), "https://git.example/sub/api/v1");
        assert_eq!(gitea("https://git.example/api/v1"), "https://git.example/api/v1");
    }
}
