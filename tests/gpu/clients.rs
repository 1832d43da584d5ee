//! Declared clients: stopped and started around a change of what they use, and no other.

use trueup::plan::SkipReason;
use trueup_fake_nvml::{Fault, Process};

use super::lab::{FIRST, Lab, layout, shown, why};

const CLIENTS: &str = "  clients:\n    - { unit: train.service, uses: [train] }\n    - { unit: \
                       serve.service, uses: [infer] }\n";

const SECOND: &str = "  partitions:\n    - { name: train, shape: 3g, start: 4 }\n    - { name: infer, \
                      shape: 2g, count: 1 }\n";

/// A layout in place whose two clients run, one of them as pid 31 on `infer-1`.
async fn served() -> Lab {
    let mut lab = Lab::cut().await;
    lab.file("run/systemd/system/.keep", "");
    for unit in ["train.service", "serve.service"] {
        lab.file(&format!("sys/fs/cgroup/system.slice/{unit}/cgroup.procs"), "");
    }
    lab.file("proc/31/comm", "server\n");
    lab.file("proc/31/cgroup", "0::/system.slice/serve.service\n");
    let root = lab.folder.path().join("root/sys/fs/cgroup/system.slice");
    let root = root.display();
    // What systemd does to control groups, and to processes.
    let stop = format!("case \"$1\" in stop) rm -r {root}/$3;; start) mkdir -p {root}/$3;; esac");
    lab.tool("systemctl", &stop);
    lab.tool("nvidia-ctk", "");
    lab.commit(&[layout("big", 0, "mig", &format!("{FIRST}{CLIENTS}"))]);
    lab.settle().await;
    lab.process(31, 1);
    lab
}

/// The process goes with its unit, right before the call that destroys.
fn ends_with_its_unit(lab: &mut Lab) {
    // The first list of processes is that of the plan, the second that of the first step after the
    // clients were stopped.
    let edit = vec![trueup_fake_nvml::Edit::RemoveProcess { pid: 31 }];
    lab.fault(
        "nvmlDeviceGetComputeRunningProcesses_v3",
        Fault { nth: 2, edit, ..Fault::default() },
    );
}

#[tokio::test]
async fn only_clients_of_what_changes_are_stopped_and_started() {
    let mut lab = served().await;
    let before = lab.tool_calls().len();
    lab.commit(&[layout("big", 0, "mig", &format!("{SECOND}{CLIENTS}"))]);
    ends_with_its_unit(&mut lab);
    let report = lab.pass().await;
    assert_eq!(report.failed, 0, "{}", lab.world.log.tail(20));
    let calls = lab.tool_calls()[before..].to_vec();
    let cdi = format!(
        "nvidia-ctk cdi generate --output {}",
        lab.folder.path().join("cdi.yaml").display()
    );
    assert_eq!(
        calls,
        ["systemctl stop -- serve.service", &cdi, "systemctl start -- serve.service"]
    );
    lab.settle().await;
    assert_eq!(lab.tool_calls().len(), before + 3, "{:?}", lab.tool_calls());
}

#[tokio::test]
async fn the_log_says_which_devices_became_which() {
    let mut lab = served().await;
    lab.commit(&[layout("big", 0, "mig", &format!("{SECOND}{CLIENTS}"))]);
    ends_with_its_unit(&mut lab);
    lab.settle().await;
    let log = lab.world.log.tail(60);
    assert!(log.contains("\"mig.infer-0\":\"MIG-"), "{log}");
    assert!(log.contains(" -> MIG-"), "{log}");
    assert!(log.contains(" -> none"), "infer-2 is no more: {log}");
}

/// Killed between the stop and the start, the next start of trueup starts the client.
#[tokio::test]
async fn a_client_is_started_after_a_kill_too() {
    let mut whole = served().await;
    whole.commit(&[layout("big", 0, "mig", &format!("{SECOND}{CLIENTS}"))]);
    ends_with_its_unit(&mut whole);
    whole.settle().await;
    let wanted = whole.stands(0);
    for n in [4, 8, 12, 20, 28, 34] {
        let mut lab = served().await;
        lab.commit(&[layout("big", 0, "mig", &format!("{SECOND}{CLIENTS}"))]);
        ends_with_its_unit(&mut lab);
        lab.world.crash.arm(n);
        let options =
            trueup::reconcile::PassOptions { retry_now: true, wait: true, ..Default::default() };
        drop(lab.world.program.pass(options).await);
        lab.world.crash.arm(usize::MAX);
        lab.restart().await;
        lab.settle().await;
        let running = lab.folder.path().join("root/sys/fs/cgroup/system.slice/serve.service");
        assert!(running.is_dir(), "killed at {n}: {:?}", lab.tool_calls());
        assert_eq!(lab.stands(0), wanted, "killed at {n}");
    }
}

#[tokio::test]
async fn a_process_of_a_client_that_is_not_declared_for_it_is_in_the_way() {
    let mut lab = served().await;
    let process = Process { pid: 32, start: Some(2), ..Process::default() };
    lab.edit(&trueup_fake_nvml::Edit::AddProcess { gpu: 0, process });
    lab.file("proc/32/cgroup", "0::/system.slice/train.service\n");
    lab.commit(&[layout("big", 0, "mig", &format!("{SECOND}{CLIENTS}"))]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Busy(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("pid 32, train.service") && !text.contains("pid 31"), "{text}");
}
