//! A server that goes, comes back, is silent or shows a certificate that is over. On the fake alone.

use std::time::Duration;

use serde_json::json;
use trueup_fake_kube::{Certificate, FakeKube, Trouble};
use trueup_kubernetes::release::{Engine, EngineError, Step, Waits, plan};
use trueup_kubernetes::{
    Fault, Kind, KubeconfigRef, Limits, Pulse, Resource, Selector, Watches, access,
};

use crate::lab::{Lab, config_maps, limits, waits};

/// Longer than any of this takes.
const LONG: Duration = Duration::from_secs(30);

/// A release, the kind that it is of, and watches of it.
async fn followed(lab: &Lab) -> (Resource, Selector, Watches) {
    lab.reconcile(&lab.wish(&config_maps(3)).await).await;
    let of = lab.api.resource(&Kind::new("", "v1", "ConfigMap")).await.unwrap();
    let which = Selector { namespace: Some(lab.namespace.clone()), ..Selector::default() };
    let watches = Watches::new(lab.api.clone());
    watches.follow(&of, &which);
    watches.current(LONG).await.unwrap();
    (of, which, watches)
}

/// Waits until what is followed is so.
async fn until(watches: &Watches, what: impl Fn() -> bool) {
    let mut pulse = watches.pulse();
    let there = async {
        while !what() {
            pulse.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONG, there).await.expect("it is told");
}

/// With few attempts and short times.
fn hasty() -> Limits {
    let request = Duration::from_secs(1);
    Limits { request, attempts: 2, watch: Duration::from_secs(1), ..limits() }
}

async fn with_limits(lab: &Lab, limits: Limits) -> trueup_kubernetes::Api {
    let dir = tempfile::tempdir().unwrap();
    let path = lab.fake.as_ref().unwrap().write_kubeconfig(dir.path());
    access(&KubeconfigRef { path, context: None, programs: false }, limits).await.unwrap().api
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_followed_again() {
    let lab = Lab::fake().await;
    let fake = lab.fake.as_ref().unwrap();
    let (of, which, watches) = followed(&lab).await;
    let stock = || watches.stock(&of.kind(), &which);
    let key = lab.key("", "ConfigMap", "m1");

    fake.down();
    until(&watches, || stock().is_none()).await;
    let fault = watches.current(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(fault, Fault::Unreachable { .. }), "{fault}");
    let wish = lab.wish(&config_maps(3)).await;
    let error = lab.engine().look(&wish).await.unwrap_err();
    let EngineError::Fault(fault) = &error else { panic!("{error}") };
    assert!(fault.is_transient(), "{fault}");

    let unseen = json!({"data": {"a": "changed meanwhile"}});
    fake.world().edit("ConfigMap", &lab.namespace, "m1", &unseen);
    fake.world().remove("ConfigMap", &lab.namespace, "m0");
    fake.up();
    until(&watches, || stock().is_some()).await;
    let stock = stock().unwrap();
    assert_eq!(stock[&key]["data"]["a"], "changed meanwhile");
    assert!(!stock.contains_key(&lab.key("", "ConfigMap", "m0")));
    let again = plan(&wish, &lab.engine().look(&wish).await.unwrap());
    assert!(!again.steps.is_empty(), "what changed meanwhile is mended");
}

/// At each step: the server is away, which is a fault that passes, and the step is done once it is back.
#[tokio::test]
async fn a_server_that_is_away_at_any_step_costs_time_alone() {
    let lab = Lab::fake().await;
    let fake = lab.fake.as_ref().unwrap();
    let api = with_limits(&lab, Limits { attempts: 1, ..hasty() }).await;
    let short = Duration::from_millis(200);
    let mut engine = Engine::new(api, Waits { ready: short, gone: short, definition: short });
    for wish in [lab.wish(&config_maps(3)).await, lab.wish("").await] {
        let made = plan(&wish, &lab.engine().look(&wish).await.unwrap());
        assert!(made.steps.len() > 3, "{made:?}");
        for step in &made.steps {
            fake.down();
            let error = engine.perform(&wish, step).await.unwrap_err();
            let EngineError::Fault(fault) = &error else { panic!("{step:?}: {error}") };
            assert!(fault.is_transient(), "{step:?}: {fault}");
            fake.up();
            lab.perform(&mut engine, &wish, step).await;
        }
        let last = plan(&wish, &lab.engine().look(&wish).await.unwrap());
        assert_eq!(last.steps, []);
    }
}

/// Whoever waits for an object is not told that it is not there when nobody answers.
#[tokio::test]
async fn silence_is_no_answer_to_a_wait() {
    let lab = Lab::fake().await;
    let fake = lab.fake.as_ref().unwrap();
    let wish = lab.wish(&config_maps(1)).await;
    lab.reconcile(&wish).await;
    let short = Duration::from_millis(300);
    let waits = Waits { ready: short, gone: short, definition: short };
    let mut engine = Engine::new(lab.api.clone(), waits);
    let key = lab.key("", "ConfigMap", "m0");
    let uid = lab.get("v1", &key).await.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let gone = Step::AwaitGone { key: key.clone(), version: "v1".to_owned(), uid };
    let error = engine.perform(&wish, &gone).await.unwrap_err();
    assert!(matches!(error, EngineError::Stuck { .. }), "{error}");
    fake.down();
    for step in [gone, Step::AwaitReady { key }] {
        let error = engine.perform(&wish, &step).await.unwrap_err();
        let unreachable = matches!(error, EngineError::Fault(Fault::Unreachable { .. }));
        assert!(unreachable, "{step:?}: {error}");
    }
}

#[tokio::test]
async fn a_certificate_that_ends_while_it_is_used_is_told_until_it_is_renewed() {
    let lab = Lab::fake().await;
    let fake = lab.fake.as_ref().unwrap();
    let (of, which, watches) = followed(&lab).await;
    let stock = || watches.stock(&of.kind(), &which);
    fake.show(&Certificate::expired());
    // The open connections end, as they do sooner or later.
    fake.down();
    fake.up();
    until(&watches, || stock().is_none()).await;
    let broken = async {
        loop {
            let fault = watches.current(Duration::from_millis(50)).await.unwrap_err();
            if matches!(fault, Fault::Certificate { expired: true, .. }) {
                return fault;
            }
        }
    };
    let fault = tokio::time::timeout(LONG, broken).await.expect("it is told");
    assert!(fault.to_string().contains("renew"), "{fault}");
    assert!(!fault.is_transient());
    let wish = lab.wish("").await;
    let error = lab.engine().look(&wish).await.unwrap_err();
    assert!(
        matches!(error, EngineError::Fault(Fault::Certificate { expired: true, .. })),
        "{error}"
    );
    fake.show(&Certificate::valid());
    until(&watches, || stock().is_some()).await;
    lab.engine().look(&wish).await.unwrap();
}

/// A connection on which nothing comes any more: when it is begun, and once it is there.
#[tokio::test]
async fn what_is_silent_for_too_long_is_begun_anew() {
    let lab = Lab::fake().await;
    let fake = lab.fake.as_ref().unwrap();
    lab.reconcile(&lab.wish(&config_maps(1)).await).await;
    let api = with_limits(&lab, hasty()).await;
    let of = api.resource(&Kind::new("", "v1", "ConfigMap")).await.unwrap();
    let which = Selector { namespace: Some(lab.namespace.clone()), ..Selector::default() };
    fake.trouble("GET", "/configmaps?", 1, Trouble::Silence);
    fake.trouble("GET", "watch=true", 1, Trouble::Deaf);
    let watches = Watches::new(api);
    watches.follow(&of, &which);
    watches.current(LONG).await.unwrap();
    let change = json!({"data": {"0": "told to nobody"}});
    fake.world().edit("ConfigMap", &lab.namespace, "m0", &change);
    let key = lab.key("", "ConfigMap", "m0");
    until(&watches, || {
        let stock = watches.stock(&of.kind(), &which);
        stock.is_some_and(|stock| stock[&key]["data"]["0"] == "told to nobody")
    })
    .await;
}

#[tokio::test]
async fn slow_answers_and_requests_to_wait_are_waited_out() {
    let lab = Lab::fake().await;
    let fake = lab.fake.as_ref().unwrap();
    let quick = Limits { request: Duration::from_millis(300), attempts: 3, ..limits() };
    let api = with_limits(&lab, quick).await;
    let of = api.resource(&Kind::new("", "v1", "ConfigMap")).await.unwrap();
    let key = lab.key("", "ConfigMap", "a");
    fake.trouble("GET", "/configmaps/a", 2, Trouble::Slow(Duration::from_secs(5)));
    fake.forget_requests();
    assert_eq!(api.get(&of, &key).await.unwrap(), None);
    assert_eq!(fake.count("GET", "/configmaps/a"), 3);
    fake.trouble("GET", "/configmaps/a", 3, Trouble::Slow(Duration::from_secs(5)));
    let fault = api.get(&of, &key).await.unwrap_err();
    assert!(matches!(fault, Fault::TimedOut { .. }) && fault.is_transient(), "{fault}");
    // What a server asks for is heeded up to a limit of our own.
    fake.trouble("GET", "/configmaps/a", 1, Trouble::Status(429, 3600));
    let soon = tokio::time::timeout(LONG, api.get(&of, &key)).await;
    assert_eq!(soon.expect("it does not wait for an hour").unwrap(), None);
}

/// A list that is too old between two pages, and a watch that is when it is begun.
#[tokio::test]
async fn what_is_too_old_is_begun_anew() {
    let lab = Lab::fake().await;
    let fake = lab.fake.as_ref().unwrap();
    lab.make_namespace().await;
    for index in 0..510 {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("m{index}"), "namespace": lab.namespace}});
        fake.world().put(&object);
    }
    let of = lab.api.resource(&Kind::new("", "v1", "ConfigMap")).await.unwrap();
    let which = Selector { namespace: Some(lab.namespace.clone()), ..Selector::default() };
    fake.trouble("GET", "continue=", 1, Trouble::Status(410, 0));
    assert_eq!(lab.api.list(&of, &which).await.unwrap().len(), 510);
    // Twice is no chance, and half a list is none.
    fake.trouble("GET", "continue=", 2, Trouble::Status(410, 0));
    let fault = lab.api.list(&of, &which).await.unwrap_err();
    assert!(matches!(fault, Fault::Refused { code: 410, .. }), "{fault}");

    fake.trouble("GET", "watch=true", 2, Trouble::Status(410, 0));
    let watches = Watches::new(lab.api.clone());
    watches.follow(&of, &which);
    watches.current(LONG).await.unwrap();
    fake.world().remove("ConfigMap", &lab.namespace, "m7");
    until(&watches, || watches.stock(&of.kind(), &which).is_some_and(|stock| stock.len() == 509))
        .await;
}

