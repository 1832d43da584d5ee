//! What a change of the file needs and takes away, release by release.

use super::*;
use crate::observe::{Flag, Job, JobState, Node, NodeState, Partition, Reservation};

pub(in super::super) const LIVE: &str = "ClusterName=lab\nSlurmctldHost=ctl\nSelectType=select/cons_tres\n\
    NodeName=n[1-3] CPUs=4 RealMemory=4000\n\
    PartitionName=batch Nodes=n[1-3] Default=YES\nPartitionName=gpu Nodes=n1 MaxTime=1440\n";

pub(in super::super) fn conf(text: &str) -> Conf {
    Conf::parse(text).unwrap()
}

fn node() -> Node {
    Node {
        state: NodeState::Idle,
        flags: BTreeSet::new(),
        reason: None,
        address: "n".into(),
        hostname: "n".into(),
        port: 6818,
        cpus: 4,
        cpus_allocated: 0,
        memory_mib: 4000,
        memory_allocated_mib: 0,
        gres: String::new(),
        gres_used: String::new(),
        features: BTreeSet::new(),
        weight: 1,
        partitions: BTreeSet::new(),
        release: None,
        daemon_started: 0,
    }
}

fn partition(nodes: &str, max_time: &str) -> Partition {
    let fields = [("state", "UP"), ("maxtime", max_time), ("prioritytier", "1")];
    Partition {
        nodes: nodes.into(),
        state: "UP".into(),
        fields: fields.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    }
}

pub(in super::super) fn observed() -> Observed {
    let nodes = ["n1", "n2", "n3"].map(|name| (name.to_owned(), node()));
    Observed {
        release: "22.05.8".parse().unwrap(),
        nodes: nodes.into(),
        partitions: [
            ("batch".to_owned(), partition("n[1-3]", "UNLIMITED")),
            ("gpu".to_owned(), partition("n1", "1-00:00:00")),
        ]
        .into(),
        reservations: BTreeMap::new(),
        jobs: vec![Job {
            id: 1,
            state: JobState::Running,
            reason: String::new(),
            name: "long".into(),
            user: "ann".into(),
            account: String::new(),
            qos: String::new(),
            partition: "batch".into(),
            nodes: "n[2-3]".into(),
            cpus: 8,
            tres: String::new(),
            tasks: String::new(),
            submitted: 0,
            started: 0,
            ends: 0,
        }],
    }
}

fn losses(plan: &ConfigPlan) -> Vec<String> {
    plan.losses.iter().map(ToString::to_string).collect()
}

#[test]
fn the_same_file_needs_nothing() {
    let same = LIVE.replace("NodeName=n[1-3]", "# said otherwise\nNodeName=n1,n2,n3");
    let plan = plan(&conf(LIVE), &conf(&same), &observed(), Shape::V22_05);
    assert_eq!((plan.controller, plan.changes.len()), (Action::Nothing, 0), "{plan:?}");
}

#[test]
fn a_partition_over_nodes_that_are_there_is_read_anew() {
    let next = format!("{LIVE}PartitionName=night Nodes=n[2-3]\n");
    let plan = plan(&conf(LIVE), &conf(&next), &observed(), Shape::V22_05);
    assert_eq!(plan.controller, Action::Reconfigure);
    assert_eq!(plan.changes.len(), 1);
    assert_eq!(plan.changes[0].subject, "partition night");
    assert_eq!(losses(&plan), [""; 0]);
    assert!(plan.daemons.is_empty());
}

#[test]
fn a_new_node_is_a_restart_where_a_reconfigure_would_end_the_controller() {
    let next = LIVE.replace("NodeName=n[1-3]", "NodeName=n[1-4]");
    let old = plan(&conf(LIVE), &conf(&next), &observed(), Shape::V22_05);
    assert_eq!(old.controller, Action::Restart);
    assert_eq!(old.because, ["nodes n4 come: 22.05 ends itself when that is reconfigured"]);
    assert_eq!(old.daemons.iter().collect::<Vec<_>>(), ["n4"]);
    let new = plan(&conf(LIVE), &conf(&next), &observed(), Shape::V24_11);
    assert_eq!((new.controller, new.because.len()), (Action::Reconfigure, 0));
}

#[test]
fn other_hardware_is_a_restart_of_the_old_controller_and_of_the_nodes_daemon() {
    let next = LIVE.replace("CPUs=4", "CPUs=8 Gres=gpu:1");
    let old = plan(&conf(LIVE), &conf(&next), &observed(), Shape::V22_05);
    assert_eq!((old.controller, old.daemons.len()), (Action::Restart, 3));
    assert_eq!(
        old.because,
        [
            "cpus of n[1-3] changes, which 22.05 takes at a start only",
            "gres of n[1-3] changes, which 22.05 takes at a start only"
        ]
    );
    let new = plan(&conf(LIVE), &conf(&next), &observed(), Shape::V24_11);
    assert_eq!((new.controller, new.daemons.len()), (Action::Reconfigure, 3));
}

