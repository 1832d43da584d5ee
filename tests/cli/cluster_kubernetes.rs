//! A Kubernetes cluster by the real program and an API server that keeps state: taken over, changed node by
//! node within its budgets, and never taken to be empty because it does not answer.

mod access;
mod files;
mod past;
mod site;
mod waking;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use trueup_fake_kube::Certificate;

use self::site::Site;
use crate::support::slurm_lab::until;

#[test]
fn a_cluster_is_taken_over_and_its_nodes_get_what_a_merge_says() {
    let site = Site::start(&["c1", "g1", "g2"]);
    let pool = json!({"name": "gpu", "nodes": ["g[1-2]"], "labels": {"pool": "gpu"},
        "gpus": {"count": 2}});
    let spec = json!({"version": "1.33", "pools": [pool]});
    // Not asked to, it touches nothing, and still tells how it is.
    site.publish_with(&spec, false);
    site.run(&["apply"]);
    assert!(site.run(&["plan"]).out.contains("not ours"));
    assert_eq!(site.steps(), [""; 0]);
    let row = site.row();
    assert_eq!(row["kubernetes"]["nodes"]["total"], 3, "{row}");
    assert_eq!(site.node("g1")["metadata"]["labels"], json!(null));

    site.publish(&spec);
    site.run(&["apply"]).code(0);
    assert_eq!(site.steps(), ["take over", "label", "label"]);
    for name in ["g1", "g2"] {
        assert_eq!(site.node(name)["metadata"]["labels"]["pool"], "gpu");
    }
    assert_eq!(site.node("c1")["metadata"]["labels"], json!(null), "it is in no pool");
    let row = site.row();
    assert_eq!(row["status"]["is"], "synced", "{row}");
    let seen = &row["kubernetes"];
    assert_eq!(seen["release"], "v1.33.1");
    assert_eq!(seen["unexpected"], json!(["c1"]));
    assert_eq!(seen["resources"]["nvidia.com/gpu"], json!({"total": 6, "allocated": 0}));
    assert!(seen["certificates"].as_array().is_some_and(|all| all.len() == 2), "{seen}");
    let shown = site.run(&["cluster"]).code(0).out;
    for words in ["3 of 3 nodes ready", "of no pool: c1", "nvidia.com/gpu", "DAYS LEFT"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }

    // A label that somebody changed is drift and comes back; one of theirs stays.
    let hand = json!({"metadata": {"labels": {"pool": "mine", "theirs": "x"}}});
    site.kube.world().edit("Node", "", "g1", &hand);
    site.run(&["apply"]).code(0);
    let labels = site.node("g1")["metadata"]["labels"].clone();
    assert_eq!(labels, json!({"pool": "gpu", "theirs": "x"}));

    // A taint moves work: one node after the other is emptied for it. Nothing is asked twice.
    let before = site.steps().len();
    let mut tainted = spec.clone();
    tainted["pools"][0]["taints"] = json!([{"key": "gpu", "effect": "NoSchedule"}]);
    site.publish(&tainted);
    let plan = site.run(&["plan"]).out;
    assert!(plan.contains("cordon") && plan.contains("RESTART"), "{plan}");
    site.run(&["apply"]).code(0);
    let roll = ["cordon", "drain", "label", "check", "uncordon"];
    assert_eq!(site.steps()[before..], [roll, roll].concat());
    for name in ["g1", "g2"] {
        assert_eq!((site.taints(name), site.is_out(name)), (vec!["gpu".to_owned()], false));
        assert_eq!(site.mark(name), None);
    }
    // And without it none has to be.
    let before = site.steps().len();
    site.publish(&spec);
    site.run(&["apply"]).code(0);
    assert_eq!(site.steps()[before..], ["label", "label"]);
    assert_eq!(site.taints("g1"), [""; 0]);

    // What nobody here can mend is told: another release, a node that is not there, GPUs that are not.
    let mut wrong = spec.clone();
    wrong["version"] = json!("1.34");
    wrong["pools"][0]["nodes"] = json!(["g[1-3]"]);
    wrong["pools"][0]["gpus"]["count"] = json!(8);
    site.publish(&wrong);
    site.run(&["apply"]);
    let plan = site.run(&["plan"]).out;
    for words in ["upgrade the control plane to 1.34", "g3 of pool gpu is not in", "offers 2 of"] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    assert_eq!(site.row()["kubernetes"]["missing"], json!(["g3"]));
    site.run(&["log", "verify"]).code(0);
    site.run(&["replay"]).code(0);
}

