//! Kubernetes clusters: what moves work is done on empty nodes and one after another, what does not at
//! once, and what somebody else took out is theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use trueup_kubernetes::cert::Certificate;
use trueup_kubernetes::grant::Found as Given;
use trueup_kubernetes::namespace::{self, Namespace, Role};
use trueup_kubernetes::node::{
    CORDON, CUTS_GPUS, CordonMark, NODE_WISH, NodeWish, Taint, overview,
};
use trueup_kubernetes::release::{Found, Inventory, Seen, Would};

use crate::model::resource::{
    Cluster, KubeconfigRule, KubernetesCluster, KubernetesPool, KubernetesSeen,
};
use crate::model::{Observation, Ownership, Resource};
use crate::plan::fixture::{Machine, id};
use crate::plan::{
    Action, Disruption, KnownAccess, KnownCluster, KnownResource, NodeDrain, Plan, Reason, Remark,
    SkipReason,
};

mod built;

const NODES: [&str; 3] = ["g1", "g2", "g3"];

/// A node as it was before anybody asked for anything.
fn node(name: &str) -> Value {
    json!({"metadata": {"name": name, "resourceVersion": "7"}, "spec": {}, "status": {
        "nodeInfo": {"kubeletVersion": "v1.33.1"},
        "conditions": [{"type": "Ready", "status": "True"}],
        "allocatable": {"cpu": "8", "nvidia.com/gpu": "2"}}})
}

fn taint(effect: &str) -> Taint {
    Taint { key: "gpu".into(), value: String::new(), effect: effect.into() }
}

fn wish(taints: &[Taint]) -> NodeWish {
    NodeWish {
        labels: BTreeMap::from([("pool".to_owned(), "gpu".to_owned())]),
        taints: taints.iter().cloned().collect::<BTreeSet<_>>(),
    }
}

/// A node that bears what `wish` says, and is noted as ours.
fn bearing(name: &str, wish: &NodeWish) -> Value {
    let mut node = node(name);
    let own = json!({
        "labels": wish.labels.keys().collect::<Vec<_>>(),
        "taints": wish.taints.iter().map(|it| (&it.key, &it.effect)).collect::<Vec<_>>(),
    });
    node["metadata"]["labels"] = json!(wish.labels);
    node["metadata"]["annotations"] = json!({NODE_WISH: own.to_string()});
    node["spec"]["taints"] = json!(wish.taints);
    node
}

