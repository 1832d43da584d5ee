//! Ways into clusters as files for people's own programs: an inventory for Ansible, a configuration for ssh.
//!
//! They follow from what the log says that trueup asks of a cluster. No key and no password is in them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use trueup_slurm::wish::{self, Host};

use crate::model::resource::{Cluster, KubernetesCluster};
use crate::model::{Kind, Name, Resource, ResourceId};
use crate::state::State;

/// The clusters that trueup has, or the one of this name.
#[must_use]
pub fn clusters<'s>(state: &'s State, only: Option<&Name>) -> Vec<(&'s ResourceId, &'s Cluster)> {
    let own = state.resources.iter().filter(|(id, known)| {
        id.kind == Kind::Cluster && known.is_ours() && only.is_none_or(|name| id.name == *name)
    });
    let claimed = own.filter_map(|(id, known)| {
        match known.claim.as_ref().and_then(|claim| claim.resource.as_ref()) {
            Some(Resource::Cluster(cluster)) => Some((id, &**cluster)),
            _ => None,
        }
    });
    claimed.collect()
}

/// An inventory for Ansible: a group for each cluster, and in it one for each pool and role. Names and ways
/// are those of [`ssh`].
#[must_use]
pub fn ansible(clusters: &[(&ResourceId, &Cluster)]) -> Value {
    let listed = listed(clusters);
    let names = Names::of(&listed);
    let groups = listed.iter().map(|of| {
        let cluster = group(&[of.id.name.as_str()]);
        let machines: BTreeMap<&str, (String, Value)> =
            of.machines.iter().map(|machine| (machine.name, of.host(machine, &names))).collect();
        // Two pools may come to one group: its names have fewer characters.
        let mut parts: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for (part, members) in &of.groups {
            let hosts = members.iter().filter_map(|name| machines.get(name).cloned());
            let name = group(&[&[cluster.as_str()][..], &part[..]].concat());
            parts.entry(name).or_default().extend(hosts);
        }
        let parts: Map<String, Value> =
            parts.into_iter().map(|(name, hosts)| (name, json!({"hosts": hosts}))).collect();
        (cluster.clone(), json!({"children": parts}))
    });
    json!({"all": {"children": groups.collect::<Map<_, _>>()}})
}

/// A configuration for ssh: every machine by its name in the cluster, `CLUSTER-NAME` where that name could
/// stand for two. The way to the machines of a Slurm cluster leads over its first login machine, where there
/// is one.
#[must_use]
pub fn ssh(clusters: &[(&ResourceId, &Cluster)]) -> String {
    let listed = listed(clusters);
    let names = Names::of(&listed);
    let mut text = String::new();
    for of in &listed {
        text.push_str(&format!("# {}\n", of.id));
        if of.machines.is_empty() {
            text.push_str("# its document names no machine\n");
        }
        for machine in &of.machines {
            let (long, reached) = (of.long(machine), machine.reached());
            let is_alone = names.is_alone(machine.name);
            let short = if is_alone { format!(" {}", machine.name) } else { String::new() };
            text.push_str(&format!("Host {long}{short}\n    HostName {reached}\n"));
            if let Some(over) = of.over(machine) {
                text.push_str(&format!("    ProxyJump {}\n", of.long(over)));
            }
        }
    }
    text
}

/// A cluster with its machines.
struct Listed<'a> {
    id: &'a ResourceId,
    /// Each of them once, and login machines first.
    machines: Vec<Machine<'a>>,
    /// What they are to it: parts of a name, and names of machines.
    groups: Vec<(Vec<&'a str>, Vec<&'a str>)>,
    /// The login machine over which the way to the others leads.
    login: Option<&'a str>,
}

/// A machine of a cluster.
struct Machine<'a> {
    /// Its name in the cluster.
    name: &'a str,
    /// Where it is reached, if its name does not resolve.
    address: Option<String>,
    /// Whether ssh reaches it without a detour.
    is_outside: bool,
}

impl Machine<'_> {
    fn reached(&self) -> &str {
        self.address.as_deref().unwrap_or(self.name)
    }
}

