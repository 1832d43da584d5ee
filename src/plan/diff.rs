//! The one place where two values are compared into field changes.
//!
//! Values are compared by type first; JSON is made only of what differs, so a plan of thousands of
//! resources with nothing to do makes none.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Disruption, FieldChange, LiveChange};

/// Differences found so far, and the live changes that settle some of them.
#[derive(Debug, Default)]
pub(super) struct Diff {
    /// The fields that differ.
    pub(super) changes: Vec<FieldChange>,
    /// What settles those of [`Disruption::Live`] on a running domain.
    pub(super) live: Vec<LiveChange>,
}

impl Diff {
    /// Compares a field that the spec owns whole.
    pub(super) fn field<T: PartialEq + Serialize>(
        &mut self,
        path: fmt::Arguments<'_>,
        from: &T,
        to: &T,
        disruption: Disruption,
    ) {
        if from != to {
            self.push(path, Some(from), Some(to), disruption);
        }
    }

    /// Compares a field that the spec owns only where it says something.
    pub(super) fn owned<T: PartialEq + Serialize>(
        &mut self,
        path: fmt::Arguments<'_>,
        from: &Option<T>,
        to: &Option<T>,
        disruption: Disruption,
    ) {
        if to.is_some() && from != to {
            self.push(path, from.as_ref(), to.as_ref(), disruption);
        }
    }

    /// Compares an optional field whose absence is a value too.
    pub(super) fn optional<T: PartialEq + Serialize>(
        &mut self,
        path: fmt::Arguments<'_>,
        from: &Option<T>,
        to: &Option<T>,
        disruption: Disruption,
    ) {
        if from != to {
            self.push(path, from.as_ref(), to.as_ref(), disruption);
        }
    }

    /// Notes a difference.
    pub(super) fn push<T: Serialize + ?Sized>(
        &mut self,
        path: fmt::Arguments<'_>,
        from: Option<&T>,
        to: Option<&T>,
        disruption: Disruption,
    ) {
        self.changes.push(FieldChange {
            path: path.to_string(),
            from: from.and_then(json),
            to: to.and_then(json),
            disruption,
        });
    }

    /// Whether anything differs by at least `disruption`.
    pub(super) fn reaches(&self, disruption: Disruption) -> bool {
        self.changes.iter().any(|change| change.disruption >= disruption)
    }
}

/// The value as JSON; `null` counts as nothing.
fn json<T: Serialize + ?Sized>(value: &T) -> Option<Value> {
    serde_json::to_value(value).ok().filter(|value| !value.is_null())
}

/// Items of two lists side by side, by their identity, in its order.
pub(super) fn pairs<'a, T, K: Ord>(
    from: &'a [T],
    to: &'a [T],
    key: impl Fn(&'a T) -> K,
) -> BTreeMap<K, (Option<&'a T>, Option<&'a T>)> {
    let mut pairs: BTreeMap<K, (Option<&T>, Option<&T>)> = BTreeMap::new();
    for item in from {
        pairs.entry(key(item)).or_default().0 = Some(item);
    }
    for item in to {
        pairs.entry(key(item)).or_default().1 = Some(item);
    }
    pairs
}

/// `key` as one segment of a JSON pointer (RFC 6901).
pub(super) fn segment(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// `desired` with the fields under `paths` as `observed` has them.
///
/// Items of lists are addressed by their identity: `/disks/vda/path`. A path that leads nowhere is
/// of no effect, and neither is one whose value would make the resource invalid.
pub(super) fn with_ignored<T: Serialize + DeserializeOwned + Clone>(
    desired: &T,
    observed: &T,
    paths: &[String],
) -> T {
    let mut kept = desired.clone();
    let Ok(from) = serde_json::to_value(observed) else {
        return kept;
    };
    for path in paths {
        let Ok(mut to) = serde_json::to_value(&kept) else {
            continue;
        };
        let segments: Vec<String> = path
            .split('/')
            .skip(1)
            .map(|part| part.replace("~1", "/").replace("~0", "~"))
            .collect();
        transplant(&from, &mut to, &segments);
        if let Ok(valid) = serde_json::from_value(to) {
            kept = valid;
        }
    }
    kept
}

/// Copies what stands at `segments` in `from` to the same place in `to`.
fn transplant(from: &Value, to: &mut Value, segments: &[String]) {
    let [first, rest @ ..] = segments else {
        *to = from.clone();
        return;
    };
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => match (from.get(first), to.get_mut(first)) {
            (Some(from), Some(to)) => transplant(from, to, rest),
            (Some(from), None) if rest.is_empty() => {
                to.insert(first.clone(), from.clone());
            }
            (None, Some(_)) if rest.is_empty() => {
                to.remove(first);
            }
            (Some(_) | None, None) | (None, Some(_)) => {}
        },
        (Value::Array(from), Value::Array(to)) => {
            let source = from.iter().find(|item| identity(item) == Some(first));
            let place = to.iter().position(|item| identity(item) == Some(first));
            match (source, place) {
                (Some(source), Some(place)) => transplant(source, &mut to[place], rest),
                (Some(source), None) if rest.is_empty() => {
                    to.push(source.clone());
                    to.sort_by(|a, b| identity(a).cmp(&identity(b)));
                }
                (None, Some(place)) if rest.is_empty() => {
                    to.remove(place);
                }
                (Some(_) | None, None) | (None, Some(_)) => {}
            }
        }
        _ => {}
    }
}

/// What tells an item of a list apart from the others.
fn identity(item: &Value) -> Option<&str> {
    ["target", "mac", "address", "ip"]
        .iter()
        .find_map(|key| item.get(key))
        .or(Some(item))
        .and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resource::Network;
    use crate::model::resource::{NetworkAddress, NetworkMode};

    fn network(address: &str, mtu: Option<u32>) -> Network {
        Network {
            mode: NetworkMode::Nat,
            bridge: None,
            addresses: vec![NetworkAddress { address: address.parse().unwrap(), dhcp: None }],
            dns: None,
            domain: None,
            mtu,
            autostart: true,
        }
    }

    #[test]
    fn ignored_fields_are_taken_from_the_machine() {
        let kept = with_ignored(
            &network("10.0.0.1/24", Some(1500)),
            &network("10.0.0.1/24", Some(9000)),
            &["/mtu".into(), "/nowhere/at/all".into(), "/mode/x".into()],
        );
        assert_eq!(kept, network("10.0.0.1/24", Some(9000)));
    }

    #[test]
    fn ignored_items_are_found_by_identity() {
        let kept = with_ignored(
            &network("10.0.0.1/24", None),
            &network("10.9.0.1/24", None),
            &["/addresses/10.0.0.1~124".into()],
        );
        assert!(kept.addresses.is_empty(), "the machine has no such address");
    }
}
