//! The fake's own ways, without a client: what others do in a cluster, and a server that goes and comes.

use std::net::TcpStream;

use serde_json::{Value, json};

use super::*;

fn world() -> World {
    let mut world = World::new(33);
    world.run_controllers();
    world.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
    world
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1"}})
}

#[test]
fn workloads_run_unless_they_are_stalled() {
    let mut world = world();
    let deployment = |replicas: u32| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"spec": {"containers": []}}}})
    };
    let available = |world: &World| {
        let live = world.get("Deployment", "shop", "web").unwrap();
        live.pointer("/status/availableReplicas").and_then(Value::as_u64)
    };
    world.put(&deployment(2));
    assert_eq!(available(&world), None);
    world.moment();
    assert_eq!(available(&world), Some(2));
    world.stall("Deployment", "shop", "web");
    world.put(&deployment(3));
    world.moment();
    assert_eq!(available(&world), Some(2));
    world.go_on("Deployment", "shop", "web");
    world.moment();
    assert_eq!(available(&world), Some(3));
    let version = world.version;
    world.moment();
    assert_eq!(world.version, version, "a cluster at rest stays at rest");
}

#[test]
fn budgets_count_what_runs_and_pods_take_their_time() {
    let mut world = world();
    world.put(&json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}}));
    for name in ["one", "two"] {
        world.put(&pod(name));
    }
    world.moment();
    world.moment();
    let spot = |name: &str| Spot::new("", "pods", "shop", name);
    world.evict(&spot("one"), None).unwrap();
    assert_eq!(world.evict(&spot("two"), None).unwrap_err().0, 429);
    let one = world.get("Pod", "shop", "one").unwrap();
    assert!(one.pointer("/metadata/deletionTimestamp").is_some());
    world.moment();
    assert_eq!(world.get("Pod", "shop", "one"), None);
    assert!(world.get("Pod", "shop", "two").is_some());
    world.run_kubelets(false);
    world.remove("Pod", "shop", "two");
    world.moment();
    assert!(world.get("Pod", "shop", "two").is_some(), "nobody ends it");
}

#[test]
fn a_server_goes_and_comes_back_at_its_address_with_what_it_held() {
    let kube = FakeKube::start();
    let reached = || TcpStream::connect(kube.address).is_ok();
    kube.world().put(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}));
    for _ in 0..3 {
        assert!(reached());
        kube.down();
        kube.down();
        assert!(!reached());
        kube.up();
        kube.up();
    }
    assert!(reached());
    assert!(kube.world().get("Node", "", "n1").is_some());
}
