//! Clusters whose machines trueup makes: built in one plan, and no machine stopped while jobs are on it.

use super::*;
use crate::model::resource::{MachineSeen, SlurmBuilt, VirtualMachine};
use crate::plan::fixture::{GIB, name, vm};

/// The machines of a cluster, by name in it.
fn machines(wish: &wish::Cluster) -> BTreeMap<String, crate::model::Name> {
    let nodes = wish.pools.iter().flat_map(|pool| pool.names());
    ["ctl"].into_iter().chain(nodes).map(|it| (it.to_owned(), name(&format!("hpc-{it}")))).collect()
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
    let well = |it: String| (it, MachineSeen { prepared: true, joined: true });
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
    seen.machines.insert("n2".into(), MachineSeen { prepared: true, joined: false });
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
    seen.machines.insert("n2".into(), MachineSeen { prepared: true, joined: false });
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
