//! One call to the forge.
//!
//! It never repeats a call, with one exception: where an installation's token is refused (401), the
//! call was certainly not carried out and is made once more with a new token.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use octocrab::{OctoBody, Octocrab};
use serde_json::Value;

use crate::auth::{AppLogin, Auth, MintReply, Minted};
use crate::cache::Cache;
use crate::error::ClientError;
use crate::reply::{Rate, Reply, text};
use crate::secret::Secret;

/// Largest body read, in bytes; a page of 100 pull requests has about 2 MB.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// Longest text of an error taken over, in characters: a line for a person.
const MESSAGE_CHARS_MAX: usize = 300;
/// The version of GitHub's REST API this was written for.
const API_VERSION: &str = "2022-11-28";

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates; the only one that must not be made twice.
    Post,
    /// Changes some fields.
    Patch,
    /// Sets the whole.
    Put,
    /// Removes.
    Delete,
}

impl Method {
    /// Whether making the call twice comes to the same as making it once.
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post)
    }

    fn http(self) -> http::Method {
        match self {
            Self::Get => http::Method::GET,
            Self::Post => http::Method::POST,
            Self::Patch => http::Method::PATCH,
            Self::Put => http::Method::PUT,
            Self::Delete => http::Method::DELETE,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.http().as_str())
    }
}

/// Which forge, who we are, and how long we wait.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://api.github.com`, or `https://host/api/v3` for GitHub Enterprise Server.
    pub base_url: String,
    /// Who we are.
    pub auth: Auth,
    /// The most a connection may take to come about.
    pub connect_timeout: Duration,
    /// The longest silence in the middle of a reply.
    pub read_timeout: Duration,
    /// The most a whole call may take.
    pub deadline: Duration,
    /// How pages are asked for.
    pub pages: PageStyle,
}

/// How a forge wants pages to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageStyle {
    /// The parameter that says how many items a page has.
    pub parameter: &'static str,
    /// Items on a page: the most the forge gives.
    pub items: usize,
}

impl PageStyle {
    /// GitHub's.
    pub const GITHUB: Self = Self { parameter: "per_page", items: 100 };
    /// Gitea's and Forgejo's, with their default `MAX_RESPONSE_ITEMS`.
    pub const GITEA: Self = Self { parameter: "limit", items: 50 };
}

impl Settings {
    /// Settings with the usual limits: GitHub ends its own work on a call after ten seconds.
    pub fn new(base_url: impl Into<String>, auth: Auth) -> Self {
        Self {
            base_url: base_url.into(),
            auth,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(15),
            deadline: Duration::from_secs(30),
            pages: PageStyle::GITHUB,
        }
    }
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// Path and query below the base URL, percent-encoded, with a leading slash.
    pub path: &'a str,
    /// The body.
    pub body: Option<&'a Value>,
    /// Answer 304 if this is still the entity tag.
    pub if_none_match: Option<&'a str>,
    /// Speak as the app itself instead of as its installation.
    pub as_app: bool,
}

impl<'a> Call<'a> {
    /// A call without a body.
    #[must_use]
    pub fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, body: None, if_none_match: None, as_app: false }
    }

    /// With this body.
    #[must_use]
    pub fn with(self, body: &'a Value) -> Self {
        Self { body: Some(body), ..self }
    }
}