impl<'a> Listed<'a> {
    fn of_slurm(id: &'a ResourceId, wish: &'a wish::Cluster) -> Self {
        let names = |hosts: &'a [Host]| hosts.iter().map(|host| host.name.as_str()).collect();
        let mut groups = vec![(vec!["controllers"], names(&wish.controllers))];
        if !wish.login.is_empty() {
            groups.push((vec!["login"], names(&wish.login)));
        }
        if let Some(accounting) = &wish.accounting {
            groups.push((vec!["accounting"], vec![accounting.host.name.as_str()]));
        }
        let pools = wish.pools.iter();
        groups.extend(pools.map(|pool| (vec!["pool", pool.name.as_str()], names(&pool.nodes))));
        let is_login = |name: &str| wish.login.iter().any(|host| host.name == name);
        let machines = wish.hosts().map(|host| Machine {
            name: &host.name,
            address: host.address.clone(),
            is_outside: is_login(&host.name),
        });
        let (mut all, inside): (Vec<_>, Vec<_>) = machines.partition(|it| it.is_outside);
        all.extend(inside);
        let login = wish.login.first().map(|host| host.name.as_str());
        Self { id, machines: all, groups, login }
    }

    fn of_kubernetes(id: &'a ResourceId, wish: &'a KubernetesCluster) -> Self {
        let control = wish.built.as_ref().map(|built| built.control_plane.as_str());
        let mut groups: Vec<_> =
            control.iter().map(|name| (vec!["control_plane"], vec![*name])).collect();
        groups.extend(wish.pools.iter().map(|pool| {
            let nodes = pool.nodes.iter().map(String::as_str).collect();
            (vec!["pool", pool.name.as_str()], nodes)
        }));
        let mut seen = BTreeSet::new();
        let names = groups.iter().flat_map(|(_, names)| names).copied();
        let machines = names.filter(|name| seen.insert(*name)).map(|name| {
            let machine = wish.built.as_ref().and_then(|built| built.machines.get(name));
            let address = machine.map(|machine| machine.address.to_string());
            Machine { name, address, is_outside: true }
        });
        Self { id, machines: machines.collect(), groups, login: None }
    }

    /// The name that no machine of another cluster has.
    fn long(&self, machine: &Machine<'_>) -> String {
        format!("{}-{}", self.id.name, machine.name)
    }

