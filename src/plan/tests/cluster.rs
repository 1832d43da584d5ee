//! Clusters: everything is proved before anything is touched, nodes change one after another, and
//! nothing of other people's is given back or taken away without a word.

mod built;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use expect_test::{Expect, expect};
use serde_json::json;
use trueup_slurm::observe::{
    Flag, Job, JobState, Node, NodeState, Observed, Partition, Reason as NodeReason,
};
use trueup_slurm::{Shape, render, wish};

use super::super::promise::{Kept, Promise};
use super::shows;
use crate::model::resource::{Cluster, SlurmCluster, SlurmPlace, SlurmSeen};
use crate::model::{Observation, Ownership, Resource};
use crate::plan::fixture::{Machine, id};
use crate::plan::{
    Action, Disruption, KnownCluster, KnownResource, NodeDrain, Plan, Reason, SkipReason, check,
};

fn lab() -> wish::Cluster {
    let nodes = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    serde_json::from_value(json!({
        "name": "lab",
        "controllers": [{"name": "ctl"}],
        "pools": [
            {"name": "cpu", "nodes": nodes(&["n1", "n2", "n3"]), "cpus": 4, "memoryMib": 2000},
            {
                "name": "gpu", "nodes": nodes(&["g1", "g2"]), "cpus": 4, "memoryMib": 2000,
                "gres": [{"name": "gpu", "type": "a100", "count": 2}],
            },
        ],
        "partitions": [
            {"name": "batch", "pools": ["cpu"], "default": true},
            {"name": "gpu", "pools": ["gpu"]},
        ],
    }))
    .unwrap()
}

fn place() -> SlurmPlace {
    SlurmPlace::default()
}

fn cluster(wish: &wish::Cluster, seen: Option<SlurmSeen>) -> Resource {
    Resource::Cluster(Box::new(Cluster::Slurm(SlurmCluster {
        place: place(),
        wish: wish.clone(),
        built: None,
        drain_timeout_s: 3600,
        max_unavailable: 1,
        seen: seen.map(Arc::new),
    })))
}

