//! Whether an object has become what it should be, kind by kind. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::key::ObjectKey;

/// How an object does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state", content = "why")]
pub enum Health {
    /// It does what it is for.
    Ready,
    /// It is on its way.
    Progressing(String),
    /// It will not get there by itself.
    Failed(String),
    /// It is being deleted.
    Terminating(String),
}

impl Health {
    /// Whether nothing is to be waited for.
    pub fn is_ready(&self) -> bool {
        *self == Self::Ready
    }
}

/// Judges an object as the cluster has it.
pub fn health(key: &ObjectKey, live: &Value) -> Health {
    if live.pointer("/metadata/deletionTimestamp").is_some() {
        return Health::Terminating(stuck_by(live));
    }
    if let Some(behind) = behind(live) {
        return behind;
    }
    match (key.group.as_str(), key.kind.as_str()) {
        ("apps", "Deployment") => deployment(live),
        ("apps", "StatefulSet") => stateful_set(live),
        ("apps", "DaemonSet") => daemon_set(live),
        ("batch", "Job") => job(live),
        ("", "Pod") => pod(live),
        ("", "PersistentVolumeClaim") => claim(live),
        ("", "Service") => service(live),
        ("", "Namespace") => match text(live, "/status/phase") {
            "Active" | "" => Health::Ready,
            phase => Health::Progressing(format!("phase {phase}")),
        },
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(live),
        _ => generic(live),
    }
}

/// What an object that is being deleted waits for.
pub(super) fn stuck_by(live: &Value) -> String {
    let all = live.pointer("/metadata/finalizers").and_then(Value::as_array);
    let names: Vec<&str> = all.into_iter().flatten().filter_map(Value::as_str).collect();
    match names.is_empty() {
        true => "being deleted".to_owned(),
        false => format!("being deleted, waits for {}", names.join(", ")),
    }
}

fn text<'a>(live: &'a Value, path: &str) -> &'a str {
    live.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn number(live: &Value, path: &str) -> Option<u64> {
    live.pointer(path).and_then(Value::as_u64)
}

fn count(live: &Value, path: &str) -> u64 {
    number(live, path).unwrap_or(0)
}

/// Who runs it has not seen its latest change.
fn behind(live: &Value) -> Option<Health> {
    let seen = number(live, "/status/observedGeneration")?;
    let now = number(live, "/metadata/generation")?;
    (seen < now).then(|| Health::Progressing("its latest change was not seen yet".to_owned()))
}

struct Condition<'a> {
    status: &'a str,
    reason: &'a str,
    message: &'a str,
}

fn condition<'a>(live: &'a Value, kind: &str) -> Option<Condition<'a>> {
    let all = live.pointer("/status/conditions")?.as_array()?;
    let one = all.iter().find(|one| text(one, "/type") == kind)?;
    Some(Condition {
        status: text(one, "/status"),
        reason: text(one, "/reason"),
        message: text(one, "/message"),
    })
}

impl Condition<'_> {
    fn words(&self) -> String {
        match (self.reason, self.message) {
            ("", "") => "no reason is given".to_owned(),
            ("", message) => message.to_owned(),
            (reason, "") => reason.to_owned(),
            (reason, message) => format!("{reason}: {message}"),
        }
    }
}

/// A kind whose controller has not said anything yet: without a status nothing is known.
fn unseen(live: &Value) -> Option<Health> {
    number(live, "/status/observedGeneration")
        .is_none()
        .then(|| Health::Progressing("nobody has taken it up yet".to_owned()))
}

fn deployment(live: &Value) -> Health {
    if let Some(unseen) = unseen(live) {
        return unseen;
    }
    if let Some(progress) = condition(live, "Progressing")
        && progress.status == "False"
    {
        return Health::Failed(progress.words());
    }
    let wanted = number(live, "/spec/replicas").unwrap_or(1);
    let updated = count(live, "/status/updatedReplicas");
    let available = count(live, "/status/availableReplicas");
    let all = count(live, "/status/replicas");
    if updated < wanted {
        Health::Progressing(format!("{updated} of {wanted} pods are of the new template"))
    } else if all > updated {
        Health::Progressing(format!("{} pods of the old template are left", all - updated))
    } else if available < wanted {
        Health::Progressing(format!("{available} of {wanted} pods are available"))
    } else {
        Health::Ready
    }
}

