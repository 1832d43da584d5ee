//! What a look at a release at rest costs us.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use trueup_kubernetes::release::{Engine, plan};

use crate::fake::Fake;
use crate::lab::{Lab, waits};

/// Of this thread, in milliseconds.
fn spent() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// 1,000 objects that did not change: at most 100 ms of our processor time with watches. Everything of
/// ours runs on the one thread that is measured; the fake server has another.
#[test]
fn a_thousand_objects_at_rest() {
    let server =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let fake = server.block_on(Fake::start());
    let ours = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    ours.block_on(async {
        let lab = Lab::over(fake).await;
        let mut text = String::from("apiVersion: v1\nkind: Namespace\nmetadata: {name: $NS}\n");
        for index in 0..999 {
            text.push_str(&format!(
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m{index}}}\ndata: {{a: '{index}', b: x}}\n"
            ));
        }
        let wish = lab.wish(&text).await;
        lab.reconcile(&wish).await;
        let mut engine = Engine::watching(lab.api.clone(), waits());
        engine.look(&wish).await.unwrap();
        engine.watches().unwrap().current(Duration::from_secs(60)).await.unwrap();
        engine.look(&wish).await.unwrap();
        let fake = lab.fake.as_ref().unwrap();
        let mut best = f64::MAX;
        for _ in 0..5 {
            fake.forget_requests();
            let before = spent();
            let made = plan(&wish, &engine.look(&wish).await.unwrap());
            best = best.min(spent() - before);
            assert_eq!(made.steps, []);
            assert_eq!(fake.count("", ""), 1, "only the inventory is asked for");
        }
        eprintln!("1,000 objects at rest: {best:.1} ms of our processor time a pass");
        assert!(best < 100.0, "{best} ms");
    });
}
