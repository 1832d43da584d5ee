//! Access for people, and the connections that everybody here shares.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use trueup_fake_kube::{Certificate, FakeKube, Trouble};
use trueup_kubernetes::grant::{self, Giver, Grant, GrantError, Grants, Kubeconfig, SECONDS_MIN};
use trueup_kubernetes::namespace::Role;
use trueup_kubernetes::node::NODES;
use trueup_kubernetes::{
    Access, Api, Connections, Fault, Kind, KubeconfigRef, NoWay, ObjectKey, Selector, access,
};

use crate::lab::{Lab, both, limits};

both!(what_is_given_is_limited_and_ends,);

fn grant(lab: &Lab, number: u64, role: Role) -> Grant {
    Grant {
        number,
        user: "ann".to_owned(),
        namespace: lab.namespace.clone(),
        role,
        until: Timestamp::now() + SignedDuration::from_mins(20),
    }
}

/// A way to the lab's server with the credentials of the tests, and its authority.
async fn own(lab: &Lab) -> Access {
    let dir = tempfile::tempdir().unwrap();
    let path = match &lab.fake {
        Some(fake) => fake.write_kubeconfig(dir.path()),
        None => std::env::var_os("TRUEUP_TEST_KUBECONFIG").unwrap().into(),
    };
    access(&KubeconfigRef { path, context: None, programs: true }, limits()).await.unwrap()
}

/// As the person who got this file.
async fn as_person(kubeconfig: Kubeconfig) -> Api {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs");
    std::fs::write(&path, kubeconfig.into_text()).unwrap();
    // What others may read is taken for nobody's credentials.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let which = KubeconfigRef { path, context: None, programs: false };
    access(&which, limits()).await.unwrap().api
}

/// Rights are found by servers a moment after they are given, and tokens remembered for some seconds.
async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let there = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(60), there).await;
    told.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// What the cluster's own roles let do is put together by a controller, which an API server alone has not.
async fn roles_are_there(lab: &Lab) {
    if lab.fake.is_some() || lab.has_controllers().await {
        return;
    }
    let kind = Kind::new("rbac.authorization.k8s.io", "v1", "ClusterRole");
    let of = lab.api.resource(&kind).await.unwrap();
    for (role, parts) in [("view", &["view"][..]), ("edit", &["view", "edit"][..])] {
        let mut rules = Vec::new();
        for part in parts {
            let labels = Some(format!("rbac.authorization.k8s.io/aggregate-to-{part}=true"));
            let which = Selector { labels, ..Selector::default() };
            for part in lab.api.list(&of, &which).await.unwrap() {
                rules.extend(part["rules"].as_array().into_iter().flatten().cloned());
            }
        }
        let key = ObjectKey::new("rbac.authorization.k8s.io", "ClusterRole", None, role);
        lab.api.merge(&of, &key, &serde_json::json!({"rules": rules})).await.unwrap();
    }
}

fn giver(cluster: &str) -> Giver {
    Giver { cluster: cluster.to_owned(), log: "0a1b".to_owned() }
}

