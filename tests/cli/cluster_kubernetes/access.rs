//! Access for people: what the document lets them have, for as long as it lets them, and never a word of the
//! token anywhere but where it was asked for.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use trueup_fake_kube::Trouble;
use trueup_kubernetes::{Fault, Kind, KubeconfigRef, Limits, Selector, access};

use super::site::Site;
use crate::support::slurm_lab::until;

/// What the person who has this kubeconfig gets to see of a namespace.
fn sees(kubeconfig: &str, namespace: &str) -> Result<usize, Fault> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs");
    std::fs::write(&path, kubeconfig).unwrap();
    // What others may read is taken for nobody's credentials.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let which = KubeconfigRef { path, context: None, programs: false };
        let api = access(&which, Limits::LOOKS).await.unwrap().api;
        let of = api.resource(&Kind::new("", "v1", "ConfigMap")).await?;
        let within = Selector { namespace: Some(namespace.to_owned()), ..Selector::default() };
        Ok(api.list(&of, &within).await?.len())
    })
}

fn token(kubeconfig: &str) -> String {
    let line = kubeconfig.lines().find(|line| line.contains("\"token\"")).unwrap();
    line.split('"').nth(3).unwrap().to_owned()
}

fn spec(rules: &Value) -> Value {
    json!({"namespaces": [{"name": "research", "kubeconfigs": rules}, {"name": "shop"}]})
}

fn accounts(site: &Site) -> usize {
    let world = site.kube.world();
    world.objects().filter(|(spot, _)| spot.plural == "serviceaccounts").count()
}

#[test]
fn a_person_gets_what_the_document_lets_them_have_until_it_is_taken_back() {
    let site = Site::start(&["g1"]);
    let ann = json!([{"user": "ann", "role": "view", "atMost": "2h"}]);
    site.publish(&spec(&ann));
    let give = |words: &[&str]| {
        let all = [&["cluster", "access", "kubeconfig", "--user"][..], words].concat();
        site.run(&all)
    };
    // Nobody would take it back without a daemon.
    let alone =
        give(&["ann", "--namespace", "research", "--for", "1h", "--cluster", "cloud"]).code(5);
    assert!(alone.err.contains("systemctl start trueup") && alone.out.is_empty(), "{alone:?}");
    let daemon = site.daemon();
    site.await_synced();

    // No more than the document says: another person, role, place, or time.
    for (words, why) in [
        (&["bob", "--namespace", "research", "--for", "1h"][..], "nothing is allowed them there"),
        (&["ann", "--namespace", "research", "--role", "edit", "--for", "1h"][..], "given view"),
        (&["ann", "--namespace", "shop", "--for", "1h"][..], "nothing is allowed them there"),
        (&["ann", "--namespace", "research", "--for", "3h"][..], "2h at most"),
        (&["ann", "--namespace", "research", "--for", "1m"][..], "10m at least"),
    ] {
        let refused = give(words).code(4);
        assert!(refused.err.contains(why) && refused.out.is_empty(), "{why}: {refused:?}");
    }
    assert_eq!((accounts(&site), site.kube.count("POST", "/token")), (0, 0));

    let given = give(&["ann", "--namespace", "research", "--for", "1h"]).code(0);
    assert!(!given.out.contains(trueup_fake_kube::TOKEN), "nothing of our own credentials");
    assert_eq!(sees(&given.out, "research").unwrap(), 0);
    assert!(matches!(sees(&given.out, "shop"), Err(Fault::Forbidden { .. })));
    assert!(matches!(sees(&given.out, "kube-system"), Err(Fault::Forbidden { .. })));
    let row = until("it is seen", || {
        let row = site.row();
        (row["access"][0]["inForce"] == true).then_some(row)
    });
    let access = &row["access"][0];
    assert_eq!((&access["user"], &access["namespace"]), (&json!("ann"), &json!("research")));
    assert!(access["by"].as_str().unwrap().starts_with("operator:"), "{access}");
    let shown = site.run(&["cluster"]).code(0).out;
    assert!(shown.contains("ann") && shown.contains("research"), "{shown}");

    // A second one is another account; taking all of a person's ends both, and nobody else's.
    let second = give(&["ann", "--namespace", "research", "--for", "30m"]).code(0);
    assert_eq!(accounts(&site), 2);
    let nobody = site.run(&["cluster", "access", "take", "--user", "bob"]).code(4);
    assert!(nobody.err.contains("bob has no access"), "{nobody:?}");
    site.run(&["cluster", "access", "take", "--user", "ann"]).code(0);
    until("both are gone", || (accounts(&site) == 0).then_some(()));
    for kubeconfig in [&given.out, &second.out] {
        assert!(matches!(sees(kubeconfig, "research"), Err(Fault::Unauthorized { .. })));
    }
    until("the log knows of none", || site.row()["access"].is_null().then_some(()));
    assert_eq!(site.steps().iter().filter(|verb| *verb == "take back").count(), 2);

    // What the document no longer lets them have ends with it; a narrower wish is no wider one.
    let third = give(&["ann", "--namespace", "research", "--for", "1h"]).code(0);
    site.publish(&spec(&json!([{"user": "bob", "role": "edit"}])));
    until("hers is gone", || (accounts(&site) == 0).then_some(()));
    assert!(matches!(sees(&third.out, "research"), Err(Fault::Unauthorized { .. })));
    site.await_synced();
    give(&["ann", "--namespace", "research", "--for", "1h"]).code(4);
    let bobs = give(&["bob", "--namespace", "research", "--role", "edit", "--for", "1h"]).code(0);
    assert_eq!(sees(&bobs.out, "research").unwrap(), 0);
    daemon.kill();

    // What somebody made by hand to look like it, or another log knew of, is taken away.
    let log = site.run(&["log", "-o", "json"]).code(0).out;
    let words = std::fs::read_to_string(site.host.path().join("daemon.log")).unwrap();
    let state = site.run(&["state", "-o", "json"]).out;
    for kubeconfig in [&given.out, &second.out, &third.out, &bobs.out] {
        let token = token(kubeconfig);
        for text in [&log, &words, &state] {
            assert!(!text.contains(&token), "a token is where nobody asked for it");
        }
    }
    let of = |kind: &str| {
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["type"] == kind).collect::<Vec<_>>()
    };
    let events = of("operator.access_given");
    assert_eq!((events.len(), of("operator.access_taken").len()), (4, 2));
    assert_eq!(events[3]["data"]["role"], "edit");
    assert!(events[3]["data"]["until"].is_string());
    site.run(&["log", "verify"]).code(0);
    site.run(&["replay"]).code(0);
}

