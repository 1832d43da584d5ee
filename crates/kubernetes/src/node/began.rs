//! Since when a node is being emptied, noted on the node itself: a drain that is gone on with has the time
//! that is left of it, whoever began it. Pure; [`super::Nodes`] reads and writes it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The annotation that says since when a node is being emptied.
pub const DRAIN: &str = "trueup.io/drain";

/// Its value, as JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Began {
    /// What for: the token of the mark on the node.
    token: String,
    /// Since when.
    since: Timestamp,
}

/// Since when it is being emptied for this; `None`: it is not. A note that nobody can read is none, and one
/// from the future is from now: no note makes the time longer.
pub fn drain_began(node: &Value, token: &str, now: Timestamp) -> Option<Timestamp> {
    let note = node.get("metadata")?.get("annotations")?.get(DRAIN)?.as_str()?;
    let began: Began = serde_json::from_str(note).ok()?;
    (began.token == token).then(|| began.since.min(now))
}

/// The merge patch that notes it, on the object as it was seen and no other. `since` of `None`: that it is
/// over.
pub(super) fn note(node: &Value, token: &str, since: Option<Timestamp>) -> Value {
    let note = since.map(|since| json!(Began { token: token.to_owned(), since }).to_string());
    let version = node.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
    json!({"metadata": {"resourceVersion": version, "annotations": {DRAIN: note}}})
}

/// How much of the time is left.
pub fn time_left(since: Timestamp, now: Timestamp, limit: Duration) -> Duration {
    let spent = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    limit.saturating_sub(spent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_drain_that_is_gone_on_with_has_the_time_that_is_left() {
        let mut node = json!({"metadata": {"name": "n", "resourceVersion": "7"}});
        assert_eq!(drain_began(&node, "a", at(100)), None);
        let patch = note(&node, "a", Some(at(100)));
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        node["metadata"]["annotations"] = patch["metadata"]["annotations"].clone();
        assert_eq!(drain_began(&node, "a", at(150)), Some(at(100)));
        // Of another change: that one's time begins anew.
        assert_eq!(drain_began(&node, "b", at(150)), None);
        // A clock that was put back, or a hand: nobody gets more than the whole.
        assert_eq!(drain_began(&node, "a", at(50)), Some(at(50)));
        node["metadata"]["annotations"][DRAIN] = json!("soon");
        assert_eq!(drain_began(&node, "a", at(150)), None);
        assert_eq!(note(&node, "a", None)["metadata"]["annotations"], json!({DRAIN: null}));

        let limit = Duration::from_secs(60);
        assert_eq!(time_left(at(100), at(100), limit), limit);
        assert_eq!(time_left(at(100), at(145), limit), Duration::from_secs(15));
        assert_eq!(time_left(at(100), at(9_999), limit), Duration::ZERO);
        assert_eq!(time_left(at(100), at(50), limit), limit);
    }
}
