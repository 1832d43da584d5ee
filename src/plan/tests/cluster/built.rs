//! Clusters whose machines trueup makes: built in one plan, and no machine stopped while jobs are on it.

use super::*;
use crate::model::resource::{MachineSeen, SlurmBuilt, VirtualMachine};
use crate::plan::Step;
use crate::plan::fixture::{GIB, name, vm};

/// A machine as it should be.
const WELL: MachineSeen =
    MachineSeen { prepared: true, joined: true, copied: true, database: true, firewall: true };

/// The machines of a cluster, by name in it.
fn machines(wish: &wish::Cluster) -> BTreeMap<String, crate::model::Name> {
    let hosts = wish.hosts().map(|host| host.name.as_str());
    let all = ["ctl"].into_iter().chain(hosts);
    all.map(|it| (it.to_owned(), name(&format!("hpc-{it}")))).collect()
}

fn built(wish: &wish::Cluster, seen: Option<SlurmSeen>) -> Resource {
    let Resource::Cluster(mut cluster) = cluster(wish, seen) else { panic!() };
    let Cluster::Slurm(slurm) = &mut *cluster else { panic!() };
    slurm.place.guest = Some(name("hpc-ctl"));
    slurm.built = Some(SlurmBuilt {
        machines: machines(wish),
        key: 1,
        server: "10.7.0.10:6817".into(),
        release: Shape::V22_05,
        firewall: None,
    });
    Resource::Cluster(cluster)
}

/// A cluster as wished, and its machines; nothing is there.
fn wanted(wish: &wish::Cluster) -> Machine {
    let mut machine = Machine::new();
    for domain in machines(wish).values() {
        machine.want(&format!("vm/{domain}"), vm(domain.as_str(), &[], &[]));
    }
    let needs = machines(wish).values().map(|it| id(&format!("vm/{it}"))).collect();
    machine.want("cluster/hpc", built(wish, None)).depends_on = needs;
    machine
}

/// What runs where the files are those of `wish`, on machines that are as they should be.
fn well(wish: &wish::Cluster) -> SlurmSeen {
    let machines = machines(wish).into_keys();
    let well = |it: String| (it, WELL);
    SlurmSeen { machines: machines.map(well).collect(), ..running(wish) }
}

/// A cluster of ours that runs as `seen`, whose files are those of `before`, and is to be as `wish`.
fn there(before: &wish::Cluster, wish: &wish::Cluster, seen: SlurmSeen) -> Machine {
    let mut machine = wanted(before);
    let cluster = machine.desired.resources.remove(&id("cluster/hpc")).unwrap();
    machine.converge();
    machine.desired.resources.insert(id("cluster/hpc"), cluster);
    for domain in machines(wish).values() {
        machine.want(&format!("vm/{domain}"), vm(domain.as_str(), &[], &[]));
    }
    for gone in machines(before).values().filter(|it| !machines(wish).values().any(|o| o == *it)) {
        machine.drop(&format!("vm/{gone}"));
    }
    let needs = machines(wish).values().map(|it| id(&format!("vm/{it}"))).collect();
    machine.want("cluster/hpc", built(wish, None)).depends_on = needs;
    let observation = Observation {
        ownership: Ownership::Unmarked,
        config: built(wish, Some(seen)),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    };
    machine.observed.resources.insert(id("cluster/hpc"), observation);
    let known = KnownResource { claimed: Some(built(before, None)), ..KnownResource::default() };
    machine.known.resources.insert(id("cluster/hpc"), known);
    machine
}

/// One pool of two nodes.
fn small() -> wish::Cluster {
    let mut wish = lab();
    wish.pools.truncate(1);
    wish.pools[0].nodes.truncate(2);
    wish.partitions.truncate(1);
    wish
}

/// The same whose machines `names` are to have more memory.
fn more_memory(seen: SlurmSeen, names: &[&str]) -> Machine {
    let mut machine = there(&small(), &small(), seen);
    for name in names {
        let more = |vm: &mut VirtualMachine| {
            (vm.memory.current, vm.memory.max) = (4 * GIB, 4 * GIB);
        };
        machine.edit_vm(&format!("vm/hpc-{name}"), more);
    }
    machine
}

