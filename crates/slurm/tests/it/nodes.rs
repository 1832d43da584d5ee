//! A pool that changes node by node, jobs and hands of others left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use trueup_slurm::plan::roll::{self, Progress, Roll, RollPlan, Step, Token};
use trueup_slurm::wish::Cluster;
use trueup_slurm::{ControlError, Switched, adopt, plan};

use crate::lab::{Lab, until};

/// A change of a pool on its way, driven as the reconciler drives it.
struct Going<'a> {
    lab: &'a Lab,
    wish: Cluster,
    nodes: Vec<String>,
    token: Token,
    drain_timeout: i64,
    /// How often it is cut off between the files and the daemon.
    crashes: u32,
}

impl<'a> Going<'a> {
    fn new(lab: &'a Lab, wish: Cluster, pool: usize, plan: &str) -> Self {
        let nodes: Vec<String> = wish.pools[pool].names().map(str::to_owned).collect();
        let token = Token::new("lab", &wish.pools[pool].name, plan);
        Self { lab, wish, nodes, token, drain_timeout: 3600, crashes: 0 }
    }

    /// What is in force and what is still to come, from the live files alone: nothing is remembered.
    fn state(&self) -> (Cluster, BTreeSet<String>) {
        let gres = fs::read_to_string(self.lab.live().folder.join("gres.conf")).unwrap();
        let before = adopt(&self.lab.live_conf(), &gres).unwrap().cluster;
        let waiting = plan::outdated(&before, &self.wish);
        (before, waiting)
    }

    fn next(&self) -> RollPlan {
        let now = self.lab.ok(&["date", "+%s"]).trim().parse().unwrap();
        let roll = Roll {
            nodes: &self.nodes,
            outdated: &self.state().1,
            failed: &BTreeMap::new(),
            token: &self.token,
            max_unavailable: 1,
            restart: true,
            drain_timeout: self.drain_timeout,
            now,
        };
        roll::plan(&roll, &self.lab.observe())
    }

    /// Does one step; a node that is empty gets its new files and a new daemon.
    fn step(&mut self, step: &Step) {
        self.lab.control().step(step, &self.token).unwrap();
        if let Step::Act { node } = step {
            let (before, mut waiting) = self.state();
            waiting.remove(node);
            let staged = plan::stage(&before, &self.wish, &waiting);
            let (_, done) = self.lab.apply(&staged);
            assert!(!matches!(done, Switched::PutBack { .. }), "{node}: {done:?}");
            if self.crashes > 0 {
                self.crashes -= 1;
                return;
            }
            self.lab.restart_daemon(node);
        }
    }
}

fn verb(step: &Step) -> Option<String> {
    match step {
        Step::Drain { node } => Some(format!("drain {node}")),
        Step::Act { node } => Some(format!("act {node}")),
        Step::Resume { node } => Some(format!("resume {node}")),
        Step::Wait { node, .. } => Some(format!("wait {node}")),
        Step::LeaveAlone { node, .. } => Some(format!("leave {node}")),
        Step::Check { .. } => None,
    }
}

