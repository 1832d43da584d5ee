//! A partition's name is a promise to whoever refers to it: what is in use under one name never
//! becomes what another name stands for.

use trueup::plan::SkipReason;
use trueup_fake_nvml::Edit;

use super::lab::{Lab, layout, shown, why};

const OLD: &str = "  partitions:\n    - { name: train, shape: 3g, start: 4 }\n    - { name: eval, \
                   shape: 3g, start: 0 }\n";
/// `eval` goes, and `serve` is as large.
const NEW: &str = "  partitions:\n    - { name: train, shape: 3g }\n    - { name: serve, shape: 3g \
                   }\n";
/// One that uses whatever there is.
const CLIENTS: &str = "  clients: [{ unit: eval.service }]\n";

/// The layout in place, with a process of this unit on `eval`.
async fn used(unit: &str) -> Lab {
    let mut lab = Lab::cut().await;
    lab.file("proc/31/comm", "python\n");
    lab.file("proc/31/cgroup", &format!("0::/system.slice/{unit}\n"));
    lab.commit(&[layout("big", 0, "mig", OLD)]);
    lab.settle().await;
    lab.process(31, 0);
    lab
}

fn names(lab: &Lab) -> Vec<(u32, String)> {
    let claim = lab.known("gpu/big").claim.unwrap().resource.unwrap();
    let claim = serde_json::to_value(&claim).unwrap();
    let parts = claim["spec"]["memory"]["layout"].as_array().unwrap().clone();
    let name = |part: &serde_json::Value| {
        let start = part["placed"]["start"].as_u64().unwrap();
        (u32::try_from(start).unwrap(), part["name"].as_str().unwrap().to_owned())
    };
    parts.iter().map(name).collect()
}

#[tokio::test]
async fn what_is_in_use_does_not_become_another_partition() {
    let mut lab = used("notebook.service").await;
    let calls = lab.calls().len();
    lab.commit(&[layout("big", 0, "mig", NEW)]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Busy(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("`eval` (3g@0) would have to become `serve`"), "{text}");
    assert!(text.contains("python (pid 31, notebook.service)"), "{text}");
    assert_eq!(lab.calls().len(), calls);
    assert_eq!(names(&lab), [(0, "eval".to_owned()), (4, "train".to_owned())]);
    lab.edit(&Edit::RemoveProcess { pid: 31 });
    let plan = lab.plan().await;
    assert!(shown(&plan).contains("partitions.serve: 3g@0 as eval → 3g@0"), "{}", shown(&plan));
    lab.settle().await;
    assert_eq!(lab.calls().len(), calls, "an idle one is called otherwise, and no more");
    assert_eq!(names(&lab), [(0, "serve".to_owned()), (4, "train".to_owned())]);
}

/// A declared client is told in the way that every program understands.
#[tokio::test]
async fn a_client_is_stopped_and_started_around_a_new_name() {
    let lab = used("eval.service").await;
    lab.file("run/systemd/system/.keep", "");
    lab.file("sys/fs/cgroup/system.slice/eval.service/cgroup.procs", "");
    let root = lab.folder.path().join("root/sys/fs/cgroup/system.slice");
    let root = root.display();
    let stop = format!("case \"$1\" in stop) rm -r {root}/$3;; start) mkdir -p {root}/$3;; esac");
    lab.tool("systemctl", &stop);
    lab.tool("nvidia-ctk", "");
    let calls = lab.calls().len();
    lab.commit(&[layout("big", 0, "mig", &format!("{NEW}{CLIENTS}"))]);
    lab.settle().await;
    let tools = lab.tool_calls();
    let services: Vec<&String> = tools.iter().filter(|it| it.starts_with("systemctl")).collect();
    assert_eq!(services, ["systemctl stop -- eval.service", "systemctl start -- eval.service"]);
    assert_eq!(lab.calls().len(), calls, "it was made anew");
    assert_eq!(names(&lab), [(0, "serve".to_owned()), (4, "train".to_owned())]);
    lab.world.check_invariants();
}

/// Of several alike, the one that is in use keeps its number.
#[tokio::test]
async fn a_group_that_shrinks_gives_nobodys_number_away() {
    let mut lab = Lab::cut().await;
    let of =
        |count: u32| format!("  partitions:\n    - {{ name: infer, shape: 1g, count: {count} }}\n");
    lab.commit(&[layout("big", 0, "mig", &of(3))]);
    lab.settle().await;
    let start = names(&lab).into_iter().find(|(_, name)| name == "infer-2").unwrap().0;
    lab.process(40, start);
    lab.commit(&[layout("big", 0, "mig", &of(2))]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Busy(text) = why(&plan, "gpu/big") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("`infer-2`"), "{text}");
    lab.edit(&Edit::RemoveProcess { pid: 40 });
    lab.settle().await;
    assert_eq!(lab.stands(0).len(), 2);
}