#[test]
fn what_people_did_at_run_time_is_found_before_it_is_lost() {
    let mut seen = observed();
    seen.partitions.insert("debug".into(), partition("n3", "UNLIMITED"));
    let gpu = seen.partitions.get_mut("gpu").unwrap();
    gpu.fields.insert("maxtime".into(), "02:00:00".into());
    gpu.fields.insert("state".into(), "DRAIN".into());
    seen.nodes.get_mut("n1").unwrap().weight = 9;
    seen.nodes.insert("dyn1".into(), Node { flags: [Flag::Dynamic].into(), ..node() });
    let next = LIVE.replace("RealMemory=4000", "RealMemory=3000");
    let expected = [
        "partition debug was made at run time and disappears",
        "partition gpu: maxtime was set to 02:00:00 at run time and becomes 1440",
        "partition gpu: state was set to DRAIN at run time and becomes UP",
        "node n1: weight was set to 9 at run time and becomes 1",
    ];
    let old = plan(&conf(LIVE), &conf(&next), &seen, Shape::V22_05);
    assert_eq!(losses(&old), expected);
    let new = plan(&conf(LIVE), &conf(&next), &seen, Shape::V24_11);
    assert_eq!(losses(&new)[4], "node dyn1 was made at run time and disappears");
}

/// What a look calls drift is lost with an exchange of the files as well.
#[test]
fn every_field_of_a_partition_that_drifts_is_found_before_it_is_lost() {
    let lost = |next: &str, change: fn(&mut Partition)| {
        let mut seen = observed();
        change(seen.partitions.get_mut("gpu").unwrap());
        let plan = plan(&conf(LIVE), &conf(next), &seen, Shape::V22_05);
        let drift = crate::plan::drift(&conf(LIVE), &seen);
        assert!(!drift.is_empty());
        losses(&plan)
    };
    let other = LIVE.replace("RealMemory=4000", "RealMemory=3000");
    let nodes = |gpu: &mut Partition| gpu.nodes = "n[1-2]".into();
    assert_eq!(
        lost(&other, nodes),
        ["partition gpu: nodes was set to n[1-2] at run time and becomes n1"]
    );
    // What the next file says is not lost with it, and what only a controller can resolve is not known.
    for kept in ["Nodes=n[1-2] MaxTime", "Nodes=quick MaxTime"] {
        assert_eq!(lost(&LIVE.replace("Nodes=n1 MaxTime", kept), nodes), [""; 0], "{kept}");
    }
    let fields = |gpu: &mut Partition| {
        gpu.fields.insert("default".into(), "YES".into());
        gpu.fields.insert("defaulttime".into(), "00:30:00".into());
    };
    assert_eq!(
        lost(&other, fields),
        [
            "partition gpu: default was set to YES at run time and becomes NO",
            "partition gpu: defaulttime was set to 00:30:00 at run time and becomes NONE",
        ]
    );
}

#[test]
fn jobs_that_a_file_would_end_are_counted() {
    let mut seen = observed();
    let reservation = Reservation {
        nodes: "n3".into(),
        start: 0,
        end: 1,
        users: "root".into(),
        accounts: String::new(),
        flags: BTreeSet::new(),
    };
    seen.reservations.insert("maint".into(), reservation);
    let next = "ClusterName=lab\nSlurmctldHost=ctl\nSelectType=select/linear\n\
        NodeName=n[1-2] CPUs=4 RealMemory=4000\nPartitionName=gpu Nodes=n1 MaxTime=1440\n";
    let plan = plan(&conf(LIVE), &conf(next), &seen, Shape::V24_11);
    assert_eq!(
        losses(&plan),
        [
            "1 job(s) of partition batch are cancelled",
            "1 job(s) on node n3 are ended",
            "all 1 job(s): another SelectType cannot read their state",
            "reservation maint names node n3, which goes"
        ]
    );
}

#[test]
fn times_are_compared_as_minutes() {
    for (text, minutes) in [("90", 90), ("1:30:00", 90), ("1-00:00:00", 1440), ("1-2", 1560)] {
        assert_eq!(crate::plan::minutes(text), Ok(Some(minutes)), "{text}");
    }
    assert_eq!(crate::plan::minutes("INFINITE"), Ok(None));
    assert_eq!(crate::plan::minutes("00:30"), Ok(Some(1)));
    assert!(crate::plan::minutes("never").is_err());
}