#[test]
fn a_pool_changes_within_its_budgets_and_a_killed_daemon_finishes_it() {
    let site = Site::start(&["g1", "g2", "g3", "o1"]);
    site.namespace("shop");
    site.pod("web-1", "g1");
    site.budget(0);
    // A person took one of them out, before anything was asked for.
    site.kube.world().edit("Node", "", "g3", &json!({"spec": {"unschedulable": true}}));
    let pools = |taints: serde_json::Value| {
        json!({"maxUnavailable": 2, "drainTimeout": "1h", "pools": [
            {"name": "gpu", "nodes": ["g[1-3]"], "taints": taints},
            {"name": "other", "nodes": ["o1"]},
        ]})
    };
    site.publish(&pools(json!([])));
    let first = site.daemon();
    site.await_synced();

    site.publish(&pools(json!([{"key": "gpu", "effect": "NoExecute"}])));
    until("g1 is asked to be empty", || (site.kube.count("POST", "/eviction") > 0).then_some(()));
    assert_eq!(site.mark("g1").unwrap()["token"], "trueup:cloud/gpu");
    assert!(!site.is_out("g2"), "one is out already, so only one more may be");
    assert!(site.is_running("web-1"), "its budget lets it stay");
    assert_eq!(site.taints("g1"), [""; 0], "not before it is empty");
    let row = until("it is told who is out", || {
        let row = site.row();
        (row["kubernetes"]["nodes"]["out"] == 2).then_some(row)
    });
    let by: Vec<_> =
        row["kubernetes"]["out"].as_array().unwrap().iter().map(|it| &it["by"]).collect();
    assert_eq!(by, ["trueup:cloud/gpu", "kubectl-edit"]);

    // The wait holds nothing up: an operator takes another node out, and it comes back by itself.
    let nobody = ["cluster", "drain", "g9", "--reason", "dust", "--for", "15s"];
    let refused = site.run(&nobody).code(4);
    assert!(refused.err.contains("has no node g9"), "{refused:?}");
    site.run(&["cluster", "drain", "o1", "--reason", "dust", "--for", "15s"]).code(0);
    until("o1 is out for the operator", || {
        site.mark("o1").filter(|mark| mark["token"].as_str().unwrap().contains("/@"))
    });
    let row = until("that is told", || {
        let row = site.row();
        (row["drains"][0]["inForce"] == true).then_some(row)
    });
    assert_eq!(
        (&row["drains"][0]["node"], &row["drains"][0]["reason"]),
        (&json!("o1"), &json!("dust"))
    );
    until("o1 is back", || (!site.is_out("o1")).then_some(()));

    // Killed in the middle of it, and the budget has room while nobody looks.
    until("g1 is waited for again", || (site.known()["inFlight"]["verb"] == "drain").then_some(()));
    first.kill();
    assert!(site.is_out("g1") && site.is_running("web-1"), "still in our hands");
    site.budget(1);
    let second = site.daemon();
    for name in ["g1", "g2"] {
        until(&format!("{name} is changed and back"), || {
            (site.taints(name) == ["gpu"] && !site.is_out(name)).then_some(())
        });
        assert_eq!(site.mark(name), None);
    }
    assert!(!site.is_running("web-1"), "it went when it could");
    assert!(site.is_out("g3") && site.taints("g3").is_empty(), "what a person took out is theirs");
    let told = until("it is said that it is left alone", || {
        let status = site.status();
        status.contains("g3").then_some(status)
    });
    assert!(told.contains("somebody took it out (kubectl-edit)"), "{told}");
    let refused = site.run(&["cluster", "resume", "g3"]).code(4);
    assert!(refused.err.contains("kubectl"), "{refused:?}");

    // They give it back, and it changes like the others.
    site.kube.world().edit("Node", "", "g3", &json!({"spec": {"unschedulable": null}}));
    site.await_synced();
    assert_eq!((site.taints("g3"), site.is_out("g3")), (vec!["gpu".to_owned()], false));
    second.kill();
    site.run(&["log", "verify"]).code(0);
    site.run(&["replay"]).code(0);
}

