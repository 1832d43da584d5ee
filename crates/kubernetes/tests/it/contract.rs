//! Releases against an API server. Each of these holds on the fake and on a real one.

use serde_json::{Value, json};
use trueup_kubernetes::release::{Action, Disruption, EngineError, Waits, plan};
use trueup_kubernetes::{Apply, Fault, Kind, Selector};

use crate::lab::{Lab, both, waits};

both!(
    a_release_comes_changes_and_goes,
    keys_of_others_stay_and_are_told,
    conflicts_are_named_and_not_taken,
    a_try_stores_nothing,
    definitions_come_first_and_go_last,
    a_definition_that_is_gone_takes_nothing_with_it_twice,
    what_holds_an_object_is_named,
    what_cannot_change_is_told_before,
    lists_come_in_pages,
    watches_follow,
    a_watch_outlives_the_definition_of_its_kind,
    a_delete_is_for_one_uid,
);

const FRONT: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: $NS}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: colors}
data: {sky: blue, grass: green}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: front}
spec:
  replicas: 0
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec: {containers: [{name: web, image: example.org/web:1}]}
";

const DEFINITION: &str = "
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.$GROUP}
spec:
  group: $GROUP
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
";

const WIDGET: &str = "
---
apiVersion: $GROUP/v1
kind: Widget
metadata: {name: one}
spec: {size: 1}
";

const HOME: &str = "
---
apiVersion: v1
kind: Namespace
metadata: {name: $NS}
";

async fn a_release_comes_changes_and_goes(lab: &Lab) {
    let wish = lab.wish(FRONT).await;
    let first = lab.reconcile(&wish).await;
    assert!(first.items.iter().all(|item| item.action == Action::Create), "{first:?}");
    let again = lab.reconcile(&wish).await;
    assert_eq!((again.steps.len(), again.drift().count()), (0, 0), "{again:?}");

    let colors = lab.key("", "ConfigMap", "colors");
    let before = lab.get("v1", &colors).await.unwrap();
    let changed = lab.wish(&FRONT.replace("sky: blue, grass: green", "sky: grey")).await;
    let made = lab.reconcile(&changed).await;
    let item = made.items.iter().find(|item| item.key == colors).unwrap();
    let paths: Vec<_> = item.changes.iter().map(|c| c.path.as_str()).collect();
    assert_eq!(paths, ["/data/grass", "/data/sky"], "{item:?}");
    let after = lab.get("v1", &colors).await.unwrap();
    assert_eq!(after["data"], json!({"sky": "grey"}), "what is no longer set is gone");
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);

    let image = lab
        .wish(&FRONT.replace("web:1", "web:2").replace("sky: blue, grass: green", "sky: grey"))
        .await;
    assert_eq!(lab.reconcile(&image).await.disruption(), Disruption::Restart);

    let less = lab.wish(FRONT.split("---").next().unwrap()).await;
    let made = lab.reconcile(&less).await;
    let pruned = made.items.iter().filter(|item| item.action == Action::Prune).count();
    assert_eq!((pruned, made.disruption()), (2, Disruption::Destroy));
    assert_eq!(lab.get("v1", &colors).await, None);
    assert_eq!(lab.reconcile(&less).await.steps, []);
}

async fn keys_of_others_stay_and_are_told(lab: &Lab) {
    let wish = lab.wish(FRONT).await;
    lab.reconcile(&wish).await;
    let colors = lab.key("", "ConfigMap", "colors");
    lab.edit("configmaps", &colors, "", &json!({"data": {"sky": "red", "sea": "extra"}})).await;
    let made = lab.reconcile(&wish).await;
    let item = made.items.iter().find(|item| item.key == colors).unwrap();
    assert_eq!(item.action, Action::Change);
    assert_eq!(item.changes.len(), 1, "{item:?}");
    assert_eq!(
        (&item.changes[0].from, &item.changes[0].to),
        (&Some(json!("red")), &Some(json!("blue")))
    );
    let live = lab.get("v1", &colors).await.unwrap();
    assert_eq!(live["data"], json!({"sky": "blue", "grass": "green", "sea": "extra"}));
    // It is as wished now, and still not only as wished.
    let again = lab.reconcile(&wish).await;
    assert_eq!(again.steps, []);
    let told: Vec<_> = again.drift().flat_map(|item| &item.extras).collect();
    let extra = told.iter().find(|extra| extra.path == ".data.sea").expect("it is drift");
    assert_eq!(
        (extra.manager.as_str(), extra.value.as_ref()),
        ("kubectl-edit", Some(&json!("extra")))
    );
}

