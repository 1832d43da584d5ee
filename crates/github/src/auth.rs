//! Who we are to the forge: a token, or an installation of a GitHub App.
//!
//! It never stores a secret on disk and never shows one. A token is asked for anew for each call,
//! so that a rotated one needs no restart.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use octocrab::models::AppId;
use serde::Deserialize;

use crate::secret::Secret;

/// Where a secret comes from; the error says why there is none, without any part of it.
pub type SecretSource = Arc<dyn Fn() -> Result<Secret, String> + Send + Sync>;

/// How to log in.
#[derive(Clone)]
pub enum Auth {
    /// A personal access token, classic or fine-grained.
    Token(SecretSource),
    /// An installation of a GitHub App.
    App(AppLogin),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token"),
            Self::App(app) => write!(f, "App({}, installation {})", app.id, app.installation),
        }
    }
}

/// A GitHub App and the installation whose permissions are used.
#[derive(Clone)]
pub struct AppLogin {
    /// The app's id.
    pub id: u64,
    /// The installation's id.
    pub installation: u64,
    /// The app's RSA private key in PEM.
    pub key: SecretSource,
}

/// An installation's token is exchanged this long before it ends (it lives an hour): longer than any
/// call, and clocks may differ by a minute or two.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// An installation's token, as long as it is good.
#[derive(Debug, Clone)]
pub(crate) struct Minted {
    pub(crate) token: Secret,
    until: Timestamp,
}

/// The reply to `POST /app/installations/{id}/access_tokens`.
#[derive(Deserialize)]
pub(crate) struct MintReply {
    token: String,
    expires_at: Timestamp,
}

impl Minted {
    pub(crate) fn new(reply: MintReply) -> Self {
        Self { token: Secret::new(reply.token), until: reply.expires_at }
    }

    /// Whether the token is good for another call.
    #[allow(clippy::disallowed_methods, reason = "tokens end by the wall clock")]
    pub(crate) fn is_good(&self) -> bool {
        Duration::try_from(self.until.duration_since(Timestamp::now()))
            .is_ok_and(|left| left > RENEW_BEFORE)
    }
}

impl AppLogin {
    /// A signed statement that we are the app, good for nine minutes.
    pub(crate) fn statement(&self) -> Result<Secret, String> {
        let pem = (self.key)()?;
        let key = octocrab::auth::EncodingKey::from_rsa_pem(pem.reveal().as_bytes())
            .map_err(|_| "the key of the app is not an RSA private key in PEM".to_owned())?;
        let signed = octocrab::auth::create_jwt(AppId(self.id), &key)
            .map_err(|error| format!("the key of the app does not sign: {error}"))?;
        Ok(Secret::new(signed))
    }
}
