//! Two ways to look at the same cluster, and what is not taken for an answer.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use trueup_slurm::observe::{ObserveError, Observer, Rest};

use crate::lab::{Lab, possible, until};

#[test]
fn slurmrestd_and_the_programs_see_the_same_and_an_unchanged_look_is_cheap() {
    if !possible(&["slurmrestd"]) {
        return;
    }
    let Some(mut lab) = Lab::start() else { return };
    let job = lab.job(&["-p", "gpu", "-w", "g2", "--gres=gpu:a100:1"]);
    lab.running(job);
    let folder = lab.at().join("rest");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let socket = folder.join("socket");
    lab.rest(&socket);
    let rest = Rest::new(socket.clone(), Duration::from_secs(20));
    let mut observer = Observer::new(lab.commands(), Some(rest));
    let first = observer.pass().unwrap();
    assert!(first.changed && first.clock.is_some());
    assert_eq!(*first.observed, lab.observe(), "the same by both ways");
    let again = until("a look at rest", || {
        let pass = observer.pass().unwrap();
        (!pass.changed).then_some(pass)
    });
    assert_eq!(again.observed, first.observed);
    lab.scontrol(&["update", "NodeName=n1", "State=DRAIN", "Reason=x"]);
    let after = observer.pass().unwrap();
    assert!(after.changed && after.observed.nodes["n1"].is_drained());
    lab.scontrol(&["create", "PartitionName=debug", "Nodes=n2"]);
    assert!(observer.pass().unwrap().observed.partitions.contains_key("debug"));

    // slurmrestd goes, and the controller is well: that is told of the one who was asked.
    lab.stop_rest();
    let error = observer.pass().unwrap_err();
    assert!(matches!(error, ObserveError::Socket { .. }) && error.is_passing(), "{error}");
    lab.rest(&socket);
    until("it is asked again", || observer.pass().ok());

    // The controller goes: no look says that the cluster is empty.
    lab.stop("run/slurmctld.pid");
    let error = observer.pass().unwrap_err();
    assert!(error.is_passing(), "{error}");
    lab.controller_up();
    let back = until("it looks again", || observer.pass().ok());
    assert!(back.observed.nodes["n1"].is_drained());
    assert_eq!(lab.running(job).nodes, "g2");
    lab.end(job);
}
