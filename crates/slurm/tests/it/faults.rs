//! What goes wrong around a cluster, and what is said of it.

use trueup_slurm::observe::{NodeState, ObserveError, Observer};

use crate::lab::Lab;

#[test]
fn a_dead_controller_and_a_foreign_key_are_no_empty_cluster() {
    let Some(lab) = Lab::start() else { return };
    let job = lab.job(&["-p", "batch", "-w", "n1"]);
    let begun = lab.running(job);
    lab.scontrol(&["update", "NodeName=n2", "State=DRAIN", "Reason=bob"]);

    let before = lab.observe();
    let mut observer = Observer::new(lab.commands(), None);
    assert_eq!(*observer.pass().unwrap().observed, before);
    // What it did not save yet it would forget: a job's start, and who took a node out.
    lab.await_saved(job);
    lab.kill_controller();
    // The look after a good one asks everything at once, and the one after that is told at once.
    for _ in 0..2 {
        let error = observer.pass().unwrap_err();
        assert!(matches!(error, ObserveError::Unreachable { .. }), "{error}");
    }

    // Started anew: the job and the drain are there.
    lab.controller_up();
    assert_eq!(lab.running(job).started, begun.started);
    let after = lab.observe();
    assert_eq!(after.nodes.keys().collect::<Vec<_>>(), before.nodes.keys().collect::<Vec<_>>());
    assert_eq!(lab.drift(), []);
    assert_eq!(after.nodes["n2"].reason, before.nodes["n2"].reason);

    // A node's daemon goes: it is down, never gone.
    lab.stop("run/g1.pid");
    lab.scontrol(&["update", "NodeName=g1", "State=DOWN", "Reason=its daemon was stopped"]);
    let seen = lab.observe();
    assert_eq!(seen.nodes["g1"].state, NodeState::Down);
    assert!(!seen.nodes["g1"].is_up());

    // A machine with another munge key: a refusal in words, and no empty cluster.
    let error = Observer::new(lab.foreigner(), None).pass().unwrap_err();
    assert!(!matches!(error, ObserveError::Form { .. }), "{error}");
    assert!(error.to_string().contains("credential") || error.is_passing(), "{error}");
    assert_eq!(lab.running(job).started, begun.started);
    lab.end(job);
}