/// The definition of a kind goes before its objects, by another's hand and between plan and step.
#[tokio::test]
async fn a_definition_that_goes_between_plan_and_step_stops_nothing() {
    const WIDGETS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: $NS}
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
spec: {size: 1}
";
    for goes in [false, true] {
        let lab = Lab::fake().await;
        let fake = lab.fake.as_ref().unwrap();
        let old = lab.wish(WIDGETS).await;
        lab.reconcile(&old).await;
        let new = match goes {
            true => lab.wish("").await,
            false => lab.wish(&WIDGETS.replace("size: 1", "size: 2")).await,
        };
        let definition = Duration::from_millis(300);
        let mut engine = Engine::new(lab.api.clone(), Waits { definition, ..waits() });
        let made = plan(&new, &engine.look(&new).await.unwrap());
        let name = format!("widgets.{}", lab.group());
        assert!(fake.world().remove("CustomResourceDefinition", "", &name));
        for step in &made.steps {
            match engine.perform(&new, step).await {
                Ok(_) => {}
                Err(EngineError::Fault(fault)) if !goes && fault.is_absent() => {}
                Err(error) => panic!("{step:?}: {error}"),
            }
        }
        lab.reconcile(&new).await;
        let mut engine = lab.engine();
        assert_eq!(plan(&new, &engine.look(&new).await.unwrap()).steps, []);
        assert_eq!(lab.get_kind(&lab.group(), "v1", "Widget").await, !goes);
    }
}

