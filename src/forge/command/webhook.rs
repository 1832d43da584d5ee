//! Webhooks: signed, limited, and read for the few fields that say where to look.
//!
//! Nothing is believed: a hint only makes the next look come sooner. A field that is missing or odd
//! makes the hint poorer and never an error, as forges differ and change.

use hmac::{Hmac, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

use crate::model::CommitId;

/// Most bytes of a webhook that are read. The ones that matter have tens of KiB; a push of thousands
/// of commits may have more, and polling finds it as well.
pub const WEBHOOK_BYTES_MAX: usize = 2 << 20;
/// Longest name taken over, in characters.
const NAME_CHARS_MAX: usize = 200;

/// Why a webhook is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// It does not say how long it is, or is too long.
    #[error("the webhook is longer than {WEBHOOK_BYTES_MAX} bytes or does not say how long it is")]
    TooLong,
    /// It carries no signature, or one of another form.
    #[error("the webhook carries no SHA-256 signature; set the same secret there and here")]
    Unsigned,
    /// The signature is not that of its content under our secret.
    #[error("the webhook's signature does not fit; set the same secret there and here")]
    Forged,
    /// It is signed and is no JSON object.
    #[error("the webhook is not a JSON object")]
    Malformed,
}

/// Where something may have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// `owner/name`, as the forge says it; empty where it does not.
    pub repository: String,
    /// What may have happened.
    pub what: Hinted,
}

/// What may have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hinted {
    /// Something about a pull request.
    Pull {
        /// Its number.
        number: u64,
        /// What was done: `opened`, `synchronize`, `closed`, `labeled`.
        action: String,
        /// The head it had then.
        head: Option<CommitId>,
    },
    /// A branch or another ref moved.
    Push {
        /// The ref, whole.
        reference: String,
    },
    /// Somebody wrote, changed or removed a comment.
    Comment {
        /// The issue or pull request.
        number: u64,
        /// The comment.
        comment: u64,
        /// What was done: `created`, `edited`, `deleted`.
        action: String,
    },
    /// Somebody asks for a check to be made again, or one changed.
    Check {
        /// What was done: `rerequested`.
        action: String,
        /// The commit it is of.
        head: Option<CommitId>,
    },
    /// Something that says nothing to us.
    Other,
}

/// Whether a request with this declared length may be read at all.
///
/// # Errors
/// [`WebhookError::TooLong`].
pub fn may_read(declared: Option<u64>) -> Result<usize, WebhookError> {
    let length = declared.and_then(|length| usize::try_from(length).ok());
    length.filter(|length| *length <= WEBHOOK_BYTES_MAX).ok_or(WebhookError::TooLong)
}

/// Checks `signature` (the header `X-Hub-Signature-256`: `sha256=<hex>`; Gitea's
/// `X-Gitea-Signature` has the digits alone) against the body. Takes the same time wherever a wrong
/// one differs.
///
/// # Errors
/// [`WebhookError::Unsigned`], [`WebhookError::Forged`]. An empty secret signs nothing.
pub fn verify_signature(
    secret: &[u8],
    signature: Option<&str>,
    body: &[u8],
) -> Result<(), WebhookError> {
    let text = signature.map(str::trim).ok_or(WebhookError::Unsigned)?;
    let digits = text.strip_prefix("sha256=").unwrap_or(text);
    let mut given = [0_u8; 32];
    hex::decode_to_slice(digits, &mut given).map_err(|_| WebhookError::Unsigned)?;
    if secret.is_empty() {
        return Err(WebhookError::Forged);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| WebhookError::Forged)?;
    mac.update(body);
    mac.verify_slice(&given).map_err(|_| WebhookError::Forged)
}

/// Reads a webhook of the type `event` (the header `X-GitHub-Event` or `X-Gitea-Event`). Call it after
/// [`verify_signature`].
///
/// # Errors
/// [`WebhookError::TooLong`], [`WebhookError::Malformed`].
pub fn read_webhook(event: &str, body: &[u8]) -> Result<Hint, WebhookError> {
    if body.len() > WEBHOOK_BYTES_MAX {
        return Err(WebhookError::TooLong);
    }
    // A list would be taken for the fields in their order.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(WebhookError::Malformed);
    }
    let payload: Payload = serde_json::from_slice(body).map_err(|_| WebhookError::Malformed)?;
    let repository = payload.repository.and_then(|it| it.full_name.text()).unwrap_or_default();
    let action = payload.action.text().unwrap_or_default();
    let what = match event {
        "pull_request" | "pull_request_review" | "pull_request_target" => {
            let pull = payload.pull_request.unwrap_or_default();
            let number = payload.number.number().or(pull.number.number());
            let head = pull.head.and_then(|head| head.sha.commit());
            number.map(|number| Hinted::Pull { number, action, head })
        }
        "push" => payload.reference.text().map(|reference| Hinted::Push { reference }),
        "issue_comment" => {
            let number = payload.issue.and_then(|issue| issue.number.number());
            let comment = payload.comment.and_then(|comment| comment.id.number());
            number.zip(comment).map(|(number, comment)| Hinted::Comment { number, comment, action })
        }
        "check_run" | "check_suite" => {
            let check = payload.check_run.or(payload.check_suite);
            let head = check.and_then(|check| check.head_sha.commit());
            Some(Hinted::Check { action, head })
        }
        _ => None,
    };
    Ok(Hint { repository, what: what.unwrap_or(Hinted::Other) })
}

/// The fields looked at. Every one may be missing or of another type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Payload {
    action: Loose,
    number: Loose,
    #[serde(rename = "ref")]
    reference: Loose,
    #[serde(deserialize_with = "object")]
    repository: Option<Repository>,
    #[serde(deserialize_with = "object")]
    pull_request: Option<Pull>,
    #[serde(deserialize_with = "object")]
    issue: Option<Pull>,
    #[serde(deserialize_with = "object")]
    comment: Option<Identified>,
    #[serde(deserialize_with = "object")]
    check_run: Option<Check>,
    #[serde(deserialize_with = "object")]
    check_suite: Option<Check>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Repository {
    full_name: Loose,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pull {
    number: Loose,
    #[serde(deserialize_with = "object")]
    head: Option<Head>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Head {
    sha: Loose,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Identified {
    id: Loose,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Check {
    head_sha: Loose,
}

/// An object of the type asked for, or nothing.
fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.is_object().then(|| serde_json::from_value(value).ok()).flatten())
}

/// A value of any type.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
struct Loose(serde_json::Value);

impl Loose {
    fn text(&self) -> Option<String> {
        let text = self.0.as_str()?;
        Some(text.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect())
    }

    fn number(&self) -> Option<u64> {
        self.0.as_u64()
    }

    fn commit(&self) -> Option<CommitId> {
        self.0.as_str()?.parse().ok()
    }
}