#[test]
fn one_plan_makes_the_machines_and_then_the_cluster() {
    steps(
        &wanted(&small()),
        expect![[r#"
        1  define    vm/hpc-ctl   [missing]
        2  start     vm/hpc-ctl   [missing] after 1
        3  define    vm/hpc-n1    [missing]
        4  start     vm/hpc-n1    [missing] after 3
        5  define    vm/hpc-n2    [missing]
        6  start     vm/hpc-n2    [missing] after 5
        7  prepare   cluster/hpc  ctl,n[1-2] [missing] after 2, 4, 6
        8  prove     cluster/hpc  [missing] after 7
        9  configure  cluster/hpc  [missing] after 8
        10  join      cluster/hpc  n1 [missing] after 9
        11  join      cluster/hpc  n2 [missing] after 10
        12  check     cluster/hpc  n1 [missing] after 11
        13  check     cluster/hpc  n2 [missing] after 12
        Plan: 3 to create, 1 to change, 0 to destroy"#]],
    );
}

#[test]
fn a_node_more_comes_after_its_machine() {
    let mut wish = small();
    let third = wish::Host { name: "n3".into(), ..wish.pools[0].nodes[0].clone() };
    wish.pools[0].nodes.push(third);
    steps(
        &there(&small(), &wish, well(&small())),
        expect![[r#"
        1  define    vm/hpc-n3    [missing]
        2  start     vm/hpc-n3    [missing] after 1
        3  prepare   cluster/hpc  n3 [changed] live after 2
        4  prove     cluster/hpc  [changed] after 3
        5  configure  cluster/hpc  [changed] live after 4
        6  join      cluster/hpc  n3 [changed] live after 5
        7  check     cluster/hpc  n3 [changed] after 6
        Plan: 1 to create, 1 to change, 0 to destroy"#]],
    );
    assert!(there(&small(), &small(), well(&small())).plan().is_empty());
}

#[test]
fn steps_of_a_cluster_that_serve_its_machines_are_no_drift() {
    let mut machine = more_memory(well(&small()), &["n1", "n2"]);
    let applied = Some(machine.desired.resources[&id("cluster/hpc")].digest);
    machine.known.resources.get_mut(&id("cluster/hpc")).unwrap().applied = applied;
    let plan = machine.plan();
    let of_cluster = |step: &&crate::plan::Step| step.resource == id("cluster/hpc");
    let reasons: Vec<Reason> = plan.steps.iter().filter(of_cluster).map(|it| it.reason).collect();
    assert!(reasons.len() > 8 && reasons.iter().all(|it| *it == Reason::Needed), "{reasons:?}");
}

#[test]
fn a_machine_is_stopped_only_while_its_node_is_empty() {
    steps(
        &more_memory(well(&small()), &["n1", "n2"]),
        expect![[r#"
        1  drain     cluster/hpc  n1 [changed] live
        2  wait      cluster/hpc  n1 [changed] after 1
        3  define    vm/hpc-n1    [changed] after 2
        4  stop      vm/hpc-n1    within 60 s, never by force [changed] RESTART after 3
        5  start     vm/hpc-n1    [changed] after 4
        6  prepare   cluster/hpc  n1 [changed] after 5
        7  join      cluster/hpc  n1 [changed] live after 6
        8  check     cluster/hpc  n1 [changed] after 7
        9  resume    cluster/hpc  n1 [changed] after 8
        10  drain     cluster/hpc  n2 [changed] live after 9
        11  wait      cluster/hpc  n2 [changed] after 10
        12  define    vm/hpc-n2    [changed] after 11
        13  stop      vm/hpc-n2    within 60 s, never by force [changed] RESTART after 12
        14  start     vm/hpc-n2    [changed] after 13
        15  prepare   cluster/hpc  n2 [changed] after 14
        16  join      cluster/hpc  n2 [changed] live after 15
        17  check     cluster/hpc  n2 [changed] after 16
        18  resume    cluster/hpc  n2 [changed] after 17
        Plan: 0 to create, 3 to change (2 restart), 0 to destroy"#]],
    );
    // What a person has taken out is theirs, and so is its machine.
    let mut seen = well(&small());
    drain(&mut seen, "n1", "fan is loud, bob", 900);
    steps(
        &more_memory(seen, &["n1"]),
        expect![[r#"
        Left alone:
        vm/hpc-n1: waits until it is free: n1 of cluster/hpc has to be out of use and empty first
        cluster/hpc: waits until it is free: n1: somebody took it out: fan is loud, bob
        Nothing to do; 2 left alone."#]],
    );
    // The controller's may go at any time: jobs run on.
    steps(
        &more_memory(well(&small()), &["ctl"]),
        expect![[r#"
        1  define    vm/hpc-ctl  [changed]
        2  stop      vm/hpc-ctl  within 60 s, never by force [changed] RESTART after 1
        3  start     vm/hpc-ctl  [changed] after 2
        Plan: 0 to create, 1 to change (1 restart), 0 to destroy"#]],
    );
}

#[test]
fn nobody_knows_whether_a_machine_is_empty_while_its_controller_does_not_answer() {
    let mut machine = more_memory(well(&small()), &["n1"]);
    machine.observed.resources.remove(&id("cluster/hpc"));
    machine.observed.unreadable.insert(id("cluster/hpc"), "it does not answer".into());
    steps(
        &machine,
        expect![[r#"
        Left alone:
        vm/hpc-n1: waits until it is free: n1 of cluster/hpc has to be out of use and empty first
        cluster/hpc: could not be observed: it does not answer
        Nothing to do; 2 left alone."#]],
    );
}

#[test]
fn a_machine_of_somebody_else_gets_no_key() {
    let mut machine = wanted(&small());
    machine.foreign("vm/hpc-n1", vm("hpc-n1", &[], &[]), true);
    steps(
        &machine,
        expect![[r#"
        1  define    vm/hpc-ctl  [missing]
        2  start     vm/hpc-ctl  [missing] after 1
        3  define    vm/hpc-n2   [missing]
        4  start     vm/hpc-n2   [missing] after 3
        Left alone:
        vm/hpc-n1: not ours: set lifecycle.adopt to take it over
        cluster/hpc: waits for vm/hpc-n1
        Plan: 2 to create, 0 to change, 0 to destroy, 2 left alone"#]],
    );
}

#[test]
fn a_controller_with_the_state_of_all_jobs_stays_where_it_is() {
    let moved = |to: Option<&str>| {
        let mut machine = there(&small(), &small(), well(&small()));
        machine.drop("vm/hpc-ctl");
        machine.edit("cluster/hpc", |wish| {
            let Resource::Cluster(cluster) = &mut wish.resource else { panic!() };
            let Cluster::Slurm(slurm) = &mut **cluster else { panic!() };
            slurm.place.guest = to.map(name);
            if to.is_none() {
                slurm.built = None;
            }
        });
        // On another machine nothing is there.
        machine.observed.resources.remove(&id("cluster/hpc"));
        machine
    };
    steps(
        &moved(Some("hpc-head")),
        expect![[r#"
        Left alone:
        vm/hpc-ctl: conflict: cluster/hpc is built of it still: remove that, or name it there as before
        cluster/hpc: conflict: its controller is vm/hpc-ctl, which has the state of all jobs, and cannot be another one: name it as before, or remove the cluster first
        Nothing to do; 2 left alone."#]],
    );
    // Or on none that trueup makes.
    let mut machine = moved(None);
    machine.drop("vm/hpc-n1");
    steps(
        &machine,
        expect![[r#"
        Left alone:
        vm/hpc-ctl: conflict: cluster/hpc is built of it still: remove that, or name it there as before
        vm/hpc-n1: conflict: cluster/hpc is built of it still: remove that, or name it there as before
        cluster/hpc: conflict: its controller is vm/hpc-ctl, which has the state of all jobs, and cannot be another one: name it as before, or remove the cluster first
        Nothing to do; 3 left alone."#]],
    );
}

#[test]
fn a_machine_that_is_stopped_under_its_jobs_is_seen_by_the_judge() {
    let machine = more_memory(well(&small()), &["n1"]);
    let mut plan = machine.plan();
    let stop = plan.steps.iter().position(|step| matches!(step.action, Action::VmStop { .. }));
    // As if the wait were none of its business.
    for step in &mut plan.steps[..=stop.unwrap()] {
        step.after.clear();
    }
    let found = check::check(&plan, &machine.input()).unwrap_err();
    let rule = "stops n1 of cluster/hpc before its jobs have ended";
    assert!(found.iter().any(|it| it.rule == rule), "{found:?}");
}

#[test]
fn a_node_that_goes_is_emptied_and_its_machine_goes_last() {
    let mut wish = small();
    wish.pools[0].nodes.pop();
    let mut seen = well(&small());
    nodes(&mut seen, |observed| observed.nodes.get_mut("n2").unwrap().cpus_allocated = 1);
    steps(
        &there(&small(), &wish, seen.clone()),
        expect![[r#"
        1  prove     cluster/hpc  [changed]
        2  drain     cluster/hpc  n2 [changed] live after 1
        3  wait      cluster/hpc  n2 [changed] after 2
        4  configure  cluster/hpc  [changed] live after 3
        5  stop      vm/hpc-n2    within 60 s, never by force [gone from the commit] DESTROY after 4
        6  undefine  vm/hpc-n2    [gone from the commit] DESTROY after 5
        Plan: 0 to create, 1 to change, 1 to destroy"#]],
    );
    // Somebody has it, and jobs are on it.
    drain(&mut seen, "n2", "mine, bob", 900);
    steps(
        &there(&small(), &wish, seen),
        expect![[r#"
        Left alone:
        vm/hpc-n2: waits until it is free: n2 of cluster/hpc has to be out of use and empty first
        cluster/hpc: conflict: n2 is to go, somebody took it out (mine, bob), and jobs run on it: end them, or give it back
        Nothing to do; 2 left alone."#]],
    );
}

#[test]
fn a_node_that_was_to_go_and_stays_is_given_back() {
    let mut seen = well(&small());
    drain(&mut seen, "n2", "trueup:lab/going/before", 900);
    steps(
        &there(&small(), &small(), seen),
        expect![[r#"
        1  wait      cluster/hpc  n2 [changed]
        2  join      cluster/hpc  n2 [changed] live after 1
        3  check     cluster/hpc  n2 [changed] after 2
        4  resume    cluster/hpc  n2 [changed] after 3
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
}

#[test]
fn machines_that_are_otherwise_than_they_should_be_are_mended() {
    let mut seen = well(&small());
    seen.machines.get_mut("n1").unwrap().prepared = false;
    seen.machines.insert("n2".into(), MachineSeen { joined: false, ..WELL });
    steps(
        &there(&small(), &small(), seen),
        expect![[r#"
        1  prepare   cluster/hpc  n1 [changed] live
        2  join      cluster/hpc  n2 [changed] live after 1
        3  check     cluster/hpc  n2 [changed] after 2
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );
    // One that does not answer is as nobody knows.
    let mut seen = well(&small());
    seen.machines.remove("n1");
    assert!(there(&small(), &small(), seen).plan().is_empty());
}

/// The same, in which nobody can find out how the machine of `name` is.
fn unwell(name: &str) -> SlurmSeen {
    let mut seen = well(&small());
    seen.machines.remove(name);
    seen.unwell.insert(name.into(), "cannot start sha256sum: no memory".into());
    seen
}

#[test]
fn a_machine_that_is_not_well_is_told_and_the_rest_goes_on() {
    let mut seen = unwell("n1");
    seen.machines.get_mut("n2").unwrap().joined = false;
    steps(
        &there(&small(), &small(), seen),
        expect![[r#"
        1  join      cluster/hpc  n2 [changed] live
        2  check     cluster/hpc  n2 [changed] after 1
        Left alone:
        cluster/hpc: not as asked for: the machine of n1 is not well, and stays as it is: cannot start sha256sum: no memory
        Plan: 0 to create, 1 to change, 0 to destroy, 1 left alone"#]],
    );
    // Neither is it stopped, nor does it keep the other one from being changed.
    steps(
        &more_memory(unwell("n1"), &["n1", "n2"]),
        expect![[r#"
        1  drain     cluster/hpc  n2 [changed] live
        2  wait      cluster/hpc  n2 [changed] after 1
        3  define    vm/hpc-n2    [changed] after 2
        4  stop      vm/hpc-n2    within 60 s, never by force [changed] RESTART after 3
        5  start     vm/hpc-n2    [changed] after 4
        6  prepare   cluster/hpc  n2 [changed] after 5
        7  join      cluster/hpc  n2 [changed] live after 6
        8  check     cluster/hpc  n2 [changed] after 7
        9  resume    cluster/hpc  n2 [changed] after 8
        Left alone:
        vm/hpc-n1: waits until it is free: n1 of cluster/hpc has to be out of use and empty first
        cluster/hpc: not as asked for: the machine of n1 is not well, and stays as it is: cannot start sha256sum: no memory
        Plan: 0 to create, 2 to change (1 restart), 0 to destroy, 2 left alone"#]],
    );
    // Out in our hands in the middle of a change it stays out, and counts.
    let mut seen = unwell("n1");
    drain(&mut seen, "n1", "trueup:lab/cpu/before", 900);
    let plan = more_memory(seen, &["n1", "n2"]).plan();
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
}

/// The same with a database, a login machine and a backup controller, and firewall rules.
fn whole() -> wish::Cluster {
    let host = |name: &str, address: &str| wish::Host {
        name: name.into(),
        address: Some(address.into()),
        port: None,
    };
    let mut wish = small();
    wish.controllers = vec![host("ctl", "10.7.0.10"), host("ctl2", "10.7.0.11")];
    wish.login = vec![host("login", "10.7.0.12")];
    let database = wish::Database {
        host: "localhost".into(),
        name: "slurm_acct_db".into(),
        user: "slurm".into(),
    };
    let host = host("db", "10.7.0.13");
    wish.accounting = Some(wish::Accounting { host, database, enforce: BTreeSet::new() });
    wish.parameters.insert("StateSaveLocation".into(), "/mnt/state".into());
    wish
}

fn walled(resource: &mut Resource) {
    let Resource::Cluster(cluster) = resource else { panic!() };
    let Cluster::Slurm(slurm) = &mut **cluster else { panic!() };
    let built = slurm.built.as_mut().unwrap();
    built.firewall = Some(trueup_slurm::Firewall::default());
}

#[test]
fn a_whole_cluster_is_made_in_an_order_in_which_each_finds_what_it_needs() {
    let mut machine = wanted(&whole());
    machine.edit("cluster/hpc", |wish| walled(&mut wish.resource));
    let text = machine.plan().steps.iter().map(|step| step.action.verb()).collect::<Vec<_>>();
    let own: Vec<&str> =
        text.into_iter().skip_while(|verb| ["define", "start"].contains(verb)).collect();
    assert_eq!(
        own.join(" "),
        "prepare firewall database prove configure copy join join check check"
    );
    let plan = machine.plan();
    let shared = plan.steps.iter().find_map(|step| match &step.action {
        Action::ClusterPrepare { shared, .. } => shared.clone(),
        _ => None,
    });
    let shared = shared.unwrap();
    assert_eq!((shared.folder.as_str(), shared.with.as_str()), ("/mnt/state", "hpc-ctl2"));
    let copied = plan.steps.iter().find_map(|step| match &step.action {
        Action::ClusterCopy { machines, controllers, .. } => Some((machines, controllers)),
        _ => None,
    });
    let (machines, controllers) = copied.unwrap();
    assert_eq!(machines.keys().collect::<Vec<_>>(), ["ctl2", "login"]);
    assert_eq!(controllers, &["ctl2"]);
}

#[test]
fn what_comes_beside_nodes_stops_none_of_them() {
    let all = well(&whole());
    // All of it comes to a cluster that runs.
    let mut seen = well(&small());
    seen.machines.values_mut().for_each(|seen| seen.firewall = false);
    let mut machine = there(&small(), &whole(), seen);
    machine.edit("cluster/hpc", |wish| walled(&mut wish.resource));
    steps(
        &machine,
        expect![[r#"
        1  define    vm/hpc-ctl2   [missing]
        2  start     vm/hpc-ctl2   [missing] after 1
        3  define    vm/hpc-db     [missing]
        4  start     vm/hpc-db     [missing] after 3
        5  define    vm/hpc-login  [missing]
        6  start     vm/hpc-login  [missing] after 5
        7  prepare   cluster/hpc   db,login,ctl2 [changed] live after 2, 4, 6
        8  firewall  cluster/hpc   ctl,db,login,ctl2,n[1-2] [changed] live after 7
        9  database  cluster/hpc   db [changed] live after 8
        10  prove     cluster/hpc   [changed] after 9
        11  configure  cluster/hpc   [changed] live after 10
        12  copy      cluster/hpc   login,ctl2 [changed] live after 11
        Plan: 3 to create, 1 to change, 0 to destroy"#]],
    );
    assert!(there(&whole(), &whole(), all.clone()).plan().is_empty());

    // And is mended where it is otherwise.
    let mut seen = all.clone();
    seen.machines.get_mut("db").unwrap().database = false;
    seen.machines.get_mut("login").unwrap().copied = false;
    seen.machines.get_mut("n1").unwrap().firewall = false;
    steps(
        &there(&whole(), &whole(), seen),
        expect![[r#"
        1  firewall  cluster/hpc  n1 [changed] live
        2  database  cluster/hpc  db [changed] live after 1
        3  copy      cluster/hpc  login [changed] live after 2
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );

    // A change of the files is carried to who has them, too; one that does not answer waits.
    let mut wish = whole();
    wish.partitions[0].priority_tier = 7;
    let mut seen = all.clone();
    seen.machines.remove("login");
    steps(
        &there(&whole(), &wish, seen),
        expect![[r#"
        1  prove     cluster/hpc  [changed]
        2  configure  cluster/hpc  [changed] live after 1
        3  copy      cluster/hpc  ctl2 [changed] live after 2
        Plan: 0 to create, 1 to change, 0 to destroy"#]],
    );

    // What the backup says of the cluster is no reason to change it.
    let mut seen = all;
    seen.by_backup = true;
    steps(
        &there(&whole(), &wish, seen),
        expect![[r#"
        Left alone:
        cluster/hpc: waits until it is free: the machine of its first controller does not answer and the backup runs it: nothing is changed until the first one is back
        Nothing to do; 1 left alone."#]],
    );
}

#[test]
fn the_machine_of_a_database_goes_once_the_cluster_does_without_it() {
    let mut wish = whole();
    wish.accounting = None;
    steps(
        &there(&whole(), &wish, well(&whole())),
        expect![[r#"
        1  prove     cluster/hpc  [changed]
        2  configure  cluster/hpc  [changed] live after 1
        3  copy      cluster/hpc  login,ctl2 [changed] live after 2
        4  stop      vm/hpc-db    within 60 s, never by force [gone from the commit] DESTROY after 3
        5  undefine  vm/hpc-db    [gone from the commit] DESTROY after 4
        Plan: 0 to create, 1 to change, 1 to destroy"#]],
    );
}

#[test]
fn a_machine_that_is_made_anew_has_its_rules_before_it_is_a_node() {
    let mut machine = more_memory(well(&small()), &["n1"]);
    machine.edit("cluster/hpc", |wish| walled(&mut wish.resource));
    let plan = machine.plan();
    let own = plan.steps.iter().filter(|step| step.resource == id("cluster/hpc"));
    let verbs: Vec<&str> = own.map(|step| step.action.verb()).collect();
    assert_eq!(verbs.join(" "), "drain wait prepare firewall join check resume");
}

/// A cluster with firewall rules, whose files are those of `before`, and is to be as `wish`.
fn within_rules(before: &wish::Cluster, wish: &wish::Cluster, seen: SlurmSeen) -> Machine {
    let mut machine = there(before, wish, seen);
    machine.edit("cluster/hpc", |wish| walled(&mut wish.resource));
    machine
}

/// The steps of a cluster, with the nodes that its controller's rules let in.
fn rules_and_nodes(machine: &Machine) -> Vec<String> {
    let own = |step: &Step| match &step.action {
        Action::ClusterFirewall { rules, .. } => {
            let mut nodes = vec!["10.7.0.21", "10.7.0.22"];
            nodes.retain(|address| rules["ctl"].contains(address));
            format!("firewall {}", nodes.join(" "))
        }
        Action::ClusterNode { node, .. } => format!("{} {node}", step.action.verb()),
        action => action.verb().to_owned(),
    };
    let plan = machine.plan();
    plan.steps.iter().filter(|step| step.resource == id("cluster/hpc")).map(own).collect()
}

/// Whether what is planned now is what is left of what was planned before.
fn is_the_rest(before: &Machine, now: &Machine) {
    let kept = Promise::of(&before.plan()).kept_by(&now.plan());
    assert!(matches!(kept, Kept::Smaller { .. }), "{kept:?}");
}

/// [`whole`] with nodes at 10.7.0.21 and 10.7.0.22.
fn whole_at() -> wish::Cluster {
    let mut wish = whole();
    for (node, address) in wish.pools[0].nodes.iter_mut().zip(["10.7.0.21", "10.7.0.22"]) {
        node.address = Some(address.into());
    }
    wish
}

#[test]
fn a_node_that_leaves_is_let_in_until_it_has_left() {
    let mut wish = whole_at();
    wish.pools[0].nodes.truncate(1);
    // As it is before: nobody has other rules than it should have by now.
    let whole = within_rules(&whole_at(), &wish, well(&whole_at()));
    assert_eq!(
        rules_and_nodes(&whole),
        ["prove", "drain n2", "wait n2", "configure", "copy", "firewall 10.7.0.21"]
    );
    // Somebody was shut out too early, by hand.
    let mut seen = well(&whole_at());
    seen.machines.get_mut("ctl").unwrap().firewall = false;
    let shut = within_rules(&whole_at(), &wish, seen);
    let steps = rules_and_nodes(&shut);
    assert_eq!(steps.first().unwrap(), "firewall 10.7.0.21 10.7.0.22", "{steps:?}");
    assert_eq!(steps.last().unwrap(), "firewall 10.7.0.21", "{steps:?}");
    // The files are without it already: that is the rest.
    let mut seen = well(&wish);
    seen.machines.values_mut().for_each(|seen| seen.firewall = false);
    let rest = within_rules(&wish, &wish, seen);
    assert_eq!(rules_and_nodes(&rest), ["firewall 10.7.0.21"]);
    is_the_rest(&whole, &rest);
    is_the_rest(&shut, &whole);
}

#[test]
fn a_node_that_gets_another_address_is_let_in_at_the_one_it_has_until_it_is_empty() {
    let mut wish = whole_at();
    wish.pools[0].nodes[0].address = Some("10.7.0.31".into());
    wish.pools[0].nodes[1].address = Some("10.7.0.32".into());
    let mut seen = well(&whole_at());
    // Their new addresses are let in nowhere yet.
    seen.machines.values_mut().for_each(|seen| seen.firewall = false);
    let whole = within_rules(&whole_at(), &wish, seen.clone());
    let steps = rules_and_nodes(&whole);
    assert_eq!(steps.first().unwrap(), "firewall 10.7.0.21 10.7.0.22", "{steps:?}");
    assert_eq!(steps.last().unwrap(), "firewall ", "{steps:?}");
    let place = |wanted: &str| steps.iter().position(|step| step == wanted).unwrap();
    assert!(place("wait n2") < place("resume n2"), "{steps:?}");

    // It was cut off between the two.
    let mut half = whole_at();
    half.pools[0].nodes[0].address = Some("10.7.0.31".into());
    let mut seen_half = well(&half);
    seen_half.machines.values_mut().for_each(|seen| seen.firewall = false);
    let rest = within_rules(&half, &wish, seen_half);
    let steps = rules_and_nodes(&rest);
    assert_eq!(steps.first().unwrap(), "firewall 10.7.0.22", "{steps:?}");
    assert_eq!(steps.last().unwrap(), "firewall ", "{steps:?}");
    is_the_rest(&whole, &rest);

    // Somebody has one: it stays where it is, and stays let in.
    seen.machines.values_mut().for_each(|seen| seen.firewall = true);
    drain(&mut seen, "n2", "mine, bob", 900);
    wish.pools[0].nodes[0].address = Some("10.7.0.21".into());
    let steps = rules_and_nodes(&within_rules(&whole_at(), &wish, seen));
    assert!(!steps.iter().any(|step| step.starts_with("firewall")), "{steps:?}");
}

#[test]
fn another_key_comes_once_nodes_have_left_that_do_not_get_it() {
    let mut wish = small();
    wish.pools[0].nodes.truncate(1);
    let mut seen = well(&small());
    seen.machines.values_mut().for_each(|seen| seen.prepared = false);
    let whole = there(&small(), &wish, seen);
    assert_eq!(rules_and_nodes(&whole), ["prove", "drain n2", "wait n2", "configure", "prepare"]);
    // It has left.
    let mut seen = well(&wish);
    seen.machines.values_mut().for_each(|seen| seen.prepared = false);
    let rest = there(&wish, &wish, seen);
    assert_eq!(rules_and_nodes(&rest), ["prepare"]);
    is_the_rest(&whole, &rest);
    // One that lacks it alone is mended before anything is asked of it.
    let mut seen = well(&small());
    seen.machines.get_mut("ctl").unwrap().prepared = false;
    let steps = rules_and_nodes(&there(&small(), &wish, seen));
    assert_eq!(steps.first().unwrap(), "prepare", "{steps:?}");
}