async fn what_is_given_is_limited_and_ends(lab: &Lab) {
    roles_are_there(lab).await;
    // In these tests the accounts are where all else is, so that it is cleaned up with it.
    let grants = Grants::new(lab.api.clone(), giver(&lab.namespace)).at(&lab.namespace);
    let view = grant(lab, 7, Role::View);
    grants.give(&view).await.unwrap();
    let token = grants.token(&view, SECONDS_MIN).await.unwrap();
    assert!(!format!("{token:?}").contains(token.expose()));
    let text = Kubeconfig::new(&own(lab).await, "cloud", &view, &token).into_text();
    assert!(!text.contains("test-token"), "nothing of our own credentials");
    let theirs = as_person(Kubeconfig::new(&own(lab).await, "cloud", &view, &token)).await;

    let maps = lab.api.resource(&Kind::new("", "v1", "ConfigMap")).await.unwrap();
    let secrets = lab.api.resource(&Kind::new("", "v1", "Secret")).await.unwrap();
    let nodes = lab.api.resource(&Kind::new("", "v1", "Node")).await.unwrap();
    let bindings = lab.api.resource(&grant::bindings()).await.unwrap();
    let key = lab.key("", "ConfigMap", "a");
    let within = Selector { namespace: Some(lab.namespace.clone()), ..Selector::default() };
    until("they may look", async || theirs.list(&maps, &within).await.ok()).await;
    let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": lab.namespace}, "data": {"a": "1"}});
    let elsewhere = Selector { namespace: Some("kube-system".to_owned()), ..Selector::default() };
    // What a `view` must not.
    for refused in [
        theirs.list(&nodes, &Selector::default()).await.err(),
        theirs.list(&maps, &elsewhere).await.err(),
        theirs.list(&secrets, &within).await.err(),
        theirs.apply(&maps, &key, &object, Default::default()).await.err(),
        theirs.token(&lab.namespace, &view.name(&giver(&lab.namespace)), SECONDS_MIN).await.err(),
    ] {
        assert!(matches!(refused, Some(Fault::Forbidden { .. })), "{refused:?}");
    }

    // The same person with more, for which there is another account; and no rights over rights.
    let edit = grant(lab, 8, Role::Edit);
    grants.give(&edit).await.unwrap();
    let more = grants.token(&edit, SECONDS_MIN).await.unwrap();
    let editor = as_person(Kubeconfig::new(&own(lab).await, "cloud", &edit, &more)).await;
    until("they may change", async || {
        editor.apply(&maps, &key, &object, Default::default()).await.ok()
    })
    .await;
    let refused = editor.list(&bindings, &within).await.unwrap_err();
    assert!(matches!(refused, Fault::Forbidden { .. }), "{refused}");

    // Both are found by their label, and one is taken: every token of it ends, the other goes on.
    let found = async || {
        let mut all = Vec::new();
        for kind in [grant::accounts(), grant::bindings()] {
            let of = lab.api.resource(&kind).await.unwrap();
            all.extend(lab.api.list(&of, &giver(&lab.namespace).selector()).await.unwrap());
        }
        grant::found(&giver(&lab.namespace), Timestamp::now(), &all)
    };
    let all = found().await;
    let lets = |role| Some((lab.namespace.clone(), role));
    let seen: Vec<_> = all.iter().map(|it| (it.number, it.lets.clone())).collect();
    assert_eq!(seen, [(Some(7), lets(Role::View)), (Some(8), lets(Role::Edit))]);
    assert!(grants.take(&all[0]).await.unwrap());
    assert!(!grants.take(&all[0]).await.unwrap(), "once more is as good as once");
    until("their token ends", async || match theirs.list(&maps, &within).await {
        Err(Fault::Unauthorized { .. }) => Some(()),
        _ => None,
    })
    .await;
    assert_eq!(found().await.len(), 1);
    editor.list(&maps, &within).await.unwrap();

    // Under the same number again: what is there goes, with its tokens.
    grants.give(&edit).await.unwrap();
    until("the old token ends", async || match editor.list(&maps, &within).await {
        Err(Fault::Unauthorized { .. }) => Some(()),
        _ => None,
    })
    .await;
    for left in found().await {
        grants.take(&left).await.unwrap();
    }
    assert_eq!(found().await, []);
    let short = grants.token(&edit, 1).await.unwrap_err();
    assert!(matches!(short, Fault::NotFound { .. } | Fault::Invalid { .. }), "{short}");
}

/// Whoever has rights in it could make tokens for the accounts.
#[tokio::test]
async fn a_namespace_of_others_is_not_taken_for_the_accounts() {
    let lab = Lab::fake().await;
    lab.make_namespace().await;
    let grants = Grants::new(lab.api.clone(), giver("cloud")).at(&lab.namespace);
    let error = grants.give(&grant(&lab, 1, Role::View)).await.unwrap_err();
    assert!(matches!(error, GrantError::HomeTaken(_)), "{error}");
    let of = lab.api.resource(&grant::accounts()).await.unwrap();
    assert_eq!(
        lab.api.list(&of, &Selector::default()).await.unwrap(),
        [] as [serde_json::Value; 0]
    );
}

