//! What goes wrong on the way, and in the middle. On the fake alone: no real server fails when it is told.

use std::time::Duration;

use serde_json::json;
use trueup_fake_kube::{Certificate, FakeKube, Trouble};
use trueup_kubernetes::release::{Engine, plan};
use trueup_kubernetes::{Fault, Kind, KubeconfigRef, Limits, Selector, Watches, access, cert};

use crate::lab::{Lab, limits, waits};

const RELEASE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: $NS}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {x: '1'}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.$GROUP}
spec:
  group: $GROUP
  scope: Namespaced
  names: {plural: widgets, kind: Widget}
  versions: [{name: v1, served: true, storage: true}]
---
apiVersion: $GROUP/v1
kind: Widget
metadata: {name: one}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: front}
spec:
  replicas: 0
  selector: {matchLabels: {app: front}}
  template: {metadata: {labels: {app: front}}, spec: {containers: [{name: web, image: 'web:1'}]}}
";

#[tokio::test]
async fn what_passes_is_waited_out_and_what_does_not_is_told() {
    let lab = Lab::fake().await;
    let fake = lab.fake.as_ref().unwrap();
    let of = lab.api.resource(&Kind::new("", "v1", "ConfigMap")).await.unwrap();
    let key = lab.key("", "ConfigMap", "a");
    for code in [429, 500, 503] {
        fake.trouble("GET", "/configmaps/a", 2, Trouble::Status(code, 0));
        fake.forget_requests();
        assert_eq!(lab.api.get(&of, &key).await.unwrap(), None);
        assert_eq!(fake.count("GET", "/configmaps/a"), 3, "asked again after {code}");
    }
    fake.trouble("GET", "/configmaps/a", 99, Trouble::Status(500, 0));
    let fault = lab.api.get(&of, &key).await.unwrap_err();
    assert!(matches!(fault, Fault::Busy { attempts: 4, code: 500, .. }), "{fault}");
    assert!(fault.is_transient());
}

#[tokio::test]
async fn silence_nonsense_and_strangers_are_told_apart() {
    let lab = Lab::fake().await;
    let fake = lab.fake.as_ref().unwrap();
    let of = lab.api.resource(&Kind::new("", "v1", "ConfigMap")).await.unwrap();
    let key = lab.key("", "ConfigMap", "a");
    fake.trouble("GET", "/configmaps/a", 1, Trouble::Nonsense);
    let fault = lab.api.get(&of, &key).await.unwrap_err();
    assert!(matches!(fault, Fault::Unreadable { .. }), "{fault}");
    fake.trouble("GET", "/configmaps", 1, Trouble::Nonsense);
    let fault = lab.api.list(&of, &Selector::default()).await.unwrap_err();
    assert!(matches!(fault, Fault::Unreadable { .. }), "{fault}");

    let dir = tempfile::tempdir().unwrap();
    let path = fake.write_kubeconfig(dir.path());
    let hasty = Limits { request: Duration::from_millis(100), attempts: 1, ..limits() };
    let which = KubeconfigRef { path: path.clone(), context: None, programs: false };
    let api = access(&which, hasty).await.unwrap().api;
    fake.trouble("GET", "/version", 1, Trouble::Silence);
    let fault = api.version().await.unwrap_err();
    assert!(matches!(fault, Fault::TimedOut { .. }), "{fault}");

    let text = std::fs::read_to_string(&path).unwrap().replace("test-token", "old-token");
    std::fs::write(&path, text).unwrap();
    let fault = access(&which, hasty).await.unwrap().api.version().await.unwrap_err();
    assert!(matches!(fault, Fault::Unauthorized { .. }), "{fault}");

    let text = std::fs::read_to_string(&path).unwrap().replace(&fake.url(), "http://127.0.0.1:1");
    std::fs::write(&path, text).unwrap();
    let fault = access(&which, hasty).await.unwrap().api.version().await.unwrap_err();
    assert!(matches!(fault, Fault::Unreachable { .. }), "{fault}");
}

#[tokio::test]
async fn an_expired_certificate_is_told_and_its_end_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    for (from, until, expired) in [
        ("20200101000000Z", "20200102000000Z", true),
        ("20200101000000Z", "20980101000000Z", false),
    ] {
        let fake = FakeKube::start();
        fake.show(&Certificate::between(from, until));
        let path = fake.write_kubeconfig(dir.path());
        let which = KubeconfigRef { path, context: None, programs: false };
        let way = access(&which, limits()).await.unwrap();
        match way.api.version().await {
            Ok(version) => assert_eq!((version.as_str(), expired), ("v1.33.1", false)),
            Err(fault) => {
                assert!(matches!(fault, Fault::Certificate { expired: true, .. }), "{fault}");
                assert!(expired && fault.to_string().contains("renew"), "{fault}");
            }
        }
        let seen = cert::of_server(&way).await.unwrap();
        assert_eq!(seen.until.to_string().replace(['-', ':', 'T'], ""), until);
        assert_eq!(way.own_certificates().unwrap().len(), 1, "the authority");
    }
}

