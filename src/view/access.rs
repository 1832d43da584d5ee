//! Ways into clusters as files for people's own programs: an inventory for Ansible, a configuration for ssh.
//!
//! They follow from what the log says that trueup asks of a cluster. No key and no password is in them.

use std::collections::BTreeMap;

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

/// An inventory for Ansible: a group for each cluster, and in it one for each pool and role.
#[must_use]
pub fn ansible(clusters: &[(&ResourceId, &Cluster)]) -> Value {
    let groups = clusters.iter().map(|(id, cluster)| {
        let name = group(&[id.name.as_str()]);
        let parts = match cluster {
            Cluster::Slurm(slurm) => of_slurm(&name, &slurm.wish),
            Cluster::Kubernetes(kubernetes) => of_kubernetes(&name, kubernetes),
        };
        (name, json!({"children": parts}))
    });
    json!({"all": {"children": groups.collect::<Map<_, _>>()}})
}

fn of_slurm(cluster: &str, wish: &wish::Cluster) -> Map<String, Value> {
    let hosts = |hosts: &[Host]| {
        let hosts = hosts.iter().map(|host| (host.name.clone(), reached(host)));
        json!({"hosts": hosts.collect::<Map<_, _>>()})
    };
    let mut groups = Map::new();
    groups.insert(group(&[cluster, "controllers"]), hosts(&wish.controllers));
    if !wish.login.is_empty() {
        groups.insert(group(&[cluster, "login"]), hosts(&wish.login));
    }
    for pool in &wish.pools {
        groups.insert(group(&[cluster, "pool", &pool.name]), hosts(&pool.nodes));
    }
    groups
}

fn of_kubernetes(cluster: &str, wish: &KubernetesCluster) -> Map<String, Value> {
    let host = |node: &String| {
        let machine = wish.built.as_ref().and_then(|built| built.machines.get(node));
        let reached = machine.map_or(json!({}), |it| json!({"ansible_host": it.address}));
        (node.clone(), reached)
    };
    let hosts = |nodes: &[String]| json!({"hosts": nodes.iter().map(host).collect::<Map<_, _>>()});
    let pools = wish.pools.iter();
    let pools = pools.map(|pool| (group(&[cluster, "pool", &pool.name]), hosts(&pool.nodes)));
    let control = wish.built.as_ref().map(|built| {
        let name = group(&[cluster, "control_plane"]);
        (name, hosts(std::slice::from_ref(&built.control_plane)))
    });
    pools.chain(control).collect()
}

/// How Ansible reaches a host whose name does not resolve.
fn reached(host: &Host) -> Value {
    match &host.address {
        Some(address) => json!({"ansible_host": address}),
        None => json!({}),
    }
}

/// A name of a group: Ansible wants letters, digits and underscores.
fn group(parts: &[&str]) -> String {
    parts.join("_").replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

/// A configuration for ssh: every machine by its name in the cluster, `CLUSTER-NAME` where two clusters have
/// one of that name. The way to a node leads over the first login machine, where there is one.
#[must_use]
pub fn ssh(clusters: &[(&ResourceId, &Cluster)]) -> String {
    let slurm = || clusters.iter().filter_map(|(id, it)| Some((id, &it.slurm()?.wish)));
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, wish) in slurm() {
        for (host, _) in machines(wish) {
            *count.entry(&host.name).or_default() += 1;
        }
    }
    let mut text = String::new();
    for (id, wish) in slurm() {
        text.push_str(&format!("# {id}\n"));
        let long = |host: &Host| format!("{}-{}", id.name, host.name);
        let over = wish.login.first().map(long);
        for (host, is_inside) in machines(wish) {
            let alone = count.get(host.name.as_str()).is_none_or(|count| *count < 2);
            let short = if alone { format!(" {}", host.name) } else { String::new() };
            let address = host.address.as_deref().unwrap_or(&host.name);
            text.push_str(&format!("Host {}{short}\n    HostName {address}\n", long(host)));
            if let (Some(over), true) = (&over, is_inside) {
                text.push_str(&format!("    ProxyJump {over}\n"));
            }
        }
    }
    text
}

/// The machines of a cluster, and whether the way to each leads over a login machine.
fn machines(wish: &wish::Cluster) -> impl Iterator<Item = (&Host, bool)> {
    let outside = wish.login.iter().map(|host| (host, false));
    let nodes = wish.pools.iter().flat_map(|pool| &pool.nodes);
    outside.chain(wish.controllers.iter().chain(nodes).map(|host| (host, true)))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::model::resource::{SlurmCluster, SlurmPlace};

    fn slurm(login: &Value) -> Cluster {
        let wish = serde_json::from_value(json!({
            "name": "lab", "controllers": [{"name": "ctl", "address": "10.0.0.1"}], "login": login,
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

    #[test]
    fn machines_are_found_by_name_and_over_the_login_machine() {
        let (id, other): (ResourceId, ResourceId) =
            ("cluster/hpc".parse().unwrap(), "cluster/old".parse().unwrap());
        let first = slurm(&json!([{"name": "front", "address": "192.0.2.7"}]));
        let second = slurm(&json!([]));
        let one = [(&id, &first)];
        expect![[r#"
            # cluster/hpc
            Host hpc-front front
                HostName 192.0.2.7
            Host hpc-ctl ctl
                HostName 10.0.0.1
                ProxyJump hpc-front
            Host hpc-n1 n1
                HostName 10.0.0.11
                ProxyJump hpc-front
            Host hpc-n2 n2
                HostName n2
                ProxyJump hpc-front
        "#]]
        .assert_eq(&ssh(&one));
        expect![[r#"
            {
              "all": {
                "children": {
                  "hpc": {
                    "children": {
                      "hpc_controllers": {
                        "hosts": {
                          "ctl": {
                            "ansible_host": "10.0.0.1"
                          }
                        }
                      },
                      "hpc_login": {
                        "hosts": {
                          "front": {
                            "ansible_host": "192.0.2.7"
                          }
                        }
                      },
                      "hpc_pool_big_gpu": {
                        "hosts": {
                          "n1": {
                            "ansible_host": "10.0.0.11"
                          },
                          "n2": {}
                        }
                      }
                    }
                  }
                }
              }
            }
        "#]]
        .assert_eq(&format!("{:#}\n", ansible(&one)));
        // A name that two clusters have stands for neither.
        let both = ssh(&[(&id, &first), (&other, &second)]);
        assert!(
            both.contains("Host old-n1\n") && both.contains("Host hpc-front front\n"),
            "{both}"
        );
    }
}