/// What has the name that ours would have, and is not ours, stays as it is.
#[tokio::test]
async fn a_binding_of_others_is_not_taken_away() {
    let lab = Lab::fake().await;
    let grants = Grants::new(lab.api.clone(), giver("cloud")).at(&lab.namespace);
    let given = grant(&lab, 1, Role::View);
    grants.give(&given).await.unwrap();
    let fake = lab.fake.as_ref().unwrap();
    let theirs = serde_json::json!({"metadata": {"labels": {(grant::MARK): null}}});
    let before =
        fake.world().edit("RoleBinding", &lab.namespace, &given.name(&giver("cloud")), &theirs);
    let error = grants.give(&given).await.unwrap_err();
    assert!(matches!(error, GrantError::Taken(_)), "{error}");
    let world = fake.world();
    assert_eq!(
        world.get("RoleBinding", &lab.namespace, &given.name(&giver("cloud"))),
        Some(&before)
    );
}

/// A server that answers a request for a token with anything else than one says nothing of it.
#[tokio::test]
async fn no_answer_to_a_request_for_a_token_is_quoted() {
    let lab = Lab::fake().await;
    let fake = lab.fake.as_ref().unwrap();
    let grants = Grants::new(lab.api.clone(), giver("cloud")).at(&lab.namespace);
    let given = grant(&lab, 1, Role::View);
    grants.give(&given).await.unwrap();
    fake.trouble("POST", "/token", 1, Trouble::Nonsense);
    let fault = grants.token(&given, SECONDS_MIN).await.unwrap_err();
    assert!(!fault.to_string().contains("html"), "{fault}");
    fake.trouble("POST", "/token", 1, Trouble::Status(503, 0));
    grants.token(&given, SECONDS_MIN).await.unwrap();
}

fn connections(path: std::path::PathBuf, idle: Duration) -> Connections {
    let way = KubeconfigRef { path, context: None, programs: false };
    Connections::new(BTreeMap::from([("cloud".to_owned(), way)]), limits(), idle)
}

#[tokio::test]
async fn everybody_shares_one_connection_until_it_is_another_file_or_doubted() {
    let fake = FakeKube::start();
    let dir = tempfile::tempdir().unwrap();
    let path = fake.write_kubeconfig(dir.path());
    let all = connections(path.clone(), Duration::from_secs(600));
    let first = all.to("cloud").await.unwrap();
    let other = all.clone().to("cloud").await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &other) && all.count() == 1);
    let unnamed = all.to("lab").await.err().unwrap().to_string();
    assert!(unnamed.contains("`clusters.lab.kubeconfig`"), "{unnamed}");

    // Two at once make one.
    let fresh = connections(path.clone(), Duration::from_secs(600));
    let (one, two) = tokio::join!(fresh.to("cloud"), fresh.to("cloud"));
    assert!(std::sync::Arc::ptr_eq(&one.unwrap(), &two.unwrap()));

    // Another file in its place.
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("# renewed\n{text}")).unwrap();
    let second = all.to("cloud").await.unwrap();
    assert!(!std::sync::Arc::ptr_eq(&first, &second) && first.is_over() && !second.is_over());
    first.api().version().await.expect("what is under way with it goes on");

    // A certificate that is over: the way is opened anew once somebody said so, and for nothing less.
    fake.show(&Certificate::expired());
    fake.down();
    fake.up();
    let fault = second.api().version().await.unwrap_err();
    all.doubt("cloud", &fault);
    assert!(second.is_over() && all.count() == 0);
    fake.show(&Certificate::valid());
    let third = all.to("cloud").await.unwrap();
    fake.trouble("GET", "/version", 100, Trouble::Status(500, 0));
    all.doubt("cloud", &third.api().version().await.unwrap_err());
    assert!(!third.is_over());
}