/// As a provider waits: one task for the watches of all clusters, that knows none of them.
#[tokio::test]
async fn one_pulse_tells_of_several_clusters_and_of_no_heartbeat() {
    let (one, two) = (Lab::fake().await, Lab::over(FakeKube::start()).await);
    let pulse = Pulse::default();
    let mut told = pulse.listen();
    let (tell, mut woken) = tokio::sync::mpsc::unbounded_channel();
    let task =
        tokio::spawn(async move { while told.changed().await.is_ok() && tell.send(()).is_ok() {} });
    let mut all = Vec::new();
    for lab in [&one, &two] {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "1"}]}});
        lab.fake.as_ref().unwrap().world().put(&node);
        let of = lab.api.resource(&Kind::new("", "v1", "Node")).await.unwrap();
        let watches = Watches::telling(lab.api.clone(), pulse.clone());
        watches.follow(&of, &Selector::default());
        watches.current(LONG).await.unwrap();
        tokio::time::timeout(LONG, woken.recv()).await.expect("it is told").unwrap();
        all.push((of, watches));
    }
    while woken.try_recv().is_ok() {}
    let beat = |at: &str, ready: &str| json!({"status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": at}]}});
    let world = || two.fake.as_ref().unwrap().world();
    world().edit("Node", "", "n", &beat("2", "True"));
    let (of, watches) = &all[1];
    let key = trueup_kubernetes::ObjectKey::new("", "Node", None, "n");
    let heard = || {
        let stock = watches.stock(&of.kind(), &Selector::default()).unwrap();
        stock[&key].pointer("/status/conditions/0/lastHeartbeatTime").cloned()
    };
    // It is taken in, which nothing tells of: that is the point.
    let taken_in = async {
        while heard() != Some(json!("2")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, taken_in).await.expect("it is taken in");
    assert!(woken.try_recv().is_err(), "a heartbeat wakes nobody");
    world().edit("Node", "", "n", &beat("3", "False"));
    tokio::time::timeout(LONG, woken.recv()).await.expect("it is told").unwrap();
    task.abort();
}

#[tokio::test]
async fn an_engine_tells_by_the_watches_that_it_was_given() {
    let lab = Lab::fake().await;
    let wish = lab.wish(&config_maps(2)).await;
    lab.reconcile(&wish).await;
    let pulse = Pulse::default();
    let watches = Watches::telling(lab.api.clone(), pulse.clone());
    let mut engine = Engine::with_watches(lab.api.clone(), waits(), watches);
    engine.look(&wish).await.unwrap();
    engine.watches().unwrap().current(LONG).await.unwrap();
    let mut told = pulse.listen();
    let fake = lab.fake.as_ref().unwrap();
    fake.world().remove("ConfigMap", &lab.namespace, "m0");
    tokio::time::timeout(LONG, told.changed()).await.expect("it is told").unwrap();
    assert!(!plan(&wish, &engine.look(&wish).await.unwrap()).steps.is_empty());
}
