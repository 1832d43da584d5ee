//! Nodes taken out of service and given back: a mark says that it was us, and why. What somebody else
//! took out is never given back. Pure: patches are made here, and sent by [`super::Nodes`].

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::began::DRAIN;

/// The annotation by which we know our own cordons; its value is a [`CordonMark`] as JSON.
pub const CORDON: &str = "trueup.io/cordon";

/// Why we took a node out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonMark {
    /// What it is for; only the same token gives the node back.
    pub token: String,
    /// For people.
    pub reason: String,
}

/// Begins each token of ours.
const TOKEN: &str = "trueup:";
/// The taint that a cluster itself puts on nodes that are out of service.
const OUT_TAINT: &str = "node.kubernetes.io/unschedulable";

impl CordonMark {
    /// Of a change of a pool of a cluster. Which change it is, is not part of the token: one that was
    /// replaced by another leaves its nodes to that.
    pub fn of_pool(cluster: &str, pool: &str) -> Self {
        let reason = format!("pool {pool} is changed node by node");
        Self { token: format!("{TOKEN}{cluster}/{pool}"), reason }
    }

    /// Of somebody who takes a node out through us. `number` tells one such wish from another.
    pub fn of_person(cluster: &str, who: &str, number: u64, reason: &str) -> Self {
        let who = who.replace('/', " ");
        Self { token: format!("{TOKEN}{cluster}/@{who}/{number}"), reason: reason.to_owned() }
    }

    /// The number of the wish, where somebody took the node out through us.
    pub fn number_of_person(&self, cluster: &str) -> Option<u64> {
        let rest = self.token.strip_prefix(TOKEN)?.strip_prefix(cluster)?.strip_prefix("/@")?;
        rest.rsplit_once('/')?.1.parse().ok()
    }
}

/// Who took a node out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Out {
    /// We did.
    Ours(CordonMark),
    /// Somebody else; under which name they wrote it, where that is known.
    Others(Option<String>),
}

/// What taking out or giving back comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// This merge patch does it, on the object as it was seen and no other.
    Patch(Value),
    /// It is so already.
    Already,
    /// It is somebody else's, and stays as it is.
    Others(Out),
}

/// Whether a node is out of service, and by whom.
pub fn out(node: &Value) -> Option<Out> {
    if node.pointer("/spec/unschedulable") != Some(&Value::Bool(true)) {
        return None;
    }
    let note = node.get("metadata")?.get("annotations").and_then(|all| all.get(CORDON));
    // A mark that nobody can read is not taken for ours.
    let mark = note.and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
    Some(match mark {
        Some(mark) => Out::Ours(mark),
        None => Out::Others(writer(node)),
    })
}

/// Under which name `spec.unschedulable` was written.
fn writer(node: &Value) -> Option<String> {
    let entries = node.pointer("/metadata/managedFields")?.as_array()?;
    let entry =
        entries.iter().find(|entry| entry.pointer("/fieldsV1/f:spec/f:unschedulable").is_some())?;
    Some(entry.get("manager")?.as_str()?.to_owned())
}

/// Since when a node is out of service, as the server spells it. The cluster notes the time with the taint that it
/// gives such a node. Until it did, it is known of who wrote nothing else: the time of a writer's entry is that of
/// its last change, whatever that was.
pub(super) fn out_since(node: &Value) -> Option<String> {
    out(node)?;
    let list = |path: &str| node.pointer(path).and_then(Value::as_array).into_iter().flatten();
    let taint = list("/spec/taints").find(|taint| taint["key"] == OUT_TAINT);
    let entry = || {
        let only = json!({"f:spec": {"f:unschedulable": {}}});
        list("/metadata/managedFields").find(|entry| entry["fieldsV1"] == only)
    };
    let time = match taint.and_then(|taint| taint.get("timeAdded")) {
        Some(time) => Some(time),
        None => entry().and_then(|entry| entry.get("time")),
    };
    Some(time?.as_str()?.to_owned())
}

fn version(node: &Value) -> Value {
    node.pointer("/metadata/resourceVersion").cloned().unwrap_or_default()
}

/// How to take a node out.
pub fn cordon(node: &Value, mark: &CordonMark) -> Taken {
    match out(node) {
        Some(Out::Ours(old)) if old == *mark => Taken::Already,
        Some(Out::Ours(old)) if old.token != mark.token => Taken::Others(Out::Ours(old)),
        Some(Out::Others(who)) => Taken::Others(Out::Others(who)),
        Some(Out::Ours(_)) | None => Taken::Patch(json!({
            "metadata": {
                "resourceVersion": version(node),
                "annotations": {CORDON: json!(mark).to_string(), DRAIN: null},
            },
            "spec": {"unschedulable": true},
        })),
    }
}

