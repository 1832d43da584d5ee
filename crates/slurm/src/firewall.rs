//! What the machines of a cluster accept from outside, as the rules of nftables (nft(8)) for each of them.
//! Pure: text to be loaded there. A table of our own; nobody else's rules are in it or are touched.
//!
//! Machines of a cluster accept from each other what Slurm and its jobs need; from anybody else what is
//! said, and else nothing. A job and an `srun` choose their ports themselves, so nodes and whatever `srun`
//! is started on accept every port from the cluster's machines that only root may not take, or the range
//! that `SrunPortRange` says. Answers are let in always, and what was begun before the rules came goes on,
//! because the machines of a cluster are all let in on such ports. Nodes that leave are let in until they
//! have left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::wish::{Cluster, DBD_PORT, Host, Role};

/// Ports that programs without root may take (ip(7), `ip_unprivileged_port_start`).
const UNPRIVILEGED: &str = "1024-65535";
/// Slurm's own ports (slurm.conf(5)).
const CONTROLLER_PORT: &str = "6817";
const NODE_PORT: &str = "6818";

/// What machines accept beyond what Slurm needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Firewall {
    /// Networks from which login machines are reached by ssh, and other machines only where there are no
    /// login machines; `None`: login machines from everywhere, and others from those alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Vec<String>>,
    /// What else is let in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<Opening>,
}

/// Ports that somebody is let in on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Opening {
    /// The machines; none: all of them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub to: BTreeSet<Role>,
    /// Ports and ranges: `9100`, `8000-8010`.
    pub ports: Vec<String>,
    /// What is spoken there.
    #[serde(default)]
    pub protocol: Protocol,
    /// Networks: `10.0.0.0/8`.
    pub from: Vec<String>,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Firewall {
    /// The table that all rules are in.
    pub const TABLE: &'static str = "trueup";

    /// The rules of each machine by its name: loaded twice they are the same as loaded once.
    ///
    /// What is a node by the files `in_force` is let in, and lets in, as a node until they are without it:
    /// a node tells of the end of its jobs, and one that nobody lets in is never empty. Those files are read
    /// from a machine, so nothing is taken from them but addresses, and which of the machines are nodes.
    #[must_use]
    pub fn rules(&self, wish: &Cluster, in_force: &Cluster) -> BTreeMap<String, String> {
        let nodes = || in_force.pools.iter().flat_map(|pool| &pool.nodes);
        let address = |host: &Host| host.address.as_deref()?.parse::<IpAddr>().ok();
        let there: Vec<String> = nodes().filter_map(address).map(|it| it.to_string()).collect();
        let own = wish.hosts().filter_map(|host| host.address.as_deref());
        let members: Vec<&str> = own.chain(there.iter().map(String::as_str)).collect();
        let login: Vec<&str> =
            wish.login.iter().filter_map(|host| host.address.as_deref()).collect();
        let names: BTreeSet<&str> = nodes().map(|host| host.name.as_str()).collect();
        let of = |name: &str| {
            let mut roles = wish.roles(name);
            roles.extend(names.contains(name).then_some(Role::Node));
            self.of(wish, &roles, &members, &login)
        };
        wish.hosts().map(|host| (host.name.clone(), of(&host.name))).collect()
    }

    fn of(
        &self,
        wish: &Cluster,
        roles: &BTreeSet<Role>,
        members: &[&str],
        login: &[&str],
    ) -> String {
        let table = Self::TABLE;
        let mut rules = vec![
            "ct state established,related accept".to_owned(),
            "iif \"lo\" accept".to_owned(),
            "meta l4proto { icmp, ipv6-icmp } accept".to_owned(),
            // Answers of DHCP come before there is an address that they could be answers to.
            "udp sport 67 udp dport 68 accept".to_owned(),
            "udp sport 547 udp dport 546 accept".to_owned(),
        ];
        let mut accept = |from: &[&str], protocol: &str, ports: &[String]| {
            rules.extend(accepts(from, protocol, ports));
        };
        accept(members, "tcp", &services(wish, roles));
        if roles.contains(&Role::Node) {
            accept(members, "udp", &[UNPRIVILEGED.to_owned()]);
        }
        let ssh = ["22".to_owned()];
        let is_login = roles.contains(&Role::Login);
        if !is_login {
            accept(login, "tcp", &ssh);
        }
        match &self.ssh {
            Some(from) if is_login || login.is_empty() => {
                let from: Vec<&str> = from.iter().map(String::as_str).collect();
                accept(&from, "tcp", &ssh);
            }
            None if is_login => accept(&["0.0.0.0/0", "::/0"], "tcp", &ssh),
            _ => {}
        }
        for opening in &self.open {
            if opening.to.is_empty() || opening.to.iter().any(|role| roles.contains(role)) {
                let protocol = match opening.protocol {
                    Protocol::Tcp => "tcp",
                    Protocol::Udp => "udp",
                };
                let from: Vec<&str> = opening.from.iter().map(String::as_str).collect();
                accept(&from, protocol, &opening.ports);
            }
        }
        let mut text =
            "# Written by trueup from the repository; what is changed here is undone.\n".to_owned();
        // Made where it is not there, so that it can be removed; all of it is one change to the kernel.
        let mut say = |line: std::fmt::Arguments<'_>| {
            let written = writeln!(text, "{line}");
            debug_assert!(written.is_ok(), "writing into a string does not fail");
        };
        say(format_args!("table inet {table} {{}}\ndelete table inet {table}"));
        say(format_args!("table inet {table} {{\n\tchain input {{"));
        say(format_args!("\t\ttype filter hook input priority filter; policy drop;"));
        for rule in rules {
            say(format_args!("\t\t{rule}"));
        }
        say(format_args!("\t}}\n}}"));
        text
    }
}