async fn conflicts_are_named_and_not_taken(lab: &Lab) {
    let mut wish = lab.wish(FRONT).await;
    lab.reconcile(&wish).await;
    let colors = lab.key("", "ConfigMap", "colors");
    lab.edit("configmaps", &colors, "", &json!({"data": {"sky": "red"}})).await;
    wish.force = false;
    let made = plan(&wish, &lab.engine().look(&wish).await.unwrap());
    let refused: Vec<_> = made.refused().collect();
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].1.contains(".data.sky") && refused[0].1.contains("kubectl-edit"),
        "{refused:?}"
    );
    assert_eq!(made.steps, []);
    assert_eq!(lab.get("v1", &colors).await.unwrap()["data"]["sky"], "red");
}

async fn a_try_stores_nothing(lab: &Lab) {
    lab.make_namespace().await;
    let wish =
        lab.wish("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '1'}").await;
    let key = lab.key("", "ConfigMap", "a");
    let of = lab.api.resource(&Kind::new("", "v1", "ConfigMap")).await.unwrap();
    let dry = Apply { force: true, dry_run: true };
    let would = lab.api.apply(&of, &key, &wish.manifests[0].object, dry).await.unwrap();
    assert_eq!(would["data"]["x"], "1");
    assert_eq!(lab.get("v1", &key).await, None);
    // An apply that changes nothing leaves the version alone.
    let wet = Apply { force: true, dry_run: false };
    let one = lab.api.apply(&of, &key, &wish.manifests[0].object, wet).await.unwrap();
    let two = lab.api.apply(&of, &key, &wish.manifests[0].object, wet).await.unwrap();
    assert_eq!(one["metadata"]["resourceVersion"], two["metadata"]["resourceVersion"]);
    let bad = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": lab.namespace}, "data": {"x": {}}});
    let fault = lab.api.apply(&of, &key, &bad, wet).await.unwrap_err();
    assert!(matches!(fault, Fault::Invalid { .. }), "{fault}");
    assert!(fault.to_string().contains(".data.x"), "{fault}");
}

async fn definitions_come_first_and_go_last(lab: &Lab) {
    let text = [WIDGET, DEFINITION, HOME].concat();
    let wish = lab.wish(&text).await;
    lab.reconcile(&wish).await;
    let widget = lab.key(&lab.group(), "Widget", "one");
    assert_eq!(lab.get("v1", &widget).await.unwrap()["spec"]["size"], 1);
    assert_eq!(lab.reconcile(&wish).await.steps, []);

    // Another's object of that kind: the definition stays until it is gone.
    let other = json!({"apiVersion": format!("{}/v1", lab.group()), "kind": "Widget",
        "metadata": {"name": "two", "namespace": lab.namespace}});
    lab.put(&lab.group(), "Widget", Some(&lab.namespace), "two", other).await;
    let home = lab.wish(HOME).await;
    let made = lab.reconcile(&home).await;
    let kept = made.items.iter().find(|item| item.key.is_definition()).unwrap();
    assert!(matches!(&kept.action, Action::Leave(why) if why.contains("1 objects")), "{kept:?}");
    assert_eq!(lab.get("v1", &widget).await, None);

    let key = lab.key(&lab.group(), "Widget", "two");
    let of = lab.api.resource(&Kind::new(&lab.group(), "v1", "Widget")).await.unwrap();
    let uid = lab.get("v1", &key).await.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    assert!(lab.api.delete(&of, &key, &uid).await.unwrap());
    let made = lab.reconcile(&home).await;
    assert!(made.items.iter().any(|item| item.key.is_definition() && item.action == Action::Prune));
    lab.api.forget();
    let gone = lab.api.resource(&Kind::new(&lab.group(), "v1", "Widget")).await;
    assert!(matches!(gone, Err(Fault::UnknownKind { .. })), "{gone:?}");
    assert_eq!(lab.reconcile(&home).await.steps, []);
}