#[test]
fn access_that_could_not_be_given_leaves_nothing_behind() {
    let site = Site::start(&["g1"]);
    site.publish(&spec(&json!([{"user": "ann", "role": "edit"}])));
    let daemon = site.daemon();
    site.await_synced();
    let give = [
        "cluster",
        "access",
        "kubeconfig",
        "--user",
        "ann",
        "--namespace",
        "research",
        "--role",
        "edit",
        "--for",
        "1h",
    ];
    site.kube.trouble("POST", "/token", 100, Trouble::Status(500, 0));
    let failed = site.run(&give).code(5);
    assert!(failed.out.is_empty() && failed.err.contains("make a token"), "{failed:?}");
    let bindings =
        || site.kube.world().objects().filter(|(it, _)| it.plural == "rolebindings").count();
    until("what was made for it is gone", || {
        (accounts(&site) == 0 && bindings() == 0).then_some(())
    });
    site.kube.forget_trouble();

    // Somebody who has rights in the namespace of the accounts could make tokens for all of them.
    let label = |label: Value| {
        let patch = json!({"metadata": {"labels": {"trueup.io/access": label}}});
        site.kube.world().edit("Namespace", "", "trueup-access", &patch);
    };
    label(Value::Null);
    let refused = site.run(&give).code(5);
    assert!(refused.err.contains("is not trueup's"), "{refused:?}");
    assert_eq!(accounts(&site), 0);

    // The daemon is killed with access given, and what it gave is known to the next one.
    label(json!("home"));
    let given = site.run(&give).code(0);
    daemon.kill();
    let daemon = site.daemon();
    until("it is known again", || (site.row()["access"][0]["inForce"] == true).then_some(()));
    assert_eq!(sees(&given.out, "research").unwrap(), 0);
    // What nobody here knows of, and bears our mark, gives nobody access for long.
    let forged = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {
        "name": "trueup-cloud-9999", "namespace": "trueup-access",
        "labels": {"trueup.io/access": "cloud"}}});
    site.kube.world().put(&forged);
    until("it is gone, and hers is not", || (accounts(&site) == 1).then_some(()));
    assert_eq!(sees(&given.out, "research").unwrap(), 0);
    daemon.kill();
    site.run(&["replay"]).code(0);
}

#[test]
fn access_ends_with_the_document_of_its_cluster_and_that_of_others_does_not() {
    let site = Site::start(&["g1"]);
    let ann = spec(&json!([{"user": "ann", "role": "view"}]));
    site.publish(&ann);
    let daemon = site.daemon();
    site.await_synced();
    let give = [
        "cluster",
        "access",
        "kubeconfig",
        "--user",
        "ann",
        "--namespace",
        "research",
        "--for",
        "1h",
    ];
    let given = site.run(&give).code(0).out;
    // A host that calls the cluster the same gave somebody access, too.
    let note = json!({"user": "eve", "role": "view", "until": "2099-01-01T00:00:00Z"}).to_string();
    let theirs = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {
        "name": "trueup-cloud-ffffffffffff-7", "namespace": "trueup-access",
        "labels": {"trueup.io/access": "cloud", "trueup.io/access-log": "ffffffffffff"},
        "annotations": {"trueup.io/access": note}}});
    site.kube.world().put(&theirs);
    until("it is seen", || (site.row()["access"][0]["inForce"] == true).then_some(()));
    assert_eq!((accounts(&site), sees(&given, "research").unwrap()), (2, 0));

    // Nobody can take it back while the server is away, and nobody believes that it is gone.
    site.kube.down();
    site.publish_none();
    let why = site.await_unobservable("whether people have access to it still cannot be seen");
    assert!(why.contains("not asked for any more"), "{why}");
    assert!(site.status().contains("cluster/cloud"), "{}", site.status());
    site.kube.up();
    until("hers is gone", || (accounts(&site) == 1).then_some(()));
    assert!(matches!(sees(&given, "research"), Err(Fault::Unauthorized { .. })));
    until("nothing is known of it any more", || site.known().is_null().then_some(()));
    assert_eq!(site.steps().iter().filter(|verb| *verb == "take back").count(), 1);
    assert!(
        site.kube
            .world()
            .get("ServiceAccount", "trueup-access", "trueup-cloud-ffffffffffff-7")
            .is_some()
    );
    daemon.kill();
    site.run(&["log", "verify"]).code(0);
    site.run(&["replay"]).code(0);
}
