//! Control planes that are made anew: with another image, a minor at a time, first of all, and only where what
//! the cluster knows is on the disk beside; which no plan touches.

use super::*;
use crate::model::resource::{Disk, KubernetesLost, OnImageChange};
use crate::plan::fixture::{disk, image, image_path, pool};

fn replaced(at: &str, content: &str) -> Resource {
    let Resource::Disk(of) = disk(at, 10, Some(content)) else { panic!() };
    Resource::Disk(Disk { on_image_change: Some(OnImageChange::Replace), ..of })
}

/// The machines of a cluster, each with its disk; the control plane's with one more.
fn machines(machine: &mut Machine) {
    for node in ALL {
        let (guest, data) = (format!("cloud-{node}"), "cloud-ctl-data");
        let disks: &[&str] = if node == "ctl" { &[&guest, data] } else { &[&guest] };
        machine.want(&format!("disk/{guest}"), replaced(&guest, "v1"));
        machine.want(&format!("vm/{guest}"), vm(&guest, disks, &[]));
    }
}

/// A cluster that runs with the first image, as it was seen.
fn runs(seen: KubernetesSeen) -> Machine {
    let mut machine = Machine::new();
    machine.want("pool/main", pool());
    machine.want("image/node", image("v1"));
    machine.want("disk/cloud-ctl-data", disk("cloud-ctl-data", 8, None));
    machines(&mut machine);
    machine.converge();
    let wish = built(&ALL);
    let needs = guests(&wish).iter().map(|it| id(it)).collect();
    machine.want("cluster/cloud", resource(wish.clone())).depends_on = needs;
    let known = KnownResource { claimed: Some(resource(wish.clone())), ..KnownResource::default() };
    machine.known.resources.insert(id("cluster/cloud"), known);
    let config = resource(KubernetesCluster { seen: Some(Arc::new(seen)), ..wish });
    observe(&mut machine, config);
    machine
}

fn observe(machine: &mut Machine, config: Resource) {
    let observation = Observation {
        ownership: Ownership::Unmarked,
        config,
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    };
    machine.observed.resources.insert(id("cluster/cloud"), observation);
}

/// A cluster of which that was lost, as it is seen.
fn lost(what: KubernetesLost) -> Resource {
    resource(KubernetesCluster { lost: Some(what), ..built(&ALL) })
}

/// The same with another image for some of its machines, and another `version`.
fn with_image(mut machine: Machine, nodes: &[&str], version: &str) -> Machine {
    machine.want("image/next", image("v2"));
    for node in nodes {
        machine.edit_disk(&format!("disk/cloud-{node}"), |disk| {
            disk.backing.as_mut().unwrap().path = image_path("v2");
        });
    }
    machine.edit("cluster/cloud", |wish| {
        let mut other = built(&ALL);
        other.version = Some(version.to_owned());
        other.built.as_mut().unwrap().version = version.to_owned();
        wish.resource = resource(other);
    });
    machine
}

