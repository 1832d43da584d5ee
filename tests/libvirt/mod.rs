//! The libvirt provider against a real libvirt, privately started for each test.
//!
//! A test that finds no private libvirt starts itself again beside one. It fails, rather than being
//! skipped, where libvirt is not installed.

mod bench;
mod contract;
mod network;
mod safety;

use std::future::Future;

use crate::support::beside;
use crate::support::beside::TINY;

/// Runs `test`, the test function called `name`, beside a private libvirt.
#[track_caller]
fn beside_libvirt<F: Future<Output = ()>>(name: &str, test: impl FnOnce(String) -> F) {
    beside::beside_libvirt(name, |uri| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test(uri));
    });
}
