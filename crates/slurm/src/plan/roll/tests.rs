//! A pool in every state that a crash, a person or a failure can leave it in.

use super::*;
use crate::observe::{Flag, Job, JobState, Reason};

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

struct Pool {
    observed: Observed,
    outdated: BTreeSet<String>,
    failed: BTreeMap<String, String>,
    max_unavailable: usize,
    restart: bool,
    now: i64,
}

fn pool() -> Pool {
    let node = Node {
        state: NodeState::Idle,
        flags: BTreeSet::new(),
        reason: None,
        address: String::new(),
        hostname: String::new(),
        port: 6818,
        cpus: 4,
        cpus_allocated: 0,
        memory_mib: 1,
        memory_allocated_mib: 0,
        gres: String::new(),
        gres_used: String::new(),
        features: BTreeSet::new(),
        weight: 1,
        partitions: BTreeSet::new(),
        release: None,
        daemon_started: 0,
    };
    Pool {
        observed: Observed {
            release: "22.05.8".parse().unwrap(),
            nodes: NAMES.map(|name| (name.to_owned(), node.clone())).into(),
            partitions: BTreeMap::new(),
            reservations: BTreeMap::new(),
            jobs: Vec::new(),
        },
        outdated: NAMES.map(str::to_owned).into(),
        failed: BTreeMap::new(),
        max_unavailable: 1,
        restart: false,
        now: 1000,
    }
}

impl Pool {
    fn drain(&mut self, name: &str, why: &str, at: i64) {
        let node = self.observed.nodes.get_mut(name).unwrap();
        node.flags.insert(Flag::Drain);
        node.reason = Some(Reason { text: why.into(), by: "root".into(), at });
    }

    fn job(&mut self, id: u32, name: &str) {
        let node = self.observed.nodes.get_mut(name).unwrap();
        (node.state, node.cpus_allocated) = (NodeState::Allocated, 4);
        self.observed.jobs.push(Job {
            id,
            state: JobState::Running,
            reason: String::new(),
            name: String::new(),
            user: String::new(),
            account: String::new(),
            qos: String::new(),
            partition: String::new(),
            nodes: name.into(),
            cpus: 4,
            tres: String::new(),
            tasks: String::new(),
            submitted: 0,
            started: 0,
            ends: 0,
        });
    }

    #[track_caller]
    fn check(&self, steps: &[&str], progress: &str) {
        let nodes = NAMES.map(str::to_owned);
        let token = Token::new("lab", "cpu", "p2");
        let plan = plan(
            &Roll {
                nodes: &nodes,
                outdated: &self.outdated,
                failed: &self.failed,
                token: &token,
                max_unavailable: self.max_unavailable,
                restart: self.restart,
                drain_timeout: 60,
                now: self.now,
            },
            &self.observed,
        );
        let shown: Vec<String> = plan.steps.iter().map(shown).collect();
        assert_eq!(shown, steps);
        assert_eq!(format!("{:?}", plan.progress), progress);
    }
}

fn shown(step: &Step) -> String {
    match step {
        Step::Drain { node } => format!("drain {node}"),
        Step::Wait { node, jobs, until } => format!("wait {node} {jobs:?} until {until}"),
        Step::Act { node } => format!("act {node}"),
        Step::Check { node } => format!("check {node}"),
        Step::Resume { node } => format!("resume {node}"),
        Step::LeaveAlone { node, why } => format!("leave {node}: {why}"),
    }
}

#[test]
fn a_pool_goes_node_by_node_to_its_end() {
    let mut pool = pool();
    pool.job(7, "n1");
    pool.check(&["drain n1"], "Going");
    pool.drain("n1", "trueup:lab/cpu/p2", 990);
    pool.check(&["wait n1 [7] until 1050"], "Going");
    pool.observed.jobs.clear();
    pool.check(&["wait n1 [] until 1050"], "Going");
    let n1 = pool.observed.nodes.get_mut("n1").unwrap();
    (n1.state, n1.cpus_allocated) = (NodeState::Idle, 0);
    pool.check(&["act n1"], "Going");
    pool.outdated.remove("n1");
    pool.observed.nodes.get_mut("n1").unwrap().flags.insert(Flag::NotResponding);
    pool.check(&["check n1"], "Going");
    pool.observed.nodes.get_mut("n1").unwrap().flags.remove(&Flag::NotResponding);
    pool.check(&["resume n1"], "Going");
    let n1 = pool.observed.nodes.get_mut("n1").unwrap();
    n1.flags.clear();
    n1.reason = None;
    pool.check(&["drain n2"], "Going");
    pool.outdated.clear();
    pool.check(&[], "Done");
}