/// Ports on which a machine is spoken to by the others of its cluster.
fn services(wish: &Cluster, roles: &BTreeSet<Role>) -> Vec<String> {
    let said = |key: &str| {
        let found = wish.parameters.iter().find(|(own, _)| own.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let mut ports = Vec::new();
    for role in roles {
        match role {
            Role::Controller => {
                ports.push(said("SlurmctldPort").unwrap_or_else(|| CONTROLLER_PORT.to_owned()));
            }
            Role::Database => {
                let port = wish.accounting.as_ref().and_then(|one| one.host.port);
                ports.push(port.unwrap_or(DBD_PORT).to_string());
            }
            Role::Node => {
                ports.push(said("SlurmdPort").unwrap_or_else(|| NODE_PORT.to_owned()));
                // Jobs on several nodes speak to each other where they want.
                ports.push(UNPRIVILEGED.to_owned());
            }
            Role::Login => {}
        }
    }
    // Nodes and the controller speak to an `srun`, which may be started on each of these.
    let starts_jobs = |role| roles.contains(&role);
    if starts_jobs(Role::Login) || starts_jobs(Role::Controller) {
        ports.push(said("SrunPortRange").unwrap_or_else(|| UNPRIVILEGED.to_owned()));
    }
    ports
}

/// The rules that let somebody in: one for each family of addresses. Ports that are within another range
/// of the list are left out, because a set takes none twice.
fn accepts(from: &[&str], protocol: &str, ports: &[String]) -> Vec<String> {
    let ports = joined(ports);
    if ports.is_empty() {
        return Vec::new();
    }
    let is_v6 = |from: &&&str| from.contains(':');
    let (v6, v4): (Vec<&&str>, Vec<&&str>) = from.iter().partition(is_v6);
    let rule = |family: &str, from: Vec<&&str>| {
        let everywhere = from.iter().any(|from| from.ends_with("/0"));
        let from: BTreeSet<&str> = from.into_iter().copied().collect();
        if from.is_empty() {
            return None;
        }
        let from: Vec<&str> = from.into_iter().collect();
        let of = match everywhere {
            true => format!("meta nfproto {} ", if family == "ip" { "ipv4" } else { "ipv6" }),
            false => format!("{family} saddr {{ {} }} ", from.join(", ")),
        };
        Some(format!("{of}{protocol} dport {{ {} }} accept", ports.join(", ")))
    };
    [rule("ip", v4), rule("ip6", v6)].into_iter().flatten().collect()
}

/// Ranges without those that lie in others, joined where they overlap. What is no range is as it is, and
/// nft says so.
fn joined(ports: &[String]) -> Vec<String> {
    let range = |text: &String| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?))
    };
    let mut odd: Vec<String> = ports.iter().filter(|it| range(it).is_none()).cloned().collect();
    let mut ranges: Vec<(u16, u16)> = ports.iter().filter_map(range).collect();
    ranges.sort_unstable();
    let mut all: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match all.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => all.push((first, last)),
        }
    }
    let said = |(first, last): (u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let mut words: Vec<String> = all.into_iter().map(said).collect();
    words.append(&mut odd);
    words
}

/// Whether it is a port, or a range of them with the lower one first: `9100`, `8000-8010`.
///
/// # Errors
/// It is none; what would be one.
pub fn port_range(text: &str) -> Result<String, String> {
    let wrong =
        || format!("`{}` is no port and no range: `9100`, `8000-8010`", text.escape_debug());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(text.to_owned()),
        _ => Err(wrong()),
    }
}