/// For each step: everything before it done, it begun and not heard of, and then begun anew by another.
#[tokio::test]
async fn a_crash_between_any_two_steps_is_gone_on_with() {
    let changed = RELEASE
        .replace("x: '1'", "x: '2'")
        .replace("web:1", "web:2")
        .replace("name: one", "name: two");
    for after in 0..20 {
        let lab = Lab::fake().await;
        let old = lab.wish(RELEASE).await;
        lab.reconcile(&old).await;
        let new = lab.wish(&changed).await;
        let mut engine = lab.engine();
        let made = plan(&new, &engine.look(&new).await.unwrap());
        if after > made.steps.len() {
            assert!(after > 8, "there are steps enough: {}", made.steps.len());
            return;
        }
        for step in &made.steps[..after] {
            lab.perform(&mut engine, &new, step).await;
            // Once more is as good as once.
            lab.perform(&mut engine, &new, step).await;
        }
        drop(engine);
        lab.reconcile(&new).await;
        let mut engine = lab.engine();
        let last = plan(&new, &engine.look(&new).await.unwrap());
        assert_eq!((last.steps.len(), last.drift().count()), (0, 0), "after {after}: {last:?}");
        let group = lab.group();
        let gone = lab.get("v1", &lab.key(&group, "Widget", "one")).await;
        assert_eq!(gone, None, "after {after}: nothing old is left");
        assert!(lab.get("v1", &lab.key(&group, "Widget", "two")).await.is_some());
    }
    panic!("more steps than expected");
}

/// Nor does a crash in the middle of taking the release away leave anything.
#[tokio::test]
async fn a_crash_while_it_goes_leaves_nothing() {
    for after in 0..20 {
        let lab = Lab::fake().await;
        let wish = lab.wish(RELEASE).await;
        lab.reconcile(&wish).await;
        let none = lab.wish("").await;
        let mut engine = lab.engine();
        let made = plan(&none, &engine.look(&none).await.unwrap());
        if after > made.steps.len() {
            return;
        }
        for step in &made.steps[..after] {
            lab.perform(&mut engine, &none, step).await;
        }
        lab.reconcile(&none).await;
        let world = lab.fake.as_ref().unwrap().world();
        let all = world.objects().map(|(spot, _)| spot);
        let left: Vec<_> = all.filter(|spot| spot.name != "default").collect();
        assert!(left.is_empty(), "after {after}: {left:?}");
    }
    panic!("more steps than expected");
}

#[tokio::test]
async fn a_watch_that_is_too_old_lists_anew() {
    let lab = Lab::fake().await;
    let fake = lab.fake.as_ref().unwrap();
    let wish = lab.wish(RELEASE).await;
    lab.reconcile(&wish).await;
    let of = lab.api.resource(&Kind::new("", "v1", "ConfigMap")).await.unwrap();
    let which = Selector { namespace: Some(lab.namespace.clone()), ..Selector::default() };
    let watches = Watches::new(lab.api.clone());
    watches.follow(&of, &which);
    watches.current(Duration::from_secs(20)).await.unwrap();
    // A change that nobody is told of, as the log of it is gone with the change itself.
    fake.forget_requests();
    let unseen = json!({"data": {"x": "unseen"}});
    fake.world().slip("ConfigMap", &lab.namespace, "a", &unseen);
    fake.compact();
    let key = lab.key("", "ConfigMap", "a");
    let sees = || {
        let stock = watches.stock(&of.kind(), &which)?;
        Some(stock.get(&key)?["data"]["x"] == "unseen")
    };
    let mut pulse = watches.pulse();
    let arrived = async {
        while sees() != Some(true) {
            pulse.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), arrived).await.expect("it is listed anew");
    assert!(fake.count("GET", "limit=") >= 1, "a list");
}

#[tokio::test]
async fn a_server_that_fails_is_no_empty_cluster() {
    let lab = Lab::fake().await;
    let fake = lab.fake.as_ref().unwrap();
    let wish = lab.wish(RELEASE).await;
    lab.reconcile(&wish).await;
    fake.trouble("GET", "/configmaps", 1000, Trouble::Status(500, 0));
    let fault = lab.engine().look(&wish).await.unwrap_err();
    assert!(fault.to_string().contains("asked again later"), "{fault}");
    let mut watching = Engine::watching(lab.api.clone(), waits());
    assert!(watching.look(&wish).await.is_err());
}
