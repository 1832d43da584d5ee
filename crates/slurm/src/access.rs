//! Files for people who work with a cluster: an inventory for Ansible and a configuration for ssh.
//! They hold names and addresses, and no key and no password.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::wish::{Cluster, Host};

/// The files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// An INI inventory: groups `controllers`, `login`, `accounting` and one for each pool.
    pub ansible: String,
    /// Hosts of `ssh_config`(5); nodes are reached through the first login machine, where there is one.
    pub ssh: String,
}

/// The files of a cluster.
#[must_use]
pub fn access(cluster: &Cluster) -> Access {
    Access { ansible: ansible(cluster), ssh: ssh(cluster) }
}

fn ansible(cluster: &Cluster) -> String {
    let mut text = format!("# Slurm cluster {}\n", cluster.name);
    let accounting: Vec<Host> = cluster.accounting.iter().map(|one| one.host.clone()).collect();
    let mut groups: Vec<(String, &[Host])> = vec![
        ("controllers".to_owned(), &cluster.controllers),
        ("login".to_owned(), &cluster.login),
        ("accounting".to_owned(), &accounting),
    ];
    // Ansible takes no dashes and dots in a group's name without a word about it.
    let safe = |name: &str| name.replace(['-', '.'], "_");
    groups
        .extend(cluster.pools.iter().map(|one| (format!("pool_{}", safe(&one.name)), &*one.nodes)));
    for (name, hosts) in groups.iter().filter(|(_, hosts)| !hosts.is_empty()) {
        say(&mut text, format_args!("\n[{name}]"));
        for host in *hosts {
            match &host.address {
                Some(address) => {
                    say(&mut text, format_args!("{} ansible_host={address}", host.name))
                }
                None => say(&mut text, format_args!("{}", host.name)),
            }
        }
    }
    text.push_str("\n[nodes:children]\n");
    for pool in cluster.pools.iter().filter(|pool| !pool.nodes.is_empty()) {
        say(&mut text, format_args!("pool_{}", safe(&pool.name)));
    }
    text
}

fn ssh(cluster: &Cluster) -> String {
    let mut text = format!("# Slurm cluster {}\n", cluster.name);
    let mut seen = BTreeSet::new();
    let jump = cluster.login.first();
    let front = cluster.login.iter().chain(&cluster.controllers);
    let nodes = cluster.pools.iter().flat_map(|pool| &pool.nodes);
    for (host, is_node) in front.map(|one| (one, false)).chain(nodes.map(|one| (one, true))) {
        if !seen.insert(&host.name) {
            continue;
        }
        say(&mut text, format_args!("\nHost {}", host.name));
        if let Some(address) = &host.address {
            say(&mut text, format_args!("  HostName {address}"));
        }
        if let Some(jump) = jump.filter(|_| is_node) {
            say(&mut text, format_args!("  ProxyJump {}", jump.name));
        }
    }
    text
}

fn say(text: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{line}");
    debug_assert!(written.is_ok(), "writing into a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn everybody_is_named_once_and_nodes_are_behind_the_login_machine() {
        let access = access(&sample::cluster());
        let groups: Vec<&str> =
            access.ansible.lines().filter(|line| line.starts_with('[')).collect();
        assert_eq!(
            groups,
            [
                "[controllers]",
                "[login]",
                "[accounting]",
                "[pool_cpu]",
                "[pool_gpu]",
                "[nodes:children]"
            ]
        );
        assert!(access.ansible.contains("\nctl ansible_host=10.0.0.1\n"), "{}", access.ansible);
        assert!(access.ssh.contains("\nHost ctl\n  HostName 10.0.0.1\n"), "{}", access.ssh);
        assert!(access.ssh.contains("\nHost n1\n  ProxyJump login\n"), "{}", access.ssh);
        assert_eq!(access.ssh.matches("Host login\n").count(), 1);
    }
}
