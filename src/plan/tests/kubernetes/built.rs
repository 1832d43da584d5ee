//! Kubernetes clusters whose machines trueup makes: built in one plan, no machine stopped while pods are on it,
//! and certificates renewed in time.

mod upgrade;

use std::net::Ipv4Addr;

use trueup_kubernetes::kubeadm::MACHINE;

use super::*;
use crate::model::resource::{
    KubernetesBuilt, KubernetesData, KubernetesMachine, KubernetesMachineSeen, KubernetesNodeStep,
    VirtualMachine,
};
use crate::plan::fixture::{GIB, name, vm};
use crate::plan::{Step as PlanStep, check};

/// A plan that the judge has nothing against.
fn steps(machine: &Machine, expected: Expect) -> Plan {
    check::check(&machine.plan(), &machine.input()).unwrap();
    super::steps(machine, expected)
}

const ALL: [&str; 3] = ["ctl", "n1", "n2"];

fn built(nodes: &[&str]) -> KubernetesCluster {
    let machine = |(n, node): (usize, &&str)| {
        let last = 10 + u8::try_from(n).unwrap();
        let address = Ipv4Addr::new(10, 9, 0, last);
        let guest = name(&format!("cloud-{node}"));
        ((*node).to_owned(), KubernetesMachine { guest, address })
    };
    let workers = nodes.iter().filter(|it| **it != "ctl");
    let mut wish = cluster(NodeWish::default());
    wish.pools[0].nodes = workers.map(|it| (*it).to_owned()).collect();
    wish.built = Some(KubernetesBuilt {
        machines: nodes.iter().enumerate().map(machine).collect(),
        control_plane: "ctl".into(),
        version: "1.33".into(),
        pods: "10.244.0.0/16".into(),
        services: "10.96.0.0/12".into(),
        bridge: true,
        dns: true,
        images: None,
        renew_before_s: Some(30 * 86_400),
        data: Some(name("cloud-ctl-data")),
    });
    wish
}

fn guests(wish: &KubernetesCluster) -> Vec<String> {
    let built = wish.built.as_ref().unwrap();
    built.machines.values().map(|it| format!("vm/{}", it.guest)).collect()
}

/// A cluster as wished, and its machines; nothing is there.
fn wanted(wish: &KubernetesCluster) -> Machine {
    let mut machine = Machine::new();
    for guest in guests(wish) {
        machine.want(&guest, vm(guest.strip_prefix("vm/").unwrap(), &[], &[]));
    }
    let needs = guests(wish).iter().map(|it| id(it)).collect();
    machine.want("cluster/cloud", resource(wish.clone())).depends_on = needs;
    machine
}

fn member(node_name: &str) -> Value {
    let mut node = node(node_name);
    node["metadata"]["labels"] = json!({MACHINE: format!("cloud-{node_name}")});
    node
}

/// What is seen of a cluster of these nodes, on machines that are as they should be.
fn well(nodes: &[&str]) -> KubernetesSeen {
    let all: Vec<Value> = nodes.iter().map(|it| member(it)).collect();
    with(&all)
}

fn with(nodes: &[Value]) -> KubernetesSeen {
    let well = |node: &String| KubernetesMachineSeen {
        prepared: true,
        joined: true,
        connected: true,
        data: if node == "ctl" { KubernetesData::Apart } else { KubernetesData::Elsewhere },
    };
    let mut seen = seen(nodes);
    seen.machines = seen.nodes.keys().map(|it| (it.clone(), well(it))).collect();
    seen
}

/// A cluster of ours that was as `before`, was seen so, and is to be as `wish`.
fn there(before: &KubernetesCluster, wish: &KubernetesCluster, seen: KubernetesSeen) -> Machine {
    let mut machine = wanted(before);
    let cluster = machine.desired.resources.remove(&id("cluster/cloud")).unwrap();
    machine.converge();
    machine.desired.resources.insert(id("cluster/cloud"), cluster);
    for guest in guests(wish) {
        machine.want(&guest, vm(guest.strip_prefix("vm/").unwrap(), &[], &[]));
    }
    for gone in guests(before).iter().filter(|it| !guests(wish).contains(it)) {
        machine.drop(gone);
    }
    let needs = guests(wish).iter().map(|it| id(it)).collect();
    machine.want("cluster/cloud", resource(wish.clone())).depends_on = needs;
    let observation = Observation {
        ownership: Ownership::Unmarked,
        config: resource(KubernetesCluster { seen: Some(Arc::new(seen)), ..wish.clone() }),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    };
    machine.observed.resources.insert(id("cluster/cloud"), observation);
    let claimed = Some(resource(before.clone()));
    let known = KnownResource { claimed, ..KnownResource::default() };
    machine.known.resources.insert(id("cluster/cloud"), known);
    machine
}