async fn a_definition_that_is_gone_takes_nothing_with_it_twice(lab: &Lab) {
    let wish = lab.wish(&[WIDGET, DEFINITION, HOME].concat()).await;
    lab.reconcile(&wish).await;
    // By hand, before its objects.
    let key = wish.manifests.iter().find(|m| m.key.is_definition()).unwrap().key.clone();
    let of = lab.api.resource(&Kind::new(&key.group, "v1", &key.kind)).await.unwrap();
    let uid = lab.get("v1", &key).await.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    assert!(lab.api.delete(&of, &key, &uid).await.unwrap());
    let mut engine = lab.engine();
    let version = "v1".to_owned();
    let gone = trueup_kubernetes::release::Step::AwaitGone { key, version, uid };
    engine.perform(&wish, &gone).await.unwrap();

    // The release goes without stumbling over what went already.
    let home = lab.wish(HOME).await;
    let made = lab.reconcile(&home).await;
    assert!(made.items.iter().all(|item| item.action != Action::Prune), "{made:?}");
    assert_eq!(lab.reconcile(&home).await.steps, []);

    // And comes back whole where it is still wished.
    lab.reconcile(&wish).await;
    assert_eq!(lab.reconcile(&wish).await.steps, []);
}

async fn what_holds_an_object_is_named(lab: &Lab) {
    let wish = lab.wish(&[WIDGET, DEFINITION, HOME].concat()).await;
    lab.reconcile(&wish).await;
    let widget = lab.key(&lab.group(), "Widget", "one");
    let hold = json!({"metadata": {"finalizers": ["example.org/hold"]}});
    lab.edit("widgets", &widget, "", &hold).await;
    let home = lab.wish(HOME).await;
    let short = Waits { gone: std::time::Duration::from_millis(300), ..waits() };
    let mut engine = trueup_kubernetes::release::Engine::new(lab.api.clone(), short);
    let made = plan(&home, &engine.look(&home).await.unwrap());
    let mut stuck = None;
    for step in &made.steps {
        if let Err(error) = engine.perform(&home, step).await {
            stuck = Some(error);
            break;
        }
    }
    let Some(EngineError::Stuck { key, words, .. }) = stuck else { panic!("{stuck:?}") };
    assert_eq!(key, widget);
    assert!(words.contains("example.org/hold"), "{words}");
    // Its definition is still there, so that what holds it can let it go.
    let definition = wish.manifests.iter().find(|m| m.key.is_definition()).unwrap().key.clone();
    let live = lab.get("v1", &definition).await.unwrap();
    assert_eq!(live.pointer("/metadata/deletionTimestamp"), None);
    lab.edit("widgets", &widget, "", &json!({"metadata": {"finalizers": null}})).await;
    lab.reconcile(&home).await;
    assert_eq!(lab.get("v1", &definition).await, None);
}

async fn what_cannot_change_is_told_before(lab: &Lab) {
    let wish = lab.wish(FRONT).await;
    lab.reconcile(&wish).await;
    let other = FRONT.replace("app: front", "app: other");
    let made =
        plan(&lab.wish(&other).await, &lab.engine().look(&lab.wish(&other).await).await.unwrap());
    let refused: Vec<_> = made.refused().collect();
    assert!(refused[0].1.contains("immutable"), "{refused:?}");
    assert_eq!(made.steps, []);

    let allowed = other.replace(
        "{name: front}\nspec",
        "{name: front, annotations: {trueup.io/replace: 'true'}}\nspec",
    );
    let front = lab.key("apps", "Deployment", "front");
    let before = lab.get("v1", &front).await.unwrap();
    let made = lab.reconcile(&lab.wish(&allowed).await).await;
    assert_eq!(made.disruption(), Disruption::Replace);
    let after = lab.get("v1", &front).await.unwrap();
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
}

