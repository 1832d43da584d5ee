//! What the last whole reply to each GET was, so that an unchanged one costs nothing.
//!
//! It never holds a reply to anything but a GET, never one that was cut off or is no JSON, and never
//! more than its limits.

use std::collections::HashMap;
use std::sync::Arc;

use crate::reply::Reply;

/// Most replies remembered: the pages of a few hundred open pull requests and their reviews.
const ENTRIES_MAX: usize = 512;
/// Most bytes of bodies remembered; a page of 100 pull requests has about 2 MB.
const BYTES_MAX: usize = 32 << 20;

/// A remembered reply.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) etag: String,
    pub(crate) body: Arc<[u8]>,
    pub(crate) next: bool,
}

/// Replies by path and query.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<String, (Known, u64)>,
    bytes: usize,
    /// Counts uses; tells which entry was not used for longest.
    tick: u64,
}

impl Cache {
    pub(crate) fn find(&mut self, path: &str) -> Option<Known> {
        self.tick += 1;
        let (known, used) = self.entries.get_mut(path)?;
        *used = self.tick;
        Some(known.clone())
    }

    /// Remembers a reply that is whole; forgets what was there if this one cannot be asked for anew.
    pub(crate) fn learn(&mut self, path: &str, reply: &Reply) {
        self.forget(path);
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&reply.body).is_ok();
        let (Some(etag), true) = (&reply.etag, whole && reply.status == 200) else { return };
        let size = reply.body.len();
        if size > BYTES_MAX / 2 {
            return;
        }
        while self.entries.len() >= ENTRIES_MAX || self.bytes + size > BYTES_MAX {
            let oldest = self.entries.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(path, _)| path.clone()) else { break };
            self.forget(&oldest);
        }
        self.tick += 1;
        self.bytes += size;
        let known = Known { etag: etag.clone(), body: reply.body.clone(), next: reply.next };
        self.entries.insert(path.to_owned(), (known, self.tick));
    }

    fn forget(&mut self, path: &str) {
        if let Some((known, _)) = self.entries.remove(path) {
            self.bytes -= known.body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(etag: Option<&str>, body: Vec<u8>) -> Reply {
        let mut reply = Reply::of(200, &http::HeaderMap::new(), body);
        reply.etag = etag.map(str::to_owned);
        reply
    }

    #[test]
    fn what_is_cut_off_or_has_no_tag_is_not_kept() {
        let mut cache = Cache::default();
        cache.learn("/a", &reply(Some("1"), b"[1]".to_vec()));
        assert_eq!(cache.find("/a").unwrap().etag, "1");
        cache.learn("/a", &reply(Some("2"), b"[1,".to_vec()));
        assert!(cache.find("/a").is_none(), "the old one is stale as well");
        cache.learn("/b", &reply(None, b"[1]".to_vec()));
        assert!(cache.find("/b").is_none());
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn it_stays_within_its_limits_and_keeps_what_is_used() {
        let mut cache = Cache::default();
        for n in 0..ENTRIES_MAX * 2 {
            cache.learn(&format!("/{n}"), &reply(Some("x"), b"1".to_vec()));
            assert!(cache.find("/0").is_some(), "used all the time, gone at {n}");
        }
        assert_eq!(cache.entries.len(), ENTRIES_MAX);
        let big = vec![b'1'; BYTES_MAX / 3];
        for n in 0..4 {
            cache.learn(&format!("/big{n}"), &reply(Some("x"), big.clone()));
        }
        assert!(cache.bytes <= BYTES_MAX, "{}", cache.bytes);
        let sum: usize = cache.entries.values().map(|(known, _)| known.body.len()).sum();
        assert_eq!(cache.bytes, sum);
    }
}