fn stateful_set(live: &Value) -> Health {
    if let Some(unseen) = unseen(live) {
        return unseen;
    }
    let wanted = number(live, "/spec/replicas").unwrap_or(1);
    let ready = count(live, "/status/readyReplicas");
    if ready < wanted {
        return Health::Progressing(format!("{ready} of {wanted} pods are ready"));
    }
    // With `OnDelete` nothing rolls by itself, and below a partition nothing is meant to.
    let strategy = text(live, "/spec/updateStrategy/type");
    let kept = count(live, "/spec/updateStrategy/rollingUpdate/partition");
    let updated = count(live, "/status/updatedReplicas");
    if strategy != "OnDelete" && updated < wanted.saturating_sub(kept) {
        let wanted = wanted.saturating_sub(kept);
        return Health::Progressing(format!("{updated} of {wanted} pods are of the new template"));
    }
    Health::Ready
}

fn daemon_set(live: &Value) -> Health {
    if let Some(unseen) = unseen(live) {
        return unseen;
    }
    let wanted = count(live, "/status/desiredNumberScheduled");
    let updated = count(live, "/status/updatedNumberScheduled");
    let available = count(live, "/status/numberAvailable");
    if text(live, "/spec/updateStrategy/type") != "OnDelete" && updated < wanted {
        Health::Progressing(format!("{updated} of {wanted} nodes have the new template"))
    } else if available < wanted {
        Health::Progressing(format!("{available} of {wanted} nodes have it available"))
    } else {
        Health::Ready
    }
}

fn job(live: &Value) -> Health {
    if let Some(failed) = condition(live, "Failed").filter(|c| c.status == "True") {
        return Health::Failed(failed.words());
    }
    if condition(live, "Complete").is_some_and(|c| c.status == "True") {
        return Health::Ready;
    }
    if live.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        return Health::Progressing("suspended".to_owned());
    }
    let wanted = number(live, "/spec/completions").unwrap_or(1);
    let done = count(live, "/status/succeeded");
    Health::Progressing(format!("{done} of {wanted} completions"))
}

/// Reasons for which a container waits that do not pass by themselves.
const WAITS_FOR_EVER: &[&str] = &[
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
];

fn pod(live: &Value) -> Health {
    match text(live, "/status/phase") {
        "Succeeded" => return Health::Ready,
        "Failed" => {
            let (reason, message) = (text(live, "/status/reason"), text(live, "/status/message"));
            return Health::Failed(Condition { status: "", reason, message }.words());
        }
        _ => {}
    }
    let containers = ["/status/initContainerStatuses", "/status/containerStatuses"];
    let all = containers.iter().filter_map(|path| live.pointer(path)?.as_array()).flatten();
    for container in all {
        let reason = text(container, "/state/waiting/reason");
        if WAITS_FOR_EVER.contains(&reason) {
            return Health::Failed(format!("container {}: {reason}", text(container, "/name")));
        }
    }
    match condition(live, "Ready") {
        Some(ready) if ready.status == "True" => Health::Ready,
        Some(ready) => Health::Progressing(ready.words()),
        None => match condition(live, "PodScheduled").filter(|c| c.status == "False") {
            Some(unplaced) => Health::Progressing(unplaced.words()),
            None => Health::Progressing("not started yet".to_owned()),
        },
    }
}

fn claim(live: &Value) -> Health {
    match text(live, "/status/phase") {
        "Bound" => Health::Ready,
        "Lost" => Health::Failed("its volume is lost".to_owned()),
        "" | "Pending" => Health::Progressing("not bound to a volume yet".to_owned()),
        phase => Health::Progressing(format!("phase {phase}")),
    }
}

fn service(live: &Value) -> Health {
    let waits = text(live, "/spec/type") == "LoadBalancer"
        && live
            .pointer("/status/loadBalancer/ingress")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty);
    if waits { Health::Progressing("has no address yet".to_owned()) } else { Health::Ready }
}

fn definition(live: &Value) -> Health {
    if let Some(names) = condition(live, "NamesAccepted").filter(|c| c.status == "False") {
        return Health::Failed(names.words());
    }
    match condition(live, "Established") {
        Some(established) if established.status == "True" => Health::Ready,
        _ => Health::Progressing("not established yet".to_owned()),
    }
}

