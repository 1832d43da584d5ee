//! What comes back from one call, cut down to what we use.
//!
//! It never interprets the body beyond knowing that it is whole.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

use crate::client::Method;
use crate::error::ClientError;

/// What a reply says of the budget of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Calls an hour (`x-ratelimit-limit`).
    pub limit: Option<u64>,
    /// Calls left until `reset` (`x-ratelimit-remaining`).
    pub remaining: Option<u64>,
    /// When the budget is full again (`x-ratelimit-reset`, seconds since 1970).
    pub reset: Option<Timestamp>,
    /// How long to wait before any further call (`retry-after`).
    pub retry_after: Option<Duration>,
}

impl Rate {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let number = |name: &str| text(headers, name)?.trim().parse::<u64>().ok();
        let reset = number("x-ratelimit-reset")
            .and_then(|at| i64::try_from(at).ok())
            .and_then(|at| Timestamp::from_second(at).ok());
        Self {
            limit: number("x-ratelimit-limit"),
            remaining: number("x-ratelimit-remaining"),
            reset,
            retry_after: number("retry-after").map(Duration::from_secs).or_else(|| until(headers)),
        }
    }
}

/// `retry-after` in its other form, a date, measured by the server's own clock.
fn until(headers: &HeaderMap) -> Option<Duration> {
    let at = jiff::fmt::rfc2822::parse(text(headers, "retry-after")?).ok()?.timestamp();
    let now = date(headers)?;
    Duration::try_from(at.duration_since(now)).ok()
}

/// A whole reply with a status of success, or 304.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body; for a 304 that was answered from memory, the remembered one.
    pub body: Arc<[u8]>,
    /// The entity tag.
    pub etag: Option<String>,
    /// Whether a `Link` with `rel="next"` was given. Where it leads is not kept: pages are asked for
    /// by number, so that the login stays with the configured host.
    pub next: bool,
    /// The forge's own clock.
    pub date: Option<Timestamp>,
    /// What is left of the budget.
    pub rate: Rate,
    /// Whether the body is what an earlier call brought.
    pub unchanged: bool,
}

impl Reply {
    pub(crate) fn of(status: u16, headers: &HeaderMap, body: Vec<u8>) -> Self {
        Self {
            status,
            body: body.into(),
            etag: text(headers, "etag").map(str::to_owned),
            next: text(headers, "link").is_some_and(|link| link.contains("rel=\"next\"")),
            date: date(headers),
            rate: Rate::of(headers),
            unchanged: false,
        }
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`ClientError::Unknown`]: the call was answered, but not with what it should be.
    pub fn json<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| ClientError::Unknown {
            method,
            path: path.to_owned(),
            why: format!("the reply ({} bytes) is not as expected: {error}", self.body.len()),
        })
    }
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    Some(jiff::fmt::rfc2822::parse(text(headers, "date")?).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.insert(*name, http::HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn the_wait_is_read_in_both_forms() {
        let seconds = Rate::of(&headers(&[("retry-after", "17")]));
        assert_eq!(seconds.retry_after, Some(Duration::from_secs(17)));
        let date = Rate::of(&headers(&[
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT"),
        ]));
        assert_eq!(date.retry_after, Some(Duration::from_secs(60)));
        let past = Rate::of(&headers(&[
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("retry-after", "Sun, 06 Nov 1994 08:49:07 GMT"),
        ]));
        assert_eq!(past.retry_after, None);
        assert_eq!(Rate::of(&headers(&[("x-ratelimit-remaining", "many")])), Rate::default());
    }

    #[test]
    fn only_the_next_page_counts_of_a_link() {
        let of = |link| Reply::of(200, &headers(&[("link", link)]), Vec::new()).next;
        assert!(of("<https://elsewhere/?page=2>; rel=\"next\", <x>; rel=\"last\""));
        assert!(!of("<https://elsewhere/?page=1>; rel=\"first\""));
    }
}
