//! How long a plan over a Slurm cluster of 1,000 nodes with 2,000 jobs takes: at rest, with a partition more,
//! and with every node to be changed, ten or one at a time.
//!
//! Prints milliseconds, beside how long it takes to read such a `slurm.conf` once; judges nothing by itself.

#![allow(missing_docs, clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use trueup::model::resource::{Cluster, SlurmCluster, SlurmPlace, SlurmSeen};
use trueup::model::{
    CommitId, Name, Observation, Observed, Ownership, Resource, ResourceId, digest_of,
};
use trueup::plan::{Guards, Input, Known, KnownResource, Plan, plan};
use trueup::spec::{Desired, DesiredResource, Lifecycle, Origin, SyncSettings};
use trueup_slurm::conf::Conf;
use trueup_slurm::observe::{self, Job, JobState, Node, NodeState};
use trueup_slurm::wish::{self, Host};
use trueup_slurm::{Shape, render};

/// As many nodes and jobs as the target names, and its milliseconds.
const NODES: usize = 1000;
const JOBS: usize = 2000;
const TARGET_MS: f64 = 50.0;
/// Runs of which the median counts.
const RUNS: usize = 9;

fn wished() -> wish::Cluster {
    let mut wish: wish::Cluster = serde_json::from_value(serde_json::json!({
        "name": "lab",
        "controllers": [{"name": "ctl"}],
        "pools": [{"name": "cpu", "nodes": [], "cpus": 64, "memoryMib": 256_000}],
        "partitions": [{"name": "batch", "pools": ["cpu"], "default": true}],
    }))
    .unwrap();
    // With an address each, so that each has a line of its own, as on a network without names.
    wish.pools[0].nodes = (0..NODES)
        .map(|n| Host {
            name: format!("n{n:04}"),
            address: Some(format!("10.0.{}.{}", n / 250, n % 250)),
            port: None,
        })
        .collect();
    wish
}

fn node(name: &str) -> Node {
    Node {
        state: NodeState::Mixed,
        flags: BTreeSet::new(),
        reason: None,
        address: name.to_owned(),
        hostname: name.to_owned(),
        port: 6818,
        cpus: 64,
        cpus_allocated: 2,
        memory_mib: 256_000,
        memory_allocated_mib: 2000,
        gres: String::new(),
        gres_used: String::new(),
        features: BTreeSet::new(),
        weight: 1,
        partitions: BTreeSet::from(["batch".to_owned()]),
        release: Some("22.05.8".parse().unwrap()),
        daemon_started: 100,
    }
}

fn job(id: usize) -> Job {
    Job {
        id: u32::try_from(id).unwrap(),
        state: JobState::Running,
        reason: String::new(),
        name: "train".into(),
        user: "ann".into(),
        account: "research".into(),
        qos: "normal".into(),
        partition: "batch".into(),
        nodes: format!("n{:04}", id % NODES),
        cpus: 1,
        tres: "cpu=1,mem=1000M".into(),
        tasks: String::new(),
        submitted: 1,
        started: 2,
        ends: 0,
    }
}

/// What runs where the files are those of `wish`.
fn running(wish: &wish::Cluster) -> SlurmSeen {
    let files = render(wish, Shape::V22_05).unwrap();
    let conf = Conf::parse(&files.slurm).unwrap();
    let partitions = conf.partitions.iter().map(|(name, fields)| {
        let (nodes, fields) = (fields["nodes"].clone(), fields.clone());
        (name.clone(), observe::Partition { nodes, state: "UP".into(), fields })
    });
    let observed = observe::Observed {
        release: "22.05.8".parse().unwrap(),
        nodes: conf.nodes.keys().map(|name| (name.clone(), node(name))).collect(),
        partitions: partitions.collect(),
        reservations: BTreeMap::new(),
        jobs: (0..JOBS).map(job).collect(),
    };
    SlurmSeen {
        slurm: files.slurm,
        gres: files.gres,
        cgroup: files.cgroup,
        observed: Some(Arc::new(observed)),
        now: 1000,
        ..SlurmSeen::default()
    }
}

fn resource(wish: &wish::Cluster, at_once: u32, seen: Option<Arc<SlurmSeen>>) -> Resource {
    Resource::Cluster(Box::new(Cluster::Slurm(SlurmCluster {
        place: SlurmPlace::default(),
        wish: wish.clone(),
        drain_timeout_s: 3600,
        max_unavailable: at_once,
        built: None,
        seen,
    })))
}

fn desired(resource: Resource) -> Desired {
    let wish = DesiredResource {
        digest: digest_of(&resource),
        resource,
        depends_on: BTreeSet::new(),
        owner: None,
        lifecycle: Lifecycle::default(),
        labels: BTreeMap::new(),
        origin: Origin { path: "lab/all.yaml".into(), line: 1 },
    };
    let id: ResourceId = "cluster/hpc".parse().unwrap();
    Desired {
        environment: Name::new("lab").unwrap(),
        sync: SyncSettings::default(),
        resources: BTreeMap::from([(id, Arc::new(wish))]),
    }
}

fn median(mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

fn main() {
    let commit: CommitId = "0123456789012345678901234567890123456789".parse().unwrap();
    let (live, id) = (wished(), "cluster/hpc".parse::<ResourceId>().unwrap());
    let seen = Arc::new(running(&live));
    let observation = Observation {
        ownership: Ownership::Unmarked,
        config: resource(&live, 1, Some(Arc::clone(&seen))),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    };
    let (mut observed, mut known) = (Observed::default(), Known::default());
    observed.resources.insert(id.clone(), observation);
    known.resources.insert(id, KnownResource::default());

    let mut more = live.clone();
    let night =
        wish::Partition { name: "night".into(), default: false, ..live.partitions[0].clone() };
    more.partitions.push(night);
    let mut other = live.clone();
    other.pools[0].memory_mib = 200_000;

    println!(
        "| plan over {NODES} nodes and {JOBS} jobs | ms | reads of its slurm.conf | target ms | |"
    );
    println!("|---|---|---|---|---|");
    let one_read = median(|| drop(Conf::parse(&seen.slurm).unwrap()));
    for (what, wish, at_once, steps) in [
        ("nothing to do", &live, 1, 0),
        ("a partition more", &more, 1, 2),
        ("every node, a hundred at a time", &other, 100, 5 * NODES + 10 + 1),
        ("every node, ten at a time", &other, 10, 5 * NODES + 100 + 1),
    ] {
        let desired = desired(resource(wish, at_once, None));
        let made = || -> Plan {
            plan(&Input {
                commit: &commit,
                desired: &desired,
                observed: &observed,
                known: &known,
                guards: Guards { prune: true },
                now_minute_of_week: None,
            })
        };
        assert_eq!(made().steps.len(), steps, "{what}");
        let took = median(|| drop(made()));
        let met = if took <= TARGET_MS { "met" } else { "missed" };
        println!("| {what} | {took:.1} | {:.1} | {TARGET_MS} | {met} |", took / one_read);
    }
}
