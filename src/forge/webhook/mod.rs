//! Taking webhooks: somebody at the forge did something, so it is time to look.
//!
//! Nothing a webhook says is believed: one with a right signature makes the next look come sooner, and
//! that is all. Others cost a line at most: what is read is limited in size and time, requests are
//! limited in number, and wake-ups are drawn together.

mod gate;
mod listen;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use tokio::sync::{Notify, watch};
use trueup_github::SecretSource;

use self::gate::Gate;
pub use self::listen::{BindError, Bound, bind};
use super::command::{Hint, Hinted, WebhookError, may_read, read_webhook, verify_signature};
use super::secret;
use crate::config::WebhookSettings;
use crate::port::Clock;

/// Where webhooks come in.
pub const PATH: &str = "/webhook";
/// Longest time for one webhook's body.
const READ_MAX: Duration = Duration::from_secs(10);
/// Least time between two wake-ups: a busy repository, or somebody who found out the secret, makes us
/// look no more often than that.
const WAKE_GAP: Duration = Duration::from_secs(3);

/// Makes everything look that may have news.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// What a webhook is held against.
struct Receiver {
    secret: SecretSource,
    repository: String,
    gate: Mutex<Gate>,
    clock: Arc<dyn Clock>,
    news: Notify,
}

/// Takes webhooks until `stop` becomes true. `repository`: the only one whose news matter.
pub async fn serve(
    bound: Bound,
    settings: &WebhookSettings,
    repository: String,
    wake: Wake,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
) {
    let secret = secret::source("forge.webhook.secret", &settings.secret);
    let gate = Mutex::new(Gate::new(clock.monotonic()));
    let receiver = Arc::new(Receiver {
        secret,
        repository,
        gate,
        clock: Arc::clone(&clock),
        news: Notify::new(),
    });
    // A secret that is missing is known at the start, and not when the first news are lost.
    if let Err(why) = read_secret(&receiver).await {
        tracing::warn!(why, "webhooks are refused until it can be read");
    }
    let router = Router::new().route(PATH, post(receive)).with_state(Arc::clone(&receiver));
    let waking = async {
        loop {
            receiver.news.notified().await;
            wake();
            clock.sleep(WAKE_GAP).await;
        }
    };
    tokio::select! {
        () = listen::serve(bound, router, stop) => {}
        () = waking => {}
    }
}

async fn receive(State(receiver): State<Arc<Receiver>>, request: Request) -> Response {
    match take(&receiver, request).await {
        Ok(()) => (StatusCode::ACCEPTED, "taken\n").into_response(),
        Err(refused) => {
            let loud = receiver.gate().may_complain(receiver.clock.monotonic());
            let (status, why) = (refused.status(), refused.to_string());
            if loud {
                tracing::warn!(status = status.as_u16(), why, "a webhook was refused");
            }
            let mut response = (status, format!("{why}\n")).into_response();
            if status == StatusCode::TOO_MANY_REQUESTS {
                response.headers_mut().insert(header::RETRY_AFTER, 1.into());
            }
            response
        }
    }
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    #[error("the webhook does not say how long it is")]
    NoLength,
    #[error("too many requests; polling finds the news as well")]
    TooMany,
    #[error("the webhook did not arrive whole and in time")]
    Cut,
    #[error("this host cannot read its secret; its log says why")]
    NoSecret,
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Webhook(WebhookError::TooLong) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Webhook(WebhookError::Unsigned | WebhookError::Forged) => {
                StatusCode::UNAUTHORIZED
            }
            Self::Webhook(WebhookError::Malformed) => StatusCode::BAD_REQUEST,
            Self::NoLength => StatusCode::LENGTH_REQUIRED,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Cut => StatusCode::REQUEST_TIMEOUT,
            Self::NoSecret => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

async fn take(receiver: &Arc<Receiver>, request: Request) -> Result<(), Refused> {
    let now = receiver.clock.monotonic();
    if !receiver.gate().admit(now) {
        return Err(Refused::TooMany);
    }
    let headers = request.headers();
    let text = |names: &[&'static str]| {
        let of = |name: &&'static str| headers.get(HeaderName::from_static(name));
        let value = names.iter().find_map(of)?;
        value.to_str().ok().map(str::to_owned)
    };
    let length = declared(headers).ok_or(Refused::NoLength)?;
    let length = may_read(Some(length))?;
    let signature = text(&["x-hub-signature-256", "x-gitea-signature"]);
    let signature = signature.ok_or(WebhookError::Unsigned)?;
    let event = text(&["x-github-event", "x-gitea-event"]).unwrap_or_default();
    let reading = tokio::time::timeout(READ_MAX, to_bytes(request.into_body(), length));
    let body = reading.await.map_err(|_| Refused::Cut)?.map_err(|_| Refused::Cut)?;
    let secret = read_secret(receiver).await.map_err(|why| {
        tracing::warn!(why, "a webhook was refused");
        Refused::NoSecret
    })?;
    // Megabytes are not signed on a thread that others wait for.
    let read = tokio::task::spawn_blocking(move || {
        verify_signature(secret.reveal().as_bytes(), Some(&signature), &body)?;
        Ok::<_, WebhookError>((read_webhook(&event, &body)?, signature))
    });
    let (hint, signature) = read.await.map_err(|_| Refused::Cut)??;
    // What was captured and is sent again says nothing new.
    let new = receiver.gate().is_new(&signature);
    if new && matters(&hint, &receiver.repository) {
        tracing::debug!(?hint, "a webhook");
        receiver.news.notify_one();
    }
    Ok(())
}

impl Receiver {
    fn gate(&self) -> std::sync::MutexGuard<'_, Gate> {
        // It is a handful of numbers: any of them will do.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_secret(receiver: &Arc<Receiver>) -> Result<trueup_github::Secret, String> {
    let source = Arc::clone(&receiver.secret);
    let reading = tokio::task::spawn_blocking(move || source());
    reading.await.unwrap_or_else(|error| Err(error.to_string()))
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether there may be something to see: what a check says itself is none of it.
fn matters(hint: &Hint, repository: &str) -> bool {
    let here = hint.repository.is_empty() || hint.repository.eq_ignore_ascii_case(repository);
    here && match &hint.what {
        Hinted::Pull { .. } | Hinted::Push { .. } | Hinted::Comment { .. } => true,
        Hinted::Check { action, .. } => action == "rerequested",
        Hinted::Other => false,
    }
}

#[cfg(test)]
mod tests;