/// Whether it is a network: `10.0.0.0/8`, or a single address.
///
/// # Errors
/// It is none; what would be one.
pub fn network(text: &str) -> Result<String, String> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let longest = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => 0,
    };
    let fits = |bits: &str| bits.parse::<u8>().is_ok_and(|bits| bits <= longest);
    match longest > 0 && bits.is_none_or(fits) {
        true => Ok(text.to_owned()),
        false => Err(format!("`{}` is no network: `10.0.0.0/8`", text.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn cluster() -> Cluster {
        let mut wish = sample::cluster();
        let pools = wish.pools.iter_mut().flat_map(|pool| &mut pool.nodes);
        let all = wish.controllers.iter_mut().chain(pools).chain(&mut wish.login);
        for (at, host) in (10..).zip(all) {
            host.address = Some(format!("10.9.0.{at}"));
        }
        wish
    }

    #[test]
    fn each_machine_accepts_what_it_is_there_for() {
        let wish = cluster();
        let rules = Firewall::default().rules(&wish, &wish);
        let controller = &rules[&wish.controllers[0].name];
        assert!(controller.contains("tcp dport { 1024-65535 } accept"), "{controller}");
        let node = &rules[&wish.pools[0].nodes[0].name];
        assert!(node.contains("udp dport { 1024-65535 }"), "{node}");
        let login = &rules[&wish.login[0].name];
        assert!(login.contains("meta nfproto ipv4 tcp dport { 22 } accept"), "{login}");
        assert!(!node.contains("nfproto"), "{node}");
        let from = wish.login[0].address.as_deref().unwrap();
        assert!(
            node.contains(&format!("ip saddr {{ {from} }} tcp dport {{ 22 }} accept")),
            "{node}"
        );
    }

    #[test]
    fn a_range_for_srun_closes_the_other_ports_of_who_runs_no_job() {
        let mut wish = cluster();
        wish.parameters.insert("SrunPortRange".into(), "61000-62000".into());
        let rules = Firewall::default().rules(&wish, &wish);
        let controller = &rules[&wish.controllers[0].name];
        // It has the database as well.
        assert!(
            controller.contains("tcp dport { 6817, 6819, 61000-62000 } accept"),
            "{controller}"
        );
        let node = &rules[&wish.pools[0].nodes[0].name];
        assert!(node.contains("tcp dport { 1024-65535 } accept"), "{node}");
    }

    #[test]
    fn what_is_asked_for_is_let_in_from_there_alone() {
        let wish = cluster();
        let open = Opening {
            to: [Role::Node].into(),
            ports: vec!["9100".into(), "9000-9200".into()],
            protocol: Protocol::Tcp,
            from: vec!["192.0.2.0/24".into(), "2001:db8::/32".into()],
        };
        let firewall = Firewall { ssh: Some(vec!["192.0.2.7".into()]), open: vec![open] };
        let rules = firewall.rules(&wish, &wish);
        let node = &rules[&wish.pools[0].nodes[0].name];
        for said in [
            "ip saddr { 192.0.2.0/24 } tcp dport { 9000-9200 } accept",
            "ip6 saddr { 2001:db8::/32 } tcp dport { 9000-9200 } accept",
        ] {
            assert!(node.contains(said), "no {said} in {node}");
        }
        assert!(!node.contains("192.0.2.7"), "ssh leads over the login machine: {node}");
        let login = &rules[&wish.login[0].name];
        assert!(!login.contains("9000") && !login.contains("nfproto"), "{login}");
        assert!(login.contains("ip saddr { 192.0.2.7 } tcp dport { 22 } accept"), "{login}");
    }

    #[test]
    fn a_node_is_one_until_the_files_are_without_it_and_nobody_is_let_in_by_a_word_of_them() {
        let in_force = cluster();
        let own = in_force.controllers[0].name.as_str();
        let rules = |wish: &Cluster, in_force: &Cluster| Firewall::default().rules(wish, in_force);
        // Only a node less: what there was stays as it is until then.
        let mut wish = in_force.clone();
        let gone = wish.pools[0].nodes.remove(0);
        assert_eq!(rules(&wish, &in_force)[own], rules(&in_force, &in_force)[own]);
        assert!(!rules(&wish, &wish)[own].contains(gone.address.as_deref().unwrap()));
        // At another address: let in at both.
        let moved = wish.pools[0].nodes[0].address.replace("10.9.0.77".into()).unwrap();
        let both = &rules(&wish, &in_force)[own];
        assert!(both.contains("10.9.0.77") && both.contains(&moved), "{both}");
        // One that becomes a login machine.
        wish.parameters.insert("SrunPortRange".into(), "61000-62000".into());
        wish.login.push(gone.clone());
        let node = "udp dport { 1024-65535 } accept";
        assert!(rules(&wish, &in_force)[&gone.name].contains(node));
        assert!(!rules(&wish, &wish)[&gone.name].contains(node));

        let mut odd = in_force.clone();
        odd.pools[0].nodes[0].address = Some("10.0.0.1 } accept; ip saddr { 10.0.0.2".into());
        odd.pools[0].nodes[1].address = Some("0.0.0.0/0".into());
        assert_eq!(rules(&in_force, &odd), rules(&in_force, &in_force));
    }

    #[test]
    fn ports_and_networks_that_are_none_are_told() {
        for good in ["22", "8000-8010", "1-65535"] {
            assert_eq!(port_range(good).unwrap(), good);
        }
        for bad in ["0", "ssh", "9-8", "70000", "", "1-2-3", "1; drop"] {
            assert!(port_range(bad).unwrap_err().contains("is no port"), "{bad}");
        }
        for good in ["10.0.0.0/8", "10.9.0.1", "2001:db8::/32", "0.0.0.0/0"] {
            assert_eq!(network(good).unwrap(), good);
        }
        for bad in ["10.0.0.0/33", "all", "10.0.0/8", "2001:db8::/129", "10.0.0.0/8 }"] {
            assert!(network(bad).unwrap_err().contains("is no network"), "{bad}");
        }
    }
}
