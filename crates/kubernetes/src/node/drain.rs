//! Which pods have to leave a node, which may stay, and which are not to be moved without being told.
//! Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::key::ObjectKey;

/// What may be done to pods that would not come back as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRules {
    /// Pods that nobody makes anew may go.
    pub bare: bool,
    /// Data in a pod's own folder (`emptyDir`) may be lost.
    pub local_data: bool,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodRef {
    /// It.
    pub key: ObjectKey,
    /// That very one.
    pub uid: String,
}

/// A pod that does not go, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stays {
    /// It.
    pub pod: PodRef,
    /// Why.
    pub why: String,
}

/// What a drain does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainPlan {
    /// Asked to go.
    pub evict: Vec<PodRef>,
    /// On their way already.
    pub leaving: Vec<PodRef>,
    /// No reason to go.
    pub stay: Vec<Stays>,
    /// Not to be moved without being told: nothing is done while there is one.
    pub refused: Vec<Stays>,
}

impl DrainPlan {
    /// Whether the node is free of all that has to leave it.
    pub fn is_done(&self) -> bool {
        self.evict.is_empty() && self.leaving.is_empty() && self.refused.is_empty()
    }
}

/// Sorts the pods of a node.
pub fn drain_plan(pods: &[Value], rules: DrainRules) -> DrainPlan {
    let mut plan = DrainPlan::default();
    for pod in pods {
        let Some(of) = pod_ref(pod) else { continue };
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default();
        if matches!(text("/status/phase"), "Succeeded" | "Failed") {
            plan.stay.push(Stays { pod: of, why: "has ended".to_owned() });
            continue;
        }
        let notes = pod.pointer("/metadata/annotations");
        // A picture of what the kubelet runs by itself from files on the node.
        if notes.and_then(|notes| notes.get("kubernetes.io/config.mirror")).is_some() {
            let why = "is run by the node's own files".to_owned();
            plan.stay.push(Stays { pod: of, why });
            continue;
        }
        let owner = controller(pod);
        if owner.is_some_and(|kind| kind == "DaemonSet") {
            let why = "its DaemonSet would put it back at once".to_owned();
            plan.stay.push(Stays { pod: of, why });
            continue;
        }
        if pod.pointer("/metadata/deletionTimestamp").is_some() {
            plan.leaving.push(of);
            continue;
        }
        let mut why = Vec::new();
        if owner.is_none() && !rules.bare {
            why.push("nobody would make it anew".to_owned());
        }
        if !rules.local_data {
            let data = local_data(pod);
            if !data.is_empty() {
                why.push(format!("the data in its {} would be lost", data.join(", ")));
            }
        }
        match why.is_empty() {
            true => plan.evict.push(of),
            false => plan.refused.push(Stays { pod: of, why: why.join(", and ") }),
        }
    }
    plan.evict.sort();
    plan.leaving.sort();
    plan
}

fn pod_ref(pod: &Value) -> Option<PodRef> {
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str);
    let key = ObjectKey::new("", "Pod", text("/metadata/namespace"), text("/metadata/name")?);
    Some(PodRef { key, uid: text("/metadata/uid")?.to_owned() })
}

/// The kind of what makes the pod anew.
fn controller(pod: &Value) -> Option<&str> {
    let owners = pod.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == Value::Bool(true))?;
    owner.get("kind")?.as_str()
}

fn local_data(pod: &Value) -> Vec<&str> {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let local = volumes.into_iter().flatten().filter(|volume| volume.get("emptyDir").is_some());
    local.filter_map(|volume| volume.get("name")?.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, owner: Option<&str>, more: Value) -> Value {
        let mut pod =
            json!({"metadata": {"name": name, "namespace": "shop", "uid": name}, "spec": {}});
        if let Some(kind) = owner {
            pod["metadata"]["ownerReferences"] = json!([{"kind": kind, "controller": true}]);
        }
        for (path, value) in more.as_object().unwrap() {
            let (parent, field) = path.rsplit_once('/').unwrap();
            match parent {
                "" => pod[field] = value.clone(),
                parent => pod.pointer_mut(parent).unwrap()[field] = value.clone(),
            }
        }
        pod
    }

    #[test]
    fn pods_are_sorted() {
        let pods = [
            pod("web", Some("ReplicaSet"), json!({})),
            pod("daemon", Some("DaemonSet"), json!({})),
            pod("done", None, json!({"/status": {"phase": "Succeeded"}})),
            pod(
                "static",
                Some("Node"),
                json!({"/metadata/annotations": {"kubernetes.io/config.mirror": "x"}}),
            ),
            pod("going", Some("ReplicaSet"), json!({"/metadata/deletionTimestamp": "x"})),
            pod("bare", None, json!({})),
            pod(
                "data",
                Some("ReplicaSet"),
                json!({"/spec/volumes": [{"name": "scratch", "emptyDir": {}}]}),
            ),
        ];
        let plan = drain_plan(&pods, DrainRules::default());
        let names = |all: &[PodRef]| all.iter().map(|p| p.key.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&plan.evict), ["web"]);
        assert_eq!(names(&plan.leaving), ["going"]);
        let shown = |all: &[Stays]| {
            all.iter().map(|s| format!("{}: {}", s.pod.key.name, s.why)).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(&plan.stay),
            [
                "daemon: its DaemonSet would put it back at once",
                "done: has ended",
                "static: is run by the node's own files",
            ]
        );
        assert_eq!(
            shown(&plan.refused),
            ["bare: nobody would make it anew", "data: the data in its scratch would be lost",]
        );
        assert!(!plan.is_done());
        let plan = drain_plan(&pods, DrainRules { bare: true, local_data: true });
        assert_eq!(names(&plan.evict), ["bare", "data", "web"]);
        assert!(plan.refused.is_empty());
    }
}
