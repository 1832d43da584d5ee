//! What happens in a cluster at rest is seen at once, and a drain that is gone on with has the time that is
//! left of it.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use trueup_fake_kube::Trouble;

use super::site::Site;
use crate::support::slurm_lab::until;

#[test]
fn a_change_in_a_cluster_at_rest_is_seen_at_once() {
    // Nothing but news would make the loop look in the time of this test.
    let site = Site::start_resting(&["g1", "c1"], "1h");
    site.publish(&json!({"pools": [{"name": "gpu", "nodes": ["g1"], "labels": {"pool": "gpu"}}]}));
    let daemon = site.daemon();
    site.await_synced();
    let hand = json!({"metadata": {"labels": {"pool": "mine"}}});
    site.kube.world().edit("Node", "", "g1", &hand);
    until("the label is back", || {
        (site.node("g1")["metadata"]["labels"]["pool"] == "gpu").then_some(())
    });
    let away = json!({"status": {"conditions": [
        {"type": "Ready", "status": "False", "message": "the disk is full"}]}});
    site.kube.world().edit("Node", "", "c1", &away);
    until("it is told that c1 is not well", || {
        (site.row()["kubernetes"]["nodes"]["ready"] == 1).then_some(())
    });
    site.kube.world().edit("Node", "", "c1", &json!({"spec": {"unschedulable": true}}));
    until("it is told that somebody took c1 out", || {
        (site.row()["kubernetes"]["out"][0]["by"] == "kubectl-edit").then_some(())
    });
    site.kube.world().edit("Node", "", "c1", &json!({"spec": {"unschedulable": null}}));
    until("it is told that it is back", || {
        (site.row()["kubernetes"]["nodes"]["out"] == 0).then_some(())
    });

    // A node of no pool is a node of the cluster, and an operator may take it out for a while.
    site.run(&["cluster", "drain", "c1", "--reason", "new disk", "--for", "1h"]).code(0);
    until("c1 is out for the operator", || {
        site.mark("c1").filter(|mark| mark["reason"] == "new disk")
    });
    site.run(&["cluster", "resume", "c1"]).code(0);
    until("c1 is back", || (!site.is_out("c1")).then_some(()));
    assert_eq!(site.mark("c1"), None);
    daemon.kill();
    site.run(&["replay"]).code(0);
}

#[test]
fn a_drain_that_is_gone_on_with_has_the_time_that_is_left() {
    let site = Site::start(&["g1", "g2"]);
    site.namespace("shop");
    site.pod("web-1", "g1");
    site.budget(0);
    let spec = |taints: serde_json::Value| {
        json!({"drainTimeout": "1h",
            "pools": [{"name": "gpu", "nodes": ["g[1-2]"], "taints": taints}]})
    };
    site.publish(&spec(json!([])));
    let daemon = site.daemon();
    site.await_synced();
    site.publish(&spec(json!([{"key": "gpu", "effect": "NoExecute"}])));
    let note = |name: &str| {
        let node = site.node(name);
        let note = node["metadata"]["annotations"]["trueup.io/drain"].as_str()?.to_owned();
        Some(serde_json::from_str::<serde_json::Value>(&note).unwrap())
    };
    let began = until("it is noted since when g1 is waited for", || note("g1"));
    assert_eq!(began["token"], "trueup:cloud/gpu");
    until("g1 is asked to be empty", || (site.kube.count("POST", "/eviction") > 0).then_some(()));
    daemon.kill();

    // Gone on with a moment later, it is the same drain.
    let daemon = site.daemon();
    until("g1 is waited for again", || (site.known()["inFlight"]["verb"] == "drain").then_some(()));
    assert_eq!(note("g1"), Some(began.clone()));
    daemon.kill();

    // Begun two hours ago, there is no time left: it is told at once, and the next try begins anew.
    let mut long_ago = began;
    long_ago["since"] = json!(Timestamp::now() - SignedDuration::from_hours(2));
    let note_of = json!({"metadata": {"annotations": {"trueup.io/drain": long_ago.to_string()}}});
    site.kube.world().edit("Node", "", "g1", &note_of);
    let daemon = site.daemon();
    let failed = until("the time is over", || {
        let log = site.run(&["log", "--type", "step.failed", "-o", "json"]).code(0).out;
        log.lines().find(|line| line.contains("after 3600 s")).map(str::to_owned)
    });
    assert!(failed.contains("web-1"), "who is waited for is named: {failed}");
    assert!(site.is_running("web-1") && !site.is_out("g2"), "nothing was forced or begun beside");
    site.budget(1);
    // What failed is tried again at once where somebody asks for it.
    site.run(&["apply"]);
    site.await_synced();
    assert_eq!(
        (site.taints("g1"), site.is_out("g1"), note("g1")),
        (vec!["gpu".to_owned()], false, None)
    );
    daemon.kill();
    site.run(&["replay"]).code(0);
}

#[test]
fn a_server_that_is_overloaded_fails_or_talks_nonsense_is_no_empty_cluster() {
    let site = Site::start(&["g1"]);
    let spec = |label: &str| json!({"pools": [{"name": "gpu", "nodes": ["g1"], "labels": {"pool": label}}]});
    site.publish(&spec("one"));
    let daemon = site.daemon();
    site.await_synced();
    let troubles = [Trouble::Status(429, 1), Trouble::Status(500, 0), Trouble::Nonsense];
    for (n, trouble) in troubles.into_iter().enumerate() {
        site.kube.trouble("GET", "/version", 10_000, trouble);
        site.await_unobservable("API server");
        let steps = site.steps().len();
        let wish = format!("after-{n}");
        site.publish(&spec(&wish));
        until("the commit is seen", || {
            let shown = site.run(&["status", "-o", "json"]).out;
            shown.contains(&site.repo.head().to_string()).then_some(())
        });
        assert_eq!(site.steps().len(), steps, "nothing is done to what cannot be seen");
        assert_eq!(site.row()["kubernetes"]["nodes"]["total"], 1, "how it was last");
        site.kube.forget_trouble();
        site.await_seen();
        site.await_synced();
        assert_eq!(site.node("g1")["metadata"]["labels"]["pool"], wish.as_str());
    }
    daemon.kill();
}

#[test]
fn a_name_that_does_not_resolve_is_no_empty_cluster_and_another_kubeconfig_is_used_at_once() {
    let site = Site::start(&["g1"]);
    let spec = |label: &str| json!({"pools": [{"name": "gpu", "nodes": ["g1"], "labels": {"pool": label}}]});
    site.publish(&spec("one"));
    let daemon = site.daemon();
    site.await_synced();
    let path = site.host.path().join("kubeconfig");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace(&site.kube.url(), "https://no-such-host.invalid:6443")).unwrap();
    site.await_unobservable("no-such-host.invalid");
    let steps = site.steps().len();
    site.publish(&spec("two"));
    until("the commit is seen", || {
        let shown = site.run(&["status", "-o", "json"]).out;
        shown.contains(&site.repo.head().to_string()).then_some(())
    });
    assert_eq!(site.steps().len(), steps, "nothing is done to what cannot be seen");
    assert_eq!(site.node("g1")["metadata"]["labels"]["pool"], "one");
    fs::write(&path, &good).unwrap();
    site.await_seen();
    site.await_synced();
    assert_eq!(site.node("g1")["metadata"]["labels"]["pool"], "two");
    daemon.kill();
}
