//! The hands that touch the machine, on a tree: a thread plays the kernel.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::kernel::patience;
use super::tree::{Tree, at};
use crate::error::Error;
use crate::exec::{Executor, Outcome};
use crate::hands::{Hands as _, LiveHands};
use crate::holders::scan;
use crate::plan::{Passthrough, bind};
use crate::root::Root;
use crate::wait::Patience;

#[test]
fn a_slow_kernel_is_waited_for() {
    let tree = Tree::with_gpu();
    let plan = bind(&tree.host(), &tree.holders(), &Passthrough::of(at("07:00.0"))).unwrap();
    let long = Patience { settle: Duration::from_secs(20), ..patience() };
    let mut executor = Executor::new(tree.root(), LiveHands, long);
    let (stop, stopped) = mpsc::channel::<()>();
    let outcome = std::thread::scope(|scope| {
        let tree = &tree;
        scope.spawn(move || {
            // The real hands leave their text in the file; the driver lets go some time after.
            let pause = Duration::from_millis(20);
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                if tree.read("/sys/bus/pci/drivers/nvidia/unbind") == "0000:07:00.0" {
                    tree.bind("0000:07:00.0", None);
                    break;
                }
            }
        });
        let outcome = executor.perform(&plan.steps[0]);
        drop(stop);
        outcome
    });
    assert_eq!(outcome.unwrap(), Outcome::Done);
}

#[test]
fn writes_and_commands_fail_with_all_that_is_known() {
    let tree = Tree::new();
    let root = tree.root();
    let error = LiveHands.write(&root, "/sys/nothing", "1", &patience()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("/sys/nothing") && text.contains("`1`") && text.contains("errno 2"),
        "{text}"
    );
    let argv = ["/bin/true".to_owned()];
    let error = LiveHands.run(&root, &argv, &patience()).unwrap_err();
    assert!(error.to_string().contains("not this machine"), "{error}");
    let live = Root::open(std::path::Path::new("/")).unwrap();
    LiveHands.run(&live, &argv, &Patience::default()).unwrap();
    let argv = ["/bin/ls".to_owned(), "/no such folder".to_owned()];
    let error = LiveHands.run(&live, &argv, &Patience::default()).unwrap_err();
    assert!(error.to_string().contains("/no such folder"), "{error}");
}

#[test]
fn a_command_that_does_not_end_is_ended() {
    let live = Root::open(std::path::Path::new("/")).unwrap();
    let argv = ["/bin/sleep".to_owned(), "1000".to_owned()];
    let error = LiveHands.run(&live, &argv, &patience()).unwrap_err();
    assert!(matches!(error, Error::Run { ref why, .. } if why.contains("did not end")), "{error}");
}

#[test]
fn this_machine_can_be_scanned() {
    let live = Root::open(std::path::Path::new("/")).unwrap();
    let before = Instant::now();
    scan(&live).unwrap();
    assert!(before.elapsed() < Duration::from_secs(20));
}