fn cordoned(mut node: Value, mark: Option<&CordonMark>) -> Value {
    node["spec"]["unschedulable"] = json!(true);
    match mark {
        Some(mark) => node["metadata"]["annotations"][CORDON] = json!(json!(mark).to_string()),
        None => {
            let entry = json!([{"manager": "kubectl-cordon",
                "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}]);
            node["metadata"]["managedFields"] = entry;
        }
    }
    node
}

fn ours() -> CordonMark {
    CordonMark::of_pool("cloud", "gpu")
}

fn cluster(wish: NodeWish) -> KubernetesCluster {
    KubernetesCluster {
        pools: vec![KubernetesPool {
            name: "gpu".into(),
            version: None,
            nodes: NODES.map(str::to_owned).into(),
            wish,
            offers: BTreeMap::new(),
        }],
        drain_timeout_s: 600,
        max_unavailable: 1,
        warn_before_s: 30 * 86_400,
        ..KubernetesCluster::default()
    }
}

fn resource(cluster: KubernetesCluster) -> Resource {
    Resource::Cluster(Box::new(Cluster::Kubernetes(cluster)))
}

fn seen(nodes: &[Value]) -> KubernetesSeen {
    let none: [&Value; 0] = [];
    let named = nodes
        .iter()
        .map(|it| (it["metadata"]["name"].as_str().unwrap().to_owned(), Arc::new(it.clone())));
    KubernetesSeen {
        release: "v1.33.1".into(),
        view: overview(nodes, none),
        nodes: named.collect(),
        namespaces: Seen::default(),
        certificates: Vec::new(),
        renewable: BTreeSet::new(),
        machines: BTreeMap::new(),
        unwell: BTreeMap::new(),
        access: Vec::new(),
        now: 1_000_000,
    }
}

/// A cluster of ours that was seen so.
fn site(wish: &KubernetesCluster, seen: KubernetesSeen) -> Machine {
    let mut machine = Machine::new();
    machine.want("cluster/cloud", resource(wish.clone()));
    let observation = Observation {
        ownership: Ownership::Unmarked,
        config: resource(KubernetesCluster { seen: Some(Arc::new(seen)), ..wish.clone() }),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    };
    machine.observed.resources.insert(id("cluster/cloud"), observation);
    machine.known.resources.insert(id("cluster/cloud"), KnownResource::default());
    machine
}

/// A plan without the lines of its changes.
fn steps(machine: &Machine, expected: Expect) -> Plan {
    let shown = machine.shown();
    let lines: Vec<&str> =
        shown.lines().filter(|line| !line.starts_with("       ")).map(str::trim).collect();
    expected.assert_eq(&lines.join("\n"));
    machine.plan()
}

#[test]
fn labels_go_at_once_and_a_pool_with_a_new_taint_empties_node_by_node() {
    let nodes = NODES.map(node);
    let machine = site(&cluster(wish(&[])), seen(&nodes));
    let plan = steps(
        &machine,
        expect![[r#"
        1  label     cluster/cloud  g1 [changed]
        2  label     cluster/cloud  g2 [changed] after 1
        3  label     cluster/cloud  g3 [changed] after 2
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
    assert_eq!(plan.disruption(), Disruption::None);
    let machine = site(&cluster(wish(&[taint("NoSchedule")])), seen(&nodes));
    let plan = steps(
        &machine,
        expect![[r#"
        1  cordon    cluster/cloud  g1 [changed] RESTART
        2  drain     cluster/cloud  g1 [changed] live after 1
        3  label     cluster/cloud  g1 [changed] after 2
        4  check     cluster/cloud  g1 [changed] after 3
        5  uncordon  cluster/cloud  g1 [changed] after 4
        6  cordon    cluster/cloud  g2 [changed] RESTART after 5
        7  drain     cluster/cloud  g2 [changed] live after 6
        8  label     cluster/cloud  g2 [changed] after 7
        9  check     cluster/cloud  g2 [changed] after 8
        10  uncordon  cluster/cloud  g2 [changed] after 9
        11  cordon    cluster/cloud  g3 [changed] RESTART after 10
        12  drain     cluster/cloud  g3 [changed] live after 11
        13  label     cluster/cloud  g3 [changed] after 12
        14  check     cluster/cloud  g3 [changed] after 13
        15  uncordon  cluster/cloud  g3 [changed] after 14
        Plan: 0 to create, 1 to change (1 restart), 0 to destroy"#]],
    );
    let waits = plan.steps.iter().filter(|step| step.action.only_waits()).count();
    assert_eq!(waits, 6, "a drain and a check of each node hold nothing up");
    // What is there already needs nothing, and what goes needs no empty node.
    let all = NODES.map(|name| bearing(name, &wish(&[taint("NoSchedule")])));
    let machine = site(&cluster(wish(&[taint("NoSchedule")])), seen(&all));
    assert!(machine.plan().is_empty() && machine.plan().skipped.is_empty(), "{:?}", machine.plan());
    let machine = site(&cluster(NodeWish::default()), seen(&all));
    assert_eq!(machine.plan().steps.len(), 3);
    assert_eq!(machine.plan().disruption(), Disruption::None);
}

#[test]
fn a_pool_that_was_left_half_done_goes_on_where_it_was() {
    let taints = wish(&[taint("NoExecute")]);
    // Cordoned and not drained; changed and not given back; not begun.
    let nodes = [
        cordoned(node("g1"), Some(&ours())),
        cordoned(bearing("g2", &taints), Some(&ours())),
        node("g3"),
    ];
    steps(
        &site(&cluster(taints.clone()), seen(&nodes)),
        expect![[r#"
        1  check     cluster/cloud  g2 [changed]
        2  uncordon  cluster/cloud  g2 [changed] after 1
        3  drain     cluster/cloud  g1 [changed] live after 2
        4  label     cluster/cloud  g1 [changed] after 3
        5  check     cluster/cloud  g1 [changed] after 4
        6  uncordon  cluster/cloud  g1 [changed] after 5
        7  cordon    cluster/cloud  g3 [changed] RESTART after 6
        8  drain     cluster/cloud  g3 [changed] live after 7
        9  label     cluster/cloud  g3 [changed] after 8
        10  check     cluster/cloud  g3 [changed] after 9
        11  uncordon  cluster/cloud  g3 [changed] after 10
        Plan: 0 to create, 1 to change (1 restart), 0 to destroy"#]],
    );
    // Not wished any more: what is out by our mark is looked at and given back, changed or not.
    let nodes = [cordoned(node("g1"), Some(&ours())), node("g2"), node("g3")];
    steps(
        &site(&cluster(NodeWish::default()), seen(&nodes)),
        expect![[r#"
        1  check     cluster/cloud  g1 [changed]
        2  uncordon  cluster/cloud  g1 [changed] after 1
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
}

#[test]
fn a_label_that_cuts_gpus_anew_waits_for_an_empty_node_and_for_what_it_offers_then() {
    let mut wish = cluster(NodeWish {
        labels: BTreeMap::from([(CUTS_GPUS.to_owned(), "all-1g.10gb".to_owned())]),
        ..NodeWish::default()
    });
    wish.pools[0].offers = BTreeMap::from([("nvidia.com/mig-1g.10gb".to_owned(), 14)]);
    wish.pools[0].nodes = vec!["g1".into()];
    let plan = steps(
        &site(&wish, seen(&[node("g1")])),
        expect![[r#"
        1  cordon    cluster/cloud  g1 [changed] RESTART
        2  drain     cluster/cloud  g1 [changed] live after 1
        3  label     cluster/cloud  g1 [changed] after 2
        4  check     cluster/cloud  g1 [changed] after 3
        5  uncordon  cluster/cloud  g1 [changed] after 4
        Plan: 0 to create, 1 to change (1 restart), 0 to destroy"#]],
    );
    let offers = plan.steps.iter().find_map(|step| match &step.action {
        Action::KubernetesNode {
            step: crate::model::resource::KubernetesNodeStep::Check { offers },
            ..
        } => Some(offers.clone()),
        _ => None,
    });
    assert_eq!(offers, Some(wish.pools[0].offers.clone()));
}

fn told(plan: &Plan) -> String {
    plan.skipped.iter().map(|skip| format!("{:?}\n", skip.why)).collect()
}

#[test]
fn what_a_person_took_out_is_left_alone_and_counts() {
    let taints = cluster(wish(&[taint("NoSchedule")]));
    let nodes = [cordoned(node("g1"), None), node("g2"), node("g3")];
    let plan = site(&taints, seen(&nodes)).plan();
    assert!(plan.is_empty(), "one is out already, and one may be: {plan:?}");
    expect![[r#"
        BusyWaits("g1: somebody took it out (kubectl-cordon)")
        BusyWaits("1 of pool gpu are out of use already, and maxUnavailable is 1")
    "#]]
    .assert_eq(&told(&plan));
    // Where two may be out, the next one changes, and theirs is not touched.
    let two = KubernetesCluster { max_unavailable: 2, ..taints.clone() };
    let plan = steps(
        &site(&two, seen(&nodes)),
        expect![[r#"
        1  cordon    cluster/cloud  g2 [changed] RESTART
        2  drain     cluster/cloud  g2 [changed] live after 1
        3  label     cluster/cloud  g2 [changed] after 2
        4  check     cluster/cloud  g2 [changed] after 3
        5  uncordon  cluster/cloud  g2 [changed] after 4
        6  cordon    cluster/cloud  g3 [changed] RESTART after 5
        7  drain     cluster/cloud  g3 [changed] live after 6
        8  label     cluster/cloud  g3 [changed] after 7
        9  check     cluster/cloud  g3 [changed] after 8
        10  uncordon  cluster/cloud  g3 [changed] after 9
        Left alone:
        cluster/cloud: waits until it is free: g1: somebody took it out (kubectl-cordon)
        Plan: 0 to create, 1 to change (1 restart), 0 to destroy, 1 left alone"#]],
    );
    let touched = plan
        .steps
        .iter()
        .any(|step| matches!(&step.action, Action::KubernetesNode { node, .. } if node == "g1"));
    assert!(!touched);
    // One whose kubelet does not answer cannot be emptied, and counts too.
    let mut away = node("g1");
    away["status"]["conditions"][0]["status"] = json!("Unknown");
    let plan = site(&taints, seen(&[away, node("g2"), node("g3")])).plan();
    assert!(plan.is_empty(), "{plan:?}");
    expect![[r#"
        BusyWaits("g1: its kubelet does not answer")
        BusyWaits("1 of pool gpu are out of use already, and maxUnavailable is 1")
    "#]]
    .assert_eq(&told(&plan));
}

#[test]
fn what_nobody_here_can_mend_is_told() {
    let mut wish = cluster(NodeWish::default());
    wish.version = Some("1.35".into());
    wish.pools[0].offers = BTreeMap::from([("nvidia.com/gpu".to_owned(), 8)]);
    let mut old = node("g2");
    old["status"]["nodeInfo"]["kubeletVersion"] = json!("v1.28.0");
    let plan = site(&wish, seen(&[node("g1"), old])).plan();
    assert!(plan.is_empty(), "{plan:?}");
    expect![[r#"
        Unlike("the API server is v1.33.1, and 1.35 is asked for: upgrade the control plane to 1.34, then to 1.35")
        Unlike("the kubelet of g2 is v1.28.0, the API server of the cluster v1.33.1: at most 3 minors behind are allowed; upgrade the node first")
        Unlike("g3 of pool gpu is not in the cluster: let it join, or take it out of the document")
        Unlike("g[1-2] offers 2 of nvidia.com/gpu, and 8 are expected: look at the device plugin there, and at how its GPUs are cut")
    "#]].assert_eq(&told(&plan));
    assert!(plan.notes.is_empty());

    let day = |day: i64| jiff::Timestamp::from_second(1_000_000 + day * 86_400).unwrap();
    let ends = |at: jiff::Timestamp| {
        let mut seen = seen(&NODES.map(node));
        let what = "server 127.0.0.1:6443".to_owned();
        seen.certificates = vec![Certificate { what, from: day(-1), until: at }];
        site(&cluster(NodeWish::default()), seen).plan().notes
    };
    assert!(ends(day(31)).is_empty());
    assert_eq!(ends(day(29))[0].what, Remark::CertificateEnds);
}

#[test]
fn an_operator_takes_a_node_out_and_it_comes_back_when_that_is_over() {
    let nothing = cluster(NodeWish::default());
    let drain = |over: bool| NodeDrain {
        number: 12,
        by: "operator:alice".into(),
        reason: "fan is loud".into(),
        over,
    };
    let asked = |nodes: &[Value], over: bool| {
        let mut machine = site(&nothing, seen(nodes));
        let drains = BTreeMap::from([("g2".to_owned(), drain(over))]);
        machine
            .known
            .clusters
            .insert(id("cluster/cloud"), KnownCluster { drains, ..Default::default() });
        machine
    };
    let plan = steps(
        &asked(&NODES.map(node), false),
        expect![[r#"
        1  cordon    cluster/cloud  g2 [due] live
        Plan: 0 to create, 0 to change, 0 to destroy"#]],
    );
    let Action::KubernetesNode { mark, .. } = &plan.steps[0].action else { panic!("{plan:?}") };
    assert_eq!(
        (mark.token.as_str(), plan.steps[0].reason),
        ("trueup:cloud/@alice/12", Reason::Due)
    );
    let out = [node("g1"), cordoned(node("g2"), Some(mark)), node("g3")];
    assert!(asked(&out, false).plan().is_empty(), "it is out");
    steps(
        &asked(&out, true),
        expect![[r#"
        1  uncordon  cluster/cloud  g2 [due]
        Plan: 0 to create, 0 to change, 0 to destroy"#]],
    );
    // Somebody else's is not given back with it, nor taken over.
    let theirs = [node("g1"), cordoned(node("g2"), None), node("g3")];
    assert!(asked(&theirs, true).plan().is_empty() && asked(&theirs, false).plan().is_empty());
    // A roll leaves alone what an operator took out through us.
    let mut machine = asked(&out, false);
    machine.want("cluster/cloud", resource(cluster(wish(&[taint("NoSchedule")]))));
    let plan = machine.plan();
    assert!(plan.is_empty(), "{plan:?}");
    assert!(told(&plan).contains("alice/12"), "{}", told(&plan));
}

#[test]
fn namespaces_are_a_release_and_stay_when_nobody_asks_for_them() {
    let shop = Namespace {
        name: "shop".into(),
        quota: BTreeMap::from([("pods".to_owned(), "10".to_owned())]),
        ..Namespace::default()
    };
    let mut wish = cluster(NodeWish::default());
    wish.namespaces = vec![shop];
    let release = namespace::release("cloud").unwrap();
    let made = namespace::wish(release.clone(), &wish.namespaces, false).unwrap();
    let mut look = seen(&NODES.map(node));
    for manifest in &made.manifests {
        let found = Found { live: None, would: Would::Later, extras: Vec::new() };
        look.namespaces.objects.insert(manifest.key.clone(), found);
    }
    steps(
        &site(&wish, look),
        expect![[r#"
        1  record    cluster/cloud  2 object(s) [changed]
        2  apply     cluster/cloud  Namespace shop [changed] after 1
        3  apply     cluster/cloud  ResourceQuota shop/trueup [changed] after 2
        4  record    cluster/cloud  2 object(s) [changed] after 3
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
    // Somebody else's namespace of that name is not taken without a word.
    let mut look = seen(&NODES.map(node));
    for manifest in &made.manifests {
        let live = manifest.key.is_namespace().then(|| Arc::new(manifest.object.clone()));
        let found = Found { live, would: Would::Later, extras: Vec::new() };
        look.namespaces.objects.insert(manifest.key.clone(), found);
    }
    let plan = site(&wish, look).plan();
    assert!(plan.is_empty(), "{plan:?}");
    assert!(matches!(&plan.skipped[0].why, SkipReason::Conflict(why) if why.contains("shop")));
    // Gone from the document: the namespace is let go of, and what was put around it goes.
    let mut look = seen(&NODES.map(node));
    let members = made.manifests.iter().map(|it| (it.key.clone(), it.kind.version.clone()));
    look.namespaces.inventory = Some(Inventory {
        members: members.collect(),
        digest: made.digest(),
        complete: true,
        holder: None,
    });
    for manifest in &made.manifests {
        let mut live = made.marked(manifest);
        live["metadata"]["uid"] = json!("u1");
        look.namespaces.left.insert(manifest.key.clone(), Some(Arc::new(live)));
    }
    let plan = steps(
        &site(&cluster(NodeWish::default()), look),
        expect![[r#"
        1  record    cluster/cloud  2 object(s) [changed]
        2  delete    cluster/cloud  ResourceQuota shop/trueup [changed] live after 1
        3  wait      cluster/cloud  ResourceQuota shop/trueup [changed] after 2
        4  remove    cluster/cloud  what was made [changed] after 3
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
    assert!(plan.disruption() < Disruption::Destroy);
}

#[test]
fn a_cluster_is_not_ours_before_somebody_says_so() {
    let mut machine = site(&cluster(wish(&[])), seen(&NODES.map(node)));
    machine.known.resources.clear();
    assert_eq!(machine.plan().skipped[0].why, SkipReason::Foreign);
    machine.edit("cluster/cloud", |wish| wish.lifecycle.adopt = true);
    let plan = machine.plan();
    assert!(matches!(plan.steps[0].action, Action::KubernetesAdopt), "{plan:?}");
    assert!(plan.steps.iter().all(|step| step.reason == Reason::Adopted));
}

#[test]
fn access_is_taken_when_it_is_over_or_not_allowed_and_what_nobody_knows_of_too() {
    let rule = |user: &str, role: Role| KubeconfigRule {
        namespace: "research".into(),
        user: user.into(),
        role,
        at_most_s: 3600,
    };
    let found = |number: u64, role: Role| Given {
        name: format!("trueup-cloud-{number}"),
        number: Some(number),
        lets: Some(("research".into(), role)),
        parts: Vec::new(),
    };
    let given = |user: &str, role: Role, over: bool| KnownAccess {
        user: user.into(),
        namespace: "research".into(),
        role,
        over,
    };
    let mut wish = cluster(NodeWish::default());
    wish.kubeconfigs = vec![rule("ann", Role::Edit), rule("bob", Role::View)];
    let mut look = seen(&NODES.map(node));
    look.access = vec![
        found(7, Role::Edit),
        found(8, Role::Edit),
        found(9, Role::View),
        found(10, Role::Edit),
        found(11, Role::Edit),
        Given { name: "ann".into(), number: None, lets: None, parts: Vec::new() },
    ];
    let mut machine = site(&wish, look);
    let access = BTreeMap::from([
        (7, given("ann", Role::Edit, false)),
        (8, given("ann", Role::Edit, true)),
        // Less than is allowed, and no more.
        (9, given("ann", Role::View, false)),
        (10, given("bob", Role::Edit, false)),
        // Its binding was made anew by somebody, with more than was given.
        (11, given("bob", Role::View, false)),
    ]);
    let known = KnownCluster { access, ..KnownCluster::default() };
    machine.known.clusters.insert(id("cluster/cloud"), known);
    steps(
        &machine,
        expect![[r#"
        1  take back  cluster/cloud  trueup-cloud-8 (edit research) [due]
        2  take back  cluster/cloud  trueup-cloud-10 (edit research) [due] after 1
        3  take back  cluster/cloud  trueup-cloud-11 (edit research) [due] after 2
        4  take back  cluster/cloud  ann [due] after 3
        Plan: 0 to create, 0 to change, 0 to destroy"#]],
    );
    // A plan for a pull request knows of nothing that was given, and takes nothing.
    machine.known.clusters.clear();
    assert!(machine.plan().is_empty());
}

#[test]
fn access_ends_with_the_document_of_its_cluster_and_before_its_control_plane() {
    let found = Given {
        name: "trueup-cloud-0a1b-7".into(),
        number: Some(7),
        lets: Some(("research".into(), Role::Edit)),
        parts: Vec::new(),
    };
    let mut look = seen(&[]);
    look.access = vec![found];
    let wish = cluster(NodeWish::default());
    let mut machine = site(&wish, look.clone());
    machine.drop("cluster/cloud");
    // Somebody else's storage is asked for still: the environment is not empty.
    machine.desired.sync.prune = false;
    let taken = expect![[r#"
        1  take back  cluster/cloud  trueup-cloud-0a1b-7 (edit research) [due]
        Plan: 0 to create, 0 to change, 0 to destroy"#]];
    steps(&machine, taken);
    // What an operator holds stays, and so does everything where nothing was read.
    machine.known.suspended.insert(id("cluster/cloud"), SkipReason::Paused);
    assert!(machine.plan().is_empty());
    machine.known.suspended.clear();
    machine.guards.prune = false;
    assert!(machine.plan().is_empty());
}
