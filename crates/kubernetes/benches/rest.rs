//! What a look at a release of 1,000 objects that did not change costs us with watches. It prints the
//! figure beside its bound, and fails for none.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark takes the time, prints, and fails where it cannot"
)]
#![expect(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "the lab is the tests', and this needs a part of it"
)]

#[path = "../tests/it/lab.rs"]
mod lab;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use trueup_fake_kube::FakeKube;
use trueup_kubernetes::release::{Engine, plan};

use lab::{Lab, waits};

/// As many as the bound is for.
const OBJECTS: usize = 1_000;
/// Our processor time a pass at most, in milliseconds.
const BOUND_MS: f64 = 100.0;
/// Passes; the median counts.
const PASSES: usize = 21;

/// Processor time of this thread, in milliseconds.
fn spent() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// Everything of ours runs on the one thread that is measured; the fake server has others.
fn main() {
    let fake = FakeKube::start();
    let ours = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    ours.block_on(async {
        let lab = Lab::over(fake).await;
        let wish = lab.wish(&lab::config_maps(OBJECTS - 1)).await;
        lab.reconcile(&wish).await;
        let mut engine = Engine::watching(lab.api.clone(), waits());
        engine.look(&wish).await.unwrap();
        engine.watches().unwrap().current(Duration::from_secs(60)).await.unwrap();
        engine.look(&wish).await.unwrap();
        let mut passes = Vec::new();
        for _ in 0..PASSES {
            let before = spent();
            let made = plan(&wish, &engine.look(&wish).await.unwrap());
            passes.push(spent() - before);
            assert_eq!(made.steps, []);
        }
        passes.sort_by(f64::total_cmp);
        let median = passes[PASSES / 2];
        println!(
            "{OBJECTS} objects at rest: {median:.1} ms of our processor time a pass, {:.2} of {BOUND_MS} ms",
            median / BOUND_MS
        );
    });
}