#[test]
fn a_persons_drain_is_left_alone_and_counts() {
    let mut pool = pool();
    pool.drain("n2", "disk broken, ask bob", 1);
    pool.check(&["leave n2: somebody took it out: disk broken, ask bob"], "Going");
    pool.max_unavailable = 2;
    pool.check(&["drain n1", "leave n2: somebody took it out: disk broken, ask bob"], "Going");
    pool.outdated = BTreeSet::from(["n2".to_owned()]);
    pool.check(
        &["leave n2: somebody took it out: disk broken, ask bob"],
        r#"Blocked { nodes: ["n2"] }"#,
    );
    pool.drain("n3", "trueup:other/cpu/p2", 1);
    let plan_of_another = "leave n3: somebody took it out: trueup:other/cpu/p2";
    pool.check(
        &["leave n2: somebody took it out: disk broken, ask bob", plan_of_another],
        r#"Blocked { nodes: ["n2"] }"#,
    );
}

#[test]
fn a_node_that_an_earlier_plan_drained_is_ours() {
    let mut pool = pool();
    pool.drain("n3", "trueup:lab/cpu/p1", 990);
    pool.check(&["act n3"], "Going");
    pool.outdated.remove("n3");
    pool.check(&["resume n3"], "Going");
}

#[test]
fn nodes_that_a_fresh_controller_does_not_know_yet_are_not_begun() {
    let mut pool = pool();
    pool.drain("n1", "trueup:lab/cpu/p2", 990);
    for name in ["n2", "n3"] {
        pool.observed.nodes.get_mut(name).unwrap().state = NodeState::Unknown;
    }
    pool.check(&["act n1"], "Going");
    let n3 = pool.observed.nodes.get_mut("n3").unwrap();
    (n3.state, n3.flags) = (NodeState::Idle, [Flag::NotResponding].into());
    pool.check(&["act n1"], "Going");
}

#[test]
fn a_daemon_that_is_older_than_the_drain_is_started_before_the_node_is_given_back() {
    let mut pool = pool();
    pool.restart = true;
    pool.outdated.remove("n1");
    pool.drain("n1", "trueup:lab/cpu/p2", 990);
    pool.observed.nodes.get_mut("n1").unwrap().daemon_started = 980;
    pool.check(&["act n1"], "Going");
    pool.observed.nodes.get_mut("n1").unwrap().daemon_started = 990;
    pool.check(&["resume n1"], "Going");
}

#[test]
fn a_job_that_does_not_end_in_time_stops_the_pool() {
    let mut pool = pool();
    pool.max_unavailable = 2;
    pool.job(7, "n1");
    pool.drain("n1", "trueup:lab/cpu/p2", 900);
    pool.check(
        &["wait n1 [7] until 960"],
        r#"Stopped { node: "n1", why: "1 job(s) still run 100 s after the drain" }"#,
    );
}

#[test]
fn the_first_failure_stops_it_and_what_was_done_is_given_back() {
    let mut pool = pool();
    pool.max_unavailable = 3;
    pool.drain("n1", "trueup:lab/cpu/p2", 990);
    pool.outdated.remove("n1");
    pool.drain("n2", "trueup:lab/cpu/p2", 990);
    pool.failed.insert("n2".into(), "no daemon".into());
    pool.check(
        &["resume n1", "leave n2: its change failed: no daemon"],
        r#"Stopped { node: "n2", why: "no daemon" }"#,
    );
}

#[test]
fn a_node_that_went_away_is_changed_first_and_one_put_down_by_hand_is_not() {
    let mut pool = pool();
    let away = pool.observed.nodes.get_mut("n3").unwrap();
    away.state = NodeState::Down;
    away.reason = Some(Reason { text: "Not responding".into(), by: "root".into(), at: 1 });
    pool.check(&["drain n3"], "Going");
    let n3 = pool.observed.nodes.get_mut("n3").unwrap();
    n3.reason = Some(Reason { text: "power supply".into(), by: "bob".into(), at: 1 });
    pool.check(&["leave n3: somebody took it out: power supply"], "Going");
}

#[test]
fn tokens_own_their_cluster_and_nothing_of_a_persons() {
    let token = Token::new("lab", "cpu", "p2");
    assert_eq!(token.as_str(), "trueup:lab/cpu/p2");
    for (reason, owns) in [
        ("trueup:lab/cpu/p1", true),
        ("trueup:lab/cpu/", false),
        ("trueup:lab//p1", false),
        // It was of another pool when it was taken out, or was to go.
        ("trueup:lab/gpu/p1", true),
        ("trueup:lab2/cpu/p1", false),
        ("trueup:lab/@bob/7 dust", false),
        ("by hand trueup:lab/cpu/p2", false),
    ] {
        assert_eq!(token.owns(reason), owns, "{reason}");
    }
    let bob = Token::of_person("lab", "bob", 8, "dust");
    assert!(bob.owns("trueup:lab/@bob/7 a fan") && !bob.owns("trueup:lab/@bobby/7 a fan"));
    assert!(!bob.owns("trueup:lab/cpu/p1"));
}