#[test]
fn a_control_plane_is_upgraded_first_and_then_its_nodes_one_after_another() {
    let mut machine = with_image(runs(well(&ALL)), &["ctl", "n1"], "1.34");
    // The image is there.
    let first = machine.plan();
    for step in first.steps.iter().filter(|it| it.resource == id("image/next")) {
        machine.perform(step);
    }
    steps(
        &machine,
        expect![[r#"
        1  stop      vm/cloud-ctl    within 60 s, never by force [needed] RESTART
        2  delete    disk/cloud-ctl  /vm/cloud-ctl.qcow2 [changed] REPLACE interrupts vm/cloud-ctl after 1
        3  create    disk/cloud-ctl  10 GiB on /vm/debian-fb04dcb6970e.qcow2 [changed] after 2
        4  start     vm/cloud-ctl    [needed] after 3
        5  prepare   cluster/cloud   ctl [changed] after 4
        6  restore   cluster/cloud   ctl, upgrade v1.33.1 -> 1.34 [changed] live after 5
        7  connect   cluster/cloud   ctl [changed] after 6
        8  check     cluster/cloud   ctl [changed] after 7
        9  cordon    cluster/cloud   n1 [changed] RESTART after 8
        10  drain     cluster/cloud   n1 [changed] live after 9
        11  stop      vm/cloud-n1     within 60 s, never by force [needed] RESTART after 10
        12  delete    disk/cloud-n1   /vm/cloud-n1.qcow2 [changed] REPLACE interrupts vm/cloud-n1 after 11
        13  create    disk/cloud-n1   10 GiB on /vm/debian-fb04dcb6970e.qcow2 [changed] after 12
        14  start     vm/cloud-n1     [needed] after 13
        15  prepare   cluster/cloud   n1 [changed] after 14
        16  join      cluster/cloud   n1 [changed] after 15
        17  connect   cluster/cloud   n1 [changed] after 16
        18  check     cluster/cloud   n1 [changed] after 17
        19  uncordon  cluster/cloud   n1 [changed] after 18
        Plan: 0 to create, 3 to change (3 restart), 2 to replace, 0 to destroy"#]],
    );
}

#[test]
fn an_image_of_the_same_release_brings_the_control_plane_back_as_it_was() {
    let plan = with_image(runs(well(&ALL)), &["ctl"], "1.33").plan();
    let restore = plan.steps.iter().find(|it| it.action.verb() == "restore").unwrap();
    assert!(matches!(&restore.action, Action::KubernetesRestore { from: None, .. }), "{restore:?}");
    assert!(plan.steps.iter().all(|it| it.action.verb() != "drain"), "pods run on");
}

#[test]
fn nothing_is_made_anew_that_would_not_come_back() {
    let refused = |seen: KubernetesSeen, version: &str| {
        let machine = with_image(runs(seen), &["ctl"], version);
        let plan = machine.plan();
        let touched = plan.steps.iter().map(|it| it.resource.to_string());
        assert!(touched.clone().all(|it| !it.ends_with("cloud-ctl")), "{plan:#?}");
        let skipped = plan.skipped.iter().filter(|it| it.resource == id("disk/cloud-ctl"));
        skipped.map(|it| format!("{:?}", it.why)).collect::<Vec<_>>().join("; ")
    };
    let why = refused(well(&ALL), "1.35");
    assert!(why.contains("no minor is skipped, so upgrade to 1.34 first"), "{why}");
    let why = refused(well(&ALL), "1.32");
    assert!(why.contains("a control plane cannot go back"), "{why}");
    let data = |data| {
        let mut seen = well(&ALL);
        seen.machines.get_mut("ctl").unwrap().data = data;
        seen
    };
    let why = refused(data(KubernetesData::OnRoot), "1.33");
    assert!(why.contains("move it to the disk beside it first, as docs/cluster.md says"), "{why}");
    let why = refused(data(KubernetesData::Unset), "1.33");
    assert!(why.contains("is not set up"), "{why}");
    let mut silent = well(&ALL);
    silent.machines.remove("ctl");
    assert!(refused(silent, "1.33").contains("does not say where"));
    // A kubelet that the next release would leave too far behind.
    let mut old = member("n2");
    old["status"]["nodeInfo"]["kubeletVersion"] = json!("v1.30.4");
    let why = refused(with(&[member("ctl"), member("n1"), old]), "1.34");
    assert!(why.contains("the kubelet of n2 is v1.30.4"), "{why}");
}

/// Whether the first disk of a node is made anew, and else why not.
fn made_anew(plan: &Plan, node: &str) -> Result<(), String> {
    let disk = id(&format!("disk/cloud-{node}"));
    if plan.steps.iter().any(|it| it.resource == disk) {
        return Ok(());
    }
    let skipped = plan.skipped.iter().filter(|it| it.resource == disk);
    Err(skipped.map(|it| format!("{:?}", it.why)).collect())
}

#[test]
fn a_node_is_not_made_anew_for_a_kubelet_that_is_newer_than_the_api_server() {
    // The control plane keeps its image, as nothing says that it is to change.
    let machine = with_image(runs(well(&ALL)), &["n1", "n2"], "1.34");
    let plan = machine.plan();
    for node in ["n1", "n2"] {
        let why = made_anew(&plan, node).unwrap_err();
        assert!(why.contains("upgrade the control plane first"), "{node}: {why}");
        assert!(why.contains("a kubelet of 1.34, newer than the API server (v1.33.1)"), "{why}");
    }
    assert_eq!(done(&plan), [""; 0], "no node is emptied for it");
    // Or it cannot be upgraded.
    let plan = with_image(runs(well(&ALL)), &["ctl", "n1"], "1.35").plan();
    assert!(made_anew(&plan, "ctl").unwrap_err().contains("no minor is skipped"));
    assert!(made_anew(&plan, "n1").unwrap_err().contains("upgrade the control plane first"));
    // What is otherwise asked of machines is done: n1 gets its memory, and keeps its disk.
    let machine = with_image(runs(well(&ALL)), &["n1"], "1.34");
    let machine = more_memory(machine, &["n1", "n2"]);
    let plan = machine.plan();
    made_anew(&plan, "n1").unwrap_err();
    for node in ["n1", "n2"] {
        let order = ["cordon cluster/cloud", &format!("stop vm/cloud-{node}")];
        let at = |what: &str| done(&plan).iter().position(|it| it == what).unwrap();
        assert!(at(order[0]) < at(order[1]), "{plan:#?}");
    }
}

#[test]
fn a_pool_that_says_an_older_release_is_made_anew_beside_one_that_waits() {
    let mut machine = with_image(runs(well(&ALL)), &["n1", "n2"], "1.34");
    machine.edit("cluster/cloud", |wish| {
        let mut other = built(&ALL);
        other.built.as_mut().unwrap().version = "1.34".into();
        let old = KubernetesPool {
            name: "old".into(),
            version: Some("1.33".into()),
            nodes: vec!["n2".into()],
            ..other.pools[0].clone()
        };
        other.pools[0].nodes = vec!["n1".into()];
        other.pools.push(old);
        wish.resource = resource(other);
    });
    let plan = machine.plan();
    assert!(made_anew(&plan, "n1").unwrap_err().contains("pool gpu"));
    assert_eq!(made_anew(&plan, "n2"), Ok(()));
    // A machine that is no node any more has nothing to lose.
    let mark = CordonMark::of_pool("cloud", "gpu");
    let mut seen = with(&[member("ctl"), cordoned(member("n1"), Some(&mark)), member("n2")]);
    seen.machines.get_mut("n1").unwrap().joined = false;
    let plan = with_image(runs(seen), &["n1"], "1.34").plan();
    assert_eq!(made_anew(&plan, "n1"), Ok(()));
}

#[test]
fn a_cluster_that_does_not_answer_keeps_its_control_plane() {
    let mut machine = with_image(runs(well(&ALL)), &["ctl"], "1.34");
    machine.observed.resources.remove(&id("cluster/cloud"));
    machine.observed.unreadable.insert(id("cluster/cloud"), "it does not answer".into());
    let why = made_anew(&machine.plan(), "ctl").unwrap_err();
    assert!(why.contains("cluster/cloud cannot be seen (it does not answer)"), "{why}");
    assert!(why.contains("remove the disk by hand, as docs/cluster.md says"), "{why}");
}

/// An image that does not come up: the commit names the one before again, the cluster does not answer, and somebody
/// has stopped the machine and removed the volume.
#[test]
fn a_first_disk_that_was_removed_by_hand_is_made_again_and_the_control_plane_on_it() {
    let mut machine = runs(well(&ALL));
    machine.observed.resources.remove(&id("cluster/cloud"));
    machine.observed.unreadable.insert(id("cluster/cloud"), "it does not answer".into());
    machine.observed.resources.remove(&id("disk/cloud-ctl"));
    let stopped = machine.seen("vm/cloud-ctl");
    (stopped.active, stopped.live) = (false, None);
    let plan = machine.plan();
    assert_eq!(done(&plan), ["create disk/cloud-ctl", "start vm/cloud-ctl"]);
    plan.steps.iter().for_each(|step| machine.perform(step));
    machine.observed.unreadable.clear();
    observe(&mut machine, lost(KubernetesLost::ControlPlane));
    let verbs: Vec<_> = machine.plan().steps.iter().map(|it| it.action.verb()).collect();
    assert_eq!(verbs, ["prepare", "restore", "connect", "check"]);
}

#[test]
fn what_was_cut_off_is_gone_on_with_and_nothing_else_is_touched_meanwhile() {
    let mut machine = more_memory(runs(well(&ALL)), &["n1"]);
    observe(&mut machine, lost(KubernetesLost::ControlPlane));
    steps(
        &machine,
        expect![[r#"
        1  prepare   cluster/cloud  ctl [changed]
        2  restore   cluster/cloud  ctl [changed] live after 1
        3  connect   cluster/cloud  ctl [changed] after 2
        4  check     cluster/cloud  ctl [changed] after 3
        Left alone:
        vm/cloud-n1: waits until it is free: n1 of cluster/cloud has to be out of use and empty first
        Plan: 0 to create, 1 to change, 0 to destroy, 1 left alone"#]],
    );
    // Between the control plane and its mark the API server answers already.
    let mut seen = well(&ALL);
    seen.machines.get_mut("ctl").unwrap().joined = false;
    let verbs = |machine: &Machine| {
        machine.plan().steps.iter().map(|it| it.action.verb()).collect::<Vec<_>>()
    };
    assert_eq!(verbs(&runs(seen.clone())), ["prepare", "restore", "connect", "check"]);
    // One that was built before there was such a disk.
    seen.machines.get_mut("ctl").unwrap().data = KubernetesData::OnRoot;
    assert_eq!(verbs(&runs(seen)), [""; 0]);
}

/// What is done, but for images, which are nobody's.
fn done(plan: &Plan) -> Vec<String> {
    let own = plan.steps.iter().filter(|it| it.resource != id("image/next"));
    own.map(|it| format!("{} {}", it.action.verb(), it.resource)).collect()
}

#[test]
fn a_cluster_whose_credentials_are_lost_is_asked_for_them_and_all_else_waits() {
    for (what, verb) in
        [(KubernetesLost::Credentials, "read"), (KubernetesLost::Unknown, "prepare")]
    {
        // Another image for the control plane and a node, two minors ahead, and more memory for all.
        let machine = with_image(runs(well(&ALL)), &["ctl", "n1"], "1.35");
        let mut machine = more_memory(machine, &ALL);
        observe(&mut machine, lost(what));
        let plan = machine.plan();
        assert_eq!(done(&plan), [format!("{verb} cluster/cloud")]);
        let why = |of: &str| {
            let skipped = plan.skipped.iter().filter(|it| it.resource == id(of));
            skipped.map(|it| format!("{:?}", it.why)).collect::<String>()
        };
        for of in ["disk/cloud-ctl", "vm/cloud-ctl"] {
            assert!(why(of).contains("credentials of cluster/cloud are lost"), "{}", why(of));
        }
        assert!(why("vm/cloud-n1").contains("out of use and empty first"), "{:?}", plan.skipped);
        // A node that goes from the document stays as well.
        let mut machine = runs(well(&ALL));
        machine.edit("cluster/cloud", |wish| wish.resource = resource(built(&ALL[..2])));
        machine.drop("vm/cloud-n2");
        machine.drop("disk/cloud-n2");
        observe(&mut machine, lost(what));
        assert_eq!(done(&machine.plan()), [format!("{verb} cluster/cloud")]);
    }
    let mut machine = runs(well(&ALL));
    observe(&mut machine, lost(KubernetesLost::Credentials));
    steps(
        &machine,
        expect![[r#"
        1  read      cluster/cloud  credentials of ctl [changed]
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
}

/// As it was before anybody asked its machine: a plan for a cluster that never was.
#[test]
fn a_cluster_that_is_made_where_there_was_one_is_seen_by_the_judge() {
    let mut machine = more_memory(with_image(runs(well(&ALL)), &["ctl"], "1.35"), &["n1"]);
    machine.observed.resources.remove(&id("cluster/cloud"));
    let plan = machine.plan();
    assert!(plan.steps.iter().any(|it| matches!(it.action, Action::DiskDelete { .. })), "{plan:?}");
    observe(&mut machine, lost(KubernetesLost::Credentials));
    let found = check::check(&plan, &machine.input()).unwrap_err();
    for rule in [
        "takes the control plane of cluster/cloud and does not bring it back",
        "makes a cluster that was there before",
        "stops n1 of cluster/cloud before its pods have left",
        "stops ctl of cluster/cloud before its pods have left",
    ] {
        assert!(found.iter().any(|it| it.rule == rule), "{rule}: {found:?}");
    }
}

#[test]
fn a_release_that_is_only_asked_for_is_told_with_the_way() {
    let shown = with_image(runs(well(&ALL)), &[], "1.34").shown();
    assert!(
        shown.contains("upgrade the control plane to 1.34: each is a `version` with"),
        "{shown}"
    );
    let mut data = well(&ALL);
    data.machines.get_mut("ctl").unwrap().data = KubernetesData::OnRoot;
    let shown = runs(data).shown();
    assert!(shown.contains("is on the first disk of ctl"), "{shown}");
}

#[test]
fn a_pool_may_stay_behind_and_says_of_which_release_it_is() {
    let mut machine = runs(well(&ALL));
    machine.edit("cluster/cloud", |wish| {
        let mut other = built(&ALL);
        other.pools[0].version = Some("1.32".into());
        wish.resource = resource(other);
    });
    let shown = machine.shown();
    assert!(
        shown.contains("the kubelet of n1 is v1.33.1, and pool gpu is to be of 1.32"),
        "{shown}"
    );
}

/// Whatever is asked for as long as the cluster is, its data stay.
#[test]
fn no_plan_touches_what_a_cluster_knows() {
    let mut plans = 0;
    for (node, version, data) in [
        ("ctl", "1.33", KubernetesData::Apart),
        ("ctl", "1.34", KubernetesData::Apart),
        ("ctl", "1.36", KubernetesData::Apart),
        ("ctl", "1.34", KubernetesData::OnRoot),
        ("n1", "1.34", KubernetesData::Unset),
    ] {
        for how in 0..8 {
            let mut seen = well(&ALL);
            seen.machines.get_mut("ctl").unwrap().data = data;
            let mut machine = with_image(runs(seen), &[node], version);
            match how {
                // The data disk goes from the document, with the machine or without it.
                0 => machine.drop("disk/cloud-ctl-data"),
                1 => {
                    machine.drop("vm/cloud-ctl");
                    machine.drop("disk/cloud-ctl");
                    machine.drop("disk/cloud-ctl-data");
                }
                2 => machine.edit_disk("disk/cloud-ctl-data", |disk| {
                    disk.on_image_change = Some(OnImageChange::Replace);
                }),
                3 => machine = more_memory(machine, &["ctl"]),
                4 => observe(&mut machine, lost(KubernetesLost::ControlPlane)),
                5 => observe(&mut machine, lost(KubernetesLost::Unknown)),
                6 => observe(&mut machine, lost(KubernetesLost::Credentials)),
                _ => {}
            }
            let plan = machine.plan();
            plans += plan.steps.len();
            let touched = plan.steps.iter().find(|it| it.resource == id("disk/cloud-ctl-data"));
            assert!(touched.is_none(), "{node} {version} {data:?} {how}: {touched:?}");
            // Where nobody has credentials, the first disks stay as well: this may be the one that has it all.
            let unread = plan
                .steps
                .iter()
                .find(|it| [5, 6].contains(&how) && it.resource.to_string().contains("/cloud-"));
            assert!(unread.is_none(), "{node} {version} {data:?} {how}: {unread:?}");
        }
    }
    assert!(plans > 30, "{plans}: nothing was planned at all");
}

#[test]
fn a_control_plane_that_is_taken_and_not_brought_back_is_seen_by_the_judge() {
    let machine = with_image(runs(well(&ALL)), &["ctl"], "1.34");
    let mut plan = machine.plan();
    plan.steps.retain(|it| it.resource != id("cluster/cloud"));
    let found = check::check(&plan, &machine.input()).unwrap_err();
    let rule = "takes the control plane of cluster/cloud and does not bring it back";
    assert!(found.iter().any(|it| it.rule == rule), "{found:?}");
}