#[test]
fn a_server_that_is_gone_or_not_to_be_trusted_is_no_empty_cluster() {
    let site = Site::start(&["g1"]);
    let spec = |label: &str| json!({"pools": [{"name": "gpu", "nodes": ["g1"], "labels": {"pool": label}}]});
    site.publish(&spec("one"));
    let daemon = site.daemon();
    site.await_synced();
    let then = site.row();

    site.kube.down();
    let why = site.await_unobservable("cannot reach the API server");
    assert!(!why.contains(trueup_fake_kube::TOKEN), "{why}");
    let steps = site.steps().len();
    site.publish(&spec("two"));
    until("the commit is seen", || {
        let shown = site.run(&["status", "-o", "json"]).out;
        shown.contains(&site.repo.head().to_string()).then_some(())
    });
    assert_eq!(site.row()["kubernetes"], then["kubernetes"], "how it was last, and not empty");
    assert_eq!(site.steps().len(), steps, "nothing is done to what cannot be seen");

    // It answers again, with a certificate that is over: that is no answer either.
    site.kube.show(&Certificate::expired());
    site.kube.up();
    until("that it is over is said", || {
        let plan = site.run(&["plan"]).out;
        plan.contains("no trust between us and the API server").then_some(())
    });
    assert_eq!(site.steps().len(), steps);
    // One that ends soon is told of, and everything goes on.
    let stamp = |days: i64| {
        let at = Timestamp::now() + SignedDuration::from_hours(24 * days);
        at.strftime("%Y%m%d%H%M%SZ").to_string()
    };
    site.kube.down();
    site.kube.show(&Certificate::between(&stamp(-1), &stamp(10)));
    site.kube.up();
    site.await_seen();
    site.await_synced();
    assert_eq!(site.node("g1")["metadata"]["labels"]["pool"], "two");
    let status = until("it is told that it ends", || {
        let status = site.status();
        status.contains("certificate").then_some(status)
    });
    assert!(status.contains("ends soon"), "{status}");
    daemon.kill();
    let whole = site.run(&["log", "-o", "json"]).code(0).out;
    assert!(!whole.contains(trueup_fake_kube::TOKEN), "a credential is in the log");
}

#[test]
fn namespaces_come_with_what_is_around_them_and_stay_when_they_are_let_go_of() {
    let site = Site::start(&["g1"]);
    let shop = json!({"name": "shop", "labels": {"team": "web"}, "quota": {"pods": "10"},
        "limits": {"default": {"cpu": "1"}}, "networkPolicy": "sameNamespace",
        "access": [{"group": "web", "role": "edit"}, {"user": "ann", "role": "view"}]});
    site.publish(&json!({"namespaces": [shop]}));
    site.run(&["apply"]).code(0);
    assert_eq!(site.row()["status"]["is"], "synced", "{}", site.status());
    let get = |kind: &str, name: &str| {
        let namespace = if kind == "Namespace" { "" } else { "shop" };
        site.kube.world().get(kind, namespace, name).cloned()
    };
    assert_eq!(get("ResourceQuota", "trueup").unwrap()["spec"]["hard"]["pods"], "10");
    assert_eq!(get("RoleBinding", "trueup-edit").unwrap()["subjects"][0]["name"], "web");
    assert_eq!(get("NetworkPolicy", "trueup").unwrap()["spec"]["policyTypes"], json!(["Ingress"]));
    assert!(get("LimitRange", "trueup").is_some());
    // At rest nothing is written.
    site.kube.forget_requests();
    site.run(&["apply"]).code(0);
    let writes = site.kube.requests();
    let written = |it: &&String| !it.starts_with("GET") && !it.contains("dryRun");
    assert_eq!(writes.iter().filter(written).count(), 0, "{writes:?}");

    // What a hand took away comes back; what it widened, too.
    site.kube.world().remove("NetworkPolicy", "shop", "trueup");
    let wide = json!({"spec": {"hard": {"pods": "1000"}}});
    site.kube.world().edit("ResourceQuota", "shop", "trueup", &wide);
    site.run(&["apply"]).code(0);
    assert!(get("NetworkPolicy", "trueup").is_some());
    assert_eq!(get("ResourceQuota", "trueup").unwrap()["spec"]["hard"]["pods"], "10");

    // Gone from the document: the namespace and what is in it stay.
    site.pod("web-1", "g1");
    site.publish(&json!({}));
    site.run(&["apply"]).code(0);
    assert!(get("Namespace", "shop").is_some() && site.is_running("web-1"));
    for (kind, name) in [("ResourceQuota", "trueup"), ("RoleBinding", "trueup-edit")] {
        assert!(get(kind, name).is_none(), "{kind}");
    }
    site.run(&["replay"]).code(0);
}
