//! What is too large for an event: its content goes beside the log, the event names its digest.
//!
//! Nothing is stored here; the journal keeps what an entry brings before it appends the entry.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::Digest;

/// Most bytes of one spilled content; what is longer is cut. A list of ten thousand mistakes has a
/// tenth of it.
pub const SPILL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How a stored line names a blob: the member of [`Spilled`], as JSON writes it.
const MEMBER: &str = "\"$blob\":\"";
/// Digits of a SHA-256.
const DIGITS: usize = 64;

/// The name of a content that is stored beside the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spilled {
    /// Its SHA-256, which is also the name of its file.
    #[serde(rename = "$blob")]
    pub blob: Digest,
    /// How long it is.
    pub bytes: u64,
}

impl Spilled {
    /// Names `content`, and gives it back as it is to be stored.
    #[must_use]
    pub fn of(mut content: Vec<u8>) -> (Self, Arc<[u8]>) {
        content.truncate(SPILL_BYTES_MAX);
        let spilled = Self { blob: Digest::of(&content), bytes: content.len() as u64 };
        (spilled, content.into())
    }

    /// Names `value` as JSON, and gives it back as it is to be stored; `None` where it has none.
    #[must_use]
    pub fn of_json<T: Serialize + ?Sized>(value: &T) -> Option<(Self, Arc<[u8]>)> {
        serde_json::to_vec_pretty(value).ok().map(Self::of)
    }

    /// The name in a value that stands for a spilled one.
    #[must_use]
    pub fn in_value(value: &serde_json::Value) -> Option<Self> {
        value.get("$blob")?;
        serde_json::from_value(value.clone()).ok()
    }
}

/// Contents that an entry brings. They are no part of what the log says, which names them.
#[derive(Debug, Clone, Default)]
pub struct Brought(pub Vec<Arc<[u8]>>);

impl PartialEq for Brought {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// The blobs that the data of a stored event names.
pub fn named(data: &str) -> impl Iterator<Item = Digest> {
    data.match_indices(MEMBER).filter_map(|(at, _)| {
        let from = at + MEMBER.len();
        data.get(from..from + DIGITS)?.parse().ok()
    })
}

/// Every digest in the data of a stored event, whatever it is of: some types name a blob in a field
/// of their own, so what is to be kept is judged by this.
pub fn digests(data: &str) -> impl Iterator<Item = Digest> {
    data.match_indices('"').filter_map(|(at, _)| {
        let from = at + 1;
        let digits = data.get(from..from + DIGITS)?;
        let ends = data.as_bytes().get(from + DIGITS) == Some(&b'"');
        digits.parse().ok().filter(|_| ends)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_found_in_the_stored_text() {
        let (one, content) = Spilled::of(b"large".to_vec());
        assert_eq!((&*content, one.bytes), (&b"large"[..], 5));
        let value = serde_json::to_value(&one).unwrap();
        assert_eq!(Spilled::in_value(&value), Some(one.clone()));
        assert_eq!(Spilled::in_value(&serde_json::json!({ "blob": 1 })), None);
        let line = format!("{{\"changes\":[{value}],\"more\":{value}}}");
        assert_eq!(named(&line).collect::<Vec<_>>(), [one.blob, one.blob]);
        assert_eq!(named("{\"$blob\":\"short").count(), 0);
        let elsewhere = format!("{{\"body\":\"{}\",\"é\":\"ab\"}}", one.blob);
        assert_eq!(named(&elsewhere).count(), 0);
        assert_eq!(digests(&elsewhere).collect::<Vec<_>>(), [one.blob]);
    }
}