fn more_memory(mut machine: Machine, names: &[&str]) -> Machine {
    for name in names {
        let more = |vm: &mut VirtualMachine| {
            (vm.memory.current, vm.memory.max) = (4 * GIB, 4 * GIB);
        };
        machine.edit_vm(&format!("vm/cloud-{name}"), more);
    }
    machine
}

#[test]
fn one_plan_makes_the_machines_and_then_the_cluster() {
    let mut wish = built(&ALL);
    wish.pools[0].wish = super::wish(&[]);
    steps(
        &wanted(&wish),
        expect![[r#"
        1  define    vm/cloud-ctl   [missing]
        2  start     vm/cloud-ctl   [missing] after 1
        3  define    vm/cloud-n1    [missing]
        4  start     vm/cloud-n1    [missing] after 3
        5  define    vm/cloud-n2    [missing]
        6  start     vm/cloud-n2    [missing] after 5
        7  prepare   cluster/cloud  ctl,n[1-2] [missing] after 2, 4, 6
        8  init      cluster/cloud  ctl [missing] after 7
        9  join      cluster/cloud  n1 [missing] after 8
        10  join      cluster/cloud  n2 [missing] after 9
        11  connect   cluster/cloud  ctl,n[1-2] [missing] after 10
        12  label     cluster/cloud  n1 [missing] after 11
        13  label     cluster/cloud  n2 [missing] after 12
        14  check     cluster/cloud  ctl [missing] after 13
        15  check     cluster/cloud  n1 [missing] after 14
        16  check     cluster/cloud  n2 [missing] after 15
        Plan: 3 to create, 1 to change, 0 to destroy"#]],
    );
}

#[test]
fn a_cluster_at_rest_has_no_plan_and_a_node_more_comes_after_its_machine() {
    assert!(there(&built(&ALL), &built(&ALL), well(&ALL)).plan().is_empty());
    steps(
        &there(&built(&ALL[..2]), &built(&ALL), well(&ALL[..2])),
        expect![[r#"
        1  define    vm/cloud-n2    [missing]
        2  start     vm/cloud-n2    [missing] after 1
        3  prepare   cluster/cloud  n2 [changed] after 2
        4  join      cluster/cloud  n2 [changed] after 3
        5  connect   cluster/cloud  ctl,n[1-2] [changed] after 4
        6  check     cluster/cloud  n2 [changed] after 5
        Plan: 1 to create, 1 to change, 0 to destroy"#]],
    );
}

#[test]
fn a_machine_is_stopped_only_while_its_node_is_empty() {
    let all = || there(&built(&ALL), &built(&ALL), well(&ALL));
    steps(
        &more_memory(all(), &["n1", "n2"]),
        expect![[r#"
        1  cordon    cluster/cloud  n1 [changed] RESTART
        2  drain     cluster/cloud  n1 [changed] live after 1
        3  define    vm/cloud-n1    [changed] after 2
        4  stop      vm/cloud-n1    within 60 s, never by force [changed] RESTART after 3
        5  start     vm/cloud-n1    [changed] after 4
        6  prepare   cluster/cloud  n1 [changed] after 5
        7  join      cluster/cloud  n1 [changed] after 6
        8  connect   cluster/cloud  n1 [changed] after 7
        9  check     cluster/cloud  n1 [changed] after 8
        10  uncordon  cluster/cloud  n1 [changed] after 9
        11  cordon    cluster/cloud  n2 [changed] RESTART after 10
        12  drain     cluster/cloud  n2 [changed] live after 11
        13  define    vm/cloud-n2    [changed] after 12
        14  stop      vm/cloud-n2    within 60 s, never by force [changed] RESTART after 13
        15  start     vm/cloud-n2    [changed] after 14
        16  prepare   cluster/cloud  n2 [changed] after 15
        17  join      cluster/cloud  n2 [changed] after 16
        18  connect   cluster/cloud  n2 [changed] after 17
        19  check     cluster/cloud  n2 [changed] after 18
        20  uncordon  cluster/cloud  n2 [changed] after 19
        Plan: 0 to create, 3 to change (3 restart), 0 to destroy"#]],
    );
    // The cluster is as it was made, so nobody is told that it drifted: its steps serve its machines.
    let mut same = more_memory(all(), &["n1", "n2"]);
    let applied = Some(same.desired.resources[&id("cluster/cloud")].digest);
    same.known.resources.get_mut(&id("cluster/cloud")).unwrap().applied = applied;
    let plan = same.plan();
    assert_eq!(plan.steps.len(), 20);
    assert!(plan.steps.iter().all(|step| step.reason != Reason::Drifted), "{:?}", plan.steps);
    // The control plane's may go at any time: pods run on.
    steps(
        &more_memory(all(), &["ctl"]),
        expect![[r#"
        1  define    vm/cloud-ctl  [changed]
        2  stop      vm/cloud-ctl  within 60 s, never by force [changed] RESTART after 1
        3  start     vm/cloud-ctl  [changed] after 2
        Plan: 0 to create, 1 to change (1 restart), 0 to destroy"#]],
    );
    // What a person has taken out is theirs, and so is its machine.
    let nodes = [member("ctl"), cordoned(member("n1"), None), member("n2")];
    let theirs = there(&built(&ALL), &built(&ALL), with(&nodes));
    steps(
        &more_memory(theirs, &["n1"]),
        expect![[r#"
        Left alone:
        vm/cloud-n1: waits until it is free: n1 of cluster/cloud has to be out of use and empty first
        cluster/cloud: waits until it is free: n1: somebody took it out (kubectl-cordon)
        Nothing to do; 2 left alone."#]],
    );
    // And nobody knows what is on it while the server does not answer.
    let mut away = more_memory(all(), &["n1"]);
    away.observed.resources.remove(&id("cluster/cloud"));
    away.observed.unreadable.insert(id("cluster/cloud"), "it does not answer".into());
    steps(
        &away,
        expect![[r#"
        Left alone:
        vm/cloud-n1: waits until it is free: n1 of cluster/cloud has to be out of use and empty first
        cluster/cloud: could not be observed: it does not answer
        Nothing to do; 2 left alone."#]],
    );
}

#[test]
fn a_machine_that_is_stopped_under_its_pods_is_seen_by_the_judge() {
    let machine = more_memory(there(&built(&ALL), &built(&ALL), well(&ALL)), &["n1"]);
    let mut plan = machine.plan();
    let stop = plan.steps.iter().position(|step| matches!(step.action, Action::VmStop { .. }));
    for step in &mut plan.steps[..=stop.unwrap()] {
        step.after.clear();
    }
    let found = check::check(&plan, &machine.input()).unwrap_err();
    let rule = "stops n1 of cluster/cloud before its pods have left";
    assert!(found.iter().any(|it| it.rule == rule), "{found:?}");
}

#[test]
fn a_machine_that_was_made_anew_under_its_node_joins_again() {
    let mark = CordonMark::of_pool("cloud", "gpu");
    let mut away = cordoned(member("n1"), Some(&mark));
    away["status"]["conditions"][0]["status"] = json!("Unknown");
    let mut seen = with(&[member("ctl"), away, member("n2")]);
    // As after a crash between the new disk and its join.
    seen.machines.remove("n1");
    steps(
        &there(&built(&ALL), &built(&ALL), seen),
        expect![[r#"
        1  prepare   cluster/cloud  n1 [changed]
        2  join      cluster/cloud  n1 [changed] after 1
        3  connect   cluster/cloud  n1 [changed] after 2
        4  check     cluster/cloud  n1 [changed] after 3
        5  uncordon  cluster/cloud  n1 [changed] after 4
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
    // One that lost its disk by itself: nothing runs there.
    let mut lost = member("n2");
    lost["status"]["conditions"][0]["status"] = json!("Unknown");
    let mut seen = with(&[member("ctl"), member("n1"), lost]);
    let empty = KubernetesMachineSeen {
        prepared: false,
        joined: false,
        connected: false,
        data: KubernetesData::Elsewhere,
    };
    seen.machines.insert("n2".into(), empty);
    steps(
        &there(&built(&ALL), &built(&ALL), seen),
        expect![[r#"
        1  prepare   cluster/cloud  n2 [changed] live
        2  join      cluster/cloud  n2 [changed] after 1
        3  connect   cluster/cloud  ctl,n[1-2] [changed] after 2
        4  check     cluster/cloud  n2 [changed] after 3
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
}

/// What is seen where nobody can find out how the machine of `node` is.
fn unwell(mut seen: KubernetesSeen, node: &str) -> KubernetesSeen {
    seen.machines.remove(node);
    seen.unwell.insert(node.into(), "cannot start sha256sum: no memory".into());
    seen
}

#[test]
fn a_machine_that_is_not_well_is_told_and_the_rest_goes_on() {
    // Both are to have more memory, and the other one of them has it.
    let seen = unwell(well(&ALL), "n1");
    steps(
        &more_memory(there(&built(&ALL), &built(&ALL), seen), &["n1", "n2"]),
        expect![[r#"
        1  cordon    cluster/cloud  n2 [changed] RESTART
        2  drain     cluster/cloud  n2 [changed] live after 1
        3  define    vm/cloud-n2    [changed] after 2
        4  stop      vm/cloud-n2    within 60 s, never by force [changed] RESTART after 3
        5  start     vm/cloud-n2    [changed] after 4
        6  prepare   cluster/cloud  n2 [changed] after 5
        7  join      cluster/cloud  n2 [changed] after 6
        8  connect   cluster/cloud  n2 [changed] after 7
        9  check     cluster/cloud  n2 [changed] after 8
        10  uncordon  cluster/cloud  n2 [changed] after 9
        Left alone:
        vm/cloud-n1: waits until it is free: n1 of cluster/cloud has to be out of use and empty first
        cluster/cloud: not as asked for: the machine of n1 is not well, and stays as it is: cannot start sha256sum: no memory
        Plan: 0 to create, 2 to change (2 restart), 0 to destroy, 2 left alone"#]],
    );
    // Out in our hands in the middle of a change it stays out, and counts.
    let mark = CordonMark::of_pool("cloud", "gpu");
    let nodes = [member("ctl"), cordoned(member("n1"), Some(&mark)), member("n2")];
    let seen = unwell(with(&nodes), "n1");
    let plan = more_memory(there(&built(&ALL), &built(&ALL), seen), &["n1", "n2"]).plan();
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    // One that is no node yet does not join, and the pods of a new one are connected without it.
    let seen = unwell(well(&ALL[..1]), "n1");
    steps(
        &there(&built(&ALL), &built(&ALL), seen),
        expect![[r#"
        1  prepare   cluster/cloud  n2 [changed]
        2  join      cluster/cloud  n2 [changed] after 1
        3  connect   cluster/cloud  ctl,n2 [changed] after 2
        4  check     cluster/cloud  n2 [changed] after 3
        Left alone:
        cluster/cloud: not as asked for: the machine of n1 is not well, and stays as it is: cannot start sha256sum: no memory
        Plan: 0 to create, 1 to change, 0 to destroy, 1 left alone"#]],
    );
    // Certificates are renewed in the machine of the control plane, which has to be well for that.
    let mut seen = unwell(well(&ALL), "ctl");
    seen.certificates = vec![Certificate {
        what: "server 10.9.0.10:6443".into(),
        from: jiff::Timestamp::UNIX_EPOCH,
        until: jiff::Timestamp::from_second(seen.now + 60).unwrap(),
    }];
    seen.renewable = seen.certificates.iter().map(|it| it.what.clone()).collect();
    let verbs = |seen: &KubernetesSeen| {
        let plan = there(&built(&ALL), &built(&ALL), seen.clone()).plan();
        plan.steps.iter().map(|it| it.action.verb()).collect::<Vec<_>>()
    };
    assert_eq!(verbs(&seen), [""; 0]);
    seen.unwell.clear();
    assert_eq!(verbs(&seen), ["renew"]);
}

#[test]
fn a_node_that_goes_is_emptied_and_its_machine_goes_last() {
    let (before, less) = (built(&ALL), built(&ALL[..2]));
    steps(
        &there(&before, &less, well(&ALL)),
        expect![[r#"
        1  cordon    cluster/cloud  n2 [changed] live
        2  drain     cluster/cloud  n2 [changed] live after 1
        3  remove    cluster/cloud  n2 [changed] RESTART after 2
        4  connect   cluster/cloud  ctl,n1 [changed] after 3
        5  stop      vm/cloud-n2    within 60 s, never by force [gone from the commit] DESTROY after 4
        6  undefine  vm/cloud-n2    [gone from the commit] DESTROY after 5
        Plan: 0 to create, 1 to change (1 restart), 1 to destroy"#]],
    );
    // Also where the log knows nothing but the new wish any more.
    let claimed_anew = there(&before, &less, well(&ALL));
    let mut machine = claimed_anew;
    let known = machine.known.resources.get_mut(&id("cluster/cloud")).unwrap();
    known.claimed = Some(resource(less.clone()));
    let plan = machine.plan();
    let at = |wanted: &dyn Fn(&Action) -> bool| {
        plan.steps.iter().position(|step| wanted(&step.action)).unwrap()
    };
    assert!(at(&|it| it.verb() == "remove") < at(&|it| matches!(it, Action::VmStop { .. })));
    // Once it is out of the cluster nothing holds its machine.
    let shown = there(&before, &less, well(&ALL[..2])).shown();
    assert!(shown.contains("undefine  vm/cloud-n2"), "{shown}");
    // And one that was to go and stays is given back.
    let mark = CordonMark::of_pool("cloud", "-going");
    let nodes = [member("ctl"), member("n1"), cordoned(member("n2"), Some(&mark))];
    steps(
        &there(&before, &before, with(&nodes)),
        expect![[r#"
        1  check     cluster/cloud  n2 [changed]
        2  uncordon  cluster/cloud  n2 [changed] after 1
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
}

/// What becomes of nodes that go, where every plan is cut off after so many steps, and the next one only knows
/// what is there then.
struct Leaving {
    machine: Machine,
    nodes: BTreeMap<String, Value>,
    /// Nodes with pods.
    busy: BTreeSet<String>,
}

impl Leaving {
    fn start(all: &[&str], stay: &[&str]) -> Self {
        let nodes = all.iter().map(|it| ((*it).to_owned(), member(it))).collect();
        let machine = there(&built(all), &built(stay), well(all));
        Self { machine, nodes, busy: all.iter().map(|it| (*it).to_owned()).collect() }
    }

    fn look(&mut self) {
        let all: Vec<Value> = self.nodes.values().cloned().collect();
        let mut seen = with(&all);
        // Machines that are there answer, whether they are nodes or not.
        seen.machines.retain(|node, _| {
            self.machine.observed.resources.contains_key(&id(&format!("vm/cloud-{node}")))
        });
        let observed = self.machine.seen("cluster/cloud");
        let Resource::Cluster(cluster) = &observed.config else { panic!() };
        let cluster = cluster.kubernetes().unwrap().clone();
        observed.config = resource(KubernetesCluster { seen: Some(Arc::new(seen)), ..cluster });
    }

    /// Performs a step, and says what must never be.
    fn perform(&mut self, step: &PlanStep) {
        if let Action::KubernetesNode { node, step, mark } = &step.action {
            match step {
                KubernetesNodeStep::Cordon { .. } => {
                    let live = self.nodes[node].clone();
                    self.nodes.insert(node.clone(), cordoned(live, Some(mark)));
                }
                KubernetesNodeStep::Drain { .. } => {
                    assert_eq!(self.nodes[node]["spec"]["unschedulable"], true, "{node}");
                    self.busy.remove(node);
                }
                KubernetesNodeStep::Remove => {
                    assert!(!self.busy.contains(node), "{node} goes with its pods");
                    self.nodes.remove(node);
                }
                other => panic!("{other:?}"),
            }
        }
        if let Some(node) = step.resource.name.as_str().strip_prefix("cloud-") {
            assert!(!self.nodes.contains_key(node), "the machine of {node} goes before it");
        }
        self.machine.perform(step);
        self.look();
    }
}

#[test]
fn nodes_that_go_together_leave_with_nothing_lost_wherever_a_plan_is_cut_off() {
    let (all, stay) = (["ctl", "n1", "n2", "n3", "n4"], ["ctl", "n2"]);
    for forgotten in [false, true] {
        // With one step alone the first of them would be repeated for ever: that a node is empty is seen by nobody.
        for most in 2..=5 {
            let mut leaving = Leaving::start(&all, &stay);
            if forgotten {
                // As after another commit that asked for as little: the log knows no more of them.
                let known = leaving.machine.known.resources.get_mut(&id("cluster/cloud"));
                known.unwrap().claimed = Some(resource(built(&stay)));
            }
            let mut plans = 0;
            loop {
                // The judge has nothing against it.
                let plan = leaving.machine.plan();
                if plan.steps.is_empty() {
                    assert!(plan.skipped.is_empty(), "{:?}", plan.skipped);
                    break;
                }
                plans += 1;
                assert!(plans < 40, "{}", leaving.machine.shown());
                plan.steps.iter().take(most).for_each(|step| leaving.perform(step));
            }
            assert_eq!(leaving.nodes.keys().collect::<Vec<_>>(), stay);
            let left = leaving.machine.observed.resources.keys();
            let left: Vec<String> = left.map(ToString::to_string).collect();
            assert_eq!(left, ["vm/cloud-ctl", "vm/cloud-n2", "cluster/cloud"]);
            assert!(leaving.busy.contains("n2"), "nobody touched what stays");
        }
    }
}

#[test]
fn a_node_that_cannot_be_emptied_keeps_its_machine_and_the_judge_sees_to_that() {
    let (all, stay) = (["ctl", "n1", "n2"], ["ctl"]);
    let leaving = Leaving::start(&all, &stay);
    let whole = leaving.machine.plan();
    for node in ["n1", "n2"] {
        // Whoever left its steps out, or only did not wait for them.
        let of = |step: &PlanStep| matches!(&step.action, Action::KubernetesNode { node: of, .. } if of == node);
        let stop =
            whole.steps.iter().position(|step| step.resource == id(&format!("vm/cloud-{node}")));
        let mut hasty = whole.clone();
        hasty.steps[stop.unwrap()].after.clear();
        let found = check::check(&hasty, &leaving.machine.input()).unwrap_err();
        let rule = format!("stops {node} of cluster/cloud before its pods have left");
        assert!(found.iter().any(|it| it.rule == rule), "{found:?}");
        assert_eq!(whole.steps.iter().filter(|step| of(step)).count(), 3);
    }
    // One that somebody took out, and that has pods: the other one goes.
    let mut leaving = Leaving::start(&all, &stay);
    leaving.nodes.insert("n1".into(), cordoned(member("n1"), None));
    leaving.look();
    for _ in 0..9 {
        let plan = leaving.machine.plan();
        plan.steps.iter().take(2).for_each(|step| leaving.perform(step));
    }
    assert_eq!(leaving.nodes.keys().collect::<Vec<_>>(), ["ctl", "n1"]);
    let shown = leaving.machine.shown();
    assert!(shown.contains("n1 of cluster/cloud has to be out of use and empty first"), "{shown}");
    assert!(!leaving.machine.observed.resources.contains_key(&id("vm/cloud-n2")), "{shown}");
    assert!(leaving.machine.seen("vm/cloud-n1").active);
}

#[test]
fn access_is_taken_before_the_machine_goes_that_could_do_so() {
    let mut look = well(&ALL);
    look.access = vec![Given {
        name: "trueup-cloud-0a1b-7".into(),
        number: Some(7),
        lets: None,
        parts: Vec::new(),
    }];
    let mut machine = there(&built(&ALL), &built(&ALL), look);
    for gone in ["cluster/cloud", "vm/cloud-ctl", "vm/cloud-n1", "vm/cloud-n2"] {
        machine.drop(gone);
    }
    steps(
        &machine,
        expect![[r#"
        1  take back  cluster/cloud  trueup-cloud-0a1b-7 [due]
        2  stop      vm/cloud-ctl   within 60 s, never by force [gone from the commit] DESTROY after 1
        3  undefine  vm/cloud-ctl   [gone from the commit] DESTROY after 2
        4  stop      vm/cloud-n1    within 60 s, never by force [gone from the commit] DESTROY
        5  undefine  vm/cloud-n1    [gone from the commit] DESTROY after 4
        6  stop      vm/cloud-n2    within 60 s, never by force [gone from the commit] DESTROY
        7  undefine  vm/cloud-n2    [gone from the commit] DESTROY after 6
        Plan: 0 to create, 0 to change, 3 to destroy"#]],
    );
}

#[test]
fn a_control_plane_with_all_that_the_cluster_knows_stays_where_it_is() {
    let mut other = built(&ALL);
    other.built.as_mut().unwrap().control_plane = "n1".into();
    let shown = there(&built(&ALL), &other, well(&ALL)).shown();
    assert!(shown.contains("its control plane is vm/cloud-ctl, which has everything"), "{shown}");
    let mut other = built(&ALL);
    other.built.as_mut().unwrap().pods = "10.8.0.0/16".into();
    let shown = there(&built(&ALL), &other, well(&ALL)).shown();
    assert!(shown.contains("`podCidr` is what the cluster was made with"), "{shown}");
    let mut none = built(&ALL);
    none.built = None;
    let mut machine = there(&built(&ALL), &built(&ALL), well(&ALL));
    machine.edit("cluster/cloud", |wish| wish.resource = resource(none));
    machine.drop("vm/cloud-ctl");
    machine.drop("vm/cloud-n1");
    let shown = machine.shown();
    assert_eq!(shown.matches("is built of it still").count(), 2, "{shown}");
}

#[test]
fn a_machine_of_somebody_else_gets_nothing() {
    let mut machine = wanted(&built(&ALL));
    machine.foreign("vm/cloud-n1", vm("cloud-n1", &[], &[]), true);
    let plan = machine.plan();
    assert!(plan.steps.iter().all(|step| step.resource != id("cluster/cloud")), "{plan:?}");
    assert!(machine.shown().contains("cluster/cloud: waits for vm/cloud-n1"));
}

#[test]
fn certificates_are_renewed_before_they_end() {
    let certificate = |what: &str, days: i64| Certificate {
        what: what.to_owned(),
        from: jiff::Timestamp::UNIX_EPOCH,
        until: jiff::Timestamp::from_second(1_000_000 + days * 86_400).unwrap(),
    };
    let seen = |days| {
        let mut seen = well(&ALL);
        let authority = certificate("authority 1 of the kubeconfig", 3);
        seen.certificates = vec![certificate("server 10.9.0.10:6443", days), authority];
        seen.renewable = seen.certificates.iter().map(|it| it.what.clone()).collect();
        seen
    };
    let verbs = |wish: &KubernetesCluster, seen: KubernetesSeen| {
        let plan = there(wish, wish, seen).plan();
        plan.steps.iter().map(|step| step.action.verb()).collect::<Vec<_>>()
    };
    let wish = built(&ALL);
    assert_eq!(verbs(&wish, seen(31)), [""; 0], "the authority's is not ours to renew");
    assert_eq!(verbs(&wish, seen(30)), ["renew"]);
    assert_eq!(verbs(&wish, seen(-1)), ["renew"]);
    let mut told = built(&ALL);
    told.built.as_mut().unwrap().renew_before_s = None;
    assert_eq!(verbs(&told, seen(1)), [""; 0]);
    // What somebody else made for this host, kubeadm would not renew however often it was told to.
    let mut foreign = seen(1);
    foreign.renewable.clear();
    assert_eq!(verbs(&wish, foreign), [""; 0]);
    // One that is made for 20 days is not renewed as soon as it is there.
    let of_20_days = |left: i64| {
        let mut seen = seen(left);
        let one = &mut seen.certificates[0];
        one.from = one.until - jiff::SignedDuration::from_hours(20 * 24);
        seen
    };
    assert_eq!(verbs(&wish, of_20_days(20)), [""; 0]);
    assert_eq!(verbs(&wish, of_20_days(10)), ["renew"]);
}

#[test]
fn machines_that_are_otherwise_than_they_should_be_are_mended() {
    let mut seen = well(&ALL);
    seen.machines.get_mut("ctl").unwrap().prepared = false;
    seen.machines.get_mut("n1").unwrap().connected = false;
    steps(
        &there(&built(&ALL), &built(&ALL), seen),
        expect![[r#"
        1  prepare   cluster/cloud  ctl [changed] live
        2  connect   cluster/cloud  n1 [changed] after 1
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
    let mut seen = well(&ALL);
    seen.machines.get_mut("ctl").unwrap().data = KubernetesData::Unset;
    steps(
        &there(&built(&ALL), &built(&ALL), seen),
        expect![[r#"
        1  prepare   cluster/cloud  ctl [changed] live
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
}
