//! A release at rest.

use std::time::Duration;

use trueup_fake_kube::FakeKube;
use trueup_kubernetes::Selector;
use trueup_kubernetes::release::{Engine, LABEL, ReleaseName, plan};

use crate::lab::{Lab, config_maps, waits};

/// With watches, objects that did not change are not asked for.
#[tokio::test]
async fn a_look_at_objects_at_rest_asks_for_the_inventory_alone() {
    let lab = Lab::over(FakeKube::start()).await;
    let wish = lab.wish(&config_maps(50)).await;
    lab.reconcile(&wish).await;
    let mut engine = Engine::watching(lab.api.clone(), waits());
    engine.look(&wish).await.unwrap();
    engine.watches().unwrap().current(Duration::from_secs(60)).await.unwrap();
    engine.look(&wish).await.unwrap();
    let fake = lab.fake.as_ref().unwrap();
    fake.forget_requests();
    assert_eq!(plan(&wish, &engine.look(&wish).await.unwrap()).steps, []);
    assert_eq!(fake.count("", ""), 1, "only the inventory is asked for");
}

/// What no release of a cluster has any more ends after a while, and what another one has goes on. A look
/// with less in between, as for a pull request, ends nothing.
#[tokio::test]
async fn what_nobody_asks_for_is_not_followed_for_ever() {
    let lab = Lab::over(FakeKube::start()).await;
    let wish = lab.wish(&config_maps(1)).await;
    lab.reconcile(&wish).await;
    let mut engine = Engine::watching(lab.api.clone(), waits());
    let map = wish.manifests.iter().find(|it| it.kind.kind == "ConfigMap").unwrap();
    let followed = |engine: &Engine, release: &ReleaseName| {
        let labels = Some(format!("{LABEL}={}", release.label()));
        let which = Selector { namespace: map.key.namespace.clone(), labels, fields: None };
        engine.watches().unwrap().stock(&map.kind, &which).is_some()
    };
    let mut other = wish.clone();
    other.release = ReleaseName::new(&lab.namespace, "other").unwrap();
    engine.look(&wish).await.unwrap();
    engine.look(&other).await.unwrap();
    let watches = engine.watches().unwrap().clone();
    watches.current(Duration::from_secs(60)).await.unwrap();
    let mut less = wish.clone();
    less.manifests.retain(|it| it.kind.kind != "ConfigMap");
    let begun = || lab.fake.as_ref().unwrap().count("GET", "limit=");
    let before = begun();
    for _ in 0..3 {
        engine.look(&less).await.unwrap();
        engine.look(&other).await.unwrap();
        engine.look(&wish).await.unwrap();
        watches.rest(Duration::from_secs(600));
    }
    assert!(followed(&engine, &wish.release) && followed(&engine, &other.release));
    assert_eq!(begun(), before, "no watch is made anew");
    let since = std::time::Instant::now();
    engine.look(&less).await.unwrap();
    engine.look(&other).await.unwrap();
    watches.rest(since.elapsed());
    assert!(!followed(&engine, &wish.release) && followed(&engine, &other.release));
}