#[test]
fn a_pool_rolls_node_by_node_and_no_job_is_lost() {
    let Some(lab) = Lab::start() else { return };
    let inside = lab.job(&["-p", "gpu", "-w", "g1", "--gres=gpu:1"]);
    let beside = lab.job(&["-p", "batch", "-w", "n1"]);
    let (inside_at, beside_at) = (lab.running(inside).started, lab.running(beside).started);
    lab.scontrol(&["update", "NodeName=n2", "State=DRAIN", "Reason=fan is loud, bob"]);

    let mut wish = lab.wish.clone();
    wish.pools[1].gres[0].count = 1;
    wish.pools[1].gres[0].devices.pop();
    wish.pools[1].memory_mib = 1500;
    let mut going = Going::new(&lab, wish.clone(), 1, "p1");
    assert_eq!(going.state().1.iter().collect::<Vec<_>>(), ["g1", "g2"]);
    going.crashes = 1;

    let daemons_before = lab.observe().nodes["g1"].daemon_started;
    let mut done: Vec<String> = Vec::new();
    let mut ended = false;
    until("the pool is changed", || {
        let next = going.next();
        if next.progress == Progress::Done {
            return Some(());
        }
        for step in &next.steps {
            let verb = verb(step);
            if let Some(verb) = verb.filter(|verb| done.last() != Some(verb)) {
                done.push(verb);
            }
            going.step(step);
            if matches!(step, Step::Wait { .. }) && !ended {
                // It waits for the job that it found, and the job is well.
                assert_eq!(lab.running(inside).started, inside_at);
                assert!(matches!(step, Step::Wait { jobs, .. } if *jobs == [inside]), "{step:?}");
                lab.let_end(inside);
                ended = true;
            }
        }
        None
    });
    assert_eq!(
        done,
        ["drain g1", "wait g1", "act g1", "resume g1", "drain g2", "act g2", "resume g2",]
    );
    assert_eq!(going.crashes, 0);
    // The last start of the controller is a moment ago: until nodes answer it, they are unknown.
    lab.await_nodes("idle", &["g1", "g2"]);
    let seen = lab.observe();
    assert!(seen.nodes["g1"].daemon_started > daemons_before, "started after all");
    for name in ["g1", "g2"] {
        let node = &seen.nodes[name];
        assert_eq!((node.memory_mib, node.is_drained(), node.is_up()), (1500, false, true));
        assert!(node.gres.starts_with("gpu:a100:1"), "{}", node.gres);
    }
    assert_eq!(
        lab.live_conf(),
        trueup_slurm::conf::Conf::parse(&lab.files(&wish)["slurm.conf"]).unwrap()
    );
    assert_eq!(lab.drift(), []);
    assert_eq!(seen.nodes["n2"].reason.as_ref().unwrap().text, "fan is loud, bob");
    assert!(seen.nodes["n2"].is_drained(), "a person's drain stays");
    assert_eq!(lab.running(beside).started, beside_at, "the job beside noticed nothing");
    lab.end(beside);
}

#[test]
fn a_node_that_never_drains_stops_the_pool_and_hands_that_were_quicker_win() {
    let Some(lab) = Lab::start() else { return };
    let job = lab.job(&["-p", "batch", "-w", "n1"]);
    lab.running(job);
    let mut wish = lab.wish.clone();
    wish.pools[0].memory_mib = 1500;
    let mut going = Going::new(&lab, wish, 0, "p2");
    going.drain_timeout = -1;

    let first = going.next();
    assert_eq!(first.steps, [Step::Drain { node: "n1".into() }]);
    going.step(&first.steps[0]);
    let stopped = until("the patience ends", || {
        let next = going.next();
        matches!(next.progress, Progress::Stopped { .. }).then_some(next)
    });
    assert!(matches!(&stopped.steps[..], [Step::Wait { node, .. }] if node == "n1"), "{stopped:?}");
    assert_eq!(lab.observe().nodes["n2"].reason, None, "no other node is begun");

    // A person takes n2 and n1 after we looked.
    let bob = "Reason=bob was here";
    lab.scontrol(&["update", "NodeName=n2", "State=DRAIN", bob]);
    let drained = lab.control().step(&Step::Drain { node: "n2".into() }, &going.token);
    assert!(
        matches!(&drained, Err(ControlError::NotOurs { reason, .. }) if reason == "bob was here")
    );
    lab.scontrol(&["update", "NodeName=n1", "State=DRAIN", bob]);
    let resumed = lab.control().step(&Step::Resume { node: "n1".into() }, &going.token);
    assert!(matches!(resumed, Err(ControlError::NotOurs { .. })), "{resumed:?}");
    let seen = lab.observe();
    for name in ["n1", "n2"] {
        assert_eq!(seen.nodes[name].reason.as_ref().unwrap().text, "bob was here", "{name}");
    }
    let next = going.next();
    assert_eq!(next.progress, Progress::Blocked { nodes: vec!["n1".into(), "n2".into()] });
    lab.end(job);
}