    /// The machine over which the way to this one leads.
    fn over(&self, machine: &Machine<'_>) -> Option<&Machine<'a>> {
        let login = self.login.filter(|_| !machine.is_outside)?;
        self.machines.iter().find(|one| one.name == login)
    }

    /// A machine as Ansible takes it: under which name, and how it is reached.
    fn host(&self, machine: &Machine<'_>, names: &Names) -> (String, Value) {
        let is_alone = names.is_alone(machine.name);
        let mut how = Map::new();
        // The longer name is ours, and resolves nowhere.
        if machine.address.is_some() || !is_alone {
            how.insert("ansible_host".into(), json!(machine.reached()));
        }
        if let Some(over) = self.over(machine) {
            // Not the name: whoever uses this need not have our configuration for ssh.
            let host = match over.reached() {
                v6 if v6.contains(':') => format!("[{v6}]"),
                host => host.to_owned(),
            };
            let jump = format!("-o ProxyJump={host}");
            how.insert("ansible_ssh_common_args".into(), json!(jump));
        }
        let name = if is_alone { machine.name.to_owned() } else { self.long(machine) };
        (name, Value::Object(how))
    }
}

fn listed<'a>(clusters: &[(&'a ResourceId, &'a Cluster)]) -> Vec<Listed<'a>> {
    let listed = clusters.iter().map(|(id, cluster)| match cluster {
        Cluster::Slurm(slurm) => Listed::of_slurm(id, &slurm.wish),
        Cluster::Kubernetes(kubernetes) => Listed::of_kubernetes(id, kubernetes),
    });
    listed.collect()
}

/// Names, and for how many machines each could stand.
struct Names(BTreeMap<String, usize>);

impl Names {
    fn of(listed: &[Listed<'_>]) -> Self {
        let mut count = BTreeMap::new();
        for of in listed {
            for machine in &of.machines {
                *count.entry(machine.name.to_owned()).or_default() += 1;
                *count.entry(of.long(machine)).or_default() += 1;
            }
        }
        Self(count)
    }

    /// Whether a name that some machine has stands for that one alone.
    fn is_alone(&self, name: &str) -> bool {
        self.0.get(name).is_none_or(|count| *count < 2)
    }
}

/// A name of a group: Ansible wants letters, digits and underscores.
fn group(parts: &[&str]) -> String {
    parts.join("_").replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::model::resource::{KubernetesBuilt, KubernetesPool, SlurmCluster, SlurmPlace};

    fn slurm(login: &Value, accounting: &Value) -> Cluster {
        let wish = serde_json::from_value(json!({
            "name": "lab", "controllers": [{"name": "ctl", "address": "10.0.0.1"}], "login": login,
            "accounting": accounting,
            "pools": [{"name": "big-gpu", "cpus": 4, "memoryMib": 2000,
                "nodes": [{"name": "n1", "address": "10.0.0.11"}, {"name": "n2"}]}],
            "partitions": [],
        }))
        .unwrap();
        let place = SlurmPlace::default();
        let (drain_timeout_s, max_unavailable) = (60, 1);
        Cluster::Slurm(SlurmCluster {
            place,
            wish,
            drain_timeout_s,
            max_unavailable,
            built: None,
            seen: None,
        })
    }

    /// `built`: of virtual machines.
    fn kubernetes(built: bool) -> Cluster {
        let pool = json!({"name": "gpu", "nodes": ["n1", "n2"], "wish": {"labels": {}, "taints": []},
            "offers": {}});
        let pool: KubernetesPool = serde_json::from_value(pool).unwrap();
        let machine =
            |n: u8| json!({"guest": format!("cloud-{n}"), "address": format!("10.50.0.{n}")});
        let of: KubernetesBuilt = serde_json::from_value(json!({
            "machines": {"cp": machine(10), "n1": machine(11), "n2": machine(12)},
            "controlPlane": "cp", "version": "1.33", "pods": "10.244.0.0/16",
            "services": "10.96.0.0/12", "bridge": true, "dns": true,
        }))
        .unwrap();
        let built = built.then_some(of);
        Cluster::Kubernetes(KubernetesCluster { pools: vec![pool], built, ..Default::default() })
    }

    #[track_caller]
    fn check(clusters: &[(&str, Cluster)], as_ssh: &Expect, as_inventory: &Expect) {
        let ids: Vec<ResourceId> =
            clusters.iter().map(|(name, _)| format!("cluster/{name}").parse().unwrap()).collect();
        let all: Vec<_> = ids.iter().zip(clusters.iter().map(|(_, it)| it)).collect();
        as_ssh.assert_eq(&ssh(&all));
        // A line for each host, under its group.
        let mut lines = String::new();
        let children = |it: &Value| it["children"].as_object().cloned().unwrap_or_default();
        for (cluster, parts) in children(&ansible(&all)["all"]) {
            lines.push_str(&format!("{cluster}\n"));
            for (part, of) in children(&parts) {
                lines.push_str(&format!("  {part}\n"));
                for (host, how) in of["hosts"].as_object().unwrap() {
                    lines.push_str(&format!("    {host}: {how}\n"));
                }
            }
        }
        as_inventory.assert_eq(&lines);
    }

    #[test]
    fn machines_are_found_by_name_and_over_the_login_machine() {
        let login = json!([{"name": "front", "address": "2001:db8::7"}, {"name": "n2"}]);
        let accounting = json!({"host": {"name": "db", "address": "10.0.0.30"},
            "database": {"host": "db", "name": "slurm", "user": "slurm"}});
        check(
            &[("hpc", slurm(&login, &accounting))],
            &expect![[r#"
            # cluster/hpc
            Host hpc-n2 n2
                HostName n2
            Host hpc-front front
                HostName 2001:db8::7
            Host hpc-ctl ctl
                HostName 10.0.0.1
                ProxyJump hpc-front
            Host hpc-n1 n1
                HostName 10.0.0.11
                ProxyJump hpc-front
            Host hpc-db db
                HostName 10.0.0.30
                ProxyJump hpc-front
        "#]],
            &expect![[r#"
            hpc
              hpc_accounting
                db: {"ansible_host":"10.0.0.30","ansible_ssh_common_args":"-o ProxyJump=[2001:db8::7]"}
              hpc_controllers
                ctl: {"ansible_host":"10.0.0.1","ansible_ssh_common_args":"-o ProxyJump=[2001:db8::7]"}
              hpc_login
                front: {"ansible_host":"2001:db8::7"}
                n2: {}
              hpc_pool_big_gpu
                n1: {"ansible_host":"10.0.0.11","ansible_ssh_common_args":"-o ProxyJump=[2001:db8::7]"}
                n2: {}
        "#]],
        );
    }

    #[test]
    fn a_database_beside_the_controller_is_one_machine_in_two_groups() {
        let accounting = json!({"host": {"name": "ctl"},
            "database": {"host": "ctl", "name": "slurm", "user": "slurm"}});
        check(
            &[("hpc", slurm(&json!([]), &accounting))],
            &expect![[r#"
            # cluster/hpc
            Host hpc-ctl ctl
                HostName 10.0.0.1
            Host hpc-n1 n1
                HostName 10.0.0.11
            Host hpc-n2 n2
                HostName n2
        "#]],
            &expect![[r#"
            hpc
              hpc_accounting
                ctl: {"ansible_host":"10.0.0.1"}
              hpc_controllers
                ctl: {"ansible_host":"10.0.0.1"}
              hpc_pool_big_gpu
                n1: {"ansible_host":"10.0.0.11"}
                n2: {}
        "#]],
        );
    }

    #[test]
    fn a_name_that_two_clusters_have_stands_for_neither() {
        let login = json!([{"name": "front", "address": "192.0.2.7"}]);
        let (one, other) = (slurm(&login, &Value::Null), kubernetes(true));
        check(
            &[("hpc", one), ("cloud", other)],
            &expect![[r#"
            # cluster/hpc
            Host hpc-front front
                HostName 192.0.2.7
            Host hpc-ctl ctl
                HostName 10.0.0.1
                ProxyJump hpc-front
            Host hpc-n1
                HostName 10.0.0.11
                ProxyJump hpc-front
            Host hpc-n2
                HostName n2
                ProxyJump hpc-front
            # cluster/cloud
            Host cloud-cp cp
                HostName 10.50.0.10
            Host cloud-n1
                HostName 10.50.0.11
            Host cloud-n2
                HostName 10.50.0.12
        "#]],
            &expect![[r#"
            hpc
              hpc_controllers
                ctl: {"ansible_host":"10.0.0.1","ansible_ssh_common_args":"-o ProxyJump=192.0.2.7"}
              hpc_login
                front: {"ansible_host":"192.0.2.7"}
              hpc_pool_big_gpu
                hpc-n1: {"ansible_host":"10.0.0.11","ansible_ssh_common_args":"-o ProxyJump=192.0.2.7"}
                hpc-n2: {"ansible_host":"n2","ansible_ssh_common_args":"-o ProxyJump=192.0.2.7"}
            cloud
              cloud_control_plane
                cp: {"ansible_host":"10.50.0.10"}
              cloud_pool_gpu
                cloud-n1: {"ansible_host":"10.50.0.11"}
                cloud-n2: {"ansible_host":"10.50.0.12"}
        "#]],
        );
    }

    #[test]
    fn of_a_kubernetes_cluster_that_was_taken_over_the_names_are_known() {
        let none = Cluster::Kubernetes(KubernetesCluster::default());
        check(
            &[("cloud", kubernetes(false)), ("none", none)],
            &expect![[r#"
                # cluster/cloud
                Host cloud-n1 n1
                    HostName n1
                Host cloud-n2 n2
                    HostName n2
                # cluster/none
                # its document names no machine
            "#]],
            &expect![[r#"
                cloud
                  cloud_pool_gpu
                    n1: {}
                    n2: {}
                none
            "#]],
        );
    }

    #[test]
    fn a_short_name_that_is_anothers_long_one_stands_for_neither() {
        let mut cluster = slurm(&json!([]), &Value::Null);
        let Cluster::Slurm(slurm) = &mut cluster else { panic!() };
        slurm.wish.pools[0].nodes[1].name = "hpc-n1".into();
        check(
            &[("hpc", cluster)],
            &expect![[r#"
            # cluster/hpc
            Host hpc-ctl ctl
                HostName 10.0.0.1
            Host hpc-n1 n1
                HostName 10.0.0.11
            Host hpc-hpc-n1
                HostName hpc-n1
        "#]],
            &expect![[r#"
            hpc
              hpc_controllers
                ctl: {"ansible_host":"10.0.0.1"}
              hpc_pool_big_gpu
                n1: {"ansible_host":"10.0.0.11"}
                hpc-hpc-n1: {"ansible_host":"hpc-n1"}
        "#]],
        );
    }
}