/// How to give a node back that was taken out with this token.
pub fn uncordon(node: &Value, token: &str) -> Taken {
    match out(node) {
        Some(Out::Ours(mark)) if mark.token == token => Taken::Patch(json!({
            "metadata": {"resourceVersion": version(node), "annotations": {CORDON: null, DRAIN: null}},
            "spec": {"unschedulable": null},
        })),
        Some(other) => Taken::Others(other),
        // Somebody gave it back for us, and our mark is only in the way.
        None if node.get("metadata").and_then(|m| m.get("annotations")?.get(CORDON)).is_some() => {
            Taken::Patch(json!({
                "metadata": {"resourceVersion": version(node), "annotations": {CORDON: null, DRAIN: null}},
            }))
        }
        None => Taken::Already,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(token: &str) -> CordonMark {
        CordonMark { token: token.to_owned(), reason: "driver".to_owned() }
    }

    /// RFC 7396, as far as it is needed here.
    fn merge(into: &mut Value, patch: &Value) {
        let (Some(patch), true) = (patch.as_object(), into.is_object()) else {
            *into = patch.clone();
            return;
        };
        for (key, value) in patch {
            match value {
                Value::Null => drop(into.as_object_mut().unwrap().remove(key)),
                value => {
                    if into.get(key).is_none_or(|old| !old.is_object()) && value.is_object() {
                        into[key] = json!({});
                    }
                    merge(&mut into[key], value);
                }
            }
        }
    }

    #[test]
    fn a_persons_mark_has_its_number() {
        let pool = CordonMark::of_pool("cloud", "gpu");
        let person = CordonMark::of_person("cloud", "ann/x", 812, "fan is loud");
        assert_eq!(person.token, "trueup:cloud/@ann x/812");
        assert_eq!(person.number_of_person("cloud"), Some(812));
        assert_eq!(person.number_of_person("clou"), None);
        assert_eq!(pool.number_of_person("cloud"), None);
    }

    #[test]
    fn ours_comes_back_and_only_by_its_token() {
        let mut node = json!({"metadata": {"name": "n", "resourceVersion": "7"}, "spec": {}});
        let Taken::Patch(patch) = cordon(&node, &mark("a")) else { panic!() };
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        merge(&mut node, &patch);
        assert_eq!(out(&node), Some(Out::Ours(mark("a"))));
        assert_eq!(cordon(&node, &mark("a")), Taken::Already);
        assert_eq!(cordon(&node, &mark("b")), Taken::Others(Out::Ours(mark("a"))));
        assert_eq!(uncordon(&node, "b"), Taken::Others(Out::Ours(mark("a"))));
        let Taken::Patch(patch) = uncordon(&node, "a") else { panic!() };
        merge(&mut node, &patch);
        assert_eq!(out(&node), None);
        assert_eq!(uncordon(&node, "a"), Taken::Already);
    }

    #[test]
    fn what_a_person_took_out_stays_out() {
        let node = json!({"metadata": {"managedFields": [
                {"manager": "kubectl-cordon", "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}]},
            "spec": {"unschedulable": true}});
        let theirs = Out::Others(Some("kubectl-cordon".to_owned()));
        assert_eq!(cordon(&node, &mark("a")), Taken::Others(theirs.clone()));
        assert_eq!(uncordon(&node, "a"), Taken::Others(theirs));
    }

    #[test]
    fn since_when_it_is_out_is_what_the_cluster_says() {
        let entry = |fields: Value| json!({"manager": "kubectl-cordon", "time": "2026-01-02T03:04:05Z", "fieldsV1": fields});
        let only = json!({"f:spec": {"f:unschedulable": {}}});
        let mut node = json!({"metadata": {"managedFields": [entry(only)]}, "spec": {}});
        assert_eq!(out_since(&node), None, "it is not out");
        node["spec"]["unschedulable"] = json!(true);
        assert_eq!(out_since(&node).as_deref(), Some("2026-01-02T03:04:05Z"));
        let more =
            json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:unschedulable": {}}});
        node["metadata"]["managedFields"][0] = entry(more);
        assert_eq!(out_since(&node), None, "it may be the time of the label");
        node["spec"]["taints"] = json!([{"key": "gpu", "timeAdded": "2026-01-01T00:00:00Z"},
            {"key": OUT_TAINT, "timeAdded": "2026-01-02T00:00:00Z"}]);
        assert_eq!(out_since(&node).as_deref(), Some("2026-01-02T00:00:00Z"));
    }

    #[test]
    fn a_person_may_give_it_back_before_us() {
        let note = json!(mark("a")).to_string();
        let node = json!({"metadata": {"annotations": {CORDON: note}}, "spec": {}});
        let Taken::Patch(patch) = uncordon(&node, "a") else { panic!() };
        assert!(patch.get("spec").is_none(), "{patch}");
    }
}
