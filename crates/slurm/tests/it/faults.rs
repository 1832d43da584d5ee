//! What goes wrong around a cluster, and what is said of it.

use trueup_slurm::observe::{NodeState, ObserveError, Observer};

use crate::lab::{Lab, until};

#[test]
fn a_dead_controller_and_a_foreign_key_are_no_empty_cluster() {
    let Some(lab) = Lab::start() else { return };
    let job = lab.job(&["-p", "batch", "-w", "n1"]);
    let begun = lab.running(job);
    lab.scontrol(&["update", "NodeName=n2", "State=DRAIN", "Reason=bob"]);

    let before = lab.observe();
    lab.kill_controller();
    let error = Observer::new(lab.commands(), None).pass().unwrap_err();
    assert!(matches!(error, ObserveError::Unreachable { .. }), "{error}");

    // Started anew: the job is there, and the drain if it was saved in time.
    lab.controller_up();
    assert_eq!(lab.running(job).started, begun.started);
    let after = lab.observe();
    assert_eq!(after.nodes.keys().collect::<Vec<_>>(), before.nodes.keys().collect::<Vec<_>>());
    assert_eq!(lab.drift(), []);

    // A node's daemon goes: it is down, never gone.
    lab.stop("run/g1.pid");
    lab.scontrol(&["update", "NodeName=g1", "State=DOWN", "Reason=its daemon was stopped"]);
    let seen = lab.observe();
    assert_eq!(seen.nodes["g1"].state, NodeState::Down);
    assert!(!seen.nodes["g1"].is_up());

    // Another munge key than the controller's: a refusal in words, and nothing is planned on it.
    lab.rekey();
    let pass = Observer::new(lab.commands(), None).pass();
    let error = pass.expect_err("no daemon of munge answers");
    assert!(!matches!(error, ObserveError::Form { .. }), "{error}");
    until("the job is still there", || {
        lab.ok(&["sh", "-c", "ps ax | grep -c '[s]lurmstepd'"])
            .trim()
            .parse()
            .ok()
            .filter(|n: &u32| *n > 0)
    });
}
