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
    let stop = format!("case \"$1\" in stop) rm -rf {root}/$3;; start) mkdir -p {root}/$3;; esac");
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
        lab.pass_killed_at(n).await;
        lab.settle().await;
        assert!(runs(&lab, "serve.service"), "killed at {n}: {:?}", lab.tool_calls());
        assert_eq!(lab.stands(0), wanted, "killed at {n}");
    }
}

/// Whether a unit has its control group.
fn runs(lab: &Lab, unit: &str) -> bool {
    lab.folder.path().join("root/sys/fs/cgroup/system.slice").join(unit).is_dir()
}

/// Taken off the GPU, and killed anywhere on the way: what was stopped for it is started again.
#[tokio::test]
async fn a_client_is_started_again_when_the_layout_is_gone() {
    let network = "apiVersion: trueup/v1\nkind: Network\nmetadata: { name: lab }\nspec: { cidr: \
                   10.7.0.0/24 }\n";
    let mut n = 0;
    loop {
        let mut lab = served().await;
        lab.world.remote.write("environments/lab/gpus.yaml", network);
        lab.world.remote.commit("no layout");
        ends_with_its_unit(&mut lab);
        let killed = lab.pass_killed_at(n).await;
        lab.edit(&trueup_fake_nvml::Edit::RemoveProcess { pid: 31 });
        lab.settle().await;
        lab.pass().await;
        assert_eq!(lab.stands(0), [], "killed at {n}");
        assert!(runs(&lab, "serve.service"), "killed at {n}: {:?}", lab.tool_calls());
        let state = lab.world.state();
        let known = state.resources.get(&"gpu/big".parse().unwrap());
        assert!(known.is_none_or(|known| !known.is_ours()), "killed at {n}: still ours");
        lab.world.check_invariants();
        if !killed {
            break;
        }
        n += 1;
    }
    assert!(n > 20, "the removal has only {n} points to be killed at");
}

/// Killed within a call of NVML, nobody has seen what it destroyed: which device became which is told
/// all the same, from what was known before.
#[tokio::test]
async fn the_log_says_which_devices_became_which_after_a_kill_too() {
    let mut n = 0;
    loop {
        let mut lab = served().await;
        let old = lab.devices(0, 0).remove(0);
        lab.commit(&[layout("big", 0, "mig", &format!("{SECOND}{CLIENTS}"))]);
        ends_with_its_unit(&mut lab);
        let killed = lab.pass_killed_at(n).await;
        lab.edit(&trueup_fake_nvml::Edit::RemoveProcess { pid: 31 });
        lab.settle().await;
        let new = lab.devices(0, 0).remove(0);
        let told = format!("\"mig.infer-0\":\"{old} -> {new}\"");
        let log = lab.world.log.tail(200);
        assert!(log.contains(&told), "killed at {n}: no {told} in {log}");
        if !killed {
            break;
        }
        n += 1;
    }
    assert!(n > 20, "the change has only {n} points to be killed at");
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