/// What most controllers say: `Stalled`, `Reconciling`, `Ready` (or `Available`, for an APIService).
fn generic(live: &Value) -> Health {
    let is = |kind: &str, status: &str| condition(live, kind).filter(|c| c.status == status);
    if let Some(stalled) = is("Stalled", "True") {
        return Health::Failed(stalled.words());
    }
    if let Some(busy) = is("Reconciling", "True") {
        return Health::Progressing(busy.words());
    }
    for kind in ["Ready", "Available"] {
        match condition(live, kind) {
            Some(one) if one.status == "True" => return Health::Ready,
            Some(one) => return Health::Progressing(one.words()),
            None => {}
        }
    }
    Health::Ready
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(group: &str, kind: &str, live: &Value, expected: &str) {
        let key = ObjectKey::new(group, kind, None, "x");
        let shown = match health(&key, live) {
            Health::Ready => "ready".to_owned(),
            Health::Progressing(why) => format!("progressing: {why}"),
            Health::Failed(why) => format!("failed: {why}"),
            Health::Terminating(why) => format!("terminating: {why}"),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn deployments() {
        let of = |generation: u32, seen: u32, updated: u32, all: u32, available: u32| {
            json!({"metadata": {"generation": generation}, "spec": {"replicas": 2},
                "status": {"observedGeneration": seen, "updatedReplicas": updated,
                    "replicas": all, "availableReplicas": available}})
        };
        let check = |live: &Value, expected: &str| check("apps", "Deployment", live, expected);
        check(&json!({}), "progressing: nobody has taken it up yet");
        check(&of(2, 1, 2, 2, 2), "progressing: its latest change was not seen yet");
        check(&of(2, 2, 1, 2, 2), "progressing: 1 of 2 pods are of the new template");
        check(&of(2, 2, 2, 3, 2), "progressing: 1 pods of the old template are left");
        check(&of(2, 2, 2, 2, 1), "progressing: 1 of 2 pods are available");
        check(&of(2, 2, 2, 2, 2), "ready");
        let mut late = of(2, 2, 1, 2, 1);
        late["status"]["conditions"] = json!([{"type": "Progressing", "status": "False",
            "reason": "ProgressDeadlineExceeded", "message": "timed out"}]);
        check(&late, "failed: ProgressDeadlineExceeded: timed out");
    }

    #[test]
    fn sets_of_pods() {
        let set = json!({"spec": {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}},
            "status": {"observedGeneration": 1, "readyReplicas": 3, "updatedReplicas": 1}});
        check("apps", "StatefulSet", &set, "ready");
        let daemons = json!({"status": {"observedGeneration": 1, "desiredNumberScheduled": 2,
            "updatedNumberScheduled": 2, "numberAvailable": 1}});
        check("apps", "DaemonSet", &daemons, "progressing: 1 of 2 nodes have it available");
    }

    #[test]
    fn jobs_pods_claims_and_services() {
        let failed = json!({"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}});
        check("batch", "Job", &failed, "failed: BackoffLimitExceeded");
        check(
            "batch",
            "Job",
            &json!({"status": {"succeeded": 1}, "spec": {"completions": 3}}),
            "progressing: 1 of 3 completions",
        );
        let pod = json!({"status": {"phase": "Pending", "containerStatuses": [
            {"name": "web", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}});
        check("", "Pod", &pod, "failed: container web: ImagePullBackOff");
        let pod = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        check("", "Pod", &pod, "ready");
        check("", "PersistentVolumeClaim", &json!({}), "progressing: not bound to a volume yet");
        check(
            "",
            "Service",
            &json!({"spec": {"type": "LoadBalancer"}}),
            "progressing: has no address yet",
        );
        check("", "Service", &json!({"spec": {"type": "ClusterIP"}}), "ready");
    }

    #[test]
    fn definitions_others_and_what_is_being_deleted() {
        let group = "apiextensions.k8s.io";
        check(group, "CustomResourceDefinition", &json!({}), "progressing: not established yet");
        let taken = json!({"status": {"conditions": [{"type": "NamesAccepted", "status": "False", "message": "taken"}]}});
        check(group, "CustomResourceDefinition", &taken, "failed: taken");
        check("example.org", "Widget", &json!({}), "ready");
        let waits = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        check("example.org", "Widget", &waits, "progressing: no reason is given");
        let going =
            json!({"metadata": {"deletionTimestamp": "x", "finalizers": ["example.org/hold"]}});
        check("", "Namespace", &going, "terminating: being deleted, waits for example.org/hold");
    }
}
