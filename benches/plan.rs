//! How long a plan with nothing to do takes, and how that grows; and a plan that makes everything.
//!
//! Prints milliseconds and the growth exponent; judges nothing by itself.

#![allow(missing_docs, clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use trueup::model::resource::{
    Dhcp, Disk, Network, NetworkAddress, NetworkMode, OnImageChange, StoragePool, VolumeFormat,
};
use trueup::model::{CommitId, Name, Observed, Resource, ResourceId, digest_of};
use trueup::plan::{Guards, Input, Known, plan, simulate};
use trueup::spec::{Desired, DesiredResource, Lifecycle, Origin, SyncSettings};

/// Runs of which the fastest counts.
const RUNS: usize = 9;

/// Resources of the largest plan.
const LARGEST: usize = 100_000;

fn wish(desired: &mut Desired, id: &str, resource: Resource) {
    let digest = digest_of(&resource);
    let id: ResourceId = id.parse().unwrap();
    let wish = DesiredResource {
        resource,
        depends_on: BTreeSet::new(),
        owner: None,
        lifecycle: Lifecycle::default(),
        labels: BTreeMap::new(),
        origin: Origin { path: "lab/all.yaml".into(), line: 1 },
        digest,
    };
    desired.resources.insert(id, Arc::new(wish));
}

fn network(number: usize) -> Resource {
    let address = format!("10.{}.{}.1/24", number / 256 % 256, number % 256);
    Resource::Network(Network {
        mode: NetworkMode::Nat,
        bridge: None,
        addresses: vec![NetworkAddress {
            address: address.parse().unwrap(),
            dhcp: Some(Dhcp::default()),
        }],
        dns: None,
        domain: None,
        mtu: None,
        autostart: true,
    })
}

fn disk(number: usize) -> Resource {
    Resource::Disk(Disk {
        pool: Name::new("main").unwrap(),
        path: format!("/vm/disk-{number}.qcow2"),
        format: VolumeFormat::Qcow2,
        size: 10 << 30,
        backing: None,
        on_image_change: Some(OnImageChange::Keep),
        way_back: None,
    })
}

fn desired(count: usize) -> Desired {
    let mut desired = Desired {
        environment: Name::new("lab").unwrap(),
        sync: SyncSettings::default(),
        resources: BTreeMap::new(),
    };
    let pool = StoragePool { path: "/vm".into(), autostart: true };
    wish(&mut desired, "pool/main", Resource::StoragePool(pool));
    for number in 0..count / 20 {
        wish(&mut desired, &format!("network/net-{number}"), network(number));
    }
    for number in 0..count - count / 20 {
        wish(&mut desired, &format!("disk/disk-{number}"), disk(number));
    }
    desired
}

fn fastest(mut run: impl FnMut()) -> f64 {
    let one = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1000.0
    };
    (0..RUNS).map(|_| one(&mut run)).fold(f64::MAX, f64::min)
}

fn input<'a>(
    commit: &'a CommitId,
    desired: &'a Desired,
    observed: &'a Observed,
    known: &'a Known,
) -> Input<'a> {
    Input {
        commit,
        desired,
        observed,
        known,
        guards: Guards { prune: true },
        now_minute_of_week: None,
    }
}

/// A machine on which nothing is left to do, and how long the plan that made it took, ms.
fn made(commit: &CommitId, count: usize) -> (Desired, Observed, Known, f64) {
    let desired = desired(count);
    let (mut observed, mut known) = (Observed::default(), Known::default());
    let start = Instant::now();
    let all = plan(&input(commit, &desired, &observed, &known));
    let create = start.elapsed().as_secs_f64() * 1000.0;
    for step in &all.steps {
        simulate::remember_started(&mut known, step, &desired);
        simulate::apply(&mut observed, step, &desired.environment);
    }
    (desired, observed, known, create)
}

fn main() {
    let commit: CommitId = "0123456789012345678901234567890123456789".parse().unwrap();
    let mut times = Vec::new();
    for count in [1_000, 10_000, LARGEST] {
        // As many machines as make the same memory in every row: else a small plan is measured from
        // the processor's cache and a large one from memory, which says nothing of the algorithm.
        let machines: Vec<_> = (0..LARGEST / count).map(|_| made(&commit, count)).collect();
        let idle = fastest(|| {
            for (desired, observed, known, _) in &machines {
                assert!(plan(&input(&commit, desired, observed, known)).is_empty());
            }
        }) / machines.len() as f64;
        let create = machines.iter().map(|machine| machine.3).fold(f64::MAX, f64::min);
        println!("plan/{count}: nothing to do {idle:.2} ms; everything to make {create:.1} ms");
        times.push((count as f64, idle));
    }
    let (first, last) = (times[0], times[times.len() - 1]);
    let exponent = (last.1 / first.1).ln() / (last.0 / first.0).ln();
    println!("plan/growth exponent 1k to 100k: {exponent:.2}");
}