/// What runs where the files are those of `wish`.
fn running(wish: &wish::Cluster) -> SlurmSeen {
    let files = render(wish, Shape::V22_05).unwrap();
    let mut nodes = BTreeMap::new();
    for pool in &wish.pools {
        for name in pool.names() {
            let gres = pool.gres.iter().map(|it| format!("{}:a100:{}", it.name, it.count));
            let node = Node {
                state: NodeState::Idle,
                flags: BTreeSet::new(),
                reason: None,
                address: name.into(),
                hostname: name.into(),
                port: 6818,
                cpus: pool.cpus,
                cpus_allocated: 0,
                memory_mib: pool.memory_mib,
                memory_allocated_mib: 0,
                gres: gres.collect::<Vec<_>>().join(","),
                gres_used: String::new(),
                features: BTreeSet::new(),
                weight: pool.weight,
                partitions: BTreeSet::new(),
                release: Some("22.05.8".parse().unwrap()),
                daemon_started: 100,
            };
            nodes.insert(name.to_owned(), node);
        }
    }
    let conf = trueup_slurm::conf::Conf::parse(&files.slurm).unwrap();
    let partitions = conf.partitions.iter().map(|(name, fields)| {
        let nodes = fields["nodes"].clone();
        (name.clone(), Partition { nodes, state: "UP".into(), fields: fields.clone() })
    });
    let observed = Observed {
        release: "22.05.8".parse().unwrap(),
        nodes,
        partitions: partitions.collect(),
        reservations: BTreeMap::new(),
        jobs: Vec::new(),
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

/// A cluster of ours that runs as `live` and is to be as `wish`.
fn site(wish: &wish::Cluster, seen: SlurmSeen) -> Machine {
    let mut machine = Machine::new();
    machine.want("cluster/hpc", cluster(wish, None));
    let observation = Observation {
        ownership: Ownership::Unmarked,
        config: cluster(wish, Some(seen)),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    };
    machine.observed.resources.insert(id("cluster/hpc"), observation);
    machine.known.resources.insert(id("cluster/hpc"), KnownResource::default());
    machine
}

fn nodes(seen: &mut SlurmSeen, change: impl FnOnce(&mut Observed)) {
    change(Arc::make_mut(seen.observed.as_mut().unwrap()));
}

fn drain(seen: &mut SlurmSeen, node: &str, reason: &str, at: i64) {
    nodes(seen, |observed| {
        let node = observed.nodes.get_mut(node).unwrap();
        node.flags.insert(Flag::Drain);
        node.reason = Some(NodeReason { text: reason.into(), by: "root".into(), at });
    });
}

/// A plan without the lines of its changes.
fn steps(machine: &Machine, expected: Expect) -> Plan {
    let plan = machine.plan();
    check::check(&plan, &machine.input()).unwrap();
    let shown = machine.shown();
    let lines: Vec<&str> =
        shown.lines().filter(|line| !line.starts_with("       ")).map(str::trim).collect();
    expected.assert_eq(&lines.join("\n"));
    plan
}

fn other_gpus() -> wish::Cluster {
    let mut wish = lab();
    wish.pools[1].memory_mib = 1500;
    wish
}

#[test]
fn what_is_as_asked_needs_nothing_and_what_is_foreign_an_adoption() {
    let mut machine = site(&lab(), running(&lab()));
    assert!(machine.plan().is_empty() && machine.plan().skipped.is_empty(), "{:?}", machine.plan());
    // Order, spelling and comments are no difference.
    let mut seen = running(&lab());
    seen.slurm = format!("# mine\n{}", seen.slurm.replace("NodeName=n[1-3]", "nodename=n1,n2,n3"));
    assert!(site(&lab(), seen).plan().is_empty());
    machine.known.resources.clear();
    assert_eq!(machine.plan().skipped[0].why, SkipReason::Foreign);
    machine.edit("cluster/hpc", |wish| wish.lifecycle.adopt = true);
    shows(
        &machine,
        expect![[r#"
           1  take over  cluster/hpc  lab [adopted]
        Plan: 0 to create, 1 to change, 0 to destroy
    "#]],
    );
    machine.observed.resources.clear();
    assert!(matches!(machine.plan().skipped[0].why, SkipReason::Unplaceable(_)));
}

#[test]
fn a_pool_changes_node_by_node_after_a_proof_of_the_whole() {
    let plan = steps(
        &site(&other_gpus(), running(&lab())),
        expect![[r#"
        1  prove     cluster/hpc  [changed]
        2  drain     cluster/hpc  g1 [changed] live after 1
        3  wait      cluster/hpc  g1 [changed] after 2
        4  configure  cluster/hpc  g1 [changed] live after 3
        5  restart   cluster/hpc  g1 [changed] live after 4
        6  check     cluster/hpc  g1 [changed] after 5
        7  resume    cluster/hpc  g1 [changed] after 6
        8  drain     cluster/hpc  g2 [changed] live after 7
        9  wait      cluster/hpc  g2 [changed] after 8
        10  configure  cluster/hpc  g2 [changed] live after 9
        11  restart   cluster/hpc  g2 [changed] live after 10
        12  check     cluster/hpc  g2 [changed] after 11
        13  resume    cluster/hpc  g2 [changed] after 12
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
    assert_eq!(plan.disruption(), Disruption::Live);
    let configured: Vec<&Vec<String>> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::ClusterConfigure { nodes, .. } => Some(nodes),
            _ => None,
        })
        .collect();
    assert_eq!(configured, [&vec!["g1".to_owned()], &vec!["g2".to_owned()]]);
}

#[test]
fn a_plan_after_a_crash_is_the_rest_of_the_one_before() {
    // Drained, and not empty yet.
    let mut seen = running(&lab());
    drain(&mut seen, "g1", "trueup:lab/gpu/before", 900);
    nodes(&mut seen, |observed| {
        observed.nodes.get_mut("g1").unwrap().cpus_allocated = 1;
        observed.jobs.push(Job {
            id: 7,
            state: JobState::Running,
            reason: String::new(),
            name: "train".into(),
            user: "ann".into(),
            account: "research".into(),
            qos: String::new(),
            partition: "gpu".into(),
            nodes: "g1".into(),
            cpus: 1,
            tres: String::new(),
            tasks: String::new(),
            submitted: 1,
            started: 2,
            ends: 0,
        });
    });
    steps(
        &site(&other_gpus(), seen),
        expect![[r#"
        1  prove     cluster/hpc  [changed]
        2  wait      cluster/hpc  g1 [changed] after 1
        3  configure  cluster/hpc  g1 [changed] live after 2
        4  restart   cluster/hpc  g1 [changed] live after 3
        5  check     cluster/hpc  g1 [changed] after 4
        6  resume    cluster/hpc  g1 [changed] after 5
        7  drain     cluster/hpc  g2 [changed] live after 6
        8  wait      cluster/hpc  g2 [changed] after 7
        9  configure  cluster/hpc  g2 [changed] live after 8
        10  restart   cluster/hpc  g2 [changed] live after 9
        11  check     cluster/hpc  g2 [changed] after 10
        12  resume    cluster/hpc  g2 [changed] after 11
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
    // The files say so, its daemon does not yet.
    let mut half = lab();
    half.pools[1].nodes.remove(0);
    let mut changed = other_gpus().pools[1].clone();
    changed.name = "changed".into();
    changed.nodes.pop();
    half.pools.push(changed);
    half.partitions[1].pools.push("changed".into());
    let mut seen = running(&half);
    drain(&mut seen, "g1", "trueup:lab/gpu/before", 900);
    steps(
        &site(&other_gpus(), seen.clone()),
        expect![[r#"
        1  prove     cluster/hpc  [changed]
        2  wait      cluster/hpc  g1 [changed] after 1
        3  restart   cluster/hpc  g1 [changed] live after 2
        4  check     cluster/hpc  g1 [changed] after 3
        5  resume    cluster/hpc  g1 [changed] after 4
        6  drain     cluster/hpc  g2 [changed] live after 5
        7  wait      cluster/hpc  g2 [changed] after 6
        8  configure  cluster/hpc  g2 [changed] live after 7
        9  restart   cluster/hpc  g2 [changed] live after 8
        10  check     cluster/hpc  g2 [changed] after 9
        11  resume    cluster/hpc  g2 [changed] after 10
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
    // All of it is what a pull request showed.
    let shown = Promise::of(&site(&other_gpus(), running(&lab())).plan());
    let kept = shown.kept_by(&site(&other_gpus(), seen.clone()).plan());
    assert!(matches!(kept, Kept::Smaller { .. }), "{kept:?}");
    // Its daemon does.
    nodes(&mut seen, |observed| observed.nodes.get_mut("g1").unwrap().daemon_started = 950);
    steps(
        &site(&other_gpus(), seen),
        expect![[r#"
        1  prove     cluster/hpc  [changed]
        2  check     cluster/hpc  g1 [changed] after 1
        3  resume    cluster/hpc  g1 [changed] after 2
        4  drain     cluster/hpc  g2 [changed] live after 3
        5  wait      cluster/hpc  g2 [changed] after 4
        6  configure  cluster/hpc  g2 [changed] live after 5
        7  restart   cluster/hpc  g2 [changed] live after 6
        8  check     cluster/hpc  g2 [changed] after 7
        9  resume    cluster/hpc  g2 [changed] after 8
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
}

#[test]
fn nodes_that_people_took_out_are_left_alone_and_count() {
    let mut seen = running(&lab());
    drain(&mut seen, "g2", "fan is loud, bob", 900);
    let machine = site(&other_gpus(), seen.clone());
    let plan = machine.plan();
    assert!(plan.is_empty(), "one is out already, and one may be: {plan:?}");
    let told: Vec<String> = plan.skipped.iter().map(|skip| format!("{:?}", skip.why)).collect();
    expect![[r#"
        BusyWaits("g2: somebody took it out: fan is loud, bob")
        BusyWaits("1 of pool gpu are out of use already, and maxUnavailable is 1")"#]]
    .assert_eq(&told.join("\n"));
    // Where two may be out, the other one changes.
    let mut machine = site(&other_gpus(), seen);
    machine.edit("cluster/hpc", |wish| {
        let Resource::Cluster(cluster) = &mut wish.resource else { panic!() };
        let Cluster::Slurm(slurm) = &mut **cluster else { panic!() };
        slurm.max_unavailable = 2;
    });
    let plan = steps(
        &machine,
        expect![[r#"
        1  prove     cluster/hpc  [changed]
        2  drain     cluster/hpc  g1 [changed] live after 1
        3  wait      cluster/hpc  g1 [changed] after 2
        4  configure  cluster/hpc  g1 [changed] live after 3
        5  restart   cluster/hpc  g1 [changed] live after 4
        6  check     cluster/hpc  g1 [changed] after 5
        7  resume    cluster/hpc  g1 [changed] after 6
        Left alone:
        cluster/hpc: waits until it is free: g2: somebody took it out: fan is loud, bob
        Plan: 0 to create, 1 to change, 0 to destroy, 1 left alone"#]],
    );
    let names = |step: &crate::plan::Step| match &step.action {
        Action::ClusterNode { node, .. } => Some(node.clone()),
        _ => None,
    };
    assert!(plan.steps.iter().filter_map(names).all(|node| node == "g1"));
}

#[test]
fn what_hands_made_is_taken_away_only_as_a_destruction() {
    let mut seen = running(&lab());
    nodes(&mut seen, |observed| {
        let debug = observed.partitions["gpu"].clone();
        observed.partitions.insert("debug".into(), debug);
    });
    let plan = site(&lab(), seen.clone()).plan();
    assert!(matches!(plan.steps[0].action, Action::ClusterReconfigure { .. }), "{plan:?}");
    assert_eq!(plan.disruption(), Disruption::Destroy);
    // And also where the files change for another reason.
    let mut wish = lab();
    wish.partitions[0].max_minutes = Some(60);
    let plan = site(&wish, seen).plan();
    assert_eq!(plan.disruption(), Disruption::Destroy, "{plan:?}");
    // What the document cannot say would be lost with the first file that is written.
    let mut seen = running(&lab());
    seen.slurm = seen.slurm.replace("MaxTime=UNLIMITED PriorityTier=1 State=UP", "State=DRAIN");
    let plan = site(&lab(), seen).plan();
    assert_eq!(plan.disruption(), Disruption::Destroy, "{plan:?}");
    // What it could say and does not is a change like any other.
    let mut seen = running(&lab());
    seen.slurm = seen.slurm.replace("PartitionName=gpu ", "PartitionName=gpu OverSubscribe=YES ");
    let machine = site(&lab(), seen);
    assert_eq!(machine.plan().disruption(), Disruption::Live);
    assert!(machine.shown().contains("oversubscribe"), "{}", machine.shown());
}

#[test]
fn a_password_of_the_live_file_is_not_shown() {
    let mut seen = running(&lab());
    seen.slurm.push_str("JobCompPass=canary\n");
    let machine = site(&lab(), seen);
    let plan = machine.plan();
    assert!(!plan.is_empty());
    assert!(!serde_json::to_string(&plan).unwrap().contains("canary"));
    assert!(machine.shown().contains("jobcomppass"));
}

#[test]
fn an_exchange_that_was_cut_off_comes_first() {
    let mut seen = running(&lab());
    (seen.cut_off, seen.observed) = (true, None);
    let plan = site(&other_gpus(), seen).plan();
    assert!(
        matches!(&plan.steps[..], [only] if matches!(only.action, Action::ClusterRecover { .. }))
    );
}

#[test]
fn an_operators_drain_is_made_and_ended_and_never_anybody_elses() {
    let ask = |machine: &mut Machine, node: &str, over: bool| {
        let drain =
            NodeDrain { number: 812, by: "operator:alice".into(), reason: "fan/belt".into(), over };
        let known =
            KnownCluster { drains: [(node.to_owned(), drain)].into(), ..Default::default() };
        machine.known.clusters.insert(id("cluster/hpc"), known);
    };
    let mut machine = site(&lab(), running(&lab()));
    ask(&mut machine, "n1", false);
    let plan = machine.plan();
    let [step] = &plan.steps[..] else { panic!("{plan:?}") };
    assert_eq!((step.action.verb(), step.reason), ("drain", Reason::Due));
    let Action::ClusterNode { token, .. } = &step.action else { panic!() };
    assert_eq!(token.as_str(), "trueup:lab/@alice/812 fan belt");
    let token = token.as_str().to_owned();
    // In force.
    let mut seen = running(&lab());
    drain(&mut seen, "n1", &token, 900);
    let mut machine = site(&lab(), seen);
    ask(&mut machine, "n1", false);
    assert!(machine.plan().is_empty(), "{:?}", machine.plan());
    // Over.
    ask(&mut machine, "n1", true);
    assert_eq!(machine.plan().steps[0].action.verb(), "resume");
    // Somebody else's.
    let mut seen = running(&lab());
    drain(&mut seen, "n1", "fan is loud, bob", 900);
    let mut machine = site(&lab(), seen);
    for over in [false, true] {
        ask(&mut machine, "n1", over);
        assert!(machine.plan().is_empty(), "{:?}", machine.plan());
    }
}