/// Whoever takes the kubeconfig away wants nothing done by it any more.
#[tokio::test]
async fn a_connection_ends_with_its_kubeconfig() {
    let fake = FakeKube::start();
    let dir = tempfile::tempdir().unwrap();
    let path = fake.write_kubeconfig(dir.path());
    let (place, idle) = (path.clone(), Duration::from_secs(600));
    let kept = Connections::or_kept(BTreeMap::new(), move |_| Some(place.clone()), limits(), idle);
    let said = connections(path.clone(), idle);
    let away = dir.path().join("away");
    for by_rest in [true, false] {
        let open = kept.to("cloud").await.unwrap();
        let of = open.api().resource(&Kind::new("", "v1", "Node")).await.unwrap();
        open.watches.follow_by(&of, &Selector::default(), &NODES);
        let other = said.to("cloud").await.unwrap();
        std::fs::rename(&path, &away).unwrap();
        match by_rest {
            true => kept.rest(),
            false => assert!(matches!(kept.to("cloud").await, Err(NoWay::Unnamed(_)))),
        }
        assert!(open.is_over() && open.watches.count() == 0 && kept.count() == 0);
        assert!(matches!(said.to("cloud").await, Err(NoWay::Access(_))));
        assert!(other.is_over() && said.count() == 0);
        std::fs::rename(&away, &path).unwrap();
    }
    assert!(!kept.to("cloud").await.unwrap().is_over());
}

#[tokio::test]
async fn what_nobody_asks_for_ends_with_its_watches() {
    let fake = FakeKube::start();
    let dir = tempfile::tempdir().unwrap();
    let idle = Duration::from_secs(3);
    let all = connections(fake.write_kubeconfig(dir.path()), idle);
    let open = all.to("cloud").await.unwrap();
    let of = open.api().resource(&Kind::new("", "v1", "Node")).await.unwrap();
    open.watches.follow_by(&of, &Selector::default(), &NODES);
    open.watches.current(Duration::from_secs(30)).await.unwrap();
    let asked = tokio::time::Instant::now();
    all.to("cloud").await.unwrap();
    open.watches.follow_by(&of, &Selector::default(), &NODES);
    all.rest();
    assert_eq!((all.count(), open.watches.count()), (1, 1), "it was asked for just now");
    while all.count() > 0 {
        assert!(asked.elapsed() < Duration::from_secs(30));
        all.rest();
        tokio::task::yield_now().await;
    }
    assert!(asked.elapsed() >= idle);
    assert!(open.is_over() && open.watches.count() == 0);
}

/// What changes in nodes all the time wakes nobody; what a plan goes by does.
#[tokio::test]
async fn nodes_wake_whoever_listens_and_their_heartbeats_do_not() {
    let fake = FakeKube::start();
    fake.world().put(&serde_json::json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n", "labels": {"nvidia.com/gfd.timestamp": "1"}},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "1"}]}}));
    let dir = tempfile::tempdir().unwrap();
    let all = connections(fake.write_kubeconfig(dir.path()), Duration::from_secs(600));
    let open = all.to("cloud").await.unwrap();
    let of = open.api().resource(&Kind::new("", "v1", "Node")).await.unwrap();
    let every = Selector::default();
    open.watches.follow_by(&of, &every, &NODES);
    open.watches.current(Duration::from_secs(30)).await.unwrap();
    let mut told = open.watches.pulse();
    let key = ObjectKey::new("", "Node", None, "n");
    let edit = |patch: serde_json::Value| fake.world().edit("Node", "", "n", &patch);
    let status = |ready: &str, at: &str| {
        serde_json::json!({
        "metadata": {"labels": {"nvidia.com/gfd.timestamp": at}},
        "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": at}]}})
    };
    edit(status("True", "2"));
    let heard = || {
        let stock = open.watches.stock_by(&of.kind(), &every, &NODES).unwrap();
        stock[&key].pointer("/status/conditions/0/lastHeartbeatTime").cloned()
    };
    let taken_in = async {
        while heard() != Some("2".into()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken_in).await.expect("it is taken in");
    assert!(!told.has_changed().unwrap(), "a heartbeat wakes nobody");
    for news in [
        status("False", "3"),
        serde_json::json!({"spec": {"unschedulable": true}}),
        serde_json::json!({"metadata": {"labels": {"pool": "mine"}}}),
    ] {
        edit(news.clone());
        let heard = tokio::time::timeout(Duration::from_secs(30), told.changed()).await;
        heard.unwrap_or_else(|_| panic!("not told: {news}")).unwrap();
    }
}