async fn lists_come_in_pages(lab: &Lab) {
    lab.make_namespace().await;
    // More than a page.
    for index in 0..510 {
        let name = format!("m{index}");
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": lab.namespace, "labels": {"odd": (index % 2).to_string()}}});
        lab.put("", "ConfigMap", Some(&lab.namespace), &name, object).await;
    }
    let of = lab.api.resource(&Kind::new("", "v1", "ConfigMap")).await.unwrap();
    let which = |labels: Option<&str>| Selector {
        namespace: Some(lab.namespace.clone()),
        labels: labels.map(str::to_owned),
        fields: None,
    };
    let own = |all: Vec<Value>| {
        all.iter().filter(|o| o["metadata"]["name"].as_str().unwrap().starts_with('m')).count()
    };
    assert_eq!(own(lab.api.list(&of, &which(None)).await.unwrap()), 510);
    assert_eq!(own(lab.api.list(&of, &which(Some("odd=1"))).await.unwrap()), 255);
}

async fn watches_follow(lab: &Lab) {
    lab.make_namespace().await;
    let of = lab.api.resource(&Kind::new("", "v1", "ConfigMap")).await.unwrap();
    let which = Selector {
        namespace: Some(lab.namespace.clone()),
        labels: Some("seen=yes".to_owned()),
        fields: None,
    };
    let watches = trueup_kubernetes::Watches::new(lab.api.clone());
    watches.follow(&of, &which);
    watches.current(std::time::Duration::from_secs(20)).await.unwrap();
    let object = |seen: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": lab.namespace, "labels": {"seen": seen}}})
    };
    let names = || {
        let stock = watches.stock(&of.kind(), &which).map(|stock| stock.len());
        stock.unwrap_or_default()
    };
    for (seen, count) in [("yes", 1), ("no", 0), ("yes", 1)] {
        lab.put("", "ConfigMap", Some(&lab.namespace), "a", object(seen)).await;
        let mut pulse = watches.pulse();
        let arrived = async {
            while names() != count {
                pulse.changed().await.unwrap();
            }
        };
        let limit = std::time::Duration::from_secs(20);
        tokio::time::timeout(limit, arrived).await.expect("the watch tells of it");
    }
}

async fn a_watch_outlives_the_definition_of_its_kind(lab: &Lab) {
    let wish = lab.wish(&[WIDGET, DEFINITION, HOME].concat()).await;
    lab.reconcile(&wish).await;
    let of = lab.api.resource(&Kind::new(&lab.group(), "v1", "Widget")).await.unwrap();
    let all = Selector::default();
    let watches = trueup_kubernetes::Watches::new(lab.api.clone());
    watches.follow(&of, &all);
    let limit = std::time::Duration::from_secs(20);
    watches.current(limit).await.unwrap();
    assert_eq!(watches.stock(&of.kind(), &all).unwrap().len(), 1);

    lab.reconcile(&lab.wish(HOME).await).await;
    let seen = |wanted: Option<usize>| {
        let mut pulse = watches.pulse();
        let (watches, of, all) = (&watches, &of, &all);
        async move {
            let there = async {
                while watches.stock(&of.kind(), all).map(|stock| stock.len()) != wanted {
                    pulse.changed().await.unwrap();
                }
            };
            tokio::time::timeout(limit, there).await.expect("it is told")
        }
    };
    // Not an empty kind: a kind that is not there.
    seen(None).await;
    lab.reconcile(&wish).await;
    seen(Some(1)).await;
}

async fn a_delete_is_for_one_uid(lab: &Lab) {
    lab.make_namespace().await;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": lab.namespace}});
    lab.put("", "ConfigMap", Some(&lab.namespace), "a", object).await;
    let of = lab.api.resource(&Kind::new("", "v1", "ConfigMap")).await.unwrap();
    let key = lab.key("", "ConfigMap", "a");
    assert!(!lab.api.delete(&of, &key, "00000000-0000-0000-0000-00000000beef").await.unwrap());
    let uid = lab.get("v1", &key).await.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    assert!(lab.api.delete(&of, &key, &uid).await.unwrap());
    assert_eq!(lab.get("v1", &key).await, None);
    assert!(!lab.api.delete(&of, &key, &uid).await.unwrap());
}
