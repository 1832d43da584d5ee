//! Nodes and their pods against an API server. Each of these holds on the fake and on a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use trueup_fake_kube::FakeKube;
use trueup_kubernetes::node::{
    CordonMark, Cordoned, DrainEnd, DrainError, DrainRules, NodeWish, Nodes, Out, Taint,
};
use trueup_kubernetes::{Kind, ObjectKey};

use crate::lab::{Lab, both, within};

both!(
    a_cordon_knows_whose_it_is,
    a_drain_respects_budgets,
    a_drain_remembers_since_when,
    labels_and_taints_come_and_go,
    the_view_counts_what_is_given_out,
);

fn mark() -> CordonMark {
    CordonMark { token: "run-1".to_owned(), reason: "a new driver".to_owned() }
}

fn nodes(lab: &Lab) -> Nodes {
    Nodes::new(lab.api.clone()).asking_again(Duration::from_millis(50))
}

/// A node that nobody runs, as somebody else would have made it.
async fn node(lab: &Lab) -> String {
    lab.make_namespace().await;
    let name = format!("{}-node", lab.namespace);
    let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    lab.put("", "Node", None, &name, object).await;
    name
}

/// A pod on it that goes at once.
async fn pod(lab: &Lab, node: &str, name: &str) {
    let object: Value = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": lab.namespace, "labels": {"app": "web"}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "containers": [{"name": "web", "image": "example.org/web:1",
                "resources": {"requests": {"cpu": "250m"}}}]}});
    lab.put("", "Pod", Some(&lab.namespace), name, object).await;
    // No budget counts one that does not run.
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    lab.edit("pods", &lab.key("", "Pod", name), "status", &status).await;
}

async fn a_cordon_knows_whose_it_is(lab: &Lab) {
    let node = node(lab).await;
    let nodes = nodes(lab);
    assert_eq!(nodes.cordon(&node, &mark()).await.unwrap(), Cordoned::Done);
    assert_eq!(nodes.cordon(&node, &mark()).await.unwrap(), Cordoned::Already);
    let other = nodes.uncordon(&node, "run-2").await.unwrap();
    assert_eq!(other, Cordoned::LeftTo(Out::Ours(mark())));
    assert_eq!(nodes.uncordon(&node, "run-1").await.unwrap(), Cordoned::Done);
    assert_eq!(nodes.uncordon(&node, "run-1").await.unwrap(), Cordoned::Already);

    // A person's stays, whatever we want.
    let key = ObjectKey::new("", "Node", None, &node);
    lab.edit("nodes", &key, "", &json!({"spec": {"unschedulable": true}})).await;
    // Kubernetes 1.20 keeps no record of who writes what of a node.
    let recorded = lab.get("v1", &key).await.unwrap()["metadata"].get("managedFields").is_some();
    let who = recorded.then(|| "kubectl-edit".to_owned());
    assert!(recorded || lab.fake.is_none());
    let theirs = Cordoned::LeftTo(Out::Others(who));
    assert_eq!(nodes.cordon(&node, &mark()).await.unwrap(), theirs);
    assert_eq!(nodes.uncordon(&node, "run-1").await.unwrap(), theirs);
    assert_eq!(lab.get("v1", &key).await.unwrap()["spec"]["unschedulable"], true);

    let none = nodes.cordon("no-such-node", &mark()).await.unwrap_err();
    assert!(matches!(none, DrainError::NoNode(_)), "{none}");
}