/// The client.
pub struct Client {
    pub(crate) settings: Settings,
    /// Without a login of its own; each call brings its token.
    base: Octocrab,
    minted: tokio::sync::Mutex<Option<Minted>>,
    pub(crate) cache: Mutex<Cache>,
    rate: Mutex<Rate>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Client {
    /// A client; nothing is sent yet. To be called within a tokio runtime, which it then needs.
    ///
    /// # Errors
    /// [`ClientError::Login`] when the base URL is none or this machine's certificate authorities
    /// cannot be read.
    pub fn new(settings: Settings) -> Result<Self, ClientError> {
        let login = |why: String| ClientError::Login { why };
        let base_url = settings.base_url.trim_end_matches('/');
        let base = Octocrab::builder()
            .base_uri(base_url)
            .map_err(|_| login(format!("{base_url:?} is not a URL")))?
            .set_connect_timeout(Some(settings.connect_timeout))
            .set_read_timeout(Some(settings.read_timeout))
            .set_write_timeout(Some(settings.read_timeout))
            .build()
            .map_err(|error| login(format!("TLS cannot be set up: {}", chain(&error))))?;
        Ok(Self {
            settings,
            base,
            minted: tokio::sync::Mutex::default(),
            cache: Mutex::default(),
            rate: Mutex::default(),
        })
    }

    /// Whether we speak as an installation of an app.
    #[must_use]
    pub fn is_app(&self) -> bool {
        matches!(self.settings.auth, Auth::App(_))
    }

    /// What the last reply said of the budget.
    #[must_use]
    pub fn rate(&self) -> Rate {
        *lock(&self.rate)
    }

    /// Makes one call.
    ///
    /// # Errors
    /// A [`ClientError`]; a reply that is neither a success nor 304 is [`ClientError::Refused`].
    pub async fn request(&self, call: Call<'_>) -> Result<Reply, ClientError> {
        let first = self.login(call).await?;
        let reply = self.send(call, &first).await;
        let stale = matches!(reply, Err(ClientError::Refused { status: 401, .. }))
            && self.is_app()
            && !call.as_app;
        if !stale {
            return reply;
        }
        self.forget(&first).await;
        let second = self.login(call).await?;
        self.send(call, &second).await
    }

    /// The token for one call.
    async fn login(&self, call: Call<'_>) -> Result<Secret, ClientError> {
        let login = |why| ClientError::Login { why };
        match &self.settings.auth {
            Auth::Token(source) => source().map_err(login),
            Auth::App(app) if call.as_app => app.statement().map_err(login),
            Auth::App(app) => {
                // Held while a token is fetched, so that many callers fetch one.
                let mut minted = self.minted.lock().await;
                if let Some(good) = minted.as_ref().filter(|minted| minted.is_good()) {
                    return Ok(good.token.clone());
                }
                let fresh = self.mint(app).await?;
                let token = fresh.token.clone();
                *minted = Some(fresh);
                Ok(token)
            }
        }
    }

    async fn mint(&self, app: &AppLogin) -> Result<Minted, ClientError> {
        let statement = app.statement().map_err(|why| ClientError::Login { why })?;
        let path = format!("/app/installations/{}/access_tokens", app.installation);
        let call = Call { as_app: true, ..Call::new(Method::Post, &path) };
        match self.send(call, &statement).await {
            Ok(reply) => Ok(Minted::new(reply.json::<MintReply>(Method::Post, &path)?)),
            // A second token does no harm, so for what the token was wanted for, nothing was sent.
            Err(ClientError::Unknown { method, path, why }) => {
                Err(ClientError::NotSent { method, path, why })
            }
            Err(other) => Err(other),
        }
    }

    async fn forget(&self, token: &Secret) {
        let mut minted = self.minted.lock().await;
        if minted.as_ref().is_some_and(|minted| minted.token == *token) {
            *minted = None;
        }
    }

    async fn send(&self, call: Call<'_>, token: &Secret) -> Result<Reply, ClientError> {
        let (method, path) = (call.method, call.path.to_owned());
        match tokio::time::timeout(self.settings.deadline, self.exchange(call, token)).await {
            Ok(reply) => reply,
            Err(_) => Err(ClientError::Unknown {
                method,
                path,
                why: format!("no whole reply within {:?}", self.settings.deadline),
            }),
        }
    }

    async fn exchange(&self, call: Call<'_>, token: &Secret) -> Result<Reply, ClientError> {
        let failed = |error: &octocrab::Error, begun: bool| {
            let (method, path, why) = (call.method, call.path.to_owned(), chain(error));
            if !begun && never_connected(error) {
                ClientError::NotSent { method, path, why }
            } else {
                ClientError::Unknown { method, path, why }
            }
        };
        let request = build(call)?;
        let crab = self.base.user_access_token(token.reveal()).map_err(|e| failed(&e, false))?;
        if token.reveal().bytes().any(|byte| !byte.is_ascii_graphic()) {
            let why = "the token has characters that no token has".to_owned();
            return Err(ClientError::Login { why });
        }
        let response = crab.execute(request).await.map_err(|error| failed(&error, false))?;
        let (parts, body) = response.into_parts();
        let rate = Rate::of(&parts.headers);
        if rate != Rate::default() {
            *lock(&self.rate) = rate;
        }
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| {
            let (method, path) = (call.method, call.path.to_owned());
            let why = format!("the reply ({}) broke off: {}", parts.status, chain(&*error));
            ClientError::Unknown { method, path, why }
        })?;
        let body = body.to_bytes().to_vec();
        if parts.status.is_success() || parts.status == StatusCode::NOT_MODIFIED {
            return Ok(Reply::of(parts.status.as_u16(), &parts.headers, body));
        }
        Err(ClientError::Refused {
            method: call.method,
            path: call.path.to_owned(),
            status: parts.status.as_u16(),
            message: token.scrub(&message(parts.status, &body)),
            rate,
            needs: needs(&parts.headers),
        })
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn build(call: Call<'_>) -> Result<Request<OctoBody>, ClientError> {
    let refuse =
        |why: String| ClientError::NotSent { method: call.method, path: call.path.to_owned(), why };
    let mut builder = Request::builder()
        .method(call.method.http())
        .uri(call.path)
        .header(http::header::ACCEPT, "application/vnd.github+json")
        .header("x-github-api-version", API_VERSION);
    if let Some(etag) = call.if_none_match {
        builder = builder.header(http::header::IF_NONE_MATCH, etag);
    }
    let body = match call.body {
        Some(body) => {
            builder = builder.header(http::header::CONTENT_TYPE, "application/json");
            OctoBody::from(body.to_string())
        }
        None => OctoBody::empty(),
    };
    builder.body(body).map_err(|error| refuse(error.to_string()))
}

/// The permission named by the forge: `x-accepted-github-permissions`, sent for fine-grained tokens
/// and apps; for classic tokens the scopes of `x-accepted-oauth-scopes`.
fn needs(headers: &HeaderMap) -> Option<String> {
    ["x-accepted-github-permissions", "x-accepted-oauth-scopes"]
        .into_iter()
        .filter_map(|name| text(headers, name))
        .find(|value| !value.trim().is_empty())
        .map(|value| value.chars().take(MESSAGE_CHARS_MAX).collect())
}

/// The forge's own words: `message`, and what `errors` says of single fields.
fn message(status: StatusCode, body: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut words = match parsed["message"].as_str() {
        Some(message) => message.to_owned(),
        None => status.canonical_reason().unwrap_or("no reason given").to_owned(),
    };
    for error in parsed["errors"].as_array().into_iter().flatten() {
        let field = error["field"].as_str().unwrap_or_default();
        let detail = error["message"].as_str().or(error["code"].as_str()).or(error.as_str());
        words.push_str(&format!("; {field} {}", detail.unwrap_or_default()));
    }
    words.replace(char::is_control, " ").chars().take(MESSAGE_CHARS_MAX).collect()
}

/// Whether the connection never came about, so that nothing was sent.
fn never_connected(error: &octocrab::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(client) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return client.is_connect();
        }
        next = error.source();
    }
    false
}

/// The causes of an error in one line. octocrab's own texts end in a backtrace, which is cut.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let line = error.to_string().lines().next().unwrap_or_default().trim().to_owned();
        if !words.iter().any(|word| word.contains(&line)) {
            words.push(line);
        }
        next = error.source();
    }
    words.join(": ").chars().take(MESSAGE_CHARS_MAX).collect()
}
