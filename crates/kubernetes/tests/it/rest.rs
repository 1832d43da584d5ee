//! A release at rest.

use std::time::Duration;

use trueup_fake_kube::FakeKube;
use trueup_kubernetes::release::{Engine, plan};

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