async fn a_drain_respects_budgets(lab: &Lab) {
    let name = node(lab).await;
    let nodes = nodes(lab);
    let limit = Duration::from_millis(500);
    let bare = DrainRules { bare: true, local_data: false };
    for pod_name in ["web-1", "web-2"] {
        pod(lab, &name, pod_name).await;
    }
    let early = nodes.drain(&name, bare, limit).await.unwrap_err();
    assert!(matches!(early, DrainError::InService(_)), "{early}");
    nodes.cordon(&name, &mark()).await.unwrap();
    let refused = nodes.drain(&name, DrainRules::default(), limit).await.unwrap_err();
    assert!(refused.to_string().contains("nobody would make it anew"), "{refused}");

    // One may go, and then no more.
    let version =
        if lab.get_kind("policy", "v1", "PodDisruptionBudget").await { "v1" } else { "v1beta1" };
    let budget = json!({"apiVersion": format!("policy/{version}"), "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": lab.namespace},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    lab.put("policy", "PodDisruptionBudget", Some(&lab.namespace), "web", budget).await;
    let path = format!(
        "/apis/policy/{version}/namespaces/{}/poddisruptionbudgets/web/status",
        lab.namespace
    );
    let allowed = |count: u32| {
        json!({"status": {"observedGeneration": 1, "disruptionsAllowed": count,
        "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}})
    };
    lab.patch(&path, &allowed(1)).await.unwrap();
    let end = nodes.drain(&name, bare, limit).await.unwrap();
    let DrainEnd::TimedOut { blocked, leaving } = end else { panic!("{end:?}") };
    assert_eq!((blocked.len(), leaving.len()), (1, 0), "{blocked:?}");
    assert!(blocked[0].1.contains("disruption budget"), "{}", blocked[0].1);

    // Room is made while it waits.
    let waits = async { nodes.drain(&name, bare, Duration::from_secs(20)).await.unwrap() };
    let room = async {
        let key = lab.key("policy", "PodDisruptionBudget", "web");
        let of = lab.api.resource(&Kind::new("policy", version, &key.kind)).await.unwrap();
        let uid = lab.get(version, &key).await.unwrap()["metadata"]["uid"].clone();
        assert!(lab.api.delete(&of, &key, uid.as_str().unwrap()).await.unwrap());
    };
    let (end, ()) = tokio::join!(waits, room);
    assert_eq!(end, DrainEnd::Drained);
    assert_eq!(lab.get("v1", &lab.key("", "Pod", "web-2")).await, None);
    assert_eq!(nodes.uncordon(&name, "run-1").await.unwrap(), Cordoned::Done);
}

async fn a_drain_remembers_since_when(lab: &Lab) {
    let name = node(lab).await;
    let nodes = nodes(lab);
    let at = |second: i64| jiff::Timestamp::from_second(second).unwrap();
    nodes.cordon(&name, &mark()).await.unwrap();
    assert_eq!(nodes.draining(&name, "run-1", at(100)).await.unwrap(), at(100));
    // Whoever goes on with it, however much later; for another change it is another time.
    assert_eq!(nodes.draining(&name, "run-1", at(900)).await.unwrap(), at(100));
    assert_eq!(nodes.draining(&name, "run-2", at(950)).await.unwrap(), at(950));
    nodes.drained(&name, "run-2").await.unwrap();
    nodes.drained(&name, "run-2").await.unwrap();
    assert_eq!(nodes.draining(&name, "run-1", at(960)).await.unwrap(), at(960));
    // With the node all of it is given back.
    nodes.uncordon(&name, "run-1").await.unwrap();
    let live = lab.get("v1", &ObjectKey::new("", "Node", None, &name)).await.unwrap();
    let notes = live["metadata"].get("annotations").and_then(Value::as_object);
    assert!(notes.is_none_or(|notes| notes.keys().all(|key| !key.starts_with("trueup.io/"))));
}

async fn labels_and_taints_come_and_go(lab: &Lab) {
    let name = node(lab).await;
    let nodes = nodes(lab);
    let taint =
        Taint { key: "gpu".to_owned(), value: "a100".to_owned(), effect: "NoSchedule".to_owned() };
    let wish = NodeWish {
        labels: BTreeMap::from([("pool".to_owned(), "gpu".to_owned())]),
        taints: BTreeSet::from([taint]),
    };
    assert_eq!(nodes.set(&name, &wish).await.unwrap().unwrap().lines.len(), 2);
    assert_eq!(nodes.set(&name, &wish).await.unwrap(), None);
    let key = ObjectKey::new("", "Node", None, &name);
    lab.edit("nodes", &key, "", &json!({"metadata": {"labels": {"theirs": "x"}}})).await;
    assert_eq!(nodes.set(&name, &NodeWish::default()).await.unwrap().unwrap().lines.len(), 2);
    let live = lab.get("v1", &key).await.unwrap();
    assert_eq!(live["metadata"]["labels"]["theirs"], "x");
    assert_eq!(live["metadata"]["labels"].get("pool"), None);
}

async fn the_view_counts_what_is_given_out(lab: &Lab) {
    let name = node(lab).await;
    let key = ObjectKey::new("", "Node", None, &name);
    let status = json!({"status": {"capacity": {"cpu": "8", "nvidia.com/mig-1g.10gb": "7"},
        "allocatable": {"cpu": "8", "nvidia.com/mig-1g.10gb": "7"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    lab.edit("nodes", &key, "status", &status).await;
    pod(lab, &name, "web-1").await;
    let view = nodes(lab).overview().await.unwrap();
    let seen = view.nodes.iter().find(|node| node.name == name).unwrap();
    assert!(seen.ready && seen.pods == 1 && seen.out.is_none(), "{seen:?}");
    assert_eq!(seen.allocated["cpu"].to_string(), "250m");
    let gpus: Vec<_> =
        seen.gpus().map(|(name, all, given)| format!("{name} {given}/{all}")).collect();
    assert_eq!(gpus, ["nvidia.com/mig-1g.10gb 0/7"]);
}

/// Before 1.22 evictions are asked by another version of the API.
#[tokio::test]
async fn an_old_server_is_asked_in_its_own_words() {
    let lab = Lab::over(FakeKube::of_release("v1.20.2")).await;
    within(lab, async |lab: &Lab| {
        let name = node(lab).await;
        pod(lab, &name, "web-1").await;
        nodes(lab).cordon(&name, &mark()).await.unwrap();
        let bare = DrainRules { bare: true, local_data: false };
        let end = nodes(lab).drain(&name, bare, Duration::from_secs(20)).await.unwrap();
        assert_eq!(end, DrainEnd::Drained);
    })
    .await;
}
