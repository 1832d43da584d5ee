//! What is told of a cluster's nodes and pods, now and as it was.

use serde_json::{Value, json};

use super::site::Site;

fn shown(site: &Site, at: &[&str]) -> Value {
    let shown = site.run(&[&["cluster", "-o", "json"], at].concat()).code(0).out;
    serde_json::from_str(&shown).unwrap()
}

#[test]
fn how_a_cluster_was_is_told_after_it_changed() {
    let site = Site::start(&["c1", "g1", "g2"]);
    site.publish(&json!({"pools": [{"name": "gpu", "nodes": ["g[1-2]"]}]}));
    site.run(&["apply"]).code(0);
    let then = shown(&site, &[]);
    let was = &then["clusters"][0]["kubernetes"];
    let all = json!([{"state": "ready", "nodes": "c1,g[1-2]", "count": 3, "pods": 0, "resources": {
        "cpu": {"total": 22_500, "allocated": 0}, "nvidia.com/gpu": {"total": 6, "allocated": 0}}}]);
    assert_eq!(was["groups"], all);

    site.namespace("shop");
    site.pod("web-1", "g1");
    site.kube.world().put(&json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": "web-2"}, "spec": {"containers": []},
        "status": {"phase": "Pending"}}));
    let taint = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule",
        "timeAdded": "2026-01-02T03:04:05Z"});
    let out = json!({"spec": {"unschedulable": true, "taints": [taint]}});
    site.kube.world().edit("Node", "", "g2", &out);
    site.run(&["apply"]);
    let row = &shown(&site, &[])["clusters"][0];
    let is = &row["kubernetes"];
    let words = |group: &Value| (group["state"].clone(), group["nodes"].clone());
    let groups: Vec<_> = is["groups"].as_array().unwrap().iter().map(words).collect();
    assert_eq!(groups, [(json!("ready"), json!("c1,g1")), (json!("out"), json!("g2"))], "{row}");
    let gpus = &is["groups"][0]["resources"]["nvidia.com/gpu"];
    assert_eq!(*gpus, json!({"total": 4, "allocated": 1}));
    assert_eq!(is["out"][0]["since"], "2026-01-02T03:04:05Z", "{row}");
    assert_eq!(is["waitingFor"][0]["since"], "2026-01-01T00:00:00Z", "{row}");
    let text = site.run(&["cluster"]).code(0).out;
    for words in ["c1,g1", "0.250 of 15.000", "nvidia.com/gpu 1 of 4", "2026-01-02 03:04:05"] {
        assert!(text.contains(words), "{words}: {text}");
    }

    let seq = then["seq"].to_string();
    let past = shown(&site, &["--at", &seq]);
    assert_eq!((&past["seq"], &past["clusters"]), (&then["seq"], &then["clusters"]));
    let text = site.run(&["cluster", "--at", &seq]).code(0).out;
    assert!(text.contains("c1,g[1-2]") && !text.contains("web-2"), "{text}");
    site.run(&["replay"]).code(0);
}
