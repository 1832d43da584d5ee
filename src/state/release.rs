//! The fold, as far as it is about one release: how its objects did when that was last news.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::body::{ReleaseLook, ReleaseObserved};
use crate::model::Name;

/// What is known of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseState {
    /// The event that says so.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The cluster.
    pub cluster: Name,
    /// The namespace of the list of what it has made.
    pub namespace: String,
    /// What was seen.
    pub look: ReleaseLook,
    /// Since when all of its objects do what they are for, or some do not.
    pub since: Timestamp,
}

impl ReleaseState {
    /// Whether every object does what it is for.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.look.ready == self.look.total()
    }

    /// After a look that found something new; `before`: what was known until then.
    pub(super) fn after(
        before: Option<&Self>,
        observed: &ReleaseObserved,
        seq: u64,
        at: Timestamp,
    ) -> Self {
        let mut after = Self {
            seq,
            at,
            cluster: observed.cluster.clone(),
            namespace: observed.namespace.clone(),
            look: observed.look.clone(),
            since: at,
        };
        if let Some(before) = before.filter(|before| before.is_well() == after.is_well()) {
            after.since = before.since;
        }
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(ready: u64) -> ReleaseObserved {
        let kinds = [("Deployment".to_owned(), 2)].into();
        let look = ReleaseLook { kinds, ready, ..ReleaseLook::default() };
        let cluster = Name::new("apps").unwrap();
        ReleaseObserved { cluster, namespace: "shop".into(), look }
    }

    #[test]
    fn being_well_or_not_has_its_own_beginning() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = ReleaseState::after(None, &look(0), 1, at(10));
        let second = ReleaseState::after(Some(&first), &look(1), 2, at(20));
        assert_eq!((second.at, second.since, second.is_well()), (at(20), at(10), false));
        let third = ReleaseState::after(Some(&second), &look(2), 3, at(30));
        assert_eq!((third.since, third.is_well()), (at(30), true));
    }
}
